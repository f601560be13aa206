# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What may stand in a record or a report: no URL, no password, no row, no endless text. Pure: no I/O.

How many entries a list may have is not decided here but by ``_record_bounds``, which says what it cuts.
"""

from __future__ import annotations

import math
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._server_text import without_rows

#: Longest text of a program that is kept, in bytes: its end, where the error stands.
TEXT_LIMIT = 4096
#: Levels below the top that are kept of what a phase returned; below them stands :data:`LEFT_OUT`, as where a text was cut.
_DEPTH = 8
LEFT_OUT = "[...]"

_URL = re.compile(r"\b[A-Za-z][A-Za-z0-9+.-]*://\S+")
_PASSWORD = re.compile(r"(?i)\b((?:pg)?passw(?:or)?d|passphrase|secret|api_?key|token)(\"?\s*[=:]\s*)(?:'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\S+)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECRET_KEY = re.compile(r"(?i)(?:[a-z0-9]+_)*(?:password|passwd|passphrase|secret|token|url|dsn|conninfo|api_?key)")
#: What Ansible adds to results, and what repeats the project's own files.
_DROPPED = frozenset(["ansible_facts", "diff", "exception", "invocation", "module_stderr", "module_stdout", "stderr_lines", "stdout_lines"])
#: Under these names a number is a count; anything else is content.
_ROWS = frozenset(["row", "rows", "values", "records", "query_result"])


def clean(text: t.Any, limit: int = TEXT_LIMIT) -> str:
    """A text of several lines without secrets, rows and control characters; the last ``limit`` bytes of it."""
    result = _ESCAPES.sub("", str(text)).replace("\r\n", "\n").encode("utf-8", "backslashreplace").decode("utf-8")
    result = _URL.sub("(URL left out)", result)
    result = _PASSWORD.sub(r"\1\2(left out)", result)
    result = without_rows(result)
    result = _CONTROL.sub("?", result)
    content = result.encode("utf-8")
    return result if len(content) <= limit else LEFT_OUT + " " + content[-limit:].decode("utf-8", "ignore")


def line(text: t.Any, limit: int = 200) -> str:
    """The same as one line of at most ``limit`` characters; here the beginning counts."""
    result = " ".join(clean(text, limit=1 << 20).split())
    return result if len(result) <= limit else result[: limit - 1].rstrip() + "…"


def plain(value: t.Any, depth: int = _DEPTH) -> t.Any:
    """A module's result as it may be kept: texts cleaned, secrets and rows dropped."""
    if isinstance(value, float) and not math.isfinite(value):
        # JSON has no word for it.
        return None
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, t.Mapping):
        if depth <= 0:
            return LEFT_OUT if value else {}
        return {line(key): plain(item, depth - 1) for key, item in value.items() if not _drop(str(key), item)}
    if isinstance(value, (list, tuple)):
        return [plain(item, depth - 1) for item in value] if depth > 0 else LEFT_OUT if value else []
    return clean(value)


def _drop(key: str, value: t.Any) -> bool:
    if key in _DROPPED or key.startswith("_ansible"):
        return True
    if isinstance(value, str) and _SECRET_KEY.fullmatch(key):
        return True
    return key in _ROWS and not (value is None or isinstance(value, (int, float)))


__all__ = ("LEFT_OUT", "TEXT_LIMIT", "clean", "line", "plain")
