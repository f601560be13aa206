# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the data must be like for a constraint to come back. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import NEEDS, Change, Note
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Unit


def needs(change: Change, unit: Unit) -> list[Note]:
    """Notes for a constraint or a unique index that comes back to a table that is there."""
    if unit.table not in change.now.tables or unit.inherited:
        return []
    if unit.kind == "key" or (unit.kind == "index" and unit.facts["unique"]):
        return _unique(change, unit)
    if unit.kind == "foreign key" and unit.facts["valid"]:
        return _references(change, unit)
    if unit.kind == "check" and unit.facts["valid"]:
        probe = "SELECT count(*) FROM %s WHERE NOT (%s)" % (change.live(("table", unit.table)), unit.facts["expression"])
        return [Note(NEEDS, unit.name, "the check %s comes back: every row must pass it" % unit.name, probe, "rows that do not", True)]
    if unit.kind == "exclusion":
        return [Note(NEEDS, unit.name, "the exclusion constraint %s comes back: no two rows may conflict" % unit.name)]
    return []


def _unique(change: Change, unit: Unit) -> list[Note]:
    names = _live_columns(change, unit.table, unit.facts["columns"], unit.facts.get("plain", True))
    if names is None:
        return []
    where = ["%s IS NOT NULL" % name for name in names] if unit.facts.get("nulls") != "true" else []
    if unit.facts.get("predicate"):
        where.append("(%s)" % unit.facts["predicate"])
    probe = "SELECT count(*) FROM (SELECT FROM %s%s GROUP BY %s HAVING count(*) > 1) twice" % (
        change.live(("table", unit.table)), " WHERE " + " AND ".join(where) if where else "", ", ".join(names),
    )  # fmt: skip
    text = "%s comes back: no value may be there twice in %s (%s)" % (unit.name, unit.table, ", ".join(unit.facts["columns"]))
    return [Note(NEEDS, unit.name, text, probe, "values that are there more than once", True)]


def _live_columns(change: Change, table: str, columns: t.Sequence[str], plain: bool) -> list[str] | None:
    """The columns by their live names; None where one is not there yet, so that it is NULL or its default everywhere."""
    if not plain:
        return list(columns)
    keys = [("column", "%s.%s" % (table, name)) for name in columns]
    return [change.live(key) for key in keys] if all(key in change.now.columns for key in keys) else None


def _references(change: Change, unit: Unit) -> list[Note]:
    parent = unit.facts["parent"]
    names = _live_columns(change, unit.table, unit.facts["columns"], True)
    if names is None:
        return []
    present = " AND ".join("child.%s IS NOT NULL" % name for name in names)
    probe = "SELECT count(*) FROM %s child WHERE %s" % (change.live(("table", unit.table)), present)
    if parent in change.now.tables:
        keys = _live_columns(change, parent, unit.facts["parent_columns"], True)
        if keys is None:
            return []
        same = " AND ".join("parent.%s = child.%s" % pair for pair in zip(keys, names))
        probe += " AND NOT EXISTS (SELECT FROM %s parent WHERE %s)" % (change.live(("table", parent)), same)
    text = "the foreign key %s comes back: every row must find its row in %s" % (unit.name, parent)
    return [Note(NEEDS, unit.name, text, probe, "rows that do not find one", True)]


__all__ = ("needs",)
