# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import pathlib
import shutil
import time
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _reuse
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import new_id, read_wal_mark, settled, unwritten
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import find_program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import load
from ansible_collections.pgops.migrations.plugins.module_utils._schema_text import of_database
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import read_proof, write_proof
from support.restorepoints import databases, execute, filled, refused, take_backup, tree


def test_a_second_run_takes_the_first_ones_restore_point(cluster: t.Any, database: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    options = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir), reuse=True)
    first = module("database_backup", target, run_id="r1", **options)
    assert (first["changed"], first["restore_point"]["reused"], first["restore_point"]["sequence"]) == (True, False, 1), first
    before = tree(scratch)
    for check in (True, False):
        again = module("database_backup", target, check=check, run_id="r2", **options)
        assert again["changed"] is False and again["restore_point"] == dict(first["restore_point"], reused=True)
    assert tree(scratch) == before
    execute(target, "UPDATE users SET name = 'changed' WHERE id = 3")
    assert module("database_backup", target, check=True, run_id="r2", **options)["changed"] is True
    second = module("database_backup", target, run_id="r2", **options)
    assert (second["changed"], second["restore_point"]["reused"], second["restore_point"]["sequence"]) == (True, False, 2)
    assert first["restore_point"]["confirmation"] == target.dbname + ":r1" and second["restore_point"]["confirmation"] == target.dbname + ":r2"
    assert module("database_backup", target, **dict(options, reuse=False))["restore_point"]["sequence"] == 3


#: What may change without a trace in counts, and must lead to a new restore point.
CHANGES = {
    "row": "UPDATE notes SET body = body || 'x' WHERE id = 1",
    "row that leaves the count": "DELETE FROM keyless WHERE ctid = '(0,1)'; INSERT INTO keyless VALUES (1, 'Twice')",
    "sequence within its cache": "SELECT nextval('users_id_seq')",
    "function": "CREATE OR REPLACE FUNCTION double(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i + i'",
    "grant": "GRANT SELECT ON users TO PUBLIC",
    "large object": 'SET ROLE "{user}"; SELECT lo_from_bytea(0, \'x\'); RESET ROLE',
    "owner of a large object": "ALTER LARGE OBJECT 9001 OWNER TO CURRENT_USER",
    "right on a large object": "GRANT UPDATE ON LARGE OBJECT 9002 TO CURRENT_USER",
    "unlogged table": "CREATE UNLOGGED TABLE u (a int); INSERT INTO u VALUES (1); ALTER TABLE u OWNER TO \"{user}\"",
    "setting of the database": 'ALTER DATABASE "{db}" SET work_mem = \'5MB\'',
    "comment of the database": 'COMMENT ON DATABASE "{db}" IS \'other\'',
    "mapping of a text search configuration": "ALTER TEXT SEARCH CONFIGURATION words DROP MAPPING FOR email",
    "right on what PostgreSQL brings along": "REVOKE EXECUTE ON FUNCTION pg_catalog.pg_sleep(double precision) FROM PUBLIC",
    "membership of a role": "GRANT pg_monitor TO \"{user}\"",
    "ledger": "CREATE TABLE _prisma_migrations (id text, checksum text, finished_at timestamptz, migration_name text, logs text, rolled_back_at timestamptz,"
    " started_at timestamptz DEFAULT now(), applied_steps_count int); ALTER TABLE _prisma_migrations OWNER TO \"{user}\"",
}  # fmt: skip


def test_every_change_leads_to_a_new_one(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    cursor = admin(target.dbname).cursor()
    cursor.execute("CREATE TEXT SEARCH CONFIGURATION words (COPY = simple)")
    cursor.execute(
        "SELECT lo_from_bytea(9001, 'x'), lo_from_bytea(9002, 'y'); GRANT SELECT ON LARGE OBJECT 9001 TO PUBLIC; ALTER LARGE OBJECT 9001 OWNER TO \"%s\""
        % target.user
    )
    cursor.execute('ALTER LARGE OBJECT 9002 OWNER TO "%s"; GRANT SELECT ON LARGE OBJECT 9002 TO CURRENT_USER' % target.user)
    sequence = take_backup(target, scratch, cluster.bin_dir, reuse=True)["sequence"]
    for name, statement in CHANGES.items():
        again = take_backup(target, scratch, cluster.bin_dir, reuse=True)
        assert (again["reused"], again["sequence"]) == (True, sequence), "before: %s" % name
        cursor.execute(statement.replace("{db}", target.dbname).replace("{user}", target.user))
        point = take_backup(target, scratch, cluster.bin_dir, reuse=True)
        assert (point["reused"], point["sequence"]) == (False, sequence + 1), name
        sequence += 1
        if name == "unlogged table":
            # Nothing of it is in the WAL.
            execute(target, "UPDATE u SET a = 2")
            assert take_backup(target, scratch, cluster.bin_dir, reuse=True)["reused"] is False
            sequence += 1
    cursor.execute('REVOKE pg_monitor FROM "%s"' % target.user)


def test_the_settings_of_a_role_make_no_other_schema(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    for setting in ("quote_all_identifiers = on", "IntervalStyle = 'iso_8601'", "DateStyle = 'German'"):
        admin().cursor().execute('ALTER ROLE "%s" SET %s' % (target.user, setting))
    execute(target, "CREATE VIEW spans AS SELECT interval '1 day 2 hours' AS span, date '2026-07-01' AS day")
    point = take_backup(target, scratch, cluster.bin_dir)
    # So that the position of the WAL proves nothing.
    admin().cursor().execute("SELECT pg_logical_emit_message(true, 'test', 'x')")
    assert take_backup(target, scratch, cluster.bin_dir, reuse=True)["id"] == point["id"]


def test_a_lock_does_not_hold_up_the_look_at_the_schema(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    execute(target, "CREATE TABLE whole (a int) PARTITION BY LIST (a)", "CREATE TABLE part PARTITION OF whole DEFAULT")
    program = find_program("pg_dump", cluster.server.version[0] * 10000, str(cluster.bin_dir))
    free = of_database(program, target, 10.0)
    holder = admin(target.dbname)
    holder.autocommit = False
    holder.cursor().execute("LOCK TABLE ONLY whole IN ACCESS EXCLUSIVE MODE")
    began = time.monotonic()
    with refused("BACKUP_FAILED"):
        of_database(program, target, 0.5)
    assert time.monotonic() - began < 10
    holder.rollback()
    assert of_database(program, target, 0.5) == free


def test_what_is_not_whole_or_not_as_asked_for_is_not_taken(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    first = take_backup(target, scratch, cluster.bin_dir, globals=False)
    assert take_backup(target, scratch, cluster.bin_dir, globals=False, reuse=True)["id"] == first["id"]
    for options in ({"globals": True}, {"globals": False, "format": "custom"}):
        assert take_backup(target, scratch, cluster.bin_dir, reuse=True, **options)["reused"] is False

    def taken_again(change: t.Callable[[pathlib.Path], t.Any]) -> bool:
        point = take_backup(target, scratch, cluster.bin_dir)
        change(pathlib.Path(point["path"]))
        again = take_backup(target, scratch, cluster.bin_dir, reuse=True)
        shutil.rmtree(point["path"])
        return bool(again["reused"])

    digest = load(first["path"]).fingerprint["digest"]
    assert taken_again(lambda path: None)
    assert not taken_again(lambda path: (path / "archive" / "toc.dat").write_bytes(b"PGDMP"))
    assert not taken_again(lambda path: (path / "globals.sql").unlink())
    assert not taken_again(lambda path: (path / "proof.json").unlink())
    assert not taken_again(lambda path: write_proof(str(path), digest, "read", "", "2026-01-01T00:00:00Z", {}))


def test_the_order_is_not_that_of_the_clock(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    points = [take_backup(target, scratch, cluster.bin_dir) for _ in range(3)]
    # The clock goes back, and so does the name of the newest.
    folder = pathlib.Path(points[0]["path"]).parent
    manifests = _reuse.manifests(str(folder))
    assert [manifest.sequence for manifest in manifests] == [3, 2, 1]
    shutil.rmtree(points[0]["path"])
    shutil.rmtree(points[1]["path"])
    assert take_backup(target, scratch, cluster.bin_dir)["sequence"] == 4
    snapshot = target.dbname + "_snapshot"
    cursor = admin().cursor()
    cursor.execute('CREATE DATABASE "%s" TEMPLATE template0' % snapshot)
    cursor.execute('COMMENT ON DATABASE "%s" IS %%s' % snapshot, (marker("snapshot", database=target.dbname, id=new_id(), sequence=9),))
    try:
        assert take_backup(target, scratch, cluster.bin_dir)["sequence"] == 10
    finally:
        cursor.execute('DROP DATABASE "%s"' % snapshot)
    assert take_backup(target, scratch, cluster.bin_dir)["sequence"] == 11
    (folder / points[2]["id"] / "manifest.json").write_text("{}")
    assert take_backup(target, scratch, cluster.bin_dir)["sequence"] == 12


def test_the_position_of_the_wal_proves_only_what_it_can(cluster: t.Any, database: t.Any) -> None:
    target = filled(database())
    with connection(target) as conn, connection(target) as other, other.cursor() as writer:
        fingerprint = take(conn)

        def mark() -> str:
            return settled(conn, read_wal_mark(conn))

        assert not unwritten(conn, "", fingerprint)
        for _try in range(20):
            quiet = mark()
            # Other databases of the same server may be written at any time.
            if unwritten(conn, quiet, fingerprint):
                break
        else:
            raise AssertionError("it is never recognized that nothing was written")
        # The server logs every 32nd value only.
        writer.execute("SELECT nextval('users_id_seq')")
        position = read_wal_mark(conn)
        writer.execute("SELECT nextval('users_id_seq')")
        assert read_wal_mark(conn) == position and not unwritten(conn, position, fingerprint)
        fingerprint = take(conn)
        writer.execute("CREATE UNLOGGED TABLE unlogged (a int)")
        assert not unwritten(conn, read_wal_mark(conn), take(conn))
        writer.execute("DROP TABLE unlogged")
        assert not unwritten(conn, quiet, take(conn))
        writer.execute("BEGIN; INSERT INTO keyless VALUES (1, 'not yet')")
        assert mark() == "", "its commit may be in the WAL before anybody sees it"
        writer.execute("PREPARE TRANSACTION 'wal mark'")
        assert mark() == ""
        writer.execute("COMMIT PREPARED 'wal mark'")
        assert mark() != ""


def test_the_roles_lie_beside_the_dump(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    admin().cursor().execute('GRANT pg_read_all_data TO "%s"' % target.user)
    point = take_backup(target, scratch, cluster.bin_dir)
    text = pathlib.Path(point["path"], "globals.sql").read_text()
    assert point["globals"]["path"] == "globals.sql" and point["globals"]["passwords"] is False
    assert "CREATE ROLE" in text and target.user in text and "GRANT pg_read_all_data TO" in text and "SCRAM" not in text and "PASSWORD '" not in text
    assert "globals.sql" in {entry.path for entry in load(point["path"]).files}
    assert take_backup(target, scratch, cluster.bin_dir, globals=False)["globals"] is None
    with refused("PERMISSION_DENIED") as caught:
        take_backup(target, scratch, cluster.bin_dir, globals_hashes=True)
    assert "superuser" in caught[0].msg
    with refused("OPTION_INVALID"):
        take_backup(target, scratch, cluster.bin_dir, globals=False, globals_hashes=True)
    superuser = cluster.superuser_target(target.dbname)
    admin().cursor().execute("ALTER ROLE \"%s\" PASSWORD 'a new one'" % target.user)
    point = take_backup(superuser, scratch, cluster.bin_dir, globals_hashes=True)
    assert "SCRAM-SHA-256$" in pathlib.Path(point["path"], "globals.sql").read_text() and point["globals"]["passwords"] is True


def test_without_pg_dumpall_there_is_a_warning(cluster: t.Any, database: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path, module: t.Any) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("pg_dump", "pg_restore"):
        (programs / name).symlink_to(pathlib.Path(cluster.bin_dir) / name)
    result = module("database_backup", filled(database()), backup_dir=str(scratch), pg_bin_dir=str(programs))
    assert result["restore_point"]["globals"] is None and "globals.sql" in json.dumps(result["warnings"])


@pytest.mark.parametrize(
    "setting", ["TimeZone = 'Asia/Kolkata'", "DateStyle = 'German'", "bytea_output = 'escape'", "IntervalStyle = 'iso_8601'", "xmlbinary = 'hex'"]
)
def test_the_text_in_an_archive_is_the_same_under_all_settings(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, setting: str) -> None:
    target = database()
    execute(
        target,
        "CREATE TABLE texts (at timestamptz, day date, photo bytea, span interval, amount money, doc xml)",
        "INSERT INTO texts VALUES ('2026-07-01 12:00+00', '2026-07-01', decode('00ff41', 'hex'), '1 day 2 hours', 12.5, xmlelement(name a, 'x'))",
    )

    def archived() -> bytes:
        point = take_backup(target, scratch, cluster.bin_dir, format="directory", compression="none")
        (data,) = pathlib.Path(point["path"], "archive").glob("[0-9]*.dat")
        return data.read_bytes()

    plain = archived()
    for subject in ('DATABASE "%s"' % target.dbname, 'ROLE "%s"' % target.user):
        admin().cursor().execute("ALTER %s SET %s" % (subject, setting))
    assert archived() == plain and b"2026-07-01 12:00:00+00\t2026-07-01\t\\\\x00ff41\t1 day 02:00:00\t" in plain


def test_a_drill_can_be_the_proof(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    before = set(databases(admin()))
    options = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir), reuse=True)
    first = module("database_backup", target, **options)["restore_point"]
    assert first["proof"]["level"] == "read"
    options["proof"] = "drill"
    assert module("database_backup", target, check=True, **options)["changed"] is True
    drilled = module("database_backup", target, **options)
    assert (drilled["changed"], drilled["restore_point"]["reused"], drilled["restore_point"]["proof"]["level"]) == (True, True, "drill"), drilled
    assert (drilled["restore_point"]["id"], (read_proof(first["path"]) or {})["level"]) == (first["id"], "drill")
    for check in (True, False):
        assert module("database_backup", target, check=check, **options)["changed"] is False
    execute(target, "DELETE FROM keyless")
    assert module("database_backup", target, **options)["restore_point"]["proof"]["level"] == "drill"
    assert set(databases(admin())) == before


def test_a_proof_is_of_its_manifest(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    point = take_backup(database(), scratch, cluster.bin_dir, run_id="r7")
    proof = read_proof(point["path"])
    assert proof is not None and (proof["level"], proof["manifest"], proof["run_id"]) == ("read", point["sha256"], "r7")
    assert point["proof"] == {"level": "read", "at": proof["at"]}
