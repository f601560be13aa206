# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Sequences that come back go on where they were, and not at their beginning. Pure: no I/O.

A number that is given out a second time is an error of tomorrow: of an invoice, of a row that some other system knows.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import CONVERTED, EMPTY, Note, literal
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Column, Key, Model

_IDENTITY = re.compile(r"SEQUENCE NAME (.*) (START WITH -?\d+ INCREMENT BY .*)\Z", re.S)
_NUMBERS = re.compile(r"START WITH (-?\d+) INCREMENT BY (-?\d+) MINVALUE (-?\d+) MAXVALUE (-?\d+)")


@dataclasses.dataclass(frozen=True)
class Reached:
    """Where a sequence was in a restore point: C(last_value) and C(is_called) as the server has them, and the restore point."""

    number: int
    called: bool
    source: str

    def last(self, start: int, step: int, least: int, most: int) -> int | None:
        """The last number that it had given out; None for one that was at its beginning."""
        if self.called:
            return self.number
        before = self.number - step
        return before if self.number != start and least <= before <= most else None


@dataclasses.dataclass(frozen=True)
class _Sequence:
    """``of``: the column whose numbers it gives; None for one that stands for itself."""

    name: str
    facts: str
    of: Key | None
    identity: bool = False


@dataclasses.dataclass
class GoOn:
    """``statements``: (remark, statement) each, for the end of the draft."""

    statements: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)


def go_on(goal: Model, now: Model, reached: t.Mapping[str, Reached]) -> GoOn:
    """What sets the sequences that come back, and a note for each.

    :param now: the schema that is drafted from, with renames undone.
    :param reached: sequence -> where it was, as far as that is known.
    """
    result = GoOn()
    for sequence in _coming(goal, now):
        column = goal.columns.get(sequence.of) if sequence.of else None
        known, bounds = reached.get(sequence.name), _NUMBERS.search(sequence.facts)
        if bounds is None:
            continue
        start, step, least, most = map(int, bounds.groups())
        last = known.last(start, step, least, most) if known else None
        stays = column is not None and column.key in now.columns and not column.facts["generated"]
        statement = _statement(sequence, column if stays else None, last, (step, least, most))
        if statement:
            result.statements.append(("", statement))
        result.notes.append(_note(sequence, column, stays, known, last))
    return result


def _coming(goal: Model, now: Model) -> t.Iterator[_Sequence]:
    for key, unit in goal.units.items():
        if unit.kind == "sequence" and key not in now.units:
            owner = ("column", str(unit.facts["owner"])) if unit.facts["owner"] else None
            yield _Sequence(unit.name, unit.definition, owner)
    for key, column in goal.columns.items():
        found = _IDENTITY.match(column.facts["sequence"] or "") if column.facts["identity"] and not column.facts["inherited"] else None
        if found and (key not in now.columns or not now.columns[key].facts["identity"]):
            yield _Sequence(found.group(1), found.group(2), key, True)


def _statement(sequence: _Sequence, column: Column | None, last: int | None, bounds: tuple[int, int, int]) -> str:
    """Never back from where it is: rows that a new column numbered have moved it."""
    if column is None and last is None:
        return ""
    step, least, most = bounds
    further, furthest = ("greatest", "max") if step > 0 else ("least", "min")
    values = [] if last is None else [str(last)]
    if column is None:
        # As last_value of a sequence that has given out nothing is its first number, it is no less than that.
        return "SELECT pg_catalog.setval(%s::pg_catalog.regclass, %s(%s, last_value)) FROM %s" % (literal(sequence.name), further, values[0], sequence.name)
    values.append("%s(%s)" % (furthest, column.name))
    return "SELECT pg_catalog.setval(%s::pg_catalog.regclass, number) FROM (SELECT %s(%s) AS number FROM %s) AS found WHERE number BETWEEN %d AND %d" % (
        literal(sequence.name), further, ", ".join(values), column.table, least, most,
    )  # fmt: skip


def _note(sequence: _Sequence, column: Column | None, stays: bool, known: Reached | None, last: int | None) -> Note:
    what = "the sequence %s%s" % (sequence.name, " of %s" % column.key[1] if column else "")
    kind, name = (CONVERTED, column.key[1]) if sequence.identity and stays and column else (EMPTY, sequence.name)
    if known is not None and last is not None:
        where = "from %d, which it had reached in the restore point %s" % (last, known.source)
        more = ", or behind the numbers that are there" if stays else ""
        return Note(kind, name, "%s goes on %s%s; what it gave out after that is not known" % (what, where, more))
    if stays:
        return Note(kind, name, "%s goes on behind the numbers that are there; which it gave out beyond them is not known" % what)
    if known is not None:
        return Note(
            kind, name, "%s starts at its beginning, where it was in the restore point %s; what it gave out after that is not known" % (what, known.source)
        )
    return Note(kind, name, "%s starts again at its beginning: no restore point from before tells how far it was" % what)


__all__ = ("GoOn", "Reached", "go_on")
