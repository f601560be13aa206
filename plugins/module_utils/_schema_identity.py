# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Who is who in a schema: things by what survives a rename, which is the catalogue's own number of them.

Two readings of the same database can be compared by it, whatever statements ran in between.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._catalog_sql import not_of_extension
from ansible_collections.pgops.migrations.plugins.module_utils._connection import rows
from ansible_collections.pgops.migrations.plugins.module_utils._schema_sql import REL

#: Catalogue, OID and the number of a column, or 0.
Ident = t.Tuple[str, int, int]


@dataclasses.dataclass(frozen=True)
class Thing:
    """Something that has a name, not quoted.

    ``inside``: the relation or type that it is a part of or goes along with, or else its schema; None of a schema.
    ``extra``: the arguments of a function, the sort of a constraint or a type. ``inherited``: it gets its name from a parent table.
    """

    kind: str
    name: str
    inside: Ident | None
    extra: str = ""
    inherited: bool = False


Things = t.Dict[Ident, Thing]

_THINGS = REL + """
SELECT 'pg_namespace', n.oid::bigint, 0, 'schema', n.nspname::text, '', 0::bigint, '', false
  FROM pg_namespace n WHERE n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
UNION ALL
SELECT 'pg_class', oid::bigint, 0, CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'view' ELSE 'table' END, relname::text,
       CASE WHEN o.refobjid IS NULL THEN 'pg_namespace' ELSE 'pg_class' END, COALESCE(o.refobjid, relnamespace)::bigint, '', false
  FROM rel LEFT JOIN LATERAL (SELECT d.refobjid FROM pg_depend d WHERE relkind = 'S' AND d.classid = 'pg_class'::regclass AND d.objid = rel.oid
           AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i') LIMIT 1) o ON true
 WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
UNION ALL
SELECT 'pg_class', rel.oid::bigint, a.attnum, 'column', a.attname::text, 'pg_class', rel.oid::bigint, '', a.attinhcount > 0
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'pg_class', c.oid::bigint, 0, 'index', c.relname::text, 'pg_class', rel.oid::bigint, '', false
  FROM rel JOIN pg_index x ON x.indrelid = rel.oid JOIN pg_class c ON c.oid = x.indexrelid
 WHERE NOT EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = c.oid AND k.contype IN ('p', 'u', 'x'))
UNION ALL
SELECT 'pg_constraint', k.oid::bigint, 0, 'constraint', k.conname::text, 'pg_class', rel.oid::bigint, k.contype::text, k.contype = 'c' AND k.coninhcount > 0
  FROM rel JOIN pg_constraint k ON k.conrelid = rel.oid WHERE k.contype IN ('p', 'u', 'x', 'c', 'f')
UNION ALL
SELECT 'pg_trigger', g.oid::bigint, 0, 'trigger', g.tgname::text, 'pg_class', rel.oid::bigint, '', false
  FROM rel JOIN pg_trigger g ON g.tgrelid = rel.oid WHERE NOT g.tgisinternal AND g.tgparentid = 0
UNION ALL
SELECT 'pg_policy', p.oid::bigint, 0, 'policy', p.polname::text, 'pg_class', rel.oid::bigint, '', false FROM rel JOIN pg_policy p ON p.polrelid = rel.oid
UNION ALL
SELECT 'pg_rewrite', r.oid::bigint, 0, 'rule', r.rulename::text, 'pg_class', rel.oid::bigint, '', false
  FROM rel JOIN pg_rewrite r ON r.ev_class = rel.oid WHERE r.rulename <> '_RETURN'
UNION ALL
SELECT 'pg_type', y.oid::bigint, 0, 'type', y.typname::text, 'pg_namespace', y.typnamespace::bigint, y.typtype::text, false
  FROM pg_type y LEFT JOIN pg_class c ON c.oid = y.typrelid
 WHERE y.oid >= 16384 AND y.typtype <> 'm' AND (y.typrelid = 0 OR c.relkind = 'c') AND NOT EXISTS (SELECT FROM pg_type el WHERE el.typarray = y.oid)
   AND """ + not_of_extension("pg_type", "y.oid") + """
UNION ALL
SELECT 'pg_class', a.attrelid::bigint, a.attnum, 'attribute', a.attname::text, 'pg_type', y.oid::bigint, '', false
  FROM pg_type y JOIN pg_class c ON c.oid = y.typrelid AND c.relkind = 'c' JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE y.oid >= 16384 AND """ + not_of_extension("pg_type", "y.oid") + """
UNION ALL
SELECT 'pg_enum', l.oid::bigint, 0, 'value', l.enumlabel::text, 'pg_type', y.oid::bigint, '', false
  FROM pg_type y JOIN pg_enum l ON l.enumtypid = y.oid WHERE y.oid >= 16384 AND """ + not_of_extension("pg_type", "y.oid") + """
UNION ALL
SELECT 'pg_proc', p.oid::bigint, 0, 'function', p.proname::text, 'pg_namespace', p.pronamespace::bigint, pg_get_function_identity_arguments(p.oid), false
  FROM pg_proc p WHERE p.oid >= 16384 AND NOT EXISTS
       (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'i')
   AND """ + not_of_extension("pg_proc", "p.oid")  # fmt: skip


def read_things(conn: t.Any) -> Things:
    """All things of the connected database whose names a migration can change; the caller has pinned the settings."""
    return {
        (catalog, oid, sub): Thing(kind, name, (in_catalog, in_oid, 0) if in_catalog else None, extra, inherited)
        for catalog, oid, sub, kind, name, in_catalog, in_oid, extra, inherited in rows(conn, _THINGS)
    }


def schema_of(things: Things, ident: Ident) -> Ident | None:
    """The schema that a thing is in, if need be by way of its relation."""
    found: Ident | None = ident
    while found is not None and found[0] != "pg_namespace":
        thing = things.get(found)
        found = thing.inside if thing else None
    return found


__all__ = ("Ident", "Thing", "Things", "read_things", "schema_of")
