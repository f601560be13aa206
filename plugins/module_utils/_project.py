# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Where the Prisma CLI of a project would look for schema and migrations.

Read from the files, without running the project's code: a configuration in TypeScript
is searched for literal paths, and where it computes them the operator is asked.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import read_text

#: Looked for in this order (Prisma 7.10 prefers a file of its own).
CONFIG_FILES = tuple(
    "%s.%s" % (stem, ext)
    for stem in ("prisma7.config", "prisma.config", os.path.join(".config", "prisma"))
    for ext in ("ts", "mts", "cts", "js", "mjs", "cjs")
)
_LITERAL = r"""(['"`])([^'"`$]*)\1"""
_JOINED = r"""(?:path\.|node_path\.)?(?:join|resolve)\(([^()]*)\)"""
#: Of a script of package.json: the schema or the configuration that it migrates with.
_SCRIPTED = r"""\bprisma\s+(?:migrate\s+(?:deploy|dev)|db\s+push)\b[^&|;]*?\s--%s(?:\s+|=)(["']?)([^\s"'&|;$]+)\1"""
_VALUE = r"(?:%s|%s)" % (_LITERAL, _JOINED)


@dataclasses.dataclass(frozen=True)
class Project:
    """A Prisma project. Paths are absolute; ``url_env`` are the variables that hold the URL."""

    app_dir: str
    migrations_dir: str
    schema: str | None = None
    config: str | None = None
    url_env: tuple[str, ...] = ("DATABASE_URL",)
    literal_url: str | None = dataclasses.field(default=None, repr=False)
    warnings: tuple[str, ...] = ()
    #: Whether the configuration or package.json names schema or migrations by an absolute path.
    absolute: bool = False
    #: Where only the scripts of package.json name the configuration or the schema: the options with which the CLI is told.
    cli_options: tuple[str, ...] = ()


def find_project(app_dir: str | None, migrations_dir: str | None = None, schema_file: str | None = None) -> Project:
    """The project in a folder, with the places that its CLI would use.

    :param migrations_dir: wins over what the project says; relative to app_dir.
    :raises MigrationError: ``PROJECT_MISSING``, ``MIGRATIONS_DIR_MISSING``, ``NOT_A_MIGRATIONS_DIR``.
    """
    if not app_dir and not migrations_dir:
        raise MigrationError("neither app_dir nor migrations_dir is given", code="OPTION_INVALID", next_step="set app_dir to the Prisma project")
    app = os.path.abspath(app_dir or ".")
    if app_dir and not os.path.isdir(app):
        raise MigrationError("the project folder %s does not exist" % app, code="PROJECT_MISSING", app_dir=app)
    config = next((path for path in (os.path.join(app, name) for name in CONFIG_FILES) if os.path.isfile(path)), None)
    told = [] if config or not app_dir else _scripted(app, "config")
    config = os.path.join(app, told[1]) if told else config
    settings = read_config(strip_comments(read_file(config)), os.path.dirname(config), _values(app, config)) if config and app_dir else {}
    warnings: list[str] = list(settings.get("warnings", ()))
    schema = _schema(app, schema_file, settings.get("schema")) if app_dir else None
    if app_dir and not schema:
        named = _scripted(app, "schema")
        schema, told = (os.path.join(app, named[1]), told + named) if named else (None, told)
    warnings += ["%s is %s, as in the scripts of package.json that migrate" % pair for pair in zip(told[::2], told[1::2])]
    datasource = datasource_file(schema)
    if migrations_dir:
        found = os.path.join(app, migrations_dir)
    elif settings.get("migrations"):
        found = settings["migrations"]
    elif settings.get("computed"):
        raise MigrationError(
            "%s computes migrations.path, which cannot be read without running it" % config, code="MIGRATIONS_DIR_MISSING", next_step="set migrations_dir"
        )
    elif datasource:
        found = os.path.join(os.path.dirname(datasource), "migrations")
    else:
        found = os.path.join(app, "prisma", "migrations")
        if not os.path.isdir(found):
            raise MigrationError(
                "%s is no Prisma project: no schema.prisma, prisma/schema.prisma, prisma.config.ts or prisma/migrations in it" % app,
                code="NOT_A_MIGRATIONS_DIR",
                next_step="set app_dir to the folder with prisma/schema.prisma, or set migrations_dir",
                app_dir=app,
            )
        warnings.append("no schema.prisma is where the Prisma CLI looks: name it with schema_file (-e migration_schema_file=PATH), or use the engine direct")
    text = strip_comments(read_file(datasource)) if datasource and os.path.isfile(datasource) else ""
    env, literal = datasource_urls(text)
    names = _unique(["DATABASE_URL"] + env + settings.get("env", []))
    absolute = bool(settings.get("absolute"))
    return Project(app, os.path.normpath(found), schema, config, names, settings.get("literal_url") or literal, tuple(warnings), absolute, tuple(told))


def read_file(path: str) -> str:
    """:raises MigrationError: ``PROJECT_MISSING`` when a file of the project cannot be read."""
    try:
        return read_text(path)
    except OSError as error:
        raise MigrationError("cannot read %s (%s)" % (path, error.strerror), code="PROJECT_MISSING") from None


def _values(app: str, config: str) -> dict[str, list[str]]:
    """What the variables may hold when the CLI runs: in .env files of the project, and in the environment."""
    values: dict[str, list[str]] = {}
    for path in _unique(os.path.join(folder, ".env") for folder in (app, os.path.dirname(config), os.path.join(app, "prisma"))):
        if os.path.isfile(path):
            for name, value in re.findall(r"""^[ \t]*(?:export[ \t]+)?(\w+)[ \t]*[=:][ \t]*['"`]?([^\s'"`]*)""", read_file(path), re.M):
                values.setdefault(name, []).append(value)
    for name, value in os.environ.items():
        values.setdefault(name, []).append(value)
    return values


def _unique(names: t.Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _schema(app: str, option: str | None, configured: str | None) -> str | None:
    if option:
        path = os.path.join(app, option)
        if not os.path.exists(path):
            raise MigrationError("the schema file %s does not exist" % path, code="PROJECT_MISSING", app_dir=app)
        return path
    if configured:
        return configured
    named = _package(app, "prisma").get("schema")
    candidates = [named] if isinstance(named, str) else ["schema.prisma", os.path.join("prisma", "schema.prisma")]
    return next((path for path in (os.path.join(app, name) for name in candidates) if os.path.exists(path)), None)


def _package(app: str, key: str) -> dict[str, t.Any]:
    """An object of package.json; empty where there is none."""
    path = os.path.join(app, "package.json")
    try:
        content = json.loads(read_file(path)) if os.path.isfile(path) else None
    except ValueError:
        return {}
    found = content.get(key) if isinstance(content, dict) else None
    return found if isinstance(found, dict) else {}


def _scripted(app: str, option: str) -> list[str]:
    """The option and its path, for what is not where the CLI looks, when all scripts that migrate name the same one; else nothing."""
    scripts = [text for text in _package(app, "scripts").values() if isinstance(text, str)]
    named = {os.path.normpath(match.group(2)) for text in scripts for match in re.finditer(_SCRIPTED % option, text)}
    found = [path for path in named if os.path.exists(os.path.join(app, path))]
    return ["--" + option, found[0]] if len(named) == len(found) == 1 else []


def datasource_file(schema: str | None) -> str | None:
    """The file that holds the datasource block: the schema, or one file of a schema folder."""
    if not schema or os.path.isfile(schema):
        return schema
    for folder, subfolders, files in os.walk(schema):
        subfolders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            if name.endswith(".prisma") and re.search(r"^\s*datasource\s+\w+\s*\{", strip_comments(read_file(path)), re.M):
                return path
    # As the CLI does: the folder itself counts when no file of it has the block.
    return os.path.join(schema, "schema.prisma")


def strip_comments(text: str) -> str:
    """The text without // and /* */ comments; strings stay as they are."""
    pattern = r"""("(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`)|//[^\n]*|/\*.*?\*/"""
    return re.sub(pattern, lambda match: match.group(1) or " ", text, flags=re.S)


def datasource_urls(schema: str) -> tuple[list[str], str | None]:
    """The environment variables of C(url) and C(directUrl), and a literal URL if one is used.

    The CLI connects by directUrl where there is one, so its literal wins.
    """
    block = re.search(r"^\s*datasource\s+\w+\s*\{(.*?)^\s*\}", schema, re.M | re.S)
    env, literal = [], None
    for key in ("url", "directUrl"):
        found = re.search(r"""^\s*%s\s*=\s*(?:env\(\s*"([^"]+)"\s*\)|"([^"]*)")""" % key, block.group(1) if block else "", re.M)
        if found and found.group(1):
            env.append(found.group(1))
            literal = None if key == "directUrl" else literal
        elif found:
            literal = found.group(2)
    return env, literal


def read_config(text: str, base: str, values: t.Mapping[str, t.Sequence[str]] | None = None) -> dict[str, t.Any]:
    """What a prisma.config file says literally: schema, migrations folder, URL variables.

    :param text: without comments.
    :param values: what environment variables may hold, by name.
    :returns: keys C(schema), C(migrations) (absolute paths), C(computed) (a migrations
        path that is no literal), C(absolute) (one of them is written as an absolute path),
        C(env) (variable names), C(literal_url), C(warnings).
    """
    result: dict[str, t.Any] = {"env": _url_names(text, values or {}), "literal_url": _literal_url(text), "warnings": []}
    # Quotes around a key are blanked, so that every key is a plain word. Offsets stay.
    text = re.sub(r"""(['"])(schema|migrations|path)\1(?=\s*:)""", r" \2 ", text)
    bare = _blank_strings(text)
    start = _config_start(bare)
    schema = _schema_literal(text, bare, max(start, 0), base)
    if schema:
        result["schema"], absolute = schema
        result["absolute"] = absolute
    found = {_migrations_at(text, bare, match.start(), base) for match in re.finditer(r"\bmigrations\b", bare)}
    if start < 0 or len(found) > 1 or _COMPUTED in found:
        result["computed"] = True
    elif found and found != {None}:
        path, absolute = t.cast("tuple[str, bool]", found.pop())
        result["migrations"] = path
        result["absolute"] = absolute or result.get("absolute", False)
    return result


_COMPUTED = ("", False)
_ENV = r"""(?:\benv(?:<[^>]*>)?\(\s*['"`](\w+)['"`]|\bprocess\.env(?:!?\.|\?\.)(\w+)|\bprocess\.env!?(?:\?\.)?\[\s*['"`](\w+)['"`])"""
_POSTGRES = r"""postgres(?:ql)?://[^\s'"`]+"""
_URL_NAME = re.compile(r"(database|postgres|pg|db|direct|datasource|prisma|neon|supabase).*(url|uri|dsn|connection(_?string)?$)", re.I)


def _url_names(text: str, values: t.Mapping[str, t.Sequence[str]]) -> list[str]:
    """The variables that a configuration reads and that hold, or by their name would hold, the URL of a database."""

    def named(pattern: str) -> list[str]:
        return [next(filter(None, match.groups())) for match in re.finditer(pattern, text)]

    # By their use, then by their name or value.
    used = named(r"\b(?:url|directUrl|connectionString)\s*:\s*" + _ENV) + named(_ENV + r"""\s*\]?\)?\s*(?:\?\?|\|\|)\s*['"`]""" + _POSTGRES)
    read = named(_ENV)
    for block in re.findall(r"\{([^{}]*)\}\s*=\s*process\.env\b", text):
        read += re.findall(r"(?:^|,)\s*(\w+)", block)
    for name in read:
        held = values.get(name, ())
        is_url = any(re.match(r"postgres(ql)?://", value) for value in held)
        is_web = bool(held) and all(re.match(r"https?://", value) for value in held)
        if "SHADOW" not in name.upper() and (is_url or (_URL_NAME.search(name) and not is_web)):
            used.append(name)
    return list(_unique(used))


def _literal_url(text: str) -> str | None:
    """A URL in the text that the CLI may use: not that of the shadow database, not what stands in for an unset variable."""
    unset = _ENV + r"""\s*\]?\)?\s*(?:\?\?|\|\|)\s*(['"`])""" + _POSTGRES
    text = re.sub(unset, " ", text)
    text = re.sub(r"""(?i)\bshadow\w*['"]?\s*[:=]\s*['"`]""" + _POSTGRES, " ", text)
    found = re.search(r"""['"`]\s*(%s)""" % _POSTGRES, text)
    return found.group(1) if found else None


def _blank_strings(text: str) -> str:
    pattern = r""""(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*'|`(?:\\.|[^`\\])*`"""
    return re.sub(pattern, lambda match: "'%s'" % (" " * (len(match.group()) - 2)), text, flags=re.S)


def _config_start(bare: str) -> int:
    """Where the configuration object begins; -1 when it, or a part of it, comes from another file."""
    calls = list(re.finditer(r"\bdefineConfig\s*(?:<[^<>]*>)?\s*\(", bare)) or list(re.finditer(r"\bexport\s+default\b|\bmodule\.exports\s*=", bare))
    start = calls[-1].end() if calls else 0
    name = re.match(r"\s*([A-Za-z_$][\w$]*)\s*(?:[),;]|as\b|satisfies\b|$)", bare[start:]) if calls else None
    if name:
        declared = list(re.finditer(r"\b(?:const|let|var)\s+%s\b[^={]*=" % re.escape(name.group(1)), bare))
        if not declared:
            return -1
        start = declared[-1].end()
    brace = bare.find("{", start)
    level = _top_level(bare, brace) if brace >= 0 else ""
    for spread in re.findall(r"\.\.\.\s*([A-Za-z_$][\w$]*)", level):
        if not re.search(r"\b(?:const|let|var|function)\s+%s\b" % re.escape(spread), bare):
            return -1
    return start


def _top_level(bare: str, brace: int) -> str:
    """What stands in the braces that open there, with everything in inner brackets blanked; offsets from the brace."""
    depth, out = 0, []
    for char in bare[brace:]:
        depth -= char in ")]}"
        if depth == 0 and char in ")]}":
            break
        out.append(char if depth == 1 or (depth == 0 and char == "{") else " ")
        depth += char in "([{"
    return "".join(out)


def _value_at(text: str, base: str) -> tuple[str, bool] | None:
    """The literal path at the beginning of a text, if that is the whole value; and whether it is absolute."""
    match = re.match(r"\s*" + _VALUE + r"\s*(?=[,})\n;]|as\b|satisfies\b|$)(?!\s*[+?|&.])", text)
    path = _path(match, base) if match else None
    if match is None or path is None:
        return None
    return path, bool(re.search(r"""['"`]/""", match.group()))


def _key(level: str, key: str) -> re.Match[str] | None:
    return re.search(r"[{,]\s*%s\s*(:|(?=,|$)|\()" % key, level)


def _migrations_at(text: str, bare: str, at: int, base: str) -> tuple[str, bool] | None:
    """What one mention of the word says: a path and whether it is absolute, nothing, or something to be computed."""
    block = re.compile(r"migrations\s*:\s*\{").match(bare, at)
    if not block or re.search(r"\.\s*$", bare[:at]):
        return _COMPUTED
    brace = block.end() - 1
    level = _top_level(bare, brace)
    if "..." in level or re.search(r"[{,]\s*\[", level):
        return _COMPUTED
    key = _key(level, "path")
    if not key:
        return None
    return (_value_at(text[brace + key.end() :], base) or _COMPUTED) if key.group(1) == ":" else _COMPUTED


def _schema_literal(text: str, bare: str, start: int, base: str) -> tuple[str, bool] | None:
    """The schema that the configuration names, if it exists."""
    brace = bare.find("{", start)
    key = _key(_top_level(bare, brace), "schema") if brace >= 0 else None
    if key:
        places = [brace + key.end()]
    else:
        places = [match.end() for match in re.compile(r"\bschema\s*:").finditer(bare, start)]
    for place in places:
        found = _value_at(text[place:], base)
        if found and os.path.exists(found[0]):
            return found
    return None


def _path(match: re.Match[str], base: str) -> str | None:
    if match.group(2) is not None:
        return os.path.normpath(os.path.join(base, match.group(2)))
    parts = [part.strip() for part in match.group(3).split(",") if part.strip()]
    literal = [re.fullmatch(_LITERAL, part) for part in parts if part not in ("__dirname", "import.meta.dirname")]
    if not all(literal):
        return None
    return os.path.normpath(os.path.join(base, *[part.group(2) for part in literal if part]))


__all__ = ("CONFIG_FILES", "Project", "datasource_file", "datasource_urls", "find_project", "read_config", "read_file", "strip_comments")
