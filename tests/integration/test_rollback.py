# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The ways back as an operator takes them: rollback.yml chooses, shows the loss, asks, does it."""

from __future__ import annotations

import hashlib
import pathlib
import re
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url
from support.modules import ModuleRunner
from support.runbooks import Play, fingerprint, recap, records

from tools.microcare import DATABASE, Staging

LAST = "20260112083000_drop_patient_phone"


def execute(staging: Staging, *statements: str) -> None:
    conn = psycopg2.connect(**parse_url(staging.database_url).conninfo())
    conn.autocommit = True
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    conn.close()


def databases(admin: t.Any) -> list[tuple[t.Any, ...]]:
    conn = admin("postgres")
    with conn.cursor() as cursor:
        cursor.execute("SELECT oid, datname, datallowconn, datacl::text, datconnlimit FROM pg_database ORDER BY 1")
        return t.cast("list[tuple[t.Any, ...]]", cursor.fetchall())


def back(play: Play, staging: Staging, *arguments: str, **variables: t.Any) -> t.Any:
    return play("rollback.yml", staging, *arguments, migration_targets="staging", migration_engine="direct", **variables)


def asked_for(stdout: str) -> str:
    """The text that a refusal asks for."""
    found = re.findall(r"-e migration_confirm=(\S+)", stdout)
    assert found, stdout
    return str(found[-1])


def test_nothing_applied_yet_is_held_back(staging: Staging, play: Play, module: ModuleRunner) -> None:
    before = fingerprint(module, staging)
    done = back(play, staging, migration_undo=[LAST])
    assert done.returncode == 0 and recap(done)["changed"] == 0, done.stdout
    assert "nothing to undo" in done.stdout and "-e migration_hold=%s" % LAST in done.stdout
    deployed = play("staging_migrate.yml", staging, migration_engine="direct", migration_hold=[LAST])
    assert deployed.returncode == 0, deployed.stdout
    info = module("migration_info", database_url=staging.database_url, app_dir=staging.app_dir)
    assert info["pending"] == [LAST] and before["rows"] <= fingerprint(module, staging)["rows"]
    again = play("staging_migrate.yml", staging, migration_engine="direct", migration_hold=[LAST])
    assert again.returncode == 0 and recap(again)["changed"] == 0 and "1 held back by hold" in again.stdout


def test_the_restore_point_is_found_the_loss_is_shown_and_the_kept_one_swapped_back(staging: Staging, play: Play, module: ModuleRunner, admin: t.Any) -> None:
    before = fingerprint(module, staging)
    assert play("staging_migrate.yml", staging, migration_engine="direct").returncode == 0
    execute(
        staging,
        'INSERT INTO messages ("patientId", "authorId", "body") SELECT "patientId", "authorId", $$written since$$ FROM messages LIMIT 3',
        "UPDATE messages SET body = 'changed since' WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 2)",
    )
    after, server = fingerprint(module, staging), databases(admin)

    check = back(play, staging, "--check")
    assert check.returncode == 0, check.stdout
    assert re.search(r"public\.messages +[\d,]+ +[\d,]+ +3 +2 +0 +key", check.stdout), check.stdout
    assert (fingerprint(module, staging), databases(admin)) == (after, server), "the check changed something"

    asked = back(play, staging)
    assert asked.returncode == 2 and re.search(r"public\.messages +[\d,]+ +[\d,]+ +3 +2 +0 +key", asked.stdout), asked.stdout
    for wrong in ("yes", DATABASE, asked_for(asked.stdout) + " ", asked_for(asked.stdout).upper()):
        assert back(play, staging, migration_confirm=wrong).returncode == 2
    assert (fingerprint(module, staging), databases(admin)) == (after, server), "a refused run changed something"

    done = back(play, staging, migration_confirm=asked_for(asked.stdout))
    assert done.returncode == 0 and "RESTORED" in done.stdout, done.stdout
    assert fingerprint(module, staging) == before
    kept = records(staging)[-1]["restore"]["kept"]
    # The same again: nothing was applied since.
    again = back(play, staging, migration_confirm=asked_for(asked.stdout))
    assert again.returncode == 0 and recap(again)["changed"] == 0 and "nothing to undo" in again.stdout, again.stdout

    asked = back(play, staging, migration_from_database=kept)
    assert asked.returncode == 2, asked.stdout
    returned = back(play, staging, migration_from_database=kept, migration_confirm=asked_for(asked.stdout))
    assert returned.returncode == 0 and "kept database" in returned.stdout, returned.stdout
    assert fingerprint(module, staging) == after
    once_more = back(play, staging, migration_from_database=kept, migration_confirm=asked_for(asked.stdout))
    assert once_more.returncode == 0 and recap(once_more)["changed"] == 0, once_more.stdout


@pytest.mark.exhaustive
def test_a_snapshot_is_preferred_and_swapped_in(staging: Staging, play: Play, module: ModuleRunner) -> None:
    before = fingerprint(module, staging)
    deployed = play("staging_migrate.yml", staging, migration_engine="direct", backup_snapshot=True)
    assert deployed.returncode == 0, deployed.stdout
    asked = back(play, staging)
    assert asked.returncode == 2 and "snapshot" in asked.stdout, asked.stdout
    done = back(play, staging, migration_confirm=asked_for(asked.stdout))
    assert done.returncode == 0 and "RESTORED" in done.stdout and "is as in the snapshot" in done.stdout, done.stdout
    assert fingerprint(module, staging) == before


def test_a_reverse_migration_is_drafted_confirmed_and_deployed(staging: Staging, play: Play, module: ModuleRunner, tmp_path: pathlib.Path) -> None:
    assert play("staging_migrate.yml", staging, migration_engine="direct", migration_hold=[LAST]).returncode == 0
    before = str(tmp_path / "before.json")
    assert module("database_fingerprint", database_url=staging.database_url, level="schema", dest=before)["digest"]
    assert play("staging_migrate.yml", staging, migration_engine="direct").returncode == 0
    folders = set(pathlib.Path(staging.app_dir, "prisma/migrations").iterdir())
    asked = back(play, staging, migration_undo=[LAST], migration_route="reverse")
    assert asked.returncode == 2 and "phone" in asked.stdout and "CONFIRMATION_MISSING" in asked.stdout, asked.stdout
    assert set(pathlib.Path(staging.app_dir, "prisma/migrations").iterdir()) == folders
    done = back(play, staging, migration_undo=[LAST], migration_route="reverse", migration_confirm=asked_for(asked.stdout))
    assert done.returncode == 0 and "REVERSED" in done.stdout, done.stdout
    differences = module("database_fingerprint", database_url=staging.database_url, level="schema", compare_with=before)["differences"]
    # The one thing that PostgreSQL gives no way to restore; the draft says it.
    assert [difference["object"] for difference in differences] == ["column order public.patients"] and "order" in asked.stdout, differences
    info = module("migration_info", database_url=staging.database_url, app_dir=staging.app_dir)
    assert info["status"] == "up_to_date" and info["ledger_head"].endswith("reverse_drop_patient_phone"), info
    again = back(play, staging, migration_undo=[LAST], migration_route="reverse", migration_confirm=asked_for(asked.stdout))
    assert again.returncode == 0 and recap(again)["changed"] == 0 and "taken back already" in again.stdout, again.stdout


@pytest.mark.parametrize("failing", [True], indirect=True)
def test_a_half_applied_migration_shows_both_scripts_and_is_undone_when_told(staging: Staging, play: Play, module: ModuleRunner) -> None:
    broken = module("migration_deploy", database_url=staging.database_url, app_dir=staging.app_dir, engine="direct")
    assert broken["code"].startswith("MIGRATION_FAILED"), broken
    name = broken["failed_migration"]["name"]
    first = back(play, staging)
    assert first.returncode == 2 and name in first.stdout, first.stdout
    sentence = records(staging)[-1]["sentence"]
    assert "REFUSED" in sentence and "the database was not touched" in sentence, sentence
    assert "-- before, proved" in first.stdout and "-- after" in first.stdout, first.stdout
    unconfirmed = back(play, staging, migration_run_script="before")
    assert unconfirmed.returncode == 2 and "CONFIRMATION_MISSING" in unconfirmed.stdout, unconfirmed.stdout
    done = back(play, staging, migration_run_script="before", migration_confirm="%s %s" % (DATABASE, name))
    assert done.returncode == 0 and "RECOVERED" in done.stdout, done.stdout
    info = module("migration_info", database_url=staging.database_url, app_dir=staging.app_dir)
    assert info["status"] == "pending" and name in info["pending"], info


def test_committed_and_not_recorded_is_recorded(staging: Staging, play: Play, module: ModuleRunner) -> None:
    name, script = "20260401000000_wide", "CREATE TABLE wide (id int PRIMARY KEY);\n"
    folder = pathlib.Path(staging.app_dir, "prisma/migrations", name)
    folder.mkdir()
    (folder / "migration.sql").write_text(script, encoding="utf-8")
    checksum = hashlib.sha256(script.encode("ascii")).hexdigest()
    # As a client leaves it that was killed after the script was committed.
    execute(
        staging,
        "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES (gen_random_uuid()::text, '%s', '%s')" % (checksum, name),
        script,
    )
    done = back(play, staging)
    assert done.returncode == 0, done.stdout
    assert "RECOVERED. %s is recorded as applied" % name in records(staging)[-1]["sentence"], records(staging)[-1]["sentence"]
