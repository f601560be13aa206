# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Checks of a real database: each names what was planted, and nothing where nothing was."""

from __future__ import annotations

import pathlib
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _checks_catalog as checks
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.restorepoints import execute

from tools.pgserver import Cluster

SCHEMA = """
CREATE SCHEMA app;
CREATE TABLE "User" (id serial PRIMARY KEY, email text UNIQUE);
CREATE TABLE app.pets (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, owner int REFERENCES "User", email text REFERENCES "User" (email), code int DEFAULT 1);
CREATE TABLE pairs (a int, b int, PRIMARY KEY (a, b));
CREATE TABLE of_pairs (id int, a int, b int, FOREIGN KEY (a, b) REFERENCES pairs MATCH FULL, UNIQUE (id));
CREATE SEQUENCE app.down INCREMENT -1;
CREATE TABLE counts (n smallint DEFAULT nextval('app.down'));
CREATE TABLE parted (id int, "User" int REFERENCES "User") PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
INSERT INTO "User" (email) SELECT g || '@example.org' FROM generate_series(1, 20) g;
INSERT INTO app.pets (owner, email) SELECT g, g || '@example.org' FROM generate_series(1, 20) g;
INSERT INTO app.pets (owner) VALUES (NULL);
INSERT INTO pairs VALUES (1, 1);
INSERT INTO of_pairs VALUES (1, 1, 1), (2, NULL, NULL);
INSERT INTO counts DEFAULT VALUES;
INSERT INTO parted VALUES (1, 7), (1, NULL);
"""


@pytest.fixture
def target(database: t.Any) -> t.Any:
    made = database()
    execute(made, SCHEMA)
    return made


@pytest.fixture
def superuser(admin: t.Any, target: t.Any) -> t.Callable[..., None]:
    """Run a statement as somebody who may break a database."""

    def run(*statements: str) -> None:
        with admin(target.dbname).cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    return run


def ask(target: t.Any, check: t.Callable[..., checks.Check], *args: t.Any) -> checks.Check:
    with connection(target, read_only=True) as conn:
        return check(conn, *args)


@pytest.mark.parametrize("check", [checks.invalid_indexes, checks.foreign_keys, checks.sequences, checks.disabled_triggers, checks.constraints])
def test_a_sound_database_passes(target: t.Any, check: t.Callable[..., checks.Check]) -> None:
    found = ask(target, check)
    assert (found.verdict, found.evidence) == ("pass", ()), found.text


def test_an_empty_database_passes(database: t.Any) -> None:
    empty = database()
    assert [ask(empty, check).text for check in (checks.foreign_keys, checks.sequences)] == ["There is no foreign key.", "There is no sequence."]


def test_an_index_that_was_left_invalid(target: t.Any) -> None:
    with pytest.raises(psycopg2.errors.UniqueViolation):
        execute(target, "INSERT INTO app.pets (code) VALUES (1)", "CREATE UNIQUE INDEX CONCURRENTLY one_code ON app.pets (code)")
    found = ask(target, checks.invalid_indexes)
    assert found.verdict == "fail" and "app.one_code" in found.text and found.evidence[0]["table"] == "app.pets"
    known = ask(target, checks.invalid_indexes, ["app.one_code"])
    assert known.verdict == "warn" and known.evidence[0]["known"] is True


@pytest.mark.parametrize(
    ("plant", "constraint", "count", "keys"),
    [
        ("UPDATE app.pets SET owner = 999 WHERE id IN (3, 4)", "pets_owner_fkey", 2, [["999"], ["999"]]),
        ('DELETE FROM "User" WHERE id = 20', "pets_owner_fkey", 1, [["20"]]),
        # An e-mail address is no mere key.
        ("UPDATE app.pets SET email = 'gone@example.org' WHERE id = 3", "pets_email_fkey", 1, []),
        ("INSERT INTO of_pairs VALUES (3, 1, NULL)", "of_pairs_a_b_fkey", 1, [["1", None]]),
        ("INSERT INTO parted VALUES (1, 77)", "parted_User_fkey", 1, [["77"]]),
    ],
)
def test_rows_that_refer_to_nothing(target: t.Any, superuser: t.Any, plant: str, constraint: str, count: int, keys: list[t.Any]) -> None:
    superuser("SET session_replication_role = replica", plant, "RESET session_replication_role")
    found = ask(target, checks.foreign_keys)
    by_name = {each["constraint"]: each for each in found.evidence}
    assert found.verdict == "fail" and constraint in found.text
    assert (by_name[constraint]["violations"], by_name[constraint]["keys"], by_name[constraint]["validated"]) == (count, keys, True)
    assert "example.org" not in str(found), "no row content"


def test_a_key_that_is_not_validated_says_whether_rows_violate_it(target: t.Any) -> None:
    add = 'ALTER TABLE counts ADD owner int; ALTER TABLE counts ADD CONSTRAINT later FOREIGN KEY (owner) REFERENCES "User" NOT VALID'
    execute(target, add)
    clean = ask(target, checks.foreign_keys)
    assert clean.verdict == "fail" and "No row violates them now" in clean.text and clean.evidence[0]["violations"] == 0
    execute(target, "ALTER TABLE counts DROP CONSTRAINT later", "UPDATE counts SET owner = 5000", add.partition("; ")[2])
    broken = ask(target, checks.foreign_keys)
    assert "later of counts (1 rows, for example 5000)" in broken.text


@pytest.mark.parametrize(
    ("plant", "name", "next_value"),
    [
        ("SELECT setval('\"User_id_seq\"', 3)", 'public."User_id_seq"', 4),
        ("SELECT setval('\"User_id_seq\"', 20, false)", 'public."User_id_seq"', 20),
        ("INSERT INTO app.pets (id) OVERRIDING SYSTEM VALUE VALUES (500)", "app.pets_id_seq", 22),
        ("INSERT INTO counts VALUES (-9)", "app.down", -2),
    ],
)
def test_a_sequence_that_is_behind(target: t.Any, plant: str, name: str, next_value: int) -> None:
    execute(target, plant)
    found = ask(target, checks.sequences)
    assert found.verdict == "fail" and [(each["sequence"], each["next"]) for each in found.evidence] == [(name, next_value)]


def test_a_sequence_that_is_just_ahead_passes(target: t.Any) -> None:
    execute(target, "SELECT setval('\"User_id_seq\"', 21, false)")
    assert ask(target, checks.sequences).verdict == "pass"


@pytest.mark.parametrize(
    ("plant", "name", "limit"),
    [
        ("SELECT setval('\"User_id_seq\"', 2147483647)", 'public."User_id_seq"', 2147483647),
        ("ALTER SEQUENCE app.pets_id_seq MAXVALUE 21", "app.pets_id_seq", 21),
        # The sequence could go on, the column cannot.
        ("ALTER SEQUENCE app.down RESTART -32769", "app.down", -32768),
    ],
)
def test_a_sequence_that_has_no_number_left(target: t.Any, plant: str, name: str, limit: int) -> None:
    execute(target, plant)
    found = ask(target, checks.sequences)
    assert found.verdict == "fail" and [(each["sequence"], each["limit"], each["exhausted"]) for each in found.evidence] == [(name, limit, True)]
    assert "The next INSERT fails" in found.text and "exhausted" in found.text


def test_the_last_number_of_a_sequence_and_one_that_cycles_pass(target: t.Any) -> None:
    execute(target, "SELECT setval('\"User_id_seq\"', 2147483646)", "ALTER SEQUENCE app.down MINVALUE -2 CYCLE", "SELECT setval('app.down', -2)")
    assert ask(target, checks.sequences).verdict == "pass"


def test_a_sequence_that_no_default_uses_any_more_passes(target: t.Any) -> None:
    execute(target, 'ALTER TABLE "User" ALTER id DROP DEFAULT', "SELECT setval('\"User_id_seq\"', 3)")
    assert ask(target, checks.sequences).verdict == "pass"
    execute(target, 'ALTER TABLE "User" ALTER id SET DEFAULT (extract(epoch FROM clock_timestamp()))::int')
    assert ask(target, checks.sequences).verdict == "pass"


@pytest.mark.parametrize(
    "default",
    [
        "nextval(('\"User_id_seq\"'::text)::regclass)", "app.next_id()",
    ],
)  # fmt: skip
def test_a_sequence_that_its_default_names_without_depending_on_it(target: t.Any, default: str) -> None:
    execute(
        target,
        "CREATE FUNCTION app.next_id() RETURNS int LANGUAGE sql AS $$SELECT nextval('\"User_id_seq\"')::int$$",
        'ALTER TABLE "User" ALTER id SET DEFAULT %s' % default,
        "SELECT setval('\"User_id_seq\"', 3)",
    )
    assert [each["next"] for each in ask(target, checks.sequences).evidence] == [4]


def test_a_check_constraint_that_is_not_validated_or_no_longer_holds(target: t.Any) -> None:
    execute(
        target,
        """ALTER TABLE "User" ADD CONSTRAINT long CHECK (email LIKE '%@nowhere') NOT VALID""",
        "ALTER TABLE pairs ADD CONSTRAINT plus CHECK (a > 0) NOT VALID",
    )
    found = ask(target, checks.constraints)
    assert found.name == "check_constraints" and found.verdict == "fail"
    assert [(each["constraint"], each["table"], each["validated"], each["violations"]) for each in found.evidence] == [
        ("long", '"User"', False, 20), ("plus", "pairs", False, 0),
    ]  # fmt: skip
    assert 'long of "User" (not validated, 20 rows violate it)' in found.text and "example.org" not in str(found)
    execute(target, 'ALTER TABLE "User" DROP CONSTRAINT long', "ALTER TABLE pairs VALIDATE CONSTRAINT plus")
    assert ask(target, checks.constraints).text == "1 CHECK constraint is validated."
    execute(
        target,
        "CREATE FUNCTION app.good(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 0'",
        "ALTER TABLE pairs ADD CONSTRAINT called CHECK (app.good(b))",
        "CREATE OR REPLACE FUNCTION app.good(int) RETURNS bool LANGUAGE sql AS 'SELECT $1 > 1'",
        "CREATE DOMAIN app.age AS int",
        "ALTER DOMAIN app.age ADD CONSTRAINT old CHECK (VALUE < 150) NOT VALID",
    )
    found = ask(target, checks.constraints)
    assert {(each["constraint"], each["table"], each["validated"], each["violations"]) for each in found.evidence} == {
        ("called", "pairs", True, 1), ("old", "app.age", False, None),
    }  # fmt: skip
    assert "old of app.age (not validated, rows not looked at)" in found.text


def test_not_null_that_is_not_validated(tmp_path: pathlib.Path) -> None:
    """Since PostgreSQL 18."""
    with Cluster(tmp_path / "server", source="wheel18", fast=True, temporary=True) as server:
        target = Target(dbname="postgres", host="127.0.0.1", port=server.port, user=server.superuser, password=server.password)
        execute(
            target,
            "CREATE TABLE t (a int, b int NOT NULL)",
            "INSERT INTO t VALUES (NULL, 1), (1, 1)",
            "ALTER TABLE t ADD CONSTRAINT later NOT NULL a NOT VALID",
        )
        found = ask(target, checks.constraints)
        assert found.verdict == "fail" and "later of t (not validated, 1 rows violate it)" in found.text
        execute(target, "DELETE FROM t WHERE a IS NULL", "ALTER TABLE t VALIDATE CONSTRAINT later")
        assert ask(target, checks.constraints).text == "There is no CHECK constraint."


def test_a_trigger_that_fires_for_replication_only(target: t.Any, superuser: t.Any) -> None:
    execute(
        target,
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER audit BEFORE UPDATE ON app.pets FOR EACH ROW EXECUTE FUNCTION f()",
    )
    superuser("ALTER TABLE app.pets ENABLE ALWAYS TRIGGER audit")
    assert ask(target, checks.disabled_triggers).verdict == "pass"
    superuser("ALTER TABLE app.pets ENABLE REPLICA TRIGGER audit")
    found = ask(target, checks.disabled_triggers, ["audit on app.pets"])
    assert found.verdict == "fail" and "audit on app.pets (fires for replication only)" in found.text, "then it was disabled, now it is something else"
    assert found.evidence[0]["state"] == "replica"
    assert ask(target, checks.disabled_triggers, ["audit on app.pets (replica)"]).verdict == "warn"
    superuser(
        "DO $$ DECLARE name text; BEGIN FOR name IN SELECT tgname FROM pg_trigger WHERE tgrelid = 'app.pets'::regclass AND tgisinternal"
        " LOOP EXECUTE format('ALTER TABLE app.pets ENABLE REPLICA TRIGGER %I', name); END LOOP; END $$"
    )
    found = ask(target, checks.disabled_triggers, ["audit on app.pets (replica)"])
    assert found.verdict == "fail" and "pets_owner_fkey on app.pets (fires for replication only)" in found.text


def test_a_disabled_trigger(target: t.Any, superuser: t.Any) -> None:
    execute(
        target,
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER audit BEFORE UPDATE ON app.pets FOR EACH ROW EXECUTE FUNCTION f()",
        "ALTER TABLE app.pets DISABLE TRIGGER audit",
    )
    found = ask(target, checks.disabled_triggers)
    assert found.verdict == "fail" and "audit on app.pets" in found.text
    assert ask(target, checks.disabled_triggers, ["audit on app.pets"]).verdict == "warn"
    superuser("ALTER TABLE app.pets DISABLE TRIGGER ALL")
    found = ask(target, checks.disabled_triggers, ["audit on app.pets"])
    assert found.verdict == "fail" and "pets_owner_fkey on app.pets" in found.text


def test_shadow_databases_that_nobody_is_in(cluster: t.Any, target: t.Any, superuser: t.Any, admin: t.Any) -> None:
    name = "prisma_migrate_shadow_db_3f7a"
    assert ask(target, checks.shadow_databases).verdict == "pass"
    superuser('CREATE DATABASE "%s"' % name)
    try:
        found = ask(target, checks.shadow_databases)
        assert found.verdict == "warn" and name in found.text
        admin(name)
        assert ask(target, checks.shadow_databases).verdict == "pass", "one that is in use is not orphaned"
    finally:
        superuser('DROP DATABASE "%s" WITH (FORCE)' % name)


def test_what_cannot_be_read_holds_up_none_of_the_others(target: t.Any, superuser: t.Any) -> None:
    superuser("SET session_replication_role = replica", "INSERT INTO of_pairs VALUES (3, 1, NULL)", "RESET session_replication_role")
    execute(
        target,
        'ALTER TABLE counts ADD owner int, ADD CONSTRAINT "Later" FOREIGN KEY (owner) REFERENCES "User" NOT VALID, ADD CONSTRAINT "Plus" CHECK (n > -9) NOT VALID',
        "SELECT setval('\"User_id_seq\"', 3)",
    )
    # One table nobody may read, and of the other row security hides rows.
    superuser("ALTER TABLE counts OWNER TO CURRENT_USER", "ALTER TABLE parted ENABLE ROW LEVEL SECURITY", "ALTER TABLE parted OWNER TO CURRENT_USER",
              "GRANT SELECT ON parted TO PUBLIC")  # fmt: skip
    with connection(target, read_only=True, settings={"row_security": "off"}) as conn:
        keys, bounds, numbers = checks.foreign_keys(conn), checks.constraints(conn), checks.sequences(conn)
    assert keys.verdict == "fail" and "of_pairs_a_b_fkey of of_pairs (1 rows" in keys.text, keys.text
    assert "Not validated: Later of counts (its rows cannot be looked at: PERMISSION_DENIED)" in keys.text
    assert "Not looked at: parted_User_fkey of parted (PERMISSION_DENIED)." in keys.text
    assert bounds.verdict == "fail" and "Plus of counts (not validated, rows not looked at: PERMISSION_DENIED)" in bounds.text
    assert numbers.verdict == "fail" and "Not looked at: app.down (PERMISSION_DENIED)." in numbers.text
    execute(target, "SELECT setval('\"User_id_seq\"', 30)")
    numbers = ask(target, checks.sequences)
    assert (numbers.verdict, numbers.text) == ("skipped", "2 of 3 sequences are ahead of their columns. Not looked at: app.down (PERMISSION_DENIED).")


def test_what_takes_too_long_is_given_up_and_what_the_catalogue_knows_is_told(target: t.Any, superuser: t.Any) -> None:
    execute(target, 'ALTER TABLE counts ADD owner int, ADD CONSTRAINT later FOREIGN KEY (owner) REFERENCES "User" NOT VALID')
    # All that this operator is for takes a second.
    superuser(
        "CREATE FUNCTION slow(int, int) RETURNS bool LANGUAGE plpgsql AS 'BEGIN PERFORM pg_sleep(1); RETURN $1 = $2; END'",
        *('ALTER TABLE "User" ADD CONSTRAINT slow_%d CHECK (slow(id, id)) NOT VALID' % number for number in range(5)),
        "ALTER TABLE of_pairs ADD CONSTRAINT wrong CHECK (id > 1) NOT VALID",
    )
    with connection(target, read_only=True, settings={"statement_timeout": "200ms"}) as conn:
        found = checks.constraints(conn)
        with connection(target) as other, other.cursor() as cursor:
            cursor.execute('BEGIN; LOCK TABLE "User"')
            keys = checks.foreign_keys(conn)
    assert found.verdict == "fail" and len(found.evidence) == 6 and {each["validated"] for each in found.evidence} == {False}
    assert 'slow_0 of "User" (not validated, rows not looked at: it takes longer than 200ms, see verification_check_timeout)' in found.text
    assert [each["problem"] for each in found.evidence if each["constraint"] == "slow_4"] == ["the time is up"]
    assert keys.verdict == "fail" and "later of counts (its rows cannot be looked at" in keys.text and "VALIDATE CONSTRAINT later" not in keys.text


def test_temporary_tables_of_other_sessions_are_theirs(target: t.Any) -> None:
    with connection(target) as other:
        with other.cursor() as cursor:
            cursor.execute("CREATE FUNCTION yes(int) RETURNS bool LANGUAGE sql AS 'SELECT true'")
            cursor.execute("CREATE TEMP TABLE one (a int PRIMARY KEY); CREATE TEMP TABLE two (a int REFERENCES one, b int CHECK (yes(b)))")
        assert [ask(target, check).verdict for check in (checks.foreign_keys, checks.constraints)] == ["pass", "pass"]


def test_the_statement_that_mends_can_be_typed(target: t.Any, superuser: t.Any) -> None:
    execute(
        target,
        'CREATE SCHEMA "My App"',
        'CREATE TABLE "My App"."Orders" ("Id" int GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY, "User" int)',
        'ALTER TABLE "My App"."Orders" ADD CONSTRAINT "Of User" FOREIGN KEY ("User") REFERENCES "User" NOT VALID, ADD CONSTRAINT "A plus" CHECK ("User" > 0) NOT VALID',
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        'CREATE TRIGGER "On Change" BEFORE UPDATE ON "My App"."Orders" FOR EACH ROW EXECUTE FUNCTION f()',
        'ALTER TABLE "My App"."Orders" DISABLE TRIGGER "On Change"',
        'INSERT INTO "My App"."Orders" VALUES (1, 1)',
    )
    for check, start in (
        (checks.foreign_keys, "ALTER TABLE"),
        (checks.constraints, "ALTER TABLE"),
        (checks.disabled_triggers, "ALTER TABLE"),
        (checks.sequences, "SELECT setval"),
    ):
        found = ask(target, check)
        assert found.verdict == "fail", found
        execute(target, start + found.text.rpartition(start)[2].rstrip("."))
        assert ask(target, check).verdict == "pass", found.text
    superuser('CREATE TABLE mixed (a int REFERENCES "User")', "ALTER TABLE mixed DISABLE TRIGGER ALL")
    text = ask(target, checks.disabled_triggers).text
    assert text.endswith("Enable them: ALTER TABLE mixed ENABLE TRIGGER ALL (as a superuser).")


def test_an_index_of_a_partitioned_table_that_a_partition_has_not(target: t.Any) -> None:
    execute(target, "CREATE INDEX on_all ON ONLY parted (id)")
    found = ask(target, checks.invalid_indexes)
    assert found.verdict == "fail" and found.text == (
        "1 index is invalid: on_all. It is not on every partition of parted yet: build the missing ones, then ALTER INDEX on_all ATTACH PARTITION <index>."
    )
    execute(target, "CREATE INDEX on_one ON parted_1 (id)", "ALTER INDEX on_all ATTACH PARTITION on_one")
    assert ask(target, checks.invalid_indexes).verdict == "pass"


def test_a_sequence_that_fills_a_partitioned_table_or_a_domain(target: t.Any) -> None:
    execute(
        target,
        "CREATE DOMAIN app.number AS int CHECK (VALUE > 0)",
        "CREATE SEQUENCE app.numbers",
        "CREATE TABLE app.numbered (id app.number DEFAULT nextval('app.numbers'))",
        "INSERT INTO app.numbered VALUES (5)",
        "CREATE TABLE events (id serial, at int) PARTITION BY RANGE (at)",
        "CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10)",
        "CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20)",
        "INSERT INTO events VALUES (7, 5), (9, 15)",
    )
    found = ask(target, checks.sequences)
    assert found.verdict == "fail" and [(each["sequence"], each["table"], each["reached"]) for each in found.evidence] == [
        ("app.numbers", "app.numbered", 5), ("public.events_id_seq", "public.events", 9),
    ]  # fmt: skip
    assert found.text.startswith("2 sequences are behind")


def test_keys_of_odd_shapes_that_are_sound_pass(target: t.Any) -> None:
    execute(
        target,
        'CREATE TABLE "A b" ("X y" int, z text, at date, PRIMARY KEY ("X y", z, at)) PARTITION BY RANGE (at)',
        "CREATE TABLE a_b_1 PARTITION OF \"A b\" FOR VALUES FROM ('2024-01-01') TO ('2025-01-01')",
        "CREATE TABLE refs (x bigint, z text, at date, self int UNIQUE, up int REFERENCES refs (self) DEFERRABLE INITIALLY DEFERRED,"
        ' FOREIGN KEY (x, z, at) REFERENCES "A b" DEFERRABLE INITIALLY DEFERRED)',
        "INSERT INTO \"A b\" VALUES (1, 'a', '2024-05-01')",
        "INSERT INTO refs VALUES (1, 'a', '2024-05-01', 1, 2), (9, NULL, '2024-05-01', 2, NULL), (NULL, NULL, NULL, 3, 3)",
    )
    found = ask(target, checks.foreign_keys)
    assert found.verdict == "pass", found
