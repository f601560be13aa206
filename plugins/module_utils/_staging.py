# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Bring a restore point into an empty database, and prove that it is what was backed up."""

from __future__ import annotations

import concurrent.futures
import threading
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption, restoring
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row, rows, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest, plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import conninfo
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: For the sessions of pg_restore: the staging database may be lost at any time until the swap.
SETTINGS = {"maintenance_work_mem": "256MB", "synchronous_commit": "off", "max_parallel_maintenance_workers": "0", "default_transaction_read_only": "off"}
#: Ways to compress WAL that cost less than they save; pglz (``on``) is not one of them. Only a superuser may set it.
_WAL_COMPRESSION = ("lz4",)
_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'm') AND c.relpersistence <> 't' AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
 ORDER BY pg_table_size(c.oid) DESC
"""


def fill(
    target: Target,
    dbname: str,
    program: Program,
    path: str,
    manifest: Manifest,
    jobs: int = 4,
    superuser: bool = False,
    application_name: str = "",
    decryption: Decryption | None = None,
) -> None:
    """pg_restore of the restore point at ``path`` into the empty database ``dbname``.

    :raises MigrationError: ``DISK_FULL``, ``RESTORE_FAILED``.
    """
    if superuser:
        _without_event_triggers(target, dbname)
    settings = dict(SETTINGS, **(_wal_compression(target, dbname) if superuser else {}))
    args = ["--exit-on-error", "--no-password", "--dbname=%s" % conninfo(dbname)]
    # A stream cannot be read by several processes.
    args += [] if manifest.encryption else ["--jobs=%d" % jobs]
    with restoring(program, path, manifest, target, args, dbname, application_name, settings, decryption) as child:
        done = child.wait()
    if done is None or done.rc != 0:
        why = done.why() if done else "did not end"
        code = "DISK_FULL" if "No space left on device" in why else "RESTORE_FAILED"
        raise MigrationError("pg_restore %s" % why, code=code)


def _without_event_triggers(target: Target, dbname: str) -> None:
    """A login event trigger (PostgreSQL 17) may write with each of our sessions; the swap takes this setting away again."""
    with _inside(target, dbname, "") as conn, sql_errors("prepare the staging database", target, default="RESTORE_FAILED"):
        if conn.server_version >= 170000:
            execute(conn, sql.SQL("ALTER DATABASE {} SET event_triggers = off").format(sql.Identifier(dbname)))


def _wal_compression(target: Target, dbname: str) -> dict[str, str]:
    with _inside(target, dbname, "") as conn, sql_errors("read the settings", target):
        found = row(conn, "SELECT enumvals FROM pg_settings WHERE name = 'wal_compression'")
    known = (found[0] if found else None) or ()
    return next(({"wal_compression": way} for way in _WAL_COMPRESSION if way in known), {})


def analyze(target: Target, dbname: str, application_name: str = "", jobs: int = 2) -> None:
    """ANALYZE every table, ``jobs`` at a time, the largest first.

    An archive holds no statistics of the planner (before PostgreSQL 18); without them the application is slow.
    """
    with _inside(target, dbname, application_name) as conn, sql_errors("analyze the restored database", target, default="RESTORE_FAILED"):
        waiting = iter(rows(conn, _TABLES))
    taking = threading.Lock()

    def work() -> None:
        with _inside(target, dbname, application_name) as conn, sql_errors("analyze the restored database", target, default="RESTORE_FAILED"):
            while True:
                with taking:
                    table = next(waiting, None)
                if table is None:
                    return
                execute(conn, sql.SQL("ANALYZE {}").format(sql.Identifier(*table)))

    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for done in [pool.submit(work) for _job in range(jobs)]:
            done.result()


def verify(target: Target, dbname: str, manifest: Manifest, application_name: str = "") -> None:
    """:raises MigrationError: ``FINGERPRINT_MISMATCH`` with ``differences`` when it is not what was backed up."""
    with _inside(target, dbname, application_name) as conn, sql_errors("take the fingerprint of the restored database", target, default="RESTORE_FAILED"):
        found = plain(take(conn, level="full"))
    differences = compare(manifest.expected(found), found)
    if differences:
        raise MigrationError(
            "the restored database differs from what was backed up in %d places" % len(differences),
            code="FINGERPRINT_MISMATCH",
            differences=plain(differences),
        )


def _inside(target: Target, dbname: str, application_name: str) -> t.Any:
    return connection(target, dbname, application_name=application_name, settings=dict(QUIET, default_transaction_read_only="off"))


__all__ = ("SETTINGS", "analyze", "fill", "verify")
