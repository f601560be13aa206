# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The database is gone from the server: dropped, or renamed away. rollback.yml brings it back, or says how."""

from __future__ import annotations

import os
import re
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url
from support.modules import ModuleRunner
from support.runbooks import Play, fingerprint, records

from tools.microcare import DATABASE, Staging


def execute(admin: t.Any, *statements: str) -> list[tuple[t.Any, ...]]:
    conn = admin("postgres")
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
        return t.cast("list[tuple[t.Any, ...]]", cursor.fetchall()) if cursor.description else []


def settings(admin: t.Any) -> list[tuple[t.Any, ...]]:
    return execute(
        admin,
        "SELECT pg_get_userbyid(datdba), (SELECT array_agg(a::text ORDER BY a::text) FROM unnest(datacl) a), datconnlimit, datallowconn, encoding, datcollate, shobj_description(oid, 'pg_database'),"
        " (SELECT array_agg(setconfig::text) FROM pg_db_role_setting WHERE setdatabase = d.oid) FROM pg_database d WHERE datname = '%s'" % DATABASE,
    )


def back(play: Play, staging: Staging, *arguments: str, **variables: t.Any) -> subprocess.CompletedProcess[str]:
    return play("rollback.yml", staging, *arguments, migration_targets="staging", migration_engine="direct", **variables)


def test_a_dropped_database_comes_back_with_its_rights_and_settings(staging: Staging, play: Play, module: ModuleRunner, admin: t.Any) -> None:
    execute(
        admin,
        "ALTER DATABASE %s SET statement_timeout = '77s'" % DATABASE,
        "ALTER DATABASE %s CONNECTION LIMIT 33" % DATABASE,
        "COMMENT ON DATABASE %s IS 'of the clinic'" % DATABASE,
        "REVOKE TEMP ON DATABASE %s FROM PUBLIC" % DATABASE,
    )
    assert play("backup.yml", staging).returncode == 0
    before, as_it_was = fingerprint(module, staging), settings(admin)
    execute(admin, "DROP DATABASE %s WITH (FORCE)" % DATABASE)

    check = back(play, staging, "--check")
    assert check.returncode == 0 and "is not on the server and would come back" in check.stdout, check.stdout
    asked = back(play, staging)
    assert asked.returncode == 2 and "CONFIRMATION_MISSING" in asked.stdout and settings(admin) == [], asked.stdout
    confirm = re.findall(r"-e migration_confirm=(\S+)", asked.stdout)[-1]
    assert back(play, staging, migration_confirm="%s:another" % DATABASE).returncode == 2 and settings(admin) == []
    done = back(play, staging, migration_confirm=confirm)
    assert done.returncode == 0 and "RESTORED" in records(staging)[-1]["sentence"], done.stdout
    assert (fingerprint(module, staging), settings(admin)) == (before, as_it_was)
    assert not execute(admin, "SELECT datname FROM pg_database WHERE datname LIKE '%s\\_\\_%%'" % DATABASE)
    again = back(play, staging, migration_confirm=confirm)
    assert again.returncode == 0 and "nothing to undo" in again.stdout, again.stdout


def test_a_renamed_or_kept_database_is_named_with_the_command_that_brings_it_back(
    staging: Staging, play: Play, module: ModuleRunner, admin: t.Any, cluster: t.Any
) -> None:
    assert play("backup.yml", staging).returncode == 0
    before = fingerprint(module, staging)
    execute(admin, "ALTER DATABASE %s RENAME TO was_live" % DATABASE)
    try:
        asked = back(play, staging)
        assert asked.returncode == 2 and "it was renamed to was_live" in records(staging)[-1]["error"]["next_step"], asked.stdout
        commands = re.findall(r"psql (?:(?!; or)[^\"\n])*?RENAME TO %s'" % DATABASE, records(staging)[-1]["error"]["next_step"])
        found = parse_url(staging.database_url)
        env = {**os.environ, "PGPASSWORD": str(found.password), "PATH": "%s:%s" % (staging.pg_bin_dir, os.environ["PATH"])}
        subprocess.run(["bash", "-c", commands[0]], env=env, check=True, capture_output=True, timeout=60)
    finally:
        execute(admin, "DROP DATABASE IF EXISTS was_live")
    assert fingerprint(module, staging) == before


@pytest.mark.parametrize("route", ["reverse", "auto"])
def test_without_a_dump_nothing_is_made(route: str, staging: Staging, play: Play, admin: t.Any) -> None:
    execute(admin, "DROP DATABASE %s WITH (FORCE)" % DATABASE)
    done = back(play, staging, migration_route=route)
    assert done.returncode == 2 and "DATABASE_MISSING" in records(staging)[-1]["sentence"], done.stdout
    assert settings(admin) == []
