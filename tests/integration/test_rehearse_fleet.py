# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""rehearse.yml on a fleet: each target is told the truth about, and the failure of one is nobody else's."""

from __future__ import annotations

import json
import os
import pathlib
import re
import subprocess
import typing as t

import yaml
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, row
from conftest import ROOT
from support.restorepoints import databases, execute, fingerprint

NAMES = ("sound", "dirty", "done", "stuck")
SCRIPTS = {
    "1_init": "CREATE TABLE users (id serial PRIMARY KEY, email text);\nINSERT INTO users (email) VALUES ('a'), ('b');\n",
    "2_unique": "CREATE UNIQUE INDEX users_email ON users (email);\n",
}


def test_a_fleet_is_told_the_truth_about(database: t.Any, module: t.Any, admin: t.Any, cluster: t.Any, tmp_path: pathlib.Path) -> None:
    for name, script in SCRIPTS.items():
        (tmp_path / "migrations" / name).mkdir(parents=True)
        (tmp_path / "migrations" / name / "migration.sql").write_text(script, encoding="utf-8")
    targets = {name: database() for name in NAMES}
    project = {"migrations_dir": str(tmp_path / "migrations"), "engine": "direct"}
    for name, target in targets.items():
        module("migration_deploy", target, **project, **({} if name == "done" else {"up_to": "1_init"}))
    # What the CLI leaves of a migration that failed. It could be proved and recorded, and that is not for a rehearsal to do.
    execute(targets["stuck"], "INSERT INTO _prisma_migrations (id, checksum, migration_name, logs) VALUES ('5', 'x', '2_unique', 'it failed')")
    # One row of this database is what the pending index cannot have.
    execute(targets["dirty"], "INSERT INTO users (email) VALUES ('a')")
    variables = {
        "ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}", "migration_engine": "direct",
        "migration_migrations_dir": project["migrations_dir"], "migration_pg_bin_dir": str(cluster.bin_dir), "backup_globals": False,
        "migration_certificate_dir": str(tmp_path / "certificates"), "migration_reports_dir": str(tmp_path / "reports"),
        "migration_backup_dir": str(tmp_path / "points"), "migration_journal_dir": str(tmp_path / "jobs"),
    }  # fmt: skip
    hosts: dict[str, t.Any] = {name: {"migration_database_url": target.prisma_url()} for name, target in targets.items()}
    hosts["gone"] = {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1, "migration_database_url": "postgresql://x@localhost/x"}
    inventory = tmp_path / "hosts.yml"
    inventory.touch(mode=0o600)
    inventory.write_text(yaml.safe_dump({"staging": {"hosts": hosts, "vars": variables}}), encoding="utf-8")
    before = set(databases(admin()))
    lives = {name: fingerprint(target) for name, target in targets.items()}

    def run(*more: str) -> tuple[subprocess.CompletedProcess[str], dict[str, dict[str, t.Any]]]:
        command = ["ansible-playbook", "-i", str(inventory), str(ROOT / "playbooks/rehearse.yml"), *more]
        env = {**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)
        # A check records nothing.
        last = max((tmp_path / "reports").glob("*/"), key=lambda path: path.stat().st_mtime_ns, default=tmp_path)
        return done, {name: json.loads((last / (name + ".json")).read_text(encoding="utf-8")) for name in hosts if (last / (name + ".json")).exists()}

    # Before there is any restore point: a check takes none, and says what a run would do.
    check, _records = run("--limit", "sound", "--check")
    assert check.returncode == 0 and "1 migration would be rehearsed on a restore point that is taken first." in check.stdout, check.stdout
    assert not (tmp_path / "certificates").exists() or not list((tmp_path / "certificates").iterdir())
    first, records = run()
    assert first.returncode == 2, first.stdout + first.stderr
    assert {name: record["outcome"] for name, record in records.items()} == {
        "sound": "done", "dirty": "failed", "done": "nothing_to_do", "gone": "refused", "stuck": "refused",
    }  # fmt: skip
    assert records["stuck"]["error"]["code"] == "UNFINISHED_MIGRATION" and records["stuck"]["resolved"] == []
    with connection(targets["stuck"]) as conn:
        assert row(conn, "SELECT rolled_back_at FROM _prisma_migrations WHERE id = '5'") == (None,)
    sound, dirty = records["sound"], records["dirty"]
    assert "1 migration rehearsed on the restore point" in sound["sentence"] and sound["error"] is None
    for words in ("REHEARSAL FAILED", "2_unique", "in the phase deploy", "are as they were", "rehearse.yml -e migration_targets=dirty"):
        assert words in dirty["sentence"], dirty["sentence"]
    assert (dirty["error"]["phase"], records["gone"]["error"]["code"]) == ("rehearsal", "TARGET_UNREACHABLE")
    phase = next(each for each in sound["phases"] if each["name"] == "rehearsal")
    assert phase["outcome"] == "changed" and phase["seconds"] > 0
    # Of the way back, of each migration and of the copy the record has the figures.
    kept = sound.get("rehearsal") or sound["other"]["rehearsal"]
    measured = kept["measured"]
    assert measured["rollback_seconds"] and measured["copy_seconds"] and measured["migrations"][0]["seconds"] is not None
    for name in hosts:
        assert re.search(r"\b%s +%s\b" % (name, records[name]["outcome"]), first.stdout), first.stdout
    certificates = list((tmp_path / "certificates").glob("*.json"))
    assert [path.name.partition("@")[0] for path in certificates] == [targets["sound"].dbname]
    assert {name: fingerprint(target) for name, target in targets.items()} == lives and set(databases(admin())) == before
    # What is mended passes; what holds its certificate is left alone.
    execute(targets["dirty"], "DELETE FROM users WHERE id = 3")
    second, records = run("--limit", "!gone,!stuck")
    assert second.returncode == 0, second.stdout + second.stderr
    assert "rehearsed on the restore point" in records["dirty"]["sentence"] and "still holds" in records["sound"]["sentence"]
    assert not records["sound"]["changed"] and re.search(r"^sound .*changed=0 ", second.stdout, re.M) and re.search(r"^done .*changed=0 ", second.stdout, re.M)
    for text in (first.stdout, second.stdout, json.dumps(records)):
        assert targets["sound"].password not in text
