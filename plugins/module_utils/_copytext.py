# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The text form of COPY: one line a row. Pure: bytes in, bytes out.

It is bytes in an encoding whose ASCII bytes always stand for themselves, as all encodings of a server do.
"""

from __future__ import annotations

import re
import typing as t

Columns = t.Tuple[str, ...]
NULL = b"\\N"
END = b"\\.\n"
_IDENTIFIER = rb'(?:"(?:[^"]|"")*"|[^\s".,();]+)'
_COPY = re.compile(rb"COPY\s+(%s)\.(%s)\s*(?:\(((?:[^\"()]|\"(?:[^\"]|\"\")*\")*)\)\s*)?FROM stdin;\s*" % (_IDENTIFIER, _IDENTIFIER))
_NAMES = re.compile(_IDENTIFIER)
# Quoted names and texts may hold a semicolon, a line break, and a COPY statement.
_STATEMENT = re.compile(rb"(?:[^\"';]|\"(?:[^\"]|\"\")*\"|'(?:[^']|'')*')*;\s*")
_ESCAPE = re.compile(rb"\\(?:x([0-9A-Fa-f]{1,2})|([0-7]{1,3})|(.))", re.S)
_LETTERS = {b"b": b"\b", b"f": b"\f", b"n": b"\n", b"r": b"\r", b"t": b"\t", b"v": b"\v"}
_SPECIAL = re.compile(rb"[\b\f\n\r\t\v\\]")
_WRITTEN = {b"\\": b"\\\\", **{value: b"\\" + letter for letter, value in _LETTERS.items()}}


class CopyError(ValueError):
    """The text is not what pg_restore or COPY writes."""


def blocks(stream: t.IO[bytes], encoding: str = "utf-8") -> t.Iterator[tuple[str, str, Columns, t.Iterator[bytes]]]:
    """(schema, table, columns, lines) of each COPY block in the output of pg_restore, in its order.

    The lines, each with its line feed, are read as they are asked for; what is left of them is skipped.

    :param encoding: Python's name of the encoding that names are written in.
    :raises CopyError: when the output ends inside of a block or of a statement.
    """
    statement = b""
    for line in stream:
        if not statement and (line.startswith((b"--", b"\\")) or not line.strip()):
            continue
        statement += line
        if not _STATEMENT.fullmatch(statement):
            continue
        found, statement = _COPY.fullmatch(statement), b""
        if found:
            schema, table = (name_of(part, encoding) for part in found.group(1, 2))
            columns = tuple(name_of(part, encoding) for part in _NAMES.findall(found.group(3) or b""))
            lines = _lines(stream)
            yield schema, table, columns, lines
            for _rest in lines:
                pass
    if statement:
        raise CopyError("the output ends inside a statement")


def _lines(stream: t.IO[bytes]) -> t.Iterator[bytes]:
    for line in stream:
        if line == END:
            return
        yield line
    raise CopyError("the output ends inside the rows of a table")


def name_of(identifier: bytes, encoding: str = "utf-8") -> str:
    """The name that an identifier in SQL stands for."""
    text = identifier.decode(encoding, "surrogateescape")
    return text[1:-1].replace('""', '"') if text.startswith('"') else text


def split(line: bytes) -> list[bytes]:
    """The columns of a line, still escaped. The line of a table without columns has one empty one."""
    return (line[:-1] if line.endswith(b"\n") else line).split(b"\t")


def picker(positions: t.Sequence[int]) -> t.Callable[[bytes], bytes]:
    """A function from a line to the line with only the columns at these positions, in this order."""

    def pick(line: bytes) -> bytes:
        fields = split(line)
        return b"\t".join([fields[position] for position in positions]) + b"\n"

    return pick


def unescape(field: bytes) -> bytes | None:
    """The value of a column, None for NULL."""
    if field == NULL:
        return None
    if b"\\" not in field:
        return field
    return _ESCAPE.sub(_value, field)


def _value(found: re.Match[bytes]) -> bytes:
    digits, octal, letter = found.groups()
    if digits is not None:
        return bytes([int(digits, 16)])
    if octal is not None:
        return bytes([int(octal, 8) & 0xFF])
    return _LETTERS.get(letter, letter)


def escape(value: bytes | None) -> bytes:
    """A value as a column of a line."""
    return NULL if value is None else _SPECIAL.sub(lambda found: _WRITTEN[found.group()], value)


def literal(value: bytes | None) -> bytes:
    """A value as SQL, for a session with standard_conforming_strings."""
    return b"NULL" if value is None else b"'%s'" % value.replace(b"'", b"''")


__all__ = ("CopyError", "END", "NULL", "blocks", "escape", "literal", "name_of", "picker", "split", "unescape")
