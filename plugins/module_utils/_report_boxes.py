# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The guide's two checklists, answered by a run record. Pure: no I/O.

The rule of every box: a tick needs evidence in the record. What a run cannot know, or did
not do, is not answered, and says why. A part of an answer is a warning.
"""

from __future__ import annotations

import dataclasses

from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, SKIPPED, WARN
from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import source_of
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes_rehearsal import answers as rehearsed
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes_rehearsal import checks_of, rehearsal_of
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes_run import NONE, Answer, Record, Run
from ansible_collections.pgops.migrations.plugins.module_utils._report_commands import rollback_command
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

PRE_PRODUCTION, MIGRATION = "pre_production", "migration"
#: The guide's words, in its order.
BOXES: dict[str, dict[str, str]] = {
    PRE_PRODUCTION: {
        "staging_test": "Test migration on staging database with production-like data volume",
        "migration_time": "Verify migration time is acceptable (< 5 minutes for large tables)",
        "realistic_data": "Test with realistic data patterns",
        "no_data_loss": "Verify no data loss or corruption",
        "index_creation": "Check index creation performance",
        "foreign_keys": "Verify foreign key constraints",
        "application": "Test application functionality post-migration",
        "monitoring": "Monitor database performance during migration",
        "backup_restore": "Verify backup and restore procedures work",
    },
    MIGRATION: {
        "schema_reviewed": "Schema changes reviewed",
        "sql_reviewed": "SQL reviewed for correctness",
        "tested_development": "Tested on development database",
        "tested_staging": "Tested on staging database",
        "integrity": "Data integrity verified",
        "performance": "Performance impact assessed",
        "rollback_plan": "Rollback plan documented",
        "team_notified": "Team notified",
        "deployed_production": "Deployed to production",
        "post_verification": "Post-deployment verification completed",
    },
}
#: Findings that mean that something is gone or not what it was; the others are looked at, too, and only warn.
_LOSSES = frozenset([
    "content_changed", "expectation_missed", "large_objects_changed", "large_objects_fewer", "object_removed", "rows_fewer", "sequence_back", "table_gone",
])  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Box:
    """One box of a checklist.

    :ivar verdict: pass, fail, warn or not_answered.
    :ivar evidence: one sentence: on what the answer rests, or why there is none.
    """

    checklist: str
    name: str
    text: str
    verdict: str
    evidence: str


def boxes(record: Record) -> list[Box]:
    """Every box of both lists, in the guide's order."""
    run, rehearsal = Run(record), rehearsal_of(record)
    run.checks.update(checks_of(rehearsal))
    answers: dict[str, Answer] = {
        "staging_test": _staging_test(run),
        "migration_time": _migration_time(run),
        "realistic_data": _realistic_data(run),
        "no_data_loss": _no_data_loss(run),
        "index_creation": _index_creation(run),
        "foreign_keys": run.check("foreign_keys"),
        "application": _application(run),
        "monitoring": _monitoring(run),
        "backup_restore": _backup_restore(run),
        "schema_reviewed": (NONE, "A review is made by people; a run does not know of it."),
        "sql_reviewed": (NONE, "A review is made by people; a run does not know of it."),
        "tested_development": _tested(run, "development"),
        "tested_staging": _tested(run, "staging"),
        "integrity": _integrity(run),
        "performance": _performance(run),
        "rollback_plan": _rollback_plan(run),
        "team_notified": (NONE, "A run does not know who was told."),
        "deployed_production": _tested(run, "production"),
        "post_verification": _post_verification(run),
    }
    answers.update(rehearsed(rehearsal, run.environment, str((record.get("error") or {}).get("code") or "")))
    return [Box(kind, name, text, answers[name][0], line(answers[name][1], 400)) for kind, texts in BOXES.items() for name, text in texts.items()]


def _staging_test(run: Run) -> Answer:
    verdict, said = _tested(run, "staging")
    if verdict != PASS:
        return verdict, said
    amount = run.compared()
    return WARN, "%s Whether production has as much data, a run does not know%s." % (said, ": here are %s" % amount if amount else "")


def _migration_time(run: Run) -> Answer:
    verdict, said = run.check("deploy_time")
    limit = (run.checks.get("deploy_time") or {}).get("limit")
    if verdict != PASS:
        return verdict, said
    return (PASS, "%s The limit is %g s." % (said, limit)) if limit else (WARN, "%s No limit is set (verification_max_deploy_seconds)." % said)


def _realistic_data(run: Run) -> Answer:
    if run.environment == "production" and run.deployed()[0] != NONE:
        return NONE, "This run was on production itself; before it, a copy of production answers this."
    return NONE, "A run does not know whether data is realistic; a copy of production is."


def _no_data_loss(run: Run) -> Answer:
    findings = run.verification.get("findings")
    if not isinstance(findings, list) or (run.phases.get("verification") in ("skipped", None) and not findings):
        why = run.deployed()
        return NONE, "Nothing was compared: %s" % why[1] if why[0] != PASS else "Nothing was compared with the state before."
    level = run.verification.get("compared_level") or run.verification.get("level")
    if not findings and (level == "none" or not run.was_compared()):
        # Without a state before, there are no findings either.
        return NONE, "The state before was not at hand, so nothing was compared (verification_before)."
    if findings:
        entry = findings[0] if isinstance(findings[0], dict) else {}
        said = "%s: %s" % (plural(len(findings), "finding"), entry.get("text") or "see the findings")
        lost = any(isinstance(one, dict) and one.get("kind") in _LOSSES for one in findings)
        code = str((run.record.get("error") or {}).get("code"))
        return (FAIL if lost or code == "DATA_LOSS" else WARN), said
    differences = [entry for entry in run.verification.get("differences") or () if isinstance(entry, dict)]
    expected = sum(1 for entry in differences if entry.get("severity") == "expected")
    uncompared = sum(1 for entry in differences if entry.get("kind") == "content_not_compared")
    said = "No finding in %s" % (run.compared() or "what was compared")
    said += "; %s explained by a migration or expected" % plural(len(differences), "difference") if differences else ""
    said += ", %d of them only because the inventory expects them" % expected if expected else ""
    said += "; the content of %s could not be compared as a whole" % plural(uncompared, "table") if uncompared else ""
    if level != "full":
        return WARN, "%s. Contents were not compared (level %s)." % (said, level or "not known")
    return WARN if uncompared else PASS, said + "."


def _index_creation(run: Run) -> Answer:
    invalid, built = run.check("invalid_indexes"), run.check("index_build_time")
    if invalid[0] == FAIL or built[0] != PASS:
        return invalid if invalid[0] == FAIL else built
    monitor = run.deploy.get("monitor") or {}
    unknown = [build for build in monitor.get("index_builds") or () if isinstance(build, dict) and build.get("seconds") is None]
    longest = run.longest_migration()
    if not unknown:
        return built
    if longest is None or longest > _UNSEEN:
        return WARN, "%s A build whose time is not known took at most %s." % (built[1], duration_text(longest) or "as long as the deploy")
    return PASS, "%s None took longer than the longest migration, %s." % (built[1], duration_text(longest))


#: Seconds of a migration in which the build of an index may go unseen and still answers the question.
_UNSEEN = 5.0
_FUNCTIONAL = ("smoke_commands", "http", "smoke_sql")


def _application(run: Run) -> Answer:
    bad = run.worst([*_FUNCTIONAL, "application_role"])
    if bad is not None:
        return bad
    passed = run.passed(_FUNCTIONAL)
    if passed:
        return PASS, "Passed: %s." % ", ".join("%s (%s)" % (name, run.check(name)[1].rstrip(".")) for name in passed)
    if run.passed(["application_role"]):
        return WARN, "Only the login of the application was tried: %s" % run.check("application_role")[1]
    if not run.checks:
        return NONE, "No check was made in this run."
    return NONE, "No smoke test is set (verification_smoke_commands, verification_http_probes, verification_smoke_sql)."


def _monitoring(run: Run) -> Answer:
    monitor = run.deploy.get("monitor")
    if not isinstance(monitor, dict) or not monitor.get("taken"):
        verdict, said = run.deployed()
        return NONE, said if verdict == NONE else "The deploy was not watched." if not isinstance(monitor, dict) else "Nothing could be seen of the deploy."
    said = "%s in %s" % (plural(int(monitor["taken"]), "sample"), duration_text(monitor.get("seconds")) or "an unknown time")
    verdict, found = run.check("blocking_time")
    if verdict in (FAIL, WARN):
        return verdict, "%s. %s" % (said, found)
    longest = monitor.get("longest_block")
    sessions = monitor.get("blocked_sessions") or 0
    said += "; %s waited for a migration%s" % (
        plural(int(sessions), "other session"),
        ", the longest for %s" % duration_text(longest) if sessions and longest else "",
    )
    cancelled = [entry for entry in monitor.get("cancelled") or () if isinstance(entry, dict)]
    if cancelled:
        return WARN, "%s; the watchdog stepped in %s." % (said, "once" if len(cancelled) == 1 else plural(len(cancelled), "time"))
    if not run.seen_at_work():
        return WARN, "%s; no sample was taken while a migration ran, they were too short." % said
    return PASS, said + "."


def _backup_restore(run: Run) -> Answer:
    restore, drill = run.record.get("restore") or {}, run.record.get("drill") or {}
    for phase, what in (("backup", "backup"), ("restore", "restore"), ("drill", "restore drill")):
        if run.phases.get(phase) == "failed":
            code = str((run.record.get("error") or {}).get("code"))
            if phase == "restore" and run.outcome == "refused":
                return NONE, "The restore was refused before it began%s." % (" (%s)" % code if code else "")
            return FAIL, "The %s failed." % what
    if drill.get("drilled_at"):
        return PASS, "The restore point %s was restored and found equal at %s." % ((drill.get("restore_point") or {}).get("id"), drill["drilled_at"])
    if restore.get("changed") and not run.record.get("check_mode"):
        point = (restore.get("restore_point") or {}).get("id")
        if restore.get("comparison") == "equal":
            return PASS, "The restore point %s was restored in this run, and found equal." % point
        if restore.get("comparison") == "same_database":
            return WARN, "%s was swapped in, which is that very database; no dump was restored in this run." % source_of(restore).capitalize()
        return WARN, "The restore point %s was restored in this run, and not compared." % point
    point = (run.record.get("backup") or {}).get("restore_point") or {}
    if not point.get("id"):
        return NONE, "No restore point was taken in this run."
    proof = point.get("proof") or {}
    when = " at %s" % proof["at"] if proof.get("at") else ""
    if proof.get("level") == "drill":
        return PASS, "The restore point %s was restored and found equal%s." % (point["id"], when)
    if proof.get("level") == "read":
        return WARN, "The restore point %s was read back in full%s; it was not restored (restore_drill.yml does)." % (point["id"], when)
    return WARN, "The restore point %s was taken; nothing says that it was tried." % point["id"]


def _tested(run: Run, environment: str) -> Answer:
    """Whether the migrations were deployed in this environment."""
    if not run.environment:
        named = str(run.record.get("environment") or "")
        return NONE, "This run was on %s." % named if named else "The run does not know its environment (migration_environment is not set)."
    if run.environment != environment:
        return NONE, "This run was on %s." % run.environment
    verdict, said = run.deployed()
    return verdict, said if verdict == NONE else "On %s: %s" % (environment, said)


_INTEGRITY = ("ledger", "drift", "foreign_keys", "sequences", "disabled_triggers", "invalid_indexes", "custom")


def _integrity(run: Run) -> Answer:
    loss = _no_data_loss(run)
    if loss[0] == FAIL:
        return loss
    bad = run.worst(_INTEGRITY)
    if bad is not None and bad[0] == FAIL:
        return bad
    passed = run.passed(_INTEGRITY)
    if loss[0] == NONE and not passed:
        return loss
    if loss[0] != PASS:
        return WARN, loss[1]
    if bad is not None:
        return bad
    missing = [name for name in _INTEGRITY if name not in passed and name != "custom"]
    said = "%s Checks: %s." % (loss[1], ", ".join(passed) or "none")
    return (WARN, "%s Not answered: %s." % (said, ", ".join(missing))) if missing else (PASS, said)


_IMPACT = ("blocking_time", "table_rewrites", "index_build_time", "growth")


def _performance(run: Run) -> Answer:
    bad = run.worst(["deploy_time", *_IMPACT])
    if bad is not None:
        return bad
    impact = run.passed(_IMPACT)
    time = run.check("deploy_time")
    if "blocking_time" in impact:
        return PASS, " ".join(run.check(name)[1] for name in ("blocking_time", "deploy_time") if run.check(name)[0] == PASS)
    if time[0] == PASS:
        return WARN, "%s What others felt of it was not checked." % time[1]
    return NONE, run.check("blocking_time")[1]


def _rollback_plan(run: Run) -> Answer:
    point = (run.record.get("backup") or {}).get("restore_point") or {}
    if rollback_command(run.record):
        return PASS, "The restore point %s; the command to go back to it is in this report." % point["id"]
    verdict, said = run.deployed()
    if verdict == NONE:
        return NONE, said
    return FAIL, "No restore point was taken before the deploy."


def _post_verification(run: Run) -> Answer:
    state = run.phases.get("verification", "skipped")
    deployed, said = run.deployed()
    failing = [name for name, check in run.checks.items() if check.get("verdict") == FAIL]
    if state == "failed" or failing:
        error = run.record.get("error") or {}
        code = str(error.get("code") or "") if error.get("phase") == "verification" else ""
        named = ", ".join(failing) or code
        return FAIL, "The verification failed%s." % (": %s" % named if named else "")
    if state == "skipped":
        if deployed == PASS:
            return FAIL, "The verification was left out."
        return NONE, "Not verified: %s" % said
    if not run.checks:
        return WARN, "The states before and after were compared; no check was made."
    asked = [check for check in run.checks.values() if check.get("verdict") != SKIPPED]
    warned = [str(check.get("name")) for check in asked if check.get("verdict") == WARN]
    text = "%d of %d checks passed, %d skipped" % (len(asked) - len(warned), len(asked), len(run.checks) - len(asked))
    return (WARN, "%s; warned: %s." % (text, ", ".join(warned))) if warned else (PASS, text + ".")


__all__ = ("BOXES", "MIGRATION", "NONE", "PRE_PRODUCTION", "Box", "boxes")
