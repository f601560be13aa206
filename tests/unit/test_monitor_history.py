# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What many looks at a deploy add up to."""

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import LedgerRow
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_history import (
    MOST_BLOCKS,
    MOST_KNOWN,
    MOST_LOCKS,
    MOST_PROGRESS,
    MOST_SAMPLES,
    History,
    Span,
    bounded,
    index_builds,
    merge,
    rewrites,
    timeline,
)
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import Migrator, Progress, Session, View, Wait

US = Migrator(1, xact_start=0.0)


def relation(pid: int, blockers: tuple[int, ...] | None, start: float | None = 0.0, mode: str = "AccessShareLock", name: str = "public.a") -> Wait:
    return Wait(pid, "relation", mode, name, start, blockers)


@pytest.mark.parametrize(
    ("first", "second", "merged"),
    [
        ({"t": 1, "a": 1, "b": None}, {"t": 2, "a": 3, "b": None}, {"t": 1, "a": 3, "b": None}),
        ({"t": 1, "a": 5, "b": None}, {"t": 2, "a": 3, "b": 0}, {"t": 1, "a": 5, "b": 0}),
        ({"t": 1, "a": 0, "b": 2.5}, {"t": 2, "a": None, "b": 1}, {"t": 1, "a": 0, "b": 2.5}),
    ],
)
def test_neighbours_are_merged_by_their_maximum(first: dict[str, t.Any], second: dict[str, t.Any], merged: dict[str, t.Any]) -> None:
    assert merge(first, second) == merged


@pytest.mark.parametrize(("count", "most", "times"), [(3, 3, [0, 1, 2]), (4, 3, [0, 2]), (5, 3, [0, 2, 4]), (9, 3, [0, 4, 8]), (2, 1, [0])])
def test_samples_are_bounded(count: int, most: int, times: list[int]) -> None:
    found = bounded([{"t": i, "a": i} for i in range(count)], most)
    assert [sample["t"] for sample in found] == times and max(sample["a"] for sample in found) == count - 1


@pytest.mark.parametrize(
    ("waits", "blocked"),
    [
        ([], []),
        ([relation(2, (1,))], [2]),
        ([relation(2, (9,))], []),
        # In the queue behind the migrator, which itself waits; and behind one who is behind it.
        ([relation(1, (9,), mode="AccessExclusiveLock"), relation(2, (1,)), relation(3, (2,))], [2, 3]),
        ([relation(3, (2,)), relation(2, (1,)), relation(4, (5,)), relation(5, (4,))], [3, 2]),
        # Not asked, but in the same queue.
        ([relation(2, (1,)), relation(3, None), relation(4, None, name="public.b")], [2, 3]),
        # Autovacuum is no client.
        ([relation(7, (1,))], []),
    ],
)
def test_who_waits_for_the_migrator(waits: list[Wait], blocked: list[int]) -> None:
    view = View(10.0, migrators=(US,), waits=tuple(waits), sessions={7: Session(7, backend_type="autovacuum worker")})
    assert sorted(wait.pid for wait in view.blocked()) == sorted(blocked)


def test_locks_and_blocks_add_up() -> None:
    history = History()
    held = ((1, "public.a", "AccessExclusiveLock"),)
    api = {2: Session(2, "api", "app", backend_start=5.0), 9: Session(9, "report", "app")}
    waiting = (relation(1, (9,), 100.0, "AccessExclusiveLock"), relation(2, (1,), 100.5))
    history.add(View(101.0, migrators=(US,), waits=waiting, sessions=api), 1.0)
    history.add(View(102.0, migrators=(US,), waits=waiting, sessions=api), 2.0)
    # Now it has the lock, and the reader waits on; then a new transaction has it.
    history.add(View(103.0, migrators=(US,), waits=(relation(2, (1,), 100.5),), sessions=api, held=held), 3.0)
    history.add(View(104.0, migrators=(US,), held=held), 4.5)
    history.add(View(105.0, migrators=(Migrator(1, xact_start=104.9),), held=held), 5.0)
    found = history.as_dict()
    assert found["locks"] == [{"relation": "public.a", "mode": "AccessExclusiveLock", "held": 1.5, "waited": 2.0, "first": 0.0}]
    assert [(e["by"], e["pid"], e["at"], e["seconds"], e["application"], e["mode"]) for e in found["blocks"]] == [
        ("migration", 2, 0.5, 2.5, "api", "AccessShareLock"),
        ("pid 9 (report)", 1, 0.0, 2.0, None, "AccessExclusiveLock"),
    ]
    assert (found["blocked_sessions"], found["longest_block"], found["longest_wait"], found["taken"]) == (1, 2.5, 2.0, 5)
    assert [sample["blocked"] for sample in found["samples"]] == [1, 1, 1, 0, 0]


def test_memory_is_bounded() -> None:
    history = History()
    for i in range(5000):
        waits = tuple(relation(10 + (i * 3 + k) % 9000, (1,), float(i)) for k in range(3))
        progress = (Progress(1, "CREATE INDEX", "t%d" % i, "x", 1, 2, i, 0),)
        held = ((1, "t%d" % i, "ShareLock"),)
        counts = {"wal": float(i)}
        history.add(View(i + 0.5, counts, (US,), waits, {}, held, progress), float(i), "m%d" % i)
    found = history.as_dict()
    assert found["taken"] == 5000 and len(found["samples"]) <= MOST_SAMPLES and found["samples"][-1]["wal"] > 4900
    assert len(found["locks"]) == MOST_LOCKS and len(found["blocks"]) == MOST_BLOCKS and len(found["progress"]) == MOST_PROGRESS
    assert len(history.blocks) <= MOST_BLOCKS * 5 and len(history.locks) <= MOST_KNOWN + 1 and len(history.spans) <= MOST_KNOWN
    assert found["blocked_sessions"] >= 9000


@pytest.mark.parametrize(("values", "found"), [((5, 7, 9), [0, 2, 4]), ((5, None, 9), [0, None, 4]), ((5, 3), [0, None]), ((None, 4, 6), [None, 0, 2])])
def test_counters_are_from_the_start(values: tuple[float | None, ...], found: list[int | None]) -> None:
    history = History()
    assert [history.since_start("wal", value) for value in values] == found


def test_tables_with_a_new_file() -> None:
    before = {1: (10, "public.a"), 2: (20, "public.b"), 3: (30, "public.gone")}
    assert rewrites(before, {1: (10, "public.a"), 2: (21, "public.renamed"), 4: (40, "public.new")}) == ["public.renamed"]


TABLES = {1: (10, "public.a"), 2: (20, "public.b")}


@pytest.mark.parametrize(
    ("after", "spans", "seconds"),
    [
        ({11: (1, "public.i")}, [], {"public.i": None}),
        # Not concurrent: no OID is told; it is this one where it can be no other.
        ({11: (1, "public.i")}, [Span(1, 0, 1.0, 3.0)], {"public.i": 2.0}),
        ({11: (1, "public.i"), 12: (1, "public.j")}, [Span(1, 0, 1.0, 3.0)], {"public.i": None, "public.j": None}),
        ({11: (1, "public.i")}, [Span(1, 0, 1.0, 3.0), Span(1, 0, 4.0, 5.0)], {"public.i": None}),
        # Concurrent: by its own OID.
        ({11: (1, "public.i"), 12: (1, "public.j")}, [Span(1, 11, 1.0, 3.0), Span(1, 12, 3.0, 3.5)], {"public.i": 2.0, "public.j": 0.5}),
        # What was there, and what belongs to a new table, is none.
        ({5: (1, "public.old"), 13: (3, "public.pkey")}, [], {}),
    ],
)
def test_index_builds(after: dict[int, tuple[int, str]], spans: list[Span], seconds: dict[str, float | None]) -> None:
    found = index_builds(TABLES, {5}, after, spans)
    assert {entry["index"]: entry["seconds"] for entry in found} == seconds and all(entry["table"] == "public.a" for entry in found)


def test_timeline_has_every_attempt() -> None:
    def at(seconds: float) -> datetime.datetime:
        return datetime.datetime.fromtimestamp(1000 + seconds, datetime.timezone.utc)

    rows = [
        LedgerRow("old", "", "1_a", at(-50), rolled_back_at=at(-40)),
        LedgerRow("a", "", "1_a", at(0.1), at(0.4)),
        LedgerRow("b1", "", "2_b", at(0.5), rolled_back_at=at(2.2)),
        LedgerRow("b2", "", "2_b", at(3.0)),
        LedgerRow("other", "", "9_other", at(3.0)),
    ]
    found = timeline(rows, {"old"}, ["1_a", "2_b"], 1000.0, [2.0, 5.0], {"2_b": "failed_clean"})
    assert [tuple(entry.values()) for entry in found] == [("1_a", 0.1, 0.4, "applied"), ("2_b", 0.5, 2.0, "rolled_back"), ("2_b", 3.0, 5.0, "failed_clean")]
