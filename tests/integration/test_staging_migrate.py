# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The runbooks as an operator runs them: ansible-playbook on the MicroCare example."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import threading
import time

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url
from conftest import ROOT
from support.modules import ModuleRunner
from support.runbooks import Play, fingerprint, recap, records

from tools.microcare import DATABASE, Staging

FAILS = "20260301120000_split_patient_name_fails"


def test_check_then_run_then_nothing_to_do(staging: Staging, play: Play, module: ModuleRunner) -> None:
    before = fingerprint(module, staging)
    check = play("staging_migrate.yml", staging, "--check", "--diff")
    assert check.returncode == 0, check.stdout + check.stderr
    assert "+" in check.stdout and "20260112083000_drop_patient_phone" in check.stdout
    assert fingerprint(module, staging) == before and not pathlib.Path(staging.backup_dir).exists() and not records(staging)
    first = play("staging_migrate.yml", staging)
    assert first.returncode == 0, first.stdout + first.stderr
    assert recap(first)["changed"] == recap(check)["changed"] > 0
    info = module("migration_info", database_url=staging.database_url, app_dir=staging.app_dir)
    assert info["status"] == "up_to_date"
    (record,) = records(staging)
    assert record["outcome"] == "applied" and "4 migrations applied" in record["sentence"]
    assert record["sentence"] in first.stdout.replace("\n", " ") or "4" in first.stdout
    second = play("staging_migrate.yml", staging)
    assert second.returncode == 0 and recap(second)["changed"] == 0
    assert "nothing to do" in second.stdout
    assert len(list(pathlib.Path(staging.backup_dir).glob("*/2*"))) == 1


@pytest.mark.parametrize("failing", [True], indirect=True)
def test_half_applied_migration_is_rolled_back(staging: Staging, play: Play, module: ModuleRunner) -> None:
    before = fingerprint(module, staging)
    done = play("staging_migrate.yml", staging)
    assert done.returncode == 2, done.stdout
    assert fingerprint(module, staging) == before
    (record,) = records(staging)
    assert record["outcome"] == "rolled_back" and FAILS in record["sentence"] and "23502" in json.dumps(record), record["sentence"]
    assert recap(done)["failed"] == 1 and recap(done)["rescued"] == 1
    app = psycopg2.connect(**parse_url(staging.app_url).conninfo())
    with app.cursor() as cursor:
        for path in sorted((ROOT / "examples/microcare/smoke").glob("*.sql")):
            cursor.execute(path.read_text(encoding="utf-8"))
            app.rollback()
    app.close()
    # The same run again ends the same way. (The smoke checks drew from sequences, which no rollback gives back.)
    before = fingerprint(module, staging)
    assert module("database_info", database_url=staging.database_url)["identity"]["database"] == DATABASE
    again = play("staging_migrate.yml", staging)
    assert again.returncode == 2 and fingerprint(module, staging) == before


def test_loss_that_no_migration_names_is_rolled_back(staging: Staging, play: Play, module: ModuleRunner) -> None:
    sneaky = pathlib.Path(staging.app_dir) / "prisma/migrations/20260401000000_tidy_up"
    sneaky.mkdir()
    (sneaky / "migration.sql").write_text("DO $$ BEGIN EXECUTE 'DELETE FROM mess' || 'ages WHERE id % 7 = 0'; END $$;\n", encoding="utf-8")
    before = fingerprint(module, staging)
    done = play("staging_migrate.yml", staging)
    assert done.returncode == 2 and "DATA_LOSS" in done.stdout and "public.messages has" in done.stdout, done.stdout
    assert fingerprint(module, staging) == before
    (record,) = records(staging)
    assert record["outcome"] == "rolled_back" and record["error"]["code"] == "DATA_LOSS"
    accepted = play("staging_migrate.yml", staging, verification_expect=["public.messages"])
    assert accepted.returncode == 0 and fingerprint(module, staging)["rows"] < before["rows"]


@pytest.mark.exhaustive
def test_rollback_asks_shows_the_loss_and_goes_back(staging: Staging, play: Play, module: ModuleRunner) -> None:
    before = fingerprint(module, staging)
    assert play("staging_migrate.yml", staging).returncode == 0
    (point,) = pathlib.Path(staging.backup_dir).glob("*/2*")
    nowhere = play("rollback.yml", staging)
    assert nowhere.returncode != 0 and "migration_targets" in nowhere.stderr + nowhere.stdout
    after = fingerprint(module, staging)
    confirm = "%s %s" % (DATABASE, json.loads((point / "manifest.json").read_text(encoding="utf-8"))["manifest"]["run_id"])
    asked = play("rollback.yml", staging, migration_targets="staging", migration_restore_point=str(point))
    assert asked.returncode == 2 and "CONFIRMATION_MISSING" in asked.stdout and confirm.replace(" ", ":") in asked.stdout
    assert fingerprint(module, staging) == after
    done = play("rollback.yml", staging, migration_targets="staging", migration_restore_point=str(point), migration_confirm=confirm)
    assert done.returncode == 0, done.stdout
    assert fingerprint(module, staging) == before and records(staging)[-1]["outcome"] == "restored"
    again = play("rollback.yml", staging, migration_targets="staging", migration_restore_point=str(point), migration_confirm=confirm)
    assert again.returncode == 0 and recap(again)["changed"] == 0


def test_status_is_read_only_and_true(staging: Staging, play: Play, module: ModuleRunner) -> None:
    before = fingerprint(module, staging)
    done = play("status.yml", staging, migration_targets="staging")
    assert done.returncode == 0 and "pending" in done.stdout, done.stdout
    assert recap(done)["changed"] == 0 and fingerprint(module, staging) == before


def broken_urls(staging: Staging) -> dict[str, str]:
    target = parse_url(staging.database_url)
    change = lambda **what: dataclasses.replace(target, **what).prisma_url()  # noqa: E731
    return {
        "DATABASE_MISSING": change(dbname="does_not_exist"),
        "NAME": change(dbname='we"ird-db; drop'),
        "AUTH_FAILED": change(password="wr0ng-s3cret"),
        "SERVER_UNREACHABLE": change(port=1),
        "URL_INVALID": "mysql://root@localhost/x",
    }


def test_bad_input_is_told_and_changes_nothing(staging: Staging, play: Play, module: ModuleRunner, tmp_path: pathlib.Path) -> None:
    before = fingerprint(module, staging)
    for code, url in broken_urls(staging).items():
        done = play("staging_migrate.yml", staging, url=url)
        expected = "DATABASE_MISSING" if code == "NAME" else code
        assert done.returncode == 2 and expected in done.stdout, (code, done.stdout)
        assert "wr0ng-s3cret" not in done.stdout + done.stderr
        assert records(staging)[-1]["outcome"] == "refused" and records(staging)[-1]["error"]["code"] == expected
    empty = tmp_path / "empty"
    empty.mkdir()
    for app_dir, code in ((str(empty), "NOT_A_MIGRATIONS_DIR"), ("/does/not/exist", "PROJECT_MISSING")):
        done = play("staging_migrate.yml", staging, migration_app_dir=app_dir)
        assert done.returncode == 2 and code in done.stdout
    unwritable = play("staging_migrate.yml", staging, migration_reports_dir="/dev/null/reports")
    assert unwritable.returncode == 2 and "the run can be recorded" in unwritable.stdout and "Deploy" not in unwritable.stdout
    none = play("staging_migrate.yml", staging, migration_targets="nosuchgroup")
    assert none.returncode != 0 and "TARGETS_EMPTY" in none.stdout + none.stderr
    assert fingerprint(module, staging) == before


@pytest.mark.parametrize("failing", [True], indirect=True)
def test_no_password_in_any_output_or_argument(staging: Staging, play: Play, tmp_path: pathlib.Path) -> None:
    """-vvvvv, both ends of a failing run, every written file, and the arguments of every process meanwhile."""
    target = parse_url(staging.database_url)
    assert target.password is not None
    needles = [needle.encode() for needle in {target.password, *target.secrets()}]
    seen: list[str] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.is_set():
            for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    content = path.read_bytes()
                except OSError:
                    continue
                seen.extend(repr(content) for needle in needles if needle in content)
            time.sleep(0.02)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        done = play("staging_migrate.yml", staging, "-vvvvv", "--diff")
    finally:
        stop.set()
        watcher.join()
    assert done.returncode == 2
    assert not seen, seen[:3]
    output = (done.stdout + done.stderr).encode()
    assert not [needle for needle in needles if needle in output]
    for folder in (staging.reports_dir, staging.backup_dir):
        for path in pathlib.Path(folder).rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                assert not [needle for needle in needles if needle in content], path
