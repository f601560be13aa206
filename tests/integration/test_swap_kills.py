# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The swap under writers, and killed at every step, on every PostgreSQL that the tests have."""

from __future__ import annotations

import contextlib
import os
import signal
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_marker, read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid, swap
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from conftest import PASSWORD, TestCluster
from support.restorepoints import Writers, execute, until
from support.swaps import stopped, swapping

from tools.pgserver import Cluster, PgServerError, find_programs

#: How many swaps are done under writers: all of them on the server of the other tests, some on the others.
SWAPS = {"own": 20, "wheel": 6, "wheel18": 6}
#: Where the swap is stopped, and whether the databases have changed their names by then.
POINTS = {"swap:prepared": False, "evict:locked": False, "swap:renamed": False, "swap:committed": True}
#: A killed backend makes the server end all sessions and recover; an ended session is gone alone.
VICTIMS = ("client", "renaming backend", "watching backend", "postmaster")
#: The others' share: each point and each victim.
SHARE = {("swap:prepared", "postmaster"), ("evict:locked", "client"), ("swap:renamed", "renaming backend"), ("swap:committed", "watching backend")}
CASES = [("own", point, victim) for point in POINTS for victim in VICTIMS] + [("own", "evict:locked", "watching session")]
CASES += [(source, point, victim) for source in ("wheel", "wheel18") for point, victim in sorted(SHARE)]
# The renaming session's last statement, whatever it was doing.
_BACKENDS = """
SELECT pid FROM pg_stat_activity WHERE application_name = 'pgops.migrations swap' AND (query ~ '^(ALTER|REVOKE|COMMENT|COMMIT)') = %s
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[t.Callable[[str], Cluster]]:
    """Servers of their own, as their processes are killed; each is started when it is first asked for."""
    started: dict[str, Cluster] = {}

    def give(name: str) -> Cluster:
        source = None if name == "own" else name
        try:
            programs = find_programs(source=source)
        except PgServerError as error:
            pytest.skip(str(error))
        if source and programs.version[0] == find_programs().version[0]:
            pytest.skip("the other tests run on PostgreSQL %d already" % programs.version[0])
        if name not in started:
            started[name] = Cluster(tmp_path_factory.mktemp(name), fast=True, source=source, temporary=True)
        started[name].start()
        return started[name]

    with contextlib.ExitStack() as stack:
        stack.callback(lambda: [each.remove() for each in started.values()])
        yield give


class Pair:
    """A live and a staging database with their owner, and what belongs to live."""

    def __init__(self, server: Cluster) -> None:
        self.server = server
        self.query("DROP DATABASE IF EXISTS app WITH (FORCE)", "DROP DATABASE IF EXISTS app_s WITH (FORCE)", "DROP DATABASE IF EXISTS app_k WITH (FORCE)")
        self.query("DROP ROLE IF EXISTS app_owner", "DROP ROLE IF EXISTS app_reader")
        with TestCluster(server).admin() as conn, conn.cursor() as cursor:
            cursor.execute("CREATE ROLE app_owner LOGIN CREATEDB PASSWORD %s; CREATE ROLE app_reader; GRANT pg_signal_backend TO app_owner", (PASSWORD,))
        self.query("CREATE DATABASE app OWNER app_owner", "CREATE DATABASE app_s OWNER app_owner")
        self.query(
            "ALTER DATABASE app CONNECTION LIMIT 30",
            "ALTER DATABASE app SET search_path = \"$user\", public, 'odd, name'",
            "ALTER ROLE app_owner IN DATABASE app SET work_mem = '7MB'",
            "REVOKE ALL ON DATABASE app FROM PUBLIC",
            "GRANT CONNECT ON DATABASE app TO app_reader WITH GRANT OPTION",
            "COMMENT ON DATABASE app IS 'the real one'",
        )
        self.target = Target(dbname="app", host="127.0.0.1", port=server.port, user="app_owner", password=PASSWORD)
        for dbname in ("app", "app_s"):
            execute(self.target, "CREATE TABLE public.acked (key text)", dbname=dbname)
        self.oids = {"live_oid": self.oid("app"), "staging_oid": self.oid("app_s")}
        self.settings = self.settings_of("app")

    def query(self, *statements: str) -> list[tuple[t.Any, ...]]:
        conn = TestCluster(self.server).admin()
        try:
            with conn.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return list(cursor.fetchall()) if cursor.description else []
        finally:
            conn.close()

    def oid(self, name: str) -> int:
        conn = TestCluster(self.server).admin()
        try:
            return database_oid(conn, name) or 0
        finally:
            conn.close()

    def settings_of(self, name: str) -> dict[str, t.Any]:
        conn = TestCluster(self.server).admin()
        try:
            return read_settings(conn, database_oid(conn, name) or 0)
        finally:
            conn.close()

    def swapped(self) -> bool:
        """Whether the names were exchanged; all else than before or after fails here."""
        names = {name: self.oid(name) for name in ("app", "app_s", "app_k")}
        before = {"app": self.oids["live_oid"], "app_s": self.oids["staging_oid"], "app_k": 0}
        after = {"app": self.oids["staging_oid"], "app_s": 0, "app_k": self.oids["live_oid"]}
        assert names in (before, after)
        assert self.settings_of("app") == self.settings, "owner, rights, limit, settings, comment are those of live"
        assert execute(self.target, "SELECT 1") == [(1,)], "and its owner can enter"
        return names == after

    def rows(self) -> set[str]:
        """What the writers find in both databases."""
        found: set[str] = set()
        for name in ("app", "app_s", "app_k"):
            if self.oid(name):
                self.query('ALTER DATABASE "%s" ALLOW_CONNECTIONS true' % name)
                found |= {key for (key,) in execute(self.target, "SELECT key FROM public.acked", dbname=name)}
        return found


@pytest.mark.parametrize("name", list(SWAPS))
def test_no_acknowledged_row_and_no_property_is_lost(server: t.Callable[[str], Cluster], name: str) -> None:
    """The same two databases change places again and again while eight clients write as fast as they can."""
    pair, count = Pair(server(name)), SWAPS[name]
    waiting, done = "app_s", []
    with Writers(pair.target, 8, "public.acked") as writers:
        for number in range(count):
            before = len(writers.rows())
            done.append(swap(pair.target, waiting, "app_k" if waiting == "app_s" else "app_s"))
            waiting = "app_k" if waiting == "app_s" else "app_s"
            assert until(lambda seen=before: len(writers.rows()) > seen + 40), "the clients are back after swap %d" % number
    assert writers.rows() - pair.rows() == set(), "an acknowledged row is lost"
    assert pair.settings_of("app") == pair.settings
    assert (read_marker(pair.settings_of(waiting)["comment"]) or {})["kind"] == "kept"
    assert [each.attempts for each in done] == [1] * count and all(each.terminated >= 1 for each in done)
    assert max(writers.gaps) < 1.0, writers.gaps
    # The server looks every 100 ms whether the sessions have left; who wakes it need not wait so long.
    assert min(each.seconds for each in done) < 0.09


@pytest.mark.parametrize(("name", "point", "victim"), CASES)
def test_killed_at_every_step(server: t.Callable[[str], Cluster], name: str, point: str, victim: str) -> None:
    pair = Pair(server(name))
    # As long as it lives, the rename waits.
    client = psycopg2.connect(host="127.0.0.1", port=pair.server.port, user="app_owner", password=PASSWORD, dbname="app")
    process = swapping(pair.target, "app_s", "app_k", point, **pair.oids)
    try:
        assert stopped(process), process.communicate(timeout=20)
        kill(pair, process, victim)
        if victim != "watching session":
            assert until(lambda: answers(pair), 30), "the server is back"
            assert pair.swapped() == POINTS[point], "all of it or nothing, while the client still knows nothing"
        if victim != "client":
            os.kill(process.pid, signal.SIGCONT)
        out, err = process.communicate(timeout=60)
        assert process.returncode == (-signal.SIGKILL if victim == "client" else 0), err
        assert victim == "client" or pair.swapped(), "it says so, so it is so: %s" % out
        swap(pair.target, "app_s", "app_k", **pair.oids)
        assert pair.swapped(), "the rerun converges"
        assert not pair.settings_of("app_k")["allow_connections"]
    finally:
        client.close()
        process.kill()
        process.wait()


def kill(pair: Pair, process: t.Any, victim: str) -> None:
    """Kill a process, or end a session; a postmaster is started again."""
    if victim == "client":
        process.kill()
        # Its sessions end with it; until then the rename may hold its lock.
        assert until(lambda: not pair.query("SELECT pid FROM pg_stat_activity WHERE application_name = 'pgops.migrations swap'")), "nobody waits for it"
    elif victim == "postmaster":
        pid = pair.server.pid
        os.kill(pid, signal.SIGKILL)
        assert until(lambda: pair.server.status() is None)
        pair.server.start()
    else:
        conn = TestCluster(pair.server).admin()
        cursor = conn.cursor()
        cursor.execute(_BACKENDS, (victim == "renaming backend",))
        [(pid,)] = cursor.fetchall()
        if victim == "watching session":
            cursor.execute("SELECT pg_terminate_backend(%s)", (pid,))
            conn.close()
            return
        os.kill(pid, signal.SIGKILL)
        # The postmaster then ends all sessions and recovers.
        assert until(lambda: fails(conn)), "the server restarts"


def fails(conn: t.Any) -> bool:
    try:
        conn.cursor().execute("SELECT 1")
    except psycopg2.Error:
        return True
    return False


def answers(pair: Pair) -> bool:
    try:
        pair.query("SELECT 1")
    except psycopg2.Error:
        time.sleep(0.1)
        return False
    return True
