# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What migration_deploy sees of the server while it applies migrations with both engines."""

from __future__ import annotations

import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._monitor import Monitor
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog import Policy
from psycopg2 import sql as pgsql
from support.modules import ModuleRunner
from support.prisma import PrismaProject

Database = t.Callable[..., Target]
Admin = t.Callable[..., t.Any]
ENGINES = ["direct", pytest.param("prisma", marks=pytest.mark.prisma)]
INIT = "CREATE TABLE users (id int, email text);\nINSERT INTO users SELECT g, 'u' || g FROM generate_series(1, 1000) g;\n"
MONITORS = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgops-monitor%' AND datname = current_database()"


def query(conn: t.Any, text: str) -> t.Any:
    with conn.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


def until(found: t.Callable[[], t.Any], seconds: float = 20.0) -> t.Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = found()
        if result:
            return result
        time.sleep(0.02)
    raise AssertionError("it did not come to pass")


def session(target: Target, name: str = "api") -> t.Any:
    """A session of the application, outside of autocommit."""
    return psycopg2.connect(host=target.host, port=target.port, user=target.user, password=target.password, dbname=target.dbname, application_name=name)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_deploy_is_watched(engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    options = {"app_dir": str(prisma.path), "engine": engine, "monitor_interval": 0.05}
    prisma.add("1_init", INIT + "CREATE TABLE moved (id int); CREATE TABLE kept (id int); INSERT INTO moved VALUES (1);")
    first = module("migration_deploy", target, **options)
    assert first["monitor"]["rewrites"] == [] and first["monitor"]["index_builds"] == [], first
    prisma.add("2_rewrite", "ALTER TABLE moved ALTER COLUMN id TYPE bigint;\nALTER TABLE kept ADD COLUMN more int;\nSELECT pg_sleep(1.5);\n")
    prisma.add(
        "3_index",
        "INSERT INTO users SELECT g, 'v' || g FROM generate_series(1, 300000) g;\nCREATE INDEX users_email ON users (email);\nSELECT pg_sleep(0.3);\n",
    )
    with admin("postgres").cursor() as cursor:
        cursor.execute("GRANT pg_read_all_stats TO " + target.user)
    idle = session(target, "worker")
    query(idle, "SELECT 1")
    process = module.start("migration_deploy", target, **options)
    migrating = "SELECT 1 FROM pg_stat_activity WHERE application_name LIKE 'pgops-deploy%' AND query LIKE '%pg_sleep(1.5)%' AND state = 'active'"
    looking = admin(target.dbname)
    until(lambda: query(looking, migrating))
    reader = session(target)
    query(reader, "SELECT * FROM moved")
    done = module.result(*process.communicate())
    idle.close(), reader.close()
    seen = done["monitor"]
    assert done["status"] == "up_to_date" and done["seconds"] <= seen["seconds"] + 0.1
    assert seen["rewrites"] == ["public.moved"] and [(e["index"], e["table"]) for e in seen["index_builds"]] == [("public.users_email", "public.users")]
    assert seen["taken"] >= 3 and len(seen["samples"]) <= seen["taken"] and 0 < seen["interval"] < 1
    assert seen["size_after"] > seen["size_before"] > 1_000_000 and seen["wal"] > 1_000_000 and seen["temp"] >= 0
    locks = {(lock["relation"], lock["mode"]): lock for lock in seen["locks"]}
    assert 0.5 < locks["public.moved", "AccessExclusiveLock"]["held"] < 3 and locks["public.moved", "AccessExclusiveLock"]["waited"] == 0
    [block] = [block for block in seen["blocks"] if block["by"] == "migration"]
    assert (block["application"], block["user"], block["relation"], block["mode"]) == ("api", target.user, "public.moved", "AccessShareLock")
    assert 0.3 < block["seconds"] < 2 and seen["longest_block"] == block["seconds"] and seen["blocked_sessions"] == 1 and seen["longest_wait"] == 0
    assert max(sample["blocked"] for sample in seen["samples"]) == 1 and max(sample["waiting"] for sample in seen["samples"]) == 1
    assert max(sample["idle_in_transaction"] for sample in seen["samples"]) >= 1 and max(sample["oldest_transaction"] for sample in seen["samples"]) > 1
    assert seen["samples"][-1]["wal"] > 0 and all(sample["lag"] is None for sample in seen["samples"])
    two, three = seen["migrations"]
    assert (two["name"], two["state"], three["name"], three["state"]) == ("2_rewrite", "applied", "3_index", "applied")
    assert 0 <= two["started"] < two["ended"] <= three["started"] < three["ended"] <= seen["seconds"] and two["ended"] - two["started"] > 1.4
    assert seen["cancelled"] == [] and query(admin(target.dbname), MONITORS) == []


@pytest.mark.parametrize("engine", ENGINES)
def test_a_build_that_waits_shows_its_progress(engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    options = {"app_dir": str(prisma.path), "engine": engine, "monitor_interval": 0.05, "lock_timeout": ""}
    prisma.add("1_init", INIT)
    module("migration_deploy", target, **options)
    prisma.add("2_index", "CREATE INDEX CONCURRENTLY users_email ON users (email);")
    writer = session(target)
    with writer.cursor() as cursor:
        cursor.execute("INSERT INTO users VALUES (0)")
    process = module.start("migration_deploy", target, **options)
    looking = admin(target.dbname)
    until(lambda: query(looking, "SELECT 1 FROM pg_stat_progress_create_index WHERE phase LIKE 'waiting%'"))
    time.sleep(1.5)
    writer.rollback()
    done = module.result(*process.communicate())
    writer.close()
    seen = done["monitor"]
    [progress] = seen["progress"]
    assert (progress["migration"], progress["command"], progress["relation"]) == ("2_index", "CREATE INDEX CONCURRENTLY", "public.users"), done
    [build] = seen["index_builds"]
    assert build["index"] == "public.users_email" and 0.3 < build["seconds"] < 5
    assert seen["longest_wait"] > 1 and seen["longest_block"] == 0 and "(api)" in seen["blocks"][0]["by"]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("limit", [2, 3])
def test_the_monitor_gives_way_where_connections_are_few(
    limit: int, engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin
) -> None:
    """One connection holds the run's lock, one deploys; a third may watch."""
    target = database()
    prisma.add("1_init", INIT)
    with admin("postgres").cursor() as cursor:
        cursor.execute("ALTER ROLE %s CONNECTION LIMIT %d" % (target.user, limit))
    done = module("migration_deploy", target, app_dir=str(prisma.path), engine=engine)
    assert done["status"] == "up_to_date", done
    assert (
        ("given up" in str(done.get("warnings"))) is (limit == 2)
        and done["monitor"]["size_after"]
        and [entry["state"] for entry in done["monitor"]["migrations"]] == ["applied"]
    )


def test_nothing_pending_and_check_mode_have_no_monitor(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    prisma.add("1_init", INIT)
    options = {"app_dir": str(prisma.path), "engine": "direct"}
    assert module("migration_deploy", target, check=True, **options)["monitor"] is None
    off = module("migration_deploy", target, monitor=False, **options)
    assert off["changed"] and off["monitor"] is None
    assert module("migration_deploy", target, **options)["monitor"] is None


def test_a_failure_has_what_was_seen(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    prisma.add("1_init", INIT)
    prisma.add("2_fails", "SELECT pg_sleep(0.2); SELECT 1/0;")
    failed = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct", monitor_interval=0.05)
    assert failed["code"] == "MIGRATION_FAILED_CLEAN"
    assert [(entry["name"], entry["state"]) for entry in failed["monitor"]["migrations"]] == [("1_init", "applied"), ("2_fails", "failed_clean")]
    assert failed["monitor"]["migrations"][1]["ended"] >= 0.2


def test_a_lost_connection_does_not_disturb_the_deploy(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    prisma.add("1_init", INIT + "SELECT pg_sleep(4);")
    conn = admin(target.dbname)
    process = module.start("migration_deploy", target, app_dir=str(prisma.path), engine="direct", monitor_interval=0.05)
    [(pid,)] = until(lambda: query(conn, MONITORS))
    time.sleep(0.3)
    query(conn, "SELECT pg_terminate_backend(%d)" % pid)
    assert until(lambda: [found for (found,) in query(conn, MONITORS) if found != pid])
    done = module.result(*process.communicate())
    assert done["status"] == "up_to_date" and done["monitor"]["size_after"] and done["monitor"]["taken"] > 3
    assert "could not be watched all the time" in str(done["warnings"])


def test_a_role_that_may_see_little(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    """Another role's session shows no state; its locks show all the same, and counts that would be wrong are null."""
    target = database()
    conn = admin(target.dbname)
    prisma.add("1_init", "CREATE TABLE users (id int); GRANT ALL ON users TO PUBLIC;")
    options = {"app_dir": str(prisma.path), "engine": "direct", "monitor_interval": 0.05}
    module("migration_deploy", target, **options)
    prisma.add("2_alter", "ALTER TABLE users ADD COLUMN b int; SELECT pg_sleep(1.5);")
    process = module.start("migration_deploy", target, **options)
    until(
        lambda: query(
            conn,
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE '%pg_sleep(1.5)%' AND state = 'active' AND pid <> pg_backend_pid() AND datname = current_database()",
        )
    )
    query(conn, "SELECT count(*) FROM users")
    done = module.result(*process.communicate())
    assert {sample["active"] for sample in done["monitor"]["samples"]} == {None}
    assert done["monitor"]["blocked_sessions"] == 1 and done["monitor"]["longest_block"] > 0.3
    assert done["monitor"]["blocks"][0]["relation"] == "public.users"


@pytest.mark.prisma
def test_another_holder_of_prismas_lock_is_not_the_migrator(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    prisma.add("1_init", "CREATE TABLE users (id int);")
    options = {"app_dir": str(prisma.path), "monitor_interval": 0.05, "lock_wait": 0}
    module("migration_deploy", target, **options)
    foreign = admin(target.dbname)
    query(foreign, "SELECT pg_advisory_lock(72707369)::text")
    with foreign.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE users")
    prisma.add("2_more", "CREATE TABLE more (id int);")
    process = module.start("migration_deploy", target, **options)
    reader = session(target)
    with reader.cursor() as cursor:
        cursor.execute("SET lock_timeout = '2s'")
        with pytest.raises(psycopg2.errors.LockNotAvailable):
            cursor.execute("SELECT * FROM users")
    reader.close()
    with foreign.cursor() as cursor:
        cursor.execute("ROLLBACK")
    query(foreign, "SELECT pg_advisory_unlock(72707369)")
    done = module.result(*process.communicate())
    assert done["status"] == "up_to_date" and done["monitor"]["blocked_sessions"] == 0 and done["monitor"]["locks"] != [{}]
    assert not [lock for lock in done["monitor"]["locks"] if lock["relation"] == "public.users"]


def test_a_look_costs_less_than_two_percent_of_the_interval(database: Database) -> None:
    """With 20 sessions and a migration that holds locks of 50 tables. The least of many: the machine has other work, too."""
    target = database()
    sessions = [session(target) for _ in range(20)]
    for conn in sessions:
        query(conn, "SELECT 1")
    migrator = session(target, "pgops-deploy x")
    with migrator.cursor() as cursor:
        cursor.execute("".join("CREATE TABLE t%d (id int);" % i for i in range(50)))
        migrator.commit()
        cursor.execute("LOCK TABLE " + ", ".join("t%d" % i for i in range(50)))
    monitor = Monitor(target, "pgops-deploy x", "x", Policy(), 0.005)
    looks: list[float] = []
    look = monitor._look

    def timed() -> t.Any:
        started = time.monotonic()
        view = look()
        looks.append(time.monotonic() - started)
        return view

    monitor._look = timed  # type: ignore[method-assign]
    monitor.start()
    time.sleep(3)
    monitor.stop()
    for conn in [*sessions, migrator]:
        conn.close()
    seen = monitor.result([])
    assert monitor.problem == "" and len(looks) > 5 and seen["taken"] == len(looks) and len(seen["locks"]) == 50
    assert max(sample["idle_in_transaction"] for sample in seen["samples"]) == 20
    assert min(looks) < 0.02 * 0.25, sorted(looks)
    # They are spread, so that they do not take more than that of the whole, either: here 5 ms apart was asked for.
    assert len(looks) * min(looks) < 0.02 * seen["seconds"]


def test_names_that_need_quotes(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database(schema="we-ird App")
    prisma.add("1_init", 'CREATE TABLE "we-ird App"."a.b" (id int);')
    options = {"app_dir": str(prisma.path), "engine": "direct", "monitor_interval": 0.05, "run_id": "Ünï %s"}
    module("migration_deploy", target, **options)
    prisma.add("2_more", 'ALTER TABLE "we-ird App"."a.b" ALTER COLUMN id TYPE bigint; SELECT pg_sleep(0.5);')
    done = module("migration_deploy", target, **options)
    assert done["status"] == "up_to_date" and not done.get("warnings")
    assert pgsql and done["monitor"]["locks"][0]["relation"] == "we-ird App.a.b"
