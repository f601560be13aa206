# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The ledger _prisma_migrations and what surrounds it, read and never written."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2, rows, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

TABLE = "_prisma_migrations"
#: The key of Prisma's own advisory lock: pg_advisory_lock(72707369), per database.
PRISMA_LOCK = 72707369


@dataclasses.dataclass(frozen=True)
class LedgerRow:
    """One row, with the columns that Prisma writes; times are aware datetimes."""

    id: str
    checksum: str
    migration_name: str
    started_at: datetime.datetime | None = None
    finished_at: datetime.datetime | None = None
    rolled_back_at: datetime.datetime | None = None
    logs: str | None = None
    applied_steps_count: int = 0


_COLUMNS = tuple(field.name for field in dataclasses.fields(LedgerRow))


@dataclasses.dataclass(frozen=True)
class Facts:
    """What a database holds as far as migrations are concerned.

    ``tables`` counts the schema's ordinary tables besides the ledger: what makes Prisma
    say P3005. Views, types, sequences and a partitioned table without partitions do not
    (measured with 6.19). ``lock_holders`` and ``lock_waiters`` are sessions at Prisma's lock.
    """

    database_exists: bool = True
    schema_exists: bool = True
    ledger_exists: bool = True
    rows: tuple[LedgerRow, ...] = ()
    tables: int = 0
    lock_holders: tuple[dict[str, t.Any], ...] = ()
    lock_waiters: tuple[dict[str, t.Any], ...] = ()


ABSENT = Facts(database_exists=False, schema_exists=False, ledger_exists=False)

_SCHEMA = """
SELECT (SELECT count(*) FROM pg_namespace WHERE nspname = %(schema)s),
       (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %(schema)s AND c.relname = %(table)s AND c.relkind IN ('r', 'p', 'v', 'f')),
       (SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
         WHERE n.nspname = %(schema)s AND c.relname <> %(table)s AND c.relkind = 'r')
"""
_LOCKS = """
SELECT l.pid, l.granted, a.application_name, a.usename::text, a.state,
       extract(epoch FROM now() - a.backend_start)::int, extract(epoch FROM now() - a.query_start)::int
  FROM pg_locks l LEFT JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = %s AND l.objsubid = 1
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
 ORDER BY l.granted DESC, l.pid
"""


def read_facts(conn: t.Any, target: Target) -> Facts:
    """Read ledger and surroundings over an open connection.

    :raises MigrationError: ``LEDGER_UNREADABLE`` (permission), ``LEDGER_MALFORMED``.
    """
    with sql_errors("read the catalogue of %s" % target.label(), target):
        [(schema, ledger, tables)] = rows(conn, _SCHEMA, {"schema": target.schema, "table": TABLE})
        columns = ("pid", "granted", "application_name", "user", "state", "age_seconds", "query_seconds")
        sessions = [dict(zip(columns, found)) for found in rows(conn, _LOCKS, (PRISMA_LOCK,))]
    return Facts(
        schema_exists=bool(schema),
        ledger_exists=bool(ledger),
        rows=tuple(read_rows(conn, target)) if ledger else (),
        tables=tables,
        lock_holders=tuple(session for session in sessions if session["granted"]),
        lock_waiters=tuple(session for session in sessions if not session["granted"]),
    )


def ledger_table(target: Target) -> t.Any:
    """The qualified name of the ledger as a psycopg2.sql object."""
    return sql.Identifier(target.schema, TABLE)


def read_rows(conn: t.Any, target: Target) -> list[LedgerRow]:
    """All rows of the ledger in the order in which they were started."""
    statement = sql.SQL("SELECT {} FROM {} ORDER BY started_at, id").format(sql.SQL(", ").join(map(sql.Identifier, _COLUMNS)), ledger_table(target))
    try:
        return [LedgerRow(*found) for found in rows(conn, statement)]
    except psycopg2.Error as error:
        name = "%s.%s of %s" % (target.schema, TABLE, target.label())
        if error.pgcode == "42501":
            raise MigrationError(
                "permission denied for the ledger %s" % name,
                code="LEDGER_UNREADABLE",
                next_step='grant it: GRANT USAGE ON SCHEMA "%s" TO ROLE; GRANT SELECT ON "%s"."%s" TO ROLE' % (target.schema, target.schema, TABLE),
                sqlstate=error.pgcode,
            ) from None
        if error.pgcode in ("42703", "42804", "42883"):
            raise MigrationError("%s: %s" % (name, error.diag.message_primary), code="LEDGER_MALFORMED", sqlstate=error.pgcode) from None
        with sql_errors("read the ledger %s" % name, target):
            raise


__all__ = ("ABSENT", "PRISMA_LOCK", "TABLE", "Facts", "LedgerRow", "ledger_table", "read_facts", "read_rows")
