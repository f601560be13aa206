# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What servers and CLIs say of an error: find its SQLSTATE, leave out the rows. Pure: no I/O."""

from __future__ import annotations

import re

#: Ways in which an SQLSTATE is written into Prisma's logs, by its versions and engines.
_STATED = re.compile(r"SQLSTATE[ (:]*([0-9A-Z]{5})|SqlState\(E?\"?([0-9A-Z]{5})|originalCode\W{1,4}([0-9A-Z]{5})")
#: The engine's own line. In the middle of a line it is somebody's message that says so.
_HEADER = re.compile(r"^Database error code:[^\S\n]*([0-9A-Z]{5})\b", re.M)
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
#: What ends a server's error in a CLI's output. A row may hold line breaks and almost any word after them,
#: so that nothing else is trusted to be the end of one.
#: The repetitions before it are bounded, so that no text takes long.
_END = r"(?=\n(?:HINT:|Database error code:|DbError|[^\S\n]+\d+: \w+::)|\Z)"
#: DETAIL and CONTEXT in the languages that servers are run in.
_DETAIL_WORDS = (
    "DETAIL|DÉTAIL|DETALLE|DETALHE|DETTAGLI|DETTAGLIO|ПОДРОБНОСТИ|ДЕТАЛІ|SZCZEGÓŁY|DETALJ|AYRINTI|DETAY|詳細|详细信息|詳細訊息|상세정보"
    "|CONTEXT|CONTEXTE|CONTEXTO|CONTESTO|ZUSAMMENHANG|КОНТЕКСТ|KONTEXT|KONTEKST|BAĞLAM|コンテキスト|文脈|上下文|背景|문맥"
)
_DETAIL = re.compile(r"\n?[^\S\n]{0,8}(?:%s)\s{0,2}[:：].*?%s" % (_DETAIL_WORDS, _END), re.S)
#: The server quotes rows in these; nothing in the text says where the row ends.
_ROW = re.compile(r"(?:Key \([^\n]{0,999}?\)=\(|(?i:failing row contains) \().*?" + _END, re.S)
#: A quoted value: up to the last quote of its line that could close it, or to the end of the error when none does.
_QUOTED = r"\\*\"(?:[^\n]*\"(?=[\s.,;:)}\]]|\Z)|.*?%s)" % _END
_VALUE = re.compile(
    r"((?:invalid input (?:syntax|value) for|field value out of range|malformed \w+ literal|displacement out of range)[^\n]{0,200}?: )%s" % _QUOTED
    + r"|(\b(?:invalid )?value )\\*\".{0,999}?\"(?= is out of range| for \")",
    re.S,
)
_DEBUG = re.compile(r"(detail|where_): Some\(\s*\"(?:[^\"\\]|\\.)*\"\s*,?\s*\)", re.S)


def sqlstate_in(text: str) -> str | None:
    """The SQLSTATE that a text states, or the one that its words mean."""
    headers = _HEADER.findall(text)
    if headers:
        return str(headers[-1])
    stated = _STATED.search(text)
    if stated:
        return next(group for group in stated.groups() if group)
    return next((code for words, code in _WORDS if re.search(words, text, re.I)), None)


def without_rows(text: str) -> str:
    """The text without DETAIL and CONTEXT, which quote rows, and without the values that messages quote."""
    kept = _DEBUG.sub(r"\1: (left out)", _DETAIL.sub("", text))
    return _VALUE.sub(r"\1\2(value left out)", _ROW.sub("(row left out)", kept))


def error_line(text: str) -> str:
    """The one line that says what was wrong: the server's, else the first that is not a frame."""
    message = re.search(r"\b(?:ERROR|FATAL|PANIC):\s*(.+)$", text, re.M)
    if message:
        return message.group(1).strip()
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    plain = [line for line in lines if line != "external connector error"]
    return (plain or lines or [""])[0]


__all__ = ("error_line", "sqlstate_in", "without_rows")
