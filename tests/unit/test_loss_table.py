# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import loss_lines

USERS = {"table": "public.users", "rows_now": 20001, "rows_then": 20000, "added": 3, "changed": 12, "removed": 2, "keyed": True}
LOG = {"table": "public.log", "rows_now": None, "rows_then": 7, "added": 0, "changed": 0, "removed": 7, "keyed": False}


def test_every_number_is_in_its_column() -> None:
    lines = loss_lines({"known": True, "tables": [USERS, LOG], "differences": 2})
    head, users, log = (line.split() for line in (lines[2].replace("rows ", "rows_"), lines[4], lines[5].replace("whole row", "whole_row")))
    assert dict(zip(head, users)) == {
        "table": "public.users", "rows_now": "20,001", "rows_then": "20,000", "added": "3", "changed": "12", "removed": "2", "by": "key",
    }  # fmt: skip
    assert dict(zip(head, log))["rows_now"] == "-" and dict(zip(head, log))["by"] == "whole_row"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({"known": True, "tables": [], "differences": 0}, "Nothing differs"),
        ({"known": False, "reason": "table x is locked"}, "not known: table x is locked"),
        ({"known": True, "measured": False, "tables": [{"table": "t", "rows_now": 3, "rows_then": 2, "added": None}]}, "Tables that differ"),
        ({"known": False, "measured": False, "reason": "it was shown"}, "not measured again: it was shown"),
        ({"known": True, "sequences": [{"sequence": "public.s", "now": 1500, "then": 7}], "differences": 1}, "Sequences that go back: public.s 1,500 -> 7"),
        ({"known": True, "objects": ["Column a.b was added."], "differences": 1}, "Schema: Column a.b was added."),
        ({"known": True, "differences": 1, "sessions": [{"application_name": "api"}] * 6 + [{"user": "bo"}]}, "will be ended: 7 (api: 6, user bo: 1)"),
        ({"known": True, "differences": 50, "tables": [USERS] * 50}, "and 10 more tables"),
        ({"known": True, "differences": 9, "objects": [str(number) for number in range(20)]}, "and 12 more"),
    ],
)
def test_what_is_said(loss: dict[str, t.Any], words: str) -> None:
    assert any(words in line for line in loss_lines(loss)), loss_lines(loss)


def test_no_loss_is_no_line() -> None:
    assert loss_lines({}) == []
