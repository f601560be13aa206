# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Read from the live catalogue which transactions wrote a migration's objects, and what its functions do; reads only."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparison import names_in, split_key
from ansible_collections.pgops.migrations.plugins.module_utils._connection import row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evidence import ledger_made, ledger_xids, next_xid, widen
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import LedgerRow, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_dates import SINCE, TAKEN_BACK, Window, dated, window
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_types import Replay
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Keys as the fingerprint has them, and the transactions that wrote their rows, the row with the name first.
_WRITTEN = """
WITH rel AS (
    SELECT c.oid, c.relkind, c.xmin::text::bigint AS x, format('%I.%I', n.nspname, c.relname) AS ident
      FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname !~ '^pg_(toast|temp_)'
)
SELECT CASE relkind WHEN 'S' THEN 'sequence' WHEN 'v' THEN 'view' WHEN 'm' THEN 'materialized view' ELSE 'table' END || ' ' || ident,
       ARRAY[x] || ARRAY(SELECT a.xmin::text::bigint FROM pg_attribute a WHERE a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM rel WHERE relkind IN ('r', 'p', 'f', 'v', 'm', 'S')
UNION ALL
SELECT 'column ' || ident || '.' || quote_ident(a.attname),
       ARRAY[a.xmin::text::bigint] || ARRAY(SELECT d.xmin::text::bigint FROM pg_attrdef d WHERE d.adrelid = rel.oid AND d.adnum = a.attnum)
  FROM rel JOIN pg_attribute a ON a.attrelid = rel.oid AND a.attnum > 0 AND NOT a.attisdropped WHERE relkind IN ('r', 'p', 'f')
UNION ALL
SELECT 'index ' || i.ident || ' on ' || rel.ident,
       ARRAY[i.x, x.xmin::text::bigint] || ARRAY(SELECT a.xmin::text::bigint FROM pg_attribute a WHERE a.attrelid = i.oid)
  FROM rel JOIN pg_index x ON x.indrelid = rel.oid JOIN rel i ON i.oid = x.indexrelid
UNION ALL
SELECT 'constraint ' || ident || '.' || quote_ident(k.conname), ARRAY[k.xmin::text::bigint] FROM rel JOIN pg_constraint k ON k.conrelid = rel.oid
UNION ALL
SELECT format('trigger %I on %s', g.tgname, ident), ARRAY[g.xmin::text::bigint] FROM rel JOIN pg_trigger g ON g.tgrelid = rel.oid
UNION ALL
SELECT format('policy %I on %s', p.polname, ident), ARRAY[p.xmin::text::bigint] FROM rel JOIN pg_policy p ON p.polrelid = rel.oid
UNION ALL
SELECT format('%s %I.%I', CASE y.typtype WHEN 'e' THEN 'enum' WHEN 'd' THEN 'domain' ELSE 'type' END, n.nspname, y.typname),
       ARRAY[y.xmin::text::bigint] || ARRAY(SELECT e.xmin::text::bigint FROM pg_enum e WHERE e.enumtypid = y.oid)
  FROM pg_type y JOIN pg_namespace n ON n.oid = y.typnamespace WHERE y.oid >= 16384
UNION ALL
SELECT 'schema ' || quote_ident(nspname), ARRAY[xmin::text::bigint] FROM pg_namespace
UNION ALL
SELECT 'extension ' || quote_ident(extname), ARRAY[xmin::text::bigint] FROM pg_extension
UNION ALL
SELECT 'dropped ' || ident, ARRAY(SELECT a.xmin::text::bigint FROM pg_attribute a WHERE a.attrelid = rel.oid AND a.attnum > 0 AND a.attisdropped)
  FROM rel WHERE relkind IN ('r', 'p', 'f')
"""


def read_dates(conn: t.Any, target: Target, unfinished: LedgerRow, replay: Replay, keys: t.Sequence[str]) -> dict[str, str]:
    """When each of the migration's objects came about, as far as that is known (see _recovery_dates).

    :raises MigrationError: ``LEDGER_MOVED`` where the row is no longer as it was, so its transaction is that of somebody else.
    """
    now = next_xid(conn)
    state = sql.SQL("SELECT logs, applied_steps_count, finished_at, rolled_back_at FROM {} WHERE id = %s").format(ledger_table(target))
    if row(conn, state, (unfinished.id,)) != (unfinished.logs, unfinished.applied_steps_count, unfinished.finished_at, unfinished.rolled_back_at):
        raise MigrationError("the ledger changed while %s was looked at" % unfinished.migration_name, code="LEDGER_MOVED")
    when = window(ledger_xids(conn, target), unfinished.id, bool(unfinished.logs), ledger_made(conn, target))
    if when is None:
        return {}
    written = {key: [widen(xid, now) for xid in xids] for key, xids in rows(conn, _WRITTEN)}
    found = {key: dated(_rows(key, written[key], replay), when) for key in keys if key in written}
    found.update(dict.fromkeys(_dropped(replay, keys, written, when), SINCE))
    for key in keys:
        # A column that the migration added and that is gone: somebody took it back.
        table = _table_of(key, written) if key not in replay.before and key not in written else None
        if table and any(xid > when.began for xid in written[table]):
            found[key] = TAKEN_BACK
    return {key: date for key, date in found.items() if date}


def witnesses(conn: t.Any, replay: Replay, dates: t.Mapping[str, str]) -> set[int]:
    """The transactions (32 bit) that left what the script makes, alters or drops, as far as it is younger than the ledger's row."""
    now = next_xid(conn)
    written = {key: list(xids) for key, xids in rows(conn, _WRITTEN)}
    found: set[int] = set()
    for key, date in dates.items():
        if date == SINCE and key in written:
            found.update(_rows(key, written[key], replay))
        elif date == SINCE:
            table = _table_of(key, written)
            # The newest of the columns that were dropped.
            found.update(sorted(written[table], key=lambda xid: widen(xid, now))[-1:] if table else ())
    return found


def _rows(key: str, xids: list[int], replay: Replay) -> list[int]:
    # Of what was there before, the other rows may be as old as it is.
    return xids[:1] if key in replay.before else xids


def _dropped(replay: Replay, keys: t.Sequence[str], written: t.Mapping[str, t.Sequence[int]], when: Window) -> list[str]:
    """Columns that were dropped since: just as many of their table as the script drops have left their place behind."""
    last = len(replay.changes)
    tables: dict[str, list[str]] = {}
    for key in keys:
        table = _table_of(key, written)
        if table and key in replay.before and replay.state(last, key) is None and key not in written:
            tables.setdefault(table, []).append(key)
    recent = {table: [xid for xid in written[table] if when.least is not None and xid > when.least] for table in tables}
    return [key for table, gone in tables.items() if len(recent[table]) == len(gone) for key in gone]


def _table_of(key: str, written: t.Mapping[str, t.Sequence[int]]) -> str | None:
    """The entry with the dropped columns of a column's table."""
    kind, name = split_key(key)
    entry = "dropped %s" % names_in(key)[0] if kind == "column" and name else ""
    return entry if entry in written else None


__all__ = ("read_dates", "witnesses")
