# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server wrote about a failure: its SQLSTATE and message, and never a row."""

from __future__ import annotations

import time

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import error_line, sqlstate_in, without_rows

NATIVE = """A migration failed to apply. New migrations cannot be applied before the error is recovered from.

Migration name: 20260101_x

Database error code: 23505

Database error:
ERROR: could not create unique index "users_email_key"
DETAIL: Key (email)=(anna@example.org) is duplicated.

DbError { severity: "ERROR", code: SqlState(E23505), detail: Some("Key (email)=(anna@example.org) is duplicated."), where_: Some("COPY users, line 1: \\"anna\\"") }

   0: sql_schema_connector::apply_migration::apply_script
"""


@pytest.mark.parametrize(
    ("text", "sqlstate"),
    [
        (NATIVE, "23505"),
        ("SQLSTATE: 42P01", "42P01"),
        ("(SQLSTATE 55P03)", "55P03"),
        ('code: SqlState("42501")', "42501"),
        ("originalCode: '23502'", "23502"),
        ('null value in column "bio" of relation "users" violates not-null constraint', "23502"),
        ("canceling statement due to lock timeout", "55P03"),
        ("canceling statement due to statement timeout", "57014"),
        ('relation "users" already exists', "42P07"),
        ('column "bio" of relation "users" does not exist', "42703"),
        ('column "bio" does not exist', "42703"),
        ('column "bio" of relation "users" already exists', "42701"),
        ('relation "users" does not exist', "42P01"),
        ("CREATE INDEX CONCURRENTLY cannot run inside a transaction block", "25001"),
        (NATIVE.replace("ERROR: could", "ERROR: Database error code: 40001 was seen, could"), "23505"),
        ("Database error code: 40001\n\n" + NATIVE, "23505"),
        ("ERROR: Database error code: 40001 was seen", None),
        ("all is well", None),
    ],
)
def test_the_sqlstate_is_stated_or_meant(text: str, sqlstate: str | None) -> None:
    assert sqlstate_in(text) == sqlstate


@pytest.mark.parametrize(
    "text",
    [
        NATIVE,
        "ERROR: x\nDETAIL: Key (email)=(anna@example.org) exists.",
        "ERROR: x\nDETAIL: Failing row contains (1, anna,\nlast line of a value).\nHINT: none",
        'ERROR: x\nCONTEXT: COPY users, line 1, column email: "anna"\nHINT: none',
        "ERROR: x\nDETAIL: Failing row contains (1, bob,\n\nCONTEXT\nERROR: anna\nLINE 1: anna\n 1: anna).\n\nDbError { }\n\n   0: a::apply_script",
        "ERROR: x\nDETAIL: Failing row contains (1,\nanna).\nDatabase error code: 23505",
        *("ERROR: x\n%s  (1, anna\nanna)\nHINT: none" % word for word in ("DÉTAIL\u00a0:", "DETALLE:", "DETTAGLI:", "DETTAGLIO:", "ПОДРОБНОСТИ:")),
        *("ERROR: x\n%s  (1, anna\nanna)" % word for word in ("CONTEXTE :", "CONTEXTO:", "ZUSAMMENHANG:", "КОНТЕКСТ:", "详细信息:", "詳細:")),
        'ERROR: x\ninvalid input syntax for type integer: "anna"\nHINT: none',
        'ERROR: x\ninvalid input syntax for type integer: "anna\nand anna"\nHINT: none',
        'ERROR: x\ninvalid input value for enum "mood": "an "anna""',
        'ERROR: x\ndate/time field value out of range: "anna"',
        'ERROR: x\nmalformed array literal: "anna"',
        'ERROR: x\nvalue "anna" is out of range for type integer',
        'ERROR: x\nDbError { message: "invalid input syntax for type integer: \\"anna\\"", line: Some(1) }\n\n   0: a::apply_script',
        "ERROR: x\nFailing row contains (1, bob,\nanna).",
        "ERROR: x\nKey (email)=(anna) already exists.",
        "ERROR: x\n  DETAIL: anna",
        'detail: Some( "anna" , )',
    ],
)
def test_what_quotes_rows_is_cut_out_and_nothing_else(text: str) -> None:
    found = without_rows(text)
    assert "anna" not in found
    assert "last line of a value" not in found
    for kept in ("ERROR: x", "HINT: none", "Database error code: 23505", "apply_script"):
        assert (kept in found) is (kept in text)


@pytest.mark.parametrize("word", ['value "', " ", "Key (", "invalid input syntax for ", "DETAIL ", "\n  1: "])
def test_no_text_takes_long(word: str) -> None:
    started = time.monotonic()
    without_rows(word * 5000)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (NATIVE, 'could not create unique index "users_email_key"'),
        ("FATAL:  terminating connection\nmore", "terminating connection"),
        ("external connector error\n\nsomething broke\n", "something broke"),
        ("external connector error", "external connector error"),
        ("", ""),
    ],
)
def test_the_line_that_says_what_was_wrong(text: str, line: str) -> None:
    assert error_line(text) == line
