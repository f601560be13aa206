# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What each statement of the migrations did on a copy, and how long it took; and how large tables are.

The engines send a script as one message, so what its statements took is not known of a deploy. Here they are run once more, one
by one and in the transactions of a deploy, on a copy that is dropped afterwards. The server's own counters of the transaction
tell which rows a statement read and wrote, whatever functions and triggers it went through.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql_names
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._sql import controls_transaction, runs_alone, split, tokens
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

NAME = "pgops.migrations forecast"
#: A script is measured so often, while that took less than so many seconds.
TRIES, AGAIN_SECONDS = 3, 10.0
#: In a script of so many statements those of a moment are not looked at.
MANY, MOMENT = 100, 0.002
_DATA = frozenset(["insert", "update", "delete", "select", "set", "comment"])
_OURS = "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') AND n.nspname NOT LIKE 'pg\\_%'"
_TABLES = (
    """
SELECT c.oid::bigint, n.nspname || '.' || c.relname, c.relfilenode::bigint,
       coalesce(pg_stat_get_xact_tuples_returned(c.oid), 0) + coalesce(pg_stat_get_xact_tuples_fetched(c.oid), 0),
       coalesce(pg_stat_get_xact_tuples_inserted(c.oid), 0) + coalesce(pg_stat_get_xact_tuples_updated(c.oid), 0)
         + coalesce(pg_stat_get_xact_tuples_deleted(c.oid), 0)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND """
    + _OURS
)
_INDEXES = (
    """
SELECT i.indexrelid::bigint, i.indrelid::bigint, n.nspname || '.' || x.relname, m.amname, x.reltuples::float8
  FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid JOIN pg_class c ON c.oid = i.indrelid JOIN pg_am m ON m.oid = x.relam
  JOIN pg_namespace n ON n.oid = x.relnamespace WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND """
    + _OURS
)
_LOCKS = (
    """
SELECT DISTINCT n.nspname || '.' || c.relname, l.mode FROM pg_locks l JOIN pg_class c ON c.oid = l.relation JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND c.relkind IN ('r', 'p', 'm') AND """
    + _OURS
)
_MODES = (
    "AccessShareLock", "RowShareLock", "RowExclusiveLock", "ShareUpdateExclusiveLock", "ShareLock", "ShareRowExclusiveLock", "ExclusiveLock",
    "AccessExclusiveLock",
)  # fmt: skip
#: As the planner does it: the rows per page when it was analysed, times the pages of now.
_SIZES = (
    """
SELECT n.nspname || '.' || c.relname, c.oid::bigint, pg_table_size(c.oid),
       CASE WHEN c.reltuples < 0 THEN NULL WHEN c.relpages > 0
            THEN c.reltuples::float8 / c.relpages * (pg_relation_size(c.oid) / current_setting('block_size')::float8)
            WHEN pg_relation_size(c.oid) = 0 THEN 0 END
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'm') AND c.relpersistence <> 't' AND """
    + _OURS
)
_SETTINGS = """
SELECT name, CASE unit WHEN '8kB' THEN setting::bigint * 8192 WHEN 'kB' THEN setting::bigint * 1024 ELSE setting::bigint END
  FROM pg_settings WHERE name IN ('maintenance_work_mem', 'shared_buffers', 'max_parallel_maintenance_workers')
"""


def sizes(conn: t.Any, exactly: bool = False) -> dict[str, dict[str, t.Any]]:
    """Rows and bytes of each table, C(schema.table) as the monitor writes it. Reads the catalogue only, unless ``exactly``.

    :param exactly: count the rows: for the copy, whose statistics a restore does not bring with it.
    """
    found: dict[str, dict[str, t.Any]] = {}
    for name, oid, size, estimated in rows(conn, _SIZES):
        count = None if estimated is None else round(float(estimated))
        if exactly:
            counted = sql.SQL("SELECT count(*) FROM ONLY {}").format(_named(conn, oid))
            count = int((row(conn, counted) or (0,))[0])
        found[str(name)] = {"rows": count, "bytes": int(size)}
    return found


def _named(conn: t.Any, oid: int) -> t.Any:
    query = "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = %s"
    return sql.Identifier(*(row(conn, query, (oid,)) or ("", "")))


def settings_of(conn: t.Any) -> dict[str, int]:
    """What ``_forecast.forecast`` takes as settings."""
    found = {str(name): int(value) for name, value in rows(conn, _SETTINGS)}
    return dict(found, workers=found.pop("max_parallel_maintenance_workers", 0))


def measure(target: Target, migrations: t.Mapping[str, str], settings: t.Mapping[str, str] | None = None) -> tuple[list[dict[str, t.Any]], str]:
    """Run the migrations on a copy, statement by statement, and commit them; what each did, and why it stopped, or an empty text.

    :param migrations: name -> script, in their order. ``settings``: those of the deploy, such as lock_timeout.
    """
    found: list[dict[str, t.Any]] = []
    with connection(target, application_name=NAME, settings=settings) as conn:
        execute(conn, sql.SQL("SET search_path = {}").format(sql.Identifier(target.schema)))
        start = _worker_start(conn)
        known, filled = t.cast("dict[int, str]", {}), t.cast("dict[str, list[str]]", {})
        for name, script in migrations.items():
            try:
                found += [{"migration": name, "worker_start": start, **statement} for statement in _of_script(conn, script, known, filled)]
            except psycopg2.Error as error:
                # The words of the server may hold values of rows.
                return found, "%s stopped with SQLSTATE %s" % (name, error.pgcode)
    return found, ""


def _worker_start(conn: t.Any) -> float:
    """The seconds that a parallel build takes for each of its workers, whatever the size of the table: on small copies much of the whole."""
    table = sql.Identifier("pgops.migrations probe")
    make = sql.SQL("CREATE INDEX ON {} (n)").format(table)
    taken: list[float] = []
    execute(conn, "BEGIN")
    try:
        execute(conn, sql.SQL("CREATE TABLE {} AS SELECT 1 AS n").format(table))
        for workers in (0, 1):
            execute(conn, sql.SQL("ALTER TABLE {} SET (parallel_workers = {})").format(table, sql.Literal(workers)))
            times = []
            for _try in range(TRIES):
                began = time.monotonic()
                execute(conn, make)
                times.append(time.monotonic() - began)
            taken.append(sorted(times)[len(times) // 2])
    except psycopg2.Error:
        # Who may make no table here makes no index either.
        return 0.0
    finally:
        execute(conn, "ROLLBACK")
    return max(0.0, taken[1] - taken[0])


def _of_script(conn: t.Any, script: str, names: dict[int, str], filled: dict[str, list[str]]) -> list[dict[str, t.Any]]:
    placed: list[tuple[int, str]] = []
    position = 0
    for statement in split(script):
        position = max(script.find(statement, position), position)
        placed.append((script.count("\n", 0, position + comments(statement)) + 1, statement))
        position += len(statement)
    whole = not any(runs_alone(statement) or controls_transaction(statement) for _line, statement in placed)
    began, tries = time.monotonic(), t.cast("list[list[dict[str, t.Any]]]", [])
    while True:
        watch, told = _Watch(conn, names, filled), t.cast("list[dict[str, t.Any]]", [])
        if whole:
            execute(conn, "BEGIN")
        watch.look()
        known = {entry[0] for entry in watch.tables.values()}
        for line, statement in placed:
            told.append({"line": line, "text": shown(statement), **watch.run(statement, len(placed) > MANY)})
        tries.append(told)
        # Once more for a better figure, where a rollback leaves nothing behind: rows that were written stay as dead ones.
        wrote = any(not known.isdisjoint(entry["written"]) for entry in told)
        if not whole or wrote or len(placed) > MANY or len(tries) >= TRIES or time.monotonic() - began > AGAIN_SECONDS:
            break
        execute(conn, "ROLLBACK")
    for number, entry in enumerate(told):
        taken = sorted(each[number]["seconds"] for each in tries)
        entry.update(seconds=(taken[(len(taken) - 1) // 2] + taken[len(taken) // 2]) / 2, spread=(taken[-1] - taken[0]) / 2)
    if whole:
        began = time.monotonic()
        execute(conn, "COMMIT")
        told.append({"line": 0, "text": "COMMIT", "commit": True, "seconds": time.monotonic() - began})
    return told


def comments(statement: str) -> int:
    """How much of it comes before its first word."""
    before = 0
    for token in tokens(statement):
        if token.kind not in ("space", "comment"):
            break
        before += len(token.text)
    return before


def shown(statement: str, most: int = 120) -> str:
    """The statement in one line, without the values and the comments in it."""
    hidden = {"string": "'..'", "estring": "'..'", "dollar": "$$..$$", "space": " ", "comment": " "}
    text = " ".join("".join(hidden.get(token.kind, token.text) for token in tokens(statement)).split())
    return text if len(text) <= most else text[: most - 2] + ".."


class _Watch:
    """The state of the tables between two statements of one session."""

    def __init__(self, conn: t.Any, known: dict[int, str], filled: dict[str, list[str]]) -> None:
        """:param known: the names that tables had at first; one that is renamed keeps it. ``filled``: of which tables new ones have their rows."""
        self.conn, self.known, self.filled = conn, known, filled
        self.tables: dict[int, tuple[str, int, int, int]] = {}
        self.indexes: dict[int, tuple[int, str, str, float]] = {}
        self.held: dict[str, str] = {}

    def look(self) -> None:
        self.tables = {oid: (self.known.setdefault(oid, name), *rest) for oid, name, *rest in rows(self.conn, _TABLES)}
        self.indexes = {oid: rest for oid, *rest in map(tuple, rows(self.conn, _INDEXES))}  # type: ignore[misc]
        self.held = {}
        for name, mode in rows(self.conn, _LOCKS):
            if mode in _MODES and _MODES.index(mode) >= _MODES.index(self.held.get(name, _MODES[0])):
                self.held[name] = mode

    def run(self, statement: str, hurry: bool = False) -> dict[str, t.Any]:
        """:param hurry: do not look at what a moment's INSERT did; among thousands of them the looks would take longer."""
        tables, indexes, held = self.tables, self.indexes, self.held
        began = time.monotonic()
        execute(self.conn, statement)
        seconds = time.monotonic() - began
        if hurry and seconds < MOMENT and _first(statement) in _DATA:
            return {"seconds": seconds, "read": {}, "written": {}, "rewritten": [], "indexes": [], "locks": [], "filled_from": {}}
        self.look()
        names = {oid: entry[0] for oid, entry in {**tables, **self.tables}.items()}
        read, written = self._counted(tables, 2), self._counted(tables, 3)
        made = sorted(set(self.indexes) - set(indexes))
        rewritten = sorted(tables[oid][0] for oid, entry in self.tables.items() if oid in tables and tables[oid][1] != entry[1])
        for name in written if read else ():
            self.filled.setdefault(name, sorted(set(read) - {name}))
        found: dict[str, t.Any] = {
            # The new file of a truncated table has no rows in it.
            "seconds": seconds, "read": read, "written": written, "rewritten": [] if _first(statement) == "truncate" else rewritten,
            "indexes": [self._index(oid, names) for oid in made],
            "locks": [{"table": name, "mode": mode} for name, mode in sorted(self.held.items()) if held.get(name) != mode],
            "filled_from": dict(self.filled),
        }  # fmt: skip
        if not (read or written or made or rewritten) and runs_alone(statement):
            mentioned = _sql_names.scan(statement)
            read = {entry[0]: 1000 for entry in tables.values() if _sql_names.mentions(mentioned, tuple(entry[0].split(".", 1)))}
            found.update(read=read, unknown=True)
        return found

    def _index(self, oid: int, names: t.Mapping[int, str]) -> dict[str, t.Any]:
        table, name, method, count = self.indexes[oid]
        # A partial one has fewer rows than its table.
        return {"index": name, "table": names.get(table, ""), "method": method, "rows": count if count >= 0 else None}

    def _counted(self, before: t.Mapping[int, t.Sequence[t.Any]], place: int) -> dict[str, int]:
        found = {}
        for oid, entry in self.tables.items():
            count = int(entry[place]) - int(before[oid][place] if oid in before else 0)
            if count > 0:
                found[entry[0]] = count
        return found


def _first(statement: str) -> str:
    return next((token.text.lower() for token in tokens(statement) if token.kind == "word"), "")


__all__ = ("comments", "measure", "settings_of", "shown", "sizes")
