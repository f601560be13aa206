# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What would stand in the way of a rollback, and what is half made in a database. Reads only."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._owners import ORDINARY_OWNERS_SQL
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import demand_swappable

_INVALID_INDEXES = """
SELECT i.indexrelid::regclass::text FROM pg_index i
 WHERE NOT i.indisvalid AND NOT EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = i.indexrelid)
 ORDER BY 1
"""
_ME = """
SELECT d.datname::text, d.oid::bigint, r.rolsuper FROM pg_database d, pg_roles r WHERE d.datname = current_database() AND r.rolname = current_user
"""
_OWNERS = "SELECT name FROM (%s) AS owners(name, role) WHERE NOT pg_has_role(role, 'MEMBER') ORDER BY 1" % ORDINARY_OWNERS_SQL
#: What only a superuser can restore, or end: a query for the names, and the sentence.
_NEEDS_MORE: tuple[tuple[str, str], ...] = (
    (_OWNERS, "objects or default privileges belong to roles that this role is no member of, so it cannot restore them: %s"),
    (
        "SELECT x.extname::text FROM pg_extension x JOIN pg_available_extension_versions v ON v.name = x.extname AND v.version = x.extversion"
        " WHERE v.superuser AND NOT v.trusted ORDER BY 1",
        "only a superuser can create the extension %s",
    ),
    ("SELECT evtname::text FROM pg_event_trigger ORDER BY 1", "only a superuser can create the event trigger %s"),
    ("SELECT pubname::text FROM pg_publication WHERE puballtables ORDER BY 1", "only a superuser can create the publication for all tables %s"),
    (
        "SELECT format('pid %s (user %s)', a.pid, a.usename) FROM pg_stat_activity a JOIN pg_roles r ON r.oid = a.usesysid"
        " WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND NOT pg_has_role(a.usesysid, 'MEMBER')"
        " AND (r.rolsuper OR NOT pg_has_role('pg_signal_backend', 'USAGE')) ORDER BY 1",
        "sessions that this role may not end: %s",
    ),
)
_UNVALIDATED = "SELECT format('%s on %s', conname, conrelid::regclass) FROM pg_constraint WHERE NOT convalidated ORDER BY 1"


def rollback_obstacles(conn: t.Any) -> list[str]:
    """Why the connected database could not be restored and swapped by this role now; sentences."""
    name, oid, superuser = row(conn, _ME) or ("", 0, False)
    found = []
    try:
        demand_swappable(conn, name, oid)
    except MigrationError as error:
        found.append(error.msg)
    if superuser:
        return found
    for statement, text in _NEEDS_MORE:
        names = [value for (value,) in rows(conn, statement)]
        if names:
            found.append(text % ", ".join(names[:10]))
    return found


def invalid_objects(conn: t.Any) -> dict[str, list[str]]:
    """Invalid indexes and unvalidated constraints by their qualified names."""
    return {
        "invalid_indexes": [name for (name,) in rows(conn, _INVALID_INDEXES)],
        "unvalidated_constraints": [name for (name,) in rows(conn, _UNVALIDATED)],
    }


__all__ = ("invalid_objects", "rollback_obstacles")
