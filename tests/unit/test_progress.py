# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The line that an operator watches while a deploy is at work."""

from __future__ import annotations

import pathlib
import threading
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._job import Job, jobs
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_of
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import Migrator, Progress, Session, View, Wait
from ansible_collections.pgops.migrations.plugins.module_utils._progress import Eta, clock, observed, short, what
from ansible_collections.pgops.migrations.plugins.plugin_utils._live import Entry, one_line


@pytest.mark.parametrize(
    ("state", "line"),
    [
        ({}, "starts"),
        ({"phase": "lock"}, "waits for the lock of this database"),
        ({"phase": "deploy", "of": 12, "done": 0}, "0 of 12"),
        ({"phase": "deploy", "of": 12, "done": 2, "migration": "m3"}, "3 of 12, m3"),
        ({"phase": "deploy", "of": 2, "done": 2, "migration": "m3"}, "2 of 2, m3"),
        ({"phase": "judging", "of": 12, "done": 12}, "12 of 12, reads the state after it"),
        ({"of": 1, "done": 0, "migration": "m", "waits_for": ["pid 7 (user app)"], "waits_seconds": 65.2, "waits_relation": "public.t"},
         "1 of 1, m, waits 1:05 for public.t behind pid 7 (user app)"),
        ({"of": 1, "done": 0, "migration": "m", "waits_for": ["pid 7"], "waits_seconds": 0.2}, "1 of 1, m"),
        ({"of": 1, "done": 0, "migration": "m", "blocked": 1, "blocked_seconds": 3}, "1 of 1, m, keeps 1 session waiting, 0:03"),
        ({"of": 1, "done": 0, "migration": "m", "blocked": 2, "blocked_seconds": 3, "attempt": 3}, "1 of 1, m, keeps 2 sessions waiting, 0:03, attempt 3"),
        ({"of": 1, "done": 0, "migration": "m", "command": {"command": "CREATE INDEX", "relation": "public.t", "phase": "building index", "percent": 43.4, "eta_seconds": 55}},
         "1 of 1, m, CREATE INDEX on public.t: building index 43 %, about 0:55 left"),
        ({"of": 1, "done": 0, "migration": "m", "command": {"command": "COPY", "relation": None, "phase": "copying", "percent": None, "eta_seconds": None}}, "1 of 1, m, COPY: copying"),
        ({"of": 1, "done": 0, "migration": "evil\x1b[31m\nname"}, "1 of 1, evil?[31m?name"),
    ],
)  # fmt: skip
def test_the_line(state: dict[str, t.Any], line: str) -> None:
    assert what(state) == line


@pytest.mark.parametrize(("seconds", "text"), [(0, "0:00"), (7.9, "0:07"), (760, "12:40"), (3729, "1:02:09")])
def test_a_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_what_is_left_is_told_by_the_rate_of_its_own_phase() -> None:
    eta = Eta()
    assert eta.of(("a",), 100.0, 10.0) is None, "one look has no rate"
    assert eta.of(("a",), 102.0, 20.0) is None, "two seconds are too few"
    assert eta.of(("a",), 110.0, 50.0) == 12.5
    assert eta.of(("a",), 120.0, 50.5) == pytest.approx(24.4, abs=0.1)
    assert eta.of(("b",), 121.0, 5.0) is None, "another phase begins anew"
    assert eta.of(("b",), 131.0, 5.0) is None, "what does not move foretells nothing"
    assert eta.of(("b",), 141.0, 2.0) is None and eta.of(("b",), 151.0, 4.0) == 480.0, "it began again"


def test_what_a_look_tells() -> None:
    view = View(
        now=1000.0,
        migrators=(Migrator(1),),
        waits=(Wait(1, "relation", "AccessExclusiveLock", "public.t", 990.0, (2,)), Wait(3, "relation", "AccessShareLock", "public.t", 995.0, (1,))),
        sessions={2: Session(2, "psql", "app", state="idle in transaction"), 3: Session(3, "web", "app")},
        progress=(Progress(1, "CREATE INDEX", "public.t", "building index", 1, 4),),
    )
    found = observed(view, Eta())
    assert found["waits_for"] == ["pid 2 (user app, psql, idle in transaction)"] and found["waits_seconds"] == 10.0 and found["waits_relation"] == "public.t"
    assert found["blocked"] == 1 and found["blocked_seconds"] == 5.0
    assert found["command"] == {"command": "CREATE INDEX", "relation": "public.t", "phase": "building index", "percent": 25.0, "eta_seconds": None}
    quiet = observed(View(now=1.0, migrators=(Migrator(1),)), Eta())
    assert quiet == {"waits_for": None, "waits_seconds": None, "blocked": 0, "blocked_seconds": None, "command": None}


@pytest.mark.parametrize(
    ("name", "run"),
    [
        ("pgops.migrations 20261123T0200Z-ab", "20261123T0200Z-ab"),
        ("pgops-deploy r1", "r1"),
        ("pgops.migrations backup r2", "r2"),
        ("psql", ""),
        ("my pgops x", ""),
        ("", ""),
    ],
)
def test_the_run_of_a_session(name: str, run: str) -> None:
    assert run_of(name) == run


@pytest.mark.parametrize(
    ("state", "text"),
    [
        ({}, "starts"),
        ({"phase": "lock"}, "waits for the lock"),
        ({"of": 12, "done": 2, "migration": "m3"}, "2/12"),
        ({"of": 12, "done": 2, "waits_for": ["pid 7"], "waits_seconds": 4}, "2/12 waits 0:04 behind pid 7"),
        ({"of": 12, "done": 2, "blocked": 3, "blocked_seconds": 4}, "2/12 keeps 3 sessions waiting, 0:04"),
    ],
)
def test_in_few_words(state: dict[str, t.Any], text: str) -> None:
    assert short(state) == text


def test_one_line_for_all_targets() -> None:
    assert one_line([], 80) == ""
    first = Entry("db1", 42, "3 of 12, m", "2/12")
    assert one_line([first], 80) == "db1  0:42  3 of 12, m"
    assert one_line([first, Entry("db2", 100, "1 of 2", "0/2")], 80) == "2 at work | db2 1:40 0/2 | db1 0:42 2/12"
    many = [Entry("db%02d" % number, 30 + number % 3, "", "1/2") for number in range(20)]
    assert one_line(many, 80) == "20 at work | db00 0:30 1/2 | db01 0:31 1/2 | db02 0:32 1/2 | and 17 more"
    many[7] = Entry("db07", 1, "", "1/2 waits 0:04 behind pid 7")
    assert one_line(many, 80) == "20 at work | db07 0:01 1/2 waits 0:04 behind pid 7 | db00 0:30 1/2 | and 18 more", "trouble is seen first"
    assert all(len(one_line(many[:count], width)) <= width for count in range(2, 21) for width in range(40, 200))
    assert one_line([Entry("db1", 1, "x" * 200, "")], 60) == "db1  0:01  " + "x" * 46 + "..."


def test_a_job_begins_beside_others_that_look(tmp_path: pathlib.Path) -> None:
    """To look whether a job lives is to try its lock; no job may fail to begin because somebody looks."""
    ended = threading.Event()

    def look() -> None:
        while not ended.is_set():
            assert all(job["state"] == "running" for job in jobs(str(tmp_path)))

    lookers = [threading.Thread(target=look) for _ in range(3)]
    for looker in lookers:
        looker.start()
    held = []
    try:
        for number in range(200):
            (tmp_path / ("job%d" % number)).mkdir()
            held.append(Job(str(tmp_path / ("job%d" % number)), {"run_id": "r"}))
    finally:
        ended.set()
        for looker in lookers:
            looker.join()
    assert len(jobs(str(tmp_path))) == 200 and {job["told"]["run_id"] for job in jobs(str(tmp_path))} == {"r"}
