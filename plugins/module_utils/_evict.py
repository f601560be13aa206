# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""End the sessions of a database while another session waits for it to be empty.

RENAME and CREATE DATABASE .. TEMPLATE first take a lock that makes new connections wait,
and then look 50 times whether somebody is still in the database, sleeping 100 ms after
each look. A signal ends the sleep at once; a notification, which the waiting session
listens for, is such a signal. So the server looks again as soon as the last one has left.
"""

from __future__ import annotations

import contextlib
import dataclasses
import secrets
import threading
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

POLL_SECONDS = 0.001
#: Each notification may use up one of the server's 50 looks: many at first, then slower, and not all of them.
NUDGES, QUICK_NUDGES, SLOW_SECONDS = 25, 10, 0.01
#: Then somebody may still come who had got in before the lock, and a copy may take long.
IDLE_SECONDS = 0.05
#: A session that has not left after so many seconds is told once more.
AGAIN_SECONDS = 0.25
#: Seconds for sessions to leave that this role may not end.
PATIENCE = 2.0
_END_THEM = "stop the application, or have its sessions ended: -e backup_snapshot_sessions=end (sessions: end of database_copy)"
#: What the watcher writes are notifications only, which need not wait for the disk.
WATCHER_SETTINGS = {"synchronous_commit": "off", "default_transaction_read_only": "off", "idle_session_timeout": "0"}

# Who is in a database, and whether this role may end the session. A superuser's needs a superuser.
# Others' backend_type is hidden from a plain role. Without a user: autovacuum, which the server itself sends away.
_PRESENT = """
SELECT a.datid, a.pid, a.usename, a.application_name, a.backend_type, a.usesysid IS NOT NULL AND coalesce(a.backend_type, '') <> 'parallel worker' AS theirs,
       me.rolsuper OR (NOT coalesce(r.rolsuper, true) AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))) AS may
  FROM pg_stat_activity a
  JOIN pg_roles me ON me.rolname = current_user
  LEFT JOIN pg_roles r ON r.oid = a.usesysid
 WHERE a.datid = ANY({oids}::oid[]) AND a.pid <> pg_backend_pid()
"""
_SESSIONS = "SELECT pid, usename, application_name, backend_type, may FROM (%s) AS present WHERE theirs ORDER BY pid" % _PRESENT.format(oids="%s")
_PREPARE = "PREPARE pgm_evict (oid[], int[]) AS SELECT datid::bigint, CASE WHEN theirs AND may AND pid <> ALL($2) THEN pid END," + (
    " CASE WHEN theirs AND may AND pid <> ALL($2) THEN pg_terminate_backend(pid) END FROM (%s) AS present" % _PRESENT.format(oids="$1")
)
#: RENAME takes the first, a copy the second one of these locks on the database.
_PREPARE_HELD = """
PREPARE pgm_held (int, oid[]) AS SELECT EXISTS (
    SELECT FROM pg_locks WHERE locktype = 'object' AND classid = 'pg_database'::regclass AND objid = ANY($2) AND pid = $1 AND granted
       AND mode IN ('AccessExclusiveLock', 'ShareLock'))
"""


@dataclasses.dataclass
class Eviction:
    """What was done so far. ``emptied`` is the moment (monotonic) when nobody was left."""

    ended: set[int] = dataclasses.field(default_factory=set)
    emptied: float | None = None
    stop: t.Callable[[], None] = lambda: None


def sessions(conn: t.Any, *oids: int) -> list[tuple[t.Any, ...]]:
    """(pid, user, application, kind, may this role end it?) of each session in these databases."""
    return rows(conn, _SESSIONS, (list(oids),))


def describe(found: t.Iterable[t.Sequence[t.Any]]) -> list[dict[str, t.Any]]:
    """What :func:`sessions` found, as facts of an error."""
    return [dict(zip(("pid", "user", "application_name", "kind", "may_end"), session)) for session in found]


def demand_leaving(conn: t.Any, dbname: str, oid: int, end: bool, patience: float = PATIENCE) -> None:
    """Nobody may be in the database, but for those who can be ended if ``end`` is set.

    :raises MigrationError: ``SESSIONS_REMAIN`` with ``sessions``.
    """
    until = time.monotonic() + (patience if end else 0)
    while True:
        found = [each for each in sessions(conn, oid) if not end or not each[4]]
        if not found:
            return
        if time.monotonic() >= until:
            break
        time.sleep(0.05)
    who = ", ".join("pid %s (user %s, application %s)" % tuple(each[:3]) for each in found[:10])
    raise MigrationError(
        "%s must have no sessions, and has %s%s" % (dbname, who, ", which this role may not end" if end else ""),
        code="SESSIONS_REMAIN",
        next_step="end them as a superuser, then run again" if end else _END_THEM,
        sessions=describe(found),
    )


def listen(conn: t.Any) -> str:
    """Have this session, in autocommit mode, be woken by the watcher; the name of the channel.

    It also notices while it waits that its client has died, where the server's system can tell.
    """
    with contextlib.suppress(psycopg2.Error):
        execute(conn, "SET client_connection_check_interval = '500ms'")
    channel = "pgm_%s" % secrets.token_hex(8)
    execute(conn, sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
    return channel


@contextlib.contextmanager
def watcher(target: Target, dbname: str, application_name: str) -> t.Iterator[t.Any]:
    """A connection that is ready to end sessions; it must be in the same database as the waiting one."""
    with connection(target, dbname, application_name=application_name, settings=WATCHER_SETTINGS) as conn:
        execute(conn, _PREPARE_HELD)
        execute(conn, _PREPARE)
        yield conn


@contextlib.contextmanager
def evicting(conn: t.Any, waiter: t.Any, channel: str, *oids: int) -> t.Iterator[Eviction]:
    """End whoever is in one of these databases, by OID, from the moment when the waiting session holds its lock.

    When that cannot be done any more, the waiting statement is cancelled (57014): clients must not wait for nothing.

    :param conn: from :func:`watcher`; used by nobody else in this block.
    :param waiter: the connection that waits, and listens on ``channel``.
    :param oids: in the order in which that session waits for them to be empty.
    """
    stopped = threading.Event()
    eviction = Eviction()
    thread = threading.Thread(target=_evict, args=(conn, waiter, channel, list(oids), stopped, eviction), daemon=True)

    def stop() -> None:
        """No session is ended after this has returned."""
        stopped.set()
        if thread.ident is not None:
            thread.join(10)

    eviction.stop = stop
    thread.start()
    try:
        yield eviction
    finally:
        stop()


def _evict(conn: t.Any, waiter: t.Any, channel: str, oids: list[int], stopped: threading.Event, eviction: Eviction) -> None:
    try:
        _work(conn, waiter.info.backend_pid, channel, oids, stopped, eviction)
    except psycopg2.Error:
        if not stopped.is_set() and eviction.emptied is None:
            with contextlib.suppress(psycopg2.Error):
                waiter.cancel()


def _work(conn: t.Any, waiter: int, channel: str, oids: list[int], stopped: threading.Event, eviction: Eviction) -> None:
    while not (row(conn, "EXECUTE pgm_held (%s, %s::oid[])", (waiter, oids)) or (False,))[0]:
        if stopped.wait(POLL_SECONDS):
            return
    _failpoint.reached("evict:locked")
    told: dict[int, float] = {}
    busy: set[int] | None = None
    nudges, pause, seen = 0, POLL_SECONDS, False
    while True:
        recent = [pid for pid, at in told.items() if time.monotonic() - at < AGAIN_SECONDS]
        try:
            found = rows(conn, "EXECUTE pgm_evict (%s::oid[], %s::int[])", (oids, recent))
        except psycopg2.errors.InsufficientPrivilege:
            # Another kind of session than a moment ago, under the same pid.
            found = [(oids[0], None, None)]
        told.update((pid, time.monotonic()) for _oid, pid, _sent in found if pid)
        eviction.ended.update(pid for _oid, pid, sent in found if sent)
        if busy != {oid for oid, _pid, _sent in found}:
            busy, nudges, pause = {oid for oid, _pid, _sent in found}, 0, POLL_SECONDS
        if not busy and eviction.emptied is None:
            eviction.emptied = time.monotonic()
        if stopped.is_set():
            return
        seen = seen or bool(busy)
        if seen and oids[0] not in busy:
            if nudges < NUDGES:
                # A session shows here as gone a little before the server counts it so: more than one may be needed.
                rows(conn, "SELECT pg_notify(%s, '')", (channel,))
            nudges += 1
        if oids[0] not in busy:
            pause = POLL_SECONDS if nudges < QUICK_NUDGES else SLOW_SECONDS if nudges < NUDGES else IDLE_SECONDS
        if stopped.wait(pause):
            return


__all__ = ("Eviction", "demand_leaving", "describe", "evicting", "listen", "sessions", "watcher")
