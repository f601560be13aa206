# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Put one database in another's place: both renames in one transaction.

Session A first does, in its transaction, all that clients do not notice: staging takes
over live's properties, live becomes closed. Then it renames; the lock that the first
rename takes makes new connections wait until the commit. Session B ends the sessions
that are still there (see _evict). Nothing is visible before the commit, so a crash at
any point leaves either all as it was or all done.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, connection, execute, psycopg2, row, rows, scrub, sql
from ansible_collections.pgops.migrations.plugins.module_utils._dbgrants import close_to_public, other_grantor, read_grants
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import apply_settings, marker, read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evict import describe, evicting, listen, sessions, watcher
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import is_database_name
from ansible_collections.pgops.migrations.plugins.module_utils._precedence import copied, make_way
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

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
_NAMES = "SELECT oid::bigint, datname FROM pg_database WHERE oid = ANY(%s::oid[])"
# What others can change about live although this transaction has written its row: before the rename and not after.
_UNLOCKED = """
SELECT (SELECT json_agg(s ORDER BY s.setrole)::text FROM pg_db_role_setting s WHERE s.setdatabase = {live}),
       (SELECT json_agg(l ORDER BY l.provider)::text FROM pg_shseclabel l WHERE l.classoid = 'pg_database'::regclass AND l.objoid = {live}),
       shobj_description({live}, 'pg_database'),
       (SELECT datname FROM pg_database WHERE oid = {live}), (SELECT datname FROM pg_database WHERE oid = {staging})
"""


@dataclasses.dataclass(frozen=True)
class Swapped:
    """A swap that was done. ``seconds`` is the time during which new connections waited; ``warnings``: what is not exactly as before.

    No attempts: an earlier call, whose answer got lost, has done it.
    """

    live_oid: int
    kept_oid: int
    seconds: float
    attempts: int
    terminated: int
    warnings: tuple[str, ...] = ()


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
    facts: t.Mapping[str, t.Any] | None = None,
) -> Swapped:
    """Rename live to ``kept`` and ``staging`` to live, with live's properties, in one transaction.

    Swapping back is the same call with the kept database as ``staging``. The caller holds
    the run's lock and has no session in either database.

    :param live_oid: the OID that the live database must have; its present one by default.
    :param patience: seconds to wait for sessions that this role may not end.
    :param facts: what the kept database's comment shall say besides database, run_id and at.
    :raises MigrationError: ``SWAP_REFUSED`` (nothing was tried), ``SWAP_FAILED`` (all tries
        were rolled back; ``sessions`` names who stays), ``CONNECTION_LOST`` (unknown).
    """
    if not is_database_name(kept):
        raise MigrationError("%r is no name for a database" % kept, code="SWAP_REFUSED")
    name = ("pgops.migrations swap %s" % run_id).strip()
    with connection(target, maintenance_db, application_name=name) as conn:
        oids = {word: database_oid(conn, dbname) for word, dbname in (("live", target.dbname), ("staging", staging), ("kept", kept))}
    if live_oid and staging_oid and (oids["live"], oids["kept"]) == (staging_oid, live_oid):
        # A run that was killed after the commit did it.
        return Swapped(live_oid=staging_oid, kept_oid=live_oid, seconds=0.0, attempts=0, terminated=0)
    if oids["kept"] is not None:
        raise MigrationError("the name %s is taken" % kept, code="SWAP_REFUSED")
    for word, dbname, wanted in (("live", target.dbname, live_oid), ("staging", staging, staging_oid)):
        if oids[word] is None or (wanted is not None and oids[word] != wanted):
            raise MigrationError("%s is not the database that was expected (OID %s instead of %s)" % (dbname, oids[word], wanted), code="SWAP_REFUSED")
    plan = _Plan(
        target=target, maintenance_db=maintenance_db, live=target.dbname, staging=staging, kept=kept, live_oid=int(oids["live"] or 0),
        staging_oid=int(oids["staging"] or 0), application_name=name, comment=marker("kept", database=target.dbname, run_id=run_id, at=at, **(facts or {})),
    )  # fmt: skip
    return _try(plan, attempts, patience)


def _try(plan: _Plan, attempts: int, patience: float) -> Swapped:
    last = ""
    terminated = 0
    copying: list[dict[str, t.Any]] = []
    for attempt in range(1, attempts + 1):
        ended: set[int] = set()
        inexact: list[str] = []
        # A new one each time: the one of the last try may have been ended itself.
        with watcher(plan.target, plan.maintenance_db, plan.application_name) as helper:
            # A copy that does not end, or a session that cannot be ended, would make every client wait in vain for seconds.
            copying = make_way(helper, (plan.live_oid, plan.staging_oid), patience)
            if copying:
                continue
            if _stubborn(helper, plan, patience):
                last = "there are sessions that this role may not end"
                continue
            started = time.monotonic()
            conn = connect(plan.target, plan.maintenance_db, application_name=plan.application_name, settings=SETTINGS)
            pid = conn.info.backend_pid
            try:
                seconds: float | None = _attempt(plan, conn, helper, ended, inexact)
            except psycopg2.Error as error:
                seconds = None
                last = scrub(" ".join(str(error).split()), plan.target)
                if not error.pgcode or error.pgcode[:2] in ("57", "08") and error.pgcode not in RETRIED:
                    # No answer, perhaps to COMMIT: only the catalogue knows. Never repeated blindly.
                    if _was_done(plan, pid):
                        seconds = time.monotonic() - started
                elif error.pgcode not in RETRIED and not (error.pgcode == "XX000" and "concurrently" in last):
                    raise _failed(plan, last, attempt, error.pgcode) from None
        terminated += len(ended)
        if seconds is not None:
            return Swapped(
                live_oid=plan.staging_oid, kept_oid=plan.live_oid, seconds=round(seconds, 4), attempts=attempt, terminated=terminated,
                warnings=tuple(other_grantor(plan.live, text) for text in inexact),
            )  # fmt: skip
        time.sleep(0.2 * attempt)
    if copying:
        raise copied(
            "one of them", copying, "SWAP_FAILED", "%s and %s were not swapped in %d tries: " % (plan.live, plan.staging, attempts), staging=plan.staging
        )
    raise _failed(plan, last, attempts)


def _attempt(plan: _Plan, conn: t.Any, helper: t.Any, ended: set[int], inexact: list[str]) -> float:
    """One transaction on ``conn``, which is closed then; the seconds it held the lock."""
    try:
        channel = listen(conn)
        conn.autocommit = False
        before, wanted = _prepare(conn, plan, inexact)
        _failpoint.reached("swap:prepared")
        with evicting(helper, conn, channel, plan.live_oid, plan.staging_oid) as eviction:
            started = time.monotonic()
            try:
                after = _rename(conn, plan)
            finally:
                eviction.stop()
                ended |= eviction.ended
        _finish(conn, plan, before, after, wanted)
        _failpoint.reached("swap:renamed")
        conn.commit()
        seconds = time.monotonic() - started
        _failpoint.reached("swap:committed")
        return seconds
    finally:
        # Closing an open transaction rolls it back.
        with contextlib.suppress(psycopg2.Error):
            conn.close()


def _prepare(conn: t.Any, plan: _Plan, inexact: list[str]) -> tuple[tuple[t.Any, ...], dict[str, t.Any]]:
    """Everything that can be done while clients work: live's properties for staging, and live's fence.

    :returns: the row of ``_UNLOCKED``, and live's properties.
    """
    live = sql.Identifier(plan.live)
    # PUBLIC never has a grant option, so this changes nothing; but it writes live's row, and nobody else can until the end.
    execute(conn, sql.SQL("REVOKE GRANT OPTION FOR CONNECT ON DATABASE {} FROM PUBLIC").format(live))
    before = row(conn, _unlocked(plan)) or ()
    wanted = read_settings(conn, plan.live_oid)
    inexact += apply_settings(conn, plan.staging, plan.staging_oid, wanted)
    if inexact:
        wanted["grants"] = read_grants(conn, plan.staging_oid)
    # Nobody connects to the kept database by mistake.
    close_to_public(conn, plan.live, plan.live_oid, wanted["owner"])
    execute(conn, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(live))
    if wanted["is_template"]:
        # As a template it could not be dropped, and every role with CREATEDB could copy it.
        execute(conn, sql.SQL("ALTER DATABASE {} IS_TEMPLATE false").format(live))
    return before, wanted


def _unlocked(plan: _Plan) -> t.Any:
    return sql.SQL(_UNLOCKED).format(live=sql.Literal(plan.live_oid), staging=sql.Literal(plan.staging_oid))


def _rename(conn: t.Any, plan: _Plan) -> tuple[t.Any, ...]:
    """Both renames, and what ``_UNLOCKED`` is then; sent as one message, so there is no thinking time between."""
    rename = sql.SQL("ALTER DATABASE {} RENAME TO {}")
    live, staging, kept = (sql.Identifier(name) for name in (plan.live, plan.staging, plan.kept))
    return row(conn, sql.SQL("; ").join([rename.format(live, kept), rename.format(staging, live), _unlocked(plan)])) or ()


def _finish(conn: t.Any, plan: _Plan, before: tuple[t.Any, ...], after: tuple[t.Any, ...], wanted: dict[str, t.Any]) -> None:
    """What must be read or written after the renames."""
    if after[3:] != (plan.kept, plan.live):
        raise MigrationError("the databases changed their names meanwhile: %s" % (after[3:],), code="SWAP_REFUSED")
    if after[:3] != before[:3]:
        now = read_settings(conn, plan.live_oid)
        apply_settings(conn, plan.live, plan.staging_oid, dict(wanted, **{name: now[name] for name in ("settings", "labels", "comment")}))
    execute(conn, sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(plan.kept), sql.Literal(plan.comment)))


def _stubborn(helper: t.Any, plan: _Plan, patience: float) -> bool:
    end = time.monotonic() + patience
    while any(not session[4] for session in sessions(helper, plan.live_oid, plan.staging_oid)):
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


def _failed(plan: _Plan, why: str, attempts: int, sqlstate: str | None = None) -> MigrationError:
    staying: list[dict[str, t.Any]] = []
    with contextlib.suppress(MigrationError, psycopg2.Error), connection(plan.target, plan.maintenance_db, application_name=plan.application_name) as conn:
        staying = describe(sessions(conn, plan.live_oid, plan.staging_oid))
    who = ", ".join("pid %(pid)d (user %(user)s, application %(application_name)s)" % session for session in staying if not session["may_end"])
    return MigrationError(
        "%s and %s were not swapped in %d tries: %s%s" % (plan.live, plan.staging, attempts, why, "; staying: %s" % who if who else ""),
        code="SWAP_FAILED",
        sqlstate=sqlstate,
        sessions=staying,
        staging=plan.staging,
    )


__all__ = ("Swapped", "database_oid", "sessions", "swap")
