# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Ask the live database how many rows a draft concerns. Reads only; numbers only."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import Note
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Why there is no number, by SQLSTATE.
_REASONS = {
    "57014": "it took too long",
    "42501": "permission denied",
    "55P03": "the table is locked",
    "42P01": "the live database has no such table",
    "42703": "the live database has no such column",
    "3F000": "the live database has no such schema",
    "42704": "the live database has no such type",
    "42883": "the live database cannot compare the values that are there now so",
    "42846": "the values that are there now cannot be converted so by a query",
    "25006": "it cannot be counted without writing",
}
_NO_CAST = frozenset(["42804", "42846", "42883"])
#: A count that takes longer is left open: nobody waits for the number of rows of a terabyte.
_SETTINGS = {"statement_timeout": "60s", "lock_timeout": "5s", "row_security": "off"}


@dataclasses.dataclass(frozen=True)
class Counted:
    """A note with what the live database says to it. ``count``: None where there is nothing to count or it could not be."""

    note: Note
    count: int | None = None
    problem: str = ""

    @property
    def blocks(self) -> bool:
        """Whether the draft would fail on the data that is there, or nobody knows that it would not."""
        return self.note.blocks and self.count != 0

    def text(self) -> str:
        """One sentence."""
        if self.count is not None:
            return "%s (%s: %d)." % (self.note.text, self.note.counted, self.count)
        return "%s%s." % (self.note.text, " (cannot be counted: %s)" % self.problem if self.problem else "")

    def as_dict(self) -> dict[str, t.Any]:
        return {"kind": self.note.kind, "object": self.note.object, "text": self.text(), "count": self.count, "blocks": self.blocks}


def count(target: Target, notes: t.Sequence[Note]) -> list[Counted]:
    """The notes, each with its number."""
    if not any(note.probe for note in notes):
        return [Counted(note) for note in notes]
    with connection(target, read_only=True, settings=_SETTINGS) as conn:
        execute(conn, "SET search_path = pg_catalog, pg_temp")
        return [_count(conn, note) for note in notes]


def _count(conn: t.Any, note: Note) -> Counted:
    if not note.probe:
        return Counted(note)
    found = _number(conn, note.probe)
    if found in _NO_CAST and note.by_text:
        found = _number(conn, note.by_text)
    if isinstance(found, int):
        return Counted(note, found)
    if found.startswith("22"):
        return Counted(dataclasses.replace(note, blocks=True), None, "a value that is there cannot be converted, SQLSTATE %s" % found)
    # Where a query cannot convert it, the draft may not either.
    return Counted(dataclasses.replace(note, blocks=note.blocks or found in _NO_CAST), None, _REASONS.get(found) or "SQLSTATE %s" % found)


def _number(conn: t.Any, probe: str) -> int | str:
    """The number, or the SQLSTATE of why there is none. The server's own words may hold a value of a row."""
    try:
        found = row(conn, probe)
    except psycopg2.Error as error:
        if conn.closed:
            raise
        return error.pgcode or "unknown"
    return int(found[0]) if found else "unknown"


__all__ = ("Counted", "count")
