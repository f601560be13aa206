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
        return "%s%s." % (self.note.text, " (not counted: %s)" % self.problem if self.problem else "")

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
    try:
        found = row(conn, note.probe)
    except psycopg2.Error as error:
        if conn.closed:
            raise
        # The server's own words may hold a value of a row.
        reason = {"57014": "it took too long", "42501": "permission denied", "55P03": "the table is locked"}.get(error.pgcode or "", "")
        if not reason and (error.pgcode or "")[:2] == "22":
            return Counted(dataclasses.replace(note, blocks=True), None, "a value that is there cannot be converted, SQLSTATE %s" % error.pgcode)
        return Counted(note, None, reason or "SQLSTATE %s" % error.pgcode)
    return Counted(note, int(found[0]) if found else None)


__all__ = ("Counted", "count")
