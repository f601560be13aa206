# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The lines of the table: what was measured, against what, and whether that was the aim."""

from __future__ import annotations

import dataclasses
import statistics
from collections.abc import Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Line:
    """One comparison. ``baseline`` and ``ours`` hold one value a round, in ``unit``.

    ``figure`` is what the aim is about: the median of the rounds' ratios, or the median or
    the worst of ours. An aim of None is none: the line is there for information.
    """

    part: str
    what: str
    ours: tuple[float, ...]
    baseline: tuple[float, ...] = ()
    aim: float | None = None
    unit: str = "s"
    figure_of: str = "ratio"
    missing: str = ""

    @property
    def figure(self) -> float:
        if self.figure_of == "worst":
            return max(self.ours)
        if self.figure_of == "median":
            return statistics.median(self.ours)
        return statistics.median(ours / baseline for ours, baseline in zip(self.ours, self.baseline, strict=True))

    @property
    def verdict(self) -> str:
        if self.missing:
            return "left out: %s" % self.missing
        if self.aim is None:
            return ""
        return "met" if self.figure <= self.aim else "MISSED"

    def cells(self) -> list[str]:
        if self.missing:
            return [self.what, "", "", "", "", self.verdict]
        ratio = self.figure_of == "ratio"
        first = _amount(statistics.median(self.baseline), self.unit) if self.baseline else ""
        ours = _amount(statistics.median(self.ours) if ratio else self.figure, self.unit)
        aim = "" if self.aim is None else "%.4g" % self.aim if ratio else _amount(self.aim, self.unit)
        return [self.what, first, ours, _ratio(self.figure) if ratio else "", aim, self.verdict]

    def as_dict(self) -> dict[str, Any]:
        found = dataclasses.asdict(self)
        return dict(found, verdict=self.verdict, figure=None if self.missing else round(self.figure, 5))


def _amount(value: float, unit: str) -> str:
    if unit == "s":
        return "%.0f ms" % (value * 1000) if value < 1 else "%.2f s" % value
    if unit == "B":
        return "%.1f MB" % (value / 1e6)
    return f"{value:,.0f} {unit}"


def _ratio(value: float) -> str:
    return "%.2f" % value if value >= 0.1 else "%.2g" % value


def table(lines: Sequence[Line]) -> str:
    """All lines as columns of text."""
    grid = [["", "baseline", "ours", "ratio", "aim", ""]] + [line.cells() for line in lines]
    widths = [max(len(row[column]) for row in grid) for column in range(5)]
    return "\n".join(
        ("%s  %s  %s" % (row[0].ljust(widths[0]), "  ".join(cell.rjust(width) for cell, width in zip(row[1:5], widths[1:], strict=True)), row[5])).rstrip()
        for row in grid
    )


__all__ = ("Line", "table")
