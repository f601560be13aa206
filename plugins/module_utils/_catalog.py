# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The schema of a database as names and definitions that survive a dump and restore."""

from __future__ import annotations

import hashlib
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._catalog_sql import QUERIES
from ansible_collections.pgops.migrations.plugins.module_utils._connection import rows

#: Longer definitions are kept as their SHA-256.
LONGEST = 300
#: Kinds that are compared by parts of their definition, so it stays readable.
_WHOLE = frozenset(["column order", "sequence", "table"])
#: Kinds whose definition is somebody's own text, or may hold a secret: kept as SHA-256.
_OPAQUE = frozenset(["aggregate", "function", "procedure", "server"])
_STRINGS = r"""E?'(?:[^'\\]|''|\\.)*'|"(?:[^"]|"")*\""""
_CAST_ARRAY = re.compile(r"\(ARRAY\[")
_CAST_TYPE = re.compile(r"\]\)::((?:\"(?:[^\"]|\"\")+\"|[a-z_][\w$]*)(?:[. ](?:\"(?:[^\"]|\"\")+\"|[a-z_][\w$]*))*(?:\([\d,]+\))?)\[\]")


def objects(conn: t.Any) -> dict[str, str]:
    """Every object of the database's schema: C(kind name) -> definition.

    The caller has pinned the settings, see ``_fingerprint_sql.PINNED``.
    """
    found: dict[str, str] = {}
    for query in QUERIES:
        for kind, name, definition in rows(conn, query):
            found["%s %s" % (kind, name)] = shorten(kind, canonical(definition or ""))
    return dict(sorted(found.items()))


def shorten(kind: str, definition: str) -> str:
    """The definition, or its SHA-256 where it is long or might hold a secret."""
    if kind in _WHOLE or (len(definition) <= LONGEST and kind not in _OPAQUE):
        return definition
    return "sha256:%s" % hashlib.sha256(definition.encode("utf-8", "surrogatepass")).hexdigest()


def digest(found: t.Mapping[str, str]) -> str:
    """One word for a whole schema."""
    total = hashlib.sha256()
    for name, definition in sorted(found.items()):
        total.update(("%d %s\n%d %s\n" % (len(name), name, len(definition), definition)).encode("utf-8", "surrogatepass"))
    return total.hexdigest()


def canonical(definition: str) -> str:
    """The definition as it reads after a dump and restore.

    The server writes C(status IN ('a', 'b')) of a varchar column as
    C((ARRAY['a'::character varying, ...])::text[]), reads that as a cast of each element,
    and from then on writes C(ARRAY[('a'::character varying)::text, ...]).
    """
    start = 0
    while True:
        opening = _CAST_ARRAY.search(definition, start)
        if not opening:
            return definition
        start = opening.end()
        elements, end = _elements(definition, start)
        cast = _CAST_TYPE.match(definition, end) if elements else None
        if cast:
            body = ", ".join("(%s)::%s" % (element, cast.group(1)) for element in elements)
            definition = "%sARRAY[%s]%s" % (definition[: opening.start()], body, definition[cast.end() :])
            start = opening.start() + len("ARRAY[")


def _elements(text: str, start: int) -> tuple[list[str], int]:
    """The elements of the array that opens before ``start``, and where its ] stands."""
    elements: list[str] = []
    depth, begin, position = 0, start, start
    while position < len(text):
        char = text[position]
        if char in "'\"":
            # A backslash before it would be an E'' string's, whose end is found alike.
            quoted = re.compile(_STRINGS).match(text, position)
            position = quoted.end() if quoted else len(text)
            continue
        if char in "([":
            depth += 1
        elif char in ")]":
            if depth == 0:
                return elements + [text[begin:position]], position
            depth -= 1
        elif char == "," and depth == 0:
            elements.append(text[begin:position])
            begin = position + 2
        position += 1
    return [], start


__all__ = ("LONGEST", "canonical", "digest", "objects", "shorten")
