# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Small files beside a restore point's manifest, which may change after it was taken.

``proof.json``: how far the restore point is proved. ``pinned.json``: that it must be kept.
``manifest.json.sig``: a detached signature. The manifest covers none of them.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME
from ansible_collections.pgops.migrations.plugins.module_utils._storage import fsync_dir, write_private

PROOF, PIN, SIGNATURE = "proof.json", "pinned.json", "manifest.json.sig"
SIDECARS = (PROOF, PIN, SIGNATURE)
#: Weakest first. ``read``: read back in full and hashed; ``drill``: restored and its fingerprint compared.
LEVELS = ("read", "drill")
#: How often a reader tries, 20 ms apart.
PATIENCE = 50


def read_proof(path: str) -> dict[str, t.Any] | None:
    """The proof: C(level), C(at), C(run_id), C(seconds), C(manifest) (digest of the manifest it is for); None without one."""
    found = _read(path, PROOF)
    return found if found and found.get("level") in LEVELS and isinstance(found.get("manifest"), str) else None


def write_proof(path: str, manifest_digest: str, level: str, run_id: str, at: str, seconds: t.Mapping[str, float]) -> None:
    """Write down that the restore point was proved, in place of what stood there."""
    _write(path, PROOF, {"level": level, "at": at, "run_id": run_id, "seconds": dict(seconds), "manifest": manifest_digest})


def read_pin(path: str) -> dict[str, t.Any] | None:
    """Why the restore point must be kept: C(reason), C(at); None when it need not."""
    return _read(path, PIN)


def write_pin(path: str, reason: str, at: str) -> None:
    """Have the restore point kept until the pin is removed."""
    _write(path, PIN, {"reason": reason, "at": at})


def remove_pin(path: str) -> None:
    """Take the pin away; no error where there is none."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(path, PIN))
        fsync_dir(path)


@contextlib.contextmanager
def in_use(path: str) -> t.Iterator[None]:
    """Nothing removes the restore point in this block; the lock dies with its process."""
    with _locked(path, fcntl.LOCK_SH):
        yield


@contextlib.contextmanager
def demand_unused(path: str) -> t.Iterator[None]:
    """:raises MigrationError: ``BACKUP_IN_USE`` when another process reads or restores it."""
    with _locked(path, fcntl.LOCK_EX):
        yield


@contextlib.contextmanager
def _locked(path: str, kind: int) -> t.Iterator[None]:
    try:
        handle = os.open(os.path.join(path, FILE_NAME), os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise MigrationError("%s has no readable %s: %s" % (path, FILE_NAME, error.strerror), code="BACKUP_FORMAT") from None
    try:
        # Who lists the restore points holds the lock for a moment, to see whether it is free; a reader can wait for that.
        for left in reversed(range(PATIENCE if kind == fcntl.LOCK_SH else 1)):
            try:
                fcntl.flock(handle, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if not left:
                    raise MigrationError("another process uses the restore point %s" % path, code="BACKUP_IN_USE") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(handle)


def _read(path: str, name: str) -> dict[str, t.Any] | None:
    try:
        with open(os.open(os.path.join(path, name), os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
            found = json.loads(handle.read().decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError):
        # What cannot be read proves nothing; for a pin, it is the cautious reading.
        return {}
    return found if isinstance(found, dict) else {}


def _write(path: str, name: str, content: dict[str, t.Any]) -> None:
    new = os.path.join(path, "." + name + ".new")
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(new)
        write_private(new, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode("ascii"))
        os.rename(new, os.path.join(path, name))
        fsync_dir(path)
    except OSError as error:
        code = "DISK_FULL" if error.errno in (28, 122) else "BACKUP_FAILED"
        raise MigrationError("cannot write %s in %s: %s" % (name, path, error.strerror or error), code=code) from None


__all__ = ("LEVELS", "SIDECARS", "demand_unused", "in_use", "read_pin", "read_proof", "remove_pin", "write_pin", "write_proof")
