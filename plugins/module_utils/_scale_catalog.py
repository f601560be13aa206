# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the catalogue says of the tables that are to be scaled, their statistics and sequences."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._scale_plan import Column, Key, Table

_TABLES = """
SELECT c.oid::bigint, n.nspname || '.' || c.relname,
       CASE WHEN EXISTS (SELECT 1 FROM pg_constraint x WHERE x.conrelid = c.oid AND x.contype = 'x') THEN 'it has an exclusion constraint'
            WHEN EXISTS (SELECT 1 FROM pg_inherits h WHERE h.inhparent = c.oid) AND c.relkind = 'r' THEN 'other tables inherit from it'
            WHEN NOT pg_has_role(c.relowner, 'USAGE') THEN 'it belongs to another role'
            WHEN c.relforcerowsecurity THEN 'row security is forced on it'
            WHEN EXISTS (SELECT 1 FROM pg_rewrite r WHERE r.ev_class = c.oid) THEN 'it has a rule' ELSE '' END,
       coalesce((SELECT array_agg(a.attname::text) FROM pg_partitioned_table p JOIN pg_attribute a
          ON a.attrelid = c.oid AND a.attnum = ANY (p.partattrs::smallint[]) WHERE p.partrelid = c.oid), '{}')
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND c.relname <> '_prisma_migrations'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast')
   AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
 ORDER BY 2
"""
_COLUMNS = """
SELECT a.attname, b.typname, NOT a.attnotnull AND NOT t.typnotnull, a.attgenerated <> '',
       CASE WHEN b.typname IN ('varchar', 'bpchar') AND greatest(a.atttypmod, t.typtypmod) > 4 THEN greatest(a.atttypmod, t.typtypmod) - 4 END,
       t.typtype = 'd' OR EXISTS (SELECT 1 FROM pg_constraint k WHERE k.conrelid = a.attrelid AND k.contype = 'c' AND a.attnum = ANY (k.conkey))
  FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_type b ON b.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
 WHERE a.attrelid = %s AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
#: An expression of an index is about the columns on which the index depends.
_UNIQUE = """
SELECT (SELECT array_agg(DISTINCT a.attname::text) FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attnum > 0
          AND (a.attnum = ANY ((i.indkey::smallint[])[0:i.indnkeyatts - 1])
            OR (0 = ANY (i.indkey::smallint[]) AND EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid
                  AND d.refclassid = 'pg_class'::regclass AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))))
  FROM pg_index i WHERE i.indrelid = %s AND i.indisunique ORDER BY i.indisprimary DESC, i.indexrelid
"""
_KEYS = """
SELECT k.confrelid::bigint,
       (SELECT array_agg(a.attname::text ORDER BY place) FROM unnest(k.conkey) WITH ORDINALITY u(number, place)
          JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = number),
       (SELECT array_agg(a.attname::text ORDER BY place) FROM unnest(k.confkey) WITH ORDINALITY u(number, place)
          JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = number)
  FROM pg_constraint k WHERE k.conrelid = %s AND k.contype = 'f' ORDER BY k.conname
"""
_SEQUENCES = """
SELECT DISTINCT s.oid::bigint, a.attname
  FROM pg_attribute a LEFT JOIN pg_attrdef f ON f.adrelid = a.attrelid AND f.adnum = a.attnum
  JOIN pg_depend d ON (d.refclassid = 'pg_class'::regclass AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum AND d.deptype IN ('a', 'i')
                       AND d.classid = 'pg_class'::regclass)
                   OR (d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid AND d.refclassid = 'pg_class'::regclass)
  JOIN pg_class s ON s.relkind = 'S' AND s.oid IN (d.objid, d.refobjid)
 WHERE a.attrelid = %s AND a.attnum > 0 AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype)
"""
_STATS = """
SELECT schemaname || '.' || tablename, attname, null_frac, n_distinct, most_common_vals::text::text[], most_common_freqs,
       histogram_bounds::text::text[], correlation
  FROM pg_stats s WHERE NOT inherited AND schemaname NOT IN ('pg_catalog', 'information_schema')
   AND EXISTS (
     SELECT 1 FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_type t ON t.oid = a.atttypid
     WHERE n.nspname = s.schemaname AND c.relname = s.tablename AND a.attname = s.attname AND t.typcategory <> 'A' AND t.typtype IN ('b', 'e', 'd'))
"""
_STAT_NAMES = ("null_frac", "n_distinct", "most_common_vals", "most_common_freqs", "histogram_bounds", "correlation")


def tables(conn: t.Any) -> list[Table]:
    found = []
    for oid, name, refused, partition_columns in rows(conn, _TABLES):
        columns = tuple(Column(str(column[0]), str(column[1]), *column[2:]) for column in rows(conn, _COLUMNS, (oid,)))
        unique = tuple(tuple(names) for (names,) in rows(conn, _UNIQUE, (oid,)) if names)
        keys = tuple(Key(tuple(own), parent, tuple(other)) for parent, own, other in rows(conn, _KEYS, (oid,)))
        found.append(Table(oid, str(name), columns, unique, keys, frozenset(partition_columns), str(refused)))
    return found


def named(conn: t.Any, oid: int) -> t.Any:
    query = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s"
    return sql.Identifier(*(row(conn, query, (oid,)) or ("", "")))


def type_of(conn: t.Any, oid: int, column: str) -> str:
    """The server's own spelling, which quotes what must be."""
    found = row(conn, "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s AND attname = %s", (oid, column))
    return str(found[0]) if found else "text"


def triggers(conn: t.Any, oid: int) -> list[tuple[t.Any, ...]]:
    """The enabled triggers of the table's own, and how."""
    return rows(conn, "SELECT tgname, tgenabled::text FROM pg_trigger WHERE tgrelid = %s AND NOT tgisinternal AND tgparentid = 0 AND tgenabled <> 'D'", (oid,))


def set_sequences(conn: t.Any, oid: int) -> None:
    """Where a sequence gives a column its numbers, the next one is behind all that are there; none is set back."""
    for sequence, column in rows(conn, _SEQUENCES, (oid,)):
        query = "SELECT setval(%s::regclass, highest) FROM (SELECT max({0})::bigint AS highest FROM {1}) m, {2} q WHERE highest > q.last_value"
        execute(conn, sql.SQL(query).format(sql.Identifier(column), named(conn, oid), named(conn, sequence)), (sequence,))


def read_stats(conn: t.Any) -> dict[str, dict[str, dict[str, t.Any]]]:
    """The server's statistics as plain data: C(schema.table) -> column -> what pg_stats has. Values of rows are in it: keep it as they are kept."""
    found: dict[str, dict[str, dict[str, t.Any]]] = {}
    for table, column, *values in rows(conn, _STATS):
        found.setdefault(str(table), {})[str(column)] = dict(zip(_STAT_NAMES, values))
    return found


__all__ = ("named", "read_stats", "set_sequences", "tables", "triggers", "type_of")
