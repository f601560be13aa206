# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Draft the statements that turn one schema into another. Pure: two models in, steps and notes out.

Definitions of what comes back are those of the goal's catalogue. What is in the way of a
change (a view of a column, a trigger of a function) is dropped and comes back after it.
What a draft leaves undone shows when both schemas are compared after it was tried.
"""

from __future__ import annotations

from ansible_collections.pgops.migrations.plugins.module_utils import _draft_rights, _draft_tables, _draft_types
from ansible_collections.pgops.migrations.plugins.module_utils._draft_live import Live
from ansible_collections.pgops.migrations.plugins.module_utils._draft_needs import needs, needs_of_domains
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import LOST, NOT_DRAFTED, Change, Draft, Note, inlined
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Column, Key, Model, Unit

#: What the server rebuilds by itself when a column's type changes.
_REBUILT = frozenset(["key", "sequence", "sequence owner", "statistics", "table"])


def draft(goal: Model, now: Model, live: Model | None = None) -> Draft:
    """Steps from ``now`` to ``goal``; none when they are equal.

    :param live: the schema of the live database, where renames were undone since.

    Comments, owners and rights of what comes back are drafted once it is there: apply the
    steps, read ``now`` again, and draft again until nothing is left.
    """
    change = Change(goal, now, Live(now, live))
    result = Draft()
    _draft_types.decide(change)
    _decide(change)
    _close(change)
    change.touched = [column for key, column in goal.columns.items() if key not in now.columns or key in change.again or key in change.converted]
    _draft_types.write(change, result)
    _draft_tables.write(change, result)
    _write_units(change, result)
    _draft_rights.write(change, result)
    result.notes += needs_of_domains(change)
    result.steps.sort(key=lambda step: step.rank)
    return result


def _decide(change: Change) -> None:
    """What goes and what is converted, without what follows from that."""
    goal, now = change.goal, change.now
    change.going |= {("table", name) for name in change.gone_tables}
    for key, column in now.columns.items():
        wanted = goal.columns.get(key)
        if wanted is None:
            change.going.add(key)
        elif _draft_tables.must_be_made_anew(wanted, column):
            _again(change, key)
        elif any(wanted.facts[fact] != column.facts[fact] for fact in ("type", "collation")) or column.facts["of_type"] in change.remade:
            change.converted.add(key)
    for key, unit in now.units.items():
        found = goal.units.get(key)
        if found is None:
            change.going.add(key)
        elif found.definition != unit.definition and found.create and not _in_place(found, unit):
            _again(change, key)


def _again(change: Change, key: Key) -> None:
    change.going.add(key)
    change.again.add(key)


def _in_place(wanted: Unit, unit: Unit) -> tuple[str, ...]:
    """Statements that change an object where it is; none when it has to be dropped first."""
    if unit.kind in ("default", "sequence owner"):
        return wanted.create
    if "alter" in wanted.facts:
        return (wanted.facts["alter"],)
    if unit.kind == "function" and all(wanted.facts[fact] == unit.facts[fact] for fact in ("signature", "kind")):
        return wanted.create
    if unit.definition == wanted.definition + " NOT VALID":
        return ("ALTER TABLE %s VALIDATE CONSTRAINT %s" % (unit.table, wanted.facts["name"]),)
    return ()


def _close(change: Change) -> None:
    """Add what stands in the way of what goes or is converted, and what stands in the way of that."""
    work: list[Key] = sorted(change.going | change.converted) + [("type", name) for name in sorted(change.remade)]
    seen = set(work)
    while work:
        key = work.pop()
        for dependent in change.now.dependents(key):
            if dependent in seen or not _follows(change, key, dependent):
                continue
            seen.add(dependent)
            work.append(dependent)


def _follows(change: Change, key: Key, dependent: Key) -> bool:
    """Take a dependent along where it must be; whether its own dependents are concerned."""
    kind = dependent[0]
    goal = change.goal
    if key in change.converted and key not in change.going:
        unit = change.now.units.get(dependent)
        if kind in _REBUILT or (kind == "index" and unit is not None and unit.facts["plain"]):
            return False
    if kind == "type" and key[0] == "type":
        known = dependent[1] in goal.types and goal.types[dependent[1]].kind == "domain"
        if known:
            change.remade.add(dependent[1])
        return known
    if kind == "column":
        if dependent in change.going or dependent not in goal.columns:
            return False
        if key[0] == "type":
            change.converted.add(dependent)
        elif change.now.columns[dependent].facts["generated"]:
            _again(change, dependent)
        else:
            return False
        return True
    if dependent in change.now.units and dependent not in change.going:
        if kind in ("sequence", "sequence owner"):
            return False
        if dependent in goal.units and not goal.units[dependent].create:
            return False
        change.going.add(dependent)
        if dependent in goal.units:
            change.again.add(dependent)
        return True
    return False


def _write_units(change: Change, result: Draft) -> None:
    gone = change.gone_tables | {name for kind, name in change.going if kind == "view"}
    for key, unit in change.now.units.items():
        if key in change.going and not _goes_along(change, unit, gone):
            result.add("drop %s" % unit.kind, unit.drop)
            _note_drop(change, unit, result)
        wanted = change.goal.units.get(key)
        if wanted is not None and key not in change.going:
            result.notes += needs(change, wanted)
        if wanted is not None and key not in change.going and wanted.definition != unit.definition:
            statements = _in_place(wanted, unit)
            if statements:
                result.add(unit.kind, *statements)
            else:
                result.notes.append(Note(NOT_DRAFTED, unit.name, "the %s %s cannot be changed back by what the catalogue says" % (unit.kind, unit.name)))
    for key, unit in change.goal.units.items():
        if not change.comes(key) or _comes_along(change, unit):
            continue
        if not unit.create:
            result.notes.append(Note(NOT_DRAFTED, unit.name, "the %s is not drafted: make it by hand" % _described(unit)))
            continue
        result.add(unit.kind, *unit.create)
        result.notes += needs(change, unit)


def _described(unit: Unit) -> str:
    return unit.name if unit.kind == "other" else "%s %s" % (unit.kind, unit.name)


def _goes_along(change: Change, unit: Unit, gone: set[str]) -> bool:
    """Whether the server drops it with something else."""
    if unit.inherited:
        return True
    if unit.kind == "sequence":
        owner = unit.facts["owner"]
        return bool(owner) and (unit.facts["owner_table"] in gone or _column_of(change, owner) in change.going)
    if unit.kind == "sequence owner":
        return ("sequence", unit.name) not in change.goal.units
    if unit.kind == "foreign key":
        return unit.table in gone and (unit.facts["parent"] not in gone or unit.facts["parent"] == unit.table)
    if unit.kind == "default" and ("column", unit.facts["column"]) in change.going:
        return True
    return unit.table in gone


def _column_of(change: Change, owner: str) -> Key | None:
    """The column that a sequence's owner names, which the query quotes alike."""
    return ("column", owner) if ("column", owner) in change.now.columns else None


def _comes_along(change: Change, unit: Unit) -> bool:
    """Whether another step makes it."""
    new = unit.table in change.new_tables
    if unit.inherited:
        # A partition gets its indexes under their own names before it is attached; all else the server makes.
        return not (new and change.goal.tables[unit.table]["is_partition"] and unit.kind == "index")
    if new and (inlined(unit) or unit.kind == "default"):
        return True
    if unit.kind == "default":
        key = ("column", unit.facts["column"])
        return change.comes(key) and _draft_tables.with_default(change.goal.columns[key])
    return False


def _note_drop(change: Change, unit: Unit, result: Draft) -> None:
    if unit.key in change.again:
        return
    if unit.kind == "sequence":
        result.notes.append(Note(LOST, unit.name, "the sequence %s goes, and the number it has reached" % unit.name))
    elif unit.kind == "extension":
        result.notes.append(Note(LOST, unit.name, "the extension %s goes, with what it keeps" % unit.name))


__all__ = ("Column", "draft")
