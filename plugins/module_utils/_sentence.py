# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The one line about a run that an operator reads. Pure: no I/O.

It claims what is proved, and says where something is not known.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._outcome import (
    APPLIED,
    CHECKED,
    DEPLOYING,
    DONE,
    FAILED,
    NO_ERROR,
    NOTHING,
    REFUSED,
    RESTORE_REFUSALS,
    RESTORED,
    RESTORING,
    ROLLBACK_FAILED,
    ROLLED_BACK,
    View,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_back import (
    blank,
    checked,
    database,
    equal,
    hold_option,
    pending_after,
    recovered,
    restored,
    restored_id,
    unconfirmed,
)
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_backup import drill_failed, retained
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_compared import without_findings
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural, seconds_text

#: Codes that say by their meaning that the live database was not touched.
_LIVE_UNTOUCHED = RESTORE_REFUSALS | frozenset(["FINGERPRINT_MISMATCH", "RESTORE_FAILED", "RESTORE_PREREQUISITE", "SWAP_FAILED", "SWAP_REFUSED"])

#: Runbooks that change nothing in the live database.
BACKUP, DRILL, REHEARSE = "backup", "restore_drill", "rehearse"
_STATES = {
    "failed_clean": "and left nothing behind",
    "failed_partial": "half applied",
    "committed_unrecorded": "after it was committed, and is not recorded as applied",
    "running": "to end and is still running",
}


def sentence(view: View, outcome: str) -> str:
    """The line that an operator reads."""
    text = _WORDS[outcome](view)
    if outcome in (NOTHING, RESTORED) and view.cause() is not None:
        text = "%s. Before it, %s." % (text.rstrip("."), _why(view))
    return "%s: %s%s" % (view.target, "(check mode) " if view.check_mode and outcome != CHECKED else "", text)


def _of_error(error: t.Mapping[str, t.Any]) -> str:
    parts = [str(error["code"]), str(error["msg"]).rstrip(".")]
    return ": ".join(part for part in parts if part) or "no message"


def _next(error: t.Mapping[str, t.Any] | None, default: str) -> str:
    return " Next: %s." % str((error or {}).get("next_step") or default).rstrip(".")


def _restore_point(view: View) -> str:
    return str((view.result("backup").get("restore_point") or {}).get("id") or "")


def _why(view: View) -> str:
    """What went wrong first."""
    cause = view.cause()
    if cause is None:
        # The playbook went back, and did not hand over what had failed.
        findings = view.result("verification").get("findings")
        return "the check after the deploy had %s" % plural(len(findings), "finding") if findings else "something failed that was not recorded"
    failed = view.result("deploy").get("failed_migration") or {}
    if cause["phase"] == "deploy" and failed.get("name"):
        said = ": ".join(str(part) for part in (failed.get("sqlstate"), failed.get("error")) if part) or _of_error(cause)
        return "%s failed %s (%s)" % (failed["name"], _STATES.get(str(failed.get("state")), "and what it left is not known"), said)
    name = {"": "the run", "verification": "the check after the deploy"}.get(str(cause["phase"]), "the phase %s" % cause["phase"])
    return "%s failed (%s)" % ("the deploy" if cause["phase"] == "deploy" else name, _of_error(cause))


def _capital(text: str, migration: bool) -> str:
    return text if migration else text[:1].upper() + text[1:]


def _why_capital(view: View) -> str:
    return _capital(_why(view), bool((view.result("deploy").get("failed_migration") or {}).get("name")))


def _nothing(view: View) -> str:
    choice = view.result("choice")
    if choice.get("route") == "hold":
        held = list(choice.get("hold") or ())
        text = "nothing to undo, %s" % choice.get("why")
        return text + (". To leave it pending: %s (better in the inventory)" % hold_option(held) if held else "")
    if view.state("restore") == "nothing" and view.result("restore").get("comparison") == "same_database":
        return "nothing to do, %s is that very database since an earlier run; what was written since is in it" % database(view)
    if view.state("restore") == "nothing":
        return "nothing to do, %s is already as in the restore point%s" % (database(view), blank(restored_id(view)))
    totals = [view.result(phase).get("applied_total") for phase in ("deploy", "status", "preflight")]
    known = next((total for total in totals if total is not None), None)
    text = "nothing to do" + (", %s applied" % plural(known, "migration") if known is not None else ", nothing is pending")
    waiting = max(len(view.result(phase).get("pending") or ()) for phase in ("deploy", "status", "preflight"))
    hold = max(len(view.result(phase).get("held") or ()) for phase in ("deploy", "preflight"))
    text += " (%d held back by %s)" % (waiting, "up_to" if not hold else "hold" if hold == waiting else "up_to and hold") if waiting else ""
    text += ", restore point %s" % _restore_point(view) if _restore_point(view) else ""
    findings = view.result("verification").get("findings")
    return text + ("; %s to look at" % plural(len(findings), "finding") if findings else "")


def _applied(view: View) -> str:
    deploy = view.result("deploy")
    duration = seconds_text(deploy.get("seconds"))
    reverse = view.result("reverse").get("name")
    what = plural(len(view.applied()), "migration")
    if reverse:
        undone = list(view.result("reverse").get("undone") or ())
        text = "REVERSED. %s %s undone by the reverse migration %s, which must be committed to the project;"
        what = text % (", ".join(undone), "are" if len(undone) > 1 else "is", reverse)
    text = "%s applied%s" % (what, " in " + duration if duration else "")
    findings = view.result("verification").get("findings")
    if view.state("verification") == "skipped":
        text += ", NOT verified"
    elif findings is None:
        text += ", checks passed"
    else:
        text += ", %s to look at" % plural(len(findings), "finding") if findings else ", %s" % without_findings(view.result("verification"))
    text += ", restore point %s" % _restore_point(view) if _restore_point(view) else ", NO restore point"
    return text + (pending_after(view, str(reverse)) if reverse else "")


def _refused(view: View) -> str:
    cause = view.cause() or NO_ERROR
    where = " in the phase %s" % cause["phase"] if cause["phase"] else ""
    said = unconfirmed(view) if cause["code"] == "CONFIRMATION_MISSING" and cause["phase"] == "restore" else ""
    return "REFUSED%s, the database was not touched. %s.%s" % (where, said or _of_error(cause), _next(cause, "correct it and run again"))


def _failed(view: View) -> str:
    cause = view.cause()
    if cause is None:
        missing = "the restore" if view.runbook in RESTORING else "the deploy" if view.states else "any phase"
        return "NOT KNOWN. The run ended without a result of %s, and without an error. Next: read the state with status.yml." % missing
    if view.runbook == REHEARSE:
        # Of the live database the error itself says what is known.
        return "REHEARSAL FAILED. %s.%s" % (_of_error(cause), _next(cause, "read the state with status.yml"))
    if view.runbook == DRILL:
        return drill_failed(view, str(cause["code"]), _of_error(cause), _next(cause, "look at the restore points with database_backup_info"))
    if cause["phase"] == "verification" and view.state("deploy") == "skipped" and view.runbook in DEPLOYING:
        # Of what a run had applied that nobody followed to its end; the application may have written since.
        text = "FAILED. What an earlier run applied does not pass: %s. This run deployed nothing, and rolled nothing back." % _of_error(cause)
        return text + _next(cause, "read the state with status.yml") + _and_then(view)
    text = "FAILED. %s" % _why_capital(view)
    count, planned = len(view.applied()), len(view.result("deploy").get("planned") or ())
    if cause["phase"] == "deploy" and not view.result("deploy").get("failed_migration"):
        if view.result("deploy").get("planned") is None:
            text += "; what was applied is not known"
        else:
            text += "; %d of %s applied" % (count, plural(planned, "migration")) if count else "; nothing was applied"
    elif count:
        text += "; %s applied%s" % (plural(count, "migration"), " before it" if cause["phase"] == "deploy" else " and in place")
    elif view.state("deploy") == "nothing":
        text += "; nothing was pending"
    elif view.state("deploy") == "skipped" and view.runbook in DEPLOYING:
        text += "; the deploy was not started"
    point = "restore point %s" % _restore_point(view) if _restore_point(view) else "NO restore point"
    # Where nothing was to be deployed there is nothing to roll back.
    text += ". %s%s." % (("Not rolled back, ", point) if view.runbook != BACKUP else ("", point[:1].upper() + point[1:]))
    return text + _next(cause, "read the state with status.yml") + _and_then(view)


def _and_then(view: View) -> str:
    """What else was caught and belongs to no phase."""
    if view.error is None or not view.errors or view.matches() or view.error is view.cause():
        return ""
    return " Then: %s." % _of_error(view.error)


def _rolled_back(view: View) -> str:
    text = "ROLLED BACK. %s; %s is as before: %s" % (_why(view), database(view), equal(view))
    if view.state("restore") == "nothing":
        return text + ". It was so without a restore."
    kept = view.result("restore").get("kept")
    return text + (". The failed database, with all that was written since the restore point, is kept as %s." % kept if kept else ".")


def _rollback_failed(view: View) -> str:
    later = view.later()
    text = "ROLLBACK FAILED. " + ("%s. " % _why_capital(view) if view.automatic() else "")
    kept = view.result("restore").get("kept")
    if view.state("restore") in ("changed", "nothing"):
        if later is not None:
            text += "The database was restored, then %s failed (%s)" % (later["phase"] or "a check", _of_error(later))
        else:
            text += "A restore was done, but that the database is as before is not proved"
        text += "; the former database is kept as %s" % kept if kept else ""
    else:
        text += "The restore failed (%s); " % _of_error(later or NO_ERROR)
        untouched = (later or NO_ERROR)["code"] in _LIVE_UNTOUCHED
        text += "it did not touch the live database" if untouched else "whether the live database was exchanged is not known"
    point = restored_id(view) or _restore_point(view)
    path = (view.result("backup").get("restore_point") or {}).get("path")
    if not path:
        named = "Restore point %s" % point if point else "NO restore point"
        return text + ". %s.%s" % (named, _next(later, "read the state with status.yml, then rollback.yml"))
    # Running the same playbook again would be refused because of the failed migration: only this leads back.
    obstacle = str((later or NO_ERROR)["next_step"]).rstrip(".").replace(" and run again", "")
    return text + ". Restore point %s. Next: %srollback.yml with migration_restore_point=%s." % (point, obstacle + ", then " if obstacle else "", path)


def _done(view: View) -> str:
    if view.result("resolve").get("migration"):
        return recovered(view)
    if view.runbook == REHEARSE and view.result("rehearsal").get("text"):
        return str(view.result("rehearsal")["text"])
    if view.runbook == DRILL and view.result("drill").get("drilled_at"):
        return _drilled(view)
    point = view.result("backup").get("restore_point") or {}
    if view.runbook == BACKUP and point.get("id"):
        return "restore point %s%s%s" % (point["id"], ", which is the present state still" if view.state("backup") == "nothing" else "", retained(view))
    if view.state("backup") == "changed" and point.get("id"):
        return "%s ended without an error, restore point %s" % (view.runbook, point["id"])
    return "%s ended without an error" % view.runbook


def _drilled(view: View) -> str:
    found = view.result("drill")
    duration = seconds_text(found.get("rto_seconds"))
    if (found.get("restore_point") or {}).get("kind") == "snapshot":
        duration = "the time of a swap"
    which = blank(str((found.get("restore_point") or {}).get("id") or ""))
    text = "PROVED. The restore point%s restores in %s: %s" % (which, duration or "an unknown time", equal(view, "drill"))
    return text + (" (proved at %s)" % found["drilled_at"] if view.state("drill") == "ok" else "")


_WORDS: dict[str, t.Callable[[View], str]] = {
    NOTHING: _nothing, APPLIED: _applied, REFUSED: _refused, FAILED: _failed, ROLLED_BACK: _rolled_back, ROLLBACK_FAILED: _rollback_failed,
    CHECKED: checked, RESTORED: restored, DONE: _done,
}  # fmt: skip

__all__ = ("plural", "seconds_text", "sentence")
