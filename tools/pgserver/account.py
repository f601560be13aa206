# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Who runs the server, and what that account can reach: for root, PostgreSQL runs as somebody else."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pwd
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tools.pgserver.programs import CARRIED, PgServerError, Programs

ACCOUNTS = ("postgres", "nobody")


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

    def run(self, program: str, *arguments: str, cwd: Path | None = None) -> None:
        """Run one of PostgreSQL's programs. pg_ctl's child would hold a pipe of ours open, so the output goes to a file."""
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as output:
            answer = subprocess.run(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                umask=0o077,
                **{**self.popen_args(), "cwd": str(cwd or "/")},
            )
            output.seek(0)
            if answer.returncode:
                raise PgServerError(f"{Path(program).name} ended with {answer.returncode}: {output.read().strip()}")

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
    if tree.parent.name not in CARRIED:
        raise PgServerError(
            f"The account {account.name} cannot run the programs in {programs.bin_dir}.\n"
            "Next: set PG_BIN to a directory that every account may enter, or PGSERVER_ACCOUNT to one that may."
        )
    copy = _public_copy(tree)
    if not account.can("-x", copy / "bin" / "postgres"):
        raise PgServerError(
            f"The account {account.name} cannot run programs from {copy}.\nNext: set TMPDIR to a directory that every account may enter and run programs from."
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


def private_dir(account: Account, prefix: str, longest: int = 4096) -> Path:
    """A new directory that belongs to the account alone, in a place that it can reach, with a path that is short."""
    for root in dict.fromkeys((_temporary_root(), "/tmp", "/var/tmp")):
        if len(os.fsencode(root)) + len(prefix) + 10 <= longest and account.can("-x", Path(root)):
            path = Path(tempfile.mkdtemp(prefix=prefix, dir=root))
            give(path, account)
            return path
    raise PgServerError(f"No temporary directory that the account {account.name} can enter and whose path is short enough.\nNext: set TMPDIR to one.")


def give(path: Path, account: Account) -> None:
    if account.is_other:
        os.chown(path, account.uid, account.gid, follow_symlinks=False)


def write_private(path: Path, text: str, owner: Account | None = None) -> None:
    """Write a file whole or not at all, readable by its owner alone from its first byte."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        if owner:
            give(Path(name), owner)
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
