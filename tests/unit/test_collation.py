# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import itertools
import json
import random
import shutil
import string
import subprocess

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._collation import exact, sort_key, sort_names
from hypothesis import given
from hypothesis import strategies as st

needs_node = pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js to compare with")
PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))


def by_node(names: list[str]) -> list[str]:
    """The names as Prisma sorts them: a stable sort by localeCompare."""
    script = "console.log(JSON.stringify(JSON.parse(require('fs').readFileSync(0)).sort((a, b) => a.localeCompare(b))))"
    done = subprocess.run(
        ["node", "-e", script], input=json.dumps(names), capture_output=True, text=True, check=True, env={"PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C"}
    )
    return list(json.loads(done.stdout))


@pytest.mark.parametrize(
    "names",
    [
        ["20240101_a", "20240101_B", "20240101_c"],
        ["20240101_a", "20240101_A", "20240101_b"],
        ["20240101_x", "20240101-x", "202401010_x"],
        ["1_a", "10_a", "2_a"],
        ["a b", "a_b", "a-b", "a.b", "ab"],
        ["init", "initial"],
    ],
)
def test_the_order_of_names_as_people_write_them(names: list[str]) -> None:
    assert sort_names(reversed(names)) == names


@needs_node
def test_single_characters_and_pairs_are_in_the_order_of_node() -> None:
    names = [*PRINTABLE, *map("".join, itertools.product("aAbB_- .09~", repeat=2))]
    assert sort_names(names) == by_node(names)


@needs_node
def test_random_ascii_names_are_in_the_order_of_node() -> None:
    dice = random.Random(20240101)
    alphabets = (PRINTABLE, string.ascii_letters + string.digits + "_-", "aAbB_- 1")
    names = list({"".join(dice.choices(dice.choice(alphabets), k=dice.randint(1, 14))) for _ in range(4000)})
    assert sort_names(names) == by_node(names)


@needs_node
def test_names_with_accents_are_in_the_order_of_node() -> None:
    names = [
        "2024_cafe",
        "2024_café",
        "2024_Cafe",
        "2024_caff",
        "2024_über",
        "2024_uber",
        "2024_ubes",
        "2024_naïve",
        "2024_naive",
        "2024_Ångström",
        "2024_angstrom",
    ]
    assert sort_names(names) == by_node(names)


@given(st.lists(st.text(max_size=12)))
def test_any_names_can_be_sorted_and_the_order_does_not_depend_on_where_they_stood(names: list[str]) -> None:
    keys = [sort_key(name) for name in sort_names(names)]
    assert keys == [sort_key(name) for name in sort_names(reversed(names))]
    assert keys == sorted(keys)


@pytest.mark.parametrize(("name", "expected"), [("20240101_init", True), ("20240101_é", False), ("", True)])
def test_only_ascii_is_exact(name: str, expected: bool) -> None:
    assert exact(name) is expected
