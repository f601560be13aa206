# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the data must be like for a constraint to come back. Pure: no I/O.

A probe reads the rows of the live database as they are once the draft has run: columns by the names that
they get, converted, and those that come back with what they come back with.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import CONVERTED, NEEDS, Change, Note, quoted
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Column, Facts, Unit
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import scan, split_name


def needs(change: Change, unit: Unit) -> list[Note]:
    """Notes for a constraint or a unique index that comes back, or comes back otherwise, to a table that is there."""
    unique = unit.kind == "key" or (unit.kind == "index" and unit.facts["unique"])
    if not (unique or unit.kind in ("check", "foreign key", "exclusion")) or unit.table not in change.now.tables or unit.inherited:
        return []
    if not unit.facts["valid"] or unit.definition.endswith("NOT ENFORCED") or not _concerned(change, unit):
        return []
    # Of the same name it is not the same: what the one that is there lets through, the one that comes may not.
    comes = "comes back" if unit.key not in change.now.units or unit.definition == change.now.units[unit.key].definition else "becomes that of before again"
    if unique:
        return [_unique(change, unit, comes)]
    if unit.kind == "foreign key":
        return [_references(change, unit, comes)]
    if unit.kind == "check":
        probe = "SELECT count(*) FROM %s WHERE NOT (%s)" % (_rows(change, unit.table, _named(unit.definition), False), unit.facts["expression"])
        return [Note(NEEDS, unit.name, "the check %s %s: every row must pass it" % (unit.name, comes), probe, "rows that do not", True)]
    return [_excludes(change, unit, comes)]


def _concerned(change: Change, unit: Unit) -> bool:
    """Whether the data that is there may not be such as it wants; what only makes room for a while is."""
    now = change.now.units.get(unit.key)
    if now is None or now.definition != unit.definition:
        return True
    tables = {unit.table, unit.facts.get("parent")}
    touched = {split_name(column.name)[-1] for column in change.touched if column.table in tables}
    return bool(touched and touched & _named(unit.definition))


def _named(text: str) -> set[str]:
    """All names that a definition mentions: those of columns are among them."""
    return {name for chain in scan(text) for name in chain}


def _rows(change: Change, table: str, names: t.Collection[str], own: bool = True) -> str:
    """A table of the live database as FROM takes it, with these columns as they will be.

    :param own: without the rows of tables that inherit from it.
    """
    columns = [column for column in change.goal.columns_of(table) if split_name(column.name)[-1] in names]
    computed = [column for column in columns if column.facts["generated"] and (change.comes(column.key) or column.key in change.converted)]
    needed = {name for column in computed for name in _named(column.facts["expression"])}
    columns += [column for column in change.goal.columns_of(table) if split_name(column.name)[-1] in needed and column not in columns]
    values = ["%s AS %s" % (_value(change, column), column.name) for column in columns if column not in computed]
    alias = quoted(split_name(table)[-1])
    only = "ONLY " if own and change.goal.tables[table]["kind"] == "r" else ""
    text = "(SELECT %s FROM %s%s) AS %s" % (", ".join(values), only, change.live.name(("table", table)), alias)
    if computed:
        text = "(SELECT *, %s FROM %s) AS %s" % (", ".join("(%s) AS %s" % (column.facts["expression"], column.name) for column in computed), text, alias)
    return text


def _value(change: Change, column: Column) -> str:
    """What a column holds once the draft has run, in terms of the live table."""
    facts, now = column.facts, change.now.columns.get(column.key)
    if now is None or column.key in change.again:
        if facts["identity"] or "nextval(" in (facts["expression"] or ""):
            return "(row_number() OVER ())::%s" % facts["type"]
        # A type of one's own may not be there.
        return "(%s)::%s" % (facts["expression"] or "NULL", "text" if facts["of_type"] else facts["type"])
    name = change.live.name(column.key)
    if column.key not in change.converted or facts["type"] == now.facts["type"]:
        return name
    text = "text[]" if facts["array"] else "text"
    if facts["of_type"]:
        return "%s::%s" % (name, text)
    # A type of one's own has no cast but by way of text.
    return "%s::%s" % (name, "%s::%s" % (text, facts["type"]) if now.facts["of_type"] else facts["type"])


def _unique(change: Change, unit: Unit, comes: str) -> Note:
    keys = unit.facts["columns"]
    where = ["(%s) IS NOT NULL" % key for key in keys] if unit.facts.get("nulls") != "true" and "NULLS NOT DISTINCT" not in unit.definition else []
    if unit.facts.get("predicate"):
        where.append("(%s)" % unit.facts["predicate"])
    probe = "SELECT count(*) FROM (SELECT FROM %s%s GROUP BY %s HAVING count(*) > 1) twice" % (
        _rows(change, unit.table, _named(unit.definition)), " WHERE " + " AND ".join(where) if where else "", ", ".join(keys),
    )  # fmt: skip
    text = "%s %s: no value may be there twice in %s (%s)" % (unit.name, comes, unit.table, ", ".join(keys))
    return Note(NEEDS, unit.name, text, probe, "values that are there more than once", True)


def _references(change: Change, unit: Unit, comes: str) -> Note:
    parent, names, keys = unit.facts["parent"], unit.facts["columns"], unit.facts["parent_columns"]
    child_rows = _rows(change, unit.table, {split_name(name)[-1] for name in names})
    present = " AND ".join("child.%s IS NOT NULL" % name for name in names)
    if unit.facts["match"] == "f":
        # MATCH FULL: all of them or none.
        present = "NOT (%s)" % " AND ".join("child.%s IS NULL" % name for name in names)
    probe = "SELECT count(*) FROM (SELECT * FROM %s) child WHERE %s" % (child_rows, present)
    if parent in change.now.tables:
        parent_rows = _rows(change, parent, {split_name(key)[-1] for key in keys})
        same = " AND ".join("parent.%s = child.%s" % pair for pair in zip(keys, names))
        probe += " AND NOT EXISTS (SELECT FROM (SELECT * FROM %s) parent WHERE %s)" % (parent_rows, same)
    text = "the foreign key %s %s: every row must find its row in %s" % (unit.name, comes, parent)
    return Note(NEEDS, unit.name, text, probe, "rows that do not find one", True)


def _excludes(change: Change, unit: Unit, comes: str) -> Note:
    elements = list(enumerate(unit.facts["elements"]))
    found = ", ".join("%s AS e%d" % (element, number) for number, element in elements)
    where = " WHERE (%s)" % unit.facts["predicate"] if unit.facts["predicate"] else ""
    conflict = " AND ".join("one.e%d %s other.e%d" % (number, operator, number) for (number, _element), operator in zip(elements, unit.facts["operators"]))
    probe = "WITH found AS MATERIALIZED (SELECT row_number() OVER () AS number, %s FROM %s%s)" % (
        found, _rows(change, unit.table, _named(unit.definition)), where,
    )  # fmt: skip
    probe += " SELECT count(*) FROM found one WHERE EXISTS (SELECT FROM found other WHERE one.number <> other.number AND %s)" % conflict
    text = "the exclusion constraint %s %s: no two rows may conflict" % (unit.name, comes)
    return Note(NEEDS, unit.name, text, probe, "rows that do", True)


def fits(change: Change, table: str) -> Note:
    """A note for a table that becomes a partition again: its rows must be within the bounds."""
    check = change.goal.tables[table].get("partition_check") or ""
    text = "the table %s becomes a partition again: rows outside of its bounds make that fail" % table
    if not check or "satisfies_hash_partition(" in check:
        # The bounds of a hash partition are said by the number of its parent, which is another one elsewhere.
        return Note(CONVERTED, table, text)
    probe = "SELECT count(*) FROM %s WHERE NOT (%s)" % (_rows(change, table, _named(check)), check)
    return Note(NEEDS, table, text, probe, "rows outside of them", True)


def needs_of_domains(change: Change) -> list[Note]:
    """Notes for the columns of domains that take less than what is there."""
    notes = []
    for column in change.goal.columns.values():
        domain = change.goal.types.get(column.facts["of_type"] or "")
        now = change.now.columns.get(column.key)
        if domain is None or domain.kind != "domain" or now is None or column.facts["generated"]:
            continue
        had: Facts = {}
        if now.facts["of_type"] == domain.name and change.now.types[domain.name].kind == "domain":
            had = change.now.types[domain.name].facts
        checks = [
            text[len("CHECK ") :]
            for name, text in domain.facts["constraints"].items()
            if text.startswith("CHECK ") and not text.endswith("NOT VALID") and had.get("constraints", {}).get(name) != text
        ]
        wrong = ["NOT (%s)" % check for check in checks] + (["value IS NULL"] if domain.facts["notnull"] and not had.get("notnull") else [])
        if not wrong:
            continue
        table, name = change.live_column(now)
        each = "unnest(%s::%s[])" if column.facts["array"] else "%s::%s"
        # VALUE of a domain's check is no column's name otherwise, and here it is.
        probe = "SELECT count(*) FROM (SELECT %s AS value FROM %s) each WHERE %s" % (each % (name, domain.facts["base"]), table, " OR ".join(wrong))
        text = "the column %s takes only what the domain %s allows again" % (column.key[1], domain.name)
        notes.append(Note(NEEDS, column.key[1], text, probe, "values that it does not", True))
    return notes


__all__ = ("fits", "needs", "needs_of_domains")
