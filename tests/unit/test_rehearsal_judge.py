# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rehearsal found, judged and told."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_judge import (
    FAIL_ON,
    PHASES,
    TRIED,
    demand_explained,
    demand_passed,
    failure,
    measured,
    sentence,
)
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_state import moved
from support.restorepoints import refused

GONE = {"kind": "rows_fewer", "text": "public.a has 3 rows fewer."}
GREW = {"kind": "rows_more", "text": "public.b has 2 rows more."}
POINT = {"id": "20261122T163000Z-ab12cd"}
PASSED: dict[str, t.Any] = {
    "migrations": ["1_a", "2_b"], "passed": True, "reused": False, "restore_point": POINT, "seconds": {"deploy": 3.9, "rollback": 2.0},
    "measured": {"deploy_seconds": 1.44}, "canary": {}, "forecast": {}, "certificate": {},
}  # fmt: skip
STALLED = {"longest_stall": 0.62, "tables": [{"table": "public.a", "longest_stall": 0.62}, {"table": "public.b", "longest_stall": 0.01}]}
GONE_COLUMN = {"table": "public.a", "what": "a column that the application knows is gone"}
CALM = {"longest_stall": 0.01, "tables": [{"table": "public.a", "longest_stall": 0.01}]}


@pytest.mark.parametrize(
    ("findings", "fail_on", "fails"),
    [([], FAIL_ON, False), ([GREW], FAIL_ON, False), ([GREW, GONE], FAIL_ON, True), ([GONE], (), False), ([GONE], ("rows_fewer",), True)],
)
def test_what_no_migration_explains_fails(findings: list[dict[str, str]], fail_on: t.Sequence[str], fails: bool) -> None:
    if not fails:
        demand_explained(findings, fail_on)
        return
    with refused("DATA_LOSS") as caught:
        demand_explained(findings, fail_on)
    assert GONE["text"] in caught[0].msg and GREW["text"] not in caught[0].msg and caught[0].facts["findings"] == [GONE]


def test_many_findings_are_counted() -> None:
    with refused("DATA_LOSS") as caught:
        demand_explained([GONE] * 7, FAIL_ON)
    assert caught[0].msg.endswith("And 2 more.")


def test_a_failing_check_fails() -> None:
    demand_passed({"failing": [], "text": "", "checks": []})
    with refused("CHECK_FAILED") as caught:
        demand_passed({"failing": ["drift"], "text": "1 of 2 checks failed.", "checks": [{"name": "drift", "verdict": "fail"}]})
    assert caught[0].facts["failing"] == ["drift"]


def test_measured() -> None:
    deployed = {"seconds": 1.2, "applied": [{"name": "1_a", "seconds": 1.1}], "monitor": {"longest_block": 0.4, "rewrites": ["public.a"]}}
    checks = [{"name": "drift", "verdict": "pass"}, {"name": "custom", "verdict": "skipped"}]
    found = measured(deployed, checks, {"deploy": 1.3}, {"seconds": {"restore": 2.0}}, {"restore": 3.0}, 100, STALLED)
    assert (found["deploy_seconds"], found["longest_block"], found["longest_stall"], found["stalls"]) == (1.2, 0.4, 0.62, {"public.a": 0.62})
    assert found["checks"] == {"drift": "pass", "custom": "skipped"} and found["rollback_seconds"] == {"restore": 2.0}
    # Without a monitor and a canary nothing is known, which is not the same as nothing.
    found = measured({}, [], {}, {"seconds": {}}, {}, 0, {})
    assert (found["deploy_seconds"], found["longest_block"], found["longest_stall"], found["migrations"]) == (None, None, None, [])


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize(("untouched", "words"), [(True, "are as they were"), (False, "CHANGED meanwhile"), (None, "could not be asked")])
def test_a_failure_names_its_phase_and_the_live_database(phase: str, untouched: bool | None, words: str) -> None:
    told = {"database": "care", "warnings": ["w"], "cleared": []}
    facts = {"failed_migration": {"name": "2_b"}, "planned": ["2_b"], "findings": [GONE], "sqlstate": "23505"}
    found = failure(MigrationError("it broke.", code="MIGRATION_FAILED_CLEAN", next_step="roll back", **facts), "care", phase, told, untouched)
    result = found.result()
    assert result["failed_in"] == phase and result["code"] == "MIGRATION_FAILED_CLEAN" and result["findings"] == [GONE]
    # Keys of Ansible's own would say something else: a failure cannot warn, and a failed migration of a copy is none of the target's.
    assert result["warned"] == ["w"] and "warnings" not in result and "failed_migration" not in result
    assert (words in found.msg) is (phase in TRIED) and ("it broke; " in found.msg) is (phase in TRIED)
    # What is advised for a live database is none for a copy that is gone.
    assert ("rehearse.yml" in found.next_step) is (phase in TRIED)
    assert (result["deploy"].get("failed_migration") == {"name": "2_b"}) is (phase == "deploy")


def test_a_failure_counts_all_tables_and_names_the_first() -> None:
    told = {"canary": dict(CALM, tables=[{"table": "public.t%d" % number} for number in range(7)])}
    canary = failure(MigrationError("it broke", code="MIGRATION_FAILED"), "care", "deploy", told, True).result()["canary"]
    assert (len(canary["tables"]), canary["probed"]) == (5, 7)


def test_a_deploy_that_waits_for_prismas_lock_went_astray() -> None:
    for phase, astray in (("deploy", True), ("rollback", False)):
        found = failure(MigrationError("P1002", code="LOCKED"), "care", phase, {}, True)
        assert ("migrate_deploy_database_url_env" in found.next_step) is astray


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "2 migrations rehearsed on the restore point 20261122T163000Z-ab12cd: deployed in 1.4 s, checked, and back in 2.0 s to the same fingerprint."),
        ({"restore_point": {}, "source": "restore_point", "passed": False}, "2 migrations would be rehearsed on a restore point that is taken first."),
        ({"restore_point": {}, "source": "template", "migrations": ["1_a"]}, "1 migration rehearsed on a template copy: deployed in 1.4 s"),
        ({"canary": STALLED}, "same fingerprint. Longest stall for users: 0.62 s (public.a)."),
        ({"canary": CALM}, "same fingerprint. Longest stall for users: 0.01 s."),
        ({"canary": dict(CALM, broken=[GONE_COLUMN])}, "would fail: public.a (a column that the application knows is gone)."),
        ({"canary": dict(CALM, broken=[GONE_COLUMN] * 5)}, "(a column that the application knows is gone) and 2 more."),
        ({"measured": {"deploy_seconds": None}}, "deployed in 3.9 s"),
        ({"forecast": {"text": "At production's size: 9 s."}}, "same fingerprint. At production's size: 9 s."),
        ({"passed": False}, "2 migrations would be rehearsed on the restore point 20261122T163000Z-ab12cd."),
        ({"reused": True, "certificate": {"issued_at": "2026-11-22T17:00:00Z"}}, "The rehearsal of 2026-11-22T17:00:00Z still holds for 2 migrations."),
        ({"migrations": [], "passed": False}, "Nothing is pending, so nothing was rehearsed."),
    ],
)
def test_sentence(changes: dict[str, t.Any], text: str) -> None:
    assert text in sentence({**PASSED, **changes})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []), ({"ledger_head": "2_b"}, ["the head of the ledger"]), ({"schema_digest": "x", "migrations": []}, ["the pending migrations", "the schema"]),
        # A copy has another name, and says nothing by that.
        ({"database": "care__drill_1"}, []),
    ],
)  # fmt: skip
def test_moved(changes: dict[str, t.Any], words: list[str]) -> None:
    state = {"ledger_head": "1_a", "migrations": ["2_b"], "schema_digest": "d", "database": "care"}
    assert moved(state, {**state, **changes}) == words
