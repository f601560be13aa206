# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The part of a report that shows the locks of the migrations, and who waited for whom. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import Child, Html, code, duration, is_number, join, section, table, tag, text
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

Record = t.Mapping[str, t.Any]
#: Rows of a table that are shown at once.
_MOST = 25


def monitor_of(record: Record) -> Record:
    """What was seen of the deploy; nothing where it was not watched."""
    found = (record["deploy"] or {}).get("monitor")
    return found if isinstance(found, dict) else {}


def entries(value: t.Any) -> list[Record]:
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def locks(record: Record) -> Html:
    """The migrator's locks, and who waited for whom."""
    monitor = monitor_of(record)
    if not monitor:
        return Html("")
    held = [
        [code(one.get("relation")), code(one.get("mode")), duration(one.get("held")), duration(one.get("waited")), duration(one.get("first"))]
        for one in entries(monitor.get("locks"))
    ]
    waits = [
        [_who(one), duration(one.get("seconds")), duration(one.get("at")), code(one.get("relation")), code(one.get("mode")), text(one.get("by"))]
        for one in entries(monitor.get("blocks"))
    ]
    sessions = monitor.get("blocked_sessions")
    more = sessions if isinstance(sessions, int) and sessions > len(waits) > 0 else 0
    nobody = "Nobody was seen waiting, neither for the migration nor the migration for others." if not waits and not sessions else None
    return section(
        "locks", "Locks and blocks",
        _drawn_locks(held) if held else tag("p", "No lock of a migration was seen."),
        _drawn_waits(waits) if waits else tag("p", nobody) if nobody else None,
        tag("p", "In all %s waited; the longest waits are shown." % plural(more, "other session")) if more else None,
    )  # fmt: skip


def _drawn_locks(rows: t.Sequence[t.Sequence[Child]]) -> Html:
    return table("Locks of the migrations", ["Relation", "Mode", " Held", " Waited for", " First at"], rows, ident="locks-table", most=_MOST, stacked=True)


def _drawn_waits(rows: t.Sequence[t.Sequence[Child]]) -> Html:
    return table("Who waited for whom", ["Who", " Waited", " At", "For", "Mode", "By"], rows, ident="blocks-table", most=_MOST, stacked=True)


def _who(one: Record) -> Html:
    named = [code(one[key]) for key in ("application", "user") if one.get(key)]
    return join([join(named, " as "), text("(pid %s)" % one["pid"])], " ") if is_number(one.get("pid")) else join(named, " as ") or text("the migration")


__all__ = ("entries", "locks", "monitor_of")
