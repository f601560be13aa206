# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Gather the evidence for an unfinished migration from a live server; reads only."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._effects import outside as reaches_outside
from ansible_collections.pgops.migrations.plugins.module_utils._effects import survives_a_rollback
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import TABLE, LedgerRow, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_dates import ALREADY_THERE
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_reach import Function, analyzes, lasting
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import sqlstate_in
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import scan, split_name
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
#: What a script can do that no rollback undoes, or that hides its transactions: sequences set, other servers, files and
#: programs, prepared transactions, the ledger itself. Searched in the raw text: a word too many only costs a "clean".
_OUTSIDE = re.compile(
    r"\b(setval|alter\s+system|dblink\w*|lo_export|pg_file_\w+|program|prepare\s+transaction|pg_advisory_unlock\w*|discard|_prisma_migrations)\b", re.I
)
_INVALID = """
SELECT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE NOT i.indisvalid
   AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
 ORDER BY 1
"""
_COMMITTED = """
SELECT x FROM generate_series(%s::bigint, %s::bigint) AS x WHERE pg_xact_status(x::text::xid8) <> 'aborted'
"""
#: The transaction that made the ledger, by the row of its primary key: a GRANT rewrites the table's own row, not this one.
_LEDGER_MADE = """
SELECT i.xmin::text::bigint FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND i.indisprimary
"""
#: Functions, and what calls functions where it is named (see Function); its code by the names that it depends on, for to have
#: the server write it out would wait for the locks of a migration at work. 1576 and 1765 are setval, on which nothing depends.
_FUNCTIONS = """
WITH code(catalog, oid, name, at_hand, source, tree) AS (
    SELECT 'pg_proc'::regclass, p.oid, quote_ident(p.proname),
           CASE WHEN p.prorettype = 'trigger'::regtype THEN 'rows' WHEN p.prorettype = 'event_trigger'::regtype THEN 'ddl'
                WHEN p.oid IN (SELECT oprcode FROM pg_operator UNION ALL SELECT castfunc FROM pg_cast) THEN 'any' ELSE '' END, p.prosrc, p.prosqlbody::text
      FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema')
    UNION ALL SELECT 'pg_trigger', g.oid, g.tgrelid::regclass::text, 'rows', '', g.tgqual::text FROM pg_trigger g WHERE g.tgqual IS NOT NULL
    UNION ALL SELECT 'pg_rewrite', r.oid, r.ev_class::regclass::text, '', '', r.ev_action::text FROM pg_rewrite r
    UNION ALL SELECT 'pg_attrdef', d.oid, d.adrelid::regclass::text, '', '', d.adbin::text FROM pg_attrdef d
    UNION ALL SELECT 'pg_constraint', k.oid, CASE WHEN k.conrelid <> 0 THEN k.conrelid::regclass::text ELSE k.contypid::regtype::text END, '', '',
           k.conbin::text FROM pg_constraint k WHERE k.contype = 'c'
    UNION ALL SELECT 'pg_policy', p.oid, p.polrelid::regclass::text, '', '', concat(p.polqual::text, p.polwithcheck::text) FROM pg_policy p
    UNION ALL SELECT 'pg_class', x.indexrelid, x.indrelid::regclass::text, '', '', concat(x.indexprs::text, x.indpred::text) FROM pg_index x
     WHERE x.indexprs IS NOT NULL OR x.indpred IS NOT NULL
    UNION ALL SELECT 'pg_type', a.atttypid, a.attrelid::regclass::text, '', y.typname::text, '' FROM pg_attribute a JOIN pg_type y ON y.oid = a.atttypid
     WHERE y.typtype = 'd' AND a.attnum > 0 AND a.attrelid >= 16384
)
SELECT name, concat_ws(' ', source, CASE WHEN tree ~ ':funcid (1576|1765)\\M' THEN 'setval' END,
       (SELECT string_agg(CASE d.refclassid WHEN 'pg_proc'::regclass THEN d.refobjid::regproc::text ELSE d.refobjid::regclass::text END, ' ') FROM pg_depend d
         WHERE d.classid = code.catalog AND d.objid = code.oid AND d.refclassid IN ('pg_proc'::regclass, 'pg_class'::regclass))), at_hand
  FROM code WHERE oid >= 16384
"""
_RECOVERY = "SELECT pg_is_in_recovery()"
#: Sessions of this database that may still be at work, also without Prisma's lock.
_AT_WORK = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
   AND (backend_xid IS NOT NULL OR state IN ('active', 'idle in transaction', 'idle in transaction (aborted)', 'fastpath function call'))
   AND backend_type = 'client backend'
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


def ledger_made(conn: t.Any, target: Target) -> set[int]:
    """The 64-bit ids of the transactions that made the ledger."""
    now = next_xid(conn)
    return {widen(xid, now) for (xid,) in rows(conn, _LEDGER_MADE, (target.schema, TABLE))}


def functions_of(conn: t.Any) -> list[Function]:
    """The functions of the live database, and what calls some."""
    return [Function(split_name(name)[-1], source, at_hand) for name, source, at_hand in rows(conn, _FUNCTIONS)]


def gather(conn: t.Any, target: Target, unfinished: LedgerRow, script: str | None, session_alive: bool, start_xid: int | None = None) -> Evidence:
    """Evidence for one unfinished row.

    :param script: the migration's SQL, to tell its objects from others'.
    :param start_xid: :func:`next_xid` from before the deploy, which makes the window tight.
    """
    now = next_xid(conn)
    xids = ledger_xids(conn, target)
    own = xids[unfinished.id]
    failed = bool(unfinished.logs)
    made = ledger_made(conn, target)
    functions = functions_of(conn) if script else []
    mentioned = {part for chain in scan(script or "") for part in chain}
    base = Evidence(
        error_recorded=failed,
        steps=unfinished.applied_steps_count,
        session_alive=session_alive,
        invalid_indexes=tuple(name for (name,) in rows(conn, _INVALID) if name in mentioned),
        doubt=_doubt(conn, xids, unfinished, made, script, functions),
    )
    earlier = [xid for row_id, xid in xids.items() if row_id != unfinished.id and xid < own]
    if failed:
        # The row was last written when the error was; it began after the ledger row before it.
        bounds = earlier + ([start_xid - 1] if start_xid else []) + [xid - 1 for xid in made if xid < own]
        low, high = max(bounds, default=own - WINDOW), own - 1
    else:
        low, high = own, now - 1
    committed = _committed(conn, low + 1, high) if high - low <= WINDOW else None
    if committed is None:
        return base
    known = made | set(xids.values())
    if failed and committed:
        # The insert of the row itself: its version is gone, but it is the first after the row before it.
        known = known | {_insert_xid(committed, known)}
    unexplained = [xid for xid in committed if xid not in known]
    short = [xid & 0xFFFFFFFF for xid in unexplained]
    if short and script is not None and not analyzes(script, functions):
        statistics = {found[0] for found in _maybe(conn, _STATISTICS, (short,))}
        unexplained = [xid for xid in unexplained if xid & 0xFFFFFFFF not in statistics]
    objects = _objects(conn, [xid & 0xFFFFFFFF for xid in unexplained])
    if objects and failed and sqlstate_in(unfinished.logs or "") in ALREADY_THERE:
        doubt = "the server refused to make what was there, so what was committed in that time may be somebody else's: %s" % ", ".join(objects[:10])
        return dataclasses.replace(base, committed=len(unexplained), objects=tuple(objects), invalid_indexes=(), doubt=base.doubt or doubt)
    return dataclasses.replace(base, committed=len(unexplained), objects=tuple(objects), named=tuple(name for name in objects if name in mentioned))


def _doubt(  # noqa: PLR0917
    conn: t.Any, xids: t.Mapping[str, int], unfinished: LedgerRow, made: set[int], script: str | None, functions: t.Sequence[Function]
) -> str:
    """Why transaction ids prove nothing for this row, or an empty text."""
    own = xids[unfinished.id]
    if (row(conn, _RECOVERY) or (True,))[0]:
        return "this is a standby, which does not see the sessions of the primary"
    if any(xid >= own for xid in made) or any(xid == own for row_id, xid in xids.items() if row_id != unfinished.id):
        return "the ledger was written by another tool than a deploy, such as a restore"
    if script is None:
        return "the migration is not in the folder, so what it does is not known"
    outside = _OUTSIDE.search(script)
    if outside:
        return "the script uses what no rollback undoes or what hides its work: %s" % " ".join(outside.group(1).lower().split())
    beyond = reaches_outside(script)
    if beyond:
        return "the script reaches beyond the database: %s" % beyond
    if survives_a_rollback(script):
        return "the script sets sequences or builds its code, which no rollback undoes or no text shows"
    called = lasting(script, functions)
    if called:
        return "the script can reach functions that do what no rollback undoes: %s" % ", ".join(called[:10])
    if not unfinished.logs and (row(conn, _AT_WORK) or (1,))[0]:
        return "the client ended without recording an error, and sessions are at work in this database"
    return ""


def committed_since(conn: t.Any, start_xid: int) -> bool:
    """Whether any transaction of the cluster committed since, or that cannot be told."""
    committed = _committed(conn, start_xid, next_xid(conn) - 1)
    return committed is None or bool(committed)


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


__all__ = ("committed_since", "functions_of", "gather", "ledger_made", "ledger_xids", "next_xid", "widen")
