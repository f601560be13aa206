# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a rehearsal found, judged and told. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

Result = t.Mapping[str, t.Any]
#: In the order of a rehearsal. Those of ``TRIED`` say something about the migrations.
PHASES = (
    "plan", "source", "slot", "copy", "prove", "prepare", "state", "guard", "before", "deploy", "compare", "checks", "rollback", "proof", "statements", "live",
    "drop", "certificate",
)  # fmt: skip
TRIED = frozenset(["deploy", "compare", "checks", "rollback", "proof"])
#: Differences of these kinds fail when no statement of a migration can have caused them; those of the role verification.
FAIL_ON = (
    "table_added", "table_gone", "rows_fewer", "content_changed", "content_not_compared", "sequence_back", "large_objects_fewer", "large_objects_changed",
    "object_added", "object_removed", "object_changed", "expectation_missed",
)  # fmt: skip
#: Tables of the canary, the slowest first, that a failure tells of.
_TABLES = 5
#: What is copied where no restore point is named: in check mode it is not taken.
_UNNAMED = {"template": "a template copy", "restore_point": "a restore point that is taken first"}
_OF_DEPLOY = ("failed_migration", "sqlstate", "applied", "planned", "status", "output", "evidence")
_LIVE = {
    True: "ledger and schema of the live database are as they were",
    False: "the ledger or the schema of the live database CHANGED meanwhile, look at it with status.yml",
    None: "the live database could not be asked whether it is as it was",
}
#: Nobody but us is in the copy, so who waited for a lock of Prisma's waited for that of the live database.
_ASTRAY = "see that the project takes its URL from the environment (its names: -e migrate_deploy_database_url_env), for the CLI may have gone elsewhere"
_AGAIN = "mend what is named, then rehearse again: ansible-playbook playbooks/rehearse.yml -e migration_targets=HOST"


def demand_explained(findings: t.Sequence[Result], fail_on: t.Collection[str]) -> None:
    """:raises MigrationError: ``DATA_LOSS`` with the findings of these kinds."""
    lost = [each for each in findings if each["kind"] in fail_on]
    if lost:
        said = " ".join(str(each["text"]) for each in lost[:5]) + (" And %d more." % (len(lost) - 5) if len(lost) > 5 else "")
        raise MigrationError(said, code="DATA_LOSS", findings=list(lost))


def demand_passed(checks: Result) -> None:
    """:raises MigrationError: ``CHECK_FAILED``.

    :param checks: see ``_check.summary``.
    """
    if checks["failing"]:
        raise MigrationError(str(checks["text"]), code="CHECK_FAILED", checks=checks["checks"], failing=checks["failing"])


def measured(
    deployed: Result,
    checks: t.Sequence[Result],
    seconds: t.Mapping[str, float],
    way: Result,
    copied: t.Mapping[str, float],
    size_bytes: int,
    canary: Result,
) -> dict[str, t.Any]:
    """The figures of a certificate.

    :param deployed: the result of migration_deploy on the copy. ``checks``: as ``_check.summary`` gives them. ``seconds``: of the phases.
    :param way: of the way back, with C(seconds). ``copied``: seconds of each step of making the copy.
    """
    monitor = deployed.get("monitor") or {}
    stalls = {each["table"]: each["longest_stall"] for each in canary.get("tables") or ()}
    return {
        "deploy_seconds": deployed.get("seconds"),
        "migrations": [{"name": each["name"], "seconds": each.get("seconds")} for each in deployed.get("applied") or ()],
        "longest_block": monitor.get("longest_block"),
        # Of the tables that kept their readers and writers waiting at all.
        "longest_stall": canary.get("longest_stall"),
        "stalls": {table: seconds for table, seconds in stalls.items() if seconds >= 0.05},
        "rewrites": list(monitor.get("rewrites") or ()),
        # One that was skipped proved nothing, so it is seen which.
        "checks": {each["name"]: each["verdict"] for each in checks},
        "copy_seconds": dict(copied),
        "rollback_seconds": dict(way["seconds"]),
        "phases": dict(seconds),
        "size_bytes": size_bytes,
    }


def failure(error: MigrationError, database: str, phase: str, told: Result, untouched: bool | None) -> MigrationError:
    """The error of a rehearsal: where it failed, what was seen until then, and that it was a copy.

    :param untouched: whether the live database was found as it was; None where it could not be asked.
    """
    facts = dict(error.facts)
    deploy = {name: facts[name] for name in _OF_DEPLOY if name in facts} if phase == "deploy" else {}
    keep = {
        name: value for name, value in facts.items() if name in ("findings", "checks", "failing", "differences", "missing", "sessions", "running", "mismatches")
    }
    msg, step = error.msg.rstrip("."), error.next_step
    if phase in TRIED:
        msg = "the rehearsal on a copy of %s failed in the phase %s: %s; %s" % (database, phase, msg, _LIVE[untouched])
        # What is advised for a live database is no advice for a copy that is gone.
        step = _ASTRAY if phase == "deploy" and error.code == "LOCKED" else _AGAIN
    # A failure cannot warn: the key is Ansible's own.
    said = {name: value for name, value in told.items() if name != "warnings"}
    # Ansible prints all of a failure above its message.
    canary = dict(said.get("canary") or {})
    tables = list(canary.get("tables") or ())
    said.update(canary=dict(canary, tables=tables[:_TABLES], probed=len(tables)) if canary else {})
    return MigrationError(msg, code=error.code, next_step=step, **dict(said, **keep, warned=list(told.get("warnings") or ()), failed_in=phase, deploy=deploy))


def sentence(result: Result) -> str:
    """What came of a rehearsal that did not fail, in one line."""
    names = result["migrations"]
    if not names:
        return "Nothing is pending, so nothing was rehearsed."
    if result["reused"]:
        return "The rehearsal of %s still holds for %s." % (result["certificate"]["issued_at"], plural(len(names), "migration"))
    source = "the restore point %s" % result["restore_point"]["id"] if result["restore_point"] else _UNNAMED[str(result["source"])]
    if not result["passed"]:
        return "%s would be rehearsed on %s." % (plural(len(names), "migration"), source)
    seconds = result["seconds"]
    said = "%s rehearsed on %s: deployed in %.1f s, checked, and back in %.1f s to the same fingerprint."
    text = said % (plural(len(names), "migration"), source, result["measured"]["deploy_seconds"] or seconds["deploy"], seconds["rollback"])
    stall = (result.get("canary") or {}).get("longest_stall")
    if stall is not None:
        worst = next(iter(result["canary"]["tables"]), None)
        text += " Longest stall for users: %.2f s%s." % (stall, " (%s)" % worst["table"] if worst and stall >= 0.05 else "")
    broken = (result.get("canary") or {}).get("broken") or ()
    if broken:
        more = " and %d more" % (len(broken) - 3) if len(broken) > 3 else ""
        text += " An application of before would fail: %s%s." % (", ".join("%s (%s)" % (each["table"], each["what"]) for each in broken[:3]), more)
    forecast = (result.get("forecast") or {}).get("text")
    return "%s %s" % (text, forecast) if forecast else text


__all__ = ("FAIL_ON", "PHASES", "TRIED", "demand_explained", "demand_passed", "failure", "measured", "sentence")
