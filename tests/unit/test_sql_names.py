# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Names that a text of SQL mentions."""

from __future__ import annotations

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import mentions, scan, split_name, tokens
from hypothesis import given
from hypothesis import strategies as st

USERS = ("public", "users")


@pytest.mark.parametrize(
    ("sql", "named"),
    [
        ("DELETE FROM users", True),
        ("DELETE FROM USERS", True),
        ('DELETE FROM "users"', True),
        ('DELETE FROM "Users"', False),
        ('DELETE FROM public."users"', True),
        ("DELETE FROM public . /* here */ users", True),
        ("DELETE FROM audit.users", False),
        ("DELETE FROM app.public.users", True),
        ("SELECT users.id FROM x", True),
        ("-- users\nSELECT 1", False),
        ("/* users /* nested */ users */ SELECT 1", False),
        ("INSERT INTO notes VALUES ('users')", False),
        ("INSERT INTO notes VALUES ($$users$$)", False),
        ("INSERT INTO notes VALUES (E'it\\'s users')", False),
        ("DO $$ BEGIN DELETE FROM users; END $$", True),
        ("DO $body$ BEGIN EXECUTE 'DELETE FROM users'; END $body$", True),
        ("DO $$ BEGIN EXECUTE format('DELETE FROM %I', 'users'); END $$", True),
        ("DO $$ BEGIN -- users\n NULL; END $$", False),
        ("DO 'BEGIN DELETE FROM users; END'", True),
        ("EXECUTE 'users'", True),
        ("CREATE FUNCTION f() RETURNS void LANGUAGE sql AS 'DELETE FROM users'", True),
        ("SELECT setval('users', 1)", True),
        ("SELECT setval('public.users'::regclass, 1)", True),
        ("SELECT pg_get_serial_sequence('users', 'id')", True),
        ("SELECT lower('users')", False),
        ("SELECT a$users$b", False),
        ("SELECT $1, users", True),
        ('DELETE FROM U&"\\0075sers"', True),
        ("SELECT 'it''s' FROM users", True),
        ("SELECT 'never ended FROM users", False),
    ],
)
def test_a_table_is_named(sql: str, named: bool) -> None:
    assert mentions(scan(sql), USERS) is named


def test_reserved_words_are_names_only_in_quotes() -> None:
    assert not mentions(scan("SELECT a FROM b ORDER BY a"), ("public", "order"))
    assert mentions(scan('SELECT a FROM "order"'), ("public", "order"))
    assert mentions(scan("SELECT a FROM public.order"), ("public", "order"))


def test_long_names_are_cut_as_the_server_does() -> None:
    assert mentions(scan('DROP TABLE "%s"' % ("é" * 40)), ("public", "é" * 31))


def test_split_name() -> None:
    assert split_name('public."we""ird.na me"') == ("public", 'we"ird.na me')
    assert split_name("users") == ("users",)


@given(st.text(min_size=1, max_size=20).filter(lambda name: "\0" not in name))
def test_every_name_is_found_in_quotes_and_never_in_a_comment(name: str) -> None:
    quoted = '"%s"' % name.replace('"', '""')
    assert mentions(scan("ALTER TABLE public.%s ADD x int" % quoted), ("public", name))
    comment = name.replace("*/", "").replace("/*", "").strip("*/")
    assert scan("/*%s*/" % comment) == frozenset()
    assert scan("-- %s\n" % name.replace("\n", " ")) == frozenset()


@given(st.text(alphabet="aU&eE'\"$_;.,()*/-\\\n :1é\0", max_size=60))
def test_no_text_breaks_the_lexer(text: str) -> None:
    list(tokens(text))
    scan(text)


@given(st.text(alphabet="ab'\"$;.*/-\\ ", max_size=30))
def test_data_in_quotes_is_never_a_name(text: str) -> None:
    assert scan("INSERT INTO notes VALUES ('%s')" % text.replace("'", "''")) == {("insert",), ("notes",), ("values",)}
