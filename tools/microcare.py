# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A MicroCare staging database on a private server: for the demo, the molecule scenarios and the tests.

As a library: ``stage(cluster, folder, rows=20000)``. On the command line, for molecule:

    python tools/microcare.py up DIR [--rows N] [--failing]     starts a server in DIR and stages the database on it
    python tools/microcare.py down DIR                          stops the server and removes DIR

``up`` leaves DIR/staging.json, which names everything (mode 0600: it holds the URLs).
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import pathlib
import secrets
import shutil
import subprocess
import sys
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

import psycopg2  # noqa: E402
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target  # noqa: E402
from psycopg2 import sql  # noqa: E402

from tools.pgserver import Cluster  # noqa: E402

EXAMPLE = ROOT / "examples" / "microcare"
#: The last migration that staging already has; the data generator fits this state.
DEPLOYED = "20250520074500_role_without_guest"
DATABASE, OWNER, APP_ROLE = "microcare_staging", "microcare_owner", "microcare_app"


@dataclasses.dataclass(frozen=True)
class Staging:
    """Where everything of a staged database is. ``engine`` is direct where Node.js is missing."""

    database_url: str = dataclasses.field(repr=False)
    app_url: str = dataclasses.field(repr=False)
    app_dir: str
    backup_dir: str
    reports_dir: str
    pg_bin_dir: str
    engine: str

    def write(self, path: pathlib.Path) -> None:
        """Keep it for another process; the file is private before it has content."""
        path.unlink(missing_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
            json.dump(dataclasses.asdict(self), handle, indent=1)

    @classmethod
    def read(cls, path: pathlib.Path) -> Staging:
        return cls(**json.loads(path.read_text(encoding="utf-8")))

    def playbook_variables(self) -> dict[str, str]:
        """Extra variables of a playbook run; none of them is secret."""
        return {
            "migration_app_dir": self.app_dir,
            "migration_backup_dir": self.backup_dir,
            "migration_reports_dir": self.reports_dir,
            "migration_journal_dir": os.path.join(os.path.dirname(self.reports_dir), "jobs"),
            "migration_pg_bin_dir": self.pg_bin_dir,
            "migration_engine": self.engine,
        }


def node_missing() -> str | None:
    """Why the real Prisma CLI cannot run, in one line; None when it can."""
    if shutil.which("node") is None:
        return "Node.js is not installed"
    if not (EXAMPLE / "node_modules/.bin/prisma").exists():
        return "examples/microcare/node_modules is missing (make node)"
    return None


def stage(cluster: Cluster, folder: pathlib.Path, rows: int = 200_000, failing: bool = False) -> Staging:
    """Make roles, database, data and a copy of the project in a folder.

    :param failing: add the migration that fails half applied.
    """
    folder.mkdir(parents=True, exist_ok=True)
    project = _copy_project(folder / "app", failing)
    owner_password, app_password = _password(), _password()
    _make_roles(cluster, {OWNER: owner_password, APP_ROLE: app_password})
    owner = Target(dbname=DATABASE, host="127.0.0.1", port=cluster.port, user=OWNER, password=owner_password)
    app = dataclasses.replace(owner, user=APP_ROLE, password=app_password)
    staging = Staging(
        database_url=owner.prisma_url(),
        app_url=app.prisma_url(),
        app_dir=str(project),
        backup_dir=str(folder / "backups"),
        reports_dir=str(folder / "reports"),
        pg_bin_dir=cluster.bin_dir,
        engine="direct" if node_missing() else "prisma",
    )
    run_module("migration_deploy", database_url=staging.database_url, app_dir=staging.app_dir, engine="direct", up_to=DEPLOYED)
    _fill(owner, rows)
    return staging


def _password() -> str:
    # The special characters are those that break URLs, pgpass files and shells.
    return "p@ss:w/ord%é " + secrets.token_urlsafe(8)


def _copy_project(path: pathlib.Path, failing: bool) -> pathlib.Path:
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(EXAMPLE, path, ignore=shutil.ignore_patterns("node_modules", "failing"))
    if (EXAMPLE / "node_modules").exists():
        (path / "node_modules").symlink_to(EXAMPLE / "node_modules")
    if failing:
        shutil.copytree(EXAMPLE / "failing", path / "prisma" / "migrations", dirs_exist_ok=True)
    return path


def _make_roles(cluster: Cluster, passwords: dict[str, str]) -> None:
    conn = psycopg2.connect(**cluster.connect_args("postgres"))
    conn.autocommit = True
    with conn.cursor() as cursor:
        for role, password in passwords.items():
            createdb = sql.SQL("CREATEDB" if role == OWNER else "NOCREATEDB")
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN {} PASSWORD {}").format(sql.Identifier(role), createdb, sql.Literal(password)))
        # A rollback ends the application's sessions.
        cursor.execute(sql.SQL("GRANT pg_signal_backend TO {}").format(sql.Identifier(OWNER)))
        cursor.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(sql.Identifier(DATABASE), sql.Identifier(OWNER)))
    conn.close()


def _fill(owner: Target, rows: int) -> None:
    conn = psycopg2.connect(**owner.conninfo())
    conn.autocommit = True
    with conn.cursor() as cursor:
        cursor.execute("SELECT set_config('microcare.rows', %s, false), set_config('microcare.app_role', %s, false)", (str(rows), APP_ROLE))
        for name in ("generate.sql", "roles.sql"):
            cursor.execute((EXAMPLE / "data" / name).read_text(encoding="utf-8"))
        cursor.execute("ANALYZE")
    conn.close()


def run_module(name: str, **arguments: Any) -> dict[str, Any]:
    """Run a module of the collection in a process of its own; a failure ends the program with its message."""
    done = subprocess.run(
        [sys.executable, "-m", f"ansible_collections.pgops.migrations.plugins.modules.{name}"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": {**arguments, "_ansible_remote_tmp": "/tmp"}}),
        env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
        capture_output=True,
        text=True,
        check=False,
    )
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise SystemExit(f"{name} printed no result: {done.stderr.strip()[-500:]}") from None
    if result.get("failed"):
        raise SystemExit(f"{name}: {result['msg']}")
    return result


def main() -> int:
    parser = argparse.ArgumentParser(description="A MicroCare staging database on a private server.")
    parser.add_argument("action", choices=["up", "down"])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--rows", type=int, default=2000)
    parser.add_argument("--failing", action="store_true")
    options = parser.parse_args()
    folder = options.folder.absolute()
    cluster = Cluster(folder / "server", fast=True)
    if options.action == "down":
        cluster.remove()
        shutil.rmtree(folder, ignore_errors=True)
        return 0
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    cluster.start(detached=True)
    stage(cluster, folder, options.rows, options.failing).write(folder / "staging.json")
    return 0


if __name__ == "__main__":
    sys.exit(main())
