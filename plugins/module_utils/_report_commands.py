# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a report tells to type. Pure: no I/O.

Without the confirmation: each command first shows what would be lost, and what to type then.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._typed import option

Record = t.Mapping[str, t.Any]
_ROLLBACK = "ansible-playbook pgops.migrations.rollback"


def rollback_command(record: Record) -> str:
    """How to go back to the restore point of this run; empty without one."""
    point = (record["backup"] or {}).get("restore_point") or {}
    if not point.get("id") or not point.get("path"):
        return ""
    return _typed(_ROLLBACK, migration_targets=record["target"], migration_restore_point=point["path"])


def swap_back_command(record: Record) -> str:
    """How to undo a way back that was asked for; empty where nothing was kept."""
    kept = (record["restore"] or {}).get("kept")
    if not kept or record["outcome"] != "restored":
        return ""
    return _typed(_ROLLBACK, migration_targets=record["target"], migration_from_database=kept)


def _typed(command: str, **values: t.Any) -> str:
    return "%s %s" % (command, " ".join(option(name, value) for name, value in values.items()))


__all__ = ("rollback_command", "swap_back_command")
