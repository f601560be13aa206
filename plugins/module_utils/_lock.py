# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The collection's own lock of a database: one writing run at a time.

It is an advisory lock of a session, so it dies with its owner and is never stale. It
lies in the maintenance database, so a swap, which ends every session of the target,
does not release it. It is polled with a try-lock: a session that waits inside
pg_advisory_lock holds a snapshot, and CREATE INDEX CONCURRENTLY waits for that
snapshot, which is a deadlock.
"""

from __future__ import annotations

import contextlib
import time
import typing as t
import zlib

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: The first key of the lock; "pgmg" read as four bytes. Shown as classid in pg_locks.
LOCK_CLASS = 0x70676D67
POLL_SECONDS = 0.2

_HOLDER = """
SELECT a.pid, a.application_name, a.usename, extract(epoch FROM now() - a.backend_start)::int
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 2
   AND l.classid::bigint = %s AND l.objid::bigint = %s
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def lock_key(dbname: str) -> int:
    """The second key: a checksum of the name, which a swap keeps while the OID changes."""
    return zlib.crc32(dbname.encode("utf-8"))


def _signed(value: int) -> int:
    return value - (1 << 32) if value >= 1 << 31 else value


def maintenance_connection(target: Target, maintenance_db: str = "postgres", run_id: str = "") -> t.Any:
    """A connection to the database where locks are taken; the caller closes it.

    :raises MigrationError: ``MAINTENANCE_DB_UNREACHABLE``, ``SERVER_UNREACHABLE``, ...
    """
    try:
        # A role's own limits would end a lock that is held for as long as a run takes.
        limits = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
        return connect(target, maintenance_db, application_name=("pgops.migrations %s" % run_id).strip(), settings=limits)
    except MigrationError as error:
        # The server is there for everyone or for no one; only a database can be missing here.
        if error.code in ("DATABASE_MISSING", "PERMISSION_DENIED"):
            raise MigrationError("%s (maintenance_db is %s)" % (error.msg, maintenance_db), code="MAINTENANCE_DB_UNREACHABLE") from None
        raise


@contextlib.contextmanager
def run_lock(target: Target, maintenance_db: str = "postgres", run_id: str = "", wait: float = 0.0) -> t.Iterator[t.Any]:
    """Hold the lock of the target's database; yields the connection that holds it.

    :param run_id: shown to others as part of application_name.
    :param wait: seconds to poll before giving up.
    :raises MigrationError: ``LOCKED`` with the holder, ``MAINTENANCE_DB_UNREACHABLE``.
    """
    conn = maintenance_connection(target, maintenance_db, run_id)
    try:
        key = lock_key(target.dbname)
        end = time.monotonic() + wait
        while not (row(conn, "SELECT pg_try_advisory_lock(%s, %s)", (_signed(LOCK_CLASS), _signed(key))) or (False,))[0]:
            if time.monotonic() >= end:
                raise _locked(conn, target)
            time.sleep(POLL_SECONDS)
        yield conn
    finally:
        conn.close()


def _locked(conn: t.Any, target: Target) -> MigrationError:
    found = holders(conn, target.dbname)
    if not found:
        return MigrationError("%s was locked by a run that has just ended" % target.label(), code="LOCKED")
    who = ", ".join("pid %(pid)d (%(application_name)s, user %(user)s, for %(seconds)d s)" % holder for holder in found)
    return MigrationError("%s is locked by %s" % (target.label(), who), code="LOCKED", running=found[0])


def holders(conn: t.Any, dbname: str) -> list[dict[str, t.Any]]:
    """The runs that hold the lock of a database.

    :param conn: to the maintenance database.
    :returns: C(run_id) (empty for a run without), C(pid), C(application_name), C(user), C(seconds) since it connected.
    """
    return [
        {"run_id": run_of(name), "pid": pid, "application_name": name, "user": user, "seconds": seconds}
        for pid, name, user, seconds in rows(conn, _HOLDER, (LOCK_CLASS, lock_key(dbname)))
    ]


def run_of(application_name: str) -> str:
    """The run that a session of ours belongs to, by its name; empty for a session of somebody else."""
    first, _blank, last = application_name.rpartition(" ")
    return last if first.startswith("pgops") else ""


def refuse_locked(conn: t.Any, target: Target) -> None:
    """:raises MigrationError: ``LOCKED`` when a run is at work in the database."""
    if holders(conn, target.dbname):
        raise _locked(conn, target)


__all__ = ("LOCK_CLASS", "holders", "lock_key", "maintenance_connection", "refuse_locked", "run_lock", "run_of")
