# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What follows an attempt that was ended because somebody waited: it is taken back in the ledger and tried again, or it is told."""

from __future__ import annotations

import dataclasses
import datetime
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evidence import ledger_xids
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._plan import Failure, parse_logs
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import UNFINISHED
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog import CANCELLED, LOCK_TIMEOUT, Action, one_message, proved_clean

POLL_SECONDS = 0.2


@dataclasses.dataclass(frozen=True)
class Blocked:
    """An attempt that ended because of locks, and left nothing.

    ``row_id``: its row in the ledger. ``waited``: it was ended while it waited for a lock, so another attempt may come through.
    """

    name: str
    row_id: str
    sqlstate: str
    message: str
    proof: str
    waited: bool


def blocked_attempt(
    found: Survey, names: t.Collection[str], failure: Failure | None, actions: t.Sequence[Action], engine: str, seen: t.Sequence[str]
) -> Blocked | None:
    """What was ended because of locks; None for any other end, and where it is not proved that nothing is left. Pure.

    :param failure: what the engine said. ``actions``: what the watchdog ended in this attempt.
    :param seen: the last statements that the migrator was seen at.
    """
    unfinished = [verdict for verdict in found.report.verdicts if verdict.verdict == UNFINISHED]
    if failure is None or len(unfinished) != 1 or unfinished[0].name not in names or unfinished[0].row is None:
        return None
    verdict, ledger_row = unfinished[0], unfinished[0].row
    said = parse_logs(ledger_row.logs)
    sqlstate = said.sqlstate or (failure.sqlstate if failure.migration == verdict.name else None)
    ended = [action for action in actions if action.what == "migration"]
    if sqlstate is None or not (sqlstate == LOCK_TIMEOUT or (sqlstate == CANCELLED and ended)):
        return None
    file = found.folder.by_name().get(verdict.name)
    script = file.sql if file else None
    whole = engine == "direct" or (script is not None and any(one_message(script, text) for text in seen or (None,)))
    proof = proved_clean(found.evidence.get(verdict.name, {}), sqlstate, script, whole)
    if not proof:
        return None
    waited = sqlstate == LOCK_TIMEOUT or all(action.waited for action in ended)
    return Blocked(verdict.name, ledger_row.id, sqlstate, said.message or failure.message, proof, waited)


def mark_rolled_back(target: Target, found: Survey, blocked: Blocked, run_id: str, lock_wait: float) -> None:
    """What migration_resolve writes for the state C(rolled_back), under Prisma's own lock.

    :raises MigrationError: ``LOCKED``, ``LEDGER_MOVED``, ``PERMISSION_DENIED``, ...
    """
    now = datetime.datetime.now(datetime.timezone.utc)
    update = sql.SQL("UPDATE {} SET rolled_back_at = %s WHERE id = %s AND finished_at IS NULL AND rolled_back_at IS NULL").format(ledger_table(target))
    with connection(target, application_name=("pgops.migrations %s" % run_id).strip(), settings={"lock_timeout": "5s"}) as conn:
        end = time.monotonic() + lock_wait
        while not (row(conn, "SELECT pg_try_advisory_lock(%s)", (PRISMA_LOCK,)) or (False,))[0]:
            if time.monotonic() >= end:
                raise MigrationError("another session holds Prisma's migration lock", code="LOCKED")
            time.sleep(POLL_SECONDS)
        with sql_errors("record %s as rolled back" % blocked.name, target):
            execute(conn, "BEGIN")
            execute(conn, sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(ledger_table(target)))
            known = {ledger_row.id for ledger_row in found.facts.rows}
            if set(ledger_xids(conn, target)) != known or execute(conn, update, (now.replace(microsecond=now.microsecond // 1000 * 1000), blocked.row_id)) != 1:
                raise MigrationError("the ledger changed while %s was looked at" % blocked.name, code="LEDGER_MOVED")
            execute(conn, "COMMIT")


def blocked_too_long(blocked: Blocked, attempts: int, blockers: t.Sequence[str], state: t.Mapping[str, t.Any]) -> MigrationError:
    """The end of it: the state is proved, the row is marked, and somebody has to make room. Pure.

    :param blockers: whom the migration waited for, as far as that was seen.
    """
    failed = {"name": blocked.name, "state": CLEAN, "sqlstate": blocked.sqlstate, "error": blocked.message}
    left = "It left nothing (%s) and is recorded as rolled back" % blocked.proof
    if blocked.waited:
        tries = "in 1 attempt" if attempts == 1 else "in %d attempts" % attempts
        whom = "; it waited for %s" % ", ".join(blockers) if blockers else ""
        text = "%s did not get its lock %s (SQLSTATE %s)%s. %s" % (blocked.name, tries, blocked.sqlstate, whom, left)
        step = "end the session that it waited for, or run again later; -e migrate_deploy_on_blocked=cancel_blocker cancels a statement in its way"
    else:
        text = "%s blocked other sessions for too long while it worked, and was ended. %s" % (blocked.name, left)
        step = "run it in a maintenance window with -e migrate_deploy_on_blocked=wait (on_blocked of migration_deploy), or split the migration"
    return MigrationError(text, code="BLOCKED_TOO_LONG", next_step=step, failed_migration=failed, sqlstate=blocked.sqlstate, attempts=attempts, **state)


__all__ = ("Blocked", "blocked_attempt", "blocked_too_long", "mark_rolled_back")
