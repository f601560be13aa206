# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the text of undone migrations says that the catalogue does not: renames, and statements on data. Pure: no I/O.

In the catalogue a rename looks like a drop and an addition, and a draft from it would lose
the rows. Renames are followed from statement to statement, and undone where the first name
is one of before and the last one of now.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql, _sql_names
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import DATA, Note, literal, quoted
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Key, Model

_RELATIONS = {"table": "TABLE", "view": "VIEW", "sequence": "SEQUENCE", "index": "INDEX"}
#: Something of a schema: (schema, name); something of a relation or a type: its schema and name, and the part's.
Name = t.Tuple[str, ...]
Tokens = t.List[_sql_names.Token]


@dataclasses.dataclass
class Renames:
    """Last name -> first name: of relations, types, functions and schemas by kind, and of their parts."""

    whole: dict[str, dict[Name, Name]] = dataclasses.field(default_factory=lambda: {kind: {} for kind in ("relation", "type", "function", "schema")})
    parts: dict[str, dict[Name, Name]] = dataclasses.field(
        default_factory=lambda: {kind: {} for kind in ("column", "constraint", "trigger", "policy", "rule", "value", "attribute")}
    )
    #: Tables that were dropped on the way, which another one of that name may follow.
    dropped: set[Name] = dataclasses.field(default_factory=set)

    def whole_renamed(self, kind: str, old: Name, new: Name) -> None:
        names = self.whole[kind]
        names[new] = names.pop(old, old)
        for parts in self.parts.values():
            for part in [part for part in parts if part[: len(old)] == old]:
                parts[new + part[len(old) :]] = parts.pop(part)

    def part_renamed(self, kind: str, of: Name, old: str, new: str) -> None:
        names = self.parts[kind]
        first = names.pop(of + (old,), None)
        names[of + (new,)] = first or self.whole["type" if kind in ("value", "attribute") else "relation"].get(of, of) + (old,)


def read_renames(scripts: t.Sequence[str], schema: str) -> Renames:
    """The renames that these scripts do, one after the other.

    :param schema: where names without a schema are.
    """
    found = Renames()
    for script in scripts:
        for statement in _sql.split(script):
            _read_rename(list(_sql_names.tokens(statement)), schema, found)
    return found


def _read_rename(tokens: Tokens, schema: str, found: Renames) -> None:
    words = [value for _kind, value in tokens]
    if words[:2] == ["drop", "table"]:
        for name in _names(tokens, 2, schema):
            found.dropped.add(name)
            found.whole["relation"].pop(name, None)
    if words[:1] != ["alter"] or not {"rename", "schema"} & set(words):
        return
    materialized = words[1:2] == ["materialized"]
    kind = words[1 + materialized] if len(words) > 2 else ""
    start = 2 + materialized
    if kind in ("trigger", "policy", "rule"):
        # ALTER TRIGGER name ON table RENAME TO other
        if words[start + 1 : start + 2] == ["on"] and words[-3:-1] == ["rename", "to"]:
            found.part_renamed(kind, _name(tokens, start + 2, schema)[0], words[start], words[-1])
        return
    while words[start : start + 1] and words[start] in ("if", "exists", "only"):
        start += 1
    name, at = _name(tokens, start, schema) if kind != "schema" else (tuple(words[start : start + 1]), start + 1)
    if not name:
        return
    if kind in ("function", "procedure", "routine"):
        if words[-3:-1] == ["rename", "to"]:
            found.whole_renamed("function", name, (name[0], words[-1]))
        return
    group = {"schema": "schema", "type": "type", "domain": "type"}.get(kind, "relation")
    if words[at : at + 2] == ["set", "schema"]:
        found.whole_renamed(group, name, (words[at + 2], name[1]))
    elif words[at : at + 2] == ["rename", "to"]:
        found.whole_renamed(group, name, (words[at + 2],) if group == "schema" else (name[0], words[at + 2]))
    elif words[at : at + 1] == ["rename"]:
        named = tokens[at + 1] in [("word", word) for word in ("column", "constraint", "value", "attribute")] and tokens[at + 2 : at + 3] != [("word", "to")]
        part = words[at + 1] if named else "column"
        rest = words[at + 2 :] if named else words[at + 1 :]
        if len(rest) >= 3 and rest[1] == "to" and part in found.parts:
            found.part_renamed(part, name, rest[0], rest[2])


def _name(tokens: Tokens, at: int, schema: str) -> tuple[Name, int]:
    """The qualified name that begins there, and where it ends."""
    parts: list[str] = []
    while at < len(tokens) and tokens[at][0] in ("word", "name"):
        parts.append(tokens[at][1])
        at += 1
        if tokens[at : at + 1] != [("sign", ".")]:
            break
        at += 1
    if not parts:
        return (), at
    return (parts[-2] if len(parts) > 1 else schema, parts[-1]), at


def _names(tokens: Tokens, at: int, schema: str) -> list[Name]:
    names: list[Name] = []
    while at < len(tokens):
        if tokens[at] in (("word", "if"), ("word", "exists"), ("sign", ","), ("sign", "*"), ("word", "cascade"), ("word", "restrict")):
            at += 1
            continue
        name, end = _name(tokens, at, schema)
        if not name:
            break
        names.append(name)
        at = end
    return names


class Undo:
    """Statements that give things their first names back, and how things are called in the live database."""

    def __init__(self, renames: Renames, goal: Model, now: Model) -> None:
        self.statements: list[str] = []
        self._live: dict[Key, str] = {}
        self._parts(renames, goal, now)
        self._wholes(renames, goal, now)

    def live(self, key: Key) -> str:
        """The name, quoted, that a table (qualified) or a column (alone) has in the live database."""
        return self._live.get(key) or (key[1].rpartition(".")[2] if key[0] == "column" else key[1])

    def _parts(self, renames: Renames, goal: Model, now: Model) -> None:
        have, want = _index(now), _index(goal)
        for kind, names in renames.parts.items():
            chosen = [
                (last, first)
                for last, first in names.items()
                if last[-1] != first[-1]
                and _key(kind, last) in have
                and _key(kind, first) in want
                and (last[:-1] + first[-1:] in names or _key(kind, last[:-1] + first[-1:]) not in have)
                and (first[:-1] + last[-1:] in names.values() or _key(kind, first[:-1] + last[-1:]) not in want)
            ]
            # Those that exchanged their names step aside first.
            aside = {last: "__reverse_%d" % number for number, (last, first) in enumerate(chosen) if _key(kind, last[:-1] + first[-1:]) in have}
            self.statements += [_rename_part(kind, last, name) for last, name in aside.items()]
            for last, first in chosen:
                self.statements.append(_rename_part(kind, last[:-1] + (aside.get(last, last[-1]),), first[-1]))
                if kind == "column":
                    # Looked up once the relation has its first name, too.
                    self._live["column", want[_key(kind, first)]] = quoted(last[-1])

    def _wholes(self, renames: Renames, goal: Model, now: Model) -> None:
        have, want = _index(now), _index(goal)
        for group, names in renames.whole.items():
            chosen: dict[Name, tuple[Name, str, bool]] = {}
            for last, first in names.items():
                kind = _kind_of(group, last, have)
                if last == first or kind is None or _key(kind, last) not in have or _key(kind, first) not in want:
                    continue
                taken_now, taken_then = _key(kind, first) in have, _key(kind, last) in want
                if (taken_now and first not in names) or (taken_then and last not in names.values()):
                    continue
                chosen[last] = (first, kind, taken_now)
            # Two that exchanged their names step aside first.
            waiting = {last: last[:-1] + ("__reverse_%d" % number,) for number, (last, (_first, _kind, taken)) in enumerate(chosen.items()) if taken}
            for last, name in waiting.items():
                self.statements += _rename_whole(chosen[last][1], last, name, have)
            for last, (first, kind, _taken) in chosen.items():
                self.statements += _rename_whole(kind, waiting.get(last, last), first, have, last)
                if kind == "table":
                    self._live["table", want[_key(kind, first)]] = have[_key(kind, last)]


def _key(kind: str, name: Name) -> tuple[str, ...]:
    return (kind,) + name


def _index(model: Model) -> dict[tuple[str, ...], str]:
    """Kind and bare names -> the name as the server quotes it."""
    split = _sql_names.split_name
    found: dict[tuple[str, ...], str] = {("table",) + split(name): name for name in model.tables}
    found.update({("column",) + split(column.table) + split(column.name): column.key[1] for column in model.columns.values()})
    for name, kind in model.types.items():
        found[("type",) + split(name)] = name
        found.update({("value",) + split(name) + (label,): name for label in kind.facts["labels"] or ()})
        found.update({("attribute",) + split(name) + split(each[0]): name for each in kind.facts["attributes"] or ()})
    for unit in model.units.values():
        if unit.kind in ("view", "sequence"):
            found[(unit.kind,) + split(unit.name)] = unit.name
        elif unit.kind == "index":
            found[("index",) + split(unit.name[: -len(" on " + unit.table)])] = unit.name
        elif unit.kind in ("key", "check", "exclusion", "foreign key"):
            found[("constraint",) + split(unit.table) + split(unit.facts["name"])] = unit.name
            if unit.kind in ("key", "exclusion"):
                # Renaming the index of a constraint renames the constraint.
                found[("index",) + split(unit.table)[:1] + split(unit.facts["name"])] = unit.name
        elif unit.kind in ("trigger", "policy", "rule"):
            found[(unit.kind,) + split(unit.table) + split(unit.name[: -len(" on " + unit.table)])] = unit.name
        elif unit.kind == "function":
            found[("function",) + split(unit.name[: unit.name.index("(")])] = unit.drop.split(" ", 2)[2]
        elif unit.kind == "schema":
            found[("schema",) + split(unit.name)] = unit.name
    return found


def _kind_of(group: str, name: Name, have: t.Mapping[tuple[str, ...], str]) -> str | None:
    if group != "relation":
        return group
    return next((kind for kind in _RELATIONS if _key(kind, name) in have), None)


def _rename_part(kind: str, last: Name, first: str) -> str:
    of = ".".join(map(quoted, last[:-1]))
    if kind in ("trigger", "policy", "rule"):
        return "ALTER %s %s ON %s RENAME TO %s" % (kind.upper(), quoted(last[-1]), of, quoted(first))
    if kind == "value":
        return "ALTER TYPE %s RENAME VALUE %s TO %s" % (of, literal(last[-1]), literal(first))
    word = "TYPE" if kind == "attribute" else "TABLE"
    return "ALTER %s %s RENAME %s %s TO %s" % (word, of, kind.upper(), quoted(last[-1]), quoted(first))


def _rename_whole(kind: str, old: Name, new: Name, have: t.Mapping[tuple[str, ...], str], last: Name | None = None) -> list[str]:
    if kind == "schema":
        return ["ALTER SCHEMA %s RENAME TO %s" % (quoted(old[0]), quoted(new[0]))]
    word = "ROUTINE" if kind == "function" else "TYPE" if kind == "type" else _RELATIONS[kind]
    arguments = ""
    if kind == "function":
        full = have[("function",) + (last or old)]
        arguments = full[full.index("(") :]
    if kind == "view":
        # ALTER TABLE takes views of both sorts.
        word = "TABLE"
    statements, name = [], old
    if name[-1] != new[-1]:
        statements.append("ALTER %s %s%s RENAME TO %s" % (word, ".".join(map(quoted, name)), arguments, quoted(new[-1])))
        name = name[:-1] + new[-1:]
    if name[0] != new[0]:
        statements.append("ALTER %s %s%s SET SCHEMA %s" % (word, ".".join(map(quoted, name)), arguments, quoted(new[0])))
    return statements


_WRITES = {"insert": ("into",), "update": ("only",), "delete": ("from", "only"), "truncate": ("table", "only"), "copy": (), "merge": ("into", "only")}


def data_notes(scripts: t.Mapping[str, str], goal: Model, schema: str) -> list[Note]:
    """What the migrations do to rows of tables that stay, which no reverse migration undoes.

    :param scripts: name -> text of migration.sql.
    """
    tables = {_sql_names.split_name(name): name for name in goal.tables}
    notes: dict[tuple[str, str], Note] = {}
    for migration, script in scripts.items():
        for statement in _sql.split(script):
            tokens = list(_sql_names.tokens(statement))
            verb = tokens[0][1] if tokens else ""
            if verb in _WRITES:
                at = 1
                while tokens[at : at + 1] and tokens[at] in [("word", word) for word in _WRITES[verb]]:
                    at += 1
                name = _name(tokens, at, schema)[0]
                if name in tables:
                    text = "%s of %s in %s is not undone: rows keep what it wrote, and what it took away is not in the database"
                    notes[migration, verb + tables[name]] = Note(DATA, tables[name], text % (verb.upper(), tables[name], migration))
            elif verb in ("do", "call", "with", "execute", "select"):
                text = "%s in %s may have changed rows, which is not undone" % (verb.upper(), migration)
                notes[migration, verb] = Note(DATA, migration, text)
    return list(notes.values())


def made_anew(renames: Renames, goal: Model, now: Model) -> list[Note]:
    """Tables that were dropped and made again under the same name: their rows of before are gone, and no schema shows it."""
    both = {_sql_names.split_name(name): name for name in goal.tables if name in now.tables}
    text = "the table %s was dropped and made again: the rows that it had before do not come back"
    return [Note(DATA, both[name], text % both[name]) for name in sorted(renames.dropped) if name in both and name not in renames.whole["relation"]]


__all__ = ("Renames", "Undo", "data_notes", "made_anew", "read_renames")
