# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._plan import Failure, applied_between, assess, failure_of_cli, hold_warnings, parse_logs, plan
from support.ledgers import folder, report

ABC = folder("a", "b", "c")


@pytest.mark.parametrize(
    ("described", "options", "names"),
    [
        ((), {}, ["a", "b", "c"]),
        (("a done",), {}, ["b", "c"]),
        (("a done", "b rolled"), {}, ["b", "c"]),
        (("a done", "b done", "c done"), {}, []),
        (("a done",), {"up_to": "b"}, ["b"]),
        (("a done", "b done"), {"up_to": "a"}, []),
        (("a done",), {"expected": ["b", "c"]}, ["b", "c"]),
        (("a done",), {"expected": ["b"], "up_to": "b"}, ["b"]),
        (("a done", "b done", "c done"), {"expected": []}, []),
        (("b done",), {"allow": ["a"]}, ["a", "c"]),
        (("a done edited",), {"allow": ["a"]}, ["b", "c"]),
        (("0 done", "a done"), {"allow": ["0"]}, ["b", "c"]),
        (("a done",), {"hold": ["b"]}, ["c"]),
        (("a done",), {"hold": ["c"]}, ["b"]),
        (("a done",), {"hold": ["b", "c"]}, []),
        (("a done",), {"hold": ["a"]}, ["b", "c"]),
        (("a done", "c done"), {"hold": ["b"]}, []),
        (("a done",), {"hold": ["b"], "up_to": "b"}, []),
    ],
)
def test_what_is_planned(described: tuple[str, ...], options: dict[str, t.Any], names: list[str]) -> None:
    assert plan(report(ABC, *described), **options) == names


@pytest.mark.parametrize(
    ("described", "facts", "options", "code"),
    [
        (("a failed",), {}, {}, "UNFINISHED_MIGRATION"),
        (("z failed",), {}, {}, "UNFINISHED_MIGRATION"),
        (("a failed",), {}, {"allow": ["a"]}, "UNFINISHED_MIGRATION"),
        (("a unfinished",), {"lock_holders": ({"pid": 7},)}, {}, "MIGRATION_RUNNING"),
        ((), {"database_exists": False, "schema_exists": False, "ledger_exists": False}, {}, "DATABASE_MISSING"),
        ((), {"ledger_exists": False, "tables": 2}, {}, "UNMANAGED_DATABASE"),
        (("a done edited",), {}, {}, "HISTORY_DIVERGED"),
        (("a done edited",), {}, {"allow": ["b"]}, "HISTORY_DIVERGED"),
        (("0 done", "a done"), {}, {}, "HISTORY_DIVERGED"),
        (("b done",), {}, {}, "HISTORY_DIVERGED"),
        (("a done",), {}, {"up_to": "z"}, "UNKNOWN_MIGRATION"),
        (("a done",), {}, {"hold": ["z"]}, "UNKNOWN_MIGRATION"),
        (("a done edited",), {}, {"hold": ["a"]}, "HISTORY_DIVERGED"),
        (("b done",), {}, {"hold": ["c"]}, "HISTORY_DIVERGED"),
        (("0 done", "a done"), {}, {"up_to": "0", "allow": ["0"]}, "UNKNOWN_MIGRATION"),
        (("a done",), {}, {"expected": ["b"]}, "LEDGER_MOVED"),
        (("a done",), {}, {"expected": ["c", "b"]}, "LEDGER_MOVED"),
        (("a done", "b done", "c done"), {}, {"expected": ["c"]}, "LEDGER_MOVED"),
    ],
)
def test_why_a_database_is_not_deployed_to(described: tuple[str, ...], facts: dict[str, t.Any], options: dict[str, t.Any], code: str) -> None:
    with pytest.raises(MigrationError) as caught:
        plan(report(ABC, *described, **facts), **options)
    assert caught.value.code == code


def test_a_lock_file_of_another_provider_is_refused() -> None:
    with pytest.raises(MigrationError) as caught:
        plan(report(folder("a", lock='provider = "mysql"\n')))
    assert caught.value.code == "PROVIDER_MISMATCH"
    assert caught.value.facts["prisma_code"] == "P3019"


@pytest.mark.parametrize(("up_to", "names"), [("a", ["a"]), (None, None), ("b", None), ("c", None)])
def test_a_missing_script_stops_only_a_plan_that_reaches_it(up_to: str | None, names: list[str] | None) -> None:
    found = report(folder("a", "b", "c", without_script=["b"]))
    if names is not None:
        assert plan(found, up_to=up_to) == names
    else:
        with pytest.raises(MigrationError) as caught:
            plan(found, up_to=up_to)
        assert caught.value.code == "MIGRATION_FILE_MISSING"


def test_every_divergence_is_named_at_once() -> None:
    with pytest.raises(MigrationError) as caught:
        plan(report(folder("a", "b", "c"), "0 done", "a done edited", "c done"), allow=[])
    assert caught.value.facts["diverged"] == {"edited": ["a"], "missing_locally": ["0"], "out_of_order": ["b"]}


BEFORE = report(ABC, "a done")
STATE = {"status": "any", "evidence": {"b": {"reason": "because"}}}


def after(*described: str, **more: t.Any) -> t.Any:
    return report(ABC, "a done", *described, **more)


def test_what_the_ledger_gained_is_what_was_applied() -> None:
    assert applied_between(BEFORE, after("c done", "b done")) == ["b", "c"]
    assert applied_between(report(ABC, "a rolled"), report(ABC, "a rolled", "a done")) == ["a"]
    assert applied_between(BEFORE, BEFORE) == []


@pytest.mark.parametrize("failure", [None, Failure(message="the CLI complains", code="DEPLOY_TIMEOUT"), Failure(message="it complains")])
def test_a_ledger_that_holds_what_was_planned_is_believed_more_than_the_engine(failure: Failure | None) -> None:
    assert assess(BEFORE, after("b done", "c done"), ["b", "c"], failure, STATE) == ["b", "c"]


@pytest.mark.parametrize(
    ("later", "failure", "code", "changed"),
    [
        (after(), None, "DEPLOY_INCOMPLETE", False),  # exit status 0 and nothing done
        (after("b done"), None, "DEPLOY_INCOMPLETE", True),
        (after("b done", "c done", "d done"), None, "DEPLOY_INCOMPLETE", True),
        (after(), Failure(message="x"), "DEPLOY_COMMAND_FAILED", False),
        (after("b done"), Failure(message="x", code="DEPLOY_TIMEOUT"), "DEPLOY_TIMEOUT", True),
        (after("b failed", substates={"b": "failed_clean"}), None, "MIGRATION_FAILED_CLEAN", True),
        (after("b failed", substates={"b": "failed_partial"}), Failure(message="x"), "MIGRATION_FAILED_PARTIAL", True),
        (after("b failed"), Failure(message="x", code="DEPLOY_TIMEOUT"), "MIGRATION_FAILED", True),
        (after("b unfinished", substates={"b": "committed_unrecorded"}), None, "MIGRATION_FAILED", True),
    ],
)
def test_anything_else_is_a_failure_with_the_state_after_it(later: t.Any, failure: Failure | None, code: str, changed: bool) -> None:
    with pytest.raises(MigrationError) as caught:
        assess(BEFORE, later, ["b", "c"], failure, STATE)
    assert caught.value.code == code
    assert caught.value.facts["changed"] is changed
    assert caught.value.facts["planned"] == ["b", "c"]
    assert caught.value.facts["status"] == "any"


def test_the_engines_own_words_about_the_failed_migration_win_over_the_ledgers() -> None:
    said = Failure("b", "23502", "column is null")
    with pytest.raises(MigrationError) as caught:
        assess(BEFORE, after("b failed"), ["b", "c"], said, STATE)
    assert caught.value.facts["failed_migration"] == {
        "name": "b", "state": "unknown", "sqlstate": "23502", "error": "column is null"
    }  # fmt: skip
    assert "b failed (SQLSTATE 23502): column is null. State after it: unknown (because)" in caught.value.msg
    with pytest.raises(MigrationError) as caught:
        assess(BEFORE, after("b failed"), ["b", "c"], Failure("c", "23502", "column is null"), STATE)
    assert caught.value.facts["failed_migration"]["error"] == 'relation "a" already exists'


def test_logs_are_read_without_the_rows_that_they_quote() -> None:
    found = parse_logs('ERROR: duplicate key value violates unique constraint "u"\nDETAIL: Key (email)=(anna@example.org) already exists.\n')
    assert (found.sqlstate, found.message) == ("23505", 'duplicate key value violates unique constraint "u"')
    assert parse_logs(None) == Failure(None, None, "")


@pytest.mark.parametrize(
    ("returncode", "output", "timed_out", "code", "words"),
    [
        (0, "All migrations have been successfully applied.", False, None, None),
        (0, "Error: P3009", False, None, None),  # the ledger decides
        (1, "Prisma schema loaded\nError: P1001\n\nCan't reach database server", False, "SERVER_UNREACHABLE", "exit status 1: Error: P1001 Can't reach"),
        (1, "Error: P1002\nTimed out trying to acquire a postgres advisory lock", False, "LOCKED", "advisory lock"),
        (1, "Error: P1002\nThe database server was reached but timed out.", False, "SERVER_UNREACHABLE", "timed out"),
        (1, "Linting fix-P1000-login.ts", False, None, "Linting"),
        (1, "P1000-login.ts is bad\nError: P1010: denied", False, "PERMISSION_DENIED", "denied"),
        (1, "P3009\n\nmigrate found failed migrations", False, "UNFINISHED_MIGRATION", "P3009"),
        (1, "something P9999 else", False, None, "something P9999 else"),
        (127, "", False, None, "exit status 127: no output"),
        (-15, "Applying migration", True, "DEPLOY_TIMEOUT", "ended after 7 seconds; its last words: Applying migration"),
        (0, "", True, "DEPLOY_TIMEOUT", "its last words: none"),
    ],
)
def test_what_the_end_of_a_cli_means(returncode: int, output: str, timed_out: bool, code: str | None, words: str | None) -> None:
    found = failure_of_cli(returncode, output, timed_out, 7)
    if words is None:
        assert found is None
    else:
        assert found is not None
        assert (found.code, words in found.message) == (code, True)


def test_what_is_overtaken_while_it_is_held_back() -> None:
    assert "b is held back" in hold_warnings(["a", "c"], ["b"])[0]
    assert hold_warnings(["a"], ["b"]) == [] == hold_warnings([], ["b"])
