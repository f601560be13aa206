# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fleet migrated in waves, as an operator does it: stopped by a failing target, finished by the same command, and then idle."""

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
from ansible_collections.pgops.migrations.plugins.module_utils import _certificate, _certificate_file
from ansible_collections.pgops.migrations.plugins.module_utils._deploy import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_state import state_of
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from conftest import ROOT
from support.modules import ModuleRunner

INIT, UNIQUE, LAST = "1_init", "2_unique", "3_last"
SCRIPTS = {
    INIT: "CREATE TABLE users (id serial PRIMARY KEY, email text);\nINSERT INTO users (email) VALUES ('a'), ('b');\n",
    UNIQUE: "ALTER TABLE users ADD COLUMN bio text;\nCREATE UNIQUE INDEX users_email ON users (email);\n",
    LAST: "CREATE TABLE later (id int PRIMARY KEY);\n",
}
NAMES = ("p1", "p2", "p3", "p4", "p5", "p6")
DAY = 86400
#: Options of migration_deploy.
PLAN: dict[str, t.Any] = {
    "app_dir": None, "migrations_dir": None, "schema_file": None, "engine": "direct", "deploy_command": None, "database_url_env": [], "up_to": None, "hold": [],
    "expected": None, "allow": [], "assume_resolved": {}, "lock_timeout": "5s", "statement_timeout": "", "client_connection_check_interval": "1s",
    "lock_wait": 30, "timeout": 600, "monitor": False, "monitor_interval": 0.25, "on_blocked": "wait", "max_block": 5.0, "block_retries": 0,
    "maintenance_db": "postgres", "run_id": "", "journal_dir": os.devnull, "job_id": "",
}  # fmt: skip


class Fleet:
    """Six databases of one server, with one project, in one inventory; one host more cannot be reached."""

    def __init__(self, folder: pathlib.Path, module: ModuleRunner, targets: dict[str, Target], bin_dir: str) -> None:
        self.folder, self.module, self.targets = folder, module, targets
        self.certificates, self.reports, self.backups = (str(folder / name) for name in ("certificates", "reports", "backups"))
        for name, script in SCRIPTS.items():
            (folder / "migrations" / name).mkdir(parents=True)
            (folder / "migrations" / name / "migration.sql").write_text(script, encoding="utf-8")
        self.migrations = str(folder / "migrations")
        variables = {
            "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}", "migration_environment": "production",
            "migration_engine": "direct", "migration_migrations_dir": self.migrations, "migration_certificate_dir": self.certificates,
            "migration_reports_dir": self.reports, "migration_backup_dir": self.backups, "migration_pg_bin_dir": bin_dir,
            "migration_journal_dir": str(folder / "jobs"), "backup_globals": False, "verification_checks": ["ledger"],
            # What other tests look at, left out for the time that it takes.
            "migrate_deploy_detach": False, "migrate_deploy_monitor": False,
        }  # fmt: skip
        hosts: dict[str, dict[str, t.Any]] = {name: {"migration_database_url": target.prisma_url()} for name, target in targets.items()}
        hosts["gone"] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "migration_database_url": "postgresql://x@localhost/x"}
        groups = {"production": {"hosts": dict.fromkeys(NAMES)}, "canary": {"hosts": {"p6": None}}}
        path = folder / "hosts.yml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables, "children": groups}}), encoding="utf-8")

    def run(self, *arguments: str, playbook: str = "production_migrate.yml", **variables: t.Any) -> subprocess.CompletedProcess[str]:
        command = ["ansible-playbook", "-i", str(self.folder / "hosts.yml"), str(ROOT / "playbooks" / playbook), "-e", json.dumps(variables)]
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}
        return subprocess.run([*command, *arguments], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)

    def records(self) -> dict[str, dict[str, t.Any]]:
        """Those of the last run."""
        last = max((path for path in pathlib.Path(self.reports).iterdir() if path.is_dir()), key=lambda path: path.stat().st_mtime_ns)
        found = (json.loads(path.read_text(encoding="utf-8")) for path in last.glob("*.json") if path.name not in ("summary.json", "matrix.json"))
        return {record["target"]: record for record in found if "outcome" in record and "target" in record}

    def query(self, name: str, text: str) -> t.Any:
        conn = psycopg2.connect(**self.targets[name].conninfo())
        conn.autocommit = True
        try:
            with conn.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchall() if cursor.description else None
        finally:
            conn.close()

    def applied(self) -> dict[str, int]:
        return {name: self.query(name, "SELECT count(*) FROM _prisma_migrations WHERE finished_at IS NOT NULL")[0][0] for name in self.targets}

    def look(self, name: str, **more: t.Any) -> dict[str, t.Any]:
        options = {"migrations_dir": self.migrations, "engine": "direct", "certificate_dir": self.certificates, **more}
        return self.module("migration_certificate_info", database_url=self.targets[name].prisma_url(), **options)

    def certify(self, name: str, age: float = 0.0, **state: t.Any) -> str:
        """What a rehearsal leaves, made from the real state; where it lies."""
        planned = deploy(self.targets[name], dict(PLAN, migrations_dir=self.migrations), True)
        real = state_of(self.targets[name], planned)
        issued = subprocess.run(["date", "-u", "-d", "-%d seconds" % age, "+%Y-%m-%dT%H:%M:%SZ"], capture_output=True, text=True, check=True).stdout.strip()
        certificate = _certificate.build(
            dict(real, **state), schema_digest_after="", source="restore_point", restore_point="", options={}, budgets={},
            measured={"deploy_seconds": 0.1, "longest_block": 0.0}, issued_at=issued, run_id="rehearsed",
        )  # fmt: skip
        path = _certificate_file.path_of(self.certificates, real["database"], real["system_identifier"])
        _certificate_file.write(path, certificate)
        return path


@pytest.fixture
def fleet(cluster: t.Any, database: t.Callable[..., Target], module: ModuleRunner, tmp_path: pathlib.Path) -> Fleet:
    made = Fleet(tmp_path, module, {name: database() for name in NAMES}, cluster.bin_dir)
    for target in made.targets.values():
        deploy(target, dict(PLAN, migrations_dir=made.migrations, up_to=INIT), False)
    return made


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    found = re.findall(r"^(\w+)\s+: (ok=.*)$", done.stdout.partition("PLAY RECAP")[2], re.M)
    return {name: {key: int(value) for key, value in (pair.split("=") for pair in counts.split())} for name, counts in found}


def test_a_target_without_a_valid_certificate_is_refused_before_anything_is_touched(fleet: Fleet) -> None:
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


def test_a_failing_wave_stops_the_run_and_the_same_command_finishes_it(fleet: Fleet) -> None:
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
    assert recap(failing)["p6"]["changed"] == 0 and set(os.listdir(fleet.backups)) == {fleet.targets[name].dbname for name in ("p1", "p2", "p6")}
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
