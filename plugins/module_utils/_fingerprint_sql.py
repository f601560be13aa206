# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The statement that reduces a table's content to one number. Pure: text in, text out.

The number is the sum, over all rows, of a 64-bit hash of each row: the order of the rows
does not matter, while a row that is there twice counts twice. It is the same after a dump
and restore, on PostgreSQL 14 to 18, and under all settings of a session.

Three things make that less simple than ``sum(hash_record_extended(t.*, 0))``:

* A type's hash serves its equality, which may be coarser than identity (numeric 1.0 and
  1.00 are equal), may hold an OID (enums), or may not exist (json). So only types of
  :data:`PLAIN` are hashed as they are; others by their binary form or their text.
* The hash of bigint and of timestamps folds the value to 32 bits before it hashes: 0 and
  4294967297 agree under every seed. Their binary form does not.
* The hash of a record is linear in those of its columns, and so is the sum: two rows that
  exchange their values in one column would go unnoticed. So each row's hash is hashed
  once more, by a function that is not linear.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import sql

#: Settings of the transaction that hashes: all that the text of a value depends on.
#: pg_temp comes last, or else a temporary type could stand for a built-in one.
PINNED: dict[str, str] = {
    "search_path": "pg_catalog, pg_temp",
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "extra_float_digits": "3",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "xmlbinary": "base64",
    "quote_all_identifiers": "off",
    "row_security": "off",
    "jit": "off",
}
#: Built-in types whose hash sees all of the value.
PLAIN = frozenset(["bool", "bytea", "cidr", "date", "inet", "int2", "int4", "macaddr", "macaddr8", "oid", "uuid"])
#: The same, once the collation is one that compares bytes.
COLLATED = frozenset(["name", "text", "varchar"])
#: Built-in types that are hashed by the form they have on the wire: exact, and the same on
#: all versions. Not floats: their NaN has several such forms and one text.
SENT: dict[str, str] = {
    "bit": "bit_send",
    "char": "charsend",
    "int8": "int8send",
    "interval": "interval_send",
    "money": "cash_send",
    "numeric": "numeric_send",
    "time": "time_send",
    "timestamp": "timestamp_send",
    "timestamptz": "timestamptz_send",
    "timetz": "timetz_send",
    "varbit": "varbit_send",
}
#: What pg_dump takes along of extensions (C(pg_extension_config_dump)): table or sequence, extension, which rows. Not of
#: those that initdb makes.
CONFIGURATION = """
SELECT k.oid, quote_ident(x.extname) AS extension, k.condition
  FROM pg_extension x CROSS JOIN LATERAL unnest(x.extconfig, x.extcondition) k(oid, condition) WHERE x.oid >= 16384
"""


@dataclasses.dataclass(frozen=True)
class Column:
    """One column: its name, and its type with domains resolved to what they are made of.

    ``output`` is the type's output function as (schema, name).
    """

    name: str
    type_schema: str
    type_name: str
    output: tuple[str, str]
    #: As the catalogue numbers it: the same under another name.
    number: int = 0


@dataclasses.dataclass(frozen=True)
class Table:
    """One table that holds rows of its own: an ordinary table or a leaf partition."""

    oid: int
    schema: str
    name: str
    #: schema.name as the server quotes it.
    label: str
    #: The tables that it is a partition or a child of, nearest first, quoted.
    parents: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    #: Quoted, where the table belongs to an extension and pg_dump takes its rows along.
    extension: str = ""
    #: Which of its rows those are, as the extension says it: C(WHERE NOT built_in), or nothing for all.
    condition: str = ""


def hashed_form(column: Column) -> t.Any:
    """The expression of a column whose hash sees every change of its value."""
    name = sql.Identifier(column.name)
    if column.type_schema == "pg_catalog":
        if column.type_name in PLAIN:
            return name
        if column.type_name in COLLATED:
            return sql.SQL('{} COLLATE "C"').format(name)
        if column.type_name in SENT:
            return sql.SQL("pg_catalog.{}({})").format(sql.Identifier(SENT[column.type_name]), name)
        if column.type_name != "bpchar":
            return sql.SQL('({}::pg_catalog.text) COLLATE "C"').format(name)
    # By the output function, as COPY does it: a cast to text may be anyone's own function,
    # and that of character(n) drops blanks.
    return sql.SQL('pg_catalog.textin({}({})) COLLATE "C"').format(sql.Identifier(*column.output), name)


def hash_statement(table: Table, columns: t.Sequence[Column]) -> t.Any:
    """``SELECT rows, hash, untouched`` for one table.

    Columns are taken in the order of their names, as a restore may change that of child
    tables. ``untouched`` is false when the table was rewritten after the snapshot of the
    transaction: TRUNCATE and ALTER TABLE make it look empty to older snapshots.
    """
    ordered = sorted(columns, key=lambda column: column.name)
    total: t.Any = sql.SQL("0")
    if ordered:
        row = sql.SQL("pg_catalog.hash_record_extended(ROW({}), 0)").format(sql.SQL(", ").join([hashed_form(column) for column in ordered]))
        # As a seed, all 64 bits of the row's hash are mixed; as a value, only 32 would be.
        mixed = sql.SQL("pg_catalog.hashint4extended(0, {})").format(row)
        total = sql.SQL("COALESCE(pg_catalog.sum({}), 0)").format(mixed)
    return _statement(table, total)


def count_statement(table: Table) -> t.Any:
    """``SELECT rows, NULL, untouched`` for one table."""
    return _statement(table, sql.SQL("NULL"))


def _statement(table: Table, total: t.Any) -> t.Any:
    return sql.SQL(
        "SELECT pg_catalog.count(*), {}, pg_catalog.pg_relation_filenode({}::oid) IS NOT DISTINCT FROM"
        " (SELECT relfilenode FROM pg_catalog.pg_class WHERE oid = {}::oid) FROM {}"
    ).format(total, sql.Literal(table.oid), sql.Literal(table.oid), rows_of(table.schema, table.name, table.condition))


def rows_of(schema: str, name: str, condition: str = "") -> t.Any:
    """What stands after FROM to read the rows of the table itself that pg_dump takes along.

    :param condition: of a table of an extension: SQL that the extension wrote, and that pg_dump puts in as it is, too.
    """
    own = sql.SQL("ONLY {}").format(sql.Identifier(schema, name))
    return sql.SQL("(SELECT * FROM {} {}) AS dumped").format(own, sql.SQL(condition)) if condition.strip() else own


def hash_text(total: t.Any) -> str:
    """The sum as 32 hexadecimal digits."""
    return "%032x" % (int(total) % (1 << 128))


__all__ = (
    "COLLATED", "CONFIGURATION", "PINNED", "PLAIN", "SENT", "Column", "Table", "count_statement", "hash_statement", "hash_text", "hashed_form", "rows_of",
)  # fmt: skip
