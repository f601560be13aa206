# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A way back to a snapshot goes before a drill of it."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _drill
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._copy import CopyOptions, copy
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import apply_settings, read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._drill import DrillOptions, choose, drill_point
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name
from ansible_collections.pgops.migrations.plugins.module_utils._restore import RestoreOptions
from ansible_collections.pgops.migrations.plugins.module_utils._restore_loss import loss_to_sibling
from ansible_collections.pgops.migrations.plugins.module_utils._swap import swap
from integration.test_swap import quoted
from support.restorepoints import databases, execute, filled, refused, until

COPYING = """
SELECT a.application_name FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.mode = 'ShareLock' AND l.granted AND l.objid = %s
"""


class Copying:
    """A CREATE DATABASE of this name that does not come to its end, as another transaction has taken its name and may give it back."""

    def __init__(self, conn: t.Any, spare: str, name: str, work: t.Callable[[], t.Any]) -> None:
        self.conn, self.work, self.result = conn, work, t.cast(t.Any, None)
        conn.autocommit = False
        conn.cursor().execute("ALTER DATABASE %s RENAME TO %s" % (quoted(spare), quoted(name)))
        self.thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        try:
            self.result = self.work()
        except MigrationError as error:
            self.result = error

    def __enter__(self) -> Copying:
        self.thread.start()
        return self

    def __exit__(self, *_args: object) -> None:
        self.conn.rollback()
        self.thread.join(30)


@pytest.fixture
def taken(database: t.Any) -> tuple[t.Any, dict[str, t.Any], str]:
    """A database, its snapshot, and another database."""
    target = filled(database())
    made = copy(target, CopyOptions(verify=True, run_id="r1", strategy="wal_log"))["snapshot"]
    execute(target, "DELETE FROM notes")
    return target, made, database().dbname


def copiers(conn: t.Any, oid: int) -> list[str]:
    with conn.cursor() as cursor:
        cursor.execute(COPYING, (oid,))
        return [str(name) for (name,) in cursor.fetchall()]


def test_a_way_back_does_not_wait_for_a_drill(taken: t.Any, admin: t.Any, tmp_path: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target, made, spare = taken
    monkeypatch.setattr(_drill, "new_id", lambda: "20261122T120000Z-abcdef")
    point = choose(target, str(tmp_path), made["name"])
    conn, before = admin(), set(databases(admin()))

    def drill() -> t.Any:
        return drill_point(target, point, DrillOptions(run_id="nightly"))

    with Copying(admin(), spare, derived_name(target.dbname, "drill", "20261122T120000Z-abcdef"), drill) as busy:
        assert until(lambda: copiers(conn, made["oid"])) == ["pgops.migrations drill nightly"], busy.result
        options = RestoreOptions(from_database=made["name"])
        # To look at the loss changes nothing, neither for the drill, and does not wait for it.
        began = time.monotonic()
        loss, _equal, _print = loss_to_sibling(target, made["name"], options)
        assert loss["known"] is False and "being copied by pid" in loss["reason"] and "drill nightly" in loss["reason"]
        # A rehearsal of the properties, in a session without a limit, does not wait for it either.
        with connection(target, "postgres") as other, refused("SWAP_REFUSED") as caught:
            other.autocommit = False
            settings = read_settings(other, databases(admin())[target.dbname][0])
            assert apply_settings(other, made["name"], made["oid"], settings, comment=False) == []
            apply_settings(other, made["name"], made["oid"], settings)
        assert "drill nightly" in caught[0].msg and "pg_cancel_backend" in caught[0].next_step
        assert copiers(conn, made["oid"]) and time.monotonic() - began < 8
        done = swap(target, made["name"], target.dbname + "__k")
        busy.thread.join(10)
        assert not busy.thread.is_alive() and done.attempts == 1
    assert execute(target, "SELECT count(*) FROM notes") == [(2000,)]
    error = busy.result
    assert isinstance(error, MigrationError) and error.code == "DRILL_IMPOSSIBLE" and "way back" in error.msg and error.facts["tried"] is False, error
    assert set(databases(conn)) - before == {target.dbname + "__k"}, "nothing of the drill is left"


def test_another_copy_is_named(taken: t.Any, admin: t.Any) -> None:
    target, made, spare = taken
    conn, server = admin(), databases(admin())
    theirs = admin()

    def work() -> None:
        theirs.cursor().execute("SET application_name = 'their copy'")
        with contextlib.suppress(Exception):
            theirs.cursor().execute("CREATE DATABASE %s TEMPLATE %s" % (quoted(target.dbname + "_theirs"), quoted(made["name"])))

    with Copying(admin(), spare, target.dbname + "_theirs", work):
        assert until(lambda: copiers(conn, made["oid"]))
        with refused("SWAP_FAILED") as caught:
            swap(target, made["name"], target.dbname + "_k", attempts=1, patience=0.2)
        assert "being copied by pid %d" % theirs.info.backend_pid in caught[0].msg and "their copy" in caught[0].msg
        assert [each["pid"] for each in caught[0].facts["copying"]] == [theirs.info.backend_pid] and "pg_cancel_backend" in caught[0].next_step
        assert copiers(conn, made["oid"]) == ["their copy"], "only a drill is cancelled"
        theirs.cancel()
    assert databases(conn) == server
