# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The schema of a database as plain data from which statements can be drafted.

All names are quoted and qualified as the server writes them. The ledger is left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _catalog, _schema_sql, _schema_units_sql
from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import PINNED
from ansible_collections.pgops.migrations.plugins.module_utils._schema_identity import Ident, Things, read_things

#: Kind and name: ("table", "public.users"), ("column", "public.users.id"), ("type", ...), or a unit's kind.
Key = t.Tuple[str, str]
Facts = t.Dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Unit:
    """An object that is made by statements and dropped by one.

    ``create`` is empty where it cannot be made from what the catalogue says. An
    ``inherited`` one comes and goes with that of a parent table.
    """

    kind: str
    name: str
    table: str
    definition: str
    create: tuple[str, ...]
    drop: str
    inherited: bool = False
    facts: Facts = dataclasses.field(default_factory=dict)

    @property
    def key(self) -> Key:
        return self.kind, self.name


@dataclasses.dataclass(frozen=True)
class Column:
    """A column; ``facts`` as the query COLUMNS names them, and ``of_type``: the user's own type it is made of."""

    table: str
    name: str
    facts: Facts

    @property
    def key(self) -> Key:
        return "column", "%s.%s" % (self.table, self.name)


@dataclasses.dataclass(frozen=True)
class Type:
    """``kind``: enum, domain, composite, range or base."""

    kind: str
    name: str
    facts: Facts


@dataclasses.dataclass
class Model:
    """A whole schema. ``depends``: an object -> those that depend on it."""

    tables: dict[str, Facts] = dataclasses.field(default_factory=dict)
    columns: dict[Key, Column] = dataclasses.field(default_factory=dict)
    units: dict[Key, Unit] = dataclasses.field(default_factory=dict)
    types: dict[str, Type] = dataclasses.field(default_factory=dict)
    depends: dict[Key, set[Key]] = dataclasses.field(default_factory=dict)
    comments: dict[tuple[str, str], str] = dataclasses.field(default_factory=dict)
    owners: dict[Key, str] = dataclasses.field(default_factory=dict)
    rights: dict[Key, set[tuple[t.Any, ...]]] = dataclasses.field(default_factory=dict)
    default_rights: dict[tuple[t.Any, ...], set[tuple[t.Any, ...]]] = dataclasses.field(default_factory=dict)
    #: What objects have where default_rights has no entry, for those entries that it has.
    builtin_rights: dict[tuple[t.Any, ...], set[tuple[t.Any, ...]]] = dataclasses.field(default_factory=dict)
    #: Who is who: numbers mean the same in two readings of one database, and nothing where ``database`` differs.
    database: int = 0
    idents: dict[Ident, Key] = dataclasses.field(default_factory=dict)
    things: Things = dataclasses.field(default_factory=dict)

    def columns_of(self, table: str) -> list[Column]:
        """The columns of a table in their order."""
        return [column for column in self.columns.values() if column.table == table]

    def units_of(self, table: str) -> list[Unit]:
        return [unit for unit in self.units.values() if unit.table == table]

    def names(self) -> set[Key]:
        """The keys of all that the schema holds."""
        return {("table", name) for name in self.tables} | set(self.columns) | set(self.units) | {("type", name) for name in self.types}

    def survives_in(self, later: Model) -> set[Ident]:
        """What both readings hold; nothing where they are of different databases, in which the numbers mean nothing."""
        return set(self.idents) & set(later.idents) if self.database == later.database else set()

    def dependents(self, key: Key) -> list[Key]:
        return sorted(self.depends.get(key, ()))


def read(conn: t.Any, ledger: tuple[str, str] | None = None) -> Model:
    """The model of the connected database; whatever the connection's settings, names come out qualified.

    :param conn: a connection inside a transaction, or in autocommit mode.
    :param ledger: schema and name of the ledger, which no draft may touch.
    """
    with pinned(conn):
        return _Reader(conn, ledger).model


@contextlib.contextmanager
def pinned(conn: t.Any) -> t.Iterator[None]:
    """The settings that definitions are read by, and those of before after it."""
    before = {name: (row(conn, "SELECT current_setting(%s)", (name,)) or ("",))[0] for name in PINNED}
    for name, value in PINNED.items():
        row(conn, "SELECT pg_catalog.set_config(%s, %s, false)", (name, value))
    try:
        yield
    finally:
        if not conn.closed:
            for name, value in before.items():
                execute(conn, "SELECT pg_catalog.set_config(%s, %s, false)", (name, value))


class _Reader:
    def __init__(self, conn: t.Any, ledger: tuple[str, str] | None) -> None:
        self.model = Model()
        self.keys: dict[Ident, Key] = self.model.idents
        self.model.database = (row(conn, "SELECT oid::bigint FROM pg_database WHERE datname = current_database()") or (0,))[0]
        self.model.things = read_things(conn)
        # As the server writes it, which decides what is put in quotes.
        self.ledger = (row(conn, "SELECT format('%%I.%%I', %s::text, %s::text)", ledger) or ("",))[0] if ledger else ""
        self._tables(conn)
        self._types(conn)
        self._columns(conn)
        self._units(conn)
        self._depends(conn)
        self._rights(conn)

    def _tables(self, conn: t.Any) -> None:
        for oid, name, facts in rows(conn, _schema_sql.TABLES):
            if name != self.ledger:
                self.model.tables[name] = _facts(facts)
                self.keys["pg_class", oid, 0] = ("table", name)

    def _types(self, conn: t.Any) -> None:
        for oid, kind, name, facts in rows(conn, _schema_sql.TYPES):
            self.model.types[name] = Type(kind, name, _facts(facts))
            self.keys["pg_type", oid, 0] = ("type", name)

    def _columns(self, conn: t.Any) -> None:
        for oid, number, table, name, found in rows(conn, _schema_sql.COLUMNS):
            if table == self.ledger:
                continue
            facts = _facts(found)
            own = self.keys.get(("pg_type", facts.pop("type_oid"), 0))
            facts["of_type"] = own[1] if own else None
            column = Column(table, name, facts)
            self.model.columns[column.key] = column
            self.keys["pg_class", oid, number] = column.key

    def _units(self, conn: t.Any) -> None:
        for query in _schema_units_sql.UNITS:
            for kind, name, table, catalog, oid, definition, create, drop, inherited, facts in rows(conn, query):
                if table and table == self.ledger:
                    continue
                unit = Unit(kind, name, table or "", _catalog.canonical(definition or ""), tuple(create or ()), drop, inherited, _facts(facts))
                self.model.units[unit.key] = unit
                self.keys.setdefault((catalog, oid, 0), unit.key)

    def _depends(self, conn: t.Any) -> None:
        parts = {(catalog, oid): (whole, number, sub) for catalog, oid, whole, number, sub in rows(conn, _schema_sql.PARTS)}

        def key(catalog: str, oid: int, sub: int) -> Key | None:
            for _step in range(3):
                found = self.keys.get((catalog, oid, sub)) or (None if sub else self.keys.get((catalog, oid, 0)))
                if found is None and sub and self.keys.get((catalog, oid, 0), ("", ""))[0] == "view":
                    found = self.keys[catalog, oid, 0]
                if found is not None or (catalog, oid) not in parts:
                    return found
                catalog, oid, sub = parts[catalog, oid]
            return None

        for catalog, oid, sub, ref_catalog, ref_oid, ref_sub in rows(conn, _schema_sql.DEPENDS):
            dependent, on = key(catalog, oid, sub), key(ref_catalog, ref_oid, ref_sub)
            if dependent and on and dependent != on:
                self.model.depends.setdefault(on, set()).add(dependent)

    def _rights(self, conn: t.Any) -> None:
        model = self.model
        for kind, identity, text in rows(conn, _schema_sql.COMMENTS):
            model.comments[kind, identity] = text
        for word, name, owner, column, grantee, privilege, grantable in rows(conn, _schema_sql.RIGHTS):
            if name == self.ledger:
                continue
            model.owners[word, name] = owner
            entry = model.rights.setdefault((word, name), set())
            if privilege is not None:
                entry.add((column, grantee, privilege, grantable))
        for role, schema, what, grantee, privilege, grantable, builtin in rows(conn, _schema_sql.DEFAULT_RIGHTS):
            rights = model.builtin_rights if builtin else model.default_rights
            rights.setdefault((role, schema, what), set()).add((grantee, privilege, grantable))


def _facts(value: t.Any) -> Facts:
    return t.cast("Facts", value if isinstance(value, dict) else json.loads(value))


__all__ = ("Column", "Facts", "Key", "Model", "Type", "Unit", "pinned", "read")
