# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a draft is made of: steps, and notes about what they cannot do. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_live import Live
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Column, Key, Model, Unit

#: The order in which steps are tried; what fails is tried again after the others.
ORDER = (
    "drop trigger", "drop policy", "drop rule", "drop view", "drop foreign key", "drop check", "drop exclusion", "drop statistics", "drop index", "drop key",
    "drop default", "drop sequence owner", "drop other", "detach", "drop column", "drop table", "drop function", "drop sequence",
    "schema", "extension", "type", "sequence", "function", "table", "column", "convert", "generated", "sequence owner", "default",
    "key", "exclusion", "check", "index", "attach", "foreign key", "statistics", "view", "rule", "trigger", "policy", "attribute", "rights", "comment",
    "drop type", "drop extension", "drop schema", "drop comment",
)  # fmt: skip
_RANK = {phase: rank for rank, phase in enumerate(ORDER)}

# Kinds of notes: the first two are losses, the third is work, the others explain.
EMPTY, LOST, NEEDS, DATA, CONVERTED, NOT_DRAFTED = "comes_back_empty", "is_lost", "needs_data", "data_not_undone", "converted", "not_drafted"


@dataclasses.dataclass(frozen=True)
class Step:
    """Statements that go together. ``otherwise``: other ways, tried in turn when these fail.

    ``dropping``: it does not matter when the object is gone already. ``remark`` is written above it.
    """

    phase: str
    statements: tuple[str, ...]
    otherwise: tuple[tuple[str, ...], ...] = ()
    remark: str = ""

    @property
    def dropping(self) -> bool:
        return self.phase.startswith("drop ")

    @property
    def first(self) -> bool:
        """Whether it belongs before everything that is made."""
        return self.rank <= _RANK["drop sequence"]

    @property
    def rank(self) -> int:
        return _RANK[self.phase]


@dataclasses.dataclass(frozen=True)
class Note:
    """One sentence about an object. ``probe`` is a query that gives one number on the live database.

    ``by_text``: the same by way of text, where the server has no cast for the first.
    ``counted`` says what the number is; ``blocks``: the migration fails there unless it is 0.
    """

    kind: str
    object: str
    text: str
    probe: str = ""
    counted: str = ""
    blocks: bool = False
    by_text: str = ""


@dataclasses.dataclass
class Draft:
    """Statements that turn one schema into another, and what they do to data."""

    steps: list[Step] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)

    def add(self, phase: str, *statements: str, otherwise: t.Sequence[t.Sequence[str]] = (), remark: str = "") -> None:
        self.steps.append(Step(phase, tuple(statements), tuple(tuple(way) for way in otherwise), remark))


@dataclasses.dataclass
class Change:
    """What has to happen: the two schemas, and the objects that go, come or are converted.

    ``live``: what tables and columns are called in the live database, where a rename was undone before.
    """

    goal: Model
    now: Model
    live: Live
    #: Keys of what is dropped, whether it comes back or not.
    going: set[Key] = dataclasses.field(default_factory=set)
    #: Of these, what the goal has, too: it comes back because something under it changes.
    again: set[Key] = dataclasses.field(default_factory=set)
    #: Columns whose type changes in place.
    converted: set[Key] = dataclasses.field(default_factory=set)
    #: Types that are made anew under their own name.
    remade: set[str] = dataclasses.field(default_factory=set)

    #: Columns of the goal whose values are not those of now: they come back or are converted.
    touched: list[Column] = dataclasses.field(default_factory=list)

    @property
    def gone_tables(self) -> set[str]:
        return {name for name in self.now.tables if name not in self.goal.tables}

    @property
    def new_tables(self) -> set[str]:
        return {name for name in self.goal.tables if name not in self.now.tables}

    def comes(self, key: Key) -> bool:
        """Whether the goal has it and it is not there once everything that goes is gone."""
        return key in self.again or (key in self.goal.names() and key not in self.now.names())

    def live_column(self, column: Column) -> tuple[str, str]:
        """Table and column as the live database calls them."""
        return self.live.name(("table", column.table)), self.live.name(column.key)


def quoted(name: str) -> str:
    """An identifier in quotes."""
    return '"%s"' % name.replace('"', '""')


def literal(text: str) -> str:
    """A string as a literal; safe under both settings of standard_conforming_strings."""
    escaped = text.replace("'", "''")
    return "E'%s'" % escaped.replace("\\", "\\\\") if "\\" in escaped else "'%s'" % escaped


def inlined(unit: Unit) -> bool:
    """Whether a constraint is written into CREATE TABLE."""
    return unit.kind in ("key", "exclusion", "check") and bool(unit.facts["valid"]) and not unit.definition.endswith("NOT ENFORCED")


__all__ = ("CONVERTED", "DATA", "EMPTY", "LOST", "NEEDS", "NOT_DRAFTED", "ORDER", "Change", "Draft", "Note", "Step", "inlined", "literal", "quoted")
