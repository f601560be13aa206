# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A controller that is killed in a wave of production, a host that is lost in a deploy, and fifty targets with one that fails."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._deploy import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from conftest import ROOT
from support.modules import ModuleRunner
from support.production import INIT, LAST, PLAN, SCRIPTS, UNIQUE, Production, recap
from support.restorepoints import databases, until
from support.sshd import PROGRAM, SshServer

SLOW = {INIT: SCRIPTS[INIT], UNIQUE: "CREATE TABLE slow AS SELECT 1 AS n FROM pg_sleep(6);\n", LAST: SCRIPTS[LAST]}
AT_WORK = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE TABLE slow%' AND state = 'active'"
STARTS = "SELECT migration_name, count(*) FROM _prisma_migrations GROUP BY 1 ORDER BY 1"

Make = t.Callable[..., Production]


@pytest.fixture
def make(cluster: t.Any, database: t.Callable[..., Target], module: ModuleRunner, tmp_path: pathlib.Path) -> Make:
    """Databases with the first migration applied, and certificates for the others."""

    def made(names: t.Sequence[str], scripts: dict[str, str], **more: t.Any) -> Production:
        found = Production(tmp_path, module, {name: database() for name in names}, cluster.bin_dir, scripts, **more)
        for name, target in found.targets.items():
            deploy(target, dict(PLAN, migrations_dir=found.migrations, up_to=INIT), False)
            found.certify(name, seconds=6.0)
        return found

    return made


def nothing_left(fleet: Production, before: t.Collection[str], admin: t.Any) -> None:
    """No scratch database, no lock, no job, and no file that holds a password."""
    with admin() as conn, conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks l JOIN pg_database d ON d.oid = l.database WHERE locktype = 'advisory' AND datname = ANY(%s)", (
            [target.dbname for target in fleet.targets.values()],
        ))  # fmt: skip
        assert cursor.fetchone() == (0,)
    assert set(databases(admin())) == set(before) and not list(fleet.jobs.iterdir())
    password = next(iter(fleet.targets.values())).password
    known = {fleet.folder / "hosts.yml"}
    assert password and not [path for path in fleet.folder.rglob("*") if path.is_file() and path not in known and password.encode() in path.read_bytes()]


def migrated_once(fleet: Production) -> bool:
    """Each migration of each target, and what it made is there once."""
    rows = [fleet.query(name, STARTS) for name in fleet.targets]
    return all(found == [(name, 1) for name in (INIT, UNIQUE, LAST)] for found in rows) and all(
        fleet.query(name, "SELECT count(*) FROM slow") == [(1,)] for name in fleet.targets
    )


def test_a_controller_that_is_killed_in_a_wave_is_gone_on_from(make: Make, admin: t.Any, tmp_path: pathlib.Path) -> None:
    fleet = make(("p1", "p2", "p3"), SLOW, migrate_deploy_detach=True)
    before = databases(admin())
    with open(tmp_path / "killed.out", "wb") as out:
        killed = subprocess.Popen(
            fleet.command(migration_waves="1,1,100%"),
            cwd=ROOT,
            env=fleet.environment(),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
    # The canary is done; the second wave is at work.
    assert until(lambda: fleet.query("p1", AT_WORK), 120), (tmp_path / "killed.out").read_text()
    workers = subprocess.run(["ps", "-o", "pid=", "--ppid", str(killed.pid)], capture_output=True, text=True, check=False).stdout.split()
    for pid in [killed.pid, *map(int, workers)]:
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    assert fleet.query("p1", AT_WORK) and fleet.applied() == {"p1": 1, "p2": 1, "p3": 3}, "the migration goes on"
    # Nobody had verified what the lost run applied, so the next one does: what it finds stops the waves.
    unwell = fleet.folder / "unwell.sql"
    unwell.write_text("SELECT 'slow'", encoding="utf-8")
    second = fleet.run(migration_waves="1,1,100%", verification_checks=["ledger", "custom"], verification_custom_sql=[str(unwell)])
    assert second.returncode == 2, second.stdout + second.stderr
    records = fleet.records()
    assert {name: record["outcome"] for name, record in records.items()} == {"p3": "nothing_to_do", "p1": "failed"}
    (followed,) = records["p1"]["followed"]
    assert followed["state"] == "finished" and records["p3"]["followed"] == [] and records["p1"]["verification"]["compared_level"] == "full"
    assert records["p1"]["error"]["code"] == "CHECK_FAILED" and fleet.applied() == {"p1": 3, "p2": 1, "p3": 3}, "nobody goes back behind the application"
    rest = fleet.run(migration_waves="1,1,100%")
    assert rest.returncode == 0, rest.stdout + rest.stderr
    assert {name: record["outcome"] for name, record in fleet.records().items()} == {"p3": "nothing_to_do", "p1": "nothing_to_do", "p2": "applied"}
    assert migrated_once(fleet)
    nothing_left(fleet, before, admin)
    third = fleet.run(migration_waves="1,1,100%")
    assert third.returncode == 0 and not any(counts["changed"] for counts in recap(third).values()), third.stdout


@pytest.mark.exhaustive
@pytest.mark.skipif(PROGRAM is None, reason="no sshd: apt-get install openssh-server")
def test_a_host_that_is_lost_in_its_deploy_stops_the_waves_and_the_next_run_converges(make: Make, admin: t.Any, tmp_path: pathlib.Path) -> None:
    fleet = make(("p1", "p2", "p3"), SLOW, migrate_deploy_detach=True, migrate_deploy_reconnect=1)
    before = databases(admin())
    ssh = SshServer(tmp_path / "ssh")
    try:
        (variables,) = json.loads(ssh.inventory.read_text())["staging"]["hosts"].values()
        ssh.inventory.write_text(json.dumps({"production": {"hosts": {"p1": variables}}}))
        through = ["-i", str(ssh.inventory)]
        with open(tmp_path / "lost.out", "wb") as out:
            lost = subprocess.Popen(
                fleet.command(*through, migration_waves="1,1,100%"), cwd=ROOT, env=fleet.environment(), stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        assert until(lambda: fleet.query("p1", AT_WORK), 120), (tmp_path / "lost.out").read_text()
        ssh.stop()
        assert lost.wait(120) == 2, (tmp_path / "lost.out").read_text()
        said = " ".join((tmp_path / "lost.out").read_text().split())
        assert "STOPPED: wave 2 of 3 was not passed: p1. 1 target of later waves not started and not touched." in said, said
        assert fleet.records()["p1"]["error"]["code"] == "TARGET_UNREACHABLE" and fleet.applied()["p2"] == 1
        ssh.start()
        second = fleet.run(*through, migration_waves="1,1,100%")
    finally:
        ssh.stop()
    assert second.returncode == 0, second.stdout + second.stderr
    assert migrated_once(fleet) and fleet.records()["p1"]["followed"][0]["state"] == "finished"
    nothing_left(fleet, before, admin)


@pytest.mark.exhaustive
def test_fifty_targets_and_one_that_fails(make: Make, admin: t.Any) -> None:
    names = ["t%02d" % number for number in range(1, 51)]
    fleet = make(names, SCRIPTS)
    before = databases(admin())
    fleet.query("t17", "INSERT INTO users (email) VALUES ('a')")
    waves = {"migration_waves": "1,10,20,100%"}
    first = fleet.run(**waves)
    assert first.returncode == 2, first.stdout + first.stderr
    # t50 is the canary; t01 to t10, and t11 to t30 with the one that fails.
    touched, untouched = ["t50", *names[:30]], names[30:49]
    applied = fleet.applied()
    assert [name for name in touched if applied[name] != 3] == ["t17"] and {applied[name] for name in [*untouched, "t17"]} == {1}
    # Twenty at work on one server and one volume, and never more than four backups at once.
    at_once = {".slot-%d" % number for number in range(4)}
    assert set(os.listdir(fleet.backups)) == {fleet.targets[name].dbname for name in touched} | at_once
    records = fleet.records()
    assert {name: record["outcome"] for name, record in records.items()} == {**dict.fromkeys(touched, "applied"), "t17": "rolled_back"}
    assert "STOPPED: wave 3 of 4 was not passed: t17. 19 targets of later waves not started and not touched." in first.stdout, first.stdout[-3000:]
    (run,) = [path for path in pathlib.Path(fleet.reports).iterdir() if path.is_dir()]
    rows = json.loads((run / "summary.json").read_text(encoding="utf-8"))["rows"]
    assert [row["target"] for row in rows if row["outcome"] == "not_started"] == untouched, rows
    fleet.query("t17", "DELETE FROM users WHERE id = 3")
    second = fleet.run(**waves)
    assert second.returncode == 0, second.stdout + second.stderr
    counts = recap(second)
    assert set(fleet.applied().values()) == {3} and {name for name in names if counts[name]["changed"]} == {"t17", *untouched}
    third = fleet.run(**waves)
    assert third.returncode == 0 and not any(count["changed"] for count in recap(third).values()), third.stdout[-3000:]
    # What failed is kept beside, as the way back said; nothing else is left.
    (kept,) = set(databases(admin())) - set(before)
    assert kept.startswith("%s__kept_" % fleet.targets["t17"].dbname) and set(before) <= set(databases(admin()))
