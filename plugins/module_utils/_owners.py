# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Who owns what is in a database: whoever restores it must be able to give it to them.

pg_shdepend does not say it of the superuser that initdb made, so each catalogue is asked.
"""

from __future__ import annotations

import typing as t

#: What was made after initdb. Of an extension's objects pg_dump writes none.
_MADE = "x.oid >= 16384 AND NOT EXISTS (SELECT FROM pg_depend e WHERE e.classid = 'pg_{0}'::regclass AND e.objid = x.oid AND e.deptype = 'e')"
#: Made and in a schema that is dumped.
_IN_SCHEMA = _MADE + " AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp)'"
#: Catalogue, columns of the owner and of the schema, and which of its rows are objects of their own.
_CATALOGS: tuple[tuple[str, str, str, str], ...] = (
    ("class", "relowner", "relnamespace", "x.relkind IN ('r', 'p', 'v', 'm', 'S', 'f')"),
    ("proc", "proowner", "pronamespace", "true"),
    # Not the type of a table's rows, nor that of an array.
    (
        "type", "typowner", "typnamespace",
        "(x.typtype IN ('e', 'd', 'r') OR x.typtype = 'b' AND NOT EXISTS (SELECT FROM pg_type y WHERE y.typarray = x.oid)"
        " OR x.typtype = 'c' AND EXISTS (SELECT FROM pg_class y WHERE y.oid = x.typrelid AND y.relkind = 'c'))",
    ),
    ("collation", "collowner", "collnamespace", "true"),
    ("conversion", "conowner", "connamespace", "true"),
    ("operator", "oprowner", "oprnamespace", "true"),
    ("opclass", "opcowner", "opcnamespace", "true"),
    ("opfamily", "opfowner", "opfnamespace", "true"),
    ("statistic_ext", "stxowner", "stxnamespace", "true"),
    ("ts_config", "cfgowner", "cfgnamespace", "true"),
    ("ts_dict", "dictowner", "dictnamespace", "true"),
    ("namespace", "nspowner", "", "x.nspname <> 'public' AND x.nspname !~ '^pg_(toast|temp)'"),
    ("publication", "pubowner", "", "true"),
    ("event_trigger", "evtowner", "", "true"),
    ("foreign_data_wrapper", "fdwowner", "", "true"),
    ("foreign_server", "srvowner", "", "true"),
    ("language", "lanowner", "", "true"),
    ("largeobject_metadata", "lomowner", "", "true"),
    ("default_acl", "defaclrole", "", "true"),
)  # fmt: skip


def _branch(catalog: str, owner: str, schema: str, which: str) -> str:
    joined = " JOIN pg_namespace n ON n.oid = x.%s" % schema if schema else ""
    # A large object has the OID that its maker wishes, and no extension can have one.
    condition = which if catalog == "largeobject_metadata" else "%s AND %s" % (which, (_IN_SCHEMA if schema else _MADE).format(catalog))
    return "SELECT x.%s FROM pg_%s x%s WHERE %s" % (owner, catalog, joined, condition)


def _query(catalogs: t.Iterable[tuple[str, str, str, str]]) -> str:
    branches = "\nUNION ".join(_branch(*each) for each in catalogs)
    return "SELECT DISTINCT pg_get_userbyid(o)::text, o FROM (\n%s\n) AS owners(o) ORDER BY 1" % branches


#: Name and OID of each role, by name.
OWNERS_SQL = _query(_CATALOGS)
#: The same without those of what only a superuser can make anyway.
ORDINARY_OWNERS_SQL = _query(
    (catalog, owner, schema, "NOT x.puballtables" if catalog == "publication" else which)
    for catalog, owner, schema, which in _CATALOGS
    if catalog != "event_trigger"
)

__all__ = ("ORDINARY_OWNERS_SQL", "OWNERS_SQL")
