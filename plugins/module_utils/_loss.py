# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The loss meter: what a database holds now and will not hold after it went back.

The fingerprints of both states say which tables differ; only those are read, row by row.
"""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparable import looked_at
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import Difference, compare
from ansible_collections.pgops.migrations.plugins.module_utils._connection import rows
from ansible_collections.pgops.migrations.plugins.module_utils._copytext import Columns, picker
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._rowdiff import Counts, pair
from ansible_collections.pgops.migrations.plugins.module_utils._rowdiff import compare as compare_rows
from ansible_collections.pgops.migrations.plugins.module_utils._rowsource import DatabaseRows, RowSource, Shape, reading

Fingerprint = t.Mapping[str, t.Any]
Loss = t.Dict[str, t.Any]
#: Sessions of this collection end by themselves before the swap.
OWN = "pgops.migrations"
_ABOUT_ROWS = frozenset(["rows_fewer", "rows_more", "content_changed", "content_not_compared"])
_ABOUT_OBJECTS = frozenset(["object_added", "object_removed", "object_changed", "table_gone", "table_added"])
# What a plain role may not see of others' sessions is NULL.
_SESSIONS = """
SELECT pid, usename::text, application_name, host(client_addr), state FROM pg_stat_activity
 WHERE datname = current_database() AND pid <> pg_backend_pid() AND usesysid IS NOT NULL AND coalesce(backend_type, '') <> 'parallel worker'
   AND coalesce(application_name, '') NOT LIKE %s ORDER BY pid
"""


def measure(then: RowSource, live: DatabaseRows, then_fingerprint: Fingerprint, live_fingerprint: Fingerprint) -> Loss:
    """What will be lost when the live database goes back to ``then``. Nothing is changed anywhere.

    :param live: in the transaction in which its fingerprint was taken, see ``_rowsource.pinned``.
    :param then_fingerprint: of the restore point, see ``Manifest.expected``, or of the database that ``then`` reads.
    :returns: C(known) (else C(reason)), C(tables) that differ with C(rows_now), C(rows_then), C(added), C(changed), C(removed)
        and C(keyed), C(sequences) that go back, C(sessions) that will be cut, C(objects) (texts), the totals, C(differences) and C(texts).
    """
    differences = compare(then_fingerprint, live_fingerprint)
    sessions: list[dict[str, t.Any]] = []
    try:
        sessions = sessions_to_cut(live)
        counts = _counts(then, live, then_fingerprint, live_fingerprint)
    except MigrationError as error:
        return dict(unknown(error.msg, then_fingerprint, live_fingerprint), sessions=sessions)
    before, after = (_rows({"tables": side}) for side in looked_at(then_fingerprint, live_fingerprint))
    tables = [
        {"table": name, "rows_now": after.get(name), "rows_then": before.get(name), **_facts(found)}
        for name, found in sorted(counts.items())
        if (found.added, found.changed, found.removed) != (0, 0, 0) or name not in before or name not in after
    ]
    loss: Loss = {"known": True, "reason": "", "tables": tables, "sessions": sessions}
    loss["sequences"] = sequences_back(then_fingerprint, live_fingerprint)
    loss["objects"] = [str(difference["text"]) for difference in differences if difference["kind"] in _ABOUT_OBJECTS]
    loss.update(rows_now=sum(after.values()), rows_then=sum(before.values()))
    loss.update({word: sum(table[word] for table in tables) for word in ("added", "changed", "removed")})
    # Rows that were only changed are lost, too, and show in no count.
    loss["texts"] = [_text(difference, counts) for difference in differences] + _not_looked_at(then_fingerprint, live_fingerprint)
    loss["differences"] = len(differences)
    return loss


def by_fingerprints(live: DatabaseRows, then_fingerprint: Fingerprint, live_fingerprint: Fingerprint) -> Loss:
    """Which tables differ, by their number of rows and their hash. C(measured) is false: no row was looked at."""
    differences = compare(then_fingerprint, live_fingerprint)
    old, new = looked_at(then_fingerprint, live_fingerprint)
    before, after = _rows({"tables": old}), _rows({"tables": new})
    loss = unknown("", then_fingerprint, live_fingerprint)
    loss.update(
        known=True,
        measured=False,
        tables=[
            {"table": name, "rows_now": after.get(name), "rows_then": before.get(name), "added": None, "changed": None, "removed": None}
            for name in sorted(set(old) | set(new))
            if name not in old or name not in new or not _same(old[name], new[name])
        ],
        sequences=sequences_back(then_fingerprint, live_fingerprint),
        sessions=sessions_to_cut(live),
        objects=[str(difference["text"]) for difference in differences if difference["kind"] in _ABOUT_OBJECTS],
        texts=[str(difference["text"]) for difference in differences] + _not_looked_at(then_fingerprint, live_fingerprint),
        differences=len(differences),
    )
    return loss


def unknown(reason: str, then_fingerprint: Fingerprint | None = None, live_fingerprint: Fingerprint | None = None) -> Loss:
    """The loss that could not be measured: no number in it is a guess."""
    now, then = (None if side is None else sum(_rows(side).values()) for side in (live_fingerprint, then_fingerprint))
    empty: Loss = {word: [] for word in ("tables", "sequences", "sessions", "objects", "texts")}
    return dict(empty, known=False, reason=reason, rows_now=now, rows_then=then, added=None, changed=None, removed=None, differences=None)


def sessions_to_cut(live: DatabaseRows) -> list[dict[str, t.Any]]:
    """The sessions of others in the live database."""
    names = ("pid", "user", "application_name", "client_addr", "state")
    with reading("the sessions"):
        return [dict(zip(names, found)) for found in rows(live.conn, _SESSIONS, (OWN + "%",))]


def sequences_back(then_fingerprint: Fingerprint, live_fingerprint: Fingerprint) -> list[dict[str, t.Any]]:
    """The sequences that will give out numbers again which they gave out since."""
    found = []
    for name, now in sorted((live_fingerprint.get("sequences") or {}).items()):
        then = (then_fingerprint.get("sequences") or {}).get(name)
        if then is None:
            continue
        sign = -1 if " increment -" in then_fingerprint["schema"]["objects"].get("sequence " + name, "") else 1
        back = sign * (_reached(now, sign) - _reached(then, sign))
        if back > 0:
            found.append({"sequence": name, "now": _reached(now, sign), "then": _reached(then, sign), "step_back": back})
    return found


def _reached(sequence: t.Mapping[str, t.Any], sign: int) -> int:
    """The last number that it gave out; for one that never did, the number before its first."""
    return int(sequence["last_value"]) - (0 if sequence["is_called"] else sign)


def _rows(fingerprint: Fingerprint) -> dict[str, int]:
    return {name: int(entry["rows"]) for name, entry in (fingerprint.get("tables") or {}).items()}


def _facts(found: Counts) -> dict[str, t.Any]:
    return {"added": found.added, "changed": found.changed, "removed": found.removed, "keyed": found.keyed}


def _counts(then: RowSource, live: DatabaseRows, then_fingerprint: Fingerprint, live_fingerprint: Fingerprint) -> dict[str, Counts]:
    """Table -> how its rows differ, of those whose number or hash differs."""
    old, new = looked_at(then_fingerprint, live_fingerprint)
    counts = {name: Counts(0, 0, old[name]["rows"], True) for name in old if name not in new}
    counts.update({name: Counts(new[name]["rows"], 0, 0, True) for name in new if name not in old})
    suspects = [name for name in old if name in new and not _same(old[name], new[name])]
    shapes = live.shapes(suspects)
    missing = [name for name in suspects if name not in shapes]
    if missing:
        raise MigrationError("the table %s is gone meanwhile" % missing[0], code="FINGERPRINT_DISTURBED")
    with contextlib.closing(t.cast("t.Generator[t.Any, None, None]", then.each([shapes[name] for name in suspects]))) as each:
        for shape, columns, give in each:
            expected = old[shape.label]["rows"], new[shape.label]["rows"]
            held = [column for column in shape.columns if column not in columns and column in old[shape.label]["columns"]]
            if held and old[shape.label]["hash"] != new[shape.label]["hash"]:
                # Computed then and stored now: an archive does not hold it, so no number of changed rows would be right.
                raise MigrationError("the column %s of %s is not in the restore point" % (held[0], shape.label), code="FINGERPRINT_DISTURBED")
            counts[shape.label] = _read(shape, columns, give, then.encoding, live, expected)
    return counts


def _not_looked_at(then_fingerprint: Fingerprint, live_fingerprint: Fingerprint) -> list[str]:
    """One text where there are tables that no number tells of."""
    hidden = sorted(set(then_fingerprint.get("skipped") or ()) | set(live_fingerprint.get("skipped") or ()))
    return ["Not compared, as the role may not read it in full: %s." % ", ".join(hidden)] if hidden else []


def _same(old: t.Mapping[str, t.Any], new: t.Mapping[str, t.Any]) -> bool:
    return bool(old["hash"]) and all(old[field] == new[field] for field in ("rows", "hash", "columns"))


def _read(shape: Shape, columns: Columns, give: t.Callable[..., int], encoding: str, live: DatabaseRows, expected: tuple[int, int]) -> Counts:  # noqa: PLR0917
    common = tuple(column for column in columns if column in shape.columns)
    key = shape.key(common)
    with pair(max(expected), [common.index(column) for column in key]) as (before, after):
        write = before.writer()
        if common != columns:
            pick = picker([columns.index(column) for column in common])
            then_rows = give(lambda line: write(pick(line)))
        else:
            then_rows = give(write)
        found = then_rows, live.copy(shape, common, after.writer(), encoding)
        if found != expected:
            # Not what the fingerprints saw: then no number is right.
            raise MigrationError(
                "%s has %d rows then and %d now, and not %d and %d as its fingerprints say" % (shape.label, *found, *expected), code="FINGERPRINT_DISTURBED"
            )
        return compare_rows(before, after)


def _text(difference: Difference, counts: t.Mapping[str, Counts]) -> str:
    kind, name = difference["kind"], str(difference["object"])
    found = counts.get(name) if kind in _ABOUT_ROWS else None
    if found and (found.added, found.changed, found.removed) != (0, 0, 0):
        if found.keyed:
            return "Table %s: %s added, %d changed, %d removed." % (name, plural(found.added), found.changed, found.removed)
        return "Table %s: %s added, %d removed (compared by whole rows, so a changed row counts as both)." % (name, plural(found.added), found.removed)
    if kind == "table_added" and difference["after"] is not None:
        return "Table %s is not in the restore point: its %s will be gone." % (name, plural(difference["after"]))
    if kind == "table_gone" and difference["before"] is not None:
        return "Table %s was removed: it comes back with %s." % (name, plural(difference["before"]))
    if name.startswith("column ") and kind in ("object_added", "object_removed"):
        if kind == "object_added":
            return "The %s is not in the restore point: what it holds will be gone." % name
        return "The %s was removed: it comes back with its content of then." % name
    if kind == "sequence_forward":
        sides = difference["after"], difference["before"]
        sign = -1 if sides[0]["last_value"] < sides[1]["last_value"] else 1
        now, then = _reached(sides[0], sign), _reached(sides[1], sign)
        return "Sequence %s goes back by %d (from %d to %d)." % (name, abs(now - then), now, then)
    return str(difference["text"])


def plural(count: int) -> str:
    """A number of rows in words."""
    return "1 row" if count == 1 else "%d rows" % count


__all__ = ("Loss", "by_fingerprints", "measure", "sequences_back", "sessions_to_cut", "unknown")
