# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a run over several targets tells of each of them, whatever became of them, and that its exit status follows."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import typing as t

import psycopg2
import pytest
import yaml
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from conftest import ROOT
from support.modules import ModuleRunner

INIT, UNIQUE = "1_init", "2_unique"
SCRIPTS = {
    INIT: "CREATE TABLE users (id serial PRIMARY KEY, email text);\nINSERT INTO users (email) VALUES ('a'), ('b');\n",
    UNIQUE: "CREATE UNIQUE INDEX users_email ON users (email);\n",
}
NAMES = ("t1", "t2", "t3")


class Fleet:
    """Three databases, and two hosts that cannot be reached."""

    def __init__(self, folder: pathlib.Path, targets: dict[str, Target], bin_dir: str) -> None:
        self.folder, self.targets, self.reports = folder, targets, folder / "reports"
        for name, script in SCRIPTS.items():
            (folder / "migrations" / name).mkdir(parents=True)
            (folder / "migrations" / name / "migration.sql").write_text(script, encoding="utf-8")
        self.migrations = str(folder / "migrations")
        variables = {
            "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}", "migration_environment": "staging",
            "migration_engine": "direct", "migration_migrations_dir": self.migrations, "migration_reports_dir": str(self.reports),
            "migration_backup_dir": str(folder / "backups"), "migration_pg_bin_dir": bin_dir, "migration_journal_dir": str(folder / "jobs"),
            "backup_globals": False,
        }  # fmt: skip
        hosts: dict[str, dict[str, t.Any]] = {name: {"migration_database_url": target.prisma_url()} for name, target in targets.items()}
        lost = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "migration_database_url": "postgresql://x@localhost/x"}
        hosts.update(gone1=lost, gone2=lost)
        path = folder / "hosts.yml"
        path.touch(mode=0o600)
        groups = {"staging": {"hosts": dict.fromkeys(hosts)}, "lost": {"hosts": {"gone1": None, "gone2": None}}}
        path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables, "children": groups}}), encoding="utf-8")

    def play(self, name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["ansible-playbook", "-i", str(self.folder / "hosts.yml"), str(ROOT / "playbooks" / name), *arguments]
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)

    def summary(self) -> tuple[pathlib.Path, dict[str, t.Any]]:
        """Of the newest run: its folder and its summary.json."""
        path = max(self.reports.glob("*/summary.json"), key=lambda path: path.stat().st_mtime_ns)
        return path.parent, json.loads(path.read_text(encoding="utf-8"))

    def query(self, name: str, text: str) -> None:
        conn = psycopg2.connect(**self.targets[name].conninfo())
        conn.autocommit = True
        with conn.cursor() as cursor:
            cursor.execute(text)
        conn.close()


@pytest.fixture
def fleet(cluster: t.Any, database: t.Callable[..., Target], module: ModuleRunner, tmp_path: pathlib.Path) -> Fleet:
    made = Fleet(tmp_path, {name: database() for name in NAMES}, cluster.bin_dir)
    for name in ("t1", "t2"):
        done = module(
            "migration_deploy", database_url=made.targets[name].prisma_url(), migrations_dir=made.migrations, engine="direct", up_to=INIT, detach=False
        )
        assert not done.get("failed"), (name, done)
    return made


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    found = re.findall(r"^(\w+)\s+: (ok=.*)$", done.stdout.partition("PLAY RECAP")[2], re.M)
    return {name: {key: int(value) for key, value in (pair.split("=") for pair in counts.split())} for name, counts in found}


def table(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The lines of the last table that was shown."""
    shown = done.stdout.rpartition('"msg": [')[2].partition("\n    ]")[0]
    return [str(json.loads(line.strip().rstrip(","))) for line in shown.strip().splitlines()]


@pytest.mark.parametrize("arguments", [("-e", "migration_targets=lost"), ("--limit", "gone1")], ids=["group", "limit"])
def test_of_a_fleet_that_cannot_be_reached_there_is_a_table(fleet: Fleet, arguments: tuple[str, ...]) -> None:
    done = fleet.play("staging_migrate.yml", *arguments)
    assert done.returncode == 2, done.stdout + done.stderr
    names = ["gone1", "gone2"] if arguments[0] == "-e" else ["gone1"]
    assert {name: counts["failed"] for name, counts in recap(done).items() if name in names} == dict.fromkeys(names, 1)
    folder, summary = fleet.summary()
    assert [(row["target"], row["outcome"], row["code"]) for row in summary["rows"]] == [(name, "refused", "TARGET_UNREACHABLE") for name in names]
    shown = table(done)
    assert [line.split()[:2] for line in shown if line.startswith("gone")] == [[name, "refused"] for name in names], shown
    assert " ".join(shown).count("Connection refused") == len(names), shown
    assert (folder / "index.html").is_file() and done.stdout.count("All of it: %s" % (folder / "index.html")) == 1


def test_one_table_tells_of_every_target(fleet: Fleet) -> None:
    fleet.query("t2", "INSERT INTO users (email) VALUES ('a')")
    done = fleet.play("staging_migrate.yml")
    assert done.returncode == 2, done.stdout + done.stderr
    folder, summary = fleet.summary()
    rows = {row["target"]: row for row in summary["rows"]}
    assert {name: row["outcome"] for name, row in rows.items()} == {
        "t1": "applied", "t2": "rolled_back", "t3": "applied", "gone1": "refused", "gone2": "refused",
    }, done.stdout  # fmt: skip
    assert summary["format"] == 2 and summary["failing"] == ["gone1", "gone2", "t2"] == summary["unsuccessful"]
    bad = rows["t2"]
    assert [entry["name"] for entry in bad["phases"] if entry["outcome"] == "failed"] == ["deploy"] and "restore" in [entry["name"] for entry in bad["phases"]]
    assert bad["restore_point"] and "23505" in bad["note"] and rows["t1"]["slowest_migration"]["name"] == UNIQUE and rows["t3"]["applied"] == 2
    shown = table(done)
    assert all(len(line) <= 120 for line in shown[:-1]), shown
    assert shown[2].split()[:2] == ["t2", "rolled_back"] and "FAILED" in shown[2] and shown[3].startswith("  ^ MIGRATION_FAILED"), shown
    assert shown[-2] == "5 targets, 3 need somebody: 2 applied, 2 refused, 1 rolled_back"
    page = (folder / "index.html").read_text(encoding="utf-8")
    links = re.findall(r'href="\./([^"]+)"', page)
    assert sorted(links) == ["gone1.html", "gone2.html", "t1.html", "t2.html", "t3.html"] and all((folder / link).is_file() for link in links)
    assert {name: counts["failed"] for name, counts in recap(done).items()} == {"t1": 0, "t2": 1, "t3": 0, "gone1": 1, "gone2": 1}
    assert not any(target.password and target.password in page for target in fleet.targets.values())


def test_the_state_of_a_fleet_and_who_differs(fleet: Fleet) -> None:
    """t3 has nothing at all; t1 and t2 have the same migrations, and t2 an index that nobody knows of."""
    fleet.query("t2", "CREATE INDEX by_hand ON users (id)")
    done = fleet.play("status.yml", "--limit", "t1,t2,t3", "-e", "migration_status_schema=true", "-e", "migration_reference=t1")
    shown = table(done)
    assert done.returncode == 0 and recap(done)["t1"] == {**recap(done)["t1"], "changed": 0, "failed": 0}, done.stdout
    differs = [line for line in shown if line.startswith("DIFFERS")]
    assert len(differs) == 2 and differs[0].startswith("DIFFERS staging: 1 of 3 on another ledger head: t3 (none); t1: %s" % INIT), shown
    assert differs[1].startswith("DIFFERS staging: 1 of 2 with another schema"), shown
    assert not fleet.reports.exists(), "it is read-only"
    strict = fleet.play("status.yml", "-e", "migration_status_strict=true", "-e", "migration_status_report=true")
    assert strict.returncode == 2 and {name for name, counts in recap(strict).items() if counts["failed"]} >= {"gone1", "gone2"}, strict.stdout
    folder, summary = fleet.summary()
    assert {row["target"]: row["status"] for row in summary["rows"]} == {
        "t1": "pending", "t2": "pending", "t3": "empty", "gone1": "not_read", "gone2": "not_read",
    }  # fmt: skip
    assert [each["what"] for each in summary["differences"]] == ["head"] and summary["rows"][-1]["differs"] == ["head"]
    assert (folder / "index.html").is_file() and "pending" in (folder / "index.md").read_text(encoding="utf-8")
