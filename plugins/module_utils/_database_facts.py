# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Facts about a database that decide whether a run may begin. Reads only."""

from __future__ import annotations

import os
import socket
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2, row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._identity import identify
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Statements after which the backend must still be the same one.
_PROBES = 5

# Without pg_monitor the state and the type of other roles' sessions are hidden: their
# number is not, and they are counted as sessions whose state is not known.
_SESSIONS = """
SELECT count(*) FILTER (WHERE own), count(*) FILTER (WHERE own AND state = 'active'), count(*) FILTER (WHERE own AND state LIKE 'idle in transaction%'),
       count(*) FILTER (WHERE own AND state IS NULL), count(*), count(*) FILTER (WHERE datid = d.oid), count(*) FILTER (WHERE rolname = current_user)
  FROM (SELECT a.*, r.rolname, a.datid = (SELECT oid FROM pg_database WHERE datname = current_database()) AND a.pid <> pg_backend_pid() AS own
          FROM pg_stat_activity a LEFT JOIN pg_roles r ON r.oid = a.usesysid
         WHERE a.backend_type = 'client backend' OR (a.backend_type IS NULL AND a.usesysid IS NOT NULL)) s,
       pg_database d WHERE d.datname = current_database()
"""
_LIMITS = """
SELECT current_setting('max_connections')::int, current_setting('superuser_reserved_connections')::int,
       COALESCE(current_setting('reserved_connections', true), '0')::int, r.rolsuper, r.rolconnlimit, d.datconnlimit
  FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.datname = current_database()
"""
_PREPARED = """
SELECT gid, owner::text, extract(epoch FROM now() - prepared)::int FROM pg_prepared_xacts WHERE database = current_database() ORDER BY prepared, gid
"""
_SLOTS = "SELECT slot_name::text, plugin::text, active, temporary FROM pg_replication_slots WHERE database = current_database() ORDER BY slot_name"
_SUBSCRIPTIONS = """
SELECT subname::text, subenabled FROM pg_subscription WHERE subdbid = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY subname
"""
_LOCK_SESSIONS = """
SELECT l.pid, l.granted, COALESCE(a.application_name, ''), a.usename::text, a.state, extract(epoch FROM now() - a.backend_start)::int,
       to_char(a.query_start AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"')
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid::bigint = %s AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY l.granted DESC, l.pid
"""
_PRIVILEGES = """
SELECT n.oid IS NOT NULL, COALESCE(has_schema_privilege(n.oid, 'CREATE'), false), has_database_privilege(d.oid, 'CREATE'), r.rolcreatedb OR r.rolsuper,
       pg_has_role(d.datdba, 'USAGE'), r.rolsuper OR pg_has_role('pg_signal_backend', 'USAGE'), r.rolsuper OR pg_has_role('pg_read_all_stats', 'USAGE'),
       r.rolsuper OR r.rolbypassrls
  FROM pg_database d JOIN pg_roles r ON r.rolname = current_user LEFT JOIN pg_namespace n ON n.nspname = %s
 WHERE d.datname = current_database()
"""
_PRIVILEGE_NAMES = ("schema_exists", "create_in_schema", "create_schema", "createdb", "owner", "signal_sessions", "see_sessions", "bypass_row_security")


def gather(conn: t.Any, target: Target) -> dict[str, t.Any]:
    """All facts, as plain values.

    :param conn: an autocommit connection to the target's database.
    """
    identity = identify(conn)
    return {
        "exists": True,
        "identity": identity,
        "primary": not identity["in_recovery"],
        **_sessions(conn),
        "prepared_transactions": _dicts(rows(conn, _PREPARED), "gid", "owner", "seconds"),
        "logical_slots": _dicts(rows(conn, _SLOTS), "name", "plugin", "active", "temporary"),
        "subscriptions": _subscriptions(conn),
        "migration_sessions": _dicts(
            rows(conn, _LOCK_SESSIONS, (PRISMA_LOCK,)), "pid", "granted", "application_name", "user", "state", "seconds", "query_start"
        ),
        "proxy": proxy(conn, target.pooled),
        "privileges": dict(zip(_PRIVILEGE_NAMES, row(conn, _PRIVILEGES, (target.schema,)) or ())),
    }


def _dicts(found: list[tuple[t.Any, ...]], *names: str) -> list[dict[str, t.Any]]:
    return [dict(zip(names, values)) for values in found]


def _sessions(conn: t.Any) -> dict[str, t.Any]:
    client, active, in_transaction, hidden, used, of_database, of_role = row(conn, _SESSIONS) or (0,) * 7
    limits = row(conn, _LIMITS) or (0, 0, 0, False, -1, -1)
    return {
        "sessions": {"client": client, "active": active, "idle_in_transaction": in_transaction, "unknown": hidden},
        "connection_slots": slots(*limits, used=used, of_database=of_database, of_role=of_role),
    }


def slots(  # noqa: PLR0917
    most: int, for_superuser: int, reserved: int, superuser: bool, role_limit: int, database_limit: int, *, used: int, of_database: int, of_role: int
) -> dict[str, t.Any]:
    """How many more connections the role can open. A limit of -1 is none.

    Own session counts as used. A superuser is held by the server's limit alone.
    """
    rooms = [most - used if superuser else most - for_superuser - reserved - used]
    if not superuser:
        rooms += [limit - taken for limit, taken in ((role_limit, of_role), (database_limit, of_database)) if limit >= 0]
    return {
        "max": most,
        "reserved": for_superuser + reserved,
        "used": used,
        "role_limit": role_limit,
        "database_limit": database_limit,
        "free": max(0, min(rooms)),
    }


def _subscriptions(conn: t.Any) -> list[dict[str, t.Any]] | None:
    try:
        return _dicts(rows(conn, _SUBSCRIPTIONS), "name", "enabled")
    except psycopg2.Error:
        return None  # not for every role to see


def proxy(conn: t.Any, said: bool = False) -> dict[str, t.Any]:
    """Whether something stands between this host and the server.

    :param said: the URL says that there is a pooler.
    :returns: ``verdict``: C(none), C(possible) (addresses are translated, which a network
        does as well) or C(certain); ``evidence``: sentences.
    """
    certain, possible = (["The URL says so (pgbouncer=true)."] if said else []), []
    pids = {values[0] for values in (row(conn, "SELECT pg_backend_pid()") for _each in range(_PROBES)) if values}
    if len(pids) > 1:
        certain.append("Statements of one connection ran in %d backends." % len(pids))
    elif conn.info.backend_pid not in pids:
        certain.append("The connection was told another backend pid than the backend has.")
    probe = "pgops-%d" % os.getpid()
    row(conn, "SELECT set_config('pgops.probe', %s, false)", (probe,))
    if any(row(conn, "SELECT current_setting('pgops.probe', true)") != (probe,) for _each in range(_PROBES)):
        certain.append("A setting of the session was lost.")
    row(conn, "SELECT set_config('pgops.probe', '', false)")
    here, there = _local_port(conn), (row(conn, "SELECT inet_client_port()") or (None,))[0]
    if here != (there if there is None or there > 0 else None):
        possible.append("This host's end of the connection (port %s) is not the one that the server sees (port %s)." % (here or "none", there or "none"))
    return {"verdict": "certain" if certain else "possible" if possible else "none", "evidence": certain + possible}


def _local_port(conn: t.Any) -> int | None:
    """The port of this end of the connection; None for a Unix socket."""
    with socket.socket(fileno=os.dup(conn.fileno())) as end:
        name = end.getsockname()
    return int(name[1]) if isinstance(name, tuple) else None


__all__ = ("PRISMA_LOCK", "gather", "proxy", "slots")
