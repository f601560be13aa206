# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Differences between fingerprints, and what explains them."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare, names_in, row_counts
from ansible_collections.pgops.migrations.plugins.module_utils._explain import BY_LEDGER, explain, findings

A, B = "a" * 32, "b" * 32


def fingerprint(
    tables: dict[str, t.Any] | None = None, objects: dict[str, str] | None = None, sequences: dict[str, t.Any] | None = None, **more: t.Any
) -> dict[str, t.Any]:
    found: dict[str, t.Any] = {
        "format": 2,
        "level": "full",
        "database": "app",
        "server_version_num": 170000,
        "schema": {
            "digest": "",
            "objects": {**{"table %s" % name: "table" for name, entry in (tables or {}).items() if "extension" not in entry}, **(objects or {})},
        },
        "tables": tables or {},
        "skipped": [],
        "sequences": sequences or {},
        "large_objects": {"count": 0, "hash": A},
    }
    found.update(more)
    return found


def table(rows: int, content: str | None = A, columns: tuple[str, ...] = ("id",), **more: t.Any) -> dict[str, t.Any]:
    return {"rows": rows, "hash": content, "columns": list(columns), **more}


def kinds(before: t.Any, after: t.Any) -> list[tuple[str, str]]:
    return [(each["kind"], each["object"]) for each in compare(before, after)]


def test_equal_is_no_difference() -> None:
    one = fingerprint({"public.users": table(3)}, {"column public.users.id": "integer"}, {"public.s": {"last_value": 1, "is_called": True}})
    assert compare(one, one) == []


@pytest.mark.parametrize(
    ("after", "kind", "text"),
    [
        (table(2, B), "rows_fewer", "public.users has 1 row fewer than before (3, now 2)."),
        (table(5, B), "rows_more", "public.users has 2 rows more than before (3, now 5)."),
        (table(3, B), "content_changed", "The content of public.users changed, in as many rows as before (3)."),
        (table(3, B, ()), "content_not_compared", "The content of public.users could not be compared: id is gone."),
    ],
)
def test_one_table(after: dict[str, t.Any], kind: str, text: str) -> None:
    (found,) = compare(fingerprint({"public.users": table(3)}), fingerprint({"public.users": after}))
    assert (found["kind"], found["text"]) == (kind, text)


def test_counts_are_compared_with_counts_only() -> None:
    before, after = fingerprint({"t.t": table(3)}), fingerprint({"t.t": table(3, None)}, level="counts")
    assert compare(before, after) == []
    assert kinds(before, fingerprint({}, {"table t.t": "table"}, level="schema")) == []


def test_a_table_that_is_gone_takes_its_parts_with_it_in_one_line() -> None:
    objects = {
        "column app.users.id": "integer",
        "constraint app.users.users_pkey": "PRIMARY KEY (id)",
        "index app.users_pkey on app.users": "...",
        "comment index app.users_pkey": "x",
        "owner table app.users": "me",
        "sequence app.users_id_seq": "as integer owned by app.users.id",
        "grants sequence app.users_id_seq": "me: ALL",
        "trigger t on app.users": "...",
        "constraint app.orders.fk": "FOREIGN KEY (id) REFERENCES app.users(id)",
    }
    before = fingerprint({"app.users": table(3), "app.orders": table(1)}, objects)
    after = fingerprint({"app.orders": table(1)})
    assert kinds(before, after) == [("table_gone", "app.users"), ("object_removed", "constraint app.orders.fk")]
    assert kinds(after, before) == [("table_added", "app.users"), ("object_added", "constraint app.orders.fk")]


def test_a_renamed_table_is_told_by_its_content() -> None:
    found = compare(fingerprint({"a.old": table(3)}), fingerprint({"a.new": table(3)}))
    assert found[0]["text"] == "The table a.old is gone, and with it 3 rows; the new table a.new has the same content."


@pytest.mark.parametrize(
    ("definition", "before", "after", "kind"),
    [
        ("increment 1", (5, True), (3, True), "sequence_back"),
        ("increment 1", (5, True), (5, False), "sequence_back"),
        ("increment 1", (5, False), (5, True), "sequence_forward"),
        ("as x increment -1", (-5, True), (-3, True), "sequence_back"),
        ("as x increment -1", (-3, True), (-5, True), "sequence_forward"),
    ],
)
def test_sequences(definition: str, before: tuple[int, bool], after: tuple[int, bool], kind: str) -> None:
    def side(value: tuple[int, bool]) -> dict[str, t.Any]:
        return fingerprint({}, {"sequence public.s": definition}, {"public.s": {"last_value": value[0], "is_called": value[1]}})

    (found,) = explain(compare(side(before), side(after)), {})
    assert (found["kind"], found["severity"]) == (kind, "finding" if kind == "sequence_back" else "note")


def test_the_order_of_columns_counts_only_among_those_that_stayed() -> None:
    def side(order: str) -> dict[str, t.Any]:
        return fingerprint({}, {"table a.t": "table", "column order a.t": order})

    assert compare(side("a, b, c"), side("a, c, d")) == []
    assert kinds(side("a, b, c"), side("a, c, b")) == [("object_changed", "column order a.t")]


def test_another_major_version_words_a_view_differently() -> None:
    def side(version: int, view: str, grants: str) -> dict[str, t.Any]:
        return fingerprint({}, {"view a.v": view, "grants view a.v": grants}, server_version_num=version)

    old, new = side(150000, "SELECT t.a", "me: INSERT, SELECT"), side(170000, "SELECT a", "me: INSERT, MAINTAIN, SELECT")
    assert compare(old, new) == []
    assert len(compare(old, dict(new, server_version_num=150001))) == 2


def test_skipped_tables_are_not_compared() -> None:
    assert compare(fingerprint({"a.t": table(3)}), fingerprint({}, {"table a.t": "table"}, skipped=["a.t"])) == []


def test_large_objects() -> None:
    assert kinds(fingerprint(), fingerprint(large_objects={"count": 1, "hash": B})) == [("large_objects_more", "large objects")]
    assert kinds(fingerprint(), fingerprint(large_objects={"count": 0, "hash": B})) == [("large_objects_changed", "large objects")]
    assert kinds(fingerprint(), fingerprint(large_objects={"count": 0, "hash": None})) == []


def test_who_may_use_large_objects_is_compared_where_both_know_it() -> None:
    one, other = ({"count": 2, "hash": A, "rights": rights} for rights in (A, B))
    assert kinds(fingerprint(large_objects=one), fingerprint(large_objects=other)) == [("large_objects_changed", "large objects")]
    assert kinds(fingerprint(format=1, large_objects={"count": 2, "hash": A}), fingerprint(large_objects=other)) == []


def test_rows_of_an_extension_come_and_go_with_it() -> None:
    own = {"public.spots": table(3, extension="geo"), "public.none": table(0, extension="geo")}
    with_it, without = fingerprint(own, {"extension geo": "1"}), fingerprint()
    found = compare(with_it, without)
    assert [(each["kind"], each["object"], each["before"], each["after"]) for each in found[:1]] == [("table_gone", "public.spots", 3, None)]
    assert found[0]["text"] == "The table public.spots of the extension geo is gone, and with it 3 rows."
    assert [each["object"] for each in found] == ["public.spots", "extension geo"], "the extension tells of tables without rows"
    assert findings(explain(found, {"m": "DROP EXTENSION geo"})) == []
    assert findings(explain(compare(without, with_it), {"m": "CREATE EXTENSION geo"})) == []
    assert len(findings(explain(found, {"m": "DROP EXTENSION other"}))) == 2
    changed = fingerprint(dict(own, **{"public.spots": table(2, B, extension="geo")}), {"extension geo": "1"})
    assert kinds(with_it, changed) == [("rows_fewer", "public.spots")]


def test_what_an_older_fingerprint_did_not_look_at_is_no_difference() -> None:
    own = {"public.spots": table(3, extension="geo")}
    assert compare(fingerprint(format=1), fingerprint(own)) == compare(fingerprint(own), fingerprint(format=1)) == []
    assert kinds(fingerprint(), fingerprint(own)) == [("table_added", "public.spots")]
    # Nor what the role of one side could not read.
    assert compare(fingerprint(skipped=["public.spots"]), fingerprint(own)) == []


@pytest.mark.parametrize(
    ("name", "sql", "explained"),
    [
        ('public."User"', 'DELETE FROM "User" WHERE id = 1;', True),
        ('public."User"', "DELETE FROM User WHERE id = 1;", False),
        ('public."User"', '-- "User"\nDELETE FROM orders;', False),
        ('public."User"', "DO $$ BEGIN EXECUTE 'UPDATE \"User\" SET x = 1'; END $$;", True),
        ("public.users", "DELETE FROM ONLY public.users;", True),
        ("public.users", "DELETE FROM audit.users;", False),
        ("public.users", "ALTER TABLE public.users ADD x int;", False),
        ('public."we""ird; drop"', 'TRUNCATE "we""ird; drop"', True),
    ],
)
def test_a_lost_row_is_explained_by_who_may_have_deleted_it(name: str, sql: str, explained: bool) -> None:
    found = explain(compare(fingerprint({name: table(3)}), fingerprint({name: table(2, B)})), {"1_other": "SELECT 1", "2_this": sql})
    assert found[0]["explained_by"] == (["2_this"] if explained else [])
    assert len(findings(found)) == (0 if explained else 1)


def test_a_partition_is_explained_by_who_names_its_parent() -> None:
    before = fingerprint({"a.part": table(3, parents=["a.whole"])})
    after = fingerprint({"a.part": table(2, B, parents=["a.whole"])})
    assert findings(explain(compare(before, after), {"m": "DELETE FROM a.whole"})) == []


def test_an_index_and_a_sequence_are_explained_by_who_names_their_table() -> None:
    objects = {"index a.i on a.t": "...", "sequence a.t_id_seq": "as integer owned by a.t.id"}
    found = explain(compare(fingerprint(), fingerprint({}, objects)), {"m": "ALTER TABLE t ADD id serial UNIQUE"})
    assert [each["explained_by"] for each in found] == [["m"], ["m"]]


def test_the_ledger_explains_itself() -> None:
    name = "public._prisma_migrations"
    before = fingerprint({name: table(3)}, {"index %s_pkey on %s" % (name, name): "x"})
    found = explain(compare(before, fingerprint({name: table(4, B)})), {})
    assert [each["explained_by"] for each in found] == [[BY_LEDGER], [BY_LEDGER]]


@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("table public.users", ["public.users"]),
        ('column public."we""ird on x".id', ['public."we""ird on x"']),
        ("constraint public.users.users_pkey", ["public.users"]),
        ('index public."a on b" on public.users', ['public."a on b"', "public.users"]),
        ("comment table column public.users.email", ["public.users"]),
        ("comment table constraint users_pkey on public.users", ["users_pkey", "public.users"]),
        ("grants materialized view public.v", ["public.v"]),
        ("function public.f(a integer, b text)", ["public.f"]),
        ("owner schema app", ["app"]),
        ("default privileges of me in schema app on tables", ["me", "app"]),
        ("security label selinux table public.t", ["public.t"]),
        ("extension citext", ["citext"]),
    ],
)
def test_names_in_a_key(key: str, names: list[str]) -> None:
    assert names_in(key) == names


def test_row_counts_begin_with_what_differs() -> None:
    found = row_counts(fingerprint({"a.a": table(1), "a.b": table(2), "a.gone": table(3)}), fingerprint({"a.a": table(1), "a.b": table(4), "a.new": table(0)}))
    assert [(each["table"], each["before"], each["after"]) for each in found] == [("a.b", 2, 4), ("a.gone", 3, None), ("a.new", None, 0), ("a.a", 1, 1)]
    assert len(row_counts(fingerprint({"a.a": table(1), "a.b": table(2)}), fingerprint(), most=1)) == 1
