# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What many looks at a deploy add up to, in bounded memory however long it runs. Pure: no I/O.

Durations are what was seen: a lock held from the first look at it to the last, a wait as long as the server said at the
last look. So none is longer than it was; a look that is missing makes it shorter by at most the interval.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import Progress, View, Wait

MOST_SAMPLES, MOST_LOCKS, MOST_BLOCKS, MOST_PROGRESS, MOST_KNOWN = 600, 200, 100, 200, 2000
Sample = dict[str, t.Any]


def merge(first: t.Mapping[str, t.Any], second: t.Mapping[str, t.Any]) -> Sample:
    """Two neighbours as one: the time of the first, and of all else the maximum."""
    merged: Sample = {"t": first["t"]}
    for key in first:
        if key != "t":
            merged[key] = max((value for value in (first[key], second.get(key)) if value is not None), default=None)
    return merged


def bounded(samples: list[Sample], most: int = MOST_SAMPLES) -> list[Sample]:
    """At most so many: neighbours are merged in pairs until it is so."""
    while len(samples) > most:
        pairs = [merge(samples[i], samples[i + 1]) for i in range(0, len(samples) - 1, 2)]
        samples = pairs + samples[len(pairs) * 2 :]
    return samples


@dataclasses.dataclass
class Lock:
    relation: str
    mode: str
    first: float
    held: float = 0.0
    waited: float = 0.0
    #: The transaction and the moment of the last look, and the wait that goes on: when it began, and what was before it.
    seen: tuple[int, float | None, float] | None = None
    wait: tuple[int, float | None, float] | None = None

    def is_held(self, pid: int, xact_start: float | None, at: float) -> None:
        if self.seen is not None and self.seen[:2] == (pid, xact_start):
            self.held += at - self.seen[2]
        self.seen = (pid, xact_start, at)

    def is_awaited(self, pid: int, start: float | None, age: float) -> None:
        if self.wait is None or self.wait[:2] != (pid, start):
            self.wait = (pid, start, self.waited)
        self.waited = self.wait[2] + age


@dataclasses.dataclass
class Span:
    """A build of one index, as far as it was seen."""

    table: int
    index: int
    first: float
    last: float
    done: bool = False


class History:
    """Takes views, gives the result."""

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.taken = 0
        self.locks: dict[tuple[str, str], Lock] = {}
        self.blocks: list[dict[str, t.Any]] = []
        self.blocked_sessions = 0
        self.longest_block = 0.0
        self.longest_wait = 0.0
        self.progress: dict[tuple[str | None, str, str | None], dict[str, t.Any]] = {}
        self.spans: list[Span] = []
        self._first: dict[str, float] = {}
        self._live: dict[tuple[int, float | None, str], dict[str, t.Any]] = {}
        self._known: dict[tuple[int, float | None], None] = {}

    def add(self, view: View, at: float, migration: str | None = None, size: int | None = None) -> None:
        """One more look, ``at`` seconds after the deploy began. ``migration``: what is being applied, where it was asked."""
        self.taken += 1
        blocked = view.blocked()
        self.samples.append(self._sample(view, at, len(blocked), size))
        self.samples = bounded(self.samples)
        self._add_locks(view, at)
        self._add_blocks(view, at, blocked)
        for found in view.progress:
            self._add_progress(found, at, migration)
        seen = {(found.table, found.index) for found in view.progress}
        for span in self.spans:
            span.done = span.done or (span.table, span.index) not in seen

    def _sample(self, view: View, at: float, blocked: int, size: int | None) -> Sample:
        counts = view.counts
        found: Sample = {"t": round(at, 3)}
        found.update((key, counts.get(key)) for key in ("active", "idle_in_transaction", "waiting"))
        found.update(blocked=blocked, size=size)
        found.update((key, self.since_start(key, counts.get(key))) for key in ("wal", "temp"))
        found.update((key, _rounded(counts.get(key))) for key in ("lag", "oldest_transaction"))
        return found

    def since_start(self, key: str, value: float | None) -> int | None:
        """A counter of the server, from the first look on. One that was reset in between says nothing."""
        if value is None:
            return None
        first = self._first.setdefault(key, value)
        return int(value - first) if value >= first else None

    def _add_locks(self, view: View, at: float) -> None:
        xacts = {migrator.pid: migrator.xact_start for migrator in view.migrators}
        for pid, relation, mode in view.held:
            self._lock(relation, mode, at).is_held(pid, xacts.get(pid), at)
        for wait in view.waits:
            if wait.pid in xacts and wait.relation:
                self._lock(wait.relation, wait.mode, max(0.0, at - view.age(wait))).is_awaited(wait.pid, wait.start, view.age(wait))
        if len(self.locks) > MOST_KNOWN:
            kept = sorted(self.locks.items(), key=lambda item: -(item[1].held + item[1].waited))[: MOST_KNOWN // 2]
            self.locks = dict(kept)

    def _lock(self, relation: str, mode: str, first: float) -> Lock:
        return self.locks.setdefault((relation, mode), Lock(relation, mode, first))

    def _add_blocks(self, view: View, at: float, blocked: t.Sequence[Wait]) -> None:
        live: dict[tuple[int, float | None, str], dict[str, t.Any]] = {}
        for wait, by in [(wait, "migration") for wait in blocked] + [(wait, _names(view, wait)) for wait in view.migrator_waits()]:
            age = view.age(wait)
            if by == "migration":
                self.longest_block = max(self.longest_block, age)
                self._count(view, wait)
            else:
                self.longest_wait = max(self.longest_wait, age)
            key = (wait.pid, wait.start, by)
            entry = self._live.get(key) or _entry(view, wait, by, at - age)
            entry["seconds"] = round(max(entry["seconds"], age), 3)
            live[key] = entry
        self.blocks += [entry for key, entry in self._live.items() if key not in live]
        self._live = live
        if len(self.blocks) > MOST_BLOCKS * 4:
            self.blocks = _longest(self.blocks, MOST_BLOCKS)

    def _count(self, view: View, wait: Wait) -> None:
        session = view.sessions.get(wait.pid)
        known = (wait.pid, session.backend_start if session else None)
        if known not in self._known:
            self.blocked_sessions += 1
        self._known.pop(known, None)
        self._known[known] = None
        if len(self._known) > MOST_KNOWN:
            # Whoever was not seen for so long and comes back is counted again.
            del self._known[next(iter(self._known))]

    def _add_progress(self, found: Progress, at: float, migration: str | None) -> None:
        key = (migration, found.command, found.relation)
        self.progress.pop(key, None)
        self.progress[key] = {
            "migration": migration, "command": found.command, "relation": found.relation, "phase": found.phase, "percent": found.percent, "at": round(at, 3),
        }  # fmt: skip
        if len(self.progress) > MOST_PROGRESS:
            del self.progress[next(iter(self.progress))]
        if found.command.startswith("CREATE INDEX"):
            span = next((each for each in self.spans if not each.done and (each.table, each.index) == (found.table, found.index)), None)
            if span is None and len(self.spans) < MOST_KNOWN:
                self.spans.append(Span(found.table, found.index, at, at))
            elif span is not None:
                span.last = at

    def as_dict(self) -> dict[str, t.Any]:
        """The part of the result that comes from samples."""
        locks = sorted(self.locks.values(), key=lambda lock: (-(lock.held + lock.waited), lock.first))[:MOST_LOCKS]
        return {
            "taken": self.taken,
            "samples": self.samples,
            "locks": [
                {"relation": lock.relation, "mode": lock.mode, "held": round(lock.held, 3), "waited": round(lock.waited, 3), "first": round(lock.first, 3)}
                for lock in locks
            ],
            "blocks": _longest(self.blocks + list(self._live.values()), MOST_BLOCKS),
            "blocked_sessions": self.blocked_sessions,
            "longest_block": round(self.longest_block, 3),
            "longest_wait": round(self.longest_wait, 3),
            "progress": list(self.progress.values()),
        }


def _entry(view: View, wait: Wait, by: str, at: float) -> dict[str, t.Any]:
    session = view.sessions.get(wait.pid)
    return {
        "at": round(max(0.0, at), 3), "seconds": 0.0, "pid": wait.pid, "application": session.application if session else None,
        "user": session.user if session else None, "relation": wait.relation, "mode": wait.mode, "by": by,
    }  # fmt: skip


def _names(view: View, wait: Wait) -> str:
    """The sessions that the migrator waits for."""
    pids = [pid for pid in wait.blockers or () if pid not in view.pids]
    return ", ".join(label(view, pid) for pid in pids[:3]) + (" and %d more" % (len(pids) - 3) if len(pids) > 3 else "")


def label(view: View, pid: int) -> str:
    """``pid 123 (api)``; a prepared transaction has no pid."""
    if not pid:
        return "a prepared transaction"
    session = view.sessions.get(pid)
    return "pid %d (%s)" % (pid, (session.application or session.backend_type or "no name") if session else "gone")


def _longest(blocks: t.Iterable[dict[str, t.Any]], most: int) -> list[dict[str, t.Any]]:
    return sorted(blocks, key=lambda entry: (-entry["seconds"], entry["at"], entry["pid"]))[:most]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), 3)


def rewrites(before: t.Mapping[int, tuple[int, str]], after: t.Mapping[int, tuple[int, str]]) -> list[str]:
    """The tables that were there before and have another file now; by OID, (file, name)."""
    return sorted(name for oid, (file, name) in after.items() if oid in before and before[oid][0] != file)


def index_builds(
    tables: t.Mapping[int, tuple[int, str]], before: t.Collection[int], after: t.Mapping[int, tuple[int, str]], spans: t.Sequence[Span]
) -> list[dict[str, t.Any]]:
    """The new indexes of tables that were there before, with the time of their build where it was seen.

    :param tables: the tables of before: OID -> (file, name). ``after``: the indexes, OID -> (table, name).
    """
    new = {oid: found for oid, found in after.items() if oid not in before and found[0] in tables}
    built = []
    for oid, (table, name) in new.items():
        own = [span for span in spans if span.index == oid]
        if not own and len([other for other in new.values() if other[0] == table]) == 1:
            # A build that is not concurrent does not tell its index before it ends; here it can be no other.
            own = [span for span in spans if span.table == table and not span.index]
            own = own if len(own) == 1 else []
        seconds = round(sum(span.last - span.first for span in own), 3) if own else None
        built.append({"index": name, "table": tables[table][1], "seconds": seconds})
    return sorted(built, key=lambda entry: (-(entry["seconds"] or 0), entry["index"]))


def timeline(
    rows: t.Iterable[t.Any], known: t.Collection[str], names: t.Collection[str], begun: float, ends: t.Sequence[float], states: t.Mapping[str, str]
) -> list[dict[str, t.Any]]:
    """When each migration ran, from the rows that this deploy wrote into the ledger.

    :param known: ids of the rows from before. ``begun``: the client's clock when the deploy began.
    :param ends: when an engine ended, in seconds since then: the end of what failed is not in the ledger.
    :param states: the sub-states of what is unfinished.
    """
    found = []
    for row in rows:
        if row.id in known or row.migration_name not in names or row.started_at is None:
            continue
        started = round(max(0.0, row.started_at.timestamp() - begun), 3)
        if row.finished_at is not None:
            ended, state = round(max(started, row.finished_at.timestamp() - begun), 3), "applied"
        else:
            ended = next((round(end, 3) for end in ends if end >= started), None)
            state = "rolled_back" if row.rolled_back_at is not None else states.get(row.migration_name) or "unknown"
        found.append({"name": row.migration_name, "started": started, "ended": ended, "state": state})
    return sorted(found, key=lambda entry: (entry["started"], entry["ended"] or 0))


__all__ = ("History", "Lock", "Span", "bounded", "index_builds", "label", "merge", "rewrites", "timeline")
