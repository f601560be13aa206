# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""migration_deploy with both engines against real servers, files and the real CLI."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import signal
import subprocess
import time
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from psycopg2 import sql as pgsql
from support.histories import LEDGER
from support.modules import ModuleRunner
from support.prisma import PrismaProject

Database = t.Callable[..., Target]
Admin = t.Callable[..., t.Any]
ENGINES = ["direct", pytest.param("prisma", marks=pytest.mark.prisma)]

FILES = {
    "20240101000000_init": "CREATE TABLE users (id serial PRIMARY KEY, email text);\nINSERT INTO users (email) SELECT 'u' || g FROM generate_series(1, 50) g;\n",
    "20240102000000_name": "ALTER TABLE users ADD COLUMN name text;\nUPDATE users SET name = 'n; -- ''' || id;\n",
    "20240103000000_function": "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.name := 'x;y'; RETURN NEW; END; $$;\n",
    "20240104000000_index": "CREATE INDEX CONCURRENTLY users_email ON users (email);\n",
    "20240105000000_comment": "-- nothing to do\n",
    "20240106000000_semicolons": ";;  ;\n-- nothing either\n",
}


def query(conn: t.Any, text: str) -> t.Any:
    with conn.cursor() as cursor:
        cursor.execute(text)
        return cursor.fetchall()


def fill(project: PrismaProject, files: dict[str, str]) -> None:
    for name, text in files.items():
        project.add(name, text)


def names(rows: t.Sequence[dict[str, t.Any]]) -> list[str]:
    return [row["name"] for row in rows]


@pytest.mark.parametrize("engine", ENGINES)
def test_applies_all_then_nothing(engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    fill(prisma, FILES)
    options = {"app_dir": str(prisma.path), "engine": engine}
    check = module("migration_deploy", target, check=True, diff=True, **options)
    assert check["changed"] and check["would_apply"] == list(FILES) and check["status"] == "empty"
    assert [part["after"] for part in check["diff"]] == list(FILES.values())
    assert module("migration_info", target, app_dir=str(prisma.path))["status"] == "empty"
    real = module("migration_deploy", target, **options)
    assert real["changed"] and names(real["applied"]) == list(FILES) and real["status"] == "up_to_date"
    assert all(row["seconds"] is not None for row in real["applied"])
    for check_mode in (True, False):
        again = module("migration_deploy", target, check=check_mode, **options)
        assert not again["changed"] and again["applied"] == [] and again["output"] == ""
    said = prisma.cli(target, "migrate", "status")
    assert said.returncode == 0 and "up to date" in said.stdout
    assert query(admin(target.dbname), "SELECT count(*) FROM users WHERE name IS NOT NULL") == [(50,)]


def test_both_engines_leave_the_same_database(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin, cluster: t.Any) -> None:
    fill(prisma, FILES)
    seen = []
    for engine in ("direct", "prisma"):
        target = database()
        assert module("migration_deploy", target, app_dir=str(prisma.path), engine=engine)["status"] == "up_to_date"
        ledger = query(
            admin(target.dbname),
            "SELECT migration_name, checksum, logs, rolled_back_at, applied_steps_count, length(id), finished_at >= started_at"
            " FROM _prisma_migrations ORDER BY started_at",
        )
        seen.append((ledger, schema_of(cluster, target)))
    assert seen[0] == seen[1]


def schema_of(cluster: t.Any, target: Target) -> str:
    """pg_dump -s without what names the role or the dump itself."""
    env = {**os.environ, "PGPASSWORD": cluster.password}
    argv = [os.path.join(cluster.bin_dir, "pg_dump"), "-s", "-O", "-h", cluster.host, "-p", str(cluster.port), "-U", cluster.superuser, "-d", target.dbname]
    text = subprocess.run(argv, env=env, check=True, capture_output=True, text=True).stdout
    return "\n".join(line for line in text.splitlines() if "restrict" not in line)


@pytest.mark.parametrize("engine", ENGINES)
def test_up_to_stops_after_that_migration(engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, FILES)
    options = {"app_dir": str(prisma.path), "engine": engine, "up_to": "20240102000000_name"}
    assert names(module("migration_deploy", target, **options)["applied"]) == list(FILES)[:2]
    assert module("migration_deploy", target, **options)["changed"] is False
    info = module("migration_info", target, app_dir=str(prisma.path))
    assert info["status"] == "pending" and info["pending"] == list(FILES)[2:]
    assert module("migration_deploy", target, **dict(options, up_to="nope"))["code"] == "UNKNOWN_MIGRATION"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_migration_on_hold_stays_pending_while_others_are_applied(engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    held = "20240102000000_held"
    fill(prisma, {"20240101000000_a": "CREATE TABLE a (id int);", held: "CREATE TABLE held (id int);", "20240103000000_c": "CREATE TABLE c (id int);"})
    options = {"app_dir": str(prisma.path), "engine": engine, "hold": [held]}
    assert module("migration_deploy", target, check=True, **options)["would_apply"] == ["20240101000000_a", "20240103000000_c"]
    done = module("migration_deploy", target, **options)
    assert names(done["applied"]) == ["20240101000000_a", "20240103000000_c"] and done["held"] == [held] and "out of order" in str(done["warnings"])
    again = module("migration_deploy", target, **options)
    assert again["changed"] is False and again["held"] == [held]
    # Released, it is what it now is: out of order, and applied only when that is allowed.
    assert module("migration_deploy", target, **dict(options, hold=[]))["code"] == "HISTORY_DIVERGED"
    assert names(module("migration_deploy", target, **dict(options, hold=[], allow=[held]))["applied"]) == [held]


@pytest.mark.prisma
def test_deploy_command_runs_the_projects_script(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, FILES)
    options = {"app_dir": str(prisma.path), "deploy_command": "npm run db:migrate:deploy"}
    assert names(module("migration_deploy", target, up_to="20240101000000_init", **options)["applied"]) == ["20240101000000_init"]
    assert names(module("migration_deploy", target, **options)["applied"]) == list(FILES)[1:]


CLEAN = "CREATE TABLE later (id int);\nINSERT INTO users (id) VALUES (1);\n"
PARTIAL = "BEGIN;\nALTER TABLE users ADD COLUMN half text;\nCOMMIT;\nINSERT INTO users (id) VALUES (1);\n"


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("script", "state", "code"), [(CLEAN, "failed_clean", "MIGRATION_FAILED_CLEAN"), (PARTIAL, "failed_partial", "MIGRATION_FAILED_PARTIAL")]
)
@pytest.mark.parametrize("first", [True, False], ids=["first_deploy", "later_deploy"])
def test_failure_names_the_state(
    first: bool, script: str, state: str, code: str, engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin
) -> None:
    target = database()
    options = {"app_dir": str(prisma.path), "engine": engine}
    fill(prisma, {"20240101000000_init": FILES["20240101000000_init"]})
    if not first:
        module("migration_deploy", target, **options)
    fill(prisma, {"20240102000000_fails": script, "20240103000000_never": "CREATE TABLE never (id int);\n"})
    failed = module("migration_deploy", target, **options)
    what = failed["failed_migration"]
    assert (what["name"], what["state"], what["sqlstate"], failed["code"]) == ("20240102000000_fails", state, "23505", code), failed
    assert "duplicate key" in failed["failed_migration"]["error"] and failed["status"] == "blocked"
    assert names(failed["applied"]) == (["20240101000000_init"] if first else [])
    assert query(admin(target.dbname), "SELECT to_regclass('never')") == [(None,)]
    # Not retried blindly: the second run refuses, as Prisma does.
    again = module("migration_deploy", target, **options)
    assert again["code"] == "UNFINISHED_MIGRATION" and again["next_deploy"]["code"] == "P3009"
    # What was seen is written so that Prisma's own way out works.
    if state == "failed_clean":
        assert prisma.cli(target, "migrate", "resolve", "--rolled-back", "20240102000000_fails").returncode == 0
        prisma.add("20240102000000_fails", "CREATE TABLE later (id int);\n")
        assert module("migration_deploy", target, **options)["status"] == "up_to_date"


@pytest.mark.parametrize("engine", ENGINES)
def test_clean_is_not_claimed_when_others_commit(engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    """Other sessions' commits in the window leave the state unknown, never clean."""
    target = database()
    fill(prisma, {"20240101000000_init": "CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int);"})
    options = {"app_dir": str(prisma.path), "engine": engine}
    module("migration_deploy", target, **options)
    fill(prisma, {"20240102000000_fails": "CREATE TABLE c (id int); SELECT pg_sleep(2); SELECT 1/0;"})
    running = module.start("migration_deploy", target, **options)
    conn = admin(target.dbname)
    while running.poll() is None:
        query(conn, "INSERT INTO b VALUES (1) RETURNING id")
        time.sleep(0.2)
    failed = module.result(*running.communicate())
    assert failed["failed_migration"]["state"] == "unknown" and failed["code"] == "MIGRATION_FAILED"


def test_clean_is_not_claimed_when_a_sequence_was_set(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, {"1_init": "CREATE SEQUENCE s;", "2_fails": "SELECT setval('s', 1000); SELECT 1/0;"})
    failed = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    assert failed["failed_migration"]["state"] == "unknown" and "setval" in failed["msg"], failed["msg"]


def test_lock_timeout_reaches_the_session(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    for engine in ("direct", "prisma"):
        target = database()
        fill(prisma, {"20240101000000_init": "CREATE TABLE a (id int PRIMARY KEY);"})
        options = {"app_dir": str(prisma.path), "engine": engine, "lock_timeout": "300ms", "statement_timeout": "20s", "block_retries": 0}
        module("migration_deploy", target, **options)
        prisma.add("20240102000000_alter", "ALTER TABLE a ADD COLUMN b int;")
        blocker = admin(target.dbname)
        blocker.autocommit = False
        query(blocker, "SELECT * FROM a")
        failed = module("migration_deploy", target, **options)
        blocker.rollback()
        assert failed["failed_migration"]["sqlstate"] == "55P03" and failed["failed_migration"]["state"] == "failed_clean", (engine, failed)
        (prisma.migrations / "20240102000000_alter/migration.sql").unlink()
        (prisma.migrations / "20240102000000_alter").rmdir()


def test_statement_by_statement_file(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    fill(prisma, {"1_init": "CREATE TABLE a (id int, b int);", "2_two": "CREATE INDEX CONCURRENTLY a_id ON a (id); CREATE INDEX CONCURRENTLY a_b ON a (b);"})
    done = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    assert done["status"] == "up_to_date" and "not atomic" in str(done["warnings"])
    assert query(admin(target.dbname), "SELECT count(*) FROM pg_index i WHERE indisvalid AND indrelid = 'a'::regclass") == [(2,)]
    prisma.add("3_dup", "INSERT INTO a VALUES (1, 1), (1, 2); CREATE UNIQUE INDEX CONCURRENTLY a_u ON a (id);")
    failed = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    assert failed["failed_migration"]["state"] == "failed_partial" and failed["failed_migration"]["sqlstate"] == "23505"


def test_script_that_leaves_a_transaction_open(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    for engine in ("direct", "prisma"):
        target = database()
        fill(prisma, {"1_open": "BEGIN; CREATE TABLE a (id int);"})
        failed = module("migration_deploy", target, app_dir=str(prisma.path), engine=engine)
        assert failed.get("failed"), failed
        assert query(admin(target.dbname), "SELECT to_regclass('a')") == [(None,)]


def test_schema_parameter(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    fill(prisma, {"1_a": "CREATE TABLE a (id int);"})
    for engine in ("direct", "prisma"):
        target = database(schema="we-ird App")
        done = module("migration_deploy", target, app_dir=str(prisma.path), engine=engine)
        assert done["status"] == "up_to_date", done
        assert query(admin(target.dbname), "SELECT schemaname FROM pg_tables WHERE tablename IN ('a', '_prisma_migrations')") == [("we-ird App",)] * 2


@pytest.mark.parametrize("name", ['we"ird-db; drop', "postgresql://h/x", "a=b c", "-dash", "ümläut%", "x" * 63])
def test_odd_database_names(name: str, prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database(name)
    fill(prisma, {"1_a": "CREATE TABLE a (id int);"})
    said = module("migration_deploy", target, app_dir=str(prisma.path))
    if "/" in name:
        # node-postgres does not decode %2F in a database's name: an error, and nothing is changed.
        assert said["code"] == "DEPLOY_COMMAND_FAILED" and said["status"] == "empty"
        said = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    assert said["status"] == "up_to_date" and said["changed"]


def test_refusals_before_anything_happens(prisma: PrismaProject, database: Database, module: ModuleRunner, tmp_path: pathlib.Path) -> None:
    target = database()
    app = {"app_dir": str(prisma.path), "engine": "direct"}
    fill(prisma, {"1_a": "CREATE TABLE a (id int);"})
    missing = Target(**{**target.__dict__, "dbname": "does_not_exist"})
    wrong = Target(**{**target.__dict__, "password": "nope-%40-nope"})
    nowhere = Target(**{**target.__dict__, "port": 1})
    assert module("migration_deploy", missing, **app)["code"] == "DATABASE_MISSING"
    assert module("migration_info", missing, app_dir=app["app_dir"])["status"] == "absent"
    said = module("migration_deploy", wrong, **app)
    assert said["code"] == "AUTH_FAILED" and "nope" not in str(said)
    assert module("migration_deploy", nowhere, **app)["code"] == "SERVER_UNREACHABLE"
    assert module("migration_deploy", target, app_dir="/does/not/exist")["code"] == "PROJECT_MISSING"
    assert module("migration_deploy", target, app_dir=str(tmp_path))["code"] == "NOT_A_MIGRATIONS_DIR"
    assert module("migration_deploy", target, migrations_dir="/does/not/exist")["code"] == "MIGRATIONS_DIR_MISSING"
    assert module("migration_deploy", target, expected=["2_b"], **app)["code"] == "LEDGER_MOVED"
    (prisma.path / "node_modules").unlink()
    assert module("migration_deploy", target, app_dir=app["app_dir"])["code"] == "PRISMA_NOT_FOUND"
    assert module("migration_info", target, app_dir=app["app_dir"])["status"] == "empty"


def test_false_green_of_the_cli_is_no_success(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int);"})
    said = module("migration_deploy", target, app_dir=str(prisma.path), deploy_command="true")
    assert said["code"] == "DEPLOY_INCOMPLETE" and said["status"] == "empty" and not said.get("changed")


def test_diverged_history_is_refused_unless_allowed(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, {"2_a": "CREATE TABLE a (id int);"})
    options = {"app_dir": str(prisma.path), "engine": "direct"}
    module("migration_deploy", target, **options)
    fill(prisma, {"1_old": "CREATE TABLE old (id int);", "2_a": "CREATE TABLE a (id bigint);"})
    said = module("migration_deploy", target, **options)
    assert said["code"] == "HISTORY_DIVERGED" and said["diverged"] == {"edited": ["2_a"], "out_of_order": ["1_old"]}
    assert names(module("migration_deploy", target, allow=["1_old", "2_a"], **options)["applied"]) == ["1_old"]


def test_one_of_two_runs_waits_and_both_end_well(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, {"1_slow": "CREATE TABLE a (id int); SELECT pg_sleep(2);", "2_index": "CREATE INDEX CONCURRENTLY a_id ON a (id);"})
    both = [module.start("migration_deploy", target, app_dir=str(prisma.path), engine=engine) for engine in ("direct", "prisma")]
    results = [module.result(*process.communicate(timeout=120)) for process in both]
    assert sorted(len(result["applied"]) for result in results) == [0, 2], results
    third = module.start("migration_deploy", target, app_dir=str(prisma.path))
    assert module.result(*third.communicate())["changed"] is False


def test_locked_names_the_holder(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, {"1_slow": "SELECT pg_sleep(4);"})
    slow = module.start("migration_deploy", target, app_dir=str(prisma.path), engine="direct", run_id="night-7")
    time.sleep(1.5)
    said = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct", lock_wait=0)
    # The row of the first run is unfinished while it runs: that is seen even before the lock.
    assert said["code"] in ("LOCKED", "MIGRATION_RUNNING")
    slow.communicate()


def test_a_state_that_cannot_be_read_any_more_counts_as_touched(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    """The deploy had begun; that its database cannot be reached afterwards does not mean that it was left alone."""
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int);", "2_slow": "CREATE TABLE slow AS SELECT 1 AS n FROM pg_sleep(3);"})
    process = module.start("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    conn = admin("postgres")
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%%pg_sleep(3)%%' AND datname = '%s'" % target.dbname
    for _ in range(200):
        if query(conn, waiting) == [(1,)]:
            break
        time.sleep(0.1)
    conn.cursor().execute('ALTER DATABASE "%s" ALLOW_CONNECTIONS false' % target.dbname)
    said = json.loads(process.communicate()[0])
    conn.cursor().execute('ALTER DATABASE "%s" ALLOW_CONNECTIONS true' % target.dbname)
    assert said["failed"] and said["touched"] is True and said["changed"] is True, said


@pytest.mark.prisma
def test_killed_client_rolls_back_and_is_told(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    """kill -9 of the whole client side: the server notices, and the next run says what is left."""
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int);", "2_slow": "CREATE TABLE slow (id int); SELECT pg_sleep(30);"})
    process = module.start("migration_deploy", target, app_dir=str(prisma.path))
    conn = admin(target.dbname)
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(30)%' AND pid <> pg_backend_pid() AND datname = current_database()"
    for _ in range(200):
        if query(conn, waiting) == [(1,)]:
            break
        time.sleep(0.1)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=True).stdout.split()
    for pid in [*children, str(process.pid)]:
        os.killpg(int(pid), signal.SIGKILL)
    process.communicate()
    info = module("migration_info", target, app_dir=str(prisma.path))
    assert info["status"] == "blocked"
    for _ in range(100):
        if query(conn, waiting) == [(0,)]:
            break
        time.sleep(0.1)
    info = module("migration_info", target, app_dir=str(prisma.path))
    slow = info["migrations"][1]
    assert (slow["verdict"], slow["substate"]) == ("unfinished", "failed_clean"), info["evidence"]
    assert query(conn, "SELECT to_regclass('slow')") == [(None,)]


def test_standby_is_refused(prisma: PrismaProject, database: Database, module: ModuleRunner, cluster: t.Any, tmp_path: pathlib.Path) -> None:
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int);"})
    standby = cluster.server.make_standby(tmp_path / "standby", settings=cluster.settings, temporary=True)
    try:
        there = Target(**{**target.__dict__, "port": standby.port})
        for _ in range(100):
            if module("migration_info", there, app_dir=str(prisma.path))["status"] == "empty":
                break
            time.sleep(0.1)
        assert module("migration_deploy", there, app_dir=str(prisma.path))["code"] == "NOT_PRIMARY"
    finally:
        standby.remove()


def test_ledger_without_permission(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    conn = admin(target.dbname)
    with conn.cursor() as cursor:
        cursor.execute(LEDGER)
    fill(prisma, {"1_a": "CREATE TABLE a (id int);"})
    assert module("migration_info", target, app_dir=str(prisma.path))["code"] == "LEDGER_UNREADABLE"
    with conn.cursor() as cursor:
        cursor.execute(pgsql.SQL("GRANT SELECT ON _prisma_migrations TO {}").format(pgsql.Identifier(target.user)))
    assert module("migration_info", target, app_dir=str(prisma.path))["status"] == "pending"
    with conn.cursor() as cursor:
        cursor.execute("ALTER TABLE _prisma_migrations DROP COLUMN logs")
    assert module("migration_info", target, app_dir=str(prisma.path))["code"] == "LEDGER_MALFORMED"


def test_checksum_is_that_of_the_file(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    odd = "-- é\r\nCREATE TABLE a (id int);\r\n".encode() + b"-- \xff\n"
    for engine in ("direct", "prisma"):
        prisma.add("1_%s" % engine, odd.replace(b"TABLE a", b"TABLE a_" + engine.encode()))
        module("migration_deploy", target, app_dir=str(prisma.path), engine=engine)
    found = dict(query(admin(target.dbname), "SELECT migration_name, checksum FROM _prisma_migrations"))
    for engine in ("direct", "prisma"):
        text = (prisma.migrations / ("1_%s" % engine) / "migration.sql").read_bytes().decode("utf-8", "replace")
        assert found["1_%s" % engine] == hashlib.sha256(text.encode()).hexdigest()


#: What was called clean once although something was left of it: each script, and the statement that shows what is left.
NOT_CLEAN = {
    "grant_on_schema": "BEGIN; DELETE FROM users WHERE id > 10; GRANT USAGE ON SCHEMA public TO PUBLIC; COMMIT; SELECT 1/0;",
    "grant_on_all_tables": "BEGIN; DELETE FROM users WHERE id > 10; GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC; COMMIT; SELECT 1/0;",
    "ledger_written": "BEGIN; DELETE FROM users WHERE id > 10; UPDATE _prisma_migrations SET logs = ''; COMMIT; SELECT 1/0;",
    "analyze": "BEGIN; DELETE FROM users WHERE id > 10; ANALYZE users; COMMIT; SELECT 1/0;",
    "setval": "SELECT setval('users_id_seq', 1, false); SELECT 1/0;",
    "prepared": "BEGIN; DELETE FROM users WHERE id > 10; PREPARE TRANSACTION 'left'; SELECT 1/0;",
}


# What there is at the first deploy differs by what the collection reads, and not by the engine.
@pytest.mark.parametrize(("engine", "first"), [("direct", True), ("direct", False), ("prisma", False)])
@pytest.mark.parametrize("script", NOT_CLEAN.values(), ids=list(NOT_CLEAN))
def test_clean_is_never_claimed_when_something_is_left(
    script: str, first: bool, engine: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin
) -> None:
    target = database()
    options = {"app_dir": str(prisma.path), "engine": engine}
    fill(prisma, {"1_init": FILES["20240101000000_init"]})
    if not first:
        module("migration_deploy", target, **options)
    fill(prisma, {"2_fails": script})
    failed = module("migration_deploy", target, **options)
    try:
        assert failed["failed_migration"]["state"] in ("unknown", "failed_partial") and failed["touched"] is True, failed["msg"]
        assert module("migration_info", target, app_dir=str(prisma.path))["migrations"][1]["substate"] in ("unknown", "failed_partial")
    finally:
        if "PREPARE" in script:
            query(admin(target.dbname), "SELECT gid FROM pg_prepared_xacts")
            with admin(target.dbname).cursor() as cursor:
                cursor.execute("SELECT count(*) FROM pg_prepared_xacts WHERE gid = 'left' AND database = current_database()")
                if cursor.fetchone()[0]:
                    cursor.execute("ROLLBACK PREPARED 'left'")


def test_partial_is_not_claimed_for_the_work_of_others(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    fill(
        prisma,
        {
            "1_init": "CREATE TABLE a (id int); CREATE TABLE b (id int);",
            "2_fails": "SELECT pg_sleep(2) FROM a; INSERT INTO a VALUES (1); SELECT pg_sleep(2); SELECT 1/0;",
        },
    )
    running = module.start("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    conn = admin(target.dbname)
    for _ in range(100):
        if query(conn, "SELECT to_regclass('b')") != [(None,)]:
            break
        time.sleep(0.05)
    with conn.cursor() as cursor:
        cursor.execute("CREATE INDEX by_someone ON b (id)")
    failed = module.result(*running.communicate())
    assert failed["failed_migration"]["state"] == "unknown" and "by_someone" in failed["msg"], failed["msg"]


def test_a_command_that_changed_the_database_besides_the_ledger_counts_as_touched(
    prisma: PrismaProject, database: Database, module: ModuleRunner, tmp_path: pathlib.Path
) -> None:
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int);"})
    script = tmp_path / "own.py"
    script.write_text(
        "import os, psycopg2\nc = psycopg2.connect(os.environ['DATABASE_URL'].partition('?')[0])\nc.cursor().execute('CREATE TABLE own (id int)')\nc.commit()\nraise SystemExit(1)\n",
        encoding="utf-8",
    )
    said = module("migration_deploy", target, app_dir=str(prisma.path), deploy_command="python3 %s" % script)
    assert said["code"] == "DEPLOY_COMMAND_FAILED" and said["touched"] is True, said


def test_timeout_and_bad_options_are_told(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int); SELECT pg_sleep(30);"})
    options = {"app_dir": str(prisma.path)}
    said = module("migration_deploy", target, timeout=8, **options)
    assert said["cause"] == "DEPLOY_TIMEOUT" and "ended after" in said["msg"], said["msg"]
    assert module("migration_deploy", target, timeout=-1, **options)["code"] in ("OPTION_INVALID", "UNFINISHED_MIGRATION")
    other = database()
    prisma.add("1_a", "CREATE TABLE a (id int);\0CREATE TABLE b (id int);")
    assert module("migration_deploy", other, engine="direct", **options)["code"] == "OPTION_INVALID"
    prisma.add("1_a", "CREATE TABLE a (id int);")
    for check in (True, False):
        assert module("migration_deploy", other, check=check, maintenance_db="no_such_db", **options)["code"] == "MAINTENANCE_DB_UNREACHABLE"


def test_a_script_that_changes_role_still_gets_its_error_recorded(prisma: PrismaProject, database: Database, module: ModuleRunner) -> None:
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int);", "2_ro": "SET default_transaction_read_only = on; SELECT 1/0;"})
    failed = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    assert failed["failed_migration"]["sqlstate"] == "22012" and failed["touched"] is True, failed


LATE = """CREATE SEQUENCE once;
CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP || NEW.migration_name = '%s' AND nextval('once') = 1 THEN RAISE query_canceled; END IF; RETURN NEW; END $$;
CREATE TRIGGER late BEFORE INSERT OR UPDATE ON _prisma_migrations FOR EACH ROW EXECUTE FUNCTION late();
"""


@pytest.mark.parametrize("moment", ["UPDATE1_a", "INSERT2_b", "UPDATE2_b", "UPDATE3_c"])
def test_a_cancel_that_comes_late_stops_nothing(moment: str, prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    fill(prisma, {"1_a": LATE % moment, "2_b": "CREATE TABLE b (id int);", "3_c": "CREATE TABLE c (id int);"})
    done = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    assert names(done["applied"]) == ["1_a", "2_b", "3_c"] and done["status"] == "up_to_date", done["msg"]
    conn = admin(target.dbname)
    ledger = "SELECT migration_name, applied_steps_count, finished_at >= started_at FROM _prisma_migrations ORDER BY started_at"
    assert query(conn, ledger) == [(name, 1, True) for name in ("1_a", "2_b", "3_c")] and query(conn, "SELECT is_called FROM once") == [(True,)]


def test_what_keeps_the_end_from_being_written_is_said_of_that_migration(prisma: PrismaProject, database: Database, module: ModuleRunner, admin: Admin) -> None:
    target = database()
    fill(prisma, {"1_a": "CREATE TABLE a (id int); SET default_transaction_read_only = on;", "2_b": "CREATE TABLE b (id int);"})
    failed = module("migration_deploy", target, app_dir=str(prisma.path), engine="direct")
    assert "cannot record the end of 1_a" in failed["msg"] and failed["status"] == "blocked" and failed["touched"] is True, failed["msg"]
    assert query(admin(target.dbname), "SELECT to_regclass('a') IS NULL, to_regclass('b') IS NULL, count(*) FROM _prisma_migrations") == [(False, True, 1)]
