# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""One row of plain data for each target: of a run, or of its state now. Pure: no I/O.

Terminal, Markdown, HTML and JSON are all drawn from these rows. A row is small whatever its record holds.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._outcome import GOOD
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

NO_RECORD, NOT_STARTED, UNREAD = "no_record", "not_started", "not_read"
#: Statuses for which nothing or a deploy is to be done.
_FINE = frozenset(["up_to_date", "pending", "empty"])
#: Of a row's texts; a record's sentence may be longer than a screen.
_LONGEST = 600
Row = t.Dict[str, t.Any]
Map = t.Mapping[str, t.Any]


def run_row(target: str, record: Map | None, why: str = "", started: bool = True) -> Row:
    """A target of a run; without a record, that is what it says.

    :param started: whether the run may have begun on it, where there is no record.
    """
    if record is None:
        said = "not started" if not started else "no record"
        return _run(target, NO_RECORD if started else NOT_STARTED, note=why, finding=why, sentence="%s: %s (%s)" % (target, said, why), started=started)
    deploy, backup = record.get("deploy") or {}, record.get("backup") or {}
    applied = [entry for entry in deploy.get("applied") or () if isinstance(entry, dict)]
    timed = [entry for entry in applied if _number(entry.get("seconds")) is not None]
    slowest = max(timed, key=lambda entry: float(entry["seconds"]), default=None)
    outcome = str(record["outcome"])
    return _run(
        target, outcome, ok=outcome in GOOD, code=str((record.get("error") or {}).get("code") or ""),
        phases=[
            {"name": line(entry.get("name")), "outcome": line(entry.get("outcome")), "seconds": _number(entry.get("seconds"))}
            for entry in record.get("phases") or () if isinstance(entry, dict) and entry.get("outcome") != "skipped"
        ],
        seconds=_number(record.get("seconds")), applied=len(applied) if deploy else None,
        # After a rollback nothing of it is applied.
        undone=bool(outcome == "rolled_back" and applied),
        slowest_migration={"name": line(slowest.get("name")), "seconds": float(slowest["seconds"])} if slowest else None,
        longest_block_seconds=_number((deploy.get("monitor") or {}).get("longest_block")),
        restore_point=line((backup.get("restore_point") or {}).get("id") or _point_of(record, "restore") or _point_of(record, "drill")),
        rto_seconds=_number((record.get("drill") or {}).get("rto_seconds")), checks=_checks(record), note=_note(record, outcome), finding=_finding(record),
        sentence=line(record["sentence"], 8 * _LONGEST), runbook=str(record.get("runbook") or ""),
    )  # fmt: skip


def _run(target: str, outcome: str, **more: t.Any) -> Row:
    """Every key, so that a reader need not ask which there are."""
    row: Row = {
        "target": target, "outcome": outcome, "ok": False, "started": True, "code": "", "finding": "", "sentence": "", "note": "", "runbook": "", "phases": [],
        "seconds": None, "applied": None, "undone": False, "slowest_migration": None, "longest_block_seconds": None, "restore_point": "", "rto_seconds": None,
        "checks": {}, "report": "",
    }  # fmt: skip
    return dict(row, **more)


def _number(value: t.Any) -> float | None:
    return value if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def _point_of(record: Map, phase: str) -> str:
    return str(((record.get(phase) or {}).get("restore_point") or {}).get("id") or "")


def _checks(record: Map) -> dict[str, int]:
    """How many checks there are of each verdict that counts."""
    found = [entry.get("verdict") for entry in (record.get("verification") or {}).get("checks") or () if isinstance(entry, dict)]
    return {kind: found.count(kind) for kind in ("fail", "warn", "pass") if kind in found}


def _note(record: Map, outcome: str) -> str:
    error = record.get("error") or {}
    if error:
        failed = (record.get("deploy") or {}).get("failed_migration") or {}
        return ", ".join(str(part) for part in (error.get("code") or error.get("msg"), failed.get("name"), failed.get("sqlstate")) if part)
    notes = []
    findings = (record.get("verification") or {}).get("findings") or ()
    would = (record.get("deploy") or {}).get("would_apply") or ()
    if findings:
        notes.append(plural(len(findings), "finding"))
    if outcome == "applied" and not record.get("verification"):
        notes.append("not verified")
    age = duration_text(((record.get("drill") or {}).get("restore_point") or {}).get("age_seconds"))
    if age:
        notes.append("%s old" % age)
    if would:
        notes.append("would apply %d" % len(would))
    return ", ".join(notes)


def _finding(record: Map) -> str:
    """What somebody has to know of it, in one line: the error, else what the verification found."""
    error = record.get("error") or {}
    if error:
        # "Task failed: " is what newer versions of Ansible put before all that they say.
        code, said = str(error.get("code") or ""), re.sub(r"\ATask failed: ", "", str(error.get("msg") or ""))
        return line(said if not code or said.startswith(code) else "%s: %s" % (code, said), _LONGEST)
    findings = [entry for entry in (record.get("verification") or {}).get("findings") or () if isinstance(entry, dict)]
    texts = [str(entry.get("text") or "") for entry in findings if entry.get("text")]
    return line(texts[0] + (" And %d more." % (len(texts) - 1) if len(texts) > 1 else ""), _LONGEST) if texts else ""


def why_without(target: str, why: str, waves: Map | None) -> tuple[str, bool]:
    """Why there is no record of a target, and whether the run may have begun on it.

    :param waves: what the filter wave_verdict says at the end of a wave: C(waves), C(done), C(stopped); empty without waves.
    """
    planned = [list(wave) for wave in (waves or {}).get("waves") or ()]
    number = next((at for at, wave in enumerate(planned, 1) if target in wave), 0)
    done = int((waves or {}).get("done") or 0)
    if not number:
        return why, True
    if number <= done:
        return ("its wave, %d of %d, ended without a record of it: its connection was lost" % (number, len(planned)) if why == UNREACHABLE else why), True
    stopped = ((waves or {}).get("stopped") or {}).get("text")
    if number == done + 1 and not stopped:
        # Nobody judged this wave, so what it did is not known.
        return "%s; wave %d of %d was not brought to its end" % (why, number, len(planned)), True
    return "wave %d of %d; %s" % (number, len(planned), stopped or "an earlier wave was not brought to its end"), False


#: What read_record says of a target that has no record.
UNREACHABLE = "unreachable, or never started"


def failing(rows: t.Sequence[Row]) -> list[str]:
    """The targets that Ansible is to count as failed: those that did not end well; where only others kept them from starting, the first of these."""
    bad = [row["target"] for row in rows if not row["ok"] and row["outcome"] != NOT_STARTED]
    return bad or [row["target"] for row in rows if not row["ok"]][:1]


def state_row(target: str, result: t.Any) -> Row:
    """A target as migration_info reported it; its error, where it could not."""
    if not isinstance(result, dict) or not result or result.get("skipped"):
        return _state(target, UNREAD, note="unreachable, or never asked")
    if result.get("failed") or result.get("unreachable") or "status" not in result:
        said = line(result.get("msg") or "no message", 300)
        return _state(target, UNREAD, code=line(result.get("code") or ""), note="unreachable: %s" % said if result.get("unreachable") else said)
    verdicts = [entry for entry in result.get("migrations") or () if isinstance(entry, dict)]
    major = result.get("server_major")
    return _state(
        target, line(result["status"]), ok=True, attention=result["status"] not in _FINE,
        applied=sum(1 for entry in verdicts if entry.get("verdict") == "applied"), pending=len(result.get("pending") or ()),
        head=line(result.get("ledger_head") or ""), set_digest=line(result.get("set_digest") or ""), schema_digest=line(result.get("schema_digest") or ""),
        server_major=major if isinstance(major, int) else None, migrations_dir=line(result.get("migrations_dir") or "", _LONGEST),
        note=_state_note(result, verdicts),
    )  # fmt: skip


def _state(target: str, status: str, **more: t.Any) -> Row:
    row: Row = {
        "target": target, "status": status, "ok": False, "attention": True, "code": "", "applied": None, "pending": None, "head": "", "set_digest": "",
        "schema_digest": "", "server_major": None, "migrations_dir": "", "differs": [], "note": "",
    }  # fmt: skip
    return dict(row, **more)


def _state_note(result: Map, verdicts: t.Sequence[Map]) -> str:
    notes = ["%s unfinished (%s)" % (entry.get("name"), entry.get("substate") or "unknown") for entry in verdicts if entry.get("verdict") == "unfinished"]
    for flag, words in (("edited", "edited"), ("missing_locally", "not in the folder"), ("out_of_order", "out of order")):
        names = [str(entry.get("name")) for entry in verdicts if flag in (entry.get("flags") or ())]
        notes += ["%s: %s%s" % (words, names[0], " and %d more" % (len(names) - 1) if len(names) > 1 else "")] if names else []
    deploy = result.get("next_deploy")
    if not notes and isinstance(deploy, dict) and deploy.get("action") == "refuse":
        notes.append(str(deploy.get("why") or deploy.get("code") or ""))
    return line("; ".join(notes), 300)


def counted(rows: t.Sequence[Row], column: str) -> str:
    """C(3 applied, 1 rolled_back)."""
    return ", ".join("%d %s" % (number, name) for name, number in counts(rows, column))


def counts(rows: t.Sequence[Row], column: str) -> list[tuple[str, int]]:
    """How many rows have which value, the commonest first."""
    found: dict[str, int] = {}
    for row in rows:
        found[str(row[column])] = found.get(str(row[column]), 0) + 1
    return sorted(found.items(), key=lambda item: (-item[1], item[0]))


__all__ = ("NOT_STARTED", "NO_RECORD", "UNREAD", "UNREACHABLE", "counted", "counts", "failing", "run_row", "state_row", "why_without")
