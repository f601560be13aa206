# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet migrated in waves, as an operator does it: stopped by a failing target, finished by the same command, and then idle."""

from __future__ import annotations

import os
import pathlib
import re
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._deploy import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.modules import ModuleRunner
from support.production import INIT, LAST, PLAN, SCRIPTS, Production, recap

NAMES = ("p1", "p2", "p3", "p4", "p5", "p6")
DAY = 86400


@pytest.fixture
def fleet(cluster: t.Any, database: t.Callable[..., Target], module: ModuleRunner, tmp_path: pathlib.Path) -> Production:
    made = Production(tmp_path, module, {name: database() for name in NAMES}, cluster.bin_dir, SCRIPTS)
    for target in made.targets.values():
        deploy(target, dict(PLAN, migrations_dir=made.migrations, up_to=INIT), False)
    return made


def test_a_target_without_a_valid_certificate_is_refused_before_anything_is_touched(fleet: Production) -> None:
    before = fleet.applied()
    fleet.certify("p2", age=8 * DAY)
    fleet.certify("p3", ledger_head="0_before", server_major=9)
    tampered = pathlib.Path(fleet.certify("p4"))
    tampered.write_text(tampered.read_text(encoding="utf-8").replace(LAST, "3_lust"), encoding="utf-8")
    fleet.certify("p5")
    seen = [fleet.look("p2"), fleet.look("p5"), fleet.look("p5", signed_by="0" * 40), fleet.look("p1", up_to=INIT)]
    assert [found["refusal_code"] for found in seen] == ["CERTIFICATE_STALE", "", "CERTIFICATE_UNSIGNED", ""]
    assert [found["valid"] for found in seen] == [False, True, False, False] and not seen[3]["needed"] and 7.9 < seen[0]["age_days"] < 8.1
    done = fleet.run(migration_targets="p1,p2,p3,p4", migration_waves="100%", migration_override_certificate="other:without-rehearsal:no-matter")
    assert done.returncode == 2, done.stdout + done.stderr
    records = fleet.records()
    codes = {"p1": "CERTIFICATE_MISSING", "p2": "CERTIFICATE_STALE", "p3": "CERTIFICATE_MISMATCH", "p4": "CERTIFICATE_INVALID"}
    for name, code in codes.items():
        record = records[name]
        assert (record["outcome"], record["error"]["code"], record["error"]["phase"]) == ("refused", code, "certificate"), record["sentence"]
        assert "rehearse.yml -e migration_targets=%s" % name in record["sentence"], record["sentence"]
        assert "%s:without-rehearsal:REASON" % fleet.targets[name].dbname in record["sentence"]
    for words in ("the head of the ledger (rehearsed 0_before, now %s)" % INIT, "the major version of the server (rehearsed 9, now"):
        assert words in records["p3"]["sentence"]
    assert fleet.applied() == before and not os.path.exists(fleet.backups) and "STOPPED: wave 1 of 1 was not passed" in done.stdout
    # A wave of which nobody can be reached: told, recorded, and nobody else is begun.
    gone = fleet.run(migration_targets="gone,p1", migration_canary="gone", migration_override_certificate="")
    assert gone.returncode != 0 and fleet.applied() == before
    record = fleet.records()["gone"]
    assert list(fleet.records()) == ["gone"] and record["outcome"] == "refused" and record["error"]["code"] == "TARGET_UNREACHABLE", record["sentence"]
    assert "STOPPED: wave 1 of 2 was not passed: gone. 1 target of later waves not started and not touched." in gone.stdout, gone.stdout
    # Not production: nothing of it is even looked at.
    staging = fleet.run(migration_targets="p5", migration_environment="staging")
    assert staging.returncode == 2 and fleet.records()["p5"]["error"]["code"] == "WRONG_ENVIRONMENT"
    # And nobody comes around the certificate by another runbook.
    around = fleet.run(migration_targets="p5", playbook="staging_migrate.yml")
    assert around.returncode == 2 and "Next: use production_migrate.yml" in around.stdout and fleet.applied() == before, around.stdout


def test_a_failing_wave_stops_the_run_and_the_same_command_finishes_it(fleet: Production) -> None:
    for name in NAMES[1:]:
        fleet.certify(name)
    fleet.query("p2", "INSERT INTO users (email) VALUES ('a')")
    unwell = fleet.folder / "unwell.sql"
    unwell.write_text("SELECT email FROM users WHERE email = 'unwell'", encoding="utf-8")
    fleet.query("p6", "INSERT INTO users (email) VALUES ('unwell')")
    waves = {"migration_waves": "1,2,100%", "migration_health_command": ["true"], "migration_health_sql": str(unwell)}
    # The canary is migrated, and is not well afterwards.
    canary = fleet.run(**waves)
    assert (
        canary.returncode == 2
        and "p6: the health check failed: 1 of 1 checks failed. custom" in canary.stdout
        and "STOPPED: wave 1 of 3 was not passed: p6. 5 targets" in canary.stdout
    ), canary.stdout + canary.stderr
    assert fleet.applied() == {"p1": 1, "p2": 1, "p3": 1, "p4": 1, "p5": 1, "p6": 3} and list(fleet.records()) == ["p6"]
    fleet.query("p6", "DELETE FROM users WHERE email = 'unwell'")
    # It goes on behind it. p1 has no certificate, and somebody typed that it goes without; p2 has what the index cannot have.
    typed = "%s:without-rehearsal:hotfix-4711" % fleet.targets["p1"].dbname
    failing = fleet.run(**waves, migration_override_certificate=typed)
    assert failing.returncode == 2, failing.stdout + failing.stderr
    assert fleet.applied() == {"p1": 3, "p2": 1, "p3": 1, "p4": 1, "p5": 1, "p6": 3}
    records = fleet.records()
    assert {name: record["outcome"] for name, record in records.items()} == {"p6": "nothing_to_do", "p1": "applied", "p2": "rolled_back"}
    guard = records["p1"]["other"]["certificate"]
    assert guard["overridden"] and guard["override_reason"] == "hotfix-4711" and guard["refusal_code"] == "CERTIFICATE_MISSING"
    assert "WITHOUT" in records["p1"]["sentence"] and "hotfix-4711" in records["p1"]["sentence"], records["p1"]["sentence"]
    assert records["p2"]["other"]["certificate"]["valid"] and not records["p2"]["other"]["certificate"]["overridden"]
    assert "STOPPED: wave 2 of 3 was not passed: p2. 3 targets of later waves not started and not touched." in failing.stdout, failing.stdout
    assert re.findall(r"(p\d) +not_started", failing.stdout) == ["p3", "p4", "p5"] and re.search(r"p2 +rolled_back", failing.stdout)
    dumped = {name for name in os.listdir(fleet.backups) if not name.startswith(".slot-")}
    assert recap(failing)["p6"]["changed"] == 0 and dumped == {fleet.targets[name].dbname for name in ("p1", "p2", "p6")}
    # The cause is mended, the same command finishes the rest; what it rehearsed is still what is pending.
    fleet.query("p2", "DELETE FROM users WHERE id = 3")
    rest = fleet.run(**waves)
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert set(fleet.applied().values()) == {3}
    counts = recap(rest)
    assert counts["p6"]["changed"] == counts["p1"]["changed"] == 0 and all(counts[name]["changed"] for name in ("p2", "p3", "p4", "p5"))
    idle = fleet.run(**waves, migration_soak_seconds=3600)
    assert idle.returncode == 0 and not any(count["changed"] for count in recap(idle).values()), idle.stdout
    assert "Wave 3 of 3 is passed, nothing was to be done." in idle.stdout
