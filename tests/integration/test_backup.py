# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import signal
import stat
import threading
import time
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _backup, _dump, _pgtools, _read_back
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import from_json
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import choose_compression, find_program
from support.restorepoints import CommandLines, execute, filled, programs, refused, session_count, small_disk, take_backup, tree, until

LEDGER = """
CREATE TABLE _prisma_migrations (id varchar(36) PRIMARY KEY, checksum varchar(64) NOT NULL, finished_at timestamptz, migration_name varchar(255) NOT NULL,
    logs text, rolled_back_at timestamptz, started_at timestamptz NOT NULL DEFAULT now(), applied_steps_count int NOT NULL DEFAULT 0);
INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, started_at) VALUES ('1', 'aa', now(), '1_init', '2026-01-01'), ('2', 'bb', now(), '2_more', '2026-01-02');
"""


def test_a_restore_point_is_private_and_complete(cluster: t.Any, database: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    folder = scratch / "new" / "backups"
    options = dict(backup_dir=str(folder), pg_bin_dir=str(cluster.bin_dir), label="why", run_id="run7")
    predicted = module("database_backup", target, check=True, **options)
    assert predicted["changed"] is True and predicted["restore_point"]["id"] == "" and not folder.exists() and list(scratch.iterdir()) == []
    point = module("database_backup", target, **options)["restore_point"]
    path = pathlib.Path(point["path"])
    assert path.parent == folder / target.dbname == pathlib.Path(predicted["restore_point"]["path"])
    assert sorted(os.listdir(path)) == ["archive", "globals.sql", "manifest.json", "proof.json"]
    for each in [folder, path, *path.rglob("*")]:
        assert stat.S_IMODE(each.stat().st_mode) == (0o700 if each.is_dir() else 0o600), each
    manifest = from_json((path / "manifest.json").read_bytes())
    assert (manifest.id, manifest.run_id, manifest.label) == (point["id"], "run7", "why")
    assert {entry.path for entry in manifest.files} == {str(each.relative_to(path)) for each in (path / "archive").iterdir()} | {"globals.sql"}
    assert point["tables"] == 3 and point["rows"] == 2502 and point["size_bytes"] == manifest.size_bytes > 1000
    assert manifest.target["database"] == target.dbname and manifest.target["owner"] == target.user
    assert target.user in manifest.prerequisites["owners"]
    assert point["ledger"] is None and point["ledger_clean"] is True


@pytest.mark.parametrize(
    ("format_", "compression", "first"),
    [("custom", "none", b"PGDMP"), ("custom", "auto", b"PGDMP"), ("directory", "gzip:5", None), ("directory", "none", None)],
)
def test_formats(cluster: t.Any, database: t.Any, scratch: pathlib.Path, format_: str, compression: str, first: bytes | None) -> None:
    point = take_backup(filled(database()), scratch, cluster.bin_dir, format=format_, compression=compression)
    manifest = from_json(pathlib.Path(point["path"], "manifest.json").read_bytes())
    assert manifest.archive["path"] == ("archive.dump" if format_ == "custom" else "archive")
    if first:
        assert pathlib.Path(point["path"], "archive.dump").read_bytes().startswith(first)


def test_auto_never_means_the_slow_default_of_gzip(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    point = take_backup(filled(database()), scratch, cluster.bin_dir)
    assert point["compression"] in ("zstd:1", "lz4", "1")
    assert cluster.major >= 16 or point["compression"] == "1"
    program = find_program("pg_dump", cluster.major * 10000, str(cluster.bin_dir))
    of_another_build = dataclasses.replace(program, name="pg_restore", path="/elsewhere/pg_restore")
    assert choose_compression(program, "auto", of_another_build) == "1", "whether it can read more is not known"
    assert choose_compression(program, "auto", dataclasses.replace(program, name="pg_restore")) == point["compression"]


def test_an_unsafe_folder_is_refused_before_anything(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    open_one, file, link = scratch / "open", scratch / "file", scratch / "link"
    open_one.mkdir()
    open_one.chmod(0o755)
    file.touch()
    (scratch / "real").mkdir(mode=0o700)
    link.symlink_to(scratch / "real")
    dangling = scratch / "dangling"
    dangling.symlink_to(scratch / "nowhere")
    cases = [open_one, file, link, dangling, pathlib.Path("relative"), file / "below"]
    if os.geteuid() == 0:
        foreign = scratch / "foreign"
        foreign.mkdir(mode=0o700)
        os.chown(foreign, 12345, 12345)
        cases.append(foreign)
    before = tree(scratch)
    for folder in cases:
        with refused("BACKUP_DIR_UNSAFE"):
            take_backup(target, folder, cluster.bin_dir)
    assert tree(scratch) == before


def test_a_full_disk(cluster: t.Any, database: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = database()
    with small_disk(scratch / "small", "300k") as folder:
        with refused("DISK_FULL"):
            take_backup(target, folder, cluster.bin_dir)
        assert list(folder.iterdir()) == []
        monkeypatch.setattr(_backup, "room", lambda path: 1 << 40)
        point = take_backup(target, folder, cluster.bin_dir)
        before = tree(folder)
        execute(target, "CREATE TABLE big AS SELECT md5(g::text || random()) FROM generate_series(1, 40000) g")
        for options in ({"format": "directory"}, {"format": "custom", "compression": "none"}):
            with refused("DISK_FULL") as caught:
                take_backup(target, folder, cluster.bin_dir, **options)
            assert str(folder) in caught[0].msg
            assert tree(folder) == before, "the earlier restore point, and nothing else"
        assert os.path.isdir(point["path"])


def test_little_room_is_a_warning_and_too_little_a_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    gigabyte = 1 << 30
    for free, outcome in ((gigabyte, 0), (gigabyte // 2, 1), (gigabyte // 25, None)):
        monkeypatch.setattr(_backup, "room", lambda path, free=free: free)
        if outcome is None:
            with refused("DISK_FULL"):
                _backup._check_room("/b", gigabyte)
        else:
            assert len(_backup._check_room("/b", gigabyte)) == outcome


def test_a_locked_table_bounds_the_wait_and_names_the_holder(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    first = take_backup(target, scratch, cluster.bin_dir)
    before = tree(scratch)
    with connection(target, application_name="the holder") as conn:
        with conn.cursor() as cursor:
            cursor.execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        with refused("LOCK_TIMEOUT") as caught:
            take_backup(target, scratch, cluster.bin_dir, lock_wait_timeout=0.5)
        assert [(blocker["pid"], blocker["application_name"]) for blocker in caught[0].facts["blockers"]] == [(conn.info.backend_pid, "the holder")]
        assert str(conn.info.backend_pid) in caught[0].msg
    assert tree(scratch) == before and os.path.isdir(first["path"])


class Held:
    """A backup in a thread that waits for a locked table, so that it can be disturbed."""

    def __init__(self, target: t.Any, folder: pathlib.Path, bin_dir: str) -> None:
        self.error: Exception | None = None

        def work() -> None:
            try:
                take_backup(target, folder, bin_dir, lock_wait_timeout=20)
            except Exception as error:
                self.error = error

        self.thread = threading.Thread(target=work, daemon=True)
        self.thread.start()


@pytest.mark.parametrize("how", ["kill -9", "terminate"])
def test_a_dump_that_is_killed_leaves_nothing(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, how: str) -> None:
    target = filled(database())
    take_backup(target, scratch, cluster.bin_dir)
    before = tree(scratch)
    blocker, sessions = admin(target.dbname), admin()
    blocker.cursor().execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
    held = Held(target, scratch, cluster.bin_dir)

    def waiting() -> list[tuple[int]]:
        with sessions.cursor() as cursor:
            cursor.execute(
                "SELECT pid FROM pg_stat_activity WHERE datname = %s AND application_name LIKE 'pgops.migrations dump%%' AND wait_event_type = 'Lock'",
                (target.dbname,),
            )
            return t.cast("list[tuple[int]]", cursor.fetchall())

    found = until(waiting)
    assert found
    if how == "terminate":
        sessions.cursor().execute("SELECT pg_terminate_backend(%s)", found[0])
    else:
        for pid in programs("pg_dump", "PGDATABASE=" + target.dbname):
            os.kill(pid, signal.SIGKILL)
    held.thread.join(15)
    assert not held.thread.is_alive(), "it does not wait for the fingerprint"
    assert getattr(held.error, "code", held.error) == "BACKUP_FAILED"
    blocker.close()
    assert tree(scratch) == before
    assert until(lambda: session_count(sessions, target.dbname) == 0), "no session is left"


def test_a_dump_that_fails_between_two_statements_of_the_fingerprint(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = filled(database())
    blocker, sessions = admin(target.dbname), admin()
    blocker.cursor().execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
    original = _dump.take

    def late(*args: t.Any, **options: t.Any) -> t.Any:
        assert until(lambda: programs("pg_dump", "PGDATABASE=" + target.dbname))
        for pid in programs("pg_dump", "PGDATABASE=" + target.dbname):
            os.kill(pid, signal.SIGKILL)
        # The cancel of the failed dump finds no statement here.
        time.sleep(1.0)
        return original(*args, **options)

    monkeypatch.setattr(_dump, "take", late)
    held = Held(target, scratch, cluster.bin_dir)
    held.thread.join(10)
    assert not held.thread.is_alive(), "it does not wait for the locked table"
    assert getattr(held.error, "code", held.error) == "BACKUP_FAILED"
    blocker.close()
    assert until(lambda: session_count(sessions, target.dbname) == 0)


def test_a_killed_module_leaves_a_partial_and_no_secret(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any, tmp_path: pathlib.Path
) -> None:
    target = filled(database())
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    module.env["TMPDIR"] = str(temporary)
    blocker, sessions = admin(target.dbname), admin()
    blocker.cursor().execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
    process = module.start("database_backup", target, backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    pids = until(lambda: programs("pg_dump", "PGDATABASE=" + target.dbname))
    assert pids and list(temporary.glob(_pgtools.SECRET_DIR_PREFIX + "*"))
    process.kill()
    process.communicate()
    assert until(lambda: not programs("pg_dump", "PGDATABASE=" + target.dbname)), "the dump dies with its parent"
    blocker.close()
    assert until(lambda: session_count(sessions, target.dbname) == 0)
    (left,) = scratch.glob("*/*")
    assert left.name.endswith(".partial")
    for each in temporary.iterdir():
        os.utime(each, (1, 1))
    result = module("database_backup", target, backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    assert "rm -r -- %s" % left in json.dumps(result["warnings"]), "and it says how to remove it"
    assert left.exists() and os.path.isdir(result["restore_point"]["path"])
    assert not list(temporary.glob(_pgtools.SECRET_DIR_PREFIX + "*"))


def test_the_ledger_of_the_snapshot(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    execute(target, LEDGER)
    clean = take_backup(target, scratch, cluster.bin_dir)["ledger"]
    assert (clean["rows"], clean["head"], clean["clean"]) == (2, "2_more", True)
    execute(target, "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES ('3', 'cc', '3_stuck')")
    point = take_backup(target, scratch, cluster.bin_dir)
    assert point["ledger_clean"] is False and point["ledger"]["unfinished"] == ["3_stuck"] and point["ledger"]["head"] == "2_more"
    assert point["ledger"]["digest"] != clean["digest"]


def test_another_run_is_waited_for_and_named(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    with run_lock(target, run_id="other"), refused("LOCKED") as caught:
        take_backup(target, scratch, cluster.bin_dir, lock_wait=0)
    assert "other" in caught[0].msg


def test_limits_of_the_database_do_not_end_a_backup(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
        admin().cursor().execute('ALTER DATABASE "%s" SET %s = 1' % (target.dbname, setting))
    assert take_backup(target, scratch, cluster.bin_dir)["rows"] == 2502


PASSWORDS = ["p:a\\s s'\"$é%@/", "***:\\", "#x", " blank "]


@pytest.mark.parametrize("password", PASSWORDS)
def test_no_password_in_any_command_line(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any, password: str) -> None:
    target = filled(database())
    with admin().cursor() as cursor:
        cursor.execute('ALTER ROLE "%s" PASSWORD %%s' % target.user, (password,))
    target = type(target)(**{**{name: getattr(target, name) for name in ("dbname", "host", "port", "user")}, "password": password})
    with CommandLines(*(secret for secret in target.secrets() if len(secret) > 4)) as lines:
        result = module("database_backup", target, backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    assert "restore_point" in result, result
    assert b"pg_dump" in lines.seen and lines.samples > 5
    assert lines.hits == set()
    assert password not in json.dumps(result) and password not in "".join(path.read_text("utf-8", "replace") for path in scratch.rglob("manifest.json"))


def test_a_large_archive_is_read_by_two_processes(cluster: t.Any, database: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_read_back, "SMALL_BYTES", 0)
    target = filled(database())
    archive = pathlib.Path(take_backup(target, scratch, cluster.bin_dir, format="directory")["path"]) / "archive"
    program = find_program("pg_restore", 150000, str(cluster.bin_dir))
    assert _read_back.read_archive(program, str(archive), target).rc == 0
    for path in sorted(archive.glob("*.dat*")) + [archive / "toc.dat"]:
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        assert _read_back.read_archive(program, str(archive), target).rc != 0, path.name
        path.write_bytes(content)


def test_the_limits_of_a_role_do_not_hold_up_a_backup(cluster: t.Any, database: t.Any, scratch: pathlib.Path, admin: t.Any) -> None:
    target = filled(database())
    admin().cursor().execute("ALTER ROLE %s SET statement_timeout = '1ms'" % target.user)
    assert take_backup(target, scratch, cluster.bin_dir)["rows"] == 2502
