# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checklists of a run that rehearsed: what a copy answers, and nothing about a deploy that never was."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes import boxes
from support.runs import BACKUP, PREFLIGHT, failed, record

Result = t.Dict[str, t.Any]
CANARY: Result = {"probes": 40, "longest_stall": 0.3, "tables": [{"table": "public.a", "longest_stall": 0.3}], "broken": [], "skipped": []}
GONE: Result = {"table": "public.a", "sqlstate": "42703", "times": 9, "what": "a column that the application knows is gone"}
CHECKS: list[Result] = [
    {"name": "foreign_keys", "verdict": "pass", "text": "3 are valid.", "limit": None},
    {"name": "deploy_time", "verdict": "pass", "text": "1.2 s.", "limit": 300},
]
POINT: Result = {"id": "20261122T163000Z-ab12cd"}
PASSED: Result = {
    "changed": True, "passed": True, "reused": False, "text": "rehearsed", "restore_point": POINT, "canary": CANARY, "checks": CHECKS, "findings": [],
    "seconds": {"deploy": 1.2},
}  # fmt: skip
LOST: Result = {"kind": "rows_fewer", "text": "public.a has 3 rows fewer."}


def ended(phase: str, code: str, **facts: t.Any) -> Result:
    return failed(code, "the rehearsal failed", **dict({"failed_in": phase, "restore_point": POINT, "canary": CANARY}, **facts))


def answer(name: str, result: Result, **more: t.Any) -> tuple[str, str]:
    found = record(runbook="rehearse", phases={"preflight": PREFLIGHT, "backup": BACKUP, "rehearsal": result}, **more)
    box = next(each for each in boxes(found) if each.name == name)
    return box.verdict, box.evidence


@pytest.mark.parametrize(
    ("name", "result", "verdict", "words"),
    [
        ("backup_restore", PASSED, "pass", "was restored to a copy in this run and found equal, and was the way back"),
        ("backup_restore", dict(PASSED, restore_point={}), "warn", "no dump was restored"),
        ("backup_restore", ended("checks", "CHECK_FAILED"), "pass", "the way back after a deploy was not reached"),
        ("backup_restore", ended("prove", "FINGERPRINT_MISMATCH"), "fail", "in the phase prove"),
        ("backup_restore", ended("proof", "FINGERPRINT_MISMATCH"), "fail", "in the phase proof"),
        ("backup_restore", ended("source", "DRILL_IMPOSSIBLE"), "not_answered", "before the restore point"),
        # A certificate that still held: nothing was restored in this run.
        ("backup_restore", dict(PASSED, reused=True, changed=False), "warn", "nothing says that it was tried"),
        ("foreign_keys", PASSED, "pass", "On a copy: 3 are valid."),
        ("migration_time", PASSED, "pass", "On a copy: 1.2 s. The limit is 300 s."),
        ("no_data_loss", PASSED, "pass", "On a copy: no difference"),
        ("no_data_loss", ended("compare", "DATA_LOSS", findings=[LOST]), "fail", "3 rows fewer"),
        ("no_data_loss", ended("deploy", "MIGRATION_FAILED_CLEAN"), "not_answered", "in the phase deploy"),
        ("no_data_loss", dict(PASSED, findings=[LOST]), "warn", "1 finding"),
        ("integrity", PASSED, "pass", "On a copy"),
        ("monitoring", PASSED, "pass", "40 probes of 1 table; the longest wait was 300 ms."),
        ("monitoring", dict(PASSED, canary=dict(CANARY, broken=[GONE])), "warn", "a column that the application knows is gone"),
        ("monitoring", ended("deploy", "MIGRATION_FAILED_CLEAN", canary=dict(CANARY, probed=7)), "not_answered", "40 probes of 7 tables"),
        ("monitoring", dict(PASSED, canary={}), "not_answered", "rehearsal_canary"),
        ("post_verification", PASSED, "not_answered", "but to a copy"),
        ("deployed_production", PASSED, "not_answered", "This run was on staging"),
        ("tested_staging", PASSED, "not_answered", "Nothing was deployed"),
        ("realistic_data", PASSED, "not_answered", "a copy of production is"),
    ],
)
def test_boxes(name: str, result: Result, verdict: str, words: str) -> None:
    found = answer(name, result)
    assert found[0] == verdict and words in found[1], found


@pytest.mark.parametrize(("name", "verdict"), [("realistic_data", "pass"), ("staging_test", "warn"), ("deployed_production", "not_answered")])
def test_a_copy_of_production(name: str, verdict: str) -> None:
    assert answer(name, PASSED, environment="production")[0] == verdict
    assert answer(name, ended("deploy", "MIGRATION_FAILED_CLEAN"), environment="production")[0] == "not_answered"


def test_check_mode_answers_nothing() -> None:
    assert answer("no_data_loss", dict(PASSED, passed=False), check_mode=True)[0] == "not_answered"
