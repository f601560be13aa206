# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The report in Markdown, made from the report in HTML, so that the two say the same with the same figures. Pure: no I/O.

Only what a picture is for has no place in it: of a chart it has the words.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t
from html.parser import HTMLParser

from ansible_collections.pgops.migrations.plugins.module_utils._report_html import html
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown import at_start, block, code, table, words

#: Longest text of one element; what is longer was cut before.
_LONGEST = 10_000
_VOID = frozenset(["meta", "rect", "line", "path"])
_SILENT = frozenset(["head", "svg"])
_INLINE = frozenset(["a", "code", "data", "span", "strong", "time"])
_MORE = "-more"


@dataclasses.dataclass
class Node:
    """An element of the page; its children are elements and texts."""

    name: str
    attrs: dict[str, str]
    children: list[Node | str] = dataclasses.field(default_factory=list)

    def is_(self, word: str) -> bool:
        return word in self.attrs.get("class", "").split()

    def nodes(self, *names: str) -> list[Node]:
        """Children of these names; of any without one."""
        return [child for child in self.children if isinstance(child, Node) and (not names or child.name in names)]

    def below(self, *names: str) -> list[Node]:
        return [found for child in self.nodes() for found in ([child] if child.name in names else child.below(*names))]


class _Tree(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root = Node("", {})
        self._open = [self.root]
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self._open[-1].children.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        self._open.pop()

    def handle_data(self, data: str) -> None:
        self._open[-1].children.append(data)


def report(record: t.Mapping[str, t.Any]) -> str:
    """The report of one target."""
    return markdown(html(record))


def markdown(page: str) -> str:
    """A page of ours as Markdown."""
    return "\n\n".join("\n".join(part) for part in _blocks(_Tree(page).root)) + "\n"


def _blocks(node: Node) -> list[list[str]]:
    """The parts below an element, each some lines, with an empty line between two of them."""
    found: list[list[str]] = []
    children = node.nodes()
    if node.is_("status"):
        # A document begins with its heading, and a badge is no heading.
        children = sorted(children, key=lambda child: child.name != "h1")
    for child in children:
        if child.name in _SILENT:
            continue
        if child.is_("more") and found:
            # The rest of the list or the table before it.
            found[-1] += _drawn(child.nodes()[1])[-1]
        else:
            found += _drawn(child)
    return [part for part in found if part]


def _drawn(node: Node) -> list[list[str]]:
    draw = _DRAWN.get(node.name)
    return draw(node) if draw else _blocks(node)


def _heading(node: Node) -> list[list[str]]:
    return [["%s %s" % ("#" * int(node.name[1]), at_start(_inline(node)))]]


def _paragraph(node: Node) -> list[list[str]]:
    said = _inline(node)
    return [["**%s**" % said if node.is_("outcome") else at_start(said)]] if said else []


def _facts(node: Node) -> list[list[str]]:
    pairs = [[_inline(pair.nodes("dt")[0]), _inline(pair.nodes("dd")[0])] for pair in node.nodes("div")]
    return [table(["What", "Value"], pairs)] if pairs else []


def _table(node: Node) -> list[list[str]]:
    """The table under its caption; what is folded away in a cell comes after it, for a cell is one line."""
    lines = [row.nodes("th", "td") for row in node.below("tr")]
    headers = [(" " if cell.is_("n") else "") + _inline(cell) for cell in lines[0]]
    rows = [[_inline(cell) for cell in row] for row in lines[1:]]
    if node.attrs.get("id", "").endswith(_MORE):
        return [table(headers, rows)[2:]]
    found = [["**%s**" % _inline(node.nodes("caption")[0])], table(headers, rows)]
    for row in lines[1:]:
        for folded in row[0].below("details") + [each for cell in row[1:] for each in cell.below("details")]:
            found.append(["%s, %s:" % (_inline(row[0]), _inline(folded.nodes("summary")[0]).lower())])
            found += _blocks(Node("", {}, list(folded.nodes()[1:])))
    return found


def _list(node: Node) -> list[list[str]]:
    draw = _box if node.is_("boxes") else lambda item: "- %s" % at_start(_inline(item))
    return [[draw(item) for item in node.nodes("li")]]


def _box(item: Node) -> str:
    """A box of a checklist as the guide writes it, ticked where it passed."""
    (question,) = (found for found in item.below("span") if found.is_("question"))
    (badge,) = (found for found in item.below("span") if found.is_("badge"))
    return "- [%s] %s: **%s**. %s" % ("x" if badge.is_("pass") else " ", _inline(question), _inline(badge), _inline(item.nodes("p")[0]))


def _details(node: Node) -> list[list[str]]:
    summary, *content = node.nodes()
    if node.is_("samples"):
        return [["%s are in the page in HTML and in the record (%s)." % (_inline(summary), code("deploy.monitor.samples"))]]
    return [["**%s**" % _inline(summary)], *_blocks(Node("", {}, list(content)))]


def _figure(node: Node) -> list[list[str]]:
    caption = node.nodes("figcaption")[0]
    title, *keys = (_inline(found) for found in caption.nodes("span"))
    return [["%s: %s" % (title, "; ".join(keys))]]


def _block(node: Node) -> list[list[str]]:
    return [block(_plain(node), "sh" if node.is_("command") else "text")]


def _plain(node: Node) -> str:
    return "".join(_plain(child) if isinstance(child, Node) else child for child in node.children)


def _inline(node: Node) -> str:
    """The words in an element, as one line of Markdown."""
    return re.sub(r"\s+", " ", _words(node)).strip()


def _words(node: Node) -> str:
    parts: list[str] = []
    for child in node.children:
        if isinstance(child, str):
            said = child.strip()
            parts.append(child[: len(child) - len(child.lstrip())] + words(said, _LONGEST) + child[len(child.rstrip()) :] if said else child)
        elif child.attrs.get("aria-hidden") or child.name in ("details", *_SILENT):
            continue
        elif child.name == "code":
            parts.append(code(_plain(child), _LONGEST))
        elif child.name == "strong":
            parts.append("**%s**" % _words(child))
        elif child.name in _INLINE:
            # Two of them that stand apart on a page stand apart in a line, too.
            parts.append((" " if child.is_("n") or child.is_("badge") else "") + _words(child))
        else:
            parts.append(" " + _words(child) + " ")
    return "".join(parts)


_DRAWN: dict[str, t.Callable[[Node], list[list[str]]]] = {
    "h1": _heading, "h2": _heading, "h3": _heading, "p": _paragraph, "dl": _facts, "table": _table, "ul": _list, "ol": _list, "details": _details,
    "figure": _figure, "pre": _block,
}  # fmt: skip

__all__ = ("markdown", "report")
