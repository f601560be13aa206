# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Private folders, and files that are on the disk when a function says so."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

_CHUNK = 1 << 20


@contextlib.contextmanager
def private_umask() -> t.Iterator[None]:
    """Nothing made in this block can be read by others."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def ensure_private_dir(path: str, create: bool = True) -> bool:
    """Demand a folder with mode 0700 (or less) that this user owns; make it if it is missing.

    :returns: whether it was there before.
    :raises MigrationError: ``BACKUP_DIR_UNSAFE``, ``DISK_FULL``.
    """
    if not os.path.isabs(path):
        raise MigrationError("%s is not an absolute path" % path, code="BACKUP_DIR_UNSAFE")
    path = os.path.normpath(path)
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        if create:
            _make(path)
        return False
    except OSError as error:
        raise MigrationError("%s: %s" % (path, error.strerror), code="BACKUP_DIR_UNSAFE") from None
    if stat.S_ISLNK(found.st_mode):
        raise MigrationError("%s is a symbolic link" % path, code="BACKUP_DIR_UNSAFE", next_step="name the folder itself")
    if not stat.S_ISDIR(found.st_mode):
        raise MigrationError("%s is not a folder" % path, code="BACKUP_DIR_UNSAFE")
    if found.st_uid != os.geteuid():
        raise MigrationError("%s belongs to user %d and not to user %d who runs this" % (path, found.st_uid, os.geteuid()), code="BACKUP_DIR_UNSAFE")
    if found.st_mode & 0o077:
        raise MigrationError("%s has mode %04o" % (path, stat.S_IMODE(found.st_mode)), code="BACKUP_DIR_UNSAFE", next_step="chmod 0700 %s" % path)
    return True


def _make(path: str) -> None:
    try:
        os.makedirs(path, 0o700)
        fsync_dir(os.path.dirname(path))
    except OSError as error:
        code = "DISK_FULL" if error.errno in (28, 122) else "BACKUP_DIR_UNSAFE"
        raise MigrationError("cannot make %s: %s" % (path, error.strerror), code=code) from None


def room(path: str) -> int:
    """Free bytes for this user in the file system of the path or of its nearest existing parent."""
    while not os.path.isdir(path) and os.path.dirname(path) != path:
        path = os.path.dirname(path)
    found = os.statvfs(path)
    return found.f_bavail * found.f_frsize


def fsync_dir(path: str) -> None:
    """Put the names in a folder on the disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_private(path: str, content: bytes) -> None:
    """A new file with mode 0600 and this content, on the disk."""
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as handle:
        handle.write(content)
        handle.flush()
        os.fsync(handle.fileno())


def hash_file(path: str, sync: bool = False) -> tuple[int, str]:
    """Size and SHA-256 of a regular file; with ``sync`` it is on the disk then.

    :raises OSError: also for what is no regular file, links included.
    """
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as handle:
        if not stat.S_ISREG(os.fstat(handle.fileno()).st_mode):
            raise OSError(0, "not a regular file", path)
        value, size = hashlib.sha256(), 0
        while True:
            chunk = handle.read(_CHUNK)
            if not chunk:
                break
            value.update(chunk)
            size += len(chunk)
        if sync:
            os.fsync(handle.fileno())
    return size, value.hexdigest()


__all__ = ("ensure_private_dir", "fsync_dir", "hash_file", "private_umask", "room", "write_private")
