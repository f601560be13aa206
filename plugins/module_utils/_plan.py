# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a deploy is to apply, and what it did apply. Pure: states in, decisions out."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._collation import sort_key
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import error_line, sqlstate_in, without_rows
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN, PARTIAL, RUNNING
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import APPLIED, EDITED, MISSING, OUT_OF_ORDER, UNFINISHED, Report

_REFUSALS = {
    "P1003": "DATABASE_MISSING",
    "P3005": "UNMANAGED_DATABASE",
    "P3009": "UNFINISHED_MIGRATION",
    "P3015": "MIGRATION_FILE_MISSING",
    "P3019": "PROVIDER_MISMATCH",
}
_FLAG_WORDS = {EDITED: "edited after it was applied", MISSING: "applied and not in the folder", OUT_OF_ORDER: "older than the newest applied one"}


def plan(
    report: Report,
    up_to: str | None = None,
    expected: t.Sequence[str] | None = None,
    allow: t.Collection[str] = (),
    hold: t.Collection[str] = (),
) -> list[str]:
    """The names to apply, in order; empty when there is nothing to do.

    :param up_to: the last one to apply.
    :param expected: what an earlier check announced; None accepts whatever is pending.
    :param allow: names whose divergence is known and accepted.
    :param hold: names to leave pending, whatever comes after them.
    :raises MigrationError: why this database must not be deployed to as it stands.
    """
    refuse_blocked(report)
    deploy = report.next_deploy
    if deploy.code in _REFUSALS and deploy.code != "P3015":
        raise MigrationError(deploy.why, code=_REFUSALS[t.cast(str, deploy.code)], prisma_code=deploy.code)
    # What stays where it is may well be out of order.
    refuse_diverged(report, {*allow, *(name for name in report.pending if name in hold)})
    names = list(report.pending)
    if up_to is not None:
        if up_to not in {verdict.name for verdict in report.verdicts if MISSING not in verdict.flags}:
            raise MigrationError("up_to names %s, which is not in the folder" % up_to, code="UNKNOWN_MIGRATION")
        names = [name for name in names if sort_key(name) <= sort_key(up_to)]
    known = {verdict.name for verdict in report.verdicts}
    unknown = sorted(set(hold) - known)
    if unknown:
        # A typo would deploy what was to be held back.
        raise MigrationError("hold names %s, which is neither in the folder nor in the ledger" % _listed(unknown), code="UNKNOWN_MIGRATION")
    names = [name for name in names if name not in hold]
    if deploy.code == "P3015" and not set(names) <= set(deploy.migrations):
        raise MigrationError(deploy.why, code="MIGRATION_FILE_MISSING", prisma_code="P3015")
    if expected is not None and list(expected) != names:
        raise MigrationError(
            "expected to apply %s, but now it would be %s" % (_listed(expected), _listed(names)), code="LEDGER_MOVED", expected=list(expected), pending=names
        )
    return names


def refuse_blocked(report: Report) -> None:
    """:raises MigrationError: ``UNFINISHED_MIGRATION`` or ``MIGRATION_RUNNING``."""
    for verdict in report.verdicts:
        if verdict.verdict != UNFINISHED:
            continue
        if verdict.substate == RUNNING:
            raise MigrationError("%s is being applied by another session" % verdict.name, code="MIGRATION_RUNNING", migration=verdict.name)
        raise MigrationError(
            "%s was started and never finished (%s)" % (verdict.name, verdict.substate),
            code="UNFINISHED_MIGRATION",
            migration=verdict.name,
            substate=verdict.substate,
        )


def refuse_diverged(report: Report, allow: t.Collection[str]) -> None:
    """:raises MigrationError: ``HISTORY_DIVERGED`` with every name that is not allowed."""
    found = {
        flag: [v.name for v in report.verdicts if flag in v.flags and v.name not in allow and (v.verdict == APPLIED or flag == OUT_OF_ORDER)]
        for flag in _FLAG_WORDS
    }
    if any(found.values()):
        text = "; ".join("%s: %s" % (_FLAG_WORDS[flag], ", ".join(names)) for flag, names in found.items() if names)
        raise MigrationError(text, code="HISTORY_DIVERGED", diverged={flag: names for flag, names in found.items() if names})


def hold_warnings(names: t.Sequence[str], held: t.Sequence[str]) -> list[str]:
    """What follows from applying these names while those are held back."""
    overtaken = [name for name in held if names and sort_key(name) < sort_key(names[-1])]
    return ["%s is held back while later ones are applied: it will be out of order, and allow must name it then" % name for name in overtaken]


def _listed(names: t.Sequence[str]) -> str:
    return ", ".join(names) if names else "nothing"


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why an engine stopped, as far as it knows: a server's error or a program's output."""

    migration: str | None = None
    sqlstate: str | None = None
    message: str = ""
    code: str | None = None


def applied_between(before: Report, after: Report) -> list[str]:
    """Names that became applied, in order."""
    had = set(before.named(APPLIED))
    return [name for name in after.named(APPLIED) if name not in had]


def with_seconds(names: t.Sequence[str], report: Report) -> list[dict[str, t.Any]]:
    """Names with their durations, as modules return them."""
    seconds = {verdict.name: verdict.seconds for verdict in report.verdicts}
    return [{"name": name, "seconds": seconds.get(name)} for name in names]


def assess(before: Report, after: Report, planned: t.Sequence[str], failure: Failure | None, state: t.Mapping[str, t.Any]) -> list[str]:
    """The names that were applied, when they are exactly the planned ones.

    :param failure: what the engine said; an engine that complains although the ledger
        holds everything is believed less than the ledger.
    :param state: the state after it, returned with every failure.
    :raises MigrationError: a migration failed, or the ledger is not as planned.
    """
    applied = applied_between(before, after)
    facts: dict[str, t.Any] = dict(state, applied=with_seconds(applied, after), planned=list(planned), changed=bool(applied) or after != before)
    broken = next((v for v in after.verdicts if v.verdict == UNFINISHED), None)
    if failure is not None and failure.code == "LOCKED" and not applied:
        # Whatever moved meanwhile was the work of the session that holds the lock.
        raise MigrationError(failure.message, code="LOCKED", **dict(facts, changed=False))
    if broken is not None:
        if broken.row and broken.row.logs:
            # The ledger's log says what the command printed, and says it shorter.
            facts.pop("output", None)
        raise _failed(broken.name, broken.substate or "unknown", broken.row.logs if broken.row else None, failure, facts)
    if applied == list(planned):
        return applied
    if failure is not None:
        if failure.code and not (applied and failure.code == "LOCKED"):
            raise MigrationError(failure.message, code=failure.code, sqlstate=failure.sqlstate, **facts)
        raise MigrationError("the deploy ended with an error and applied %s: %s" % (_listed(applied), failure.message), code="DEPLOY_COMMAND_FAILED", **facts)
    more = [name for name in applied if name not in planned]
    raise MigrationError(
        "planned %s; the ledger holds %s" % (_listed(planned), _listed(applied)),
        code="DEPLOY_INCOMPLETE",
        next_step="more was applied than planned (%s): verify, or go back to the restore point" % _listed(more) if more else None,
        **facts,
    )


def _failed(name: str, substate: str, logs: str | None, failure: Failure | None, facts: dict[str, t.Any]) -> MigrationError:
    said = parse_logs(logs)
    if failure is not None and not logs:
        # Nothing was recorded: what the engine or the command said is all there is.
        said = Failure(name, failure.sqlstate or sqlstate_in(failure.message), failure.message)
        facts["cause"] = failure.code
    elif failure is not None and failure.migration == name:
        said = Failure(name, failure.sqlstate or said.sqlstate, failure.message or said.message)
    code = {CLEAN: "MIGRATION_FAILED_CLEAN", PARTIAL: "MIGRATION_FAILED_PARTIAL"}.get(substate, "MIGRATION_FAILED")
    sqlstate = " (SQLSTATE %s)" % said.sqlstate if said.sqlstate else ""
    failed = {"name": name, "state": substate, "sqlstate": said.sqlstate, "error": said.message}
    reason = facts.get("evidence", {}).get(name, {}).get("reason", "")
    return MigrationError(
        "%s failed%s: %s. State after it: %s (%s)" % (name, sqlstate, said.message or "no message", substate, reason),
        code=code,
        failed_migration=failed,
        sqlstate=said.sqlstate,
        **facts,
    )


def parse_logs(logs: str | None) -> Failure:
    """SQLSTATE and the server's message from the ledger's column logs."""
    text = without_rows(logs or "")
    return Failure(None, sqlstate_in(text), error_line(text))


#: Prisma's error codes that name a cause of their own, for a CLI that ended with one.
_PRISMA_CODES = {
    "P1000": "AUTH_FAILED", "P1001": "SERVER_UNREACHABLE", "P1002": "LOCKED", "P1003": "DATABASE_MISSING", "P1010": "PERMISSION_DENIED", "P1011": "TLS_FAILED",
    "P1013": "URL_INVALID", "P1017": "CONNECTION_LOST", "P3005": "UNMANAGED_DATABASE", "P3009": "UNFINISHED_MIGRATION", "P3015": "MIGRATION_FILE_MISSING",
    "P3019": "PROVIDER_MISMATCH",
}  # fmt: skip


def failure_of_cli(returncode: int, output: str, timed_out: bool, seconds: float) -> Failure | None:
    """What a CLI's end means; None when it claims success."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    start = next((i for i, line in enumerate(lines) if re.match(r"(?:Error|error)\b|npm ERR|ERROR", line)), max(0, len(lines) - 6))
    tail = " ".join(lines[start:])[:600]
    if timed_out:
        return Failure(None, None, "it was ended after %g seconds; its last words: %s" % (seconds, tail or "none"), "DEPLOY_TIMEOUT")
    if returncode == 0:
        return None
    stated = re.search(r"^(?:Error: )?(P\d{4})(?![\w-])", output, re.M)
    code = _PRISMA_CODES.get(stated.group(1)) if stated else None
    if code == "LOCKED" and "advisory lock" not in output:
        code = "SERVER_UNREACHABLE"  # P1002 stands for any wait that was too long
    return Failure(None, None, "exit status %d: %s" % (returncode, tail or "no output"), code)


__all__ = ("Failure", "applied_between", "assess", "failure_of_cli", "hold_warnings", "parse_logs", "plan", "refuse_blocked", "refuse_diverged", "with_seconds")
