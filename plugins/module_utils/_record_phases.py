# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a record keeps of the results of a run's phases. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line, plain

Result = t.Mapping[str, t.Any]
#: What is kept of the phases whose results are known; everything of the others.
_KEPT: dict[str, tuple[str, ...]] = {
    "status": ("status", "pending", "ledger_head", "set_digest", "status_misleads", "next_deploy", "warnings"),
    "backup": ("restore_point", "warnings"),
    "deploy": (
        "engine", "status_before", "status", "ledger_head_before", "ledger_head", "set_digest", "would_apply", "planned", "pending", "held", "seconds",
        "output", "warnings",
        "failed_migration", "sqlstate", "sessions", "touched", "monitor", "followed", "resolved",
    ),
    "retention": ("would_drop", "dropped", "freed_bytes", "pinned", "unpinned", "warnings"),
    "rehearsal": (
        "passed", "reused", "text", "source", "restore_point", "certificate", "measured", "canary", "forecast", "findings", "checks", "failed_in", "deploy",
        "seconds", "copy_seconds", "rollback_seconds", "cleared", "withdrawn", "masked", "scaled", "warned", "warnings",
    ),
    "drill": ("restore_point", "drilled_at", "seconds", "rto_seconds", "restored", "differences", "warnings"),
    "restore": (
        "database", "kept", "restored", "restore_point", "seconds", "comparison", "loss", "attempts", "terminated", "warnings", "differences", "confirmation",
        "undone", "redone",
    ),
}  # fmt: skip
#: What is read by its parts below; anything else under these names is left out.
_DICTS = ("restore_point", "restored", "loss", "failed_migration", "seconds", "next_deploy")
_LISTS = ("undone", "redone", "pending", "held", "planned", "would_apply", "warnings", "differences", "findings", "checks")
#: What a failure says of itself, which the record has as its error.
_ONCE = ("code", "msg", "next_step")


def reduced(phase: str, result: Result) -> dict[str, t.Any]:
    """What a record keeps of a phase's result."""
    names = _KEPT.get(phase)
    kept = {name: value for name, value in result.items() if (name in names if names else name not in _ONCE and name not in ("failed", "skipped"))}
    answer = t.cast("dict[str, t.Any]", plain(kept))
    answer["changed"] = bool(result.get("changed"))
    verdicts = [verdict for verdict in _list(result.get("migrations")) if isinstance(verdict, t.Mapping)]
    if verdicts:
        answer["applied_total"] = sum(1 for verdict in verdicts if verdict.get("verdict") == "applied")
    answer.pop("migrations", None)
    if phase == "recovery":
        answer["migrations"] = [_unfinished(found) for found in verdicts]
    for name in _DICTS:
        if name in answer and not isinstance(answer[name], dict) and not (name == "seconds" and phase != "restore"):
            del answer[name]
    for name in _LISTS:
        if name in answer and not isinstance(answer[name], list):
            del answer[name]
    if phase == "deploy":
        answer["applied"] = _applied(result, verdicts)
        failed = result.get("failed_migration")
        name = str(failed.get("name")) if isinstance(failed, t.Mapping) else ""
        if name:
            said = line(t.cast("Result", failed).get("error") or "", 400)
            answer["failed_migration"] = dict(answer.get("failed_migration") or {}, name=line(name), error=said)
            evidence = result.get("evidence")
            answer["evidence"] = plain(evidence.get(name) or {}) if isinstance(evidence, t.Mapping) else {}
    if phase == "verification":
        # Drawn into row_counts; the fingerprints themselves stay where they are.
        for bulky in ("before", "after", "tables", "row_counts"):
            if isinstance(answer.get(bulky), (dict, list)):
                del answer[bulky]
    return answer


def _unfinished(found: Result) -> dict[str, t.Any]:
    """What the recovery found of a migration, without the scripts' text, which the terminal showed."""
    scripts = found.get("scripts")
    answer: dict[str, t.Any] = {name: line(found.get(name) or "", 600) for name in ("name", "state", "reason", "resolve")}
    answer["scripts"] = {
        line(name): {"proved": bool(script.get("proved")), "loses": [line(text, 300) for text in _list(script.get("loses"))]}
        for name, script in (scripts.items() if isinstance(scripts, t.Mapping) else ())
        if isinstance(script, t.Mapping)
    }
    return answer


def _applied(result: Result, verdicts: t.Sequence[Result]) -> list[dict[str, t.Any]]:
    """Names and durations; a failure returns the names only."""
    durations = {verdict.get("name"): verdict.get("seconds") for verdict in verdicts}
    answer = []
    for entry in _list(result.get("applied")):
        name = entry.get("name") if isinstance(entry, t.Mapping) else entry
        seconds = entry.get("seconds") if isinstance(entry, t.Mapping) else durations.get(name)
        answer.append({"name": line(name), "seconds": seconds})
    return answer


def _list(value: t.Any) -> list[t.Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


__all__ = ("reduced",)
