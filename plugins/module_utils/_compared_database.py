# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What differs in a database's own rights and settings between two fingerprints of it. Pure: no I/O."""

from __future__ import annotations

import typing as t

Fingerprint = t.Mapping[str, t.Any]


def of_database(before: Fingerprint, after: Fingerprint) -> list[dict[str, t.Any]]:
    """The differences; none where one does not know them, or is of another database (a copy, a restore)."""
    sides = [side.get("of_database") or {} for side in (before, after)]
    if not sides[0].get("identity") or sides[0]["identity"] != sides[1].get("identity"):
        return []
    # The same database may be called otherwise by now.
    old = {_key(key, sides[0]["name"], sides[1]["name"]): text for key, text in sides[0]["objects"].items()}
    new = sides[1]["objects"]
    found = []
    for key in sorted({*old, *new}):
        then, now = old.get(key), new.get(key)
        if then != now:
            kind, said = ("object_removed", "is gone") if now is None else ("object_added", "is new") if then is None else ("object_changed", "changed")
            found.append({"kind": kind, "object": key, "before": then, "after": now, "text": "The %s %s." % (key, said), "subjects": [sides[1]["name"]]})
    return found


def _key(key: str, old: str, new: str) -> str:
    for start in ("owner database ", "grants database ", "database limit ", "database setting "):
        if key.startswith(start + old):
            return start + new + key[len(start) + len(old) :]
    return key


__all__ = ("of_database",)
