# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Projects of other shapes than the usual one, with the real CLI: the right database, and no more than up_to."""

from __future__ import annotations

import os
import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.modules import ModuleRunner
from support.prisma import PrismaProject

Database = t.Callable[..., Target]
pytestmark = pytest.mark.prisma
FIRST, SECOND = "20240101000000_a", "20240102000000_b"


@pytest.fixture
def project(prisma: PrismaProject) -> PrismaProject:
    prisma.add(FIRST, "CREATE TABLE a (id int);")
    prisma.add(SECOND, "CREATE TABLE b (id int);")
    return prisma


def configure(project: PrismaProject, old: str, new: str) -> None:
    path = project.path / "prisma.config.ts"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def applied(result: dict[str, t.Any]) -> list[str]:
    assert "applied" in result, result
    return [row["name"] for row in result["applied"]]


def test_a_url_under_another_name_goes_to_our_database(project: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target, other = database(), database()
    configure(project, "process.env.DATABASE_URL\n", "process.env.MAIN_PG_URL\n")
    (project.path / ".env").write_text('MAIN_PG_URL="%s"\n' % other.prisma_url())
    assert applied(module("migration_deploy", target, app_dir=str(project.path))) == [FIRST, SECOND]
    assert module("migration_info", other, app_dir=str(project.path))["status"] == "empty"


def test_up_to_with_an_absolute_schema_file_and_odd_files(project: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    os.mkfifo(project.migrations / FIRST / "pipe")
    (project.migrations / FIRST / "gone").symlink_to("/no/such")
    schema = str(project.path / "prisma/schema.prisma")
    assert applied(module("migration_deploy", target, app_dir=str(project.path), schema_file=schema, up_to=FIRST)) == [FIRST]


def test_up_to_with_an_absolute_path_applies_nothing(project: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    configure(project, "  engine: 'js',", "  engine: 'js',\n  migrations: { path: '%s' }," % project.migrations)
    failed = module("migration_deploy", target, app_dir=str(project.path), up_to=FIRST)
    assert failed["code"] == "OPTION_INVALID", failed
    assert module("migration_info", target, app_dir=str(project.path))["status"] == "empty"
    assert applied(module("migration_deploy", target, app_dir=str(project.path))) == [FIRST, SECOND]


def test_a_shorthand_is_asked_for_and_then_works(project: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    configure(project, "export default defineConfig({", "const migrations = { path: 'steps' }\nexport default defineConfig({\n  migrations,")
    (project.path / "steps" / FIRST).mkdir(parents=True)
    (project.path / "steps" / FIRST / "migration.sql").write_text("CREATE TABLE c (id int);")
    assert module("migration_deploy", target, app_dir=str(project.path))["code"] == "MIGRATIONS_DIR_MISSING"
    assert applied(module("migration_deploy", target, app_dir=str(project.path), migrations_dir="steps")) == [FIRST]


@pytest.mark.parametrize("config", ["prisma.config.ts", ".config/prisma.ts"])
@pytest.mark.parametrize("own", [False, True], ids=["no_modules", "own_modules"])
def test_up_to_in_a_hoisted_workspace(config: str, own: bool, project: PrismaProject, tmp_path: pathlib.Path, database: Database, module: ModuleRunner) -> None:
    target = database()
    workspace = tmp_path / "workspace"
    (workspace / "packages").mkdir(parents=True)
    (project.path / "node_modules").rename(workspace / "node_modules")
    app = project.path.rename(workspace / "packages/api")
    if own:
        (app / "node_modules/.cache").mkdir(parents=True)
    if config.startswith("."):
        (app / ".config").mkdir()
        text = (app / "prisma.config.ts").read_text().replace("join('prisma', 'schema.prisma')", "join('..', 'prisma', 'schema.prisma')")
        (app / config).write_text(text)
        (app / "prisma.config.ts").unlink()
    assert applied(module("migration_deploy", target, app_dir=str(app), up_to=FIRST)) == [FIRST]
