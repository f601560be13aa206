# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import stat
import subprocess
import sys
import time
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect, connection
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._restore import RestoreOptions, restore
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import drop_left
from ansible_collections.pgops.migrations.plugins.module_utils._swap import swap
from support.restorepoints import Writers, databases, execute, filled, refused, tree, until
from support.swaps import stopped

WEIRD = 'we"ird-db; drop'
ODD_TABLE = 'a/b "c"\n../d; é'


def quoted(name: str) -> str:
    return '"%s"' % name.replace('"', '""')


def rolled_back(target: t.Any, admin: t.Any, *afterwards: str, meanwhile: t.Any = None) -> dict[str, t.Any]:
    """Go back to a copy of now, after these statements; the kept database.

    :param meanwhile: a context to be in from the copy to the exchange, the exchange included.
    """
    staging, kept = target.dbname[:40] + "_s", target.dbname[:40] + "_kept"
    execute(target, "CREATE DATABASE %s TEMPLATE %s" % (quoted(staging), quoted(target.dbname)), dbname="postgres")
    with meanwhile or contextlib.nullcontext():
        execute(target, *afterwards)
        done = swap(target, staging, kept, run_id="r1", at="2026-11-20T10:00:00Z")
        if meanwhile is not None:
            # The clients come back, and write into what is live now.
            written = len(meanwhile.rows())
            assert until(lambda: len(meanwhile.rows()) > written)
    assert databases(admin())[kept][2] is False
    return {"name": kept, "oid": done.kept_oid}


def psql(cluster: t.Any, target: t.Any, folder: pathlib.Path, script: str) -> None:
    env = {**os.environ, "PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": target.user, "PGPASSWORD": target.password, "PGDATABASE": target.dbname}
    done = subprocess.run(
        [str(pathlib.Path(cluster.bin_dir, "psql")), "-X", "-q", "-f", script], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def tables(target: t.Any, dbname: str | None = None) -> dict[str, t.Any]:
    with connection(target, dbname) as conn:
        return t.cast("dict[str, t.Any]", take(conn)["tables"])


def kept_tables(target: t.Any, admin: t.Any, kept: str) -> dict[str, t.Any]:
    cursor = admin().cursor()
    cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS true" % quoted(kept))
    try:
        return tables(target, kept)
    finally:
        cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS false" % quoted(kept))


def test_the_list(database: t.Any, admin: t.Any, module: t.Any) -> None:
    target, other = filled(database()), database()
    kept = rolled_back(target, admin)
    cursor = admin().cursor()
    for name, comment in (
        ("_snap", marker("snapshot", database=target.dbname, run_id="", at="")),
        ("_stage", marker("staging", database=target.dbname, at="2020-01-01T00:00:00Z")),
        ("_foreign", marker("kept", database=other.dbname, at="2020-01-01T00:00:00Z")),
        ("_theirs", "pgops.migrations {not ours"),
    ):
        cursor.execute("CREATE DATABASE %s OWNER %s" % (quoted(target.dbname + name), target.user))
        cursor.execute("COMMENT ON DATABASE %s IS %%s" % quoted(target.dbname + name), (comment,))
    result = module("kept_database_info", target, max_age=0.5)
    assert result["changed"] is False
    found = {entry["name"]: entry for entry in result["databases"]}
    assert sorted(found) == sorted([kept["name"], target.dbname + "_snap", target.dbname + "_stage"])
    entry = found[kept["name"]]
    assert (entry["oid"], entry["kind"], entry["run_id"], entry["open"]) == (kept["oid"], "kept", "r1", False)
    assert entry["confirmation"] == "%s:r1" % kept["name"] and entry["size_bytes"] > 1_000_000
    assert entry["expired"] is (time.time() - 1795168800 > 43200) and entry["age_days"] == round(entry["age_seconds"] / 86400, 2)
    assert (found[target.dbname + "_snap"]["age_seconds"], found[target.dbname + "_snap"]["expired"]) == (None, False)
    assert found[target.dbname + "_stage"]["expired"] is True
    assert all(not entry["expired"] for entry in module("kept_database_info", target)["databases"])


def test_a_kept_database_of_another_role_is_not_believed(database: t.Any, admin: t.Any, module: t.Any) -> None:
    target, forger = filled(database()), filled(database())
    kept = rolled_back(target, admin)
    text = marker("kept", database=target.dbname, run_id="r1", at="2026-11-20T10:00:00Z").replace("'", "''")
    execute(forger, "COMMENT ON DATABASE %s IS '%s'" % (forger.dbname, text))
    assert [entry["name"] for entry in module("kept_database_info", target)["databases"]] == [kept["name"]]
    oid = databases(admin())[forger.dbname][0]
    options = RestoreOptions(from_database=forger.dbname, confirm="%s r1" % target.dbname)
    with refused("BACKUP_NOT_FOUND") as caught:
        restore(target, options)
    assert kept["name"] in str(caught[0].next_step) and forger.dbname not in str(caught[0].next_step)
    assert module("kept_database", target, state="absent", name=forger.dbname, oid=oid, confirm="%s r1" % forger.dbname)["code"] == "NOT_KEPT"


def test_scratch_databases_of_others_are_not_dropped(database: t.Any, admin: t.Any) -> None:
    target, forger = database(), database()
    text = marker("scratch", database=target.dbname)
    execute(forger, "COMMENT ON DATABASE %s IS '%s'" % (forger.dbname, text))
    assert drop_left(admin(), target, "scratch") == [] and forger.dbname in databases(admin())
    admin().cursor().execute("CREATE DATABASE %s OWNER %s" % (target.dbname + "_x", target.user))
    admin().cursor().execute("COMMENT ON DATABASE %s IS '%s'" % (target.dbname + "_x", text))
    assert drop_left(admin(), target, "scratch") == [target.dbname + "_x"]


def test_killed_before_it_is_marked_it_is_closed_and_listed(database: t.Any, admin: t.Any, module: t.Any) -> None:
    target, other = filled(database(WEIRD)), database()
    code = (
        "import os\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._scratch import scratch_database\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url\n"
        "target = parse_url(os.environ['TARGET'])\n"
        "with run_lock(target) as lock, scratch_database(target, lock, read_settings(lock, database_oid(lock, target.dbname))) as name:\n"
        "    pass\n"
    )
    env = {**os.environ, "TARGET": target.prisma_url(), _failpoint.VARIABLE: "scratch:created"}
    before = set(databases(admin()))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    assert stopped(process), process.communicate()
    process.kill()
    process.communicate()
    (left,) = set(databases(admin())) - before
    assert "__scratch_" in left and databases(admin())[left][2] is False, "nobody can enter it"
    # A name alone, of somebody else or open, is nothing of ours.
    admin().cursor().execute("CREATE DATABASE %s OWNER %s ALLOW_CONNECTIONS false" % (quoted(left[:-6] + "aaaaaa"), other.user))
    admin().cursor().execute("CREATE DATABASE %s OWNER %s" % (quoted(left[:-6] + "bbbbbb"), target.user))
    listed = module("kept_database_info", target)["databases"]
    assert [(entry["name"], entry["kind"], entry["open"], entry["confirmation"]) for entry in listed] == [(left, "leftover", False, "")]
    oid = databases(admin())[left][0]
    assert module("kept_database", target, state="absent", name=left, oid=oid, confirm=left)["code"] == "NOT_KEPT"


@pytest.mark.parametrize("check_mode", [True, False])
def test_what_the_role_may_not_carry_over_is_found_before_the_exchange(database: t.Any, admin: t.Any, check_mode: bool) -> None:
    target = filled(database())
    kept = rolled_back(target, admin)
    admin().cursor().execute("ALTER DATABASE %s SET log_min_messages = 'error'" % target.dbname)
    before = databases(admin())
    with refused("RESTORE_PREREQUISITE") as caught:
        restore(target, RestoreOptions(from_database=kept["name"], confirm="%s r1" % target.dbname, force=True), check_mode)
    assert "log_min_messages" in caught[0].msg and "GRANT SET ON PARAMETER" in str(caught[0].next_step)
    assert databases(admin()) == before


def test_dropping_one_needs_its_name_its_oid_and_its_confirmation(database: t.Any, admin: t.Any, module: t.Any) -> None:
    target = filled(database())
    kept = rolled_back(target, admin)
    before = databases(admin())
    for confirm in ("", target.dbname, "%s r2" % kept["name"]):
        refused = module("kept_database", target, state="absent", confirm=confirm, **kept)
        assert refused["code"] == "CONFIRMATION_MISSING" and refused["confirmation"] == "%s:r1" % kept["name"] and refused["confirmation"] in refused["msg"]
    right = dict(kept, state="absent", confirm="%s r1" % kept["name"])
    for wrong in (
        {"oid": kept["oid"] + 1}, {"name": target.dbname, "oid": before[target.dbname][0]}, {"name": "postgres", "oid": before["postgres"][0]},
    ):  # fmt: skip
        confirm = "%s r1" % wrong.get("name", kept["name"])
        options = dict(right, **wrong, confirm=confirm, **({"maintenance_db": "template1"} if wrong.get("name") == "postgres" else {}))
        assert module("kept_database", target, check=wrong.get("name") == target.dbname, **options)["code"] == "NOT_KEPT"
    assert databases(admin()) == before
    cursor = admin().cursor()
    cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS true" % quoted(kept["name"]))
    inside = connect(target, kept["name"])
    cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS false" % quoted(kept["name"]))
    for check in (True, False):
        refused = module("kept_database", target, check=check, **right)
        assert refused["code"] == "KEPT_IN_USE" and [session["pid"] for session in refused["sessions"]] == [inside.info.backend_pid]
    inside.close()
    assert databases(admin()) == before
    assert until(lambda: module("kept_database", target, check=True, **dict(right, confirm="")).get("changed")) and databases(admin()) == before
    done = module("kept_database", target, **right)
    assert done["changed"] is True and done["database"]["oid"] == kept["oid"]
    after = databases(admin())
    assert sorted(set(before) - set(after)) == [kept["name"]] and set(after) <= set(before)
    assert module("kept_database", target, **right)["changed"] is False


@pytest.mark.parametrize("format_", ["copy", "sql"])
def test_salvage_brings_every_row_back(cluster: t.Any, database: t.Any, admin: t.Any, module: t.Any, scratch: pathlib.Path, format_: str) -> None:
    target = filled(database(WEIRD))
    odd = quoted(ODD_TABLE) if format_ == "sql" else quoted(ODD_TABLE.replace("\n", " "))
    execute(
        target,
        "ALTER TABLE users ADD boss int REFERENCES users, ADD upper_name text GENERATED ALWAYS AS (upper(name)) STORED",
        'CREATE TABLE %s (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, "we""ird col; %%s" text, at timestamptz, f float8, i interval, x xml)' % odd,
        "CREATE TABLE a_child (id int PRIMARY KEY, parent int REFERENCES notes)",
        "CREATE TABLE acked (key text)",
        "CREATE TABLE bare ()",
        "CREATE TABLE parts (id int PRIMARY KEY, author int REFERENCES users) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (0) TO (100)",
    )
    before = tables(target)
    writers = Writers(target, 2)
    kept = rolled_back(
        target,
        admin,
        "INSERT INTO users (id, name, boss, photo, about) VALUES (900, E'o''neil\\\\ \\t\\n\"', 901, '\\x00ff0a5c27', '{\"a\": \"\\\\n\"}'), (901, 'é €', NULL, NULL, NULL)",
        "INSERT INTO notes (author, body) SELECT 900, repeat(E'a\\\\b''', g) FROM generate_series(1, 20) g",
        "INSERT INTO a_child SELECT g, 2000 + g FROM generate_series(1, 20) g",
        "INSERT INTO keyless VALUES (1, 'twice'), (7, NULL), (7, NULL), (8, '\\N')",
        "INSERT INTO bare SELECT FROM generate_series(1, 2)",
        "INSERT INTO parts VALUES (5, 901)",
        "INSERT INTO %s (%s, at, f, i, x) VALUES (E'\\\\.', '2026-01-01 00:00:00.000001+03', 0.1, '-1 mon 2 days 00:00:01.5', '<a>b</a>')"
        % (odd, quoted('we"ird col; %s')),
        "UPDATE users SET name = 'changed' WHERE id < 4",
        meanwhile=writers,
    )  # fmt: skip
    execute(target, "DELETE FROM acked")
    folder = scratch / "salvage"
    options = dict(kept, state="salvaged", salvage_dir=str(folder), format=format_)
    wanted, server = kept_tables(target, admin, kept["name"]), databases(admin())
    preview = module("kept_database", target, check=True, **options)
    assert preview["changed"] is True and not folder.exists() and databases(admin()) == server
    live = tables(target)
    result = module("kept_database", target, **options)
    assert result["changed"] is True, result
    assert databases(admin()) == server and tables(target) == live, "the database is closed again, and live is as it was"
    counts = {entry["table"]: (entry["added"], entry["changed"], entry["keyed"]) for entry in result["tables"]}
    acked = counts.pop("public.acked")
    assert acked == (wanted["public.acked"]["rows"], 0, False) and 0 < acked[0] < len(writers.rows())
    odd_label = "public." + odd
    assert counts == {
        "public.users": (2, 3, True), "public.notes": (20, 0, True), "public.a_child": (20, 0, True), "public.keyless": (4, 0, False),
        "public.bare": (2, 0, False), "public.parts_a": (1, 0, True), odd_label: (1, 0, True),
    }  # fmt: skip
    assert result["rows_added"] == sum(entry[0] for entry in counts.values()) + acked[0] and result["rows_changed"] == 3
    assert "neil" not in json.dumps(result), "no content of a row"

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    index = json.loads((folder / "index.json").read_text())
    listed = [entry for table in index["tables"] for entry in table["files"]]
    assert all(hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest() == entry["sha256"] for entry in listed)
    names = {path.name for path in folder.iterdir()}
    assert names == {entry["path"] for entry in listed} | {"index.json", "README.txt", "load.sql", "load-changed.sql", "sequences.sql"}
    assert [path.name for path in scratch.iterdir()] == ["salvage"]

    written = tree(scratch)
    again = module("kept_database", target, **options)
    assert again["changed"] is False and again["tables"] == result["tables"] and tree(scratch) == written
    assert module("kept_database", target, **dict(options, tables=["public.users"]))["code"] == "SALVAGE_EXISTS"

    psql(cluster, target, folder, "load.sql")
    loaded = tables(target)
    assert {name for name in wanted if loaded[name] != wanted[name]} == {"public.users"}, "all rows but the changed ones"
    assert loaded["public.users"]["rows"] == wanted["public.users"]["rows"]
    psql(cluster, target, folder, "load-changed.sql")
    assert tables(target) == wanted != before
    psql(cluster, target, folder, "sequences.sql")
    execute(target, "INSERT INTO notes (author) VALUES (1)")
    execute(target, "INSERT INTO %s DEFAULT VALUES" % odd)


def test_salvage_where_the_schemas_differ(cluster: t.Any, database: t.Any, admin: t.Any, module: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    kept = rolled_back(
        target,
        admin,
        "ALTER TABLE users ADD phone text",
        "INSERT INTO users (id, name, phone) VALUES (900, 'new', '123')",
        "CREATE TABLE later AS SELECT g AS n FROM generate_series(1, 5) g",
        'CREATE TABLE "br\neak" (a int)',
        'INSERT INTO "br\neak" VALUES (1)',
    )
    folder = scratch / "salvage"
    result = module("kept_database", target, state="salvaged", salvage_dir=str(folder), **kept)
    assert {entry["table"]: entry["added"] for entry in result["tables"]} == {"public.users": 1, "public.later": 5, 'public."br\neak"': 1}
    readme = (folder / "README.txt").read_text()
    assert "has no column phone in public.users" in readme and "has no table public.later" in readme and "use the format sql" in readme
    assert "phone" not in (folder / "load.sql").read_text()
    only = module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "only"), tables=["public.users"], **kept)
    assert [entry["table"] for entry in only["tables"]] == ["public.users"]
    execute(target, "CREATE TABLE later (n int)")
    psql(cluster, target, folder, "load.sql")
    assert execute(target, "SELECT (SELECT count(*) FROM later), (SELECT name FROM users WHERE id = 900)") == [(5, "new")]
    assert module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "none"), tables=["users"], **kept)["code"] == "OPTION_INVALID"
    assert sorted(path.name for path in scratch.iterdir()) == ["only", "salvage"], "nothing half written is left"
    (folder / "README.txt").unlink()
    (folder / "load.sql").rename(scratch / "load.sql")
    data = next(folder.glob("*.public.users.copy"))
    data.write_bytes(data.read_bytes() + b"x")
    assert module("kept_database", target, state="salvaged", salvage_dir=str(folder), **kept)["code"] == "SALVAGE_EXISTS"


def test_foreign_keys_in_a_circle_are_named(database: t.Any, admin: t.Any, module: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    execute(
        target,
        "CREATE TABLE a (id int PRIMARY KEY, b int)", "CREATE TABLE b (id int PRIMARY KEY, a int REFERENCES a)",
        "ALTER TABLE a ADD FOREIGN KEY (b) REFERENCES b", "CREATE TABLE c (id int PRIMARY KEY)",
    )  # fmt: skip
    kept = rolled_back(target, admin, "INSERT INTO a VALUES (1, NULL)", "INSERT INTO b VALUES (1, 1)", "UPDATE a SET b = 1", "INSERT INTO c VALUES (1)")
    result = module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "s"), **kept)
    assert [entry["table"] for entry in result["tables"]] == ["public.c", "public.a", "public.b"]
    assert "public.a, public.b" in (scratch / "s" / "README.txt").read_text()


def test_a_run_that_was_killed_while_the_database_was_open(database: t.Any, admin: t.Any, module: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    kept = rolled_back(target, admin, "INSERT INTO notes (author) VALUES (1)")
    before = databases(admin())
    module.env[_failpoint.VARIABLE] = "kept:open"
    options = dict(kept, state="salvaged", salvage_dir=str(scratch / "s"))
    process = module.start("kept_database", target, **options)
    assert stopped(process)
    assert databases(admin())[kept["name"]][2] is True
    # Not even now may everybody come in.
    cursor = admin().cursor()
    cursor.execute("SELECT has_database_privilege('pg_monitor', %s, 'CONNECT')", (kept["name"],))
    assert cursor.fetchone() == (False,)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert databases(admin())[kept["name"]][2] is True
    assert [path.name for path in scratch.iterdir()] == ["s.partial"]
    module.env.clear()
    assert module("kept_database", target, **options)["changed"] is True
    assert databases(admin()) == before and [path.name for path in scratch.iterdir()] == ["s"]

    cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS true" % quoted(kept["name"]))
    assert module("kept_database_info", target)["databases"][0]["open"] is True
    assert module("kept_database", target, state="absent", **kept)["code"] == "CONFIRMATION_MISSING"
    assert databases(admin()) == before, "closed by the next run, whatever it was for"


def test_a_folder_that_others_can_read_is_refused(database: t.Any, admin: t.Any, module: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    kept = rolled_back(target, admin, "INSERT INTO notes (author) VALUES (1)")
    (scratch / "s").mkdir(mode=0o755)
    os.chmod(scratch / "s", 0o755)
    assert module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "s"), **kept)["code"] == "BACKUP_DIR_UNSAFE"
    os.chmod(scratch / "s", 0o700)
    assert module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "s"), **kept)["code"] == "SALVAGE_EXISTS"
    assert module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "t"), **dict(kept, oid=1))["code"] == "NOT_KEPT"
    assert module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "t"), **dict(kept, name="no_such"))["code"] == "NOT_KEPT"
    assert [path.name for path in scratch.iterdir()] == ["s"]
