# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The queries of _schema_model.py: tables, columns, types, who depends on whom, and rights.

Constants only, nothing is put in; the caller has pinned the settings, so all names are qualified.
"""

from __future__ import annotations

from ansible_collections.pgops.migrations.plugins.module_utils._catalog_sql import not_of_extension

#: The user's relations, as ``rel``.
REL = """
WITH rel AS (
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS ident
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
       AND c.oid >= 16384 AND """ + not_of_extension("pg_class", "c.oid") + ")\n"  # fmt: skip

TABLES = (
    REL
    + """
SELECT oid::bigint, ident, json_build_object(
    'kind', relkind, 'unlogged', relpersistence = 'u', 'partition_by', pg_get_partkeydef(oid), 'is_partition', relispartition,
    'parents', (SELECT COALESCE(json_agg(format('%I.%I', pn.nspname, pc.relname) ORDER BY i.inhseqno), '[]')
        FROM pg_inherits i JOIN pg_class pc ON pc.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = pc.relnamespace WHERE i.inhrelid = rel.oid),
    'bound', pg_get_expr(relpartbound, oid), 'of_type', reloftype <> 0, 'rls', relrowsecurity, 'forced', relforcerowsecurity,
    'replica', CASE relreplident WHEN 'f' THEN 'FULL' WHEN 'n' THEN 'NOTHING' WHEN 'd' THEN 'DEFAULT' ELSE
        (SELECT 'USING INDEX ' || quote_ident(ic.relname) FROM pg_index x JOIN pg_class ic ON ic.oid = x.indexrelid WHERE x.indrelid = rel.oid
            AND x.indisreplident)
        END,
    'clustered', (SELECT quote_ident(ic.relname) FROM pg_index x JOIN pg_class ic ON ic.oid = x.indexrelid WHERE x.indrelid = rel.oid AND x.indisclustered),
    'options', COALESCE(reloptions, '{}'), 'method', (SELECT amname FROM pg_am WHERE pg_am.oid = relam AND amname <> 'heap'))
  FROM rel WHERE relkind IN ('r', 'p', 'f') ORDER BY ident
"""
)
COLUMNS = (
    REL
    + """
SELECT rel.oid::bigint, a.attnum, rel.ident, quote_ident(a.attname), json_build_object(
    'type', format_type(a.atttypid, a.atttypmod), 'type_oid', CASE WHEN y.typelem <> 0 AND y.typlen = -1 THEN y.typelem ELSE y.oid END::bigint,
    'array', y.typelem <> 0 AND y.typlen = -1,
    'collation', CASE WHEN a.attcollation <> y.typcollation THEN (SELECT format('%I.%I', n.nspname, c.collname)
        FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END,
    'notnull', a.attnotnull, 'identity', a.attidentity::text, 'generated', a.attgenerated::text,
    'expression', (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = rel.oid AND d.adnum = a.attnum),
    'sequence', CASE WHEN a.attidentity <> '' THEN (
        SELECT format('SEQUENCE NAME %I.%I START WITH %s INCREMENT BY %s MINVALUE %s MAXVALUE %s CACHE %s%s', sn.nspname, sc.relname, s.seqstart,
            s.seqincrement,
                      s.seqmin, s.seqmax, s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END)
          FROM pg_depend d JOIN pg_sequence s ON s.seqrelid = d.objid JOIN pg_class sc ON sc.oid = d.objid JOIN pg_namespace sn ON sn.oid = sc.relnamespace
         WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = rel.oid AND d.refobjsubid = a.attnum
             AND d.deptype = 'i') END,
    'storage', CASE WHEN a.attstorage <> y.typstorage THEN a.attstorage::text ELSE '' END, 'type_storage', y.typstorage::text,
    'compression', a.attcompression::text, 'statistics', CASE WHEN a.attstattarget >= 0 THEN a.attstattarget ELSE -1 END,
    'options', COALESCE(a.attoptions, '{}'), 'inherited', a.attinhcount > 0, 'local', a.attislocal)
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type y ON y.oid = a.atttypid
 WHERE relkind IN ('r', 'p', 'f') ORDER BY rel.ident, a.attnum
"""
)
TYPES = """
SELECT y.oid::bigint, CASE y.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' WHEN 'c' THEN 'composite' WHEN 'r' THEN 'range' ELSE 'base' END,
       format('%I.%I', n.nspname, y.typname), json_build_object(
    'labels', (SELECT json_agg(l.enumlabel ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = y.oid),
    'base', format_type(nullif(y.typbasetype, 0), y.typtypmod), 'notnull', y.typnotnull, 'default', y.typdefault,
    'collation', CASE WHEN y.typtype = 'd' AND y.typcollation <> b.typcollation THEN (SELECT format('%I.%I', cn.nspname, c.collname)
        FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = y.typcollation) END,
    'constraints', (SELECT COALESCE(json_object_agg(quote_ident(k.conname), pg_get_constraintdef(k.oid)), '{}') FROM pg_constraint k
                     WHERE k.contypid = y.oid AND k.contype = 'c'),
    'attributes', (SELECT json_agg(json_build_array(quote_ident(a.attname), format_type(a.atttypid, a.atttypmod) ||
            CASE WHEN a.attcollation <> ay.typcollation THEN (SELECT format(' COLLATE %I.%I', cn.nspname, c.collname)
                FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = a.attcollation) ELSE '' END) ORDER BY a.attnum)
        FROM pg_attribute a JOIN pg_type ay ON ay.oid = a.atttypid WHERE y.typtype = 'c' AND a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
    'range', (SELECT concat_ws(', ', 'SUBTYPE = ' || format_type(r.rngsubtype, NULL),
            'SUBTYPE_OPCLASS = ' || (SELECT format('%I.%I', onn.nspname, o.opcname) FROM pg_opclass o JOIN pg_namespace onn ON onn.oid = o.opcnamespace
                                      WHERE o.oid = r.rngsubopc),
            'COLLATION = ' || (SELECT format('%I.%I', cn.nspname, c.collname) FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace
                                WHERE c.oid = r.rngcollation),
            'SUBTYPE_DIFF = ' || nullif(r.rngsubdiff::oid, 0)::regproc, 'MULTIRANGE_TYPE_NAME = ' || format_type(r.rngmultitypid, NULL))
        FROM pg_range r WHERE r.rngtypid = y.oid))
  FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace LEFT JOIN pg_class c ON c.oid = y.typrelid LEFT JOIN pg_type b ON b.oid = y.typbasetype
 WHERE y.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
   AND y.typtype <> 'm' AND (y.typrelid = 0 OR c.relkind = 'c') AND NOT EXISTS (SELECT FROM pg_type el WHERE el.typarray = y.oid)
   AND """ + not_of_extension("pg_type", "y.oid")  # fmt: skip

#: Who depends on whom, each side as (catalog, oid, column).
DEPENDS = """
SELECT DISTINCT d.classid::regclass::text, d.objid::bigint, d.objsubid, d.refclassid::regclass::text, d.refobjid::bigint, d.refobjsubid
  FROM pg_depend d WHERE d.refobjid >= 16384 AND d.objid >= 16384 AND d.deptype IN ('n', 'a', 'i')
"""
#: Parts of objects and what they are parts of: the rule of a view, a default, an index of a constraint, a table's row type, an array type.
PARTS = """
SELECT 'pg_rewrite', r.oid::bigint, 'pg_class', r.ev_class::bigint, 0 FROM pg_rewrite r WHERE r.rulename = '_RETURN' AND r.oid >= 16384
UNION ALL SELECT 'pg_attrdef', d.oid::bigint, 'pg_class', d.adrelid::bigint, d.adnum FROM pg_attrdef d
    JOIN pg_attribute a ON a.attrelid = d.adrelid AND a.attnum = d.adnum WHERE a.attgenerated <> ''
UNION ALL SELECT 'pg_class', k.conindid::bigint, 'pg_constraint', k.oid::bigint, 0 FROM pg_constraint k WHERE k.conindid >= 16384
    AND k.contype IN ('p', 'u', 'x')
UNION ALL SELECT 'pg_type', y.oid::bigint, 'pg_class', y.typrelid::bigint, 0 FROM pg_type y JOIN pg_class c ON c.oid = y.typrelid AND c.relkind <> 'c'
UNION ALL SELECT 'pg_class', y.typrelid::bigint, 'pg_type', y.oid::bigint, 0 FROM pg_type y JOIN pg_class c ON c.oid = y.typrelid AND c.relkind = 'c'
UNION ALL SELECT 'pg_type', y.typarray::bigint, 'pg_type', y.oid::bigint, 0 FROM pg_type y WHERE y.typarray >= 16384
"""

_IDENTIFIED = """
  FROM pg_description d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
 WHERE d.objoid >= 16384 AND i.identity IS NOT NULL AND COALESCE(i.schema, '') NOT IN ('pg_catalog', 'information_schema')
   AND COALESCE(i.schema, '') !~ '^pg_(toast|temp_)'
   AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')
"""
#: (type, identity, text), as COMMENT ON nearly takes them.
COMMENTS = "SELECT i.type, i.identity, d.description" + _IDENTIFIED
#: (word, name, owner, column, grantee, privilege, grantable): one row per right, and one without a right per owned object.
RIGHTS = (
    REL
    + """
, owned(word, name, owner, acl, col) AS (
    SELECT CASE relkind WHEN 'S' THEN 'SEQUENCE' WHEN 'v' THEN 'VIEW' WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'TABLE' END, ident, relowner,
           COALESCE(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner)), NULL
      FROM rel WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    UNION ALL
    SELECT 'TABLE', ident, relowner, a.attacl, quote_ident(a.attname) FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid
     WHERE cardinality(a.attacl) > 0 AND a.attnum > 0 AND NOT a.attisdropped
    UNION ALL
    SELECT CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END,
           format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.proowner, COALESCE(p.proacl, acldefault('f',
               p.proowner)), NULL
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE p.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema')
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype IN ('i', 'e'))
    UNION ALL
    SELECT CASE y.typtype WHEN 'd' THEN 'DOMAIN' ELSE 'TYPE' END, format('%I.%I', n.nspname, y.typname), y.typowner,
           COALESCE(y.typacl, acldefault('T', y.typowner)), NULL
      FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace LEFT JOIN pg_class c ON c.oid = y.typrelid
     WHERE y.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)' AND y.typtype <> 'm'
       AND (y.typrelid = 0 OR c.relkind = 'c') AND NOT EXISTS (SELECT FROM pg_type el WHERE el.typarray = y.oid)
       AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_type'::regclass AND d.objid = y.oid AND d.deptype = 'e')
    UNION ALL
    SELECT 'SCHEMA', quote_ident(n.nspname), n.nspowner, COALESCE(n.nspacl, acldefault('n', n.nspowner)), NULL
      FROM pg_namespace n WHERE (n.oid >= 16384 OR n.nspname = 'public') AND n.nspname !~ '^pg_(toast|temp_)'
)
SELECT o.word, o.name, quote_ident(pg_get_userbyid(o.owner)), o.col, CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END,
       x.privilege_type, x.is_grantable
  FROM owned o LEFT JOIN LATERAL aclexplode(o.acl) x ON true
"""
)
#: (role, schema, what, grantee, privilege, grantable, builtin): default privileges, and what objects have without any.
DEFAULT_RIGHTS = """
SELECT quote_ident(pg_get_userbyid(d.defaclrole)), quote_ident(n.nspname), CASE d.defaclobjtype WHEN 'r' THEN 'TABLES' WHEN 'S' THEN 'SEQUENCES'
       WHEN 'f' THEN 'FUNCTIONS' WHEN 'T' THEN 'TYPES' WHEN 'n' THEN 'SCHEMAS' END,
       CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, x.privilege_type, x.is_grantable, b.builtin
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
 CROSS JOIN LATERAL (VALUES (false, d.defaclacl),
       (true, acldefault(CASE d.defaclobjtype WHEN 'S' THEN 's'::"char" ELSE d.defaclobjtype END, d.defaclrole))) b(builtin, acl)
 CROSS JOIN LATERAL aclexplode(b.acl) x WHERE NOT b.builtin OR (d.defaclnamespace = 0 AND d.defaclobjtype IN ('r', 'S', 'f', 'T', 'n'))
"""

__all__ = ("COLUMNS", "COMMENTS", "DEFAULT_RIGHTS", "DEPENDS", "PARTS", "REL", "RIGHTS", "TABLES", "TYPES")
