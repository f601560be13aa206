# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _draft_text
from ansible_collections.pgops.migrations.plugins.module_utils._draft import draft
from ansible_collections.pgops.migrations.plugins.module_utils._draft_names import undo_renames
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import literal
from ansible_collections.pgops.migrations.plugins.module_utils._draft_rows import data_notes
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._schema_identity import Thing, Things
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Column, Model, Type, Unit

NOW = datetime.datetime(2026, 11, 22, 17, 0, 0, tzinfo=datetime.timezone.utc)
TABLE = dict(
    kind="r", unlogged=False, partition_by=None, is_partition=False, parents=[], bound=None, of_type=False, rls=False, forced=False, replica="DEFAULT",
    clustered=None, options=[], method=None,
)  # fmt: skip
COLUMN = dict(
    type="text", array=False, collation=None, notnull=False, identity="", generated="", expression=None, sequence=None, storage="", type_storage="x",
    compression="", statistics=-1, options=[], inherited=False, local=True, of_type=None,
)  # fmt: skip


def model(**tables: dict[str, dict[str, t.Any]]) -> Model:
    """A schema of tables: name -> columns with what is special of each."""
    made = Model()
    for table, columns in tables.items():
        name = "public.%s" % table
        made.tables[name] = dict(TABLE)
        for column, facts in columns.items():
            found = Column(name, column, dict(COLUMN, **facts))
            made.columns[found.key] = found
    return made


def statements(goal: Model, now: Model) -> list[str]:
    return [statement for step in draft(goal, now).steps for statement in step.statements]


@pytest.mark.parametrize(
    ("goal", "now", "expected"),
    [
        ({"a": {"x": {}}}, {"a": {"x": {}}}, []),
        ({"a": {"x": {}}}, {}, ["CREATE TABLE public.a (\n    x text\n)"]),
        ({}, {"a": {"x": {}}}, ["DROP TABLE public.a"]),
        ({"a": {"x": {}, "y": {"expression": "1", "notnull": True}}}, {"a": {"x": {}}}, ["ALTER TABLE public.a ADD COLUMN y text DEFAULT 1 NOT NULL"]),
        (
            {"a": {"x": {}, "y": {"notnull": True}}},
            {"a": {"x": {}}},
            ["ALTER TABLE public.a ADD COLUMN y text", "ALTER TABLE public.a ALTER COLUMN y SET NOT NULL"],
        ),
        ({"a": {"x": {}}}, {"a": {"x": {}, "y": {}}}, ["ALTER TABLE public.a DROP COLUMN y"]),
        ({"a": {"x": {"type": "integer"}}}, {"a": {"x": {"type": "bigint"}}}, ["ALTER TABLE public.a ALTER COLUMN x TYPE integer"]),
        ({"a": {"x": {"notnull": True}}}, {"a": {"x": {}}}, ["ALTER TABLE public.a ALTER COLUMN x SET NOT NULL"]),
        ({"a": {"x": {"storage": "e"}}}, {"a": {"x": {}}}, ["ALTER TABLE public.a ALTER COLUMN x SET STORAGE EXTERNAL"]),
        # What a child inherits is its parent's affair.
        ({"a": {}}, {"a": {"x": {"inherited": True, "local": False}}}, []),
    ],
)
def test_tables_and_columns(goal: dict[str, t.Any], now: dict[str, t.Any], expected: list[str]) -> None:
    assert statements(model(**goal), model(**now)) == expected


def test_what_is_in_the_way_goes_and_comes_back() -> None:
    goal, now = model(a={"x": {"type": "integer"}}), model(a={"x": {"type": "bigint"}})
    upper, lower = (Unit("view", "public.%s" % name, "", name, ("CREATE VIEW public.%s" % name,), "DROP VIEW public.%s" % name) for name in ("upper", "lower"))
    index = Unit("index", "public.i on public.a", "public.a", "i", ("CREATE INDEX i",), "DROP INDEX i", False, {"plain": True, "unique": False})
    for side in (goal, now):
        side.units.update({unit.key: unit for unit in (upper, lower, index)})
    now.depends = {("column", "public.a.x"): {lower.key, index.key}, lower.key: {upper.key}}
    made = statements(goal, now)
    assert made[:2] == ["DROP VIEW public.upper", "DROP VIEW public.lower"] and made[2] == "ALTER TABLE public.a ALTER COLUMN x TYPE integer"
    assert sorted(made[3:]) == ["CREATE VIEW public.lower", "CREATE VIEW public.upper"]


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("a c", "a", ["ALTER TYPE public.e ADD VALUE 'c' AFTER 'a'"]),
        ("a b c", "b", ["ALTER TYPE public.e ADD VALUE 'a' BEFORE 'b'", "ALTER TYPE public.e ADD VALUE 'c' AFTER 'b'"]),
        ("a b", "b a", ['ALTER TYPE public.e RENAME TO "e__reverse"', "CREATE TYPE public.e AS ENUM ('a', 'b')", 'DROP TYPE "public"."e__reverse"']),
        ("a", "a b", ['ALTER TYPE public.e RENAME TO "e__reverse"', "CREATE TYPE public.e AS ENUM ('a')", 'DROP TYPE "public"."e__reverse"']),
    ],
)
def test_enums(before: str, after: str, expected: list[str]) -> None:
    goal, now = Model(), Model()
    for side, labels in ((goal, before), (now, after)):
        side.types["public.e"] = Type("enum", "public.e", {"labels": labels.split()})
    assert statements(goal, now) == expected


SCHEMA, OTHER = ("pg_namespace", 1, 0), ("pg_namespace", 2, 0)


def things(**relations: str) -> Things:
    """Relations by their numbers: C(t10="users a b"), a table and its columns; C(i11="name"), an index of the table 10."""
    made: Things = {SCHEMA: Thing("schema", "public", None), OTHER: Thing("schema", "other", None)}
    for word, text in relations.items():
        kind, number = {"t": "table", "o": "table", "v": "view", "i": "index", "c": "constraint"}[word[0]], int(word[1:])
        name, *columns = text.split(" ")
        ident = ("pg_constraint" if kind == "constraint" else "pg_class", number, 0)
        inside = ("pg_class", number // 10 * 10, 0) if kind in ("index", "constraint") else OTHER if word[0] == "o" else SCHEMA
        made[ident] = Thing(kind, name, inside, "p" if kind == "constraint" else "")
        for position, column in enumerate(columns, 1):
            if column != "-":
                made["pg_class", number, position] = Thing("column", column, ident)
    return made


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        ({"t10": "a x y"}, {"t10": "a x y"}, []),
        # What is not there any more, or is new, is not renamed.
        ({"t10": "a x"}, {"t20": "b x"}, []),
        ({"t10": "a x"}, {"t10": "b x"}, ['ALTER TABLE "public"."b" RENAME TO "a"']),
        ({"t10": "a x"}, {"t10": "b y"}, ['ALTER TABLE "public"."b" RENAME COLUMN "y" TO "x"', 'ALTER TABLE "public"."b" RENAME TO "a"']),
        # Into the name of one that was dropped.
        ({"t10": "a x y"}, {"t10": "a - x"}, ['ALTER TABLE "public"."a" RENAME COLUMN "x" TO "y"']),
        ({"t10": "a x y z"}, {"t10": "a - x y"}, ['ALTER TABLE "public"."a" RENAME COLUMN "y" TO "z"', 'ALTER TABLE "public"."a" RENAME COLUMN "x" TO "y"']),
        # The name was taken by a new one, which steps aside.
        (
            {"t10": "a x"},
            {"t10": "a y x"},
            ['ALTER TABLE "public"."a" RENAME COLUMN "x" TO "__reverse_0"', 'ALTER TABLE "public"."a" RENAME COLUMN "y" TO "x"'],
        ),
        # Exchanged.
        (
            {"t10": "a x y"},
            {"t10": "a y x"},
            [
                'ALTER TABLE "public"."a" RENAME COLUMN "x" TO "__reverse_0"',
                'ALTER TABLE "public"."a" RENAME COLUMN "y" TO "x"',
                'ALTER TABLE "public"."a" RENAME COLUMN "__reverse_0" TO "y"',
            ],
        ),
        ({"t10": "a"}, {"t10": "b", "v20": "a"}, ['ALTER TABLE "public"."a" RENAME TO "__reverse_0"', 'ALTER TABLE "public"."b" RENAME TO "a"']),
        # An index has its name among the relations, and the index of a constraint that of the constraint.
        ({"t10": "t", "i11": "a"}, {"t10": "t", "i11": "b", "t20": "u", "c21": "a"},
         ['ALTER TABLE "public"."u" RENAME CONSTRAINT "a" TO "__reverse_0"', 'ALTER INDEX "public"."b" RENAME TO "a"']),
        ({"t10": "a"}, {"o10": "a"}, ['ALTER TABLE "other"."a" SET SCHEMA "public"']),
        ({"t10": "a"}, {"o10": "b"}, ['ALTER TABLE "other"."b" SET SCHEMA "public"', 'ALTER TABLE "public"."b" RENAME TO "a"']),
        # The name on the way is taken by something that stays.
        ({"t10": "a", "t20": "b"}, {"o10": "b", "t20": "b"}, ['ALTER TABLE "other"."b" RENAME TO "a"', 'ALTER TABLE "other"."a" SET SCHEMA "public"']),
        ({"t10": "a", "t20": "b", "o30": "a"}, {"o10": "b", "t20": "b", "o30": "a"},
         ['ALTER TABLE "other"."b" RENAME TO "__reverse_0"', 'ALTER TABLE "other"."__reverse_0" SET SCHEMA "public"',
          'ALTER TABLE "public"."__reverse_0" RENAME TO "a"']),
        # Its indexes go with a table: a new one of their names makes room for them, and what stays gets its name back.
        ({"t10": "a", "i11": "x"}, {"o10": "a", "i11": "x", "t20": "x"},
         ['ALTER TABLE "public"."x" RENAME TO "__reverse_0"', 'ALTER TABLE "other"."a" SET SCHEMA "public"']),
        ({"t10": "a", "i11": "x", "t20": "y"}, {"o10": "a", "i11": "y", "t20": "y"},
         ['ALTER INDEX "other"."y" RENAME TO "x"', 'ALTER TABLE "other"."a" SET SCHEMA "public"']),
        ({"t10": "a", "t20": "y"}, {"o10": "a", "i11": "y", "t20": "y"},
         ['ALTER TABLE "public"."y" RENAME TO "__reverse_0"', 'ALTER TABLE "other"."a" SET SCHEMA "public"',
          'ALTER INDEX "public"."y" RENAME TO "__reverse_1"', 'ALTER TABLE "public"."__reverse_0" RENAME TO "y"']),
    ],
)  # fmt: skip
def test_renames_are_undone(before: dict[str, str], now: dict[str, str], expected: list[str]) -> None:
    assert undo_renames(things(**before), things(**now)) == expected


def test_a_schema_that_went_comes_back_for_what_was_in_it() -> None:
    before, now = things(o10="a"), things(t10="a")
    del now[OTHER]
    assert undo_renames(before, now) == ['CREATE SCHEMA "other"', 'ALTER TABLE "public"."a" SET SCHEMA "other"']


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("INSERT INTO a VALUES (1); UPDATE a SET x = 1; update only public.a set x = 2", ["INSERT of public.a", "UPDATE of public.a"]),
        ("TRUNCATE TABLE a, public.b", ["TRUNCATE of public.a", "TRUNCATE of public.b"]),
        ("TRUNCATE a CASCADE", ["TRUNCATE CASCADE of public.a", "TRUNCATE CASCADE of public.b"]),
        ("DELETE FROM public.b; DELETE FROM other.c", ["DELETE of public.b", "DELETE of other.c", "DELETE by a foreign key of public.a"]),
        ("WITH d AS (DELETE FROM a RETURNING *) INSERT INTO b SELECT * FROM d", ["DELETE of public.a", "INSERT of public.b"]),
        ("WITH d AS (SELECT * FROM a FOR UPDATE) SELECT f(x) FROM d", ["WITH in m"]),
        ("INSERT INTO new_a SELECT * FROM a", ["INSERT of new_a in m: that is no table of before"]),
        ("DO $$ BEGIN DELETE FROM a; END $$; CALL p(); SELECT f()", ["DO in m runs code", "CALL in m runs code", "SELECT in m runs code"]),
        ("SELECT pg_catalog.set_config('search_path', '', false); SET x = 1; CREATE INDEX i ON a (x); COPY a TO STDOUT", []),
        ("COPY a FROM STDIN; MERGE INTO a USING b ON true WHEN MATCHED THEN DELETE", ["COPY of public.a", "MERGE of public.a"]),
        ("CREATE RULE r AS ON DELETE TO a DO ALSO (DELETE FROM b; DELETE FROM b)", []),
        ("ALTER TABLE a ADD FOREIGN KEY (x) REFERENCES b ON DELETE CASCADE ON UPDATE CASCADE", []),
        ("SET search_path = other; DELETE FROM c", ["DELETE of other.c", "DELETE by a foreign key of public.a"]),
    ],
)
def test_what_migrations_write_to_rows_is_said(script: str, expected: list[str]) -> None:
    goal = model(a={}, b={})
    goal.tables["other.c"] = dict(TABLE)
    key = Unit("foreign key", "public.b.f", "public.b", "", ("",), "", False, {"parent": "public.a"})
    cascading = Unit(
        "foreign key", "public.a.g", "public.a", "FOREIGN KEY (x) REFERENCES other.c(x) ON DELETE SET NULL", ("",), "", False, {"parent": "other.c"}
    )
    goal.units.update({each.key: each for each in (key, cascading)})
    found = [note.text for note in data_notes({"m": script}, goal, "public")]
    assert len(found) == len(expected) and all(text.startswith(start) for text, start in zip(found, expected)), found


@pytest.mark.parametrize(
    ("existing", "expected"),
    [
        (["20240101000000_init"], "20261122170000_reverse_drop_phone"),
        (["20240101000000_init", "20270101000000_future"], "20270101000001_reverse_drop_phone"),
    ],
)
def test_the_name_comes_last(existing: list[str], expected: str) -> None:
    assert _draft_text.default_name(["20260112083000_Drop-phone"], existing, NOW) == expected


@pytest.mark.parametrize("name", ["", "a/b", "..", "20230101_early", "x" * 201, "a\nb"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(MigrationError) as caught:
        _draft_text.demand_last(name, ["20240101000000_init"])
    assert caught.value.code == "OPTION_INVALID"


def test_no_name_that_comes_last() -> None:
    with pytest.raises(MigrationError):
        _draft_text.default_name(["a"], ["zzz"], NOW)


def test_the_head_is_comment_whatever_stands_in_it() -> None:
    text = _draft_text.script("w", ["b\nDROP TABLE y;", "c"], ["a\nDROP TABLE x;"], ["line\r\n; DROP", "long " * 60], [("re\nmark", "SELECT 1")])
    assert [line for line in text.split("\n") if line and not line.startswith("--")] == ["SELECT 1;"]
    assert max(map(len, text.split("\n"))) <= 120
    assert _draft_text.undone_by(text) == ("b\nDROP TABLE y;", "c") and _draft_text.undone_by("-- x\n-- undoes [1]\n") == ()
    assert _draft_text.is_reverse(text, "w") and not _draft_text.is_reverse(text, "v") and not _draft_text.is_reverse(None, "w")


def test_the_identity_is_of_the_texts_and_the_schemas() -> None:
    files = [MigrationFile("a", "x")]
    words = {
        _draft_text.identity(*each)
        for each in ((files, "1", "2"), (files, "2", "1"), ([MigrationFile("a", "y")], "1", "2"), ([MigrationFile("b", "x")], "1", "2"))
    }
    assert len(words) == 4 and _draft_text.identity(files, "1", "2") in words


@pytest.mark.parametrize(("text", "expected"), [("a", "'a'"), ("it's", "'it''s'"), ("a\\b", "E'a\\\\b'"), ("\\'", "E'\\\\'''")])
def test_literals(text: str, expected: str) -> None:
    assert literal(text) == expected
