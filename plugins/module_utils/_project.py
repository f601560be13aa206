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
    settings = read_config(strip_comments(read_text(config)), os.path.dirname(config)) if config and app_dir else {}
    warnings: list[str] = list(settings.get("warnings", ()))
    schema = _schema(app, schema_file, settings.get("schema")) if app_dir else None
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
        warnings.append("the project has no schema.prisma where the Prisma CLI looks; only the engine direct can deploy it")
    text = strip_comments(read_text(datasource)) if datasource and os.path.isfile(datasource) else ""
    env, literal = datasource_urls(text)
    return Project(
        app, os.path.normpath(found), schema, config, _unique(["DATABASE_URL"] + env + settings.get("env", [])), literal, tuple(warnings)
    )


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
    package = os.path.join(app, "package.json")
    try:
        with open(package, encoding="utf-8") as handle:
            content = json.load(handle)
        named = content.get("prisma", {}).get("schema") if isinstance(content, dict) and isinstance(content.get("prisma"), dict) else None
    except (OSError, ValueError):
        named = None
    candidates = [named] if isinstance(named, str) else ["schema.prisma", os.path.join("prisma", "schema.prisma")]
    return next((path for path in (os.path.join(app, name) for name in candidates) if os.path.exists(path)), None)


def datasource_file(schema: str | None) -> str | None:
    """The file that holds the datasource block: the schema, or one file of a schema folder."""
    if not schema or os.path.isfile(schema):
        return schema
    for folder, subfolders, files in os.walk(schema):
        subfolders.sort()
        for name in sorted(files):
            path = os.path.join(folder, name)
            if name.endswith(".prisma") and re.search(r"^\s*datasource\s+\w+\s*\{", strip_comments(read_text(path)), re.M):
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


def read_config(text: str, base: str) -> dict[str, t.Any]:
    """What a prisma.config file says literally: schema, migrations folder, URL variables.

    :returns: keys C(schema), C(migrations) (absolute paths), C(computed) (a migrations
        path that is no literal), C(env) (variable names), C(warnings).
    """
    result: dict[str, t.Any] = {"env": [], "warnings": []}
    schema = re.search(r"\bschema\s*:\s*" + _VALUE, text)
    if schema:
        result["schema"] = _path(schema, base)
    # Braces of ${..} in a template and of one nested object do not end the block.
    block = re.search(r"\bmigrations\s*:\s*\{((?:[^{}]|\{[^{}]*\})*)\}", re.sub(r"\$\{[^{}]*\}", "$", text))
    if block and re.search(r"\bpath\s*:", block.group(1)):
        path = re.search(r"\bpath\s*:\s*" + _VALUE, block.group(1))
        if path and _path(path, base):
            result["migrations"] = _path(path, base)
        else:
            result["computed"] = True
    names = r"""\b(?:url|directUrl|connectionString)\s*:\s*(?:env(?:<[^>]*>)?\(\s*['"](\w+)['"]|process\.env\.(\w+)|process\.env\[\s*['"](\w+)['"])"""
    result["env"] = [next(filter(None, groups)) for groups in re.findall(names, text)]
    return result


def _path(match: re.Match[str], base: str) -> str | None:
    if match.group(2) is not None:
        return os.path.normpath(os.path.join(base, match.group(2)))
    parts = [part.strip() for part in match.group(3).split(",") if part.strip()]
    literal = [re.fullmatch(_LITERAL, part) for part in parts if part not in ("__dirname", "import.meta.dirname")]
    if not all(literal):
        return None
    return os.path.normpath(os.path.join(base, *[part.group(2) for part in literal if part]))


__all__ = ("CONFIG_FILES", "Project", "datasource_file", "datasource_urls", "find_project", "read_config", "strip_comments")
