# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A confirmation names a database and a run, so it must mean one snapshot."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect
from support.restorepoints import databases, execute


@pytest.mark.parametrize("check", [True, False])
def test_a_run_has_one_snapshot_of_a_database(database: t.Any, admin: t.Any, module: t.Any, check: bool) -> None:
    target, other = database(), database()
    first = module("database_copy", target, run_id="r1")
    execute(target, "CREATE TABLE later ()")
    before = databases(admin())
    second = module("database_copy", target, run_id="r1", check=check)
    assert second["code"] == "COPY_REFUSED" and first["snapshot"]["name"] in second["msg"] and "migration_run_id" in second["next_step"], second
    assert databases(admin()) == before
    made = [module("database_copy", target, run_id="r2")]
    execute(target, "CREATE TABLE last ()")
    made += [module("database_copy", target), module("database_copy", other, run_id="r1")]
    assert len({first["snapshot"]["confirmation"], *(each["snapshot"]["confirmation"] for each in made)}) == 4


def test_who_is_told_of_sessions_is_told_the_variable_too(database: t.Any, module: t.Any) -> None:
    target = database()
    conn = connect(target)
    answer = module("database_copy", target)
    conn.close()
    assert answer["code"] == "SESSIONS_REMAIN" and "-e backup_snapshot_sessions=end" in answer["next_step"], answer
