# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fleet with nothing to do costs: tasks and module processes per target, and connections as the server counts them."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import sys
import typing as t

import pytest
from conftest import PASSWORD, ROOT, TestCluster, drop_databases
from support.fleet import GROUP, Fleet, make_fleet

TARGETS, LISTED = 40, 1000
#: What only the first target does, for all of them: tasks that run once.
ONCE = {"staging_migrate.yml": 4, "status.yml": 2}


@pytest.fixture(scope="module")
def fleet(cluster: TestCluster, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[Fleet]:
    """Forty databases that are up to date, on a server that logs each connection."""
    conn, role = cluster.admin(), "fleet_cost_%d" % os.getpid()
    with conn.cursor() as cursor:
        cursor.execute("SELECT format('CREATE ROLE %%I LOGIN CREATEDB PASSWORD %%L', %s, %s)", (role, PASSWORD))
        cursor.execute(cursor.fetchone()[0])
        cursor.execute("ALTER SYSTEM SET log_connections = on")
        cursor.execute("SELECT pg_reload_conf()")
    try:
        yield make_fleet([cluster], tmp_path_factory.mktemp("fleet"), TARGETS, role, PASSWORD)
    finally:
        with conn.cursor() as cursor:
            cursor.execute("ALTER SYSTEM RESET log_connections")
            cursor.execute("SELECT pg_reload_conf()")
        drop_databases(conn, [("", role)])
        conn.close()


@pytest.fixture(scope="module")
def generated(fleet: Fleet) -> pathlib.Path:
    """An inventory script that lists a thousand targets, the first of which exist."""
    static = json.loads(fleet.inventory.read_text(encoding="utf-8"))[GROUP]
    hosts = ["db%04d" % index for index in range(LISTED)]
    listed = {
        GROUP: {"hosts": hosts, "vars": static["vars"]},
        "_meta": {"hostvars": {name: static["hosts"][fleet.names[index % TARGETS]] for index, name in enumerate(hosts)}},
    }
    (fleet.folder / "listed.json").write_text(json.dumps(listed), encoding="utf-8")
    script = fleet.folder / "inventory.py"
    script.write_text("#!%s\nimport pathlib\nprint(pathlib.Path(__file__).with_name('listed.json').read_text())\n" % sys.executable, encoding="utf-8")
    script.chmod(0o700)
    return script


def recap(output: str) -> dict[str, dict[str, int]]:
    lines = re.findall(r"^(db\d+)\s+: (ok=.*)$", output, re.M)
    return {name: {key: int(value) for key, value in (pair.split("=") for pair in counts.split())} for name, counts in lines}


@pytest.mark.parametrize("playbook", ONCE)
def test_nothing_to_do_costs_three_tasks_and_one_connection(fleet: Fleet, generated: pathlib.Path, cluster: TestCluster, playbook: str) -> None:
    log = pathlib.Path(cluster.server.log_file)
    begin = log.stat().st_size
    program, book = pathlib.Path(sys.executable).parent / "ansible-playbook", ROOT / "playbooks" / playbook
    limit = ["-e", "migration_targets=%s" % GROUP, "--limit", "db000?:db001?:db002?:db003?"]
    done = fleet.run([str(program), "-i", str(generated), str(book), *limit, "-vvv"])
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    with open(log, encoding="utf-8", errors="replace") as text:
        text.seek(begin)
        connections = collections.Counter(re.findall(r"connection authorized: user=fleet_cost_\S+ database=(\S+)", text.read()))
    assert connections == dict.fromkeys(fleet.names, 1)
    counts = recap(done.stdout)
    assert sorted(counts) == list(fleet.names)
    first, *others = counts.values()
    for each in others:
        assert each["ok"] <= 3 and each["ok"] + each["skipped"] <= 5, each
        assert not each["changed"] and not each["failed"] and not each["unreachable"]
    assert first["ok"] <= 3 + ONCE[playbook] and not first["changed"]
    # Not one Python was started for a task, on any target or on the controller.
    assert "Using module file" not in done.stdout
    assert PASSWORD not in done.stdout and json.dumps(PASSWORD)[1:-1] not in done.stdout
    if playbook == "staging_migrate.yml":
        records = sorted(path.stem for path in fleet.reports_dir.glob("*/db*.json"))
        assert records == list(fleet.names) and "nothing to do" in done.stdout
