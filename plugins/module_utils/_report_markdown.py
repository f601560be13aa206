# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""A run record as a report in Markdown. Pure: no I/O.

Names come from databases, folders and inventories, and may hold anything: every one of
them is written so that no Markdown in it takes effect.
"""

from __future__ import annotations

import json
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._redaction import clean, line
from ansible_collections.pgops.migrations.plugins.module_utils._report_loss import loss_section
from ansible_collections.pgops.migrations.plugins.module_utils._typed import option
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural, seconds_text

Record = t.Mapping[str, t.Any]
#: Rows of a report's table; the record has them all.
_ROWS = 100
#: Only what has a meaning in the middle of a line, so that a report can be read as it is, too.
_SPECIAL = re.compile(r"[\\`*\[\]<|~&]|(?<![^\W_])(?<!_)_+|_+(?![^\W_])(?!_)")
_LEADING = re.compile(r"^(?:[-=:+#>]|\d+(?=[.)]))")
_EMPTY = "–"
#: The options of a playbook in a text, those that are given together on one line.
_OPTION = re.compile(r"(?:-e [a-z_]+=[^\s']+(?: (?=-e ))?)+")


def text(value: t.Any, limit: int = 600) -> str:
    """Running text in which no character of Markdown or HTML has a meaning."""
    content = line("" if value is None else value, limit)
    leading = _LEADING.match(content)
    escaped = _SPECIAL.sub(lambda found: "".join("\\" + char for char in found.group()), content)
    if leading is None:
        return escaped
    # What begins a list, a rule or a heading does so only at the beginning.
    return "\\" + escaped if leading.end() == 1 and not leading.group().isdigit() else leading.group() + "\\" + escaped[leading.end() :]


def code(value: t.Any, limit: int = 400) -> str:
    """A code span, also for what holds backticks; a pipe is safe inside of a table, too."""
    content = line("" if value is None else value, limit)
    if not content:
        return _EMPTY
    if "|" in content or "\\" in content:
        # In a table a pipe divides cells even inside of a code span, and a backslash there is shown.
        return text(content, limit)
    ticks = "`" * (_longest_run(content, "`") + 1)
    blank = " " if content[0] == "`" or content[-1] == "`" else ""
    return ticks + blank + content + blank + ticks


def block(content: str, language: str = "text") -> list[str]:
    """A fenced block."""
    fence = "`" * max(3, _longest_run(content, "`") + 1)
    return [fence + language, *content.splitlines(), fence]


def _longest_run(content: str, char: str) -> int:
    longest = run = 0
    for found in content:
        run = run + 1 if found == char else 0
        longest = max(longest, run)
    return longest


def table(headers: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> list[str]:
    """A table whose cells are Markdown already; a header that begins with a blank is aligned to the right."""
    rule = ["---:" if header.startswith(" ") else "---" for header in headers]
    return ["| %s |" % " | ".join(row) for row in ([header.strip() for header in headers], rule, *rows)]


def report(record: Record) -> str:
    """The report of one target."""
    parts = [
        ["# %s" % text(record["sentence"], 8000)],
        _head(record),
        _error(record),
        _migrations(record),
        _failure(record),
        _restore_point(record),
        _restored(record),
        loss_section(record, lambda value: text(value, 2000), code, _limited),
        _findings(record),
        _counts(record),
        _phases(record),
        _warnings(record),
        _output(record),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _head(record: Record) -> list[str]:
    seconds = seconds_text(record["seconds"])
    facts = [
        ("Target", code(record["target"])),
        ("Environment", text(record["environment"])),
        ("Database", code(record["database"]) if record["database"] else ""),
        ("Runbook", code(record["runbook"]) + (" (check mode)" if record["check_mode"] else "")),
        ("Outcome", code(record["outcome"])),
        ("Run", code(record["run_id"])),
        ("Revision", code(record["revision"]) if record["revision"] else ""),
        ("By", text(record["operator"])),
        ("Time", "%s to %s%s" % (text(record["started_at"]) or "?", text(record["finished_at"]), ", " + seconds if seconds else "")),
    ]
    return table(["What", "Value"], [[name, value] for name, value in facts if value])


def _error(record: Record) -> list[str]:
    error = record["error"]
    if not error:
        return []
    where = " in the phase %s" % code(error["phase"]) if error["phase"] else ""
    what = "**%s**%s: " % (text(error["code"]) or "Error", where)
    step = text(error["next_step"], 4000) or "read the state of the target with status.yml, then decide"
    lines = ["## Next step", "", step[:1].upper() + step[1:].rstrip(".") + ".", ""]
    options = list(dict.fromkeys(_OPTION.findall(str(error["next_step"]))))
    if options:
        # As they are typed, whatever Markdown would make of a character.
        lines += [*block("\n".join(options), "sh"), ""]
    return [*lines, what + (text(error["msg"]) or "no message")]


def _deploy(record: Record) -> Record:
    return record["deploy"] or {}


def _migrations(record: Record) -> list[str]:
    deploy = _deploy(record)
    rows = [[code(entry["name"]), _seconds(entry["seconds"])] for entry in deploy.get("applied") or ()]
    lines: list[str] = []
    if rows:
        title = "## Applied, and undone by the rollback" if record["outcome"] == "rolled_back" else "## Applied"
        lines = [title, "", *_limited(["Migration", " Duration"], rows)]
    would, pending = deploy.get("would_apply") or [], deploy.get("pending") or []
    if would:
        lines += ([""] if lines else []) + ["## Would be applied", ""] + ["- %s" % code(name) for name in would]
    elif pending and record["outcome"] != "rolled_back":
        lines += ([""] if lines else []) + ["## Still pending", ""] + ["- %s" % code(name) for name in pending]
    return lines


def _seconds(value: t.Any) -> str:
    return seconds_text(value) or _EMPTY


def _limited(headers: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> list[str]:
    more = ["", "And %d more; the record has all of them." % (len(rows) - _ROWS)] if len(rows) > _ROWS else []
    return table(headers, rows[:_ROWS]) + more


def _failure(record: Record) -> list[str]:
    failed = _deploy(record).get("failed_migration") or {}
    if not failed.get("name"):
        return []
    evidence = _deploy(record).get("evidence") or {}
    facts = [
        ("Migration", code(failed["name"])),
        ("SQLSTATE", code(failed.get("sqlstate"))),
        ("The server said", text(failed.get("error")) or _EMPTY),
        ("State it left", code(failed.get("state"))),
        ("Why we say so", text(evidence.get("reason"))),
        ("Transactions committed meanwhile", text(evidence.get("committed")) if evidence.get("committed") is not None else ""),
        ("Objects it changed", ", ".join(code(name) for name in (evidence.get("named") or evidence.get("objects") or ())[:20])),
        ("Invalid indexes", ", ".join(code(name) for name in (evidence.get("invalid_indexes") or ())[:20])),
    ]
    lines = ["## What failed", "", *table(["What", "Value"], [[name, value] for name, value in facts if value])]
    logs = str(failed.get("logs") or "").strip()
    return lines + (["", "From the ledger:", "", *block(clean(logs))] if logs else [])


def rollback_command(record: Record) -> str:
    """What to type to go back to the restore point of this run; empty without one.

    Without the confirmation: the command first shows what would be lost, and what to type then.
    """
    point = (record["backup"] or {}).get("restore_point") or {}
    if not point.get("id") or not point.get("path"):
        return ""
    values = {"migration_targets": record["target"], "migration_restore_point": point["path"]}
    return "ansible-playbook pgops.migrations.rollback %s" % " ".join(option(name, value) for name, value in values.items())


def _restore_point(record: Record) -> list[str]:
    point = (record["backup"] or {}).get("restore_point") or {}
    if not point.get("id"):
        return []
    size = ", ".join(plural(_int(point.get(key)), word) for key, word in (("tables", "table"), ("rows", "row"), ("size_bytes", "byte")))
    lines = ["## Restore point", "", *table(["What", "Value"], [["Id", code(point["id"])], ["Folder", code(point.get("path"), 1000)], ["Holds", size]])]
    command = rollback_command(record)
    if not command:
        return lines
    said = "To go back to it:" if record["outcome"] not in ("rolled_back", "restored") else "The target was brought back already. To do it again:"
    return [*lines, "", said, "", *block(command, "sh")]


def _int(value: t.Any) -> int:
    return value if isinstance(value, int) else 0


def _restored(record: Record) -> list[str]:
    restore = record["restore"] or {}
    if not restore.get("changed"):
        return []
    parts = restore.get("seconds") or {}
    facts = [
        ("Former database", code(restore.get("kept"))),
        ("Fingerprint", "equal to that of the restore point" if restore.get("comparison") == "equal" else "not compared"),
        ("Clients waited", _seconds(parts.get("unavailable"))),
        ("Sessions ended", text(restore.get("terminated"))),
        ("Durations", ", ".join("%s %s" % (text(name), _seconds(value)) for name, value in parts.items() if name != "unavailable")),
    ]
    return ["## Restore", "", *table(["What", "Value"], [[name, value] for name, value in facts if value])]


def _findings(record: Record) -> list[str]:
    verification = record["verification"] or {}
    lines: list[str] = []
    for title, entries in (("## Findings", verification.get("findings")), ("## Failed checks", [c for c in verification.get("checks") or () if _is_bad(c)])):
        if entries:
            lines += ([""] if lines else []) + [title, ""] + ["- %s" % _finding(entry) for entry in entries[:_ROWS]]
            lines += ["- and %d more; the record has all of them" % (len(entries) - _ROWS)] if len(entries) > _ROWS else []
    explained = [entry for entry in verification.get("differences") or () if isinstance(entry, t.Mapping) and entry.get("severity") == "explained"]
    if explained:
        lines += ([""] if lines else []) + ["## Differences that a migration explains", ""]
        lines += ["- %s (%s)" % (_finding(entry), ", ".join(code(name) for name in entry.get("explained_by") or ())) for entry in explained[:_ROWS]]
        lines += ["- and %d more; the record has all of them" % (len(explained) - _ROWS)] if len(explained) > _ROWS else []
    return lines


def _is_bad(check: t.Any) -> bool:
    return isinstance(check, t.Mapping) and (check.get("ok") is False or check.get("passed") is False or check.get("outcome") in ("failed", "fail"))


def _finding(entry: t.Any) -> str:
    if not isinstance(entry, t.Mapping):
        return text(entry)
    said = next((entry[key] for key in ("text", "sentence", "msg", "message") if entry.get(key)), "")
    name = next((entry[key] for key in ("name", "code") if entry.get(key)), "")
    return (code(name) + (": " if said else "") if name else "") + text(said) or text(json.dumps(entry, sort_keys=True))


def _counts(record: Record) -> list[str]:
    counts = record["row_counts"]
    if not counts:
        return []
    rows = [[code(entry["table"]), _number(entry["before"]), _number(entry["after"]), _change(entry)] for entry in counts]
    sides = [" Former database", " Restored"] if record["row_counts_of"] == "restore" else [" Before", " After"]
    return ["## Rows", "", *_limited(["Table", *sides, " Change"], rows)]


def _number(value: int | None) -> str:
    return "no table" if value is None else format(value, ",d")


def _change(entry: Record) -> str:
    if entry["before"] is None or entry["after"] is None:
        return "new" if entry["before"] is None else "gone"
    return format(entry["after"] - entry["before"], "+,d") if entry["after"] != entry["before"] else "0"


def _phases(record: Record) -> list[str]:
    rows = [[code(phase["name"]), code(phase["outcome"]), _seconds(phase["seconds"]), text(phase["sentence"])] for phase in record["phases"]]
    return ["## Phases", "", *table(["Phase", "Outcome", " Duration", "What it said"], rows)] if rows else []


def _warnings(record: Record) -> list[str]:
    found: dict[str, None] = {}
    for phase in ("preflight", "backup", "deploy", "verification", "restore"):
        for warning in (record[phase] or {}).get("warnings") or ():
            found["- %s: %s" % (phase, text(warning))] = None
    return ["## Warnings", "", *found] if found else []


def _output(record: Record) -> list[str]:
    output = str(_deploy(record).get("output") or "").strip()
    return ["## End of the deploy command's output", "", *block(clean(output))] if output and record["outcome"] not in ("applied", "nothing_to_do") else []


__all__ = ("block", "code", "report", "rollback_command", "table", "text")
