# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The catalogue queries of _catalog.py: each gives (kind, name, definition), all text.

No OID and no attribute number may get into a definition, as neither survives a dump and
restore; what the server is free to do in another order is sorted. Objects of extensions
are left out, for they come with the extension. Constants only, nothing is put in.
"""

from __future__ import annotations

_NOT_EXT = "NOT EXISTS (SELECT FROM pg_depend ext WHERE ext.classid = '%s'::regclass AND ext.objid = %s AND ext.deptype = 'e')"


def not_of_extension(catalog: str, oid: str) -> str:
    """The condition that an object belongs to no extension. Constants only."""
    return _NOT_EXT % (catalog, oid)


#: User's relations (``rel``), and an ACL's normal form.
_REL = """
WITH rel AS (
    SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS ident,
           CASE c.relkind WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' WHEN 'S' THEN 'sequence' WHEN 'i' THEN 'index'
                WHEN 'I' THEN 'index' WHEN 'c' THEN 'type' ELSE 'table' END AS kind
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
       AND c.oid >= 16384 AND """ + not_of_extension("pg_class", "c.oid") + ")\n"  # fmt: skip

_USER_FUNCTIONS = """
  FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
 WHERE p.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
   AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
   AND """ + not_of_extension("pg_proc", "p.oid")  # fmt: skip
_USER_TYPES = """
  FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace LEFT JOIN pg_class c ON c.oid = y.typrelid LEFT JOIN pg_type b ON b.oid = y.typbasetype
 WHERE y.oid >= 16384 AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
   AND y.typtype <> 'm' AND (y.typrelid = 0 OR c.relkind = 'c') AND NOT EXISTS (SELECT FROM pg_type el WHERE el.typarray = y.oid)
   AND """ + not_of_extension("pg_type", "y.oid")  # fmt: skip
_USER_SCHEMAS = """
  FROM pg_namespace n
 WHERE (n.oid >= 16384 OR n.nspname = 'public') AND n.nspname !~ '^pg_(toast|temp_)' AND """ + not_of_extension("pg_namespace", "n.oid")  # fmt: skip

_TABLES = (
    _REL
    + """
SELECT 'table', ident, concat_ws(', ',
         CASE relkind WHEN 'p' THEN 'partitioned table' WHEN 'f' THEN 'foreign table' ELSE 'table' END,
         CASE relpersistence WHEN 'u' THEN 'unlogged' END,
         'partition by ' || pg_get_partkeydef(oid),
         (SELECT CASE WHEN rel.relispartition THEN 'partition of ' ELSE 'inherits ' END
                 || string_agg(format('%I.%I', pn.nspname, pc.relname), ', ' ORDER BY i.inhseqno)
            FROM pg_inherits i JOIN pg_class pc ON pc.oid = i.inhparent JOIN pg_namespace pn ON pn.oid = pc.relnamespace WHERE i.inhrelid = rel.oid),
         pg_get_expr(relpartbound, oid),
         CASE WHEN reloftype <> 0 THEN 'of ' || format_type(reloftype, NULL) END,
         CASE WHEN relrowsecurity THEN 'row level security' END,
         CASE WHEN relforcerowsecurity THEN 'forced' END,
         CASE relreplident WHEN 'f' THEN 'replica identity full' WHEN 'n' THEN 'replica identity nothing' WHEN 'i' THEN 'replica identity index' END,
         (SELECT 'with ' || string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(reloptions) o),
         (SELECT 'using ' || amname FROM pg_am WHERE pg_am.oid = relam AND amname <> 'heap'),
         (SELECT concat_ws(' ', 'server', quote_ident(s.srvname), (SELECT string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(f.ftoptions) o))
            FROM pg_foreign_table f JOIN pg_foreign_server s ON s.oid = f.ftserver WHERE f.ftrelid = rel.oid))
  FROM rel WHERE relkind IN ('r', 'p', 'f')
"""
)
# The order of the columns; not of a child table, where a restore puts inherited ones first.
_COLUMN_ORDER = (
    _REL
    + """
SELECT 'column order', ident, (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY a.attnum) FROM pg_attribute a
                               WHERE a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM rel WHERE relkind IN ('r', 'p', 'f') AND (relispartition OR NOT EXISTS (SELECT FROM pg_inherits i WHERE i.inhrelid = rel.oid))
"""
)
_COLUMNS = (
    _REL
    + """
SELECT 'column', ident || '.' || quote_ident(a.attname), concat_ws(' ',
         format_type(a.atttypid, a.atttypmod),
         CASE WHEN a.attcollation <> y.typcollation THEN (SELECT format('collate %I.%I', n.nspname, c.collname)
             FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace WHERE c.oid = a.attcollation) END,
         CASE WHEN a.attnotnull THEN 'not null' END,
         CASE WHEN EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = rel.oid AND k.contype = 'n' AND k.conkey = ARRAY[a.attnum] AND NOT k.convalidated)
              THEN '(not valid)' END,
         CASE a.attidentity WHEN 'a' THEN 'generated always as identity' WHEN 'd' THEN 'generated by default as identity' END,
         CASE a.attgenerated WHEN 's' THEN 'generated stored' WHEN 'v' THEN 'generated virtual' ELSE CASE WHEN a.atthasdef THEN 'default' END END,
         (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = rel.oid AND d.adnum = a.attnum),
         CASE WHEN a.attstorage <> y.typstorage THEN 'storage ' || a.attstorage::text END,
         CASE WHEN a.attcompression::text <> '' THEN 'compression ' || a.attcompression::text END,
         CASE WHEN a.attstattarget >= 0 THEN 'statistics ' || a.attstattarget END,
         (SELECT 'with ' || string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(a.attoptions || a.attfdwoptions) o))
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped JOIN pg_type y ON y.oid = a.atttypid
 WHERE relkind IN ('r', 'p', 'f')
"""
)
# Not null constraints (PostgreSQL 18) show with their columns. What a foreign key to a
# partitioned table makes for each partition has names of the server's choice.
_CONSTRAINTS = (
    _REL
    + """
SELECT 'constraint', ident || '.' || quote_ident(k.conname),
       pg_get_constraintdef(k.oid) || CASE WHEN k.convalidated THEN '' WHEN pg_get_constraintdef(k.oid) ~ 'NOT (VALID|ENFORCED)$' THEN '' ELSE ' NOT VALID' END
  FROM rel JOIN pg_constraint k ON k.conrelid = rel.oid
 WHERE k.contype NOT IN ('n', 't') AND NOT (k.contype = 'f' AND k.conparentid <> 0)
"""
)
_INDEXES = (
    _REL
    + """
SELECT 'index', format('%s on %s', i.ident, rel.ident), concat_ws(', ', pg_get_indexdef(x.indexrelid),
         CASE WHEN NOT x.indisvalid THEN 'INVALID' END, CASE WHEN NOT x.indisready THEN 'NOT READY' END,
         CASE WHEN x.indisreplident THEN 'replica identity' END, CASE WHEN x.indisclustered THEN 'clustered' END)
  FROM rel JOIN pg_index x ON x.indrelid = rel.oid
  JOIN (SELECT c.oid, format('%I.%I', n.nspname, c.relname) AS ident FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace) i ON i.oid = x.indexrelid
"""
)
_SEQUENCES = (
    _REL
    + """
SELECT 'sequence', ident, concat_ws(' ', CASE relpersistence WHEN 'u' THEN 'unlogged' END, 'as', format_type(s.seqtypid, NULL), 'start', s.seqstart,
         'increment', s.seqincrement, 'from', s.seqmin, 'to', s.seqmax, 'cache', s.seqcache, CASE WHEN s.seqcycle THEN 'cycle' END,
         (SELECT CASE d.deptype WHEN 'i' THEN 'identity of ' ELSE 'owned by ' END || format('%I.%I.%I', n.nspname, c.relname, a.attname)
            FROM pg_depend d JOIN pg_class c ON c.oid = d.refobjid JOIN pg_namespace n ON n.oid = c.relnamespace
            JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = d.refobjsubid
           WHERE d.classid = 'pg_class'::regclass AND d.objid = rel.oid AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')))
  FROM rel JOIN pg_sequence s ON s.seqrelid = rel.oid
"""
)
_VIEWS = (
    _REL
    + """
SELECT kind, ident, concat_ws(E'\\n', pg_get_viewdef(oid), (SELECT 'with ' || string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(reloptions) o),
         CASE WHEN NOT relispopulated THEN 'WITH NO DATA' END)
  FROM rel WHERE relkind IN ('v', 'm')
"""
)
_TRIGGERS = _REL + """
SELECT 'trigger', format('%I on %s', g.tgname, ident),
       pg_get_triggerdef(g.oid) || CASE g.tgenabled WHEN 'D' THEN ' (disabled)' WHEN 'R' THEN ' (replica)' WHEN 'A' THEN ' (always)' ELSE '' END
  FROM rel JOIN pg_trigger g ON g.tgrelid = rel.oid WHERE NOT g.tgisinternal AND """ + not_of_extension("pg_trigger", "g.oid")  # fmt: skip
_POLICIES = (
    _REL
    + """
SELECT 'policy', format('%I on %s', p.polname, ident), concat_ws(' ', CASE WHEN p.polpermissive THEN 'permissive' ELSE 'restrictive' END,
         'for', p.polcmd::text, 'to', (SELECT string_agg(CASE o WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(o)) END, ', '
                                       ORDER BY CASE o WHEN 0 THEN 'public' ELSE pg_get_userbyid(o)::text END COLLATE "C") FROM unnest(p.polroles) o),
         'using ' || pg_get_expr(p.polqual, p.polrelid), 'with check ' || pg_get_expr(p.polwithcheck, p.polrelid))
  FROM rel JOIN pg_policy p ON p.polrelid = rel.oid
"""
)
_RULES = (
    _REL
    + """
SELECT 'rule', format('%I on %s', r.rulename, ident),
       pg_get_ruledef(r.oid) || CASE r.ev_enabled WHEN 'D' THEN ' (disabled)' WHEN 'R' THEN ' (replica)' WHEN 'A' THEN ' (always)' ELSE '' END
  FROM rel JOIN pg_rewrite r ON r.ev_class = rel.oid WHERE r.rulename <> '_RETURN'
"""
)
_STATISTICS = (
    _REL
    + """
SELECT 'statistics', format('%I.%I on %s', n.nspname, s.stxname, ident), pg_get_statisticsobjdef(s.oid)
       || COALESCE(' target ' || nullif(s.stxstattarget, -1), '')
  FROM rel JOIN pg_statistic_ext s ON s.stxrelid = rel.oid JOIN pg_namespace n ON n.oid = s.stxnamespace
"""
)
_FUNCTIONS = (
    """
SELECT CASE p.prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
       format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)),
       CASE WHEN p.prokind <> 'a' THEN pg_get_functiondef(p.oid) ELSE
            (SELECT concat_ws(' ', pg_get_function_arguments(p.oid), 'returns', pg_get_function_result(p.oid), a.aggkind::text, a.aggtransfn::regproc,
                    a.aggfinalfn::regproc,
                    a.aggcombinefn::regproc, a.aggserialfn::regproc, a.aggdeserialfn::regproc, a.aggmtransfn::regproc, a.aggminvtransfn::regproc,
                    a.aggmfinalfn::regproc, a.aggfinalextra, a.aggmfinalextra, a.aggfinalmodify::text, a.aggmfinalmodify::text, a.aggsortop::regoperator,
                    format_type(a.aggtranstype, NULL), a.aggtransspace, format_type(a.aggmtranstype, NULL), a.aggmtransspace,
                    quote_nullable(a.agginitval), quote_nullable(a.aggminitval), p.proparallel::text)
               FROM pg_aggregate a WHERE a.aggfnoid = p.oid) END
"""
    + _USER_FUNCTIONS
)
_TYPES = (
    """
SELECT CASE y.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'type' END, format('%I.%I', n.nspname, y.typname),
       CASE y.typtype
       WHEN 'e' THEN COALESCE((SELECT string_agg(quote_literal(l.enumlabel), ', ' ORDER BY l.enumsortorder) FROM pg_enum l WHERE l.enumtypid = y.oid), '')
       WHEN 'd' THEN concat_ws(' ', format_type(y.typbasetype, y.typtypmod),
            CASE WHEN y.typcollation <> b.typcollation THEN (SELECT format('collate %I.%I', cn.nspname, c.collname)
                FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = y.typcollation) END,
            CASE WHEN y.typnotnull THEN 'not null' END, 'default ' || y.typdefault,
            (SELECT string_agg(format('constraint %I %s', k.conname, pg_get_constraintdef(k.oid)), ' ' ORDER BY k.conname COLLATE "C")
               FROM pg_constraint k WHERE k.contypid = y.oid AND k.contype <> 'n'))
       WHEN 'c' THEN '(' || COALESCE((SELECT string_agg(concat_ws(' ', quote_ident(a.attname), format_type(a.atttypid, a.atttypmod),
                CASE WHEN a.attcollation <> ay.typcollation THEN (SELECT format('collate %I.%I', cn.nspname, c.collname)
                    FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace WHERE c.oid = a.attcollation) END), ', ' ORDER BY a.attnum)
            FROM pg_attribute a JOIN pg_type ay ON ay.oid = a.atttypid WHERE a.attrelid = y.typrelid AND a.attnum > 0 AND NOT a.attisdropped), '') || ')'
       WHEN 'r' THEN (SELECT concat_ws(' ', 'range of', format_type(r.rngsubtype, NULL), o.opcname, r.rngcanonical::regproc, r.rngsubdiff::regproc,
                                       format_type(r.rngmultitypid, NULL),
                (SELECT format('collate %I.%I', cn.nspname, c.collname) FROM pg_collation c JOIN pg_namespace cn ON cn.oid = c.collnamespace
                  WHERE c.oid = r.rngcollation))
            FROM pg_range r JOIN pg_opclass o ON o.oid = r.rngsubopc WHERE r.rngtypid = y.oid)
       ELSE concat_ws(' ', 'base type', y.typisdefined, y.typlen, y.typbyval, y.typalign::text, y.typstorage::text, y.typcategory::text, y.typispreferred,
                y.typdelim::text, y.typinput, y.typoutput, y.typreceive, y.typsend, y.typmodin, y.typmodout, y.typanalyze, quote_nullable(y.typdefault)) END
"""
    + _USER_TYPES
)
_SCHEMAS = "SELECT 'schema', quote_ident(n.nspname), 'schema'" + _USER_SCHEMAS
_EXTENSIONS = """
SELECT 'extension', quote_ident(x.extname), format('version %s in schema %I', x.extversion, n.nspname)
  FROM pg_extension x JOIN pg_namespace n ON n.oid = x.extnamespace
"""
#: Owner and ACL of all that has both (``owned``). A missing ACL stands for the default one,
#: and a restore may write either.
_OWNED = (
    _REL
    + """
, owned(kind, name, owner, acl) AS (
    SELECT kind, ident, relowner, COALESCE(relacl, acldefault(CASE relkind WHEN 'S' THEN 's'::"char" ELSE 'r' END, relowner))
      FROM rel WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
    UNION ALL
    SELECT CASE prokind WHEN 'p' THEN 'procedure' WHEN 'a' THEN 'aggregate' ELSE 'function' END,
           format('%I.%I(%s)', n.nspname, p.proname, pg_get_function_identity_arguments(p.oid)), p.proowner, COALESCE(p.proacl, acldefault('f', p.proowner))
    """
    + _USER_FUNCTIONS
    + """
    UNION ALL
    SELECT CASE y.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'type' END, format('%I.%I', n.nspname, y.typname), y.typowner,
           COALESCE(y.typacl, acldefault('T', y.typowner))
    """
    + _USER_TYPES
    + """
    UNION ALL
    SELECT 'schema', quote_ident(n.nspname), n.nspowner, COALESCE(n.nspacl, acldefault('n', n.nspowner))
    """
    + _USER_SCHEMAS
    + ")\n"
)
_GRANTS = (
    _OWNED
    + """
SELECT 'grants ' || kind, name, COALESCE(string_agg(line, '; ' ORDER BY line COLLATE "C"), 'none') FROM (
    SELECT kind, name, CASE WHEN x.grantee IS NULL THEN NULL ELSE
           CASE x.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(x.grantee)) END || ': '
           || string_agg(DISTINCT x.privilege_type || CASE WHEN x.is_grantable THEN ' (with grant option)' ELSE '' END, ', ') END AS line
      FROM (SELECT kind, name, acl FROM owned
            UNION ALL
            SELECT 'column', ident || '.' || quote_ident(a.attname), a.attacl FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid
             WHERE cardinality(a.attacl) > 0 AND a.attnum > 0 AND NOT a.attisdropped) every
      LEFT JOIN LATERAL aclexplode(acl) x ON true GROUP BY kind, name, x.grantee) lines
 GROUP BY kind, name
"""
)
_OWNERS = _OWNED + "SELECT 'owner ' || kind, name, quote_ident(pg_get_userbyid(owner)) FROM owned"
_IDENTIFIED = """
 (SELECT {columns}, i.type, i.identity
    FROM {catalog} d, LATERAL pg_identify_object(d.classoid, d.objoid, d.objsubid) i
   WHERE (d.objoid >= 16384 OR (d.classoid = 'pg_namespace'::regclass AND d.objoid = 'public'::regnamespace AND d.description <> 'standard public schema'))
     AND i.identity IS NOT NULL AND COALESCE(i.schema, '') NOT IN ('pg_catalog', 'information_schema') AND COALESCE(i.schema, '') !~ '^pg_(toast|temp_)'
     AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = d.classoid AND e.objid = d.objoid AND e.deptype = 'e')) d
"""
_COMMENTS = "SELECT 'comment ' || d.type, d.identity, d.description FROM" + _IDENTIFIED.format(columns="d.description", catalog="pg_description")
_LABELS = "SELECT 'security label ' || d.provider || ' ' || d.type, d.identity, d.label FROM" + _IDENTIFIED.format(
    columns="d.provider, d.label", catalog="pg_seclabel"
).replace("d.description", "''")
_DEFAULT_GRANTS = """
SELECT 'default privileges', format('of %I%s on %s', pg_get_userbyid(d.defaclrole), COALESCE(' in schema ' || quote_ident(n.nspname), ''),
         CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' WHEN 'f' THEN 'functions' WHEN 'T' THEN 'types' WHEN 'n' THEN 'schemas'
              ELSE d.defaclobjtype::text END),
       COALESCE((SELECT string_agg(g.line, '; ' ORDER BY g.line COLLATE "C") FROM (
           SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(x.grantee)) END || ': '
                  || string_agg(DISTINCT x.privilege_type || CASE WHEN x.is_grantable THEN ' (with grant option)' ELSE '' END, ', ') AS line
             FROM aclexplode(d.defaclacl) x GROUP BY x.grantee) g), 'none')
  FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace
"""
_EVENT_TRIGGERS = """
SELECT 'event trigger', quote_ident(e.evtname), concat_ws(' ', e.evtevent, (SELECT string_agg(g, ', ' ORDER BY g COLLATE "C") FROM unnest(e.evttags) g),
         e.evtfoid::regprocedure, CASE e.evtenabled WHEN 'D' THEN '(disabled)' WHEN 'R' THEN '(replica)' WHEN 'A' THEN '(always)' END)
  FROM pg_event_trigger e WHERE """ + not_of_extension("pg_event_trigger", "e.oid")  # fmt: skip
# A row filter holds OIDs as it is stored, so what the catalogue view makes of it is used.
_PUBLICATIONS = """
SELECT 'publication', quote_ident(p.pubname), concat_ws(' ', (to_jsonb(p) - '{oid,pubname,pubowner}'::text[])::text,
         (SELECT string_agg(concat_ws(' ', format('%I.%I', v.schemaname, v.tablename), to_jsonb(v) ->> 'rowfilter',
                     CASE WHEN EXISTS (SELECT FROM pg_publication_rel r WHERE r.prpubid = p.oid AND to_jsonb(r) ->> 'prattrs' IS NOT NULL
                                          AND r.prrelid = format('%I.%I', v.schemaname, v.tablename)::regclass) THEN to_jsonb(v) ->> 'attnames' END), ', '
                 ORDER BY v.schemaname COLLATE "C", v.tablename COLLATE "C")
            FROM pg_publication_tables v WHERE v.pubname = p.pubname AND NOT p.puballtables))
  FROM pg_publication p WHERE """ + not_of_extension("pg_publication", "p.oid")  # fmt: skip
_COLLATIONS = """
SELECT 'collation', format('%I.%I', n.nspname, c.collname), concat_ws(' ', c.collprovider::text, c.collisdeterministic, c.collcollate, c.collctype,
         COALESCE(to_jsonb(c) ->> 'colliculocale', to_jsonb(c) ->> 'colllocale'), to_jsonb(c) ->> 'collicurules')
  FROM pg_collation c JOIN pg_namespace n ON n.oid = c.collnamespace
 WHERE c.oid >= 16384 AND n.nspname <> 'pg_catalog' AND """ + not_of_extension("pg_collation", "c.oid")  # fmt: skip
_FOREIGN = """
SELECT 'server', quote_ident(s.srvname), concat_ws(' ', w.fdwname, s.srvtype, s.srvversion,
         (SELECT string_agg(o, ', ' ORDER BY o COLLATE "C") FROM unnest(s.srvoptions) o))
  FROM pg_foreign_server s JOIN pg_foreign_data_wrapper w ON w.oid = s.srvfdw WHERE """ + not_of_extension("pg_foreign_server", "s.oid")  # fmt: skip
_CASTS = """
SELECT 'cast', format('(%s AS %s)', format_type(c.castsource, NULL), format_type(c.casttarget, NULL)),
       concat_ws(' ', c.castcontext::text, c.castmethod::text, CASE WHEN c.castfunc <> 0 THEN c.castfunc::regprocedure END)
  FROM pg_cast c WHERE c.oid >= 16384 AND """ + not_of_extension("pg_cast", "c.oid")  # fmt: skip
_OPERATORS = """
SELECT 'operator', o.oid::regoperator::text, concat_ws(' ', o.oprcode::regproc, o.oprrest::regproc, o.oprjoin::regproc, o.oprcanmerge, o.oprcanhash,
         o.oprcom::regoperator, o.oprnegate::regoperator)
  FROM pg_operator o WHERE o.oid >= 16384 AND o.oprcode <> 0 AND """ + not_of_extension("pg_operator", "o.oid")  # fmt: skip
#: Rarer kinds: that they are there, by the name that the server itself gives them.
_BY_NAME = "\nUNION ALL\n".join(
    "SELECT i.type, i.identity, 'exists' FROM %s o, LATERAL pg_identify_object('%s'::regclass, o.oid, 0) i WHERE o.oid >= 16384 AND %s"
    % (catalog, catalog, not_of_extension(catalog, "o.oid"))
    for catalog in (
        "pg_am", "pg_conversion", "pg_foreign_data_wrapper", "pg_language", "pg_opclass", "pg_opfamily", "pg_transform",
        "pg_ts_config", "pg_ts_dict", "pg_ts_parser", "pg_ts_template",
    )
)  # fmt: skip

QUERIES: tuple[str, ...] = (
    _TABLES, _COLUMN_ORDER, _COLUMNS, _CONSTRAINTS, _INDEXES, _SEQUENCES, _VIEWS, _TRIGGERS, _POLICIES, _RULES, _STATISTICS, _FUNCTIONS, _TYPES, _SCHEMAS,
    _EXTENSIONS, _GRANTS, _OWNERS, _COMMENTS, _LABELS, _DEFAULT_GRANTS, _EVENT_TRIGGERS, _PUBLICATIONS, _COLLATIONS, _FOREIGN, _CASTS, _OPERATORS, _BY_NAME,
)  # fmt: skip

__all__ = ("QUERIES", "not_of_extension")
