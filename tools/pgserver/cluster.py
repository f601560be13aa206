# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One server in one folder: the class that the tests, the demo and the benchmarks use."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
import urllib.parse
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any

from tools.pgserver import postmaster
from tools.pgserver.account import Account, server_account, usable_by
from tools.pgserver.datadir import DataDir
from tools.pgserver.folder import SUPERUSER, Folder, command
from tools.pgserver.guard import Guard
from tools.pgserver.postmaster import Running
from tools.pgserver.programs import PgServerError, Programs, find_programs

# What was committed survives a killed server, but not a crash of the machine: for data that can be made again.
# synchronous_commit stays on: it costs next to nothing then, and a commit that a kill can lose would mislead tests.
FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
PORT_TRIES = 5


class Cluster:
    """A PostgreSQL server in a folder; temporary: the data goes, too, when the process that started it ends."""

    superuser = SUPERUSER

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fast: bool = False,
        settings: Mapping[str, str] | None = None,
        pg_bin: str | os.PathLike[str] | None = None,
        source: str | None = None,
        temporary: bool = False,
    ) -> None:
        self.temporary = temporary
        self.fast = fast
        self.settings = {**(FAST_SETTINGS if fast else {}), **_checked(settings or {})}
        self.notes: list[str] = []
        self._wanted_programs = (pg_bin, source)
        self._kept = Folder(folder)
        self._guard = Guard(self._leave)

    # -- what a caller asks for

    @cached_property
    def account(self) -> Account:
        return server_account()

    @cached_property
    def programs(self) -> Programs:
        programs, note = usable_by(self.account, find_programs(*self._wanted_programs))
        self._note(note)
        return programs

    @property
    def bin_dir(self) -> str:
        return str(self.programs.bin_dir)

    @property
    def version(self) -> tuple[int, ...]:
        return self.programs.version

    @property
    def folder(self) -> Path:
        return self._kept.path

    @property
    def home(self) -> Path:
        """Where the server's own files are: in the folder, or elsewhere when its account cannot get there."""
        if self._kept.home is None:
            raise PgServerError(f"There is no cluster in {self.folder}. Next: {command('start', self.folder)}")
        return self._kept.home

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def log_file(self) -> Path:
        return self.home / "server.log"

    @property
    def pgpass_file(self) -> Path:
        return self._kept.pgpass_file

    @property
    def password(self) -> str:
        return self._kept.password

    @property
    def pid(self) -> int:
        return self.running().pid

    @property
    def port(self) -> int:
        return self.running().port

    @property
    def socket_dir(self) -> str:
        return self.running().socket_dir

    def running(self) -> Running:
        """The running server; an error that says how to start it when there is none."""
        running = self.status()
        if running is None:
            raise PgServerError(f"The server of {self.folder} is not running. Next: {command('start', self.folder)}")
        return running

    def status(self) -> Running | None:
        """The running server of this folder, or None."""
        try:
            return postmaster.running_on(self.data_dir) if self._kept.home else None
        except PermissionError:
            raise self._not_ours() from None

    def connect_args(self, dbname: str = "postgres") -> dict[str, Any]:
        """Keyword arguments for psycopg2.connect."""
        return {"host": "127.0.0.1", "port": self.port, "user": SUPERUSER, "password": self.password, "dbname": dbname}

    def url(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A connection URL. It holds the password: for a child's environment or a 0600 file, never for argv."""
        quote = urllib.parse.quote
        who = f"{quote(user or SUPERUSER, safe='')}:{quote(password or self.password, safe='')}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    def libpq_env(self) -> dict[str, str]:
        """What PostgreSQL's own programs read; no secret in it, only the path of the password file."""
        return {"PGHOST": "127.0.0.1", "PGPORT": str(self.port), "PGUSER": SUPERUSER, "PGPASSFILE": str(self.pgpass_file)}

    def query(self, sql: str, dbname: str = "postgres") -> str:
        """Run SQL with psql and return its output, unaligned and without headings; an error raises."""
        psql = [self.programs.path("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", dbname, "-f", "-"]
        own = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        answer = subprocess.run(psql, input=sql, capture_output=True, text=True, check=False, env={**own, **self.libpq_env()})
        if answer.returncode:
            raise PgServerError(f"psql in {dbname}: {answer.stderr.strip()}")
        return answer.stdout.rstrip("\n")

    # -- start and stop

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        self._leave()

    def start(self, detached: bool = False) -> bool:
        """Have the server run with these settings; True when anything had to be done for it.

        Unless detached, it ends with this process, however that ends.
        """
        _ = self.programs  # without them nothing is made
        if not detached:
            self._guard.own()
        with self._kept.lock():
            changed = self.status() is None or self._kept.settings != self.settings
            if changed:
                self._create()
                self._stop()
                self._start()
        if not detached and (changed or not self._guard.watching):
            self._guard.watch(self.pid, self.data_dir, self.account)
        return changed

    def stop(self) -> bool:
        """Stop the server; True when it was running."""
        stopped = False
        if self.folder.is_dir():
            with self._kept.lock():
                stopped = self._stop()
        self._guard.disown()
        return stopped

    def remove(self) -> None:
        """Stop the server and delete all that belongs to it."""
        self.stop()
        self._kept.delete()

    def make_standby(self, folder: str | os.PathLike[str], *, settings: Mapping[str, str] | None = None, temporary: bool = False) -> Cluster:
        """A running hot standby of this server in another folder; it takes over roles and passwords."""
        standby = Cluster(folder, fast=self.fast, settings=settings, pg_bin=self.programs.bin_dir, temporary=temporary)
        try:
            standby._follow(self)
            standby.start()
        except BaseException:
            standby._leave()
            raise
        return standby

    # -- how it is done

    def _create(self) -> None:
        self._note(self._kept.choose_home(self.account))
        data = self._data()
        if data.home.stat().st_uid != self.account.uid:
            raise self._not_ours()
        made_by = data.made_by()
        if not made_by:
            self._kept.set_password(secrets.token_urlsafe(24))
            data.initdb(self.password)
        elif int(made_by) != self.version[0]:
            raise PgServerError(
                f"The data in {data.path} was made by PostgreSQL {made_by}, and {self.bin_dir} holds {self.programs.version_text}.\n"
                f"Next: set PG_BIN to the programs of PostgreSQL {made_by}, or {command('remove', self.folder)}"
            )

    def _follow(self, primary: Cluster) -> None:
        with self._kept.lock():
            self._note(self._kept.choose_home(self.account))
            data = self._data()
            if data.made_by():
                raise PgServerError(f"There is a cluster in {self.folder} already. Next: {command('remove', self.folder)}")
            self._kept.set_password(primary.password)
            data.copy_from(primary.port, primary.password)

    def _start(self) -> None:
        postmaster.end_orphans(self.data_dir)
        port = self._kept.port
        for _attempt in range(PORT_TRIES):
            if not port or not postmaster.is_free(port):
                port = postmaster.free_port()
            self._kept.new_socket_dir(self.account)
            try:
                started = self._data().start(port, self._kept.socket_dir, self.settings)
            except PgServerError as error:
                self._kept.drop_socket_dir()
                raise PgServerError(f"{error}, or {command('remove', self.folder)}") from None
            if started:
                self._kept.port, self._kept.settings = port, dict(self.settings)
                self._kept.save()
                return
            port = 0
        self._kept.drop_socket_dir()
        raise PgServerError(f"No free port on 127.0.0.1 after {PORT_TRIES} tries. The log:\n{self._data().log_tail()}")

    def _stop(self) -> bool:
        running = self.status()
        if running is not None:
            self._data().stop(running.pid)
        self._kept.drop_socket_dir()  # also what a server that was killed left
        return running is not None

    def _data(self) -> DataDir:
        return DataDir(self.home, self.account, self.programs, self.fast)

    def _leave(self) -> None:
        if self.temporary:
            self.remove()
        else:
            self.stop()

    def _not_ours(self) -> PgServerError:
        return PgServerError(
            f"The data in {self.home} belongs to another account than {self.account.name}.\n"
            f"Next: run this as the user who made it, or remove {self.home} and {self.folder}."
        )

    def _note(self, text: str) -> None:
        if text and text not in self.notes:
            self.notes.append(text)


def _checked(settings: Mapping[str, str]) -> dict[str, str]:
    for name, value in settings.items():
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_.]*", name) or "\n" in str(value):
            raise PgServerError(f"{name!r} is no setting of PostgreSQL. Next: write it as name=value.")
    return {name: str(value) for name, value in settings.items()}
