# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Roles and their memberships beside a dump, which holds only what lies in the database."""

from __future__ import annotations

import hashlib
import os
import subprocess
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._encryption import encrypt_argv, tool_environment
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import conninfo, spawned, started
from ansible_collections.pgops.migrations.plugins.module_utils._storage import write_private
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

_SECONDS = 300.0


def read_globals(program: Program, target: Target, passwords: bool = False, application_name: str = "") -> bytes:
    """The roles of the server and their memberships as SQL, by C(pg_dumpall).

    :param passwords: with the hashes of the passwords, which only a superuser may read.
    :raises MigrationError: ``GLOBALS_FAILED``.
    """
    argv = [program.path, "--roles-only", "--no-password", "--database=%s" % conninfo(target.dbname)] + ([] if passwords else ["--no-role-passwords"])
    with started(argv, target, application_name=application_name, settings=QUIET, stdout=subprocess.PIPE) as child:
        # It is small, and kept in memory so that it is on no disk before it is encrypted.
        text = t.cast("t.IO[bytes]", child.process.stdout).read()
        done = child.wait(_SECONDS)
    if done is None or done.rc != 0:
        raise MigrationError("pg_dumpall %s" % (done.why() if done else "did not end"), code="GLOBALS_FAILED")
    return text


def globals_digest(text: bytes) -> str:
    """SHA-256 of what the text does: without its comments and the random words that protect psql."""
    lines = [line for line in text.splitlines() if line and not line.startswith((b"--", b"\\restrict", b"\\unrestrict"))]
    return hashlib.sha256(b"\n".join(lines)).hexdigest()


def write_globals(path: str, text: bytes, tool: str = "", recipients: t.Sequence[str] = (), gpg_home: str = "") -> None:
    """Write the text to a new private file, encrypted when a tool is given.

    :raises MigrationError: ``GLOBALS_FAILED``, ``PROGRAM_MISSING``.
    :raises OSError: when the file cannot be written.
    """
    if not tool:
        write_private(path, text)
        return
    argv, env = encrypt_argv(tool, recipients), tool_environment(gpg_home)
    with (
        open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as handle,
        spawned(argv, env, Target(dbname=""), stdin=subprocess.PIPE, stdout=handle) as child,
    ):
        try:
            child.process.communicate(text, timeout=_SECONDS)
        except (OSError, subprocess.TimeoutExpired):
            child.kill()
        done = child.wait(_SECONDS)
    if done is None or done.rc != 0:
        raise MigrationError("%s %s" % (tool, done.why() if done else "did not end"), code="GLOBALS_FAILED")


__all__ = ("globals_digest", "read_globals", "write_globals")
