# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Running PostgreSQL's client programs without leaking a secret.

A program gets an argv list, a small environment with libpq's variables, and its
password by a private PGPASSFILE. Nothing secret is ever in argv.
"""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import glob
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import scrub
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import base_environment
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target, merge_options

#: psycopg2 falls back to these where the target is silent, so the programs must too.
INHERITED_LIBPQ = ("PGHOST", "PGHOSTADDR", "PGUSER", "PGPASSFILE", "PGSSLMODE", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGSSLCRL", "PGKRBSRVNAME")
#: libpq parameter -> its variable. Those that libpq takes from no variable (keepalives...) are left out: they only tune.
LIBPQ_ENV: dict[str, str] = {
    "application_name": "PGAPPNAME",
    "channel_binding": "PGCHANNELBINDING",
    "connect_timeout": "PGCONNECT_TIMEOUT",
    "gssencmode": "PGGSSENCMODE",
    "hostaddr": "PGHOSTADDR",
    "krbsrvname": "PGKRBSRVNAME",
    "load_balance_hosts": "PGLOADBALANCEHOSTS",
    "options": "PGOPTIONS",
    "passfile": "PGPASSFILE",
    "require_auth": "PGREQUIREAUTH",
    "service": "PGSERVICE",
    "ssl_max_protocol_version": "PGSSLMAXPROTOCOLVERSION",
    "ssl_min_protocol_version": "PGSSLMINPROTOCOLVERSION",
    "sslcert": "PGSSLCERT",
    "sslcompression": "PGSSLCOMPRESSION",
    "sslcrl": "PGSSLCRL",
    "sslkey": "PGSSLKEY",
    "sslmode": "PGSSLMODE",
    "sslnegotiation": "PGSSLNEGOTIATION",
    "sslrootcert": "PGSSLROOTCERT",
    "sslsni": "PGSSLSNI",
    "target_session_attrs": "PGTARGETSESSIONATTRS",
}
SECRET_DIR_PREFIX = "pgops-migrations-"
_OUTPUT_TAIL = 16384
_PR_SET_PDEATHSIG = 1
# Loaded before any fork: the child may only make system calls.
try:
    _PRCTL: t.Any = ctypes.CDLL(None).prctl
except (OSError, AttributeError):  # no Linux: a killed parent then leaves its child to end by itself
    _PRCTL = None


@dataclasses.dataclass(frozen=True)
class Finished:
    """How a program ended: exit code (negative: the signal), the tails of its output, seconds."""

    rc: int
    stdout: str
    stderr: str
    seconds: float

    def why(self) -> str:
        """Its own words in one line, or how it ended."""
        words = " ".join(self.stderr.split())
        ended = "was killed by signal %d" % -self.rc if self.rc < 0 else "ended with exit code %d" % self.rc
        return "%s: %s" % (ended, words) if words else ended


def conninfo(dbname: str) -> str:
    """A conninfo string that names the database and nothing else, whatever the name looks like."""
    return "dbname='%s'" % dbname.replace("\\", "\\\\").replace("'", "\\'")


def pgpass_line(password: str) -> bytes:
    """The line of a PGPASSFILE that gives this password to every connection.

    :raises MigrationError: ``CONNECTION_OPTIONS`` for what such a file cannot hold.
    """
    if re.search(r"[\r\n\0]", password):
        raise MigrationError("a password with a line break cannot be given to the client programs", code="CONNECTION_OPTIONS")
    return b"*:*:*:*:" + re.sub(r"([\\:])", r"\\\1", password).encode("utf-8", "surrogateescape") + b"\n"


def libpq_environment(target: Target, dbname: str, application_name: str = "", settings: t.Mapping[str, str] | None = None) -> dict[str, str]:
    """The whole environment of a client program, without the password.

    PGDATABASE names the database, because a name in argv may be expanded as a conninfo.
    """
    if target.libpq.get("sslpassword"):
        raise MigrationError("sslpassword cannot be given to the client programs safely", code="CONNECTION_OPTIONS", next_step="use a key without a password")
    env = base_environment()
    env.update({name: os.environ[name] for name in INHERITED_LIBPQ if name in os.environ})
    params = target.conninfo(dbname, **({"application_name": application_name} if application_name else {}))
    params["options"] = merge_options(params.get("options", ""), settings or {})
    env.update({LIBPQ_ENV[name]: str(value) for name, value in params.items() if name in LIBPQ_ENV and value})
    env["PGPORT"], env["PGDATABASE"] = params["port"], dbname
    for name, variable in (("host", "PGHOST"), ("user", "PGUSER")):
        if params.get(name):
            env[variable] = params[name]
    return env


@contextlib.contextmanager
def secret_file(content: bytes) -> t.Iterator[str]:
    """A file that only this user can read, in a private directory, gone at the end.

    It is locked while its owner lives, so the next run can tell and remove one that a
    killed run left behind.
    """
    _sweep()
    folder = tempfile.mkdtemp(prefix=SECRET_DIR_PREFIX)
    path = os.path.join(folder, "pgpass")
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            handle.write(content)
            handle.flush()
            yield path
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep() -> None:
    for folder in glob.glob(os.path.join(glob.escape(tempfile.gettempdir()), SECRET_DIR_PREFIX + "*")):
        try:
            if os.lstat(folder).st_uid != os.geteuid() or time.time() - os.lstat(folder).st_mtime < 5:
                continue
            with open(os.open(os.path.join(folder, "pgpass"), os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue


class Child:
    """A running program; see :func:`started`. Its output is kept unless it was given a place to go."""

    def __init__(self, process: subprocess.Popen[bytes], out: t.IO[bytes] | None, err: t.IO[bytes], target: Target) -> None:
        self.process, self._out, self._err, self._target = process, out, err, target
        self._started = time.monotonic()

    def wait(self, timeout: float | None = None) -> Finished | None:
        """How it ended, or None when it still runs after ``timeout`` seconds."""
        try:
            rc = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None
        return Finished(rc=rc, stdout=self._tail(self._out), stderr=self._tail(self._err), seconds=round(time.monotonic() - self._started, 3))

    def _tail(self, handle: t.IO[bytes] | None) -> str:
        if handle is None:
            return ""
        handle.seek(max(0, os.fstat(handle.fileno()).st_size - _OUTPUT_TAIL))
        return scrub(handle.read().decode("utf-8", "replace"), self._target)

    def kill(self, grace: float = 3.0) -> None:
        """End the program and its workers: SIGTERM first, with which it also cancels its statements on the server."""
        for number, wait in ((signal.SIGTERM, grace), (signal.SIGKILL, 10.0)):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, number)
            if self.wait(wait) is not None and number == signal.SIGKILL:
                return


def _child_setup() -> None:
    os.umask(0o077)
    if _PRCTL is not None:
        _PRCTL(_PR_SET_PDEATHSIG, signal.SIGTERM)


@contextlib.contextmanager
def spawned(argv: t.Sequence[str], env: t.Mapping[str, str], target: Target, stdin: int | t.IO[bytes] | None = None, stdout: t.Any = None) -> t.Iterator[Child]:
    """Start a program; at the end of the block it is ended if it still runs.

    :param stdin: where it reads from (a file, the end of a pipe, or PIPE); nothing by default.
    :param stdout: where its output goes, in the same way; kept for :class:`Finished` by default.
    :raises MigrationError: ``PROGRAM_MISSING``.
    """
    with contextlib.ExitStack() as stack:
        err = stack.enter_context(tempfile.TemporaryFile())
        out = stack.enter_context(tempfile.TemporaryFile()) if stdout is None else None
        try:
            # Its own session, so that the whole group can be ended, and no terminal to ask for a password on.
            process = subprocess.Popen(  # pylint: disable=subprocess-popen-preexec-fn,consider-using-with
                list(argv),
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                stdout=out if stdout is None else stdout,
                stderr=err,
                env=dict(env),
                start_new_session=True,
                preexec_fn=_child_setup,  # noqa: PLW1509
            )
        except OSError as error:
            raise MigrationError("cannot run %s: %s" % (argv[0], error.strerror), code="PROGRAM_MISSING") from None
        child = Child(process, out, err, target)
        try:
            yield child
        finally:
            if process.poll() is None:
                child.kill()
            elif process.returncode != 0:
                # Workers outlive a leader that was killed.
                with contextlib.suppress(ProcessLookupError, PermissionError):
                    os.killpg(process.pid, signal.SIGKILL)


@contextlib.contextmanager
def started(
    argv: t.Sequence[str],
    target: Target,
    dbname: str | None = None,
    application_name: str = "",
    settings: t.Mapping[str, str] | None = None,
    stdin: int | t.IO[bytes] | None = None,
    stdout: t.Any = None,
) -> t.Iterator[Child]:
    """Start a client program, see :func:`spawned`.

    :param argv: the program's path and its arguments, without database and password.
    :param settings: server settings for its sessions.
    """
    env = libpq_environment(target, target.dbname if dbname is None else dbname, application_name, settings)
    with contextlib.ExitStack() as stack:
        if target.password is not None:
            env["PGPASSFILE"] = stack.enter_context(secret_file(pgpass_line(target.password)))
        yield stack.enter_context(spawned(argv, env, target, stdin, stdout))


def run_program(
    argv: t.Sequence[str],
    target: Target,
    dbname: str | None = None,
    application_name: str = "",
    settings: t.Mapping[str, str] | None = None,
    timeout: float | None = None,
) -> Finished | None:
    """Run a client program to its end; None when it was ended after ``timeout`` seconds."""
    with started(argv, target, dbname, application_name, settings) as child:
        return child.wait(timeout)


__all__ = ("Child", "Finished", "conninfo", "libpq_environment", "pgpass_line", "run_program", "secret_file", "spawned", "started")
