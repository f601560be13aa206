# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A database with a migration applied and a second one that may fail in every way."""

from __future__ import annotations

import pathlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._recovery_report import report
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

from support import crashes
from support.histories import LEDGER

Database = t.Callable[..., Target]
Admin = t.Callable[..., t.Any]
INIT, X = "1_init", "2_x"
INIT_SQL = "CREATE TABLE users (id serial PRIMARY KEY, email text);\nCREATE TABLE gate (id int);\nINSERT INTO users (email) VALUES ('a');\n"


class Site:
    """A database with one applied migration, a project with a second one, and a session that can stand in its way."""

    def __init__(self, target: Target, folder: pathlib.Path, conn: t.Any, blocker: t.Any) -> None:
        self.target, self.folder, self.conn, self.blocker = target, folder, conn, blocker
        blocker.autocommit = False
        self.query(LEDGER)
        self.query('ALTER TABLE _prisma_migrations OWNER TO "%s"' % target.user)
        self.add(INIT, INIT_SQL)
        assert crashes.end(crashes.start(target, INIT, INIT_SQL)) == 0
        # Only here, so that what fails for it works in a scratch database.
        self.query("INSERT INTO users (email) VALUES ('a')")

    def query(self, text: str) -> t.Any:
        with self.conn.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall() if cursor.description else None

    def add(self, name: str, sql: str) -> None:
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / name / "migration.sql").write_text(sql, encoding="utf-8")

    def close_gate(self) -> None:
        with self.blocker.cursor() as cursor:
            cursor.execute("LOCK TABLE gate")

    def open_gate(self) -> None:
        self.blocker.rollback()

    def at_gate(self) -> list[int]:
        found = self.query("SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()")
        return [pid for (pid,) in found]

    def start(self, sql: str, **how: t.Any) -> t.Any:
        self.add(X, sql)
        return crashes.start(self.target, X, sql, **how)

    def examine(self, **options: t.Any) -> list[dict[str, t.Any]]:
        defaults = {
            "migrations_dir": str(self.folder), "migration": None, "replay": True, "assert_sql": None, "replay_timeout": 60, "pg_bin_dir": None,
            "lock_wait": 30, "maintenance_db": "postgres", "run_id": "",
        }  # fmt: skip
        return t.cast("list[dict[str, t.Any]]", report(self.target, {**defaults, **options})["migrations"])

    def state(self, **options: t.Any) -> str:
        [entry] = self.examine(**options)
        return str(entry["state"])
