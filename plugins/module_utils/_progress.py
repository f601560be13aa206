# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How far a deploy is, in one line for whoever waits for it. Pure: no I/O.

No SQL and no row is part of it, for it is shown while the work goes on, also where ``no_log`` hides results.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import View
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

#: A rate that was measured for less time, or over less of the work, foretells nothing.
ETA_SECONDS, ETA_PERCENT = 3.0, 1.0
#: A wait that is shorter is no news.
WAIT_SECONDS = 0.5
Facts = dict[str, t.Any]


class Eta:
    """The seconds that a command still takes, by the rate at which PostgreSQL's own progress rose."""

    def __init__(self) -> None:
        self._key: tuple[t.Any, ...] = ()
        self._first: tuple[float, float] = (0.0, 0.0)

    def of(self, key: tuple[t.Any, ...], now: float, percent: float) -> float | None:
        """
        :param key: command, table and phase; each phase has a rate of its own.
        :param now: seconds of any clock that goes on.
        """
        if key != self._key or percent < self._first[1]:
            self._key, self._first = key, (now, percent)
        began, at = self._first
        if now - began < ETA_SECONDS or percent - at < ETA_PERCENT:
            return None
        return round((100.0 - percent) * (now - began) / (percent - at), 1)


def observed(view: View, eta: Eta) -> Facts:
    """What one look at the server tells of the migration: its waits, whom it keeps waiting, how far its command is."""
    found: Facts = {"waits_for": None, "waits_seconds": None, "blocked": 0, "blocked_seconds": None, "command": None}
    waits = view.migrator_waits()
    if waits:
        longest = max(waits, key=view.age)
        found["waits_for"] = [_who(view, pid) for pid in (longest.blockers or ()) if pid not in view.pids][:3]
        found["waits_seconds"] = round(view.age(longest), 1)
        found["waits_relation"] = longest.relation
    blocked = view.blocked()
    if blocked:
        found["blocked"] = len({wait.pid for wait in blocked})
        found["blocked_seconds"] = round(max(view.age(wait) for wait in blocked), 1)
    if view.progress:
        seen = view.progress[0]
        left = eta.of((seen.command, seen.relation, seen.phase), view.now, seen.percent) if seen.percent is not None else None
        found["command"] = {"command": seen.command, "relation": seen.relation, "phase": seen.phase, "percent": seen.percent, "eta_seconds": left}
    return found


def _who(view: View, pid: int) -> str:
    session = view.sessions.get(pid)
    if session is None:
        return "pid %d" % pid
    if not session.is_client:
        return "pid %d (%s)" % (pid, session.backend_type)
    return "pid %d (%s)" % (pid, ", ".join(filter(None, ["user " + session.user if session.user else "", session.application, session.state or ""])))


def clock(seconds: float) -> str:
    """``0:07``, ``12:40``, ``1:02:09``."""
    whole = int(seconds)
    if whole < 3600:
        return "%d:%02d" % divmod(whole, 60)
    return "%d:%02d:%02d" % (whole // 3600, whole % 3600 // 60, whole % 60)


def what(state: t.Mapping[str, t.Any]) -> str:
    """The line without its target and its time: which migration of how many, and what it is at.

    :param state: what a job tells of itself, see ``_job.Job``.
    """
    phase = state.get("phase")
    if phase == "lock":
        return "waits for the lock of this database"
    parts = []
    if state.get("of"):
        at = min(int(state.get("done") or 0) + (1 if state.get("migration") else 0), int(state["of"]))
        parts.append("%d of %d" % (at, state["of"]))
    if phase == "judging":
        parts.append("reads the state after it")
    elif state.get("migration"):
        parts.append(str(state["migration"]))
    command = state.get("command")
    if isinstance(command, dict):
        parts.append(_command(command))
    parts += [part for part in (_waits(state), _keeps_waiting(state)) if part]
    if int(state.get("attempt") or 1) > 1:
        parts.append("attempt %d" % state["attempt"])
    return printable(", ".join(parts) or "starts")


def short(state: t.Mapping[str, t.Any]) -> str:
    """The same in a few characters, for one line that many targets share; only a wait is said in full."""
    if state.get("phase") == "lock":
        return "waits for the lock"
    at = "%d/%d" % (int(state.get("done") or 0), int(state["of"])) if state.get("of") else "starts"
    trouble = [part for part in (_waits(state), _keeps_waiting(state)) if part]
    return printable(" ".join([at, *trouble]))


def _waits(state: t.Mapping[str, t.Any]) -> str:
    if not state.get("waits_for") or (state.get("waits_seconds") or 0) < WAIT_SECONDS:
        return ""
    where = " for %s" % state["waits_relation"] if state.get("waits_relation") else ""
    return "waits %s%s behind %s" % (clock(state["waits_seconds"]), where, ", ".join(state["waits_for"]))


def _keeps_waiting(state: t.Mapping[str, t.Any]) -> str:
    if not state.get("blocked") or (state.get("blocked_seconds") or 0) < WAIT_SECONDS:
        return ""
    return "keeps %s waiting, %s" % (plural(state["blocked"], "session"), clock(state["blocked_seconds"]))


def _command(command: t.Mapping[str, t.Any]) -> str:
    text = "%s%s: %s" % (command.get("command"), " on %s" % command["relation"] if command.get("relation") else "", command.get("phase"))
    if command.get("percent") is not None:
        text += " %d %%" % command["percent"]
    if command.get("eta_seconds") is not None:
        text += ", about %s left" % clock(command["eta_seconds"])
    return text


def printable(text: str) -> str:
    """The text on one line, nothing in it that a terminal would obey."""
    return "".join(char if char.isprintable() else "?" for char in text)


__all__ = ("Eta", "clock", "observed", "printable", "short", "what")
