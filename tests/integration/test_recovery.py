# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What unfinished migrations left, after real failures: killed clients and sessions, refused statements, timeouts.

A neighbour database of the same server is written to all the time, so the transactions of the server prove little.
"""

from __future__ import annotations

import pathlib
import threading
import typing as t

import pytest
from support import crashes
from support.modules import ModuleRunner
from support.prisma import PrismaProject
from support.sites import INIT_SQL, Admin, Database, Site

CLEAN, PARTIAL, UNRECORDED, UNKNOWN, RUNNING = "failed_clean", "failed_partial", "committed_unrecorded", "unknown", "running"
X = "2_x"


@pytest.fixture
def site(database: Database, admin: Admin, tmp_path: pathlib.Path) -> Site:
    target = database()
    return Site(target, tmp_path / "migrations", admin(target.dbname), admin(target.dbname))


@pytest.fixture(scope="module", autouse=True)
def busy_neighbour(cluster: t.Any) -> t.Iterator[None]:
    """Commits in another database of the server, all the time."""
    admin = cluster.admin()
    with admin.cursor() as cursor:
        cursor.execute("CREATE DATABASE neighbour")
    conn, stop = cluster.admin("neighbour"), threading.Event()

    def write() -> None:
        with conn.cursor() as cursor:
            cursor.execute("CREATE TABLE n (id int)")
            while not stop.wait(0.01):
                cursor.execute("INSERT INTO n VALUES (1)")

    writer = threading.Thread(target=write)
    writer.start()
    yield
    stop.set()
    writer.join()
    conn.close()
    with admin.cursor() as cursor:
        cursor.execute("DROP DATABASE neighbour")
    admin.close()


SCHEMA = "CREATE TABLE a (id int);\nLOCK TABLE gate;\nCREATE TABLE b (id int);\n"
SPLIT_SCHEMA = "CREATE TABLE a (id int);\nALTER TABLE gate ADD COLUMN x int;\nCREATE TABLE b (id int);\n"
COMMITTED = "BEGIN;\nALTER TABLE users ADD COLUMN half text;\nCOMMIT;\nINSERT INTO users (id) VALUES (1);\n"
DUPLICATE = "INSERT INTO users (id) VALUES (1);\n"
UNIQUE = "CREATE UNIQUE INDEX CONCURRENTLY users_email ON users (email);\n"
LIVE_DUPLICATE = "INSERT INTO users (id) VALUES (2);\n"
FILL = "UPDATE users SET email = 'b';\n"

#: script, how the engine runs it, what is known of it afterwards. The client ends by itself.
FAILURES: dict[str, tuple[str, dict[str, t.Any], str]] = {
    "killed_before_the_script": ("CREATE TABLE a (id int);", {"die": "before_script"}, CLEAN),
    "killed_after_the_commit": ("CREATE TABLE a (id int);\nCREATE TABLE b (id int);", {"die": "after_script"}, UNRECORDED),
    "killed_after_the_first_statement": ("CREATE TABLE a (id int);\nCREATE TABLE b (id int);", {"mode": "split", "die": "after_1"}, PARTIAL),
    "killed_before_the_finish": (FILL, {"die": "after_steps"}, UNRECORDED),
    "statement_error": ("CREATE TABLE a (id int);\n" + DUPLICATE, {}, CLEAN),
    "statement_error_of_live_rows": ("CREATE TABLE a (id int);\n" + LIVE_DUPLICATE, {}, CLEAN),
    "statement_error_of_live_rows_split": ("CREATE TABLE a (id int);\n" + LIVE_DUPLICATE + "CREATE TABLE b (id int);\n", {"mode": "split"}, PARTIAL),
    "statement_error_split": ("CREATE TABLE a (id int);\n" + DUPLICATE, {"mode": "split"}, PARTIAL),
    "error_of_the_first_statement_split": (DUPLICATE, {"mode": "split"}, CLEAN),
    "error_after_an_explicit_commit": (COMMITTED, {}, PARTIAL),
    "error_after_an_explicit_commit_split": (COMMITTED, {"mode": "split"}, PARTIAL),
    "concurrently_leaves_an_invalid_index": (UNIQUE, {}, PARTIAL),
    "concurrently_after_others": ("ALTER TABLE users ADD COLUMN c int;\n" + UNIQUE, {"mode": "split"}, PARTIAL),
    "refused_inside_a_transaction": ("ALTER TABLE users ADD COLUMN c int;\n" + UNIQUE, {"mode": "whole"}, CLEAN),
    "broken_script": ("CREATE TABLE a (id int);\nALTER TABLE nowhere ADD COLUMN x int;\nCREATE TABLE b (id int);", {"mode": "split"}, PARTIAL),
    "broken_script_whole": ("CREATE TABLE a (id int);\nALTER TABLE nowhere ADD COLUMN x int;", {}, CLEAN),
    "data_only_after_the_commit": (FILL, {"die": "after_script"}, UNKNOWN),
    "data_only_refused": (DUPLICATE, {}, CLEAN),
    "two_data_statements_refused": (FILL + DUPLICATE, {"mode": "split"}, UNKNOWN),
    "schema_then_data_committed": ("ALTER TABLE users ADD COLUMN c int;\n" + FILL, {"die": "after_script"}, UNKNOWN),
    "schema_then_data_half": ("ALTER TABLE users ADD COLUMN c int;\n" + FILL, {"mode": "split", "die": "after_1"}, UNKNOWN),
    "schema_then_data_refused_split": ("ALTER TABLE users ADD COLUMN c int;\n" + DUPLICATE, {"mode": "split"}, PARTIAL),
    "schema_then_data_refused_whole": ("ALTER TABLE users ADD COLUMN c int;\n" + DUPLICATE, {}, CLEAN),
    "data_then_schema_committed": (FILL + "ALTER TABLE users ADD COLUMN c int;", {"die": "after_script"}, UNRECORDED),
    "data_then_schema_half": (FILL + "ALTER TABLE users ADD COLUMN c int;", {"mode": "split", "die": "after_1"}, UNKNOWN),
    "data_then_schema_not_begun": (FILL + "ALTER TABLE users ADD COLUMN c int;", {"die": "before_script"}, UNKNOWN),
    "lets_a_transaction_open": ("BEGIN;\nCREATE TABLE a (id int);", {"die": "after_script"}, UNKNOWN),
    "reaches_beyond": ("ALTER ROLE CURRENT_USER SET work_mem = '4MB';\nCREATE TABLE a (id int);", {"die": "after_script"}, UNKNOWN),
}


@pytest.mark.parametrize("case", FAILURES)
def test_failures(case: str, site: Site) -> None:
    script, how, state = FAILURES[case]
    assert crashes.end(site.start(script, **how)) != 0
    [entry] = site.examine()
    assert entry["state"] == state, (entry["reason"], entry["by_schema"])
    assert entry["by_transactions"]["state"] in (UNKNOWN, UNRECORDED, state)
    if "concurrently_" in case:
        assert entry["invalid_indexes"] == ["public.users_email"] and entry["scripts"]["after"]["transactional"] is False
    assert site.query("SELECT count(*) FROM pg_database WHERE datname LIKE '%scratch%'") == [(0,)]


@pytest.mark.parametrize(
    ("mode", "script", "state"), [("whole", SCHEMA, UNRECORDED), ("split", SPLIT_SCHEMA, PARTIAL)], ids=["whole", "split"]
)  # fmt: skip
def test_killed_client_whose_session_goes_on(mode: str, script: str, state: str, site: Site) -> None:
    """kill -9 at a statement that waits: the server runs on, and what it commits is seen."""
    site.close_gate()
    client = site.start(script, mode=mode)
    crashes.until(site.at_gate)
    assert site.state() == RUNNING
    crashes.kill(client)
    # The session lives, and holds Prisma's lock.
    assert site.state() == RUNNING
    site.open_gate()
    crashes.until(lambda: site.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 72707369") == [(0,)])
    assert site.state() == state


def test_killed_client_whose_session_is_not_seen_by_the_lock(site: Site) -> None:
    """Prisma's lock can be turned off; a session at work still keeps the state from being called clean."""
    site.close_gate()
    client = site.start(SCHEMA, lock=False)
    crashes.until(site.at_gate)
    crashes.kill(client)
    [entry] = site.examine()
    assert entry["state"] == UNKNOWN and "at work" in entry["reason"]
    site.open_gate()
    crashes.until(lambda: site.query("SELECT to_regclass('b')") != [(None,)])
    assert site.state() == UNRECORDED


@pytest.mark.parametrize(
    ("mode", "settings", "state"),
    [
        ("whole", {"client_connection_check_interval": "50ms"}, CLEAN), ("split", {"client_connection_check_interval": "50ms"}, PARTIAL),
        ("whole", {}, CLEAN), ("split", {}, PARTIAL), ("whole", {"lock_timeout": "200ms"}, CLEAN), ("split", {"lock_timeout": "200ms"}, PARTIAL),
        ("whole", {"statement_timeout": "200ms"}, CLEAN), ("split", {"statement_timeout": "200ms"}, PARTIAL),
    ],
)  # fmt: skip
def test_ended_while_it_waited(mode: str, settings: dict[str, str], state: str, site: Site) -> None:
    """The client killed and noticed; the session ended by an administrator; both timeouts."""
    site.close_gate()
    client = site.start(SPLIT_SCHEMA, mode=mode, **settings)
    crashes.until(lambda: site.at_gate() or client.poll() is not None)
    if "client_connection_check_interval" in settings:
        crashes.kill(client)
        crashes.until(lambda: not site.at_gate())
    else:
        if not settings:
            site.query("SELECT pg_terminate_backend(%d)" % site.at_gate()[0])
        assert crashes.end(client) in (1, 3)
    site.open_gate()
    assert site.state() == state


def test_the_operators_query(site: Site) -> None:
    assert crashes.end(site.start(FILL, die="after_script")) != 0
    assert site.state(replay=False) == UNKNOWN
    assert site.state(assert_sql="SELECT NOT EXISTS (SELECT FROM users WHERE email <> 'b')") == UNRECORDED
    assert site.state(assert_sql="SELECT EXISTS (SELECT FROM users WHERE email = 'nobody')") == CLEAN
    for bad in (
        "SELECT 1",
        "DELETE FROM users",
        "SELECT true; SELECT true",
        "WITH x AS (DELETE FROM users RETURNING 1) SELECT true FROM x",
        "SELECT nextval('users_id_seq') > 0",
    ):
        with pytest.raises(Exception, match="OPTION_INVALID|assert_sql"):
            site.examine(assert_sql=bad)
    assert site.query("SELECT count(*) FROM users") == [(2,)]


def test_edited_missing_and_drift(site: Site, module: ModuleRunner) -> None:
    assert crashes.end(site.start("CREATE TABLE a (id int);\nCREATE TABLE b (id int);", die="after_script")) != 0
    site.query("CREATE TABLE by_hand (id int); ALTER TABLE users ADD COLUMN by_hand int; GRANT SELECT ON users TO PUBLIC")
    [entry] = site.examine()
    assert entry["state"] == UNRECORDED and "table public.by_hand" in entry["by_schema"]["drift"]
    site.add(X, "CREATE TABLE a (id int);\nCREATE TABLE b (id int);\n-- later")
    assert site.state() == UNKNOWN
    (site.folder / X / "migration.sql").unlink()
    (site.folder / X).rmdir()
    assert site.state() == UNKNOWN
    said = module("migration_recovery_info", site.target, migrations_dir=str(site.folder), replay=True, check=True)
    assert said["changed"] is False and [entry["state"] for entry in said["migrations"]] == [UNKNOWN] and said["status"] == "blocked"
    assert module("migration_recovery_info", site.target, migrations_dir=str(site.folder), migration="nope")["code"] == "UNKNOWN_MIGRATION"


def test_several_unfinished_rows(site: Site) -> None:
    """Two migrations that have nothing to do with each other are told apart; those that have are not."""
    assert crashes.end(site.start("CREATE TABLE a (id int);", die="after_script")) != 0
    site.add("3_y", "CREATE TABLE y (id int);")
    assert crashes.end(crashes.start(site.target, "3_y", "CREATE TABLE y (id int);", die="before_script")) != 0
    assert [entry["state"] for entry in site.examine()] == [UNRECORDED, CLEAN]
    site.add("4_z", "DROP TABLE a;")
    assert crashes.end(crashes.start(site.target, "4_z", "DROP TABLE a;", die="before_script")) != 0
    assert [entry["state"] for entry in site.examine()][0] == UNKNOWN


def test_a_second_run_over_what_the_first_committed(site: Site) -> None:
    """Wrongly resolved as rolled back, and deployed again: the table is there already."""
    script = "CREATE TABLE a (id int);"
    assert crashes.end(site.start(script, die="after_script")) != 0
    site.query("UPDATE _prisma_migrations SET rolled_back_at = now() WHERE finished_at IS NULL")
    assert crashes.end(site.start(script)) == 1
    assert site.state() == UNRECORDED


def test_no_right_to_create_a_database(database: Database, admin: Admin, tmp_path: pathlib.Path) -> None:
    target = database(createdb=False)
    site = Site(target, tmp_path / "migrations", admin(target.dbname), admin(target.dbname))
    assert crashes.end(site.start("CREATE TABLE a (id int);", die="after_script")) != 0
    [entry] = site.examine()
    assert entry["state"] == UNKNOWN and "scratch database" in entry["reason"]


@pytest.mark.parametrize("name", ['we"ird-db; drop', "postgresql://h/x" + "é" * 23])
def test_odd_names(name: str, database: Database, admin: Admin, tmp_path: pathlib.Path) -> None:
    target = database(name)
    site = Site(target, tmp_path / "migrations", admin(name), admin(name))
    assert crashes.end(site.start("CREATE TABLE a (id int);\nCREATE TABLE b (id int);", mode="split", die="after_1")) != 0
    [entry] = site.examine()
    assert entry["state"] == PARTIAL and entry["scripts"]["after"]["proved"], entry


@pytest.mark.prisma
def test_the_real_clis_own_words(prisma: PrismaProject, site: Site, module: ModuleRunner) -> None:
    """What it records of a refusal is understood: the end of the script is ruled out, so it is a part."""
    prisma.add("1_init", INIT_SQL)
    prisma.add(X, "BEGIN; CREATE TABLE a (id int); COMMIT; INSERT INTO users (id) VALUES (2);")
    assert prisma.cli(site.target, "migrate", "deploy").returncode == 1
    [entry] = module("migration_recovery_info", site.target, app_dir=str(prisma.path), replay=True)["migrations"]
    assert entry["state"] == PARTIAL and entry["by_schema"]["state"] == PARTIAL, entry
    assert entry["scripts"]["before"]["proved"] and "after" in entry["scripts"]
