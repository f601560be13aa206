# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A record has an end, however much a run reports: what is drawn and counted is kept, and what is not says so."""

from __future__ import annotations

import json
import re
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._record_bounds import MOST, fit
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import html
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown_page import report
from support.recorded import violations, wrong_figures
from support.runs import BACKUP, DEPLOYED, PREFLIGHT, VERIFIED, WOULD, record
from unit.test_report_html import MONITOR, RUN, Page, run, sample


def names(count: int) -> list[str]:
    return ["2026%08d_migration" % number for number in range(count)]


def finding(number: int, long: int = 0) -> dict[str, t.Any]:
    return {"kind": "rows_fewer", "object": "public.t%d" % number, "text": "public.t%d has 1 row fewer. %s" % (number, "x" * long), "severity": "finding"}


def size(value: t.Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def at(found: t.Any, path: str) -> t.Any:
    for step in re.findall(r"[^.\[\]]+", path):
        found = found[int(step)] if isinstance(found, list) else found[step]
    return found


def test_all_samples_are_kept_and_drawn() -> None:
    samples = [sample(number * 0.5, active=number, wal=number * 1000) for number in range(600)]
    found = run(deploy=dict(DEPLOYED, monitor=dict(MONITOR, samples=samples, taken=600, seconds=300.0)))
    assert len(found["deploy"]["monitor"]["samples"]) == 600 and found["cut"] == []
    assert len(Page(html(found)).table("samples-table")[1]) == 600 and wrong_figures(found) == []


def test_a_sentence_counts_all_migrations() -> None:
    found = record(phases={"deploy": dict(WOULD, would_apply=names(700))}, check_mode=True)
    assert "700 migrations would be applied" in found["sentence"] and len(found["deploy"]["would_apply"]) == 700 and found["cut"] == []
    many = [{"name": name, "seconds": 0.25} for name in names(700)]
    found = record(phases=dict(RUN, deploy=dict(DEPLOYED, applied=many, planned=names(700), monitor=MONITOR)))
    assert found["sentence"].startswith("staging1: 700 migrations applied") and len(found["deploy"]["applied"]) == 700 and wrong_figures(found) == []


def test_what_is_cut_is_said_and_the_sentence_counts_it() -> None:
    found = record(phases=dict(RUN, verification=dict(VERIFIED, findings=[finding(number) for number in range(12_000)])))
    assert "12,000 findings to look at" in found["sentence"] and found["phases"][-1]["sentence"] == "12,000 findings"
    assert found["cut"] == [{"path": "verification.findings", "kept": 10_000, "of": 12_000}] and violations(found) == []
    (row,) = Page(html(found)).table("cut-table")[1]
    assert "| `verification.findings` | 10,000 | 12,000 |" in report(found) and len(row) == 3


def test_a_table_of_which_the_module_counted_a_part_is_said() -> None:
    counts = [{"table": "public.t%d" % number, "before": 1, "after": 1} for number in range(1000)]
    found = record(phases={"verification": {"changed": False, "findings": [], "row_counts": counts, "tables": 1234, "rows": 1234}})
    assert found["cut"] == [{"path": "row_counts", "kept": 1000, "of": 1234}]


HUGE: dict[str, dict[str, t.Any]] = {
    "findings": dict(RUN, verification=dict(VERIFIED, findings=[finding(number, 3000) for number in range(450)])),
    "evidence": dict(RUN, verification=dict(VERIFIED, checks=[
        {"name": "c%d" % number, "verdict": "pass", "text": "", "evidence": [{"text": "y" * 4000} for _ in range(25)], "count": 25} for number in range(18)
    ])),
    "migrations": {"preflight": dict(PREFLIGHT, pending=names(9_000)), "backup": BACKUP, "deploy": dict(
        DEPLOYED, applied=[{"name": name, "seconds": 1.0} for name in names(9_000)], planned=names(9_000))},
    "another phase": dict(RUN, mine={"changed": False, "dict.of[many]": {"k.%d" % number: "z" * 2000 for number in range(60)}, "list": [["w" * 4000] * 12] * 12}),
    "one text": dict(RUN, mine={"changed": False, **{"text %d" % number: "v" * 4000 for number in range(120)}}),
    "texts in a known phase": dict(RUN, preflight=dict(PREFLIGHT, **{"text %d" % number: {"a": "u" * 4000} for number in range(100)})),
}  # fmt: skip


#: Instead of what a record may have, so that little is enough to be too much.
LITTLE = 200_000


@pytest.mark.parametrize("name", HUGE)
def test_a_record_is_never_larger_than_it_may_be(name: str) -> None:
    found = record(phases=HUGE[name])
    assert found["cut"] == [] and size(found) > 2 * LITTLE
    fit(found, most=LITTLE)
    assert size(found) <= LITTLE + size(found["cut"]) and found["cut"], size(found)
    assert violations(found, strict=False) == []
    for entry in found["cut"]:
        if "dict.of" not in entry["path"]:
            assert len(at(found, entry["path"])) == entry["kept"] < entry["of"], entry
    assert "What the record left out" in report(found)


def test_the_limit_holds_for_what_is_recorded() -> None:
    found = record(phases=dict(RUN, mine={"changed": False, **{"text %d" % number: "v" * 3000 for number in range(1400)}}))
    assert 0 < size(found) <= MOST and found["cut"] == [{"path": "other.mine", "kept": 1000, "of": 1401}]


def test_nothing_is_cut_that_fits_and_nothing_twice() -> None:
    found = run()
    before = json.dumps(found)
    fit(found)
    assert json.dumps(found) == before and found["cut"] == []
