# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The queries of _schema_model.py: objects with the statements that make and drop them.

Definitions are the server's own wherever it can give one. UNITS give (kind, name, table,
catalog, oid, definition, [statements that make it], statement that drops it, inherited, facts).
Constants only, nothing is put in; the caller has pinned the settings, so all names are qualified.
"""

from __future__ import annotations

from ansible_collections.pgops.migrations.plugins.module_utils._catalog_sql import not_of_extension
from ansible_collections.pgops.migrations.plugins.module_utils._schema_sql import REL

_CONSTRAINTS = (
    REL
    + """
SELECT CASE k.contype WHEN 'f' THEN 'foreign key' WHEN 'c' THEN 'check' WHEN 'x' THEN 'exclusion' ELSE 'key' END,
       ident || '.' || quote_ident(k.conname), ident, 'pg_constraint', k.oid::bigint, d.def,
       ARRAY[format('ALTER TABLE %s ADD CONSTRAINT %I %s', ident, k.conname, d.def)], format('ALTER TABLE %s DROP CONSTRAINT %I', ident, k.conname),
       k.conparentid <> 0 OR (k.coninhcount > 0 AND NOT k.conislocal),
       json_build_object('name', quote_ident(k.conname), 'valid', k.convalidated, 'expression', pg_get_expr(k.conbin, k.conrelid), 'type', k.contype::text,
           'columns', (SELECT json_agg(quote_ident(a.attname) ORDER BY u.n) FROM unnest(k.conkey) WITH ORDINALITY u(num, n)
                         JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num),
           'parent', (SELECT format('%I.%I', fn.nspname, fc.relname) FROM pg_class fc JOIN pg_namespace fn ON fn.oid = fc.relnamespace
               WHERE fc.oid = k.confrelid),
           'parent_columns', (SELECT json_agg(quote_ident(a.attname) ORDER BY u.n) FROM unnest(k.confkey) WITH ORDINALITY u(num, n)
                         JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num),
           'match', k.confmatchtype::text,
           'operators', (SELECT json_agg(format('OPERATOR(%I.%s)', pn.nspname, p.oprname) ORDER BY u.n) FROM unnest(k.conexclop) WITH ORDINALITY u(num, n)
                         JOIN pg_operator p ON p.oid = u.num JOIN pg_namespace pn ON pn.oid = p.oprnamespace),
           'elements', (SELECT json_agg(pg_get_indexdef(x.indexrelid, u.n, true) ORDER BY u.n)
                          FROM pg_index x, generate_series(1, x.indnkeyatts) u(n) WHERE k.contype = 'x' AND x.indexrelid = k.conindid),
           'predicate', (SELECT pg_get_expr(x.indpred, x.indrelid) FROM pg_index x WHERE k.contype = 'x' AND x.indexrelid = k.conindid))
  FROM rel JOIN pg_constraint k ON k.conrelid = rel.oid
 CROSS JOIN LATERAL (SELECT pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated OR pg_get_constraintdef(k.oid) ~ 'NOT (VALID|ENFORCED)$' THEN ''
                            ELSE ' NOT VALID' END AS def) d
 WHERE k.contype IN ('p', 'u', 'x', 'c', 'f') AND NOT (k.contype = 'f' AND k.conparentid <> 0)
"""
)
_INDEXES = (
    REL
    + """
SELECT 'index', format('%s on %s', i.ident, rel.ident), rel.ident, 'pg_class', x.indexrelid::bigint,
       pg_get_indexdef(x.indexrelid) || CASE WHEN x.indisvalid THEN '' ELSE ' INVALID' END,
       CASE WHEN x.indisvalid THEN ARRAY[replace(pg_get_indexdef(x.indexrelid), ' ON ONLY ' || rel.ident || ' USING ', ' ON ' || rel.ident || ' USING ')] END,
       format('DROP INDEX %s', i.ident), EXISTS (SELECT FROM pg_inherits h WHERE h.inhrelid = x.indexrelid),
       json_build_object('unique', x.indisunique, 'plain', x.indexprs IS NULL AND x.indpred IS NULL, 'valid', x.indisvalid,
           'predicate', pg_get_expr(x.indpred, x.indrelid), 'expressions', x.indexprs IS NOT NULL,
           'columns', (SELECT json_agg(pg_get_indexdef(x.indexrelid, n, true) ORDER BY n) FROM generate_series(1, x.indnkeyatts) n),
           'nulls', COALESCE(to_jsonb(x) ->> 'indnullsnotdistinct', 'false'))
  FROM rel JOIN pg_index x ON x.indrelid = rel.oid
  JOIN (SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS ident FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace) i ON i.oid = x.indexrelid
 WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = x.indexrelid AND k.contype IN ('p', 'u', 'x'))
"""
)
_SEQUENCES = (
    REL
    + """
, seq AS (
    SELECT rel.*, concat_ws(' ', 'AS', format_type(s.seqtypid, NULL), 'START WITH', s.seqstart, 'INCREMENT BY', s.seqincrement, 'MINVALUE', s.seqmin,
                            'MAXVALUE', s.seqmax, 'CACHE', s.seqcache, CASE WHEN s.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END) AS def,
           o.owner, o.owner_table
      FROM rel JOIN pg_sequence s ON s.seqrelid = rel.oid
      LEFT JOIN LATERAL (SELECT format('%I.%I.%I', n.nspname, c.relname, a.attname) AS owner, format('%I.%I', n.nspname, c.relname) AS owner_table
            FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
           WHERE d.classid = 'pg_class'::regclass AND d.objid = rel.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype = 'a') o ON true
     WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = rel.oid AND d.deptype = 'i')
)
SELECT 'sequence', ident, '', 'pg_class', oid::bigint, concat(CASE relpersistence WHEN 'u' THEN 'UNLOGGED ' END, def),
       ARRAY[format('CREATE %sSEQUENCE %s %s', CASE relpersistence WHEN 'u' THEN 'UNLOGGED ' END, ident, def)], format('DROP SEQUENCE %s', ident), false,
       json_build_object('alter', format('ALTER SEQUENCE %s %s', ident, def), 'owner', owner, 'owner_table', owner_table)
  FROM seq
UNION ALL
SELECT 'sequence owner', ident, owner_table, 'none', oid::bigint, owner, ARRAY[format('ALTER SEQUENCE %s OWNED BY %s', ident, owner)],
       format('ALTER SEQUENCE %s OWNED BY NONE', ident), false, json_build_object('sequence', ident)
  FROM seq WHERE owner IS NOT NULL
"""
)
_DEFAULTS = (
    REL
    + """
SELECT 'default', ident || '.' || quote_ident(a.attname), ident, 'pg_attrdef', d.oid::bigint, pg_get_expr(d.adbin, d.adrelid),
       ARRAY[format('ALTER TABLE %s%s ALTER COLUMN %I SET DEFAULT %s', CASE WHEN relkind = 'r' THEN 'ONLY ' END, ident, a.attname,
           pg_get_expr(d.adbin, d.adrelid))],
       format('ALTER TABLE %s%s ALTER COLUMN %I DROP DEFAULT', CASE WHEN relkind = 'r' THEN 'ONLY ' END, ident, a.attname), false,
       json_build_object('column', ident || '.' || quote_ident(a.attname))
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND NOT a.attisdropped AND a.attgenerated = '' JOIN pg_attrdef d ON d.adrelid = rel.oid
      AND d.adnum = a.attnum
 WHERE relkind IN ('r', 'p', 'f')
"""
)
_VIEWS = (
    REL
    + """
SELECT 'view', ident, '', 'pg_class', oid::bigint, v.def, ARRAY[v.def], format('DROP %s %s', v.word, ident), false,
       json_build_object('materialized', relkind = 'm')
  FROM rel CROSS JOIN LATERAL (SELECT CASE relkind WHEN 'm' THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END AS word) w
 CROSS JOIN LATERAL (SELECT w.word, format('CREATE %s %s%s AS%s%s%s', w.word, ident,
     (SELECT ' WITH (' || string_agg(o, ', ' ORDER BY o COLLATE "C") || ')' FROM unnest(reloptions) o), E'\\n', rtrim(pg_get_viewdef(rel.oid), ';'),
     CASE WHEN NOT relispopulated THEN ' WITH NO DATA' END) AS def) v
 WHERE relkind IN ('v', 'm')
"""
)
_TRIGGERS = REL + """
, state(letter, word) AS (VALUES ('D', 'DISABLE'), ('R', 'ENABLE REPLICA'), ('A', 'ENABLE ALWAYS'))
SELECT 'trigger', format('%I on %s', g.tgname, ident), ident, 'pg_trigger', g.oid::bigint, concat(pg_get_triggerdef(g.oid), ' ', s.word),
       array_remove(ARRAY[pg_get_triggerdef(g.oid), format('ALTER TABLE %s ', ident) || s.word || format(' TRIGGER %I', g.tgname)], NULL),
       format('DROP TRIGGER %I ON %s', g.tgname, ident), g.tgparentid <> 0, '{}'::json
  FROM rel JOIN pg_trigger g ON g.tgrelid = rel.oid LEFT JOIN state s ON s.letter = g.tgenabled::text
 WHERE NOT g.tgisinternal AND """ + not_of_extension("pg_trigger", "g.oid") + """
UNION ALL
SELECT 'rule', format('%I on %s', r.rulename, ident), ident, 'pg_rewrite', r.oid::bigint, concat(pg_get_ruledef(r.oid), ' ', s.word),
       array_remove(ARRAY[rtrim(pg_get_ruledef(r.oid), ';'), format('ALTER TABLE %s ', ident) || s.word || format(' RULE %I', r.rulename)], NULL),
       format('DROP RULE %I ON %s', r.rulename, ident), false, '{}'::json
  FROM rel JOIN pg_rewrite r ON r.ev_class = rel.oid LEFT JOIN state s ON s.letter = r.ev_enabled::text WHERE r.rulename <> '_RETURN'
"""  # fmt: skip
_POLICIES = (
    REL
    + """
SELECT 'policy', format('%I on %s', p.polname, ident), ident, 'pg_policy', p.oid::bigint, d.def, ARRAY[d.def],
       format('DROP POLICY %I ON %s', p.polname, ident), false, '{}'::json
  FROM rel JOIN pg_policy p ON p.polrelid = rel.oid
 CROSS JOIN LATERAL (SELECT concat_ws(' ', format('CREATE POLICY %I ON %s AS', p.polname, ident), CASE WHEN p.polpermissive THEN 'PERMISSIVE'
     ELSE 'RESTRICTIVE' END,
     'FOR', CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
     'TO', (SELECT string_agg(CASE o WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o)) END, ', '
            ORDER BY CASE o WHEN 0 THEN '' ELSE pg_get_userbyid(o)::text END COLLATE "C") FROM unnest(p.polroles) o),
     'USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', 'WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')') AS def) d
"""
)
_STATISTICS = (
    REL
    + """
SELECT 'statistics', format('%I.%I', n.nspname, s.stxname), ident, 'pg_statistic_ext', s.oid::bigint, concat(pg_get_statisticsobjdef(s.oid), ' ',
    s.stxstattarget),
       array_remove(ARRAY[pg_get_statisticsobjdef(s.oid), format('ALTER STATISTICS %I.%I SET STATISTICS ', n.nspname,
           s.stxname) || nullif(s.stxstattarget, -1)], NULL),
       format('DROP STATISTICS %I.%I', n.nspname, s.stxname), false, '{}'::json
  FROM rel JOIN pg_statistic_ext s ON s.stxrelid = rel.oid JOIN pg_namespace n ON n.oid = s.stxnamespace
"""
)
_FUNCTIONS = """
SELECT 'function', format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), '', 'pg_proc', p.oid::bigint, d.def,
       CASE WHEN p.prokind <> 'a' THEN ARRAY[d.def] END,
       format('DROP %s %I.%I(%s)', CASE p.prokind WHEN 'p' THEN 'PROCEDURE' WHEN 'a' THEN 'AGGREGATE' ELSE 'FUNCTION' END, n.nspname, p.proname,
              pg_get_function_identity_arguments(p.oid)), false,
       json_build_object('signature', concat_ws(' returns ', pg_get_function_arguments(p.oid), pg_get_function_result(p.oid)), 'kind', p.prokind)
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 CROSS JOIN LATERAL (SELECT CASE WHEN p.prokind <> 'a' THEN rtrim(pg_get_functiondef(p.oid), E'\\n') ELSE
        (SELECT (to_jsonb(a) - 'aggfnoid')::text FROM pg_aggregate a WHERE a.aggfnoid = p.oid) END AS def) d
 WHERE p.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
   AND """ + not_of_extension("pg_proc", "p.oid")  # fmt: skip
_SCHEMAS = """
SELECT 'schema', quote_ident(n.nspname), '', 'pg_namespace', n.oid::bigint, '', ARRAY[format('CREATE SCHEMA %I', n.nspname)],
    format('DROP SCHEMA %I', n.nspname),
       false, '{}'::json
  FROM pg_namespace n WHERE n.oid >= 16384 AND n.nspname !~ '^pg_(toast|temp_)' AND """ + not_of_extension("pg_namespace", "n.oid") + """
UNION ALL
SELECT 'extension', quote_ident(x.extname), '', 'pg_extension', x.oid::bigint, format('%s %I', x.extversion, n.nspname),
       ARRAY[format('CREATE EXTENSION %I WITH SCHEMA %I VERSION %L', x.extname, n.nspname, x.extversion)], format('DROP EXTENSION %I', x.extname), false,
       json_build_object('alter', format('ALTER EXTENSION %I UPDATE TO %L', x.extname, x.extversion))
  FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace WHERE x.oid >= 16384
"""  # fmt: skip
#: What is dropped when a migration made it, and else only named.
_OTHERS = "\nUNION ALL\n".join(
    "SELECT 'other', i.type || ' ' || i.identity, '', '%s', o.oid::bigint, '', NULL::text[], format('DROP %%s %%s', upper(i.type), i.identity), false,"
    " '{}'::json FROM %s o, LATERAL pg_identify_object('%s'::regclass, o.oid, 0) i WHERE o.oid >= 16384 AND %s"
    " AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = '%s'::regclass AND d.objid = o.oid AND d.deptype = 'i')"
    % (catalog, catalog, catalog, not_of_extension(catalog, "o.oid"), catalog)
    for catalog in ("pg_cast", "pg_collation", "pg_conversion", "pg_event_trigger", "pg_foreign_server", "pg_operator", "pg_publication",
                    "pg_ts_config", "pg_ts_dict")
)  # fmt: skip

UNITS: tuple[str, ...] = (
    _CONSTRAINTS, _INDEXES, _SEQUENCES, _DEFAULTS, _VIEWS, _TRIGGERS, _POLICIES, _STATISTICS, _FUNCTIONS, _SCHEMAS, _OTHERS,
)  # fmt: skip

__all__ = ("UNITS",)
