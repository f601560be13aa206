# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a rehearsal answers of the guide's checklists. Pure: no I/O.

It deploys to a copy only, so it answers what is asked before production, and nothing of what is asked about a deploy.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, WARN
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_judge import PHASES
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes_run import NONE, Answer, Record
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

_ON_COPY = "On a copy: %s"


def rehearsal_of(record: Record) -> Record:
    """The rehearsal of a run; nothing where there was none, where it was only planned, or where an earlier one still held."""
    found = record.get("rehearsal") or (record.get("other") or {}).get("rehearsal") or {}
    return found if not record.get("check_mode") and (found.get("failed_in") or (found.get("passed") and not found.get("reused"))) else {}


def checks_of(rehearsal: Record) -> dict[str, dict[t.Any, t.Any]]:
    """Its checks by name, each saying that a copy was looked at."""
    checks = [check for check in rehearsal.get("checks") or () if isinstance(check, dict)]
    return {str(check.get("name")): dict(check, text=_ON_COPY % (check.get("text") or "")) for check in checks}


def answers(rehearsal: Record, environment: str, code: str) -> dict[str, Answer]:
    """The boxes that are answered by a rehearsal otherwise than by a deploy.

    :param environment: of the target, in the guide's words. ``code``: of the error that ended the run.
    """
    if not rehearsal:
        return {}
    loss = _loss(rehearsal, code)
    found = {
        "no_data_loss": loss, "integrity": loss, "monitoring": _felt(rehearsal), "backup_restore": _way_back(rehearsal),
        "post_verification": (NONE, "Nothing was deployed but to a copy."),
    }  # fmt: skip
    if environment == "production" and rehearsal.get("passed"):
        found["realistic_data"] = (PASS, "The migrations ran on a copy of production itself.")
        found["staging_test"] = (WARN, "The migrations ran on a copy of production, which has its volume; no staging database was part of this run.")
    return found


def _reached(rehearsal: Record, phase: str) -> bool:
    """Whether this phase came to a good end."""
    failed = str(rehearsal.get("failed_in") or "")
    return not failed or (failed in PHASES and PHASES.index(failed) > PHASES.index(phase))


def _loss(rehearsal: Record, code: str) -> Answer:
    findings = [entry for entry in rehearsal.get("findings") or () if isinstance(entry, dict)]
    said = _ON_COPY % ("%s: %s" % (plural(len(findings), "finding"), findings[0].get("text"))) if findings else ""
    if code == "DATA_LOSS":
        return FAIL, said or "On a copy something was lost that no migration explains."
    if not _reached(rehearsal, "compare"):
        return NONE, "Nothing was compared: the rehearsal failed in the phase %s." % rehearsal["failed_in"]
    return (WARN, said) if findings else (PASS, _ON_COPY % "no difference, in rows or contents, that no migration explains.")


def _felt(rehearsal: Record) -> Answer:
    canary = rehearsal.get("canary") or {}
    if not canary.get("probes"):
        return NONE, "The copy was not probed during the deploy (rehearsal_canary)."
    tables = int(canary.get("probed") or len(canary.get("tables") or ()))
    said = _ON_COPY % ("%s of %s" % (plural(int(canary["probes"]), "probe"), plural(tables, "table")))
    said += "; the longest wait was %s" % (duration_text(canary.get("longest_stall")) or "not known")
    broken = [entry for entry in canary.get("broken") or () if isinstance(entry, dict)]
    if broken:
        return WARN, "%s. An application of before would have failed: %s, %s." % (said, broken[0].get("table"), broken[0].get("what"))
    if rehearsal.get("failed_in") == "deploy":
        return NONE, said + ", until the deploy failed."
    return PASS, said + "."


def _way_back(rehearsal: Record) -> Answer:
    point, failed = str((rehearsal.get("restore_point") or {}).get("id") or ""), rehearsal.get("failed_in")
    if failed in ("copy", "prove", "rollback", "proof"):
        return FAIL, "The rehearsal failed in the phase %s." % failed
    if not point and _reached(rehearsal, "proof"):
        return WARN, "On a copy the way back by a snapshot led to the same fingerprint; no dump was restored in this run."
    if not point:
        return NONE, "No dump was restored in this run."
    if _reached(rehearsal, "proof"):
        return PASS, "The restore point %s was restored to a copy in this run and found equal, and was the way back to the same fingerprint." % point
    if _reached(rehearsal, "prove"):
        return PASS, "The restore point %s was restored to a copy in this run and found equal; the way back after a deploy was not reached." % point
    return NONE, "The rehearsal failed before the restore point %s was restored." % point


__all__ = ("answers", "checks_of", "rehearsal_of")
