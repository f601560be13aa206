# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._matrix import lines_of, page
from ansible_collections.pgops.migrations.plugins.module_utils._summary import (
    NO_RECORD,
    UNREAD,
    counted,
    run_row,
    state_row,
)
from ansible_collections.pgops.migrations.plugins.module_utils._table import cut, draw, one_line, width_of
from support.runs import BACKUP, DEPLOYED, LOST, NAMES, POINT, PREFLIGHT, RESTORED, VERIFIED, WOULD, broken, record


def test_draw() -> None:
    assert draw(["target", "applied", "note"], [["staging1", 4, ""], ["s2", 12, "late"]], right=["applied"]) == [
        "target    applied  note",
        "--------  -------  ----",
        "staging1        4",
        "s2             12  late",
    ]


def test_columns_that_are_empty_are_left_out() -> None:
    assert draw(["a", "b", "c"], [["1", None, ""], ["2", "", "x"]]) == ["a  c", "-  -", "1", "2  x"]
    assert draw(["a", "b"], []) == ["a  b", "-  -"]


@pytest.mark.parametrize("width", [60, 80, 120])
def test_no_line_is_too_wide_and_narrow_columns_stay(width: int) -> None:
    rows = [["host%d" % number, "rolled_back", "m" * 80, "w" * 200] for number in range(3)]
    lines = draw(["target", "outcome", "slowest", "note"], rows, width)
    assert all(len(line) <= width for line in lines)
    assert "host0" in lines[2] and "rolled_back" in lines[2] and "…" in lines[2]


def test_more_columns_than_fit() -> None:
    assert all(len(line) <= 40 for line in draw(["c%d" % n for n in range(12)], [["value %d" % n for n in range(12)]], 40))


def test_wide_characters_take_two_columns() -> None:
    assert width_of("日本") == 4 and width_of("é") == 1 and width_of("e\u0301") == 1
    assert cut("日本語", 4) == "日…" and cut("abc", 3) == "abc" and cut("abcd", 3) == "ab…"
    lines = draw(["a", "b"], [["日本", "x"], ["ab", "y"]])
    assert lines[2:] == ["日本  x", "ab    y"]


@pytest.mark.parametrize(
    ("value", "expected"), [("a\nb\t c", "a b c"), ("\x1b[31mx", "?[31mx"), ("\u202ex", "?x"), (None, ""), (0, "0"), ("\ud800", "\\ud800")]
)
def test_cells_are_one_line(value: t.Any, expected: str) -> None:
    assert one_line(value) == expected


def test_rows_of_a_run() -> None:
    good = run_row("s1", record(target="s1", phases={"backup": BACKUP, "deploy": DEPLOYED, "verification": VERIFIED}))
    assert (good["outcome"], good["ok"], good["applied"], good["seconds"], good["note"]) == ("applied", True, 2, 40.0, "")
    assert good["slowest_migration"] == {"name": NAMES[1], "seconds": 4.9} and good["restore_point"] == POINT["id"]
    bad = run_row("s2", record(target="s2", phases={"backup": BACKUP, "deploy": broken(), "restore": RESTORED}))
    assert (bad["outcome"], bad["ok"], bad["note"]) == ("rolled_back", False, "MIGRATION_FAILED_PARTIAL, %s, 23505" % NAMES[1])
    lost = run_row("s3", None, "unreachable, or never started")
    assert (lost["outcome"], lost["ok"]) == (NO_RECORD, False)
    assert run_row("s4", record(phases={"deploy": DEPLOYED}))["note"] == "not verified"
    assert run_row("s5", record(phases={"deploy": WOULD}, check_mode=True))["note"] == "would apply 2"
    rows = [good, bad, lost]
    assert counted([*rows, good], "outcome") == "2 applied, 1 no_record, 1 rolled_back"
    lines = lines_of(rows)
    # The two that need somebody have their reason below them.
    assert all(len(line) <= 120 for line in lines) and len(lines) == 2 + 3 + 3 + 1
    assert lines[0].split()[:4] == ["target", "outcome", "backup", "deploy"]
    assert [line.split()[0] for line in lines[2:]] == ["s2", "^", "State", "s3", "^", "s1", "3"]


def test_rows_of_states() -> None:
    verdicts = [{"name": "a", "verdict": "applied", "flags": ["edited"]}, {"name": "b", "verdict": "unfinished", "substate": "failed_partial", "flags": []}]
    row = state_row("s1", {"status": "blocked", "migrations": verdicts, "pending": ["c"], "ledger_head": "a"})
    assert (row["ok"], row["attention"], row["applied"], row["pending"], row["head"]) == (True, True, 1, 1, "a")
    assert row["note"] == "b unfinished (failed_partial); edited: a"
    assert state_row("s2", {"status": "up_to_date", "migrations": []})["attention"] is False
    for missing in (None, {}, {"skipped": True}, "x"):
        assert state_row("s3", missing)["status"] == UNREAD
    failed = state_row("s4", {"failed": True, "code": "AUTH_FAILED", "msg": "AUTH_FAILED: no. Next: check postgresql://a:b@c/d."})
    assert (failed["ok"], failed["note"]) == (False, "AUTH_FAILED: no. Next: check (URL left out)")
    assert "unreachable" in state_row("s5", {"unreachable": True, "msg": "ssh"})["note"]
    why = {"action": "refuse", "code": "P3005", "why": "there are tables and no ledger"}
    assert state_row("s6", {"status": "unmanaged", "next_deploy": why})["note"] == "there are tables and no ledger"
    assert lines_of([row, failed])[0].startswith("target")


def test_index_puts_first_what_needs_somebody() -> None:
    rows = [
        run_row("good", record(target="good", phases={"deploy": DEPLOYED})),
        run_row("b|ad", record(target="b|ad", phases={"preflight": PREFLIGHT, "deploy": DEPLOYED, "verification": LOST})),
    ]
    found = page("Run 1: x", rows, {"good": "good.md"})
    assert found.index("b\\|ad") < found.index("[good](good.md)") and "## What needs somebody" in found and "FAILED" in found
