# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Databases that were kept: what a rollback replaced. Listed, dropped one at a time, and read.

They are closed. Who reads one opens it for as long as it takes to connect.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, psycopg2, row, rows, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evict import describe, sessions
from ansible_collections.pgops.migrations.plugins.module_utils._lock import maintenance_connection, run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._marked import LEFTOVER, marked
from ansible_collections.pgops.migrations.plugins.module_utils._precedence import copied, copiers
from ansible_collections.pgops.migrations.plugins.module_utils._rowsource import moment
from ansible_collections.pgops.migrations.plugins.module_utils._typed import is_confirmed, said, to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

KINDS = ("kept", "snapshot", "staging", "scratch", LEFTOVER)
DAY = 86400


@dataclasses.dataclass(frozen=True)
class KeptOptions:
    """Options of kept_database; times in seconds."""

    name: str
    oid: int
    confirm: str = ""
    salvage_dir: str = ""
    format: str = "copy"
    tables: t.Sequence[str] | None = None
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    run_id: str = ""


def listing(conn: t.Any, target: Target, max_age: float | None = None) -> list[dict[str, t.Any]]:
    """The databases that this collection made beside the target's, by their marker; leftovers by their name.

    :param max_age: in days; older ones are C(expired).
    """
    found = []
    with sql_errors("list the databases", target):
        (now,) = row(conn, "SELECT extract(epoch FROM now())::bigint") or (0,)
        everything = marked(conn, target.dbname, sizes=True)
    for each in everything:
        if each.kind not in KINDS:
            continue
        at, run_id = str(each.facts.get("at") or ""), str(each.facts.get("run_id") or "")
        age = age_seconds(at, now)
        entry: dict[str, t.Any] = {"name": each.name, "oid": each.oid, "kind": each.kind, "size_bytes": each.size_bytes}
        entry.update(run_id=run_id, at=at, open=each.open)
        entry.update(age_seconds=age, age_days=None if age is None else round(age / DAY, 2))
        entry["expired"] = max_age is not None and age is not None and age > max_age * DAY
        entry["confirmation"] = to_type(_confirmation(each.name, run_id, each.oid), each.name) if each.kind == "kept" else ""
        found.append(entry)
    return found


def _confirmation(name: str, run_id: str, oid: int) -> str:
    return "%s %s" % (name, run_id or oid)


def age_seconds(at: str, now: int) -> int | None:
    """Seconds since an ISO 8601 time in UTC, None where it cannot be read."""
    try:
        moment_ = datetime.datetime.strptime(at, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=datetime.timezone.utc)
    except ValueError:
        return None
    return int(now - moment_.timestamp())


def list_all(target: Target, maintenance_db: str = "postgres", max_age: float | None = None) -> list[dict[str, t.Any]]:
    """:func:`listing` by a connection of its own."""
    with contextlib.closing(maintenance_connection(target, maintenance_db)) as conn:
        return listing(conn, target, max_age)


def find(conn: t.Any, target: Target, name: str, oid: int) -> dict[str, t.Any] | None:
    """The kept database that is meant; None where there is none of this name any more.

    :raises MigrationError: ``NOT_KEPT`` for everything else.
    """
    kept = [entry for entry in listing(conn, target) if entry["kind"] == "kept"]
    named = next((entry for entry in kept if entry["name"] == name), None)
    if named is None:
        if not rows(conn, "SELECT FROM pg_database WHERE datname = %s", (name,)):
            return None
        raise MigrationError("%s is not a database that was kept for %s" % (name, target.dbname), code="NOT_KEPT", kept=kept)
    if named["oid"] != oid:
        raise MigrationError("%s has the OID %d, and not %d" % (name, named["oid"], oid), code="NOT_KEPT", kept=kept)
    return named


def drop(target: Target, options: KeptOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Drop one kept database, if it was confirmed; C(changed), and what it was.

    :raises MigrationError: ``NOT_KEPT``, ``CONFIRMATION_MISSING``, ``KEPT_IN_USE``.
    """
    with locked(target, options) as lock:
        if not check_mode:
            close_left(lock, target)
        found = find(lock, target, options.name, options.oid)
        if found is None:
            return {"changed": False, "database": None}
        if not check_mode and not is_confirmed(options.confirm, _confirmation(found["name"], found["run_id"], found["oid"]), found["name"]):
            raise _unconfirmed(options, found)
        with sql_errors("look for sessions", target):
            inside = sessions(lock, found["oid"])
        if inside:
            raise MigrationError(
                "%s has %d sessions: pid %s" % (found["name"], len(inside), ", ".join(str(session[0]) for session in inside)),
                code="KEPT_IN_USE",
                sessions=describe(inside),
            )
        if not check_mode:
            _drop(lock, target, found["name"])
        return {"changed": True, "database": found}


def _drop(lock: t.Any, target: Target, name: str) -> None:
    """Without FORCE: whoever is in it has a reason."""
    with sql_errors("drop %s" % name, target):
        try:
            execute(lock, sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
        except psycopg2.errors.ObjectInUse as error:
            why = " ".join(part for part in (error.diag.message_primary, error.diag.message_detail) if part)
            raise MigrationError("%s was not dropped: %s" % (name, why), code="KEPT_IN_USE", sqlstate=error.pgcode) from None


def _unconfirmed(options: KeptOptions, found: t.Mapping[str, t.Any]) -> MigrationError:
    size = "of unknown size" if found["size_bytes"] is None else "%d MB" % round(found["size_bytes"] / 1e6)
    return MigrationError(
        "dropping %s was %s. It would be gone for good: the only copy of what was written between the restore point and the rollback of %s (run %s), %s."
        " To confirm, type exactly %s"
        % (
            found["name"],
            said(options.confirm, found["name"]),
            found["at"] or "an unknown time",
            found["run_id"] or "unknown",
            size,
            found["confirmation"],
        ),
        code="CONFIRMATION_MISSING",
        next_step="get its rows out first (-e migration_kept_state=salvaged -e migration_salvage_dir=FOLDER; in a task of your own state: salvaged),"
        " then run the same again with -e migration_confirm=%s (confirm)" % found["confirmation"],
        confirmation=found["confirmation"],
        database=dict(found),
    )


@contextlib.contextmanager
def locked(target: Target, options: KeptOptions) -> t.Iterator[t.Any]:
    """The run's lock, under which kept databases are made, opened and dropped."""
    if options.maintenance_db == options.name:
        raise MigrationError("maintenance_db is %s itself; it must be another database" % options.name, code="OPTION_INVALID")
    with run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
        yield lock


def close_left(lock: t.Any, target: Target) -> list[str]:
    """Close the kept databases and snapshots that a killed run left open; their names. The caller holds the lock."""
    left = [entry["name"] for entry in listing(lock, target) if entry["kind"] in ("kept", "snapshot") and entry["open"]]
    for name in left:
        _allow(lock, target, name, False)
    return left


@contextlib.contextmanager
def entered(lock: t.Any, target: Target, name: str, application_name: str = "", settings: t.Mapping[str, str] | None = None) -> t.Iterator[t.Any]:
    """A connection in a closed database of ours, in a REPEATABLE READ transaction that cannot write.

    The database is open only while this connection is made, and PUBLIC may not connect to it even then.

    :param lock: a connection to another database of the server.
    :raises MigrationError: ``LOCKED`` where somebody copies it: whoever connects meanwhile waits for the end of that, without a limit.
    """
    with sql_errors("look who copies %s" % name, target):
        oid = (row(lock, "SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,)) or (0,))[0]
        copying = copiers(lock, [oid])
    if copying:
        raise copied(name, copying, code="LOCKED")
    with contextlib.ExitStack() as stack:
        with sql_errors("open %s" % name, target):
            execute(lock, sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(sql.Identifier(name)))
        try:
            _allow(lock, target, name, True)
            _failpoint.reached("kept:open")
            conn = stack.enter_context(moment(target, name, application_name, settings))
        finally:
            _allow(lock, target, name, False)
        yield conn


def _allow(lock: t.Any, target: Target, name: str, allowed: bool) -> None:
    with sql_errors("%s %s" % ("open" if allowed else "close", name), target):
        execute(lock, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format(sql.Identifier(name), sql.Literal(allowed)))


__all__ = ("KeptOptions", "age_seconds", "close_left", "drop", "entered", "find", "list_all", "listing", "locked")
