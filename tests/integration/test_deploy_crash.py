# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The engine direct and a server that crashes: what was told stays, what is lost is lost whole, and the next run says which.

Not each commit waits for the disk. The server of these tests writes nothing there that nobody waits for.
"""

from __future__ import annotations

import os
import pathlib
import signal
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.modules import ModuleRunner
from support.prisma import PrismaProject

from tools.pgserver import Cluster

LAZY = {"synchronous_commit": "on", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "wal_buffers": "64MB", "autovacuum": "off"}


@pytest.fixture(scope="module")
def lazy(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("lazy"), fast=True, settings=LAZY, temporary=True) as server:
        yield server


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> PrismaProject:
    project = PrismaProject(tmp_path / "project")
    project.migrations.mkdir(parents=True)
    project.lock('provider = "postgresql"\n')
    return project


def connect(server: Cluster, dbname: str = "postgres") -> t.Any:
    conn = psycopg2.connect(**server.connect_args(dbname))
    conn.autocommit = True
    return conn


def query(server: Cluster, dbname: str, text: str) -> t.Any:
    conn = connect(server, dbname)
    try:
        with conn.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else None
    finally:
        conn.close()


def make(server: Cluster, name: str) -> Target:
    query(server, "postgres", "CREATE DATABASE %s" % name)
    return Target(dbname=name, host="127.0.0.1", port=server.port, user="postgres", password=server.password)


def crash(server: Cluster) -> None:
    """One session of the server is killed, so that all of them end and its memory is gone; until it is back."""
    witness, victim = connect(server), connect(server)
    os.kill(victim.info.backend_pid, signal.SIGKILL)
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            if witness is not None:
                witness.cursor().execute("SELECT 1")
            else:
                connect(server).close()
                return
        except psycopg2.Error:
            witness = None
        time.sleep(0.05)
    raise AssertionError("the server did not come back")


def wait_for(server: Cluster, dbname: str, text: str) -> None:
    for _ in range(300):
        if query(server, dbname, text) == [(True,)]:
            return
        time.sleep(0.05)
    raise AssertionError("never so: %s" % text)


def test_what_was_returned_survives(lazy: Cluster, folder: PrismaProject, module: ModuleRunner) -> None:
    target = make(lazy, "returned")
    for number in range(5):
        folder.add("%d_step" % number, "CREATE TABLE t%d (id int);" % number)
    options = {"migrations_dir": str(folder.migrations), "engine": "direct"}
    assert module("migration_deploy", target, **options)["status"] == "up_to_date"
    crash(lazy)
    assert module("migration_info", target, migrations_dir=str(folder.migrations))["status"] == "up_to_date"
    # So does a failure: its log, and what was applied before it.
    folder.add("5_step", "CREATE TABLE t5 (id int);")
    folder.add("6_fails", "CREATE TABLE t5 (id int);")
    failed = module("migration_deploy", target, **options)
    crash(lazy)
    found = module("migration_info", target, migrations_dir=str(folder.migrations))
    assert failed["failed_migration"]["sqlstate"] == "42P07" and [row["name"] for row in failed["applied"]] == ["5_step"]
    assert [row["verdict"] for row in found["migrations"]] == ["applied"] * 6 + ["unfinished"] and "42P07" in found["migrations"][6]["logs"]
    assert query(lazy, "returned", "SELECT to_regclass('t5') IS NOT NULL") == [(True,)]


def test_a_crash_takes_the_last_ones_away_with_their_rows(lazy: Cluster, folder: PrismaProject, module: ModuleRunner) -> None:
    target = make(lazy, "halfway")
    options = {"migrations_dir": str(folder.migrations), "engine": "direct", "lock_timeout": "", "on_blocked": "wait"}
    folder.add("00_busy", "CREATE TABLE busy (id int);")
    module("migration_deploy", target, **options)
    for number in range(1, 21):
        folder.add("%02d_step" % number, "CREATE TABLE t%d (id int PRIMARY KEY, before int REFERENCES t%d ON DELETE SET NULL);" % (number, max(1, number - 1)))
    folder.add("21_waits", "ALTER TABLE busy ADD COLUMN more int;")
    holder = connect(lazy, "halfway")
    holder.cursor().execute("BEGIN; SELECT FROM busy")
    running = module.start("migration_deploy", target, **options)
    wait_for(lazy, "halfway", "SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted AND relation = 'busy'::regclass)")
    crash(lazy)
    failed = module.result(*running.communicate(timeout=120))
    found = module("migration_info", target, migrations_dir=str(folder.migrations))
    applied = [row["name"] for row in found["migrations"] if row["verdict"] == "applied"]
    # The failure told what is there, not what had been there for a moment.
    assert failed["failed"] and [row["name"] for row in failed["applied"]] == applied[1:], failed["msg"]
    assert applied == [row["name"] for row in found["migrations"]][: len(applied)]
    there = query(lazy, "halfway", "SELECT count(*) FROM pg_class WHERE relname ~ '^t[0-9]+$'")[0][0]
    rest = [row for row in found["migrations"] if row["verdict"] != "applied"]
    unsure = [row for row in rest if row["verdict"] == "unfinished"]
    assert there in (len(applied) - 1, len(applied) - 1 + len(unsure)), (there, found["status"])
    assert len(applied) < 21, "the server kept everything, so this test shows nothing"
    if not unsure:
        assert module("migration_deploy", target, **options)["status"] == "up_to_date"


def test_a_row_is_on_the_disk_before_a_script_that_may_reach_further(lazy: Cluster, folder: PrismaProject, module: ModuleRunner) -> None:
    target = make(lazy, "further")
    folder.add("1_sends", "COPY (SELECT 1) TO PROGRAM 'cat > /dev/null'; SELECT pg_sleep(60);")
    options = {"migrations_dir": str(folder.migrations), "engine": "direct"}
    running = module.start("migration_deploy", target, **options)
    wait_for(lazy, "further", "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'PgSleep')")
    crash(lazy)
    failed = module.result(*running.communicate(timeout=120))
    # Nothing runs it again unasked.
    assert failed["status"] == "blocked" and module("migration_deploy", target, **options)["code"] == "UNFINISHED_MIGRATION"
