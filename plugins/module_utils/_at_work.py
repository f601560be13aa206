# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Who is at work in a database, asked before anything is read of it: a way back that is chosen meanwhile is of a state that goes by."""

from __future__ import annotations

import contextlib
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._lock import POLL_SECONDS, holders, maintenance_connection, run_of
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

NEXT_STEP = "wait for its end, then run the same again"


def demand_free(target: Target, maintenance_db: str = "postgres", wait: float = 0.0, run_id: str = "") -> None:
    """No other run of ours may be at work in the target's database.

    :param wait: seconds until it has to be so.
    :raises MigrationError: ``LOCKED`` with C(running).
    """
    with contextlib.ExitStack() as stack:
        try:
            conn = stack.enter_context(contextlib.closing(maintenance_connection(target, maintenance_db, run_id)))
        except MigrationError:
            # Whoever takes the lock says so; what only reads can do without.
            return
        end = time.monotonic() + wait
        while True:
            found = [each for each in holders(conn, target.dbname) if not run_id or each["run_id"] != run_id]
            if not found:
                return
            if time.monotonic() >= end:
                break
            time.sleep(POLL_SECONDS)
    raise MigrationError("%s: %s" % (target.label(), told(found[0])), code="LOCKED", next_step=NEXT_STEP, running=found[0])


def demand_no_migration(target: Target, sessions: t.Sequence[t.Mapping[str, t.Any]]) -> None:
    """No session of whatever program may be applying migrations.

    :param sessions: that hold Prisma's lock, see ``_ledger.Facts.lock_holders``.
    :raises MigrationError: ``MIGRATION_RUNNING`` with C(running).
    """
    if sessions:
        name = str(sessions[0].get("application_name") or "")
        running = dict(sessions[0], run_id=run_of(name), seconds=sessions[0].get("age_seconds"))
        text = "%s: migrations are being applied, %s" % (target.label(), told(running))
        raise MigrationError(text, code="MIGRATION_RUNNING", next_step=NEXT_STEP, running=running)


def told(running: t.Mapping[str, t.Any]) -> str:
    """Who it is and since when; the run where it is one of ours, else the program. Pure."""
    name = str(running.get("application_name") or "")
    who = "the run %s" % running["run_id"] if running.get("run_id") else name or "a session"
    since = "" if running.get("seconds") is None else ", for %d s" % running["seconds"]
    return "%s is at work (pid %s, user %s%s)" % (who, running.get("pid"), running.get("user"), since)


__all__ = ("NEXT_STEP", "demand_free", "demand_no_migration", "told")
