# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import io
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._copytext import CopyError, blocks, escape, literal, name_of, picker, split, unescape
from hypothesis import given
from hypothesis import strategies as st

VALUES = st.one_of(st.none(), st.binary(), st.text().map(str.encode))

OUTPUT = rb"""--
-- PostgreSQL database dump
--

\restrict abc

SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);

--
-- Data for Name: it's; Type: TABLE DATA; Schema: public; Owner: "x
--

COPY public.users (id, "na""me", "a, (b)") FROM stdin;
1	x	\N
2	COPY public.no (id) FROM stdin;	\\.
\.


COPY "we""ird; drop"."new
COPY public.no (id) FROM stdin;
line" ("one
two") FROM stdin;
a
\.


SELECT pg_catalog.setval('public."x
COPY public.no (id) FROM stdin;
y"', 1, true);
COPY public.empty (a) FROM stdin;
\.


COPY public.no_column  FROM stdin;


\.


\unrestrict abc
"""


def read(data: bytes, encoding: str = "utf-8") -> list[tuple[t.Any, ...]]:
    return [(schema, table, columns, list(lines)) for schema, table, columns, lines in blocks(io.BytesIO(data), encoding)]


def test_the_output_of_pg_restore() -> None:
    assert read(OUTPUT) == [
        ("public", "users", ("id", 'na"me', "a, (b)"), [b"1\tx\t\\N\n", b"2\tCOPY public.no (id) FROM stdin;\t\\\\.\n"]),
        ('we"ird; drop', "new\nCOPY public.no (id) FROM stdin;\nline", ("one\ntwo",), [b"a\n"]),
        ("public", "empty", ("a",), []),
        ("public", "no_column", (), [b"\n", b"\n"]),
    ]


def test_rows_that_nobody_asks_for_are_skipped() -> None:
    assert [table for _schema, table, _columns, _lines in blocks(io.BytesIO(OUTPUT))] == [
        "users",
        "new\nCOPY public.no (id) FROM stdin;\nline",
        "empty",
        "no_column",
    ]


@pytest.mark.parametrize("end", range(OUTPUT.index(b"1\tx"), OUTPUT.index(b"\\.\n") + 2))
def test_a_block_that_is_cut_off_is_an_error(end: int) -> None:
    with pytest.raises(CopyError):
        read(OUTPUT[:end])


def test_a_statement_that_is_cut_off_is_an_error() -> None:
    with pytest.raises(CopyError):
        read(b'COPY public."a\n')


@pytest.mark.parametrize(("encoding", "raw"), [("utf-8", "ü".encode()), ("iso8859_1", "ü".encode("latin-1"))])
def test_names_are_in_the_encoding_of_the_archive(encoding: str, raw: bytes) -> None:
    assert read(b'COPY public."%s" (%s) FROM stdin;\n\\.\n' % (raw, raw), encoding) == [("public", "ü", ("ü",), [])]
    assert name_of(raw, encoding) == "ü"


@given(st.lists(VALUES, min_size=1))
def test_what_is_escaped_comes_back(values: list[bytes | None]) -> None:
    line = b"\t".join(escape(value) for value in values) + b"\n"
    assert line.count(b"\n") == 1 and line != b"\\.\n"
    assert [unescape(field) for field in split(line)] == values


@pytest.mark.parametrize(
    ("field", "value"),
    [(b"\\N", None), (b"\\\\N", b"\\N"), (b"", b""), (b"a\\tb\\nc\\rd\\\\e", b"a\tb\nc\rd\\e"), (b"\\b\\f\\v", b"\b\f\v"), (b"\\x41\\101\\q", b"AAq"), (b"\\\\n", b"\\n")],
)  # fmt: skip
def test_escapes(field: bytes, value: bytes | None) -> None:
    assert unescape(field) == value


def test_picked_columns_and_literals() -> None:
    assert picker([2, 0])(b"a\tb\tc\n") == b"c\ta\n"
    assert picker([])(b"a\tb\n") == b"\n"
    assert literal(None) == b"NULL" and literal(b"it's \\n") == b"'it''s \\n'"
