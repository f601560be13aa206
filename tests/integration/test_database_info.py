# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Facts about real databases."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import socket
import threading
import time
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _database_facts
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute
from ansible_collections.pgops.migrations.plugins.module_utils._database_facts import PRISMA_LOCK, gather, proxy, slots
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

Make = t.Callable[..., Target]


def facts(target: Target) -> dict[str, t.Any]:
    with connection(target, read_only=True) as conn:
        return gather(conn, target)


def test_a_quiet_database(module: t.Any, database: Make) -> None:
    target = database('we"ird-db; drop %d' % os.getpid())
    found = module("database_info", target)
    assert not found.get("failed"), found
    assert found["changed"] is False
    assert (found["exists"], found["primary"], found["identity"]["database"]) == (True, True, target.dbname)
    assert found["sessions"] == {"client": 0, "active": 0, "idle_in_transaction": 0, "unknown": 0}
    assert found["prepared_transactions"] == found["logical_slots"] == found["subscriptions"] == found["migration_sessions"] == []
    assert found["proxy"] == {"verdict": "none", "evidence": []}
    assert found["privileges"] == {
        "schema_exists": True,
        "create_in_schema": True,
        "create_schema": True,
        "createdb": True,
        "owner": True,
        "signal_sessions": True,
        "see_sessions": False,
        "bypass_row_security": False,
    }


def test_a_missing_database(module: t.Any, database: Make) -> None:
    found = module("database_info", dataclasses.replace(database(), dbname="nowhere"))
    assert (found["failed"], found["code"]) == (True, "DATABASE_MISSING")


def test_another_role_and_a_missing_schema(cluster: t.Any, database: Make) -> None:
    mine, other = database(), database(createdb=False)
    found = facts(dataclasses.replace(other, dbname=mine.dbname, schema="nowhere"))["privileges"]
    assert [name for name, value in found.items() if value] == ["signal_sessions"]
    found = facts(cluster.superuser_target(mine.dbname))["privileges"]
    assert all(found.values())


def test_what_stands_in_the_way(admin: t.Any, database: Make) -> None:
    target, other = database(), database()
    conn, elsewhere = admin(target.dbname), admin(other.dbname)
    # First of all, for it waits for every transaction that writes.
    execute(conn, "SELECT pg_create_logical_replication_slot('slot_%d', 'test_decoding')" % os.getpid())
    for each, gid in ((conn, "it's mine"), (elsewhere, "not mine")):
        execute(each, "CREATE TABLE t (a int); BEGIN; INSERT INTO t VALUES (1)")
        execute(each, "PREPARE TRANSACTION %s", (gid,))
    try:
        found = facts(target)
        assert [(each["gid"], each["seconds"] >= 0) for each in found["prepared_transactions"]] == [("it's mine", True)]
        assert [(each["name"], each["plugin"], each["active"]) for each in found["logical_slots"]] == [("slot_%d" % os.getpid(), "test_decoding", False)]
        assert facts(other)["logical_slots"] == []
    finally:
        execute(conn, "SELECT pg_drop_replication_slot('slot_%d')" % os.getpid())
        execute(conn, "ROLLBACK PREPARED 'it''s mine'")
        execute(elsewhere, "ROLLBACK PREPARED 'not mine'")


def test_sessions_of_the_same_role_and_of_others(cluster: t.Any, admin: t.Any, database: Make) -> None:
    target = database()
    with connection(target) as busy, connection(target):
        execute(busy, "BEGIN; SELECT 1")
        hidden = admin(target.dbname)
        execute(hidden, "BEGIN; SELECT 1")
        assert facts(target)["sessions"] == {"client": 3, "active": 0, "idle_in_transaction": 1, "unknown": 1}
        assert facts(cluster.superuser_target(target.dbname))["sessions"] == {"client": 3, "active": 0, "idle_in_transaction": 2, "unknown": 0}


def test_who_migrates_now(database: Make) -> None:
    target, other = database(), database()
    with contextlib.ExitStack() as stack:
        holder, waiter, away, unlike = (stack.enter_context(connection(each, application_name="m")) for each in (target, target, other, target))
        execute(holder, "SELECT pg_advisory_lock(%s)", (PRISMA_LOCK,))
        execute(away, "SELECT pg_advisory_lock(%s)", (PRISMA_LOCK,))
        execute(unlike, "SELECT pg_advisory_lock(0, %s)", (PRISMA_LOCK,))
        thread = threading.Thread(daemon=True, target=execute, args=(waiter, "SELECT pg_advisory_lock(%s)", (PRISMA_LOCK,)))
        thread.start()
        end = time.monotonic() + 10
        found: list[dict[str, t.Any]] = []
        while len(found) < 2 and time.monotonic() < end:
            found = facts(target)["migration_sessions"]
        assert [(each["pid"], each["granted"], each["application_name"]) for each in found] == [
            (holder.info.backend_pid, True, "m"),
            (waiter.info.backend_pid, False, "m"),
        ]
        assert all("query" not in each and each["seconds"] >= 0 for each in found)
        execute(holder, "SELECT pg_advisory_unlock(%s)", (PRISMA_LOCK,))
        thread.join()


def test_limits_of_role_and_database(admin: t.Any, database: Make) -> None:
    target = database()
    free = facts(target)["connection_slots"]["free"]
    assert free > 10
    conn = admin()
    execute(conn, 'ALTER ROLE "%s" CONNECTION LIMIT 3' % target.user)
    assert facts(target)["connection_slots"]["free"] == 2
    execute(conn, 'ALTER DATABASE "%s" CONNECTION LIMIT 1' % target.dbname)
    assert facts(target)["connection_slots"]["free"] == 0


@pytest.mark.parametrize(
    ("limits", "used", "free"),
    [
        ((100, 3, 0, False, -1, -1), (10, 5, 5), 87),
        ((100, 3, 5, False, -1, -1), (10, 5, 5), 82),
        ((100, 3, 5, True, 1, 1), (10, 5, 5), 90),
        ((100, 3, 0, False, 6, -1), (10, 5, 5), 1),
        ((100, 3, 0, False, -1, 5), (10, 5, 5), 0),
        ((20, 3, 0, False, -1, -1), (20, 5, 5), 0),
    ],
)
def test_slots(limits: tuple[int, int, int, bool, int, int], used: tuple[int, int, int], free: int) -> None:
    assert slots(*limits, used=used[0], of_database=used[1], of_role=used[2])["free"] == free


@contextlib.contextmanager
def forwarder(port: int) -> t.Iterator[int]:
    """A port that leads to another one, as a tunnel or a proxy does."""

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _address = listener.accept()
                server = socket.create_connection(("127.0.0.1", port))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield listener.getsockname()[1]


def test_a_translated_address_is_possibly_a_proxy(cluster: t.Any, database: Make) -> None:
    with forwarder(cluster.port) as port:
        found = facts(dataclasses.replace(database(), port=port))["proxy"]
    assert found["verdict"] == "possible"
    assert len(found["evidence"]) == 1


def test_a_unix_socket_is_no_proxy(cluster: t.Any) -> None:
    assert facts(dataclasses.replace(cluster.superuser_target(), host=str(cluster.socket_dir)))["proxy"]["verdict"] == "none"


def test_the_url_may_say_so(database: Make) -> None:
    assert facts(dataclasses.replace(database(), prisma={"pgbouncer": "true"}))["proxy"]["verdict"] == "certain"


class Pooled:
    """A pooler that gives each statement to another of several backends."""

    def __init__(self, backends: list[t.Any], told: int) -> None:
        self.backends, self.turn = backends, 0
        self.info = type("Info", (), {"backend_pid": told})()

    def cursor(self) -> t.Any:
        self.turn += 1
        return self.backends[self.turn % len(self.backends)].cursor()

    def fileno(self) -> int:
        return int(self.backends[0].fileno())


def test_a_pooler_shows_by_what_it_does(database: Make) -> None:
    target = database()
    with connection(target) as one, connection(target) as other:
        found = proxy(Pooled([one, other], one.info.backend_pid))
        assert found["verdict"] == "certain"
        assert [line for line in found["evidence"] if "2 backends" in line or "setting" in line] == found["evidence"][:2]
        assert proxy(Pooled([one], 1))["evidence"] == ["The connection was told another backend pid than the backend has."]


def test_a_standby(cluster: t.Any, database: Make, tmp_path: pathlib.Path) -> None:
    target = database()
    with cluster.server.make_standby(tmp_path / "standby", temporary=True, settings=cluster.server.settings) as standby:
        found = facts(dataclasses.replace(target, port=standby.port))
    assert (found["primary"], found["identity"]["in_recovery"]) == (False, True)


def test_subscriptions_that_may_not_be_seen(database: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    assert facts(database())["subscriptions"] == []
    monkeypatch.setattr(_database_facts, "_SUBSCRIPTIONS", "SELECT subconninfo, 1 FROM pg_subscription")
    assert facts(database())["subscriptions"] is None


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        ("CREATE TABLE audit_dba (a int)", "no member of"),
        ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", "no member of"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "no member of"),
        ("CREATE EXTENSION dblink", "extension dblink"),
        ("CREATE PUBLICATION p FOR ALL TABLES", "publication for all tables p"),
        ("SELECT 1", "sessions that this role may not end"),
    ],
)
def test_what_only_a_superuser_could_restore_is_an_obstacle(made: str, sentence: str, database: t.Any, admin: t.Any, module: t.Any) -> None:
    target = database()
    assert module("database_info", target)["rollback_obstacles"] == []
    superuser = admin(target.dbname)
    with superuser.cursor() as cursor:
        cursor.execute(made)
    if made != "SELECT 1":
        superuser.close()
    obstacles = module("database_info", target)["rollback_obstacles"]
    assert len(obstacles) == 1 and sentence in obstacles[0], obstacles
