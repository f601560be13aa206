# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Rows per table in a run record. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line

Result = t.Mapping[str, t.Any]


def row_counts(verification: Result, restore: Result) -> list[dict[str, t.Any]]:
    """Rows per table before and after, of whatever comparison there is; None where there is no table. Those that differ come first."""
    counts: dict[str, tuple[t.Any, t.Any]] = {}
    before, after = (_tables(verification.get(side)) for side in ("before", "after"))
    for name in list(before) + [name for name in after if name not in before]:
        counts[name] = (before.get(name), after.get(name))
    for entry in [*_list(verification.get("tables")), *_list(verification.get("row_counts"))]:
        if isinstance(entry, t.Mapping):
            counts[str(entry.get("table") or entry.get("name"))] = (entry.get("before", entry.get("rows_before")), entry.get("after", entry.get("rows_after")))
    for entry in _list(verification.get("differences")):
        if isinstance(entry, t.Mapping) and entry.get("kind") in ("rows_more", "rows_fewer", "table_gone", "table_added"):
            counts.setdefault(str(entry.get("object")), (entry.get("before"), entry.get("after")))
    if not counts:
        loss = restore.get("loss")
        for entry in _list(loss.get("tables") if isinstance(loss, t.Mapping) else None):
            if isinstance(entry, t.Mapping):
                counts[str(entry.get("table"))] = (entry.get("rows_now"), entry.get("rows_then"))
    found = [{"table": line(name), "before": _count(old), "after": _count(new)} for name, (old, new) in counts.items()]
    found.sort(key=lambda entry: entry["before"] == entry["after"])
    return found


def _tables(fingerprint: t.Any) -> dict[str, t.Any]:
    """Rows by table of a fingerprint or its summary."""
    tables = fingerprint.get("tables") if isinstance(fingerprint, t.Mapping) else None
    if not isinstance(tables, t.Mapping):
        return {}
    return {str(name): entry.get("rows") if isinstance(entry, t.Mapping) else entry for name, entry in tables.items()}


def _count(value: t.Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _list(value: t.Any) -> list[t.Any]:
    return list(value) if isinstance(value, (list, tuple)) else []


__all__ = ("row_counts",)
