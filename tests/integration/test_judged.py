# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What stands in the way of a restore is said before anything is made, and what a killed run left is dropped by the next."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint, _recreate
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import SCRATCH, STAGING, drop_left
from support.restorepoints import databases, execute, filled, fingerprint, go_back, refused, take_backup
from support.swaps import stopped

SHORT, LONG = "%s__restore_20261123t010137z_b1421a", "%s__scratch_20261123t010137z_b1421a"


def quoted(name: str) -> str:
    return '"%s"' % name.replace('"', '""')


def run(conn: t.Any, *statements: str) -> None:
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


def beside(conn: t.Any, target: t.Any) -> list[str]:
    return sorted(name for name in databases(conn) if name.startswith(target.dbname + "_"))


# --- a database that is gone ------------------------------------------------------------


def gone(target: t.Any, conn: t.Any) -> None:
    run(conn, "DROP DATABASE %s WITH (FORCE)" % quoted(target.dbname))


def test_a_setting_that_the_role_may_not_carry_over_is_found_before_the_restore(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn, target = admin(), filled(database())
    run(conn, "ALTER DATABASE %s SET log_min_messages = 'error'" % target.dbname)
    point = take_backup(target, scratch, cluster.bin_dir)
    gone(target, conn)
    filling: list[str] = []
    monkeypatch.setattr(_recreate, "fill", lambda *args, **more: filling.append("pg_restore"))
    with refused("RESTORE_PREREQUISITE") as caught:
        go_back(target, point, cluster.bin_dir)
    assert "log_min_messages" in caught[0].msg and "GRANT SET ON PARAMETER" in str(caught[0].next_step)
    assert filling == [] and beside(conn, target) == [] and target.dbname not in databases(conn)


def test_rights_whose_grantor_could_not_be_kept_are_said(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    conn, target = admin(), filled(database())
    before, lead = fingerprint(target), "lead_of_%s" % target.user
    try:
        run(
            conn, "CREATE ROLE %s" % lead, "GRANT CONNECT ON DATABASE %s TO %s WITH GRANT OPTION" % (target.dbname, lead), "SET ROLE %s" % lead,
            "GRANT CONNECT ON DATABASE %s TO pg_monitor" % target.dbname, "RESET ROLE",
        )  # fmt: skip
        point = take_backup(target, scratch, cluster.bin_dir)
        gone(target, conn)
        result = go_back(target, point, cluster.bin_dir)
        assert fingerprint(target) == before
        assert [text for text in result["warnings"] if "CONNECT to pg_monitor (granted by %s) is now granted by the owner" % lead in text]
    finally:
        if target.dbname in databases(conn):
            gone(target, conn)
        run(conn, "DROP ROLE %s" % lead)


def test_a_superuser_that_brings_it_back_leaves_nothing_when_it_fails(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: t.Any, **more: t.Any) -> None:
        raise RuntimeError("no disk")

    conn, target = admin(), filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    gone(target, conn)
    monkeypatch.setattr(_recreate, "fill", fails)
    with pytest.raises(RuntimeError):
        go_back(cluster.superuser_target(target.dbname), point, cluster.bin_dir)
    assert beside(conn, target) == [], "the owner of the database that is gone owned it"


# --- killed before it could be marked -----------------------------------------------------


@pytest.mark.parametrize("is_gone", [False, True])
def test_killed_before_it_is_marked_the_next_run_drops_it(
    is_gone: bool, cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    conn, target = admin(), filled(database())
    point, before = take_backup(target, scratch, cluster.bin_dir), fingerprint(target)
    if is_gone:
        gone(target, conn)
    options = {"restore_point": point["path"], "confirm": point["confirmation"], "pg_bin_dir": str(cluster.bin_dir), "force": True}
    monkeypatch.setenv(_failpoint.VARIABLE, "scratch:created")
    process = module.start("database_restore", target, **options)
    monkeypatch.delenv(_failpoint.VARIABLE)
    assert stopped(process), process.communicate()
    process.kill()
    process.communicate()
    (left,) = beside(conn, target)
    assert "__restore_" in left and databases(conn)[left][2] is False
    result = module("database_restore", target, **dict(options, lock_wait=10))
    assert result["changed"] is True and fingerprint(target) == before, result
    assert left not in databases(conn)


def test_only_a_closed_unmarked_one_of_this_target_and_kind_is_dropped(database: t.Any, admin: t.Any) -> None:
    conn, target, other = admin(), database(), database()
    mine, foreign = quoted(target.user), quoted(other.user)
    kept = ["%s__%s_20261123t010137z_b1421a" % (target.dbname, word) for word in ("kept", "snapshot", "drill", "restored")]
    kept += ["%s__restore_20261123t010137z_b1421" % target.dbname, "%s2__restore_20261123t010137z_b1421a" % target.dbname]
    for name in kept:
        run(conn, "CREATE DATABASE %s OWNER %s ALLOW_CONNECTIONS false" % (quoted(name), mine))
    ours = {STAGING: SHORT % target.dbname, SCRATCH: LONG % target.dbname}
    for kind, name in ours.items():
        for more in ("ALLOW_CONNECTIONS true", "OWNER %s ALLOW_CONNECTIONS false" % foreign):
            run(conn, "CREATE DATABASE %s %s" % (quoted(name), more if "OWNER" in more else "OWNER %s %s" % (mine, more)))
            assert drop_left(conn, target, kind) == [], more
            run(conn, "DROP DATABASE %s" % quoted(name))
        run(conn, "CREATE DATABASE %s OWNER %s ALLOW_CONNECTIONS false" % (quoted(name), mine), "COMMENT ON DATABASE %s IS 'precious'" % quoted(name))
        assert drop_left(conn, target, kind) == []
        run(conn, "COMMENT ON DATABASE %s IS NULL" % quoted(name))
    assert drop_left(conn, target, "snapshot") == drop_left(conn, target, "kept") == []
    for kind, name in ours.items():
        assert drop_left(conn, target, kind) == [name]
    assert set(kept) <= set(databases(conn))


def test_where_names_are_cut_and_two_databases_could_have_made_it_nothing_is_dropped(database: t.Any, admin: t.Any) -> None:
    conn = admin()
    target = database("a_name_that_is_longer_than_thirty_bytes_one")
    left = "a_name_that_is_longer_than_thi__restore_20261123t010137z_b1421a"
    database("a_name_that_is_longer_than_thirty_bytes_two")
    run(conn, "CREATE DATABASE %s OWNER %s ALLOW_CONNECTIONS false" % (left, quoted(target.user)))
    try:
        assert drop_left(conn, target, STAGING) == []
        run(conn, "DROP DATABASE a_name_that_is_longer_than_thirty_bytes_two")
        assert drop_left(conn, target, STAGING) == [left]
    finally:
        run(conn, "DROP DATABASE IF EXISTS %s" % left)


# --- what belongs to somebody else --------------------------------------------------------


MADE = [
    "CREATE PUBLICATION p FOR TABLE users",
    "CREATE PUBLICATION p FOR TABLES IN SCHEMA public",
    "CREATE PUBLICATION p FOR ALL TABLES",
    "CREATE STATISTICS st ON name, mood FROM users",
    'CREATE COLLATION cc FROM "C"',
    "CREATE TEXT SEARCH CONFIGURATION tc (COPY = simple)",
    "CREATE TEXT SEARCH DICTIONARY td (TEMPLATE = simple)",
    "CREATE OPERATOR ### (LEFTARG = int, RIGHTARG = int, FUNCTION = int4pl)",
    "CREATE OPERATOR FAMILY of USING btree",
    "CREATE CONVERSION cv FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8",
    "CREATE FOREIGN DATA WRAPPER fw",
    "CREATE TYPE addr AS (street text)",
    "SELECT lo_create(4711); GRANT SELECT ON LARGE OBJECT 4711 TO PUBLIC",
    "ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC",
    "CREATE FUNCTION noted() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END'",
]


@pytest.mark.parametrize("made", MADE)
def test_an_object_of_the_superuser_is_said_before_and_after_the_backup(
    made: str, cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any
) -> None:
    target = database()
    execute(target, "CREATE TYPE mood AS ENUM ('calm'); CREATE TABLE users (id serial PRIMARY KEY, name text, mood mood)")
    assert module("database_info", target)["rollback_obstacles"] == []
    first = take_backup(target, scratch, cluster.bin_dir)
    conn = admin(target.dbname)
    run(conn, made)
    conn.close()
    obstacles = module("database_info", target)["rollback_obstacles"]
    assert len(obstacles) == 1 and ("FOR ALL" in made or ("no member of" in obstacles[0] and cluster.superuser in obstacles[0])), obstacles
    point = take_backup(target, scratch, cluster.bin_dir)
    with refused("RESTORE_PREREQUISITE") as caught:
        go_back(target, point, cluster.bin_dir, force=True)
    assert "membership in the role %s, which owns objects" % cluster.superuser in caught[0].msg
    assert go_back(target, first, cluster.bin_dir, force=True)["changed"] is True, "the older one needs nobody"
