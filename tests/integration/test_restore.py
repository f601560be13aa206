# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import threading
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _manifest, _restore, _restore_loss
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, connection
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker
from support.restorepoints import (
    CommandLines,
    Writers,
    databases,
    execute,
    filled,
    fingerprint,
    go_back,
    programs,
    refused,
    session_count,
    take_backup,
    until,
)

#: Names that break naive code. The last one has 63 bytes.
NAMES = ['we"ird-db; drop', "postgresql://h/x", "a=b", "dbname=postgres", "-rf", "ünï cödé 'x' \\ %s", "new\nline", "D" * 63]


@pytest.mark.parametrize("format_", ["directory", "custom"])
def test_there_and_back(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any, format_: str) -> None:
    target = filled(database())
    admin().cursor().execute('ALTER DATABASE "%s" CONNECTION LIMIT 12' % target.dbname)
    admin().cursor().execute("COMMENT ON DATABASE \"%s\" IS 'the shop'" % target.dbname)
    before = fingerprint(target)
    options = dict(pg_bin_dir=str(cluster.bin_dir), run_id="r1")
    point = module("database_backup", target, backup_dir=str(scratch), format=format_, **options)["restore_point"]
    execute(
        target,
        "DELETE FROM notes WHERE id > 1500",
        "UPDATE users SET name = 'changed' WHERE id = 3",
        "ALTER TABLE keyless ADD c int",
        "CREATE TABLE later (x int)",
    )
    after = fingerprint(target)
    options["restore_point"] = point["path"]
    databases_before = databases(admin())

    preview = module("database_restore", target, check=True, **options)
    assert preview["changed"] is True and preview["loss"]["known"] is True
    found = {entry["table"]: tuple(entry[key] for key in ("rows_now", "rows_then", "added", "changed", "removed")) for entry in preview["loss"]["tables"]}
    assert found == {"public.later": (0, None, 0, 0, 0), "public.notes": (1500, 2000, 0, 0, 500), "public.users": (500, 500, 0, 1, 0)}
    for confirm in ("", "yes", "true", target.dbname, point["confirmation"] + " ", point["confirmation"].upper()):
        answer = module("database_restore", target, confirm=confirm, **options)
        assert answer["failed"] and answer["code"] == "CONFIRMATION_MISSING"
    assert point["confirmation"] in answer["msg"] and "Table public.notes: 0 rows added, 0 changed, 500 removed." in answer["msg"]
    assert answer["loss"] == preview["loss"]
    assert databases(admin()) == databases_before, "neither a preview nor a refusal makes anything"

    result = module("database_restore", target, confirm=point["confirmation"], **options)
    assert (result["changed"], result["comparison"], result["restored"]) == (True, "equal", {"tables": 3, "rows": 2502}), result
    assert set(result["seconds"]) == {"load", "check", "read", "loss", "restore", "verify", "swap", "unavailable"}
    assert fingerprint(target) == before
    now = databases(admin())
    assert now[target.dbname][3] == 12 and now[target.dbname][5] == "the shop" and now[target.dbname][1] == target.user
    assert set(now) - set(databases_before) == {result["kept"]} and result["kept"].startswith(target.dbname + "__kept_")
    assert now[result["kept"]][0] == databases_before[target.dbname][0] and now[result["kept"]][2] is False
    admin().cursor().execute('ALTER DATABASE "%s" ALLOW_CONNECTIONS true' % result["kept"])
    assert fingerprint(target, result["kept"]) == after, "what was live is kept as it was"

    again = module("database_restore", target, confirm=point["confirmation"], **options)
    assert (again["changed"], again["kept"]) == (False, "") and set(databases(admin())) == set(now)
    assert module("database_restore", target, check=True, **options)["changed"] is False
    forced = module("database_restore", target, force=True, confirm=point["confirmation"], **options)
    assert forced["changed"] is True and forced["kept"] != result["kept"]
    execute(target, "ANALYZE users")
    assert fingerprint(target) == before


def damage(path: pathlib.Path, how: t.Callable[[bytes], bytes]) -> None:
    path.write_bytes(how(path.read_bytes()))


def cut(share: int, content: bytes) -> bytes:
    return content[: len(content) * share // 100]


def flip(seed: int, content: bytes) -> bytes:
    position = random.Random(seed).randrange(len(content) * 8)
    return content[: position // 8] + bytes([content[position // 8] ^ (1 << position % 8)]) + content[position // 8 + 1 :]


def refuse_copy(target: t.Any, point: dict[str, t.Any], bin_dir: str, copy: pathlib.Path, change: t.Callable[[pathlib.Path], t.Any], *codes: str) -> None:
    """Damage a copy of the restore point; its restore must be refused."""
    path = copy / point["id"]
    shutil.copytree(point["path"], path, symlinks=True)
    change(path)
    with refused(*codes):
        go_back(target, dict(point, path=str(path)), bin_dir)
    shutil.rmtree(path)


@pytest.mark.parametrize(("format_", "compression"), [("custom", "none"), ("custom", "auto"), ("directory", "auto")])
def test_every_damage_is_found_before_anything_is_touched(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path, format_: str, compression: str
) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir, format=format_, compression=compression)
    before, content = databases(admin()), fingerprint(target)
    copy = tmp_path / "copy"
    copy.mkdir()

    def archive(path: pathlib.Path) -> pathlib.Path:
        return path / "archive.dump" if format_ == "custom" else max((path / "archive").glob("*.dat*"), key=lambda file: file.stat().st_size)

    def damaged(how: t.Callable[[bytes], bytes]) -> t.Callable[[pathlib.Path], None]:
        return lambda path: damage(archive(path), how)

    changes: list[t.Callable[[pathlib.Path], t.Any]] = [damaged(functools.partial(cut, share)) for share in (99, 90, 50, 10, 0)]
    changes += [damaged(functools.partial(flip, seed)) for seed in range(100)]
    changes += [
        damaged(lambda content: content + b"\0"),
        damaged(lambda content: b"--\n-- PostgreSQL database dump\n--\n"),
        lambda path: archive(path).unlink(),
        lambda path: os.replace(archive(path), path / "elsewhere"),
        lambda path: (path / "more").write_text("x"),
        lambda path: damage(path / "manifest.json", lambda content: content.replace(b'"r', b'"s', 1) if b'"r' in content else content + b" x"),
    ]
    for change in changes:
        refuse_copy(target, point, cluster.bin_dir, copy, change, "BACKUP_CORRUPT")

    def linked(path: pathlib.Path) -> None:
        target_file = tmp_path / "outside"
        shutil.move(str(archive(path)), target_file)
        archive_name = [entry for entry in _manifest.from_json((path / "manifest.json").read_bytes()).files if not (path / entry.path).exists()][0].path
        (path / archive_name).symlink_to(target_file)

    refuse_copy(target, point, cluster.bin_dir, copy, linked, "BACKUP_CORRUPT")
    formats: list[t.Callable[[pathlib.Path], t.Any]] = [
        lambda path: (path / "manifest.json").unlink(),
        lambda path: damage(path / "manifest.json", lambda content: b""),
        lambda path: damage(path / "manifest.json", lambda content: content[: len(content) // 2]),
        lambda path: damage(path / "manifest.json", lambda content: b"--\n-- PostgreSQL database dump\n--\n"),
        lambda path: damage(path / "manifest.json", lambda content: content.replace(b'"format": 2', b'"format": 3')),
    ]
    for change in formats:
        refuse_copy(target, point, cluster.bin_dir, copy, change, "BACKUP_FORMAT")
    assert databases(admin()) == before and fingerprint(target) == content


def test_what_is_no_restore_point(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    dump = scratch / "dump.sql"
    dump.write_text("-- PostgreSQL database dump")
    os.rename(point["path"], point["path"] + ".partial")
    for path, code in (
        (dump, "BACKUP_NOT_FOUND"),
        (scratch / "none", "BACKUP_NOT_FOUND"),
        (scratch, "BACKUP_FORMAT"),
        (point["path"] + ".partial", "BACKUP_FORMAT"),
    ):
        with refused(code):
            go_back(target, dict(point, path=str(path)), cluster.bin_dir)


def rewrite(path: pathlib.Path, change: t.Callable[[dict[str, t.Any]], t.Any]) -> None:
    """Edit a manifest as somebody who knows how to compute the digest."""
    content = json.loads((path / "manifest.json").read_text())["manifest"]
    change(content)
    (path / "manifest.json").write_text(json.dumps({"format": _manifest.FORMAT, "manifest": content, "digest": _manifest._digest(content)}))


def test_swapped_and_foreign_restore_points(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target, other = filled(database()), filled(database())
    first = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes")
    second = take_backup(target, scratch, cluster.bin_dir)
    foreign = take_backup(other, scratch, cluster.bin_dir)
    before = databases(admin())
    copy = tmp_path / "copy"
    copy.mkdir()
    for source in (second, foreign):
        refuse_copy(target, first, cluster.bin_dir, copy, functools.partial(shutil.copy, source["path"] + "/manifest.json"), "BACKUP_CORRUPT")
    with refused("BACKUP_FOREIGN") as caught:
        go_back(target, foreign, cluster.bin_dir)
    assert other.dbname in caught[0].msg
    edits: list[tuple[str, dict[str, t.Any], str]] = [
        ("target", {"system_identifier": "7000000000000000000"}, "BACKUP_FOREIGN"),
        ("target", {"server_version_num": 990001}, "VERSION_MISMATCH"),
        ("archive", {"client_major": 99, "client_version": "99.1"}, "VERSION_MISMATCH"),
    ]
    for part, values, code in edits:

        def edit(path: pathlib.Path, part: str = part, values: dict[str, t.Any] = values) -> None:
            rewrite(path, lambda content: content[part].update(values))

        refuse_copy(target, first, cluster.bin_dir, copy, edit, code)
    assert databases(admin()) == before


def test_a_dump_under_writers_equals_its_fingerprint(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    execute(target, "CREATE TABLE acked (key text, id serial)")
    with Writers(target, 4, "acked (key)") as writers:
        execute(target, "INSERT INTO notes (author, body) SELECT 1 + g %% 500, md5(g::text) FROM generate_series(1, 30000) g".replace("%%", "%"))
        point = take_backup(target, scratch, cluster.bin_dir)
        result = go_back(target, point, cluster.bin_dir)
        assert result["comparison"] == "equal"
        assert until(lambda: execute(target, "SELECT count(*) > 0 FROM acked")[0][0])
    admin().cursor().execute('ALTER DATABASE "%s" ALLOW_CONNECTIONS true' % result["kept"])
    found = {row[0] for row in execute(target, "SELECT key FROM acked")} | {row[0] for row in execute(target, "SELECT key FROM acked", dbname=result["kept"])}
    assert writers.rows() - found == set() and len(writers.rows()) > 10
    assert max(writers.gaps) < 1.0, writers.gaps


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, name: str) -> None:
    target = database(name)
    execute(target, "CREATE TABLE t AS SELECT 1 AS a")
    point = take_backup(target, scratch, cluster.bin_dir)
    assert pathlib.Path(point["path"]).parent.parent == scratch
    execute(target, "INSERT INTO t VALUES (2)")
    result = go_back(target, point, cluster.bin_dir)
    assert execute(target, "SELECT a FROM t") == [(1,)]
    assert len(result["kept"].encode()) <= 63 and result["kept"] in databases(admin())


@pytest.mark.parametrize("missing", ["role", "member", "extension", "tablespace"])
def test_what_the_archive_needs_is_checked_first(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, missing: str) -> None:
    target = filled(database())
    other = target.user + "_other"
    cursor = admin(target.dbname).cursor()
    cursor.execute('CREATE ROLE "%s"' % other)
    cursor.execute('GRANT SELECT ON users TO "%s"' % other)
    if missing == "member":
        cursor.execute(
            'GRANT CREATE ON SCHEMA public TO "%s"; ALTER TABLE keyless OWNER TO "%s"; GRANT SELECT ON keyless TO "%s"' % (other, other, target.user)
        )
    point = take_backup(target, scratch, cluster.bin_dir)
    wanted = {"role": other, "member": other, "extension": "no_such_extension", "tablespace": "no_such_space"}[missing]
    cursor.connection.close()
    cursor = admin(target.dbname).cursor()
    if missing == "member":
        cursor.execute('ALTER TABLE keyless OWNER TO "%s"' % target.user)
    if missing in ("role", "extension", "tablespace"):
        cursor.execute('DROP OWNED BY "%s"' % other)
        cursor.execute('DROP ROLE "%s"' % other)
    if missing == "extension":
        rewrite(
            pathlib.Path(point["path"]), lambda content: content["prerequisites"]["extensions"].append({"name": wanted, "version": "1", "schema": "public"})
        )
    if missing == "tablespace":
        rewrite(pathlib.Path(point["path"]), lambda content: content["prerequisites"]["tablespaces"].append(wanted))
    execute(target, "DELETE FROM notes")
    before = databases(admin())
    with refused("RESTORE_PREREQUISITE") as caught:
        go_back(target, point, cluster.bin_dir)
    assert any(wanted in entry for entry in caught[0].facts["missing"]) and wanted in caught[0].msg
    assert databases(admin()) == before
    if missing == "member":
        cursor.execute('DROP OWNED BY "%s"; DROP ROLE "%s"' % (other, other))


@pytest.mark.parametrize("obstacle", ["prepared", "slot", "migration", "migration waits", "no createdb"])
def test_what_stands_in_the_way_of_a_swap_is_refused_first(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, obstacle: str) -> None:
    target = filled(database(createdb=obstacle != "no createdb"))
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes")
    before = databases(admin())
    code = {"prepared": "SWAP_REFUSED", "slot": "SWAP_REFUSED", "no createdb": "PERMISSION_DENIED"}.get(obstacle, "SESSIONS_REMAIN")
    holder = connection(target)
    waiter: t.Any = None
    with holder as conn:
        name = ""
        if obstacle == "prepared":
            name = "gid 'of\" %s" % target.dbname
            execute(target, "BEGIN", "INSERT INTO keyless VALUES (5)", "PREPARE TRANSACTION '%s'" % name.replace("'", "''"))
        elif obstacle == "slot":
            name = "slot_" + target.dbname
            admin(target.dbname).cursor().execute("SELECT pg_create_logical_replication_slot('%s', 'pgoutput')" % name)
        elif obstacle.startswith("migration"):
            conn.cursor().execute("SELECT pg_advisory_lock(72707369)")
            name = str(conn.info.backend_pid)
            if obstacle == "migration waits":
                waiter = connect(target)
                thread = threading.Thread(target=lambda: waiter.cursor().execute("SELECT pg_advisory_lock(72707369)"), daemon=True)
                thread.start()
                assert until(lambda: execute(target, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = 72707369")[0][0])
                name = str(waiter.info.backend_pid)
        with refused(code) as caught:
            go_back(target, point, cluster.bin_dir)
        assert name in caught[0].msg
    if waiter is not None:
        thread.join(5)
        waiter.close()
    if obstacle == "prepared":
        execute(target, "ROLLBACK PREPARED '%s'" % name.replace("'", "''"))
    assert databases(admin()) == before and len(execute(target, "SELECT * FROM users")) == 500


def slow(target: t.Any) -> t.Any:
    """A database whose restore takes some seconds: an index whose function sleeps."""
    filled(target)
    execute(
        target,
        "CREATE FUNCTION lazy(i int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS 'BEGIN PERFORM pg_sleep(0.02); RETURN i; END'",
        "CREATE INDEX slow ON users (lazy(id)) WHERE id < 100",
    )
    return target


def restoring(target: t.Any) -> list[int]:
    return programs("pg_restore", "PGDATABASE=%s__restore_" % target.dbname)


def test_a_killed_pg_restore_leaves_live_alone_and_no_staging(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = slow(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes")
    before = databases(admin())
    caught: list[Exception] = []

    def work() -> None:
        try:
            go_back(target, point, cluster.bin_dir)
        except Exception as error:
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    pids = until(lambda: len(restoring(target)) >= 2 and restoring(target))
    assert pids, caught
    os.kill(pids[0], signal.SIGKILL)
    thread.join(15)
    assert [getattr(error, "code", error) for error in caught] == ["RESTORE_FAILED"]
    assert databases(admin()) == before and until(lambda: not restoring(target))


def test_a_killed_run_is_cleaned_up_by_the_next(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = slow(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes")
    before = databases(admin())
    options = dict(restore_point=point["path"], pg_bin_dir=str(cluster.bin_dir), confirm=point["confirmation"])
    process = module.start("database_restore", target, **options)
    assert until(lambda: restoring(target))
    process.kill()
    process.communicate()
    assert until(lambda: not restoring(target)), "pg_restore dies with its parent"
    (left,) = set(databases(admin())) - set(before)
    # Neither the name nor another comment makes a database ours.
    foreign = {
        target.dbname + "__restore_mine": None,
        target.dbname + "__restore_other": marker("staging", database="another"),
        target.dbname + "__x": "pgops.migrations {",
    }
    for name, comment in foreign.items():
        execute(target, 'CREATE DATABASE "%s"' % name, dbname="postgres")
        if comment:
            execute(target, "COMMENT ON DATABASE \"%s\" IS '%s'" % (name, comment), dbname="postgres")
    execute(target, "DROP INDEX slow")
    result = module("database_restore", target, **options)
    assert result.get("comparison") == "equal", result
    now = databases(admin())
    assert left not in now and set(foreign) <= set(now)
    assert set(now) - set(before) - set(foreign) == {result["kept"]}
    assert len(execute(target, "SELECT * FROM notes")) == 2000
    assert session_count(admin(), target.dbname) == 0


def test_a_copy_that_differs_is_not_swapped_in(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes")
    before = databases(admin())
    prove = _restore.analyze_and_verify

    def tamper(target: t.Any, dbname: str, *args: t.Any) -> None:
        execute(target, "UPDATE users SET name = 'x' WHERE id = 7", dbname=dbname)
        prove(target, dbname, *args)

    monkeypatch.setattr(_restore, "analyze_and_verify", tamper)
    with refused("FINGERPRINT_MISMATCH") as caught:
        go_back(target, point, cluster.bin_dir)
    assert "public.users" in json.dumps(caught[0].facts["differences"])
    assert databases(admin()) == before


def test_a_migration_that_starts_during_the_restore_stops_the_swap(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes")
    before = databases(admin())
    with connection(target) as conn:
        monkeypatch.setattr(_restore, "analyze_and_verify", lambda *_args: conn.cursor().execute("SELECT pg_advisory_lock(72707369)"))
        with refused("SESSIONS_REMAIN"):
            go_back(target, point, cluster.bin_dir)
    assert databases(admin()) == before


def test_a_live_database_that_cannot_be_read_does_not_prevent_the_rescue(
    cluster: t.Any, database: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    monkeypatch.setattr(_restore_loss, "LOCK_TIMEOUT", "200ms")
    with connection(target) as conn:
        conn.cursor().execute("BEGIN; LOCK TABLE users IN ACCESS EXCLUSIVE MODE")
        with refused("CONFIRMATION_MISSING") as caught:
            go_back(target, point, cluster.bin_dir, confirm="")
        assert caught[0].facts["loss"]["known"] is False
        result = go_back(target, point, cluster.bin_dir)
    assert result["changed"] is True and result["loss"]["known"] is False and result["warnings"]


def test_a_superuser_restores_for_the_owner(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    runner = cluster.superuser_target(target.dbname)
    execute(runner, "CREATE EXTENSION IF NOT EXISTS pg_trgm") if extension_available(admin(), "pg_trgm") else None
    point = take_backup(runner, scratch, cluster.bin_dir)
    before = fingerprint(runner)
    execute(target, "DELETE FROM notes")
    assert go_back(runner, point, cluster.bin_dir)["comparison"] == "equal"
    assert fingerprint(runner) == before and databases(admin())[target.dbname][1] == target.user


def extension_available(conn: t.Any, name: str) -> bool:
    with conn.cursor() as cursor:
        cursor.execute("SELECT EXISTS (SELECT FROM pg_available_extensions WHERE name = %s)", (name,))
        return bool(cursor.fetchone()[0])


@pytest.mark.parametrize(
    "provider", ["LOCALE_PROVIDER icu ICU_LOCALE 'de-DE'", "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'", "ENCODING 'LATIN1' LOCALE 'C'"]
)
def test_encoding_and_locale_stay(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, provider: str) -> None:
    target = database()
    cursor = admin().cursor()
    cursor.execute('DROP DATABASE "%s"' % target.dbname)
    try:
        cursor.execute('CREATE DATABASE "%s" OWNER "%s" TEMPLATE template0 %s' % (target.dbname, target.user, provider))
    except psycopg2.Error as error:
        pytest.skip("this server cannot do it: %s" % error)
    execute(target, "CREATE TABLE words AS SELECT unnest(ARRAY['ä', 'Z', 'a']) AS word")
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM words")
    query = "SELECT to_jsonb(d) - '{oid,datname,datfrozenxid,datminmxid,datacl,dattablespace}'::text[] FROM pg_database d WHERE datname = current_database()"
    before = execute(target, query)
    assert go_back(target, point, cluster.bin_dir)["comparison"] == "equal"
    assert execute(target, query) == before


def test_the_database_is_not_its_own_maintenance_database(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    point = take_backup(target, scratch, cluster.bin_dir)
    with refused("OPTION_INVALID"):
        go_back(target, point, cluster.bin_dir, maintenance_db=target.dbname)


def test_no_password_in_any_command_line(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes")
    with CommandLines(*target.secrets()) as lines:
        result = module("database_restore", target, restore_point=point["path"], pg_bin_dir=str(cluster.bin_dir), confirm=point["confirmation"])
    assert result["comparison"] == "equal"
    assert b"pg_restore" in lines.seen and lines.hits == set()
    assert str(target.password) not in json.dumps(result)


def test_an_old_client_is_refused(cluster: t.Any, database: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path) -> None:
    target = database()
    program = tmp_path / "pg_dump"
    program.write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 12.1'\n")
    program.chmod(0o755)
    with refused("CLIENT_TOO_OLD"):
        take_backup(target, scratch, str(tmp_path))
    assert subprocess.run([str(program)], check=False, stdout=subprocess.DEVNULL).returncode == 0


def test_partitions_by_the_hash_of_an_enum_come_back_in_other_places(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    execute(
        target,
        "CREATE TYPE sort_of AS ENUM ('a', 'b', 'c', 'd', 'e')",
        "CREATE TABLE p (id int, m sort_of) PARTITION BY HASH (m)",
        *["CREATE TABLE p%d PARTITION OF p FOR VALUES WITH (MODULUS 4, REMAINDER %d)" % (number, number) for number in range(4)],
        "INSERT INTO p SELECT g, (enum_range(NULL::sort_of))[1 + g % 5] FROM generate_series(1, 80) g",
    )
    point = take_backup(target, scratch, cluster.bin_dir)
    for _again in range(3):
        execute(target, "DELETE FROM p WHERE id <= 10")
        assert go_back(target, point, cluster.bin_dir)["comparison"] == "equal"
        assert execute(target, "SELECT count(*), sum(id) FROM p")[0] == (80, 3240)
    # A row that is gone, or another one, is seen as before.
    execute(target, "UPDATE p SET id = 81 WHERE id = 80")
    with refused("CONFIRMATION_MISSING"):
        go_back(target, point, cluster.bin_dir, confirm="")
