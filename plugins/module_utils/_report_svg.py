# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Line charts and bars as plain SVG, drawn from numbers. Pure: no I/O.

The picture is as wide as the page: what must keep its form (texts, the thickness of lines)
is placed in per cent, and only the lines themselves are stretched.
"""

from __future__ import annotations

import dataclasses
import math
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import Html, duration_text, exact, is_number, tag

Point = t.Tuple[float, float]
#: Units of a drawing across and down; the page stretches them.
WIDTH, HEIGHT = 1000, 100


@dataclasses.dataclass(frozen=True)
class Series:
    """One line. ``points``: (seconds, value); a value of None is a gap, and a gap is not drawn."""

    name: str
    points: t.Sequence[tuple[float, float | None]]
    style: str = "s1"

    def known(self) -> list[Point]:
        return [(at, value) for at, value in self.points if value is not None]


@dataclasses.dataclass(frozen=True)
class Scale:
    """From ``low``..``high`` to 0..``width``."""

    low: float
    high: float
    width: float

    def __call__(self, value: float) -> float:
        span = self.high - self.low
        return round((value - self.low) / span * self.width, 2) if span > 0 else 0.0


@dataclasses.dataclass(frozen=True)
class Frame:
    """What all panels share: the time that they show, the spans (from, to) that are shaded, the moments with a line."""

    seconds: float
    spans: t.Sequence[Point] = ()
    marks: t.Sequence[float] = ()


def series_of(samples: t.Sequence[t.Mapping[str, t.Any]], key: str, name: str, style: str = "s1") -> Series:
    points = [(float(entry["t"]), entry[key] if is_number(entry.get(key)) else None) for entry in samples if is_number(entry.get("t"))]
    return Series(name, points, style)


def ticks(high: float, most: int = 6) -> list[float]:
    """Round values from 0 to at most ``high``, that are easily read: steps of 1, 2 or 5, or of 15 and 30 for minutes."""
    if not high > 0 or not math.isfinite(high):
        return [0.0]
    nice = [15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400]
    step = next((float(one) for one in nice if high / one <= most), 0.0) if high > 60 else 0.0
    if not step:
        power = 10.0 ** math.floor(math.log10(high / most))
        step = next(power * factor for factor in (1, 2, 5, 10) if high / (power * factor) <= most)
    return [round(step * count, 9) for count in range(int(high / step + 1e-9) + 1)]


def bounds(series: t.Sequence[Series], from_zero: bool) -> tuple[float, float]:
    """The lowest and the highest value that the panel shows."""
    values = [value for one in series for _at, value in one.known()]
    if not values:
        return 0.0, 1.0
    low, high = (min(0.0, *values) if from_zero else min(values)), max(values)
    return (low, high) if high > low else (low, low + 1.0) if from_zero or not low else (low - abs(low) * 0.05, low + abs(low) * 0.05)


def line_path(points: t.Sequence[tuple[float, float | None]], across: Scale, down: Scale) -> str:
    """The commands of a path; a gap begins a new line, and a point between two gaps is a short dash."""
    parts: list[str] = []
    run: list[str] = []
    for at, value in [*points, (0.0, None)]:
        if value is not None:
            run.append("%g %g" % (across(at), round(down.width - down(value), 2)))
        elif run:
            parts.append("M%s" % "L".join(run) if len(run) > 1 else "M%sh2" % run[0])
            run = []
    return "".join(parts)


def panel(
    ident: str,
    title: str,
    described: str,
    series: t.Sequence[Series],
    frame: Frame,
    from_zero: bool = True,
    said: t.Callable[[float], str] = lambda value: "%g" % value,
) -> Html:
    """One chart over the time of the deploy.

    :param described: the text for who does not see it.
    :param said: the words for a value of the scale.
    """
    low, high = bounds(series, from_zero)
    across, down = Scale(0.0, frame.seconds, WIDTH), Scale(low, high, HEIGHT)
    shades = [
        tag("rect", x=_n(across(begin)), y="0", width=_n(max(across(end) - across(begin), 1.0)), height=HEIGHT, class_="span") for begin, end in frame.spans
    ]
    drawn = [tag("path", d=exact(line_path(one.points, across, down)), class_="line %s" % one.style) for one in series if one.known()]
    events = [tag("line", x1=_n(across(at)), x2=_n(across(at)), y1="0", y2=HEIGHT, class_="mark") for at in frame.marks]
    plot = tag("svg", *shades, *drawn, *events, viewBox="0 0 %d %d" % (WIDTH, HEIGHT), preserveAspectRatio="none", x="0", y="16", width="100%", height="80",
               overflow="visible")  # fmt: skip
    grid = [tag("line", x1="0", x2="100%", y1=y, y2=y, class_="grid") for y in (16, 96)]
    scale = [tag("text", said(high), x="0", y="11", class_="value"), tag("text", said(low), x="0", y="110", class_="value")]
    return tag(
        "svg", tag("title", title, id=ident + "-title"), tag("desc", described, id=ident + "-desc"), *grid, *scale, plot,
        *_axis(frame.seconds, across, len(said(low)) > 2),
        role="img", aria_labelledby="%s-title %s-desc" % (ident, ident), class_="panel", height="126",
    )  # fmt: skip


def tick_text(tick: float, seconds: float) -> str:
    """``5 s``; ``1:30`` where the axis is longer than a minute, ``1:30 h`` for hours."""
    if seconds <= 60:
        return duration_text(tick) if tick < 1 else "%g s" % tick
    return "%d:%02d h" % (tick // 3600, tick % 3600 // 60) if seconds > 7200 else "%d:%02d" % divmod(int(tick), 60)


def _axis(seconds: float, across: Scale, wide: bool) -> list[Html]:
    """The seconds below a panel; at the left stands the scale's lowest value already."""
    found = []
    for tick in ticks(seconds)[1:]:
        at = across(tick) / 10
        found.append(tag("line", x1="%g%%" % at, x2="%g%%" % at, y1="96", y2="101", class_="grid"))
        if wide and at < 20:
            continue
        found.append(tag("text", tick_text(tick, seconds), x="%g%%" % at, y="114", class_="tick", text_anchor="end" if at > 94 else "middle"))
    return found


def time_bar(begin: float, end: float, seconds: float, style: str) -> Html:
    """One span of the time as a bar; what is too short to be seen is a thin line."""
    across = Scale(0.0, seconds, WIDTH)
    left = min(across(begin), WIDTH - 3.0)
    width = max(min(across(end), WIDTH) - left, 3.0)
    return tag(
        "svg", tag("rect", x="0", y="4", width=WIDTH, height="2", class_="track"),
        tag("rect", x=_n(left), y="0", width=_n(width), height="10", class_="bar " + style),
        viewBox="0 0 %d 10" % WIDTH, preserveAspectRatio="none", class_="bar", height="10", aria_hidden="true", focusable="false",
    )  # fmt: skip


def _n(value: float) -> str:
    return "%g" % round(value, 2)


__all__ = ("HEIGHT", "WIDTH", "Frame", "Scale", "Series", "bounds", "line_path", "panel", "series_of", "tick_text", "ticks", "time_bar")
