# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Gather the evidence for an unfinished migration from a live server; reads only."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import TABLE, LedgerRow, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import scan
from ansible_collections.pgops.migrations.plugins.module_utils._substate import Evidence
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: How many transaction ids are asked about; a longer history proves nothing anyway.
WINDOW = 50_000

#: Catalogues whose rows are written by DDL, and a name for the row. Columns of a table
#: that is gone have no row left, which is why an empty answer is no proof of "clean".
_CATALOGUES: tuple[tuple[str, str], ...] = (
    ("pg_class", "x.relname"),
    ("pg_attribute", "(SELECT relname FROM pg_class WHERE oid = x.attrelid)"),
    ("pg_attrdef", "(SELECT relname FROM pg_class WHERE oid = x.adrelid)"),
    ("pg_constraint", "x.conname"),
    ("pg_index", "(SELECT relname FROM pg_class WHERE oid = x.indexrelid)"),
    ("pg_type", "x.typname"),
    ("pg_enum", "(SELECT typname FROM pg_type WHERE oid = x.enumtypid)"),
    ("pg_proc", "x.proname"),
    ("pg_trigger", "x.tgname"),
    ("pg_policy", "x.polname"),
    ("pg_rewrite", "(SELECT relname FROM pg_class WHERE oid = x.ev_class)"),
    ("pg_namespace", "x.nspname"),
    ("pg_extension", "x.extname"),
    ("pg_description", "(SELECT relname FROM pg_class WHERE oid = x.objoid AND x.classoid = 'pg_class'::regclass)"),
)
_INVALID = """
SELECT i.indexrelid::regclass::text FROM pg_index i WHERE NOT i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
 ORDER BY 1
"""
_COMMITTED = """
SELECT x FROM generate_series(%s::bigint, %s::bigint) AS x WHERE pg_xact_status(x::text::xid8) = 'committed'
"""
#: The first deploy makes the ledger, and its schema where that is missing.
_LEDGER_MADE = """
SELECT c.xmin::text::bigint, n.xmin::text::bigint FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s
"""
_FORGOTTEN = "SELECT count(*) FROM generate_series(%s::bigint, %s::bigint) AS x WHERE pg_xact_status(x::text::xid8) IS NULL"
#: Autovacuum and autoanalyze commit, too; they write here and nowhere that counts.
_STATISTICS = "SELECT DISTINCT xmin::text::bigint FROM pg_statistic WHERE xmin::text::bigint = ANY(%s)"


def next_xid(conn: t.Any) -> int:
    """The transaction id that will be given out next, 64 bit: a mark in time."""
    return int((row(conn, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint") or (0,))[0])


def widen(xid: int, now: int) -> int:
    """A 32-bit xmin as 64-bit transaction id, the newest one not after C(now)."""
    full = (now & ~0xFFFFFFFF) | xid
    return full - (1 << 32) if full > now else full


def ledger_xids(conn: t.Any, target: Target) -> dict[str, int]:
    """The 64-bit transaction id that last wrote each ledger row, by the row's id."""
    now = next_xid(conn)
    found = rows(conn, sql.SQL("SELECT id, xmin::text::bigint FROM {}").format(ledger_table(target)))
    return {row_id: widen(xmin, now) for row_id, xmin in found}


def gather(conn: t.Any, target: Target, unfinished: LedgerRow, script: str | None, session_alive: bool, start_xid: int | None = None) -> Evidence:
    """Evidence for one unfinished row.

    :param script: the migration's SQL, to tell its objects from others'.
    :param start_xid: :func:`next_xid` from before the deploy, which makes the window tight.
    """
    now = next_xid(conn)
    xids = ledger_xids(conn, target)
    own = xids[unfinished.id]
    failed = bool(unfinished.logs)
    before = [xid for row_id, xid in xids.items() if row_id != unfinished.id and xid < own]
    if failed:
        # The row was last written when the error was; it began after the ledger row before it.
        low = max(before + ([start_xid - 1] if start_xid else []), default=own - WINDOW)
        high = own - 1
    else:
        low, high = own, now - 1
    tight = start_xid is not None or not failed
    base = Evidence(error_recorded=failed, steps=unfinished.applied_steps_count, session_alive=session_alive, tight=tight)
    committed = _committed(conn, low + 1, high) if high - low <= WINDOW else None
    if committed is None:
        return base
    ledger_writes = set(xids.values()) | {widen(xid, now) for xid in row(conn, _LEDGER_MADE, (target.schema, TABLE)) or ()}
    if failed and committed:
        # The insert of the row itself: its version is gone, but it is the first after the row before it.
        ledger_writes.add(_insert_xid(committed, ledger_writes))
    unexplained = [xid for xid in committed if xid not in ledger_writes]
    short = [xid & 0xFFFFFFFF for xid in unexplained]
    statistics = {found[0] for found in _maybe(conn, _STATISTICS, (short,))} if short else set()
    unexplained = [xid for xid in unexplained if xid & 0xFFFFFFFF not in statistics]
    objects = _objects(conn, [xid & 0xFFFFFFFF for xid in unexplained])
    mentioned = {part for chain in scan(script or "") for part in chain}
    return Evidence(
        error_recorded=failed,
        steps=unfinished.applied_steps_count,
        session_alive=session_alive,
        committed=len(unexplained),
        tight=tight,
        objects=tuple(objects),
        named=tuple(name for name in objects if name in mentioned),
        invalid_indexes=tuple(found[0] for found in rows(conn, _INVALID)),
    )


def _insert_xid(committed: t.Sequence[int], known: set[int]) -> int:
    return min((xid for xid in committed if xid not in known), default=-1)


def _committed(conn: t.Any, low: int, high: int) -> list[int] | None:
    """Committed transactions from low to high; None when the server forgot some."""
    if high < low:
        return []
    if (row(conn, _FORGOTTEN, (low, high)) or (1,))[0]:
        return None
    return [found[0] for found in rows(conn, _COMMITTED, (low, high))]


def _maybe(conn: t.Any, statement: str, values: t.Any) -> list[tuple[t.Any, ...]]:
    """The rows, or none where the role may not read that catalogue (the verdict gets more cautious)."""
    try:
        return rows(conn, statement, values)
    except psycopg2.errors.InsufficientPrivilege:
        return []


def _objects(conn: t.Any, xids: t.Sequence[int]) -> list[str]:
    """Names of catalogue rows written by these transactions (32-bit ids)."""
    if not xids:
        return []
    names: dict[str, None] = {}
    for table, name in _CATALOGUES:
        query = sql.SQL("SELECT DISTINCT {} FROM pg_catalog.{} x WHERE x.xmin::text::bigint = ANY(%s) LIMIT 200")
        statement = query.format(sql.SQL(name), sql.Identifier(table))
        for (found,) in _maybe(conn, t.cast(t.Any, statement), (list(xids),)):
            if found and not found.startswith("pg_toast"):
                names[found] = None
    return list(names)


__all__ = ("gather", "ledger_xids", "next_xid", "widen")
