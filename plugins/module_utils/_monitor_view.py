# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""One look at the server during a deploy, as plain data. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import typing as t

#: A table's lock modes that statements of an application wait for; the stronger ones are other DDL and maintenance.
APPLICATION_MODES = frozenset(["AccessShareLock", "RowShareLock", "RowExclusiveLock"])


@dataclasses.dataclass(frozen=True)
class Migrator:
    """A session that deploys. ``named``: by its application_name, and not only by Prisma's lock."""

    pid: int
    named: bool = True
    query_start: float | None = None
    xact_start: float | None = None
    state: str | None = "active"
    query: str | None = None


@dataclasses.dataclass(frozen=True)
class Session:
    """Another session that waits, or that is waited for. ``migrates``: it holds or wants Prisma's lock."""

    pid: int
    application: str = ""
    user: str = ""
    backend_type: str | None = "client backend"
    state: str | None = "active"
    query_start: float | None = None
    backend_start: float | None = None
    migrates: bool = False

    @property
    def is_client(self) -> bool:
        return self.backend_type in (None, "client backend")


@dataclasses.dataclass(frozen=True)
class Wait:
    """A session that waits for a lock since C(start), on the server's clock (None: for less than a moment)."""

    pid: int
    kind: str
    mode: str
    relation: str | None
    start: float | None
    blockers: tuple[int, ...] | None = ()

    @property
    def of_application(self) -> bool:
        """Whether a statement that reads or writes rows waits here."""
        return self.mode in APPLICATION_MODES if self.kind == "relation" else self.kind in ("transactionid", "tuple", "object")


@dataclasses.dataclass(frozen=True)
class Progress:
    pid: int
    command: str
    relation: str | None
    phase: str
    done: int | None
    whole: int | None
    table: int = 0
    index: int = 0

    @property
    def percent(self) -> float | None:
        return round(min(100.0, 100.0 * (self.done or 0) / self.whole), 1) if self.whole else None


@dataclasses.dataclass(frozen=True)
class View:
    """All that one sample saw. ``now`` and all moments: seconds of the server's clock."""

    now: float
    counts: t.Mapping[str, float | None] = dataclasses.field(default_factory=dict)
    migrators: tuple[Migrator, ...] = ()
    waits: tuple[Wait, ...] = ()
    sessions: t.Mapping[int, Session] = dataclasses.field(default_factory=dict)
    held: tuple[tuple[int, str, str], ...] = ()
    progress: tuple[Progress, ...] = ()

    @property
    def pids(self) -> frozenset[int]:
        return frozenset(migrator.pid for migrator in self.migrators)

    def age(self, wait: Wait) -> float:
        return max(0.0, self.now - wait.start) if wait.start is not None else 0.0

    def migrator_waits(self) -> list[Wait]:
        """The migrator's own waits for sessions that are not its own."""
        return [wait for wait in self.waits if wait.pid in self.pids and set(wait.blockers or ()) - self.pids]

    def blocked(self) -> list[Wait]:
        """The waits of other client sessions that end only when the migrator gives way: it is ahead of them, directly or not."""
        behind = set(self.pids)
        more = True
        while more:
            found = {wait.pid for wait in self.waits if wait.pid not in behind and not behind.isdisjoint(wait.blockers or ())}
            behind |= found
            more = bool(found)
        known = [wait for wait in self.waits if wait.pid in behind and wait.pid not in self.pids]
        # Not all of a long queue are asked whom they wait for; who stands at the same table stands in the same queue.
        tables = {wait.relation for wait in known if wait.relation}
        known += [wait for wait in self.waits if wait.blockers is None and wait.relation in tables]
        return [wait for wait in known if wait.pid not in self.sessions or self.sessions[wait.pid].is_client]


def view_of(found: t.Mapping[str, t.Any]) -> View:
    """The answer of the one statement as a View. What the role may not see is None."""
    hidden = bool(found["hidden"])
    counts = {
        "active": None if hidden else found["active"],
        "idle_in_transaction": None if hidden else found["idle_in_transaction"],
        "waiting": found["waiting"],
        "oldest_transaction": None if hidden else found["oldest_transaction"],
        "wal": found["wal"],
        "temp": found["temp"],
        "lag": found["lag"],
    }
    return View(
        now=float(found["now"]),
        counts=counts,
        migrators=tuple(Migrator(*entry) for entry in found["migrators"] or ()),
        waits=tuple(_wait(*entry) for entry in found["waits"] or ()),
        sessions={entry[0]: Session(entry[0], entry[1] or "", entry[2] or "", *entry[3:]) for entry in found["sessions"] or ()},
        held=tuple((entry[0], entry[1], entry[2]) for entry in found["held"] or ()),
        progress=tuple(Progress(*entry) for entry in found["progress"] or ()),
    )


def _wait(pid: int, kind: str, mode: str, relation: str | None, start: float | None, blockers: list[int] | None) -> Wait:
    return Wait(pid, kind, mode, relation, start, None if blockers is None else tuple(blockers))


__all__ = ("APPLICATION_MODES", "Migrator", "Progress", "Session", "View", "Wait", "view_of")
