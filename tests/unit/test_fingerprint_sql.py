# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The hash expressions, and the normal form of definitions."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _catalog, _fingerprint
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import Column, Table, count_statement, hash_statement, hash_text, hashed_form
from hypothesis import given
from hypothesis import strategies as st
from psycopg2 import sql


def text_of(part: object) -> str:
    """The SQL without a connection: enough for names of plain letters."""
    if isinstance(part, sql.Composed):
        return "".join(text_of(each) for each in part.seq)
    if isinstance(part, sql.Identifier):
        return ".".join('"%s"' % each for each in part.strings)
    if isinstance(part, sql.Literal):
        return str(part.wrapped)
    assert isinstance(part, sql.SQL)
    return part.string


def column(name: str, kind: str, schema: str = "pg_catalog", output: tuple[str, str] = ("pg_catalog", "some_out")) -> Column:
    return Column(name, schema, kind, output)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("int4", '"c"'),
        ("uuid", '"c"'),
        ("text", '"c" COLLATE "C"'),
        ("int8", 'pg_catalog."int8send"("c")'),
        ("numeric", 'pg_catalog."numeric_send"("c")'),
        ("timestamptz", 'pg_catalog."timestamptz_send"("c")'),
        ("float8", '("c"::pg_catalog.text) COLLATE "C"'),
        ("jsonb", '("c"::pg_catalog.text) COLLATE "C"'),
        ("_int4", '("c"::pg_catalog.text) COLLATE "C"'),
        ("unheard_of", '("c"::pg_catalog.text) COLLATE "C"'),
        ("bpchar", 'pg_catalog.textin("pg_catalog"."some_out"("c")) COLLATE "C"'),
    ],
)
def test_built_in_types(kind: str, expected: str) -> None:
    assert text_of(hashed_form(column("c", kind))) == expected


def test_a_type_of_the_users_own_goes_by_its_output_function_whatever_its_name() -> None:
    form = text_of(hashed_form(column("c", "int4", schema="app", output=("app", "int4_out"))))
    assert form == 'pg_catalog.textin("app"."int4_out"("c")) COLLATE "C"'


def test_columns_are_listed_by_name_and_only_the_table_itself_is_read() -> None:
    table = Table(7, "public", "t", "public.t")
    statement = text_of(hash_statement(table, [column("b", "int4"), column("a", "int4")]))
    assert 'ROW("a", "b")' in statement
    assert statement.endswith('FROM ONLY "public"."t"')
    assert "ROW" not in text_of(hash_statement(table, []))
    assert "hash" not in text_of(count_statement(table))


def test_of_a_table_of_an_extension_only_the_rows_that_are_dumped_are_read() -> None:
    table = Table(7, "geo", "t", "geo.t", extension="geo", condition="WHERE name LIKE '{}%s'")
    for statement in (text_of(hash_statement(table, [column("a", "int4")])), text_of(count_statement(table))):
        assert statement.endswith('FROM (SELECT * FROM ONLY "geo"."t" WHERE name LIKE \'{}%s\') AS dumped')


def test_the_digest_of_an_older_format_is_known() -> None:
    found = {
        "format": 2, "level": "full", "schema": {"digest": "d", "objects": {"table public.t": ""}}, "skipped": [],
        "tables": {"public.t": {"rows": 1}}, "sequences": {}, "large_objects": {"count": 1, "hash": "a"},
    }  # fmt: skip
    old = _fingerprint.digest(dict(found, format=1))
    own = {
        "tables": dict(t.cast("dict[str, t.Any]", found["tables"]), **{"geo.t": {"rows": 2, "extension": "geo"}}),
        "sequences": {"geo.s": {"extension": "geo"}},
    }
    new = dict(found, **own, skipped=["geo.hidden"], large_objects={"count": 1, "hash": "a", "rights": "b"})
    assert _fingerprint.digests(new) == {_fingerprint.digest(new), old}
    assert old not in _fingerprint.digests(dict(new, large_objects={"count": 1, "hash": "b", "rights": "b"}))


@given(st.integers(min_value=-(1 << 100), max_value=1 << 100))
def test_the_sum_is_written_with_a_fixed_width(total: int) -> None:
    assert len(hash_text(total)) == 32
    assert hash_text(total) != hash_text(total + 1)


@pytest.mark.parametrize(
    ("written", "restored"),
    [
        (
            "CHECK (((status)::text = ANY ((ARRAY['a'::character varying, 'b'::character varying])::text[])))",
            "CHECK (((status)::text = ANY (ARRAY[('a'::character varying)::text, ('b'::character varying)::text])))",
        ),
        ("x = ANY ((ARRAY[1, 2])::numeric(10,2)[])", "x = ANY (ARRAY[(1)::numeric(10,2), (2)::numeric(10,2)])"),
        ("(ARRAY['it''s, \"x\"'::y, '])::text['::y])::app.\"Ro\"\"le\"[]", 'ARRAY[(\'it\'\'s, "x"\'::y)::app."Ro""le", (\'])::text[\'::y)::app."Ro""le"]'),
        ("(ARRAY[f(a, b), c])::text[]", "ARRAY[(f(a, b))::text, (c)::text]"),
        ("ARRAY[1, 2]", "ARRAY[1, 2]"),
        ("(ARRAY[1, 2])[1]", "(ARRAY[1, 2])[1]"),
        ("(ARRAY['unended", "(ARRAY['unended"),
    ],
)
def test_a_cast_of_an_array_is_a_cast_of_its_elements(written: str, restored: str) -> None:
    assert _catalog.canonical(written) == restored
    assert _catalog.canonical(restored) == restored


@given(st.text(alphabet="(ARAY[])::text[], 'b'\"x", max_size=80))
def test_the_normal_form_ends_and_is_stable(text: str) -> None:
    once = _catalog.canonical(text)
    assert _catalog.canonical(once) == once


def test_secrets_and_long_texts_are_kept_as_hashes() -> None:
    assert _catalog.shorten("server", "host=a, password=b").startswith("sha256:")
    assert _catalog.shorten("function", "short").startswith("sha256:")
    assert _catalog.shorten("view", "x" * 301).startswith("sha256:")
    assert _catalog.shorten("view", "x") == "x"


@given(st.dictionaries(st.text(), st.text()), st.dictionaries(st.text(), st.text()))
def test_the_digest_tells_schemas_apart(one: dict[str, str], other: dict[str, str]) -> None:
    assert (_catalog.digest(one) == _catalog.digest(other)) == (one == other)
