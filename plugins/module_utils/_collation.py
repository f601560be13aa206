# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The order in which the Prisma CLI applies migrations: JavaScript's localeCompare.

That is the Unicode collation algorithm with the root rules of CLDR, not byte order:
C(20240101_a) comes before C(20240101_B), and C(_) before C(-). Pure: no I/O. Exact for
ASCII names; for others an approximation that a caller can ask about with :func:`exact`.
"""

from __future__ import annotations

import functools
import typing as t
import unicodedata

#: ASCII in CLDR's root order; letters follow, lower case before upper at the third level.
_ASCII = "\t\n\x0b\x0c\r _-,;:!?.'\"()[]{}@*/\\&#%`^+<=>|~$0123456789"
_RANK = {char: rank for rank, char in enumerate(_ASCII)}
_RANK.update({char: 100 + rank for rank, char in enumerate("abcdefghijklmnopqrstuvwxyz")})
#: Letters that collate as others although they have no decomposition.
_EXPANSIONS = {"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ł": "l", "ħ": "h", "ı": "i", "ð": "d", "þ": "th"}

Key = t.Tuple[t.Tuple[int, ...], t.Tuple[int, ...], t.Tuple[int, ...]]


@functools.lru_cache(maxsize=4096)
def sort_key(name: str) -> Key:
    """The key whose order is that of localeCompare.

    Three levels: letters first, then accents, then case, each over the whole name.
    """
    primary: list[int] = []
    secondary: list[int] = []
    tertiary: list[int] = []
    for char in unicodedata.normalize("NFD", name):
        if unicodedata.category(char) in ("Mn", "Me") and primary:
            # An accent belongs to the letter before it.
            secondary[-1] = secondary[-1] * 0x110000 + ord(char)
            continue
        folded = char.casefold()
        base = _EXPANSIONS.get(folded, folded)
        for part in base:
            weight = _weight(part)
            if weight is None:
                continue
            primary.append(weight)
            secondary.append(0 if base == folded else ord(folded[0]))
            tertiary.append(0 if char == folded else 1)
    return tuple(primary), tuple(secondary), tuple(tertiary)


def _weight(char: str) -> int | None:
    if char in _RANK:
        return _RANK[char]
    category = unicodedata.category(char)
    if category in ("Cc", "Cf"):
        return None
    if category == "Nd":
        return _RANK[str(unicodedata.decimal(char))]
    if category[0] in "LNM":
        return 1000 + ord(char)
    # Other punctuation and symbols stand before the digits.
    return _RANK["$"]


def sort_names(names: t.Iterable[str]) -> list[str]:
    """The names in the order in which the Prisma CLI applies them."""
    return sorted(names, key=sort_key)


def exact(name: str) -> bool:
    """Whether the order of this name is exact and not an approximation."""
    return name.isascii()


__all__ = ("exact", "sort_key", "sort_names")
