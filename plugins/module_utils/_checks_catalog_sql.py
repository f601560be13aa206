# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the checks of the catalogue ask it."""

from __future__ import annotations

INDEXES_SQL = """
SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text, i.indisready, r.relkind = 'I'
  FROM pg_index i JOIN pg_class r ON r.oid = i.indexrelid
 WHERE NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) ORDER BY 1
"""
# Keys that are not enforced are no promise, and one with PERIOD is kept by ranges together (PostgreSQL 18).
# Of a partitioned table the partitions' own rows in pg_constraint repeat the parent's. ONLY as the server
# checks it: the key of a plain table is not inherited by its children. Temporary tables of others cannot be read.
FOREIGN_KEYS_SQL = """
SELECT c.conname::text, c.conrelid::regclass::text, c.confrelid::regclass::text, c.convalidated, c.confmatchtype::text,
       n.nspname::text, r.relname::text, r.relkind <> 'p', fn.nspname::text, f.relname::text, f.relkind <> 'p',
       (SELECT array_agg(a.attname::text ORDER BY k.i) FROM unnest(c.conkey) WITH ORDINALITY k(num, i)
          JOIN pg_attribute a ON (a.attrelid, a.attnum) = (c.conrelid, k.num)),
       (SELECT array_agg(a.attname::text ORDER BY k.i) FROM unnest(c.confkey) WITH ORDINALITY k(num, i)
          JOIN pg_attribute a ON (a.attrelid, a.attnum) = (c.confrelid, k.num)),
       (SELECT array_agg(on_.nspname::text ORDER BY k.i) FROM unnest(c.conpfeqop) WITH ORDINALITY k(num, i)
          JOIN pg_operator o ON o.oid = k.num JOIN pg_namespace on_ ON on_.oid = o.oprnamespace),
       (SELECT array_agg(o.oprname::text ORDER BY k.i) FROM unnest(c.conpfeqop) WITH ORDINALITY k(num, i) JOIN pg_operator o ON o.oid = k.num),
       (SELECT array_agg(format_type(a.atttypid, NULL) ORDER BY k.i)
          FROM unnest(c.conkey) WITH ORDINALITY k(num, i) JOIN pg_attribute a ON (a.attrelid, a.attnum) = (c.conrelid, k.num)),
       quote_ident(c.conname)
  FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_class f ON f.oid = c.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
 WHERE c.contype = 'f' AND c.conparentid = 0 AND r.relpersistence <> 't'
   AND NOT COALESCE((to_jsonb(c) ->> 'conperiod')::bool, false) AND COALESCE((to_jsonb(c) ->> 'conenforced')::bool, true)
 ORDER BY 2, 1
"""
# Of an identity column, or used by a default. A default that names its sequence as text only, or leaves it to a function
# whose text names it, depends on none; there the column that owns it tells which it is.
# A partition's default repeats its parent's. The last value: the furthest that sequence and column both hold.
SEQUENCES_SQL = """
WITH used(seq, rel, num) AS (
    SELECT d.objid, d.refobjid, d.refobjsubid FROM pg_depend d
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'i' AND d.refobjsubid > 0
     UNION
    SELECT d.refobjid, f.adrelid, f.adnum FROM pg_depend d JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
     WHERE d.refclassid = 'pg_class'::regclass
     UNION
    SELECT d.objid, d.refobjid, d.refobjsubid FROM pg_depend d JOIN pg_attrdef f ON (f.adrelid, f.adnum) = (d.refobjid, d.refobjsubid)
      JOIN pg_class o ON o.oid = d.objid
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a'
       AND (pg_get_expr(f.adbin, f.adrelid) ~ 'nextval[(].*::text' AND strpos(pg_get_expr(f.adbin, f.adrelid), o.relname) > 0
            OR EXISTS (SELECT FROM pg_depend u JOIN pg_proc p ON u.refclassid = 'pg_proc'::regclass AND p.oid = u.refobjid
                        WHERE u.classid = 'pg_attrdef'::regclass AND u.objid = f.oid AND strpos(p.prosrc, o.relname) > 0))
)
SELECT format('%I.%I', sn.nspname, s.relname), sn.nspname::text, s.relname::text, tn.nspname::text, c.relname::text, a.attname::text,
       q.seqincrement::bigint, format('SELECT setval(%L, (SELECT %s(%I) FROM %I.%I))', format('%I.%I', sn.nspname, s.relname),
                                      CASE WHEN q.seqincrement > 0 THEN 'max' ELSE 'min' END, a.attname, tn.nspname, c.relname),
       CASE WHEN q.seqincrement > 0 THEN least(q.seqmax, CASE b.oid WHEN 'int2'::regtype THEN 32767 WHEN 'int4'::regtype THEN 2147483647 ELSE q.seqmax END)
            ELSE greatest(q.seqmin, CASE b.oid WHEN 'int2'::regtype THEN -32768 WHEN 'int4'::regtype THEN -2147483648 ELSE q.seqmin END) END::bigint
  FROM used JOIN pg_class s ON s.oid = used.seq AND s.relkind = 'S' JOIN pg_sequence q ON q.seqrelid = s.oid
  JOIN pg_namespace sn ON sn.oid = s.relnamespace JOIN pg_class c ON c.oid = used.rel JOIN pg_namespace tn ON tn.oid = c.relnamespace
  JOIN pg_attribute a ON (a.attrelid, a.attnum) = (used.rel, used.num)
  JOIN pg_type y ON y.oid = a.atttypid CROSS JOIN LATERAL (SELECT COALESCE(NULLIF(y.typbasetype, 0), y.oid) AS oid) b
 WHERE NOT q.seqcycle AND b.oid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
   AND NOT EXISTS (SELECT FROM used o WHERE o.seq = used.seq AND o.rel <> c.oid AND o.rel IN (SELECT relid FROM pg_partition_ancestors(c.oid)))
 ORDER BY 1, 5, 6
"""
# The server guarantees a validated one, but for the functions it calls: they can be replaced. ONLY where it is not inherited; what is
# inherited is its parent's. Of a domain (no table) no row can be asked for. n: NOT NULL NOT VALID (PostgreSQL 18).
CONSTRAINTS_SQL = """
SELECT k.conname::text, CASE WHEN k.conrelid <> 0 THEN k.conrelid::regclass::text ELSE k.contypid::regtype::text END, k.convalidated,
       n.nspname::text, r.relname::text, k.connoinherit AND r.relkind <> 'p',
       CASE k.contype WHEN 'c' THEN pg_get_expr(k.conbin, k.conrelid)
            ELSE (SELECT format('%I IS NOT NULL', a.attname) FROM pg_attribute a WHERE (a.attrelid, a.attnum) = (k.conrelid, k.conkey[1])) END,
       EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_constraint'::regclass AND d.objid = k.oid AND d.refclassid = 'pg_proc'::regclass),
       quote_ident(k.conname)
  FROM pg_constraint k LEFT JOIN pg_class r ON r.oid = k.conrelid LEFT JOIN pg_namespace n ON n.oid = r.relnamespace
 WHERE (k.contype = 'c' OR k.contype = 'n' AND NOT k.convalidated) AND COALESCE(r.relpersistence, 'p') <> 't'
   AND (k.conislocal OR k.coninhcount = 0) AND COALESCE((to_jsonb(k) ->> 'conenforced')::bool, true)
   AND k.connamespace <> ALL (ARRAY['pg_catalog', 'information_schema']::regnamespace[])
 ORDER BY 2, 1
"""
# R: it fires only for what replication writes.
TRIGGERS_SQL = """
SELECT g.tgname::text, c.oid::regclass::text, g.tgenabled::text, g.tgisinternal, COALESCE(k.conname::text, ''), quote_ident(g.tgname)
  FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid LEFT JOIN pg_constraint k ON k.oid = g.tgconstraint
 WHERE g.tgenabled IN ('D', 'R') ORDER BY 2, 1
"""
SHADOWS_SQL = """
SELECT d.datname::text, (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid), pg_get_userbyid(d.datdba)::text
  FROM pg_database d WHERE d.datname ~ '^prisma_migrate_shadow_db_' ORDER BY 1
"""

__all__ = ("CONSTRAINTS_SQL", "FOREIGN_KEYS_SQL", "INDEXES_SQL", "SEQUENCES_SQL", "SHADOWS_SQL", "TRIGGERS_SQL")
