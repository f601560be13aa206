# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A better next step than the one of an error, from what the other phases know. Pure: no I/O."""

from __future__ import annotations

import os
import shlex

from ansible_collections.pgops.migrations.plugins.module_utils._outcome import View
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_back import recover_step
from ansible_collections.pgops.migrations.plugins.module_utils._typed import option

#: The restore point itself is the obstacle: another one may do.
_OF_THE_POINT = frozenset([
    "BACKUP_CORRUPT", "BACKUP_FOREIGN", "BACKUP_FORMAT", "BACKUP_NOT_FOUND", "DECRYPTION_FAILED", "FINGERPRINT_MISMATCH", "SIGNATURE_INVALID",
    "SIGNATURE_MISSING", "VERSION_MISMATCH",
])  # fmt: skip


def next_step(view: View) -> str:
    """What to type next; empty where the error's own advice is the best."""
    cause = view.cause()
    if cause is None:
        return ""
    if cause["phase"] == "restore" and cause["code"] in _OF_THE_POINT and view.result("choice").get("route") in ("restore_point", "snapshot"):
        return _other_point(view, str(cause["next_step"]))
    if cause["code"] == "RECOVERY_UNPROVED" and recover_step(view):
        return "go back to a restore point (-e migration_route=restore_point), or run a proved script: %s" % recover_step(view)
    return ""


def _other_point(view: View, own: str) -> str:
    choice = view.result("choice")
    older = choice.get("next_older") or {}
    step = "%s; " % own.rstrip(".")
    if older.get("place"):
        name = "migration_restore_point" if older.get("kind") == "dump" else "migration_from_database"
        step += "the next older one is %s: run the same again with %s to see what that loses" % (older.get("id"), option(name, older["place"]))
    else:
        step += "there is no older one that would do; by a reverse migration: -e migration_route=reverse"
    path = str(choice.get("restore_point_path") or "")
    if not path:
        return step
    return step + ". All of them: %s (lists them)" % list_command(view.target, os.path.dirname(os.path.dirname(path)))


def list_command(target: str, backup_dir: str) -> str:
    """The command that lists the restore points of a target."""
    arguments = "backup_dir=%s database_url={{migration_database_url}}" % backup_dir
    return "ansible %s -m pgops.migrations.database_backup_info -a %s" % (shlex.quote(target), shlex.quote(arguments))


__all__ = ("list_command", "next_step")
