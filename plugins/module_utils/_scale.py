# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Multiply the rows of a copy to production's volume, where production's own rows may not be used.

New rows are made of those that are there, with new keys, see ``_scale_plan``. Where production's statistics are handed in, other
columns get values as often as these say. A table that cannot be scaled is named with the reason, and the others go on.
"""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _scale_catalog, _scale_values
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._scale_plan import KINDS, Key, Plan, Table, plan
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

NAME = "pgops.migrations scale"
SETTINGS = {"statement_timeout": "0", "lock_timeout": "10s", "idle_in_transaction_session_timeout": "0", "jit": "off"}
MOST = 10000.0
_LARGEST = {"int2": 2**15 - 1, "int4": 2**31 - 1, "int8": 2**63 - 1}
Stats = t.Mapping[str, t.Mapping[str, t.Mapping[str, t.Any]]]


def scale(target: Target, factor: float, stats: Stats | None = None, wanted: t.Mapping[str, int] | None = None, run_id: str = "") -> dict[str, t.Any]:
    """C(tables): table, before, after, seconds, drawn columns; C(skipped): table, reason; C(seconds).

    :param target: a copy that nobody else uses; the role owns its tables.
    :param stats: production's, see :func:`_scale_catalog.read_stats`. ``wanted``: rows of single tables, such as those of production, instead of the factor.
    :raises MigrationError: ``OPTION_INVALID``.
    """
    if not 1.0 <= factor <= MOST:
        raise MigrationError("scale is %r and must be 1 to %.0f" % (factor, MOST), code="OPTION_INVALID")
    began = time.monotonic()
    with connection(target, application_name=("%s %s" % (NAME, run_id)).strip()[:63], settings=SETTINGS) as conn:
        run = _Run(conn, _scale_catalog.tables(conn), stats or {})
        done = run.work(factor, wanted or {})
        execute(conn, "ANALYZE")
    skipped = [{"table": name, "reason": reason} for name, reason in sorted(run.skipped.items())]
    return {"tables": done, "skipped": skipped, "seconds": round(time.monotonic() - began, 3)}


class _Run:
    def __init__(self, conn: t.Any, tables: t.Sequence[Table], stats: Stats) -> None:
        self.conn, self.stats = conn, stats
        self.tables = {table.oid: table for table in tables}
        self.plan: Plan = plan(tables)
        self.skipped: dict[str, str] = dict(self.plan.skipped)
        self.counts = {oid: self._count(table) for oid, table in self.tables.items() if oid in self.plan.tables}
        self.strides = self._strides()
        self.scaled: set[int] = set()

    def work(self, factor: float, wanted: t.Mapping[str, int]) -> list[dict[str, t.Any]]:
        done = []
        for oid in self.plan.tables:
            table, before = self.tables[oid], self.counts[oid]
            aim = int(wanted.get(table.name, round(before * factor)))
            if not before:
                self.skipped[table.name] = "it has no rows"
            if aim <= before:
                continue
            began = time.monotonic()
            drawn = [column.name for column in table.columns if self._drawable(table, column.name)]
            reason = self._insert(table, aim - before, before, drawn)
            if reason and drawn:
                drawn = []
                reason = self._insert(table, aim - before, before, drawn)
            if reason:
                self.skipped[table.name] = reason
                continue
            self.scaled.add(oid)
            done.append({"table": table.name, "before": before, "after": self._count(table), "drawn": drawn, "seconds": round(time.monotonic() - began, 3)})
        return done

    def _count(self, table: Table) -> int:
        return int((row(self.conn, sql.SQL("SELECT count(*) FROM {}").format(_scale_catalog.named(self.conn, table.oid))) or (0,))[0])

    def _drawable(self, table: Table, name: str) -> bool:
        """A value that no key, constraint or partition is about, and of which production's statistics tell."""
        column = table.column(name)
        tied = any(name in key.columns for key in table.keys) or any(name in unique for unique in table.unique)
        referred = any(key.parent == table.oid and name in key.parent_columns for other in self.tables.values() for key in other.keys)
        known = name in self.stats.get(table.name, {})
        return known and not (tied or referred or column.generated or column.held or name in table.partition_columns)

    def _strides(self) -> dict[int, t.Any]:
        """Per class how far apart the copies of its values are: more than all there are."""
        found: dict[int, list[t.Any]] = {}
        for (oid, name), number in self.plan.fresh.items():
            kind = KINDS[self.tables[oid].column(name).type]
            if kind not in ("number", "time", "date"):
                continue
            value = {"number": "{0}::numeric", "time": "extract(epoch FROM {0})::numeric", "date": "({0} - date '2000-01-01')::numeric"}[kind]
            # What is infinite, or no number, has no neighbour.
            finite = "" if self.tables[oid].column(name).type.startswith("int") else " WHERE isfinite({0})" if kind != "number" else " WHERE {0} <> 'NaN'"
            query = sql.SQL("SELECT min(%s), max(%s) FROM {1}%s" % (value, value, finite))
            low, high = row(self.conn, query.format(sql.Identifier(name), _scale_catalog.named(self.conn, oid))) or (None, None)
            if low is not None:
                found.setdefault(number, []).extend([low, high])
        return {number: int(max(values) - min(values)) + 1 for number, values in found.items()}

    def _insert(self, table: Table, more: int, before: int, drawn: t.Collection[str]) -> str:
        """Make the rows, in one transaction; why it could not be, or an empty text."""
        copies = -(-more // before)
        reason = self._exhausted(table, copies)
        if reason:
            return reason
        name = _scale_catalog.named(self.conn, table.oid)
        columns = [column for column in table.columns if not column.generated]
        values = [self._value(table, column.name, drawn) for column in columns]
        names = sql.SQL(", ").join(sql.Identifier(column.name) for column in columns)
        part = sql.SQL("") if more == copies * before else self._part(table, more)
        statement = sql.SQL(
            "INSERT INTO {0} ({1}) OVERRIDING SYSTEM VALUE SELECT {2} FROM generate_series(1, {3}) g CROSS JOIN {0} s {4} ON CONFLICT DO NOTHING"
        ).format(name, names, sql.SQL(", ").join(values), sql.Literal(copies), part)
        try:
            with _transaction(self.conn):
                # What triggers would write is among the rows of other tables already.
                states = _scale_catalog.triggers(self.conn, table.oid)
                for trigger, _state in states:
                    execute(self.conn, sql.SQL("ALTER TABLE {} DISABLE TRIGGER {}").format(name, sql.Identifier(trigger)))
                execute(self.conn, "SET CONSTRAINTS ALL DEFERRED")
                made = execute(self.conn, statement)
                execute(self.conn, "SET CONSTRAINTS ALL IMMEDIATE")
                for trigger, state in states:
                    words = {"O": "ENABLE", "R": "ENABLE REPLICA", "A": "ENABLE ALWAYS"}[state]
                    execute(self.conn, sql.SQL("ALTER TABLE {} %s TRIGGER {}" % words).format(name, sql.Identifier(trigger)))
                _scale_catalog.set_sequences(self.conn, table.oid)
        except psycopg2.Error as error:
            about = error.diag.constraint_name or error.diag.column_name
            return "the server refuses its new rows (SQLSTATE %s, %s%s)" % (error.pgcode, type(error).__name__, ", %s" % about if about else "")
        return "" if made else "all its new rows collide with those that are there"

    def _exhausted(self, table: Table, copies: int) -> str:
        for column in table.columns:
            number = self.plan.fresh.get((table.oid, column.name))
            if number is None or column.type not in _LARGEST or number not in self.strides:
                continue
            query = sql.SQL("SELECT max({}) FROM {}").format(sql.Identifier(column.name), _scale_catalog.named(self.conn, table.oid))
            highest = (row(self.conn, query) or (None,))[0]
            if highest is not None and int(highest) + copies * self.strides[number] > _LARGEST[column.type]:
                return "the numbers of its column %s do not suffice" % column.name
        return ""

    def _value(self, table: Table, name: str, drawn: t.Collection[str]) -> t.Any:
        column, number = table.column(name), self.plan.fresh.get((table.oid, name))
        old = sql.SQL("s.{}").format(sql.Identifier(name))
        if name in drawn:
            cast = sql.SQL(_scale_catalog.type_of(self.conn, table.oid, name))
            return _scale_values.drawn(column, cast, self.stats[table.name][name]) or old
        if number is None:
            return old
        new = _scale_values.fresh(column, self.strides.get(number, 1))
        # A child's new parent may not be there, for of the last copy only a part is made.
        for key in table.keys:
            if name in key.columns and key not in self.plan.kept[table.oid] and key.parent != table.oid:
                new = sql.SQL("CASE WHEN {} THEN {} ELSE {} END").format(self._there(table, key), new, old)
        return new

    def _there(self, table: Table, key: Key) -> t.Any:
        """Whether the new row of a parent is there."""
        if key.parent not in self.scaled:
            return sql.SQL("false")
        pairs = zip(key.columns, key.parent_columns)
        same = [sql.SQL("p.{} = {}").format(sql.Identifier(other), self._mapped(table, own)) for own, other in pairs]
        return sql.SQL("EXISTS (SELECT 1 FROM {} p WHERE {})").format(_scale_catalog.named(self.conn, key.parent), sql.SQL(" AND ").join(same))

    def _part(self, table: Table, more: int) -> t.Any:
        """Of the last copy only a part is made: first the rows whose new parents are there, for the others may collide."""
        order: list[t.Any] = [sql.SQL("g")]
        for key in table.keys:
            if key not in self.plan.kept[table.oid] and key.parent in self.scaled:
                order.append(sql.SQL("({}) DESC").format(self._there(table, key)))
        return sql.SQL("ORDER BY {}, s.ctid LIMIT {}").format(sql.SQL(", ").join(order), sql.Literal(more))

    def _mapped(self, table: Table, name: str) -> t.Any:
        number = self.plan.fresh.get((table.oid, name))
        if number is None:
            return sql.SQL("s.{}").format(sql.Identifier(name))
        return _scale_values.fresh(table.column(name), self.strides.get(number, 1))


@contextlib.contextmanager
def _transaction(conn: t.Any) -> t.Iterator[None]:
    execute(conn, "BEGIN")
    try:
        yield
        execute(conn, "COMMIT")
    except BaseException:
        with contextlib.suppress(psycopg2.Error):
            execute(conn, "ROLLBACK")
        raise


__all__ = ("scale",)
