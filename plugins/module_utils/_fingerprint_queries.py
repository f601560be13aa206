# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a fingerprint asks the catalogue, and the large objects. Constants only."""

from __future__ import annotations

from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import CONFIGURATION

# Of what an extension owns the last column says whether this role may read it; pg_dump could not, either.
TABLES = (
    """
WITH RECURSIVE configured AS ("""
    + CONFIGURATION
    + """), parent(oid, label, depth) AS (
    SELECT i.inhrelid, i.inhparent, 1 FROM pg_inherits i
    UNION ALL
    SELECT p.oid, i.inhparent, p.depth + 1 FROM parent p JOIN pg_inherits i ON i.inhrelid = p.label
)
SELECT c.oid::bigint, n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname),
       COALESCE((SELECT array_agg(format('%I.%I', pn.nspname, pc.relname) ORDER BY p.depth, pn.nspname, pc.relname)
                   FROM parent p JOIN pg_class pc ON pc.oid = p.label JOIN pg_namespace pn ON pn.oid = pc.relnamespace
                  WHERE p.oid = c.oid), '{}'),
       k.extension, k.condition,
       k.oid IS NULL OR (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT') AND NOT row_security_active(c.oid))
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN configured k ON k.oid = c.oid
 WHERE c.relkind = 'r' AND c.relpersistence <> 't'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
   AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
   AND (k.oid IS NOT NULL OR NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e'))
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
)
# A domain is followed down to the type it is made of. Columns that are computed when they
# are read (PostgreSQL 18) are no content.
COLUMNS = """
WITH RECURSIVE base(oid, target) AS (
    SELECT oid, oid FROM pg_type WHERE typtype <> 'd'
    UNION ALL
    SELECT y.oid, b.target FROM pg_type y JOIN base b ON y.typbasetype = b.oid WHERE y.typtype = 'd'
)
SELECT a.attrelid::bigint, a.attname::text, tn.nspname::text, y.typname::text, fn.nspname::text, f.proname::text, a.attnum::int
  FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid AND c.relkind = 'r' AND c.relpersistence <> 't'
  JOIN base b ON b.oid = a.atttypid JOIN pg_type y ON y.oid = b.target JOIN pg_namespace tn ON tn.oid = y.typnamespace
  JOIN pg_proc f ON f.oid = y.typoutput JOIN pg_namespace fn ON fn.oid = f.pronamespace
 WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated <> 'v' AND c.relnamespace <> 'pg_catalog'::regnamespace
"""
# By which rows are told apart: the primary key, else the shortest unique index of columns that are never null.
KEYS = """
SELECT DISTINCT ON (i.indrelid) i.indrelid::bigint, k.names
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
 CROSS JOIN LATERAL (SELECT array_agg(a.attname::text ORDER BY u.n) AS names, bool_and(a.attnotnull AND a.attgenerated <> 'v') AS sure
                       FROM unnest(i.indkey::int2[]) WITH ORDINALITY u(number, n) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = u.number
                      WHERE u.n <= i.indnkeyatts) k
 WHERE i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL AND k.sure
 ORDER BY i.indrelid, i.indisprimary DESC, i.indnkeyatts, c.relname COLLATE "C"
"""
# Where and when a fingerprint was taken: what tells whether a row is the one that was there then.
ORIGIN = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), d.oid::bigint, pg_current_snapshot()::text
  FROM pg_database d WHERE d.datname = current_database()
"""
# Only of the built-in kind of tables is it known what it writes down of a row's origin.
HEAPS = """
SELECT c.oid::bigint FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE a.amname = 'heap' AND c.relkind = 'r'
"""
SEQUENCES = (
    """
WITH configured AS ("""
    + CONFIGURATION
    + """)
SELECT n.nspname::text, c.relname::text, format('%I.%I', n.nspname, c.relname), k.extension
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN configured k ON k.oid = c.oid
 WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
   AND NOT (c.relpersistence = 'u' AND pg_is_in_recovery())
   AND CASE WHEN k.oid IS NULL THEN NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_class'::regclass AND e.objid = c.oid AND e.deptype = 'e')
            ELSE has_schema_privilege(n.oid, 'USAGE') AND has_sequence_privilege(c.oid, 'SELECT') END
 ORDER BY n.nspname COLLATE "C", c.relname COLLATE "C"
"""
)
TRIGGERS = """
SELECT format('%I.%I', n.nspname, c.relname), p.prosrc
  FROM pg_trigger g JOIN pg_class c ON c.oid = g.tgrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_proc p ON p.oid = g.tgfoid
 WHERE NOT g.tgisinternal ORDER BY 1, 2
"""
# In pieces of 1 MiB, as a large object may be larger than a value can be; not from
# pg_largeobject itself, which only a superuser may read and which leaves out holes.
LARGE_OBJECTS = """
SELECT count(DISTINCT m.oid),
       COALESCE(sum(hashint4extended(0, hash_record_extended(ROW(m.oid, p.number, p.data), 0))), 0)
  FROM pg_largeobject_metadata m
 CROSS JOIN LATERAL (
    WITH RECURSIVE piece(number, data) AS (
        SELECT 0, lo_get(m.oid, 0, 1048576)
        UNION ALL
        SELECT number + 1, lo_get(m.oid, (number + 1)::bigint * 1048576, 1048576) FROM piece WHERE octet_length(data) = 1048576
    ) SELECT number, data FROM piece) p
"""
# Who owns them and who may do what, by name; a missing ACL stands for the default one, and a restore may write either.
# There may be millions of them, and of owners and ACLs a few: those are put into words once.
LARGE_OBJECT_RIGHTS = """
WITH alike AS (
    SELECT lomowner, COALESCE(lomacl::text, '') AS acl, min(oid) AS one FROM pg_largeobject_metadata GROUP BY 1, 2
), worded AS MATERIALIZED (
    SELECT k.lomowner, k.acl, hash_record_extended(ROW(pg_get_userbyid(k.lomowner) COLLATE "C", (
           SELECT string_agg(line, '; ' ORDER BY line COLLATE "C") COLLATE "C" FROM (
               SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(x.grantee)) END || ': '
                      || string_agg(DISTINCT x.privilege_type || CASE WHEN x.is_grantable THEN ' (with grant option)' ELSE '' END, ', ') AS line
                 FROM aclexplode(COALESCE(f.lomacl, acldefault('L', f.lomowner))) x GROUP BY x.grantee) lines)), 0) AS rights
      FROM alike k JOIN pg_largeobject_metadata f ON f.oid = k.one
)
SELECT COALESCE(sum(hashoidextended(m.oid, w.rights)), 0)
  FROM pg_largeobject_metadata m JOIN worded w ON w.lomowner = m.lomowner AND w.acl = COALESCE(m.lomacl::text, '')
"""

__all__ = ("COLUMNS", "HEAPS", "KEYS", "LARGE_OBJECTS", "LARGE_OBJECT_RIGHTS", "ORIGIN", "SEQUENCES", "TABLES", "TRIGGERS")
