# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._sql import (
    controls_transaction,
    is_empty,
    keywords,
    runs_alone,
    split,
    statements_alone,
    tokens,
)
from hypothesis import example, given
from hypothesis import strategies as st

#: Pieces that mean something to a lexer, so that generated scripts reach its corners.
PIECES = st.sampled_from(
    """' '' "  "" $$ $a$ $1 -- /* */ ; ( ) \n \t \\ E' e'\\' U&' u&" B' x' :: 1e5 1.5.5 CREATE FUNCTION BEGIN ATOMIC END CASE select a$b é 日 \x00""".split(" ")
)
SCRIPTS = st.text() | st.lists(PIECES).map("".join) | st.lists(PIECES).map(" ".join)


@given(SCRIPTS)
@example("'")
@example("/* /* */")
@example("$a$ $b$ $a")
def test_the_tokens_of_any_text_are_the_text(script: str) -> None:
    found = list(tokens(script))
    assert "".join(token.text for token in found) == script
    assert all(token.text for token in found)


@given(SCRIPTS)
def test_no_statement_is_lost_or_made_up(script: str) -> None:
    statements = split(script)
    position = 0
    for statement in statements:  # each is a piece of the script, in order
        position = script.index(statement, position) + len(statement)
        assert keywords(statement)
    assert bool(statements) == any(word != ";" for word in keywords(script))
    # A string that is never closed loses the space at its end, so space does not count here.
    words = [word for statement in statements for word in keywords(statement) if word != ";"]
    assert "".join("".join(words).split()) == "".join("".join(word for word in keywords(script) if word != ";").split())


FUNCTION = "CREATE FUNCTION f() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT CASE WHEN true THEN 1 ELSE 2 END; END"


@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("", []),
        (" ;; -- nothing\n /* ; */ ;", []),
        ("SELECT 1", ["SELECT 1"]),
        ("SELECT 1; SELECT 2;", ["SELECT 1", "SELECT 2"]),
        ("SELECT ';'; SELECT 2", ["SELECT ';'", "SELECT 2"]),
        ("SELECT 'it''s;'; SELECT 2", ["SELECT 'it''s;'", "SELECT 2"]),
        (r"SELECT '\'; SELECT 2", [r"SELECT '\'", "SELECT 2"]),
        (r"SELECT E'\';'; SELECT 2", [r"SELECT E'\';'", "SELECT 2"]),
        (r"SELECT type'a\'; SELECT 2", [r"SELECT type'a\'", "SELECT 2"]),  # the e belongs to a word
        ('SELECT 1 AS ";"; SELECT 2', ['SELECT 1 AS ";"', "SELECT 2"]),
        ('SELECT 1 AS "a"";"; SELECT 2', ['SELECT 1 AS "a"";"', "SELECT 2"]),
        ("DO $$ BEGIN; END $$; SELECT 2", ["DO $$ BEGIN; END $$", "SELECT 2"]),
        ("DO $a$ ; $$ ; $a$; SELECT 2", ["DO $a$ ; $$ ; $a$", "SELECT 2"]),
        ("SELECT a$b$; SELECT $1;", ["SELECT a$b$", "SELECT $1"]),
        ("SELECT 1 -- no; end\n; SELECT 2", ["SELECT 1 -- no; end", "SELECT 2"]),
        ("SELECT 1 /* ; /* ; */ ; */; SELECT 2", ["SELECT 1 /* ; /* ; */ ; */", "SELECT 2"]),
        ("-- first\nSELECT 1;\n-- last\n", ["-- first\nSELECT 1"]),
        ("CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2); SELECT 3", ["CREATE RULE r AS ON INSERT TO a DO (SELECT 1; SELECT 2)", "SELECT 3"]),
        (FUNCTION + "; SELECT 2", [FUNCTION, "SELECT 2"]),
        (FUNCTION.replace("CREATE", "create or replace") + "; SELECT 2", [FUNCTION.replace("CREATE", "create or replace"), "SELECT 2"]),
        (FUNCTION.replace("FUNCTION", "PROCEDURE") + ";" + FUNCTION, [FUNCTION.replace("FUNCTION", "PROCEDURE"), FUNCTION]),
        ("BEGIN; SELECT 1; END; SELECT 2", ["BEGIN", "SELECT 1", "END", "SELECT 2"]),
        ("SELECT CASE WHEN a THEN 1 END; SELECT 2", ["SELECT CASE WHEN a THEN 1 END", "SELECT 2"]),
        ("SELECT atomic FROM begin; SELECT 2", ["SELECT atomic FROM begin", "SELECT 2"]),
        ("SELECT 'open; SELECT 2", ["SELECT 'open; SELECT 2"]),
        ("SELECT $$open; SELECT 2", ["SELECT $$open; SELECT 2"]),
        ("SELECT 1; /* open; SELECT 2", ["SELECT 1"]),
        ("SELECT )1; SELECT 2", ["SELECT )1", "SELECT 2"]),
    ],
)
def test_where_statements_end(script: str, statements: list[str]) -> None:
    assert split(script) == statements


@pytest.mark.parametrize(
    ("statement", "alone"),
    [
        ("CREATE INDEX CONCURRENTLY i ON t (a)", True),
        ("create unique index concurrently if not exists i on t (a)", True),
        ("CREATE INDEX i ON t (a)", False),
        ("CREATE INDEX /* concurrently */ i ON t (a)", False),
        ("-- CONCURRENTLY\nCREATE INDEX i ON t (a)", False),
        ('CREATE INDEX "concurrently" ON t (a)', False),
        ("DROP INDEX CONCURRENTLY IF EXISTS i", True),
        ("REINDEX TABLE CONCURRENTLY t", True),
        ("REINDEX (VERBOSE) INDEX CONCURRENTLY i", True),
        ("REINDEX DATABASE d", True),
        ("REINDEX TABLE t", False),
        ("ALTER TABLE p DETACH PARTITION c CONCURRENTLY", True),
        ("ALTER TABLE p DETACH PARTITION c", False),
        ("REFRESH MATERIALIZED VIEW CONCURRENTLY m", False),
        ("VACUUM", True),
        ("vacuum (full) t", True),
        ("CREATE DATABASE d", True),
        ("DROP DATABASE d", True),
        ("ALTER SYSTEM SET a = 1", True),
        ("CREATE TABLESPACE t LOCATION '/x'", True),
        ("CREATE SUBSCRIPTION s CONNECTION '' PUBLICATION p", True),
        ("CLUSTER", True),
        ("CLUSTER t USING i", False),
        ("CREATE TABLE concurrently_made (id int)", False),
        ("ALTER TYPE e ADD VALUE 'x'", False),
        ("INSERT INTO t VALUES ('CREATE INDEX CONCURRENTLY')", False),
    ],
)
def test_what_postgresql_refuses_in_a_transaction(statement: str, alone: bool) -> None:
    assert runs_alone(statement) is alone


@pytest.mark.parametrize(
    ("statement", "controls"),
    [
        ("BEGIN", True),
        ("commit", True),
        ("/* x */ ROLLBACK", True),
        ("START TRANSACTION", True),
        ("SAVEPOINT a", True),
        ("SELECT 'BEGIN'", False),
        ("END", True),
    ],
)
def test_what_controls_a_transaction(statement: str, controls: bool) -> None:
    assert controls_transaction(statement) is controls


def test_a_lone_statement_may_be_sent_as_one_message() -> None:
    alone = "CREATE INDEX CONCURRENTLY i ON t (a)"
    assert statements_alone(alone + ";\n") == []
    assert statements_alone("SELECT 1; " + alone) == [alone]
    assert statements_alone("SELECT 1; SELECT 2") == []


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("CREATE TABLE Users (id int)", ["create", "table", "users", "(", "id", "int", ")"]),
        ('SELECT "Users" -- x', ["select", '"Users"']),
        ("/* a */", []),
    ],
)
def test_the_words_of_a_statement(script: str, words: list[str]) -> None:
    assert keywords(script) == words
    assert keywords(script, 2) == words[:2]


@pytest.mark.parametrize(("script", "empty"), [("", True), (" \n", True), (";;  ;\n-- c", True), ("/* x */;", True), ("; SELECT 1", False), ("$$a$$", False)])
def test_a_script_without_a_statement(script: str, empty: bool) -> None:
    assert is_empty(script) is empty
    assert bool(split(script)) is not empty
