# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The numbers that sequences had reached before the migrations that are undone, by the newest restore point from then. Reads only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_sequences import Reached
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME, from_json
from ansible_collections.pgops.migrations.plugins.module_utils._points import list_points
from ansible_collections.pgops.migrations.plugins.module_utils._rollback_state import as_point
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def numbers_before(target: Target, backup_dir: str, undo: t.Collection[str], maintenance_db: str) -> dict[str, Reached]:
    """Sequence -> what it had given out; empty where no restore point tells."""
    if not backup_dir:
        return {}
    try:
        points = [as_point(entry) for entry in list_points(target, backup_dir, maintenance_db=maintenance_db)["restore_points"]]
        # The newest first.
        for point in points:
            if point and point.kind == "dump" and point.usable and point.applied and not set(point.applied) & set(undo):
                with open(os.path.join(point.place, FILE_NAME), "rb") as handle:
                    sequences = from_json(handle.read()).fingerprint.get("sequences") or {}
                return {name: Reached(int(each["last_value"]), bool(each["is_called"]), point.id) for name, each in sequences.items()}
    except (MigrationError, OSError):
        # A draft can do without.
        return {}
    return {}


__all__ = ("numbers_before",)
