# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.


"""Which tables of two fingerprints can be compared. Pure: no I/O."""

from __future__ import annotations

import typing as t

Fingerprint = t.Mapping[str, t.Any]
Tables = t.Dict[str, t.Any]


def looked_at(before: Fingerprint, after: Fingerprint) -> tuple[Tables, Tables]:
    """The tables of each, but for those that only one of the two looked at.

    A fingerprint of format 1 did not look at tables of extensions.
    """
    skipped = frozenset(before.get("skipped") or ()) | frozenset(after.get("skipped") or ())
    old = 1 in (before["format"], after["format"])

    def of(side: Fingerprint) -> Tables:
        return {name: entry for name, entry in (side.get("tables") or {}).items() if name not in skipped and not (old and entry.get("extension"))}

    return of(before), of(after)


def of_one_side(before: Tables, after: Tables) -> list[tuple[str, str, int | None, int | None, str]]:
    """Tables of extensions whose rows came or went with the extension: kind, table, rows before and after, text.

    In the schema there is the extension alone.
    """
    found: list[tuple[str, str, int | None, int | None, str]] = []
    for name in sorted(set(before) ^ set(after)):
        entry = before.get(name) or after[name]
        rows, extension = entry["rows"], entry.get("extension")
        if not extension or not rows:
            continue
        count = "1 row" if rows == 1 else "%d rows" % rows
        if name in before:
            found.append(("table_gone", name, rows, None, "The table %s of the extension %s is gone, and with it %s." % (name, extension, count)))
        else:
            found.append(("table_added", name, None, rows, "The table %s of the extension %s is new, with %s." % (name, extension, count)))
    return found


def same_database(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two fingerprints are of the same database of the same server; of one without an origin that is not known."""
    sides = [side.get("origin") or {} for side in (one, other)]
    return all(sides[0].get(field) and sides[0].get(field) == sides[1].get(field) for field in ("system_identifier", "database_oid"))


__all__ = ("looked_at", "of_one_side", "same_database")
