# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""psycopg2 connections that fail with the collection's codes."""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target, merge_options

try:
    import psycopg2
    import psycopg2.extensions
    from psycopg2 import sql
except ImportError:  # the module says so with the interpreter's path, see _module.py
    psycopg2 = None  # type: ignore[assignment]
    sql = None  # type: ignore[assignment]

#: First match wins. The texts are libpq's and the server's untranslated ones; what
#: they miss (a server that speaks another language) is decided by asking, not by text.
_CONNECT_TEXTS: tuple[tuple[str, str], ...] = (
    (r"invalid value for parameter|unrecognized configuration parameter", "OPTION_INVALID"),
    (r"invalid connection option|invalid \w+ value|invalid port number", "CONNECTION_OPTIONS"),
    (r'database ".*" does not exist|has just been (renamed|dropped)', "DATABASE_MISSING"),
    (
        r"password authentication failed|no password supplied|no pg_hba.conf entry|authentication failed"
        r"|role \".*\" does not exist|not permitted to log in",
        "AUTH_FAILED",
    ),
    (r"too many (clients|connections)|remaining connection slots", "TOO_MANY_CONNECTIONS"),
    (r"permission denied for database|not currently accepting connections", "PERMISSION_DENIED"),
    # Before TLS: the text names the host, whose name may hold any word.
    (
        r"Connection refused|could not connect|timeout expired|could not translate host name|No route to host|unreachable|is the server running"
        r"|server closed the connection|starting up|shutting down|on socket .*No such file|Connection reset|Connection timed out|Name or service",
        "SERVER_UNREACHABLE",
    ),
    (r"\bSSL\b|\bsslmode\b|certificate", "TLS_FAILED"),
)
#: SQLSTATE (or its first two characters) -> code, for statements on an open connection.
_SQLSTATES: dict[str, str] = {
    "42501": "PERMISSION_DENIED",
    "25006": "NOT_PRIMARY",
    "53100": "DISK_FULL",
    "53300": "TOO_MANY_CONNECTIONS",
    "55P03": "LOCK_TIMEOUT",
    "57014": "STATEMENT_TIMEOUT",
    "3D000": "DATABASE_MISSING",
    "08": "CONNECTION_LOST",
    "57P": "CONNECTION_LOST",
}


def scrub(text: str, target: Target) -> str:
    """The text without any form of the target's secrets."""
    for secret in target.secrets():
        text = text.replace(secret, "********")
    return text


def connect(
    target: Target,
    dbname: str | None = None,
    application_name: str = "pgops.migrations",
    settings: t.Mapping[str, str] | None = None,
    read_only: bool = False,
) -> t.Any:
    """An open psycopg2 connection in autocommit mode; the caller closes it.

    :param dbname: another database on the same server, e.g. the maintenance database.
    :param settings: server settings of the session, sent with the start of it.
    :param read_only: every transaction of the session refuses to write.
    :raises MigrationError: what stands in the way, see ``_CONNECT_TEXTS``.
    """
    wanted = dict(settings or {})
    params = target.conninfo(dbname, application_name=application_name)
    params["client_encoding"] = "UTF8"
    options = merge_options(params.get("options", ""), wanted)
    if options:
        params["options"] = options
    try:
        connection = psycopg2.connect(**params)
    except (psycopg2.Error, UnicodeError) as error:
        raise _connect_error(error, target, params["dbname"]) from None
    except TypeError as error:
        raise MigrationError("a connection parameter cannot be used: %s" % error, code="CONNECTION_OPTIONS") from None
    connection.autocommit = True
    if read_only:
        # Not with the start of the session: a login event trigger (PostgreSQL 17) that writes would end it.
        execute(connection, "SET default_transaction_read_only = on")
    return connection


@contextlib.contextmanager
def connection(target: Target, *args: t.Any, **kwargs: t.Any) -> t.Iterator[t.Any]:
    """:func:`connect` as a context that closes the connection at its end."""
    conn = connect(target, *args, **kwargs)
    try:
        yield conn
    finally:
        conn.close()


def _connect_error(error: Exception, target: Target, dbname: str) -> MigrationError:
    text = scrub(str(error).strip(), target)
    code = classify_connect_text(text)
    where = "%s on %s:%d" % (dbname, target.host or "local socket", target.port)
    return MigrationError("cannot connect to %s: %s" % (where, " ".join(text.split())), code=code)


def classify_connect_text(text: str) -> str:
    """The code for the text of a refused connection."""
    for pattern, code in _CONNECT_TEXTS:
        if re.search(pattern, text, re.I):
            return code
    return "SERVER_UNREACHABLE"


def code_for_sqlstate(sqlstate: str | None, default: str = "SQL_ERROR") -> str:
    """The collection's code for an SQLSTATE."""
    for length in (5, 3, 2):
        code = _SQLSTATES.get((sqlstate or "")[:length])
        if code:
            return code
    return default


@contextlib.contextmanager
def sql_errors(what: str, target: Target, default: str = "SQL_ERROR", **facts: t.Any) -> t.Iterator[None]:
    """Turn psycopg2's errors of the block into the collection's own.

    :param what: what the block does, for the message: "cannot <what>: <server's words>".
    """
    try:
        yield
    except psycopg2.Error as error:
        # A connection that broke has no SQLSTATE.
        sqlstate = error.pgcode
        code = code_for_sqlstate(sqlstate, default) if sqlstate else "CONNECTION_LOST" if isinstance(error, psycopg2.OperationalError) else default
        primary = getattr(error.diag, "message_primary", None) or str(error).strip()
        raise MigrationError("cannot %s: %s" % (what, scrub(" ".join(primary.split()), target)), code=code, sqlstate=sqlstate, **facts) from None


def rows(conn: t.Any, statement: t.Any, values: t.Any = None) -> list[tuple[t.Any, ...]]:
    """All rows of one statement (text or a psycopg2.sql object)."""
    with conn.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def row(conn: t.Any, statement: t.Any, values: t.Any = None) -> tuple[t.Any, ...] | None:
    """The first row of one statement, or None."""
    found = rows(conn, statement, values)
    return found[0] if found else None


def execute(conn: t.Any, statement: t.Any, values: t.Any = None) -> int:
    """Run one statement; the number of rows it touched."""
    with conn.cursor() as cursor:
        cursor.execute(statement, values)
        return int(cursor.rowcount)


__all__ = ("classify_connect_text", "code_for_sqlstate", "connect", "connection", "execute", "psycopg2", "row", "rows", "scrub", "sql", "sql_errors")
