# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The check that asks the project's own Prisma CLI: clean projects pass, planted differences are named, and what cannot be asked says why."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._checks_prisma import changes, from_database, judged, told
from conftest import ROOT
from support.prisma import PrismaProject
from support.restorepoints import execute

MODELS = """
model User {
  id    Int    @id @default(autoincrement())
  email String @unique
  pets  Pet[]
}
model Pet {
  id      Int   @id @default(autoincrement())
  ownerId Int
  owner   User  @relation(fields: [ownerId], references: [id])
  @@map("pets")
}
"""
INIT = """
CREATE TABLE "User" (id SERIAL PRIMARY KEY, email TEXT NOT NULL);
CREATE UNIQUE INDEX "User_email_key" ON "User" (email);
CREATE TABLE pets (id SERIAL PRIMARY KEY, "ownerId" INTEGER NOT NULL);
ALTER TABLE pets ADD CONSTRAINT "pets_ownerId_fkey" FOREIGN KEY ("ownerId") REFERENCES "User" (id) ON DELETE RESTRICT ON UPDATE CASCADE;
"""
#: What schema.prisma cannot say, and one table that it does not.
RAW = """
CREATE TABLE raw_log (at date NOT NULL, text text) PARTITION BY RANGE (at);
CREATE TABLE raw_log_2024 PARTITION OF raw_log FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE VIEW owners AS SELECT email FROM "User";
CREATE INDEX few ON pets ("ownerId") WHERE "ownerId" > 10;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER audit BEFORE UPDATE ON pets FOR EACH ROW EXECUTE FUNCTION f();
"""
SUMMARY = """
Loaded Prisma config from prisma.config.ts.

[+] Added tables
  - Pet

[*] Changed the `users` table
  [-] Removed column `odd`
  [+] Added column `seen`

[*] Redefined table `t`
Advice that somebody prints.
"""
LINES = [
    ("[+] Added tables", "- Pet"),
    ("[*] Changed the `users` table", "[-] Removed column `odd`"),
    ("[*] Changed the `users` table", "[+] Added column `seen`"),
    ("[*] Redefined table `t`", ""),
]


class Site:
    def __init__(self, target: t.Any, module: t.Any, project: PrismaProject) -> None:
        self.target, self.module, self.project = target, module, project

    @property
    def schema(self) -> pathlib.Path:
        return self.project.path / "prisma/schema.prisma"

    def deploy(self) -> None:
        done = self.module("migration_deploy", self.target, app_dir=str(self.project.path), engine="direct")
        assert done["changed"], done

    def model_more(self) -> None:
        self.schema.write_text(self.schema.read_text().replace("pets  Pet[]", "pets  Pet[]\n  seen Int?"))

    def ask(self, **options: t.Any) -> dict[str, t.Any]:
        found = self.module("database_checks", self.target, app_dir=str(self.project.path), checks=["prisma_diff"], **options)
        assert not found.get("failed"), found
        assert all(secret not in json.dumps(found) for secret in self.target.secrets())
        return t.cast("dict[str, t.Any]", found["checks"][0])


@pytest.fixture
def site(database: t.Any, module: t.Any, prisma: PrismaProject) -> Site:
    made = Site(database(), module, prisma)
    with made.schema.open("a") as handle:
        handle.write(MODELS)
    prisma.add("1_init", INIT)
    return made


@pytest.fixture
def deployed(site: Site) -> Site:
    site.deploy()
    return site


def files(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and "node_modules" not in path.parts}


def test_the_example_passes_after_its_deploy_and_stays_as_it_is(database: t.Any, module: t.Any, prisma_available: None, tmp_path: pathlib.Path) -> None:
    path = tmp_path / "app"
    shutil.copytree(ROOT / "examples/microcare", path, ignore=shutil.ignore_patterns("node_modules"))
    (path / "node_modules").symlink_to(ROOT / "examples/microcare/node_modules")
    site = Site(database(), module, PrismaProject(path))
    site.deploy()
    before = files(path)
    found = site.ask()
    assert found["verdict"] == "pass" and found["text"].endswith("finds no difference between the database and schema.prisma."), found
    assert files(path) == before


def test_raw_sql_and_a_pending_migration_are_no_difference_and_what_was_made_by_hand_is_one(site: Site) -> None:
    site.project.add("2_raw", RAW)
    site.deploy()
    site.model_more()
    site.project.add("3_seen", 'ALTER TABLE "User" ADD seen int')
    clean = site.ask()
    assert clean["verdict"] == "pass" and {each["where"] for each in clean["evidence"]} <= {"both"}, clean
    execute(site.target, 'ALTER TABLE "User" ADD "byHand" text', "CREATE TABLE more (id int PRIMARY KEY)")
    found = site.ask()
    assert found["verdict"] == "fail", found
    live = {(each["object"], each["change"]) for each in found["evidence"] if each["where"] == "live"}
    assert live == {("[*] Changed the `User` table", "[-] Removed column `byHand`"), ("[-] Removed tables", "- more")}
    assert "column `byHand`" in found["text"] and "Removed tables: more" in found["text"]
    assert execute(site.target, "SELECT count(*) FROM pg_database WHERE datname LIKE '%scratch%'") == [(0,)]


def test_a_model_that_no_migration_makes_warns(deployed: Site) -> None:
    deployed.model_more()
    found = deployed.ask()
    assert found["verdict"] == "warn" and "Changed the `User` table: [+] Added column `seen`" in found["text"], found
    assert deployed.ask(check=True)["text"] == "Not in check mode."


def test_another_schema_and_a_role_that_may_make_no_database(database: t.Any, module: t.Any, prisma: PrismaProject) -> None:
    site = Site(database(createdb=False, schema="App Data"), module, prisma)
    site.schema.write_text(site.schema.read_text() + MODELS)
    prisma.add("1_init", INIT)
    site.deploy()
    execute(site.target, 'DROP TABLE "App Data".pets, "App Data"."User"')
    found = site.ask()
    assert found["verdict"] == "skipped" and "Added tables: User" in found["text"] and "PERMISSION_DENIED" in found["text"], found


def test_what_cannot_be_asked_says_why(deployed: Site, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path) -> None:
    modules = deployed.project.path / "node_modules"
    config = deployed.project.path / "prisma.config.ts"
    kept = config.read_text()
    # The CLI would fetch the engine that is not there.
    config.unlink()
    missing = deployed.ask()
    assert missing["verdict"] == "skipped" and "ECONNREFUSED" in missing["text"], missing
    # One that does nothing ends with exit code 0.
    for name in ("PRISMA_SCHEMA_ENGINE_BINARY", "PRISMA_QUERY_ENGINE_LIBRARY"):
        monkeypatch.setenv(name, "/bin/true")
    silent = deployed.ask()
    assert silent["verdict"] == "skipped" and "made no comparison: exit code 0" in silent["text"], silent
    config.write_text(kept)
    shown = deployed.schema.read_text()
    deployed.schema.write_text(shown + "nonsense")
    assert "P1012" in deployed.ask()["text"]
    deployed.schema.write_text(shown.replace('env("DATABASE_URL")', '"postgresql://localhost/other"'))
    assert "WRONG_TARGET" in deployed.ask()["text"]
    deployed.schema.write_text(shown)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        assert deployed.ask()["text"] == "Node.js is not on the PATH."
    real = os.readlink(modules)
    modules.unlink()
    (modules / ".bin").mkdir(parents=True)
    assert "PRISMA_NOT_FOUND" in deployed.ask()["text"]
    (modules / ".bin/prisma").symlink_to(pathlib.Path(real) / ".bin/prisma")
    assert "does not say which Prisma it is" in deployed.ask()["text"]
    (modules / "prisma").mkdir()
    for version in ("3.15.2", "8.0.0-dev.1"):
        (modules / "prisma/package.json").write_text(json.dumps({"version": version}))
        assert "The project's Prisma is %s; the flags of migrate diff are known for 4 to 7." % version in deployed.ask()["text"]
    deployed.schema.unlink()
    without = deployed.ask()
    assert without["verdict"] == "skipped" and without["text"], without


@pytest.mark.parametrize(
    ("returncode", "output", "timed_out", "found", "reason"),
    [
        (0, "Loaded Prisma config from x.\n\nNo difference detected.\n", False, [], ""),
        (2, SUMMARY, False, LINES, ""),
        (0, "", False, [], "exit code 0 and not a word"),
        (2, "", False, [], "exit code 2 and not a word"),
        (2, SUMMARY, True, [], "it did not end within 300 s"),
        (1, "Loaded Prisma config from x.\nnoise\nError: P1001\n\nCan't reach it.\n", False, [], "exit code 1, Error: P1001 Can't reach it"),
        # An adapter's warning before the end is no comparison.
        (0, SUMMARY, False, [], "exit code 0, [+] Added tables - Pet"),
    ],
)
def test_what_the_cli_told(returncode: int, output: str, timed_out: bool, found: t.Any, reason: str) -> None:
    lines, why = told(returncode, output, timed_out)
    assert lines == found and why.startswith(reason) and bool(why) == bool(reason)


def test_lines_of_a_summary_and_the_flags_of_the_versions() -> None:
    assert changes(SUMMARY) == LINES
    assert from_database(6, "s") == ["--from-schema-datasource", "s"] and from_database(7, "s") == ["--from-config-datasource"]


@pytest.mark.parametrize(
    ("live", "made", "pending", "verdict"),
    [
        (LINES[:2], LINES[:1], False, "fail"),
        # Made by db push: the model has it, no migration does.
        (LINES[1:2], LINES[:2], False, "fail"),
        (LINES[:1], LINES[:1], False, "warn"),
        (LINES[:1], LINES[:1], True, "pass"),
        (LINES[1:2], LINES[1:2], False, "pass"),
    ],
)
def test_the_verdict(live: t.Any, made: t.Any, pending: bool, verdict: str) -> None:
    assert judged(live, made, pending).verdict == verdict
