# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import threading
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _backup, _copy, _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import new_id
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, connection, sql
from ansible_collections.pgops.migrations.plugins.module_utils._copy import CopyOptions, copy, leftovers, snapshots
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker, read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid, swap
from conftest import PASSWORD, TestCluster
from support.restorepoints import Writers, databases, execute, filled, fingerprint, refused, session_count, until
from support.swaps import stopped

from tools.pgserver import Cluster, PgServerError, find_programs

LEDGER = """
CREATE TABLE _prisma_migrations (id text PRIMARY KEY, checksum text, finished_at timestamptz, migration_name text, logs text, rolled_back_at timestamptz,
    started_at timestamptz DEFAULT now(), applied_steps_count int DEFAULT 0);
INSERT INTO _prisma_migrations VALUES ('1', 'c', now(), '20260101000000_late')
"""
ODD = ['we"ird-db; drop', "postgresql://h/x?a=b", "blank and %s 100%", "ä" * 31, "d" * 63]


def take(target: t.Any, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    return copy(target, CopyOptions(**options), check_mode)


def go_back(target: t.Any, name: str) -> None:
    swap(target, name, derived_name(target.dbname, "kept", new_id()))


def count(target: t.Any, **connect: t.Any) -> int:
    return int(execute(target, "SELECT count(*) FROM users", **connect)[0][0])


@pytest.mark.parametrize("options", [{}, {"strategy": "file_copy"}, {"verify": True}], ids=["auto", "file_copy", "verify"])
def test_a_snapshot_is_the_database_of_that_moment(database: t.Any, admin: t.Any, options: dict[str, t.Any]) -> None:
    target = filled(database())
    execute(
        target,
        "CREATE UNLOGGED TABLE fast AS SELECT 1 AS a",
        "SELECT lo_from_bytea(0, 'large')",
        "CREATE PUBLICATION pub FOR TABLE users",
        "SELECT nextval('notes_id_seq')",
    )
    before = fingerprint(target)
    found = take(target, run_id="r1", label="before", **options)
    made = found["snapshot"]
    assert found["changed"] and not found["reused"] and found["attempts"] == 1 and found["strategy"] == ("file_copy" if "strategy" in options else "wal_log")
    assert made["name"].startswith(target.dbname + "__snapshot_") and made["confirmation"] == "%s:r1" % target.dbname and made["sequence"] == 1
    assert (made["fingerprint_digest"] == before) == ("verify" in options)
    settings = read_settings(admin(), database_oid(admin(), made["name"]) or 0)
    assert (settings["owner"], settings["allow_connections"]) == (target.user, False)
    assert [None, "CONNECT", False] not in settings["acl"]
    [listed] = snapshots(admin(), target.dbname)
    assert {name: listed[name] for name in ("name", "oid", "id", "run_id", "label", "source_oid", "fingerprint_digest")} == {
        "name": made["name"], "oid": made["oid"], "id": made["id"], "run_id": "r1", "label": "before",
        "source_oid": databases(admin())[target.dbname][0], "fingerprint_digest": made["fingerprint_digest"],
    }  # fmt: skip
    with pytest.raises(psycopg2.OperationalError, match="not currently accepting"):
        psycopg2.connect(host=target.host, port=target.port, user=target.user, password=PASSWORD, dbname=made["name"])
    execute(target, "DELETE FROM keyless", "DROP TABLE fast")
    go_back(target, made["name"])
    assert fingerprint(target) == before
    assert execute(target, "SELECT pubname FROM pg_publication") == [("pub",)] and execute(target, "SELECT a FROM fast") == [(1,)]


@pytest.mark.parametrize("name", ODD)
def test_odd_names(database: t.Any, admin: t.Any, name: str) -> None:
    target = filled(database(name))
    found = take(target, label="100% 'x' \" \\", verify=True)["snapshot"]
    assert len(found["name"].encode()) <= 63 and snapshots(admin(), name)[0]["label"] == "100% 'x' \" \\"
    go_back(target, found["name"])
    assert count(target) == 500


def test_check_mode_makes_nothing_and_refuses_the_same(database: t.Any, admin: t.Any) -> None:
    target = filled(database())
    before = databases(admin())
    found = take(target, check_mode=True, name="chosen")
    assert found["changed"] and found["snapshot"]["id"] == "" and found["snapshot"]["name"] == "chosen"
    other = connect(target)
    with refused("SESSIONS_REMAIN"):
        take(target, check_mode=True)
    other.close()
    assert until(lambda: databases(admin()) == before)


def test_sessions_are_refused_by_name(database: t.Any, admin: t.Any) -> None:
    target = filled(database())
    before = databases(admin())
    other = connect(target, application_name="the app")
    pid = other.info.backend_pid
    with refused("SESSIONS_REMAIN") as caught:
        take(target)
    other.close()
    assert [(found["pid"], found["application_name"], found["may_end"]) for found in caught[0].facts["sessions"]] == [(pid, "the app", True)]
    assert databases(admin()) == before


def test_reconnecting_clients_are_ended_and_come_back(database: t.Any, admin: t.Any) -> None:
    target = filled(database())
    execute(target, "CREATE TABLE acked (key text)")
    with Writers(target, 8) as writers:
        time.sleep(0.1)
        found = take(target, sessions="end")
        written = len(writers.rows())
        assert until(lambda: len(writers.rows()) > written + 100)
    assert found["terminated"] >= 8 and found["attempts"] == 1
    live = {key for (key,) in execute(target, "SELECT key FROM acked")}
    assert writers.rows() - live == set()
    admin().cursor().execute('ALTER DATABASE "%s" ALLOW_CONNECTIONS true' % found["snapshot"]["name"])
    copied = {key for (key,) in execute(target, "SELECT key FROM acked", dbname=found["snapshot"]["name"])}
    assert copied < live and len(copied) > 0


def test_new_connections_wait_while_the_copy_runs(database: t.Any) -> None:
    target = filled(database())
    execute(target, "CREATE TABLE big AS SELECT g, repeat('x', 900) AS x FROM generate_series(1, 150000) g")
    entered: list[float] = []
    stop = threading.Event()

    def enter() -> None:
        while not stop.is_set():
            connect(target).close()
            entered.append(time.monotonic())
            time.sleep(0.005)

    thread = threading.Thread(target=enter, daemon=True)
    thread.start()
    found = take(target, sessions="end", strategy="file_copy")
    stop.set()
    thread.join(10)
    gap = max(after - before for before, after in zip(entered, entered[1:]))
    assert gap > 0.5 * found["seconds"]["copy"] > 0.02, "and nobody was refused"


def test_a_session_that_may_not_be_ended(database: t.Any, admin: t.Any) -> None:
    target = filled(database())
    superuser = admin(target.dbname)
    with refused("SESSIONS_REMAIN") as caught:
        take(target, sessions="end")
    assert [found["pid"] for found in caught[0].facts["sessions"]] == [superuser.info.backend_pid]


def test_obstacles(database: t.Any, admin: t.Any, cluster: t.Any) -> None:
    target = filled(database())
    before = databases(admin())
    execute(target, "BEGIN", "CREATE TABLE prepared ()", "PREPARE TRANSACTION 'copy test'")
    try:
        with refused("COPY_REFUSED") as caught:
            take(target)
        assert caught[0].facts["prepared_transactions"] == ["copy test"]
    finally:
        execute(target, "ROLLBACK PREPARED 'copy test'")
    holder = connect(target)
    holder.cursor().execute("SELECT pg_advisory_lock(72707369)")
    with refused("SESSIONS_REMAIN"):
        take(target, sessions="end")
    holder.close()
    with run_lock(target), refused("LOCKED"):
        take(target, lock_wait=0)
    for options, code in (
        ({"name": target.dbname}, "NAME_UNUSABLE"), ({"name": "n" * 64}, "NAME_UNUSABLE"), ({"name": "postgres"}, "COPY_REFUSED"), ({"attempts": 0}, "OPTION_INVALID"),
        ({"maintenance_db": target.dbname}, "OPTION_INVALID"),
    ):  # fmt: skip
        with refused(code):
            take(target, **options)
    plain = database(createdb=False)
    with refused("PERMISSION_DENIED"):
        take(plain)
    assert {name: found for name, found in databases(admin()).items() if name != plain.dbname} == before


def test_a_slot_is_a_warning(database: t.Any, admin: t.Any) -> None:
    target = filled(database())
    cursor = admin(target.dbname).cursor()
    cursor.execute("SELECT pg_create_logical_replication_slot('copy_test', 'test_decoding')")
    cursor.connection.close()
    assert until(lambda: not execute(target, "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"))
    [warning] = take(target)["warnings"]
    assert "copy_test" in warning


def test_the_present_state_is_proved_or_copied_again(database: t.Any, admin: t.Any) -> None:
    target = filled(database())
    first = take(target)["snapshot"]
    again = take(target)
    assert not again["changed"] and again["reused"] and again["snapshot"]["name"] == first["name"]
    assert take(target, check_mode=True)["changed"] is False
    # A sequence within its cached values needs no transaction id.
    execute(target, "SELECT nextval('notes_id_seq')")
    second = take(target)
    assert second["changed"] and second["snapshot"]["sequence"] == 2
    execute(target, "UPDATE users SET name = 'changed' WHERE id = 1")
    assert take(target, verify=True)["changed"]
    # Somebody else writes elsewhere: only the content can tell.
    admin().cursor().execute("SELECT pg_current_xact_id()")
    assert take(target, reuse=True, check_mode=True)["reused"]
    assert take(target, check_mode=True)["changed"]
    execute(target, "UPDATE users SET name = 'again' WHERE id = 1")
    assert take(target, reuse=True, check_mode=True)["changed"]
    assert [found["sequence"] for found in snapshots(admin(), target.dbname)] == [1, 2, 3]


@pytest.mark.parametrize("options", [{}, {"verify": True}, {"sessions": "end"}], ids=["plain", "verify", "end"])
def test_a_second_run_changes_nothing(database: t.Any, options: dict[str, t.Any]) -> None:
    target = filled(database())
    assert take(target, **options)["changed"] and not take(target, **options)["changed"]


def test_an_unlogged_table_proves_nothing(database: t.Any) -> None:
    target = filled(database())
    execute(target, "CREATE UNLOGGED TABLE fast AS SELECT 1 AS a")
    assert take(target)["changed"] and take(target)["changed"]


def test_numbers_are_shared_with_dumps(database: t.Any, tmp_path: pathlib.Path, module: t.Any, cluster: t.Any) -> None:
    target = filled(database())
    folder = tmp_path / "points"
    done = module("database_backup", target, backup_dir=str(folder), pg_bin_dir=str(cluster.bin_dir))
    assert "code" not in done, done
    found = take(target, backup_dir=str(folder))["snapshot"]
    assert found["sequence"] == done["restore_point"]["sequence"] + 1


def test_a_ledger_that_moves_meanwhile_makes_no_snapshot(database: t.Any, admin: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = filled(database())
    before = set(databases(admin()))
    create = _copy._Run._create

    def meddle(self: t.Any, *args: t.Any) -> t.Any:
        done = create(self, *args)
        execute(target, LEDGER)
        return done

    monkeypatch.setattr(_copy._Run, "_create", meddle)
    with refused("LEDGER_MOVED"):
        take(target)
    assert set(databases(admin())) == before


def test_a_copy_that_differs_is_dropped(database: t.Any, admin: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target = filled(database())
    before = databases(admin())
    create = _copy._Run._create

    def meddle(self: t.Any, *args: t.Any) -> t.Any:
        done = create(self, *args)
        execute(target, "UPDATE users SET name = 'changed' WHERE id = 1")
        return done

    monkeypatch.setattr(_copy._Run, "_create", meddle)
    with refused("FINGERPRINT_MISMATCH") as caught:
        take(target, verify=True)
    assert caught[0].facts["differences"] and databases(admin()) == before


@pytest.mark.parametrize("stop_at", ["copy:created", "evict:locked"])
def test_killed_it_leaves_nothing_or_a_leftover_that_is_named(database: t.Any, admin: t.Any, stop_at: str) -> None:
    target = filled(database())
    client = connect(target)
    if stop_at == "copy:created":
        client.close()
    process = copying(target, stop_at)
    assert stopped(process), process.communicate()
    process.kill()
    process.wait()
    query = "SELECT 1 FROM pg_stat_activity WHERE application_name = 'pgops.migrations copy killed'"
    assert until(lambda: not execute(target, query, dbname="postgres")), "nobody waits for it"
    client.close()
    left = leftovers(admin(), target.dbname)
    # Where the copy was about to begin, the server may end it before it notices that it is for no one.
    assert len(left) == 1 if stop_at == "copy:created" else len(left) <= 1
    assert snapshots(admin(), target.dbname) == []
    found = take(target)
    assert found["changed"] and found["snapshot"]["name"] not in left
    assert found["warnings"] == ["%s was left by a run that did not end; it is no snapshot" % name for name in left]
    for name in left:
        with refused("COPY_REFUSED"):
            take(target, state="absent", name=name, id="20261122T163000Z-ab12cd")


def copying(target: t.Any, stop_at: str) -> subprocess.Popen[str]:
    code = (
        "import os\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._copy import CopyOptions, copy\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url\n"
        "copy(parse_url(os.environ['TARGET']), CopyOptions(sessions='end', run_id='killed'))\n"
    )
    env = {**os.environ, "TARGET": target.prisma_url(), _failpoint.VARIABLE: stop_at}
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)


def test_dropping_takes_name_and_id(database: t.Any, admin: t.Any) -> None:
    target, other = filled(database()), filled(database())
    made = take(target, name=target.dbname + "_snap", run_id="r7")["snapshot"]
    assert made["name"] == target.dbname + "_snap"
    before = databases(admin())
    for options in (
        {"name": made["name"], "id": "other"}, {"name": target.dbname + "x", "id": ""}, {"name": "postgres", "id": made["id"]}, {"name": other.dbname, "id": made["id"]},
    ):  # fmt: skip
        with refused("COPY_REFUSED", "OPTION_INVALID"):
            take(target, state="absent", **options)
    with refused("COPY_REFUSED"):
        take(other, state="absent", name=made["name"], id=made["id"])
    assert take(target, check_mode=True, state="absent", name=made["name"], id="r7")["changed"] and databases(admin()) == before
    assert take(target, state="absent", name=made["name"], id="r7")["changed"]
    assert not take(target, state="absent", name=made["name"], id="r7")["changed"]
    assert made["name"] not in databases(admin())
    # What was swapped in has another comment, so it is no snapshot any more.
    made = take(target, name=target.dbname + "_snap")["snapshot"]
    go_back(target, made["name"])
    assert snapshots(admin(), target.dbname) == []


def test_a_foreign_comment_is_no_snapshot(database: t.Any, admin: t.Any) -> None:
    target, other = filled(database()), filled(database())
    text = marker("snapshot", database="another", id="20261122T163000Z-ab12cd", sequence=9)
    admin().cursor().execute('COMMENT ON DATABASE "%s" IS %%s' % other.dbname, (text,))
    assert snapshots(admin(), target.dbname) == [] and take(target)["snapshot"]["sequence"] == 1


def test_a_snapshot_of_another_role_is_not_believed(database: t.Any, admin: t.Any) -> None:
    """Any role with CREATEDB can own a database and comment it."""
    target, forger = filled(database()), database()
    text = marker("snapshot", database=target.dbname, id="20261122T163000Z-ab12cd", sequence=99)
    execute(forger, sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(forger.dbname), sql.Literal(text)))
    assert snapshots(admin(), target.dbname) == [] and take(target)["snapshot"]["sequence"] == 1
    assert _backup._snapshot_sequences(admin(), target.dbname) == [1]
    # What a superuser made counts, and where the live database is missing, what the current role made.
    admin().cursor().execute('ALTER DATABASE "%s" OWNER TO CURRENT_USER' % forger.dbname)
    with connection(target, "postgres") as conn:
        assert [found["sequence"] for found in snapshots(conn, target.dbname)] == [1, 99]
        admin().cursor().execute('ALTER DATABASE "%s" OWNER TO "%s"' % (forger.dbname, forger.user))
        admin().cursor().execute('DROP DATABASE "%s"' % target.dbname)
        assert [found["sequence"] for found in snapshots(conn, target.dbname)] == [1]
    with connection(forger, "postgres") as conn:
        assert [found["sequence"] for found in snapshots(conn, target.dbname)] == [99]


def test_a_sequence_that_may_not_be_read_proves_nothing(database: t.Any, admin: t.Any) -> None:
    target = filled(database())
    admin(target.dbname).cursor().execute("CREATE SEQUENCE hidden")
    admin().cursor().execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '%s'" % target.dbname)
    assert until(lambda: not session_count(admin(), target.dbname))
    assert take(target)["changed"] and take(target)["changed"]


def test_a_snapshot_whose_drop_was_interrupted_is_a_leftover(database: t.Any, admin: t.Any, module: t.Any) -> None:
    target = filled(database())
    name = take(target, name=target.dbname + "_snap")["snapshot"]["name"]
    admin().cursor().execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = %s", (name,))
    try:
        assert snapshots(admin(), target.dbname) == [] and leftovers(admin(), target.dbname) == [name]
        assert [(each["name"], each["kind"]) for each in module("kept_database_info", target)["databases"]] == [(name, "leftover")]
        assert take(target, check_mode=True)["changed"] is True
    finally:
        admin().cursor().execute("UPDATE pg_database SET datconnlimit = -1 WHERE datname = %s", (name,))


def test_module(database: t.Any, module: t.Any, admin: t.Any) -> None:
    target = filled(database())
    execute(target, "SELECT 1")
    first = module("database_copy", target, run_id="r9", strategy="file_copy")
    assert first["changed"] and "code" not in first, first
    assert json.loads(json.dumps(first["snapshot"]))["confirmation"] == "%s:r9" % target.dbname
    assert module("database_copy", target)["changed"] is False
    client = connect(target)
    client.cursor().execute("UPDATE users SET name = 'secret canary'")
    failed = module("database_copy", target)
    assert failed["code"] == "SESSIONS_REMAIN" and failed["next_step"] and "canary" not in json.dumps(failed)
    client.close()
    gone = module("database_copy", target, state="absent", name=first["snapshot"]["name"], id="r9")
    assert gone["changed"] and first["snapshot"]["name"] not in databases(admin())


@pytest.mark.parametrize("source", ["wheel", "wheel18"])
def test_other_servers(tmp_path: pathlib.Path, source: str) -> None:
    """The copy, the proof and the way back on PostgreSQL 17, and on 18 with files that are cloned where that can be."""
    try:
        find_programs(source=source)
    except PgServerError as error:
        pytest.skip(str(error))
    with Cluster(tmp_path / "server", fast=True, source=source, temporary=True) as server:
        target = TestCluster(server).superuser_target("app")
        server.query("CREATE DATABASE app")
        filled(target)
        before = fingerprint(target)
        first = take(target, strategy="file_copy", verify=True)
        assert first["cloned"] == (server.version[0] >= 18) and not take(target)["changed"]
        with Writers(target, 4, "keyless (b)"):
            second = take(target, sessions="end")
        assert second["strategy"] == "wal_log" and second["attempts"] == 1 and second["terminated"] >= 4
        swap(target, first["snapshot"]["name"], "app_k")
        assert fingerprint(target) == before


def test_where_files_cannot_be_cloned(database: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server before 18 refuses the setting as an unsupported file system refuses the call: a plain copy is made."""
    target = filled(database())
    monkeypatch.setattr(_copy, "choose", lambda *_args: _copy.Strategy("file_copy", True, True))
    found = take(target)
    assert found["changed"] and found["attempts"] == 1 and found["cloned"] is False
