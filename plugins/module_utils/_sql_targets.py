# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a statement writes, makes or alters, by the names that stand behind its verbs. Pure: no I/O, and no grammar."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql, _sql_names


def targets(text: str, verbs: t.Collection[str], code: bool) -> t.Iterator[tuple[str, frozenset[_sql_names.Chain]]]:
    """Verb and the names of what it writes. TRUNCATE may have several tables.

    :param verbs: INSERT, UPDATE, .. in lower case.
    :param code: of a language such as PL/pgSQL, where statements follow these words, too.
    """
    tokens = [token for token in _sql_names.tokens(text) if token[0] != "text"]
    begins = ("", "(", ";", "begin", "then", "else", "loop") if code else ("", "(")
    for position, (kind, word) in enumerate(tokens):
        if kind != "word" or word not in verbs:
            continue
        before = tokens[position - 1][1] if position else ""
        # FOR UPDATE, ON CONFLICT DO UPDATE, MERGE .. THEN DELETE are no statements of their own.
        if before not in begins and not (before == ")" and any(value == "with" for _kind, value in tokens[:position])):
            continue
        names = _targets_at(tokens, position + 1, word == "truncate")
        if names:
            yield word, names


def _targets_at(tokens: t.Sequence[_sql_names.Token], position: int, several: bool) -> frozenset[_sql_names.Chain]:
    names = set()
    while position < len(tokens):
        while position < len(tokens) and tokens[position][1] in ("into", "from", "only", "table"):
            position += 1
        chain, position = _chain(tokens, position)
        if not chain:
            break
        names.add(chain)
        if not several or tokens[position : position + 1] != [("sign", ",")]:
            break
        position += 1
    return frozenset(names)


def _chain(tokens: t.Sequence[_sql_names.Token], position: int) -> tuple[_sql_names.Chain, int]:
    parts: list[str] = []
    while position < len(tokens) and tokens[position][0] in ("word", "name"):
        parts.append(tokens[position][1])
        position += 1
        if tokens[position : position + 1] != [("sign", ".")]:
            break
        position += 1
    return tuple(parts), position


def names_after(statement: str, words: tuple[str, ...]) -> set[_sql_names.Chain]:
    """The name behind the last of these words."""
    tokens = list(_sql_names.tokens(statement))
    for position, (_kind, value) in enumerate(tokens):
        if value == words[-1]:
            after = position + 1
            while after < len(tokens) and tokens[after] in [("word", word) for word in ("if", "not", "exists", "only", "concurrently")]:
                after += 1
            chain, _end = _chain(tokens, after)
            return {chain} if chain else set()
    return set()


def columns(statements: t.Sequence[str], verb: str) -> set[tuple[_sql_names.Chain, str]]:
    """(table, column) of what ALTER TABLE drops, or adds (a column that is renamed to a name comes under it)."""
    found = set()
    for statement in statements:
        if _sql.keywords(statement, 2) != ["alter", "table"]:
            continue
        table = next(iter(names_after(statement, ("table",))), ())
        tokens = list(_sql_names.tokens(statement))
        for position, token in enumerate(tokens):
            renames = verb == "add" and token == ("word", "to") and ("word", "rename") in tokens[:position]
            if token != ("word", verb) and not renames:
                continue
            after = position + 1
            while after < len(tokens) and tokens[after] in [("word", word) for word in ("column", "if", "not", "exists")]:
                after += 1
            if after < len(tokens) and tokens[after][0] in ("word", "name") and tokens[after] != ("word", "constraint"):
                found.add((table, tokens[after][1]))
    return found


__all__ = ("columns", "names_after", "targets")
