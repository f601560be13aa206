# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The parts of a report about a rehearsal, and about the certificate that a production run went by. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    EMPTY,
    Child,
    Html,
    code,
    duration,
    join,
    moment,
    number,
    section,
    size,
    table,
    tag,
    text,
)  # fmt: skip

Record = t.Mapping[str, t.Any]
#: Statements that are shown; the record has all of them.
_SHOWN = 40


def rehearsal(record: Record) -> Html:
    """What was rehearsed on a copy, what users would have felt, and each statement."""
    found = (record.get("other") or {}).get("rehearsal") or {}
    if not (found.get("certificate") or found.get("failed_in") or found.get("measured")):
        return Html("")
    return section(
        "rehearsal", "The rehearsal",
        tag("p", "All of this happened in a scratch copy, which was dropped."),
        _facts(found),
        _stalls(found.get("canary") or {}),
        _statements(found.get("forecast") or {}),
    )  # fmt: skip


def _facts(found: Record) -> Html:
    certificate, seconds, measured = (found.get(name) or {} for name in ("certificate", "seconds", "measured"))
    rows: list[list[Child]] = [
        ["Restore point", code((found.get("restore_point") or {}).get("id"))],
        ["Failed in", code(found.get("failed_in"))],
        ["Size of the copy", size(measured.get("size_bytes"))],
        ["Making the copy", duration(seconds.get("copy"))],
        ["Deploy", duration(measured.get("deploy_seconds"))],
        ["Way back", duration(seconds.get("rollback"))],
        ["Longest stall for users", duration((found.get("canary") or {}).get("longest_stall"))],
        ["Certificate of", moment(certificate["issued_at"]) if certificate.get("issued_at") else Html(EMPTY)],
        ["Certified set", code(certificate.get("set_digest"))],
        ["On the ledger head", code(certificate.get("ledger_head"))],
        ["Signed", ("yes" if certificate.get("signed") else "no") if certificate else Html(EMPTY)],
    ]
    return table("Facts of the rehearsal", ["What", "Value"], [row for row in rows if row[1] != Html(EMPTY)], ident="rehearsal-table")


def _stalls(canary: Record) -> Html | None:
    rows: list[list[Child]] = [
        [
            code(each["table"]),
            duration(each["longest_stall"]),
            duration(each.get("p99")),
            number(each["probes"]),
            join([*(code("%s (%d)" % pair) for pair in sorted((each.get("errors") or {}).items()))], ", ") or Html(EMPTY),
        ]
        for each in canary.get("tables") or ()
    ]
    headers = ["Table", " Longest stall", " 99 of 100 within", " Probes", "Errors"]
    return table("What readers and writers of the copy felt", headers, rows, ident="stalls-table", stacked=True) if rows else None


def _statements(forecast: Record) -> Html | None:
    found = [(migration["name"], each) for migration in forecast.get("migrations") or () for each in migration["statements"]]
    slowest = sorted(found, key=lambda pair: -float(pair[1]["measured"]))[:_SHOWN]
    larger = any(float(each.get("factor") or 1) > 1 for _name, each in found)
    rows: list[list[Child]] = [
        [
            join([code(name), text("line %d" % each["line"]) if each["line"] else None], ", "),
            code(each["text"], 160),
            each["kind"],
            join([*(code("%s %s" % (lock["mode"], lock["table"])) for lock in each.get("locks") or ())], ", ") or Html(EMPTY),
            duration(each["measured"]),
            *([join([duration(each["seconds"]), text(" ("), duration(each["low"]), text(" to "), duration(each["high"]), text(")")])] if larger else []),
        ]
        for name, each in slowest
    ]
    headers = ["Migration", "Statement", "Kind", "Locks", " On the copy", *([" Forecast"] if larger else [])]
    title = "Statements, the slowest first" + (" (%d of %d)" % (_SHOWN, len(found)) if len(found) > _SHOWN else "")
    return table(title, headers, rows, ident="statements-table", stacked=True) if rows else None


__all__ = ("rehearsal",)
