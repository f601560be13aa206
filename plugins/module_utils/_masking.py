# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""SQL files of the operator that take the real values out of a copy before anybody may read it.

A copy is closed from the moment it is made (see ``_scratch.make``): only its owner and superusers, who can read the original as
well, may connect. :func:`keep_closed` holds that, :func:`mask` runs the files, and only then :func:`open_to` lets others in.
When a file fails the copy stays closed, and the caller drops it.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._dbgrants import Grant, apply_grants, close_to_public, read_grants
from ansible_collections.pgops.migrations.plugins.module_utils._effects import outside
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._forecast_facts import comments
from ansible_collections.pgops.migrations.plugins.module_utils._sql import controls_transaction, runs_alone, split
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

NAME = "pgops.migrations masking"
SETTINGS = {"statement_timeout": "0", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "0"}


class MaskingFile(t.NamedTuple):
    path: str
    text: str
    sha256: str


def load(paths: t.Sequence[str]) -> list[MaskingFile]:
    """Read the files, and refuse what could not be run in one transaction or reaches beyond the copy: before there is a copy.

    :raises MigrationError: ``MASKING_FAILED`` with C(file), and C(line) where it is one statement.
    """
    found = []
    for path in paths:
        try:
            with open(path, "rb") as handle:
                content = handle.read()
            text = content.decode("utf-8-sig")
        except (OSError, UnicodeError) as error:
            why = getattr(error, "strerror", None) or "it is not UTF-8"
            raise _failed(path, 0, "cannot be read: %s" % why) from None
        statements = list(_placed(text))
        if not statements:
            raise _failed(path, 0, "holds no statement")
        for line, statement in statements:
            if controls_transaction(statement):
                raise _failed(path, line, "begins or ends a transaction; a file is one transaction already")
            if runs_alone(statement):
                raise _failed(path, line, "PostgreSQL refuses this statement inside a transaction, and a file is one")
            if outside(statement):
                raise _failed(path, line, "reaches beyond the copy (%s)" % outside(statement))
        found.append(MaskingFile(path, text, hashlib.sha256(content).hexdigest()))
    return found


def digest(files: t.Sequence[MaskingFile]) -> str:
    """One digest of all, in their order, for the certificate; empty for none."""
    if not files:
        return ""
    return hashlib.sha256("\n".join(file.sha256 for file in files).encode("ascii")).hexdigest()


def keep_closed(conn: t.Any, name: str) -> list[Grant]:
    """Take the right to connect from everybody but the owner, and see that nobody is in; the rights of before.

    :param conn: not in the copy, autocommit, with the rights of its owner.
    :raises MigrationError: ``MASKING_FAILED`` where others may still connect, or are connected.
    """
    found = row(conn, "SELECT oid::bigint, pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s", (name,))
    if found is None:
        raise MigrationError("there is no database %s to mask" % name, code="MASKING_FAILED")
    oid, owner = found[0], found[1]
    before = read_grants(conn, oid)
    with _transaction(conn):
        close_to_public(conn, name, oid, owner)
        for grantee in sorted({str(grant[1]) for grant in read_grants(conn, oid) if grant[1] not in (None, owner) and grant[2] == "CONNECT"}):
            execute(conn, sql.SQL("REVOKE CONNECT ON DATABASE {} FROM {} CASCADE").format(sql.Identifier(name), sql.Identifier(grantee)))
    others = sorted({grant[1] or "PUBLIC" for grant in read_grants(conn, oid) if grant[1] != owner and grant[2] == "CONNECT"})
    if others:
        raise MigrationError("%s may still connect to the copy %s, so it is not masked" % (", ".join(others), name), code="MASKING_FAILED")
    inside = rows(conn, "SELECT DISTINCT coalesce(usename, '?') FROM pg_stat_activity WHERE datid = %s AND backend_type = 'client backend'", (oid,))
    if inside:
        who = ", ".join(sorted(str(user) for (user,) in inside))
        raise MigrationError("%s is connected to the copy %s before it is masked" % (who, name), code="MASKING_FAILED")
    return before


def open_to(conn: t.Any, name: str, wanted: t.Sequence[Grant]) -> list[str]:
    """Give the masked copy these rights, such as those that :func:`keep_closed` found; see ``_dbgrants.apply_grants``."""
    found = row(conn, "SELECT oid::bigint, pg_get_userbyid(datdba)::text FROM pg_database WHERE datname = %s", (name,))
    if found is None:
        raise MigrationError("there is no database %s to open" % name, code="DATABASE_MISSING")
    with _transaction(conn):
        return apply_grants(conn, name, found[0], found[1], list(wanted))


@contextlib.contextmanager
def _transaction(conn: t.Any) -> t.Iterator[None]:
    execute(conn, "BEGIN")
    try:
        yield
    except BaseException:
        with contextlib.suppress(psycopg2.Error):
            execute(conn, "ROLLBACK")
        raise
    execute(conn, "COMMIT")


def mask(target: Target, files: t.Sequence[MaskingFile], run_id: str = "") -> list[dict[str, t.Any]]:
    """Run the files on the copy, each in one transaction; per file C(file), C(sha256), C(statements), C(rows), C(seconds).

    :raises MigrationError: ``MASKING_FAILED`` with C(file), C(line) and C(sqlstate); no value of a row is in the message.
    """
    done: list[dict[str, t.Any]] = []
    if not files:
        return done
    with connection(target, application_name=("%s %s" % (NAME, run_id)).strip()[:63], settings=SETTINGS) as conn:
        for file in files:
            began, count, changed = time.monotonic(), 0, 0
            # What one file sets for the session is not the next one's.
            execute(conn, "DISCARD ALL")
            execute(conn, sql.SQL("SET search_path = {}").format(sql.Identifier(target.schema)))
            execute(conn, "BEGIN")
            line = 0
            try:
                for place, statement in _placed(file.text):
                    line = place
                    changed += max(0, execute(conn, statement))
                    count += 1
                line = 0
                execute(conn, "COMMIT")
            except psycopg2.Error as error:
                raise _refused(file.path, line, error) from None
            seconds = round(time.monotonic() - began, 3)
            done.append({"file": file.path, "sha256": file.sha256, "statements": count, "rows": changed, "seconds": seconds})
        try:
            # The planner's statistics hold the most common of the real values, and pg_stats shows them.
            execute(conn, "RESET ALL")
            execute(conn, "ANALYZE")
        except psycopg2.Error as error:
            raise _refused(files[-1].path, 0, error) from None
    return done


def _placed(text: str) -> t.Iterator[tuple[int, str]]:
    """The statements of a script, each with the line of its first word."""
    position = 0
    for statement in split(text):
        position = max(text.find(statement, position), position)
        yield text.count("\n", 0, position + comments(statement)) + 1, statement
        position += len(statement)


def _refused(path: str, line: int, error: t.Any) -> MigrationError:
    """What the server said without its text, which may hold values: the state, and the names of what it is about."""
    diag = error.diag
    about = ["%s %s" % (word, value) for word, value in (
        ("table", diag.table_name), ("column", diag.column_name), ("constraint", diag.constraint_name)) if value]  # fmt: skip
    why = "SQLSTATE %s, %s" % (error.pgcode or "unknown", type(error).__name__)
    return _failed(path, line, why + (", %s" % ", ".join(about) if about else ""), sqlstate=error.pgcode)


def _failed(path: str, line: int, why: str, **facts: t.Any) -> MigrationError:
    where = "%s, line %d" % (path, line) if line else path
    return MigrationError("the masking file %s: %s" % (where, why), code="MASKING_FAILED", file=path, line=line, **facts)


__all__ = ("MaskingFile", "digest", "keep_closed", "load", "mask", "open_to")
