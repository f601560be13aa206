# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""HTML by small functions that escape: a text becomes markup only through them. Pure: no I/O.

Names come from databases, folders and inventories, and may hold anything. What is not an
:class:`Html` already is cleaned as everything in a record is, and escaped.
"""

from __future__ import annotations

import datetime
import html
import math
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._redaction import clean, line
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text, size_text

Child = t.Union["Html", str, None]
#: What shows as nothing, or turns around what stands beside it; in a command it is written so that a shell hands on the same.
_UNSEEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]")
#: In SVG only a slash ends an element without content; in HTML it does no harm.
_VOID = frozenset(["meta", "rect", "line", "path"])
EMPTY = "–"
#: Longest text of one element; a record's texts are shorter.
_LONGEST = 8000


class Html(str):
    """Markup. Joining two of them by ``+`` or ``join`` gives a text again, which is escaped: use :func:`join`."""

    __slots__ = ()


#: Between two elements; a text of blanks only is cleaned to nothing.
SPACE = Html(" ")


def text(value: t.Any, limit: int = _LONGEST) -> Html:
    """A text of one line, with no character of HTML in it that has a meaning."""
    return Html(html.escape(_UNSEEN.sub("\ufffd", line("" if value is None else value, limit)), quote=True))


def exact(value: str) -> Html:
    """Escaped and not cleaned: for an address, or for numbers of ours that are longer than a line."""
    return Html(html.escape(value, quote=True))


def join(parts: t.Iterable[Child], glue: str = "") -> Html:
    return Html(glue.join(part if isinstance(part, Html) else text(part) for part in parts if part))


def tag(name: str, /, *children: Child, **attributes: t.Any) -> Html:
    """An element. ``class_`` and ``aria_label`` are written C(class) and C(aria-label); True is a bare attribute, None and False are left out."""
    written = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        named = key.rstrip("_").replace("_", "-")
        written.append(" %s" % named if value is True else ' %s="%s"' % (named, value if isinstance(value, Html) else text(value)))
    if name in _VOID and not children:
        return Html("<%s%s/>" % (name, "".join(written)))
    return Html("<%s%s>%s</%s>" % (name, "".join(written), join(children), name))


def code(value: t.Any, limit: int = 400) -> Html:
    """A name, apart from the direction of the text around it."""
    return tag("code", text(value, limit)) if value not in (None, "") else Html(EMPTY)


def block(value: str, label: str) -> Html:
    """Text of several lines, which is cleaned. It can be scrolled, so it can be reached by the keyboard."""
    content = Html(html.escape(_UNSEEN.sub("\ufffd", clean(value)), quote=True))
    return tag("pre", tag("code", content), tabindex="0", role="region", aria_label=label)


def command(value: str, label: str) -> Html:
    """A command as it is typed: nothing is cleaned away, but what cannot be seen is written as JSON writes it.

    Only JSON between quotes can hold such characters, see ``_typed.option``.
    """
    content = html.escape(_UNSEEN.sub(lambda found: "\\u%04x" % ord(found.group()), value), quote=True)
    return tag("pre", tag("code", Html(content)), class_="command", tabindex="0", role="region", aria_label=label)


def is_number(value: t.Any) -> t.TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def number(value: t.Any) -> Html:
    """``12,345``; with the exact value for a machine."""
    if not is_number(value):
        return Html(EMPTY)
    return tag("data", format(value, ",d") if isinstance(value, int) else format(value, ",g"), value=repr(value))


def change(value: int) -> Html:
    return tag("data", format(value, "+,d") if value else "0", value=repr(value))


def duration(value: t.Any) -> Html:
    """``20 ms``, ``6.2 s``, ``3 min 20 s``."""
    return tag("data", duration_text(value), value=repr(value)) if is_number(value) else Html(EMPTY)


def size(value: t.Any) -> Html:
    """``12.3 MB``, in units of 1000."""
    return tag("data", size_text(value), value=repr(value)) if is_number(value) else Html(EMPTY)


def moment(value: t.Any) -> Html:
    """A time, in UTC and to the second; what is no time as it is."""
    try:
        found = datetime.datetime.fromisoformat(re.sub(r"[zZ]\Z", "+00:00", str(value).strip()))
    except ValueError:
        return text(value)
    if found.tzinfo:
        found = found.astimezone(datetime.timezone.utc)
    return tag("time", found.strftime("%Y-%m-%d %H:%M:%S UTC"), datetime=value)


def badge(kind: str, word: str) -> Html:
    """A verdict: a word and a sign, so that no colour is needed."""
    return tag("span", tag("span", _SIGNS.get(kind, "·"), aria_hidden="true", class_="sign"), text(word), class_="badge %s" % kind)


_SIGNS = {"pass": "✓", "fail": "✕", "warn": "!", "none": "?", "info": "·"}


def table(caption: Child, headers: t.Sequence[str], rows: t.Sequence[t.Sequence[Child]], *, ident: str = "", most: int = 0, stacked: bool = False) -> Html:
    """A table with a caption; the first cell of a row is its header.

    :param headers: one that begins with a blank is over numbers.
    :param most: rows that are shown at once; the others are there, folded away.
    :param stacked: on a narrow screen every row becomes a block; else the table can be scrolled.
    """
    if most and len(rows) > most:
        first = table(caption, headers, rows[:most], ident=ident, stacked=stacked)
        rest = table("%s, the others" % caption if not isinstance(caption, Html) else caption, headers, rows[most:], ident=ident + "-more", stacked=stacked)
        return join([first, fold("%s more" % format(len(rows) - most, ",d"), rest, class_="more")])
    roles = (lambda role: {"role": role}) if stacked else (lambda role: {})
    head = tag(
        "tr",
        *(tag("th", header.strip(), scope="col", class_="n" if header[:1] == " " else None, **roles("columnheader")) for header in headers),
        **roles("row"),
    )
    body = []
    for row in rows:
        cells = [tag("th", row[0], scope="row", **roles("rowheader"))]
        for header, cell in zip(headers[1:], row[1:]):
            kind = ("n" if header[:1] == " " else "") + (" empty" if cell == EMPTY else "")
            cells.append(tag("td", cell, class_=kind.strip() or None, data_label=header.strip() if stacked else None, **roles("cell")))
        body.append(tag("tr", *cells, **roles("row")))
    drawn = tag(
        "table", tag("caption", caption, id=ident + "-caption"), tag("thead", head, **roles("rowgroup")), tag("tbody", *body, **roles("rowgroup")),
        class_="stacked" if stacked else None, id=ident, **roles("table"),
    )  # fmt: skip
    if stacked:
        return tag("div", drawn, class_="wide")
    return tag("div", drawn, class_="scroll", role="region", aria_labelledby=ident + "-caption", tabindex="0")


def facts(pairs: t.Iterable[tuple[str, Child]]) -> Html:
    """Names and values; those without a value are left out."""
    shown = [(name, value) for name, value in pairs if value]
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value), class_="long" if _is_long(value) else None) for name, value in shown), class_="facts")


def _is_long(value: Child) -> bool:
    return len(html.unescape(re.sub(r"<[^>]*>", "", value or ""))) > 44


def fold(summary: Child, *content: Child, class_: str | None = None) -> Html:
    """What is there for who wants it; the browser's own element, no script."""
    return tag("details", tag("summary", summary), *content, class_=class_)


def items(entries: t.Sequence[Child], most: int = 50) -> Html:
    """A list; what is over is folded away."""
    first = tag("ul", *(tag("li", entry) for entry in entries[:most]))
    if len(entries) <= most:
        return first
    return join([first, fold("%s more" % format(len(entries) - most, ",d"), tag("ul", *(tag("li", entry) for entry in entries[most:])), class_="more")])


def section(ident: str, title: str, *content: Child, class_: str | None = None) -> Html:
    """A part with its heading; nothing where there is nothing in it."""
    inside = join(content)
    return tag("section", tag("h2", title, id=ident), inside, aria_labelledby=ident, class_=class_) if inside else Html("")


__all__ = (
    "EMPTY", "SPACE", "Child", "Html", "badge", "block", "change", "code", "command", "duration", "duration_text", "exact", "facts", "fold",
    "is_number", "items", "join", "moment", "number", "section", "size", "size_text", "table", "tag", "text",
)  # fmt: skip
