# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a deploy asks of its monitor, also where there is none."""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._monitor import Monitor
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_history import timeline
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import View
from ansible_collections.pgops.migrations.plugins.module_utils._plan import Failure
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import sqlstate_in
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog import LOCK_TIMEOUT, Policy, backoff
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog_retry import Blocked, blocked_attempt


class Watch:
    """The monitor of one deploy; without one (option ``monitor``) nothing is watched, and nothing is ended by us."""

    def __init__(self, target: Target, application_name: str, params: t.Mapping[str, t.Any], tell: t.Callable[[t.Any, View], None] | None = None) -> None:
        self._engine = str(params["engine"])
        self._ends: list[float] = []
        self._retried: dict[str, int] = {}
        self._monitor: Monitor | None = None
        if params["monitor"]:
            policy = Policy(params["on_blocked"], float(params["max_block"]))
            self._monitor = Monitor(target, application_name, params["run_id"], policy, float(params["monitor_interval"]), tell)
            self._monitor.start()

    def begin(self) -> None:
        if self._monitor:
            self._monitor.begin()

    def gives_way(self, failure: Failure | None) -> bool:
        """Whether an engine that found no free connection may be started again, since the monitor gave up its own."""
        if failure is None or not self._monitor or not self._monitor.connected:
            return False
        if failure.code != "TOO_MANY_CONNECTIONS" and sqlstate_in(failure.message) != "53300":
            return False
        self._monitor.give_way()
        return True

    @contextlib.contextmanager
    def ended(self) -> t.Iterator[None]:
        """The engine ended, and its work is judged."""
        if not self._monitor:
            yield
            return
        self._ends.append(self._monitor.now())
        with self._monitor.quiet():
            yield

    def blocked(self, found: Survey, names: t.Collection[str], failure: Failure | None) -> Blocked | None:
        """See :func:`blocked_attempt`."""
        actions = self._monitor.actions if self._monitor else ()
        blocked = blocked_attempt(found, names, failure, actions, self._engine, tuple(self._monitor.queries) if self._monitor else ())
        if blocked and blocked.sqlstate == LOCK_TIMEOUT and self._monitor:
            self._monitor.say("migration", "%s waited longer than its lock_timeout" % blocked.name)
        return blocked

    def retry(self, blocked: Blocked, number: int) -> None:
        """Wait before the next attempt."""
        self._retried[blocked.name] = self._retried.get(blocked.name, 0) + 1
        if self._monitor:
            self._monitor.retried(number)
        time.sleep(backoff(number))

    def blockers(self) -> list[str]:
        """Whom the migration waited for, longest first."""
        blocks = self._monitor.history.as_dict()["blocks"] if self._monitor else []
        return list(dict.fromkeys(entry["by"] for entry in blocks if entry["by"] != "migration"))[:3]

    def warnings(self) -> list[str]:
        found = self._monitor.warnings() if self._monitor else []
        return found + ["%s was ended because of locks and tried again, %d x" % item for item in self._retried.items()]

    def said(self) -> str:
        """What the watchdog ended in the last attempt, for the message of a failure."""
        found = [action for action in self._monitor.actions if action.what == "migration"] if self._monitor else []
        return "; it was cancelled because it %s" % found[-1].reason if found else ""

    def stop(self) -> None:
        if self._monitor:
            self._monitor.stop()

    def end(self, before: Survey, after: Survey | None, names: t.Collection[str]) -> dict[str, t.Any] | None:
        """End the watch; its result. ``after``: the state after it, if it could be read."""
        if not self._monitor:
            return None
        self._monitor.stop()
        migrations: list[dict[str, t.Any]] = []
        if after is not None:
            known = {row.id for row in before.facts.rows}
            states = {verdict.name: verdict.substate or "" for verdict in after.report.verdicts}
            migrations = timeline(after.facts.rows, known, names, self._monitor.began_at, self._ends, states)
        return self._monitor.result(migrations)


__all__ = ("Watch",)
