# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A migration that blocks the application gives way in time, and comes through later; with both engines and real sessions."""

from __future__ import annotations

import contextlib
import threading
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.modules import ModuleRunner
from support.prisma import PrismaProject

Database = t.Callable[..., Target]
Admin = t.Callable[..., t.Any]
ENGINES = ["direct", pytest.param("prisma", marks=pytest.mark.prisma)]
INIT = "CREATE TABLE users (id int PRIMARY KEY, n int DEFAULT 0);\nINSERT INTO users SELECT g FROM generate_series(1, 1000) g;\nCREATE TABLE log (id int);"
ALTER = "ALTER TABLE users ADD COLUMN name text;\nCREATE INDEX users_n ON users (n);\n"
MAX_BLOCK = 1.5


def query(conn: t.Any, text: str) -> t.Any:
    with conn.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


def until(found: t.Callable[[], t.Any], seconds: float = 30.0) -> t.Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def session(target: Target, name: str) -> t.Any:
    return psycopg2.connect(host=target.host, port=target.port, user=target.user, password=target.password, dbname=target.dbname, application_name=name)


class Application:
    """Sessions that read and write the table all the time, and how long each statement took."""

    def __init__(self, target: Target, statements: t.Sequence[str]) -> None:
        self.stop = threading.Event()
        self.took: list[float] = []
        self.errors: list[str] = []
        self._threads = [threading.Thread(target=self._work, args=(target, statement)) for statement in statements]

    def _work(self, target: Target, statement: str) -> None:
        conn = session(target, "api")
        conn.autocommit = True
        try:
            while not self.stop.wait(0.005):
                started = time.monotonic()
                with conn.cursor() as cursor:
                    cursor.execute(statement)
                self.took.append(time.monotonic() - started)
        except psycopg2.Error as error:
            self.errors.append(str(error))
        finally:
            conn.close()

    def __enter__(self) -> Application:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(60)


READ, WRITE = "SELECT count(*) FROM users WHERE id < 10", "UPDATE users SET n = n + 1 WHERE id = 1"


@pytest.fixture
def deploy(prisma: PrismaProject, database: Database, module: ModuleRunner) -> t.Callable[..., tuple[Target, t.Callable[..., t.Any]]]:
    """A database with the first migration applied, the second pending; and how to start its deploy."""

    def make(engine: str, script: str) -> tuple[Target, t.Callable[..., t.Any]]:
        target = database()
        prisma.add("1_init", INIT)
        options = {"app_dir": str(prisma.path), "engine": engine, "max_block": MAX_BLOCK, "lock_timeout": "30s"}
        assert module("migration_deploy", target, **options)["status"] == "up_to_date"
        prisma.add("2_alter", script)
        return target, lambda **more: module.start("migration_deploy", target, **dict(options, **more))

    return make


def ended(process: t.Any) -> dict[str, t.Any]:
    return ModuleRunner.result(*process.communicate(timeout=120))


def waits_for_lock(admin: t.Any) -> bool:
    found = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgops-deploy%' AND wait_event_type = 'Lock' AND datname = current_database()"
    return bool(query(admin, found))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("statements", [[READ] * 4, [READ, READ, WRITE, WRITE]], ids=["readers", "writers"])
def test_a_waiting_alter_lets_the_application_through_and_comes_through_later(
    engine: str, statements: list[str], deploy: t.Any, admin: Admin, prisma: PrismaProject
) -> None:
    target, start = deploy(engine, ALTER)
    prisma.add("1_more", "CREATE TABLE before_it (id int);")
    prisma.add("3_more", "CREATE TABLE after_it (id int);")
    conn = admin(target.dbname)
    blocker = session(target, "report")
    query(blocker, "SELECT * FROM users")
    with Application(target, statements) as application:
        process = start()
        until(lambda: waits_for_lock(conn))
        # It was ended once, and waits again.
        until(lambda: query(conn, "SELECT 1 FROM _prisma_migrations WHERE rolled_back_at IS NOT NULL"))
        until(lambda: waits_for_lock(conn))
        blocker.rollback()
        done = ended(process)
        time.sleep(0.2)
    blocker.close()
    assert application.errors == [] and done["status"] == "up_to_date" and [entry["name"] for entry in done["applied"]] == ["1_more", "2_alter", "3_more"], done
    took = sorted(application.took)
    assert took[-1] < MAX_BLOCK + 0.3 and took[int(len(took) * 0.99)] < MAX_BLOCK, took[-5:]
    # Without the watchdog they would have waited for as long as the blocker stays.
    assert took[-1] > MAX_BLOCK / 2
    seen = done["monitor"]
    assert seen["longest_block"] <= MAX_BLOCK and seen["blocked_sessions"] == len(statements) and seen["longest_wait"] > 0.5
    assert [(entry["what"], entry["retry"]) for entry in seen["cancelled"]][:1] == [("migration", 1)] and "blocked" in seen["cancelled"][0]["reason"]
    assert any("(report)" in entry["by"] and entry["relation"] == "public.users" and entry["mode"] == "AccessExclusiveLock" for entry in seen["blocks"])
    tries = [entry for entry in seen["migrations"] if entry["name"] == "2_alter"]
    states = [(entry["name"], entry["state"]) for entry in tries]
    assert states[0] == ("2_alter", "rolled_back") and states[-1] == ("2_alter", "applied") and tries[0]["ended"] <= tries[1]["started"]
    assert "tried again" in str(done["warnings"])
    rows = query(
        conn,
        "SELECT finished_at IS NOT NULL, rolled_back_at IS NOT NULL, logs <> '' FROM _prisma_migrations WHERE migration_name = '2_alter' ORDER BY started_at",
    )
    assert rows[-1][:2] == (True, False) and set(rows[:-1]) == {(False, True, True)}
    assert query(conn, "SELECT count(*) FROM information_schema.columns WHERE table_name = 'users' AND column_name = 'name'") == [(1,)]


@pytest.mark.parametrize("engine", ENGINES)
def test_its_own_lock_timeout_leads_to_the_same_retry(engine: str, deploy: t.Any, admin: Admin) -> None:
    target, start = deploy(engine, ALTER)
    blocker = session(target, "report")
    query(blocker, "SELECT * FROM users")
    process = start(lock_timeout="300ms")
    looking = admin(target.dbname)
    until(lambda: query(looking, "SELECT 1 FROM _prisma_migrations WHERE rolled_back_at IS NOT NULL"))
    blocker.close()
    done = ended(process)
    assert done["status"] == "up_to_date" and "lock_timeout" in done["monitor"]["cancelled"][0]["reason"] and done["monitor"]["cancelled"][0]["retry"] == 1, (
        done
    )


@pytest.mark.parametrize("engine", ENGINES)
def test_a_migration_that_works_behind_its_lock_is_ended_once(engine: str, deploy: t.Any, admin: Admin, module: ModuleRunner, prisma: PrismaProject) -> None:
    target, start = deploy(engine, "ALTER TABLE users ADD COLUMN name text;\nSELECT pg_sleep(60);\n")
    with Application(target, [READ, READ]) as application:
        failed = ended(start())
    assert application.errors == [] and max(application.took) < MAX_BLOCK + 0.3
    assert failed["code"] == "BLOCKED_TOO_LONG" and failed["attempts"] == 1 and "on_blocked=wait" in failed["next_step"], failed
    assert failed["failed_migration"]["state"] == "failed_clean" and failed["touched"] is False and failed["status"] == "pending"
    assert [(entry["what"], entry["retry"]) for entry in failed["monitor"]["cancelled"]] == [("migration", None)]
    assert query(admin(target.dbname), "SELECT count(*) FROM information_schema.columns WHERE table_name = 'users'") == [(2,)]
    # What was said leads on.
    prisma.add("2_alter", "ALTER TABLE users ADD COLUMN name text;\nSELECT pg_sleep(3);\n")
    with Application(target, [READ]) as application:
        done = ended(start(on_blocked="wait"))
    assert done["status"] == "up_to_date" and done["monitor"]["longest_block"] > MAX_BLOCK and done["monitor"]["cancelled"] == []


def test_retries_come_to_an_end_and_name_the_blocker(deploy: t.Any) -> None:
    target, start = deploy("direct", ALTER)
    blocker = session(target, "report")
    query(blocker, "SELECT * FROM users")
    failed = ended(start(lock_timeout="200ms", block_retries=1))
    blocker.close()
    assert failed["code"] == "BLOCKED_TOO_LONG" and failed["attempts"] == 2 and "(report)" in failed["msg"], failed["msg"]
    assert failed["touched"] is False and failed["failed_migration"]["sqlstate"] == "55P03" and len(failed["monitor"]["migrations"]) == 2
    assert ended(start())["status"] == "up_to_date"


NOT_PROVED = {
    "commits": "BEGIN; CREATE TABLE half (id int); COMMIT; ALTER TABLE users ADD COLUMN name text;",
    "two_transactions": "CREATE TABLE half (id int); COMMIT; ALTER TABLE users ADD COLUMN name text;",
    "alone": "CREATE INDEX CONCURRENTLY users_n ON users (n); SELECT pg_sleep(1); ALTER TABLE users ADD COLUMN name text;",
    "setval": "CREATE SEQUENCE half; SELECT setval('half', 5); ALTER TABLE users ADD COLUMN name text;",
}


@pytest.mark.parametrize("script", NOT_PROVED.values(), ids=list(NOT_PROVED))
def test_nothing_is_tried_again_that_is_not_proved_clean(script: str, deploy: t.Any, admin: Admin) -> None:
    target, start = deploy("direct", script)
    blocker = session(target, "report")
    if "CONCURRENTLY" not in script:
        query(blocker, "SELECT * FROM users")
    process = start()
    if "CONCURRENTLY" in script:
        # It waits for every transaction that was there before it, so the blocker comes after.
        looking = admin(target.dbname)
        until(lambda: query(looking, "SELECT 1 FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE relname = 'users_n' AND indisvalid"))
    query(blocker, "SELECT * FROM users")
    with Application(target, [WRITE, WRITE]) as application:
        failed = ended(process)
    blocker.close()
    assert application.errors == []
    assert failed["code"] in ("MIGRATION_FAILED", "MIGRATION_FAILED_PARTIAL") and failed["touched"] is True and failed["status"] == "blocked", failed
    assert [(entry["what"], entry["retry"]) for entry in failed["monitor"]["cancelled"]] == [("migration", None)]
    assert "it was cancelled because it blocked 2 sessions" in failed["msg"], failed["msg"]
    assert query(admin(target.dbname), "SELECT count(*) FROM _prisma_migrations WHERE rolled_back_at IS NOT NULL") == [(0,)]


def test_the_blocker_is_ended_where_that_was_asked_for(deploy: t.Any) -> None:
    target, start = deploy("direct", ALTER)
    blocker = session(target, "report")
    hit: list[str] = []

    def work() -> None:
        with contextlib.suppress(psycopg2.Error):
            try:
                query(blocker, "SELECT pg_sleep(60) FROM users LIMIT 1")
            except psycopg2.errors.QueryCanceled as error:
                hit.append(str(error))
                blocker.rollback()

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.3)
    with Application(target, [READ, READ]) as application:
        done = ended(start(on_blocked="cancel_blocker"))
    thread.join()
    blocker.close()
    assert hit and done["status"] == "up_to_date" and max(application.took) < MAX_BLOCK
    [entry] = done["monitor"]["cancelled"]
    assert "(report)" in entry["what"] and entry["retry"] is None and len(done["monitor"]["migrations"]) == 1


def test_an_idle_blocker_cannot_be_ended_so_the_migration_gives_way(deploy: t.Any, admin: Admin) -> None:
    target, start = deploy("direct", ALTER)
    blocker = session(target, "report")
    query(blocker, "SELECT * FROM users")
    with Application(target, [READ]) as application:
        process = start(on_blocked="cancel_blocker")
        looking = admin(target.dbname)
        until(lambda: query(looking, "SELECT 1 FROM _prisma_migrations WHERE rolled_back_at IS NOT NULL"))
        # Its transaction lives: nothing of it was touched.
        assert query(blocker, "SELECT count(*) FROM users") == [(1000,)]
        blocker.close()
        done = ended(process)
    assert done["status"] == "up_to_date" and max(application.took) < MAX_BLOCK + 0.3
    assert {entry["what"] for entry in done["monitor"]["cancelled"]} == {"migration"}
