# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import re
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _matrix, _matrix_html
from ansible_collections.pgops.migrations.plugins.module_utils._summary import NOT_STARTED, UNREACHABLE, failing, run_row, state_row, why_without
from support.runs import BACKUP, DEPLOYED, NAMES, PREFLIGHT, RESTORED, UP_TO_DATE, VERIFIED, broken, failed, record

Row = t.Dict[str, t.Any]
GOOD = {"preflight": PREFLIGHT, "backup": BACKUP, "deploy": dict(DEPLOYED, monitor={"longest_block": 0.25}), "verification": VERIFIED}
STOPPED = {"waves": [["a"], ["b", "c"], ["d", "e"]], "done": 2, "stopped": {"text": "wave 2 of 3 was not passed: b"}}


@pytest.mark.parametrize(
    ("target", "waves", "why", "started"),
    [
        ("a", None, UNREACHABLE, True),
        ("x", STOPPED, UNREACHABLE, True),
        ("b", STOPPED, "its wave, 2 of 3, ended without a record of it: its connection was lost", True),
        ("d", STOPPED, "wave 3 of 3; wave 2 of 3 was not passed: b", False),
        # The wave after the last that was judged may be at work, if nothing stopped it.
        ("b", {"waves": STOPPED["waves"], "done": 1, "stopped": {}}, "%s; wave 2 of 3 was not brought to its end" % UNREACHABLE, True),
        ("e", {"waves": STOPPED["waves"], "done": 1, "stopped": {}}, "wave 3 of 3; an earlier wave was not brought to its end", False),
    ],
)
def test_why_there_is_no_record(target: str, waves: t.Any, why: str, started: bool) -> None:
    assert why_without(target, UNREACHABLE, waves) == (why, started)
    # What is wrong with a record that is there is told whatever the waves say.
    assert why_without("b", "its record is damaged", STOPPED) == ("its record is damaged", True)


def test_a_row_has_the_figures_of_the_record() -> None:
    row = run_row("a", record(target="a", phases=GOOD))
    assert (row["ok"], row["seconds"], row["applied"], row["longest_block_seconds"], row["code"], row["finding"]) == (True, 40.0, 2, 0.25, "", "")
    assert [entry["name"] for entry in row["phases"]] == list(GOOD) and row["slowest_migration"] == {"name": NAMES[1], "seconds": 4.9}
    bad = run_row("b", record(target="b", phases={"backup": BACKUP, "deploy": broken(), "restore": RESTORED}))
    assert (bad["ok"], bad["undone"], bad["code"]) == (False, True, "MIGRATION_FAILED_PARTIAL") and bad["finding"].startswith("MIGRATION_FAILED_PARTIAL: ")
    assert {entry["name"]: entry["outcome"] for entry in bad["phases"]}["deploy"] == "failed"
    assert run_row("c", None, "why", False).keys() == row.keys() == bad.keys(), "one form, whatever became of the target"
    assert state_row("a", UP_TO_DATE).keys() == state_row("a", None).keys()


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ({"a": True, "b": True}, []),
        ({"a": True, "b": False, "c": None}, ["b"]),
        # Nobody failed, and yet not all was done: a wave that is not well is no success.
        ({"a": True, "c": None, "d": None}, ["c"]),
    ],
)
def test_who_fails_for_ansible(outcomes: dict[str, bool | None], expected: list[str]) -> None:
    good = record(target="a", phases=GOOD)
    rows = [run_row(name, good if well else None, "why", well is not None) for name, well in outcomes.items()]
    assert failing(rows) == expected


def fleet(number: int, bad: int = 0, waiting: int = 0) -> list[Row]:
    """So many targets: the last ones bad, or waiting for a wave that never came."""
    good = record(target="x", phases=GOOD)
    broke = record(target="x", phases={"backup": BACKUP, "deploy": broken(), "restore": RESTORED})
    rows = [run_row("db%04d" % each, good) for each in range(number - bad - waiting)]
    rows += [run_row("db%04d" % each, broke) for each in range(number - bad - waiting, number - waiting)]
    return rows + [run_row("db%04d" % each, None, "wave 3 of 3; wave 2 of 3 was not passed", False) for each in range(number - waiting, number)]


def test_all_of_a_small_fleet_is_shown() -> None:
    lines = _matrix.lines_of(fleet(6, 1, 2))
    assert [line.split()[0] for line in lines] == [
        "target",
        "------",
        "db0003",
        "^",
        "State",
        "db0004",
        "^",
        "db0005",
        "^",
        "db0000",
        "db0001",
        "db0002",
        "6",
    ], lines
    assert lines[0].split() == ["target", "outcome", "backup", "deploy", "verify", "restore", "time", "applied", "slowest", "block", "restore", "point"]
    assert "FAILED" in lines[2] and lines[-1] == "6 targets, 3 need somebody: 3 applied, 2 not_started, 1 rolled_back"


def test_a_big_fleet_takes_no_more_lines_than_a_screen_or_two() -> None:
    rows = fleet(500, 1, 440)
    lines = _matrix.lines_of(rows)
    assert len(lines) < 20 and all(len(line) <= 120 for line in lines)
    assert lines[2].split()[:2] == ["db0059", "rolled_back"]
    assert "+ 437 more not_started: db0063, db0064, db0065, ...: wave 3 of 3; wave 2 of 3 was not passed" in lines, lines
    assert any(line.startswith("+ 59 applied") for line in lines)
    good = " ".join(line.strip() for line in lines)
    assert "slowest migration 4.9 s %s on db0000" % NAMES[1] in good and "longest block 250 ms on db0000" in good
    assert lines[-1] == "500 targets, 441 need somebody: 440 not_started, 59 applied, 1 rolled_back"
    every = [row["target"] for row in rows]
    page, html = _matrix.page("t", rows, {}), _matrix_html.index(rows)
    assert all(name in page and name in html for name in every), "the pages have all of it"


@pytest.mark.parametrize(("bad", "waiting"), [(0, 0), (1000, 0), (0, 1000), (500, 300)])
def test_a_thousand_targets_are_drawn_in_bounds(bad: int, waiting: int) -> None:
    rows = fleet(1000, bad, waiting)
    lines = _matrix.lines_of(rows)
    # Each row that is shown may have two lines of a reason.
    assert len(lines) <= 3 * _matrix.BAD + 8 and all(len(line) <= 120 for line in lines)
    assert lines[-1].startswith("1,000 targets, ")
    assert (
        sum(int(found.replace(",", "")) for found in re.findall(r"^\+ ([\d,]+) ", "\n".join(lines), re.M)) + sum(line.startswith("db") for line in lines)
        == 1000
    )
    # What is kept of a target does not depend on what its record holds.
    big = record(target="x", phases=dict(GOOD, deploy=failed("MIGRATION_FAILED_PARTIAL", "x" * 100_000, output="y" * 100_000)))
    assert len(json.dumps(run_row("x", big))) < 12_000 and len(json.dumps(rows)) < 2_500 * 1000
    assert len(_matrix_html.index(rows)) < 3_500 * 1000


def test_states_that_need_nobody_are_counted() -> None:
    rows = [state_row("db%03d" % each, UP_TO_DATE) for each in range(100)]
    rows[50] = state_row("db050", {"failed": True, "code": "AUTH_FAILED", "msg": "AUTH_FAILED: no"})
    lines = _matrix.lines_of(rows)
    assert lines[2].split()[:2] == ["db050", "not_read"] and "+ 99 up_to_date: db000, db001, db002, ..." in lines, lines
    assert lines[-1] == "100 targets, 1 needs somebody: 99 up_to_date, 1 not_read"


def test_a_phase_that_failed_is_never_left_out() -> None:
    names = ["preflight", "server", "certificate", "choice", "reverse", "backup", "deploy", "verification", "restore", "retention"]
    rows = [dict(run_row("a", record(target="a", phases=GOOD)), phases=[{"name": name, "outcome": "ok", "seconds": 1.0} for name in names])]
    assert _matrix.phases_of(rows, 5) == ["reverse", "backup", "deploy", "verification", "restore"]
    rows[0]["phases"][2]["outcome"] = "failed"
    assert _matrix.phases_of(rows, 6) == ["certificate", "reverse", "backup", "deploy", "verification", "restore"]


def test_nothing_started_is_told_as_such() -> None:
    row = run_row("d", None, "wave 3 of 3; wave 2 of 3 was not passed: b", False)
    assert (row["outcome"], row["sentence"]) == (NOT_STARTED, "d: not started (wave 3 of 3; wave 2 of 3 was not passed: b)")
    assert "Not started" in _matrix_html.index([row]) and "No record" not in _matrix_html.index([row])
