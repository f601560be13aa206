# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a deploy blocked, rewrote and built, against what it may."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._checks_budget import blocking_time, growth, index_build_time, table_rewrites

BLOCK = {"by": "migration", "relation": "public.a", "seconds": 6.2}
SEEN: dict[str, t.Any] = {
    "taken": 5, "longest_block": 6.2, "blocked_sessions": 2, "blocks": [BLOCK, {"by": "pid 9 (x)", "relation": "public.b", "seconds": 1.0}],
    "rewrites": ["public.a"], "index_builds": [{"index": "public.i", "table": "public.a", "seconds": 2.5}, {"index": "public.j", "table": "public.a", "seconds": None}],
    "size_before": 10_000_000, "size_after": 12_500_000, "wal": 3_000_000, "temp": 0,
}  # fmt: skip
QUIET = dict(SEEN, longest_block=0.0, blocked_sessions=0, blocks=[], rewrites=[], index_builds=[], size_after=9_000_000, wal=None)


def deploy(monitor: dict[str, t.Any] | None) -> dict[str, t.Any]:
    return {"applied": [{"name": "1_a", "seconds": 1.0}], "monitor": monitor}


@pytest.mark.parametrize(
    ("check", "monitor", "verdict", "words"),
    [
        (lambda found: blocking_time(found, 5.0), SEEN, "fail", "2 other sessions waited for a migration, the longest for 6.2 s (public.a); the limit is 5 s."),
        (lambda found: blocking_time(found, 7.0), SEEN, "pass", "6.2 s (public.a)."),
        (lambda found: blocking_time(found, 0), SEEN, "pass", "6.2 s"),
        (lambda found: blocking_time(found, 5.0), QUIET, "pass", "No other session"),
        (lambda found: blocking_time(found, 5.0), dict(QUIET, taken=0), "skipped", "could not be watched"),
        (table_rewrites, SEEN, "warn", "1 table was rewritten (or emptied by TRUNCATE): public.a."),
        (table_rewrites, QUIET, "pass", "No table"),
        (table_rewrites, dict(QUIET, size_after=None), "skipped", "could not be compared"),
        (index_build_time, SEEN, "pass", "2 indexes were built; the slowest seen: public.i with 2.5 s; the time of 1 is not known."),
        (lambda found: index_build_time(found, 2.0), SEEN, "warn", "the limit is 2 s"),
        (index_build_time, QUIET, "pass", "No index"),
        (growth, SEEN, "pass", "grew by 2.5 MB to 12.5 MB; the server wrote 3.0 MB of write-ahead log."),
        (growth, QUIET, "pass", "shrank by 1.0 MB to 9.0 MB."),
        (growth, dict(SEEN, size_before=None), "skipped", "could not be read"),
    ],
)
def test_verdicts(check: t.Callable[[t.Any], t.Any], monitor: dict[str, t.Any], verdict: str, words: str) -> None:
    found = check(deploy(monitor))
    assert found.verdict == verdict and words in found.text


@pytest.mark.parametrize("check", [lambda found: blocking_time(found, 5.0), table_rewrites, index_build_time, growth])
def test_nothing_to_judge(check: t.Callable[[t.Any], t.Any]) -> None:
    assert [check(found).verdict for found in ({}, {"applied": []}, deploy(None))] == ["skipped"] * 3
    assert "migrate_deploy_monitor" in check(deploy(None)).text
