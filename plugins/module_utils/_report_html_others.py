# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The parts of a report about what the run itself did not do, and about what its record left out. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._record_others import resolved_text
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    EMPTY,
    Child,
    Html,
    badge,
    code,
    duration,
    items,
    join,
    moment,
    number,
    section,
    table,
    tag,
    text,
)  # fmt: skip

Record = t.Mapping[str, t.Any]
_ENDED = {"finished": ("pass", "finished"), "failed": ("fail", "failed"), "killed": ("fail", "killed"), "unknown": ("none", "not known")}


def others(record: Record) -> Html:
    """Runs that nobody followed to their end, and what was recorded of the migrations that they left unfinished."""
    runs, marked = record.get("followed") or (), record.get("resolved") or ()
    rows: list[list[Child]] = [
        [
            code(run["run_id"]),
            badge(*_ENDED.get(run["state"], ("none", run["state"]))),
            join([*(code(name) for name in run["applied"])], ", ") or Html(EMPTY),
            moment(run["started_at"]) if run["started_at"] else Html(EMPTY),
            duration(run["seconds"]),
            code(run["code"]),
        ]
        for run in runs
    ]
    headers = ["Run", "It ended", "Applied by it", "Began", " Took", "Error"]
    return section(
        "others", "Before this run",
        tag("p", "Nobody followed these runs to their end; this one was the first to be told.") if rows else None,
        table("Runs of others", headers, rows, ident="others-table", stacked=True) if rows else None,
        items([text(resolved_text(entry, bool(record["check_mode"])), 2000) for entry in marked]) if marked else None,
    )  # fmt: skip


def left_out(record: Record) -> Html:
    """Which lists of the record are not whole. Where it counts them, it counts all."""
    found = record.get("cut") or ()
    rows: list[list[Child]] = [[code(entry["path"]), number(entry["kept"]), number(entry["of"])] for entry in found]
    return section(
        "left-out", "What the record left out",
        tag("p", "The run reported more than a record may hold. Of these lists, it and this page have the beginning."),
        table("Lists that are not whole", ["List", " Kept", " Of"], rows, ident="cut-table"),
    ) if rows else Html("")  # fmt: skip


__all__ = ("left_out", "others")
