# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the schema tells of an unfinished migration: tables of scripts, and every point of generated ones."""

from __future__ import annotations

import dataclasses
import itertools
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _effects
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._recovery import combine, decide
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_dates import Window, dated, window
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_reach import Function, analyzes, lasting
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_rows import tables_of
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_scripts import after_loses, before_loses, remaining
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_types import Attempt, Finding, Replay
from ansible_collections.pgops.migrations.plugins.module_utils._resolve import plan_rows
from support.ledgers import rows

CLEAN, PARTIAL, UNRECORDED, UNKNOWN = "failed_clean", "failed_partial", "committed_unrecorded", "unknown"
#: The shorthand of the tables: a statement, and the object that it makes (+), drops (-) or leaves alone.
STATEMENTS = {
    "a": ("CREATE TABLE a ()", {"table public.a": "table"}),
    "b": ("CREATE TABLE b ()", {"table public.b": "table"}),
    "c": ("ALTER TABLE u ADD COLUMN c int", {"column public.u.c": "integer"}),
    "-a": ("DROP TABLE a", {"table public.a": None}),
    "i": ("CREATE INDEX CONCURRENTLY i ON u (c)", {"index public.i on public.u": "btree"}),
    "u": ("UPDATE u SET c = 1", {}),
    "v": ("DELETE FROM u", {}),
    "do": ("DO $$ BEGIN PERFORM 1; END $$", {}),
    "do+b": ("DO $$ BEGIN EXECUTE 'CREATE TABLE b ()'; END $$", {"table public.b": "table"}),
    "seq": ("SELECT setval('s', 1)", {}),
    "set": ("SET search_path = x", {}),
    "0": ("SELECT 1/0", {}),
    "a?": ("CREATE TABLE IF NOT EXISTS a ()", {"table public.a": "table"}),
    "old?": ("CREATE TABLE IF NOT EXISTS old ()", {}),
    "same": ("ALTER TABLE u ALTER COLUMN id TYPE int USING id + 1", {}),
    "grant": ("GRANT SELECT ON u TO app", {"grants table public.u": "app=r"}),
    "(": ("BEGIN", {}),
    ")": ("COMMIT", {}),
}
BEFORE = {"table public.u": "table", "column public.u.id": "integer", "table public.old": "table"}


def replay_of(words: str, fails_at: int | None = None, error: tuple[str, str] = ("42703", "no")) -> Replay:
    """``fails_at``: the step (from 1) that does not work in the scratch database."""
    steps = _effects.steps_of(";\n".join(STATEMENTS[word][0] for word in words.split()))
    effects = iter([STATEMENTS[word][1] for word in words.split()])
    changes: list[dict[str, str | None]] = []
    now: dict[str, str | None] = {}
    for step in steps:
        for _statement in step.statements:
            now = {**now, **next(effects)}
        changes.append({key: value for key, value in now.items() if value != BEFORE.get(key)})
    if fails_at:
        return Replay(steps, BEFORE, tuple(changes[: fails_at - 1]), error)
    return Replay(steps, BEFORE, tuple(changes))


def live_of(words: str, **more: str) -> dict[str, str]:
    """The live schema after these statements."""
    found: dict[str, str | None] = {**BEFORE}
    for word in words.split():
        found.update(STATEMENTS[word][1])
    return {key: value for key, value in {**found, **more}.items() if value is not None}


def dates_of(script: str, live: str, date: str = "since") -> dict[str, str]:
    """What of the script is live was made by it, unless told otherwise."""
    found = live_of(live)
    return {key: date for key in replay_of(script).changes[-1] if key in found and found[key] != BEFORE.get(key)}


def attempt_of(script: str, live: str, logs: str | None = None, **more: t.Any) -> Attempt:
    # Where the schema is as after the script, its INSERTs and UPDATEs left rows of its transaction.
    steps = replay_of(script).steps
    wrote = frozenset(number for number, step in enumerate(steps, 1) if tables_of(step)) if script.split() == live.split() or "u" in script else frozenset()
    return Attempt(logs, dates=more.pop("dates", dates_of(script, live)), wrote=wrote, **more)


REFUSED = "Database error code: 23505\n\nDatabase error:\nERROR: duplicate key"
#: script, what of it is live, recorded error, state.
CASES: list[tuple[str, str, str | None, str]] = [
    # killed client: no error recorded
    ("a b", "", None, CLEAN), ("a b", "a", None, PARTIAL), ("a b", "a b", None, UNRECORDED), ("a", "a", None, UNRECORDED), ("a", "", None, CLEAN),
    # data and schema in both orders
    ("a u", "", None, CLEAN), ("a u", "a", None, UNKNOWN), ("u a", "", None, UNKNOWN), ("u a", "a", None, UNRECORDED), ("u", "", None, UNKNOWN),
    ("a u b", "a", None, PARTIAL), ("a u b", "a b", None, UNRECORDED), ("u a v b", "a", None, PARTIAL), ("u a v", "a", None, UNKNOWN),
    # the same with the server's refusal recorded: the end is ruled out
    ("a u", "a", REFUSED, PARTIAL), ("a u", "", REFUSED, CLEAN), ("u", "", REFUSED, CLEAN), ("u a", "", REFUSED, UNKNOWN), ("u v", "", REFUSED, UNKNOWN),
    ("a b", "a b", REFUSED, UNKNOWN), ("a 0", "a", REFUSED, PARTIAL), ("0", "", REFUSED, CLEAN), ("( a ) 0", "a", REFUSED, PARTIAL),
    # a connection that broke says nothing of the script
    ("u", "", "Connection terminated unexpectedly", UNKNOWN), ("a u", "a", "ERROR: terminating connection due to administrator command", UNKNOWN),
    # an error in words that are not known
    ("a 0", "a", "FEHLER: irgendwas", UNKNOWN), ("a b", "a b", "FEHLER: irgendwas", UNRECORDED), ("a", "", "FEHLER: irgendwas", CLEAN),
    # a sequence that was set stays set
    ("a seq b", "", None, UNKNOWN), ("a seq b", "a", None, PARTIAL), ("a seq b", "a b", None, UNKNOWN), ("seq", "", REFUSED, UNKNOWN),
    # what leaves nothing
    ("set a", "", None, CLEAN), ("a set", "a", None, UNRECORDED), ("0", "", None, CLEAN), ("set u set", "", None, UNKNOWN),
    # transactions of the script's own
    ("( a u )", "", None, CLEAN), ("( a u )", "a", None, UNRECORDED), ("( a u ) b", "a", None, PARTIAL), ("( u ) a", "", None, UNKNOWN),
    # code may do anything, leaves no row that is known to be its own, and what shows may be made by hand; or nothing on other data
    ("do a", "", None, UNKNOWN), ("do a", "a", None, UNKNOWN), ("a do", "a", None, UNKNOWN), ("a do b", "a", None, PARTIAL),
    ("do+b", "", None, UNKNOWN), ("do+b", "b", None, UNKNOWN), ("c do+b", "c", None, UNKNOWN), ("c do+b a", "c a", None, UNKNOWN),
    # helper tables that come and go
    ("a u -a", "", None, UNKNOWN), ("a u -a", "a", None, PARTIAL), ("a u -a", "", REFUSED, CLEAN),
    # statements that may find their work done
    ("a?", "a", None, UNRECORDED), ("old? a", "", None, CLEAN), ("a old?", "a", None, UNRECORDED),
    # rows changed by a statement whose type stays the same
    ("same", "", None, UNKNOWN), ("same a", "", None, UNKNOWN), ("a same", "a", None, UNKNOWN),
    # not the beginning of the script
    ("a b", "b", None, UNKNOWN),
    # rights count where the script gives them
    ("a grant", "a", None, PARTIAL), ("a grant", "a grant", None, UNRECORDED),
]  # fmt: skip


@pytest.mark.parametrize(("script", "live", "logs", "state"), CASES, ids=["%s | %s | %s" % (a, b or "nothing", "refused" if c else "") for a, b, c, _ in CASES])
def test_the_schema_tells(script: str, live: str, logs: str | None, state: str) -> None:
    found = decide(replay_of(script), live_of(live), attempt_of(script, live, logs))
    assert found.state == state, found


EXISTS = 'Database error code: 42P07\n\nDatabase error:\nERROR: relation "%s" already exists'
#: script, live, which of it is older than the migration, recorded error, state.
OLDER: list[tuple[str, str, str, str | None, str]] = [
    # Made by hand before: its step did not run, so nothing after it did.
    ("a u", "a", "a", None, CLEAN), ("a u", "a", "a", REFUSED, CLEAN), ("u a", "a", "a", None, UNKNOWN), ("( a u )", "a", "a", None, CLEAN), ("a", "a", "a", None, CLEAN),
    ("a b", "a", "a", None, CLEAN), ("a b", "a b", "a b", None, CLEAN), ("a b", "a b", "b", None, PARTIAL), ("a u b", "a b", "b", None, PARTIAL), ("a b", "a b", "a", None, UNKNOWN),
    ("same a", "a", "a", None, UNKNOWN), ("c u", "c", "c", None, CLEAN),
    # Code may catch the error of what is there, and go on; so may a condition.
    ("do+b", "b", "b", None, UNKNOWN), ("do+b u a", "b", "b", None, UNKNOWN), ("a? u", "a", "a", None, UNKNOWN),
    # The server says what was there; when it does not, nothing is known.
    ("a u", "a", "", EXISTS % "a", CLEAN), ("a b", "a b", "", EXISTS % "b", PARTIAL), ("u a", "a", "", EXISTS % "a", UNKNOWN), ("a u", "a", "", EXISTS % "z", UNKNOWN),
    ("a u", "a", "", "Database error code: 42P07", UNKNOWN),
    # Not known whether it was there: no witness for the data.
    ("u a", "a", "", None, UNKNOWN), ("( a u )", "a", "", None, UNKNOWN), ("a u b", "a b", "", None, UNKNOWN), ("same a", "a", "", None, UNKNOWN), ("a b", "a b", "", None, UNRECORDED),
    ("do a", "a", "", None, UNKNOWN), ("u -a", "", "", None, UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("script", "live", "older", "logs", "state"), OLDER)
def test_what_was_there_before_the_migration_began(script: str, live: str, older: str, logs: str | None, state: str) -> None:
    dates = {**(dates_of(script, live) if older else {}), **dates_of(older, older, "before")} if older else {}
    found = decide(replay_of(script), live_of(live), Attempt(logs, dates=dates))
    assert found.state == state, found


def test_two_objects_of_the_name_that_the_server_says_is_there() -> None:
    """The first was made by the migration, the second is in another schema and was there; the message names no schema."""
    keys = {"table public.a": "table"}, {"table public.a": "table", "table other.a": "table"}
    replay = Replay(_effects.steps_of("CREATE TABLE a (); CREATE TABLE other.a ()"), BEFORE, keys)
    assert decide(replay, {**BEFORE, **keys[1]}, Attempt(EXISTS % "a")).state == UNKNOWN


def test_what_was_made_after_the_migration_had_ended() -> None:
    assert decide(replay_of("a b 0"), live_of("a"), Attempt(REFUSED, dates={"table public.a": "later"})).state == UNKNOWN
    assert decide(replay_of("a b 0"), live_of("a"), Attempt(REFUSED)).state == PARTIAL


def test_one_later_witness_is_enough_but_none_may_contradict() -> None:
    replay, live = replay_of("u a b"), live_of("a b")
    assert decide(replay, live, Attempt(dates={"table public.b": "since"}, wrote=frozenset([1]))).state == UNRECORDED
    # Made by hand after the client had died: no row of that transaction.
    assert decide(replay, live, Attempt(dates={"table public.b": "since"})).state == UNKNOWN
    assert decide(replay, live, Attempt(dates={"table public.b": "since", "table public.a": "before"})).state == UNKNOWN


@pytest.mark.parametrize(
    ("rows", "when", "date"),
    [
        ([5], (7, 7), "before"), ([7], (7, 7), "before"), ([8], (7, 7), "since"), ([8, 5], (7, 7), None), ([], (7, 7), None),
        # An error is recorded: the row's transaction is that of the end, and the one before it bounds the start.
        ([5], (5, None, 9), "before"), ([6], (5, None, 9), None), ([10], (5, None, 9), "later"), ([10, 6], (5, None, 9), None),
    ],
)  # fmt: skip
def test_dates(rows: list[int], when: tuple[int, ...], date: str | None) -> None:
    assert dated(rows, Window(*when)) == date


def test_the_time_of_a_migration_by_the_ledger() -> None:
    xids = {"1": 4, "2": 9}
    assert window(xids, "2", False, {2}) == (4, 9, None) and window(xids, "2", True, {2}) == (4, None, 9) and window(xids, "1", True, {2}) == (0, None, 4)
    # Restored: one transaction wrote several rows, or wrote them before the ledger had its key.
    assert window({"1": 4, "2": 4}, "2", False, {2}) is None and window({"1": 4}, "1", False, {5}) is None


SETS = [Function("sets", "BEGIN PERFORM setval('s', 1); END"), Function("calls", "SELECT Sets()"), Function("idle", "SELECT 1")]


@pytest.mark.parametrize(
    ("script", "at_hand", "found"),
    [
        ("SELECT sets()", "", ("sets",)), ("SELECT calls()", "", ("sets",)), ("DO $$ BEGIN PERFORM calls(); END $$", "", ("sets",)), ("SELECT idle()", "", ()),
        ("UPDATE u SET c = calls()", "", ("sets",)), ("UPDATE u SET c = 1", "", ()), ("UPDATE u SET c = 1", "rows", ("sets", "trigger")), ("SET a = 1", "rows", ()),
        ('SELECT "SETS"()', "", ("sets",)),
        # Definitions fire no trigger of a table, and rows none of events.
        ("ALTER TABLE u ADD c int", "rows", ()), ("CREATE TABLE v AS SELECT 1", "rows", ()), ("CREATE INDEX i ON u (c)", "rows", ()), ("DROP TABLE u", "rows", ()),
        ("ALTER TABLE u ADD c int", "ddl", ("sets", "trigger")), ("UPDATE u SET c = 1", "ddl", ("sets", "trigger")),
        ("ALTER TABLE u ADD c int; DELETE FROM u", "rows", ("sets", "trigger")), ("WITH a AS (DELETE FROM u RETURNING 1) SELECT 1", "rows", ("sets", "trigger")),
        ("DO $$ BEGIN END $$", "rows", ("sets", "trigger")), ("COPY u FROM STDIN", "rows", ("sets", "trigger")), ("TRUNCATE u", "rows", ("sets", "trigger")),
        ("ALTER TABLE u ALTER c TYPE int USING calls()", "rows", ("sets",)), ("ALTER TABLE u ADD c int", "any", ("sets", "trigger")), ("SET a = 1", "any", ()),
    ],
)  # fmt: skip
def test_functions_whose_work_no_rollback_undoes(script: str, at_hand: str, found: tuple[str, ...]) -> None:
    functions = SETS + [Function("trigger", "PERFORM calls(); PERFORM dblink_exec('', '')", at_hand)]
    assert lasting(script, functions) == found


@pytest.mark.parametrize(
    ("script", "found"),
    [("ANALYZE u", True), ("SELECT fill()", True), ("DO $$ BEGIN EXECUTE 'VACUUM u'; END $$", True), ("SELECT idle()", False), ("UPDATE u SET c = 1", False)],
)
def test_scripts_that_write_statistics_as_autovacuum_does(script: str, found: bool) -> None:
    assert analyzes(script, [*SETS, Function("fill", "UPDATE u SET c = 1; ANALYZE u")]) == found


def test_a_column_that_somebody_took_back() -> None:
    gone = Attempt(dates={"column public.u.c": "taken_back"})
    assert decide(replay_of("c u"), live_of(""), gone).state == UNKNOWN
    assert decide(replay_of("c a"), live_of(""), gone).state == CLEAN


def test_what_somebody_took_back_after_the_commit() -> None:
    """Killed, so nobody saw the end: rows written since, or a step that leaves none, keep it from being clean."""
    assert decide(replay_of("a u"), live_of(""), Attempt(touched=("u",))).state == UNKNOWN
    assert decide(replay_of("a v"), live_of(""), Attempt()).state == UNKNOWN
    assert decide(replay_of("a u"), live_of(""), Attempt()).state == CLEAN
    assert decide(replay_of("a v"), live_of(""), Attempt(assertion=False)).state == CLEAN


@pytest.mark.parametrize(
    ("script", "lasts"),
    [
        ("SELECT U&\"\\0073etval\"('s', 9)", True), ("DO $$ BEGIN EXECUTE E'SELECT \\x73etval(1)'; END $$", True), ("DO $$ BEGIN EXECUTE 'set' || 'val'; END $$", True),
        ("CREATE TRIGGER t BEFORE UPDATE ON u FOR EACH ROW EXECUTE FUNCTION f()", False), ("GRANT EXECUTE ON FUNCTION f() TO app", False), ("UPDATE u SET c = E'a\\nb'", False),
    ],
)  # fmt: skip
def test_code_that_no_text_shows(script: str, lasts: bool) -> None:
    assert _effects.survives_a_rollback(script) == lasts


def test_what_the_scripts_lose() -> None:
    replay = replay_of("c u a -a v do")
    found = decide(replay, live_of("c a"), attempt_of("c a", "c a"))
    assert found.state == PARTIAL and found.points == (3,) and found.unwitnessed == (2,)
    assert before_loses(replay, found) == ("step 2 (UPDATE u SET c = 1) may have run, and what it did to rows is not undone",)
    for more in ({"wrote": frozenset([2])}, {"logs": REFUSED}):
        # Rows of the same transaction show it, and so does an error: whoever lived to record it had come so far.
        seen = decide(replay, live_of("c a"), dataclasses.replace(attempt_of("c a", "c a"), **t.cast("dict[str, t.Any]", more)))
        assert seen.unwitnessed == ()
        assert before_loses(replay, seen) == ("step 2 (UPDATE u SET c = 1) ran, and what it did to rows is not undone",)
    after = after_loses(replay, found)
    assert [text[:6] for text in after] == ["step 4", "step 5", "step 6"] and "takes away" in after[0] and "DELETE FROM u" in after[1]
    # What may have been there before takes its rows along.
    old = decide(replay, live_of("c a"), Attempt())
    assert [text for text in before_loses(replay, old) if "not proved" in text and "table public.a" in text]
    # It may have run, or not: there is no rest.
    replay = replay_of("c u v a")
    found = decide(replay, live_of("c"), attempt_of("c", "c"))
    assert found.points == (1, 2, 3) and remaining(replay, found) is None and "may have run" in before_loses(replay, found)[0]


@pytest.mark.parametrize(
    ("script", "at", "rest"),
    [
        ("SET search_path = x; CREATE TABLE a (); CREATE TABLE b ()", 2, ("SET search_path = x", "CREATE TABLE b ()")),
        ("SELECT set_config('a', 'b', false); CREATE TABLE a (); CREATE TABLE b ()", 2, ("SELECT set_config('a', 'b', false)", "CREATE TABLE b ()")),
        ("BEGIN; SET LOCAL a = 1; CREATE TABLE a (); COMMIT; CREATE TABLE b ()", 1, ("CREATE TABLE b ()",)),
        ("CREATE TABLE a (); BEGIN; SET LOCAL a = 1; CREATE TABLE b (); COMMIT", 1, ("SET LOCAL a = 1", "CREATE TABLE b ()")),
        # What one transaction of it sets would last through the one that the rest runs in.
        ("CREATE TABLE a (); BEGIN; SET LOCAL a = 1; CREATE TABLE b (); COMMIT; CREATE TABLE c ()", 1, None),
    ],
)
def test_the_rest_of_a_script(script: str, at: int, rest: t.Optional[tuple[str, ...]]) -> None:
    steps = _effects.steps_of(script)
    replay = Replay(steps, {}, ({},) * len(steps))
    assert remaining(replay, Finding(PARTIAL, "", len(steps), (at,))) == rest


def test_such_functions_leave_nothing_clean() -> None:
    assert decide(replay_of("a do"), live_of(""), Attempt(REFUSED)).state == CLEAN
    assert decide(replay_of("a do"), live_of(""), Attempt(REFUSED, lasting=("sets",))).state == UNKNOWN


@pytest.mark.parametrize(
    ("other", "touched"),
    [
        ("DROP TABLE a", True), ("DROP TABLE z", False), ("DROP TABLE z CASCADE", True), ("DROP SCHEMA public", True), ("DROP SCHEMA z", False), ("ALTER SCHEMA public RENAME TO z", True),
        ("ALTER TABLE z RENAME TO a", True), ("ALTER TABLE a RENAME TO z", True), ("DO $$ BEGIN EXECUTE format('DROP %s %I', 'TABLE', chr(97)); END $$", True),
        ("SELECT f()", True), ("CALL p()", True), ("DROP OWNED BY x", True), ("CREATE TABLE z (id int)", False), ("UPDATE z SET id = 1", False), ("TRUNCATE z CASCADE", True),
        ("DROP INDEX public.a", True),
    ],
)  # fmt: skip
def test_other_unfinished_migrations(other: str, touched: bool) -> None:
    assert decide(replay_of("a"), live_of("a"), Attempt(others={"z": other})).state == (UNKNOWN if touched else UNRECORDED)


def test_what_an_object_hangs_on_may_be_touched_by_another() -> None:
    key = "constraint public.u.fk"
    replay = Replay(_effects.steps_of("ALTER TABLE u ADD FOREIGN KEY (c) REFERENCES z"), BEFORE, ({key: "FOREIGN KEY (c) REFERENCES public.z(id)"},))
    live = {**BEFORE, key: "FOREIGN KEY (c) REFERENCES public.z(id)"}
    assert decide(replay, live, Attempt(others={"x": "DROP TABLE z"})).state == UNKNOWN
    assert decide(replay, live, Attempt(others={"x": "DROP TABLE y"})).state == UNRECORDED


#: script, step that fails in the scratch database, live, recorded error, state.
FAILS = [
    ("a b c", 2, "", None, CLEAN), ("a b c", 2, "a", None, UNKNOWN), ("a b", 2, "a", REFUSED, PARTIAL), ("a b c", 2, "a", REFUSED, PARTIAL),
    ("a b", 1, "", REFUSED, UNKNOWN), ("a", 1, "", REFUSED, CLEAN), ("a", 1, "", None, UNKNOWN),
    # the same words as in the scratch database: the same step
    ("a b c", 1, "", "Database error code: 42703\nERROR: no", CLEAN), ("a b c", 2, "a", "Database error code: 42703\nERROR: no", PARTIAL),
    # a later step may take back what shows
    ("a u -a", 2, "", None, UNKNOWN), ("a u -a", 2, "a", None, UNKNOWN),
]  # fmt: skip


@pytest.mark.parametrize(("script", "at", "live", "logs", "state"), FAILS)
def test_a_script_that_fails_in_the_scratch_database(script: str, at: int, live: str, logs: str | None, state: str) -> None:
    found = decide(replay_of(script, at), live_of(live), Attempt(logs))
    assert found.state == state, found


@pytest.mark.parametrize(
    ("script", "live", "done", "state"),
    [
        ("u", "", True, UNRECORDED), ("u", "", False, CLEAN), ("u v", "", True, UNRECORDED), ("u v", "", False, UNKNOWN), ("u a", "", True, PARTIAL),
        ("u a", "", False, CLEAN), ("a u", "a", True, UNRECORDED), ("a u", "a", False, PARTIAL), ("a", "a", False, UNRECORDED), ("u a", "a", False, UNKNOWN),
    ],
)  # fmt: skip
def test_the_operators_query_decides_the_data_part(script: str, live: str, done: bool, state: str) -> None:
    assert decide(replay_of(script), live_of(live), Attempt(assertion=done)).state == state
    assert decide(replay_of(script), live_of(live), attempt_of(script, live, assertion=done)).state == state


def test_surroundings() -> None:
    drift = {"table public.x": "table", "column public.u.extra": "text", "column order public.u": "id, extra"}
    found = decide(replay_of("a b"), live_of("a b", **drift), Attempt())
    assert found.state == UNRECORDED and set(found.drift) == set(drift) - {"column order public.u"}
    # Drift where the script looks before it acts: what it did there is not known.
    gone = {key: value for key, value in live_of("a").items() if key != "table public.old"}
    assert decide(replay_of("a old?"), gone, Attempt()).state == UNKNOWN
    # An earlier run may have left what is there; its data may be another's.
    assert decide(replay_of("a"), live_of("a"), Attempt(REFUSED, earlier=True)).state == UNRECORDED
    assert decide(replay_of("u a"), live_of("a"), Attempt(earlier=True)).state == UNKNOWN
    assert decide(replay_of("a"), live_of("a"), Attempt(EXISTS % "a", earlier=True, dates={"table public.a": "before"})).state == UNRECORDED
    # Another unfinished migration that names the same object, or that nobody can read.
    assert decide(replay_of("a"), live_of("a"), Attempt(others={"z": "DROP TABLE a"})).state == UNKNOWN
    assert decide(replay_of("a"), live_of("a"), Attempt(others={"z": "DROP TABLE other"})).state == UNRECORDED
    assert decide(replay_of("a"), live_of("a"), Attempt(others={"z": None})).state == UNKNOWN
    # Rights of the live server's own do not count where the script gives none.
    assert decide(replay_of("a"), live_of("a", **{"grants table public.a": "app=r", "owner table public.a": "other"}), Attempt()).state == UNRECORDED


def test_the_same_names_in_another_schema() -> None:
    """The engine's search path was another one than the replay's: nothing is clean then."""
    for key in ('table "Other".a', "table other.a"):
        assert decide(replay_of("a b"), live_of("", **{key: "table"}), Attempt()).state == UNKNOWN
    assert decide(replay_of("c i"), live_of("", **{"index o.i on o.u": "btree"}), Attempt()).state == UNKNOWN
    assert decide(replay_of("a b"), live_of("", **{"table other.z": "table"}), Attempt()).state == CLEAN


def test_an_invalid_index_is_a_part() -> None:
    found = decide(replay_of("c i"), live_of("c", **{"index public.i on public.u": "btree, INVALID"}), Attempt(invalid=frozenset(["public.i"])))
    assert (found.state, found.remnants, found.points) == (PARTIAL, ("index public.i on public.u",), (1,))
    assert remaining(replay_of("c i"), found) == ("CREATE INDEX CONCURRENTLY i ON u (c)",)
    # One that was invalid before is not this migration's.
    other = {"index public.z on public.u": "btree, INVALID"}
    assert decide(replay_of("c i"), live_of("", **other), Attempt(invalid=frozenset(["public.z"]))).state == CLEAN


@pytest.mark.parametrize("length", [1, 2, 3])
def test_never_a_false_clean_or_committed(length: int) -> None:
    """Every script of these statements, stopped at every point, by every engine: right or unknown."""
    kinds = ["a", "b", "c", "u", "do", "set", "old?", "same", "0"]
    told = 0
    for words in itertools.permutations(kinds, length):
        count = len(words)
        for point in range(count + 1):
            for logs in (None, REFUSED) if point < count else (None,):
                script, live = " ".join(words), " ".join(words[:point])
                found = decide(replay_of(script), live_of(live), attempt_of(script, live, logs))
                lasting = [number for number, word in enumerate(words, 1) if word not in ("set", "0", "old?")]
                allowed = {UNKNOWN}
                allowed |= {CLEAN} if not any(number <= point for number in lasting) else set()
                allowed |= {UNRECORDED} if logs is None and not any(number > point for number in lasting) else set()
                done = any(number <= point for number in lasting)
                allowed |= {PARTIAL} if done and (logs or any(number > point for number in lasting)) else set()
                assert found.state in allowed, (words, point, logs, found)
                assert point in found.points
                told += found.state != UNKNOWN
    assert told


@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("CREATE TABLE a (id int)", "schema"), ("create unlogged table a ()", "schema"), ("CREATE TABLE a AS SELECT 1", "data"), ("CREATE TEMP TABLE a ()", "data"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON a (b)", "schema"), ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "schema"),
        ("CREATE MATERIALIZED VIEW m AS SELECT 1", "data"), ("CREATE VIEW v AS SELECT 1", "schema"), ("ALTER TYPE mood ADD VALUE 'x'", "schema"),
        ("INSERT INTO a VALUES (1)", "data"), ("WITH x AS (DELETE FROM a RETURNING 1) SELECT 1", "data"), ("COPY a FROM STDIN", "data"), ("TRUNCATE a", "data"),
        ("SELECT 1", "none"), ("SELECT pg_sleep(1)", "none"), ("SELECT set_config('a', 'b', false)", "none"), ("SELECT f()", "dynamic"), ("SELECT * FROM a", "dynamic"),
        ("SELECT setval('s', 1)", "dynamic"), ("SELECT 1 INTO t", "dynamic"), ('SELECT "f"()', "dynamic"), ("SELECT pg_catalog.lo_unlink(1)", "dynamic"),
        ("DO $$ BEGIN END $$", "dynamic"), ("CALL p()", "dynamic"), ("EXECUTE x", "dynamic"), ("SET LOCAL a = 1", "none"), ("COMMENT ON TABLE a IS 'x'", "schema"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "schema"), ("REFRESH MATERIALIZED VIEW m", "data"), ("something new", "dynamic"),
    ],
)  # fmt: skip
def test_effect(statement: str, kind: str) -> None:
    assert _effects.effect(statement) == kind


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ("CREATE ROLE app", True), ("DO $$ BEGIN CREATE USER x; END $$", True), ("ALTER /* x */ DATABASE d SET a = 1", True), ("GRANT admin TO app", True),
        ("DROP OWNED BY app", True), ("COPY a TO PROGRAM 'x'", True), ("COPY a FROM '/tmp/x'", True), ("SELECT dblink_exec('', 'x')", True),
        ("GRANT CONNECT ON DATABASE d TO app", True), ("NOTIFY x", True), ("UPDATE _prisma_migrations SET logs = ''", True),
        ("GRANT SELECT ON a TO app", False), ('CREATE TABLE "user" (role text, "database" text); ALTER TABLE "user" ADD x int', False),
        ("COPY a FROM STDIN", False), ("-- grant admin to app\nSELECT 1", False), ("ALTER TABLE a OWNER TO app", False), ("DO $$ BEGIN EXECUTE 'GRANT admin TO app'; END $$", True),
    ],
)  # fmt: skip
def test_outside(script: str, found: bool) -> None:
    assert bool(_effects.outside(script)) == found, _effects.outside(script)


@pytest.mark.parametrize(
    ("script", "open_end", "hidden"),
    [
        ("BEGIN; SELECT 1", True, False), ("BEGIN; SELECT 1; COMMIT", False, False), ("COMMIT AND CHAIN", True, False), ("BEGIN; ROLLBACK", True, True),
        ("CALL p()", False, True), ("DO $$ BEGIN CALL p(); END $$", False, True), ("REINDEX TABLE CONCURRENTLY a", False, True), ("REINDEX TABLE a", False, False), ("SET LOCAL search_path = x", False, True), ("BEGIN; SET LOCAL a = 1; COMMIT", False, False),
        ("SELECT set_config('search_path', 'x', true)", False, True), ("SELECT pg_catalog.set_config('search_path', '', false)", False, False), ("DO $$ BEGIN COMMIT; END $$", False, True), ("ALTER TABLE p DETACH PARTITION q CONCURRENTLY", False, True),
    ],
)  # fmt: skip
def test_scripts_that_do_not_commit_in_order(script: str, open_end: bool, hidden: bool) -> None:
    assert _effects.leaves_open(script) == open_end
    assert bool(_effects.hides_its_end(script, script.split("; "))) == hidden


@pytest.mark.parametrize(
    ("by_ids", "schema", "state"),
    [
        (CLEAN, ("a b", ""), CLEAN), (CLEAN, ("a b", "a"), UNKNOWN), (UNKNOWN, ("a b", "a"), PARTIAL), (PARTIAL, ("a b", ""), UNKNOWN),
        (UNRECORDED, ("u", ""), UNRECORDED), (CLEAN, ("u", ""), CLEAN), (PARTIAL, ("u", ""), UNKNOWN), (PARTIAL, ("u v", ""), PARTIAL),
        (UNRECORDED, ("a b", ""), UNKNOWN), (CLEAN, ("a b", "b"), UNKNOWN), ("running", ("a", "a"), "running"), (UNKNOWN, ("u", ""), UNKNOWN),
    ],
)  # fmt: skip
def test_both_kinds_of_evidence_must_agree(by_ids: str, schema: tuple[str, str], state: str) -> None:
    finding = decide(replay_of(schema[0]), live_of(schema[1]), Attempt())
    assert combine((by_ids, "why"), finding)[0] == state
    assert combine((by_ids, "why"), None, "no replay")[0] == by_ids
    assert combine((by_ids, "why"), finding, edited=True)[0] == (by_ids if by_ids in ("running", UNRECORDED) else UNKNOWN)


@pytest.mark.parametrize(
    ("described", "wanted", "said"),
    [
        (["x failed"], "rolled_back", True), (["x unfinished"], "applied", True), (["x rolled"], "rolled_back", False), (["x rolled"], "applied", True),
        (["x done"], "applied", False), (["x done"], "rolled_back", "P3012"), (["x done+rolled"], "applied", "P3008"), (["x done", "x failed"], "applied", "P3008"),
        (["x done", "x failed"], "rolled_back", True), (["x done", "x rolled"], "rolled_back", False), ([], "rolled_back", "P3011"), ([], "applied", True),
        (["x marked"], "applied", False), (["x failed", "x unfinished"], "rolled_back", True),
    ],
)  # fmt: skip
def test_what_the_cli_would_write_or_refuse(described: list[str], wanted: str, said: t.Any) -> None:
    """Each line was seen with the real CLI; see test_resolve.py for the rows that it writes."""
    file = MigrationFile("x", "SELECT 1")
    if isinstance(said, str):
        with pytest.raises(MigrationError) as caught:
            plan_rows("x", wanted, rows(*described), file)
        assert caught.value.facts["prisma_code"] == said
    else:
        assert plan_rows("x", wanted, rows(*described), file) is said
