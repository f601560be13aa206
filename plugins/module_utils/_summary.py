# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""Many targets in one table: the end of a run, or their states. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _report_markdown as markdown
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import GOOD
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text
from ansible_collections.pgops.migrations.plugins.module_utils._table import draw
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

NO_RECORD, UNREAD = "no_record", "not_read"
RUN_COLUMNS = ("target", "outcome", "applied", "time", "slowest migration", "restore point", "rto", "note")
STATE_COLUMNS = ("target", "status", "applied", "pending", "head", "note")
#: Columns of numbers.
RIGHT = frozenset(["applied", "pending", "time", "rto"])
#: Statuses for which nothing or a deploy is to be done.
_FINE = frozenset(["up_to_date", "pending", "empty"])
Row = t.Dict[str, t.Any]


def run_row(target: str, record: t.Mapping[str, t.Any] | None, why: str = "") -> Row:
    """A target of a run; without a record, that is what it says."""
    if record is None:
        return {"target": target, "outcome": NO_RECORD, "ok": False, "note": why, "sentence": "%s: no record (%s)" % (target, why)}
    deploy, backup = record.get("deploy") or {}, record.get("backup") or {}
    applied = [entry for entry in deploy.get("applied") or () if isinstance(entry, dict)]
    timed = [entry for entry in applied if isinstance(entry.get("seconds"), (int, float))]
    slowest = max(timed, key=lambda entry: float(entry["seconds"]), default=None)
    outcome = str(record["outcome"])
    sentence = str(record["sentence"])
    return {
        "target": target,
        "outcome": outcome,
        "ok": outcome in GOOD,
        # After a rollback nothing of it is applied.
        "applied": "0 (%d undone)" % len(applied) if record.get("outcome") == "rolled_back" and applied else len(applied) if deploy else "",
        "time": duration_text(record.get("seconds")),
        "slowest migration": "%s (%s)" % (slowest["name"], duration_text(slowest["seconds"])) if slowest else "",
        "restore point": (backup.get("restore_point") or {}).get("id") or _point_of(record, "restore") or _point_of(record, "drill"),
        "rto": duration_text((record.get("drill") or {}).get("rto_seconds")),
        "note": _note(record, outcome),
        "sentence": sentence,
    }


def _point_of(record: t.Mapping[str, t.Any], phase: str) -> str:
    return str(((record.get(phase) or {}).get("restore_point") or {}).get("id") or "")


def _note(record: t.Mapping[str, t.Any], outcome: str) -> str:
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


def state_row(target: str, result: t.Any) -> Row:
    """A target as migration_info reported it; its error, where it could not."""
    if not isinstance(result, dict) or not result or result.get("skipped"):
        return {"target": target, "status": UNREAD, "ok": False, "attention": True, "note": "unreachable, or never asked"}
    if result.get("failed") or result.get("unreachable") or "status" not in result:
        said = line(result.get("msg") or "no message", 300)
        return {"target": target, "status": UNREAD, "ok": False, "attention": True, "note": "unreachable: %s" % said if result.get("unreachable") else said}
    verdicts = [entry for entry in result.get("migrations") or () if isinstance(entry, dict)]
    return {
        "target": target,
        "status": line(result["status"]),
        "ok": True,
        "attention": result["status"] not in _FINE,
        "applied": sum(1 for entry in verdicts if entry.get("verdict") == "applied"),
        "pending": len(result.get("pending") or ()),
        "head": line(result.get("ledger_head") or ""),
        "note": _state_note(result, verdicts),
    }


def _state_note(result: t.Mapping[str, t.Any], verdicts: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    notes = ["%s unfinished (%s)" % (entry.get("name"), entry.get("substate") or "unknown") for entry in verdicts if entry.get("verdict") == "unfinished"]
    for flag, words in (("edited", "edited"), ("missing_locally", "not in the folder"), ("out_of_order", "out of order")):
        names = [str(entry.get("name")) for entry in verdicts if flag in (entry.get("flags") or ())]
        notes += ["%s: %s%s" % (words, names[0], " and %d more" % (len(names) - 1) if len(names) > 1 else "")] if names else []
    deploy = result.get("next_deploy")
    if not notes and isinstance(deploy, dict) and deploy.get("action") == "refuse":
        notes.append(str(deploy.get("why") or deploy.get("code") or ""))
    return line("; ".join(notes), 300)


def lines_of(columns: t.Sequence[str], rows: t.Sequence[Row], width: int = 120) -> list[str]:
    """The table for a terminal."""
    return draw(columns, [[row.get(column, "") for column in columns] for row in rows], width, RIGHT)


def counted(rows: t.Sequence[Row], column: str) -> str:
    """C(3 applied, 1 rolled_back)."""
    counts: dict[str, int] = {}
    for row in rows:
        counts[str(row[column])] = counts.get(str(row[column]), 0) + 1
    return ", ".join("%d %s" % (number, name) for name, number in sorted(counts.items(), key=lambda item: (-item[1], item[0])))


def index_text(title: str, columns: t.Sequence[str], rows: t.Sequence[Row], links: t.Mapping[str, str]) -> str:
    """The table as a page: what needs somebody first.

    :param links: target -> name of its report beside this page.
    """
    ordered = sorted(rows, key=lambda row: bool(row["ok"]) and not row.get("attention"))
    headers = [" " + column if column in RIGHT else column for column in columns]
    cells = [[_cell(column, row, links) for column in columns] for row in ordered]
    parts = ["# %s" % markdown.text(title), "\n".join(markdown.table(headers, cells))]
    bad = [row for row in ordered if not row["ok"] and row.get("sentence")]
    if bad:
        parts.append("\n".join(["## What needs somebody", ""] + ["- %s" % markdown.text(row["sentence"], 8000) for row in bad]))
    return "\n\n".join(parts) + "\n"


def _cell(column: str, row: Row, links: t.Mapping[str, str]) -> str:
    value = row.get(column, "")
    if column == "target":
        link = links.get(row["target"])
        return "[%s](%s)" % (markdown.text(value), link) if link else markdown.text(value)
    return markdown.text(value)


__all__ = ("NO_RECORD", "RUN_COLUMNS", "STATE_COLUMNS", "UNREAD", "counted", "index_text", "lines_of", "run_row", "state_row")
