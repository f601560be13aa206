# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""backup.yml and restore_drill.yml as an operator runs them, on several targets at once."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import sys
import typing as t

import pytest
import yaml
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import safe_name
from conftest import ROOT
from integration.test_external import TOOL
from support.restorepoints import databases, execute, filled


class Fleet:
    """Targets in an inventory, with their own backup and reports folders."""

    def __init__(self, cluster: t.Any, folder: pathlib.Path) -> None:
        self.folder, self.backups, self.reports = folder, folder / "backups", folder / "reports"
        self.hosts: dict[str, dict[str, t.Any]] = {}
        self.variables = {"migration_backup_dir": str(self.backups), "migration_reports_dir": str(self.reports), "migration_pg_bin_dir": str(cluster.bin_dir)}

    def add(self, name: str, target: t.Any, **variables: t.Any) -> None:
        local = {"ansible_connection": "ansible.builtin.local", "ansible_python_interpreter": sys.executable}
        self.hosts[name] = {**local, "migration_database_url": target.prisma_url(), **variables}

    def play(self, name: str, *arguments: str, **variables: t.Any) -> subprocess.CompletedProcess[str]:
        inventory = self.folder / "inventory.yml"
        inventory.write_text(yaml.safe_dump({"staging": {"hosts": self.hosts}}), encoding="utf-8")
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}
        extra = json.dumps({**self.variables, **variables})
        return subprocess.run(
            ["ansible-playbook", "-i", str(inventory), str(ROOT / "playbooks" / name), "-e", extra, *arguments],
            cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip

    def records(self, host: str) -> list[dict[str, t.Any]]:
        found = sorted(self.reports.glob("*/%s.json" % host), key=lambda path: path.stat().st_mtime_ns)
        return [json.loads(path.read_text(encoding="utf-8")) for path in found]


@pytest.fixture
def fleet(cluster: t.Any, scratch: pathlib.Path) -> Fleet:
    return Fleet(cluster, scratch)


def changed(done: subprocess.CompletedProcess[str], host: str) -> int:
    return int(re.findall(r"^%s\s+:.*\bchanged=(\d+)" % host, done.stdout, re.M)[-1])


def test_from_the_first_backup_to_the_drill(fleet: Fleet, database: t.Any, admin: t.Any, tmp_path: pathlib.Path) -> None:
    one, two = filled(database()), database('we"ird-db; drop')
    fleet.add("one", one)
    fleet.add("two", two)
    check = fleet.play("backup.yml", "--check")
    assert check.returncode == 0 and not fleet.backups.exists() and fleet.records("one") == [], check.stdout + check.stderr
    first = fleet.play("backup.yml")
    assert first.returncode == 0 and changed(first, "one") == changed(first, "two") > 0, first.stdout + first.stderr
    assert changed(check, "one") == changed(first, "one")
    (record,) = fleet.records("one")
    assert record["outcome"] == "done" and record["sentence"] == "one: restore point %s" % record["backup"]["restore_point"]["id"]
    script, repository = tmp_path / "tool.py", tmp_path / "repository"
    script.write_text(TOOL, encoding="utf-8")
    repository.mkdir()
    external = {
        "take": [sys.executable, str(script), "take", str(repository)],
        "list": [sys.executable, str(script), "list", str(repository)],
        "tool": "keeper",
    }
    again = fleet.play("backup.yml", backup_external=external)
    assert again.returncode == 0 and changed(again, "two") == 2 and "which is the present state still" in fleet.records("two")[-1]["sentence"], again.stdout
    execute(one, "DELETE FROM notes WHERE id > 1500")
    rules = {"keep_last": 1}
    shown = fleet.play("backup.yml", "--limit", "one", backup_retention=rules)
    assert shown.returncode == 0 and "; 1 old one would be dropped" in fleet.records("one")[-1]["sentence"], shown.stdout
    assert (
        len(list((fleet.backups / safe_name(one.dbname)).glob("2*"))) == 2 and len(list((fleet.backups / safe_name(one.dbname)).glob("external/*.json"))) == 1
    )
    applied = fleet.play("backup.yml", "--limit", "one", backup_retention=rules, backup_retention_apply=True)
    assert applied.returncode == 0 and "; 1 old one dropped" in fleet.records("one")[-1]["sentence"], applied.stdout
    assert len(list((fleet.backups / safe_name(one.dbname)).glob("2*"))) == 1

    before = databases(admin())
    drilled = fleet.play("restore_drill.yml")
    assert drilled.returncode == 0, drilled.stdout + drilled.stderr
    record = fleet.records("one")[-1]
    assert re.search(r"one: PROVED\. The restore point \S+ restores in [\d.]+ s: 3 tables, 2,002 rows equal$", record["sentence"]), record["sentence"]
    assert re.search(r"target\s+outcome\s+drill\s+time\s+restore point\s+rto\s+note", drilled.stdout) and record["drill"]["rto_seconds"] > 0
    assert re.search(r"one\s+done\s+.*[\d.]+ (?:ms|s)\s+[\d.]+ (?:ms|s|min).* old", drilled.stdout) and databases(admin()) == before
    accepted = fleet.play("restore_drill.yml", restore_drill_max_age=1)
    assert accepted.returncode == 0 and changed(accepted, "one") == 0 and "(proved at 20" in fleet.records("one")[-1]["sentence"]


def test_every_target_has_its_line_and_one_that_fails_sets_the_exit_status(fleet: Fleet, database: t.Any) -> None:
    good, damaged, bare = database(), database(), database()
    fleet.add("good", good)
    fleet.add("damaged", damaged)
    assert fleet.play("backup.yml").returncode == 0
    fleet.add("bare", bare)
    fleet.add("gone", bare, ansible_connection="ansible.builtin.ssh", ansible_host="127.0.0.1", ansible_port=1)
    (manifest,) = (fleet.backups / safe_name(damaged.dbname)).glob("*/manifest.json")
    manifest.write_text("{}", encoding="utf-8")
    done = fleet.play("restore_drill.yml")
    assert done.returncode != 0
    # The reason stands in the line below.
    rows = {line.split()[0]: line for line in re.findall(r'"?((?:good|damaged|bare|gone)\s+(?:done|failed)\b[^"]*(?:",\n\s+"  \^[^"]*)?)', done.stdout)}
    assert re.match(r"good\s+done\s", rows["good"]) and re.match(r"(?s)gone\s+failed\s.*TARGET_UNREACHABLE", rows["gone"]), done.stdout
    assert all(re.match(r"(?s)%s\s+failed\s.*BACKUP_NOT_FOUND" % name, rows[name]) for name in ("bare", "damaged")), done.stdout
    assert {name: int(re.findall(r"^%s\s+:.*\bfailed=(\d+)" % name, done.stdout, re.M)[-1]) for name in ("good", "damaged", "bare")} == {
        "good": 0, "damaged": 1, "bare": 1,
    }  # fmt: skip
    record = fleet.records("damaged")[-1]
    assert record["outcome"] == "failed" and "manifest.json" in record["sentence"] and "the live database was not touched" in record["sentence"]
    for target in (good, damaged, bare):
        assert str(target.password) not in done.stdout
