# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""The matrix of many targets as text: for a terminal, and as a page of Markdown. Pure: no I/O.

What needs somebody comes first, with its reason below it. A terminal gets a number of lines that does not grow with the fleet: the
others of a kind are counted, and the pages have all of them.
"""

from __future__ import annotations

import textwrap
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _report_markdown as markdown
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import PHASES
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text
from ansible_collections.pgops.migrations.plugins.module_utils._summary import NO_RECORD, NOT_STARTED, UNREAD, counted, counts
from ansible_collections.pgops.migrations.plugins.module_utils._table import cut, draw, one_line
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

Row = t.Dict[str, t.Any]
#: Rows that a terminal shows before it counts: of all together, where nothing is folded; of those that need somebody; of each other kind.
ALL, BAD, REST = 24, 30, 3
#: Names in a sentence about many.
NAMED = 12
#: Columns of phases that there is room for, and what is left out first.
_COLUMNS = 4
_LESS = ("status", "server", "choice", "guard", "retention", "external", "recovery", "certificate", "preflight")
_LEAST = ("resolve", "reverse", "backup", "restore_verification", "drill")
_SHORT = {
    "verification": "verify", "restore_verification": "re-verify", "certificate": "cert", "slowest migration": "slowest", "longest block": "block"
}  # fmt: skip
#: The worst first.
_ORDER = ("rollback_failed", "rolled_back", "failed", "refused", NO_RECORD, UNREAD, "blocked", "diverged", "unmanaged", "absent", NOT_STARTED)
RUN_TAIL = ("time", "applied", "slowest migration", "longest block", "restore point", "rto", "note")
STATE_COLUMNS = ("target", "status", "applied", "pending", "head", "server", "differs", "note")
#: Columns of numbers.
RIGHT = frozenset(["applied", "pending", "time", "rto", "longest block"])


def needs(row: Row) -> bool:
    """Whether somebody must look at it."""
    return not row["ok"] or bool(row.get("attention"))


def ordered(rows: t.Iterable[Row]) -> list[Row]:
    """What needs somebody first, the worst of it at the top; then what differs from the others."""
    return sorted(rows, key=lambda row: (not needs(row), not row.get("differs"), _rank(row), row["target"]))


def _rank(row: Row) -> int:
    kind = kind_of(row)
    return _ORDER.index(kind) if kind in _ORDER else len(_ORDER) - 2


def kind_of(row: Row) -> str:
    """Its outcome, or its status."""
    return str(row["outcome"] if "outcome" in row else row["status"])


def phases_of(rows: t.Sequence[Row], most: int = 0) -> list[str]:
    """The phases that any of them had, in the order of a run.

    :param most: how many there is room for; what failed somewhere stays.
    """
    names = list(dict.fromkeys(entry["name"] for row in rows for entry in row.get("phases", ())))
    failed = {entry["name"] for row in rows for entry in row.get("phases", ()) if entry["outcome"] == "failed"}
    after = PHASES.index("verification")
    names.sort(key=lambda name: PHASES.index(name) if name in PHASES else after)
    # What led to a deploy goes first; the way back stays as long as there is any room for it.
    for room, less in [*((most, name) for name in _LESS), *((most + 2, name) for name in _LEAST)] if most else ():
        if len(names) > room and less in names and less not in failed:
            names.remove(less)
    return names


def phase_text(row: Row, name: str) -> str:
    """What a phase came to: its time where it went well, C(FAILED), or C(-) where it was not run."""
    found = next((entry for entry in row.get("phases", ()) if entry["name"] == name), None)
    if found is None:
        return "-"
    if found["outcome"] == "failed":
        return "FAILED"
    return duration_text(found["seconds"]) or ("nothing" if found["outcome"] == "nothing" else "ok")


def cells(row: Row) -> dict[str, str]:
    """The texts of a row's figures, by column."""
    if "status" in row:
        numbers = {name: "" if row[name] is None else str(row[name]) for name in ("applied", "pending")}
        server = "PG %d" % row["server_major"] if row["server_major"] else ""
        return dict(numbers, target=row["target"], status=row["status"], head=row["head"], server=server, differs=", ".join(row["differs"]), note=row["note"])
    slowest, applied = row["slowest_migration"], row["applied"]
    return {
        "target": row["target"], "outcome": row["outcome"], "time": duration_text(row["seconds"]),
        "applied": "" if applied is None else "0 (%d undone)" % applied if row["undone"] else str(applied),
        "slowest migration": "%s %s" % (duration_text(slowest["seconds"]), slowest["name"]) if slowest else "",
        "longest block": duration_text(row["longest_block_seconds"]), "restore point": row["restore_point"], "rto": duration_text(row["rto_seconds"]),
        "note": row["note"],
    }  # fmt: skip


def sentences_of(rows: t.Sequence[Row]) -> list[str]:
    """What is to be said of each that needs somebody, in this order; those that were not started together."""
    found = [row.get("sentence") or "%s: %s" % (row["target"], row["note"] or kind_of(row)) for row in rows if needs(row) and kind_of(row) != NOT_STARTED]
    waiting: dict[str, list[str]] = {}
    for row in rows:
        if kind_of(row) == NOT_STARTED:
            waiting.setdefault(row["note"], []).append(row["target"])
    for why, names in waiting.items():
        more = " and %s more" % format(len(names) - NAMED, ",d") if len(names) > NAMED else ""
        found.append("%s not started (%s): %s%s" % (plural(len(names), "target"), why, ", ".join(names[:NAMED]), more))
    return found


def lines_of(rows: t.Sequence[Row], width: int = 120, findings: t.Sequence[t.Mapping[str, t.Any]] = ()) -> list[str]:
    """The matrix for a terminal, no line wider than C(width).

    :param findings: of drift between targets.
    """
    shown, folded = _folded(ordered(rows))
    said = {row["target"]: row.get("finding") or row["note"] for row in shown if needs(row)}
    lines = _table(shown, said, width)
    for text in [*folded, *("DIFFERS %s" % finding["text"] for finding in findings[:BAD])]:
        lines += _wrapped(one_line(text), width)
    if len(findings) > BAD:
        lines.append("DIFFERS in %d more ways" % (len(findings) - BAD))
    return [cut(text, width) for text in [*lines, _last(rows)]]


def _last(rows: t.Sequence[Row]) -> str:
    """What is read when all else has scrolled away."""
    bad = sum(1 for row in rows if needs(row))
    said = "%d need%s somebody" % (bad, "s" if bad == 1 else "") if bad else "none needs anybody"
    kinds = counted([{"kind": kind_of(row)} for row in rows], "kind")
    return "%s, %s%s" % (plural(len(rows), "target"), said, ": %s" % kinds if kinds else "")


def _table(shown: t.Sequence[Row], said: t.Mapping[str, str], width: int) -> list[str]:
    phases = phases_of(shown, _COLUMNS)
    if any("status" in row for row in shown):
        columns: list[str] = list(STATE_COLUMNS)
    else:
        columns = ["target", "outcome", *phases, *RUN_TAIL]
    table = []
    for row in shown:
        texts = cells(row)
        if row["target"] in said:
            texts["note"] = ""
        table.append([phase_text(row, column) if column in phases and column not in texts else texts.get(column, "") for column in columns])
    drawn = draw([_SHORT.get(column, column) for column in columns], table, width, {*RIGHT, "block", *(_SHORT.get(name, name) for name in phases)})
    lines = drawn[:2]
    for row, text in zip(shown, drawn[2:]):
        lines.append(text)
        if said.get(row["target"]):
            lines += _wrapped("^ %s" % one_line(said[row["target"]]), width, "  ")
    return lines


def _wrapped(text: str, width: int, indent: str = "") -> list[str]:
    """A sentence in at most two lines; the pages have all of it."""
    found = textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
    if len(found) > 2:
        found = [found[0], found[1][: width - 1] + "…"]
    return [cut(line, width) for line in found]


def _folded(rows: t.Sequence[Row]) -> tuple[list[Row], list[str]]:
    """The rows that are shown, and a line about those of each kind that are not."""
    if len(rows) <= ALL:
        return list(rows), []
    seen: dict[str, int] = {}
    shown, hidden = [], []
    room = BAD
    for row in rows:
        kind = kind_of(row)
        seen[kind] = seen.get(kind, 0) + 1
        # Of many that were not started, or could not be reached, one reads like the other.
        if (needs(row) and room > 0 and (kind != NOT_STARTED or seen[kind] <= REST)) or (not needs(row) and row.get("differs") and room > 0):
            room -= 1
            shown.append(row)
        else:
            hidden.append(row)
    if not shown:
        # All is well: a few of them, so that there is a table and not a count alone.
        shown, hidden = list(rows[:REST]), list(rows[REST:])
    by_kind: dict[str, list[Row]] = {}
    for row in hidden:
        by_kind.setdefault(kind_of(row), []).append(row)
    return shown, [_fold(kind, found, seen[kind]) for kind, found in by_kind.items()]


def _fold(kind: str, rows: t.Sequence[Row], total: int) -> str:
    """C(+ 44 more not_started: db7, db8, db9, ...: the reason), or the figures of those that are well."""
    more = "more " if total > len(rows) else ""
    names = ", ".join(row["target"] for row in rows[:REST]) + (", ..." if len(rows) > REST else "")
    text = "+ %s %s%s: %s" % (format(len(rows), ",d"), more, kind, names)
    if any(needs(row) for row in rows):
        reasons = counts([{"why": row.get("finding") or row["note"]} for row in rows], "why")
        return "%s: %s%s" % (text, reasons[0][0], " (and %d other reasons)" % (len(reasons) - 1) if len(reasons) > 1 else "") if reasons[0][0] else text
    slowest = max((row for row in rows if row.get("slowest_migration")), key=lambda row: float(row["slowest_migration"]["seconds"]), default=None)
    blocked = max((row for row in rows if row.get("longest_block_seconds")), key=lambda row: float(row["longest_block_seconds"]), default=None)
    facts = []
    if slowest:
        found = slowest["slowest_migration"]
        facts.append("slowest migration %s %s on %s" % (duration_text(found["seconds"]), found["name"], slowest["target"]))
    if blocked:
        facts.append("longest block %s on %s" % (duration_text(blocked["longest_block_seconds"]), blocked["target"]))
    return "%s%s" % (text, "; " + "; ".join(facts) if facts else "")


def page(title: str, rows: t.Sequence[Row], links: t.Mapping[str, str], findings: t.Sequence[t.Mapping[str, t.Any]] = ()) -> str:
    """All rows as Markdown.

    :param links: target -> name of its report beside this page.
    """
    every = ordered(rows)
    phases = phases_of(every)
    if any("status" in row for row in every):
        columns: list[str] = list(STATE_COLUMNS)
    else:
        columns = ["target", "outcome", *phases, *RUN_TAIL]
    table = []
    for row in every:
        texts = cells(row)
        name = markdown.text(row["target"])
        link = links.get(row["target"])
        rest = [markdown.text(phase_text(row, column) if column in phases and column not in texts else texts.get(column, "")) for column in columns[1:]]
        table.append(["[%s](%s)" % (name, link) if link else name, *rest])
    headers = [" " + column if column in RIGHT else column for column in columns]
    parts = ["# %s" % markdown.text(title), "\n".join(markdown.table(headers, table))]
    bad = sentences_of(every)
    if bad:
        parts.append("\n".join(["## What needs somebody", ""] + ["- %s" % markdown.text(each, 8000) for each in bad]))
    if findings:
        parts.append("\n".join(["## What differs between the targets of a group", ""] + ["- %s" % markdown.text(each["text"], 8000) for each in findings]))
    return "\n\n".join(parts) + "\n"


__all__ = ("ALL", "BAD", "REST", "STATE_COLUMNS", "cells", "kind_of", "lines_of", "needs", "ordered", "page", "phase_text", "phases_of", "sentences_of")
