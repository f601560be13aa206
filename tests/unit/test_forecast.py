# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _forecast as f
from ansible_collections.pgops.migrations.plugins.module_utils._forecast_facts import shown

COPY = {"public.a": {"rows": 100_000, "bytes": 10_000_000}, "public.b": {"rows": 1_000, "bytes": 100_000}, "public.same": {"rows": 500, "bytes": 8192}}
LIVE = {"public.a": {"rows": 1_000_000, "bytes": 100_000_000}, "public.b": {"rows": 10_000, "bytes": 1_000_000}, "public.same": {"rows": 500, "bytes": 8192}}
INDEX = [{"index": "public.i", "table": "public.a", "method": "btree"}]


def _told(copied: t.Any = None, live: t.Any = None, settings: t.Any = None, seconds: float = 1.0, **seen: t.Any) -> dict[str, t.Any]:
    found = f.forecast([{"migration": "m", "seconds": seconds, **seen}], COPY if copied is None else copied, LIVE if live is None else live, settings)
    return t.cast("dict[str, t.Any]", found["migrations"][0]["statements"][0])


@pytest.mark.parametrize(
    ("seen", "kind", "least", "most"),
    [
        pytest.param({"indexes": INDEX}, f.INDEX, 11.9, 12.1, id="a build sorts: n log n"),
        pytest.param({"indexes": [dict(INDEX[0], method="brin")]}, f.INDEX, 9.9, 10.1, id="one that does not sort"),
        pytest.param({"indexes": [dict(INDEX[0], rows=10_000)]}, f.INDEX, 10.0, 10.3, id="a partial one reads more than it sorts"),
        pytest.param({"indexes": [dict(INDEX[0], rows=100_000)]}, f.INDEX, 11.9, 12.1, id="one with all rows"),
        pytest.param({"rewritten": ["public.a"]}, f.REWRITE, 10, 11.5, id="a rewrite"),
        pytest.param({"read": {"public.a": 100_000}, "written": {"public.a": 100_000}}, f.ROWS, 10, 11.5, id="a backfill"),
        pytest.param({"read": {"public.a": 100_000}}, f.SCAN, 9.9, 10.1, id="a constraint is validated"),
        pytest.param({"read": {"public.a": 100_000, "public.b": 10_000}}, f.SCAN, 11.9, 12.3, id="a foreign key is held against its table"),
        pytest.param({"read": {"public.a": 3}}, f.CATALOGUE, 1, 1, id="a look at single rows"),
        pytest.param({}, f.CATALOGUE, 1, 1, id="the catalogue alone"),
        pytest.param({"written": {"public.a": 5_000}}, f.ROWS, 1, 1, id="VALUES are as many in production"),
        pytest.param({"read": {"public.same": 500}, "written": {"public.same": 500}}, f.ROWS, 1, 1, id="a table of the same size"),
        pytest.param({"read": {"public.same": 500, "public.a": 100_000}}, f.SCAN, 9.9, 10.1, id="the table of which most rows are read decides"),
    ],
)  # fmt: skip
def test_what_a_statement_did_says_how_it_grows(seen: dict[str, t.Any], kind: str, least: float, most: float) -> None:
    found = _told(**seen)
    assert found["kind"] == kind
    assert least <= found["seconds"] <= most
    assert found["low"] <= found["seconds"] <= found["high"]


@pytest.mark.parametrize(
    ("more", "words"),
    [
        pytest.param({"live": {}}, "is not in production", id="a table that is not there"),
        pytest.param({"copied": {"public.a": {"rows": 0, "bytes": 0}}}, "has no rows on the copy", id="nothing to measure"),
        pytest.param({"live": {"public.a": {"rows": None, "bytes": 50_000_000}}}, "only its bytes", id="never analysed"),
        pytest.param({"live": {"public.a": {"rows": 1_000_000, "bytes": 400_000_000}}}, "bloated", id="bloated"),
        pytest.param({"settings": {"maintenance_work_mem": 64 << 20}}, "sort in memory on the copy", id="memory"),
        pytest.param(
            {"settings": {"maintenance_work_mem": 1 << 30, "workers": 2}}, "1 workers on the copy, 2 in production", id="parallel",
        ),
    ],
)  # fmt: skip
def test_a_doubt_is_said_and_widens_the_error_bar(more: dict[str, t.Any], words: str) -> None:
    plain, found = _told(indexes=INDEX), _told(indexes=INDEX, **more)
    assert any(words in doubt for doubt in found["doubts"]), found["doubts"]
    assert found["high"] / found["seconds"] > plain["high"] / plain["seconds"]
    assert plain["doubts"] == []


def test_the_error_bar_grows_with_the_distance_and_with_the_spread() -> None:
    far = {"public.a": {"rows": 100_000_000, "bytes": 10_000_000_000}}
    one, other = _told(indexes=INDEX), _told(indexes=INDEX, live=far)
    assert other["high"] / other["seconds"] > one["high"] / one["seconds"]
    assert _told(indexes=INDEX, spread=0.5)["high"] > one["high"] + 4


def test_the_start_of_workers_does_not_grow() -> None:
    seen: dict[str, t.Any] = {"indexes": INDEX, "settings": {"maintenance_work_mem": 1 << 30, "workers": 1}, "seconds": 0.05}
    without, with_start = _told(**seen), _told(**seen, worker_start=0.01)
    assert 0.10 < without["seconds"] - with_start["seconds"] < 0.12
    # None starts on so small a table, for another method, or where the server has none; and a start that was measured too long explains half at the most.
    small = {"public.a": {"rows": 100_000, "bytes": 8_000_000}}
    others: list[dict[str, t.Any]] = [{"copied": small}, {"indexes": [dict(INDEX[0], method="gist")]}, {"settings": {"maintenance_work_mem": 1 << 30, "workers": 0}}]
    for more in others:
        assert _told(**{**seen, **more}, worker_start=0.01)["seconds"] == _told(**{**seen, **more})["seconds"]
    assert _told(**seen, worker_start=9.0)["seconds"] == pytest.approx(without["seconds"] / 2, rel=0.1)


def test_a_commit_grows_as_what_is_committed() -> None:
    measured = [
        {"migration": "m", "seconds": 1.0, "read": {"public.a": 100_000}},
        {"migration": "m", "seconds": 0.1, "commit": True},
        {"migration": "n", "seconds": 0.001},
    ]
    found = f.forecast(measured, COPY, LIVE)
    assert [entry["name"] for entry in found["migrations"]] == ["m", "n"]
    assert 0.9 < found["migrations"][0]["statements"][1]["seconds"] < 1.1
    assert "most of it m" in f.sentence(found)
    assert f.sentence(f.forecast(measured, COPY, COPY)) == ""


def test_a_statement_is_shown_without_its_values() -> None:
    assert (
        shown("-- why\nUPDATE a SET b = 'secret', c = $x$secret$x$, d = E'sec\\'ret'\n WHERE e = 5")
        == "UPDATE a SET b = '..', c = $$..$$, d = '..' WHERE e = 5"
    )
    assert len(shown("SELECT " + "a, " * 100 + "b")) == 120
