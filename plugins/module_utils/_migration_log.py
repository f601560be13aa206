# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""The migration log: one entry per migration that a run applied, failed to apply, took back or marked. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import source_of
from ansible_collections.pgops.migrations.plugins.module_utils._record_others import resolved_text, run_text, uncertified
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown import block
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_back import lost_by_script, script_of

Record = t.Mapping[str, t.Any]
#: Of an entry; as that of a record it goes up when a field goes away or means something else.
FORMAT = 1
#: Migration, status, seconds, note.
Entry = t.Tuple[str, str, t.Optional[float], str]
HEADER = """# Migration log

One entry for each migration that a run applied, failed to apply, took back or marked. Dates are UTC. `migration_log.jsonl` holds the same for programs.
"""
#: What became of a migration that had been applied.
_NOTES = {
    "rolled_back": "applied, then undone",
    "rollback_failed": "the rollback after it failed; read the state",
    "failed": "the run failed after it",
}
_STATUS = {"applied": "Applied", "failed": "Failed", "rolled_back": "Rolled back"}


def log_entries(record: Record) -> list[dict[str, t.Any]]:
    """The migrations that this run applied, failed to apply, took back or marked, one dict each, for migration_log.jsonl."""
    outcome = record["outcome"]
    if record["check_mode"] or outcome == "checked":
        return []
    # What was found of others happened before, however this run ended.
    found = _marked(record)
    point = (record["backup"] or {}).get("restore_point") or {}
    if outcome != "refused":
        if outcome == "restored":
            point = (record["restore"] or {}).get("restore_point") or {}
        found += _deployed(record)
    entries = [_entry(record, point, one) for one in found]
    return [_of_others(record, run, name) for run in record.get("followed") or () for name in run["applied"]] + entries


def _deployed(record: Record) -> list[Entry]:
    outcome, deploy, restore = record["outcome"], record["deploy"] or {}, record["restore"] or {}
    failed = deploy.get("failed_migration") or {}
    back = outcome == "rolled_back"
    note = _NOTES.get(outcome, "")
    undone = list(((record.get("other") or {}).get("reverse") or {}).get("undone") or ())
    takes_back = "takes back %s" % ", ".join(undone) if undone else ""
    unrehearsed = uncertified((record.get("other") or {}).get("certificate") or {}).strip(" (.)")
    note = "; ".join(part for part in (takes_back, note, unrehearsed) if part)
    found: list[Entry] = [(entry["name"], "rolled_back" if back else "applied", entry["seconds"], note) for entry in deploy.get("applied") or ()]
    if failed.get("name"):
        said = " ".join(part for part in (failed.get("state"), failed.get("sqlstate"), failed.get("error")) if part)
        found.append((failed["name"], "rolled_back" if back else "failed", None, "failed: %s" % said + ("; what it left was undone" if back else "")))
    if back:
        # What the deploy did not tell of, such as one that died without a word.
        known = {name for name, *_rest in found}
        found += [(name, "rolled_back", None, note) for name in restore.get("undone") or () if name not in known]
    if outcome == "restored":
        found += _restored(restore, restore.get("restore_point") or {})
    return found + _resolved(record)


def _entry(record: Record, point: Record, one: Entry) -> dict[str, t.Any]:
    name, status, seconds, notes = one
    return {
        "format": FORMAT,
        "date": record["finished_at"],
        "migration": name,
        "status": status,
        "seconds": seconds,
        "target": record["target"],
        "environment": record["environment"],
        "database": record["database"],
        "operator": record["operator"],
        "revision": record["revision"],
        "run_id": record["run_id"],
        "runbook": record["runbook"],
        "restore_point": point.get("id") or "",
        "restore_point_path": point.get("path") or "",
        "by_run": "",
        "notes": line(notes, 2000),
    }


def _of_others(record: Record, run: Record, name: str) -> dict[str, t.Any]:
    """What the run of somebody else applied. Who started it, from which commit and with which restore point, this run does not know."""
    said = "applied by %s" % run_text(dict(run, applied=[])).partition(";")[0]
    entry = _entry(record, {}, (name, "applied", None, said))
    return dict(entry, operator="", revision="", by_run=run["run_id"])


def _marked(record: Record) -> list[Entry]:
    """The unfinished migrations that were recorded before the deploy."""
    return [(entry["name"], entry["state"], None, "marked: %s" % resolved_text(entry)) for entry in record.get("resolved") or ()]


def _restored(restore: Record, point: Record) -> list[Entry]:
    """What a way back took away and brought again, by the ledger on both sides of the swap."""
    kept = "former database kept as %s" % restore.get("kept")
    source = source_of(restore)
    if restore.get("undone") is None and restore.get("redone") is None:
        return [("(all after the restore point %s)" % point.get("id"), "rolled_back", None, kept)]
    found: list[Entry] = [(name, "rolled_back", None, "back to %s; %s" % (source, kept)) for name in restore.get("undone") or ()]
    found += [(name, "applied", None, "came back with %s; %s" % (source, kept)) for name in restore.get("redone") or ()]
    return found or [("(no migration, only rows)", "rolled_back", None, "back to %s; %s" % (source, kept))]


def _resolved(record: Record) -> list[Entry]:
    """An unfinished migration that was recorded, and the script that was run for it."""
    resolved = (record.get("other") or {}).get("resolve") or {}
    state = str(resolved.get("resolved_to"))
    if not resolved.get("changed") or not resolved.get("migration") or state not in _STATUS:
        return []
    if any(entry["name"] == resolved["migration"] for entry in record.get("resolved") or ()):
        return []
    script = script_of(resolved)
    ran = "the script to %s was run" % script if script else ""
    lost = lost_by_script(record["other"]) if script else []
    parts = ["was unfinished, recorded as %s" % state.replace("_", " "), ran, "lost by it: %s" % "; ".join(lost) if lost else ""]
    return [(str(resolved["migration"]), state, None, "; ".join(part for part in parts if part))]


def log_text(entry: Record) -> str:
    """One entry as the guide writes it: Date, Migration, Status, Duration, Notes."""
    where = "%s (%s)" % (entry["target"], entry["environment"]) if entry["environment"] else str(entry["target"])
    notes = [entry["notes"], where, "by %s" % entry["operator"] if entry["operator"] else "", "revision %s" % entry["revision"] if entry["revision"] else ""]
    notes += [
        "%s %s" % ("recorded by run" if entry.get("by_run") else "run", entry["run_id"]),
        "restore point %s" % entry["restore_point"] if entry["restore_point"] else "",
    ]
    fields = (
        ("Date", str(entry["date"])[:10]),
        ("Migration", entry["migration"]),
        ("Status", _STATUS[entry["status"]]),
        ("Duration", _duration(entry["seconds"])),
        ("Notes", "; ".join(part for part in notes if part)),
    )
    return "".join("%s: %s\n" % (name, line(value, 4000)) for name, value in fields)


def _duration(seconds: t.Any) -> str:
    """The guide's C(2 seconds), to a tenth; what is shorter in milliseconds, so that nothing took no time."""
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return "–"
    if 0 < seconds < 0.95:
        shown = max(1, round(seconds * 1000))
        return "%d millisecond%s" % (shown, "" if shown == 1 else "s")
    return "%g second%s" % (round(seconds, 1), "" if round(seconds, 1) == 1 else "s")


def key_of(entry: Record) -> tuple[str, str, str, str]:
    """What makes two entries the same: the run that did it, the target, the migration, and what became of it."""
    return str(entry.get("by_run") or entry.get("run_id")), str(entry.get("target")), str(entry.get("migration")), str(entry.get("status"))


def log_entry(record: Record) -> str:
    """All entries of a run as they stand in migration_log.md; empty where the run touched no migration."""
    return "\n".join("\n".join(block(log_text(entry))) + "\n" for entry in log_entries(record))


__all__ = ("FORMAT", "HEADER", "key_of", "log_entries", "log_entry", "log_text")
