# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a database has beside what is in it: owner, rights, settings, limit of connections.

A restore point of it may be restored under another name and for another owner, so this is no part of the digest, and is
compared where both fingerprints are of the very same database alone.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import row, rows

_IDENTITY = """
SELECT (SELECT system_identifier::text FROM pg_control_system()) || ' ' || d.oid, quote_ident(d.datname)
  FROM pg_database d WHERE d.datname = current_database()
"""
# A value may be a secret (a key that the application reads by current_setting), so it is hashed.
_OBJECTS = """
WITH own AS (SELECT * FROM pg_database WHERE datname = current_database())
SELECT 'owner database ' || quote_ident(datname), quote_ident(pg_get_userbyid(datdba)) FROM own
UNION ALL
SELECT 'database limit ' || quote_ident(datname), datconnlimit::text FROM own
UNION ALL
SELECT 'grants database ' || quote_ident(datname), COALESCE((
           SELECT string_agg(line, '; ' ORDER BY line COLLATE "C") FROM (
               SELECT CASE x.grantee WHEN 0 THEN 'public' ELSE quote_ident(pg_get_userbyid(x.grantee)) END || ': '
                      || string_agg(DISTINCT x.privilege_type || CASE WHEN x.is_grantable THEN ' (with grant option)' ELSE '' END, ', ') AS line
                 FROM aclexplode(COALESCE(datacl, acldefault('d', datdba))) x GROUP BY x.grantee) lines), 'none') FROM own
UNION ALL
SELECT 'database setting ' || quote_ident(own.datname) || '.' || quote_ident(split_part(item, '=', 1))
       || CASE s.setrole WHEN 0 THEN '' ELSE ' for ' || quote_ident(pg_get_userbyid(s.setrole)) END,
       'sha256:' || encode(sha256(convert_to(substr(item, strpos(item, '=') + 1), 'UTF8')), 'hex')
  FROM own JOIN pg_db_role_setting s ON s.setdatabase = own.oid CROSS JOIN LATERAL unnest(s.setconfig) item
"""


def of_database(conn: t.Any) -> dict[str, t.Any]:
    """C(identity), which no other database has, its quoted C(name), and C(objects): key -> definition."""
    identity, name = row(conn, _IDENTITY) or ("", "")
    return {"identity": identity, "name": name, "objects": dict(sorted(rows(conn, _OBJECTS)))}


__all__ = ("of_database",)
