# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The migrations folder, read the way the Prisma CLI reads it."""

from __future__ import annotations

import dataclasses
import errno
import functools
import hashlib
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._collation import exact, sort_key, sort_names
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

LOCK_FILE = "migration_lock.toml"
SCRIPT = "migration.sql"


@dataclasses.dataclass(frozen=True)
class MigrationFile:
    """One first-level directory. ``sql`` is None when it holds no readable migration.sql."""

    name: str
    sql: str | None

    @property
    def checksum(self) -> str | None:
        """SHA-256 of the text as Prisma records it, 64 hex digits."""
        return None if self.sql is None else digest(self.sql)

    def matches(self, recorded: str) -> bool:
        """Whether a recorded checksum is of this text; line endings do not count.

        Early versions of Prisma wrote each byte without its leading zero, which made
        the recorded text shorter than 64 digits.
        """
        if self.sql is None:
            return False
        unix = self.sql.replace("\r\n", "\n")
        for text in (self.sql, unix, unix.replace("\n", "\r\n")):
            raw = hashlib.sha256(_encode(text))
            if recorded == raw.hexdigest() or (len(recorded) != 64 and recorded == "".join("%x" % byte for byte in raw.digest())):
                return True
        return False


@dataclasses.dataclass(frozen=True)
class Folder:
    """A migrations folder: its migrations in the order of application, and its lock file.

    ``lock`` is the text of migration_lock.toml, None when there is none.
    """

    path: str
    migrations: tuple[MigrationFile, ...] = ()
    lock: str | None = None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(migration.name for migration in self.migrations)

    @property
    def set_digest(self) -> str:
        """SHA-256 over names and texts (line endings made equal): what a review approves."""
        whole = hashlib.sha256()
        for migration in self.migrations:
            text = None if migration.sql is None else migration.sql.replace("\r\n", "\n")
            whole.update(_encode("%s\0%s\n" % (migration.name, "-" if text is None else digest(text))))
        return whole.hexdigest()

    def by_name(self) -> t.Mapping[str, MigrationFile]:
        return self._by_name

    @functools.cached_property
    def _by_name(self) -> dict[str, MigrationFile]:
        return {migration.name: migration for migration in self.migrations}


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def digest(text: str) -> str:
    """SHA-256 of a text in UTF-8, 64 hex digits."""
    return hashlib.sha256(_encode(text)).hexdigest()


def read_text(path: str) -> str:
    """A file as Node reads it: UTF-8, bytes that are none become U+FFFD, a BOM stays.

    :raises MigrationError: ``PROJECT_MISSING``.
    """
    try:
        return _read(path)
    except OSError as error:
        raise MigrationError("cannot read %s (%s)" % (path, error.strerror or error), code="PROJECT_MISSING") from None


def _read(path: str) -> str:
    with open(path, "rb") as handle:
        return handle.read().decode("utf-8", "replace")


def read_folder(path: str) -> Folder:
    """Read a migrations folder. Only real directories count, as for the CLI: no symbolic links.

    :raises MigrationError: ``MIGRATIONS_DIR_MISSING``, ``NOT_A_MIGRATIONS_DIR``, ``PROJECT_MISSING``.
    """
    try:
        with os.scandir(path) as entries:
            names = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        what = "does not exist" if error.errno == errno.ENOENT else "cannot be read (%s)" % os.strerror(error.errno or 0)
        raise MigrationError("the migrations folder %s %s" % (path, what), code="MIGRATIONS_DIR_MISSING", migrations_dir=path) from None
    migrations = tuple(MigrationFile(name, _script(os.path.join(path, name, SCRIPT))) for name in sort_names(names))
    if not any(migration.sql is not None for migration in migrations):
        raise MigrationError(
            "%s holds no folder with a %s; prisma migrate deploy would say 'No pending migrations' and exit 0" % (path, SCRIPT),
            code="NOT_A_MIGRATIONS_DIR",
            migrations_dir=path,
        )
    lock_path = os.path.join(path, LOCK_FILE)
    return Folder(path, migrations, read_text(lock_path) if os.path.isfile(lock_path) else None)


def _script(path: str) -> str | None:
    try:
        return _read(path)
    except OSError:
        # The CLI treats an unreadable file as a missing one (P3015), and so do the verdicts.
        return None


def order_warnings(names: t.Sequence[str]) -> list[str]:
    """What is doubtful about the order of these names, as sentences."""
    warnings = []
    by_bytes = sorted(names, key=_encode)
    by_locale = sorted(names, key=sort_key)
    if by_bytes != by_locale:
        first = next(i for i, name in enumerate(by_bytes) if name != by_locale[i])
        warnings.append(
            "the order of the migrations depends on the Prisma version: by localeCompare %s comes first, by bytes %s" % (by_locale[first], by_bytes[first])
        )
    inexact = [name for name in names if not exact(name)]
    if inexact:
        warnings.append("the order of names beyond ASCII follows the locale of Node.js: %s" % ", ".join(inexact))
    return warnings


__all__ = ("LOCK_FILE", "SCRIPT", "Folder", "MigrationFile", "digest", "order_warnings", "read_folder", "read_text")
