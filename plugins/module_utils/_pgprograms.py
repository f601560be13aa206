# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""PostgreSQL's client programs: which of those that are installed fit a server, and what they can do."""

from __future__ import annotations

import dataclasses
import glob
import os
import re
import shutil
import subprocess

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

BIN_GLOBS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
#: Debian's wrapper of the client programs chooses a version by rules of its own.
WRAPPER = "pg_wrapper"
#: The variables of our own environment that a client program may need.
INHERITED = ("PATH", "HOME", "USER", "LOGNAME", "TMPDIR", "LD_LIBRARY_PATH", "KRB5CCNAME", "KRB5_CONFIG", "SSL_CERT_FILE", "SSL_CERT_DIR")


@dataclasses.dataclass(frozen=True)
class Program:
    """A client program that was found. ``major`` 15 and ``version`` "15.18", for example."""

    name: str
    path: str
    version: str
    major: int


def base_environment() -> dict[str, str]:
    """The part of our environment that a client program gets."""
    env = {name: os.environ[name] for name in INHERITED if name in os.environ}
    # Messages are classified by their text, so they must not be translated.
    env["LC_ALL"] = "C"
    return env


def parse_version(text: str) -> tuple[int, str] | None:
    """Major and full version from the output of ``--version``: (15, "15.18")."""
    found = re.search(r"\)\s+((\d+)(?:\.\d+)*(?:(?:devel|alpha|beta|rc)\d*)?)", text)
    return (int(found.group(2)), found.group(1)) if found else None


def can_serve(client_major: int, server_major: int) -> bool:
    """Whether an archive by this client can be read from and restored to this server.

    pg_restore 17 and later set ``transaction_timeout``, which older servers do not know.
    """
    return client_major >= server_major and not client_major >= 17 > server_major


def find_program(name: str, server_version_num: int, pg_bin_dir: str = "") -> Program:
    """The client program that fits the server best: of the same major if there is one.

    :param server_version_num: as the server reports it, e.g. 150018.
    :param pg_bin_dir: look here and nowhere else.
    :raises MigrationError: ``PROGRAM_MISSING``, ``CLIENT_TOO_OLD``, ``VERSION_MISMATCH``.
    """
    server = server_version_num // 10000
    found = [program for program in (_inspect(name, path) for path in _candidates(name, pg_bin_dir)) if program]
    fitting = sorted((program for program in found if can_serve(program.major, server)), key=lambda program: program.major)
    if fitting:
        return fitting[0]
    where = pg_bin_dir or "PATH and %s" % " and ".join(BIN_GLOBS)
    if not found:
        raise MigrationError("%s was not found in %s" % (name, where), code="PROGRAM_MISSING")
    seen = ", ".join("%s is %s" % (program.path, program.version) for program in found)
    if max(program.major for program in found) < server:
        raise MigrationError("the server is PostgreSQL %d, but %s" % (server, seen), code="CLIENT_TOO_OLD")
    raise MigrationError(
        "the server is PostgreSQL %d, and what pg_restore 17 or newer writes cannot be restored to it; %s" % (server, seen),
        code="VERSION_MISMATCH",
        next_step="install the client programs of PostgreSQL %d, or set pg_bin_dir to them" % server,
    )


def _candidates(name: str, pg_bin_dir: str) -> list[str]:
    if pg_bin_dir:
        return [os.path.join(pg_bin_dir, name)]
    paths = [shutil.which(name) or ""]
    for pattern in BIN_GLOBS:
        paths += glob.glob(os.path.join(pattern, name))
    return [path for path in dict.fromkeys(paths) if path and os.path.basename(os.path.realpath(path)) != WRAPPER]


def _inspect(name: str, path: str) -> Program | None:
    try:
        # pylint: disable-next=subprocess-run-check
        done = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=base_environment(), timeout=30, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    version = parse_version(done.stdout.decode("utf-8", "replace"))
    return Program(name=name, path=path, version=version[1], major=version[0]) if version and done.returncode == 0 else None


def choose_compression(program: Program, wanted: str = "auto", reader: Program | None = None) -> str:
    """The value for ``pg_dump --compress``.

    :param wanted: ``auto`` (zstd:1, else lz4, else gzip level 1: gzip's default level is six
        times slower than all of them), ``none``, ``gzip``, ``lz4``, ``zstd``, each but none
        with an optional ``:level``.
    :param reader: the pg_restore that will read it. ``auto`` takes what only some builds can
        read when it is of the same build, which is to say, when it lies in the same folder.
    :raises MigrationError: ``OPTION_INVALID`` when this pg_dump cannot do it.
    """
    if wanted == "auto":
        if reader is not None and _build(reader) != _build(program):
            return "1"
        return next((value for value in ("zstd:1", "lz4") if _compresses(program, value)), "1")
    found = re.match(r"^(none|(gzip|lz4|zstd)(?::(\d+))?)$", wanted)
    if not found:
        raise MigrationError("compression %r is not auto, none, gzip, lz4 or zstd with an optional :level" % wanted, code="OPTION_INVALID")
    # A plain number is what every pg_dump understands: 0 is none, 1-9 is gzip.
    value = (
        "0" if wanted == "none" else found.group(3) or "1" if found.group(2) == "gzip" else wanted if found.group(3) else {"zstd": "zstd:1"}.get(wanted, wanted)
    )
    if not _compresses(program, value):
        raise MigrationError("%s %s cannot write compression %s" % (program.path, program.version, wanted), code="OPTION_INVALID")
    return value


def _build(program: Program) -> tuple[str, str]:
    return os.path.dirname(os.path.realpath(program.path)), program.version


def _compresses(program: Program, value: str) -> bool:
    # pg_dump checks its options before it connects, so a host that cannot exist tells them apart.
    env = dict(base_environment(), PGHOST="/nonexistent", PGDATABASE="x", PGUSER="x", PGCONNECT_TIMEOUT="2")
    done = subprocess.run(
        [program.path, "--format=custom", "--compress=%s" % value, "--file=/dev/null", "--no-password"],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env, timeout=30, check=False,
    )  # fmt: skip
    return b"connection to" in done.stderr or b"could not connect" in done.stderr


__all__ = ("BIN_GLOBS", "Program", "base_environment", "can_serve", "choose_compression", "find_program", "parse_version")
