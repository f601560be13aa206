# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The data directory: made by initdb or copied from a primary, started and stopped with pg_ctl."""

from __future__ import annotations

import contextlib
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from tools.pgserver.account import Account, give, write_private
from tools.pgserver.folder import SUPERUSER
from tools.pgserver.postmaster import running_on
from tools.pgserver.programs import PgServerError, Programs

START_TIMEOUT = 60
STOP_TIMEOUT = 30


class DataDir:
    """The server's files in its home: data/, server.log. Everything here is done as the server's account."""

    def __init__(self, home: Path, account: Account, programs: Programs, fast: bool) -> None:
        self.home = home
        self.path = home / "data"
        self.log_file = home / "server.log"
        self._account, self._programs = account, programs
        self._no_sync = ["--no-sync"] if fast else []

    def made_by(self) -> str:
        """The major version that made the data, or nothing where there is none yet."""
        version_file = self.path / "PG_VERSION"
        return version_file.read_text(encoding="utf-8").strip() if version_file.exists() else ""

    def initdb(self, password: str) -> None:
        def fill(partial: Path) -> None:
            pwfile = self.home / "pwfile"
            write_private(pwfile, password + "\n", self._account)
            arguments = ["-D", str(partial), "-U", SUPERUSER, f"--pwfile={pwfile}", "--no-locale", "--encoding=UTF8"]
            arguments += ["--auth-host=scram-sha-256", "--auth-local=scram-sha-256", "--no-instructions", *self._no_sync]
            try:
                self._run("initdb", *arguments)
            finally:
                pwfile.unlink()
            with (partial / "postgresql.conf").open("a", encoding="utf-8") as stream:
                stream.write("\ninclude_if_exists = 'pgserver.conf'\n")

        self._fill(fill)

    def copy_from(self, port: int, password: str) -> None:
        """Become a copy of a running primary that goes on to follow it."""

        def fill(partial: Path) -> None:
            passfile = self.home / "pgpass"  # the server's own copy: it cannot read the folder's
            write_private(passfile, f"*:*:*:{SUPERUSER}:{password}\n", self._account)
            parts = {"host": "127.0.0.1", "port": port, "user": SUPERUSER, "passfile": passfile}
            source = " ".join(f"{key}={_conninfo_value(value)}" for key, value in parts.items())
            self._run("pg_basebackup", "-D", str(partial), "-X", "stream", "-c", "fast", "-w", *self._no_sync, "-d", source)
            with (partial / "postgresql.auto.conf").open("a", encoding="utf-8") as stream:
                stream.write(f"primary_conninfo = {_conf_value(source)}\n")
            write_private(partial / "standby.signal", "", self._account)

        self._fill(fill)

    def _fill(self, fill: Callable[[Path], None]) -> None:
        """Fill a directory beside the real one and rename it: an interrupted initdb leaves no half of a cluster."""
        partial = self.home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        fill(partial)
        partial.rename(self.path)

    def start(self, port: int, socket_dir: str, settings: Mapping[str, str]) -> bool:
        """Start on this port; False when somebody took it in the meantime."""
        self.log_file.touch(mode=0o600)
        give(self.log_file, self._account)
        self._write_conf({**settings, "port": str(port), "listen_addresses": "127.0.0.1", "unix_socket_directories": socket_dir})
        log_start = self.log_file.stat().st_size
        try:
            # pg_ctl hands these paths to a shell, whatever is in them; inside the home they are plain words.
            self._run("pg_ctl", "start", "-D", "data", "-l", "server.log", "-w", "-t", str(START_TIMEOUT), "-s", cwd=self.home)
            return True
        except PgServerError:
            with self.log_file.open(encoding="utf-8", errors="replace") as stream:
                stream.seek(log_start)
                if re.search(r"could not bind IPv4|Address already in use", stream.read()):
                    return False
            raise PgServerError(
                f"PostgreSQL {self._programs.version_text} did not start in {self.path}. The end of its log:\n"
                f"{self.log_tail()}\nNext: mend what the log names (a setting?) and start again"
            ) from None

    def stop(self, pid: int) -> None:
        for mode in ("fast", "immediate"):
            with contextlib.suppress(PgServerError):
                self._run("pg_ctl", "stop", "-D", str(self.path), "-m", mode, "-w", "-t", str(STOP_TIMEOUT), "-s")
            if running_on(self.path) is None:
                return
        raise PgServerError(f"The server in {self.path} (pid {pid}) does not stop. The end of its log:\n{self.log_tail()}\nNext: kill -QUIT {pid}")

    def log_tail(self, lines: int = 12) -> str:
        with contextlib.suppress(OSError):
            return "\n".join(self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
        return "(no log)"

    def _write_conf(self, values: Mapping[str, str]) -> None:
        lines = [f"{name} = {_conf_value(value)}\n" for name, value in values.items()]
        write_private(self.path / "pgserver.conf", "# Written by tools/pgserver at every start.\n" + "".join(lines), self._account)

    def _run(self, program: str, *arguments: str, cwd: Path | None = None) -> None:
        self._account.run(self._programs.path(program), *arguments, cwd=cwd)


def _conf_value(value: str) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _conninfo_value(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"
