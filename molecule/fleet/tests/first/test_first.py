# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import re

import fleet
import pytest


@pytest.mark.parametrize("name", fleet.MIGRATED)
def test_sound_hosts_are_migrated_once(name):
    assert fleet.applied(name)[-4:] == fleet.PENDING and len(fleet.applied(name)) == 10
    assert fleet.query(name, "SELECT 1 FROM information_schema.columns WHERE table_name = 'patients' AND column_name = 'phone'") == []
    assert [base for base, _open in fleet.databases(name)] == ["microcare_staging"]


def test_one_of_them_is_on_another_major_version():
    majors = {name: fleet.query(name, "SELECT current_setting('server_version_num')::int / 10000")[0][0] for name in fleet.MIGRATED}
    assert majors["newer"] != majors["sound1"] == majors["sound2"]


def test_the_failing_host_was_rolled_back_exactly():
    assert len(fleet.applied("fails")) == 6 and fleet.as_before("fails")
    (kept,) = [base for base in fleet.databases("fails") if base[0] != "microcare_staging"]
    assert "__kept_" in kept[0] and not kept[1]


def test_the_host_that_did_not_answer_was_not_touched():
    assert fleet.as_before("lost")
    assert [base for base, _open in fleet.databases("lost")] == ["microcare_staging"]
    assert not list((fleet.STATE / "lost/home").iterdir()) and not list((fleet.STATE / "lost/tmp").iterdir())


@pytest.mark.parametrize("name", [*fleet.MIGRATED, "fails"])
def test_restore_points_lie_on_their_host_and_are_private(name):
    host = fleet.host(name)
    backups = host.file(fleet.about(name)["home"] + "/pgops-backups/microcare_staging")
    assert backups.mode == 0o700
    (point,) = backups.listdir()
    for path in host.run("find %s/%s -type f", backups.path, point).stdout.split():
        assert host.file(path).mode == 0o600 and host.file(path).size > 0


@pytest.mark.parametrize("name", [*fleet.MIGRATED, "fails"])
def test_nothing_is_left_on_a_host(name):
    assert fleet.left(name) == ""


def test_no_secret_is_in_any_file_or_line():
    assert len(fleet.secrets()) == 10
    assert not fleet.tells_a_secret(fleet.printed("first"))
    files = [path for path in (fleet.STATE / "reports").rglob("*") if path.is_file()]
    files += [path for name in (*fleet.MIGRATED, "fails") for path in (fleet.STATE / name / "home").rglob("*") if path.is_file()]
    assert len(files) > 20
    assert [path for path in files if fleet.tells_a_secret(path.read_text(encoding="utf-8", errors="replace"))] == []


def test_records_and_table_tell_the_truth():
    (run,) = fleet.runs()
    assert {name: fleet.record(run, name)["outcome"] for name in (*fleet.MIGRATED, "fails")} == {
        "sound1": "applied", "sound2": "applied", "newer": "applied", "fails": "rolled_back",
    }  # fmt: skip
    assert "20260301120000_split_patient_name_fails" in fleet.record(run, "fails")["sentence"]
    lost = fleet.record(run, "lost")
    assert (lost["outcome"], lost["error"]["code"]) == ("refused", "TARGET_UNREACHABLE") and "not touched" in lost["sentence"]
    for name in fleet.MIGRATED:
        assert re.search(r" applied .* ok ", fleet.row("first", name))
    assert re.search(r" rolled_.* MIGRATION_FAILED_PARTIAL", fleet.row("first", "fails"))
    assert re.search(r" refused .* TARGET_UNREACHABLE", fleet.row("first", "lost"))


def test_the_summary_has_the_hosts_that_need_somebody():
    (run,) = fleet.runs()
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    assert sorted(summary["unsuccessful"]) == ["fails", "lost"]
