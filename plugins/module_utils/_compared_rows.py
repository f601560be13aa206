# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What differs in the rows of one table that both fingerprints have. Pure: no I/O.

Each difference has its kind, what was before and is now, and a text; where it is known, C(columns) of which the values
changed (by their names of now), C(renamed) (name of now -> of before), and C(gone) and C(fresh): how many rows of before
were changed or deleted, and how many of now are new or changed.
"""

from __future__ import annotations

import typing as t

Entry = t.Mapping[str, t.Any]
Found = t.Dict[str, t.Any]


def of_table(name: str, before: Entry, after: Entry, was: str = "") -> list[Found]:
    """:param before: whole fingerprints, and so is ``after``; both looked at the table.
    :param was: what the table was called before, where that was otherwise.
    """
    old, new = before["tables"][was or name], after["tables"][name]
    kept = (after.get("kept") or {}).get(name)
    moved = {} if kept is None else {"gone": old["rows"] - kept, "fresh": new["rows"] - kept}
    if old["rows"] != new["rows"]:
        return _other_number(name, old["rows"], new["rows"], moved)
    if not old["hash"] or not new["hash"]:
        return []
    same_columns = old["columns"] == new["columns"]
    if (same_columns and old["hash"] == new["hash"]) or not old["rows"]:
        return []
    noted, seen = (before.get("columns") or {}).get(was or name), (after.get("followed") or {}).get(name)
    if noted and seen:
        found = _by_column(name, old, new, noted, seen)
        if found is not None:
            return found
    if same_columns:
        return [_changed(name, old["hash"], new["hash"], old["rows"])]
    if moved and not moved["gone"] and not moved["fresh"]:
        # Each row is the one that was there, and a row is never changed in its place.
        return []
    return [_not_compared(name, old, new, moved)]


def _other_number(name: str, old: int, new: int, moved: Found) -> list[Found]:
    fewer = new < old
    text = "%s has %s %s than before (%d, now %d)." % (name, _count(abs(new - old)), "fewer" if fewer else "more", old, new)
    found: list[Found] = [{"kind": "rows_fewer" if fewer else "rows_more", "before": old, "after": new, "text": text}]
    if moved and moved["gone"] > 0 and moved["fresh"] > 0:
        if fewer:
            text = "Of the %s that %s has now, %d %s or changed." % (_count(new), name, moved["fresh"], "is new" if moved["fresh"] == 1 else "are new")
        else:
            was = "was" if moved["gone"] == 1 else "were"
            text = "Of the %s that %s had before, %d %s changed or deleted." % (_count(old), name, moved["gone"], was)
        found.append(dict({"kind": "content_changed", "before": old, "after": new, "text": text}, **moved))
    return found


def _by_column(name: str, old: Entry, new: Entry, noted: Entry, seen: Entry) -> list[Found] | None:  # noqa: PLR0917
    """None where single columns cannot tell."""
    renamed = {now: then for then, now in seen["names"].items() if now != then}
    if not seen["hashes"] and not seen["key_hash"]:
        return None
    if noted["key_hash"] != seen["key_hash"]:
        # Without its key, no value is known to be of which row.
        columns = sorted(seen["names"][then] for then in noted["key"])
        text = "The rows of %s have other keys than before (%s), in as many rows as before (%d)." % (name, ", ".join(columns), old["rows"])
        return [dict(_content(old["hash"], new["hash"], text), columns=columns, renamed=renamed)]
    hashes = [(then, seen["names"][then]) for then in sorted(seen["hashes"]) if noted["hashes"].get(then) != seen["hashes"][then]]
    columns = sorted({*[now for _then, now in hashes], *seen["replaced"]})
    if columns:
        text = "The content of %s changed in %s, in as many rows as before (%d)." % (name, ", ".join(columns), old["rows"])
        return [dict(_content(old["hash"], new["hash"], text), columns=columns, renamed=renamed)]
    return [] if noted["key_hash"] else None


def _changed(name: str, old: t.Any, new: t.Any, rows: int) -> Found:
    return _content(old, new, "The content of %s changed, in as many rows as before (%d)." % (name, rows))


def _content(old: t.Any, new: t.Any, text: str) -> Found:
    return {"kind": "content_changed", "before": old, "after": new, "text": text}


def _not_compared(name: str, old: Entry, new: Entry, moved: Found) -> Found:
    lost = sorted(set(old["columns"]) - set(new["columns"]))
    text = "The content of %s could not be compared: %s" % (
        name,
        "%s %s gone" % (", ".join(lost), "is" if len(lost) == 1 else "are") if lost else "the two fingerprints cover different columns",
    )
    if moved.get("gone"):
        text += ", and %d of its %s %s since" % (moved["gone"], _count(old["rows"]), "was written" if moved["gone"] == 1 else "were written")
    return dict({"kind": "content_not_compared", "before": old["columns"], "after": new["columns"], "text": text + "."}, **moved)


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else "%d rows" % rows


__all__ = ("of_table",)
