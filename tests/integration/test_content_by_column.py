# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a migration does to the other columns, and to the other rows, of the tables that it changes."""

from __future__ import annotations

import json
import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _comparison, _explain, _fingerprint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute

BASE = """
CREATE TYPE kind AS ENUM ('cat', 'dog');
CREATE TABLE p (id int PRIMARY KEY, x text, y text, n int, k kind, up text GENERATED ALWAYS AS (upper(x)) STORED);
CREATE TABLE loose (x text, y text);
CREATE TABLE one (id int PRIMARY KEY, y text);
CREATE FUNCTION cut() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.y := left(NEW.y, 2); RETURN NEW; END $$;
CREATE FUNCTION swap() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE p SET y = 'gone' WHERE id = NEW.id - 100; RETURN NULL; END $$;
INSERT INTO p SELECT g, 'x' || g, 'some text ' || g, g, CASE WHEN g % 2 = 0 THEN 'cat' ELSE 'dog' END::kind FROM generate_series(1, 30) g;
INSERT INTO loose SELECT 'x' || g, 'y' || g FROM generate_series(1, 9) g;
INSERT INTO one VALUES (1, 'a');
"""
CUT = "CREATE TRIGGER cut BEFORE UPDATE ON p FOR EACH ROW EXECUTE FUNCTION cut()"
SWAP = "CREATE TRIGGER swap AFTER INSERT ON p FOR EACH ROW EXECUTE FUNCTION swap()"


class Case(t.NamedTuple):
    """``there``: before the migration; ``beside``: what nobody ordered; ``said``: words of each finding."""

    migration: str
    there: str = ""
    beside: str = ""
    said: tuple[str, ...] = ()


SET_UP = "The content of public.p changed in y, in as many rows as before (30). No migration sets y"
CASES: dict[str, Case] = {
    "dropped, and another truncated by a trigger": Case("ALTER TABLE p DROP COLUMN x CASCADE; UPDATE p SET n = n", CUT, "", (SET_UP + ", a trigger of the table may.",)),
    "dropped, and another truncated beside it": Case("ALTER TABLE p DROP COLUMN x CASCADE", "", "UPDATE p SET y = left(y, 3)", (SET_UP + ".",)),
    "dropped, and one row changed beside it": Case("ALTER TABLE p DROP COLUMN x CASCADE", "", "UPDATE p SET y = '' WHERE id = 3", (SET_UP + ".",)),
    "dropped, and values exchanged between rows": Case(
        "ALTER TABLE p DROP COLUMN x CASCADE", "", "UPDATE p SET y = 'some text ' || 31 - id", (SET_UP + ".",)
    ),
    "dropped, and another written by the migration": Case("ALTER TABLE p DROP COLUMN x CASCADE; UPDATE p SET y = left(y, 3)"),
    "dropped alone": Case("ALTER TABLE p DROP COLUMN x CASCADE"),
    "dropped where there is no key": Case("ALTER TABLE loose DROP COLUMN x"),
    "dropped where there is no key, and another changed": Case(
        "ALTER TABLE loose DROP COLUMN x", "", "UPDATE loose SET y = 'z' WHERE y = 'y3'",
        ("The content of public.loose changed in y, in as many rows as before (9). No migration sets y.",),
    ),
    "dropped where there is no key, and values exchanged": Case(
        "ALTER TABLE loose DROP COLUMN x", "", "UPDATE loose SET y = 'y' || 10 - right(y, 1)::int",
        ("The content of public.loose could not be compared: x is gone, and 9 of its 9 rows were written since.",),
    ),
    "renamed with equal values": Case("ALTER TABLE p RENAME COLUMN y TO z"),
    "renamed and written": Case("ALTER TABLE p RENAME COLUMN y TO z; UPDATE p SET z = 'new'"),
    "renamed, and another changed": Case(
        "ALTER TABLE p RENAME COLUMN x TO z", "", "UPDATE p SET n = 0 WHERE id = 1",
        ("The content of public.p changed in n, in as many rows as before (30). No migration sets n.",),
    ),
    "two renamed, and another changed": Case(
        "ALTER TABLE p RENAME COLUMN x TO z; ALTER TABLE p RENAME COLUMN k TO kk", "", "UPDATE p SET n = 0 WHERE id = 1", ("changed in n, in as many",)
    ),
    "two renamed to each other's names": Case("ALTER TABLE p RENAME x TO z; ALTER TABLE p RENAME y TO x; ALTER TABLE p RENAME z TO y"),
    "retyped with equal text": Case("ALTER TABLE p ALTER COLUMN n TYPE bigint"),
    "key retyped with equal text": Case("ALTER TABLE p ALTER COLUMN id TYPE bigint"),
    "retyped, and another truncated": Case("ALTER TABLE p ALTER COLUMN n TYPE bigint", "", "UPDATE p SET y = left(y, 3)", (SET_UP + ".",)),
    "retyped with other values": Case("ALTER TABLE p ALTER COLUMN n TYPE text USING 'no ' || n"),
    "added with a default": Case("ALTER TABLE p ADD COLUMN a text DEFAULT 'a'"),
    "added with a default, and another truncated": Case("ALTER TABLE p ADD COLUMN a int DEFAULT 1", "", "UPDATE p SET y = left(y, 3)", ("The content of public.p changed",)),
    "added and filled row by row": Case("ALTER TABLE p ADD COLUMN a serial; UPDATE p SET y = upper(y)"),
    "table renamed": Case("ALTER TABLE p RENAME TO q"),
    "table renamed, with a column less": Case("ALTER TABLE p RENAME TO q; ALTER TABLE q DROP COLUMN x CASCADE"),
    "table renamed, and a column changed": Case(
        "ALTER TABLE p RENAME TO q", "", "UPDATE q SET y = '' WHERE id = 3", ("The content of public.q changed in y, in as many rows as before (30)",)
    ),
    "table renamed, and a row deleted": Case("ALTER TABLE p RENAME TO q", "", "DELETE FROM q WHERE id = 3", ("public.q has 1 row fewer",)),
    "table renamed and written": Case("ALTER TABLE p RENAME TO q; UPDATE q SET y = ''; DELETE FROM q WHERE id = 3; UPDATE q SET n = 5"),
    "two tables exchanged": Case("ALTER TABLE one RENAME TO two; ALTER TABLE p RENAME TO one; ALTER TABLE two RENAME TO p"),
    "made anew as Prisma does": Case('ALTER TABLE p DROP COLUMN "y",\nADD COLUMN "y" INTEGER'),
    "key made anew": Case("ALTER TABLE p DROP COLUMN id, ADD COLUMN id serial PRIMARY KEY"),
    "a column written by the migration": Case("UPDATE p SET y = left(y, 3), n = (SELECT max(id) FROM p) WHERE id > 4"),
    "a column written, and another by a trigger": Case("UPDATE p SET n = n + 1 WHERE id = 2", CUT, "", ("in n, y, in as many rows as before (30). No migration sets y, a trigger of the table may.",)),
    "what is computed from a column that is written": Case("UPDATE p SET x = 'new' WHERE id = 7"),
    "upsert": Case("INSERT INTO p (id, y) VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET y = excluded.y"),
    "upsert, and another changed": Case(
        "INSERT INTO p (id, y) VALUES (1, 'new') ON CONFLICT (id) DO UPDATE SET y = excluded.y", "", "UPDATE p SET n = 5 WHERE id = 2",
        ("The content of public.p changed in n, y, in as many rows as before (30). No migration sets n.",),
    ),
    "key written": Case("UPDATE p SET id = id + 1000"),
    "key written beside it": Case("UPDATE p SET n = 1", "", "UPDATE p SET id = id + 1000", ("The rows of public.p have other keys than before (id)",)),
    "value of an enum renamed": Case("ALTER TYPE kind RENAME VALUE 'cat' TO 'tom'"),
    "value of an enum renamed, and a column changed": Case("ALTER TYPE kind RENAME VALUE 'cat' TO 'tom'", "", "UPDATE p SET y = '' WHERE id = 9", ("changed in k, y",)),
    "value of an enum renamed, and a table without it changed": Case(
        "ALTER TYPE kind RENAME VALUE 'cat' TO 'tom'", "", "UPDATE one SET y = 'b'", ("The content of public.one changed",)
    ),
    "inserted": Case("INSERT INTO p (id) VALUES (100), (101)"),
    "inserted, and as many deleted beside it": Case(
        "INSERT INTO p (id) VALUES (100)", "", "DELETE FROM p WHERE id = 4", ("The content of public.p changed",)
    ),
    "inserted, and fewer deleted beside it": Case(
        "INSERT INTO p (id) VALUES (100), (101)", "", "DELETE FROM p WHERE id = 4", ("Of the 30 rows that public.p had before, 1 was changed or deleted.",)
    ),
    "inserted, and another changed by a trigger": Case(
        "INSERT INTO p (id) VALUES (101), (102)", SWAP, "", ("Of the 30 rows that public.p had before, 2 were changed or deleted.",)
    ),
    "inserted and updated": Case("INSERT INTO p (id) VALUES (100); UPDATE p SET n = 1"),
    "inserted after a column that writes all rows": Case("ALTER TABLE p ADD COLUMN a serial; INSERT INTO p (id) VALUES (100)"),
    "deleted": Case("DELETE FROM p WHERE id < 5"),
    "deleted, and others changed beside it": Case(
        "DELETE FROM p WHERE id < 5", "", "UPDATE p SET y = '' WHERE id > 28", ("Of the 26 rows that public.p has now, 2 are new or changed.",)
    ),
    "deleted and inserted": Case("DELETE FROM p WHERE id < 5; INSERT INTO p (id) VALUES (100)"),
    "rewritten in place": Case("ALTER TABLE p SET UNLOGGED; ALTER TABLE p DROP COLUMN x CASCADE"),
}  # fmt: skip


def verdict(conn: t.Any, case: Case, pending: bool) -> list[str]:
    execute(conn, BASE + case.there)
    before = json.loads(json.dumps(_fingerprint.take(conn, pending=[case.migration] if pending else [])))
    execute(conn, case.migration)
    if case.beside:
        execute(conn, case.beside)
    after = _fingerprint.take(conn, columns_from=before, follow=True)
    objects = {**before["schema"]["objects"], **after["schema"]["objects"]}
    found = _explain.explain(_comparison.compare(before, after), {"m": case.migration}, objects=objects, schema="public")
    return [each["text"] for each in _explain.findings(found)]


@pytest.mark.parametrize("name", CASES)
def test_with_the_columns_of_before(database: t.Any, name: str) -> None:
    case = CASES[name]
    with connection(database()) as conn:
        found = verdict(conn, case, True)
    assert len(found) == len(case.said), found
    for text, words in zip(found, case.said):
        assert words in text


#: Where the fingerprint of before has no single columns, rows that were not written since still prove that nothing changed.
WITHOUT = [
    ("dropped alone", False),
    ("dropped, and one row changed beside it", True),
    ("renamed with equal values", False),
    ("renamed, and another changed", True),
    ("dropped, and another written by the migration", False),
    ("added with a default", False),
    ("retyped with equal text", False),
]


@pytest.mark.parametrize(("name", "found"), WITHOUT)
def test_without_the_columns_of_before(database: t.Any, name: str, found: bool) -> None:
    with connection(database()) as conn:
        texts = verdict(conn, CASES[name], False)
    assert bool(texts) is found, texts


def test_the_module(module: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = database()
    dest, migrations = scratch / "before.json", scratch / "migrations"
    (migrations / "1_drop").mkdir(parents=True)
    (migrations / "1_drop" / "migration.sql").write_text("ALTER TABLE p DROP COLUMN x CASCADE", encoding="utf-8")
    with connection(target) as conn:
        execute(conn, BASE)
        first = module("database_fingerprint", target, dest=str(dest), migrations_dir=str(migrations), pending=["1_drop"])
        assert first["compared_level"] == "none" and "some text" not in dest.read_text()
        execute(conn, "ALTER TABLE p DROP COLUMN x CASCADE; UPDATE p SET y = left(y, 3)")
    options = {"compare_with": str(dest), "migrations_dir": str(migrations), "applied": ["1_drop"]}
    second = module("database_fingerprint", target, **options)
    assert second["compared_level"] == "full"
    assert [(each["kind"], each["object"], each["columns"]) for each in second["findings"]] == [("content_changed", "public.p", ["y"])]
    assert module("database_fingerprint", target, level="counts", **options)["compared_level"] == "counts"
