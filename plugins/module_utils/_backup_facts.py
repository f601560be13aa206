# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a backup writes down about its snapshot besides the fingerprint."""

from __future__ import annotations

import datetime
import secrets
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import ledger_digest
from ansible_collections.pgops.migrations.plugins.module_utils._owners import OWNERS_SQL

#: The limits of a database or role are for the application and not for a backup.
QUIET = {"statement_timeout": "0", "idle_in_transaction_session_timeout": "0"}
_TIMEOUTS = (
    "SELECT set_config(name, '0', false) FROM pg_settings WHERE name IN ('statement_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')"
)
_ROLES = """
SELECT DISTINCT r.rolname, bool_or(d.deptype = 'o') OVER (PARTITION BY r.rolname)
  FROM pg_shdepend d JOIN pg_roles r ON r.oid = d.refobjid
 WHERE d.refclassid = 'pg_authid'::regclass
   AND d.dbid = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY 1
"""
_EXTENSIONS = (
    "SELECT e.extname, e.extversion, n.nspname FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname <> 'plpgsql' ORDER BY 1"
)
_TABLESPACES = "SELECT DISTINCT t.spcname FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace WHERE t.spcname NOT LIKE 'pg\\_%' ORDER BY 1"
# Sequences know no snapshot: pg_dump and the fingerprint each read them at some moment between two readings of ours.
_SEQUENCES = "SELECT format('%I.%I', schemaname, sequencename), last_value FROM pg_sequences"
_WAL_MARK = """
SELECT pg_current_wal_insert_lsn()::text, extract(epoch FROM pg_postmaster_start_time())::text, checkpoint_lsn::text FROM pg_control_checkpoint()
"""
_ALL_ENDED = "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'transactionid' AND granted AND mode = 'ExclusiveLock'"
_UNLOGGED = "SELECT count(*) FROM pg_class WHERE relpersistence = 'u'"


def new_id() -> str:
    """The id of a restore point or of a restore: UTC time and six random hex digits."""
    return "%s-%s" % (datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ"), secrets.token_hex(3))


def now() -> str:
    """UTC time in ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def no_timeouts(conn: t.Any) -> None:
    """The same for an open session, and for limits that only newer servers know."""
    rows(conn, _TIMEOUTS)


def prerequisites_of(conn: t.Any, settings: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a restore needs on the server: roles, among them owners, extensions, tablespaces.

    :param settings: of the database, see ``_dbsettings.read_settings``.
    """
    found = rows(conn, _ROLES)
    # The first superuser's objects are not in pg_shdepend.
    owners = {name for name, owns in found if owns} | {name for name, _oid in rows(conn, OWNERS_SQL)} | {settings["owner"]}
    names = {name for name, _owns in found} | owners | {entry[0] for entry in settings["acl"] + settings["settings"] if entry[0]}
    spaces = {name for (name,) in rows(conn, _TABLESPACES)} | {settings["tablespace"]}
    return {
        "roles": sorted(names),
        "owners": sorted(owners),
        "extensions": [dict(zip(("name", "version", "schema"), extension)) for extension in rows(conn, _EXTENSIONS)],
        "tablespaces": sorted(spaces - {"pg_default", "pg_global"}),
    }


def read_ledger(conn: t.Any, schema: str) -> dict[str, t.Any] | None:
    """Head and digest of the ledger in this snapshot, or None where there is none."""
    if (row(conn, "SELECT to_regclass(format('%%I._prisma_migrations', %s::text))", (schema,)) or (None,))[0] is None:
        return None
    found = rows(
        conn,
        sql.SQL(
            "SELECT migration_name, checksum, finished_at IS NOT NULL, rolled_back_at IS NOT NULL, finished_at, started_at"
            " FROM {} ORDER BY started_at, migration_name, id"
        ).format(sql.Identifier(schema, "_prisma_migrations")),
    )
    unfinished = [name for name, _sum, finished, rolled_back, *_times in found if not finished and not rolled_back]
    finished = [entry for entry in found if entry[2] and not entry[3]]
    return {
        "schema": schema,
        "rows": len(found),
        "head": max(finished, key=lambda entry: (entry[4], entry[0]))[0] if finished else None,
        "digest": ledger_digest(entry[:4] for entry in found),
        "clean": not unfinished,
        "unfinished": unfinished,
        # Each name once, in the order in which they were started.
        "applied": list(dict.fromkeys(entry[0] for entry in finished)),
    }


def read_wal_mark(conn: t.Any) -> str:
    """How far the server had written: position of the WAL, start of the server, last checkpoint.

    Read before a snapshot, and once more at any time later: if both are the same, nothing
    that is logged was written in between. That is less than it seems, so see :func:`settled`
    and :func:`unwritten`. The position alone may be given out twice: after a crash, which
    shows as another checkpoint, and on another timeline, which begins with a start.
    """
    return "@".join(row(conn, _WAL_MARK) or ())


def settled(conn: t.Any, mark: str) -> str:
    """The mark, if every snapshot from now on shows all that was written up to it; else nothing.

    To be asked between the mark and the snapshot. While a transaction has not ended, its commit
    may be written and not be seen yet, as it waits for a synchronous standby. Until it is seen it
    holds the lock of its own id, which every role may see.
    """
    return mark if (row(conn, _ALL_ENDED) or (False,))[0] else ""


def unwritten(conn: t.Any, mark: str, fingerprint: t.Mapping[str, t.Any]) -> bool:
    """Whether the server proves, without a look at the rows, that nothing was written since the mark.

    :param fingerprint: of the mark's snapshot. Unlogged tables and up to 32 values of each
        sequence are written without WAL, so those are looked at.
    """
    if not mark or read_wal_mark(conn) != mark or (row(conn, _UNLOGGED) or (1,))[0]:
        return False
    values = sequence_values(conn)
    then = {name: entry["last_value"] if entry["is_called"] else None for name, entry in (fingerprint.get("sequences") or {}).items()}
    return all(name in values and values[name] == value for name, value in then.items())


def sequence_values(conn: t.Any) -> dict[str, int | None]:
    """Sequence -> last value, None if it was never called."""
    return dict(rows(conn, _SEQUENCES))


__all__ = (
    "QUIET", "new_id", "no_timeouts", "now", "prerequisites_of", "read_ledger", "read_wal_mark", "sequence_values", "settled", "unwritten",
)  # fmt: skip
