# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import effect, loss_lines

USERS = {"table": "public.users", "rows_now": 20001, "rows_then": 20000, "added": 3, "changed": 12, "removed": 2, "keyed": True}
LOG = {"table": "public.log", "rows_now": None, "rows_then": 7, "added": 0, "changed": 0, "removed": 7, "keyed": False}


def test_every_number_is_in_its_column() -> None:
    lines = loss_lines({"known": True, "tables": [USERS, LOG], "differences": 2})
    head, users, log = (line.split() for line in (lines[2].replace("rows ", "rows_"), lines[4], lines[5].replace("whole row", "whole_row")))
    assert dict(zip(head, users)) == {
        "table": "public.users", "rows_now": "20,001", "rows_then": "20,000", "lost": "3", "replaced": "12", "back": "2", "by": "key",
    }  # fmt: skip
    assert dict(zip(head, log))["rows_now"] == "-" and dict(zip(head, log))["by"] == "whole_row"


@pytest.mark.parametrize(
    ("loss", "words"),
    [
        ({"known": True, "tables": [], "differences": 0}, "Nothing differs"),
        ({"known": False, "reason": "table x is locked"}, "not known: table x is locked"),
        ({"known": True, "measured": False, "tables": [{"table": "t", "rows_now": 3, "rows_then": 2, "added": None}]}, "Tables that differ"),
        ({"known": False, "measured": False, "reason": "it was shown"}, "would be lost was not counted again: it was shown"),
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


@pytest.mark.parametrize(
    ("text", "before", "after"),
    [
        ("The column a.b is new.", "The column a.b will be gone.", "The column a.b went."),
        ("The table t is new, with 3 rows.", "The table t will be gone, with 3 rows.", "The table t went, with 3 rows."),
        ("The column a.b is gone.", "The column a.b comes back.", "The column a.b came back."),
        ("The table a.b is gone, and with it 2 rows.", "The table a.b comes back with 2 rows.", "The table a.b came back with 2 rows."),
        ("The index i changed.", "The index i becomes what it is there.", "The index i became what it is there."),
        ("The content of public.p could not be compared: phone is gone.", "public.p gets its other columns.", "public.p got its other columns."),
        ("The content of t changed, in as many rows as before (3).",) * 3,
        ("Table t is not in the restore point: its 3 rows will be gone.", "Table t goes: its 3 rows will be gone.", "Table t went, and with it its 3 rows."),
        ("Table t was removed: it comes back with 3 rows.", "Table t comes back with 3 rows.", "Table t came back with 3 rows."),
        (
            "The sequence s went back (128, now 125): it may give out numbers a second time.",
            "Sequence s goes from 125 to 128.",
            "Sequence s went from 125 to 128.",
        ),
        ("Sequence s goes back by 3 (from 128 to 125).", "Sequence s goes back by 3 (from 128 to 125).", "Sequence s went back by 3 (from 128 to 125)."),
    ],
)
def test_what_the_comparison_says_is_told_as_what_becomes_of_it(text: str, before: str, after: str) -> None:
    assert (effect(text), effect(text, done=True)) == (before, after)
    assert effect(before) == before, "said twice it is the same"


def test_what_was_done_is_in_the_past() -> None:
    loss = {"known": True, "tables": [USERS], "differences": 3, "objects": ["The column a.b is new."], "sequences": [{"sequence": "s", "now": 9, "then": 7}]}
    lines = "\n".join(loss_lines(dict(loss, sessions=[{"user": "bo"}]), done=True, source="the kept database k", kept="k2"))
    assert "will" not in lines and "were lost" in lines and "in the kept database k2" in lines and "Sequences that went back" in lines
    assert "By going back to the kept database k" in lines and "rows before" in lines and "now" not in lines
    assert "will be lost" in "\n".join(loss_lines(loss))
