# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
import subprocess
import tempfile
import threading
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connect
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._loss import measure
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import find_program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import load
from ansible_collections.pgops.migrations.plugins.module_utils._rowsource import ArchiveRows, DatabaseRows, moment, pinned
from support.restorepoints import Writers, databases, execute, filled, fingerprint, take_backup, tree

WIDE = (pathlib.Path(__file__).parent / "wide_schema.sql").read_text(encoding="utf-8")


@contextlib.contextmanager
def archive(target: t.Any, point: dict[str, t.Any], bin_dir: pathlib.Path, identity: str = "") -> t.Iterator[tuple[t.Any, ArchiveRows]]:
    manifest = load(point["path"])
    program = find_program("pg_restore", manifest.target["server_version_num"], str(bin_dir))
    yield manifest, ArchiveRows(program, point["path"], manifest, target, Decryption(identity_file=identity))


def loss_to(
    target: t.Any, point: dict[str, t.Any], bin_dir: pathlib.Path, meanwhile: t.Callable[[], t.Any] = lambda: None, identity: str = ""
) -> dict[str, t.Any]:
    with archive(target, point, bin_dir, identity) as (manifest, then), moment(target, settings={"lock_timeout": "2s"}) as conn:
        live = plain(take(conn, columns_from=manifest.fingerprint))
        meanwhile()
        with pinned(conn) as rows:
            return measure(then, rows, manifest.expected(live), live)


def by_table(loss: dict[str, t.Any]) -> dict[str, tuple[t.Any, ...]]:
    assert loss["known"], loss["reason"]
    return {entry["table"]: tuple(entry[word] for word in ("rows_now", "rows_then", "added", "changed", "removed", "keyed")) for entry in loss["tables"]}


@pytest.mark.parametrize("format_", ["directory", "custom"])
def test_every_row_is_counted(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, format_: str) -> None:
    target = filled(database())
    execute(
        target,
        "CREATE TABLE untouched AS SELECT g FROM generate_series(1, 10) g",
        "CREATE TABLE going (a int)",
        "INSERT INTO going VALUES (1), (2)",
        "CREATE TABLE coded (code text NOT NULL, region int NOT NULL, note text, UNIQUE (code, region))",
        "INSERT INTO coded SELECT 'c' || g, g % 3, 'n' FROM generate_series(1, 30) g",
        "CREATE TABLE parts (id int PRIMARY KEY, t text) PARTITION BY RANGE (id)",
        "CREATE TABLE parts_a PARTITION OF parts FOR VALUES FROM (0) TO (100)",
        "CREATE TABLE parts_b PARTITION OF parts FOR VALUES FROM (100) TO (200)",
        "INSERT INTO parts SELECT g, 'p' FROM generate_series(1, 199) g",
    )
    point = take_backup(target, scratch, cluster.bin_dir, format=format_)
    assert by_table(loss_to(target, point, cluster.bin_dir)) == {}
    execute(
        target,
        "INSERT INTO notes (author, body) SELECT 1, 'new' FROM generate_series(1, 7)",
        "DELETE FROM notes WHERE id <= 5",
        "UPDATE notes SET body = NULL WHERE id BETWEEN 10 AND 12",
        "UPDATE notes SET body = body WHERE id BETWEEN 20 AND 30",
        # As many rows as before.
        "UPDATE users SET photo = '\\x5c00' WHERE id = 3",
        "DELETE FROM coded WHERE code = 'c1'",
        "UPDATE coded SET note = E'tab\\t, line\\n, \\\\N' WHERE code IN ('c2', 'c3')",
        "INSERT INTO keyless VALUES (1, 'twice'), (NULL, NULL)",
        "DELETE FROM parts WHERE id = 1",
        "UPDATE parts SET id = 150 - 100 + 101 WHERE id = 151",
        "UPDATE parts SET t = 'q' WHERE id = 150",
        "DROP TABLE going",
        "CREATE TABLE later AS SELECT g FROM generate_series(1, 4) g",
    )
    execute(target, "SET application_name = 'shop'")
    shop = connect(target, application_name="shop")
    before, files, server = fingerprint(target), tree(scratch), databases(admin())
    loss = loss_to(target, point, cluster.bin_dir)
    shop.close()
    assert by_table(loss) == {
        "public.coded": (29, 30, 0, 2, 1, True),
        "public.going": (None, 2, 0, 0, 2, True),
        "public.keyless": (4, 2, 2, 0, 0, False),
        "public.later": (4, None, 4, 0, 0, True),
        "public.notes": (2002, 2000, 7, 3, 5, True),
        "public.parts_a": (98, 99, 0, 0, 1, True),
        "public.parts_b": (100, 100, 0, 1, 0, True),
        "public.users": (500, 500, 0, 1, 0, True),
    }
    assert (loss["added"], loss["changed"], loss["removed"]) == (13, 7, 9)
    assert loss["sequences"] == [{"sequence": "public.notes_id_seq", "now": 2007, "then": 2000, "step_back": 7}]
    assert [(session["application_name"], session["user"], session["state"]) for session in loss["sessions"]] == [("shop", target.user, "idle")]
    assert "Table public.notes: 7 rows added, 3 changed, 5 removed." in loss["texts"]
    assert "Table public.later is not in the restore point: its 4 rows will be gone." in loss["texts"]
    assert "Sequence public.notes_id_seq goes back by 7 (from 2007 to 2000)." in loss["texts"]
    assert loss["differences"] == len(loss["texts"]) == 9
    assert len(loss["objects"]) == 2, loss["objects"]
    assert (fingerprint(target), tree(scratch), databases(admin())) == (before, files, server), "nothing was changed"


def test_columns_that_came_and_went(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    execute(target, "ALTER TABLE notes ADD size int GENERATED ALWAYS AS (length(body)) STORED")
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "ALTER TABLE notes ADD tag text DEFAULT 'x'", "ALTER TABLE users DROP about, ADD more int")
    loss = loss_to(target, point, cluster.bin_dir)
    assert by_table(loss) == {}, "no row differs in the columns that both have"
    assert [text for text in loss["texts"] if text.startswith("The column ")] == [
        "The column public.notes.tag is not in the restore point: what it holds will be gone.",
        "The column public.users.about was removed: it comes back with its content of then.",
        "The column public.users.more is not in the restore point: what it holds will be gone.",
    ]
    execute(target, "UPDATE users SET name = 'other' WHERE id < 4", "UPDATE notes SET body = 'other' WHERE id < 3")
    assert by_table(loss_to(target, point, cluster.bin_dir)) == {"public.users": (500, 500, 0, 3, 0, True), "public.notes": (2000, 2000, 0, 2, 0, True)}


def test_a_key_that_the_restore_point_did_not_have(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    execute(target, "CREATE TABLE t (a int, b text)", "INSERT INTO t VALUES (1, 'x'), (1, 'y'), (2, 'z')")
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM t WHERE b = 'y'", "ALTER TABLE t ADD PRIMARY KEY (a)", "UPDATE t SET b = 'new' WHERE a = 2")
    assert by_table(loss_to(target, point, cluster.bin_dir)) == {"public.t": (2, 3, 1, 0, 2, False)}


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "SQL_ASCII"])
def test_all_types_and_names_have_the_same_text_on_both_sides(cluster: t.Any, admin: t.Any, scratch: pathlib.Path, encoding: str) -> None:
    """One row of each table is changed, so every table is read; every other row must be found equal."""
    name = 'we"ird-db; drop %s' % encoding
    superuser = admin()
    cursor = superuser.cursor()
    quoted = '"%s"' % name.replace('"', '""')
    cursor.execute("CREATE DATABASE %s TEMPLATE template0 ENCODING '%s' LOCALE 'C'" % (quoted, encoding))
    try:
        # What the text of a value depends on is set otherwise for the database.
        for setting in (
            "DateStyle = 'German'", "IntervalStyle = 'iso_8601'", "TimeZone = 'Asia/Tokyo'", "bytea_output = 'escape'", "extra_float_digits = -5", "quote_all_identifiers = on",
            "xmlbinary = 'hex'", "search_path = app, public",
        ):  # fmt: skip
            cursor.execute("ALTER DATABASE %s SET %s" % (quoted, setting))
        target = dataclasses.replace(cluster.superuser_target(name))
        execute(target, "SET search_path = public; SET IntervalStyle = postgres; SET DateStyle = ISO; " + WIDE)
        execute(
            target,
            'CREATE TABLE "new\nline" (id int PRIMARY KEY, "a\nCOPY x (y) FROM stdin;\n" text)',
            "INSERT INTO \"new\nline\" VALUES (1, E'\\\\.'), (2, E'a\\nb\\\\')",
            "CREATE TABLE app.always (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, d app.email, up text GENERATED ALWAYS AS (upper(d)) STORED, t text)",
            "INSERT INTO app.always (d, t) SELECT 'a@b', 'é' FROM generate_series(1, 3)",
        )
        point = take_backup(target, scratch, cluster.bin_dir)
        with archive(target, point, cluster.bin_dir) as (manifest, then), moment(target) as conn:
            live = plain(take(conn))
            # As if the hash of every table differed.
            wrong = dict(live, tables={label: dict(entry, hash="0" * 32) for label, entry in live["tables"].items()})
            with pinned(conn) as rows:
                assert rows.encoding == then.encoding == encoding
                loss = measure(then, rows, manifest.expected(live), wrong)
        assert len(live["tables"]) > 12
        assert by_table(loss) == {}
        execute(
            target,
            "UPDATE app.kinds SET w = w + interval '1 microsecond' WHERE c = 'name'",
            "UPDATE app.always SET t = 'è' WHERE id = 2",
            'UPDATE "new\nline" SET "a\nCOPY x (y) FROM stdin;\n" = \'b\' WHERE id = 1',
            "INSERT INTO app.nothing_in_it SELECT",
            'DELETE FROM "we""ird; drop"."ta.ble ""x"" on y" WHERE ctid = (SELECT min(ctid) FROM "we""ird; drop"."ta.ble ""x"" on y")',
        )
        assert by_table(loss_to(target, point, cluster.bin_dir)) == {
            "app.kinds": (4, 4, 1, 0, 1, False),
            "app.always": (3, 3, 0, 1, 0, True),
            'app."new\nline"': (2, 2, 0, 1, 0, True),
            "app.nothing_in_it": (4, 3, 1, 0, 0, False),
            '"we""ird; drop"."ta.ble ""x"" on y"': (1, 2, 0, 0, 1, False),
        }
    finally:
        cursor.execute("DROP DATABASE %s WITH (FORCE)" % quoted)


def test_a_sibling_database_under_writers(database: t.Any) -> None:
    target = filled(database())
    execute(target, "CREATE TABLE acked (key text PRIMARY KEY)")
    other = target.dbname + "_s"
    execute(target, 'CREATE DATABASE "%s" TEMPLATE "%s"' % (other, target.dbname), dbname="postgres")
    execute(target, "DELETE FROM users WHERE id > 498 AND id NOT IN (SELECT author FROM notes)", "DELETE FROM notes WHERE id = 7")
    with Writers(target, 2) as writers, moment(target, other) as before, moment(target) as now:
        then_fingerprint, live_fingerprint = plain(take(before)), plain(take(now))
        stop = threading.Event()
        stop.wait(0.3)
        with pinned(before) as then, pinned(now) as live:
            loss = measure(then, live, then_fingerprint, live_fingerprint)
    found = by_table(loss)
    acked = found.pop("public.acked")
    assert found == {"public.notes": (1999, 2000, 0, 0, 1, True)}
    assert acked[2] == acked[0] == live_fingerprint["tables"]["public.acked"]["rows"], "the rows of the fingerprint's moment"
    assert 0 < acked[2] < len(writers.rows()), "rows were added meanwhile"
    assert len(loss["sessions"]) == 0, "these writers have the name of the collection's own sessions"


def test_what_cannot_be_read_is_never_a_number(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "UPDATE users SET name = 'x' WHERE id = 1", "DELETE FROM notes WHERE id = 1")
    before = os.listdir(tempfile.gettempdir())

    def lock() -> None:
        conn = admin(target.dbname)
        conn.autocommit = False
        conn.cursor().execute("LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")
        held.append(conn)

    held: list[t.Any] = []
    loss = loss_to(target, point, cluster.bin_dir, lock)
    assert not loss["known"] and "public.notes" in loss["reason"] and loss["tables"] == [] and loss["added"] is None
    assert (loss["rows_now"], loss["rows_then"]) == (2501, 2502)
    held[0].close()

    rewritten = loss_to(target, point, cluster.bin_dir, lambda: execute(target, "ALTER TABLE notes ADD late timestamptz DEFAULT clock_timestamp()"))
    assert not rewritten["known"] and rewritten["tables"] == [] and "public.notes" in rewritten["reason"]
    execute(target, "ALTER TABLE notes DROP late")

    hidden = admin(target.dbname).cursor()
    hidden.execute("ALTER TABLE notes OWNER TO CURRENT_USER; GRANT SELECT ON notes, notes_id_seq TO PUBLIC; CREATE POLICY none ON notes USING (false)")
    secured = loss_to(target, point, cluster.bin_dir, lambda: hidden.execute("ALTER TABLE notes ENABLE ROW LEVEL SECURITY"))
    assert not secured["known"] and "row-level security" in secured["reason"]
    hidden.execute("ALTER TABLE notes DISABLE ROW LEVEL SECURITY")

    def damage() -> None:
        data = sorted(pathlib.Path(point["path"], "archive").glob("*.dat*"), key=lambda path: path.stat().st_size)[-1]
        data.write_bytes(data.read_bytes()[: data.stat().st_size // 2])

    broken = loss_to(target, point, cluster.bin_dir, damage)
    assert not broken["known"] and broken["tables"] == [] and "pg_restore" in broken["reason"]
    assert [name for name in os.listdir(tempfile.gettempdir()) if name not in before and name.startswith("pgops-migrations-rows")] == []


def test_an_encrypted_archive(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    keys = [str(scratch / name) for name in ("right", "wrong")]
    for path in keys:
        subprocess.run(["age-keygen", "-o", path], check=True, capture_output=True)
    public = next(line.split()[-1] for line in pathlib.Path(keys[0]).read_text().splitlines() if "public key" in line)
    point = take_backup(target, scratch, cluster.bin_dir, encryption="age", encryption_recipients=[public])
    execute(target, "UPDATE users SET name = 'x' WHERE id = 1", "DELETE FROM notes WHERE id = 1")
    assert by_table(loss_to(target, point, cluster.bin_dir, identity=keys[0])) == {
        "public.notes": (1999, 2000, 0, 0, 1, True),
        "public.users": (500, 500, 0, 1, 0, True),
    }
    locked = loss_to(target, point, cluster.bin_dir, identity=keys[1])
    assert not locked["known"] and "age" in locked["reason"] and locked["tables"] == []


def test_an_archive_is_read_by_names_only_where_there_are_few(cluster: t.Any, database: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ansible_collections.pgops.migrations.plugins.module_utils._rowsource.MOST_NAMES", 0)
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "UPDATE users SET name = 'x' WHERE id = 1")
    assert by_table(loss_to(target, point, cluster.bin_dir)) == {"public.users": (500, 500, 0, 1, 0, True)}


def test_a_database_gives_whole_lines(database: t.Any) -> None:
    target = filled(database())
    with moment(target) as conn, pinned(conn) as rows:
        assert isinstance(rows, DatabaseRows)
        shape = rows.shapes(["public.users"])["public.users"]
        lines: list[bytes] = []
        assert rows.copy(shape, ["id", "name"], lines.append) == len(lines) == 500
        assert shape.key(["id", "name"]) == ("id",) and shape.key(["name"]) == ()
    assert sorted(lines)[0] == b"1\tuser 1\n" and all(line.count(b"\n") == 1 for line in lines)


def test_what_an_archive_does_not_hold_is_not_called_unchanged(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    execute(target, "CREATE TABLE g (a int PRIMARY KEY, c int GENERATED ALWAYS AS (a * 2) STORED)", "INSERT INTO g SELECT x FROM generate_series(1, 10) x")
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "ALTER TABLE g ALTER c DROP EXPRESSION", "UPDATE g SET c = 999 WHERE a <= 7")
    loss = loss_to(target, point, cluster.bin_dir)
    assert loss["known"] is False and "public.g" in loss["reason"], loss


def test_a_sequence_that_was_never_called_goes_back_to_before_its_first_number(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    execute(target, "CREATE TABLE fresh (id serial PRIMARY KEY)", "CREATE SEQUENCE down INCREMENT -1")
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, *["INSERT INTO fresh DEFAULT VALUES"] * 5, "SELECT nextval('down'), nextval('down')")
    loss = loss_to(target, point, cluster.bin_dir)
    assert {entry["sequence"]: (entry["now"], entry["then"], entry["step_back"]) for entry in loss["sequences"]} == {
        "public.down": (-2, 0, 2), "public.fresh_id_seq": (5, 0, 5),
    }  # fmt: skip
    assert "Sequence public.fresh_id_seq goes back by 5 (from 5 to 0)." in loss["texts"]


#: Type of the primary key -> two ways to write one value, and whether rows are told apart by it.
KEYS = {
    "bigint": ("1", "1", True),
    "uuid": ("6f1b6b5e-0000-4000-8000-000000000001", "6F1B6B5E-0000-4000-8000-000000000001", True),
    "text": ("a", "a", True),
    "varchar(5)": ("a", "a", True),
    "char(3)": ("a", "a ", True),
    "date": ("2026-01-02", "2026-01-02", True),
    "timestamptz": ("2026-01-02 00:00+00", "2026-01-02 01:00+01", True),
    "bytea": ("\\x61", "a", True),
    "boolean": ("t", "true", True),
    "oid": ("7", "7", True),
    "calm": ("still", "still", True),
    "bpchar": ("a", "a ", False),
    "padded": ("a", "a ", False),
    "numeric": ("1.0", "1.00", False),
    "double precision": ("0", "-0", False),
    "interval": ("1 month", "30 days", False),
    "jsonb": ("[1.0]", "[1.00]", False),
    "numeric[]": ("{1.0}", "{1.00}", False),
    'text COLLATE "nocase"': ("User", "user", False),
    "citext": ("User", "user", False),
}


@pytest.mark.parametrize("kind", list(KEYS))
def test_a_key_tells_rows_apart_only_where_equal_is_written_alike(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, kind: str) -> None:
    one, other, keyed = KEYS[kind]
    target = database()
    with admin(target.dbname).cursor() as cursor:
        try:
            cursor.execute("CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false); CREATE EXTENSION citext")
        except psycopg2.Error as error:
            if "nocase" in kind or kind == "citext":
                pytest.skip(str(error))
    execute(target, "CREATE TYPE calm AS ENUM ('still')", "CREATE DOMAIN padded AS bpchar", "CREATE TABLE t (id %s PRIMARY KEY, note text)" % kind)
    execute(target, "INSERT INTO t VALUES ('%s', 'x')" % one)
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "UPDATE t SET id = '%s', note = 'y' WHERE id = '%s'" % (other, other))
    # By a key that is not compared as a text the same row would be called new and removed at once, under a promise that it is neither.
    assert by_table(loss_to(target, point, cluster.bin_dir)) == {"public.t": (1, 1, 0, 1, 0, True) if keyed else (1, 1, 1, 0, 1, False)}


def test_a_key_of_periods_is_no_key(cluster: t.Any, database: t.Any, scratch: pathlib.Path, admin: t.Any) -> None:
    if cluster.major < 18:
        pytest.skip("PostgreSQL 18 has keys WITHOUT OVERLAPS")
    target = database()
    admin(target.dbname).cursor().execute("CREATE EXTENSION btree_gist")
    execute(target, "CREATE TABLE t (id int, during daterange, note text, PRIMARY KEY (id, during WITHOUT OVERLAPS))")
    execute(target, "INSERT INTO t VALUES (1, '[2026-01-01,2026-02-01)', 'x')")
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "UPDATE t SET note = 'y'")
    assert by_table(loss_to(target, point, cluster.bin_dir)) == {"public.t": (1, 1, 1, 0, 1, False)}
