# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What would stand in the way of a rollback, and what is half made in a database. Reads only."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import demand_swappable

_INVALID_INDEXES = """
SELECT i.indexrelid::regclass::text FROM pg_index i
 WHERE NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
 ORDER BY 1
"""
_UNVALIDATED = "SELECT format('%s on %s', conname, conrelid::regclass) FROM pg_constraint WHERE NOT convalidated ORDER BY 1"


def rollback_obstacles(conn: t.Any) -> list[str]:
    """Why the connected database could not be swapped now; the same question that a restore asks."""
    name, oid = row(conn, "SELECT datname::text, oid::bigint FROM pg_database WHERE datname = current_database()") or ("", 0)
    try:
        demand_swappable(conn, name, oid)
    except MigrationError as error:
        return [error.msg]
    return []


def invalid_objects(conn: t.Any) -> dict[str, list[str]]:
    """Invalid indexes and unvalidated constraints by their qualified names."""
    return {
        "invalid_indexes": [name for (name,) in rows(conn, _INVALID_INDEXES)],
        "unvalidated_constraints": [name for (name,) in rows(conn, _UNVALIDATED)],
    }


__all__ = ("invalid_objects", "rollback_obstacles")
