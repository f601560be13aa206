# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rehearsals on real copies: what passes is certified, what does not leaves the live database and the server as they were."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.modules import ModuleRunner
from support.restorepoints import execute, fingerprint
from support.swaps import stopped

INIT = 'CREATE TABLE "User" (id serial PRIMARY KEY, name text NOT NULL, email text); CREATE TABLE visits (id serial PRIMARY KEY, note text);'
ROWS = (
    "INSERT INTO \"User\" (name, email) SELECT 'n' || n, 'n' || n || '@example.org' FROM generate_series(1, 500) n",
    "INSERT INTO visits (note) SELECT 'v' || n FROM generate_series(1, 500) n",
)
BIO = 'ALTER TABLE "User" ADD COLUMN bio text; CREATE INDEX visits_note ON visits (note);'


@dataclasses.dataclass
class Site:
    """A database with one applied migration, its restore points, and what is pending."""

    target: Target
    folder: pathlib.Path
    scratch: pathlib.Path
    module: ModuleRunner
    admin: t.Any
    options: dict[str, t.Any]

    def add(self, name: str, script: str) -> None:
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / name / "migration.sql").write_text(script, encoding="utf-8")

    def backup(self) -> None:
        done = self.module("database_backup", self.target, backup_dir=self.options["backup_dir"], pg_bin_dir=self.options["pg_bin_dir"])
        assert not done.get("failed"), done

    def rehearse(self, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return self.module("migration_rehearsal", self.target, check=check, **dict(self.options, **options))

    def certified(self) -> dict[str, t.Any]:
        options = {"migrations_dir": str(self.folder), "certificate_dir": self.options["certificate_dir"], "engine": "direct"}
        return self.module("migration_certificate_info", self.target, **options)

    def copies(self) -> list[str]:
        with self.admin("postgres").cursor() as cursor:
            cursor.execute("SELECT datname FROM pg_database WHERE starts_with(datname, %s || '__')", (self.target.dbname,))
            return [name for (name,) in cursor.fetchall()]


@pytest.fixture
def site(database: t.Any, scratch: pathlib.Path, module: ModuleRunner, admin: t.Any, cluster: t.Any) -> Site:
    folder = scratch / "migrations"
    options = dict(
        migrations_dir=str(folder), backup_dir=str(scratch / "points"), certificate_dir=str(scratch / "certificates"), engine="direct",
        pg_bin_dir=str(cluster.bin_dir),
    )  # fmt: skip
    found = Site(database(), folder, scratch, module, admin, options)
    found.add("1_init", INIT)
    module("migration_deploy", found.target, migrations_dir=str(folder), engine="direct")
    execute(found.target, *ROWS)
    return found


def test_what_passes_is_certified_and_nothing_stays(site: Site) -> None:
    assert site.rehearse()["text"] == "Nothing is pending, so nothing was rehearsed."
    site.add("2_bio", BIO)
    assert site.rehearse()["code"] == "BACKUP_NOT_FOUND"
    site.backup()
    before = fingerprint(site.target)
    planned = site.rehearse(check=True)
    assert planned["changed"] and not planned["passed"] and "would be rehearsed on the restore point" in planned["text"]
    assert site.certified()["refusal_code"] == "CERTIFICATE_MISSING"
    done = site.rehearse()
    assert (done.get("changed"), done.get("passed"), done.get("migrations")) == (True, True, ["2_bio"]), done
    assert fingerprint(site.target) == before and site.copies() == []
    assert site.certified()["valid"] and done["certificate"]["path"].startswith(site.options["certificate_dir"])
    # Who reads and writes was asked, and each statement has its time and its locks.
    assert {each["table"].replace(chr(34), "") for each in done["canary"]["tables"]} >= {"public.User", "public.visits"} and done["canary"]["probes"] > 0
    statements = [each for migration in done["forecast"]["migrations"] for each in migration["statements"]]
    assert {each["kind"] for each in statements} >= {"index", "catalogue"} and any(each["locks"] for each in statements), statements
    assert done["measured"]["deploy_seconds"] > 0 and done["measured"]["size_bytes"] > 0
    # Nothing was found, so nobody replayed all migrations to ask whether it was there before.
    assert "before" not in done["seconds"]
    # The restore point was proved by it.
    point = site.module("database_backup_info", site.target, backup_dir=site.options["backup_dir"])["restore_points"][-1]
    assert point["proof"]["level"] == "drill", point
    again = site.rehearse()
    assert (again["changed"], again["passed"], again["reused"]) == (False, True, True)
    assert site.rehearse(max_deploy_seconds=200)["changed"], "another budget is another rehearsal"
    # Exactly this set: a file more, and it is no certificate.
    site.add("3_more", "CREATE TABLE more (id int);")
    assert site.certified()["refusal_code"] == "CERTIFICATE_MISMATCH"


FAILURES: dict[str, tuple[str, dict[str, t.Any], str, str]] = {
    "a migration fails": ("INSERT INTO visits (id) VALUES (1);", {}, "MIGRATION_FAILED_CLEAN", "deploy"),
    "rows go that no statement names": (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN DELETE FROM visits WHERE id = 3; RETURN NULL; END';"
        ' CREATE TRIGGER t AFTER UPDATE ON "User" FOR EACH STATEMENT EXECUTE FUNCTION f(); UPDATE "User" SET name = upper(name);',
        {}, "DATA_LOSS", "compare",
    ),
    "it takes longer than its budget": ("SELECT pg_sleep(0.3);", {"max_deploy_seconds": 0.1}, "CHECK_FAILED", "checks"),
    "a trigger is left disabled, which is seen again after the way back": (
        "CREATE FUNCTION g() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER g BEFORE UPDATE ON visits"
        " FOR EACH ROW EXECUTE FUNCTION g(); ALTER TABLE visits DISABLE TRIGGER g;",
        {}, "CHECK_FAILED", "checks",
    ),
    "users would wait": ("ALTER TABLE visits ADD COLUMN x int; SELECT pg_sleep(0.8);", {"max_blocking_seconds": 0.3}, "CHECK_FAILED", "checks"),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_what_fails_withdraws_the_certificate_and_nothing_stays(site: Site, name: str) -> None:
    script, options, code, phase = FAILURES[name]
    site.backup()
    site.add("2_bad", script)
    path = pathlib.Path(site.options["certificate_dir"])
    before = fingerprint(site.target)
    failed = site.rehearse(**options)
    assert (failed.get("code"), failed.get("failed_in")) == (code, phase), failed
    assert "ledger and schema of the live database are as they were" in failed["msg"] and failed["next_step"]
    assert fingerprint(site.target) == before and site.copies() == []
    assert not site.certified()["valid"] and list(path.glob("*.json")) == []


def test_a_certificate_of_before_is_withdrawn_by_a_failure(site: Site) -> None:
    site.backup()
    site.add("2_slow", "SELECT pg_sleep(0.3);")
    assert site.rehearse()["passed"] and site.certified()["valid"]
    failed = site.rehearse(max_deploy_seconds=0.1)
    assert failed["code"] == "CHECK_FAILED" and failed["withdrawn"] is True
    assert site.certified()["refusal_code"] == "CERTIFICATE_MISSING"


def test_a_restore_point_of_another_state_is_refused(site: Site) -> None:
    site.backup()
    site.add("2_bio", BIO)
    execute(site.target, "ALTER TABLE visits ADD COLUMN by_hand int")
    failed = site.rehearse()
    assert failed["code"] == "REHEARSAL_OUTDATED" and "the schema" in failed["msg"] and site.copies() == [], failed
    site.backup()
    # It was there before, also under the name that a migration gives to what it is about.
    execute(site.target, "CREATE INDEX by_hand ON visits (note, by_hand)")
    site.backup()
    site.add("3_renamed", "ALTER TABLE visits RENAME note TO noted;")
    done = site.rehearse()
    assert done.get("passed"), done
    drift = next(each for each in done["checks"] if each["name"] == "drift")
    assert drift["verdict"] == "warn" and drift["text"].startswith("As before this run") and done["seconds"]["before"] > 0, drift


def test_killed_in_the_middle_is_cleared_by_the_next(site: Site) -> None:
    site.backup()
    site.add("2_bio", BIO)
    site.module.env[_failpoint.VARIABLE] = "rehearsal:deployed"
    process = site.module.start("migration_rehearsal", site.target, **site.options)
    assert stopped(process)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    site.module.env.clear()
    left = site.copies()
    assert left and not site.certified()["valid"]
    done = site.rehearse()
    assert done.get("passed") and set(done["cleared"]) >= set(left) and site.copies() == [], done


def test_a_template_copy_and_masks(site: Site) -> None:
    site.add("2_bio", BIO)
    mask = site.scratch / "mask.sql"
    mask.write_text("UPDATE \"User\" SET email = 'masked-' || id;", encoding="utf-8")
    # What a smoke script may see of it.
    look = site.scratch / "look.sql"
    look.write_text("SELECT email FROM \"User\" WHERE email NOT LIKE 'masked-%' LIMIT 1;", encoding="utf-8")
    for options in ({"source": "template"}, {}):
        if not options:
            site.backup()
        done = site.rehearse(masking=[str(mask)], custom_sql=[str(look)], max_age=0, **options)
        assert done.get("passed"), done
        assert next(each for each in done["checks"] if each["name"] == "custom")["verdict"] == "pass"
    assert site.copies() == []
    # Ten times the rows, and the way back leads to those that were there.
    done = site.rehearse(masking=[str(mask)], custom_sql=[str(look)], scale=10)
    assert done.get("passed") and {(each["before"], each["after"]) for each in done["scaled"]["tables"]} == {(500, 5000)}, done
    mask.write_text('UPDATE "User" SET email = secret_value;', encoding="utf-8")
    failed = site.rehearse(masking=[str(mask)])
    assert failed["code"] == "MASKING_FAILED" and "mask.sql" in failed["msg"] and site.copies() == [], failed


def test_the_cli_of_a_project_stays_on_the_copy(prisma: t.Any, database: t.Any, module: ModuleRunner, scratch: pathlib.Path, cluster: t.Any) -> None:
    target = database('we"ird-db; drop')
    prisma.add("1_init", INIT)
    options = {"app_dir": str(prisma.path), "pg_bin_dir": str(cluster.bin_dir), "backup_dir": str(scratch / "points")}
    module("migration_deploy", target, app_dir=str(prisma.path))
    execute(target, *ROWS)
    prisma.add("2_bio", BIO)
    assert module("database_backup", target, backup_dir=options["backup_dir"], pg_bin_dir=options["pg_bin_dir"])["changed"]
    done = module("migration_rehearsal", target, certificate_dir=str(scratch / "certificates"), **options)
    assert done.get("passed"), done
    assert module("migration_info", target, app_dir=str(prisma.path))["pending"] == ["2_bio"]
    # A project that goes to the live database whatever it is told: it waits for a lock that it does not get, and nothing was done there.
    (prisma.path / "package.json").write_text(json.dumps({"scripts": {"deploy": "DATABASE_URL='%s' prisma migrate deploy" % target.prisma_url()}}), "utf-8")
    astray = module(
        "migration_rehearsal", target, certificate_dir=str(scratch / "certificates"), deploy_command="npm run deploy", max_age=0, timeout=60, **options
    )
    assert astray.get("failed") and astray["failed_in"] == "deploy", astray
    assert module("migration_info", target, app_dir=str(prisma.path))["pending"] == ["2_bio"]
