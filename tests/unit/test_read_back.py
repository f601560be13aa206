# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._read_back import halves
from hypothesis import given
from hypothesis import strategies as st

HEAD = b";\n; Archive created at 2026-11-22\n;     dbname: shop\n;\n"


def line(number: int) -> bytes:
    return b"%d; 0 16400 TABLE DATA public t%d owner\n" % (number, number)


@given(st.dictionaries(st.integers(1, 10_000), st.one_of(st.none(), st.integers(0, 1 << 40)), max_size=60))
def test_every_entry_is_in_exactly_one_half(entries: dict[int, t.Any]) -> None:
    first, second = halves(HEAD + b"".join(map(line, entries)), {number: size for number, size in entries.items() if size is not None})
    assert sorted(first.splitlines(keepends=True) + second.splitlines(keepends=True)) == sorted(map(line, entries))


def test_the_halves_are_about_equal() -> None:
    sizes = {1: 100, 2: 60, 3: 50, 4: 5}
    first, second = halves(HEAD + b"".join(map(line, (*sizes, 9))), sizes)
    assert (first, second) == (line(1) + line(4), line(2) + line(3) + line(9))
