# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A run record as one HTML page that needs nothing else; and many of them as one table. Pure: no I/O.

No script, no font, no picture and no address: the page's own policy forbids them.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_counted as counted
from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_judged as judged
from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_others as aside
from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_timeline as over_time
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import GOOD
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_locks import locks
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_style import STYLE
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    EMPTY,
    Child,
    Html,
    badge,
    code,
    duration,
    exact,
    facts,
    is_number,
    items,
    join,
    number,
    section,
    table,
    tag,
    text,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

Record = t.Mapping[str, t.Any]
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html(record: Record) -> str:
    """The report of one target."""
    body = [
        judged.error(record),
        judged.failure(record),
        aside.others(record),
        counted.restored(record),
        counted.loss(record),
        counted.restore_point(record),
        judged.checklists(record),
        judged.checks(record),
        over_time.timeline(record),
        locks(record),
        judged.findings(record),
        counted.rows_and_sizes(record),
        counted.phases(record),
        counted.warnings(record),
        counted.output(record),
        aside.left_out(record),
    ]
    title = "%s: %s" % (record["target"], judged.OUTCOME_BADGES.get(str(record["outcome"]), ("", str(record["outcome"])))[1])
    foot = join([text("Drawn from the run record"), code(record["run_id"]), text("and from nothing else; format"), number(record["format"])], " ")
    return _page(title, judged.status(record), join(body), foot)


def index(records: t.Sequence[Record], links: t.Mapping[str, str] | None = None, missing: t.Mapping[str, str] | None = None, title: str = "") -> str:
    """The page over many targets: what needs somebody first.

    :param links: target -> address of its report beside this page, percent-encoded.
    :param missing: target -> why there is no record of it.
    """
    links, missing = links or {}, missing or {}
    ordered = sorted(records, key=lambda record: (str(record["outcome"]) in GOOD, -_rank(record)))
    rows: list[list[Child]] = [[text(target), badge("fail", "No record"), *[Html(EMPTY)] * 5, text(why)] for target, why in missing.items()]
    rows += [_row(record, links) for record in ordered]
    good = sum(1 for record in ordered if str(record["outcome"]) in GOOD)
    total = len(ordered) + len(missing)
    title = title or "%d of %s ended well" % (good, plural(total, "target"))
    bad = [record for record in ordered if str(record["outcome"]) not in GOOD]
    headers = ["Target", "Outcome", " Applied", " Took", "Slowest migration", "Checks", "Restore point", "Note"]
    kind = "pass" if good == total else "fail"
    said = tag("p", badge(kind, "All well" if good == total else "%d need somebody" % (total - good)), class_="outcome")
    head = tag("header", said, tag("h1", text(title)), facts(_totals(ordered, len(missing))), class_="status %s" % kind)
    needs = [*(join([text(target), text(": no record (%s)" % why)]) for target, why in missing.items()), *(text(record["sentence"]) for record in bad)]
    body = [
        section("needs", "What needs somebody", items(needs), class_="next") if needs else None,
        section("targets", "Targets", table("Outcome of every target", headers, rows, ident="targets-table", stacked=True)) if rows else None,
    ]
    return _page(title, head, join(body), text("Drawn from the run records and from nothing else."))


def _totals(records: t.Sequence[Record], missing: int) -> list[tuple[str, Child]]:
    runs = list(dict.fromkeys(str(record["run_id"]) for record in records))
    counts: dict[str, int] = {}
    for record in records:
        word = judged.OUTCOME_BADGES.get(str(record["outcome"]), ("", str(record["outcome"])))[1]
        counts[word] = counts.get(word, 0) + 1
    found: list[tuple[str, Child]] = [("Run", code(runs[0]))] if len(runs) == 1 else []
    found += [("Targets", number(len(records) + missing))]
    found += [(word, number(count)) for word, count in sorted(counts.items(), key=lambda item: -item[1])]
    return found + ([("No record", number(missing))] if missing else [])


#: The worst first.
_ORDER = ("refused", "failed", "rolled_back", "rollback_failed")


def _rank(record: Record) -> int:
    outcome = str(record["outcome"])
    return _ORDER.index(outcome) if outcome in _ORDER else -1


def _row(record: Record, links: t.Mapping[str, str]) -> list[Child]:
    deploy, backup = record["deploy"] or {}, record["backup"] or {}
    applied = [entry for entry in deploy.get("applied") or () if isinstance(entry, dict)]
    timed = [entry for entry in applied if is_number(entry.get("seconds"))]
    slowest = max(timed, key=lambda entry: float(entry["seconds"]), default=None)
    address = links.get(str(record["target"]))
    name = code(record["target"])
    point = (backup.get("restore_point") or {}).get("id")
    undone = record["outcome"] == "rolled_back" and applied
    return [
        tag("a", name, href=exact("./" + address)) if address else name,
        judged.outcome_badge(record),
        join([number(len(applied)), text("undone") if undone else None], " ") if deploy else Html(EMPTY),
        duration(record["seconds"]),
        join([code(slowest["name"]), duration(slowest["seconds"])], " ") if slowest else Html(EMPTY),
        _verdicts(record),
        code(point),
        _note(record),
    ]


def _verdicts(record: Record) -> Child:
    """How many checks there are of each verdict that counts."""
    checks = [entry for entry in (record["verification"] or {}).get("checks") or () if isinstance(entry, dict)]
    counts = [(kind, sum(1 for entry in checks if entry.get("verdict") == kind)) for kind in ("fail", "warn", "pass")]
    words = {"fail": "failed", "warn": "warned", "pass": "passed"}
    return join([badge(kind, "%d %s" % (count, words[kind])) for kind, count in counts if count], " ") or Html(EMPTY)


def _note(record: Record) -> Child:
    error = record["error"]
    if error:
        failed = (record["deploy"] or {}).get("failed_migration") or {}
        return join([code(error.get("code")) if error.get("code") else text(error.get("msg"), 200), code(failed["name"]) if failed.get("name") else None], " ")
    findings = (record["verification"] or {}).get("findings") or ()
    would = (record["deploy"] or {}).get("would_apply") or ()
    notes = [
        plural(len(findings), "finding") if findings else "",
        "would apply %d" % len(would) if would and not (record["deploy"] or {}).get("applied") else "",
    ]
    return text(", ".join(note for note in notes if note)) or Html(EMPTY)


def _page(title: str, head: Html, body: Html, foot: Html) -> str:
    meta = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("title", text(title, 300)),
        tag("style", Html(STYLE)),
    ]
    whole = tag("body", head, tag("main", body), tag("footer", tag("p", foot)))
    return "<!DOCTYPE html>\n%s\n" % tag("html", tag("head", *meta), whole, lang="en")


__all__ = ("POLICY", "html", "index")
