# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Tables and columns of a draft. Pure: no I/O."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_needs import fits
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import (
    CONVERTED,
    EMPTY,
    LOST,
    NEEDS,
    NOT_DRAFTED,
    Change,
    Draft,
    Note,
    inlined,
    literal,
)
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Column, Facts

_STORAGE = {"p": "PLAIN", "e": "EXTERNAL", "m": "MAIN", "x": "EXTENDED"}
_COMPRESSION = {"p": "pglz", "l": "lz4", "": "default"}


def write(change: Change, result: Draft) -> None:
    """Steps and notes for all tables and columns."""
    for name in sorted(change.new_tables):
        _create(change, name, result)
    for name in sorted(change.gone_tables):
        if not (change.now.tables[name]["is_partition"] and change.gone_tables.intersection(change.now.tables[name]["parents"])):
            result.add("drop table", "DROP TABLE %s" % name)
        note = _note_gone(change, name)
        if note:
            result.notes.append(note)
    for name, facts in change.goal.tables.items():
        if name in change.now.tables:
            _alter(change, name, facts, change.now.tables[name], result)
            _columns(change, name, result)


def _note_gone(change: Change, name: str) -> Note | None:
    """Each row that goes is in one number: those of a partition in that of the partitioned table that goes with it."""
    facts, gone = change.now.tables[name], change.gone_tables
    if facts["is_partition"] and gone.intersection(facts["parents"]):
        return None
    there = change.live.name(("table", name))
    if facts["kind"] != "p":
        return Note(LOST, there, "the table %s goes, with all its rows" % there, "SELECT count(*) FROM ONLY %s" % there, "rows that are there now")
    stay = _staying(change, name, staying=False)
    probe = "SELECT count(*) FROM %s" % there
    if not stay:
        return Note(LOST, there, "the table %s goes, with all its rows" % there, probe, "rows that are there now")
    names = [change.live.name(("table", other)) for other in stay]
    probe += " WHERE tableoid <> ALL (ARRAY[%s]::pg_catalog.oid[])" % ", ".join("%s::pg_catalog.regclass" % literal(other) for other in names)
    text = "the table %s goes, with its rows; those of its partition%s %s stay there" % (there, "s" if len(names) > 1 else "", ", ".join(names))
    return Note(LOST, there, text, probe, "rows that are there now")


def _staying(change: Change, name: str, staying: bool) -> list[str]:
    """The partitions below a table, in whatever depth, whose rows do not go with it."""
    found: list[str] = []
    for child, facts in sorted(change.now.tables.items()):
        if facts["is_partition"] and name in facts["parents"]:
            stays = staying or child not in change.gone_tables
            found += [child] if stays and facts["kind"] != "p" else []
            found += _staying(change, child, stays)
    return found


def must_be_made_anew(wanted: Column, column: Column) -> bool:
    """Whether a generated column has to be dropped and added; its values are computed anew."""
    fields = ("generated", "expression", "type", "collation")
    if wanted.facts["generated"]:
        return any(wanted.facts[field] != column.facts[field] for field in fields)
    return bool(column.facts["generated"] == "v")


def with_default(column: Column) -> bool:
    """Whether ADD COLUMN says the default."""
    return bool(column.facts["expression"]) and not column.facts["generated"] and not column.facts["inherited"]


def _create(change: Change, name: str, result: Draft) -> None:
    facts = change.goal.tables[name]
    if facts["kind"] == "f" or facts["of_type"]:
        result.notes.append(Note(NOT_DRAFTED, name, "the %s table %s is not drafted: make it by hand" % ("foreign" if facts["kind"] == "f" else "typed", name)))
        return
    partition = facts["is_partition"]
    columns = [column for column in change.goal.columns_of(name) if partition or column.facts["local"] or not column.facts["inherited"]]
    parts = ["%s %s" % (column.name, _definition(column.facts)) for column in columns]
    parts += [
        "CONSTRAINT %s %s" % (unit.facts["name"], unit.definition)
        for unit in change.goal.units_of(name)
        if unit.kind in ("key", "exclusion", "check") and inlined(unit) and (partition or not unit.inherited)
    ]
    text = "CREATE %sTABLE %s (%s)" % ("UNLOGGED " if facts["unlogged"] else "", name, "\n    %s\n" % ",\n    ".join(parts) if parts else "")
    if facts["parents"] and not partition:
        text += " INHERITS (%s)" % ", ".join(facts["parents"])
    if facts["partition_by"]:
        text += " PARTITION BY %s" % facts["partition_by"]
    if facts["method"]:
        text += " USING %s" % facts["method"]
    if facts["options"]:
        text += " WITH (%s)" % ", ".join(facts["options"])
    result.add("table", text)
    if partition:
        result.add("attach", "ALTER TABLE %s ATTACH PARTITION %s %s" % (facts["parents"][0], name, facts["bound"]))
    result.notes.append(Note(EMPTY, name, "the table %s comes back empty: the rows it had are not in the database" % name))


def _definition(facts: Facts, notnull: bool = True) -> str:
    parts = [facts["type"]]
    if facts["collation"]:
        parts.append("COLLATE %s" % facts["collation"])
    if facts["generated"]:
        parts.append("GENERATED ALWAYS AS (%s) %s" % (facts["expression"], "STORED" if facts["generated"] == "s" else "VIRTUAL"))
    elif facts["expression"]:
        parts.append("DEFAULT %s" % facts["expression"])
    if facts["identity"]:
        parts.append(_identity(facts))
    if facts["notnull"] and notnull:
        parts.append("NOT NULL")
    return " ".join(parts)


def _identity(facts: Facts) -> str:
    return "GENERATED %s AS IDENTITY (%s)" % ("ALWAYS" if facts["identity"] == "a" else "BY DEFAULT", facts["sequence"])


def _alter(change: Change, name: str, goal: Facts, now: Facts, result: Draft) -> None:
    """What belongs to a table besides columns and units."""
    changed = [what for what in ("kind", "partition_by", "of_type", "method") if goal[what] != now[what]]
    if changed:
        text = "the table %s cannot be changed back where it is (%s): PostgreSQL has no statement for it" % (name, ", ".join(changed))
        result.notes.append(Note(NOT_DRAFTED, name, text))
    alter = "ALTER TABLE %s " % name
    if goal["unlogged"] != now["unlogged"]:
        result.add("attribute", alter + ("SET UNLOGGED" if goal["unlogged"] else "SET LOGGED"))
    for option, value in _options(goal["options"], now["options"]):
        result.add("attribute", alter + ("RESET (%s)" % option if value is None else "SET (%s=%s)" % (option, value)))
    for what, words in (("rls", "ROW LEVEL SECURITY"), ("forced", "FORCE ROW LEVEL SECURITY")):
        if goal[what] != now[what]:
            prefix = ("" if goal[what] else "NO ") if what == "forced" else ("ENABLE " if goal[what] else "DISABLE ")
            result.add("attribute", alter + prefix + words)
    if goal["replica"] != now["replica"] and goal["replica"]:
        result.add("attribute", "%sREPLICA IDENTITY %s" % (alter, goal["replica"]))
    if goal["clustered"] != now["clustered"]:
        result.add("attribute", alter + ("CLUSTER ON %s" % goal["clustered"] if goal["clustered"] else "SET WITHOUT CLUSTER"))
    if goal["is_partition"] or now["is_partition"]:
        if (goal["parents"], goal["bound"]) != (now["parents"], now["bound"]):
            if now["is_partition"]:
                result.add("detach", "ALTER TABLE %s DETACH PARTITION %s" % (now["parents"][0], name))
            if goal["is_partition"]:
                result.add("attach", "ALTER TABLE %s ATTACH PARTITION %s %s" % (goal["parents"][0], name, goal["bound"]))
                result.notes.append(fits(change, name))
        return
    for parent in now["parents"]:
        if parent not in goal["parents"]:
            result.add("detach", "%sNO INHERIT %s" % (alter, parent))
    for parent in goal["parents"]:
        if parent not in now["parents"]:
            result.add("attach", "%sINHERIT %s" % (alter, parent))


def _options(goal: t.Sequence[str], now: t.Sequence[str]) -> list[tuple[str, str | None]]:
    """What to set (name, value) and what to reset (name, None)."""
    wanted, had = (dict(option.split("=", 1) for option in options) for options in (goal, now))
    return [(name, value) for name, value in wanted.items() if had.get(name) != value] + [(name, None) for name in had if name not in wanted]


def _columns(change: Change, table: str, result: Draft) -> None:
    for column in change.now.columns_of(table):
        if column.key in change.going and not column.facts["inherited"]:
            result.add("drop column", "ALTER TABLE %s DROP COLUMN %s" % (table, column.name))
            if column.key not in change.again and not column.facts["generated"]:
                live_table, live_column = change.live_column(column)
                probe = "SELECT count(%s) FROM %s" % (live_column, live_table)
                there = change.live.key(column.key)[1]
                result.notes.append(Note(LOST, there, "the column %s goes, with its values" % there, probe, "values that are there now"))
    for column in change.goal.columns_of(table):
        if change.comes(column.key):
            if not column.facts["inherited"]:
                _add(change, table, column, result)
            continue
        now = change.now.columns[column.key]
        if column.key in change.converted and not now.facts["inherited"]:
            _convert(change, table, column, now, result)
        _alter_column(change, table, column, now, result)


def _add(change: Change, table: str, column: Column, result: Draft) -> None:
    facts = column.facts
    computed = bool(facts["generated"] or facts["identity"])
    filled = computed or facts["expression"] not in (None, "NULL")
    phase = "generated" if facts["generated"] else "column"
    result.add(phase, "ALTER TABLE %s ADD COLUMN %s %s" % (table, column.name, _definition(facts, notnull=filled)))
    if column.key not in change.again and not facts["generated"]:
        what = "numbered anew" if facts["identity"] else "each row has its default" if filled else "it is NULL in every row"
        if facts["notnull"] and not filled:
            what = "each row needs one before NOT NULL can be set"
        text = "the column %s comes back without its values, which are not in the database: %s" % (column.key[1], what)
        result.notes.append(Note(EMPTY, column.key[1], text))
    if facts["notnull"] and not filled:
        remark = "No value is known for the rows that are there. Write here how %s is filled before NOT NULL is set." % column.key[1]
        result.add("column", "ALTER TABLE %s ALTER COLUMN %s SET NOT NULL" % (table, column.name), remark=remark.replace("\n", " "))
        probe = "SELECT count(*) FROM %s" % change.live.name(("table", table))
        text = "the column %s is NOT NULL and has no default: rows that are there need a value first" % column.key[1]
        result.notes.append(Note(NEEDS, column.key[1], text, probe, "rows without a value", True))


def _convert(change: Change, table: str, column: Column, now: Column, result: Draft) -> None:
    facts, name = column.facts, column.name
    alter = "ALTER TABLE %s ALTER COLUMN %s TYPE %s%s" % (table, name, facts["type"], " COLLATE %s" % facts["collation"] if facts["collation"] else "")
    text = "%s[]" % "text" if facts["array"] else "text"
    by_text = "%s USING (%s::%s::%s)" % (alter, name, text, facts["type"])
    if facts["of_type"] in change.remade and facts["of_type"] == now.facts["of_type"]:
        result.add("convert", by_text)
    else:
        # Without USING first: it refuses what is too long, where an explicit cast cuts it off.
        ways = [(alter,), ("%s USING (%s::%s)" % (alter, name, facts["type"]),), (by_text,)]
        result.add("convert", *ways[0], otherwise=ways[1:])
    _note_conversion(change, column, now, result)


def _note_conversion(change: Change, column: Column, now: Column, result: Draft) -> None:
    live_table, live = change.live_column(now)
    own = change.goal.types.get(column.facts["of_type"] or "")
    before, after = now.facts["type"], column.facts["type"]
    if own is not None and own.kind == "enum":
        old = change.now.types.get(now.facts["of_type"] or "")
        labels = own.facts["labels"] or []
        if old is not None and set(old.facts["labels"] or ()) <= set(labels):
            return
        # As they are called there: a value may have been renamed, and another one have got its name.
        there = change.live.labels(own.name, labels) if now.facts["of_type"] == own.name else labels
        array = "ARRAY[%s]::text[]" % ", ".join(map(literal, there))
        test = "NOT %s::text[] <@ %s" if column.facts["array"] else "%s::text <> ALL (%s)"
        probe = "SELECT count(*) FROM %s WHERE %s" % (live_table, test % (live, array))
        text = "the column %s takes only the values %s again: rows with another one must be changed first" % (column.key[1], ", ".join(labels))
        result.notes.append(Note(NEEDS, column.key[1], text, probe, "rows with another value", True))
    elif before != after and after not in ("text", "character varying"):
        probe = "SELECT count(*) FROM %s WHERE %s IS NOT NULL AND %s::%s::%s IS DISTINCT FROM %s" % (live_table, live, live, after, before, live)
        text = "the column %s goes back from %s to %s: a value may be refused, or lose what the type cannot hold%s" % (
            column.key[1], before, after, _not_undone(before, after),
        )  # fmt: skip
        strict = after.startswith("character")
        by_text = "SELECT count(*) FROM %s WHERE %s IS NOT NULL AND %s::text::%s::text IS DISTINCT FROM %s::text" % (live_table, live, live, after, live)
        result.notes.append(Note(NEEDS if strict else CONVERTED, column.key[1], text, probe, "values that do not fit", strict, by_text))
    elif before != after:
        text = "the column %s goes back from %s to %s%s" % (column.key[1], before, after, _not_undone(before, after))
        result.notes.append(Note(CONVERTED, column.key[1], text))


def _not_undone(before: str, after: str) -> str:
    """What a conversion there and back does to a value, beside what does not fit."""
    zones = {type_.endswith("with time zone") for type_ in (before, after) if type_.startswith("time")}
    if zones == {True, False}:
        return "; times are converted by the session's TimeZone, so they shift where they were not converted by that before"
    return "; what the change took away of a value (digits, fractions, a length) does not come back"


def _alter_column(change: Change, table: str, column: Column, now: Column, result: Draft) -> None:
    goal, had = column.facts, now.facts
    alter = "ALTER TABLE %s ALTER COLUMN %s " % (table, column.name)
    if had["generated"] and not goal["generated"]:
        result.add("column", alter + "DROP EXPRESSION")
    if had["identity"] and not goal["identity"]:
        result.add("drop default", alter + "DROP IDENTITY")
    if goal["notnull"] != had["notnull"]:
        result.add("column", alter + ("SET NOT NULL" if goal["notnull"] else "DROP NOT NULL"))
        if goal["notnull"]:
            live_table, live = change.live_column(now)
            probe = "SELECT count(*) FROM %s WHERE %s IS NULL" % (live_table, live)
            text = "the column %s becomes NOT NULL again: rows without a value must be filled first" % column.key[1]
            result.notes.append(Note(NEEDS, column.key[1], text, probe, "rows without a value", True))
    if goal["identity"] and not had["identity"]:
        result.add("sequence owner", alter + "ADD %s" % _identity(goal))
    elif goal["identity"] and (goal["identity"], goal["sequence"]) != (had["identity"], had["sequence"]):
        words = re.sub(r"^SEQUENCE NAME .*? START WITH", "START WITH", goal["sequence"])
        changes = re.findall(r"(?:START WITH|INCREMENT BY|MINVALUE|MAXVALUE|CACHE) -?\d+", words) + (["CYCLE"] if words.endswith(" CYCLE") else ["NO CYCLE"])
        kind = "ALWAYS" if goal["identity"] == "a" else "BY DEFAULT"
        result.add("attribute", alter + " ".join(["SET GENERATED %s" % kind] + ["SET %s" % each for each in changes]))
    if goal["storage"] != had["storage"]:
        result.add("attribute", alter + "SET STORAGE %s" % _STORAGE[goal["storage"] or goal["type_storage"]])
    if goal["compression"] != had["compression"]:
        result.add("attribute", alter + "SET COMPRESSION %s" % _COMPRESSION[goal["compression"]])
    if goal["statistics"] != had["statistics"]:
        result.add("attribute", alter + "SET STATISTICS %d" % goal["statistics"])
    for option, value in _options(goal["options"], had["options"]):
        result.add("attribute", alter + ("RESET (%s)" % option if value is None else "SET (%s=%s)" % (option, value)))


__all__ = ("must_be_made_anew", "with_default", "write")
