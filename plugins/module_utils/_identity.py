# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which database on which cluster a connection has reached."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import row
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

_IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()), d.datname, d.oid::bigint,
       pg_get_userbyid(d.datdba), current_setting('server_version_num')::int, current_setting('server_version'),
       pg_is_in_recovery(), current_setting('default_transaction_read_only')::bool,
       pg_encoding_to_char(d.encoding), d.datcollate, d.datctype, pg_database_size(d.oid), current_user,
       (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       CASE WHEN pg_is_in_recovery() THEN NULL ELSE pg_current_wal_insert_lsn()::text END
  FROM pg_database d WHERE d.datname = current_database()
"""
_FIELDS = (
    "system_identifier", "database", "database_oid", "owner", "server_version_num", "server_version", "in_recovery",
    "read_only", "encoding", "collate", "ctype", "size_bytes", "current_user", "superuser", "lsn",
)  # fmt: skip


def identify(conn: t.Any) -> dict[str, t.Any]:
    """The identity of the connected database as plain values; see ``_FIELDS``."""
    found = row(conn, _IDENTITY)
    if found is None:
        raise MigrationError("the connected database is not in pg_database", code="INTERNAL")
    return dict(zip(_FIELDS, found))


def demand_writable(identity: t.Mapping[str, t.Any]) -> None:
    """:raises MigrationError: ``NOT_PRIMARY`` or ``SERVER_TOO_OLD``."""
    if identity["server_version_num"] < 140000:
        raise MigrationError("the server is PostgreSQL %s" % identity["server_version"], code="SERVER_TOO_OLD")
    if identity["in_recovery"]:
        raise MigrationError("the server of %s is a standby (pg_is_in_recovery)" % identity["database"], code="NOT_PRIMARY")
    if identity["read_only"]:
        raise MigrationError(
            "%s is read-only (default_transaction_read_only)" % identity["database"],
            code="NOT_PRIMARY",
            next_step="connect to the primary, or find who set default_transaction_read_only: \\drds",
        )


__all__ = ("demand_writable", "identify")
