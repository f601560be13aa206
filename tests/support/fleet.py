# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Many small databases on a few local servers, with an inventory of them and runs of playbooks on it."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, sql
from ansible_collections.pgops.migrations.plugins.module_utils._engine_direct import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._folder import read_folder
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

ROOT = pathlib.Path(__file__).resolve().parents[2]
TEMPLATE = "fleet_template"
GROUP = "staging"
MIGRATIONS = {
    "20250101000000_init": "CREATE TABLE patients (id serial PRIMARY KEY, name text NOT NULL);\n",
    "20250102000000_phone": "ALTER TABLE patients ADD COLUMN phone text;\n",
    "20250103000000_visits": "CREATE TABLE visits (id serial PRIMARY KEY, patient int REFERENCES patients);\n",
}
#: The secret that every URL holds, so that a test may look for it everywhere.
PASSWORD = "fleet-s3cret-word"


@dataclasses.dataclass(frozen=True)
class Fleet:
    """``names`` are the inventory's hosts, each a database of that name."""

    folder: pathlib.Path
    names: tuple[str, ...]

    @property
    def inventory(self) -> pathlib.Path:
        return self.folder / "inventory.json"

    @property
    def migrations_dir(self) -> pathlib.Path:
        return self.folder / "app/prisma/migrations"

    @property
    def reports_dir(self) -> pathlib.Path:
        return self.folder / "reports"

    def environment(self, **more: str) -> dict[str, str]:
        """Ansible as this checkout configures it, whatever the user's own settings are."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
        return {
            **kept, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"),
            "ANSIBLE_LOCALHOST_WARNING": "false", "ANSIBLE_LOCAL_TEMP": str(self.folder / "ansible"), **more,
        }  # fmt: skip

    def command(self, program: str, *arguments: str) -> list[str]:
        return [str(pathlib.Path(sys.executable).parent / program), "-i", str(self.inventory), *arguments]

    def play(self, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook of the collection on all targets."""
        command = self.command("ansible-playbook", str(ROOT / "playbooks" / name), "-e", "migration_targets=%s" % GROUP, *arguments)
        return self.run(command, **environment)

    def run(self, command: t.Sequence[str], **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment(**environment), stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=3000
        )


def make_fleet(servers: t.Sequence[t.Any], folder: pathlib.Path, number: int, owner: str, password: str = PASSWORD) -> Fleet:
    """So many databases, spread over the servers, each with all migrations applied.

    :param servers: ``connect_args()``, ``port``; each has the role ``owner`` already, with CREATEDB.
    """
    fleet = Fleet(folder, tuple("db%04d" % index for index in range(number)))
    for name, text in MIGRATIONS.items():
        path = fleet.migrations_dir / name / "migration.sql"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    (fleet.migrations_dir.parent / "schema.prisma").write_text('datasource db {\n  provider = "postgresql"\n  url = env("DATABASE_URL")\n}\n', encoding="utf-8")
    (fleet.migrations_dir / "migration_lock.toml").write_text('provider = "postgresql"\n', encoding="utf-8")
    hosts: dict[str, t.Any] = {}
    for server in servers:
        _with_template(Target(dbname="postgres", host="127.0.0.1", port=server.port, user=owner, password=password), fleet.migrations_dir)
    for name, server in zip(fleet.names, itertools.cycle(servers)):
        _copy(Target(dbname="postgres", host="127.0.0.1", port=server.port, user=owner, password=password), name)
        hosts[name] = {"migration_database_url": Target(dbname=name, host="127.0.0.1", port=server.port, user=owner, password=password).prisma_url()}
    common = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "migration_app_dir": str(folder / "app"),
        "migration_engine": "direct", "migration_reports_dir": str(fleet.reports_dir), "migration_journal_dir": str(folder / "journal"),
    }  # fmt: skip
    fleet.inventory.write_text(json.dumps({GROUP: {"hosts": hosts, "vars": common}}), encoding="utf-8")
    fleet.inventory.chmod(0o600)
    return fleet


def _with_template(at: Target, migrations_dir: pathlib.Path) -> None:
    """A database with all migrations applied, of which the others are copies."""
    with connection(at) as conn:
        execute(conn, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    deploy(dataclasses.replace(at, dbname=TEMPLATE), read_folder(str(migrations_dir)).migrations, {}, "fleet", 10)


def _copy(at: Target, name: str) -> None:
    with connection(at) as conn:
        execute(conn, sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(TEMPLATE)))


def add_migration(fleet: Fleet, name: str, text: str) -> None:
    """One that is pending everywhere."""
    path = fleet.migrations_dir / name / "migration.sql"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
