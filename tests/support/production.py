# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Production of several databases: one project, one inventory, and what a rehearsal leaves."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import typing as t

import psycopg2
import yaml
from ansible_collections.pgops.migrations.plugins.module_utils import _certificate, _certificate_file
from ansible_collections.pgops.migrations.plugins.module_utils._deploy import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_state import state_of
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

from support.modules import ModuleRunner

ROOT = pathlib.Path(__file__).resolve().parents[2]
INIT, UNIQUE, LAST = "1_init", "2_unique", "3_last"
SCRIPTS = {
    INIT: "CREATE TABLE users (id serial PRIMARY KEY, email text);\nINSERT INTO users (email) VALUES ('a'), ('b');\n",
    UNIQUE: "ALTER TABLE users ADD COLUMN bio text;\nCREATE UNIQUE INDEX users_email ON users (email);\n",
    LAST: "CREATE TABLE later (id int PRIMARY KEY);\n",
}
#: Options of migration_deploy.
PLAN: dict[str, t.Any] = {
    "app_dir": None, "migrations_dir": None, "schema_file": None, "engine": "direct", "deploy_command": None, "database_url_env": [], "up_to": None, "hold": [],
    "expected": None, "allow": [], "assume_resolved": {}, "lock_timeout": "5s", "statement_timeout": "", "client_connection_check_interval": "1s",
    "lock_wait": 30, "timeout": 600, "monitor": False, "monitor_interval": 0.25, "on_blocked": "wait", "max_block": 5.0, "block_retries": 0,
    "maintenance_db": "postgres", "run_id": "", "journal_dir": os.devnull, "job_id": "",
}  # fmt: skip


class Production:
    """Databases of one server, with one project, in one inventory; the last one is the canary, and one host more cannot be reached."""

    def __init__(self, folder: pathlib.Path, module: ModuleRunner, targets: dict[str, Target], bin_dir: str, scripts: dict[str, str], **more: t.Any) -> None:
        """:param more: variables of the inventory."""
        self.folder, self.module, self.targets = folder, module, targets
        self.certificates, self.reports, self.backups = (str(folder / name) for name in ("certificates", "reports", "backups"))
        for name, script in scripts.items():
            (folder / "migrations" / name).mkdir(parents=True)
            (folder / "migrations" / name / "migration.sql").write_text(script, encoding="utf-8")
        self.migrations, self.jobs = str(folder / "migrations"), folder / "jobs"
        variables = {
            "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}", "migration_environment": "production",
            "migration_engine": "direct", "migration_migrations_dir": self.migrations, "migration_certificate_dir": self.certificates,
            "migration_reports_dir": self.reports, "migration_backup_dir": self.backups, "migration_pg_bin_dir": bin_dir,
            "migration_journal_dir": str(self.jobs), "backup_globals": False, "verification_checks": ["ledger"],
            # What other tests look at, left out for the time that it takes.
            "migrate_deploy_detach": False, "migrate_deploy_monitor": False, **more,
        }  # fmt: skip
        hosts: dict[str, dict[str, t.Any]] = {name: {"migration_database_url": target.prisma_url()} for name, target in targets.items()}
        hosts["gone"] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "migration_database_url": "postgresql://x@localhost/x"}
        groups = {"production": {"hosts": dict.fromkeys(targets)}, "canary": {"hosts": {list(targets)[-1]: None}}}
        path = folder / "hosts.yml"
        path.touch(mode=0o600)
        path.write_text(yaml.safe_dump({"all": {"hosts": hosts, "vars": variables, "children": groups}}), encoding="utf-8")

    def command(self, *arguments: str, playbook: str = "production_migrate.yml", **variables: t.Any) -> list[str]:
        return ["ansible-playbook", "-i", str(self.folder / "hosts.yml"), str(ROOT / "playbooks" / playbook), "-e", json.dumps(variables), *arguments]

    def environment(self) -> dict[str, str]:
        return {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}

    def run(self, *arguments: str, playbook: str = "production_migrate.yml", **variables: t.Any) -> subprocess.CompletedProcess[str]:
        command = self.command(*arguments, playbook=playbook, **variables)
        return subprocess.run(command, cwd=ROOT, env=self.environment(), capture_output=True, text=True, timeout=1200, check=False)

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

    def certify(self, name: str, age: float = 0.0, seconds: float = 0.1, **state: t.Any) -> str:
        """What a rehearsal leaves in which the deploy took so many seconds, made from the real state; where it lies."""
        planned = deploy(self.targets[name], dict(PLAN, migrations_dir=self.migrations), True)
        real = state_of(self.targets[name], planned)
        issued = subprocess.run(["date", "-u", "-d", "-%d seconds" % age, "+%Y-%m-%dT%H:%M:%SZ"], capture_output=True, text=True, check=True).stdout.strip()
        certificate = _certificate.build(
            dict(real, **state), schema_digest_after="", source="restore_point", restore_point="", options={}, budgets={},
            measured={"deploy_seconds": seconds, "longest_block": 0.0}, issued_at=issued, run_id="rehearsed",
        )  # fmt: skip
        path = _certificate_file.path_of(self.certificates, real["database"], real["system_identifier"])
        _certificate_file.write(path, certificate)
        return path


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, int]]:
    found = re.findall(r"^(\w+)\s+: (ok=.*)$", done.stdout.partition("PLAY RECAP")[2], re.M)
    return {name: {key: int(value) for key, value in (pair.split("=") for pair in counts.split())} for name, counts in found}
