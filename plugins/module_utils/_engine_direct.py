# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The engine C(direct): apply migrations over psycopg2, leaving the ledger as Prisma leaves it.

One connection for everything, as the CLI's: what a script sets stays set for the next one.
A script is one message, hence one implicit transaction. One that holds a statement which
PostgreSQL refuses inside a transaction is run statement by statement.

The row of a migration, its script and the end of the row are three commits. The server writes its log in the
order of the commits, so a crash takes away the last of them and never an earlier one of a later one, and a commit
that waits for the disk takes all before it there. So not each of them waits; what is returned is on the disk.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import re
import time
import typing as t
import uuid

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, scrub, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK, TABLE, ledger_table
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
_INSERT = "INSERT INTO {} (id, checksum, migration_name, started_at) VALUES (%s, %s, %s, %s)"
_END = "UPDATE {} SET applied_steps_count = 1, finished_at = %s WHERE id = %s"
_LOG = "UPDATE {} SET logs = %s WHERE id = %s"
POLL_SECONDS, DISK_SECONDS = 0.2, 3.0
#: For a commit that waits for the disk, as the server's own settings say, in a session whose others do not.
_ON_DISK = "SET LOCAL synchronous_commit TO DEFAULT; "
#: A script without these words changes the catalogue, and rows only together with it: a crash that takes it away takes all of
#: it, and its row. What writes rows or runs code may have reached a file or another server, and a crash does not undo that: its
#: row is on the disk before it, its end right after. Searched in the raw text: a word too many costs a wait.
_MORE_THAN_DDL = frozenset(
    """insert update delete select values copy merge truncate refresh import do call perform execute prepare notify load extension program server wrapper
    begin start commit end rollback abort vacuum database tablespace system subscription reindex concurrently cluster discard""".split()  # noqa: SIM905
)
_NAMES = ("pg_", "lo_", "dblink", "setval", "set_config", "_prisma")
_WORD, _OF_A_KEY = re.compile(r"[^\W\d]\w*"), re.compile(r"\bon (?:update|delete) (?:cascade|restrict|set|no)\b")
#: What the script has set must not keep the error from being written: another role, read only, a short timeout.
_PLAIN_SESSION = ("RESET SESSION AUTHORIZATION", "RESET ROLE", "SET default_transaction_read_only = off", "RESET statement_timeout")


@dataclasses.dataclass
class _Entry:
    """A row of the ledger.

    ``waits``: its commits wait for the disk. ``sets``: its script may change the session's settings. ``finished``: when it had ended.
    """

    id: str
    file: MigrationFile
    waits: bool
    sets: bool
    finished: datetime.datetime | None = None


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
        execute(conn, "SET synchronous_commit = off")
        try:
            failure = _apply_all(conn, target, files, settings)
        except (MigrationError, psycopg2.Error):
            _reach_disk(target)
            raise
        if conn.closed:
            _reach_disk(target)
    return failure


def _apply_all(conn: t.Any, target: Target, files: t.Sequence[MigrationFile], settings: t.Mapping[str, str]) -> Failure | None:
    """Apply them. Unless it raises or the connection is gone, the last commit has waited for the disk."""
    ledger = _Ledger(conn, target)
    before: _Entry | None = None
    for file in files:
        script = file.sql or ""
        waits = _more_than_ddl(script)
        entry = _Entry(str(uuid.uuid4()), file, waits, waits or any(name in script.lower() for name in settings))
        failure = _begin(ledger, before, entry, settings) or _apply(ledger, entry)
        if failure is not None:
            return failure
        before = entry
    if before is not None:
        ledger.finish(before, waits=True)
    return None


def _more_than_ddl(script: str) -> bool:
    words = set(_WORD.findall(_OF_A_KEY.sub("", script.lower())))
    return not words.isdisjoint(_MORE_THAN_DDL) or any(word.startswith(_NAMES) for word in words)


def _reach_disk(target: Target) -> None:
    """Wait until what was committed is on the disk, where the session that could say so is gone: it is about to be told.

    The server writes it there within moments by itself; one that has crashed is back with what was there.
    """
    with contextlib.suppress(MigrationError, psycopg2.Error), connection(target, read_only=True) as conn:
        mark = row(conn, "SELECT pg_catalog.pg_current_wal_insert_lsn()")
        end = time.monotonic() + DISK_SECONDS
        while row(conn, "SELECT pg_catalog.pg_current_wal_flush_lsn() < %s::pg_catalog.pg_lsn", mark) == (True,) and time.monotonic() < end:
            time.sleep(0.02)


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


class _Ledger:
    """Writes the rows, each time in a transaction of its own: by those the migrations are told apart."""

    def __init__(self, conn: t.Any, target: Target) -> None:
        self.conn, self.target = conn, target
        # Put together once, which takes longer than the server needs for it. Values come by %s.
        self._table = sql.Identifier(target.schema.replace("%", "%%"), TABLE)
        self._texts: dict[tuple[tuple[str, bool], ...], str] = {}

    def write(self, *parts: tuple[str, bool], values: t.Sequence[t.Any]) -> None:
        """Transactions in one message: the statement of each, and whether it waits for the disk."""
        if parts not in self._texts:
            texts = [sql.SQL("BEGIN; " + (_ON_DISK if waits else "") + statement + "; COMMIT; ").format(self._table) for statement, waits in parts]
            self._texts[parts] = sql.Composed(texts).as_string(self.conn)
        execute(self.conn, self._texts[parts], values)

    def surely(self, statement: str, waits: bool, values: t.Sequence[t.Any]) -> None:
        """Write one; a cancel that was meant for the script and came late is not heard."""
        self.clear()
        try:
            self.write((statement, waits), values=values)
        except psycopg2.errors.QueryCanceled:
            self.clear()
            self.write((statement, waits), values=values)

    def clear(self) -> bool:
        """End a transaction that was left open; whether there was one."""
        if self.conn.info.transaction_status == psycopg2.extensions.TRANSACTION_STATUS_IDLE:
            return False
        execute(self.conn, "ROLLBACK")
        return True

    def finish(self, entry: _Entry, waits: bool = False) -> None:
        with sql_errors("record the end of %s" % entry.file.name, self.target):
            self.surely(_END, waits or entry.waits, (entry.finished, entry.id))

    def go_on(self, before: _Entry, entry: _Entry, values: t.Sequence[t.Any]) -> bool:
        """The end of the migration before and the row of this one; False when only the former is written."""
        try:
            self.write((_END, before.waits), (_INSERT, entry.waits), values=(before.finished, before.id, *values))
            return True
        except psycopg2.Error:
            if self.conn.closed:
                with sql_errors("record the end of %s" % before.file.name, self.target):
                    raise
        # A cancel that came late, or what the script has set: each by itself, to tell which of them it is.
        self.finish(before)
        return False


def _begin(ledger: _Ledger, before: _Entry | None, entry: _Entry, settings: t.Mapping[str, str]) -> Failure | None:
    # Prisma writes the client's clock, too, except for what the column's default gives.
    values = (entry.id, entry.file.checksum, entry.file.name, _now())
    written = before is not None and ledger.go_on(before, entry, values)
    try:
        # A script of before, such as a dump's, may have set them to others. RESET gives them back as the session began with them.
        if settings and (before is None or before.sets):
            ledger.clear()
            again = [sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)) for name, value in settings.items()]
            execute(ledger.conn, sql.SQL("; ").join(again))
        if not written:
            ledger.surely(_INSERT, entry.waits, values)
    except psycopg2.Error as error:
        return _record_failure(ledger, entry, error)
    return None


def _apply(ledger: _Ledger, entry: _Entry) -> Failure | None:
    try:
        _run_script(ledger.conn, entry.file.sql or "")
    except psycopg2.Error as error:
        return _record_failure(ledger, entry, error)
    entry.finished = _now()
    if not ledger.clear():
        return None
    message = "the script begins a transaction and does not end it; it was rolled back"
    ledger.surely(_LOG, True, ("ERROR: " + message, entry.id))
    return Failure(entry.file.name, "25001", message)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.timezone.utc)


def _run_script(conn: t.Any, script: str) -> None:
    if statements_alone(script):
        for statement in split(script):
            execute(conn, statement)
    elif not is_empty(script):
        # Without values psycopg2 sends the text as it is, as one message of the simple protocol.
        execute(conn, script)


def _record_failure(ledger: _Ledger, entry: _Entry, error: t.Any) -> Failure:
    """Write the error into the ledger as Prisma does, and return it."""
    message = scrub(str(error.diag.message_primary or error).strip(), ledger.target)
    whole = scrub(str(error).strip(), ledger.target)
    name = entry.file.name
    if ledger.conn.closed:
        return Failure(name, error.pgcode, "%s (the connection is gone, so the ledger row stays without a log)" % message)
    ledger.clear()
    logs = (
        "A migration failed to apply. New migrations cannot be applied before the error is recovered from.\n\n"
        "Migration name: %s\n\nDatabase error code: %s\n\nDatabase error:\nERROR: %s\n" % (name, error.pgcode, whole)
    )
    for statement in _PLAIN_SESSION:
        execute(ledger.conn, statement)
    ledger.surely(_LOG, True, (logs, entry.id))
    return Failure(name, error.pgcode, message)


__all__ = ("deploy",)
