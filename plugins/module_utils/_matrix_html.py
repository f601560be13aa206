# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The matrix of many targets as one HTML page that needs nothing else, with links to their reports. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._matrix import kind_of, needs, ordered, sentences_of
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import whole_page
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_judged import OUTCOME_BADGES
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    EMPTY,
    Child,
    Html,
    badge,
    code,
    duration,
    exact,
    facts,
    items,
    join,
    number,
    section,
    table,
    tag,
    text,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._summary import NO_RECORD, NOT_STARTED, UNREAD, counts
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

Row = t.Dict[str, t.Any]
#: Rows that are shown at once; the others are folded away.
MOST = 200
_BADGES = {
    **OUTCOME_BADGES,
    NO_RECORD: ("fail", "No record"),
    NOT_STARTED: ("none", "Not started"),
    UNREAD: ("fail", "Not read"),
    "up_to_date": ("pass", "Up to date"),
    "pending": ("info", "Pending"),
    "empty": ("info", "Empty"),
    "blocked": ("fail", "Blocked"),
    "diverged": ("fail", "Diverged"),
    "unmanaged": ("warn", "Unmanaged"),
    "absent": ("warn", "Absent"),
}
_CHECKS = {"fail": "failed", "warn": "warned", "pass": "passed"}
_DIFFERS = {"head": "Another head", "set": "Another folder", "server": "Another version", "schema": "Another schema"}


def index(
    rows: t.Sequence[Row], links: t.Mapping[str, str] | None = None, run_id: str = "", findings: t.Sequence[t.Mapping[str, t.Any]] = (), title: str = ""
) -> str:
    """The page: what needs somebody first.

    :param links: target -> address of its report beside this page, percent-encoded.
    :param findings: of drift between targets.
    """
    every = ordered(rows)
    states = any("status" in row for row in every)
    bad = [row for row in every if needs(row)]
    good = len(every) - len(bad)
    title = title or "%d of %s %s well" % (good, plural(len(every), "target"), "are" if states else "ended")
    kind = "fail" if bad else "warn" if findings else "pass"
    said = "%d need%s somebody" % (len(bad), "s" if len(bad) == 1 else "") if bad else "Targets differ" if findings else "All well"
    header = tag("header", tag("p", badge(kind, said), class_="outcome"), tag("h1", text(title)), facts(_totals(every, run_id)), class_="status %s" % kind)
    caption = "State of every target" if states else "Outcome of every target"
    headers, drawn = (_STATE, [_state(row) for row in every]) if states else (_RUN, [_run(row, (links or {}).get(row["target"], "")) for row in every])
    sentences = [text(each) for each in sentences_of(every)]
    body = [
        section("needs", "What needs somebody", items(sentences), class_="next") if sentences else None,
        section("differs", "What differs within a group", items([text(each["text"]) for each in findings]), class_="next") if findings else None,
        section("targets", "Targets", table(caption, headers, drawn, ident="targets-table", most=MOST, stacked=True)) if drawn else None,
    ]
    source = "Drawn from what each target said of itself just then." if states else "Drawn from the run records and from nothing else."
    return whole_page(title, header, join(body), text(source))


def _totals(rows: t.Sequence[Row], run_id: str) -> list[tuple[str, Child]]:
    found: list[tuple[str, Child]] = [("Run", code(run_id))] if run_id else []
    found.append(("Targets", number(len(rows))))
    return found + [(_BADGES.get(kind, ("", kind))[1], number(count)) for kind, count in counts([{"kind": kind_of(row)} for row in rows], "kind")]


_RUN = ("Target", "Outcome", " Applied", " Took", "Phases", "Slowest", " Block", "Restore point", "Note")
_STATE = ("Target", "Status", " Applied", " Pending", "Head", "Server", "Differs", "Note")


def _badge(row: Row) -> Html:
    kind, word = _BADGES.get(kind_of(row), ("fail", kind_of(row)))
    return badge(kind, word)


def _run(row: Row, address: str) -> list[Child]:
    name, slowest = code(row["target"]), row["slowest_migration"]
    note = join([code(row["code"]), text(row["note"].partition(", ")[2])], " ") if row["code"] else text(row["note"], 300)
    return [
        tag("a", name, href=exact("./" + address)) if address else name,
        _badge(row),
        Html(EMPTY) if row["applied"] is None else join([number(row["applied"]), text("undone") if row["undone"] else None], " "),
        duration(row["seconds"]),
        join([*(_phase(entry) for entry in row["phases"]), *_verdicts(row)], " ") or Html(EMPTY),
        join([code(slowest["name"]), duration(slowest["seconds"])], " ") if slowest else Html(EMPTY),
        duration(row["longest_block_seconds"]),
        code(row["restore_point"]),
        note or Html(EMPTY),
    ]


def _phase(entry: t.Mapping[str, t.Any]) -> Html:
    """A phase: a word in a sign where it failed, else its name and its time."""
    if entry["outcome"] == "failed":
        return badge("fail", entry["name"])
    took = duration(entry["seconds"])
    return tag("span", join([text(entry["name"]), took if took != EMPTY else None], " "), class_="badge none")


def _verdicts(row: Row) -> list[Html]:
    return [badge(kind, "%d %s" % (row["checks"][kind], word)) for kind, word in _CHECKS.items() if row["checks"].get(kind)]


def _state(row: Row) -> list[Child]:
    return [
        code(row["target"]),
        _badge(row),
        number(row["applied"]),
        number(row["pending"]),
        code(row["head"]),
        text("PostgreSQL %d" % row["server_major"]) if row["server_major"] else Html(EMPTY),
        join([badge("warn", _DIFFERS.get(what, what)) for what in row["differs"]], " ") or Html(EMPTY),
        text(row["note"], 300) or Html(EMPTY),
    ]


__all__ = ("MOST", "index")
