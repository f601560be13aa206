# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The rights on a database, with who granted them.

The owner grants most of them. Who was given a right WITH GRANT OPTION may have granted it on; PostgreSQL writes that
role down as the grantor, and takes the right away again when the grantor loses it. Only the grantor can grant so, by
SET ROLE, and a role that is not a member of the grantor cannot become it. Then the owner grants the right, so nobody
loses it, and that is said.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, row, rows, sql

#: [grantor, grantee or None for PUBLIC, privilege, grantable]
Grant = t.List[t.Any]
#: Every role that a grant names is still there; an entry of one that is gone is of no use to anybody.
_GRANTS = """
SELECT g.rolname, r.rolname, a.privilege_type, a.is_grantable
  FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
  JOIN pg_roles g ON g.oid = a.grantor LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE d.oid = %s AND (a.grantee = 0 OR r.rolname IS NOT NULL)
 ORDER BY 1, 2 NULLS FIRST, 3, 4
"""
# What the server asks for SET ROLE; it looks at the role that has logged in. A superuser's grants are the owner's.
_MAY_BECOME = """
SELECT NOT r.rolsuper AND pg_has_role(session_user, r.oid, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
  FROM pg_roles r WHERE r.rolname = %s
"""


def read_grants(conn: t.Any, oid: int) -> list[Grant]:
    """The effective rights on the database with this OID: [grantor, grantee or None for PUBLIC, privilege, grantable]."""
    return [list(found) for found in rows(conn, _GRANTS, (oid,))]


def in_order(grants: t.Iterable[Grant], owner: str) -> tuple[list[Grant], list[Grant]]:
    """The grants so that whoever grants has the grant option by then, and those whose grantor never has it."""
    left = sorted(grants, key=lambda grant: (grant[0] != owner, grant[0], grant[1] or "", grant[2]))
    found: list[Grant] = []
    while left:
        able = {(owner, grant[2]) for grant in left} | {(grant[1], grant[2]) for grant in found if grant[3]}
        ready = [grant for grant in left if (grant[0], grant[2]) in able]
        if not ready:
            break
        found += ready
        left = [grant for grant in left if grant not in ready]
    return found, left


def apply_grants(conn: t.Any, name: str, oid: int, owner: str, wanted: t.Sequence[Grant]) -> list[str]:
    """Give the database ``name`` (with this OID and owner) these rights and no others; texts of those that now have another grantor.

    :param conn: in a transaction, and with the rights of the owner.
    """
    database = sql.Identifier(name)
    now = read_grants(conn, oid)
    if any(grant not in wanted for grant in now):
        # All rights come from the owner, so with CASCADE nothing is left of what others granted on.
        for grantee in sorted({grant[1] for grant in now if grant[0] == owner}, key=str):
            execute(conn, sql.SQL("REVOKE ALL ON DATABASE {} FROM {} CASCADE").format(database, _role(grantee)))
        now = read_grants(conn, oid)
    ordered, stuck = in_order(wanted, owner)
    inexact = []
    for grant in [*ordered, *stuck]:
        if grant not in now and not _grant(conn, database, owner, grant, grant in stuck):
            inexact.append(grant_text(grant))
    return inexact


def _grant(conn: t.Any, database: t.Any, owner: str, grant: Grant, stuck: bool) -> bool:
    """Grant, as the grantor where this role may become it, else as the owner; whether the grantor is the one that is wanted."""
    grantor, grantee, privilege, grantable = grant
    option = sql.SQL(" WITH GRANT OPTION" if grantable else "")
    statement = sql.SQL("GRANT {} ON DATABASE {} TO {}{}").format(sql.SQL(privilege), database, _role(grantee), option)
    if grantor == owner or stuck or not (row(conn, _MAY_BECOME, (grantor,)) or (False,))[0]:
        execute(conn, statement)
        return bool(grantor == owner)
    (before,) = row(conn, "SELECT pg_catalog.current_setting('role')") or ("none",)
    for role, then in ((grantor, statement), (before, None)):
        row(conn, "SELECT pg_catalog.set_config('role', %s, true)", (role,))
        if then is not None:
            execute(conn, then)
    return True


def close_to_public(conn: t.Any, name: str, oid: int, owner: str) -> None:
    """Take the right to connect from everybody who has it as PUBLIC, whoever granted that.

    :param conn: as of :func:`apply_grants`.
    """
    database = sql.Identifier(name)
    execute(conn, sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
    now = read_grants(conn, oid)
    if any(grant[1] is None and grant[2] == "CONNECT" for grant in now):
        # Only who granted it may take it away, and all of them have the grant option from the owner, some by way of others.
        for grantee in sorted({grant[1] for grant in now if grant[0] == owner and grant[1] and grant[2] == "CONNECT" and grant[3] and grant[1] != owner}):
            execute(conn, sql.SQL("REVOKE GRANT OPTION FOR CONNECT ON DATABASE {} FROM {} CASCADE").format(database, _role(grantee)))


def other_grantor(name: str, grant: str) -> str:
    """What is said of a right in the database ``name`` whose grantor is another one now.

    :param grant: see :func:`grant_text`.
    """
    return "%s: the right %s is now granted by the owner, as this role may not become the role that granted it" % (name, grant)


def _role(name: str | None) -> t.Any:
    return sql.SQL("PUBLIC") if name is None else sql.Identifier(name)


def grant_text(grant: Grant) -> str:
    """``CONNECT to reader (granted by team_lead)``."""
    return "%s to %s%s (granted by %s)" % (grant[2], grant[1] or "PUBLIC", " with grant option" if grant[3] else "", grant[0])


__all__ = ("Grant", "apply_grants", "close_to_public", "grant_text", "in_order", "other_grantor", "read_grants")
