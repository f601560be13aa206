# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The section of a report that tells what a way back lost, or would lose. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import COLUMNS, about, intro, source_of, unknown_text
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_back import lost_by_script, script_of

Write = t.Callable[[t.Any], str]
_HEADERS = ("Table", " Lost", " Replaced", " Back")


def loss_section(record: t.Mapping[str, t.Any], text: Write, code: Write, table: t.Callable[..., list[str]]) -> list[str]:
    """The lines; none where nothing was to be lost.

    :param table: draws headers and rows, and limits them.
    """
    restore = record["restore"] or {}
    if script_of((record.get("other") or {}).get("resolve") or {}) and not record["check_mode"]:
        lost = lost_by_script(record["other"])
        return ["## What the script lost", "", *("- %s" % text(item) for item in lost or ["nothing that is known"])]
    loss = restore.get("loss") or {}
    done = bool(restore.get("changed")) and not record["check_mode"]
    if "known" not in loss or (not done and not loss.get("differences") and loss["known"]):
        return []
    lines = ["## What was lost" if done else "## What would be lost", ""]
    kept = str(restore.get("kept") or "") if done else ""
    if not loss["known"]:
        return [*lines, text(unknown_text(loss, done, kept))]
    tables = [entry for entry in loss.get("tables") or () if isinstance(entry, dict)]
    lines.append(text(intro(loss, done, source_of(restore), kept)))
    if tables and loss.get("measured") is not False:
        rows = [[code(entry.get("table")), *(_number(entry.get(word)) for word in COLUMNS[2:])] for entry in tables]
        lines += ["", *table(_HEADERS, rows)]
    more = about(loss, done)
    return lines + (["", *("- %s" % text(line) for line in more)] if more else [])


def _number(value: t.Any) -> str:
    return format(value, ",d") if isinstance(value, int) and not isinstance(value, bool) else "–"


__all__ = ("loss_section",)
