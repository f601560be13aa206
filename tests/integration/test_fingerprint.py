# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fingerprints of real databases."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import subprocess
import threading
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _comparison, _explain, _fingerprint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

WIDE = (pathlib.Path(__file__).parent / "wide_schema.sql").read_text(encoding="utf-8")

Make = t.Callable[..., Target]


def take(conn: t.Any, *args: t.Any, **kwargs: t.Any) -> dict[str, t.Any]:
    found = _fingerprint.take(conn, *args, **kwargs)
    assert json.loads(json.dumps(found)) == found
    return found


def dump_and_restore(cluster: t.Any, source: str, target: str, scratch: pathlib.Path, *options: str) -> None:
    env = {**os.environ, "PGHOST": cluster.host, "PGPORT": str(cluster.port), "PGUSER": cluster.superuser, "PGPASSWORD": cluster.password}
    archive = str(scratch / "archive")
    # By the environment, for the programs read a name with = or :// as a connection string.
    subprocess.run([os.path.join(cluster.bin_dir, "pg_dump"), "-Fc", "-f", archive, *options], env={**env, "PGDATABASE": source}, check=True)
    subprocess.run([os.path.join(cluster.bin_dir, "pg_restore"), "-e", "-d", "dbname='%s'" % target.replace("'", "\\'"), archive], env=env, check=True)


@pytest.fixture
def empty(database: Make) -> t.Iterator[t.Any]:
    """A connection to an empty database, as its owner."""
    with connection(database()) as conn:
        yield conn


def test_the_same_after_dump_and_restore(cluster: t.Any, admin: t.Any, database: Make, scratch: pathlib.Path) -> None:
    source, copy = database('we"ird-db; drop %d' % os.getpid()), database()
    conn = admin(source.dbname)
    execute(conn, WIDE)
    # Another physical order, dead rows, and columns that a restore does not know of.
    execute(conn, "UPDATE app.users SET score = score WHERE id % 3 = 0; DELETE FROM app.events WHERE id % 7 = 0")
    before = take(conn)
    dump_and_restore(cluster, source.dbname, copy.dbname, scratch)
    after = take(admin(copy.dbname))
    assert [each["text"] for each in _comparison.compare(before, after)] == []
    assert before["digest"] == after["digest"]
    assert len(before["tables"]) == 12
    assert before["tables"]["app.users"]["rows"] == 500
    assert before["tables"]["app.events_rest_0"]["parents"] == ["app.events_rest", "app.events"]
    assert before["tables"]["app.nothing_in_it"] == {"rows": 3, "hash": "0" * 32, "columns": []}
    assert before["large_objects"]["count"] == 4
    assert before["sequences"]["app.users_id_seq"] == {"last_value": 600, "is_called": False}
    assert take(admin(copy.dbname), "schema")["schema"] == before["schema"]


def test_the_same_under_all_settings_of_a_session(admin: t.Any, database: Make) -> None:
    name = database().dbname
    conn, other = admin(name), admin(name)
    execute(conn, WIDE)
    execute(
        other,
        "SET search_path = app, public; SET TimeZone = 'Asia/Kathmandu'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601';"
        " SET extra_float_digits = -5; SET bytea_output = 'escape'; SET quote_all_identifiers = on; SET xmlbinary = 'hex';"
        " SET max_parallel_workers_per_gather = 0; SET enable_seqscan = off; SET default_transaction_isolation = 'serializable'",
    )
    # A type of the session's own must not stand for the built-in one.
    execute(other, "CREATE TEMP TABLE users (id int); CREATE TYPE pg_temp.text AS (a int)")
    assert take(other)["digest"] == take(conn)["digest"]
    assert row(other, "SHOW TimeZone") == ("Asia/Kathmandu",)


SENSITIVE = [
    ("one value of many", "INSERT INTO t (a) SELECT n FROM generate_series(1, 1000) n", "UPDATE t SET a = -5 WHERE a = 5"),
    ("a duplicate", "INSERT INTO t (a) VALUES (1), (1), (2)", "UPDATE t SET a = 2 WHERE ctid = '(0,1)'"),
    ("values exchanged between rows", "INSERT INTO t (a, b) VALUES (1, 'x'), (2, 'y')", "UPDATE t SET b = CASE b WHEN 'x' THEN 'y' ELSE 'x' END"),
    ("values exchanged between columns", "INSERT INTO t (b, c) VALUES ('x', 'y')", "UPDATE t SET b = c, c = b"),
    ("null and empty", "INSERT INTO t (b) VALUES (NULL)", "UPDATE t SET b = ''"),
    ("null in another column", "INSERT INTO t (b, c) VALUES ('x', NULL)", "UPDATE t SET b = NULL, c = 'x'"),
    ("bigints that fold to one", "INSERT INTO t (big) VALUES (0)", "UPDATE t SET big = 4294967297"),
    ("numeric scale", "INSERT INTO t (num) VALUES (1.0)", "UPDATE t SET num = 1.00"),
    ("float zero", "INSERT INTO t (flo) VALUES (0)", "UPDATE t SET flo = '-0'"),
    ("last digit of a float", "INSERT INTO t (flo) VALUES (0.1)", "UPDATE t SET flo = 0.10000000000000002"),
    ("interval", "INSERT INTO t (ival) VALUES ('1 day')", "UPDATE t SET ival = '24 hours'"),
    ("microsecond", "INSERT INTO t (at) VALUES ('2024-01-01 00:00:00.000001')", "UPDATE t SET at = '2024-01-01 00:00:00.000002'"),
    ("jsonb scale", "INSERT INTO t (jb) VALUES ('[1.0]')", "UPDATE t SET jb = '[1.00]'"),
    ("json space", "INSERT INTO t (js) VALUES ('[1]')", "UPDATE t SET js = '[1 ]'"),
    ("enum", "INSERT INTO t (en) VALUES ('a')", "UPDATE t SET en = 'b'"),
    ("enum in an array", "INSERT INTO t (ens) VALUES ('{a,b}')", "UPDATE t SET ens = '{b,a}'"),
    ("shape of an array", "INSERT INTO t (arr) VALUES ('{{1,2},{3,4}}')", "UPDATE t SET arr = '{1,2,3,4}'"),
    ("bounds of an array", "INSERT INTO t (arr) VALUES ('{1,2}')", "UPDATE t SET arr = '[0:1]={1,2}'"),
    ("case in a composite", "INSERT INTO t (pair) VALUES ('(1.0,x)')", "UPDATE t SET pair = '(1.00,x)'"),
    ("domain", "INSERT INTO t (dom) VALUES (1.0)", "UPDATE t SET dom = 1.00"),
    ("blanks at the end", "INSERT INTO t (chr) VALUES ('x')", "UPDATE t SET chr = 'x '"),
    ("bits", "INSERT INTO t (bits) VALUES ('10')", "UPDATE t SET bits = '100'"),
    ("point", "INSERT INTO t (pt) VALUES ('(0,0)')", "UPDATE t SET pt = '(0,-0)'"),
    (
        "toasted text",
        "INSERT INTO t (b) SELECT string_agg(md5(n::text), '') FROM generate_series(1, 5000) n",
        "UPDATE t SET b = overlay(b placing '!' from 90000)",
    ),
    ("stored generated column", "INSERT INTO t (a) VALUES (1)", "ALTER TABLE t DROP gen; ALTER TABLE t ADD gen int GENERATED ALWAYS AS (a + 2) STORED"),
]


@pytest.mark.parametrize(("fill", "change"), [pytest.param(fill, change, id=name) for name, fill, change in SENSITIVE])
def test_one_changed_value_shows(empty: t.Any, fill: str, change: str) -> None:
    execute(
        empty,
        "CREATE TYPE en AS ENUM ('a', 'b'); CREATE TYPE pair AS (n numeric, t text); CREATE DOMAIN dom AS numeric;"
        "CREATE TABLE t (a int, b text, c text, big bigint, num numeric, flo float8, ival interval, at timestamptz, jb jsonb, js json, en en, ens en[], arr int[],"
        " pair pair, dom dom, chr bpchar, bits varbit, pt point, gen int GENERATED ALWAYS AS (a + 1) STORED)",
    )
    execute(empty, fill)
    before = take(empty)
    assert take(empty)["digest"] == before["digest"]
    execute(empty, change)
    found = _comparison.compare(before, take(empty, columns_from=before))
    assert ("content_changed", "public.t") in [(each["kind"], each["object"]) for each in found]


def test_rows_that_come_go_and_move(empty: t.Any) -> None:
    execute(empty, "CREATE TABLE t (a int); INSERT INTO t SELECT generate_series(1, 100)")
    before = take(empty)
    execute(empty, "UPDATE t SET a = a WHERE a % 2 = 0")
    assert take(empty)["digest"] == before["digest"]
    execute(empty, "DELETE FROM t WHERE a = 7")
    (found,) = _comparison.compare(before, take(empty))
    assert found["text"] == "public.t has 1 row fewer than before (100, now 99)."
    execute(empty, "INSERT INTO t VALUES (8)")
    (found,) = _comparison.compare(before, take(empty))
    assert found["kind"] == "content_changed"


def test_case_under_a_collation_for_which_it_is_equal(empty: t.Any) -> None:
    try:
        execute(empty, "CREATE COLLATION nocase (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
    except psycopg2.Error as error:
        pytest.skip("this PostgreSQL has no ICU: %s" % error)
    execute(empty, "CREATE TABLE t (a text COLLATE nocase, b text[] COLLATE nocase); INSERT INTO t VALUES ('User', '{User}')")
    before = take(empty)
    execute(empty, "UPDATE t SET a = 'user'")
    between = take(empty)
    execute(empty, "UPDATE t SET b = '{user}'")
    hashes = [each["tables"]["public.t"]["hash"] for each in (before, between, take(empty))]
    assert len(set(hashes)) == 3


def test_text_of_an_extension_type(admin: t.Any, database: Make) -> None:
    conn = admin(database().dbname)
    try:
        execute(conn, "CREATE SCHEMA x; CREATE EXTENSION citext SCHEMA x")
    except psycopg2.Error as error:
        pytest.skip("no citext here: %s" % error)
    execute(conn, "CREATE TABLE t (a x.citext); INSERT INTO t VALUES ('User')")
    before = take(conn)
    assert not [name for name in before["schema"]["objects"] if "citext" in name and not name.endswith("extension citext")]
    execute(conn, "UPDATE t SET a = 'user'")
    assert [each["kind"] for each in _comparison.compare(before, take(conn))] == ["content_changed"]


def test_an_added_column_is_no_change_of_content(empty: t.Any) -> None:
    execute(empty, "CREATE TABLE users (id int, name text); INSERT INTO users VALUES (1, 'x')")
    before = take(empty)
    sql = "ALTER TABLE users ADD phone text DEFAULT '0'"
    execute(empty, sql)
    after = take(empty, columns_from=before)
    assert after["tables"]["public.users"] == before["tables"]["public.users"]
    found = _explain.explain(_comparison.compare(before, after), {"1_phone": sql})
    assert [(each["kind"], each["object"], each["explained_by"]) for each in found] == [("object_added", "column public.users.phone", ["1_phone"])]
    assert [each["kind"] for each in _comparison.compare(before, take(empty))] == ["content_not_compared", "object_added"]
    execute(empty, "ALTER TABLE users DROP name")
    assert "content_not_compared" in [each["kind"] for each in _comparison.compare(before, take(empty, columns_from=before))]


def test_rows_that_a_migration_took_along_without_naming_their_table(empty: t.Any) -> None:
    execute(
        empty,
        "CREATE TABLE users (id int PRIMARY KEY); CREATE TABLE orders (id int, user_id int REFERENCES users ON DELETE CASCADE);"
        "INSERT INTO users VALUES (1), (2); INSERT INTO orders VALUES (1, 1), (2, 2), (3, 2)",
    )
    before = take(empty)
    sql = "-- orders are not touched\nDELETE FROM users WHERE id = 2"
    execute(empty, sql)
    found = _explain.explain(_comparison.compare(before, take(empty)), {"1_clean": sql})
    assert [(each["object"], each["severity"]) for each in found] == [("public.orders", "finding"), ("public.users", "explained")]
    assert _explain.findings(found)[0]["text"] == (
        "public.orders has 2 rows fewer than before (3, now 1). A foreign key or a trigger may have taken them along: 1_clean names public.users."
    )


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ("ALTER TABLE t ALTER a TYPE bigint", "column public.t.a"),
        ("ALTER TABLE t ALTER a SET NOT NULL", "column public.t.a"),
        ("ALTER TABLE t ALTER a SET DEFAULT 5", "column public.t.a"),
        ("ALTER TABLE t DROP CONSTRAINT c", "constraint public.t.c"),
        ("ALTER TABLE t VALIDATE CONSTRAINT late", "constraint public.t.late"),
        ("DROP INDEX i", "index public.i on public.t"),
        ("ALTER TABLE t DISABLE TRIGGER g", "trigger g on public.t"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "table public.t"),
        ("ALTER TABLE t SET UNLOGGED", "table public.t"),
        ("ALTER POLICY p ON t USING (a > 1)", "policy p on public.t"),
        ("ALTER TYPE e ADD VALUE 'b'", "enum public.e"),
        ("ALTER TYPE e RENAME VALUE 'a' TO 'z'", "enum public.e"),
        ("ALTER SEQUENCE s INCREMENT 2", "sequence public.s"),
        ("CREATE OR REPLACE VIEW v AS SELECT a FROM t WHERE a > 0", "view public.v"),
        ("CREATE OR REPLACE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'", "function public.f()"),
        ("GRANT SELECT ON t TO PUBLIC", "grants table public.t"),
        ("REVOKE EXECUTE ON FUNCTION f() FROM PUBLIC", "grants function public.f()"),
        ("COMMENT ON COLUMN t.a IS 'x'", "comment table column public.t.a"),
        ("CREATE STATISTICS st ON a, b FROM t", "statistics public.st on public.t"),
        ("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC", "default privileges"),
        ("CREATE SCHEMA audit", "schema audit"),
    ],
)
def test_one_changed_definition_shows(empty: t.Any, change: str, key: str) -> None:
    execute(
        empty,
        "CREATE TABLE t (a int CONSTRAINT c CHECK (a > 0), b int); ALTER TABLE t ADD CONSTRAINT late CHECK (b > 0) NOT VALID; CREATE INDEX i ON t (a);"
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER g BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f();"
        "CREATE POLICY p ON t USING (true); CREATE TYPE e AS ENUM ('a'); CREATE SEQUENCE s; CREATE VIEW v AS SELECT b AS a FROM t",
    )
    if "TYPE bigint" in change or "REPLACE VIEW" in change:
        execute(empty, "DROP VIEW v; CREATE VIEW v AS SELECT a FROM t" if "VIEW" in change else "DROP VIEW v; DROP TRIGGER g ON t")
    before = take(empty, "schema")
    execute(empty, change)
    after = take(empty, "schema")
    assert any(each["object"].startswith(key) for each in _comparison.compare(before, after))
    assert before["digest"] != after["digest"]


def test_an_index_that_failed_to_build_shows(empty: t.Any) -> None:
    execute(empty, "CREATE TABLE t (a int); INSERT INTO t VALUES (1), (1)")
    with pytest.raises(psycopg2.Error):
        execute(empty, "CREATE UNIQUE INDEX CONCURRENTLY i ON t (a)")
    assert "INVALID" in take(empty, "schema")["schema"]["objects"]["index public.i on public.t"]


def test_concurrent_writes_do_not_disturb(database: Make) -> None:
    target = database()
    stop = threading.Event()
    with connection(target) as conn, connection(target) as holder:
        execute(conn, "CREATE TABLE t (id bigserial PRIMARY KEY, a int); INSERT INTO t (a) SELECT generate_series(1, 5000)")

        def write() -> None:
            with connection(target) as writer:
                while not stop.is_set():
                    execute(writer, "INSERT INTO t (a) VALUES (1); UPDATE t SET a = a + 1 WHERE id % 50 = 0; DELETE FROM t WHERE id % 97 = 0")

        execute(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        snapshot = (row(holder, "SELECT pg_export_snapshot()") or ("",))[0]
        thread = threading.Thread(target=write)
        thread.start()
        try:
            joined = [take(conn, snapshot=snapshot) for _each in range(3)]
            own = take(holder)
        finally:
            stop.set()
            thread.join()
        assert [each["tables"] for each in joined] == [own["tables"]] * 3
        # The holder's transaction goes on, with the settings that it had.
        assert row(holder, "SHOW row_security") == ("on",)
        assert own["tables"]["public.t"]["rows"] == 5000
        execute(holder, "COMMIT")
        assert take(conn)["tables"] != own["tables"]


def test_a_table_that_was_rewritten_under_the_snapshot_is_refused(database: Make) -> None:
    target = database()
    with connection(target) as conn, connection(target) as holder:
        execute(conn, "CREATE TABLE t (a int); INSERT INTO t VALUES (1)")
        execute(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SELECT 1")
        execute(conn, "TRUNCATE t")
        with pytest.raises(MigrationError) as caught:
            take(holder)
        assert caught.value.code == "FINGERPRINT_DISTURBED"
        assert caught.value.facts["table"] == "public.t"


def test_a_transaction_that_sees_more_than_one_moment_is_refused(empty: t.Any) -> None:
    execute(empty, "BEGIN")
    with pytest.raises(MigrationError, match="one moment"):
        take(empty)


def test_rows_that_a_policy_hides_are_an_error(admin: t.Any, database: Make) -> None:
    target = database()
    conn = admin(target.dbname)
    execute(conn, "CREATE SCHEMA s; CREATE TABLE s.t (a int); INSERT INTO s.t VALUES (1), (2); ALTER TABLE s.t ENABLE ROW LEVEL SECURITY")
    execute(conn, "CREATE POLICY p ON s.t USING (a = 1); GRANT USAGE ON SCHEMA s TO PUBLIC; GRANT SELECT ON s.t TO PUBLIC")
    with connection(target) as plain:
        with pytest.raises(MigrationError) as caught:
            take(plain)
        assert (caught.value.code, caught.value.facts["table"]) == ("PERMISSION_DENIED", "s.t")
        assert take(plain, skip_tables=["s.t"])["tables"] == {}
    execute(conn, "REVOKE SELECT ON s.t FROM PUBLIC")
    with connection(target) as plain:
        with pytest.raises(MigrationError) as caught:
            take(plain, "counts")
        assert caught.value.code == "PERMISSION_DENIED"
        # The connection is as good as before.
        assert row(plain, "SELECT 1") == (1,)


def test_large_objects(empty: t.Any) -> None:
    execute(empty, "SELECT lo_from_bytea(9001, 'one'), lo_from_bytea(9002, 'two')")
    before = take(empty)
    assert before["large_objects"]["count"] == 2
    execute(empty, "SELECT lo_put(9002, 0, 'TWO')")
    assert [each["kind"] for each in _comparison.compare(before, take(empty))] == ["large_objects_changed"]
    execute(empty, "SELECT lo_unlink(9001)")
    assert [each["kind"] for each in _comparison.compare(before, take(empty, "counts"))] == ["large_objects_fewer"]


def test_who_may_use_a_large_object(admin: t.Any, database: Make) -> None:
    target = database()
    conn = admin(target.dbname)
    execute(conn, "SELECT lo_from_bytea(9001, 'one'), lo_from_bytea(9002, 'two')")
    steps = [
        'ALTER LARGE OBJECT 9001 OWNER TO "%s"' % target.user,
        "GRANT SELECT ON LARGE OBJECT 9002 TO PUBLIC",
        'GRANT UPDATE ON LARGE OBJECT 9002 TO "%s" WITH GRANT OPTION' % target.user,
        'REVOKE GRANT OPTION FOR UPDATE ON LARGE OBJECT 9002 FROM "%s"' % target.user,
        "REVOKE ALL ON LARGE OBJECT 9002 FROM CURRENT_USER",
    ]
    for step in steps:
        before = take(conn)
        execute(conn, step)
        after = take(conn)
        assert [each["kind"] for each in _comparison.compare(before, after)] == ["large_objects_changed"], step
        assert before["large_objects"]["hash"] == after["large_objects"]["hash"] and before["digest"] != after["digest"]
    # The rights of two exchanged.
    execute(conn, "SELECT lo_from_bytea(9004, 'same'), lo_from_bytea(9005, 'same'); GRANT SELECT ON LARGE OBJECT 9004 TO PUBLIC")
    before = take(conn)
    execute(conn, "REVOKE SELECT ON LARGE OBJECT 9004 FROM PUBLIC; GRANT SELECT ON LARGE OBJECT 9005 TO PUBLIC")
    assert [each["kind"] for each in _comparison.compare(before, take(conn))] == ["large_objects_changed"]
    # Written out what was the default: nobody may do anything else than before.
    execute(conn, "SELECT lo_unlink(9002), lo_from_bytea(9003, 'three')")
    before = take(conn)
    execute(conn, "GRANT SELECT ON LARGE OBJECT 9003 TO PUBLIC; REVOKE SELECT ON LARGE OBJECT 9003 FROM PUBLIC")
    assert take(conn)["digest"] == before["digest"]


def test_what_is_not_looked_at(admin: t.Any, database: Make) -> None:
    conn = admin(database().dbname)
    execute(
        conn,
        "CREATE TABLE kept (a int); CREATE UNLOGGED TABLE fast (a int); CREATE TEMP TABLE temp (a int); CREATE SEQUENCE kept_s; CREATE TEMP SEQUENCE temp_s",
    )
    with contextlib.suppress(psycopg2.Error):
        execute(conn, "CREATE EXTENSION file_fdw; CREATE SERVER files FOREIGN DATA WRAPPER file_fdw")
        execute(conn, "CREATE FOREIGN TABLE far (a text) SERVER files OPTIONS (filename '/nowhere')")
    found = take(conn)
    assert sorted(found["tables"]) == ["public.fast", "public.kept"]
    assert list(found["sequences"]) == ["public.kept_s"]
    assert not [name for name in found["schema"]["objects"] if "temp" in name]


def test_many_tables_need_no_more_locks_than_few(empty: t.Any) -> None:
    execute(empty, "DO $$ BEGIN FOR n IN 1..1100 LOOP EXECUTE format('CREATE TABLE t%s (a int)', n); IF n % 200 = 0 THEN COMMIT; END IF; END LOOP; END $$")
    execute(empty, "BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert len(take(empty, "counts")["tables"]) == 1100
    assert (row(empty, "SELECT count(*) FROM pg_locks WHERE locktype = 'relation' AND pid = pg_backend_pid()") or (0,))[0] < 300


def test_the_module_end_to_end(module: t.Any, database: Make, scratch: pathlib.Path) -> None:
    target = database()
    dest, migrations = scratch / "before.json", scratch / "migrations"
    (migrations / "1_clean").mkdir(parents=True)
    (migrations / "1_clean" / "migration.sql").write_text("DELETE FROM users WHERE name = 'canary-1'", encoding="utf-8")
    with connection(target) as conn:
        execute(conn, "CREATE TABLE users (name text); CREATE TABLE notes (name text); INSERT INTO users VALUES ('canary-1'), ('canary-2')")
        execute(conn, "INSERT INTO notes VALUES ('canary-3')")
        predicted = module("database_fingerprint", target, dest=str(dest), check=True)
        assert predicted["changed"] and not dest.exists()
        first = module("database_fingerprint", target, dest=str(dest))
        assert (first["changed"], first["tables"], first["rows"], first["differences"]) == (True, 2, 3, [])
        assert dest.stat().st_mode & 0o777 == 0o600
        assert json.loads(dest.read_text())["digest"] == first["digest"] == predicted["digest"]
        assert not module("database_fingerprint", target, dest=str(dest))["changed"]
        assert not module("database_fingerprint", target, dest=str(dest), check=True)["changed"]
        # The limits of the database are for the application: whoever reads all of it for a verdict is not stopped by them.
        execute(conn, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 1', current_database()); END $$")
        assert module("database_fingerprint", target)["rows"] == 3
        execute(conn, "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I RESET statement_timeout', current_database()); END $$")
        execute(conn, "DELETE FROM users WHERE name = 'canary-1'; UPDATE notes SET name = 'canary-4'")
    options = {"compare_with": str(dest), "migrations_dir": str(migrations), "applied": ["1_clean"]}
    second = module("database_fingerprint", target, **options)
    assert [(each["object"], each["severity"]) for each in second["differences"]] == [("public.notes", "finding"), ("public.users", "explained")]
    assert [each["object"] for each in second["findings"]] == ["public.notes"]
    strict = module("database_fingerprint", target, strict=True, **options)
    assert (strict["failed"], strict["code"], len(strict["differences"])) == (True, "FINGERPRINT_MISMATCH", 2)
    assert "canary" not in json.dumps([first, second, strict]) + dest.read_text()
    assert sorted(path.name for path in scratch.iterdir()) == ["before.json", "migrations"]


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"compare_with": "nowhere.json"}, "OPTION_INVALID"),
        ({"compare_with": "other.json"}, "OPTION_INVALID"),
        ({"dest": "other.json"}, "OPTION_INVALID"),
        ({"dest": "no/such/folder.json"}, "RECORD_UNWRITABLE"),
        ({"migrations_dir": "", "applied": ["../x"]}, "UNKNOWN_MIGRATION"),
    ],
)
def test_files_that_cannot_be_used(module: t.Any, database: Make, scratch: pathlib.Path, options: dict[str, t.Any], code: str) -> None:
    (scratch / "other.json").write_text('{"mine": 1}', encoding="utf-8")
    result = module("database_fingerprint", database(), **{name: str(scratch / value) if isinstance(value, str) else value for name, value in options.items()})
    assert (result["failed"], result["code"]) == (True, code)
    assert (scratch / "other.json").read_text() == '{"mine": 1}'
