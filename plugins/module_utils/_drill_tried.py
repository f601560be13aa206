# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Whether a drill that failed says something about the restore point, or only about what stood in its way."""

from __future__ import annotations

import contextlib
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

#: What is true of the restore point itself; with every other code it was not tried out.
TRIED = frozenset(["BACKUP_CORRUPT", "BACKUP_FORMAT", "FINGERPRINT_MISMATCH", "RESTORE_FAILED"])
#: pg_restore has one exit status for all; these are its words for a server that went away, or somebody who ended it.
_GONE = re.compile(r"server closed the connection|terminating connection|connection to server|connection not open|canceling statement|shutting down", re.I)


def was_tried(code: str) -> bool:
    """Whether a drill that failed with this code tried the restore point out."""
    return code in TRIED


def restated(error: MigrationError) -> MigrationError:
    """The error of a drill, with C(tried); a restore that was interrupted is none that failed."""
    if error.code == "RESTORE_FAILED" and _GONE.search(error.msg):
        error = MigrationError(error.msg, code="CONNECTION_LOST", **error.facts)
    error.facts["tried"] = was_tried(error.code)
    return error


@contextlib.contextmanager
def making_room() -> t.Iterator[None]:
    """Around what makes a scratch database: one that cannot be made says nothing about the restore point."""
    try:
        yield
    except MigrationError as error:
        if was_tried(error.code):
            raise MigrationError(error.msg, code="DRILL_IMPOSSIBLE", next_step="read the server's message, then run again", **error.facts) from None
        raise


@contextlib.contextmanager
def told_tried() -> t.Iterator[None]:
    """An error of the block that does not say so itself was met before a restore point was tried out."""
    try:
        yield
    except MigrationError as error:
        error.facts.setdefault("tried", False)
        raise


__all__ = ("TRIED", "making_room", "restated", "told_tried", "was_tried")
