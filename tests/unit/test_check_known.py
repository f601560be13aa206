# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A failure whose cause was there before the deploy only warns."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, WARN, Check, known

Entry = t.Dict[str, t.Any]


def drifted(key: str, after: str | None, kind: str = "object_added", by_hand: bool = False) -> Entry:
    return {"kind": kind, "object": key, "before": None, "after": after, "text": "%s differs" % key, "by_hand": by_hand}


INDEX = "index public.by_hand"
CASES: dict[str, tuple[str, list[Entry], list[Entry], str]] = {
    "the same": ("drift", [drifted(INDEX, "ON t (a)")], [drifted(INDEX, "ON t (a)")], WARN),
    "a migration renames the column of an index that was made by hand": ("drift", [drifted(INDEX, "ON t (a)")], [drifted(INDEX, "ON t (b)")], WARN),
    "one more": ("drift", [drifted(INDEX, "x")], [drifted(INDEX, "x"), drifted("index public.new", "x")], FAIL),
    "made by hand, and now a migration would have made another": ("drift", [drifted(INDEX, "x")], [drifted(INDEX, "x", "object_changed")], FAIL),
    "the owner of a new table besides": ("drift", [drifted(INDEX, "x")], [drifted(INDEX, "x"), drifted("owner public.new", "me", by_hand=True)], WARN),
    "nothing before": ("drift", [], [drifted(INDEX, "x")], FAIL),
    "as many violations": ("foreign_keys", [{"constraint": "c", "table": "t", "violations": 3}], [{"constraint": "c", "table": "t", "violations": 3}], WARN),
    "more violations": ("foreign_keys", [{"constraint": "c", "table": "t", "violations": 3}], [{"constraint": "c", "table": "t", "violations": 4}], FAIL),
    "a check that has no before": ("custom", [{"text": "x"}], [{"text": "x"}], FAIL),
}


@pytest.mark.parametrize("name", CASES)
def test_known(name: str) -> None:
    check, before, after, verdict = CASES[name]
    found = known(Check(check, FAIL, "It is wrong.", tuple(after)), {"name": check, "evidence": before})
    assert found.verdict == verdict and found.text == ("As before this run: It is wrong." if verdict == WARN else "It is wrong.")
