# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a record says of a run must be true in every combination of what its phases returned."""

from __future__ import annotations

import itertools
import json
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import GOOD, OUTCOMES
from ansible_collections.pgops.migrations.plugins.module_utils._record import build_record
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import clean, line, plain
from ansible_collections.pgops.migrations.plugins.module_utils._sentence import plural, seconds_text
from ansible_collections.pgops.migrations.plugins.module_utils._summary import run_row
from support.runs import (
    BACKUP,
    DEPLOYED,
    IDLE,
    KEPT,
    LOST,
    NAMES,
    POINT,
    PREFLIGHT,
    RESTORED,
    SAME,
    UNPROVEN,
    UP_TO_DATE,
    VERIFIED,
    WOULD,
    Result,
    broken,
    failed,
    record,
)

RUN = {"preflight": PREFLIGHT, "backup": BACKUP, "deploy": DEPLOYED, "verification": VERIFIED, "restore": {}}
LOST_AND_NOT_FAILED = dict(VERIFIED, findings=[{"kind": "table_gone", "text": "The table public.t is gone."}])
SKIPPED = {"skipped": True, "changed": False, "skip_reason": "Conditional result was False"}
UNREACHABLE = {"unreachable": True, "changed": False, "msg": "Failed to connect to the host via ssh"}
WHY = '%s failed %%s (23505: could not create unique index "User_email_key")' % NAMES[1]
AS_BEFORE = "; microcare is as before: 9 tables, 200,123 rows equal"

CASES: list[tuple[str, dict[str, t.Any], str, str]] = [
    ("all went well", RUN, "applied", "2 migrations applied in 6.2 s, nothing lost, restore point %s" % POINT["id"]),
    ("one migration", dict(RUN, deploy=dict(DEPLOYED, applied=DEPLOYED["applied"][:1])), "applied", "1 migration applied in 6.2 s, nothing lost"),
    ("not verified", dict(RUN, verification={}), "applied", "2 migrations applied in 6.2 s, NOT verified, restore point"),
    ("verified without a comparison", dict(RUN, verification={"changed": False, "checks": []}), "applied", "applied in 6.2 s, checks passed, restore"),
    ("findings that were let pass", dict(RUN, verification=dict(VERIFIED, findings=[{"text": "x"}])), "applied", "6.2 s, 1 finding to look at"),
    ("no backup", dict(RUN, backup=SKIPPED), "applied", "nothing lost, NO restore point"),
    ("nothing pending", {"preflight": IDLE, "deploy": UP_TO_DATE}, "nothing_to_do", "nothing to do, 2 migrations applied"),
    (
        "nothing pending, known from the preflight",
        {"preflight": IDLE, "backup": SKIPPED, "deploy": SKIPPED},
        "nothing_to_do",
        "nothing to do, 2 migrations applied",
    ),
    ("nothing to apply by a plan that allows a difference", {"preflight": dict(IDLE, status="diverged", engine="prisma")}, "nothing_to_do", "nothing to do"),
    ("nothing to apply by a plan with up_to", {"preflight": dict(IDLE, status="pending", pending=NAMES, engine="prisma")}, "nothing_to_do", "nothing to do"),
    ("a plan and no deploy", {"preflight": dict(WOULD, changed=False)}, "failed", "NOT KNOWN"),
    ("server refused", {"preflight": PREFLIGHT, "server": failed("NOT_PRIMARY", "a standby")}, "refused", "in the phase server, the database was not touched"),
    ("deploy says that it touched nothing", {"deploy": failed("CONNECTION_LOST", "gone", touched=False)}, "refused", "the database was not touched"),
    ("deploy says that it may have", {"deploy": failed("LEDGER_MOVED", "x", touched=True)}, "failed", "what was applied is not known"),
    ("nothing pending, count unknown", {"preflight": {"status": "up_to_date"}}, "nothing_to_do", "nothing to do, nothing is pending"),
    ("held back", {"deploy": dict(UP_TO_DATE, pending=NAMES)}, "nothing_to_do", "(2 held back by up_to)"),
    (
        "refused by the preflight",
        {"preflight": failed("POOLER", "a pooler stands there"), "backup": {}, "deploy": {}},
        "refused",
        "REFUSED in the phase preflight, the database was not touched. POOLER: a pooler stands there. Next: use the direct URL",
    ),
    (
        "backup failed",
        dict(RUN, backup=failed("DISK_FULL", "no room in /b"), deploy={}, verification={}),
        "refused",
        "DISK_FULL: no room in /b. Next: free space",
    ),
    (
        "deploy refused",
        dict(RUN, deploy=failed("LOCKED", "run 7 holds the lock"), verification={}),
        "refused",
        "the database was not touched. LOCKED: run 7 holds",
    ),
    ("deploy refused although code is hidden by failed_when", {"deploy": dict(failed("LOCKED", "run 7"), failed=False)}, "refused", "LOCKED: run 7. Next"),
    ("unreachable before", {"preflight": UNREACHABLE}, "refused", "TARGET_UNREACHABLE: Failed to connect"),
    (
        "unreachable in the deploy",
        dict(RUN, deploy=UNREACHABLE, verification={}),
        "failed",
        "FAILED. The deploy failed (TARGET_UNREACHABLE: Failed to connect to the host via ssh); what was applied is not known. Not rolled back, restore point",
    ),
    ("connection lost in the deploy", dict(RUN, deploy=failed("CONNECTION_LOST", "gone"), verification={}), "failed", "what was applied is not known"),
    (
        "failed clean",
        dict(RUN, deploy=broken("failed_clean", "MIGRATION_FAILED_CLEAN"), verification={}),
        "failed",
        "FAILED. " + WHY % "and left nothing behind",
    ),
    (
        "half applied, no rollback",
        dict(RUN, deploy=broken(), verification={}),
        "failed",
        "FAILED. %s; 1 migration applied before it. Not rolled back, restore point %s. Next: go back to the restore point from before: rollback.yml"
        % (WHY % "half applied", POINT["id"]),
    ),
    ("state unknown", dict(RUN, deploy=broken("unknown", "MIGRATION_FAILED")), "failed", WHY % "and what it left is not known"),
    ("still running", dict(RUN, deploy=broken("running", "MIGRATION_FAILED")), "failed", WHY % "to end and is still running"),
    (
        "command failed, nothing applied",
        dict(RUN, deploy=failed("DEPLOY_COMMAND_FAILED", "exit status 1", planned=NAMES, applied=[], changed=False)),
        "failed",
        "FAILED. The deploy failed (DEPLOY_COMMAND_FAILED: exit status 1); nothing was applied. Not",
    ),
    (
        "command failed, part applied",
        dict(RUN, deploy=failed("DEPLOY_COMMAND_FAILED", "exit 1", planned=NAMES, applied=NAMES[:1], changed=True)),
        "failed",
        "; 1 of 2 migrations applied. Not rolled back",
    ),
    (
        "verification failed",
        dict(RUN, verification=LOST),
        "failed",
        "FAILED. The check after the deploy failed (DATA_LOSS: public.users has 99 rows fewer than before); 2 migrations applied and in place. Not rolled back, restore",
    ),
    (
        "verification failed, nothing pending",
        {"deploy": UP_TO_DATE, "verification": LOST},
        "failed",
        "; nothing was pending. Not rolled back, NO restore point",
    ),
    (
        "rolled back",
        dict(RUN, deploy=broken(), verification={}, restore=RESTORED),
        "rolled_back",
        "ROLLED BACK. %s%s. The failed database, with all that was written since the restore point, is kept as %s." % (WHY % "half applied", AS_BEFORE, KEPT),
    ),
    (
        "rolled back after the verification",
        dict(RUN, verification=LOST, restore=RESTORED),
        "rolled_back",
        "ROLLED BACK. the check after the deploy failed (DATA_LOSS: ",
    ),
    ("rollback had nothing to do", dict(RUN, deploy=broken("failed_clean"), restore=SAME), "rolled_back", "200,123 rows equal. It was so without a restore."),
    (
        "rollback failed",
        dict(RUN, deploy=broken(), restore=failed("SWAP_FAILED", "sessions remain")),
        "rollback_failed",
        "ROLLBACK FAILED. %s. The restore failed (SWAP_FAILED: sessions remain); it did not touch the live database. Restore point %s. Next: end the sessions"
        % (WHY % "half applied", POINT["id"]),
    ),
    (
        "rollback lost its connection",
        dict(RUN, deploy=broken(), restore=failed("CONNECTION_LOST", "gone")),
        "rollback_failed",
        "whether the live database was exchanged is not known",
    ),
    (
        "rollback not proved",
        dict(RUN, deploy=broken(), restore=UNPROVEN),
        "rollback_failed",
        "that the database is as before is not proved; the former database is kept",
    ),
    (
        "rolled back, and the check of it failed",
        dict(RUN, deploy=broken(), restore=RESTORED, restore_verification=failed("CHECK_FAILED", "smoke 1")),
        "rollback_failed",
        "The database was restored, then restore_verification failed (CHECK_FAILED: smoke 1)",
    ),
    ("nothing is recorded", {}, "failed", "NOT KNOWN. The run ended without a result of any phase"),
    ("it ended before the deploy", dict(RUN, deploy={}, verification={}), "failed", "NOT KNOWN. The run ended without a result of the deploy"),
    (
        "an unknown phase failed",
        {"expand": {"failed": True, "msg": "no"}},
        "failed",
        "FAILED. The phase expand failed (no); the deploy was not started. Not rolled back",
    ),
]


@pytest.mark.parametrize(("phases", "outcome", "words"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_cases(phases: dict[str, t.Any], outcome: str, words: str) -> None:
    found = record(phases=phases)
    assert (found["outcome"], words in found["sentence"]) == (outcome, True), found["sentence"]
    assert found["sentence"].startswith("staging1: ")


SWAPPED = dict(
    RESTORED, comparison="same_database", restored={}, restore_point={"id": "20261122T000000Z-abcdef", "path": "", "database": "x", "kind": "snapshot"}
)
REVERSED = {"changed": True, "name": "2026_reverse_b", "undone": ["b"]}
ROLLBACKS: list[tuple[str, dict[str, t.Any], str, str]] = [
    (
        "restored",
        {"restore": RESTORED},
        "restored",
        "RESTORED. microcare is as in the restore point %s: 9 tables, 200,123 rows equal. The former database is kept as" % POINT["id"],
    ),
    ("already so", {"restore": SAME}, "nothing_to_do", "nothing to do, microcare is already as in the restore point"),
    (
        "not confirmed",
        {"restore": failed("CONFIRMATION_MISSING", "type it", loss=RESTORED["loss"])},
        "refused",
        "the database was not touched. CONFIRMATION_MISSING",
    ),
    (
        "failed",
        {"restore": failed("RESTORE_FAILED", "pg_restore exit 1")},
        "rollback_failed",
        "ROLLBACK FAILED. The restore failed (RESTORE_FAILED: pg_restore exit 1); it did not",
    ),
    ("checked afterwards", {"restore": RESTORED, "verification": LOST}, "rollback_failed", "The database was restored, then verification failed (DATA_LOSS"),
    ("refused before", {"preflight": failed("WRONG_TARGET", "other"), "restore": {}}, "refused", "WRONG_TARGET"),
    ("never came to it", {"preflight": PREFLIGHT, "restore": {}}, "failed", "without a result of the restore"),
    ("resolved", {"resolve": {"changed": True}}, "done", "rollback ended without an error"),
    (
        "nothing to undo",
        {"choice": {"route": "hold", "why": "b is not applied, so there is nothing to undo", "hold": ["b"]}},
        "nothing_to_do",
        "-e migration_hold=b",
    ),
    (
        "by a snapshot",
        {"restore": SWAPPED},
        "restored",
        "is as in the snapshot 20261122T000000Z-abcdef: it is that database itself. The former database is kept as",
    ),
    ("by a snapshot, again", {"restore": dict(SWAPPED, changed=False)}, "nothing_to_do", "nothing to do, microcare is that very database"),
    ("a draft that was refused", {"choice": {"route": "reverse"}, "reverse": failed("SCHEMA_DRIFT", "live differs")}, "refused", "SCHEMA_DRIFT: live differs"),
    (
        "by a reverse migration",
        {"choice": {"route": "reverse"}, "reverse": REVERSED, "backup": BACKUP, "deploy": DEPLOYED, "verification": VERIFIED},
        "applied",
        "REVERSED. b is undone by the reverse migration 2026_reverse_b, which must be committed to the project; applied in 6.2 s, nothing lost, restore point",
    ),
    (
        "an unfinished migration that nothing proves",
        {"resolve": failed("RECOVERY_UNPROVED", "b is half there")},
        "refused",
        "the database was not touched. RECOVERY_UNPROVED",
    ),
    ("a lost answer", {"resolve": failed("CONNECTION_LOST", "gone")}, "failed", "FAILED. The phase resolve failed"),
    (
        "an unfinished migration cleared",
        {
            "choice": {"route": "recover"},
            "recovery": {"changed": False},
            "resolve": {"changed": True, "migration": "b", "resolved_to": "rolled_back", "recovery": {"reason": "nothing of it is there."}},
        },
        "done",
        "RECOVERED. b is recorded as rolled back (nothing of it is there). Next: mend what made it fail",
    ),
]


POINT_OF_DRILL: Result = {"id": POINT["id"], "kind": "dump", "path": POINT["path"], "age_seconds": 3600}
DRILLED: Result = {
    "changed": True, "restore_point": POINT_OF_DRILL, "drilled_at": "2026-11-22T03:00:00Z", "rto_seconds": 200.4, "restored": {"tables": 9, "rows": 200123},
    "seconds": {"check": 10.0, "restore": 180.0, "analyze": 5.0, "verify": 5.4, "total": 200.4},
}  # fmt: skip
RETAINED: Result = {"changed": False, "kept": [{}], "would_drop": [{}, {}], "dropped": [], "freed_bytes": 9}
OTHERS = [
    ("a backup", "backup", {"backup": BACKUP}, "done", "staging1: restore point 20261122T163000Z-ab12cd"),
    ("a backup that was there", "backup", {"backup": dict(BACKUP, changed=False)}, "done", "ab12cd, which is the present state still"),
    ("what would go", "backup", {"backup": BACKUP, "retention": RETAINED}, "done", "ab12cd; 2 old ones would be dropped"),
    ("what went", "backup", {"backup": BACKUP, "retention": dict(RETAINED, dropped=[{}], would_drop=[])}, "done", "ab12cd; 1 old one dropped"),
    ("no backup", "backup", {"backup": failed("DISK_FULL", "it is full")}, "refused", "DISK_FULL: it is full"),
    (
        "retention failed", "backup", {"backup": BACKUP, "retention": failed("REMOVAL_FAILED", "stuck")}, "failed",
        "FAILED. The phase retention failed (REMOVAL_FAILED: stuck). Restore point 20261122T163000Z-ab12cd.",
    ),
    ("a drill", "restore_drill", {"drill": DRILLED}, "done", "PROVED. The restore point 20261122T163000Z-ab12cd restores in 3 min 20 s: 9 tables, 200,123 rows equal"),
    ("a proof of before", "restore_drill", {"drill": dict(DRILLED, changed=False)}, "done", "rows equal (proved at 2026-11-22T03:00:00Z)"),
    ("a snapshot", "restore_drill", {"drill": dict(DRILLED, restore_point={"id": "s", "kind": "snapshot"})}, "done", "s restores in the time of a swap"),
    (
        "a drill that failed", "restore_drill", {"drill": failed("FINGERPRINT_MISMATCH", "it differs", restore_point=POINT_OF_DRILL)}, "failed",
        "DRILL FAILED. The restore point 20261122T163000Z-ab12cd was restored and is not equal: FINGERPRINT_MISMATCH: it differs; the live database was not touched.",
    ),
    ("nothing to try out", "restore_drill", {"drill": failed("BACKUP_NOT_FOUND", "there is none")}, "failed", "DRILL NOT DONE. The restore point could not be tried"),
    ("a drill without a word", "restore_drill", {"drill": {}}, "failed", "NOT KNOWN"),
]  # fmt: skip


@pytest.mark.parametrize(("runbook", "phases", "outcome", "words"), [case[1:] for case in OTHERS], ids=[case[0] for case in OTHERS])
def test_runbooks_that_leave_the_database_as_it_is(runbook: str, phases: dict[str, t.Any], outcome: str, words: str) -> None:
    found = record(runbook=runbook, phases=phases)
    assert (found["outcome"], words in found["sentence"]) == (outcome, True), found["sentence"]
    assert "olled back" not in found["sentence"]


def test_a_drill_in_the_table() -> None:
    found = record(runbook="restore_drill", phases={"drill": DRILLED})
    assert [phase["seconds"] for phase in found["phases"]] == [200.4], "the total is no phase of its own"
    row = run_row("staging1", found)
    assert (row["restore_point"], row["rto_seconds"], row["note"], row["ok"]) == (POINT["id"], 200.4, "1 h 0 min old", True)


@pytest.mark.parametrize(("phases", "outcome", "words"), [case[1:] for case in ROLLBACKS], ids=[case[0] for case in ROLLBACKS])
def test_rollback_runbook(phases: dict[str, t.Any], outcome: str, words: str) -> None:
    found = record(runbook="rollback", phases=phases)
    assert (found["outcome"], words in found["sentence"]) == (outcome, True), found["sentence"]


CHECKS: list[tuple[str, dict[str, t.Any], str, str]] = [
    (
        "would apply",
        {"preflight": PREFLIGHT, "backup": {"changed": True, "restore_point": {"id": ""}}, "deploy": WOULD},
        "checked",
        "2 migrations would be applied: %s" % NAMES[0],
    ),
    ("nothing", {"deploy": UP_TO_DATE}, "nothing_to_do", "(check mode) nothing to do, 2 migrations applied"),
    ("would refuse", {"deploy": failed("HISTORY_DIVERGED", "edited: a")}, "refused", "(check mode) REFUSED in the phase deploy"),
    (
        "would restore",
        {"restore": dict(RESTORED, comparison="")},
        "checked",
        "microcare would be set back to the restore point %s, 200,024 rows now and 200,123" % POINT["id"],
    ),
    ("only looked", {"preflight": PREFLIGHT}, "checked", "no problem was found"),
]


@pytest.mark.parametrize(("phases", "outcome", "words"), [case[1:] for case in CHECKS], ids=[case[0] for case in CHECKS])
def test_check_mode(phases: dict[str, t.Any], outcome: str, words: str) -> None:
    found = record(check_mode=True, phases=phases)
    assert (found["outcome"], words in found["sentence"]) == (outcome, True), found["sentence"]


@pytest.mark.parametrize(
    ("phases", "error", "outcome", "words"),
    [
        ({"preflight": PREFLIGHT}, {"msg": "assertion failed"}, "refused", "REFUSED, the database was not touched. assertion failed."),
        (
            dict(RUN, verification={}),
            {"msg": "assertion failed", "phase": "verification"},
            "failed",
            "The check after the deploy failed (assertion failed); 2 migr",
        ),
        (dict(RUN, deploy=broken(), restore={}), {"msg": "no psql", "phase": "restore"}, "rollback_failed", "The restore failed (no psql); whether the live"),
        (dict(RUN, deploy=broken(), restore={}), {"msg": "no psql"}, "failed", " Then: no psql."),
        (
            dict(RUN, deploy=broken(), restore={}),
            broken(),
            "failed",
            "Next: go back to the restore point from before: rollback.yml (staging_migrate.yml does it by itself).",
        ),
        (
            dict(RUN, verification=LOST_AND_NOT_FAILED, restore=RESTORED),
            {"msg": "DATA_LOSS: The table public.t is gone. Next: look at the findings in the report."},
            "rolled_back",
            "ROLLED BACK. the check after the deploy failed (DATA_LOSS: The table public.t is gone); microcare is as before",
        ),
        (
            dict(RUN, verification=LOST_AND_NOT_FAILED),
            {"msg": "DATA_LOSS: The table public.t is gone. Next: look at the findings in the report."},
            "failed",
            "2 migrations applied and in place. Not rolled back, restore point %s. Next: look at the findings in the report." % POINT["id"],
        ),
        (dict(RUN, verification=LOST_AND_NOT_FAILED, restore=RESTORED), {}, "rolled_back", "ROLLED BACK. the check after the deploy had 1 finding; microcare"),
        (dict(RUN, restore=RESTORED), {}, "rolled_back", "something failed that was not recorded"),
        (
            {"preflight": PREFLIGHT, "server": {"changed": False}, "deploy": {}},
            {"msg": "WRONG_TARGET: another cluster. Next: check the inventory."},
            "refused",
            "REFUSED, the database was not touched. WRONG_TARGET: another cluster. Next: check the inventory.",
        ),
        ({"restore": RESTORED}, {"code": "X", "msg": "boom"}, "rolled_back", "the run failed (X: boom); microcare is as before"),
        (dict(RUN, verification={}), {"msg": "boom"}, "failed", "The run failed (boom); 2 migrations applied and in place"),
    ],
)
def test_errors_that_no_phase_has(phases: dict[str, t.Any], error: dict[str, t.Any], outcome: str, words: str) -> None:
    found = record(phases=phases, error=error)
    assert (found["outcome"], words in found["sentence"]) == (outcome, True), found["sentence"]
    assert bool(found["error"]) == bool(error)


CHOICES: dict[str, list[t.Any]] = {
    "preflight": [{}, PREFLIGHT, IDLE, failed("POOLER", "p")],
    "backup": [SKIPPED, BACKUP, failed("DISK_FULL", "d")],
    "deploy": [{}, UP_TO_DATE, DEPLOYED, broken(), failed("LOCKED", "l"), failed("CONNECTION_LOST", "c"), WOULD],
    "verification": [{}, VERIFIED, {"changed": False}, LOST, dict(VERIFIED, findings=[{"text": "f"}])],
    "restore": [{}, RESTORED, SAME, UNPROVEN, failed("SWAP_FAILED", "s"), failed("CONNECTION_LOST", "c"), failed("CONFIRMATION_MISSING", "m")],
}


@pytest.mark.parametrize(("runbook", "check_mode"), [("staging_migrate", False), ("staging_migrate", True), ("rollback", False), ("something", False)])
def test_every_combination_claims_only_what_is_proved(runbook: str, check_mode: bool) -> None:
    errors: list[dict[str, t.Any] | None] = [None, {"msg": "e"}]
    for *results, error in itertools.product(*CHOICES.values(), errors):
        phases = dict(zip(CHOICES, results))
        found = record(runbook=runbook, check_mode=check_mode, phases=phases, error=error)
        text, outcome, restore, deploy = found["sentence"], found["outcome"], phases["restore"], phases["deploy"]
        about = (outcome, text, phases)
        assert outcome in OUTCOMES and text.startswith("staging1: ") and "\n" not in text and len(text) < 1500, about
        bad = [name for name, result in phases.items() if result.get("failed") or result.get("unreachable")]
        if outcome in GOOD:
            assert (not bad and error is None) or (runbook == "rollback" and " Before it, " in text), about
        if outcome in ("rolled_back", "restored") or "as before:" in text or "rows equal" in text:
            assert restore.get("comparison") == "equal" and not check_mode, about
        if "nothing lost" in text:
            assert phases["verification"].get("findings") == [] and not phases["verification"].get("failed"), about
        if outcome == "applied":
            assert deploy.get("changed") and not check_mode, about
        if outcome == "nothing_to_do":
            assert not deploy.get("changed") and not restore.get("changed"), about
        if "database was not touched" in text:
            assert check_mode or not (deploy.get("changed") or restore.get("changed")), about
            assert check_mode or deploy.get("code") != "CONNECTION_LOST" and restore.get("code") != "CONNECTION_LOST", about
        if POINT["id"] in text:
            assert phases["backup"].get("restore_point") or restore.get("restore_point"), about
        if outcome == "checked":
            assert check_mode, about
        json.dumps(found)


def test_record_holds_what_reports_need_and_no_more() -> None:
    found = record(phases=dict(RUN, deploy=broken(output="x" * 9000 + "END", diff=[{"after": "INSERT INTO t VALUES ('row')"}]), restore=RESTORED))
    assert found["format"] == 1 and found["seconds"] == 40.0 and found["changed"] is True
    assert found["deploy"]["applied"] == [{"name": NAMES[0], "seconds": 1.5}]
    assert found["deploy"]["evidence"]["named"] == ["users"]
    assert len(found["deploy"]["output"]) < 4200 and found["deploy"]["output"].endswith("END")
    assert [(phase["name"], phase["outcome"]) for phase in found["phases"]] == [
        ("preflight", "ok"), ("backup", "changed"), ("deploy", "failed"), ("verification", "ok"), ("restore", "changed"),
    ]  # fmt: skip
    assert found["row_counts"] == [{"table": "public.users", "before": 19901, "after": 20000}] and found["row_counts_of"] == "restore"
    whole = json.dumps(found)
    assert "bob@example.org" not in whole and "INSERT INTO" not in whole


def test_no_secret_and_no_row_comes_through() -> None:
    secret = "postgresql://u:S3cr%C3%A9t@h/db"
    phases = dict(
        RUN,
        preflight=dict(PREFLIGHT, database_url=secret, login_password="S3cr", warnings=["cannot use %s" % secret, "password=S3cr x"], invocation={"p": "S3cr"}),
        verification=dict(VERIFIED, checks=[{"name": "smoke", "ok": True, "rows": [["S3cr"]]}], custom={"token": "S3cr", "rows": 3}),
        deploy=broken(output='url: %s\nError: Key (name)=(S3cr) exists\ninvalid input value for enum "Role": "S3cr"' % secret),
    )
    whole = json.dumps(record(phases=phases, error={"msg": "could not connect to %s" % secret}))
    assert "S3cr" not in whole and "(URL left out)" in whole


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see postgres://a:b@c/d now", "see (URL left out) now"),
        ('value "99999999999" is out of range for type integer', "value (value left out) is out of range for type integer"),
        ('invalid input syntax for type integer: "+49 170 "x"', "invalid input syntax for type integer: (value left out)"),
        ('duplicate key value violates unique constraint "User_email_key"', 'duplicate key value violates unique constraint "User_email_key"'),
        ("PGPASSWORD='a b' psql", "PGPASSWORD=(left out) psql"),
        ("\x1b[31mred\x1b[0m\x07", "red?"),
        ("a\ud800b", "a\\ud800b"),
    ],
)
def test_clean(text: str, expected: str) -> None:
    assert clean(text) == expected


def test_text_is_bounded() -> None:
    assert line("ä" * 500) == "ä" * 199 + "…"
    assert len(clean("ä" * 9000).encode()) <= 4096 + 6
    deep: t.Any = "x"
    for _ in range(100):
        deep = {"a": [deep]}
    assert len(json.dumps(plain(deep))) < 200
    assert "[...]" in json.dumps(plain(deep)) and plain([{"a": []}, {}]) == [{"a": []}, {}]
    assert plain({"a": float("nan"), "b": [float("inf")], "c": 1.5}) == {"a": None, "b": [None], "c": 1.5}


@pytest.mark.parametrize(
    "phases",
    [
        {"deploy": None, "backup": "text", "restore": ["x"], "verification": 5},
        {"deploy": {"changed": True, "applied": "x", "pending": 3, "migrations": "y", "failed_migration": "z", "seconds": "w"}},
        {"backup": {"changed": True, "restore_point": "x"}, "restore": {"changed": True, "restored": 3, "loss": "a", "seconds": 3.5, "comparison": "equal"}},
        {"verification": {"findings": "x", "differences": {"a": 1}, "before": 3, "after": {"tables": []}, "tables": [1, {"table": "t"}]}},
        {"deploy": {"results": [], "msg": "All items completed", "skipped": True, "changed": False}},
        {"deploy": {"results": [{"changed": True}, {"failed": True, "msg": "no"}], "msg": "One or more items failed", "changed": True, "failed": True}},
        {"": {"changed": True}, "odd | `name`\n": {"failed": True, "msg": None}},
    ],
)
def test_malformed_results_do_not_break_it(phases: dict[str, t.Any]) -> None:
    found = record(phases=phases, started_at="yesterday")
    assert found["outcome"] in OUTCOMES and found["seconds"] is None


def test_a_phase_takes_the_sum_of_its_steps_and_none_of_them_twice() -> None:
    steps = {"load": 0.5, "check": 1.0, "read": 3.0, "loss": 4.0, "restore": 20.0, "verify": 2.0, "swap": 0.25, "unavailable": 0.125}
    (phase,) = record(runbook="rollback", phases={"restore": dict(RESTORED, seconds=steps)})["phases"]
    assert phase["seconds"] == 27.75
    # A plan took as long as a deploy that it did not do: that is no figure.
    assert [entry["seconds"] for entry in record(phases={"preflight": dict(PREFLIGHT, seconds=0.0), "deploy": DEPLOYED})["phases"]] == [None, 6.2]


def test_phases_come_in_the_order_of_a_run() -> None:
    found = record(phases={"restore": {}, "smoke": {"changed": False}, "deploy": DEPLOYED, "backup": BACKUP})
    assert [phase["name"] for phase in found["phases"]] == ["backup", "deploy", "smoke", "restore"]
    assert found["other"] == {"smoke": {"changed": False}}


def test_database_is_named_by_the_restore_point() -> None:
    assert record(database="", phases=RUN)["database"] == "microcare"
    plain_run = build_record(run_id="r", runbook="staging_migrate", target="t", phases={"deploy": UP_TO_DATE}, finished_at="2026-11-22T17:00:00Z")
    assert plain_run["database"] == "" and plain_run["seconds"] is None


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0, "0.0 s"),
        (0.0019, "1.9 ms"),
        (0.049, "49 ms"),
        (0.05, "0.1 s"),
        (6.24, "6.2 s"),
        (59.96, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3840, "1 h 4 min"),
        (None, ""),
        (True, ""),
        ("x", ""),
    ],
)
def test_seconds(seconds: t.Any, expected: str) -> None:
    assert seconds_text(seconds) == expected


def test_plural() -> None:
    assert [plural(n, "row") for n in (0, 1, 1200)] == ["0 rows", "1 row", "1,200 rows"]


def test_counts_and_checks_of_the_verification() -> None:
    checks = [{"name": "sequences", "verdict": "fail"}, {"name": "drift", "verdict": "pass"}]
    counts = [{"table": "public.users", "before": 3, "after": 2}, {"table": "public.pets", "before": 7, "after": 7}]
    found = record(phases={"verification": {"changed": False, "findings": [], "checks": checks, "row_counts": counts}})
    assert (found["row_counts"], found["row_counts_of"]) == (counts, "verification")
    assert found["verification"]["checks"] == checks and "row_counts" not in found["verification"]
    assert found["phases"][-1]["sentence"] == "0 findings, failed checks: sequences"


@pytest.mark.parametrize("said", ["the server is gone", "Task failed: the server is gone", "TARGET_UNREACHABLE: Task failed: the server is gone"])
def test_what_ansible_puts_before_a_message_is_left_out(said: str) -> None:
    record = build_record(
        run_id="r", runbook="staging_migrate", target="t", phases={"deploy": {"msg": said, "failed": True}}, finished_at="2026-11-22T17:00:00Z"
    )
    assert record["error"]["msg"] == "the server is gone" and "Task failed" not in record["sentence"]
