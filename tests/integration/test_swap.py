# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _swap
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_marker, read_settings, split_list
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid, swap
from support.restorepoints import Writers, databases, execute, refused, until


def quoted(name: str) -> str:
    return '"%s"' % name.replace('"', '""')


def stage(target: t.Any, name: str) -> str:
    """A staging database with a table that tells it from the live one."""
    execute(target, "CREATE DATABASE %s TEMPLATE template0" % quoted(name), dbname="postgres")
    execute(target, "CREATE TABLE which AS SELECT 'staging' AS which", "CREATE TABLE acked (key text)", dbname=name)
    return name


def live(target: t.Any) -> t.Any:
    execute(target, "CREATE TABLE which AS SELECT 'live' AS which", "CREATE TABLE acked (key text)")
    return target


def which(target: t.Any) -> str:
    return str(execute(target, "SELECT which FROM which")[0][0])


def open_kept(admin: t.Any, kept: str) -> None:
    admin().cursor().execute("ALTER DATABASE %s ALLOW_CONNECTIONS true" % quoted(kept))


@pytest.mark.parametrize(
    ("value", "elements"),
    [('"$user", public', ["$user", "public"]), ("", []), ('""', [""]), ("a,b", ["a", "b"]), ('"a""b", "c, d"', ['a"b', "c, d"]), ("Mixed , x", ["Mixed", "x"])],
)
def test_list_settings_are_taken_apart(value: str, elements: list[str]) -> None:
    assert split_list(value) == elements


def test_everything_that_belongs_to_the_database_is_carried_over(cluster: t.Any, database: t.Any, admin: t.Any) -> None:
    target = live(database())
    name, other = quoted(target.dbname), target.user + "_reader"
    superuser = admin()
    cursor = superuser.cursor()
    cursor.execute('CREATE ROLE "%s"' % other)
    try:
        for statement in (
            "ALTER DATABASE {db} CONNECTION LIMIT 17",
            "ALTER DATABASE {db} SET search_path = \"$user\", 'odd, name', public",
            "ALTER DATABASE {db} SET work_mem = '7MB'",
            "ALTER DATABASE {db} SET app.tenant = 'it''s \\ here'",
            "ALTER DATABASE {db} SET application_name = ''",
            "REVOKE ALL ON DATABASE {db} FROM PUBLIC",
            "GRANT CONNECT ON DATABASE {db} TO {other} WITH GRANT OPTION",
            "GRANT TEMPORARY ON DATABASE {db} TO {other}",
            "COMMENT ON DATABASE {db} IS 'the \"real\" one \\ é'",
        ):
            cursor.execute(statement.format(db=name, other=quoted(other)))
        if cluster.major >= 15:
            # Without this only a superuser may set a parameter that no extension has defined.
            cursor.execute("GRANT SET ON PARAMETER app.tenant TO %s" % target.user)
        runner = target if cluster.major >= 15 else cluster.superuser_target(target.dbname)
        execute(target, "ALTER ROLE CURRENT_USER IN DATABASE %s SET statement_timeout = '5min'" % name)
        before = read_settings(superuser, database_oid(superuser, target.dbname) or 0)
        done = swap(runner, stage(target, target.dbname + "_s"), target.dbname + "_k", run_id="r5", at="now")
        after = read_settings(superuser, database_oid(superuser, target.dbname) or 0)
        assert after == before and len(before["settings"]) == 5 and len(before["acl"]) == 5
        assert which(target) == "staging"
        kept = databases(superuser)[target.dbname + "_k"]
        assert kept[0] == done.kept_oid and kept[2] is False
        assert (read_marker(kept[5]) or {}) == {"kind": "kept", "database": target.dbname, "run_id": "r5", "at": "now"}
        cursor.execute("SELECT count(*) FROM pg_db_role_setting WHERE setdatabase = %s", (done.live_oid,))
        assert cursor.fetchone() == (2,)
    finally:
        cursor.execute('DROP OWNED BY "%s"' % other)
        if cluster.major >= 15:
            cursor.execute("REVOKE SET ON PARAMETER app.tenant FROM %s" % target.user)
        for found in databases(superuser):
            if found.startswith(target.dbname):
                cursor.execute("REVOKE ALL ON DATABASE %s FROM %s" % (quoted(found), quoted(other)))
        cursor.execute('DROP ROLE "%s"' % other)


def test_swapping_back_is_the_same_call(database: t.Any, admin: t.Any) -> None:
    target = live(database())
    before = databases(admin())[target.dbname]
    swap(target, stage(target, target.dbname + "_s"), target.dbname + "_k")
    assert which(target) == "staging"
    swap(target, target.dbname + "_k", target.dbname + "_failed")
    assert which(target) == "live"
    after = databases(admin())
    assert after[target.dbname][0] == before[0] and after[target.dbname][2] is True and after[target.dbname][5] is None
    assert after[target.dbname + "_failed"][2] is False
    assert target.dbname + "_k" not in after


@pytest.mark.parametrize("role", ["owner", "superuser"])
def test_clients_at_full_speed(cluster: t.Any, database: t.Any, admin: t.Any, role: str) -> None:
    target = live(database())
    staging, kept = stage(target, target.dbname + "_s"), target.dbname + "_k"
    runner = target if role == "owner" else cluster.superuser_target(target.dbname)
    with Writers(target, 8) as writers:
        time.sleep(0.2)
        done = swap(runner, staging, kept)
        assert until(lambda: execute(target, "SELECT count(DISTINCT split_part(key, '-', 1)) FROM acked")[0][0] == 8), "all came back"
    assert which(target) == "staging"
    open_kept(admin, kept)
    found = {
        row[0] for dbname in (target.dbname, kept) for row in execute(target, "SELECT key FROM acked", **({} if dbname == target.dbname else {"dbname": kept}))
    }
    assert writers.rows() - found == set(), "an acknowledged row is lost"
    assert writers.rows()
    assert done.attempts == 1 and done.terminated >= 8
    assert max(writers.gaps) < 1.0, writers.gaps
    assert done.seconds < 1.0


def test_a_session_that_may_not_be_ended_is_named(database: t.Any, admin: t.Any) -> None:
    target = live(database())
    staging = stage(target, target.dbname + "_s")
    superuser = admin(target.dbname)
    before = databases(admin())
    started = time.monotonic()
    with refused("SWAP_FAILED") as caught:
        swap(target, staging, target.dbname + "_k", attempts=2, patience=0.2)
    assert time.monotonic() - started < 3, "live clients are not made to wait for what cannot succeed"
    assert [(session["pid"], session["may_end"]) for session in caught[0].facts["sessions"]] == [(superuser.info.backend_pid, False)]
    assert str(superuser.info.backend_pid) in caught[0].msg
    assert databases(admin()) == before and which(target) == "live"


def test_a_prepared_transaction_rolls_back_after_all_tries(database: t.Any, admin: t.Any) -> None:
    target = live(database())
    staging = stage(target, target.dbname + "_s")
    before = databases(admin())
    execute(target, "BEGIN", "CREATE TABLE prepared ()", "PREPARE TRANSACTION 'swap test'")
    with refused("SWAP_FAILED") as caught:
        swap(target, staging, target.dbname + "_k", attempts=1)
    assert caught[0].facts["sqlstate"] is None or caught[0].facts["sqlstate"] == "55006"
    assert databases(admin()) == before
    execute(target, "ROLLBACK PREPARED 'swap test'")


def test_what_is_not_as_expected_is_refused(database: t.Any, admin: t.Any) -> None:
    target = live(database())
    staging = stage(target, target.dbname + "_s")
    before = databases(admin())
    for arguments in ({"kept": staging}, {"staging": "no_such"}, {"live_oid": 1}, {"staging_oid": 1}):
        options: dict[str, t.Any] = {"staging": staging, "kept": target.dbname + "_k", **arguments}
        with refused("SWAP_REFUSED"):
            swap(target, **options)
    assert databases(admin()) == before


def test_a_failure_between_the_renames_leaves_both_names(database: t.Any, admin: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = live(database())
    staging = stage(target, target.dbname + "_s")
    before = databases(admin())
    inside: list[t.Any] = []

    def fail(conn: t.Any, plan: t.Any) -> None:
        inside.append(conn)
        raise RuntimeError("power cut")

    monkeypatch.setattr(_swap, "_fence", fail)
    with pytest.raises(RuntimeError):
        swap(target, staging, target.dbname + "_k")
    assert inside and inside[0].closed
    assert until(lambda: databases(admin()) == before) and which(target) == "live"


class LostReply:
    """A connection whose answer to COMMIT never comes."""

    def __init__(self, conn: t.Any, commits: bool) -> None:
        self._conn, self._commits = conn, commits

    def __getattr__(self, name: str) -> t.Any:
        return getattr(self._conn, name)

    def __setattr__(self, name: str, value: t.Any) -> None:
        if name.startswith("_"):
            object.__setattr__(self, name, value)
        else:
            setattr(self._conn, name, value)

    def commit(self) -> None:
        if self._commits:
            self._conn.commit()
        self._conn.close()
        raise psycopg2.OperationalError("server closed the connection unexpectedly")


@pytest.mark.parametrize("commits", [True, False])
def test_a_lost_answer_to_commit_is_decided_by_oid(database: t.Any, admin: t.Any, monkeypatch: pytest.MonkeyPatch, commits: bool) -> None:
    target = live(database())
    staging = stage(target, target.dbname + "_s")
    oid = databases(admin())[staging][0]
    lost: list[int] = []

    def connecting(*args: t.Any, **kwargs: t.Any) -> t.Any:
        conn = connect(*args, **kwargs)
        if lost:
            return conn
        lost.append(1)
        return LostReply(conn, commits)

    monkeypatch.setattr(_swap, "connect", connecting)
    done = swap(target, staging, target.dbname + "_k")
    assert done.attempts == (1 if commits else 2), "a swap that was done is not done again"
    assert which(target) == "staging" and databases(admin())[target.dbname][0] == oid == done.live_oid


def test_a_stopped_process_does_not_stop_the_clients(database: t.Any, admin: t.Any) -> None:
    target = live(database())
    staging = stage(target, target.dbname + "_s")
    code = (
        "import os, signal, sys\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils import _swap\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url\n"
        "fence, stops = _swap._fence, []\n"
        "def stop(conn, plan):\n"
        "    if not stops:\n"
        "        stops.append(1)\n"
        "        os.kill(os.getpid(), signal.SIGSTOP)\n"
        "    fence(conn, plan)\n"
        "_swap._fence = stop\n"
        "print(_swap.swap(parse_url(sys.argv[1]), sys.argv[2], sys.argv[3]).attempts)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, target.prisma_url(), staging, target.dbname + "_k"], stdout=subprocess.PIPE, text=True)
    try:
        assert until(lambda: pathlib.Path("/proc/%d/stat" % child.pid).read_text().split()[2] == "T")
        started = time.monotonic()
        assert which(target) == "live"
        assert time.monotonic() - started < 4, "idle_in_transaction_session_timeout gives the name back"
    finally:
        os.kill(child.pid, signal.SIGCONT)
    out, _err = child.communicate(timeout=30)
    assert out.strip() == "2", "it notices, and the second try succeeds"
    assert which(target) == "staging"
