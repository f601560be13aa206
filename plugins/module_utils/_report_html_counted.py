# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The parts of a report that count: rows, sizes, the restore point, a way back, phases, warnings, output. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import COLUMNS, about, intro, source_of, unknown_text
from ansible_collections.pgops.migrations.plugins.module_utils._report_commands import rollback_command, swap_back_command
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    Child,
    Html,
    badge,
    block,
    change,
    code,
    command,
    duration,
    facts,
    is_number,
    items,
    join,
    moment,
    number,
    section,
    size,
    table,
    tag,
    text,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_back import lost_by_script, script_of

Record = t.Mapping[str, t.Any]
_GO_BACK = "To go back to it. The command first shows what would be lost, and what to type then:"
_SWAP_BACK = "To swap the former database back. The command first shows what would be lost, and what to type then:"
#: Rows of a table that are shown at once.
_MOST = 50
_STATES = {
    "ok": ("pass", "ok"),
    "changed": ("pass", "changed"),
    "nothing": ("info", "nothing to do"),
    "failed": ("fail", "failed"),
    "skipped": ("none", "not run"),
}


def rows_and_sizes(record: Record) -> Html:
    """Rows of each table, and the size of the database, before and after."""
    return section("rows", "Rows and sizes", _sizes(record), _rows(record))


def _sizes(record: Record) -> Html:
    monitor = (record["deploy"] or {}).get("monitor") or {}
    before, after = monitor.get("size_before"), monitor.get("size_after")
    verification = record["verification"] or {}
    grown = change(after - before) if isinstance(before, int) and isinstance(after, int) else None
    return facts([
        ("Database before", size(before) if is_number(before) else None),
        ("Database after", size(after) if is_number(after) else None),
        ("Change in bytes", grown),
        ("Write-ahead log", size(monitor["wal"]) if is_number(monitor.get("wal")) else None),
        ("Temporary files", size(monitor["temp"]) if is_number(monitor.get("temp")) else None),
        ("Compared tables", number(verification["tables"]) if is_number(verification.get("tables")) else None),
        ("Rows in them, after", number(verification["rows"]) if is_number(verification.get("rows")) else None),
        ("Depth", code(verification["level"]) if isinstance(verification.get("level"), str) else None),
    ]) if monitor or verification else Html("")  # fmt: skip


def _rows(record: Record) -> Html:
    counts = record["row_counts"]
    if not counts:
        return Html("")
    back = record["row_counts_of"] == "restore"
    headers = ["Table", " Former database" if back else " Before", " Restored" if back else " After", " Change"]
    rows = [[code(entry["table"]), _count(entry["before"]), _count(entry["after"]), _changed(entry)] for entry in counts]
    return table("Rows per table", headers, rows, ident="rows-table", most=_MOST)


def _count(value: int | None) -> Html:
    return text("no table") if value is None else number(value)


def _changed(entry: Record) -> Html:
    if entry["before"] is None or entry["after"] is None:
        return text("new" if entry["before"] is None else "gone")
    return change(entry["after"] - entry["before"])


def restore_point(record: Record) -> Html:
    """What a rollback goes back to, and how."""
    point = (record["backup"] or {}).get("restore_point") or {}
    if not point.get("id"):
        return Html("")
    proof = point.get("proof") or {}
    proved = {"read": "read back in full", "drill": "restored and found equal"}.get(str(proof.get("level")), "")
    typed = rollback_command(record)
    again = record["outcome"] in ("rolled_back", "restored")
    return section(
        "restore-point", "Restore point",
        facts([
            ("Id", code(point["id"])),
            ("Folder", code(point.get("path"), 1000) if point.get("path") else None),
            ("Taken", moment(point["started_at"]) if point.get("started_at") else None),
            ("Tables", number(point["tables"]) if is_number(point.get("tables")) else None),
            ("Rows", number(point["rows"]) if is_number(point.get("rows")) else None),
            ("Size", size(point["size_bytes"]) if is_number(point.get("size_bytes")) else None),
            ("Took", duration(point["seconds"]) if is_number(point.get("seconds")) else None),
            ("Proved", join([text(proved + ","), moment(proof["at"]) if proof.get("at") else None], " ") if proved else None),
            ("Taken by", text("an earlier run, and used again") if point.get("reused") else None),
        ]),
        *([tag("p", "The target was brought back already. To do it again:" if again else _GO_BACK), command(typed, "Command to roll back")] if typed else []),
    )  # fmt: skip


def restored(record: Record) -> Html:
    """What a way back did."""
    restore = record["restore"] or {}
    if not restore.get("changed") or record["check_mode"]:
        return Html("")
    parts = restore.get("seconds") or {}
    equal = restore.get("comparison") in ("equal", "same_database")
    back = restore.get("restored") or {}
    steps: list[list[Child]] = [
        # The archive is read while the loss is counted: its time is no part of the sum.
        [join([code(name), text("within loss") if name == "read" and "loss" in parts else None], " "), duration(value)]
        for name, value in parts.items()
        if is_number(value) and name != "unavailable"
    ]
    return section(
        "restored", "The way back",
        facts([
            ("Former database", code(restore["kept"]) if restore.get("kept") else None),
            ("Fingerprint", join([badge("pass" if equal else "warn", "equal to the restore point" if equal else "not compared")])),
            ("Tables", number(back["tables"]) if is_number(back.get("tables")) else None),
            ("Rows", number(back["rows"]) if is_number(back.get("rows")) else None),
            ("Clients waited", duration(parts["unavailable"]) if is_number(parts.get("unavailable")) else None),
            ("Sessions ended", number(restore["terminated"]) if is_number(restore.get("terminated")) else None),
        ]),
        table("Durations of the way back", ["Step", " Took"], steps, ident="restore-steps") if steps else None,
        _named("No longer applied", restore.get("undone")), _named("Applied again", restore.get("redone")),
        *([tag("p", _SWAP_BACK), command(swap_back_command(record), "Command to swap back")] if swap_back_command(record) else []),
    )  # fmt: skip


def _named(title: str, names: t.Any) -> Child:
    return join([tag("h3", title), items([code(name) for name in names])]) if isinstance(names, list) and names else None


def loss(record: Record) -> Html:
    """What a way back lost, or would lose."""
    restore = record["restore"] or {}
    resolved = (record.get("other") or {}).get("resolve") or {}
    if script_of(resolved) and not record["check_mode"]:
        gone = lost_by_script(record["other"])
        return section("loss", "What the script lost", items([text(one, 2000) for one in gone or ["nothing that is known"]]))
    found = restore.get("loss") or {}
    done = bool(restore.get("changed")) and not record["check_mode"]
    if "known" not in found or (not done and not found.get("differences") and found["known"]):
        return Html("")
    title = "What was lost" if done else "What would be lost"
    kept = str(restore.get("kept") or "") if done else ""
    if not found["known"]:
        return section("loss", title, tag("p", text(unknown_text(found, done, kept))))
    tables = [entry for entry in found.get("tables") or () if isinstance(entry, dict)]
    drawn: Child = None
    if tables and found.get("measured") is not False:
        headers = ["Table", *([" Rows before", " Rows after"] if done else [" Rows now", " Rows then"]), " Lost", " Replaced", " Back"]
        drawn = table(
            "Rows by table, with what was lost" if done else "Rows by table, with what would be lost",
            headers,
            [[code(entry.get("table")), *(number(entry.get(key)) for key in COLUMNS)] for entry in tables],
            ident="loss-table",
            most=_MOST,
        )
    more = about(found, done)
    return section(
        "loss", title, tag("p", text(intro(found, done, source_of(restore), kept))), drawn, items([text(one, 4000) for one in more]) if more else None
    )


def phases(record: Record) -> Html:
    rows = [
        [code(phase["name"]), badge(*_STATES.get(phase["outcome"], ("none", phase["outcome"]))), text(phase["sentence"]), duration(phase["seconds"])]
        for phase in record["phases"]
    ]
    return (
        section("phases", "Phases", table("Phases of the run", ["Phase", "Outcome", "What it said", " Took"], rows, ident="phases-table", stacked=True))
        if rows
        else Html("")
    )


def warnings(record: Record) -> Html:
    found: dict[tuple[str, str], None] = {}
    for phase in ("preflight", "backup", "deploy", "verification", "restore", "drill"):
        for warning in (record[phase] or {}).get("warnings") or ():
            found[(phase, str(warning))] = None
    return section("warnings", "Warnings", items([join([code(phase), text(said, 1000)], " ") for phase, said in found])) if found else Html("")


def output(record: Record) -> Html:
    """The end of what the deploy's program printed."""
    said = str((record["deploy"] or {}).get("output") or "").strip()
    return section("output", "End of the deploy command's output", block(said, "Output of the deploy command")) if said else Html("")


__all__ = ("loss", "output", "phases", "restore_point", "restored", "rows_and_sizes", "warnings")
