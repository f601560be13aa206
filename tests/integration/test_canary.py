# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A canary against real migrations: it sees what users would feel, and leaves no trace."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._canary import Canary
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take

TABLES = """
CREATE TABLE plain (id serial PRIMARY KEY, name text, doubled integer GENERATED ALWAYS AS (id * 2) STORED);
INSERT INTO plain (name) VALUES ('a'), ('b');
CREATE TABLE empty (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text);
CREATE TABLE no_key (name text); INSERT INTO no_key VALUES ('x');
CREATE TABLE "we""ird; drop%s" ("k ey" uuid PRIMARY KEY, "va%lue" integer); INSERT INTO "we""ird; drop%s" VALUES (gen_random_uuid(), 1);
CREATE TABLE parted (id integer, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO parted VALUES (1, '2024-05-05');
CREATE TABLE watched (id integer PRIMARY KEY, seen integer DEFAULT 0); INSERT INTO watched VALUES (1);
CREATE SEQUENCE fired;
CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM nextval('fired'); RETURN NEW; END $$;
CREATE TRIGGER fire BEFORE UPDATE ON watched FOR EACH ROW EXECUTE FUNCTION fire();
CREATE TABLE hidden (id integer PRIMARY KEY, name text); INSERT INTO hidden VALUES (1, 'x');
ALTER TABLE hidden ENABLE ROW LEVEL SECURITY;
CREATE TABLE only_keys (a integer, b integer, PRIMARY KEY (a, b)); INSERT INTO only_keys VALUES (1, 2);
"""


def test_a_canary_sees_the_stall_and_the_lost_column_and_leaves_no_trace(database: t.Callable[..., t.Any]) -> None:
    target = database()
    with connection(target) as conn:
        execute(conn, TABLES)
        before = take(conn, level="full")
        canary = Canary(target, "run-1")
        with canary:
            _until(lambda: {probe.table for probe in canary.probes} >= {"public.plain", "public.watched"})
            # A migration with a stall of a known length, that must not fail for the canary's sake.
            execute(conn, "SET lock_timeout = '2s'")
            began = time.monotonic()
            execute(conn, "BEGIN")
            execute(conn, "ALTER TABLE plain ADD COLUMN more integer")
            execute(conn, "CREATE TABLE later (id integer PRIMARY KEY)")
            time.sleep(0.8)
            held = time.monotonic()
            execute(conn, "COMMIT")
            _until(lambda: any(probe.table == "public.plain" and probe.seconds > 0.3 for probe in canary.probes))
            assert held - began < 2
            # Rows that the migration writes, then a lock on their table while the writer waits for one of them.
            execute(conn, "BEGIN; UPDATE no_key SET name = 'x'; UPDATE only_keys SET b = 2")
            time.sleep(0.3)
            execute(conn, "ALTER TABLE only_keys ADD COLUMN c integer; ROLLBACK")
            execute(conn, "ALTER TABLE plain DROP COLUMN more")
            assert take(conn, level="full")["tables"].keys() - before["tables"].keys() == {"public.later"}
            execute(conn, 'DROP TABLE later; ALTER TABLE watched RENAME COLUMN seen TO viewed; DROP TABLE "we""ird; drop%s"')
            _until(lambda: {probe.state for probe in canary.probes} >= {"42703", "42P01"})
        found = canary.result()
        tables = {entry["table"]: entry for entry in found["tables"]}
        assert {name.partition(".")[2] for name in tables} == {"plain", "empty", "no_key", 'we"ird; drop%s', "parted", "watched", "hidden", "only_keys"}
        stall = tables["public.plain"]
        assert 0.5 < stall["longest_stall"] < (time.monotonic() - began)
        assert stall["errors"] == {}
        assert stall["reader"]["longest"] > 0.5 or stall["writer"]["longest"] > 0.5
        assert {(entry["table"], entry["sqlstate"]) for entry in found["broken"]} == {("public.watched", "42703"), ('public.we"ird; drop%s', "42P01")}
        assert (found["skipped"], found["problem"]) == ([], "")
        # No trigger ran, no number was taken, no value changed.
        assert row(conn, "SELECT is_called FROM fired") == (False,)
        after = take(conn, level="full")
        for name in ("public.plain", "public.empty", "public.no_key", "public.parted_1", "public.only_keys"):
            assert after["tables"][name]["rows"] == before["tables"][name]["rows"], name
        assert row(conn, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgops-canary%'") == (0,)


def test_what_a_deploy_breaks_that_is_shorter_than_a_round_is_seen(database: t.Callable[..., t.Any]) -> None:
    target = database()
    with connection(target) as conn:
        execute(conn, "CREATE TABLE one (id integer PRIMARY KEY, name text); INSERT INTO one VALUES (1, 'x'); CREATE TABLE two (id integer PRIMARY KEY)")
        # Nobody is asked a second time before the end.
        with Canary(target, pause=600) as canary:
            _until(lambda: len(canary.probes) >= 2)
            execute(conn, "ALTER TABLE one DROP COLUMN name; DROP TABLE two")
        broken = {each["table"] for each in canary.result()["broken"]}
    assert broken == {"public.one", "public.two"}


def test_a_canary_that_cannot_connect_says_so(database: t.Callable[..., t.Any]) -> None:
    target = database()
    with connection(target) as conn:
        execute(conn, "CREATE TABLE one (id integer PRIMARY KEY)")
        with Canary(target, tables=["public.other"]) as other:
            pass
        assert other.result()["probes"] == 0
    with Canary(dataclasses.replace(target, dbname=target.dbname + "_gone")) as canary:
        pass
    found = canary.result()
    assert found["probes"] == 0
    assert "does not exist" in found["problem"]


def _until(true: t.Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "did not happen in time"
        time.sleep(0.01)
