# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A swap carries the rights on the database over as they are, with the roles that granted them."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._dbgrants import in_order
from ansible_collections.pgops.migrations.plugins.module_utils._swap import swap
from integration.test_swap import live, quoted, stage
from support.restorepoints import databases

OWNER = "boss"


def acl(conn: t.Any, dbname: str) -> set[str]:
    with conn.cursor() as cursor:
        cursor.execute("SELECT unnest(coalesce(datacl, acldefault('d', datdba)))::text FROM pg_database WHERE datname = %s", (dbname,))
        return {str(found) for (found,) in cursor.fetchall()}


def public_connects(conn: t.Any, dbname: str) -> bool:
    with conn.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_database, aclexplode(datacl) WHERE datname = %s AND grantee = 0 AND privilege_type = 'CONNECT'", (dbname,))
        return bool(cursor.fetchone()[0])


class Roles:
    """Roles beside the owner that grant rights on; gone at the end, with their rights."""

    def __init__(self, conn: t.Any, target: t.Any) -> None:
        self.conn, self.target = conn, target
        self.names = {word: 'we"ird %s %s' % (word, target.user) for word in ("lead", "deputy", "reader")}

    def run(self, *statements: str) -> None:
        words = {word: quoted(name) for word, name in self.names.items()}
        for statement in statements:
            with self.conn.cursor() as cursor:
                cursor.execute(statement.format(db=quoted(self.target.dbname), owner=quoted(self.target.user), **words))

    def chain(self) -> set[str]:
        """The owner grants to the lead, the lead to the deputy, the deputy to the reader and to everybody."""
        self.run(
            "GRANT CONNECT, TEMPORARY ON DATABASE {db} TO {lead} WITH GRANT OPTION", "SET ROLE {lead}",
            "GRANT CONNECT ON DATABASE {db} TO {deputy} WITH GRANT OPTION", "GRANT TEMPORARY ON DATABASE {db} TO {reader}", "SET ROLE {deputy}",
            "GRANT CONNECT ON DATABASE {db} TO {reader}", "GRANT CONNECT ON DATABASE {db} TO PUBLIC", "RESET ROLE",
            "GRANT CREATE, CONNECT ON DATABASE {db} TO {reader}",
        )  # fmt: skip
        return acl(self.conn, self.target.dbname)


@pytest.fixture
def roles(database: t.Any, admin: t.Any) -> t.Iterator[Roles]:
    made = Roles(admin(), live(database()))
    made.run(*("CREATE ROLE {%s}" % word for word in made.names))
    yield made
    for name in databases(made.conn):
        if name.startswith(made.target.dbname):
            made.run(*("REVOKE ALL ON DATABASE %s FROM {%s} CASCADE" % (quoted(name), word) for word in made.names))
    made.run(*("DROP ROLE {%s}" % word for word in made.names))


@pytest.mark.parametrize("runner", ["superuser", "member"])
def test_rights_keep_their_grantors(cluster: t.Any, roles: Roles, runner: str) -> None:
    target = roles.target
    before = roles.chain()
    assert len({entry.rpartition("/")[2] for entry in before}) == 3, before
    if runner == "member":
        roles.run("GRANT {lead}, {deputy} TO {owner}")
    by = target if runner == "member" else cluster.superuser_target(target.dbname)
    done = swap(by, stage(target, target.dbname + "_s"), target.dbname + "_k")
    assert acl(roles.conn, target.dbname) == before and done.warnings == ()
    assert not public_connects(roles.conn, target.dbname + "_k"), "whoever opens it lets everybody in"
    # Swapped back, after one of them was taken away: that is taken over, too.
    roles.run("SET ROLE {deputy}", "REVOKE CONNECT ON DATABASE {db} FROM {reader}", "RESET ROLE")
    now = acl(roles.conn, target.dbname)
    assert now != before
    assert swap(by, target.dbname + "_k", target.dbname + "_k2").warnings == ()
    assert acl(roles.conn, target.dbname) == now


def test_what_the_role_may_not_grant_so_is_kept_and_said(roles: Roles) -> None:
    target = roles.target
    before = roles.chain()
    roles.run("GRANT {lead} TO {owner}")
    done = swap(target, stage(target, target.dbname + "_s"), target.dbname + "_k")
    deputy, reader = roles.names["deputy"], roles.names["reader"]
    assert len(done.warnings) == 2 and all("(granted by %s)" % deputy in text for text in done.warnings), done.warnings
    assert any("CONNECT to PUBLIC" in text for text in done.warnings) and any("CONNECT to %s" % reader in text for text in done.warnings)
    with roles.conn.cursor() as cursor:
        # Nobody has a right more or less than before.
        query = "SELECT DISTINCT grantee, privilege_type FROM pg_database, aclexplode(datacl) WHERE datname = %s ORDER BY 1, 2"
        cursor.execute(query, (target.dbname,))
        after = cursor.fetchall()
        cursor.execute(query, (target.dbname + "_k",))
        kept = cursor.fetchall()
    assert set(kept) <= set(after) and not public_connects(roles.conn, target.dbname + "_k")
    changed = acl(roles.conn, target.dbname) ^ before
    assert changed and all(deputy.replace('"', '""') in entry or target.user in entry for entry in changed), changed


@pytest.mark.parametrize(
    ("grants", "order", "stuck"),
    [
        ([], [], []),
        ([["b", "c", "CONNECT", False], ["a", "b", "CONNECT", True], [OWNER, "a", "CONNECT", True]], [2, 1, 0], []),
        ([["a", "b", "CONNECT", False], [OWNER, "a", "CONNECT", False]], [1], [0]),
        ([["a", "b", "CONNECT", False], [OWNER, "a", "CREATE", True]], [1], [0]),
        ([[OWNER, None, "CONNECT", False], [OWNER, OWNER, "CREATE", False]], [0, 1], []),
    ],
)  # fmt: skip
def test_who_grants_on_was_granted_before(grants: list[list[t.Any]], order: list[int], stuck: list[int]) -> None:
    assert in_order(grants, OWNER) == ([grants[number] for number in order], [grants[number] for number in stuck])
