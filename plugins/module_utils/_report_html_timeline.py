# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The parts of a report that show the deploy over its time: migrations, sessions, sizes. Pure: no I/O.

Everything that a chart shows stands in a text or a table, too.
"""

from __future__ import annotations

import math
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._report_html_locks import entries, monitor_of
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    Child,
    Html,
    badge,
    code,
    duration,
    duration_text,
    facts,
    fold,
    is_number,
    items,
    join,
    number,
    section,
    size,
    size_text,
    table,
    tag,
    text,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._report_svg import Frame, Series, panel, series_of, time_bar

Record = t.Mapping[str, t.Any]
Said = t.Callable[[float], str]
#: Migrations that are drawn at once, and rows of a table.
_BARS, _MOST = 40, 25
_STATES = {
    "applied": "pass", "running": "warn", "rolled_back": "warn", "failed": "fail", "failed_clean": "fail", "failed_partial": "fail",
    "committed_unrecorded": "fail",
}  # fmt: skip
_SAMPLE = ("active", "idle_in_transaction", "waiting", "blocked")


def timeline(record: Record) -> Html:
    """The migrations as bars, and what the server did meanwhile as lines."""
    monitor = monitor_of(record)
    span = _seconds(monitor)
    migrations = entries(monitor.get("migrations"))
    drawn = [_timed(entry, span) for entry in migrations] if migrations and span else _durations(record)
    return section(
        "timeline", "Timeline" if monitor else "Migrations",
        _said(record, monitor), _undone(record), _list(drawn), _panels(monitor, span), _events(monitor), _samples(monitor),
        _names("Would be applied", (record["deploy"] or {}).get("would_apply")), _pending(record),
    )  # fmt: skip


def _seconds(monitor: Record) -> float:
    """What the time axis ends with."""
    ends = [monitor.get("seconds"), *(entry.get("t") for entry in entries(monitor.get("samples")))]
    ends += [entry.get(key) for entry in entries(monitor.get("migrations")) for key in ("started", "ended")]
    return max((float(value) for value in ends if is_number(value) and math.isfinite(value)), default=0.0)


def _said(record: Record, monitor: Record) -> Html | None:
    deploy = record["deploy"] or {}
    if not monitor:
        # Where the page says "not watched", a deploy must have been.
        return tag("p", "The deploy was not watched; these are the durations that the ledger has.", class_="about") if deploy.get("applied") else None
    samples = entries(monitor.get("samples"))
    drawn = Html("")
    if is_number(monitor.get("taken")) and monitor["taken"] > len(samples):
        drawn = text(", drawn as %s: the highest of their neighbours" % format(len(samples), ",d"))
    last, end = max((one["t"] for one in samples if is_number(one.get("t"))), default=0.0), monitor.get("seconds")
    if samples and is_number(end) and last < 0.9 * end:
        # A chart that ends early must not look like a quiet end.
        drawn = join([drawn, text(", the last at %s" % duration_text(last))])
    return facts([
        ("Deploy", duration(deploy["seconds"]) if is_number(deploy.get("seconds")) else None),
        ("Samples", join([number(monitor.get("taken")), drawn])),
        ("Watched", duration(monitor["seconds"]) if is_number(monitor.get("seconds")) else None),
        ("Other sessions that waited", number(monitor["blocked_sessions"]) if is_number(monitor.get("blocked_sessions")) else None),
        ("Longest wait of another session", duration(monitor["longest_block"]) if is_number(monitor.get("longest_block")) else None),
        ("Longest wait of the migration", duration(monitor["longest_wait"]) if is_number(monitor.get("longest_wait")) else None),
    ])  # fmt: skip


def _undone(record: Record) -> Html | None:
    applied = (record["deploy"] or {}).get("applied")
    return tag("p", "What is shown as applied was undone by the rollback.", class_="about") if record["outcome"] == "rolled_back" and applied else None


def _timed(entry: Record, span: float) -> Html:
    begin, end = entry.get("started"), entry.get("ended")
    state = str(entry.get("state") or "unknown")
    head: list[Child] = [code(entry.get("name")), badge(_STATES.get(state, "none"), state)]
    if not is_number(begin):
        return tag("li", tag("div", *head, class_="bar-head"))
    until = end if is_number(end) else span
    took = (
        join([text("took"), duration(round(until - begin, 3)), text("from"), duration(begin), text("on")], " ")
        if is_number(end)
        else join([text("from"), duration(begin), text("on, no end seen")], " ")
    )
    return tag(
        "li", tag("div", *head, tag("span", took, class_="n"), class_="bar-head"), time_bar(float(begin), float(until), span, _STATES.get(state, "none"))
    )


def _durations(record: Record) -> list[Html]:
    """Without a monitor: bars that all begin at the left, since it is not known when which began."""
    applied = entries((record["deploy"] or {}).get("applied"))
    longest = max((entry["seconds"] for entry in applied if is_number(entry.get("seconds"))), default=0.0)
    return [
        tag("li", tag("div", code(entry.get("name")), tag("span", duration(entry.get("seconds")), class_="n"), class_="bar-head"),
            time_bar(0.0, float(entry["seconds"]), float(longest), "pass") if is_number(entry.get("seconds")) and longest else None)
        for entry in applied
    ]  # fmt: skip


def _list(drawn: t.Sequence[Html]) -> Html | None:
    if not drawn:
        return None
    first = tag("ol", *drawn[:_BARS], class_="bars")
    return (
        join([first, fold("%s more" % format(len(drawn) - _BARS, ",d"), tag("ol", *drawn[_BARS:], class_="bars", start=_BARS + 1), class_="more")])
        if len(drawn) > _BARS
        else first
    )


def _panels(monitor: Record, span: float) -> Html | None:
    samples = entries(monitor.get("samples"))
    if not samples or not span:
        return None
    spans = [(one["started"], one["ended"]) for one in entries(monitor.get("migrations")) if is_number(one.get("started")) and is_number(one.get("ended"))]
    frame = Frame(span, spans, [one["at"] for one in entries(monitor.get("cancelled")) if is_number(one.get("at"))])
    sessions = [("active", "active", "s1"), ("idle_in_transaction", "idle in transaction", "s2"), ("waiting", "waiting for a lock", "s3")]
    drawn = [
        _panel(("sessions", "Sessions"), samples, sessions, frame, _whole),
        _panel(("blocked", "Waiting for the migration"), samples, [("blocked", "blocked sessions", "s4")], frame, _whole),
        _panel(("size", "Size of the database"), _sizes(monitor, samples), [("size", "size", "s1")], frame, size_text, from_zero=False),
        _panel(("wal", "Write-ahead log since the first sample"), samples, [("wal", "write-ahead log", "s1")], frame, _size),
        _panel(("temp", "Temporary files since the first sample"), samples, [("temp", "files", "s1")], frame, _size) if _any(samples, "temp") else None,
        _panel(("lag", "Replication lag"), samples, [("lag", "lag", "s1")], frame, _lag) if _any(samples, "lag") else None,
    ]
    found = [one for one in drawn if one]
    key = tag("p", "Shaded: while a migration ran%s." % (". Dashed: the watchdog stepped in" if frame.marks else ""), class_="about")
    return tag("div", *found, key, class_="panels") if found else None


def _sizes(monitor: Record, samples: t.Sequence[Record]) -> list[Record]:
    """The looks at the size, which are seldom, so that nothing between two of them is no gap; with those before and after the deploy."""
    found = [{"t": one["t"], "size": one["size"]} for one in samples if is_number(one.get("t")) and is_number(one.get("size"))]
    ends = [{"t": at, "size": monitor.get(key)} for at, key in ((0.0, "size_before"), (monitor.get("seconds"), "size_after"))]
    return sorted([*found, *(end for end in ends if is_number(end["t"]) and is_number(end["size"]))], key=lambda one: float(one["t"]))


def _any(samples: t.Sequence[Record], key: str) -> bool:
    return any(entry.get(key) for entry in samples)


def _whole(value: float) -> str:
    return "%g" % value


def _size(value: float) -> str:
    return size_text(value) if value else "0"


def _lag(value: float) -> str:
    return duration_text(value) if value else "0"


def _panel(
    panel_of: tuple[str, str], samples: t.Sequence[Record], lines: t.Sequence[tuple[str, str, str]], frame: Frame, said: Said, from_zero: bool = True
) -> Html | None:
    """One chart; none where the server gave nothing.

    :param panel_of: its id and its title. ``lines``: key of the samples, name, style.
    """
    ident, title = panel_of
    found = [one for one in (series_of(samples, key, name, style) for key, name, style in lines) if one.known()]
    if not found:
        return None
    # A chart of one line is named by its title.
    named = [_described(one, said) if len(lines) > 1 else _range(one, said) for one in found]
    described = "; ".join(named) + ". The samples are in a table below."
    keys = [tag("span", tag("span", aria_hidden="true", class_="swatch %s" % one.style), text(words), class_="key") for one, words in zip(found, named)]
    unseen = [name for _key, name, _style in lines if name not in [one.name for one in found]]
    if unseen:
        keys.append(tag("span", "%s: not seen, the role lacks the right (pg_monitor)" % " and ".join(unseen), class_="key"))
    caption = tag("figcaption", tag("span", title, class_="panel-title"), *keys)
    drawn = panel("chart-" + ident, title, described, found, frame, from_zero, said)
    return tag("figure", caption, drawn, class_="panel")


def _described(one: Series, said: Said) -> str:
    return "%s: %s" % (one.name, _range(one, said))


def _range(one: Series, said: Said) -> str:
    values = [value for _at, value in one.known()]
    low, high = said(min(values)), said(max(values))
    return low if low == high else "%s to %s" % (low, high)


def _events(monitor: Record) -> Html | None:
    """Where the watchdog stepped in, and what the server told of its progress."""
    rows = [[duration(one.get("at")), text(one.get("what")), text(one.get("reason")), number(one.get("retry"))] for one in entries(monitor.get("cancelled"))]
    parts: list[Child] = []
    if rows:
        parts.append(table("Cancelled by the watchdog", ["At", "What", "Why", " Retry"], rows, ident="cancelled-table", most=_MOST, stacked=True))
    builds = [[code(one.get("index")), code(one.get("table")), duration(one.get("seconds"))] for one in entries(monitor.get("index_builds"))]
    if builds:
        parts.append(table("Indexes built on tables of before", ["Index", "Table", " Took"], builds, ident="builds-table", most=_MOST, stacked=True))
    rewrites = monitor.get("rewrites")
    if isinstance(rewrites, list) and rewrites:
        parts += [tag("h3", "Tables written anew"), items([code(name) for name in rewrites])]
    steps = [
        [
            duration(one.get("at")),
            text(one.get("command")),
            code(one.get("relation")),
            text(one.get("phase")),
            _percent(one.get("percent")),
            code(one.get("migration")),
        ]
        for one in entries(monitor.get("progress"))
    ]
    if steps:
        drawn = table("Progress, as last seen", ["At", "Command", "Relation", "Phase", " Done", "Migration"], steps, ident="progress-table", most=_MOST)
        parts.append(fold("Progress that the server told (%d)" % len(steps), drawn))
    return join(parts) if parts else None


def _percent(value: t.Any) -> Html:
    return tag("data", "%.0f %%" % value, value=repr(value)) if is_number(value) else text("–")


def _samples(monitor: Record) -> Html | None:
    samples = entries(monitor.get("samples"))
    if not samples:
        return None
    headers = [" At", " Active", " Idle in transaction", " Waiting", " Blocked", " Size", " Write-ahead log", " Temporary files", " Lag", " Oldest transaction"]
    rows = [
        [duration(one.get("t")), *(number(one.get(key)) for key in _SAMPLE), *(size(one.get(key)) for key in ("size", "wal", "temp")),
         duration(one.get("lag")), duration(one.get("oldest_transaction"))]
        for one in samples
    ]  # fmt: skip
    return fold(
        "The samples as a table (%s)" % format(len(samples), ",d"), table("Samples of the monitor", headers, rows, ident="samples-table"), class_="samples"
    )


def _names(title: str, names: t.Any) -> Html | None:
    return join([tag("h3", title), items([code(name) for name in names])]) if isinstance(names, list) and names else None


def _pending(record: Record) -> Html | None:
    deploy = record["deploy"] or {}
    return _names("Still pending", deploy.get("pending")) if record["outcome"] != "rolled_back" and not deploy.get("would_apply") else None


__all__ = ("timeline",)
