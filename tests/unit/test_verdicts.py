# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The rules of Prisma's engine about the rows of a ledger, one by one."""

from __future__ import annotations

import dataclasses
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import ABSENT, Facts
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import classify
from support.ledgers import folder, report, rows


@pytest.mark.parametrize(
    ("described", "verdict", "flags"),
    [
        ((), "pending", ()),
        (("a done",), "applied", ()),
        (("a done edited",), "applied", ("edited",)),
        (("a failed",), "unfinished", ()),
        (("a unfinished",), "unfinished", ()),
        (("a unfinished edited",), "unfinished", ("edited",)),
        (("a rolled",), "rolled_back", ()),
        (("a rolled edited",), "rolled_back", ()),  # it is expected to be mended before it runs again
        (("a rolled", "a rolled"), "rolled_back", ()),
        (("a done+rolled",), "rolled_back", ()),  # deploy runs it again
        (("a rolled", "a done"), "applied", ()),
        (("a rolled edited", "a done"), "applied", ()),
        (("a rolled", "a done edited"), "applied", ("edited",)),
        (("a done edited", "a rolled"), "applied", ("edited",)),
        (("a done", "a unfinished"), "unfinished", ()),  # one unfinished row blocks, whatever the others say
        (("a unfinished", "a done"), "unfinished", ()),
        (("a rolled", "a unfinished"), "unfinished", ()),
        (("a unfinished edited", "a unfinished"), "unfinished", ()),
        (("a done edited", "a done"), "applied", ()),  # the newest row that counts decides
        (("a marked",), "applied", ("marked",)),
        (("a marked edited",), "applied", ("edited", "marked")),
        (("a rolled", "a marked"), "applied", ("marked",)),
    ],
)
def test_the_verdict_of_a_name(described: tuple[str, ...], verdict: str, flags: tuple[str, ...]) -> None:
    [found] = report(folder("a"), *described).verdicts
    assert (found.verdict, found.flags, found.rows) == (verdict, flags, len(described))


@pytest.mark.parametrize(
    ("described", "verdict"), [(("a done",), "applied"), (("a unfinished",), "unfinished"), (("a rolled",), "rolled_back"), (("a marked",), "applied")]
)
def test_a_row_without_a_folder_is_missing_locally_and_never_edited(described: tuple[str, ...], verdict: str) -> None:
    missing, _present = report(folder("b"), *[row + " edited" for row in described]).verdicts
    assert (missing.name, missing.verdict) == ("a", verdict)
    assert "missing_locally" in missing.flags
    assert "edited" not in missing.flags
    assert not missing.prisma_reports_edited


@pytest.mark.parametrize(("described", "flags"), [("a done", ("missing_locally",)), ("a unfinished", ("missing_locally",)), ("a rolled", ())])
def test_a_script_that_cannot_be_read_is_missing_and_not_edited(described: str, flags: tuple[str, ...]) -> None:
    assert report(folder("a", "b", without_script=("a",)), described).verdicts[0].flags == flags


@pytest.mark.parametrize(
    ("described", "flagged"),
    [
        (("b done",), ["a"]),
        (("c done",), ["a", "b"]),
        (("a done",), []),
        (("b rolled",), []),  # nothing newer is applied
        (("b unfinished",), []),
        (("a rolled", "b done"), []),  # it was run in its time; what is known about it is another verdict
        (("b marked",), ["a"]),
    ],
)
def test_out_of_order_is_pending_before_the_newest_applied(described: tuple[str, ...], flagged: list[str]) -> None:
    assert report(folder("a", "b", "c"), *described).flagged("out_of_order") == flagged


@pytest.mark.parametrize(
    ("described", "reports"), [(("a done edited", "a done"), True), (("a done", "a done edited"), False), (("a rolled edited", "a done"), True)]
)
def test_prisma_compares_with_the_first_row_and_that_is_shown_beside_the_verdict(described: tuple[str, ...], reports: bool) -> None:
    assert report(folder("a"), *described).verdicts[0].prisma_reports_edited is reports


def test_a_migration_without_duration_that_ran_is_not_marked() -> None:
    [row] = rows("a marked")
    assert classify(folder("a"), Facts(rows=(dataclasses.replace(row, applied_steps_count=1),))).verdicts[0].flags == ()


STATUSES = [
    (ABSENT, "absent"),
    (Facts(ledger_exists=False), "empty"),
    (Facts(ledger_exists=False, schema_exists=False), "empty"),
    (Facts(ledger_exists=False, tables=1), "unmanaged"),
    (Facts(), "pending"),
    (Facts(tables=3), "pending"),
    (Facts(rows=rows("a done", "b done")), "up_to_date"),
    (Facts(rows=rows("a done", "b rolled")), "pending"),
    (Facts(rows=rows("a done", "b failed")), "blocked"),
    (Facts(rows=rows("z unfinished", "a done", "b done")), "blocked"),  # also without its folder
    (Facts(rows=rows("a done edited", "b failed")), "blocked"),  # the worse of two
    (Facts(rows=rows("a done edited", "b done")), "diverged"),
    (Facts(rows=rows("0 done", "a done", "b done")), "diverged"),
    (Facts(rows=rows("b done")), "diverged"),
    (Facts(rows=rows("0 rolled", "a done", "b done")), "up_to_date"),
    (Facts(rows=rows("a marked", "b done")), "up_to_date"),
]


@pytest.mark.parametrize(("facts", "status"), STATUSES)
def test_the_status_of_a_target(facts: Facts, status: str) -> None:
    assert classify(folder("a", "b"), facts).status == status


def test_pending_is_what_the_next_deploy_runs() -> None:
    found = report(folder("a", "b", "c", "d"), "a done", "b rolled", "c unfinished", "z rolled")
    assert found.pending == ("b", "d")
    assert found.named("unfinished") == ["c"]


@pytest.mark.parametrize(
    ("substates", "holders", "expected"),
    [
        (None, (), "unknown"),
        ({"a": "failed_clean"}, (), "failed_clean"),
        ({"b": "failed_clean"}, (), "unknown"),
        ({"a": "failed_clean"}, ({"pid": 1},), "running"),
    ],
)
def test_the_substate_comes_from_evidence_and_a_live_session_wins(substates: t.Any, holders: t.Any, expected: str) -> None:
    assert report(folder("a"), "a unfinished", substates=substates, lock_holders=holders).verdicts[0].substate == expected


def test_only_an_unfinished_migration_has_a_substate() -> None:
    assert report(folder("a"), "a done", substates={"a": "failed_clean"}, lock_holders=({"pid": 1},)).verdicts[0].substate is None


@pytest.mark.parametrize(
    ("described", "head"),
    [
        ((), None),
        (("a done", "b done"), "b"),
        (("b done", "a done"), "a"),
        (("a done", "b rolled"), "a"),
        (("a done", "b failed"), "a"),
        (("a done+rolled",), None),
    ],
)
def test_the_head_of_the_ledger_is_what_was_finished_last(described: tuple[str, ...], head: str | None) -> None:
    assert report(folder("a", "b"), *described).ledger_head == head


@pytest.mark.parametrize(
    ("described", "without_script", "says"),
    [
        (("a done", "b done"), (), []),
        (("a done edited", "b done"), (), ["a was edited after it was applied"]),
        (("0 done", "a done", "b done"), (), ["0 was applied and is not in the folder"]),
        (("a done", "b rolled"), (), ["will run again what was rolled back: b"]),
        (("a failed",), (), ["refuses because of a (P3009)"]),
        (("b done",), (), ["a would be applied out of order"]),
        (("a done",), ("b",), ["b, which has no migration.sql"]),
        (("a done", "b rolled"), ("b",), ["rolled back: b", "b, which has no migration.sql"]),
        (("a done", "b done"), ("a",), ["a was applied and is not in the folder"]),
    ],
)
def test_where_prisma_migrate_status_misleads(described: tuple[str, ...], without_script: tuple[str, ...], says: list[str]) -> None:
    found = report(folder("a", "b", without_script=without_script), *described).status_misleads
    assert len(found) == len(says)
    assert all(words in sentence for words, sentence in zip(says, found))


def test_without_a_ledger_there_is_nothing_to_mislead_about() -> None:
    assert report(folder("a", without_script=("a",)), ledger_exists=False).status_misleads == ()


def test_the_plain_values_of_a_verdict() -> None:
    done, failed, pending = (verdict.as_dict() for verdict in report(folder("a", "b", "c"), "a done", "b failed").verdicts)
    assert (done["seconds"], done["started_at"], done["logs"]) == (1.5, "2026-01-01T00:00:00+00:00", None)
    assert (failed["seconds"], failed["finished_at"], failed["logs"]) == (None, None, 'ERROR: relation "a" already exists')
    assert pending == {**dict.fromkeys(pending), "name": "c", "verdict": "pending", "flags": [], "rows": 0, "prisma_reports_edited": False}


def test_rows_of_data_in_the_logs_are_not_returned() -> None:
    [row] = rows("a failed")
    row = dataclasses.replace(row, logs="ERROR: duplicate key\nDETAIL: Key (email)=(anna@example.org) already exists.\nCONTEXT: COPY users, line 1: anna")
    logs = classify(folder("a"), Facts(rows=(row,))).verdicts[0].as_dict()["logs"]
    assert "duplicate key" in logs
    assert "anna" not in logs
