# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The engine C(direct): apply migrations over psycopg2, leaving the ledger as Prisma leaves it.

One connection for everything, as the CLI's: what a script sets stays set for the next one.
A script is one message, hence one implicit transaction. One that holds a statement which
PostgreSQL refuses inside a transaction is run statement by statement.
"""

from __future__ import annotations

import datetime
import time
import typing as t
import uuid

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, scrub, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._plan import Failure
from ansible_collections.pgops.migrations.plugins.module_utils._sql import is_empty, split, statements_alone
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: As Prisma creates it, to the letter of pg_dump.
_CREATE_LEDGER = """
CREATE TABLE {} (
    id                  VARCHAR(36) PRIMARY KEY NOT NULL,
    checksum            VARCHAR(64) NOT NULL,
    finished_at         TIMESTAMPTZ,
    migration_name      VARCHAR(255) NOT NULL,
    logs                TEXT,
    rolled_back_at      TIMESTAMPTZ,
    started_at          TIMESTAMPTZ NOT NULL DEFAULT now(),
    applied_steps_count INTEGER NOT NULL DEFAULT 0
)
"""
POLL_SECONDS = 0.2
#: For a write whose commit need not reach the disk by itself, since the commit right after it takes it there: that of the
#: script after the row's insert, that of the row's finish after its steps. Both or none of them survive a crash, in this order.
_SOON = "SET LOCAL synchronous_commit = off; "


def deploy(target: Target, files: t.Sequence[MigrationFile], settings: t.Mapping[str, str], application_name: str, lock_wait: float) -> Failure | None:
    """Apply these migrations in this order; None, or why it stopped.

    :param settings: server settings of the session, such as lock_timeout.
    :raises MigrationError: ``LOCKED``, ``PERMISSION_DENIED``, ``CONNECTION_LOST`` ...:
        what kept it from starting. A migration that fails is the returned value.
    """
    with connection(target, application_name=application_name, settings=settings) as conn:
        _take_prisma_lock(conn, lock_wait)
        with sql_errors("prepare the schema %s of %s" % (target.schema, target.label()), target):
            execute(conn, sql.SQL("SET search_path = {}").format(sql.Identifier(target.schema)))
            _prepare(conn, target)
        for file in files:
            # A script of before, such as a dump's, may have set them to others.
            if settings:
                execute(conn, sql.SQL("; ").join(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in settings.items()))
            failure = _apply(conn, target, file)
            if failure is not None:
                return failure
    return None


def _take_prisma_lock(conn: t.Any, wait: float) -> None:
    """Prisma's own lock, so that a CLI started meanwhile waits; polled for the reason given in _lock."""
    end = time.monotonic() + wait
    while not (row(conn, "SELECT pg_try_advisory_lock(%s)", (PRISMA_LOCK,)) or (False,))[0]:
        if time.monotonic() >= end:
            next_step = "wait for that deploy to end; migration_info shows its pid"
            raise MigrationError("another session holds Prisma's migration lock", code="LOCKED", next_step=next_step)
        time.sleep(POLL_SECONDS)


def _prepare(conn: t.Any, target: Target) -> None:
    """Make the schema and the ledger where they are missing."""
    if not rows(conn, "SELECT 1 FROM pg_namespace WHERE nspname = %s", (target.schema,)):
        execute(conn, sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(target.schema)))
    found = rows(
        conn,
        "SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = '_prisma_migrations'",
        (target.schema,),
    )
    if not found:
        execute(conn, sql.SQL(_CREATE_LEDGER).format(ledger_table(target)))


def _apply(conn: t.Any, target: Target, file: MigrationFile) -> Failure | None:
    ledger = ledger_table(target)
    row_id = str(uuid.uuid4())
    script = file.sql or ""
    # Prisma writes the client's clock, too, except for what the column's default gives.
    insert = sql.SQL(_SOON + "INSERT INTO {} (id, checksum, migration_name, started_at) VALUES (%s, %s, %s, %s)").format(ledger)
    try:
        _surely(conn, insert, (row_id, file.checksum, file.name, _now()))
        _run_script(conn, script)
    except psycopg2.Error as error:
        return _record_failure(conn, target, file.name, row_id, error)
    if conn.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE:
        conn.rollback()
        execute(conn, "ROLLBACK")
        message = "the script begins a transaction and does not end it; it was rolled back"
        execute(conn, sql.SQL("UPDATE {} SET logs = %s WHERE id = %s").format(ledger), ("ERROR: " + message, row_id))
        return Failure(file.name, "25001", message)
    with sql_errors("record the end of %s" % file.name, target):
        # Two commits, as Prisma's: a death between them shows as "applied, not recorded".
        _surely(conn, sql.SQL(_SOON + "UPDATE {} SET applied_steps_count = applied_steps_count + 1 WHERE id = %s").format(ledger), (row_id,))
        _surely(conn, sql.SQL("UPDATE {} SET finished_at = %s WHERE id = %s").format(ledger), (_now(), row_id))
    return None


def _surely(conn: t.Any, statement: t.Any, values: t.Sequence[t.Any]) -> None:
    """Write into the ledger; a cancel that was meant for the script and came late is not heard."""
    try:
        execute(conn, statement, values)
    except psycopg2.errors.QueryCanceled:
        execute(conn, statement, values)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _run_script(conn: t.Any, script: str) -> None:
    if statements_alone(script):
        for statement in split(script):
            execute(conn, statement)
    elif not is_empty(script):
        # Without values psycopg2 sends the text as it is, as one message of the simple protocol.
        execute(conn, script)


def _record_failure(conn: t.Any, target: Target, name: str, row_id: str, error: t.Any) -> Failure:
    """Write the error into the ledger as Prisma does, and return it."""
    message = scrub(str(error.diag.message_primary or error).strip(), target)
    whole = scrub(str(error).strip(), target)
    failure = Failure(name, error.pgcode, message)
    if conn.closed:
        return Failure(name, error.pgcode, "%s (the connection is gone, so the ledger row stays without a log)" % message)
    execute(conn, "ROLLBACK")
    logs = (
        "A migration failed to apply. New migrations cannot be applied before the error is recovered from.\n\n"
        "Migration name: %s\n\nDatabase error code: %s\n\nDatabase error:\nERROR: %s\n" % (name, error.pgcode, whole)
    )
    # What the script has set must not keep the error from being written: another role, read only, a short timeout.
    for statement in ("RESET SESSION AUTHORIZATION", "RESET ROLE", "SET default_transaction_read_only = off", "RESET statement_timeout"):
        execute(conn, statement)
    _surely(conn, sql.SQL("UPDATE {} SET logs = %s WHERE id = %s").format(ledger_table(target)), (logs, row_id))
    return failure


__all__ = ("deploy",)
