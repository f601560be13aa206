# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _draft_names, _draft_text
from ansible_collections.pgops.migrations.plugins.module_utils._draft import draft
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import literal
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
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


@pytest.mark.parametrize(
    ("script", "whole", "parts"),
    [
        ("ALTER TABLE a RENAME TO b", {("relation", "public.b"): "public.a"}, {}),
        ('ALTER TABLE IF EXISTS ONLY s."A" RENAME TO "B"; ALTER TABLE s."B" RENAME TO c', {("relation", "s.c"): "s.A"}, {}),
        ("ALTER TABLE a RENAME x TO y; ALTER TABLE a RENAME COLUMN y TO z", {}, {("column", "public.a.z"): "public.a.x"}),
        ("ALTER TABLE a RENAME COLUMN x TO y; ALTER TABLE a RENAME TO b", {("relation", "public.b"): "public.a"}, {("column", "public.b.y"): "public.a.x"}),
        ("ALTER TABLE a RENAME TO b; ALTER TABLE b RENAME COLUMN x TO y", {("relation", "public.b"): "public.a"}, {("column", "public.b.y"): "public.a.x"}),
        ("ALTER TABLE a RENAME CONSTRAINT x TO y", {}, {("constraint", "public.a.y"): "public.a.x"}),
        ("ALTER TYPE e RENAME VALUE 'it''s' TO 'B'", {}, {("value", "public.e.B"): "public.e.it's"}),
        ("ALTER TABLE a SET SCHEMA t", {("relation", "t.a"): "public.a"}, {}),
        ("ALTER MATERIALIZED VIEW a RENAME TO b", {("relation", "public.b"): "public.a"}, {}),
        ('ALTER TABLE column_of RENAME COLUMN "to" TO "column"', {}, {("column", "public.column_of.column"): "public.column_of.to"}),
        ("-- ALTER TABLE a RENAME TO b\nSELECT 'ALTER TABLE a RENAME TO b'", {}, {}),
        ("ALTER TABLE a RENAME TO b; DROP TABLE b; CREATE TABLE b (id int)", {}, {}),
    ],
)
def test_renames_are_read(script: str, whole: dict[t.Any, str], parts: dict[t.Any, str]) -> None:
    found = _draft_names.read_renames([script], "public")
    assert {(kind, ".".join(last)): ".".join(first) for kind, names in found.whole.items() for last, first in names.items()} == whole
    assert {(kind, ".".join(last)): ".".join(first) for kind, names in found.parts.items() for last, first in names.items()} == parts


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
