# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""When the watchdog ends what, and what it takes to try again."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import Migrator, Session, View, Wait
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog import (
    BLOCKER,
    MIGRATION,
    WAIT,
    Policy,
    backoff,
    judge,
    one_message,
    one_transaction,
    pause,
    proved_clean,
)

US = Migrator(1, query_start=90.0)


def reader(pid: int, start: float, blockers: tuple[int, ...] = (1,), kind: str = "relation", mode: str = "AccessShareLock") -> Wait:
    return Wait(pid, kind, mode, "public.a", start, blockers)


ALTER = Wait(1, "relation", "AccessExclusiveLock", "public.a", 94.0, (9,))
REPORT = Session(9, "report", "app", query_start=80.0)


def at(*waits: Wait, report: Session = REPORT, migrators: tuple[Migrator, ...] = (US,)) -> View:
    return View(100.0, migrators=migrators, waits=waits, sessions={9: report})


CASES: dict[str, tuple[View, str, list[tuple[str, int, bool]]]] = {
    "nobody waits": (at(ALTER), MIGRATION, []),
    "not long enough": (at(ALTER, reader(2, 96.0)), MIGRATION, []),
    "the queue behind a waiting ALTER": (at(ALTER, reader(2, 95.0)), MIGRATION, [("migration", 1, True)]),
    "behind one that works": (at(reader(2, 95.0)), MIGRATION, [("migration", 1, False)]),
    "a writer at a row": (at(reader(2, 95.0, kind="transactionid", mode="ShareLock")), MIGRATION, [("migration", 1, False)]),
    "another DDL is not the application": (at(reader(2, 95.0, mode="ShareUpdateExclusiveLock")), MIGRATION, []),
    "an application's own advisory lock": (at(reader(2, 95.0, kind="advisory", mode="ExclusiveLock")), MIGRATION, []),
    "who waits for others": (at(ALTER, reader(2, 90.0, (9,))), MIGRATION, []),
    "a maintenance window": (at(ALTER, reader(2, 10.0)), WAIT, []),
    "never one that is only known by Prisma's lock": (at(reader(2, 90.0), migrators=(Migrator(1, False),)), MIGRATION, []),
    "the blocker, and earlier": (at(ALTER, reader(2, 96.2)), BLOCKER, [("pid 9 (report)", 9, True)]),
    "an idle blocker, earlier": (at(ALTER, reader(2, 96.2), report=dataclasses.replace(REPORT, state="idle in transaction")), BLOCKER, []),
    "an idle blocker": (at(ALTER, reader(2, 95.0), report=dataclasses.replace(REPORT, state="idle in transaction")), BLOCKER, [("migration", 1, True)]),
    "autovacuum": (at(ALTER, reader(2, 95.0), report=dataclasses.replace(REPORT, backend_type="autovacuum worker")), BLOCKER, [("migration", 1, True)]),
    "a session that is not shown": (
        at(ALTER, reader(2, 95.0), report=dataclasses.replace(REPORT, backend_type=None, state=None)),
        BLOCKER,
        [("migration", 1, True)],
    ),
    "another migration by its lock": (at(ALTER, reader(2, 95.0), report=dataclasses.replace(REPORT, migrates=True)), BLOCKER, [("migration", 1, True)]),
    "another migration by its name": (
        at(ALTER, reader(2, 95.0), report=dataclasses.replace(REPORT, application="pgops-deploy x")),
        BLOCKER,
        [("migration", 1, True)],
    ),
    "no blocker: it works": (at(reader(2, 95.0)), BLOCKER, [("migration", 1, False)]),
}


@pytest.mark.parametrize(("view", "on_blocked", "ended"), CASES.values(), ids=list(CASES))
def test_what_is_ended(view: View, on_blocked: str, ended: list[tuple[str, int, bool]]) -> None:
    found = judge(view, Policy(on_blocked, 5.0))
    assert [(action.what, action.pid, action.waited) for action in found] == ended
    assert all("blocked 1 session for" in action.reason for action in found)


def test_a_blocker_that_stays_costs_the_migration() -> None:
    view = at(ALTER, reader(2, 95.0))
    assert [action.what for action in judge(view, Policy(BLOCKER, 5.0), {(1, 94.0)})] == ["migration"]


@pytest.mark.parametrize(
    ("view", "policy", "interval", "seconds"),
    [
        (at(), Policy(MIGRATION, 5.0), 0.25, 0.25),
        (at(), Policy(MIGRATION, 5.0), 2.0, 1.25),
        (at(), Policy(WAIT, 5.0), 2.0, 2.0),
        (at(reader(2, 98.0)), Policy(MIGRATION, 5.0), 2.0, 0.25),
        (at(reader(2, 95.35)), Policy(MIGRATION, 5.0), 2.0, 0.1),
        (at(reader(2, 90.0)), Policy(MIGRATION, 5.0), 2.0, 0.1),
    ],
)
def test_the_next_look_is_in_time(view: View, policy: Policy, interval: float, seconds: float) -> None:
    assert pause(view, policy, interval) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("script", "whole"),
    [
        ("ALTER TABLE a ADD b int;", True),
        ("ALTER TABLE a ADD b int; UPDATE a SET b = CASE WHEN true THEN 1 END; -- COMMIT;\n", True),
        ("CREATE FUNCTION f() RETURNS text LANGUAGE sql AS 'SELECT ''COMMIT''';", True),
        ("DO $$ BEGIN PERFORM 1; END $$;", True),
        ("DO $$ BEGIN COMMIT; END $$;", False),
        ("do language plpgsql $$ begin rollback; end $$", False),
        ("BEGIN; ALTER TABLE a ADD b int; COMMIT;", False),
        ("ALTER TABLE a ADD b int; COMMIT; ALTER TABLE a ADD c int", False),
        ("START TRANSACTION; SELECT 1; END;", False),
        ("CALL p();", False),
        ("PREPARE TRANSACTION 'x';", False),
        ("CREATE INDEX CONCURRENTLY i ON a (b);", False),
        ("VACUUM a;", False),
        ("", False),
        ("-- nothing", False),
    ],
)
def test_a_script_of_one_transaction(script: str, whole: bool) -> None:
    assert one_transaction(script) is whole


TWO = "-- first\nALTER TABLE a ADD b int;\nALTER TABLE a ADD c int;\n"


@pytest.mark.parametrize(
    ("script", "seen", "found"),
    [
        ("SELECT 1;", None, True),
        (TWO, TWO, True),
        ("\n\n" + TWO, TWO.strip(), True),
        (TWO, TWO[:40], True),
        (TWO, TWO[:34], False),
        (TWO, "ALTER TABLE a ADD b int", False),
        (TWO, "ALTER TABLE a ADD c int;", False),
        (TWO, "UPDATE _prisma_migrations SET logs = ''", False),
        (TWO, "", False),
        (TWO, None, False),
    ],
)
def test_one_message(script: str, seen: str | None, found: bool) -> None:
    assert one_message(script, seen) is found


PROVED: dict[str, t.Any] = {"state": "unknown", "error_recorded": True, "doubt": "", "named": [], "invalid_indexes": []}
ONE = "ALTER TABLE a ADD b int;"


@pytest.mark.parametrize(
    ("evidence", "sqlstate", "script", "whole", "proved"),
    [
        ({"state": "failed_clean", "reason": "no transaction"}, "57014", None, False, True),
        (PROVED, "57014", ONE, True, True),
        (PROVED, "55P03", ONE, True, True),
        (PROVED, "22012", ONE, True, False),
        (PROVED, "57014", ONE, False, False),
        (PROVED, "57014", None, True, False),
        (PROVED, "57014", "CALL p();", True, False),
        (dict(PROVED, doubt="setval"), "57014", ONE, True, False),
        (dict(PROVED, error_recorded=False), "57014", ONE, True, False),
        (dict(PROVED, named=["half"]), "57014", ONE, True, False),
        (dict(PROVED, invalid_indexes=["i"]), "57014", ONE, True, False),
        (dict(PROVED, state="failed_partial"), "57014", ONE, True, False),
        (dict(PROVED, state="running"), "57014", ONE, True, False),
        (dict(PROVED, state="committed_unrecorded"), "57014", ONE, True, False),
        ({}, "57014", ONE, True, False),
    ],
)
def test_proof_that_nothing_is_left(evidence: dict[str, t.Any], sqlstate: str, script: str | None, whole: bool, proved: bool) -> None:
    assert bool(proved_clean(evidence, sqlstate, script, whole)) is proved


def test_pauses_grow_and_differ() -> None:
    for chance, factor in ((0.0, 2 / 3), (0.5, 1.0), (1.0, 4 / 3)):
        assert [backoff(n, lambda chance=chance: chance) for n in (1, 2, 3, 4, 5, 9)] == pytest.approx([factor * s for s in (0.5, 1, 2, 4, 8, 15)])  # type: ignore[misc]
