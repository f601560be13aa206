# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rollback that is started while another run is at work says at once whose run that is, and stops."""

from __future__ import annotations

import contextlib
import pathlib
import subprocess
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url
from support.modules import ModuleRunner
from support.runbooks import Play, records

from tools.microcare import Staging

SLOW = "20260401000000_slow"
RUN = "20261122T163000Z-ab12cd"
_DEPLOYING = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND query LIKE '%%pg_sleep%%' AND state = 'active'"


@contextlib.contextmanager
def deploying(staging: Staging, module: ModuleRunner) -> t.Iterator[int]:
    """A deploy by another run that is in the middle of a migration, with a table locked; its session's pid."""
    folder = pathlib.Path(staging.app_dir, "prisma/migrations", SLOW)
    folder.mkdir()
    script = "ALTER TABLE messages ADD COLUMN slow int;\nSELECT pg_sleep(600);\n"
    (folder / "migration.sql").write_text(script, encoding="utf-8")
    process = module.start("migration_deploy", database_url=staging.database_url, app_dir=staging.app_dir, engine="direct", run_id=RUN)
    conn = psycopg2.connect(**parse_url(staging.database_url).conninfo())
    conn.autocommit = True
    try:
        with conn.cursor() as cursor:
            yield _pid(cursor, process)
            cursor.execute("SELECT pg_terminate_backend(pid) FROM (%s) AS found" % _DEPLOYING, ("pgops-deploy %s" % RUN,))
        process.communicate(timeout=60)
    finally:
        conn.close()
        process.kill()
        process.communicate()


def _pid(cursor: t.Any, process: subprocess.Popen[str]) -> int:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        assert process.poll() is None, process.communicate()
        cursor.execute(_DEPLOYING, ("pgops-deploy %s" % RUN,))
        found = cursor.fetchone()
        if found:
            return int(found[0])
        time.sleep(0.1)
    raise AssertionError("the deploy did not begin")


def back(play: Play, staging: Staging, *arguments: str, **variables: t.Any) -> t.Any:
    return play("rollback.yml", staging, *arguments, migration_targets="staging", migration_engine="direct", **variables)


def test_who_is_at_work_is_said_at_once_in_each_way_back(staging: Staging, play: Play, module: ModuleRunner) -> None:
    taken = module("database_backup", database_url=staging.database_url, backup_dir=staging.backup_dir)
    assert not taken.get("failed"), taken
    with deploying(staging, module):
        for arguments, more in (((), {}), ((), {"migration_route": "recover"}), (("--check",), {"migration_restore_point": taken["restore_point"]["path"]})):
            before = time.monotonic()
            done = back(play, staging, *arguments, **more)
            assert time.monotonic() - before < 25, "it waited"
            sentence = records(staging)[-1]["sentence"]
            assert done.returncode == 2, done.stdout
            assert RUN in sentence and "pid " in sentence and "is at work" in sentence, sentence
            assert "LOCKED" in done.stdout and "the database was not touched" in sentence, sentence
            assert "CONNECTION_LOST" not in done.stdout


@pytest.mark.parametrize("waits", [True, False])
def test_a_restore_waits_first_and_measures_afterwards(staging: Staging, module: ModuleRunner, waits: bool) -> None:
    taken = module("database_backup", database_url=staging.database_url, backup_dir=staging.backup_dir)
    with deploying(staging, module):
        options = dict(database_url=staging.database_url, restore_point=taken["restore_point"]["path"], lock_wait=120 if waits else 0)
        process = module.start("database_restore", **options)
        if not waits:
            result = module.result(*process.communicate(timeout=60))
            assert result["code"] == "LOCKED" and result["running"]["run_id"] == RUN, result
            return
        time.sleep(2)
        assert process.poll() is None
    result = module.result(*process.communicate(timeout=120))
    # What it says is of the state after the wait, in which nothing is locked.
    assert result["code"] == "CONFIRMATION_MISSING" and result["loss"]["known"], result
    assert "public._prisma_migrations" in [table["table"] for table in result["loss"]["tables"]], result


def test_a_program_that_is_not_ours_is_named_too(staging: Staging, module: ModuleRunner) -> None:
    conn = psycopg2.connect(application_name="by hand", **parse_url(staging.database_url).conninfo())
    with contextlib.closing(conn), conn.cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(72707369), pg_backend_pid()")
        pid = cursor.fetchone()[1]
        found = module("rollback_info", database_url=staging.database_url, app_dir=staging.app_dir, backup_dir=staging.backup_dir)
    assert found["code"] == "MIGRATION_RUNNING" and found["running"]["pid"] == pid and "by hand is at work" in found["msg"], found


def test_the_second_run_of_a_confirmed_way_back_does_not_go_further_back(staging: Staging, module: ModuleRunner) -> None:
    """There is an older restore point behind the one that was gone back to."""
    options = dict(database_url=staging.database_url, backup_dir=staging.backup_dir)
    conn = psycopg2.connect(**parse_url(staging.database_url).conninfo())
    conn.autocommit = True
    with contextlib.closing(conn), conn.cursor() as cursor:
        cursor.execute("CREATE TABLE aside AS SELECT * FROM _prisma_migrations ORDER BY started_at DESC LIMIT 1")
        cursor.execute("DELETE FROM _prisma_migrations WHERE id IN (SELECT id FROM aside)")
        older = module("database_backup", **options)["restore_point"]
        cursor.execute("INSERT INTO _prisma_migrations SELECT * FROM aside")
    newer = module("database_backup", **options)["restore_point"]
    asked = module("rollback_info", app_dir=staging.app_dir, **options)
    assert asked["restore_point"]["id"] == older["id"] and "goes back behind it" in asked["why"], asked
    again = module("rollback_info", app_dir=staging.app_dir, confirm=newer["confirmation"], **options)
    assert (again["route"], again["confirmation"]) == ("hold", "") and newer["id"] in again["why"], again
