# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A migration explains what its statements can cause in what they name, and nothing else."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _touch_reach
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._explain import BY_LEDGER, explain, findings

USERS = 'public."User"'


def difference(kind: str, name: str = USERS, before: t.Any = 5, after: t.Any = 3, subjects: t.Sequence[str] | None = None, **more: t.Any) -> dict[str, t.Any]:
    return {"kind": kind, "object": name, "before": before, "after": after, "text": "It differs.", "subjects": list(subjects or [name]), **more}


def severity(script: str, **about: t.Any) -> str:
    (found,) = explain([difference(**about)], {"m": script}, objects={'column public."User".role': "app.role not null", 'column public."Pet".kind': "text"})
    assert found["explained_by"] == (["m"] if found["severity"] == "explained" else [])
    return str(found["severity"])


@pytest.mark.parametrize(
    ("script", "kinds"),
    [
        ('INSERT INTO "User" (id) VALUES (1)', {"rows_more"}),
        ('INSERT INTO public."User" (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET id = 2', {"rows_more", "content_changed"}),
        ('COPY "User" FROM STDIN', {"rows_more"}),
        ('UPDATE ONLY "User" SET name = 1', {"content_changed"}),
        ('DELETE FROM "User" WHERE id = 1', {"rows_fewer"}),
        ('TRUNCATE "Pet", ONLY public."User"', {"rows_fewer"}),
        ('TRUNCATE "User" RESTART IDENTITY', {"rows_fewer", "sequence_back"}),
        ('MERGE INTO "User" u USING "Pet" p ON u.id = p.id WHEN MATCHED THEN DELETE', {"rows_more", "rows_fewer", "content_changed"}),
        ('WITH gone AS (DELETE FROM "User" RETURNING *) INSERT INTO "Pet" SELECT * FROM gone', {"rows_fewer"}),
        ('WITH some AS (SELECT * FROM "Pet") UPDATE "User" SET name = some.name FROM some', {"content_changed"}),
        # Another table's rows are written, whatever is read.
        ('INSERT INTO "Pet" SELECT * FROM "User"', set()),
        ('UPDATE "Pet" SET name = u.name FROM "User" u', set()),
        ('DELETE FROM "Pet" USING "User" u WHERE u.id = "Pet".id', set()),
        ('SELECT * FROM "User" FOR UPDATE', set()),
        ('SELECT purge("User".id) FROM "User"', {"rows_more", "rows_fewer", "content_changed", "content_not_compared", "table_gone", "sequence_back"}),
        ('SELECT setval(\'"User_id_seq"\', (SELECT max(id) FROM "User"))', {"sequence_back"}),
        ('ALTER TABLE "User" ADD COLUMN bio text', set()),
        ('ALTER TABLE "User" ADD CONSTRAINT fk FOREIGN KEY (a) REFERENCES "Pet"(id) ON DELETE CASCADE ON UPDATE CASCADE', set()),
        ('CREATE INDEX i ON "User" (name)', set()),
        ('ALTER TABLE "User" DROP COLUMN bio', {"content_not_compared"}),
        ('ALTER TABLE "User" ALTER COLUMN bio TYPE varchar(5) USING left(bio, 5)', {"content_changed", "content_not_compared"}),
        ('ALTER TABLE "User" RENAME TO "Person"', {"table_gone", "content_not_compared"}),
        ('ALTER TABLE "User" RENAME COLUMN a TO b', {"content_not_compared"}),
        ('DROP TABLE "User"', {"table_gone", "rows_fewer", "content_not_compared", "sequence_back"}),
        ("ALTER TYPE app.role RENAME VALUE 'a' TO 'b'", {"content_changed"}),
        ("ALTER TYPE app.role ADD VALUE 'c'", set()),
        ('-- DELETE FROM "User"\nSELECT 1', set()),
        ("INSERT INTO log VALUES ('DELETE FROM \"User\"')", set()),
        ('DO $$ BEGIN DELETE FROM "User"; END $$', {"rows_fewer"}),
        (
            "DO $$ BEGIN EXECUTE 'DELETE FROM \"User\"'; END $$",
            {"rows_more", "rows_fewer", "content_changed", "content_not_compared", "table_gone", "sequence_back"},
        ),
        ('DO $$ BEGIN IF NOT EXISTS (SELECT FROM x) THEN ALTER TABLE "User" ADD CONSTRAINT c CHECK (id > 0); END IF; END $$', set()),
        # As Prisma changes a type that it cannot cast.
        ('ALTER TABLE "User" DROP COLUMN "at",\nADD COLUMN     "at" INTEGER NOT NULL', {"content_not_compared", "content_changed"}),
        (
            'ALTER TABLE "User" ADD nid uuid; ALTER TABLE "User" DROP COLUMN id; ALTER TABLE "User" RENAME COLUMN nid TO id',
            {"content_not_compared", "content_changed"},
        ),
        ('ALTER TABLE "User" DROP COLUMN a, ADD COLUMN b int', {"content_not_compared"}),
        ('ALTER TABLE "User" ADD COLUMN type text', set()),
        ('ALTER TABLE "User" ALTER bio SET DATA TYPE text', {"content_not_compared", "content_changed"}),
        ('ALTER TABLE "User" ADD up text GENERATED ALWAYS AS (lower(name)) STORED', set()),
        # Seeded anew, in as many rows or not.
        ('TRUNCATE "User" RESTART IDENTITY; INSERT INTO "User" VALUES (1)', {"rows_more", "rows_fewer", "content_changed", "sequence_back"}),
        ('WITH d AS (DELETE FROM "User" RETURNING *) INSERT INTO "User" SELECT * FROM d', {"rows_more", "rows_fewer", "content_changed"}),
        (
            'CREATE TABLE new_user AS SELECT * FROM "User"; DROP TABLE "User"; ALTER TABLE new_user RENAME TO "User"',
            {"rows_more", "rows_fewer", "content_changed", "content_not_compared", "table_gone", "sequence_back"},
        ),
        ('INSERT INTO "User" VALUES (1) ON CONFLICT (id) DO NOTHING', {"rows_more"}),
        ('DROP TRIGGER IF EXISTS t ON "User"', set()),
        ('DROP POLICY p ON "User"', set()),
        ('DELETE FROM app."User"', set()),
        ('CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DELETE FROM "User" $$', set()),
        (
            'CREATE FUNCTION f() RETURNS void LANGUAGE sql AS $$ DELETE FROM "User" $$; SELECT f()',
            {"rows_more", "rows_fewer", "content_changed", "content_not_compared", "table_gone", "sequence_back"},
        ),
        ("DELETE FROM user", set()),
        ('DELETE FROM other."User"', set()),
    ],
)
def test_differences_of_rows(script: str, kinds: set[str]) -> None:
    every = ("rows_more", "rows_fewer", "content_changed", "content_not_compared", "table_gone", "sequence_back")
    assert {kind for kind in every if severity(script, kind=kind) == "explained"} == kinds


@pytest.mark.parametrize(
    ("script", "columns", "explained"),
    [
        ('UPDATE "User" SET a = 1, "b" = DEFAULT WHERE c = 2', {"a", "b"}, True),
        ('UPDATE "User" SET a = 1, "b" = DEFAULT WHERE c = 2', {"a", "c"}, False),
        ('UPDATE "User" AS u SET (a, b) = (SELECT x, y FROM "Pet" WHERE c = u.c), d = 1 FROM "Pet"', {"a", "b", "d"}, True),
        ('UPDATE "User" SET (a, b) = (SELECT x, y FROM "Pet")', {"y"}, False),
        ('UPDATE "User" SET a = b IS DISTINCT FROM c, d = 1', {"a", "d"}, True),
        ('UPDATE "User" SET a = coalesce((SELECT max(b) FROM "Pet" WHERE x = 1), 2), c[1] = 2', {"a", "c"}, True),
        ('UPDATE "User" SET a = 1 RETURNING b, c', {"b"}, False),
        ('WITH x AS (UPDATE "User" SET a = 1 RETURNING id) UPDATE "Pet" SET b = 1 FROM x', {"a"}, True),
        ('WITH x AS (UPDATE "User" SET a = 1 RETURNING id) UPDATE "Pet" SET b = 1 FROM x', {"b"}, False),
        ('UPDATE "User" SET a = 1; UPDATE "User" SET b = 1', {"a", "b"}, True),
        ('INSERT INTO "User" (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b, c = 1 WHERE d', {"b", "c"}, True),
        ('INSERT INTO "User" (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.b', {"a"}, False),
        ('MERGE INTO "User" u USING "Pet" p ON true WHEN MATCHED THEN UPDATE SET a = 1', {"a", "b"}, True),
        ('ALTER TABLE "User" ALTER COLUMN a TYPE text, ALTER b SET DATA TYPE int, DROP COLUMN c', {"a", "b"}, True),
        ('ALTER TABLE "User" ALTER COLUMN a TYPE text, ALTER b SET NOT NULL', {"b"}, False),
        ('ALTER TABLE "User" DROP COLUMN a,\nADD COLUMN     a INTEGER', {"a"}, True),
        ('ALTER TABLE "User" DROP COLUMN a,\nADD COLUMN     a INTEGER', {"b"}, False),
        # What is computed changes with what it is computed from.
        ('UPDATE "User" SET a = 1', {"a", "up"}, True),
        ('ALTER TABLE "User" ADD COLUMN z int', {"up"}, False),
        ("ALTER TYPE app.role RENAME VALUE 'a' TO 'b'", {"role"}, True),
        ("ALTER TYPE app.role RENAME VALUE 'a' TO 'b'", {"role", "a"}, False),
        ('DO $$ BEGIN UPDATE "User" SET a = 1; UPDATE "Pet" SET b = 1; END $$', {"a"}, True),
        ('DO $$ BEGIN UPDATE "User" SET a = 1; UPDATE "Pet" SET b = 1; END $$', {"b"}, False),
        ('DELETE FROM "User"; INSERT INTO "User" VALUES (1)', {"a", "b"}, True),
        ('INSERT INTO "User" VALUES (1)', {"a"}, False),
        ('ALTER TABLE "User" RENAME COLUMN a TO x; ALTER TABLE "User" RENAME COLUMN b TO y', {"c"}, False),
        # The column was called so before.
        ('UPDATE "User" SET old = 1; ALTER TABLE "User" RENAME COLUMN old TO renamed', {"renamed"}, True),
    ],
)
def test_columns(script: str, columns: set[str], explained: bool) -> None:
    objects = {'column public."User".up': "text generated stored upper(a)", 'column public."User".role': "app.role not null"}
    about = difference("content_changed", columns=sorted(columns), renamed={"renamed": "old"})
    (found,) = explain([about], {"m": script}, objects=objects)
    assert (found["severity"] == "explained") is explained, found


def test_two_migrations_may_set_what_neither_sets_alone() -> None:
    about = difference("content_changed", columns=["a", "b"], text="It changed.")
    (found,) = explain([about], {"1": 'UPDATE "User" SET a = 1', "2": 'UPDATE "User" SET b = 1', "3": 'CREATE INDEX i ON "User" (a)'})
    assert found["explained_by"] == ["1", "2"]
    (found,) = explain([about], {"1": 'UPDATE "User" SET a = 1'})
    assert found["text"] == "It changed. No migration sets b."


@pytest.mark.parametrize(
    ("script", "more", "fewer"),
    [
        ('INSERT INTO "User" VALUES (1)', False, True),
        ('DELETE FROM "User"', True, False),
        ('UPDATE "User" SET a = 1', True, True),
        ('ALTER TABLE "User" ADD COLUMN n serial', True, True),
        ('ALTER TABLE "User" ADD COLUMN n int', False, False),
        ('ALTER TABLE "User" RENAME COLUMN a TO b', False, False),
        ("ALTER TYPE app.role RENAME VALUE 'a' TO 'b'", False, False),
    ],
)
def test_rows_that_were_written_beside_those_that_came_or_went(script: str, more: bool, fewer: bool) -> None:
    found = [severity(script, kind="content_changed", before=one, after=other, gone=3, fresh=3) == "explained" for one, other in ((5, 8), (8, 5))]
    assert found == [more, fewer]


def test_where_somebody_else_adds_rows_and_changes_others_that_is_one_difference() -> None:
    about = [difference("rows_more", before=5, after=8), difference("content_changed", before=5, after=8, gone=1, fresh=4, text="One of them changed.")]
    assert [(each["kind"], each["severity"]) for each in explain(about, {"m": 'INSERT INTO "User" VALUES (1)'})] == [
        ("rows_more", "explained"), ("content_changed", "finding"),
    ]  # fmt: skip
    (found,) = explain(about, {"m": 'ALTER TABLE "User" ADD COLUMN a int'})
    assert (found["kind"], found["text"]) == ("rows_more", "It differs. One of them changed.")


@pytest.mark.parametrize(
    ("script", "name", "explained"),
    [
        ('ALTER TABLE "User" ADD COLUMN bio text', 'column public."User".bio', True),
        ('UPDATE "User" SET bio = 1', 'column public."User".bio', False),
        ('ALTER TABLE "User" ADD COLUMN bio text', 'trigger audit on public."User"', False),
        ('ALTER TABLE "User" DISABLE TRIGGER audit', 'trigger audit on public."User"', True),
        ('DROP TABLE "User"', 'trigger audit on public."User"', True),
        ('DROP TABLE "User"; CREATE TABLE "User" (id int)', 'grants table public."User"', False),
        ('GRANT SELECT ON "User" TO app', 'grants table public."User"', True),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA public TO app", 'grants table public."User"', True),
        ("GRANT SELECT ON ALL TABLES IN SCHEMA other TO app", 'grants table public."User"', False),
        ('ALTER TABLE "User" OWNER TO app', 'owner table public."User"', True),
        ('ALTER TABLE "User" ADD COLUMN bio text', 'owner table public."User"', False),
        ('CREATE UNIQUE INDEX "User_name_key" ON "User" (name)', 'index public."User_name_key" on public."User"', True),
        ('CREATE POLICY p ON "User" USING (true)', 'policy p on public."User"', True),
        ('CREATE INDEX i ON "User" (name)', 'policy p on public."User"', False),
    ],
)
def test_differences_of_definitions(script: str, name: str, explained: bool) -> None:
    assert (severity(script, kind="object_changed", name=name, subjects=[USERS]) == "explained") is explained


def test_what_came_with_its_object_is_explained_by_what_explains_that() -> None:
    script = 'ALTER TABLE "User" ADD COLUMN n serial'
    about = {"kind": "object_added", "before": None, "after": "x", "text": "", "subjects": ['public."User_n_seq"', USERS]}
    differences = [dict(about, object=word + 'sequence public."User_n_seq"') for word in ("", "grants ", "owner ")]
    assert [each["severity"] for each in explain(differences, {"m": script})] == ["explained"] * 3
    assert [each["severity"] for each in explain(differences[1:], {"m": script})] == ["finding"] * 2


@pytest.mark.parametrize(
    ("script", "definition", "explained"),
    [
        ('ALTER TABLE "User" RENAME TO "Person"', 'SELECT id FROM "Person"', True),
        ('ALTER TABLE "User" RENAME COLUMN name TO full_name', 'SELECT full_name FROM "User"', True),
        ("ALTER TABLE pets SET SCHEMA app", "FOREIGN KEY (pet) REFERENCES app.pets(id)", True),
        ('ALTER TABLE "User" ADD COLUMN name text', 'SELECT name FROM "User"', False),
        ('ALTER TABLE "Other" RENAME TO "Person"', 'SELECT id FROM "User"', False),
    ],
)
def test_a_definition_is_worded_anew_after_a_rename(script: str, definition: str, explained: bool) -> None:
    about = {"kind": "object_changed", "object": "view public.v", "before": "x", "after": definition, "text": "", "subjects": ["public.v"]}
    assert (explain([about], {"m": script})[0]["severity"] == "explained") is explained


@pytest.mark.parametrize(
    ("script", "about", "explained"),
    [
        ('DELETE FROM "User"', {"kind": "rows_fewer", "name": 'audit."User"'}, False),
        ('SET search_path = audit; DELETE FROM "User"', {"kind": "rows_fewer", "name": 'audit."User"'}, True),
        ("ALTER SCHEMA audit RENAME TO history", {"kind": "table_gone", "name": "audit.log"}, True),
        ("ALTER SCHEMA audit RENAME TO history", {"kind": "table_added", "name": "history.log"}, True),
        ("ALTER SCHEMA audit RENAME TO history", {"kind": "table_gone", "name": "public.log"}, False),
        ('ALTER INDEX "User_pkey" RENAME TO users_pkey', {"kind": "object_added", "name": 'constraint public."User".users_pkey', "subjects": [USERS]}, True),
        ("ALTER TABLE pets RENAME TO animals", {"kind": "object_removed", "name": "function public.feed(public.pets)", "subjects": ["public.feed"]}, True),
        ("ALTER TABLE pets RENAME TO animals", {"kind": "object_removed", "name": "view public.v", "before": "SELECT 1 FROM pets", "subjects": ["public.v"]}, False),
        (
            'DROP TABLE "User" CASCADE',
            {
                "kind": "object_removed", "name": "constraint public.pets.fk", "before": 'FOREIGN KEY (o) REFERENCES public."User"(id)',
                "subjects": ["public.pets"],
            },
            True,
        ),
        ('DROP TABLE "User" CASCADE', {"kind": "object_removed", "name": "constraint public.pets.c", "before": "CHECK (a > 0)", "subjects": ["public.pets"]}, False),
        ('TRUNCATE "User" CASCADE', {"kind": "rows_fewer", "name": "public.pets", "writers": [USERS]}, True),
        ('DELETE FROM "User"', {"kind": "rows_fewer", "name": "public.pets", "writers": [USERS]}, False),
        ("SELECT backfill()", {"kind": "content_changed", "name": "public.pets"}, True),
        ("SELECT other()", {"kind": "content_changed", "name": "public.pets"}, False),
        ('UPDATE "Active" SET name = 1', {"kind": "content_changed", "name": "public.pets"}, True),
        (
            "DO $$ DECLARE r record; BEGIN FOR r IN SELECT tablename FROM pg_tables LOOP EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', r.tablename);"
            " END LOOP; END $$",
            {"kind": "object_changed", "name": "table public.pets", "subjects": ["public.pets"]},
            True,
        ),
        ("DO $$ BEGIN EXECUTE format('DELETE FROM %I', 'x'); END $$", {"kind": "rows_fewer", "name": "public.pets"}, False),
    ],
)  # fmt: skip
def test_what_a_statement_reaches(script: str, about: dict[str, t.Any], explained: bool) -> None:
    objects = {
        "function public.backfill()": "CREATE FUNCTION public.backfill() RETURNS void LANGUAGE sql AS $$ UPDATE pets SET a = 1 $$",
        'view public."Active"': "SELECT id, name FROM pets WHERE a > 0",
    }
    (found,) = explain([difference(**about)], {"m": script}, objects=objects, schema="public")
    assert (found["severity"] == "explained") is explained, found


def test_a_called_function_that_is_there_already_explains_what_its_arguments_name() -> None:
    assert severity("SELECT purge('User')", kind="rows_fewer") == "finding"
    assert severity('CALL purge("User")', kind="rows_fewer") == "explained"


def test_large_objects() -> None:
    assert severity("SELECT lo_unlink(7)", kind="large_objects_fewer", name="large objects", subjects=()) == "explained"
    assert severity('UPDATE "User" SET id = 1', kind="large_objects_fewer", name="large objects", subjects=()) == "finding"


def test_the_ledger_and_what_loses_nothing_are_no_findings() -> None:
    assert explain([difference("rows_more", "public._prisma_migrations")], {})[0]["explained_by"] == [BY_LEDGER]
    (forward,) = explain([difference("sequence_forward")], {})
    assert forward["severity"] == "note" and findings([forward]) == []


def test_rows_that_a_foreign_key_took_along_stay_a_finding_with_a_hint() -> None:
    (found,) = explain([difference("rows_fewer", "public.pets", writers=[USERS])], {"m": 'DELETE FROM "User"'})
    assert found["severity"] == "finding" and found["text"].endswith('A foreign key or a trigger may have taken them along: m names public."User".')


@pytest.mark.parametrize(
    ("expected", "outcome"),
    [
        (USERS, "expected"),
        ({"object": USERS}, "expected"),
        ({"object": USERS, "rows": -2}, "expected"),
        ({"object": USERS, "rows": "-2"}, "expected"),
        ({"object": USERS, "rows": -1}, "finding"),
        ({"object": USERS, "kind": "rows_more"}, "finding"),
        ({"object": "public.pets"}, "finding"),
    ],
)
def test_expectations(expected: t.Any, outcome: str) -> None:
    (found,) = explain([difference("rows_fewer")], {}, [expected])
    assert found["severity"] == outcome


def test_an_exact_number_holds_for_what_a_migration_explains() -> None:
    (found,) = explain([difference("rows_fewer")], {"m": 'DELETE FROM "User"'}, [{"object": USERS, "rows": -1}])
    assert found["severity"] == "finding" and found["text"].endswith("Expected were -1 rows, and it is -2.")


def test_what_was_expected_and_did_not_come_is_a_finding() -> None:
    (found,) = explain([], {}, [{"object": USERS, "rows": -3}, "public.pets"])
    assert (found["kind"], found["severity"]) == ("expectation_missed", "finding")


@pytest.mark.parametrize("bad", [3, "", {"rows": 3}, {"object": "a", "rows": "many"}, {"object": "a", "row": 3}])
def test_what_is_no_expectation_is_refused(bad: t.Any) -> None:
    with pytest.raises(MigrationError) as error:
        explain([], {}, [bad])
    assert error.value.code == "OPTION_INVALID"


def test_a_schema_is_taken_apart_once_and_not_for_each_statement(monkeypatch: pytest.MonkeyPatch) -> None:
    """A first deploy of hundreds of migrations: thousands of statements, differences and columns."""
    taken: list[str] = []
    split = _touch_reach.split_key
    monkeypatch.setattr(_touch_reach, "split_key", lambda key: (taken.append(key), split(key))[1])
    objects = {"column public.t%d.c" % number: "text" for number in range(300)}
    objects.update({"view public.v": "SELECT c FROM public.t1", "function public.f()": "DELETE FROM public.t2", "procedure public.p()": "", "viewer x": ""})
    scripts = {"m%d" % number: "UPDATE other SET c = 1; UPDATE v SET c = 2; SELECT f();" for number in range(5)}
    differences = [difference(kind="rows_fewer", object="public.t%d" % number, subjects=["public.t%d" % number]) for number in range(50)]
    found = explain(differences, scripts, objects=objects)
    assert {each["object"]: bool(each["explained_by"]) for each in found}["public.t3"] is False
    assert sorted(taken) == ["function public.f()", "procedure public.p()", "view public.v"]
