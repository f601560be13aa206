# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import signal
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _swap
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_marker, read_settings, split_list
from ansible_collections.pgops.migrations.plugins.module_utils._restore import RestoreOptions, restore
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid, swap
from support.restorepoints import Writers, databases, execute, refused, until
from support.swaps import swapping


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


def test_a_template_is_kept_as_none_and_swapped_back(database: t.Any, admin: t.Any) -> None:
    """As a template the kept database could not be dropped."""
    target = live(database())
    cursor = admin().cursor()
    cursor.execute("ALTER DATABASE %s IS_TEMPLATE true" % target.dbname)
    swap(target, stage(target, target.dbname + "_s"), target.dbname + "_k")
    templates = "SELECT datname FROM pg_database WHERE datistemplate AND datname LIKE '%s%%'" % target.dbname
    assert execute(target, templates) == [(target.dbname,)]
    kept = target.dbname + "_k"
    done = restore(target, RestoreOptions(from_database=kept, confirm="%s %s" % (target.dbname, kept)))
    assert done["changed"] and which(target) == "live" and execute(target, templates) == [(target.dbname,)]
    cursor.execute("DROP DATABASE %s" % done["kept"])
    cursor.execute("ALTER DATABASE %s IS_TEMPLATE false" % target.dbname)


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
    for arguments in ({"kept": staging}, {"kept": "k" * 64}, {"staging": "no_such"}, {"live_oid": 1}, {"staging_oid": 1}):
        options: dict[str, t.Any] = {"staging": staging, "kept": target.dbname + "_k", **arguments}
        with refused("SWAP_REFUSED"):
            swap(target, **options)
    assert databases(admin()) == before


def test_a_failure_after_the_renames_leaves_both_names(database: t.Any, admin: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = live(database())
    staging = stage(target, target.dbname + "_s")
    before = databases(admin())
    inside: list[t.Any] = []

    def fail(conn: t.Any, *_args: t.Any) -> None:
        inside.append(conn)
        raise RuntimeError("power cut")

    monkeypatch.setattr(_swap, "_finish", fail)
    with pytest.raises(RuntimeError):
        swap(target, staging, target.dbname + "_k")
    assert inside and inside[0].closed
    assert until(lambda: databases(admin()) == before) and which(target) == "live"


def test_what_others_change_in_the_last_moment_is_carried_over(database: t.Any, admin: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = live(database())
    name, superuser = quoted(target.dbname), admin()
    superuser.cursor().execute("ALTER DATABASE %s SET work_mem = '5MB'" % name)
    staging = stage(target, target.dbname + "_s")
    rename, blocked = _swap._rename, []

    def meddle(conn: t.Any, plan: t.Any) -> t.Any:
        for statement in ("ALTER DATABASE %s SET work_mem = '9MB'", "ALTER DATABASE %s SET lock_timeout = '3s'", "COMMENT ON DATABASE %s IS 'late'"):
            superuser.cursor().execute(statement % name)
        # What lies in the row of pg_database itself nobody else can change any more.
        other = admin()
        other.cursor().execute("SET statement_timeout = '200ms'")
        for statement in ("ALTER DATABASE %s CONNECTION LIMIT 3", "ALTER DATABASE %s ALLOW_CONNECTIONS false", "GRANT TEMPORARY ON DATABASE %s TO PUBLIC"):
            with pytest.raises(psycopg2.errors.QueryCanceled):
                other.cursor().execute(statement % name)
            blocked.append(statement)
        return rename(conn, plan)

    monkeypatch.setattr(_swap, "_rename", meddle)
    done = swap(target, staging, target.dbname + "_k")
    found = read_settings(superuser, done.live_oid)
    assert done.attempts == 1 and len(blocked) == 3
    assert found["settings"] == [[None, "work_mem", "9MB"], [None, "lock_timeout", "3s"]] and found["comment"] == "late"
    assert (found["connection_limit"], found["allow_connections"]) == (-1, True)
    assert (read_marker(read_settings(superuser, done.kept_oid)["comment"]) or {})["kind"] == "kept"


def test_a_swap_that_was_done_is_found_done(database: t.Any, admin: t.Any) -> None:
    target = live(database())
    staging, kept = stage(target, target.dbname + "_s"), target.dbname + "_k"
    oids = {"live_oid": databases(admin())[target.dbname][0], "staging_oid": databases(admin())[staging][0]}
    first = swap(target, staging, kept, **oids)
    before = databases(admin())
    again = swap(target, staging, kept, **oids)
    assert (again.live_oid, again.kept_oid, again.attempts) == (first.live_oid, first.kept_oid, 0) and databases(admin()) == before
    with refused("SWAP_REFUSED"):
        swap(target, staging, kept)


def test_autovacuum_in_the_way_is_waited_for(database: t.Any, admin: t.Any) -> None:
    """The server sends it away by itself; a worker in staging counts as well."""
    target = live(database())
    staging, kept = stage(target, target.dbname + "_s"), target.dbname + "_k"
    execute(target, "CREATE TABLE big AS SELECT g FROM generate_series(1, 300000) g", dbname=staging)
    superuser = admin()
    cursor = superuser.cursor()
    for setting in ("autovacuum = on", "autovacuum_naptime = '1s'", "autovacuum_vacuum_cost_delay = '100ms'", "autovacuum_vacuum_cost_limit = 1"):
        cursor.execute("ALTER SYSTEM SET %s" % setting)
    cursor.execute("SELECT pg_reload_conf()")
    try:
        query = "SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'autovacuum worker'"

        def working() -> bool:
            cursor.execute(query, (staging,))
            return bool(cursor.fetchone()[0])

        assert until(working, 20), "autovacuum came"
        done = swap(target, staging, kept)
        assert done.attempts == 1 and which(target) == "staging"
        assert done.seconds < 1.0
    finally:
        for name in ("autovacuum", "autovacuum_naptime", "autovacuum_vacuum_cost_delay", "autovacuum_vacuum_cost_limit"):
            cursor.execute("ALTER SYSTEM RESET %s" % name)
        cursor.execute("SELECT pg_reload_conf()")


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
    child = swapping(target, staging, target.dbname + "_k", "swap:renamed")
    try:
        assert until(lambda: pathlib.Path("/proc/%d/stat" % child.pid).read_text().split()[2] == "T")
        started = time.monotonic()
        assert which(target) == "live"
        assert time.monotonic() - started < 4, "idle_in_transaction_session_timeout gives the name back"
    finally:
        os.kill(child.pid, signal.SIGCONT)
    out, _err = child.communicate(timeout=30)
    assert json.loads(out)["attempts"] == 2, "it notices, and the second try succeeds"
    assert which(target) == "staging"
