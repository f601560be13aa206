# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""PostgreSQL's lexical rules, as far as they decide where a statement ends. Pure: no I/O."""

from __future__ import annotations

import re
import typing as t

#: One lexical unit at a time. What none of them matches is one character of its own.
_TOKEN = re.compile(
    r"""
    (?P<space>\s+)
  | (?P<comment>--[^\n]*)
  | (?P<block>/\*)
  | (?P<estring>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z))
  | (?P<string>(?:[bBxXnN]|[uU]&)?'(?:[^']|'')*(?:'|\Z))
  | (?P<quoted>(?:[uU]&)?"(?:[^"]|"")*(?:"|\Z))
  | (?P<dollar>\$(?:[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_\x80-\U0010ffff]*)?\$)
  | (?P<number>\d[\w.]*)
  | (?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
  | (?P<cast>::)
  | (?P<other>.)
    """,
    re.X | re.S,
)
_BLOCK_PART = re.compile(r"/\*|\*/")


class Token(t.NamedTuple):
    """``kind`` is a group of the pattern above (a dollar-quoted body is a C(dollar))."""

    kind: str
    text: str


def tokens(sql: str) -> t.Iterator[Token]:
    """The lexical units of a script; put together again they are the script."""
    position = 0
    while position < len(sql):
        match = t.cast(t.Match[str], _TOKEN.match(sql, position))
        kind, end = t.cast(str, match.lastgroup), match.end()
        if kind == "block":
            end = _block_end(sql, end)
        elif kind == "dollar":
            close = sql.find(match.group(), end)
            end = len(sql) if close < 0 else close + len(match.group())
        yield Token("comment" if kind == "block" else kind, sql[position:end])
        position = end


def _block_end(sql: str, position: int) -> int:
    """The end of a block comment; they nest in PostgreSQL."""
    depth = 1
    while depth:
        match = _BLOCK_PART.search(sql, position)
        if not match:
            return len(sql)
        depth += 1 if match.group() == "/*" else -1
        position = match.end()
    return position


def split(sql: str) -> list[str]:
    """The statements of a script, without empty ones, each as it was written.

    A semicolon ends a statement unless it stands in parentheses (CREATE RULE) or in the
    body of a function written in SQL's own way (BEGIN ATOMIC .. END).
    """
    found: list[str] = []
    parts: list[str] = []
    words: list[str] = []
    parentheses = bodies = 0
    for token in tokens(sql):
        if token.kind == "other" and token.text in "()":
            parentheses = max(0, parentheses + (1 if token.text == "(" else -1))
        elif token.kind == "word":
            words.append(token.text.lower())
            bodies = _body_depth(words, bodies)
        elif token == Token("other", ";") and not parentheses and not bodies:
            found.append("".join(parts))
            parts, words = [], []
            continue
        parts.append(token.text)
    found.append("".join(parts))
    return [statement.strip() for statement in found if not is_empty(statement)]


def _body_depth(words: list[str], depth: int) -> int:
    """How many BEGIN ATOMIC bodies (and CASEs in them) are open after the last word."""
    last = words[-1]
    if depth == 0:
        routine = words[0] == "create" and any(word in ("function", "procedure") for word in words[:4])
        return 1 if routine and words[-2:] == ["begin", "atomic"] else 0
    if last in ("case", "begin"):
        return depth + 1
    return depth - 1 if last == "end" else depth


def is_empty(sql: str) -> bool:
    """Whether a script holds no statement at all; stops reading at the first sign of one."""
    return all(token.kind in ("space", "comment") or token == Token("other", ";") for token in tokens(sql))


def keywords(statement: str, limit: int = 0) -> list[str]:
    """The statement's words in lower case and its punctuation, without comments and space.

    :param limit: stop after so many; 0 means all.
    """
    found = []
    for token in tokens(statement):
        if token.kind not in ("space", "comment"):
            found.append(token.text.lower() if token.kind == "word" else token.text)
            if limit and len(found) >= limit:
                break
    return found


#: What PostgreSQL refuses inside a transaction block (25001), by its first words.
_ALONE: tuple[tuple[str, ...], ...] = (
    ("vacuum",), ("create", "database"), ("drop", "database"), ("create", "tablespace"), ("drop", "tablespace"), ("alter", "system"),
    ("create", "subscription"), ("drop", "subscription"), ("reindex", "database"), ("reindex", "system"), ("reindex", "schema"),
)  # fmt: skip
_ALONE_WORDS = re.compile("vacuum|database|tablespace|system|subscription|reindex|concurrently|cluster", re.I)
_TRANSACTION = {"begin", "commit", "end", "rollback", "abort", "start", "savepoint", "release"}


def runs_alone(statement: str) -> bool:
    """Whether PostgreSQL refuses this statement inside a transaction."""
    words = keywords(statement, 12)
    if any(tuple(words[: len(start)]) == start for start in _ALONE):
        return True
    if "concurrently" in words:
        return words[0] in ("create", "drop", "reindex", "alter") and ("index" in words or words[0] == "reindex" or "detach" in keywords(statement))
    return words == ["cluster"]


def controls_transaction(statement: str) -> bool:
    """Whether the statement begins or ends a transaction itself."""
    return keywords(statement, 1)[0] in _TRANSACTION


def statements_alone(sql: str) -> list[str]:
    """The statements that force a script to be run statement by statement.

    Empty for a script that may be sent as one message: the usual one, and the one whose
    only statement is such a one.
    """
    # Most scripts hold none of these words, and reading megabytes of INSERTs by the lexer takes seconds.
    if not _ALONE_WORDS.search(sql):
        return []
    statements = split(sql)
    return [statement for statement in statements if runs_alone(statement)] if len(statements) > 1 else []


__all__ = ("Token", "controls_transaction", "is_empty", "keywords", "runs_alone", "split", "statements_alone", "tokens")
