# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Where a benchmark runs: a private server with one owner's databases, and programs and modules with a stopwatch."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg2
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from psycopg2 import sql

from benchmarks._data import fill
from tools.pgserver import Cluster

ROOT = Path(__file__).resolve().parents[1]
#: Like a small production server: safe on the disk, room in memory, few checkpoints.
SETTINGS = {
    "shared_buffers": "1GB",
    "effective_cache_size": "4GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "64MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "autovacuum": "on",
}
#: Disk that a run needs at its fullest: this many times the plain dump, and the server's WAL.
ROOM_TIMES, ROOM_MORE = 7, 6 << 30
_STAND_IN = """#!/bin/sh
%s
exec '%s' "$@"
"""
#: NUL-separated, one call a line.
_RECORD = """case "$1" in --version) ;; *) printf '%%s\\0' "$@" >> '%s'; printf '\\n' >> '%s' ;; esac"""


class BenchmarkError(Exception):
    """Something a person can mend."""


@dataclasses.dataclass
class Bench:
    """The server, the folder for files, and the owner of the databases: a plain role, as an application has it."""

    server: Cluster
    folder: Path
    plain_bytes: int
    rounds: int
    say: Callable[[str], None]
    owner: str = "clinic_owner"
    password: str = dataclasses.field(default_factory=lambda: secrets.token_urlsafe(18), repr=False)

    # -- databases

    def target(self, dbname: str) -> Target:
        return Target(dbname=dbname, host="127.0.0.1", port=self.server.port, user=self.owner, password=self.password)

    @contextlib.contextmanager
    def connection(self, dbname: str = "postgres", superuser: bool = False) -> Iterator[Any]:
        args = self.server.connect_args(dbname)
        conn = psycopg2.connect(**(args if superuser else {**args, "user": self.owner, "password": self.password}))
        conn.autocommit = True
        try:
            yield conn
        finally:
            conn.close()

    def execute(self, statement: Any, dbname: str = "postgres", superuser: bool = False) -> list[tuple[Any, ...]]:
        with self.connection(dbname, superuser) as conn, conn.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall()) if cursor.description else []

    def settle(self) -> None:
        """What an earlier measurement left to be written is not the next one's business."""
        self.execute("CHECKPOINT", superuser=True)

    def prepare(self) -> None:
        """The owner, its password file."""
        self.execute(
            sql.SQL("CREATE ROLE {0} LOGIN CREATEDB PASSWORD {1}; GRANT pg_signal_backend TO {0}").format(
                sql.Identifier(self.owner), sql.Literal(self.password)
            ),
            superuser=True,
        )
        with open(os.open(self.folder / "pgpass", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
            handle.write("*:*:*:%s:%s\n" % (self.owner, self.password))

    def make_database(self, name: str, plain_bytes: int) -> int:
        """A database with the made data; its size in bytes."""
        began = time.monotonic()
        self.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with self.connection(name) as conn:
            size = fill(conn, plain_bytes)
        self.say("made the database %s: %.0f MB in %.0f s" % (name, size / 1e6, time.monotonic() - began))
        return size

    def copy_database(self, source: str, name: str) -> None:
        self.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(name), sql.Identifier(source)))

    def drop_database(self, name: str) -> None:
        self.execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    # -- things with a stopwatch: all of them in seconds

    def environment(self, dbname: str) -> dict[str, str]:
        """For libpq; the password is in a file."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.server.port), "PGUSER": self.owner, "PGPASSFILE": str(self.folder / "pgpass"), "PGDATABASE": dbname}

    def program(self, name: str, *arguments: str, dbname: str = "postgres", output: str = os.devnull) -> float:
        """Run one of PostgreSQL's programs with its standard output in a file."""
        with open(output, "wb") as stream:
            began = time.monotonic()
            done = subprocess.run(
                [self.server.programs.path(name), *arguments],
                env={**os.environ, **self.environment(dbname)},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
            seconds = time.monotonic() - began
        if done.returncode:
            raise BenchmarkError("%s ended with %d: %s" % (name, done.returncode, done.stderr.strip()[-500:]))
        return seconds

    def module(self, name: str, dbname: str, **options: Any) -> tuple[float, dict[str, Any]]:
        """Run a module in a process of its own, as Ansible does; its result as well."""
        arguments = dict(options, database_url=self.target(dbname).prisma_url(), _ansible_remote_tmp=str(self.folder), _ansible_tmpdir=str(self.folder))
        began = time.monotonic()
        done = subprocess.run(
            [sys.executable, "-m", "ansible_collections.pgops.migrations.plugins.modules.%s" % name],
            input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(ROOT / ".collections")},
        )
        seconds = time.monotonic() - began
        try:
            result: dict[str, Any] = json.loads(done.stdout)
        except ValueError:
            raise BenchmarkError("%s printed no JSON: %s" % (name, done.stderr.strip()[-500:])) from None
        if result.get("failed"):
            raise BenchmarkError("%s: %s: %s" % (name, result.get("code"), result.get("msg")))
        return seconds, result

    def recorder(self) -> tuple[Path, Path]:
        """A folder of programs whose pg_dump records its arguments, and the file that they are in."""
        folder, record = self.folder / "recorder", self.folder / "arguments"
        folder.mkdir()
        # All of them, because what lies in one folder is taken for one build.
        for program in Path(self.server.bin_dir).glob("pg_*"):
            recording = _RECORD % (record, record) if program.name == "pg_dump" else ""
            (folder / program.name).write_text(_STAND_IN % (recording, program), encoding="utf-8")
            (folder / program.name).chmod(0o700)
        return folder, record

    def remove(self, *names: str) -> None:
        """Delete files or folders of an earlier round."""
        for name in names:
            path = self.folder / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Bytes in a file, or in all files below a folder."""
    return sum(found.stat().st_size for found in path.rglob("*") if found.is_file()) if path.is_dir() else path.stat().st_size


@contextlib.contextmanager
def bench(plain_bytes: int, rounds: int, pg_bin: str, folder: str, say: Callable[[str], None]) -> Iterator[Bench]:
    """A server and a folder that are gone at the end, whatever happens."""
    with tempfile.TemporaryDirectory(prefix="pgops-benchmark-", dir=folder or None) as made:
        room, needed = shutil.disk_usage(made).free, ROOM_TIMES * plain_bytes + min(ROOM_MORE, 40 * plain_bytes)
        if room < needed:
            raise BenchmarkError(
                "%s has %.1f GB free and this needs about %.1f GB. Next: a smaller --size, or --dir elsewhere" % (made, room / 1e9, needed / 1e9)
            )
        source = None if pg_bin or os.environ.get("PGSERVER_SOURCE") else "wheel"
        with contextlib.ExitStack() as stack:
            with _signals_held_back():
                server = stack.enter_context(Cluster(Path(made) / "server", settings=SETTINGS, pg_bin=pg_bin or None, source=source, temporary=True))
            found = Bench(server, Path(made), plain_bytes, rounds, say)
            found.prepare()
            yield found


@contextlib.contextmanager
def _signals_held_back() -> Iterator[None]:
    """Who is told to end in this block does so after it: an initdb that is cut off leaves processes that go on writing."""
    told: list[int] = []
    before = {number: signal.signal(number, lambda number, _frame: told.append(number)) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if told:
        sys.exit(128 + told[0])


__all__ = ("SETTINGS", "Bench", "BenchmarkError", "bench", "size_of")
