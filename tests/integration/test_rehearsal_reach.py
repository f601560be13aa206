# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""While a copy is deployed, no client that migrates as Prisma does gets at the live database, with Prisma's lock or without."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_state import out_of_reach
from support import crashes
from support.histories import LEDGER
from support.restorepoints import execute, refused, session_count, until

SCRIPT = "CREATE TABLE astray (id int);"


@pytest.mark.parametrize("lock", [True, False], ids=["prisma's lock", "lock disabled"])
def test_who_goes_astray_waits_and_does_nothing(database: t.Any, admin: t.Any, lock: bool) -> None:
    target = database('we"ird-%d; drop' % lock)
    execute(target, LEDGER)
    conn = admin(target.dbname)

    def astray() -> int:
        return int(execute(target, "SELECT count(*) FROM pg_class WHERE relname = 'astray'")[0][0])

    with out_of_reach(target, "prisma", "r1"):
        process = crashes.start(target, "2_x", SCRIPT, lock=lock)
        assert until(lambda: execute(target, "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"))
        assert (astray(), execute(target, "SELECT count(*) FROM _prisma_migrations")[0][0]) == (0, 0), "readers are not held up"
        # As the CLI does, which is ended by the deploy's timeout.
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()
        with conn.cursor() as cursor:
            cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND wait_event_type = 'Lock'", (target.dbname,))
        assert astray() == 0
        with refused("MIGRATION_RUNNING"), out_of_reach(target, "prisma", "r2"):
            pass
    assert until(lambda: session_count(conn, target.dbname) == 0)
    assert crashes.end(crashes.start(target, "2_x", SCRIPT, lock=lock)) == 0 and astray() == 1


def test_who_writes_the_ledger_now_is_not_disturbed(database: t.Any, admin: t.Any) -> None:
    target = database()
    with out_of_reach(target, "prisma", ""):
        assert execute(target, "SELECT 1") == [(1,)], "without a ledger there is nothing to close"
    execute(target, LEDGER)
    writer = admin(target.dbname)
    writer.autocommit = False
    with writer.cursor() as cursor:
        cursor.execute("LOCK TABLE _prisma_migrations IN ROW EXCLUSIVE MODE")
    with refused("MIGRATION_RUNNING"), out_of_reach(target, "prisma", ""):
        pass
    with out_of_reach(target, "direct", ""):
        pass
    writer.rollback()
