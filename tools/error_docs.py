# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/errors.md from the register of error codes: python tools/error_docs.py"""

from __future__ import annotations

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / ".collections"))

from ansible_collections.pgops.migrations.plugins.module_utils import _errors  # noqa: E402

PAGE = ROOT / "docs" / "errors.md"
HEAD = """# Errors: what they mean and what to do next

Every failure of this collection ends with one line: `CODE: what is wrong. Next: what to do.` The code stands in the result
as `code`, the advice as `next_step`, beside the state that was observed. Codes are added and never renamed, so a playbook
may branch on them. Where the place of the failure knows more, its own next step is more precise than the one here.

This page is written by `python tools/error_docs.py` from `plugins/module_utils/_errors.py`.
"""


def sections(source: str) -> list[tuple[str, list[str]]]:
    """The headings that the register has as comments, with the codes below each."""
    found: list[tuple[str, list[str]]] = []
    body = source[source.index("CODES:") : source.index("\n}\n", source.index("CODES:"))]
    for heading, code in re.findall(r"^    # -+ (.+?) -+$|^    \"([A-Z0-9_]+)\":", body, re.M):
        if heading:
            found.append((heading, []))
        else:
            found[-1][1].append(code)
    return found


def page() -> str:
    parts = [HEAD]
    for heading, codes in sections(pathlib.Path(_errors.__file__).read_text(encoding="utf-8")):
        rows = ["| `%s` | %s | %s |" % (code, *map(_cell, _errors.CODES[code])) for code in codes]
        parts.append("\n".join(["## %s\n" % heading.capitalize(), "| code | means | next |", "|---|---|---|", *rows]) + "\n")
    return "\n".join(parts)


def _cell(text: str) -> str:
    return text.replace("|", r"\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
