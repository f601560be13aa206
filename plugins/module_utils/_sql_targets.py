# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a statement writes, makes or alters, by the names that stand behind its verbs. Pure: no I/O, and no grammar."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql, _sql_names

#: None for all that a table has.
Columns = t.Optional[t.FrozenSet[str]]
#: Words that end the list of what an UPDATE sets; FROM stands in a value only inside of parentheses.
_AFTER_SET = frozenset(["from", "where", "returning"])


def targets(text: str, verbs: t.Collection[str], code: bool) -> t.Iterator[tuple[str, frozenset[_sql_names.Chain], Columns]]:
    """Verb, the names of what it writes, and which columns it sets there. TRUNCATE may have several tables.

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
            yield word, names, _set_columns(tokens, position + 1) if word in ("update", "insert") else None


def _set_columns(tokens: t.Sequence[_sql_names.Token], position: int) -> Columns:
    """The columns behind the next SET, of an UPDATE or of ON CONFLICT; None where it is not understood."""
    while position < len(tokens) and tokens[position] != ("word", "set"):
        if tokens[position] == ("sign", ";"):
            return None
        position += 1
    found: set[str] = set()
    position += 1
    while position < len(tokens):
        several = tokens[position] == ("sign", "(")
        if several:
            position += 1
        while position < len(tokens) and tokens[position][0] in ("word", "name"):
            found.add(tokens[position][1])
            position += 1
            if not several or tokens[position : position + 1] != [("sign", ",")]:
                break
            position += 1
        following = _behind_value(tokens, position + 1 if several else position)
        if following is None:
            break
        position = following
    return frozenset(found) if found else None


def _behind_value(tokens: t.Sequence[_sql_names.Token], position: int) -> int | None:
    """Behind the comma that ends the value of a column; None where it was the last one."""
    depth = 0
    while position < len(tokens):
        kind, value = tokens[position]
        if kind == "sign" and value in "([":
            depth += 1
        elif kind == "sign" and value in ")]":
            depth -= 1
        if depth < 0 or (
            depth == 0 and ((kind == "sign" and value == ";") or (kind == "word" and value in _AFTER_SET and tokens[position - 1][1] != "distinct"))
        ):
            return None
        if depth == 0 and (kind, value) == ("sign", ","):
            return position + 1
        position += 1
    return None


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


def retyped(statement: str) -> frozenset[str]:
    """The columns to which ALTER TABLE gives another type."""
    tokens = list(_sql_names.tokens(statement))
    found = set()
    for position, token in enumerate(tokens):
        if token != ("word", "alter") or not position:
            continue
        name = position + 2 if tokens[position + 1 : position + 2] == [("word", "column")] else position + 1
        following = [value for _kind, value in tokens[name + 1 : name + 4]]
        if following[:1] == ["type"] or following == ["set", "data", "type"]:
            found.add(tokens[name][1])
    return frozenset(found)


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


__all__ = ("Columns", "columns", "names_after", "retyped", "targets")
