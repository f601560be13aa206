# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What migrations did to rows, which no draft of a schema undoes. Pure: no I/O."""

from __future__ import annotations

import itertools
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql, _sql_names
from ansible_collections.pgops.migrations.plugins.module_utils._draft_live import Live
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import DATA, LOST, Note
from ansible_collections.pgops.migrations.plugins.module_utils._effects import DYNAMIC, effect
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Column, Key, Model

Tokens = t.Sequence[_sql_names.Token]
#: A statement's verb, and what may stand between it and the table's name.
_WRITES = {"insert": ("into",), "update": ("only",), "delete": ("from", "only"), "truncate": ("table", "only"), "copy": (), "merge": ("into", "only")}
_BY_KEY = "delete by a foreign key"
_STAYS = {
    "insert": "the rows keep what it wrote",
    "copy": "the rows keep what it wrote",
    "update": "the rows keep what it wrote, and what was there before is not in the database",
    "merge": "the rows keep what it wrote, and what was there before is not in the database",
    "truncate cascade": "the rows it took away are not in the database",
    "delete": "the rows it took away are not in the database",
    "truncate": "the rows it took away are not in the database",
    _BY_KEY: "the rows that it took away or changed there, if any, are not in the database as they were",
}
#: UPDATE and DELETE after one of these are no statements.
_NOT_BEFORE = frozenset(["for", "on", "do", "or", "before", "after", "no", "key", "then"])
_TEXTS, _NUMBERS = ("text", "character varying", "character"), ("smallint", "integer", "bigint", "numeric", "real", "double precision")
_FAMILIES = {**dict.fromkeys(_TEXTS, "text"), **dict.fromkeys(_NUMBERS, "number")}
#: A TRUNCATE of more tables than fit in so many words is one of all of them.
_LONGEST = 4000


def data_notes(scripts: t.Mapping[str, str], goal: Model, schema: str) -> list[Note]:
    """A note for each table that a migration wrote to, and for each kind of code that may have written to any.

    :param scripts: name -> text of migration.sql.
    :param schema: where names without a schema are.
    """
    notes: dict[tuple[str, str, str], Note] = {}
    for migration, script in scripts.items():
        for statement in _sql.split(script):
            for verb, table, known in _writes(statement, goal, schema):
                if verb == DYNAMIC:
                    text = "%s in %s runs code: it may have changed rows, which is not known, and is not undone" % (table, migration)
                    notes.setdefault((migration, verb, table), Note(DATA, migration, text))
                    continue
                does = "DELETE by a foreign key" if verb == _BY_KEY else verb.upper()
                text = "%s of %s in %s is not undone: %s" % (does, table, migration, _STAYS[verb])
                if not known:
                    text = "%s of %s in %s: that is no table of before; what it wrote goes or stays with it" % (does, table, migration)
                notes.setdefault((migration, verb, table), Note(DATA, table, text))
    return list(notes.values())


def _writes(statement: str, goal: Model, schema: str) -> t.Iterator[tuple[str, str, bool]]:
    """(verb, table, whether the goal has it) for each table that a statement writes to; (DYNAMIC, verb, False) for code."""
    tokens = list(itertools.islice(_sql_names.tokens(statement), _LONGEST))
    verb = tokens[0][1] if tokens else ""
    words = [value if kind == "word" else "" for kind, value in tokens]
    if verb == "copy" and "from" not in words:
        return
    if verb in _WRITES:
        yield from _tables(tokens, 0, goal, schema)
    elif verb == "with":
        found = [
            each
            for at in range(1, len(tokens))
            if tokens[at][0] == "word" and words[at] in ("insert", "update", "delete", "merge") and words[at - 1] not in _NOT_BEFORE
            for each in _tables(tokens, at, goal, schema)
        ]
        yield from found or [(DYNAMIC, "WITH", False)]
        return
    elif effect(statement) == DYNAMIC:
        yield DYNAMIC, verb.upper(), False


def _tables(tokens: Tokens, at: int, goal: Model, schema: str) -> t.Iterator[tuple[str, str, bool]]:
    verb = tokens[at][1]
    at += 1
    while at < len(tokens):
        while at < len(tokens) and tokens[at] in [("word", word) for word in _WRITES[verb]]:
            at += 1
        chain: list[str] = []
        while at < len(tokens) and tokens[at][0] in ("word", "name"):
            chain.append(tokens[at][1])
            at += 1
            if tokens[at : at + 1] != [("sign", ".")]:
                break
            at += 1
        if not chain:
            return
        table = _resolved(chain, goal, schema)
        cascade = verb == "truncate" and ("word", "cascade") in tokens
        yield "truncate cascade" if cascade else verb, table or ".".join(chain), table is not None
        if cascade and table:
            for other in sorted(_referring(goal, table, "")):
                yield "truncate cascade", other, True
        if verb == "delete" and table:
            for other in sorted(_referring(goal, table, r"ON DELETE (CASCADE|SET )")):
                yield _BY_KEY, other, True
        if verb != "truncate" or ("sign", ",") not in tokens[at : at + 2]:
            return
        at = tokens.index(("sign", ","), at) + 1


def _resolved(chain: t.Sequence[str], goal: Model, schema: str) -> str | None:
    """The table of the goal that a name means; of any schema where the script may have set another one."""
    names = {_sql_names.split_name(name): name for name in goal.tables}
    full = tuple(chain[-2:]) if len(chain) > 1 else (schema, chain[0])
    if full in names:
        return names[full]
    others = [name for split, name in names.items() if len(chain) == 1 and split[-1] == chain[0]]
    return others[0] if len(others) == 1 else None


def _referring(goal: Model, table: str, how: str) -> set[str]:
    """The tables that refer to it by such keys, and those that refer to them."""
    keys = [unit for unit in goal.units.values() if unit.kind == "foreign key" and re.search(how, unit.definition)]
    found, waiting = {table}, [table]
    while waiting:
        parent = waiting.pop()
        new = {unit.table for unit in keys if unit.facts["parent"] == parent} - found
        found |= new
        waiting += new
    return found - {table}


def made_anew(goal: Model, now: Model) -> list[Note]:
    """Notes for tables and columns that were dropped and made again under their name: no comparison by name shows it.

    :param now: of the same database, with renames undone.
    """
    if goal.database != now.database:
        return []
    was, is_now = ({key: ident for ident, key in model.idents.items()} for model in (goal, now))
    anew: list[Note] = []
    for table in goal.tables:
        if table in now.tables and was["table", table] != is_now["table", table]:
            text = "the table %s was dropped and made again: it keeps the rows that are there now, and those that it had before do not come back" % table
            anew.append(Note(DATA, table, text))
    for key, column in goal.columns.items():
        if key in now.columns and was["table", column.table] == is_now["table", column.table] and was[key] != is_now[key] and not _computed(goal, now, key):
            text = "the column %s was dropped and made again: it keeps the values that are there now, and those that it had before do not come back" % key[1]
            anew.append(Note(DATA, key[1], text))
    return anew


def unknown(goal: Model, now: Model, live: Live) -> list[Note]:
    """Obstacles: what goes may be what comes back, under another name, where nobody can know.

    So it is of the columns of a table that was made again, and of everything where the two schemas are of different databases.
    """
    was, is_now = ({key: ident for ident, key in model.idents.items()} for model in (goal, now))
    notes: list[Note] = []
    for table in goal.tables:
        if table not in now.tables or (goal.database == now.database and was["table", table] == is_now["table", table]):
            continue
        comes = [column for column in goal.columns_of(table) if column.key not in now.columns and not column.facts["generated"]]
        for column in now.columns_of(table):
            if column.key in goal.columns or column.facts["generated"]:
                continue
            other = next((each for each in comes if _family(each) == _family(column)), None)
            if other is not None:
                text = "it is not known whether the column %s, which goes with its values, is what %s was, which comes back without any"
                notes.append(_may_be(live, column, text % (live.key(column.key)[1], other.key[1])))
    if goal.database != now.database:
        gone, comes_back = (sorted(set(one.tables) - set(other.tables)) for one, other in ((now, goal), (goal, now)))
        for name in gone:
            same = [other for other in comes_back if _shape(goal, other) == _shape(now, name)]
            if same:
                there = live.name(("table", name))
                text = "it is not known whether the table %s, which goes with its rows, is what %s was, which comes back empty" % (there, same[0])
                notes.append(Note(LOST, there, text, "SELECT count(*) FROM %s" % there, "rows that are there now", True))
    return notes


def _may_be(live: Live, column: Column, text: str) -> Note:
    probe = "SELECT count(%s) FROM %s" % (live.name(column.key), live.name(("table", column.table)))
    return Note(LOST, live.key(column.key)[1], text, probe, "values that are there now", True)


def _family(column: Column) -> str:
    """What kind of values a column has: a rename by hand often widens the type, too."""
    name = re.sub(r"\(.*?\)", "", column.facts["type"]).strip()
    return _FAMILIES.get(name, "time" if name.startswith(("timestamp", "date", "time ")) else name)


def _shape(model: Model, table: str) -> list[tuple[str, str]]:
    return sorted((column.name, column.facts["type"]) for column in model.columns_of(table))


def _computed(goal: Model, now: Model, key: Key) -> bool:
    """Whether the column was computed before, so that it is again."""
    return bool(goal.columns[key].facts["generated"])


def kept(goal: Model, live: Model) -> dict[Key, Key]:
    """What must outlive a draft: tables and columns of the live database -> what they were called before."""
    found = {live.idents[ident]: goal.idents[ident] for ident in goal.survives_in(live)}
    return {
        key: first
        for key, first in found.items()
        if (key in live.columns and first in goal.columns and not live.columns[key].facts["generated"] and not goal.columns[first].facts["generated"])
        or (key[0] == "table" and live.tables[key[1]]["kind"] in ("r", "p"))
    }


def not_kept(wanted: t.Mapping[Key, Key], start: Model, end: Model) -> list[Note]:
    """Obstacles: what a draft dropped or misplaced of all that must outlive it, by who is who before and after it was run.

    :param start: the schema that the draft was run on, with the names of the live database.
    :param end: the same database after it.
    """
    numbers = {key: ident for ident, key in start.idents.items()}
    notes: list[Note] = []
    lost: set[str] = set()
    for key, first in sorted(wanted.items(), key=lambda pair: pair[0][0], reverse=True):
        if end.idents.get(numbers.get(key, ("", 0, 0))) == first:
            continue
        if key[0] == "table":
            lost.add(key[1])
            probe, counted = "SELECT count(*) FROM %s" % key[1], "rows that are there now"
        else:
            column = start.columns.get(key)
            if column is None or column.table in lost:
                continue
            probe, counted = "SELECT count(%s) FROM %s" % (column.name, column.table), "values that are there now"
        text = "the draft does not keep what the %s %s holds, and it is what was in %s before" % (key[0], key[1], first[1])
        notes.append(Note(LOST, key[1], text, probe, counted, True))
    return notes


__all__ = ("data_notes", "kept", "made_anew", "not_kept", "unknown")
