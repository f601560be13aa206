# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the rows of the tables tell of a migration's INSERTs and UPDATEs; reads only."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, psycopg2, row, sql
from ansible_collections.pgops.migrations.plugins.module_utils._effects import DATA, DYNAMIC, Step, effect
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import LedgerRow, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import Chain, tokens
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: A table with many rows is read to its end where none is found; what is not known in time is not known.
_TIMEOUT = "10s"


def written_table(statement: str) -> Chain | None:
    """The table of an INSERT or an UPDATE; None for all else."""
    found = list(tokens(statement))[:8]
    start = {("word", "insert"): 2, ("word", "update"): 1}.get(found[0] if found else ("", ""))
    if start is None:
        return None
    found = found[start:]
    if found[:1] == [("word", "only")]:
        found = found[1:]
    chain = tuple(value for _kind, value in found[:1]) + (tuple(value for _kind, value in found[2:3]) if found[1:2] == [("sign", ".")] else ())
    return chain or None


def tables_of(step: Step) -> list[Chain] | None:
    """The tables that a step writes rows to; None where it may do something else to rows."""
    tables = [written_table(statement) for statement in step.statements if effect(statement) in (DATA, DYNAMIC)]
    return None if step.effect != DATA or None in tables else t.cast("list[Chain]", tables)


def steps_that_wrote(conn: t.Any, target: Target, steps: t.Sequence[Step], xids: t.Collection[int]) -> frozenset[int]:
    """The steps to whose tables the transaction wrote that left the migration's objects (32-bit ids).

    A statement of its own for each object is no proof: somebody else may have made the last one. Where a table
    was ever written anew, a rewrite may have given its rows their transaction.
    """
    if len(set(xids)) != 1:
        return frozenset()
    query = "SELECT EXISTS (SELECT FROM {table} WHERE xmin::text = %s) AND pg_relation_filenode({name}::regclass) = {name}::regclass::oid::bigint"
    found = set()
    for number, step in enumerate(steps, 1):
        tables = tables_of(step)
        if tables and all(_ask(conn, target, query, table, str(next(iter(xids)))) is True for table in tables):
            found.add(number)
    return frozenset(found)


def written_since(conn: t.Any, target: Target, unfinished: LedgerRow, steps: t.Sequence[Step]) -> tuple[str, ...]:
    """The tables of the script's INSERTs and UPDATEs with rows written since its ledger row was, or of which that is not known."""
    own = row(conn, sql.SQL("SELECT xmin::text FROM {} WHERE id = %s").format(ledger_table(target)), (unfinished.id,))
    tables = dict.fromkeys(table for step in steps for table in tables_of(step) or ())
    query = "SELECT EXISTS (SELECT FROM {table} WHERE age(xmin) < age(%s::xid))"
    return tuple(".".join(table) for table in tables if own is None or _ask(conn, target, query, table, own[0]) is not False)


def _ask(conn: t.Any, target: Target, query: str, table: Chain, xid: str) -> bool | None:
    """The answer about a table; None where there is none. A table that is gone has no rows."""
    name = sql.Identifier(*(table if len(table) > 1 else (target.schema, *table)))
    try:
        execute(conn, "BEGIN READ ONLY")
        execute(conn, "SELECT set_config('statement_timeout', %s, true), set_config('lock_timeout', '2s', true)", (str(_TIMEOUT),))
        # Rows that a policy hides would be missed.
        execute(conn, "SET LOCAL row_security = off")
        text = name.as_string(conn)
        found = row(conn, sql.SQL(query).format(table=name, name=sql.Literal(text)), (xid,))
        return bool(found and found[0])
    except psycopg2.errors.UndefinedTable:
        return False
    except psycopg2.Error:
        return None
    finally:
        if not conn.closed:
            execute(conn, "ROLLBACK")


__all__ = ("steps_that_wrote", "tables_of", "written_since", "written_table")
