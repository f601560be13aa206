# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""When a migration blocks the application for too long: what is ended, and whether it may be tried again. Pure: no I/O.

A statement that waits for a strong lock makes everybody wait who comes after it. It is ended before they have waited for
``max_block`` seconds, and tried again later. One that has its lock and works is ended, too, and not tried again: it would
only come to the same point.
"""

from __future__ import annotations

import dataclasses
import random
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._monitor_history import label
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import Migrator, View, Wait
from ansible_collections.pgops.migrations.plugins.module_utils._sql import controls_transaction, keywords, runs_alone, split
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN, UNKNOWN

WAIT, MIGRATION, BLOCKER = "wait", "cancel_migration", "cancel_blocker"
CHOICES = (WAIT, MIGRATION, BLOCKER)
#: A cancel takes a moment to be noticed, and may be sent again after this time.
AGAIN_SECONDS = 1.0
#: SQLSTATEs of a statement that was ended because somebody waited: by us, and by the server's own lock_timeout.
CANCELLED, LOCK_TIMEOUT = "57014", "55P03"


@dataclasses.dataclass(frozen=True)
class Policy:
    on_blocked: str = MIGRATION
    max_block: float = 5.0

    @property
    def limit(self) -> float:
        """A little before the time is over, since the cancel and the release of the lock take some, too."""
        return max(self.max_block - 0.25, self.max_block * 0.8)

    @property
    def blocker_limit(self) -> float:
        """Earlier still, so that the migration gives way in time where the blocker does not."""
        return max(self.limit - AGAIN_SECONDS, self.limit / 2) if self.on_blocked == BLOCKER else self.limit


@dataclasses.dataclass(frozen=True)
class Action:
    """A session to end. ``query_start``: of the statement that is meant. ``waited``: the migrator itself waited for a lock."""

    what: str
    pid: int
    query_start: float | None
    reason: str
    waited: bool
    wait: tuple[int, float | None] | None = None


def worst(view: View) -> list[tuple[float, Wait]]:
    """Who of the application waits for the migrator, longest first."""
    return sorted(((view.age(wait), wait) for wait in view.blocked() if wait.of_application), key=lambda found: -found[0])


def judge(view: View, policy: Policy, tried: t.Collection[tuple[int, float | None]] = ()) -> list[Action]:
    """What is to be ended now.

    :param tried: waits of the migrator for which blockers were ended already (``Action.wait``).
    """
    if policy.on_blocked == WAIT:
        return []
    found = worst(view)
    if not found or found[0][0] < policy.blocker_limit:
        return []
    sessions = len({wait.pid for _age, wait in found})
    reason = "blocked %d %s for %.1f s" % (sessions, "session" if sessions == 1 else "sessions", found[0][0])
    waits = view.migrator_waits()
    if policy.on_blocked == BLOCKER and waits and all((wait.pid, wait.start) not in tried for wait in waits):
        actions = [_end_blocker(view, wait, pid, reason) for wait in waits for pid in wait.blockers or () if pid not in view.pids]
        if all(actions):
            return [action for action in actions if action]
    if found[0][0] < policy.limit:
        return []
    waiting = {wait.pid for wait in waits}
    return [
        Action("migration", migrator.pid, migrator.query_start, reason, migrator.pid in waiting)
        for migrator in view.migrators
        # Never another's session, which is only known by Prisma's lock.
        if migrator.named and _stands_in_the_way(view, migrator, [wait for _age, wait in found])
    ]


def _stands_in_the_way(view: View, migrator: Migrator, waits: t.Sequence[Wait]) -> bool:
    return len(view.migrators) == 1 or any(migrator.pid in (wait.blockers or ()) for wait in waits)


def _end_blocker(view: View, wait: Wait, pid: int, reason: str) -> Action | None:
    """A session can be ended so only while it runs a statement, and none that migrates or that is the server's own (autovacuum)."""
    session = view.sessions.get(pid)
    if session is None or session.backend_type != "client backend" or session.state != "active" or session.migrates:
        return None
    if session.application.startswith(("pgops-deploy", "pgops.migrations")):
        return None
    return Action(label(view, pid), pid, session.query_start, "the migration waited for it and " + reason, True, (wait.pid, wait.start))


def longest_pause(policy: Policy) -> float:
    """The longest time between two looks with which nobody is overlooked until it is too late."""
    return 10.0 if policy.on_blocked == WAIT else max(0.05, policy.max_block / 4)


def pause(view: View, policy: Policy, interval: float) -> float:
    """Seconds until the next look: early enough to see the limit come."""
    if policy.on_blocked == WAIT:
        return interval
    most = min(interval, longest_pause(policy))
    found = worst(view)
    if found:
        due = [limit - found[0][0] for limit in (policy.blocker_limit, policy.limit) if limit > found[0][0]]
        most = min([most, 0.25] + [max(0.02, seconds) for seconds in due or [0.1]])
    return most


def one_transaction(script: str) -> bool:
    """Whether a script that is sent as one message is one transaction, so that an error leaves nothing of it."""
    statements = split(script)
    for statement in statements:
        first = keywords(statement, 1)[0]
        if controls_transaction(statement) or runs_alone(statement) or first in ("prepare", "call"):
            return False
        if first == "do" and re.search(r"\b(commit|rollback)\b", statement, re.I):
            return False
    return bool(statements)


def one_message(script: str, seen: str | None) -> bool:
    """Whether the server was seen to work at the script as one message.

    :param seen: what pg_stat_activity showed as the query, which is cut off after 1 kB by default.
    """
    statements = split(script)
    if len(statements) < 2:
        return True
    second = script.index(statements[1], script.index(statements[0]) + len(statements[0]))
    start = len(script) - len(script.lstrip())
    text = (seen or "").strip()
    return bool(text) and start + len(text) > second and script.startswith(text, start)


def proved_clean(evidence: t.Mapping[str, t.Any], sqlstate: str | None, script: str | None, is_one_message: bool) -> str:
    """Why nothing is left of the attempt; an empty text where that is not proved.

    What other sessions committed meanwhile keeps transaction ids from proving it. But a script of one transaction that the server
    refused is rolled back as a whole.

    :param evidence: of the unfinished row, as the survey gives it, with C(state).
    """
    if evidence.get("state") == CLEAN:
        return str(evidence.get("reason") or "it left nothing")
    if evidence.get("state") != UNKNOWN or evidence.get("doubt") or not evidence.get("error_recorded"):
        return ""
    if evidence.get("named") or evidence.get("invalid_indexes") or sqlstate not in (CANCELLED, LOCK_TIMEOUT) or script is None:
        return ""
    if not is_one_message or not one_transaction(script):
        return ""
    return "the script is one transaction, and the server rolled it back (SQLSTATE %s)" % sqlstate


def backoff(attempt: int, chance: t.Callable[[], float] = random.random) -> float:
    """Seconds before the next attempt: about 0.5, 1, 2, 4, 8, at most 15, each by a third more or less."""
    return float(min(15.0, 0.5 * 2 ** (attempt - 1)) * (2 / 3 + chance() * 2 / 3))


__all__ = (
    "BLOCKER", "CANCELLED", "CHOICES", "LOCK_TIMEOUT", "MIGRATION", "WAIT", "Action", "Policy", "backoff", "judge", "longest_pause", "one_message",
    "one_transaction", "pause", "proved_clean", "worst",
)  # fmt: skip
