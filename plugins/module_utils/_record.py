# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The record of one run against one target, made from what its phases returned. Pure: no I/O.

Reports are drawn from records and from nothing else, so a record keeps what a report
needs and no more: no URL, no password, no row, and texts of programs only by their end.
What each field means stands in docs/record.schema.json, from which docs/record.md is made.
"""

from __future__ import annotations

import re
import shlex
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._advice import next_step
from ansible_collections.pgops.migrations.plugins.module_utils._errors import CODES
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import PHASES, WRITING, View, decide
from ansible_collections.pgops.migrations.plugins.module_utils._record_bounds import fit
from ansible_collections.pgops.migrations.plugins.module_utils._record_counts import row_counts
from ansible_collections.pgops.migrations.plugins.module_utils._record_others import followed, resolved, told, uncertified
from ansible_collections.pgops.migrations.plugins.module_utils._record_phases import reduced
from ansible_collections.pgops.migrations.plugins.module_utils._record_times import between, zoned
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line
from ansible_collections.pgops.migrations.plugins.module_utils._sentence import sentence
from ansible_collections.pgops.migrations.plugins.module_utils._typed import named_database, option
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

#: Goes up when a field goes away or means something else, and not when one is added.
FORMAT = 1
Result = t.Mapping[str, t.Any]
#: Longest next step: it may hold a command, which must not be cut.
_PREFIX = "Task failed: "
_STEP = 4000
_NEXT_STEP = re.compile(r"\s*\bNext: (.*)\Z", re.S)
_CODE = re.compile(r"(?:^|(?<=: ))([A-Z][A-Z0-9_]{3,}): ")
#: What only the verification says, by an assertion that registers nothing.
_OF_VERIFICATION = frozenset(["CHECK_FAILED", "DATA_LOSS"])


def build_record(
    *,
    run_id: str,
    runbook: str,
    target: str,
    phases: t.Mapping[str, t.Any],
    finished_at: str,
    started_at: str = "",
    environment: str = "",
    database: str = "",
    operator: str = "",
    revision: str = "",
    check_mode: bool = False,
    error: Result | None = None,
) -> dict[str, t.Any]:
    """The record as a dict of plain values.

    :param phases: phase -> the module's result as Ansible registered it; empty, skipped
        and failed ones are welcome. The known phases are in ``_outcome.PHASES``.
    :param error: what the playbook caught where no phase has it: C(code), C(msg),
        C(next_step), C(phase), or simply C(ansible_failed_result).
    :param started_at: ISO 8601; so is ``finished_at``.
    """
    given: dict[str, Result] = {name: _single(phases[name]) for name in sorted(phases, key=_rank)}
    caught = _error(error, str(error.get("phase") or "")) if error and (error.get("msg") or error.get("code")) else None
    states = {line(name): _state(name, result) for name, result in given.items()}
    errors = {line(name): _error(result, line(name)) for name, result in given.items() if _state(name, result) == "failed"}
    if caught and caught["phase"] and caught["phase"] not in errors:
        # A phase may fail outside of the module whose result it registers.
        states[caught["phase"]] = "failed"
        errors[caught["phase"]] = caught
        states = {name: states[name] for name in sorted(states, key=_rank)}
    for each in [*errors.values(), *([caught] if caught else [])]:
        # A module does not know what the inventory calls its target.
        each["next_step"] = each["next_step"].replace("migration_targets=HOST", "migration_targets=%s" % shlex.quote(line(target)))
    results = {line(name): reduced(name, result) for name, result in given.items() if _state(name, result) != "skipped"}
    view = View(line(target), line(runbook), line(database or _database(results)), check_mode, states, results, errors, caught)
    better, first = next_step(view), view.cause()
    if better and first is not None:
        # The same dict that the sentence and the report read.
        t.cast("dict[str, t.Any]", first)["next_step"] = better
    outcome = decide(view)
    cause = view.later() if outcome == "rollback_failed" and view.later() else view.cause()
    # The comparison around a deploy says nothing any more once the database was set back.
    of = "restore" if outcome in ("rolled_back", "restored", "rollback_failed") and results.get("restore") else "verification"
    counts = row_counts(given.get("verification", {}), {}) if of == "verification" else row_counts({}, given.get("restore", {}))
    record: dict[str, t.Any] = {
        "format": FORMAT,
        "run_id": line(run_id),
        "runbook": view.runbook,
        "target": str(target),
        "environment": line(environment),
        "database": view.database,
        "operator": line(operator),
        "revision": line(revision),
        "check_mode": bool(check_mode),
        "started_at": zoned(line(started_at)),
        "finished_at": zoned(line(finished_at)),
        "seconds": between(started_at, finished_at),
        "outcome": outcome,
        "sentence": sentence(view, outcome),
        "changed": any(state == "changed" for state in states.values()) or any(bool(result.get("changed")) for result in given.values()),
        "phases": [_phase(name, states[name], results.get(name, {}), errors.get(name)) for name in states],
        "row_counts": counts,
        "row_counts_of": of if counts else "",
        "error": _advised(cause, outcome, results, str(target)) if cause else None,
        "followed": followed(given),
        "resolved": resolved(given, view.runbook),
    }
    for name in ("preflight", "backup", "deploy", "verification", "restore", "drill"):
        record[name] = results.get(name)
    record["sentence"] += uncertified(results.get("certificate") or {}) + told(record)
    record["other"] = {name: result for name, result in results.items() if name not in record}
    for name in ("preflight", "deploy"):
        # They are fields of their own.
        record[name] = {key: value for key, value in record[name].items() if key not in ("followed", "resolved")} if record[name] else record[name]
    tables = (results.get("verification") or {}).get("tables")
    # A module that counts many tables tells the first of them.
    fit(record, {"row_counts": tables} if of == "verification" and counts and isinstance(tables, int) else {})
    return record


def _advised(cause: Result, outcome: str, results: t.Mapping[str, Result], target: str) -> dict[str, t.Any]:
    """The error; what it advises was for the moment before the way back."""
    if outcome != "rolled_back":
        return dict(cause)
    kept = results.get("restore", {}).get("kept")
    step = "mend the cause and run again"
    if kept:
        typed = "ansible-playbook pgops.migrations.kept %s" % option("migration_targets", target)
        step += "; the failed database %s shows what was left. To list it, and to drop it when nobody needs it: %s" % (kept, typed)
    return dict(cause, next_step=step)


def _rank(phase: str) -> float:
    return PHASES.index(phase) if phase in PHASES else PHASES.index("verification") + 0.5


def _single(value: t.Any) -> Result:
    """One result of a registered value; of a loop the first that failed, else a merge."""
    if not isinstance(value, t.Mapping):
        return {}
    items = value.get("results")
    if isinstance(items, (list, tuple)) and items and all(isinstance(item, t.Mapping) for item in items) and "msg" in value:
        bad = [item for item in items if _is_failed(item)]
        merged: dict[str, t.Any] = {}
        for item in bad[:1] or items:
            merged.update(item)
        return dict(merged, failed=bool(bad), changed=any(item.get("changed") for item in items), skipped=all(item.get("skipped") for item in items))
    return value


def _is_failed(result: Result) -> bool:
    # A code stands in failures only, also where failed_when hides them.
    return bool(result.get("failed") or result.get("unreachable") or (result.get("code") and result.get("next_step")))


def _state(name: str, result: Result) -> str:
    if _is_failed(result):
        return "failed"
    if not result or result.get("skipped"):
        return "skipped"
    if result.get("changed"):
        return "changed"
    return "nothing" if name in WRITING else "ok"


def _error(result: Result, phase: str) -> dict[str, str]:
    """Code, message without code and next step, next step, phase.

    An assertion has only a message; it may be worded as a module words its own, C(CODE: text. Next: step.).
    """
    code, step = line(result.get("code") or ""), line(result.get("next_step") or "", _STEP)
    text = str(result.get("msg") or result.get("message") or result.get("module_stderr") or "").strip()
    worded = next((found for found in _CODE.finditer(text) if found.group(1) in CODES), None)
    if worded and code in ("", worded.group(1)):
        code, text = worded.group(1), text[worded.end() :]
    # What newer versions of Ansible put before all that they say.
    text = text.strip()[len(_PREFIX) :] if text.strip().startswith(_PREFIX) else text
    advice = _NEXT_STEP.search(text)
    if advice:
        step, text = step or line(advice.group(1), _STEP).rstrip("."), text[: advice.start()]
    if result.get("unreachable"):
        # Ansible's own failure, which knows no codes.
        code, step = code or "TARGET_UNREACHABLE", step or CODES["TARGET_UNREACHABLE"][1]
    return {"code": code, "msg": line(text, 400), "next_step": step, "phase": line(phase or ("verification" if code in _OF_VERIFICATION else ""))}


def _list(value: t.Any) -> list[t.Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


def _database(results: t.Mapping[str, Result]) -> str:
    """The name that the restore point has, for a caller who did not give one."""
    words = str((results.get("backup", {}).get("restore_point") or {}).get("confirmation") or "")
    named = (results.get(phase, {}).get("database") for phase in ("restore", "choice"))
    return named_database(words) or next((str(name) for name in named if name), "")


def _phase(name: str, state: str, result: Result, error: Result | None) -> dict[str, t.Any]:
    seconds = result.get("seconds")
    if isinstance(seconds, t.Mapping):
        # Of a restore the archive is read while the loss is counted.
        within = ("unavailable", "total", *(["read"] if "loss" in seconds else []))
        parts = [value for key, value in seconds.items() if isinstance(value, (int, float)) and key not in within]
        seconds = round(sum(parts), 3)
    if name == "backup":
        seconds = (result.get("restore_point") or {}).get("seconds")
    if name in ("preflight", "status"):
        # A plan's duration is that of the deploy which it did not do.
        seconds = None
    return {"name": name, "outcome": state, "seconds": seconds if isinstance(seconds, (int, float)) else None, "sentence": _said(name, state, result, error)}


def _said(name: str, state: str, result: Result, error: Result | None) -> str:
    """One phase in a few words."""
    text = "status %s" % line(result["status"]) if result.get("status") else "ended without an error"
    if error is not None:
        text = ": ".join(part for part in (error["code"], error["msg"]) if part)
    elif state == "skipped":
        text = "not run"
    elif name == "backup":
        point = result.get("restore_point") or {}
        text = "restore point %s" % point["id"] if point.get("id") else "a restore point would be taken"
    elif name == "drill":
        point = str((result.get("restore_point") or {}).get("id") or "")
        text = "restore point %s was restored and found equal" % point if result.get("drilled_at") else "a drill would be done"
    elif name == "retention":
        text = "%s dropped, %d would be" % (plural(len(result.get("dropped") or ()), "restore point"), len(result.get("would_drop") or ()))
    elif name == "deploy" and result.get("would_apply"):
        text = "%s would be applied" % plural(len(result["would_apply"]), "migration")
    elif name == "deploy":
        text = "%s applied" % plural(len(result["applied"]), "migration") if result.get("applied") else "nothing was pending"
    elif name == "restore":
        text = "the former database is %s" % result["kept"] if result.get("kept") else "the database was as in the restore point"
    elif "findings" in result:
        text = plural(len(result["findings"]), "finding")
        failing = [line(check.get("name") or "") for check in _list(result.get("checks")) if isinstance(check, t.Mapping) and check.get("verdict") == "fail"]
        text += ", failed checks: %s" % ", ".join(failing) if failing else ", no check failed" if result.get("checks") else ""
    return text


__all__ = ("FORMAT", "build_record")
