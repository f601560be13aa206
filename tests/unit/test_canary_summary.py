# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._canary_summary import Probe, percentile, sentence, summary

FAST = [Probe("public.a", "reader", at / 10, 0.001) for at in range(99)]


@pytest.mark.parametrize(
    ("probes", "longest", "first", "broken"),
    [
        pytest.param([], 0.0, None, [], id="nothing was probed"),
        pytest.param(FAST, 0.001, "public.a", [], id="nobody waited"),
        pytest.param([*FAST, Probe("public.b", "writer", 2.0, 3.5, "", True)], 3.5, "public.b", [], id="the longest stall comes first"),
        pytest.param([Probe("public.a", "writer", 1.0, 4.0, "", True, ended=False)], 4.0, "public.a", [], id="one that never got through counts"),
        pytest.param(
            [*FAST, Probe("public.a", "reader", 3.0, 0.1, "42703"), Probe("public.a", "reader", 4.0, 0.1, "42703")],
            0.1, "public.a", [("public.a", "42703", 2)], id="a column that is gone",
        ),
        pytest.param([Probe("public.a", "reader", 0, 0.0, "22012")], 0.0, "public.a", [("public.a", "22012", 1)], id="an error that has no words"),
    ],
)  # fmt: skip
def test_probes_add_up(probes: list[Probe], longest: float, first: str | None, broken: list[t.Any]) -> None:
    found = summary(probes, 10.0)
    assert found["longest_stall"] == longest
    assert (found["tables"][0]["table"] if found["tables"] else None) == first
    assert [(entry["table"], entry["sqlstate"], entry["times"]) for entry in found["broken"]] == broken
    assert found["probes"] == len(probes)


def test_p99_is_no_slower_than_one_in_a_hundred() -> None:
    found = summary([*FAST, Probe("public.a", "reader", 9.9, 5.0)], 10.0)["tables"][0]
    assert (found["p99"], found["longest_stall"], found["stalled_at"]) == (0.001, 5.0, 9.9)
    assert percentile([], 0.99) is None
    assert percentile([1.0, 2.0], 0.99) == 2.0


def test_a_sentence_names_the_wait_and_what_would_break() -> None:
    probes = [Probe("public.a", "writer", 0, 2.5), Probe("public.a", "reader", 0, 0.0, "42703")]
    told = sentence(summary(probes, 3.0))
    assert "at most 2.50 s, for public.a" in told
    assert "a column that the application knows is gone (42703)" in told
    assert sentence(summary([], 1.0)) == "no table was probed"
