# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a rehearsal that was killed left: the next one drops all of it, and nothing of anybody else; and a way back that does not lead back fails."""

from __future__ import annotations

import json
import pathlib
import signal
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_left import clear
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import DRILL, make
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from psycopg2 import sql
from support.restorepoints import databases, execute, fingerprint
from support.swaps import stopped

STAMPS = ("20261122t163000z_ab12cd", "20261122t163001z_ab12ce")


@pytest.fixture
def prepared(database: t.Any, module: t.Any, scratch: pathlib.Path, cluster: t.Any) -> tuple[Target, dict[str, t.Any]]:
    """A database with a restore point and something pending; its target, and the options of a rehearsal."""
    target = database('we"ird-left; drop')
    folder = scratch / "migrations"
    for name, script in (("1_init", "CREATE TABLE visits (id serial PRIMARY KEY, note text);"), ("2_more", "ALTER TABLE visits ADD COLUMN more int;")):
        (folder / name).mkdir(parents=True)
        (folder / name / "migration.sql").write_text(script, encoding="utf-8")
    module("migration_deploy", target, migrations_dir=str(folder), engine="direct", up_to="1_init")
    execute(target, "INSERT INTO visits (note) SELECT 'v' || n FROM generate_series(1, 100) n")
    where = {"backup_dir": str(scratch / "points"), "pg_bin_dir": str(cluster.bin_dir)}
    assert module("database_backup", target, **where)["changed"]
    options = dict(where, migrations_dir=str(folder), engine="direct", certificate_dir=str(scratch / "certificates"), canary=False, statements=False)
    return target, options


def test_what_was_killed_leaves_nothing_for_ever(prepared: t.Any, module: t.Any, admin: t.Any) -> None:
    target, options = prepared
    before, live = databases(admin()), fingerprint(target)
    # A snapshot of the copy without a marker yet, and the way back in the middle of its swap.
    for source, place in (("template", "copy:created"), ("restore_point", "swap:renamed")):
        module.env[_failpoint.VARIABLE] = place
        process = module.start("migration_rehearsal", target, source=source, max_age=0, **options)
        assert stopped(process), process.communicate()
        process.send_signal(signal.SIGKILL)
        process.communicate()
        module.env.clear()
        left = set(databases(admin())) - set(before)
        assert len(left) == 2, left
        done = module("migration_rehearsal", target, max_age=0, **options)
        assert done.get("passed") and set(done["cleared"]) == left, done
        assert databases(admin()) == before and fingerprint(target) == live


def test_a_way_back_that_does_not_lead_back_fails(prepared: t.Any, module: t.Any, admin: t.Any) -> None:
    target, options = prepared
    before, live = set(databases(admin())), fingerprint(target)
    module.env[_failpoint.VARIABLE] = "swap:committed"
    process = module.start("migration_rehearsal", target, **options)
    assert stopped(process), process.communicate()
    copies = [name for name, facts in databases(admin()).items() if name not in before and facts[2]]
    assert len(copies) == 1
    with admin(copies[0]).cursor() as cursor:
        cursor.execute("UPDATE visits SET note = 'other' WHERE id = 7")
        cursor.connection.close()
    process.send_signal(signal.SIGCONT)
    failed = json.loads(process.communicate()[0])
    assert (failed["code"], failed["failed_in"]) == ("FINGERPRINT_MISMATCH", "proof") and "public.visits" in failed["differences"][0]["text"], failed
    assert "are as they were" in failed["msg"] and set(databases(admin())) == before and fingerprint(target) == live
    assert list(pathlib.Path(options["certificate_dir"]).glob("*.json")) == []


def test_only_what_belongs_to_a_copy_is_dropped(database: t.Any, admin: t.Any) -> None:
    target = database()
    conn = admin()

    def made(name: str) -> str:
        with connection(target) as own, own.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE DATABASE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name)))
        return name

    long = database("a_rather_long_name_of_a_database_%s" % target.dbname)
    theirs = {made(derived_name(target.dbname, "snapshot", STAMPS[0])), made("other__snapshot_x")}
    # Names are cut: what is beside a copy of this one could be beside the database itself, and is let be.
    cut = derived_name(derived_name(long.dbname, DRILL, STAMPS[0]), "snapshot", STAMPS[1])
    assert cut == derived_name(long.dbname, "snapshot", STAMPS[1])
    theirs.add(made(cut))
    ours = set()
    for of in (target, long):
        for stamp in STAMPS:
            name = derived_name(of.dbname, DRILL, stamp)
            make(conn, of, name, sql.SQL("CREATE DATABASE {} OWNER {} ALLOW_CONNECTIONS false").format(sql.Identifier(name), sql.Identifier(of.user)), DRILL)
            ours.add(name)
    # Of two copies with one beginning it is not known whose it is, and nobody needs either.
    ours.add(made(derived_name(derived_name(target.dbname, DRILL, STAMPS[0]), "snapshot", STAMPS[1])))
    assert {*clear(conn, target), *clear(conn, long)} == ours
    assert theirs <= set(databases(conn)) and not ours & set(databases(conn))
