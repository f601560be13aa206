# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What belongs to the database itself, its owner, rights and settings, is compared before and after, and is no part of a restore's proof."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _comparison, _explain, _fingerprint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute
from psycopg2 import sql

ROLE = "of_database_reader"


@pytest.fixture
def site(database: t.Any, admin: t.Any) -> t.Iterator[tuple[t.Any, str, t.Any]]:
    """A superuser's connection to a database, its quoted name, and its target."""
    target = database()
    conn = admin(target.dbname)
    execute(conn, sql.SQL("DROP ROLE IF EXISTS {0}; CREATE ROLE {0}").format(sql.Identifier(ROLE)))
    execute(
        conn,
        sql.SQL("ALTER DATABASE {} SET app.key = 'one'; CREATE TABLE t (a int); ALTER TABLE t OWNER TO {}").format(
            sql.Identifier(target.dbname), sql.Identifier(target.user)
        ),
    )
    yield conn, '"%s"' % target.dbname, target
    execute(conn, sql.SQL("DROP OWNED BY {0}; ALTER DATABASE {1} OWNER TO {2}; DROP ROLE {0}").format(
        sql.Identifier(ROLE), sql.Identifier(target.dbname), sql.Identifier(target.user)))  # fmt: skip


#: What happens, by {db}, and what is said of it.
CHANGES = {
    "nobody may connect any more": ("REVOKE CONNECT ON DATABASE {db} FROM PUBLIC", "The grants database {name} changed."),
    "somebody may create schemas": ("GRANT CREATE ON DATABASE {db} TO " + ROLE, "The grants database {name} changed."),
    "another setting": ("ALTER DATABASE {db} SET app.key = 'other'", 'The database setting {name}."app.key" changed.'),
    "a setting more": ("ALTER DATABASE {db} SET search_path = nowhere", "The database setting {name}.search_path is new."),
    "no setting": ("ALTER DATABASE {db} RESET ALL", 'The database setting {name}."app.key" is gone.'),
    "a setting of a role": (
        "ALTER ROLE " + ROLE + " IN DATABASE {db} SET app.key = 'x'", 'The database setting {name}."app.key" for ' + ROLE + " is new.",
    ),
    "another owner": ("ALTER DATABASE {db} OWNER TO " + ROLE, "The owner database {name} changed."),
    "few connections": ("ALTER DATABASE {db} CONNECTION LIMIT 3", "The database limit {name} changed."),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_a_change_is_found_and_a_migration_explains_it(site: tuple[t.Any, str, t.Any], name: str) -> None:
    conn, db, target = site
    statement, said = CHANGES[name][0].replace("{db}", db), CHANGES[name][1].replace("{name}", target.dbname)
    before = json.loads(json.dumps(_fingerprint.take(conn)))
    execute(conn, statement)
    after = _fingerprint.take(conn, columns_from=before)
    differences = _comparison.compare(before, after, of_database=True)
    unexplained = [each["text"] for each in _explain.findings(_explain.explain(differences, {"m": "ALTER TABLE t ADD COLUMN b int"}))]
    assert said in unexplained
    assert "other" not in json.dumps(differences), "a value may be a secret"
    assert _explain.findings(_explain.explain(differences, {"m": statement})) == []
    # A restore brings back what is in the database, and is compared by that alone.
    assert before["digest"] == after["digest"]
    assert _comparison.compare(before, after) == []


def test_another_right_on_the_database_explains_nothing(site: tuple[t.Any, str, t.Any]) -> None:
    conn, db, _target = site
    before = _fingerprint.take(conn)
    execute(conn, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC" % db)
    execute(conn, "GRANT CREATE ON DATABASE %s TO %s" % (db, ROLE))
    differences = _comparison.compare(before, _fingerprint.take(conn), of_database=True)
    assert len(_explain.findings(_explain.explain(differences, {"m": "GRANT CREATE ON DATABASE %s TO %s" % (db, ROLE)}))) == 1


def test_only_the_very_same_database_is_compared(site: tuple[t.Any, str, t.Any], database: t.Any) -> None:
    conn, _db, _target = site
    before = _fingerprint.take(conn)
    execute(conn, "DROP TABLE t")
    with connection(database()) as other:
        found = _comparison.compare(_fingerprint.take(conn), _fingerprint.take(other), of_database=True)
    assert found == []
    old = {name: value for name, value in before.items() if name != "of_database"}
    assert _comparison.compare(old, before, of_database=True) == _comparison.compare(before, old, of_database=True) == []


def test_the_module_tells_it(site: tuple[t.Any, str, t.Any], module: t.Any, tmp_path: pathlib.Path) -> None:
    conn, db, target = site
    path = tmp_path / "before.json"
    assert not module("database_fingerprint", target, dest=str(path)).get("failed")
    execute(conn, "REVOKE CONNECT ON DATABASE %s FROM PUBLIC" % db)
    found = module("database_fingerprint", target, compare_with=str(path))
    assert [each["text"] for each in found["findings"]] == ["The grants database %s changed." % target.dbname]
