# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What came of a run: its outcome. Pure: no I/O.

The rule of every branch: what is not proved is not claimed. "Nothing lost" needs a
comparison without findings, "as before" a fingerprint that was found equal, "nothing
was touched" a phase that refuses before it acts.
"""

from __future__ import annotations

import dataclasses
import typing as t

NOTHING, APPLIED, REFUSED, FAILED = "nothing_to_do", "applied", "refused", "failed"
ROLLED_BACK, ROLLBACK_FAILED, CHECKED, RESTORED, DONE = "rolled_back", "rollback_failed", "checked", "restored", "done"
OUTCOMES = (NOTHING, APPLIED, REFUSED, FAILED, ROLLED_BACK, ROLLBACK_FAILED, CHECKED, RESTORED, DONE)
#: Outcomes after which nobody has to get up.
GOOD = frozenset([NOTHING, APPLIED, CHECKED, RESTORED, DONE])

#: Phases in the order of a run. Others may be given; they count as being between verification and restore.
PHASES = (
    "status",
    "guard",
    "preflight",
    "server",
    "certificate",
    "choice",
    "recovery",
    "reverse",
    "backup",
    "rehearsal",
    "deploy",
    "verification",
    "resolve",
    "restore",
    "restore_verification",
    "external",
    "retention",
    "drill",
)
#: Phases that touch no database.
_BEFORE = frozenset(["status", "guard", "preflight", "server", "certificate", "choice", "recovery", "reverse", "backup"])
WRITING = frozenset(["backup", "deploy", "resolve", "restore"])
DEPLOYING = frozenset(["staging_migrate", "production_migrate", "phased_migrate"])
RESTORING = frozenset(["rollback", "restore"])

#: Codes with which a deploy refuses before it starts anything.
_DEPLOY_REFUSALS = frozenset([
    "CONNECTION_OPTIONS", "DATABASE_MISSING", "HISTORY_DIVERGED", "LEDGER_MALFORMED", "LEDGER_MOVED", "LEDGER_UNREADABLE", "LOCKED",
    "MAINTENANCE_DB_UNREACHABLE", "MIGRATIONS_DIR_MISSING", "MIGRATION_FILE_MISSING", "MIGRATION_RUNNING", "NAME_UNUSABLE", "NOT_A_MIGRATIONS_DIR",
    "NOT_PRIMARY", "OPTION_INVALID", "POOLER", "PRISMA_NOT_FOUND", "PROJECT_MISSING", "PROVIDER_MISMATCH", "PSYCOPG2_MISSING", "SCHEMA_MISSING",
    "SERVER_TOO_OLD", "UNFINISHED_MIGRATION", "UNKNOWN_MIGRATION", "UNMANAGED_DATABASE", "URL_INVALID", "URL_NOT_DIRECT",
])  # fmt: skip
#: Codes with which a restore refuses before it makes anything.
RESTORE_REFUSALS = frozenset([
    "BACKUP_CORRUPT", "BACKUP_FOREIGN", "BACKUP_FORMAT", "BACKUP_IN_USE", "BACKUP_NOT_FOUND", "CLIENT_TOO_OLD", "DECRYPTION_FAILED", "SIGNATURE_INVALID",
    "SIGNATURE_MISSING", "CONFIRMATION_MISSING", "CONNECTION_OPTIONS",
    "DATABASE_MISSING", "LOCKED", "MAINTENANCE_DB_UNREACHABLE", "NAME_UNUSABLE", "NOT_PRIMARY", "OPTION_INVALID", "PROGRAM_MISSING", "PSYCOPG2_MISSING",
    "SERVER_TOO_OLD", "URL_INVALID", "URL_NOT_DIRECT", "VERSION_MISMATCH", "WRONG_TARGET",
])  # fmt: skip
NO_ERROR: dict[str, t.Any] = {"code": "", "msg": "", "next_step": "", "phase": ""}


@dataclasses.dataclass(frozen=True)
class View:
    """What a verdict needs to know of a run; the results are those of the record, cleaned.

    ``states``: phase -> ok, failed, skipped, changed or nothing. ``errors``: of the failed
    phases. ``error``: what the playbook caught; its phase is empty where it is not known.
    """

    target: str
    runbook: str
    database: str
    check_mode: bool
    states: t.Mapping[str, str]
    results: t.Mapping[str, t.Mapping[str, t.Any]]
    errors: t.Mapping[str, t.Mapping[str, t.Any]]
    error: t.Mapping[str, t.Any] | None = None

    def state(self, phase: str) -> str:
        return self.states.get(phase, "skipped")

    def result(self, phase: str) -> t.Mapping[str, t.Any]:
        return self.results.get(phase) or {}

    def cause(self) -> t.Mapping[str, t.Any] | None:
        """The first failure of the run, that of a restore only when there is no other."""
        failed = [phase for phase in self.states if self.states[phase] == "failed"]
        for phase in [name for name in failed if not _of_restore(name)] or ([] if self._foreign() else failed):
            return self.errors[phase]
        return self.error

    def _foreign(self) -> bool:
        """Whether the error that was caught belongs to no failed phase that is known, and to no restore."""
        return self.error is not None and not self.error["phase"] and not self.matches()

    def matches(self) -> bool:
        """Whether the error that was caught is that of a phase."""
        found = self.error or NO_ERROR
        return any(found["phase"] == phase or found["msg"] == error["msg"] for phase, error in self.errors.items())

    def later(self) -> t.Mapping[str, t.Any] | None:
        """A failure of the way back: the restore's own, or of a check after it."""
        cause = self.cause()
        if self.runbook in RESTORING and self.state("restore") in ("changed", "nothing") and cause is not None and cause["phase"] not in _BEFORE:
            return cause
        for phase in self.states:
            if _of_restore(phase) and self.states[phase] == "failed":
                return self.errors[phase]
        return self.error if self.error and _of_restore(str(self.error["phase"])) else None

    def automatic(self) -> bool:
        """Whether the way back was an answer to a failure of this run."""
        cause = self.cause()
        # A runbook that deploys goes back for no other reason, also where it did not say which.
        return self.runbook in DEPLOYING or (self.runbook not in RESTORING and cause is not None and not _of_restore(str(cause["phase"])))

    def applied(self) -> list[t.Mapping[str, t.Any]]:
        return list(self.result("deploy").get("applied") or ())

    def deploy_refused(self) -> bool:
        """Whether the deploy failed before it did anything; what it says of itself counts more than its code."""
        result = self.result("deploy")
        if self.state("deploy") != "failed" or any(result.get(key) for key in ("changed", "applied", "failed_migration", "planned", "resolved")):
            return False
        return result["touched"] is False if "touched" in result else self.errors["deploy"]["code"] in _DEPLOY_REFUSALS

    def idle(self) -> bool:
        """Whether the state that was read has nothing pending; only where no deploy said so itself."""
        for phase in ("deploy", "preflight", "status"):
            result = self.result(phase)
            if self.state(phase) not in ("skipped", "failed") and "status" in result:
                # A deploy's plan knows best: a history may differ where that is allowed, and up_to may hold back.
                if "engine" in result:
                    return not result.get("would_apply") and not result.get("applied")
                return result["status"] == "up_to_date" and not result.get("pending")
        return False

    def proven(self) -> bool:
        """Whether the database was found equal to the restore point, and nothing failed afterwards."""
        return (
            self.state("restore") in ("changed", "nothing") and self.result("restore").get("comparison") in ("equal", "same_database") and self.later() is None
        )


def _of_restore(phase: str) -> bool:
    return phase.startswith("restore")


def decide(view: View) -> str:
    """One of :data:`OUTCOMES`."""
    cause = view.cause()
    if view.check_mode:
        return _decide_check(view) if cause is None else REFUSED
    if view.state("restore") != "skipped" or view.later() is not None:
        return _decide_restore(view)
    if cause is not None:
        return REFUSED if _untouched(view, cause) else FAILED
    return _decide_done(view)


def _decide_check(view: View) -> str:
    if view.result("choice").get("route") == "hold":
        return NOTHING
    would = view.state("deploy") == "changed" or view.state("restore") == "changed" or view.result("deploy").get("would_apply")
    idle = view.state("deploy") == "nothing" or view.state("restore") == "nothing" or view.idle()
    return NOTHING if idle and not would else CHECKED


def _decide_done(view: View) -> str:
    """A run in which nothing failed and nothing was restored."""
    if view.result("choice").get("route") == "hold":
        return NOTHING
    if view.state("deploy") != "skipped":
        return APPLIED if view.state("deploy") == "changed" else NOTHING
    if view.runbook == "rehearse" and view.state("rehearsal") == "skipped":
        return NOTHING if view.idle() else FAILED
    if view.runbook in DEPLOYING or not any(state != "skipped" for state in view.states.values()):
        return NOTHING if view.idle() else FAILED
    return FAILED if view.runbook in RESTORING and view.state("resolve") == "skipped" else DONE


def _untouched(view: View, cause: t.Mapping[str, t.Any]) -> bool:
    """Whether it is sure that the run stopped before it did anything to the database."""
    acted = [phase for phase, state in view.states.items() if phase not in _BEFORE and state not in ("skipped", "ok")]
    if acted == ["resolve"]:
        # It writes all in one transaction; only a lost answer leaves doubt.
        return view.state("resolve") == "failed" and view.errors["resolve"]["code"] not in ("", "CONNECTION_LOST", "INTERNAL")
    if acted == ["deploy"] and view.deploy_refused():
        return cause["phase"] in _BEFORE or cause["phase"] == "deploy"
    known = cause["phase"] in _BEFORE or (not cause["phase"] and view.runbook in DEPLOYING | RESTORING)
    return known and not acted


def _decide_restore(view: View) -> str:
    later = view.later()
    if view.automatic():
        return ROLLED_BACK if view.proven() else ROLLBACK_FAILED
    if later is not None or not view.proven():
        early = view.state("restore") in ("failed", "skipped") and later is not None and later["code"] in RESTORE_REFUSALS
        return REFUSED if early and view.state("deploy") == "skipped" else ROLLBACK_FAILED
    acted = any(view.state(phase) == "changed" or view.result(phase).get("changed") for phase in ("deploy", "resolve", "restore"))
    return RESTORED if acted else NOTHING


__all__ = (
    "APPLIED", "CHECKED", "DEPLOYING", "DONE", "FAILED", "GOOD", "NOTHING", "NO_ERROR", "OUTCOMES", "PHASES", "REFUSED", "RESTORED", "RESTORE_REFUSALS",
    "RESTORING", "ROLLBACK_FAILED", "ROLLED_BACK", "View", "WRITING", "decide",
)  # fmt: skip
