# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What servers and CLIs say of an error: find its SQLSTATE, leave out the rows. Pure: no I/O."""

from __future__ import annotations

import re

#: Ways in which an SQLSTATE is written into Prisma's logs, by its versions and engines.
_STATED = re.compile(r"Database error code:\s*([0-9A-Z]{5})|SQLSTATE[ (:]*([0-9A-Z]{5})|SqlState\(E?\"?([0-9A-Z]{5})|originalCode\W{1,4}([0-9A-Z]{5})")
#: Driver adapters drop the SQLSTATE; these are their words and the server's, untranslated.
_WORDS: tuple[tuple[str, str], ...] = (
    (r"unique constraint failed|duplicate key value|could not create unique index", "23505"),
    (r"foreign key constraint", "23503"),
    (r"null constraint failed|null value in column|contains null values", "23502"),
    (r"check constraint", "23514"),
    (r"due to lock timeout", "55P03"),
    (r"canceling statement due to", "57014"),
    (r"deadlock", "40P01"),
    (r"cannot run inside a transaction block", "25001"),
    (r"permission denied|must be owner", "42501"),
    (r"no space left on device|could not extend file", "53100"),
    (r"too many (?:connections|clients)", "53300"),
    (r"division by zero", "22012"),
    (r"invalid input syntax", "22P02"),
    (r"syntax error", "42601"),
    # A column's message names its relation, so it is asked for first.
    (r"no such column|column \S+ (?:of relation \S+ )?does not exist", "42703"),
    (r"column \S+ of relation \S+ already exists", "42701"),
    (r"no such table|relation \S+ does not exist", "42P01"),
    (r"relation \S+ already exists", "42P07"),
    (r"type \S+ already exists|already exists", "42710"),
    (r"server closed the connection|connection terminated|terminating connection", "08006"),
)
#: Where a line begins that is no longer part of a DETAIL.
_NEXT = r"(?=\n(?:HINT|CONTEXT|QUERY|LINE \d|LOCATION|ERROR|FATAL|STATEMENT|POSITION|Database error|Migration name|DbError|\s+\d+: |\s*$)|\Z)"
_DETAIL = re.compile(r"\n?[ \t]*(?:DETAIL|CONTEXT):.*?" + _NEXT, re.S)
_DEBUG = re.compile(r"(detail|where_): Some\(\s*\"(?:[^\"\\]|\\.)*\"\s*,?\s*\)", re.S)


def sqlstate_in(text: str) -> str | None:
    """The SQLSTATE that a text states, or the one that its words mean."""
    stated = _STATED.search(text)
    if stated:
        return next(group for group in stated.groups() if group)
    return next((code for words, code in _WORDS if re.search(words, text, re.I)), None)


def without_rows(text: str) -> str:
    """The text without DETAIL and CONTEXT, which quote rows: ``Key (email)=(..) exists``."""
    return _DEBUG.sub(r"\1: (left out)", _DETAIL.sub("", text))


def error_line(text: str) -> str:
    """The one line that says what was wrong: the server's, else the first that is not a frame."""
    message = re.search(r"\b(?:ERROR|FATAL|PANIC):\s*(.+)$", text, re.M)
    if message:
        return message.group(1).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    plain = [line for line in lines if line != "external connector error"]
    return (plain or lines or [""])[0]


__all__ = ("error_line", "sqlstate_in", "without_rows")
