# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The state of a database as a certificate names it, and that of the live one while its copy is worked on."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._identity import identify
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

NAME = "pgops.migrations rehearsal"
SCHEMA = "the schema"


def state_of(target: Target, planned: t.Mapping[str, t.Any], run_id: str = "") -> dict[str, t.Any]:
    """The state that a certificate is about, see ``_certificate.STATE``; read from the catalogue, no row is.

    :param planned: what migration_deploy returns in check mode.
    """
    with _reading(target, run_id) as conn:
        identity = identify(conn)
        schema = take(conn, level="schema")["schema"]["digest"]
    return {
        "database": str(identity["database"]),
        "system_identifier": str(identity["system_identifier"]),
        "server_major": int(identity["server_version_num"]) // 10000,
        "schema": target.schema,
        "set_digest": str(planned["set_digest"]),
        "migrations": [str(name) for name in planned.get("would_apply") or ()],
        "ledger_head": planned["ledger_head"],
        "schema_digest": str(schema),
    }


def schema_of(target: Target, run_id: str = "") -> dict[str, t.Any]:
    """The fingerprint without any row."""
    with _reading(target, run_id) as conn:
        return take(conn, level="schema")


def _reading(target: Target, run_id: str) -> t.Any:
    return connection(target, application_name=("%s %s" % (NAME, run_id)).strip(), settings=QUIET, read_only=True)


def moved(then: t.Mapping[str, t.Any], now: t.Mapping[str, t.Any]) -> list[str]:
    """In what two states of one database, or of it and its copy, differ: the ledger and the schema count. Pure."""
    words = (("ledger_head", "the head of the ledger"), ("migrations", "the pending migrations"), ("schema_digest", SCHEMA))
    return [said for name, said in words if then[name] != now[name]]


@contextlib.contextmanager
def out_of_reach(target: Target, engine: str, run_id: str) -> t.Iterator[None]:
    """In this block no Prisma CLI can migrate the live database, whatever the project's configuration makes of its URL.

    Prisma takes a lock before it writes; it is held here, so a CLI that goes astray waits for it in vain and ends with P1002.
    One that is told to take none (C(PRISMA_SCHEMA_DISABLE_ADVISORY_LOCK)) announces each migration in the ledger before it runs it;
    that waits, too, for the table is locked against writers. Readers and backups are not held up, and nobody but a deploy writes it.
    The engine C(direct) connects by our own options and goes nowhere else.

    :raises MigrationError: ``MIGRATION_RUNNING`` when somebody migrates the live database now.
    """
    if engine != "prisma":
        yield
        return
    with _reading(target, run_id) as conn:
        if not (row(conn, "SELECT pg_try_advisory_lock(%s)", (PRISMA_LOCK,)) or (False,))[0]:
            raise _running(target)
        no_timeouts(conn)
        _close_ledger(conn, target)
        yield


def _close_ledger(conn: t.Any, target: Target) -> None:
    """Keep writers away from the ledger until the connection ends; without a ledger, or the right to it, nothing is done."""
    # A lock against writers counts as writing for the server; nothing is written.
    execute(conn, "BEGIN READ WRITE")
    try:
        execute(conn, "SET LOCAL lock_timeout = '3s'")
        execute(conn, sql.SQL("LOCK TABLE {} IN SHARE MODE").format(ledger_table(target)))
    except psycopg2.Error as error:
        execute(conn, "ROLLBACK")
        if error.pgcode == "55P03":
            raise _running(target) from None
        # No ledger yet, a view in its place, or no right: 42P01, 3F000, 42809, 42501.
        if str(error.pgcode)[:2] not in ("42", "3F"):
            raise


def _running(target: Target) -> MigrationError:
    return MigrationError("%s is being migrated by somebody now" % target.label(), code="MIGRATION_RUNNING")


__all__ = ("SCHEMA", "moved", "out_of_reach", "schema_of", "state_of")
