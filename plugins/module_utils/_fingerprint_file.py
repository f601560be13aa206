# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Fingerprints in files, and the SQL of the migrations that may explain a difference."""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import FORMAT, FORMATS, LEVELS

_FIELDS = frozenset(["format", "level", "database", "server_version_num", "schema", "tables", "sequences", "large_objects", "digest"])


def load(path: str) -> dict[str, t.Any]:
    """The fingerprint in a file: alone, or in the manifest of a restore point.

    :raises MigrationError: ``OPTION_INVALID`` when it cannot be read or is none.
    """
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no JSON"
        raise MigrationError("the fingerprint %s cannot be read: %s" % (path, reason), code="OPTION_INVALID") from None
    if isinstance(found, dict) and isinstance(found.get("manifest"), dict):
        found = found["manifest"].get("fingerprint")
    if not isinstance(found, dict) or not _FIELDS.issubset(found) or found["format"] not in FORMATS or found["level"] not in LEVELS:
        raise MigrationError("%s holds no fingerprint of format %d" % (path, FORMAT), code="OPTION_INVALID")
    return found


def save(path: str, fingerprint: t.Mapping[str, t.Any], dry_run: bool = False) -> bool:
    """Write a fingerprint whole or not at all, readable by its owner alone.

    :param dry_run: only say whether it would be written.
    :returns: false when the file has an equal fingerprint already; it is left as it is.
    :raises MigrationError: ``OPTION_INVALID`` when something else stands there,
        ``RECORD_UNWRITABLE``.
    """
    if os.path.lexists(path):
        old = load(path)
        if old["digest"] == fingerprint["digest"] and old["database"] == fingerprint["database"] and stat.S_IMODE(os.lstat(path).st_mode) == 0o600:
            return False
    if not dry_run:
        _write(path, json.dumps(fingerprint, indent=1, sort_keys=True, ensure_ascii=True) + "\n")
    return True


def _write(path: str, text: str) -> None:
    folder = os.path.dirname(os.path.abspath(path))
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=".%s." % os.path.basename(path)[:100], dir=folder)  # made with mode 0600
        with os.fdopen(handle, "w", encoding="ascii") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        raise MigrationError("the fingerprint %s cannot be written: %s" % (path, error.strerror), code="RECORD_UNWRITABLE") from None


def migration_texts(folder: str, names: t.Iterable[str]) -> dict[str, str]:
    """name -> SQL of migrations in a folder.

    :raises MigrationError: ``UNKNOWN_MIGRATION``, ``MIGRATION_FILE_MISSING``.
    """
    found = {}
    for name in names:
        if name in ("", ".", "..") or os.path.basename(name) != name or not os.path.isdir(os.path.join(folder, name)):
            raise MigrationError("there is no migration %s in %s" % (name, folder), code="UNKNOWN_MIGRATION")
        path = os.path.join(folder, name, "migration.sql")
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                found[name] = stream.read()
        except OSError as error:
            raise MigrationError("%s cannot be read: %s" % (path, error.strerror), code="MIGRATION_FILE_MISSING") from None
    return found


__all__ = ("load", "migration_texts", "save")
