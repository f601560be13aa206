# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""Markdown by small functions that escape. Pure: no I/O.

Names come from databases, folders and inventories, and may hold anything: every one of
them is written so that no Markdown in it takes effect.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line

#: Only what has a meaning in the middle of a line, so that a report can be read as it is, too.
_SPECIAL = re.compile(r"[\\`*\[\]<|~&]|(?<![^\W_])(?<!_)_+|_+(?![^\W_])(?!_)")
_LEADING = re.compile(r"^(?:[-=:+#>]|\d+(?=[.)](?:\s|$)))")
_EMPTY = "–"


def words(value: t.Any, limit: int = 600) -> str:
    """Words inside of a line, in which no character of Markdown or HTML has a meaning."""
    return _SPECIAL.sub(lambda found: "".join("\\" + char for char in found.group()), line("" if value is None else value, limit))


def at_start(written: str) -> str:
    """Markdown that may begin a line: what begins a list, a rule or a heading does so only there."""
    leading = _LEADING.match(written)
    if leading is None:
        return written
    return "\\" + written if not leading.group().isdigit() else leading.group() + "\\" + written[leading.end() :]


def text(value: t.Any, limit: int = 600) -> str:
    """Running text that may begin a line."""
    return at_start(words(value, limit))


def code(value: t.Any, limit: int = 400) -> str:
    """A code span, also for what holds backticks; a pipe is safe inside of a table, too."""
    content = line("" if value is None else value, limit)
    if not content:
        return _EMPTY
    if "|" in content or "\\" in content:
        # In a table a pipe divides cells even inside of a code span, and a backslash there is shown.
        return text(content, limit)
    ticks = "`" * (_longest_run(content, "`") + 1)
    blank = " " if content[0] == "`" or content[-1] == "`" else ""
    return ticks + blank + content + blank + ticks


def block(content: str, language: str = "text") -> list[str]:
    """A fenced block."""
    fence = "`" * max(3, _longest_run(content, "`") + 1)
    return [fence + language, *content.splitlines(), fence]


def _longest_run(content: str, char: str) -> int:
    longest = run = 0
    for found in content:
        run = run + 1 if found == char else 0
        longest = max(longest, run)
    return longest


def table(headers: t.Sequence[str], rows: t.Sequence[t.Sequence[str]]) -> list[str]:
    """A table whose cells are Markdown already; a header that begins with a blank is aligned to the right."""
    rule = ["---:" if header.startswith(" ") else "---" for header in headers]
    return ["| %s |" % " | ".join(row) for row in ([header.strip() for header in headers], rule, *rows)]


__all__ = ("at_start", "block", "code", "table", "text", "words")
