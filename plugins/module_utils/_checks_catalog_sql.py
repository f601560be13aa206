# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the checks of the catalogue ask it."""

from __future__ import annotations

INDEXES_SQL = """
SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text, i.indisready
  FROM pg_index i WHERE NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid) ORDER BY 1
"""
# Keys that are not enforced are no promise, and one with PERIOD is kept by ranges together (PostgreSQL 18).
# Of a partitioned table the partitions' own rows in pg_constraint repeat the parent's. ONLY as the server
# checks it: the key of a plain table is not inherited by its children.
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
          FROM unnest(c.conkey) WITH ORDINALITY k(num, i) JOIN pg_attribute a ON (a.attrelid, a.attnum) = (c.conrelid, k.num))
  FROM pg_constraint c JOIN pg_class r ON r.oid = c.conrelid JOIN pg_namespace n ON n.oid = r.relnamespace
  JOIN pg_class f ON f.oid = c.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace
 WHERE c.contype = 'f' AND c.conparentid = 0
   AND NOT COALESCE((to_jsonb(c) ->> 'conperiod')::bool, false) AND COALESCE((to_jsonb(c) ->> 'conenforced')::bool, true)
 ORDER BY 2, 1
"""
# Owned by a column (serial, identity), or used by its default.
SEQUENCES_SQL = """
SELECT format('%I.%I', sn.nspname, s.relname), sn.nspname::text, s.relname::text, tn.nspname::text, c.relname::text, a.attname::text,
       q.seqincrement::bigint
  FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_sequence q ON q.seqrelid = s.oid
  JOIN pg_namespace sn ON sn.oid = s.relnamespace JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = c.relnamespace
  JOIN pg_attribute a ON (a.attrelid, a.attnum) = (c.oid, d.refobjsubid)
 WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') AND NOT q.seqcycle
   AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
 UNION
SELECT format('%I.%I', sn.nspname, s.relname), sn.nspname::text, s.relname::text, tn.nspname::text, c.relname::text, a.attname::text,
       q.seqincrement::bigint
  FROM pg_depend d JOIN pg_attrdef f ON d.classid = 'pg_attrdef'::regclass AND d.objid = f.oid
  JOIN pg_class s ON d.refclassid = 'pg_class'::regclass AND s.oid = d.refobjid AND s.relkind = 'S'
  JOIN pg_sequence q ON q.seqrelid = s.oid JOIN pg_namespace sn ON sn.oid = s.relnamespace
  JOIN pg_class c ON c.oid = f.adrelid JOIN pg_namespace tn ON tn.oid = c.relnamespace JOIN pg_attribute a ON (a.attrelid, a.attnum) = (f.adrelid, f.adnum)
 WHERE NOT q.seqcycle AND a.atttypid IN ('int2'::regtype, 'int4'::regtype, 'int8'::regtype) AND c.relkind IN ('r', 'p') AND c.relpersistence <> 't'
 ORDER BY 1, 5, 6
"""
TRIGGERS_SQL = """
SELECT g.tgname::text, c.oid::regclass::text, g.tgenabled::text, g.tgisinternal, COALESCE(k.conname::text, '')
  FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid LEFT JOIN pg_constraint k ON k.oid = g.tgconstraint
 WHERE g.tgenabled = 'D' ORDER BY 2, 1
"""
SHADOWS_SQL = """
SELECT d.datname::text, (SELECT count(*) FROM pg_stat_activity a WHERE a.datid = d.oid), pg_get_userbyid(d.datdba)::text
  FROM pg_database d WHERE d.datname ~ '^prisma_migrate_shadow_db_' ORDER BY 1
"""

__all__ = ("FOREIGN_KEYS_SQL", "INDEXES_SQL", "SEQUENCES_SQL", "SHADOWS_SQL", "TRIGGERS_SQL")
