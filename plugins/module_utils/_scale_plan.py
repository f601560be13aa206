# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How the rows of a database are multiplied: which columns get new values, in which order, and which tables cannot be. Pure: no I/O.

Columns that foreign keys tie together are one class, and take their new values by one rule: the copy number g of a child
refers to the copy number g of its parent. So keys stay valid, each parent has as many children as before, and a key of
several columns stays unique as soon as one of its columns takes new values.
"""

from __future__ import annotations

import dataclasses
import typing as t

Member = t.Tuple[int, str]
#: What values can be made of which type; the order is that of preference.
KINDS: dict[str, str] = {
    "uuid": "uuid", "int8": "number", "int4": "number", "int2": "number", "numeric": "number", "text": "text", "varchar": "text", "citext": "text",
    "bpchar": "text", "timestamptz": "time", "timestamp": "time", "date": "date", "bytea": "bytes",
}  # fmt: skip
_ORDER = tuple(KINDS)


@dataclasses.dataclass(frozen=True)
class Column:
    """``type``: the name of its (base) type; ``length``: of a varchar(n); ``held``: a CHECK, a partition key or an index with a condition is about it."""

    name: str
    type: str
    nullable: bool = True
    generated: bool = False
    length: int | None = None
    held: bool = False


@dataclasses.dataclass(frozen=True)
class Key:
    """A foreign key."""

    columns: tuple[str, ...]
    parent: int
    parent_columns: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Table:
    """``unique``: the columns of each unique index; ``refused``: why it cannot be scaled whatever its columns are."""

    oid: int
    name: str
    columns: tuple[Column, ...]
    unique: tuple[tuple[str, ...], ...] = ()
    keys: tuple[Key, ...] = ()
    partition_columns: frozenset[str] = frozenset()
    refused: str = ""

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


@dataclasses.dataclass(frozen=True)
class Plan:
    """``tables``: the OIDs in their order; ``fresh``: the columns that take new values, with the number of their class.

    ``kept``: foreign keys whose children keep the parent they have, by table; ``skipped``: table -> why.
    """

    tables: tuple[int, ...]
    fresh: t.Mapping[Member, int]
    kept: t.Mapping[int, frozenset[Key]]
    skipped: t.Mapping[str, str]


def plan(tables: t.Sequence[Table]) -> Plan:
    """Each table that turns out to be impossible changes what its children can do, so it is begun again without it."""
    refused: dict[int, str] = {table.oid: table.refused for table in tables if table.refused}
    while True:
        found, more = _planned(tables, refused)
        if not more:
            return found
        refused.update(more)


def _planned(tables: t.Sequence[Table], refused: t.Mapping[int, str]) -> tuple[Plan, dict[int, str]]:
    taken = {table.oid: table for table in tables if table.oid not in refused}
    order = _parents_first(taken)
    place = {oid: number for number, oid in enumerate(order)}
    # A parent that is not scaled, or only later, has no new rows to refer to yet. A table's own rows come with it.
    kept = {oid: frozenset(key for key in taken[oid].keys if key.parent not in place or place[key.parent] > place[oid]) for oid in order}
    classes = _classes(taken, kept)
    members: dict[int, list[Member]] = {}
    for member, number in classes.items():
        members.setdefault(number, []).append(member)
    bound = {(oid, name) for oid in order for key in kept[oid] for name in key.columns}
    usable = {number: _usable(of, taken, bound) for number, of in members.items()}
    chosen: set[int] = set()
    more: dict[int, str] = {}
    for oid in order:
        table = taken[oid]
        tied = {name for key in table.keys if key.parent != oid for name in key.columns}
        for unique in sorted(table.unique, key=len):
            if any(classes.get((oid, name)) in chosen for name in unique):
                continue
            candidates = [name for name in unique if usable.get(classes.get((oid, name), -1))]
            if not candidates:
                more[oid] = "its key (%s) has no column that can take new values" % ", ".join(unique)
                break
            own = [name for name in candidates if name not in tied]
            chosen.add(classes[(oid, min(own or candidates, key=lambda name: _preference(table, name)))])
    fresh = {member: number for member, number in classes.items() if number in chosen}
    skipped = {table.name: refused[table.oid] for table in tables if table.oid in refused}
    return Plan(tuple(order), fresh, kept, skipped), more


def _preference(table: Table, name: str) -> tuple[bool, bool, int]:
    column = table.column(name)
    return name in table.partition_columns, column.held, _ORDER.index(column.type)


def _usable(of: t.Sequence[Member], tables: t.Mapping[int, Table], bound: t.Collection[Member]) -> bool:
    """Whether new values can be made for all members of a class, the same for each."""
    columns = [tables[oid].column(name) for oid, name in of]
    kinds = {KINDS.get(column.type) for column in columns}
    return len(kinds) == 1 and None not in kinds and not any(column.generated for column in columns) and not any(member in bound for member in of)


def _classes(tables: t.Mapping[int, Table], kept: t.Mapping[int, t.Collection[Key]]) -> dict[Member, int]:
    """Columns that are tied together have the same number."""
    parent: dict[Member, Member] = {(oid, column.name): (oid, column.name) for oid, table in tables.items() for column in table.columns}

    def root(member: Member) -> Member:
        while parent[member] != member:
            member = parent[member]
        return member

    for oid, table in tables.items():
        for key in table.keys:
            if key in kept[oid]:
                continue
            for own, other in zip(key.columns, key.parent_columns):
                parent[root((oid, own))] = root((key.parent, other))
    numbers: dict[Member, int] = {}
    return {member: numbers.setdefault(root(member), len(numbers)) for member in parent}


def _parents_first(tables: t.Mapping[int, Table]) -> list[int]:
    """As far as it goes: a circle is broken where a child may be without its parent, else at who waits for the fewest."""
    left, order = dict(tables), t.cast("list[int]", [])
    while left:
        waits = {oid: _waits(table, left) for oid, table in left.items()}
        ready = sorted(left, key=lambda oid: (waits[oid], tables[oid].name))
        for oid in [one for one in ready if waits[one] == (0, 0)] or ready[:1]:
            order.append(oid)
            del left[oid]
    return order


def _waits(table: Table, left: t.Collection[int]) -> tuple[int, int]:
    """For how many parents it waits: those that it must have, and all."""
    keys = [key for key in table.keys if key.parent in left and key.parent != table.oid]
    needed = {key.parent for key in keys if not any(table.column(name).nullable for name in key.columns)}
    return len(needed), len({key.parent for key in keys})


__all__ = ("KINDS", "Column", "Key", "Member", "Plan", "Table", "plan")
