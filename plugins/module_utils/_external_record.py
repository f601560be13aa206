# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Files about restore points that an external tool keeps: C(external/<id>.json) below the database's folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import ID_PATTERN
from ansible_collections.pgops.migrations.plugins.module_utils._storage import fsync_dir, write_private

FORMAT = 1
EXTERNAL_DIR = "external"
Record = t.Dict[str, t.Any]
#: Fields without which a record is of no use.
_NEEDED = {"id": str, "tool": str, "label": str, "sequence": int, "target": dict, "finished_at": str, "restore_hint": str}
#: What may change after it was written, and is not covered by the digest.
_LATER = ("pinned", "gone")


def read_records(folder: str) -> list[Record]:
    """The records in this folder with their C(path); one that cannot be used says why in C(wrong), and C(damaged) whether it is rubbish."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return []
    return [_read(os.path.join(folder, name)) for name in names if name.endswith(".json") and ID_PATTERN.match(name[:-5])]


def record_sequences(folder: str) -> list[int]:
    """The numbers that records in this folder (of a database's restore points) have taken."""
    found = [record.get("sequence") for record in read_records(os.path.join(folder, EXTERNAL_DIR))]
    return [number for number in found if isinstance(number, int)]


def write_record(path: str, record: t.Mapping[str, t.Any]) -> None:
    """Write a record in place of what stood there; mode 0600, on the disk.

    :raises MigrationError: ``DISK_FULL``, ``BACKUP_FAILED``.
    """
    content = {name: value for name, value in record.items() if name not in ("path", "format", "digest")}
    new = path + ".new"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        text = json.dumps(dict(content, format=FORMAT, digest=_digest(content)), indent=1, sort_keys=True) + "\n"
        write_private(new, text.encode("ascii"))
        os.rename(new, path)
        fsync_dir(os.path.dirname(path))
    except OSError as error:
        code = "DISK_FULL" if error.errno in (28, 122) else "BACKUP_FAILED"
        raise MigrationError("cannot write %s: %s" % (path, error.strerror or error), code=code) from None


def _read(path: str) -> Record:
    name = os.path.basename(path)[:-5]
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
            found = json.loads(handle.read().decode("utf-8"))
    except OSError as error:
        return {"id": name, "path": path, "wrong": "its record cannot be read: %s" % error.strerror, "damaged": False}
    except (ValueError, RecursionError):
        return {"id": name, "path": path, "wrong": "its record is not JSON", "damaged": True}
    if not isinstance(found, dict) or found.get("format") != FORMAT:
        return {"id": name, "path": path, "wrong": "its record has another format", "damaged": False}
    digest = found.pop("digest", "")
    del found["format"]
    good = all(isinstance(found.get(field), kind) for field, kind in _NEEDED.items()) and {"system_identifier", "database"} <= set(found["target"])
    if not good or found["id"] != name or digest != _digest(found):
        return {"id": name, "path": path, "wrong": "its record was changed after it was written", "damaged": True}
    return dict(found, path=path)


def _digest(content: t.Mapping[str, t.Any]) -> str:
    covered = {name: value for name, value in content.items() if name not in _LATER}
    return hashlib.sha256(json.dumps(covered, sort_keys=True, separators=(",", ":")).encode("ascii")).hexdigest()


__all__ = ("EXTERNAL_DIR", "read_records", "record_sequences", "write_record")
