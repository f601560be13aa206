# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The schema of a record: every record satisfies it, it says of every field what it is, and its page is its own."""

from __future__ import annotations

import json
import typing as t

import pytest
from support.recorded import SCHEMA, changed, is_rounding, violations, wrong_figures
from support.runs import BACKUP, DEPLOYED, NAMES, PREFLIGHT, RESTORED, SAME, VERIFIED, WOULD, broken, failed, record
from unit import test_record, test_report_html

from tools import record_docs

MORE: list[dict[str, t.Any]] = [
    test_report_html.run(), test_report_html.ROLLED_BACK, test_report_html.FAILED_DEPLOY, test_report_html.CHECK_MODE, test_report_html.RESTORE_REFUSED,
    record(phases={}), record(phases={"deploy": DEPLOYED}, started_at="", environment="", operator="", revision="", database=""),
    record(phases={"preflight": dict(PREFLIGHT, followed=[{"run_id": "r9", "state": "killed", "applied": NAMES, "started_at": None, "seconds": None}])}),
    record(phases={"deploy": dict(DEPLOYED, resolved=[{"name": NAMES[0], "state": "rolled_back", "reason": "nothing was left"}])}),
]  # fmt: skip
ODD = [
    {"deploy": None, "backup": "text", "restore": ["x"], "verification": 5},
    {"deploy": {"changed": True, "applied": "x", "pending": 3, "migrations": "y", "failed_migration": "z", "seconds": "w"}},
    {"": {"changed": True}, "odd | `name`\n": {"failed": True, "msg": None}},
]


def test_every_record_satisfies_it() -> None:
    for _name, phases, _outcome, _words in test_record.CASES:
        for more in ({}, {"check_mode": True}, {"runbook": "rollback"}):
            found = record(phases=phases, **more)
            assert violations(found) == [], found
    for found in MORE:
        assert violations(found) == [], found["sentence"]


@pytest.mark.parametrize("phases", ODD)
def test_what_modules_of_others_return_breaks_no_field_of_the_first_level(phases: dict[str, t.Any]) -> None:
    found = violations(record(phases=phases), strict=False)
    assert [said for said in found if not said.startswith("$.deploy.")] == []


BREAKS: list[tuple[tuple[t.Any, ...], t.Any]] = [
    (("format",), 2), (("outcome",), "fine"), (("seconds",), "40"), (("seconds",), -0.5), (("phases", 0, "outcome"), "done"), (("row_counts", 0, "before"), 1.5),
    (("error",), "none"), (("deploy", "applied", 0), "name"), (("deploy", "monitor", "samples", 0, "t"), None), (("verification", "checks", 0, "verdict"), "ok"),
    (("cut",), None), (("deploy", "seconds"), -1), (("backup", "restore_point", "size_bytes"), -1),
]  # fmt: skip


@pytest.mark.parametrize(("path", "value"), BREAKS)
def test_it_refuses_what_it_does_not_mean(path: tuple[t.Any, ...], value: t.Any) -> None:
    assert violations(changed(test_report_html.run(), *path, value=value), strict=False)


def test_a_field_that_nobody_documented_is_found_and_lets_a_reader_pass() -> None:
    for path in (("new",), ("deploy", "new"), ("deploy", "monitor", "new"), ("backup", "restore_point", "new"), ("phases", 0, "new")):
        found = changed(test_report_html.run(), *path, value=1)
        assert violations(found) and violations(found, strict=False) == []
    for name in test_report_html.run():
        less = test_report_html.run()
        del less[name]
        assert violations(less, strict=False), name


def test_every_field_says_what_it_is_and_numbers_their_unit() -> None:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    units: dict[str, set[str]] = {}

    def walk(found: t.Any, name: str) -> None:
        if "$ref" in found:
            return
        assert found.get("description") or "type" not in found, name
        if "number" in (found.get("type") or ()):
            assert found.get("x-unit"), name
        units.setdefault(name, set()).update([found["x-unit"]] if "x-unit" in found else [])
        for key, field in (found.get("properties") or {}).items():
            walk(field, key)
        if isinstance(found.get("items"), dict):
            walk(found["items"], name + "[]")

    for part in (schema, *schema["$defs"].values()):
        walk(part, "")
    assert units["seconds"] == {"seconds"} and units["size_bytes"] == {"bytes"} and units["finished_at"] == {"ISO 8601, UTC"}
    assert all("x-source" in field for field in schema["properties"].values())
    assert set(schema["required"]) == set(schema["properties"]) == set(test_report_html.run())


def test_the_page_is_that_of_the_schema() -> None:
    assert record_docs.PAGE.read_text(encoding="utf-8") == record_docs.page(), "run: python tools/record_docs.py"


# --- every figure of a report is the record's --------------------------------------------------


RUNS = {
    "good": test_report_html.run(), "rolled back": test_report_html.ROLLED_BACK, "failed": test_report_html.FAILED_DEPLOY, "idle": test_report_html.IDLE,
    "check": test_report_html.CHECK_MODE, "restore": test_report_html.RESTORE, "asked": test_report_html.RESTORE_REFUSED,
    "nothing to restore": record(phases={"backup": BACKUP, "deploy": broken("failed_clean"), "restore": SAME}),
    "of others": record(phases={"preflight": PREFLIGHT, "backup": BACKUP, "verification": VERIFIED, "deploy": dict(
        DEPLOYED, followed=[{"run_id": "r9", "state": "finished", "applied": ["m"], "started_at": "2026-11-22T16:59:00Z", "seconds": 12.34}])}),
    "would": record(check_mode=True, phases={"deploy": WOULD, "preflight": PREFLIGHT}), "refused": record(phases={"preflight": failed("POOLER", "x")}),
    "restored": record(runbook="rollback", phases={"restore": dict(RESTORED, seconds={"swap": 0.0019, "restore": 3599.6, "unavailable": 0.04})}),
}  # fmt: skip


@pytest.mark.parametrize("name", RUNS)
def test_every_figure_of_both_reports_is_the_records(name: str) -> None:
    assert wrong_figures(RUNS[name]) == []


def test_a_figure_that_is_not_the_records_is_found() -> None:
    found = RUNS["good"]
    assert wrong_figures(changed(found, "sentence", value="3,333 migrations applied in 6.2 s"))
    assert wrong_figures(changed(found, "sentence", value="2 migrations applied in 9.9 s"))
    assert wrong_figures(changed(found, "phases", 0, "sentence", value="77 findings"))


@pytest.mark.parametrize(
    ("value", "shown", "expected"),
    [
        (6.24, "6.2 s", True), (6.26, "6.2 s", False), (0.0019, "1.9 ms", True), (0.75, "750 ms", True), (0.75, "0.8 s", True), (200, "3 min 20 s", True),
        (190, "3 min 20 s", False), (3840, "1 h 4 min", True), (12345, "12,345", True), (12345, "12,346", False), (463864, "463.9 kB", True),
        (463864, "464.9 kB", False), (-5, "-5", True), (5, "+5", True), (1, "1 byte", True), (80.5, "80 %", True), (5, "many", False),
    ],
)  # fmt: skip
def test_rounding(value: float, shown: str, expected: bool) -> None:
    assert is_rounding(value, shown) is expected
