# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What is known of an unfinished migration, as plain data. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._effects import Step
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import sqlstate_in
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN, UNRECORDED

Objects = t.Mapping[str, str]
Changes = t.Mapping[str, t.Optional[str]]
#: SQLSTATEs that do not say that a statement was refused: the connection broke, the server went down.
_NO_REFUSAL = ("08", "57P", "58", "XX")


@dataclasses.dataclass(frozen=True)
class Replay:
    """The script in a scratch database.

    ``before``: the schema's objects before it. ``changes``: after each step that could be carried
    out, key -> definition (None: gone) of what is no longer as before. ``error``: SQLSTATE and
    message of the step that came after those, when one failed.
    """

    steps: tuple[Step, ...]
    before: Objects
    changes: tuple[Changes, ...]
    error: tuple[str, str] | None = None

    def state(self, point: int, key: str) -> str | None:
        """The definition of an object after so many steps; None where it does not exist."""
        done: Changes = self.changes[point - 1] if point else {}
        return done[key] if key in done else self.before.get(key)


@dataclasses.dataclass(frozen=True)
class Attempt:
    """What is known of the run that did not end, besides the schema.

    ``logs``: what the client recorded. ``earlier``: there are other rows of this name, of earlier runs.
    ``invalid``: invalid indexes of the live database, quoted as the server does. ``others``: name -> script
    (None: not in the folder) of other unfinished migrations. ``assertion``: what the operator's query about
    the data part said: it is done, or it is not. ``dates``: which of its objects are older than the migration, or not
    (see _recovery_dates). ``lasting``: functions that it can reach and whose work no rollback undoes.
    ``wrote``: the data steps whose tables have rows of the transaction that made its objects. ``touched``: tables of its
    INSERTs and UPDATEs with rows written since it began.
    """

    logs: str | None = None
    earlier: bool = False
    invalid: frozenset[str] = frozenset()
    others: t.Mapping[str, str | None] = dataclasses.field(default_factory=dict)
    assertion: bool | None = None
    dates: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    lasting: tuple[str, ...] = ()
    wrote: frozenset[int] = frozenset()
    touched: tuple[str, ...] = ()

    @property
    def refused(self) -> str | None:
        """The SQLSTATE with which the server refused a statement, where the client lived to record it."""
        sqlstate = sqlstate_in(self.logs) if self.logs else None
        return None if sqlstate is None or sqlstate.startswith(_NO_REFUSAL) else sqlstate


@dataclasses.dataclass(frozen=True)
class Finding:
    """What the schema tells. ``points``: after how many of the ``steps`` it can have stopped; empty: at none of them.

    ``there``, ``missing``, ``other``: the migration's effects, by object. ``drift``: what else differs from the replayed
    history. ``clean`` and ``complete``: the points that are as good as the start, and as the end. ``undated``: what it
    makes and is there, and may have been there before. ``unwitnessed``: the steps before all points that show neither in the
    schema nor in a row, of a run whose end nobody saw; what stands after them may be somebody's work, and they may not have run.
    """

    state: str
    reason: str
    steps: int = 0
    points: tuple[int, ...] = ()
    there: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    other: tuple[str, ...] = ()
    drift: tuple[str, ...] = ()
    remnants: tuple[str, ...] = ()
    clean: int = 0
    complete: int = 0
    undated: tuple[str, ...] = ()
    unwitnessed: tuple[int, ...] = ()

    def allows(self, state: str) -> bool:
        """Whether the state is one of those that the points leave open."""
        if state == CLEAN:
            return any(point <= self.clean for point in self.points) and not self.remnants
        if state == UNRECORDED:
            return any(point >= self.complete for point in self.points) and not self.remnants
        return bool(self.remnants) or any(self.clean < point < self.complete for point in self.points)


__all__ = ("Attempt", "Changes", "Finding", "Objects", "Replay")
