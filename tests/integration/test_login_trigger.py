# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A trigger on login, which writes whenever somebody connects, holds up neither a backup nor the way back."""

from __future__ import annotations

import pathlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._drill import DrillOptions, drill
from support.restorepoints import execute, filled, go_back, take_backup
from test_other_postgres import cluster  # noqa: F401 - PostgreSQL 17, which has such triggers

SCHEMA = (
    "CREATE TABLE logins (at timestamptz DEFAULT clock_timestamp())",
    "CREATE FUNCTION note_login() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.logins DEFAULT VALUES; END $$",
    "CREATE EVENT TRIGGER note_login ON login EXECUTE FUNCTION note_login()",
    "ALTER EVENT TRIGGER note_login ENABLE ALWAYS",
)


def test_backup_drill_and_restore(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:  # noqa: F811
    target = cluster.superuser_target(filled(database()).dbname)
    execute(target, *SCHEMA)
    point = take_backup(target, scratch, cluster.bin_dir)
    proved = drill(target, point["path"], DrillOptions(pg_bin_dir=str(cluster.bin_dir)))
    assert proved["changed"] is True
    execute(target, "DELETE FROM notes WHERE id > 1000")
    assert execute(target, "SELECT count(*) > 1 FROM logins") == [(True,)], "it does write"
    result = go_back(target, point, cluster.bin_dir)
    assert result["changed"] is True and result["comparison"] == "equal"
    assert execute(target, "SELECT count(*) FROM notes") == [(2000,)]
    setting = "SELECT setconfig FROM pg_db_role_setting WHERE setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
    assert execute(target, setting) == [], "and the trigger fires again"
