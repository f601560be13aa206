# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Put one database in another's place: both renames in one transaction.

Session A renames; the lock that the first rename takes makes new connections wait.
Session B ends the sessions that are still there. Nothing is closed beforehand, so a
crash at any point leaves either all as it was or all done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, connection, execute, psycopg2, row, rows, scrub, sql
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import apply_settings, marker, read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

POLL_SECONDS = 0.004
#: In use, lock not available, statement_timeout, deadlock: rolled back whole, and worth another try.
RETRIED = frozenset(("55006", "55P03", "57014", "40P01"))
#: The server itself waits up to 5 s for sessions to leave, so its answer comes before this.
SETTINGS = {
    "lock_timeout": "3s",
    "statement_timeout": "8s",
    # A stopped process must not keep every new connection waiting.
    "idle_in_transaction_session_timeout": "2s",
    "default_transaction_read_only": "off",
    "synchronous_commit": "on",
}

# Who is in a database, and whether this role may end the session. A superuser's needs a superuser.
# Others' backend_type is hidden from a plain role. Without a user: autovacuum, which the rename itself sends away.
_SESSIONS = """
SELECT a.pid, a.usename, a.application_name, a.backend_type,
       me.rolsuper OR (NOT coalesce(r.rolsuper, true) AND (pg_has_role(a.usesysid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE')))
  FROM pg_stat_activity a
  JOIN pg_roles me ON me.rolname = current_user
  LEFT JOIN pg_roles r ON r.oid = a.usesysid
 WHERE a.datid = ANY(%s::oid[]) AND a.pid <> pg_backend_pid() AND a.usesysid IS NOT NULL AND coalesce(a.backend_type, '') <> 'parallel worker'
 ORDER BY a.pid
"""
_NAMES = "SELECT oid::bigint, datname FROM pg_database WHERE oid = ANY(%s::oid[])"


@dataclasses.dataclass(frozen=True)
class Swapped:
    """A swap that was done. ``seconds`` is the time during which new connections waited."""

    live_oid: int
    kept_oid: int
    seconds: float
    attempts: int
    terminated: int


@dataclasses.dataclass(frozen=True)
class _Plan:
    target: Target
    maintenance_db: str
    live: str
    staging: str
    kept: str
    live_oid: int
    staging_oid: int
    comment: str
    application_name: str


def database_oid(conn: t.Any, name: str) -> int | None:
    """The OID of the database with this name, or None."""
    found = row(conn, "SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,))
    return found[0] if found else None


def swap(
    target: Target,
    staging: str,
    kept: str,
    maintenance_db: str = "postgres",
    run_id: str = "",
    at: str = "",
    live_oid: int | None = None,
    staging_oid: int | None = None,
    attempts: int = 3,
    patience: float = 2.0,
) -> Swapped:
    """Rename live to ``kept`` and ``staging`` to live, with live's properties, in one transaction.

    Swapping back is the same call with the kept database as ``staging``. The caller holds
    the run's lock and has no session in either database.

    :param live_oid: the OID that the live database must have; its present one by default.
    :param patience: seconds to wait for sessions that this role may not end.
    :raises MigrationError: ``SWAP_REFUSED`` (nothing was tried), ``SWAP_FAILED`` (all tries
        were rolled back; ``sessions`` names who stays), ``CONNECTION_LOST`` (unknown).
    """
    name = ("pgops.migrations swap %s" % run_id).strip()
    with connection(target, maintenance_db, application_name=name) as conn:
        oids = {word: database_oid(conn, dbname) for word, dbname in (("live", target.dbname), ("staging", staging), ("kept", kept))}
    if oids["kept"] is not None:
        raise MigrationError("the name %s is taken" % kept, code="SWAP_REFUSED")
    for word, dbname, wanted in (("live", target.dbname, live_oid), ("staging", staging, staging_oid)):
        if oids[word] is None or (wanted is not None and oids[word] != wanted):
            raise MigrationError("%s is not the database that was expected (OID %s instead of %s)" % (dbname, oids[word], wanted), code="SWAP_REFUSED")
    plan = _Plan(
        target=target, maintenance_db=maintenance_db, live=target.dbname, staging=staging, kept=kept, live_oid=int(oids["live"] or 0),
        staging_oid=int(oids["staging"] or 0), application_name=name, comment=marker("kept", database=target.dbname, run_id=run_id, at=at),
    )  # fmt: skip
    return _try(plan, attempts, patience)


def _try(plan: _Plan, attempts: int, patience: float) -> Swapped:
    last = ""
    terminated = 0
    with connection(plan.target, plan.maintenance_db, application_name=plan.application_name) as watcher:
        for attempt in range(1, attempts + 1):
            # A session that cannot be ended would make every client wait in vain for 5 s.
            if _stubborn(watcher, plan, patience):
                last = "there are sessions that this role may not end"
                continue
            ended: set[int] = set()
            started = time.monotonic()
            conn = connect(plan.target, plan.maintenance_db, application_name=plan.application_name, settings=SETTINGS)
            pid = conn.info.backend_pid
            try:
                seconds: float | None = _attempt(plan, conn, watcher, ended)
            except psycopg2.Error as error:
                seconds = None
                last = scrub(" ".join(str(error).split()), plan.target)
                if not error.pgcode or error.pgcode[:2] in ("57", "08") and error.pgcode not in RETRIED:
                    # No answer, perhaps to COMMIT: only the catalogue knows. Never repeated blindly.
                    if _was_done(plan, pid):
                        seconds = time.monotonic() - started
                elif error.pgcode not in RETRIED and not (error.pgcode == "XX000" and "concurrently" in last):
                    raise _failed(plan, watcher, last, attempt, error.pgcode) from None
            terminated += len(ended)
            if seconds is not None:
                return Swapped(live_oid=plan.staging_oid, kept_oid=plan.live_oid, seconds=round(seconds, 4), attempts=attempt, terminated=terminated)
            if watcher.closed:
                break
            time.sleep(0.2 * attempt)
        raise _failed(plan, watcher, last, attempt)


def _attempt(plan: _Plan, conn: t.Any, watcher: t.Any, ended: set[int]) -> float:
    """One transaction on ``conn``, which is closed then; the seconds it held the lock."""
    stop = threading.Event()
    helper = threading.Thread(target=_end_sessions, args=(watcher, plan, stop, ended), daemon=True)
    try:
        conn.autocommit = False
        # The first statement opens the transaction; the helper starts with the rename and not before.
        execute(conn, "SELECT 1")
        helper.start()
        started = time.monotonic()
        _rename(conn, plan.live, plan.kept)
        _rename(conn, plan.staging, plan.live)
        stop.set()
        wanted = read_settings(conn, plan.live_oid)
        moved = dict(rows(conn, _NAMES, ([plan.live_oid, plan.staging_oid],)))
        if moved != {plan.live_oid: plan.kept, plan.staging_oid: plan.live}:
            raise MigrationError("the databases changed their names meanwhile: %s" % moved, code="SWAP_REFUSED")
        apply_settings(conn, plan.live, plan.staging_oid, wanted)
        _fence(conn, plan)
        conn.commit()
        return time.monotonic() - started
    finally:
        stop.set()
        # Closing an open transaction rolls it back.
        with contextlib.suppress(psycopg2.Error):
            conn.close()
        if helper.ident is not None:
            helper.join(10)


def _rename(conn: t.Any, old: str, new: str) -> None:
    execute(conn, sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(old), sql.Identifier(new)))


def _fence(conn: t.Any, plan: _Plan) -> None:
    """Nobody connects to the kept database by mistake; it says why it is there."""
    kept = sql.Identifier(plan.kept)
    execute(conn, sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(kept))
    execute(conn, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(kept))
    execute(conn, sql.SQL("COMMENT ON DATABASE {} IS {}").format(kept, sql.Literal(plan.comment)))


def _end_sessions(watcher: t.Any, plan: _Plan, stop: threading.Event, ended: set[int]) -> None:
    """Session B: end whoever is in one of the two databases, by OID, until told to stop."""
    while not stop.wait(POLL_SECONDS):
        try:
            for pid, _user, _name, _kind, may in sessions(watcher, plan.live_oid, plan.staging_oid):
                if may and not stop.is_set():
                    with contextlib.suppress(psycopg2.errors.InsufficientPrivilege):
                        execute(watcher, "SELECT pg_terminate_backend(%s)", (pid,))
                        ended.add(pid)
        except psycopg2.Error:
            # Without it session A runs into its timeout and the swap is rolled back.
            return


def sessions(conn: t.Any, *oids: int) -> list[tuple[t.Any, ...]]:
    """(pid, user, application, kind, may this role end it?) of each session in these databases."""
    return rows(conn, _SESSIONS, (list(oids),))


def _stubborn(watcher: t.Any, plan: _Plan, patience: float) -> bool:
    end = time.monotonic() + patience
    while any(not session[4] for session in sessions(watcher, plan.live_oid, plan.staging_oid)):
        if time.monotonic() >= end:
            return True
        time.sleep(0.05)
    return False


def _was_done(plan: _Plan, pid: int, wait: float = 30.0) -> bool:
    """Whether the renames were committed, decided by OID after the session that did them is gone."""
    end = time.monotonic() + wait
    while True:
        try:
            with connection(plan.target, plan.maintenance_db, application_name=plan.application_name) as conn:
                if not rows(conn, "SELECT pid FROM pg_stat_activity WHERE pid = %s", (pid,)):
                    names = dict(rows(conn, _NAMES, ([plan.live_oid, plan.staging_oid],)))
                    return bool(names.get(plan.live_oid) == plan.kept and names.get(plan.staging_oid) == plan.live)
        except (MigrationError, psycopg2.Error):
            pass
        if time.monotonic() >= end:
            raise MigrationError(
                "the server did not answer at the end of the swap, so it is not known whether it was done",
                code="CONNECTION_LOST",
                next_step="ask the server: SELECT oid, datname FROM pg_database WHERE oid IN (%d, %d); the swap was done if %d is %s"
                % (plan.live_oid, plan.staging_oid, plan.staging_oid, plan.live),
                live_oid=plan.live_oid,
                staging_oid=plan.staging_oid,
            )
        time.sleep(0.2)


def _failed(plan: _Plan, watcher: t.Any, why: str, attempts: int, sqlstate: str | None = None) -> MigrationError:
    staying: list[dict[str, t.Any]] = []
    with contextlib.suppress(psycopg2.Error):
        staying = [
            {"pid": pid, "user": user, "application_name": name, "kind": kind, "may_end": may}
            for pid, user, name, kind, may in sessions(watcher, plan.live_oid, plan.staging_oid)
        ]
    who = ", ".join("pid %(pid)d (user %(user)s, application %(application_name)s)" % session for session in staying if not session["may_end"])
    return MigrationError(
        "%s and %s were not swapped in %d tries: %s%s" % (plan.live, plan.staging, attempts, why, "; staying: %s" % who if who else ""),
        code="SWAP_FAILED",
        sqlstate=sqlstate,
        sessions=staying,
        staging=plan.staging,
    )


__all__ = ("Swapped", "database_oid", "sessions", "swap")
