# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a run found of others before its own deploy: runs whose end nobody was told, and migrations that they left unfinished. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._outcome import DEPLOYING
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

Result = t.Mapping[str, t.Any]
#: Where a deploy is planned, and where it is done; the later one knows more.
_PHASES = ("deploy", "preflight")
_STATES = ("finished", "failed", "killed", "unknown")
_RECORDED = ("applied", "rolled_back")
_ENDED = {
    "finished": "nobody followed it to its end, it finished",
    "failed": "nobody followed it to its end, it failed",
    "killed": "nobody followed it to its end, it was killed",
    "unknown": "it was waited for, how it ended is not known",
}
#: Names in a sentence.
_NAMES = 5


def followed(phases: t.Mapping[str, Result]) -> list[dict[str, t.Any]]:
    """The runs of others that were waited for, or whose end this run was the first to be told; each once."""
    found: dict[str, dict[str, t.Any]] = {}
    for phase in _PHASES:
        for entry in _entries(phases, phase, "followed"):
            name = line(entry.get("run_id") or "")
            if name in found:
                continue
            state, code, seconds = str(entry.get("state")), line(entry.get("code") or ""), entry.get("seconds")
            found[name] = {
                "run_id": name,
                "state": state if state in _STATES else "unknown",
                "applied": [line(each) for each in _list(entry.get("applied"))],
                "started_at": line(entry.get("started_at") or ""),
                "seconds": seconds if isinstance(seconds, (int, float)) and not isinstance(seconds, bool) else None,
                "code": code,
            }
    return list(found.values())


def resolved(phases: t.Mapping[str, Result], runbook: str) -> list[dict[str, t.Any]]:
    """The unfinished migrations that were recorded before the deploy, because what they had left was proved."""
    found: dict[str, dict[str, t.Any]] = {}
    for phase in _PHASES:
        for entry in _entries(phases, phase, "resolved"):
            if entry.get("name") and entry.get("state") in _RECORDED:
                found.setdefault(line(entry["name"]), _resolved(entry["name"], entry["state"], entry.get("reason")))
    done = phases.get("resolve") or {}
    if runbook in DEPLOYING and done.get("changed") and not done.get("failed") and done.get("migration") and done.get("resolved_to") in _RECORDED:
        reasons = {entry.get("name"): entry.get("reason") for entry in _entries(phases, "recovery", "migrations")}
        found.setdefault(line(done["migration"]), _resolved(done["migration"], done["resolved_to"], reasons.get(done["migration"])))
    return list(found.values())


def _resolved(name: t.Any, state: t.Any, reason: t.Any) -> dict[str, t.Any]:
    return {"name": line(name), "state": str(state), "reason": line(reason or "", 600)}


def _entries(phases: t.Mapping[str, Result], phase: str, key: str) -> list[Result]:
    return [entry for entry in _list((phases.get(phase) or {}).get(key)) if isinstance(entry, t.Mapping)]


def _list(value: t.Any) -> list[t.Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def run_text(entry: Result) -> str:
    """How the run of somebody else ended, and what it applied."""
    took = duration_text(entry["seconds"])
    said = "run %s: %s%s" % (entry["run_id"], _ENDED[entry["state"]], " after %s" % took if took and entry["state"] == "finished" else "")
    said += " (%s)" % entry["code"] if entry["code"] else ""
    names = ", ".join(entry["applied"][:_NAMES]) + (" and %d more" % (len(entry["applied"]) - _NAMES) if len(entry["applied"]) > _NAMES else "")
    if not names:
        return said + "; nothing is known to be applied by it"
    return said + "; %s applied by it: %s" % (plural(len(entry["applied"]), "migration"), names)


def resolved_text(entry: Result, check_mode: bool = False) -> str:
    """What was recorded of a migration that had been left unfinished."""
    said = "%s, left unfinished, %s as %s" % (entry["name"], "would be recorded" if check_mode else "was recorded", entry["state"].replace("_", " "))
    return said + (": %s" % entry["reason"].rstrip(".") if entry["reason"] else "")


def told(record: Result) -> str:
    """What the sentence says of others; empty without them. In brackets, for a sentence may end with what is to be pasted."""
    found = [run_text(entry) for entry in record["followed"]] + [resolved_text(entry, record["check_mode"]) for entry in record["resolved"]]
    found += [_verified(record["verification"])] if _verified_others(record) else []
    return " (Before it: %s.)" % ". ".join(each[:1].upper() + each[1:] for each in found) if found else ""


def _verified_others(record: Result) -> bool:
    """Whether the verification was of what others had applied: there was no deploy, and it came to its end."""
    states = {phase["name"]: phase["outcome"] for phase in record["phases"]}
    others = not record["deploy"] and any(entry["applied"] for entry in record["followed"])
    return others and states.get("verification") == "ok" and record["error"] is None


def _verified(result: Result) -> str:
    """The writes of an application since then are among the findings, so these are no failure."""
    findings = len(_list(result.get("findings")))
    said = "this run verified what was applied: no check failed"
    return said + (", %s that no migration explains, see the report" % plural(findings, "difference") if findings else "")


def uncertified(guard: Result) -> str:
    """What the sentence says where production was migrated without a rehearsal, because somebody typed so; empty else.

    :param guard: the phase C(certificate).
    """
    if not guard.get("overridden"):
        return ""
    said = "Went WITHOUT a valid rehearsal, %s; the reason that was typed: %s"
    return " (%s.)" % (said % (line(guard.get("refusal_code") or ""), line(guard.get("override_reason") or "", 300).rstrip(".")))


__all__ = ("followed", "resolved", "resolved_text", "run_text", "told", "uncertified")
