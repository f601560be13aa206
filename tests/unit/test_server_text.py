# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a server wrote about a failure: its SQLSTATE and message, and never a row."""

from __future__ import annotations

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
        'ERROR: x\nCONTEXT: COPY users, line 1, column email: "anna"\nLOCATION: a.c',
        "ERROR: x\n  DETAIL: anna",
        'detail: Some( "anna" , )',
    ],
)
def test_what_quotes_rows_is_cut_out_and_nothing_else(text: str) -> None:
    found = without_rows(text)
    assert "anna" not in found
    assert "last line of a value" not in found
    for kept in ("ERROR: x", "HINT: none", "LOCATION: a.c", "Database error code: 23505", "apply_script"):
        assert (kept in found) is (kept in text)


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
