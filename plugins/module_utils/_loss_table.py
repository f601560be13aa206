# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a rollback loses, for a terminal: one table and a few lines. Pure: no I/O."""

from __future__ import annotations

import collections
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._table import draw, one_line

#: Rows of the table, and names in a line; the record has all of them.
_ROWS, _NAMES = 40, 8
_HEADERS = ("table", "rows now", "rows then", "added", "changed", "removed", "by")


def loss_lines(loss: t.Mapping[str, t.Any], width: int = 120) -> list[str]:
    """The lines; none for what is no loss.

    Added and changed rows are lost by the rollback, removed ones come back.

    :param loss: as database_restore returns it.
    """
    if not loss or "known" not in loss:
        return []
    if not loss["known"]:
        what = "The loss was not measured again: %s" if loss.get("measured") is False else "What will be lost is not known: %s"
        return [what % one_line(loss.get("reason"))] + _sessions(loss)
    tables = [entry for entry in loss.get("tables") or () if isinstance(entry, dict)]
    lines: list[str] = []
    if tables:
        keys = ("rows_now", "rows_then", "added", "changed", "removed")
        rows = [[entry.get("table"), *(_number(entry.get(key)) for key in keys), _by(entry)] for entry in tables]
        lines = ["Since the restore point: added and changed rows are lost by going back, removed rows come back.", ""]
        if loss.get("measured") is False:
            lines = ["Tables that differ from the restore point; their rows were counted by the run that asked for the confirmation.", ""]
        lines += draw(_HEADERS, rows[:_ROWS], width, _HEADERS[1:6])
        lines += ["and %d more tables" % (len(rows) - _ROWS)] if len(rows) > _ROWS else []
    elif not loss.get("differences"):
        lines = ["Nothing differs from the restore point."]
    sequences = [entry for entry in loss.get("sequences") or () if isinstance(entry, dict)]
    if sequences:
        texts = ["%s %s -> %s" % (one_line(entry.get("sequence")), _number(entry.get("now")), _number(entry.get("then"))) for entry in sequences]
        lines.append("Sequences that go back: %s" % _limited(texts))
    objects = [one_line(text) for text in loss.get("objects") or ()]
    lines += ["Schema: %s" % _limited(objects, "; ")] if objects else []
    return lines + _sessions(loss)


def _number(value: t.Any) -> str:
    return format(value, ",d") if isinstance(value, int) and not isinstance(value, bool) else "-"


def _by(entry: t.Mapping[str, t.Any]) -> str:
    return "" if "keyed" not in entry else "key" if entry["keyed"] else "whole row"


def _limited(texts: t.Sequence[str], glue: str = ", ") -> str:
    more = " and %d more" % (len(texts) - _NAMES) if len(texts) > _NAMES else ""
    return glue.join(texts[:_NAMES]) + more


def _sessions(loss: t.Mapping[str, t.Any]) -> list[str]:
    sessions = [entry for entry in loss.get("sessions") or () if isinstance(entry, dict)]
    if not sessions:
        return []
    named = collections.Counter(one_line(entry.get("application_name")) or "user %s" % one_line(entry.get("user")) for entry in sessions)
    return ["Sessions that will be ended: %d (%s)" % (len(sessions), _limited(["%s: %d" % pair for pair in named.most_common()]))]


__all__ = ("loss_lines",)
