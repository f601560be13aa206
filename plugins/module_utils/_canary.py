# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A reader and a writer that stand for the application while a migration runs on a copy: what users would feel of it.

Each has a thread and a connection of its own and goes round the tables: one row is read by its key, one is updated to itself in a
transaction that is rolled back. Nothing stays: no row is inserted, so no sequence moves, and no trigger or rule runs, for
the writer changes nothing where a table has one: it takes the row's lock instead. A probe gives up a lock after a
moment and tries again, so the migration never waits for a canary longer than that; the stall goes on until a probe gets through.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._canary_summary import Probe, summary
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, execute, psycopg2, row, rows, scrub, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

READER, WRITER = "reader", "writer"
#: A probe waits so long for a lock; behind it nobody waits longer for its sake.
SETTINGS = {"lock_timeout": "100ms", "statement_timeout": "5s", "idle_in_transaction_session_timeout": "5s", "jit": "off"}
PAUSE, RECONNECT, STOP_SECONDS = 0.02, 0.5, 10.0
MOST_TABLES, MOST_PROBES = 200, 20000
_WAITED = ("55P03", "57014", "40P01", "40001")

#: The tables with rows of their own, with their key and a column that can be set to itself. What has a trigger or a rule is locked, not updated.
_TABLES = """
SELECT c.oid::bigint, n.nspname, c.relname,
       (SELECT array_agg(a.attname ORDER BY k.place) FROM unnest(i.indkey::smallint[]) WITH ORDINALITY k(number, place)
          JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.number),
       NOT c.relrowsecurity AND NOT EXISTS (SELECT 1 FROM pg_trigger g WHERE g.tgrelid = c.oid AND NOT g.tgisinternal)
         AND NOT EXISTS (SELECT 1 FROM pg_rewrite r WHERE r.ev_class = c.oid),
       (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = '' AND a.attidentity = ''
           AND NOT a.attnum = ANY (i.indkey::smallint[]) AND has_column_privilege(c.oid, a.attnum, 'UPDATE')
         ORDER BY EXISTS (SELECT 1 FROM pg_index x WHERE x.indrelid = c.oid AND a.attnum = ANY (x.indkey::smallint[])), a.attlen < 0, a.attnum LIMIT 1),
       (SELECT array_agg(a.attname ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace LEFT JOIN pg_index i ON i.indrelid = c.oid AND i.indisprimary
 WHERE c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' AND c.relname <> '_prisma_migrations'
   AND n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND has_table_privilege(c.oid, 'SELECT')
 ORDER BY n.nspname, c.relname
"""


@dataclasses.dataclass(frozen=True)
class _Table:
    """A table as it was before the deploy: an application of before asks for its columns by name."""

    name: str
    read: str
    write: str


class Canary:
    """Probes between :meth:`start` and :meth:`stop`, or in its C(with). What goes wrong is in the result and nowhere else."""

    def __init__(self, target: Target, run_id: str = "", tables: t.Collection[str] | None = None, pause: float = PAUSE) -> None:
        """:param tables: C(schema.table) of those that the migrations touch; all by default."""
        self.target, self.wanted, self._pause = target, tables, pause
        self.name = ("pgops-canary %s" % run_id).strip()[:63]
        self.problems: list[str] = []
        self.probes: list[Probe] = []
        self._tables: list[_Table] = []
        self._skipped: list[str] = []
        self._stop, self._gate = threading.Event(), threading.Lock()
        self._threads: list[threading.Thread] = []
        self._began = self._ended = 0.0

    def __enter__(self) -> Canary:
        self.start()
        return self

    def __exit__(self, *_ignored: t.Any) -> None:
        self.stop()

    def start(self) -> None:
        """Read the tables as the application knows them, and begin."""
        self._began = time.monotonic()
        try:
            conn = connect(self.target, application_name=self.name, settings=SETTINGS)
            with contextlib.closing(conn):
                self._tables = list(self._prepared(conn))
        except (MigrationError, psycopg2.Error) as error:
            self._note(error)
        for kind in (READER, WRITER) if self._tables else ():
            thread = threading.Thread(target=self._work, args=(kind,), name="canary-%s" % kind, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the probes; a second call does nothing."""
        if self._ended:
            return
        self._stop.set()
        for thread in self._threads:
            thread.join(STOP_SECONDS)
        self._look_again()
        self._ended = time.monotonic()

    def _look_again(self) -> None:
        """Read each table once more: a deploy may be shorter than a round of the probes, and what is broken now stays broken."""
        if not self._tables:
            return
        try:
            with contextlib.closing(connect(self.target, application_name=self.name, settings=SETTINGS)) as conn:
                for table in self._tables:
                    began = time.monotonic()
                    state = _once(conn, table.read)
                    # Once: what still holds a lock may hold it for ever.
                    if state not in _WAITED:
                        self._add(Probe(table.name, READER, began - self._began, time.monotonic() - began, state, False))
        except (MigrationError, psycopg2.Error) as error:
            self._note(error)

    def result(self) -> dict[str, t.Any]:
        """After :meth:`stop`: see ``_canary_summary.summary``, with C(skipped) tables and C(problem)."""
        found = summary(self.probes, (self._ended or time.monotonic()) - self._began)
        return dict(found, skipped=self._skipped, problem=self.problems[0] if self.problems else "")

    def _note(self, error: Exception) -> None:
        self.problems.append(scrub(" ".join(str(error).split()), self.target)[:300])

    def _prepared(self, conn: t.Any) -> t.Iterator[_Table]:
        for number, (_oid, schema, name, key, plain, column, columns) in enumerate(rows(conn, _TABLES)):
            told = "%s.%s" % (schema, name)
            if (self.wanted is not None and told not in self.wanted) or not columns:
                continue
            if number >= MOST_TABLES:
                self._skipped.append("%s: more than %d tables" % (told, MOST_TABLES))
                continue
            table = sql.Identifier(schema, name)
            every = sql.SQL(", ").join(map(sql.Identifier, columns))
            where, values = sql.SQL("false"), ()
            if key:
                try:
                    # As text: what comes back from Python may not be what the server gave.
                    cast = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(one)) for one in key)
                    values = row(conn, sql.SQL("SELECT {} FROM {} LIMIT 1").format(cast, table)) or ()
                except psycopg2.Error as error:
                    self._skipped.append("%s: SQLSTATE %s" % (told, error.pgcode))
                    continue
                if values:
                    where = sql.SQL(" AND ").join(sql.SQL("{} = {}").format(sql.Identifier(one), sql.Literal(value)) for one, value in zip(key, values))
            # A table without rows or without a key has none to find; that it is there, and can be locked, shows all the same.
            read = sql.SQL("SELECT {} FROM {} WHERE {}").format(every, table, where)
            write = sql.SQL("SELECT 1 FROM {} WHERE {} FOR UPDATE").format(table, where)
            if plain and column:
                write = sql.SQL("UPDATE {0} SET {1} = {1} WHERE {2}").format(table, sql.Identifier(column), where)
            made = _Table(told, read.as_string(conn), write.as_string(conn))
            # What is refused before the migration is not its doing.
            refused = [state for state in (_once(conn, made.read), _once(conn, made.write)) if state and state not in _WAITED]
            if refused:
                self._skipped.append("%s: SQLSTATE %s" % (told, refused[0]))
            else:
                yield made

    def _work(self, kind: str) -> None:
        conn: t.Any = None
        try:
            while not self._stop.is_set():
                for table in self._tables:
                    if self._stop.is_set():
                        break
                    try:
                        if conn is None or conn.closed:
                            conn = connect(self.target, application_name=self.name, settings=SETTINGS)
                        self._probe(conn, kind, table)
                    except (MigrationError, psycopg2.Error) as error:
                        self._note(error)
                        if self._stop.wait(RECONNECT):
                            break
                    if self._stop.wait(self._pause):
                        break
        except Exception as error:  # pylint: disable=broad-except # a mistake here must not cost a rehearsal
            self._note(error)
        finally:
            if conn is not None:
                conn.close()

    def _probe(self, conn: t.Any, kind: str, table: _Table) -> None:
        """Until it gets through, or fails for another reason than a lock; the canary is ended in the middle of it, too."""
        began = time.monotonic()
        waited = False
        while True:
            try:
                state = _once(conn, table.read if kind == READER else table.write)
            except psycopg2.Error:
                self._add(Probe(table.name, kind, began - self._began, time.monotonic() - began, "08006", True))
                raise
            if state not in _WAITED:
                self._add(Probe(table.name, kind, began - self._began, time.monotonic() - began, state, waited))
                return
            waited = True
            if self._stop.is_set():
                self._add(Probe(table.name, kind, began - self._began, time.monotonic() - began, "", True, ended=False))
                return
            # Whoever waited behind this probe comes first now.
            time.sleep(0.001)

    def _add(self, probe: Probe) -> None:
        with self._gate:
            if len(self.probes) >= MOST_PROBES:
                # The slow ones and the failed ones are what counts.
                self.probes = [one for number, one in enumerate(self.probes) if number % 2 == 0 or one.state or one.seconds > 0.05][-MOST_PROBES:]
            self.probes.append(probe)


def _once(conn: t.Any, statement: str) -> str:
    """One transaction that is rolled back; its SQLSTATE, or an empty text. Raises where the connection is gone."""
    state = ""
    try:
        execute(conn, "BEGIN")
        execute(conn, statement)
    except psycopg2.Error as error:
        if conn.closed or error.pgcode is None:
            raise
        state = str(error.pgcode)
    execute(conn, "ROLLBACK")
    return state


__all__ = ("READER", "WRITER", "Canary")
