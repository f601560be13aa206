# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Helpers of the tests of backup, restore and swap."""

from __future__ import annotations

import contextlib
import glob
import hashlib
import os
import pathlib
import subprocess
import threading
import time
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._backup import BackupOptions, backup
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, connection
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._restore import RestoreOptions, restore
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

SCHEMA = """
CREATE TYPE mood AS ENUM ('calm', 'tired');
CREATE TABLE users (id serial PRIMARY KEY, name text NOT NULL, mood mood, about jsonb, born date, photo bytea);
CREATE TABLE notes (id bigserial PRIMARY KEY, author int NOT NULL REFERENCES users, body text);
CREATE INDEX notes_author ON notes (author);
CREATE VIEW loud AS SELECT upper(body) AS body FROM notes;
CREATE FUNCTION double(i int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT i * 2';
CREATE TABLE keyless (a int, b text);
INSERT INTO users (name, mood, about, born, photo)
    SELECT 'user ' || g, 'tired', jsonb_build_object('n', g), '2000-01-01', decode('00ff', 'hex') FROM generate_series(1, 500) g;
INSERT INTO notes (author, body) SELECT 1 + g % 500, repeat('x', g % 50) FROM generate_series(1, 2000) g;
INSERT INTO keyless SELECT 1, 'twice' FROM generate_series(1, 2);
"""


def execute(target: Target, *statements: str, **connect: t.Any) -> list[tuple[t.Any, ...]]:
    """Run statements as the target's role; the rows of the last one."""
    found: list[tuple[t.Any, ...]] = []
    with connection(target, **connect) as conn, conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
            found = list(cursor.fetchall()) if cursor.description else []
    return found


def filled(target: Target) -> Target:
    execute(target, SCHEMA)
    return target


def fingerprint(target: Target, dbname: str | None = None) -> str:
    with connection(target, dbname) as conn:
        return str(take(conn, level="full")["digest"])


def take_backup(target: Target, folder: pathlib.Path, bin_dir: str, **options: t.Any) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", backup(target, BackupOptions(backup_dir=str(folder), pg_bin_dir=str(bin_dir), **options))["restore_point"])


def go_back(target: Target, point: dict[str, t.Any], bin_dir: str, check_mode: bool = False, **options: t.Any) -> dict[str, t.Any]:
    options.setdefault("confirm", point["confirmation"])
    return restore(target, RestoreOptions(restore_point=point["path"], pg_bin_dir=str(bin_dir), **options), check_mode)


@contextlib.contextmanager
def refused(*codes: str) -> t.Iterator[list[MigrationError]]:
    """The block must end with an error that has one of these codes; it is put into the list."""
    caught: list[MigrationError] = []
    try:
        yield caught
    except MigrationError as error:
        assert error.code in codes, "%s: %s" % (error.code, error.msg)
        caught.append(error)
        return
    raise AssertionError("not refused with %s" % (codes,))


@contextlib.contextmanager
def small_disk(folder: pathlib.Path, size: str) -> t.Iterator[pathlib.Path]:
    folder.mkdir(mode=0o700)
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=0700,size=" + size, "none", str(folder)], stderr=subprocess.PIPE, check=False)
    if done.returncode:
        pytest.skip("no right to mount a tmpfs: %s" % done.stderr.decode().strip())
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def tree(folder: pathlib.Path) -> dict[str, tuple[int, str]]:
    """Every path below a folder with mode and content."""
    return {
        str(path.relative_to(folder)): (path.lstat().st_mode, hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "")
        for path in sorted(folder.rglob("*"))
    }


def databases(conn: t.Any) -> dict[str, tuple[t.Any, ...]]:
    """Every database with what a swap could change about it."""
    with conn.cursor() as cursor:
        cursor.execute(
            "SELECT datname, oid, pg_get_userbyid(datdba), datallowconn, datconnlimit, datacl::text, shobj_description(oid, 'pg_database') FROM pg_database"
        )
        return {found[0]: found[1:] for found in cursor.fetchall()}


def session_count(conn: t.Any, dbname: str) -> int:
    with conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_stat_activity WHERE datname = %s AND backend_type = 'client backend' AND pid <> pg_backend_pid()", (dbname,))
        return int(cursor.fetchone()[0])


def until(condition: t.Callable[[], t.Any], seconds: float = 10.0) -> t.Any:
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found or time.monotonic() > end:
            return found
        time.sleep(0.02)


def programs(name: str, word: str = "") -> list[int]:
    """Pids of the client programs that run with this word in their command line or environment."""
    found = []
    for folder in glob.glob("/proc/[0-9]*"):
        with contextlib.suppress(OSError):
            argv = pathlib.Path(folder, "cmdline").read_bytes()
            if os.path.basename(argv.split(b"\0")[0]) == name.encode() and word.encode() in argv + pathlib.Path(folder, "environ").read_bytes():
                found.append(int(os.path.basename(folder)))
    return found


class CommandLines:
    """Samples every command line of the machine for secrets while a block runs."""

    def __init__(self, *secrets: str) -> None:
        self.secrets = [secret.encode() for secret in secrets]
        self.samples, self.hits, self.seen = 0, set[str](), set[bytes]()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self) -> None:
        while not self._stop.is_set():
            for path in glob.glob("/proc/[0-9]*/cmdline"):
                with contextlib.suppress(OSError), open(path, "rb") as handle:
                    line = handle.read()
                    self.seen.add(line.split(b"\0")[0].rsplit(b"/", 1)[-1])
                    self.hits |= {repr(line) for secret in self.secrets if secret in line}
            self.samples += 1
            time.sleep(0.002)

    def __enter__(self) -> CommandLines:
        self._thread.start()
        return self

    def __exit__(self, *_args: object) -> None:
        self._stop.set()
        self._thread.join(5)


class Writers:
    """Clients that reconnect at once and insert; they know which rows were acknowledged."""

    def __init__(self, target: Target, count: int, table: str = "acked") -> None:
        self.target, self.table, self.acked = target, table, [set[str]() for _ in range(count)]
        self.gaps = [0.0] * count
        self.errors: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(number,), daemon=True) for number in range(count)]

    def _run(self, number: int) -> None:
        conn: t.Any = None
        step, last = 0, time.monotonic()
        while not self._stop.is_set():
            key = "%d-%d" % (number, step)
            step += 1
            try:
                if conn is None or conn.closed:
                    conn = connect(self.target)
                with conn.cursor() as cursor:
                    cursor.execute("INSERT INTO %s VALUES (%%s)" % self.table, (key,))
                self.acked[number].add(key)
                self.gaps[number] = max(self.gaps[number], time.monotonic() - last)
                last = time.monotonic()
            except (MigrationError, psycopg2.Error) as error:
                self.errors.append(str(error))
                if conn is not None:
                    conn.close()
            time.sleep(0.001)
        if conn is not None:
            conn.close()

    def __enter__(self) -> Writers:
        for thread in self._threads:
            thread.start()
        until(lambda: all(self.acked), 5)
        return self

    def __exit__(self, *_args: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)

    def rows(self) -> set[str]:
        return set().union(*self.acked)
