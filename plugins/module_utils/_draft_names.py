# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Statements that give things the names back that they had, whatever renamed them. Pure: no I/O.

In a comparison by name a rename looks like a drop and an addition, and a draft from it would lose
the rows. So renames are undone first, and what has taken a name since then steps aside.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import literal, quoted
from ansible_collections.pgops.migrations.plugins.module_utils._schema_identity import Ident, Thing, Things, schema_of

#: In this order: the arguments of functions name relations, types and schemas as they are called now.
_KINDS = ("column", "constraint", "trigger", "policy", "rule", "value", "attribute", "function", "index", "sequence", "view", "table", "type", "schema")
_WORDS = {"function": "ROUTINE", "index": "INDEX", "sequence": "SEQUENCE", "view": "TABLE", "table": "TABLE", "type": "TYPE"}
_ASIDE = "__reverse_%d"
#: What no two things can share: a sort of name, what it is looked up in, and the name.
Slot = t.Tuple[str, t.Optional[Ident], str]


def undo_renames(before: Things, now: Things) -> list[str]:
    """Statements, to be run in this order, after which all that was there before has the names of then.

    :param before: the things of the same database before; what has not survived since then does not count.
    """
    return _Undo(before, now).statements


class _Undo:
    def __init__(self, before: Things, now: Things) -> None:
        self.before, self.things = before, dict(now)
        self.statements: list[str] = []
        self._asides = 0
        self._slots = self._all_slots()
        waiting = [ident for ident in before if ident in now and now[ident].kind == before[ident].kind and not now[ident].inherited]
        waiting = sorted((ident for ident in waiting if self._differs(ident)), key=lambda ident: _KINDS.index(now[ident].kind))
        for ident in waiting:
            self._make_schema(before[ident])
        most = 4 * len(waiting) + 100
        while waiting and self._asides < most:
            left = [ident for ident in waiting if not self._move(ident)]
            if len(left) == len(waiting):
                # All of them are in each other's way, or in that of something that stays or is new; the last comes first.
                others = [other for ident in left for other in self._in_the_way(ident)]
                other = min(others, key=lambda ident: (ident in before, ident not in left))
                self._step_aside(other)
                left += [other] if other in before and other not in left else []
            waiting = left

    def _differs(self, ident: Ident) -> bool:
        old, thing = self.before[ident], self.things[ident]
        moved = _free(thing) and thing.inside != self._place(old)
        return old.name != thing.name or moved

    def _place(self, old: Thing) -> Ident | None:
        """The schema of now that a thing of before belongs into: its own, or one that was made anew under the name of its own."""
        if old.inside is None or old.inside in self.things:
            return old.inside
        name = self.before[old.inside].name if old.inside in self.before else ""
        return next((ident for ident, thing in self.things.items() if thing.kind == "schema" and thing.name == name), None)

    def _make_schema(self, old: Thing) -> None:
        """Make the schema that it comes back to, where that is gone."""
        if old.kind in _WORDS and old.inside and old.inside[0] == "pg_namespace" and self._place(old) is None and old.inside in self.before:
            schema = self.before[old.inside]
            self.statements.append("CREATE SCHEMA %s" % quoted(schema.name))
            self.things[old.inside] = schema
            self._slots = self._all_slots()

    def _move(self, ident: Ident) -> bool:
        """Give one thing its name and its schema; False while something is in the way."""
        if self._in_the_way(ident):
            return False
        old, thing = self.before[ident], self.things[ident]
        place = self._place(old) if _free(thing) else thing.inside
        there, renamed = dataclasses.replace(thing, inside=place), dataclasses.replace(thing, name=old.name)
        if thing.inside == place:
            self._rename(ident, old.name)
        elif thing.name == old.name or not self._taken(ident, there):
            self._set_schema(ident, place)
            self._rename(ident, old.name)
        elif self._taken(ident, renamed):
            self._step_aside(ident)
            self._set_schema(ident, place)
            self._rename(ident, old.name)
        else:
            self._rename(ident, old.name)
            self._set_schema(ident, place)
        return True

    def _in_the_way(self, ident: Ident) -> list[Ident]:
        old, thing = self.before[ident], self.things[ident]
        place = self._place(old) if _free(thing) else thing.inside
        found = self._taken(ident, dataclasses.replace(thing, name=old.name, inside=place))
        if place != thing.inside:
            along = self._along(ident)
            for part in (self.things[other] for other in along):
                slots = [("relation", place, part.name) for slot in self._slots_of(part) if slot[0] == "relation"]
                found += [self._slots[slot] for slot in slots if slot in self._slots and self._slots[slot] not in along | {ident}]
        return found

    def _taken(self, ident: Ident, wanted: Thing) -> list[Ident]:
        found = (self._slots.get(slot) for slot in self._slots_of(wanted))
        return [other for other in found if other is not None and other != ident]

    def _step_aside(self, ident: Ident) -> None:
        while True:
            name = _ASIDE % self._asides
            self._asides += 1
            if not self._taken(ident, dataclasses.replace(self.things[ident], name=name)):
                break
        self._rename(ident, name)

    def _rename(self, ident: Ident, name: str) -> None:
        thing = self.things[ident]
        if thing.name == name:
            return
        self.statements.append(self._statement(thing, name))
        for slot in self._slots_of(thing):
            self._slots.pop(slot, None)
        self.things[ident] = dataclasses.replace(thing, name=name)
        self._slots.update(dict.fromkeys(self._slots_of(self.things[ident]), ident))

    def _set_schema(self, ident: Ident, place: Ident | None) -> None:
        if place is None:
            return
        thing = self.things[ident]
        self.statements.append("ALTER %s %s%s SET SCHEMA %s" % (_WORDS[thing.kind], self._name(thing), _arguments(thing), quoted(self.things[place].name)))
        # Its indexes and sequences go with it.
        moved = [ident, *self._along(ident)]
        for other in moved:
            for slot in self._slots_of(self.things[other]):
                self._slots.pop(slot, None)
        self.things[ident] = dataclasses.replace(thing, inside=place)
        self._slots.update({slot: other for other in moved for slot in self._slots_of(self.things[other])})

    def _along(self, ident: Ident) -> set[Ident]:
        return {other for other, part in self.things.items() if part.inside == ident}

    def _statement(self, thing: Thing, name: str) -> str:
        if thing.kind == "schema":
            return "ALTER SCHEMA %s RENAME TO %s" % (quoted(thing.name), quoted(name))
        if thing.kind in _WORDS:
            return "ALTER %s %s%s RENAME TO %s" % (_WORDS[thing.kind], self._name(thing), _arguments(thing), quoted(name))
        of = self._name(self.things[t.cast(Ident, thing.inside)])
        if thing.kind in ("trigger", "policy", "rule"):
            return "ALTER %s %s ON %s RENAME TO %s" % (thing.kind.upper(), quoted(thing.name), of, quoted(name))
        if thing.kind == "value":
            return "ALTER TYPE %s RENAME VALUE %s TO %s" % (of, literal(thing.name), literal(name))
        word = "TYPE" if thing.kind == "attribute" else "TABLE"
        return "ALTER %s %s RENAME %s %s TO %s" % (word, of, thing.kind.upper(), quoted(thing.name), quoted(name))

    def _name(self, thing: Thing) -> str:
        schema = schema_of(self.things, thing.inside) if thing.inside else None
        return "%s.%s" % (quoted(self.things[schema].name), quoted(thing.name)) if schema in self.things else quoted(thing.name)

    def _all_slots(self) -> dict[Slot, Ident]:
        return {slot: ident for ident, thing in self.things.items() for slot in self._slots_of(thing)}

    def _slots_of(self, thing: Thing) -> list[Slot]:
        kind, name = thing.kind, thing.name
        schema = schema_of(self.things, thing.inside) if thing.inside else None
        relation: list[Slot] = [("relation", schema, name)]
        own: list[Slot] = [(kind, thing.inside, name)]
        if kind in ("table", "view"):
            # A relation has a type of its name.
            return [*relation, ("type", schema, name)]
        if kind in ("index", "sequence"):
            return relation
        if kind == "type":
            return own + (relation if thing.extra == "c" else [])
        if kind == "constraint":
            # Its index has its name.
            return own + (relation if thing.extra in ("p", "u", "x") else [])
        return [("function", schema, name + _arguments(thing))] if kind == "function" else own


def _free(thing: Thing) -> bool:
    """Whether it has a schema of its own, and does not go along with a relation."""
    return thing.kind in _WORDS and thing.inside is not None and thing.inside[0] == "pg_namespace"


def _arguments(thing: Thing) -> str:
    return "(%s)" % thing.extra if thing.kind == "function" else ""


__all__ = ("undo_renames",)
