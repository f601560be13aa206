# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The statements that follow rows and columns through a migration, and the tables that need it. Pure: text in, text out.

The hash of a table covers all its columns, so it says nothing once one of them is gone, and never which of them changed.
Two more things are cheap enough to be asked:

* Each column by itself, with the key of its row: of those tables only that a pending migration may change. By the text of
  the values, so that C(integer) and C(bigint) agree.
* How many of the rows are the very ones that were there before: a row that was not written since carries the number of an
  older transaction. That needs nothing to be known beforehand but the snapshot.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql_names, _touch_reach, _touches
from ansible_collections.pgops.migrations.plugins.module_utils._connection import sql
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import Column, Table, rows_of

#: What makes the hash of whole rows say too little.
_NEEDS = frozenset([_touches.CHANGED, _touches.NOT_COMPARED])
#: Transaction numbers on disk have 32 bits.
_ROUND = 1 << 32


def as_text(column: Column) -> t.Any:
    """The value as its type writes it, as a text of which every byte counts."""
    return sql.SQL('pg_catalog.textin({}({})) COLLATE "C"').format(sql.Identifier(*column.output), sql.Identifier(column.name))


def column_statement(table: Table, key: t.Sequence[Column], columns: t.Sequence[Column]) -> t.Any:
    """``SELECT hash of the keys, hash of each column``; a column's values are bound to their row by its key, where there is one."""
    bound = [as_text(column) for column in key]
    sums = [_sum(bound) if bound else sql.SQL("0")]
    sums += [_sum([*bound, as_text(column)]) for column in columns]
    return sql.SQL("SELECT {} FROM {}").format(sql.SQL(", ").join(sums), rows_of(table.schema, table.name, table.condition))


def _sum(values: t.Sequence[t.Any]) -> t.Any:
    row = sql.SQL("pg_catalog.hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join(values))
    # See _fingerprint_sql: the hash of a record is linear, and this is not.
    return sql.SQL("COALESCE(pg_catalog.sum(pg_catalog.hashint4extended(0, {})), 0)").format(row)


def kept_statement(table: Table, then: str, now: str) -> t.Any | None:
    """``SELECT number of rows that no transaction wrote since``; None where so many came since that it cannot be told.

    A transaction that ran while ``then`` was taken counts as later by its own number; of its savepoints the snapshot does not know.

    :param then: the snapshot of the earlier fingerprint, and ``now`` that of this transaction, as the server writes them.
    """
    begin, running = _parse(then)
    end, _running = _parse(now)
    if not 0 <= end - begin < _ROUND // 2:
        return None
    written = sql.SQL("xmin::pg_catalog.text::pg_catalog.int8")
    return sql.SQL("SELECT pg_catalog.count(*) FROM {} WHERE ({} - {} + {}) % {} >= {} AND NOT {} = ANY ({}::pg_catalog.int8[])").format(
        rows_of(table.schema, table.name),
        written,
        sql.Literal(begin % _ROUND),
        sql.Literal(_ROUND),
        sql.Literal(_ROUND),
        sql.Literal(end - begin),
        written,
        sql.Literal([number % _ROUND for number in running]),
    )


def _parse(snapshot: str) -> tuple[int, list[int]]:
    """The first number that was not given out yet, and those of transactions that ran."""
    _lowest, begin, running = snapshot.split(":")
    return int(begin), [int(number) for number in running.split(",") if number]


def wanted(pending: t.Collection[str], tables: t.Sequence[Table], objects: t.Mapping[str, str]) -> list[Table]:
    """The tables of which a pending script may change single columns, or take them away.

    :param objects: of the schema; a view or a routine that a script uses leads to the tables that it names.
    """
    found: dict[int, Table] = {}
    reached = _touch_reach.reachable(objects)
    for script in pending:
        touches = [touch for touch in _touches.touches(script) if touch.anything or not _NEEDS.isdisjoint(touch.kinds)]
        values = _touches.renamed_values(script)
        for table in tables:
            subjects = [_sql_names.split_name(label) for label in (table.label, *table.parents)]
            named = any(_touches.names_it(touch, subjects) or _touch_reach.through(touch, subjects, reached) for touch in touches)
            if named or _touch_reach.columns_of_type(table.label, values, objects):
                found[table.oid] = table
    return list(found.values())


def lacking(pending: t.Collection[str], fingerprint: t.Mapping[str, t.Any]) -> list[str]:
    """The tables of a fingerprint of which it would have single columns, had these scripts been known when it was taken."""
    noted = fingerprint.get("columns") or {}
    tables = [
        Table(number, "", "", label, tuple(entry.get("parents") or ()))
        for number, (label, entry) in enumerate(fingerprint["tables"].items())
        if label not in noted
    ]
    return sorted(table.label for table in wanted(pending, tables, fingerprint["schema"]["objects"]))


def follow(table: Table, entry: t.Mapping[str, t.Any], same_table: bool) -> dict[str, Column]:
    """Name before -> the column now, of those that are still there.

    :param entry: of the table, in the columns of an earlier fingerprint.
    :param same_table: whether it is that very table, so that the numbers of its columns hold; else the names must do.
    """
    if same_table:
        numbered = {column.number: column for column in table.columns}
        return {name: numbered[number] for name, number in entry["numbers"].items() if number in numbered}
    named = {column.name: column for column in table.columns}
    return {name: named[name] for name in entry["numbers"] if name in named}


__all__ = ("as_text", "column_statement", "follow", "kept_statement", "lacking", "wanted")
