# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines that retention prints."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._retention import DROP, KEEP, Decision, Rules
from ansible_collections.pgops.migrations.plugins.module_utils._retention_text import age_text, megabytes, retention_lines


def decision(point: str, action: str, *reasons: str, **facts: t.Any) -> Decision:
    return Decision(dict({"id": point, "kind": "dump", "name": "", "size_bytes": 1500000, "age_seconds": 90000}, **facts), action, reasons)


PLAN = [
    decision("c", KEEP, "number 1 of the last 1"),
    decision("b", KEEP, "pinned: audit", kind="snapshot", name="clinic__snapshot_b"),
    decision("a", DROP, "no rule keeps it", age_seconds=3 * 86400),
]


def test_each_says_what_becomes_of_it_and_why() -> None:
    kept = ["keep c (dump, 1.5 MB, 1 day old): number 1 of the last 1", "keep b (snapshot clinic__snapshot_b, 1.5 MB, 1 day old): pinned: audit"]
    assert retention_lines(PLAN, Rules(keep_last=1), False) == [
        *kept, "would drop a (dump, 1.5 MB, 3 days old): no rule keeps it", "3 restore points: 2 stay, 1 would be dropped (1.5 MB)",
    ]  # fmt: skip
    assert retention_lines(PLAN, Rules(keep_last=1), True, {"a"})[2:] == [
        "dropped a (dump, 1.5 MB, 3 days old): no rule keeps it", "3 restore points: 2 stay, 1 dropped (1.5 MB)",
    ]  # fmt: skip
    # Somebody used it.
    assert retention_lines(PLAN, Rules(keep_last=1), True)[2:] == [
        "not dropped a (dump, 1.5 MB, 3 days old): no rule keeps it", "3 restore points: 3 stay, nothing was dropped",
    ]  # fmt: skip


def test_without_a_rule_it_says_so_once() -> None:
    plan = [decision("b", KEEP, "no rule was given"), decision("a", KEEP, "pinned")]
    lines = retention_lines(plan, Rules(), False)
    assert len(lines) == 2 and lines[0].startswith("keep a ") and lines[1].startswith("2 restore points: 2 stay, nothing would be dropped; no rule was given")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "of unknown age"),
        (-1, "from the future"),
        (59, "new"),
        (60, "1 minute old"),
        (7200, "2 hours old"),
        (86399, "23 hours old"),
        (86400, "1 day old"),
    ],
)
def test_ages(seconds: t.Any, text: str) -> None:
    assert age_text(seconds) == text


def test_sizes() -> None:
    assert (megabytes(104998), megabytes(2), megabytes(0), megabytes(None)) == ("105 kB", "1 kB", "of unknown size", "of unknown size")
