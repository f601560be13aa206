# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Watch the server while migrations are applied: a thread with one kept connection that reads, and ends what blocks.

Nothing that goes wrong here may disturb the deploy: it is noted, and said as a warning.
"""

from __future__ import annotations

import collections
import contextlib
import datetime
import json
import threading
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _monitor_sql
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, execute, psycopg2, row, rows, scrub, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_history import History, index_builds, rewrites
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import View, view_of
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog import AGAIN_SECONDS, Action, Policy, judge, longest_pause, pause, worst

#: The server gives up on a sample rather than keep it waiting; nothing is compiled or spread over workers for it.
SETTINGS = {"statement_timeout": "5s", "lock_timeout": "500ms", "jit": "off", "max_parallel_workers_per_gather": "0"}
#: A sample may take this share of the time, the size of the database (a look at each of its files) less.
SHARE, SIZE_SHARE, SIZE_SECONDS = 0.01, 0.002, 5.0
#: The interval grows with the deploy, up to so many times the first.
GROWTH, MOST_GROWTH = 1.05, 8.0
RECONNECT_SECONDS, STOP_SECONDS = 5.0, 10.0
MOST_CANCELLED = 100


class Monitor:
    """Watches one deploy. All times are seconds since it was made."""

    def __init__(
        self,
        target: Target,
        application_name: str,
        run_id: str,
        policy: Policy,
        interval: float,
        tell: t.Callable[[t.Any, View], None] | None = None,
    ) -> None:
        self.target, self.policy, self._tell = target, policy, tell
        self.name = application_name
        self.own_name = ("pgops-monitor %s" % run_id).strip()[:63]
        self.first_interval = interval
        self.began, self.began_at = time.monotonic(), time.time()
        self.history = History()
        self.cancelled: list[dict[str, t.Any]] = []
        #: What was ended since the last :meth:`begin`, and the last statements that the migrator was seen at.
        self.actions: list[Action] = []
        self.queries: collections.deque[str] = collections.deque(maxlen=5)
        self.problem = ""
        self.failures = 0
        self._tried: set[tuple[int, float | None]] = set()
        self._fired: dict[tuple[int, float | None], float] = {}
        self._size: tuple[float, int | None, float] = (-1e9, None, 0.0)
        self._conn: t.Any = None
        self._prepared: t.Any = None
        self._stop, self._gate = threading.Event(), threading.Lock()
        self._thread: threading.Thread | None = None
        self._since: t.Any = None
        self._with_progress = True
        self._before: dict[str, t.Any] = {}
        self._after: dict[str, t.Any] = {}
        self._seconds: float | None = None

    def now(self) -> float:
        return time.monotonic() - self.began

    def start(self) -> None:
        """Read what is compared later, and begin to watch."""
        with self._quietly():
            self._since = (row(self._connected(), "SELECT clock_timestamp()") or (None,))[0]
            self._before = self._read_state()
            self._size = (self.now(), self._before["size"], 0.0)
        self._thread = threading.Thread(target=self._work, name="monitor", daemon=True)
        self._thread.start()

    def begin(self) -> None:
        """Another attempt of the engine."""
        self.actions = []
        self.queries.clear()
        self._tried.clear()

    @contextlib.contextmanager
    def quiet(self) -> t.Iterator[None]:
        """No look while the state is judged: a session at work would be a doubt."""
        # A look that hangs ends by its own timeout; the deploy does not wait for it longer than that.
        held = self._gate.acquire(timeout=STOP_SECONDS)
        try:
            yield
        finally:
            if held:
                self._gate.release()

    def give_way(self) -> None:
        """End the watch before the end, for its connection is needed."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
        self._close()
        self._note("its connection was given up, for the server had no other")

    def _close(self) -> None:
        if self._conn is not None:
            with contextlib.suppress(psycopg2.Error):
                self._conn.close()

    @property
    def connected(self) -> bool:
        return self._conn is not None and not self._conn.closed

    def stop(self) -> None:
        """End the watch, and read the state after it."""
        if self._seconds is not None:
            return
        self._seconds = self.now()
        self._stop.set()
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)
            if self._thread.is_alive():
                self._note("a look at the server did not come back")
                return
        with self._quietly():
            self._after = self._read_state()
        self._close()

    def _read_state(self) -> dict[str, t.Any]:
        conn = self._connected()
        return {
            "size": (row(conn, _monitor_sql.SIZE) or (None,))[0],
            "wal": (row(conn, "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint") or (None,))[0],
            "temp": (row(conn, "SELECT temp_bytes FROM pg_stat_database WHERE datname = current_database()") or (None,))[0],
            "files": {oid: (file, name) for oid, file, name in rows(conn, _monitor_sql.FILES)},
            "indexes": {oid: (table, name) for oid, table, name in rows(conn, _monitor_sql.INDEXES)},
        }

    @contextlib.contextmanager
    def _quietly(self) -> t.Iterator[None]:
        """Whatever goes wrong inside is noted and goes no further."""
        try:
            yield
        except MigrationError as error:
            self._note(error.msg)
            if error.code == "TOO_MANY_CONNECTIONS":
                # The deploy needs the next free one more than this.
                self._stop.set()
        except psycopg2.Error as error:
            self._note(" ".join(str(error).split()))
        except Exception as error:  # pylint: disable=broad-except # a mistake here must not cost a deploy
            self._note("%s: %s" % (type(error).__name__, error))

    def _note(self, text: str) -> None:
        self.failures += 1
        self.problem = self.problem or scrub(text, self.target)[:300]

    def _connected(self) -> t.Any:
        if self._conn is None or self._conn.closed:
            self._conn = connect(self.target, application_name=self.own_name, settings=SETTINGS, read_only=True)
        return self._conn

    def _prepare(self, conn: t.Any) -> None:
        """Planned once a connection, with a first look that nobody sees: planning costs ten looks."""
        if self._since is None:
            self._since = (row(conn, "SELECT clock_timestamp()") or (None,))[0]
        progress = sql.SQL(_monitor_sql.PROGRESS if self._with_progress else _monitor_sql.NO_PROGRESS)
        values = {
            "name": self.name, "since": self._since, "lock": PRISMA_LOCK,
            "most_waits": _monitor_sql.MOST_WAITS, "most_asked": _monitor_sql.MOST_ASKED, "most_locks": _monitor_sql.MOST_LOCKS,
        }  # fmt: skip
        try:
            execute(conn, sql.SQL(_monitor_sql.SAMPLE).format(progress=progress), values)
            row(conn, "EXECUTE look")
            self._prepared = conn
        except (psycopg2.errors.UndefinedTable, psycopg2.errors.UndefinedColumn):
            if not self._with_progress:
                raise
            self._with_progress = False
            self._prepare(conn)

    def _work(self) -> None:
        with self._quietly():
            self._prepare(self._connected())
        interval, wait = self.first_interval, min(self.first_interval, 0.05)
        # The least of some: a busy machine makes a look long, and not dear.
        costs: collections.deque[float] = collections.deque(maxlen=10)
        while not self._stop.wait(wait):
            started = time.monotonic()
            view, took, before = None, 0.0, self.failures
            # Whoever judges an attempt must know what was ended in it, so this is under the gate, too.
            with self._gate, self._quietly():
                view = self._look()
                took = time.monotonic() - started
                for action in judge(view, self.policy, self._tried):
                    self._end(action)
            if view is None:
                wait = min(RECONNECT_SECONDS, max(interval, wait * 2)) if self.failures > before else interval
                continue
            costs.append(took)
            interval = min(interval * GROWTH, self.first_interval * MOST_GROWTH)
            wait = pause(view, self.policy, interval)
            # Where somebody waits, the limit must be seen in time, whatever it costs.
            wait = max(wait, took * 3 if worst(view) else min(min(costs) / SHARE, longest_pause(self.policy)))

    def _look(self) -> View:
        at = self.now()
        conn = self._connected()
        if self._prepared is not conn:
            self._prepare(conn)
        found = row(conn, "EXECUTE look")
        if found is None:
            raise MigrationError("a look at the server found nothing", code="INTERNAL")
        view = view_of(json.loads(found[0]))
        for migrator in view.migrators:
            if migrator.named and migrator.state == "active" and migrator.query and migrator.query[:4096] not in self.queries:
                self.queries.append(migrator.query[:4096])
        if self._tell:
            self._tell(conn, view)
        self.history.add(view, at, self._migration(conn) if view.progress else None, self._size_now(conn, at))
        return view

    def _migration(self, conn: t.Any) -> str | None:
        """What is being applied now; the ledger may not be there yet."""
        try:
            found = row(conn, sql.SQL(_monitor_sql.CURRENT).format(ledger_table(self.target)))
        except psycopg2.Error:
            return None
        return str(found[0]) if found else None

    def _size_now(self, conn: t.Any, at: float) -> int | None:
        """The size, where it is time to look at it; a sample without a look has none."""
        last, _size, took = self._size
        if at - last < max(SIZE_SECONDS, took / SIZE_SHARE):
            return None
        size = (row(conn, _monitor_sql.SIZE) or (None,))[0]
        self._size = (at, size, self.now() - at)
        return size

    def _end(self, action: Action) -> None:
        key = (action.pid, action.query_start)
        if self._stop.is_set() or time.monotonic() - self._fired.get(key, -1e9) < AGAIN_SECONDS:
            return
        if action.wait is not None:
            self._tried.add(action.wait)
        first = key not in self._fired
        self._fired[key] = time.monotonic()
        found = row(self._connected(), _monitor_sql.CANCEL, (action.pid, action.query_start))
        if found is None or not found[0]:
            return
        if first:
            self.actions.append(action)
            self.say(action.what, action.reason)

    def say(self, what: str, reason: str) -> None:
        """One more that was ended; :meth:`retried` fills in what followed."""
        if len(self.cancelled) < MOST_CANCELLED:
            self.cancelled.append({"at": round(self.now(), 3), "what": what, "reason": reason, "retry": None})

    def retried(self, number: int) -> None:
        for entry in self.cancelled:
            if entry["what"] == "migration" and entry["retry"] is None:
                entry["retry"] = number

    def warnings(self) -> list[str]:
        if not self.failures:
            return []
        text = "the deploy could not be watched all the time (failed %d x): %s" % (self.failures, self.problem)
        return [text + ("" if self.history.taken else "; nothing was watched, and what it blocked was not ended")]

    def result(self, migrations: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
        """The result, after :meth:`stop`. What the server or the rights did not give is None."""
        seconds = self._seconds if self._seconds is not None else self.now()
        before, after = self._before, self._after
        files = before.get("files", {})
        whole = bool(before and after)
        found = self.history.as_dict()
        return dict(
            found,
            interval=round(seconds / found["taken"], 3) if found["taken"] else None,
            started_at=datetime.datetime.fromtimestamp(self.began_at, datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            seconds=round(seconds, 3),
            index_builds=index_builds(files, before["indexes"], after["indexes"], self.history.spans) if whole else None,
            rewrites=rewrites(files, after["files"]) if whole else None,
            size_before=before.get("size"),
            size_after=after.get("size"),
            wal=_difference(before.get("wal"), after.get("wal")),
            temp=_difference(before.get("temp"), after.get("temp")),
            migrations=list(migrations),
            cancelled=self.cancelled,
        )


def _difference(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None or after < before else after - before


__all__ = ("SETTINGS", "Monitor")
