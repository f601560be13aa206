# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._project import CONFIG_FILES, datasource_urls, find_project, read_config, strip_comments

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
