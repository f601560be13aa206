# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""Tables of plain text for a terminal. Pure: no I/O."""

from __future__ import annotations

import typing as t
import unicodedata

#: No column is cut below this, unless it is narrower by itself.
MINIMUM = 8
GAP = "  "


def width_of(text: str) -> int:
    """Columns that a text takes in a terminal."""
    return sum(0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)


def cut(text: str, width: int) -> str:
    """The text in at most ``width`` columns; what is cut off is shown as an ellipsis."""
    if width_of(text) <= width:
        return text
    kept = ""
    for char in text:
        if width_of(kept + char) > width - 1:
            break
        kept += char
    return kept.rstrip() + "…" if width > 0 else ""


def one_line(value: t.Any) -> str:
    """A cell: without line breaks and without what would move the cursor or turn the writing."""
    text = "" if value is None else str(value).encode("utf-8", "backslashreplace").decode("utf-8")
    return " ".join("".join(char if char.isspace() or unicodedata.category(char) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else "?" for char in text).split())


def draw(headers: t.Sequence[str], rows: t.Sequence[t.Sequence[t.Any]], width: int = 120, right: t.Collection[str] = ()) -> list[str]:
    """A table as lines: headers, a rule, rows; no line is wider than ``width``.

    The widest columns give way first. Columns that are empty in all rows are left out.

    :param right: headers of the columns that are aligned to the right.
    """
    cells = [[one_line(value) for value in row] for row in rows]
    shown = [index for index in range(len(headers)) if not cells or any(row[index] for row in cells)]
    names = [headers[index] for index in shown]
    cells = [[row[index] for index in shown] for row in cells]
    widths = [max([width_of(name)] + [width_of(row[index]) for row in cells]) for index, name in enumerate(names)]
    _shrink(widths, width - len(GAP) * (len(widths) - 1))
    lines = [_line(names, widths, names, right), GAP.join("-" * size for size in widths)]
    return [line.rstrip()[:width] for line in lines + [_line(row, widths, names, right) for row in cells]]


def _shrink(widths: list[int], room: int) -> None:
    for floor in (MINIMUM, 1):
        while sum(widths) > room:
            index = widths.index(max(widths))
            if widths[index] <= floor:
                break
            widths[index] -= 1


def _line(row: t.Sequence[str], widths: t.Sequence[int], names: t.Sequence[str], right: t.Collection[str]) -> str:
    padded = []
    for text, size, name in zip(row, widths, names):
        shown = cut(text, size)
        blank = " " * (size - width_of(shown))
        padded.append(blank + shown if name in right else shown + blank)
    return GAP.join(padded)


__all__ = ("cut", "draw", "one_line", "width_of")
