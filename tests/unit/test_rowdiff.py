# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import collections
import tracemalloc
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _rowdiff
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._rowdiff import ADDED, CHANGED, SAME, Counts, again, compare, pair
from hypothesis import given, settings
from hypothesis import strategies as st

KEYED = st.dictionaries(st.integers(0, 40), st.integers(0, 3), max_size=40)
WHOLE = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2)), max_size=30)


def lines(rows: t.Iterable[tuple[int, int]]) -> list[bytes]:
    return [b"%d\t%d\n" % row for row in rows]


def found(old: t.Iterable[tuple[int, int]], new: t.Iterable[tuple[int, int]], key: t.Sequence[int], rows: int = 1) -> tuple[Counts, list[int]]:
    """The counts, and the verdict for each row of the second set, got by a second reading."""
    verdicts: dict[int, bytes] = {}
    with pair(rows, key) as (first, second):
        for side, content in ((first, lines(old)), (second, lines(new))):
            write = side.writer()
            for line in content:
                write(line)
        counts = compare(first, second, verdicts.__setitem__)
        verdict = again(second, verdicts)
        return counts, [verdict(line) for line in lines(new)]


@pytest.mark.parametrize("rows", [1, 10**6])
@pytest.mark.parametrize("key", [(0,), (0, 0)])
@settings(max_examples=50, deadline=None)
@given(old=KEYED, new=KEYED)
def test_by_key_it_is_what_sets_say(rows: int, key: tuple[int, ...], old: dict[int, int], new: dict[int, int]) -> None:
    counts, verdicts = found(old.items(), new.items(), key, rows)
    both = old.keys() & new.keys()
    changed = sum(old[each] != new[each] for each in both)
    assert counts == Counts(len(new.keys() - old.keys()), changed, len(old.keys() - new.keys()), True)
    assert verdicts == [ADDED if each not in old else SAME if old[each] == new[each] else CHANGED for each in new]


@pytest.mark.parametrize("rows", [1, 10**6])
@settings(max_examples=50, deadline=None)
@given(old=WHOLE, new=WHOLE)
def test_without_a_key_it_is_what_multisets_say(rows: int, old: list[tuple[int, int]], new: list[tuple[int, int]]) -> None:
    counts, verdicts = found(old, new, (), rows)
    before, after = collections.Counter(old), collections.Counter(new)
    assert counts == Counts((after - before).total(), 0, (before - after).total(), False)
    assert collections.Counter(row for row, verdict in zip(new, verdicts) if verdict == ADDED) == after - before


@settings(max_examples=50, deadline=None)
@given(old=WHOLE, new=KEYED)
def test_a_key_that_is_there_twice_is_none(old: list[tuple[int, int]], new: dict[int, int]) -> None:
    counts, _verdicts = found(old, new.items(), (0,), 10**6)
    twice = len({key for key, _value in old}) != len(old)
    assert counts.keyed is not twice
    if twice:
        assert counts == found(old, new.items(), ())[0]


def test_a_second_reading_must_be_the_same() -> None:
    verdicts: dict[int, bytes] = {}
    with pair(1, (0,)) as (first, second):
        second.writer()(b"1\ta\n")
        compare(first, second, verdicts.__setitem__)
        with pytest.raises(MigrationError):
            again(second, verdicts)(b"1\tb\n")


def test_memory_does_not_grow_with_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_rowdiff, "ROWS_IN_PART", 2000)
    monkeypatch.setattr(_rowdiff, "_FLUSH", 1 << 9)
    peaks = []
    for rows in (10_000, 30_000):
        tracemalloc.start()
        with pair(rows, (0,)) as (first, second):
            for side in (first, second):
                write = side.writer()
                for number in range(rows):
                    write(b"%d\tx\n" % number)
            assert compare(first, second) == Counts(0, 0, 0, True)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < peaks[0] * 2 < 5_000_000, peaks


def test_there_are_never_too_many_files() -> None:
    with pair(10**9, (0,)) as (first, second):
        assert len(first.files) == len(second.files) == _rowdiff.MOST_PARTS
        for side in (first, second):
            write = side.writer()
            for number in range(3000):
                write(b"%d\tx\n" % number)
            side.flush()
        assert min(len(first.part(number)) for number in range(_rowdiff.MOST_PARTS)) > 0, "rows are spread over all parts"
        assert compare(first, second) == Counts(0, 0, 0, True)
