# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which names a text of SQL mentions. Pure: no I/O, and no grammar: a lexer.

A name counts where the server could read it as one: not in comments, not in data. Text in
quotes counts where it is code: in the body of DO or of a function, with EXECUTE, as an
argument of nextval and its like, and before C(::regclass).
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql

#: A name and its qualifiers, folded as the server does it: ("public", "users").
Chain = t.Tuple[str, ...]
#: kind (word, name, text, sign) and its value.
Token = t.Tuple[str, str]

_UNICODE_ESCAPE = re.compile(r"\\(?:\\|\+([0-9A-Fa-f]{6})|([0-9A-Fa-f]{4}))")
#: Words that are never a name unless quoted.
RESERVED = frozenset(
    """all analyse analyze and any array as asc asymmetric both case cast check collate column constraint create current_catalog current_date current_role
    current_time current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign from grant group having in
    initially intersect into lateral leading limit localtime localtimestamp not null offset on only or order placing primary references returning select
    session_user some symmetric table then to trailing true union unique user using variadic when where window with""".split()  # noqa: SIM905
)
_REG_TYPES = frozenset(["regclass", "regtype", "regproc", "regprocedure", "regnamespace"])
_NAME_TAKERS = frozenset(["currval", "lastval", "nextval", "setval", "pg_get_serial_sequence", "to_regclass"])


def scan(text: str) -> frozenset[Chain]:
    """All names that a text of SQL mentions, each with its qualifiers."""
    found: set[Chain] = set()
    _scan(text, False, found)
    return frozenset(found)


def mentions(names: t.Collection[Chain], subject: Chain) -> bool:
    """Whether one of the names can mean the object: (name,) or (schema, name).

    A name without a schema can mean the object of any schema, and one with a qualifier
    may be a column of the object.
    """
    if len(subject) == 1:
        return any(subject[0] in chain for chain in names)
    schema, name = subject[:2]
    return any(chain[0] == name or (schema, name) in (chain[0:2], chain[1:3]) for chain in names)


def split_name(text: str) -> Chain:
    """C(public."We.ird") as ("public", "We.ird"); the server's own spelling."""
    parts = re.findall(r'"((?:[^"]|"")*)"|([^.]+)', text)
    return tuple(quoted.replace('""', '"') or plain for quoted, plain in parts)


def _scan(text: str, inside: bool, found: set[Chain]) -> None:
    statement: list[Token] = []
    for token in tokens(text):
        if token == ("sign", ";"):
            _scan_statement(statement, inside, found)
            statement = []
        else:
            statement.append(token)
    _scan_statement(statement, inside, found)


def _scan_statement(statement: list[Token], inside: bool, found: set[Chain]) -> None:
    words = [value for kind, value in statement if kind == "word"]
    code = inside or words[:1] == ["do"] or "execute" in words or (words[:1] == ["create"] and ("function" in words or "procedure" in words))
    chain: list[str] = []
    for position, (kind, value) in enumerate(statement):
        if kind in ("word", "name"):
            if not (kind == "word" and value in RESERVED and not chain):
                chain.append(value)
            if statement[position + 1 : position + 2] != [("sign", ".")] and chain:
                found.add(tuple(chain))
                chain = []
        elif kind == "text":
            if code or _is_name(statement, position):
                if re.fullmatch(r"[^\W\d][\w$ -]*", value):
                    found.add((value,))
                _scan(value, True, found)
        elif (kind, value) != ("sign", ".") and chain:
            found.add(tuple(chain))
            chain = []


def _is_name(statement: list[Token], position: int) -> bool:
    """Whether a text in quotes stands where the server takes a name from a text."""
    after = statement[position + 1 : position + 3]
    if len(after) == 2 and after[0] == ("sign", "::") and after[1][1] in _REG_TYPES:
        return True
    opening = position
    while opening > 0 and statement[opening - 1] != ("sign", "("):
        if statement[opening - 1][0] not in ("text", "number") and statement[opening - 1] != ("sign", ","):
            return False
        opening -= 1
    return opening > 1 and statement[opening - 2][1] in _NAME_TAKERS


def tokens(text: str) -> t.Iterator[Token]:
    """The tokens of a text without space and comments; what is not ended ends with it."""
    for kind, value in _sql.tokens(text):
        if kind == "word":
            yield "word", _cut("".join(char.lower() if char.isascii() else char for char in value))
        elif kind == "quoted" and value[0] in "uU":
            yield "name", _cut(_UNICODE_ESCAPE.sub(_unescape, _unquote(value[2:], '"')))
        elif kind == "quoted":
            yield "name", _cut(_unquote(value, '"'))
        elif kind == "estring":
            yield "text", re.sub(r"\\(.)", lambda found: {"n": "\n", "t": "\t"}.get(found.group(1), found.group(1)), _unquote(value[1:], "'"), flags=re.S)
        elif kind == "string":
            yield "text", _unquote(value[value.index("'") :], "'")
        elif kind == "dollar":
            tag = value[: value.index("$", 1) + 1]
            yield "text", value[len(tag) : -len(tag) if value.endswith(tag) and len(value) >= 2 * len(tag) else None]
        elif kind == "number":
            yield "number", value
        elif kind not in ("space", "comment"):
            yield "sign", value


def _unquote(value: str, quote: str) -> str:
    body = value[1:-1] if len(value) > 1 and value.endswith(quote) else value[1:]
    return body.replace(quote * 2, quote)


def _unescape(match: re.Match[str]) -> str:
    code = match.group(1) or match.group(2)
    if not code:
        return "\\"
    return chr(int(code, 16)) if int(code, 16) < 0x110000 else ""


def _cut(name: str) -> str:
    """A name as the server keeps it: its first 63 bytes."""
    return name.encode("utf-8", "surrogatepass")[:63].decode("utf-8", "ignore")


__all__ = ("RESERVED", "Chain", "mentions", "scan", "split_name", "tokens")
