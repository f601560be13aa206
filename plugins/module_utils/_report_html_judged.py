# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The parts of a report that judge: what came of the run, what to do next, the checklists, the checks, the findings. Pure: no I/O."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._outcome import (
    APPLIED,
    CHECKED,
    DONE,
    FAILED,
    NOTHING,
    REFUSED,
    RESTORED,
    ROLLBACK_FAILED,
    ROLLED_BACK,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._redaction import line
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes import MIGRATION, NONE, PRE_PRODUCTION, Box, boxes
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    EMPTY,
    SPACE,
    Child,
    Html,
    badge,
    block,
    code,
    command,
    duration,
    facts,
    fold,
    is_number,
    items,
    join,
    moment,
    number,
    section,
    size,
    table,
    tag,
    text,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

Record = t.Mapping[str, t.Any]
#: outcome -> the kind of its badge, and its words.
OUTCOME_BADGES = {
    APPLIED: ("pass", "Applied"),
    RESTORED: ("pass", "Restored"),
    DONE: ("pass", "Done"),
    CHECKED: ("info", "Checked, nothing changed"),
    NOTHING: ("info", "Nothing to do"),
    REFUSED: ("warn", "Refused"),
    ROLLED_BACK: ("warn", "Rolled back"),
    FAILED: ("fail", "Failed"),
    ROLLBACK_FAILED: ("fail", "Rollback failed"),
}
_VERDICTS = {"pass": "Pass", "fail": "Fail", "warn": "Warning", "skipped": "Skipped", NONE: "Not answered"}
_KINDS = {"skipped": "none", NONE: "none"}
#: A command of ours in a text, or the options of one.
_COMMAND = re.compile(r"(?:ansible-playbook [\w./-]+)?(?: ?-e (?:[a-z_]+=[^\s']+|'(?:[^']|'\"'\"')*'))+")
#: What of a check's evidence is shown: names and numbers. The keys of a broken reference and the output of programs stay in the record.
_EVIDENCE = (
    "name", "file", "url", "database", "migration", "problem", "object", "index", "constraint", "table", "references", "sequence", "column", "trigger",
    "relation", "mode", "by", "violations", "rows", "next", "reached", "sessions", "status", "rc", "error", "seconds", "at",
    "size_before", "size_after", "wal", "temp",
)  # fmt: skip
#: What of it is no plain number.
_UNITS: dict[str, t.Callable[[t.Any], Html]] = {"seconds": duration, "at": duration, "size_before": size, "size_after": size, "wal": size, "temp": size}
#: Entries that are shown without being asked for.
_MOST = 20


def outcome_badge(record: Record) -> Html:
    kind, word = OUTCOME_BADGES.get(str(record["outcome"]), ("fail", str(record["outcome"])))
    return badge(kind, word)


def verdict_badge(verdict: t.Any) -> Html:
    name = str(verdict)
    return badge(_KINDS.get(name, name if name in _VERDICTS else "none"), _VERDICTS.get(name, name))


def status(record: Record) -> Html:
    """The sentence, and which run this is."""
    sentence = str(record["sentence"])
    environment = str(record.get("environment") or "")
    run = facts([
        ("Target", code(record["target"])),
        ("Environment", text(environment) if environment else None),
        ("Database", code(record["database"]) if record["database"] else None),
        ("Runbook", join([code(record["runbook"]), text(" (check mode)") if record["check_mode"] else None], " ")),
        ("Run", code(record["run_id"])),
        ("Revision", code(record["revision"]) if record["revision"] else None),
        ("By", code(record["operator"]) if record["operator"] else None),
        ("Began", moment(record["started_at"]) if record["started_at"] else None),
        ("Ended", moment(record["finished_at"]) if record["finished_at"] else None),
        ("Took", duration(record["seconds"]) if is_number(record["seconds"]) else None),
    ])  # fmt: skip
    title = tag("h1", text(sentence), class_="long" if len(sentence) > 160 else None)
    return tag(
        "header", tag("p", outcome_badge(record), class_="outcome"), title, run, class_="status %s" % OUTCOME_BADGES.get(str(record["outcome"]), ("fail",))[0]
    )


def error(record: Record) -> Html:
    """What to do next, with what is to be typed, and why."""
    found = record["error"]
    if not found:
        return Html("")
    step = line(found.get("next_step") or "", 4000) or "read the state of the target with status.yml, then decide"
    typed = list(dict.fromkeys(each.group().strip().rstrip(",;:.)") for each in _COMMAND.finditer(step)))
    where = join([SPACE, text("in the phase"), SPACE, code(found["phase"])]) if found.get("phase") else None
    return section(
        "next-step", "Next step",
        tag("p", text(step[:1].upper() + step[1:].rstrip(".") + "."), class_="step"),
        tag("p", _typed(typed)) if typed else None,
        *(command(each, "Command %d" % count) for count, each in enumerate(typed, 1)),
        tag("p", tag("strong", text(found.get("code") or "Error")), where, text(":"), SPACE, text(found.get("msg") or "no message")),
        class_="next",
    )  # fmt: skip


def _typed(typed: t.Sequence[str]) -> str:
    choice = ", as the step says" if len(typed) > 1 else ""
    return "To type%s:" % choice if any(each.startswith("ansible") for each in typed) else "To add to the same command%s:" % choice


def failure(record: Record) -> Html:
    """What is known of the migration that failed."""
    deploy = record["deploy"] or {}
    failed = deploy.get("failed_migration") or {}
    if not failed.get("name"):
        return Html("")
    evidence = deploy.get("evidence") or {}
    objects, indexes = evidence.get("named") or evidence.get("objects") or (), evidence.get("invalid_indexes") or ()
    return section(
        "failure", "What failed",
        facts([
            ("Migration", code(failed["name"])),
            ("SQLSTATE", code(failed["sqlstate"]) if failed.get("sqlstate") else None),
            ("The server said", text(failed.get("error")) if failed.get("error") else None),
            ("State it left", code(failed["state"]) if failed.get("state") else None),
            ("Why we say so", text(evidence["reason"]) if evidence.get("reason") else None),
            ("Transactions committed meanwhile", number(evidence["committed"]) if is_number(evidence.get("committed")) else None),
            ("Objects it changed", _names(objects)),
            ("Invalid indexes", _names(indexes)),
        ]),
        join([tag("h3", "From the ledger"), block(str(failed["logs"]).strip(), "From the ledger")]) if str(failed.get("logs") or "").strip() else None,
    )  # fmt: skip


def _names(names: t.Sequence[t.Any]) -> Html | None:
    return join([*(code(name) for name in names[:_MOST]), text("and %d more" % (len(names) - _MOST)) if len(names) > _MOST else None], ", ") if names else None


def checklists(record: Record) -> Html:
    """The guide's two lists, each box with its answer."""
    answered = boxes(record)
    lists = (("Pre-production testing checklist", PRE_PRODUCTION), ("Migration checklist", MIGRATION))
    return section(
        "checklists", "Checklists",
        tag("p", "Every tick rests on what this run saw. What a run cannot know is not answered.", class_="about"),
        tag("div", *(_checklist(title, name, [box for box in answered if box.checklist == name]) for title, name in lists), class_="columns"),
    )  # fmt: skip


def _checklist(title: str, name: str, answered: t.Sequence[Box]) -> Html:
    done = sum(1 for box in answered if box.verdict == "pass")
    entries = [
        tag(
            "li",
            tag("div", tag("span", box.text, class_="question"), verdict_badge(box.verdict), class_="answer"),
            tag("p", box.evidence),
            id="box-" + box.name,
        )
        for box in answered
    ]
    heading = tag("h3", text(title), SPACE, tag("span", "%d of %d" % (done, len(answered)), class_="count"), id="list-" + name)
    return tag("div", heading, tag("ol", *entries, class_="boxes", aria_labelledby="list-" + name))


def checks(record: Record) -> Html:
    """Every check of the verification."""
    found = [check for check in (record["verification"] or {}).get("checks") or () if isinstance(check, dict)]
    if not found:
        return Html("")
    order = {"fail": 0, "warn": 1, "pass": 2, "skipped": 3}
    rows = [
        [
            code(check.get("name")),
            verdict_badge(check.get("verdict")),
            join([tag("span", check.get("text")), _evidence(check)]),
            _limit(check),
            duration(check.get("seconds")) if check.get("verdict") != "skipped" else Html(EMPTY),
        ]
        for check in sorted(found, key=lambda check: order.get(str(check.get("verdict")), 0))
    ]
    return section(
        "checks",
        "Checks",
        table("Checks after the deploy", ["Check", "Verdict", "What was found", " Limit", " Took"], rows, ident="checks-table", stacked=True),
    )


def _limit(check: Record) -> Html:
    limit = check.get("limit")
    return tag("data", "%g s" % limit, value=repr(limit)) if is_number(limit) and limit else Html(EMPTY)


def _evidence(check: Record) -> Html | None:
    entries = [entry for entry in check.get("evidence") or () if isinstance(entry, dict)]
    told = [one for one in (_entry(entry) for entry in entries) if one]
    if not told:
        return None
    count = check.get("count")
    total = count if isinstance(count, int) and count > len(entries) else len(entries)
    shown = told[:_MOST]
    more = tag("p", "And %s; the record has more of it." % plural(total - len(shown), "entry").replace("entrys", "entries")) if total > len(shown) else None
    return fold("Evidence (%s)" % format(total, ",d"), tag("ul", *(tag("li", one) for one in shown)), more)


def _entry(entry: Record) -> Html:
    """One entry of evidence: its sentence, or its names and numbers."""
    if entry.get("text"):
        return text(entry["text"], 1000)
    parts: list[Child] = []
    for key in _EVIDENCE:
        value = entry.get(key)
        if value is None or value == "" or isinstance(value, (dict, list)):
            continue
        draw = _UNITS.get(key, number) if is_number(value) else code
        shown = draw(value)
        parts.append(join([text(key.replace("_", " ")), shown], " "))
    return join(parts, ", ")


def findings(record: Record) -> Html:
    """What no migration explains; and, folded away, what one does."""
    verification = record["verification"] or {}
    found = [entry for entry in verification.get("findings") or () if entry]
    differences = [entry for entry in verification.get("differences") or () if isinstance(entry, dict) and entry.get("severity") != "finding"]
    if "findings" not in verification and not differences:
        return Html("")
    parts: list[Child] = []
    if found:
        parts.append(tag("p", "What no migration of this run explains:"))
        parts.append(tag("div", items([_finding(entry) for entry in found], 100), class_="bad"))
    elif "findings" in verification:
        parts.append(tag("p", "No finding: nothing differs from before that was not meant to."))
    for severity, title in (("explained", "Explained by a migration"), ("expected", "Expected by the inventory"), ("note", "Noted, harmless")):
        entries = [_difference(entry) for entry in differences if entry.get("severity") == severity]
        if entries:
            parts.append(fold("%s: %d" % (title, len(entries)), items(entries, 200)))
    return section("findings", "Findings", *parts)


def _finding(entry: t.Any) -> Html:
    if not isinstance(entry, dict):
        return text(entry, 1000)
    said = next((entry[key] for key in ("text", "msg", "message") if entry.get(key)), "")
    kind = entry.get("kind") or entry.get("code") or entry.get("name")
    return join([code(kind) if kind else None, text(said, 1000) if said else None], " ")


def _difference(entry: Record) -> Html:
    by = entry.get("explained_by") or ()
    return join(
        [text(entry.get("text") or entry.get("object"), 1000), join([text("("), join([code(name) for name in by], ", "), text(")")]) if by else None], " "
    )


__all__ = ("OUTCOME_BADGES", "Record", "checklists", "checks", "error", "failure", "findings", "outcome_badge", "status", "verdict_badge")
