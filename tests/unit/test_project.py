# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _project
from ansible_collections.pgops.migrations.plugins.module_utils._engine_prisma import check_literal_url, command
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._project import CONFIG_FILES, datasource_urls, find_project, read_config, strip_comments
from ansible_collections.pgops.migrations.plugins.module_utils._stage import check_stageable, staged
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

DATASOURCE = 'datasource db {\n  provider = "postgresql"\n  url      = env("DATABASE_URL")\n}\n'
Tree = t.Mapping[str, "str | None"]


def make(base: pathlib.Path, tree: Tree) -> pathlib.Path:
    """Files with their text; None is a folder."""
    for name, content in tree.items():
        path = base / name
        (path if content is None else path.parent).mkdir(parents=True, exist_ok=True)
        if content is not None:
            path.write_text(content)
    return base


SCRIPTS = """{"scripts": {"generate": "prisma generate --schema ./prisma/other.prisma", "up": "tsc && prisma migrate deploy --schema ./prisma/app.prisma",
 "dev": "prisma migrate dev --name x --schema='%s'"}}"""


@pytest.mark.parametrize(
    ("tree", "migrations", "schema"),
    [
        pytest.param({"prisma/schema.prisma": DATASOURCE}, "prisma/migrations", "prisma/schema.prisma", id="usual"),
        pytest.param({"schema.prisma": DATASOURCE, "prisma/schema.prisma": DATASOURCE}, "migrations", "schema.prisma", id="schema-beside-package"),
        pytest.param(
            {"package.json": '{"prisma": {"schema": "db/x.prisma"}}', "db/x.prisma": DATASOURCE, "prisma/schema.prisma": DATASOURCE},
            "db/migrations",
            "db/x.prisma",
            id="package-json",
        ),
        pytest.param(
            {"package.json": '{"prisma": "x"}', "prisma/schema.prisma": DATASOURCE}, "prisma/migrations", "prisma/schema.prisma", id="package-json-with-a-text"
        ),
        pytest.param(
            {"package.json": SCRIPTS % "prisma/app.prisma", "prisma/app.prisma": DATASOURCE, "prisma/other.prisma": DATASOURCE, "prisma/migrations/1/x": ""},
            "prisma/migrations",
            "prisma/app.prisma",
            id="named-by-the-scripts",
        ),
        pytest.param(
            {"package.json": SCRIPTS % "prisma/other.prisma", "prisma/app.prisma": DATASOURCE, "prisma/other.prisma": DATASOURCE, "prisma/migrations/1/x": ""},
            "prisma/migrations",
            None,
            id="scripts-that-name-two",
        ),
        pytest.param(
            {
                "package.json": '{"scripts": {"up": "prisma migrate deploy --config src/prisma.config.ts"}}', "prisma/schema.prisma": DATASOURCE,
                "src/prisma.config.ts": "export default { schema: '../prisma/schema.prisma', migrations: { path: '../prisma/steps' } }",
            },
            "prisma/steps",
            "prisma/schema.prisma",
            id="configuration-named-by-the-scripts",
        ),
        pytest.param({"package.json": SCRIPTS % "gone", "prisma/schema.prisma": DATASOURCE}, "prisma/migrations", "prisma/schema.prisma", id="usual-before-scripts"),
        pytest.param({"package.json": "[1", "prisma/schema.prisma": DATASOURCE}, "prisma/migrations", "prisma/schema.prisma", id="package-json-broken"),
        pytest.param(
            {"prisma.config.ts": "export default { schema: './db/main.prisma' }", "db/main.prisma": DATASOURCE},
            "db/migrations",
            "db/main.prisma",
            id="config-schema",
        ),
        pytest.param(
            {"prisma.config.ts": "export default { migrations: { path: 'db/steps' } }", "prisma/schema.prisma": DATASOURCE},
            "db/steps",
            "prisma/schema.prisma",
            id="config-migrations",
        ),
        pytest.param(
            {"prisma.config.ts": "x = { migrations: { seed: 'tsx seed.ts', path: path.join(__dirname, 'db', \"steps\") } }"},
            "db/steps",
            None,
            id="config-joined",
        ),
        pytest.param({"prisma.config.mjs": "// migrations: { path: 'old' }\nx = { migrations: { path: `new` } }"}, "new", None, id="config-commented"),
        pytest.param(
            {"prisma7.config.ts": "x = { migrations: { path: 'seven' } }", "prisma.config.ts": "x = { migrations: { path: 'six' } }"},
            "seven",
            None,
            id="config-of-7-first",
        ),
        pytest.param(
            {"prisma.config.ts": "x = { migrations: { shadow: { path2: 'x' }, path: 'new' }, views: { path: 'views' } }"}, "new", None, id="config-nested"
        ),
        pytest.param({".config/prisma.ts": "x = { migrations: { path: '../steps' } }"}, "steps", None, id="config-folder"),
        pytest.param({"prisma/migrations": None}, "prisma/migrations", None, id="folder-alone"),
        pytest.param(
            {"prisma.config.ts": "x = { schema: 'prisma' }", "prisma/a.prisma": "model A {}", "prisma/sub/z.prisma": DATASOURCE},
            "prisma/sub/migrations",
            "prisma",
            id="multi-file",
        ),
        pytest.param(
            {"package.json": '{"prisma": {"schema": "prisma"}}', "prisma/a.prisma": "// " + DATASOURCE},
            "prisma/migrations",
            "prisma",
            id="multi-file-commented-datasource",
        ),
    ],
)
def test_migrations_are_where_the_cli_looks(tmp_path: pathlib.Path, tree: Tree, migrations: str, schema: str | None) -> None:
    project = find_project(str(make(tmp_path, tree)))
    assert project.migrations_dir == str(tmp_path / migrations)
    assert project.schema == (schema and str(tmp_path / schema))


@pytest.mark.parametrize(
    ("script", "schema_file", "options"),
    [
        ("prisma migrate deploy --schema=./db/app.prisma", None, ["--schema", "db/app.prisma"]),
        ("prisma migrate deploy --schema=./db/app.prisma", "db/other.prisma", ["--schema", "db/other.prisma"]),
        ("prisma migrate deploy --config db/prisma.config.ts", None, ["--config", "db/prisma.config.ts"]),
        # What a shell would make of it is not known.
        ("prisma migrate deploy --schema $SCHEMA", None, []),
        ("prisma generate --schema db/app.prisma", None, []),
    ],
)
def test_the_cli_is_told_what_the_scripts_of_the_project_tell_it(tmp_path: pathlib.Path, script: str, schema_file: str | None, options: list[str]) -> None:
    tree = {"db/app.prisma": DATASOURCE, "db/other.prisma": DATASOURCE, "db/prisma.config.ts": "export default {}", "node_modules/.bin/prisma": "",
            "package.json": '{"scripts": {"up": "%s"}}' % script, "prisma/migrations/1/migration.sql": ""}  # fmt: skip
    make(tmp_path, tree)
    project = find_project(str(tmp_path), schema_file=schema_file)
    assert command(project, None, schema_file)[1:] == ["migrate", "deploy", *options]
    assert any("as in the scripts of package.json" in text for text in project.warnings) is (bool(options) and schema_file is None)


def test_an_option_wins_over_what_the_project_says(tmp_path: pathlib.Path) -> None:
    make(tmp_path, {"prisma.config.ts": "x = { migrations: { path: somewhere() } }", "prisma/schema.prisma": DATASOURCE, "other/s.prisma": DATASOURCE})
    assert find_project(str(tmp_path), "my/steps").migrations_dir == str(tmp_path / "my/steps")
    assert find_project(str(tmp_path), str(tmp_path / "x")).migrations_dir == str(tmp_path / "x")
    assert find_project(str(tmp_path), "m", "other/s.prisma").schema == str(tmp_path / "other/s.prisma")


def test_a_schema_option_moves_the_migrations(tmp_path: pathlib.Path) -> None:
    make(tmp_path, {"other/s.prisma": DATASOURCE, "prisma/schema.prisma": DATASOURCE})
    assert find_project(str(tmp_path), None, "other/s.prisma").migrations_dir == str(tmp_path / "other/migrations")


def test_a_package_of_a_workspace_is_its_own_project(tmp_path: pathlib.Path) -> None:
    make(tmp_path, {"package.json": '{"workspaces": ["packages/*"]}', "prisma/schema.prisma": DATASOURCE, "packages/api/prisma/schema.prisma": DATASOURCE})
    assert find_project(str(tmp_path / "packages/api")).migrations_dir == str(tmp_path / "packages/api/prisma/migrations")


@pytest.mark.parametrize(
    ("tree", "options", "code"),
    [
        ({}, (None, None), "NOT_A_MIGRATIONS_DIR"),
        ({"package.json": "{}"}, (None, None), "NOT_A_MIGRATIONS_DIR"),
        ({"prisma.config.ts": "x = { migrations: { path: process.env.DIR } }"}, (None, None), "MIGRATIONS_DIR_MISSING"),
        ({"prisma.config.ts": "x = { migrations: { path: path.join(base, 'steps') } }"}, (None, None), "MIGRATIONS_DIR_MISSING"),
        ({"prisma.config.ts": "x = { migrations: { path: `${base}/steps` } }"}, (None, None), "MIGRATIONS_DIR_MISSING"),
        ({"prisma.config.ts": "x = { migrations: { path: `${base}/x` } }", "prisma/migrations": None}, (None, None), "MIGRATIONS_DIR_MISSING"),
        ({}, (None, "no/such.prisma"), "PROJECT_MISSING"),
    ],
)
def test_what_cannot_be_known_is_asked_for(tmp_path: pathlib.Path, tree: Tree, options: tuple[str | None, str | None], code: str) -> None:
    with pytest.raises(MigrationError) as caught:
        find_project(str(make(tmp_path, tree)), *options)
    assert caught.value.code == code


def test_a_folder_that_does_not_exist_and_no_folder_at_all() -> None:
    with pytest.raises(MigrationError) as caught:
        find_project("/no/such/folder", "x")
    assert caught.value.code == "PROJECT_MISSING"
    with pytest.raises(MigrationError) as caught:
        find_project(None)
    assert caught.value.code == "OPTION_INVALID"


@pytest.mark.parametrize(
    ("block", "env", "literal"),
    [
        ('url = env("DATABASE_URL")', ["DATABASE_URL"], None),
        ('url = env("A")\n  directUrl = env("B")', ["A", "B"], None),
        ('url = "postgresql://x"', [], "postgresql://x"),
        ('url = "postgresql://x"\n  directUrl = env("B")', ["B"], None),
        ('url = env("A")\n  directUrl = "postgresql://y"', ["A"], "postgresql://y"),
        ("", [], None),
    ],
)
def test_where_a_schema_gets_its_url(block: str, env: list[str], literal: str | None) -> None:
    schema = 'generator c {\n  url = env("NOT_THIS")\n}\ndatasource db {\n  provider = "postgresql"\n  %s\n}\nmodel A {\n  url String\n}\n' % block
    assert datasource_urls(schema) == (env, literal)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("datasource: { url: env('A') }", ["A"]),
        ('datasource: { url: env<Env>("A"), directUrl: process.env.B }', ["A", "B"]),
        ("adapter: new PrismaPg({ connectionString: process.env['C'] })", ["C"]),
        ("url: compute()", []),
    ],
)
def test_where_a_configuration_gets_its_url(text: str, names: list[str]) -> None:
    assert read_config(text, "/app")["env"] == names


def test_the_variables_of_schema_and_configuration_are_joined(tmp_path: pathlib.Path) -> None:
    make(
        tmp_path, {"prisma.config.ts": "x = { datasource: { url: env('APP_URL') } }", "prisma/schema.prisma": DATASOURCE.replace("DATABASE_URL", "PRISMA_URL")}
    )
    assert find_project(str(tmp_path)).url_env == ("DATABASE_URL", "PRISMA_URL", "APP_URL")


def test_a_literal_url_is_not_shown(tmp_path: pathlib.Path) -> None:
    make(tmp_path, {"prisma/schema.prisma": DATASOURCE.replace('env("DATABASE_URL")', '"postgresql://u:s3cret@h/d"')})
    project = find_project(str(tmp_path))
    assert project.literal_url == "postgresql://u:s3cret@h/d"
    assert "s3cret" not in repr(project)


@pytest.mark.parametrize(
    ("text", "stripped"),
    [
        ("a // b\nc", "a  \nc"),
        ("a /* b\n// */ c", "a   c"),
        ('url = "postgresql://h" // x', 'url = "postgresql://h"  '),
        ('\'/* no */\' `// no` "\\"// no"', '\'/* no */\' `// no` "\\"// no"'),
        ("/* a */ b /* c */", "  b  "),
    ],
)
def test_comments_are_taken_out_and_strings_are_not(text: str, stripped: str) -> None:
    assert strip_comments(text) == stripped


@pytest.mark.parametrize("name", CONFIG_FILES)
def test_every_name_of_a_configuration_is_found(tmp_path: pathlib.Path, name: str) -> None:
    make(tmp_path, {name: "x = { migrations: { path: 'steps' } }"})
    assert find_project(str(tmp_path)).config == str(tmp_path / name)


@pytest.mark.parametrize(
    ("text", "values", "names"),
    [
        ("const url = process.env.MAIN_PG_URL", {}, ["MAIN_PG_URL"]),
        ('const a = process.env["db_uri"], b = env("DIRECT_URL"), c = process.env?.NEON_DSN', {}, ["db_uri", "DIRECT_URL", "NEON_DSN"]),
        ("const { PG_CONNECTION, OTHER } = process.env", {}, ["PG_CONNECTION"]),
        ("process.env.MAIN", {"MAIN": ["postgres://h/d"]}, ["MAIN"]),
        ("process.env.SHADOW_DATABASE_URL; process.env.PORT; process.env.DB_CONNECTION_LIMIT", {"PORT": ["1"]}, []),
        ("process.env.SUPABASE_URL", {"SUPABASE_URL": ["https://x"]}, []),
        ("process.env.X ?? 'postgresql://localhost/dev'", {}, ["X"]),
    ],
)
def test_every_variable_that_holds_a_url_is_set(text: str, values: dict[str, list[str]], names: list[str]) -> None:
    found = read_config(text, "/app", values)
    assert found["env"] == names and found["literal_url"] is None


def test_a_variable_of_a_dotenv_file_is_known_by_its_value(tmp_path: pathlib.Path) -> None:
    make(tmp_path, {"prisma.config.ts": "const u = process.env.MAIN", "prisma/schema.prisma": DATASOURCE, ".env": "A=1\nexport MAIN = \"postgresql://h/other\"\n"})
    assert "MAIN" in find_project(str(tmp_path)).url_env


@pytest.mark.parametrize(
    ("text", "refused"),
    [
        ("const url = 'postgresql://u:s3cret@h/d'", True),
        ("const url = `postgres://u:${password}@h/d`", True),
        ("// const url = 'postgresql://u:s3cret@h/d'", False),
        ("url.startsWith('postgresql://')", False),
        ("shadowDatabaseUrl: 'postgresql://h/shadow'", False),
    ],
)
def test_a_literal_url_of_a_configuration_is_refused_without_secrets(tmp_path: pathlib.Path, text: str, refused: bool) -> None:
    project = find_project(str(make(tmp_path, {"prisma.config.ts": text, "prisma/schema.prisma": DATASOURCE})))
    if not refused:
        assert project.literal_url is None
        return
    with pytest.raises(MigrationError) as caught:
        check_literal_url(project, Target(dbname="mine", host="h"))
    assert caught.value.code == "WRONG_TARGET" and "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        "const migrations = { path: 'steps' }\nexport default defineConfig({ schema: 'x', migrations })",
        "const base = { migrations: { ...other } }\nexport default defineConfig({ ...base })",
        "import { base } from './base'\nexport default defineConfig({ ...base })",
        "import config from './base'\nexport default defineConfig(config)",
        "export default defineConfig({ migrations: dirs.migrations })",
        "export default defineConfig({ migrations: { path } })",
        "export default defineConfig({ migrations: { path: 'a' + b } })",
        "export default defineConfig({ migrations: { path: 'a'\n + b } })",
        "c.migrations = { path: 'a' }",
        "x = { migrations: { path: 'a' } }; export default defineConfig({ migrations: { path: 'b' } })",
    ],
)
def test_a_path_that_cannot_be_read_is_asked_for_beside_a_stale_folder(tmp_path: pathlib.Path, text: str) -> None:
    make(tmp_path, {"prisma.config.ts": text, "prisma/schema.prisma": DATASOURCE, "prisma/migrations": None})
    with pytest.raises(MigrationError) as caught:
        find_project(str(tmp_path))
    assert caught.value.code == "MIGRATIONS_DIR_MISSING" and caught.value.next_step == "set migrations_dir"
    assert find_project(str(tmp_path), "steps").migrations_dir == str(tmp_path / "steps")


@pytest.mark.parametrize(
    ("text", "migrations"),
    [
        ("defineConfig({ migrations: { seed: 'tsx migrations/seed.ts' } })", "prisma/migrations"),
        ("defineConfig({ migrations: { seed: { a: { b: { path: 'no' } } }, path: 'steps' } })", "steps"),
        ("const c: PrismaConfig = { 'migrations': { \"path\": 'steps' } }\nexport default c", "steps"),
        ("const common = { schema: 'x' }\nexport default { ...common, migrations: { path: 'steps' } } satisfies PrismaConfig", "steps"),
        ("const a = new PrismaPg({}, { schema: 'public' })\nexport default defineConfig({ adapter: a })", "prisma/migrations"),
        ("const a = new PrismaPg({}, { schema: 'public' })\nexport default defineConfig({ adapter: f({ schema: 'public' }), schema: 'db/x.prisma' })", "db/migrations"),
        ("export default defineConfig({ schema: 'no/such.prisma' })", "prisma/migrations"),
    ],
)
def test_a_configuration_is_read_by_its_structure(tmp_path: pathlib.Path, text: str, migrations: str) -> None:
    make(tmp_path, {"prisma.config.ts": text, "prisma/schema.prisma": DATASOURCE, "db/x.prisma": DATASOURCE, "public": None})
    assert find_project(str(tmp_path)).migrations_dir == str(tmp_path / migrations)


def test_the_examples_configuration_is_understood() -> None:
    project = find_project(str(pathlib.Path(__file__).resolve().parents[2] / "examples/microcare"))
    assert project.migrations_dir.endswith("microcare/prisma/migrations") and project.url_env == ("DATABASE_URL",)
    assert project.literal_url is None and not project.absolute


@pytest.mark.parametrize("name", ["prisma.config.ts", "prisma/schema.prisma", "package.json"])
def test_an_unreadable_file_is_named(tmp_path: pathlib.Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, {"prisma.config.ts": "", "prisma/schema.prisma": DATASOURCE, "package.json": "{}"})

    def read(path: str) -> str:
        if path == str(tmp_path / name):
            raise PermissionError(13, "Permission denied")
        return pathlib.Path(path).read_text()

    monkeypatch.setattr(_project, "read_text", read)
    with pytest.raises(MigrationError) as caught:
        find_project(str(tmp_path))
    assert caught.value.code == "PROJECT_MISSING" and "cannot read %s (Permission denied)" % (tmp_path / name) in str(caught.value)


STAGE: Tree = {"prisma/schema.prisma": DATASOURCE, "prisma/migrations/1/migration.sql": "", "prisma/migrations/2/migration.sql": ""}


@pytest.mark.parametrize(
    ("tree", "deploy_command", "stageable"),
    [
        ({"package.json": '{"scripts": {"x": "prisma migrate deploy"}}'}, "npm run x", True),
        ({}, "APP/node_modules/.bin/prisma migrate deploy", True),
        ({}, "APP-old/tool", True),
        ({}, "prisma migrate deploy --schema APP/prisma/schema.prisma", False),
        ({"package.json": '{"scripts": {"x": "cd APP && prisma migrate deploy"}}'}, "npm run x", False),
        ({"prisma.config.ts": "x = { migrations: { path: 'APP/prisma/migrations' } }"}, None, False),
        ({"prisma.config.ts": "x = { migrations: { path: '/other/name' } }"}, None, False),
        ({"prisma.config.ts": "const root = 'APP'"}, None, False),
        ({"prisma.config.ts": "// APP"}, None, True),
    ],
)
def test_a_project_that_names_its_own_path_cannot_be_staged(tmp_path: pathlib.Path, tree: dict[str, str], deploy_command: str | None, stageable: bool) -> None:
    app = str(tmp_path)
    make(tmp_path, {**STAGE, **{name: text.replace("APP", app) for name, text in tree.items()}})
    project = dataclasses.replace(find_project(app), migrations_dir=str(tmp_path / "prisma/migrations"))
    command = deploy_command and deploy_command.replace("APP", app)
    check_stageable(project, (), command)
    if stageable:
        check_stageable(project, {"2"}, command)
        return
    with pytest.raises(MigrationError) as caught, staged(project, {"2"}, command):
        pass
    assert caught.value.code == "OPTION_INVALID" and "absolute path" in str(caught.value)


def test_an_absolute_schema_file_is_passed_as_seen_from_the_project(tmp_path: pathlib.Path) -> None:
    make(tmp_path, {**STAGE, "node_modules/.bin/prisma": ""})
    schema = str(tmp_path / "prisma/schema.prisma")
    assert command(find_project(str(tmp_path), None, schema), None, schema)[-2:] == ["--schema", "prisma/schema.prisma"]


def test_a_view_holds_scripts_and_skips_what_cannot_be_copied(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    app = make(tmp_path / "w/app", {**STAGE, "prisma/migrations/migration_lock.toml": "x", "prisma/migrations/1/notes": "", "secret": "x", ".config/prisma.ts": ""})
    make(tmp_path / "w", {"node_modules/m": ""})
    os.mkfifo(app / "prisma/migrations/1/pipe")
    os.mkfifo(app / "prisma/pipe")
    (app / "prisma/migrations/1/gone").symlink_to("/no/such")
    (app / "prisma/migrations/gone").symlink_to("/no/such")
    copy = shutil.copy

    def unreadable(source: str, path: str) -> None:
        if source.endswith("secret"):
            raise PermissionError(13, "Permission denied")
        copy(source, path)

    monkeypatch.setattr(shutil, "copy", unreadable)
    with staged(find_project(str(app)), {"2"}) as view:
        root = pathlib.Path(view)
        assert sorted(str(path.relative_to(root / "prisma/migrations")) for path in (root / "prisma/migrations").rglob("*")) == ["1", "1/migration.sql", "migration_lock.toml"]
        assert (root / "secret").is_symlink() and not (root / ".config").is_symlink() and not (root / ".config/prisma.ts").is_symlink()
        assert (root.parent / "node_modules/m").exists()
