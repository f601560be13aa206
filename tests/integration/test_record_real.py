# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The records of real runs: each is as its schema says, and its reports say its figures and no others."""

from __future__ import annotations

import json
import pathlib
import re
import shutil
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _matrix
from ansible_collections.pgops.migrations.plugins.module_utils._report_files import to_json
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import html
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown_page import report
from ansible_collections.pgops.migrations.plugins.module_utils._summary import run_row
from support.matrix import index
from support.recorded import Figures, violations, wrong_figures
from support.runbooks import Play, records

from tools.microcare import Staging

FAILING = "20260301120000_split_patient_name_fails"


def checked(staging: Staging, outcome: str) -> dict[str, t.Any]:
    """The newest record, after it and the files that were drawn from it were looked at."""
    record = records(staging)[-1]
    assert record["outcome"] == outcome, record["sentence"]
    right(record)
    (path,) = pathlib.Path(staging.reports_dir).glob("%s/microcare_staging.json" % record["run_id"])
    # Drawn from the record and from nothing else, so that it can be drawn again.
    assert path.read_text(encoding="utf-8") == to_json(record)
    assert path.with_suffix(".html").read_text(encoding="utf-8") == html(record)
    assert path.with_suffix(".md").read_text(encoding="utf-8") == report(record)
    return record


def right(record: dict[str, t.Any]) -> None:
    assert violations(record) == [] and wrong_figures(record) == [], record["sentence"]
    assert record["cut"] == [] and record["started_at"].endswith("Z") and record["finished_at"].endswith("Z")


@pytest.mark.exhaustive
@pytest.mark.slow
@pytest.mark.parametrize("failing", [True], indirect=True)
def test_the_records_of_all_runbooks(staging: Staging, play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    # A check writes no record; it is in the result of its task.
    monkeypatch.setenv("ANSIBLE_CALLBACK_RESULT_FORMAT", "json")
    monkeypatch.setenv("ANSIBLE_CALLBACK_FORMAT_PRETTY", "false")

    def run(name: str, *arguments: str, **variables: t.Any) -> str:
        done = play(name, staging, *arguments, migration_engine="direct", migration_targets="staging", **variables)
        return done.stdout + done.stderr

    said = run("staging_migrate.yml", "--check", "-v")
    found = [json.loads(line) for line in re.findall(r"^(?:ok|changed): \[microcare_staging -> localhost\] => (\{.*\})$", said, re.M)]
    (predicted,) = [result["record"] for result in found if "record" in result]
    right(predicted)
    assert predicted["outcome"] == "checked" and predicted["check_mode"] and records(staging) == []

    run("staging_migrate.yml")
    undone = checked(staging, "rolled_back")
    assert undone["deploy"]["failed_migration"]["name"] == FAILING and undone["restore"]["kept"] in report(undone)
    shutil.rmtree(pathlib.Path(staging.app_dir) / "prisma/migrations" / FAILING)
    run("staging_migrate.yml")
    applied = checked(staging, "applied")
    assert predicted["deploy"]["would_apply"] == [*(entry["name"] for entry in applied["deploy"]["applied"]), FAILING]
    assert applied["deploy"]["monitor"]["size_after"] > 0 and len(applied["verification"]["checks"]) > 10
    run("staging_migrate.yml")
    checked(staging, "nothing_to_do")
    asked = re.findall(r"-e migration_confirm=(\S+)", run("rollback.yml"))
    refused = checked(staging, "refused")
    assert refused["restore"]["loss"]["known"] is True and asked
    run("rollback.yml", migration_confirm=asked[-1])
    restored = checked(staging, "restored")
    assert restored["restore"]["undone"] == [entry["name"] for entry in applied["deploy"]["applied"]]
    run("backup.yml")
    assert checked(staging, "done")["backup"]["restore_point"]["proof"]["level"] == "read"
    run("restore_drill.yml")
    drilled = checked(staging, "done")
    assert drilled["drill"]["rto_seconds"] > 0
    kinds = [dict(record, target="target %d" % number) for number, record in enumerate((undone, applied, refused, restored, drilled))]
    page = _matrix.page("t", [run_row(record["target"], record) for record in kinds], {})
    for value, shown in Figures(index(kinds)).found:
        # Both pages over many targets say the same of each; how many there are of a kind stands in the title of the one.
        assert shown in page or value in (1, 2, 5), (value, shown, page)
