# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The HTML report: every figure is the record's, nothing in a name takes effect, and each box has the answer that the run gives."""

from __future__ import annotations

import copy
import html as library
import json
import re
import shlex
import typing as t
from html.parser import HTMLParser

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes import BOXES, MIGRATION, NONE, PRE_PRODUCTION, boxes
from ansible_collections.pgops.migrations.plugins.module_utils._report_commands import rollback_command
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import POLICY, html
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import command, tag
from ansible_collections.pgops.migrations.plugins.module_utils._report_svg import HEIGHT, WIDTH, Scale, line_path, tick_text, ticks
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text, size_text
from support.matrix import index
from support.runs import BACKUP, DEPLOYED, KEPT, LOST, NAMES, POINT, PREFLIGHT, RESTORED, UP_TO_DATE, VERIFIED, WOULD, broken, failed, record

Result = t.Dict[str, t.Any]
_VOID = {"meta", "rect", "line", "path"}
_TAGS = set(
    "html head meta title style body header main footer section div span p h1 h2 h3 dl dt dd ul ol li a code pre strong data time table caption thead tbody tr th td "
    "details summary figure figcaption svg desc rect line path text".split()
)


class Page(HTMLParser):
    """The elements of a page, in a tree; what is not well nested fails."""

    def __init__(self, content: str) -> None:
        super().__init__(convert_charrefs=True)
        self.root: Result = {"tag": "", "attrs": {}, "children": []}
        self.stack = [self.root]
        self.all: list[Result] = []
        self.feed(content)
        self.close()
        assert len(self.stack) == 1, [node["tag"] for node in self.stack]

    def handle_starttag(self, tag: str, attrs: t.Any) -> None:
        assert len(dict(attrs)) == len(attrs), (tag, attrs)
        node: Result = {"tag": tag, "attrs": dict(attrs), "children": []}
        self.stack[-1]["children"].append(node)
        self.all.append(node)
        if tag not in _VOID:
            self.stack.append(node)

    def handle_startendtag(self, tag: str, attrs: t.Any) -> None:
        assert tag in _VOID, tag
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop()["tag"] == tag, tag

    def handle_data(self, data: str) -> None:
        self.stack[-1]["children"].append(data)

    def handle_comment(self, data: str) -> None:
        raise AssertionError(data)

    def unknown_decl(self, data: str) -> None:
        raise AssertionError(data)

    def having(self, tag: str, **attrs: str) -> list[Result]:
        return [node for node in self.all if node["tag"] == tag and all(node["attrs"].get(key) == value for key, value in attrs.items())]

    def section(self, ident: str) -> Result:
        (found,) = self.having("section", **{"aria-labelledby": ident})
        return found

    def table(self, ident: str) -> tuple[list[str], list[list[Result]]]:
        """Headers and cells; the folded rest belongs to it."""
        headers: list[str] = []
        rows: list[list[Result]] = []
        for name in (ident, ident + "-more"):
            for found in self.having("table", id=name):
                lines = [[cell for cell in row["children"] if isinstance(cell, dict)] for row in below(found, "tr")]
                headers = [shown(cell) for cell in lines[0]]
                assert all(cell["attrs"]["scope"] == "col" for cell in lines[0]) and all(row[0]["attrs"]["scope"] == "row" for row in lines[1:])
                assert len({len(row) for row in lines}) == 1
                rows += lines[1:]
        return headers, rows


def below(node: Result, tag: str) -> list[Result]:
    found = []
    for child in node["children"]:
        if isinstance(child, dict):
            found += ([child] if child["tag"] == tag else []) + below(child, tag)
    return found


def shown(node: Result) -> str:
    return " ".join("".join(child if isinstance(child, str) else shown(child) for child in node["children"]).split())


def exact(cell: Result) -> t.Any:
    """The machine's value of a cell; the words where there is none."""
    found = below(cell, "data")
    return json.loads(found[0]["attrs"]["value"]) if found else shown(cell)


def facts(section: Result) -> dict[str, Result]:
    return {shown(below(pair, "dt")[0]): below(pair, "dd")[0] for listed in below(section, "dl") for pair in listed["children"]}


def check(name: str, verdict: str = "pass", text: str = "", **more: t.Any) -> Result:
    return dict({"name": name, "verdict": verdict, "text": text or "said of %s." % name, "evidence": [], "limit": None, "seconds": 0.25, "count": 0}, **more)


def sample(at: float, **more: t.Any) -> Result:
    return dict(
        {
            "t": at,
            "active": 3,
            "idle_in_transaction": 1,
            "waiting": 0,
            "blocked": 0,
            "size": 9_000_000,
            "wal": 0,
            "temp": 0,
            "lag": None,
            "oldest_transaction": 1.2,
        },
        **more,
    )


MONITOR: Result = {
    "interval": 0.5, "started_at": "2026-11-22T16:30:00.123Z", "seconds": 8.0, "taken": 6,
    "samples": [
        sample(0.5, wal=16_000), sample(2.0, active=7, blocked=2, waiting=3, wal=1_234_567), sample(3.5, size=None, wal=2_000_000), sample(5.0, active=None),
        sample(8.0, size=12_345_678, wal=3_000_001, temp=4_096, lag=0.25),
    ],
    "locks": [{"relation": "public.users", "mode": "AccessExclusiveLock", "held": 0.812, "waited": 0.125, "first": 1.031}],
    "blocks": [
        {"at": 1.25, "seconds": 0.75, "pid": 12345, "application": "api", "user": "app", "relation": "public.users", "mode": "AccessShareLock", "by": "migration"},
        {"at": 0.5, "seconds": 0.25, "pid": None, "application": None, "user": None, "relation": "public.users", "mode": "AccessExclusiveLock", "by": "pid 9 (report)"},
    ],
    "blocked_sessions": 12, "longest_block": 0.75, "longest_wait": 0.25,
    "progress": [{"migration": NAMES[1], "command": "CREATE INDEX", "relation": "public.users", "phase": "building index", "percent": 80.5, "at": 3.25}],
    "index_builds": [{"index": "public.i", "table": "public.users", "seconds": 2.125}], "rewrites": ["public.users"],
    "size_before": 9_000_000, "size_after": 12_345_678, "wal": 3_000_001, "temp": 4_096,
    "migrations": [{"name": NAMES[0], "started": 0.125, "ended": 1.5, "state": "applied"}, {"name": NAMES[1], "started": 1.5, "ended": 7.75, "state": "applied"}],
    "cancelled": [{"at": 5.5, "what": "migration", "reason": "blocked 3 sessions for 5.0 s", "retry": 1}],
}  # fmt: skip
CHECKS = [check(name) for name in ("ledger", "drift", "invalid_indexes", "foreign_keys", "sequences", "disabled_triggers")] + [
    check("deploy_time", limit=300.0), check("blocking_time", limit=5.0), check("index_build_time"), check("application_role", "skipped"), check("smoke_commands"),
]  # fmt: skip
EXPLAINED = {"kind": "object_added", "object": "column public.users.x", "text": "The column is new.", "explained_by": [NAMES[0]], "severity": "explained"}
FULL = dict(
    VERIFIED, level="full", checks=CHECKS, differences=[EXPLAINED],
    before={"tables": {"public.users": {"rows": 20000}, "public.old": {"rows": 7}}}, after={"tables": {"public.users": {"rows": 19999}, "public.new": {"rows": 3}}},
)  # fmt: skip
PROVED = dict(BACKUP, restore_point=dict(POINT, proof={"level": "read", "at": "2026-11-22T16:00:00Z"}))
RUN = {"preflight": PREFLIGHT, "backup": PROVED, "deploy": dict(DEPLOYED, monitor=MONITOR), "verification": FULL}
BACK = {"preflight": PREFLIGHT, "backup": BACKUP, "deploy": DEPLOYED, "restore": RESTORED}


def run(**changes: t.Any) -> Result:
    """A record of a good run; changes of phases."""
    return record(phases=dict(RUN, **changes))


def verified(*checks: Result, **more: t.Any) -> Result:
    """A run whose checks of these names are replaced."""
    named = {one["name"]: one for one in checks}
    rest = [one for one in FULL["checks"] if one["name"] not in named]
    return run(verification=dict(FULL, checks=[*rest, *checks], **more))


def deployed(**monitor: t.Any) -> Result:
    return run(deploy=dict(DEPLOYED, monitor=dict(MONITOR, **monitor)))


def finding(kind: str) -> Result:
    return {"kind": kind, "object": "public.users", "text": "public.users is not what it was.", "severity": "finding"}


def drilled(**proof: t.Any) -> Result:
    return run(backup=dict(BACKUP, restore_point=dict(POINT, proof=proof)))


ROLLED_BACK = record(phases=dict(BACK, verification=LOST))
FAILED_DEPLOY = record(phases={"backup": BACKUP, "deploy": broken()})
REFUSED = record(phases={"preflight": failed("SERVER_UNREACHABLE", "nobody answers")})
IDLE = record(phases={"deploy": UP_TO_DATE})
CHECK_MODE = record(phases={"deploy": WOULD}, check_mode=True)
NO_MONITOR = run(deploy=DEPLOYED)
UNVERIFIED = record(phases={"backup": BACKUP, "deploy": DEPLOYED})
RESTORE_REFUSED = record(runbook="rollback", phases={"restore": failed("CONFIRMATION_MISSING", "not confirmed")})
RESTORE = record(runbook="rollback", phases={"restore": RESTORED})
SWAPPED_BACK = record(runbook="rollback", phases={"restore": dict(RESTORED, comparison="same_database", restore_point={"id": KEPT, "kind": "kept"})})
UNSEEN = dict(MONITOR, index_builds=[{"index": "i", "table": "t", "seconds": None}])
SLOW_UNSEEN = run(deploy=dict(DEPLOYED, applied=[{"name": NAMES[0], "seconds": 5.5}], monitor=UNSEEN))
FAILED_UNSEEN = run(deploy=dict(DEPLOYED, applied=[{"name": NAMES[0], "seconds": None}], monitor=UNSEEN))
#: Between two samples.
SHORT = [{"name": NAMES[0], "started": 2.1, "ended": 2.2, "state": "applied"}]
ANSWERS = [
    ("staging_test", run(), "warn", "On staging: 2 migrations applied in 6.2 s. Whether production has as much data"),
    ("staging_test", record(phases=RUN, environment="production"), NONE, "This run was on production."),
    ("staging_test", ROLLED_BACK, "fail", "2 migrations applied, and undone by the rollback."),
    ("migration_time", run(), "pass", "said of deploy_time. The limit is 300 s."),
    ("migration_time", verified(check("deploy_time", limit=0)), "warn", "No limit is set"),
    ("migration_time", verified(check("deploy_time", "fail", "Too slow.")), "fail", "Too slow."),
    ("migration_time", verified(check("deploy_time", "skipped", "Nothing was deployed.")), NONE, "Nothing was deployed."),
    ("migration_time", UNVERIFIED, NONE, "The check deploy_time was not made in this run."),
    ("realistic_data", run(), NONE, "a copy of production is"),
    ("realistic_data", record(phases=RUN, environment="production"), NONE, "on production itself"),
    ("no_data_loss", run(), "pass", "No finding in what was compared; 1 difference explained"),
    ("no_data_loss", run(verification=dict(FULL, level="counts")), "warn", "Contents were not compared (level counts)."),
    ("no_data_loss", run(verification=VERIFIED), "warn", "level not known"),
    ("no_data_loss", run(verification=dict(FULL, findings=[finding("rows_fewer")])), "fail", "1 finding: public.users is not"),
    ("no_data_loss", run(verification=dict(FULL, findings=[finding("rows_more")])), "warn", "1 finding"),
    ("no_data_loss", run(verification=dict(FULL, differences=[dict(EXPLAINED, severity="expected")])), "pass", "1 of them only because the inventory expects them"),
    ("no_data_loss", run(verification={"findings": [], "differences": [], "row_counts": [], "level": "full"}), NONE, "The state before was not at hand"),
    ("no_data_loss", ROLLED_BACK, "fail", "99 rows fewer"),
    ("no_data_loss", IDLE, NONE, "Nothing was deployed in this run."),
    ("no_data_loss", UNVERIFIED, NONE, "Nothing was compared"),
    ("index_creation", run(), "pass", "said of index_build_time."),
    ("index_creation", verified(check("invalid_indexes", "fail", "1 index is invalid.")), "fail", "1 index is invalid."),
    ("index_creation", verified(check("index_build_time", "warn")), "warn", "index_build_time"),
    ("index_creation", UNVERIFIED, NONE, "not made"),
    ("index_creation", deployed(index_builds=[{"index": "i", "table": "t", "seconds": None}]), "pass", "None took longer than the longest migration, 4.9 s."),
    ("index_creation", SLOW_UNSEEN, "warn", "A build whose time is not known took at most 5.5 s."),
    ("index_creation", FAILED_UNSEEN, "warn", "took at most as long as the deploy."),
    ("foreign_keys", run(), "pass", "said of foreign_keys."),
    ("foreign_keys", verified(check("foreign_keys", "fail", "1 foreign key is violated.")), "fail", "1 foreign key is violated."),
    ("foreign_keys", verified(check("foreign_keys", "skipped", "It takes longer.")), NONE, "The check foreign_keys was skipped: It takes longer."),
    ("application", run(), "pass", "Passed: smoke_commands (said of smoke_commands)."),
    ("application", verified(check("http", "fail", "1 of 1 failed.")), "fail", "http: 1 of 1 failed."),
    ("application", verified(check("smoke_commands", "skipped"), check("application_role")), "warn", "Only the login"),
    ("application", verified(check("smoke_commands", "skipped")), NONE, "No smoke test is set"),
    ("application", UNVERIFIED, NONE, "No check was made"),
    ("monitoring", deployed(cancelled=[]), "pass", "6 samples in 8.0 s; 12 other sessions waited for a migration, the longest for 750 ms."),
    ("monitoring", run(), "warn", "the watchdog stepped in once."),
    ("monitoring", verified(check("blocking_time", "fail", "Too long.")), "fail", "Too long."),
    ("monitoring", verified(check("blocking_time", "warn", "Too long, and tolerated.")), "warn", "6 samples in 8.0 s. Too long, and tolerated."),
    ("monitoring", deployed(cancelled=[], locks=[], migrations=SHORT, taken=5), "warn", "no sample was taken while a migration ran"),
    ("monitoring", deployed(cancelled=[], migrations=SHORT, taken=5), "pass", "12 other sessions"),
    ("monitoring", deployed(cancelled=[], locks=[], migrations=SHORT), "pass", "12 other sessions"),
    ("monitoring", NO_MONITOR, NONE, "The deploy was not watched."),
    ("monitoring", deployed(taken=0, samples=[]), NONE, "Nothing could be seen"),
    ("monitoring", IDLE, NONE, "Nothing was deployed"),
    ("backup_restore", run(), "warn", "was read back in full at 2026-11-22T16:00:00Z; it was not restored"),
    ("backup_restore", drilled(level="drill", at="2026-11-22T16:00:00Z"), "pass", "was restored and found equal at 2026-11-22T16:00:00Z."),
    ("backup_restore", UNVERIFIED, "warn", "nothing says that it was tried"),
    ("backup_restore", ROLLED_BACK, "pass", "was restored in this run, and found equal."),
    ("backup_restore", RESTORE, "pass", "was restored in this run, and found equal."),
    ("backup_restore", SWAPPED_BACK, "warn", "The kept database %s was swapped in, which is that very database" % KEPT),
    ("backup_restore", RESTORE_REFUSED, NONE, "refused before it began (CONFIRMATION_MISSING)."),
    ("backup_restore", record(phases=dict(BACK, restore=failed("RESTORE_FAILED", "no space"))), "fail", "The restore failed."),
    ("backup_restore", record(phases={"backup": failed("BACKUP_FAILED", "no space")}), "fail", "The backup failed."),
    ("backup_restore", record(runbook="restore_drill", phases={"drill": {"drilled_at": "2026-11-22T17:00:00Z", "restore_point": {"id": "p1"}}}), "pass", "The restore point p1 was restored"),
    ("backup_restore", IDLE, NONE, "No restore point was taken in this run."),
    ("schema_reviewed", run(), NONE, "A review is made by people"),
    ("sql_reviewed", run(), NONE, "A review is made by people"),
    ("tested_development", run(), NONE, "This run was on staging."),
    ("tested_development", record(phases=RUN, environment="development"), "pass", "On development: 2 migrations applied in 6.2 s."),
    ("tested_staging", run(), "pass", "On staging: 2 migrations applied in 6.2 s."),
    ("tested_staging", record(phases=RUN, environment=""), NONE, "migration_environment is not set"),
    ("tested_staging", record(phases=RUN, environment="blue"), NONE, "This run was on blue."),
    ("tested_staging", FAILED_DEPLOY, "fail", "On staging: %s failed." % NAMES[1]),
    ("tested_staging", REFUSED, NONE, "Nothing was deployed in this run."),
    ("tested_staging", CHECK_MODE, NONE, "Check mode"),
    ("tested_staging", IDLE, NONE, "Nothing was deployed in this run."),
    ("integrity", run(), "pass", "Checks: ledger, drift, foreign_keys, sequences, disabled_triggers, invalid_indexes."),
    ("integrity", verified(check("sequences", "fail", "1 is behind.")), "fail", "sequences: 1 is behind."),
    ("integrity", verified(check("sequences", "warn", "1 was behind.")), "warn", "sequences: 1 was behind."),
    ("integrity", verified(check("drift", "skipped")), "warn", "Not answered: drift."),
    ("integrity", run(verification=dict(FULL, level="counts")), "warn", "Contents were not compared"),
    ("integrity", run(verification=dict(FULL, findings=[finding("content_changed")])), "fail", "1 finding"),
    ("integrity", IDLE, NONE, "Nothing was compared"),
    ("performance", run(), "pass", "said of blocking_time. said of deploy_time."),
    ("performance", verified(check("table_rewrites", "warn", "1 was rewritten.")), "warn", "table_rewrites: 1 was rewritten."),
    ("performance", verified(check("blocking_time", "skipped", "not watched")), "warn", "What others felt of it was not checked."),
    ("performance", UNVERIFIED, NONE, "not made"),
    ("rollback_plan", run(), "pass", "The restore point %s; the command" % POINT["id"]),
    ("rollback_plan", record(phases={"deploy": DEPLOYED}), "fail", "No restore point was taken before the deploy."),
    ("rollback_plan", IDLE, NONE, "Nothing was deployed"),
    ("team_notified", run(), NONE, "A run does not know who was told."),
    ("deployed_production", run(), NONE, "This run was on staging."),
    ("deployed_production", record(phases=RUN, environment="production"), "pass", "On production: 2 migrations applied in 6.2 s."),
    ("deployed_production", record(phases=dict(BACK, verification=LOST), environment="Production"), "fail", "undone by the rollback"),
    ("deployed_production", record(phases={"deploy": WOULD}, environment="production", check_mode=True), NONE, "Check mode"),
    ("post_verification", run(), "pass", "10 of 10 checks passed, 1 skipped."),
    ("post_verification", verified(check("sequences", "warn")), "warn", "9 of 10 checks passed, 1 skipped; warned: sequences."),
    ("post_verification", verified(check("sequences", "fail")), "fail", "The verification failed: sequences."),
    ("post_verification", ROLLED_BACK, "fail", "The verification failed: DATA_LOSS."),
    ("post_verification", run(verification=VERIFIED), "warn", "no check was made"),
    ("post_verification", UNVERIFIED, "fail", "The verification was left out."),
    ("post_verification", FAILED_DEPLOY, NONE, "Not verified: %s failed." % NAMES[1]),
    ("post_verification", IDLE, NONE, "Nothing was deployed"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "found", "verdict", "words"), ANSWERS, ids=["%s-%d" % (case[0], number) for number, case in enumerate(ANSWERS)])
def test_boxes(name: str, found: Result, verdict: str, words: str) -> None:
    (box,) = [one for one in boxes(found) if one.name == name]
    assert box.verdict == verdict, box
    assert words in box.evidence and "\n" not in box.evidence, box.evidence


def test_every_box_has_an_answer_and_a_case() -> None:
    assert [len(BOXES[name]) for name in (PRE_PRODUCTION, MIGRATION)] == [9, 10]
    assert {case[0] for case in ANSWERS} == {name for texts in BOXES.values() for name in texts}
    for found in (run(), ROLLED_BACK, IDLE, REFUSED, CHECK_MODE, RESTORE):
        answered = boxes(found)
        assert [(box.checklist, box.name, box.text) for box in answered] == [
            (kind, name, text) for kind, texts in BOXES.items() for name, text in texts.items()
        ]
        assert all(box.verdict in ("pass", "fail", "warn", NONE) and box.evidence for box in answered)


def test_nothing_is_ticked_by_a_run_that_did_nothing() -> None:
    for found in (IDLE, REFUSED, CHECK_MODE, RESTORE_REFUSED):
        assert {box.verdict for box in boxes(found)} == {NONE}, found["sentence"]


def test_the_page_shows_the_boxes_with_their_answers() -> None:
    for found in (run(), ROLLED_BACK):
        page = Page(html(found))
        for box in boxes(found):
            (item,) = page.having("li", id="box-" + box.name)
            words = {"pass": "Pass", "fail": "Fail", "warn": "Warning", NONE: "Not answered"}[box.verdict]
            assert shown(item).startswith(box.text) and words in shown(item) and shown(item).endswith(box.evidence)


# --- every figure is the record's ------------------------------------------------------------


def test_figures_of_checks_phases_and_rows() -> None:
    found = run()
    page = Page(html(found))
    checks = {one["name"]: one for one in found["verification"]["checks"]}
    headers, rows = page.table("checks-table")
    assert headers == ["Check", "Verdict", "What was found", "Limit", "Took"] and len(rows) == len(checks)
    words = {"pass": "Pass", "skipped": "Skipped"}
    for name, verdict, text, limit, took in rows:
        one = checks[shown(name)]
        took_seconds = "–" if one["verdict"] == "skipped" else one["seconds"]
        assert (words[one["verdict"]] in shown(verdict), shown(text), exact(took)) == (True, one["text"], took_seconds)
        assert exact(limit) == (one["limit"] or "–")
    _headers, rows = page.table("phases-table")
    assert [(shown(row[0]), shown(row[2]), exact(row[3])) for row in rows] == [
        (phase["name"], phase["sentence"], "–" if phase["seconds"] is None else phase["seconds"]) for phase in found["phases"]
    ]
    _headers, rows = page.table("rows-table")
    missing = {None: "no table"}
    assert [[exact(cell) for cell in row[:3]] for row in rows] == [
        [entry["table"], missing.get(entry["before"], entry["before"]), missing.get(entry["after"], entry["after"])] for entry in found["row_counts"]
    ]
    assert {shown(row[0]): exact(row[3]) for row in rows} == {"public.users": -1, "public.old": "gone", "public.new": "new"}
    assert {shown(row[0]): shown(row[1]) for row in rows}["public.users"] == "20,000"


def test_figures_of_the_restore_point_and_the_sizes() -> None:
    found = run()
    page = Page(html(found))
    point = facts(page.section("restore-point"))
    assert [exact(point[name]) for name in ("Id", "Folder", "Tables", "Rows", "Size", "Took")] == [
        POINT[key] for key in ("id", "path", "tables", "rows", "size_bytes", "seconds")
    ]
    sizes = facts(page.section("rows"))
    assert [exact(sizes[name]) for name in ("Database before", "Database after", "Change in bytes", "Write-ahead log", "Temporary files")] == [
        9_000_000, 12_345_678, 3_345_678, 3_000_001, 4_096,
    ]  # fmt: skip
    (typed,) = below(page.section("restore-point"), "pre")
    assert shown(typed) == rollback_command(found) and POINT["path"] in shown(typed)


def test_figures_of_the_timeline() -> None:
    found = run()
    page = Page(html(found))
    timeline = page.section("timeline")
    said = facts(timeline)
    assert {name: exact(cell) for name, cell in said.items()} == {
        "Deploy": 6.2, "Samples": 6, "Watched": 8.0, "Other sessions that waited": 12, "Longest wait of another session": 0.75, "Longest wait of the migration": 0.25,
    }  # fmt: skip
    assert shown(said["Samples"]) == "6, drawn as 5: the highest of their neighbours"
    (bars,) = page.having("ol", **{"class": "bars"})
    for item, one in zip(below(bars, "li"), MONITOR["migrations"]):
        assert one["name"] in shown(item) and one["state"] in shown(item)
        assert [json.loads(data["attrs"]["value"]) for data in below(item, "data")] == [round(one["ended"] - one["started"], 3), one["started"]]
        left, width = (float(below(item, "rect")[1]["attrs"][key]) / WIDTH * 8.0 for key in ("x", "width"))
        assert (left, left + width) == (pytest.approx(one["started"], abs=0.001), pytest.approx(one["ended"], abs=0.001))
    _headers, rows = page.table("samples-table")
    keys = ("t", "active", "idle_in_transaction", "waiting", "blocked", "size", "wal", "temp", "lag", "oldest_transaction")
    assert [[exact(cell) for cell in row] for row in rows] == [["–" if one[key] is None else one[key] for key in keys] for one in MONITOR["samples"]]
    for ident, wanted in (
        ("locks", [["public.users", "AccessExclusiveLock", 0.812, 0.125, 1.031]]),
        ("blocks", [["api as app (pid 12345)", 0.75, 1.25, "public.users", "AccessShareLock", "migration"], ["the migration", 0.25, 0.5, "public.users", "AccessExclusiveLock", "pid 9 (report)"]]),
        ("builds", [["public.i", "public.users", 2.125]]),
        ("cancelled", [[5.5, "migration", "blocked 3 sessions for 5.0 s", 1]]),
        ("progress", [[3.25, "CREATE INDEX", "public.users", "building index", 80.5, NAMES[1]]]),
    ):  # fmt: skip
        assert [[exact(cell) for cell in row] for row in page.table(ident + "-table")[1]] == wanted


@pytest.mark.parametrize(
    ("ident", "keys", "low"),
    [
        ("sessions", ("active", "idle_in_transaction", "waiting"), 0),
        ("blocked", ("blocked",), 0),
        ("size", ("size",), 9_000_000),
        ("wal", ("wal",), 0),
        ("temp", ("temp",), 0),
        ("lag", ("lag",), 0),
    ],
)
def test_lines_go_through_the_values(ident: str, keys: tuple[str, ...], low: float) -> None:
    page = Page(html(run()))
    (chart,) = [node for node in page.having("svg", role="img") if node["attrs"]["aria-labelledby"].startswith("chart-%s-" % ident)]
    values = {key: [(one["t"], one[key]) for one in MONITOR["samples"] if one[key] is not None] for key in keys}
    if ident == "size":
        # Looks at the size are seldom: a line without gaps, from before to after.
        values["size"] = [(0.0, MONITOR["size_before"]), *values["size"], (MONITOR["seconds"], MONITOR["size_after"])]
    highest = max(value for points in values.values() for _at, value in points) or 1.0
    span = (highest - low) or 1.0
    paths = [node["attrs"]["d"] for node in below(chart, "path")]
    assert len(paths) == len(keys)
    for key, path in zip(keys, paths):
        points = [tuple(float(number) for number in point.split()) for point in re.findall(r"[ML]([\d.]+ [\d.]+)", path)]
        drawn = [(x / WIDTH * 8.0, low + (HEIGHT - y) / HEIGHT * span) for x, y in points]
        assert [at for at, _value in drawn] == pytest.approx([at for at, _value in values[key]], abs=0.001)
        assert [value for _at, value in drawn] == pytest.approx([value for _at, value in values[key]], abs=span / 5000)
        gaps = sum(
            1 for before, after in zip([None, *MONITOR["samples"]], MONITOR["samples"]) if after[key] is not None and (before is None or before[key] is None)
        )
        assert path.count("M") == (1 if ident == "size" else gaps)
    # The same is said in words.
    (said,) = below(chart, "desc")
    assert all(("%s: " % name) in shown(said) for name in {"sessions": ("active", "idle in transaction", "waiting for a lock")}.get(ident, ()))


def test_every_number_is_in_the_record() -> None:
    """No figure comes from elsewhere: each value is in the record, or a number of entries of it, or one of the few differences that are drawn."""
    for found in (run(), ROLLED_BACK, FAILED_DEPLOY, RESTORE, IDLE):
        numbers: set[t.Any] = set()

        def collect(value: t.Any, numbers: set[t.Any] = numbers) -> None:
            if isinstance(value, (dict, list)):
                numbers.add(len(value))
                for one in value.values() if isinstance(value, dict) else value:
                    collect(one)
            elif isinstance(value, (int, float)) and not isinstance(value, bool):
                numbers.add(value)

        collect(found)
        numbers |= {(one["after"] or 0) - (one["before"] or 0) for one in found["row_counts"]} | {3_345_678}
        numbers |= {round(one["ended"] - one["started"], 3) for one in MONITOR["migrations"]}
        for node in Page(html(found)).having("data"):
            assert json.loads(node["attrs"]["value"]) in numbers, node


def test_loss_is_shown_after_a_way_back() -> None:
    loss = {
        "known": True,
        "differences": 2,
        "tables": [{"table": "public.users", "rows_now": 19901, "rows_then": 20000, "added": 3, "changed": 5, "removed": 102, "keyed": True}],
    }
    page = Page(html(record(phases=dict(BACK, verification=LOST, restore=dict(RESTORED, loss=loss)))))
    headers, rows = page.table("loss-table")
    assert headers == ["Table", "Rows before", "Rows after", "Lost", "Replaced", "Back"]
    assert [[exact(cell) for cell in row] for row in rows] == [["public.users", 19901, 20000, 3, 5, 102]]
    assert KEPT in shown(page.section("restored")) and "What was lost" in shown(page.section("loss"))
    asked = record(runbook="rollback", phases={"restore": dict(failed("CONFIRMATION_MISSING", "not confirmed"), loss=loss)})
    page = Page(html(asked))
    assert page.table("loss-table")[0][1:3] == ["Rows now", "Rows then"] and "What would be lost" in shown(page.section("loss"))
    unknown = dict(RESTORED, loss={"known": False, "reason": "the restore point holds no fingerprint"})
    assert "is not known: the restore point holds no fingerprint" in shown(
        Page(html(record(phases=dict(BACK, verification=LOST, restore=unknown)))).section("loss")
    )


def test_next_step_and_what_is_to_be_typed() -> None:
    step = "look at what would be lost, then run the same again with -e migration_confirm=microcare:20261122-1 (in a task of your own: confirm)"
    page = Page(html(record(runbook="rollback", phases={"restore": dict(failed("CONFIRMATION_MISSING", "not confirmed"), next_step=step)})))
    section = page.section("next-step")
    assert [shown(node) for node in below(section, "pre")] == ["-e migration_confirm=microcare:20261122-1"]
    assert "CONFIRMATION_MISSING in the phase restore: not confirmed" in shown(section) and "Look at what would be lost" in shown(section)
    step = "run with -e migration_route=restore_point, or -e migration_run_script=before -e migration_confirm=d:1 (undoes it)"
    page = Page(html(record(runbook="rollback", phases={"resolve": dict(failed("RECOVERY_UNPROVED", "unproved"), next_step=step)})))
    typed = below(page.section("next-step"), "pre")
    assert [shown(node) for node in typed] == ["-e migration_route=restore_point", "-e migration_run_script=before -e migration_confirm=d:1"]
    assert len({node["attrs"]["aria-label"] for node in typed}) == 2
    step = "clear it: ansible-playbook playbooks/rollback.yml -e migration_targets=staging1, then run again"
    page = Page(html(record(phases={"preflight": dict(failed("UNFINISHED_MIGRATION", "x is unfinished"), next_step=step)})))
    assert [shown(node) for node in below(page.section("next-step"), "pre")] == ["ansible-playbook playbooks/rollback.yml -e migration_targets=staging1"]


# --- the page itself ---------------------------------------------------------------------------

HOSTILE = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "' onmouseover='alert(1)", "</title></style></svg><h1>x</h1>", "<!-- --><![CDATA[", "a&amp;b &lt;c",
    "javascript:alert(1)", "\u202egnp.exe", "\u2066x\u2069", "nul\x00l \x1b[31mred\x9b", "zero\u200bwidth", "\ud800", "{{ 1 }}", "x" * 5000, "\u05e9\u05dc\u05d5\u05dd", "]]>", "`${1}`",
]  # fmt: skip


def planted(name: str) -> Result:
    """A record in which every text that can come from outside is this one."""
    found = copy.deepcopy(run(restore=dict(RESTORED, loss={"known": True, "differences": 1, "tables": [{"table": "t", "rows_now": 1, "rows_then": 2}]})))
    keep = {"verdict", "severity", "level", "outcome", "format", "state", "row_counts_of"}

    def plant(value: t.Any) -> t.Any:
        if isinstance(value, dict):
            return {key: one if key in keep else plant(one) for key, one in value.items()}
        if isinstance(value, list):
            return [plant(one) for one in value]
        return name if isinstance(value, str) else value

    found = plant(found)
    found["error"] = {"code": name, "msg": name, "next_step": "run with -e migration_confirm=%s" % name, "phase": name}
    found["deploy"]["failed_migration"] = {"name": name, "error": name, "state": name, "sqlstate": name, "logs": name}
    found["verification"]["findings"] = [finding("rows_fewer"), {"text": name, "kind": name}, name]
    found["preflight"]["warnings"] = [name]
    return found


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_names_take_no_effect(name: str) -> None:
    found = planted(name)
    for content in (html(found), index([found], {found["target"]: "a%3Cb.html"}, {name + "2": name}, name)):
        page = Page(content)
        assert {node["tag"] for node in page.all} <= _TAGS
        for node in page.all:
            assert not any(key.startswith("on") or key in ("style", "src", "action", "srcdoc", "xlink:href") for key in node["attrs"]), node
            assert node["tag"] == "a" or "href" not in node["attrs"]
        assert [node["attrs"]["href"] for node in page.having("a")] in ([], ["./a%3Cb.html"])
        assert (
            len(page.having("h1"))
            == len([node for node in page.having("title") if "id" not in node["attrs"]])
            == len(page.having("style"))
            == len(page.having("main"))
            == 1
        )
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]", content)
    visible = " ".join(name.split())
    if name.isprintable() and len(name) < 100 and "alert(1)" in name:
        assert library.unescape(visible) in shown(Page(html(found)).having("body")[0])


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_attributes_and_children(name: str) -> None:
    (node,) = Page(tag("p", name, title=name)).all
    assert list(node["attrs"]) == ["title"] and all(isinstance(child, str) for child in node["children"])
    assert node["attrs"]["title"] == "".join(node["children"])


def test_a_command_comes_through_as_it_must_be_typed() -> None:
    for target in ("a\"b'c", "a<b>&c", "x y", "r\u202etl", "n\x7f", "$(touch x)"):
        found = dict(run(), target=target)
        (typed,) = below(Page(html(found)).section("restore-point"), "pre")
        words = shlex.split("".join(t.cast("list[str]", typed["children"][0]["children"])))
        assert json.loads(words[3])["migration_targets"] == target
    assert "\u202e" not in command("a\u202eb", "x")


@pytest.mark.parametrize(
    "found",
    [run(), ROLLED_BACK, FAILED_DEPLOY, REFUSED, IDLE, CHECK_MODE, NO_MONITOR, UNVERIFIED, RESTORE, RESTORE_REFUSED, deployed(samples=[], locks=[], blocks=[])],
)
def test_the_page_is_whole_and_by_itself(found: Result) -> None:
    content = html(found)
    page = Page(content)
    assert content.startswith("<!DOCTYPE html>\n<html lang=") and POLICY == "default-src 'none'; style-src 'unsafe-inline'"
    assert [node["attrs"]["content"] for node in page.having("meta", **{"http-equiv": "Content-Security-Policy"})] == [POLICY]
    assert [shown(node) for node in page.having("h1")] == [found["sentence"]]
    assert not re.search(r"https?:|url\(|@import|<script|<link|<iframe", content)
    idents = [node["attrs"]["id"] for node in page.all if "id" in node["attrs"]]
    assert len(idents) == len(set(idents))
    for node in page.all:
        for ident in (node["attrs"].get("aria-labelledby") or "").split():
            assert ident in idents
    assert all(below(node, "caption") for node in page.having("table"))
    assert all(below(node, "title") and below(node, "desc") for node in page.having("svg", role="img"))
    headings = [node["tag"] for node in page.all if node["tag"] in ("h1", "h2", "h3")]
    assert headings[0] == "h1" and headings[1:2] in ([], ["h2"])


def test_order_of_the_sections() -> None:
    found = Page(html(record(phases=dict(RUN, verification=dict(FULL, **LOST), restore=RESTORED, deploy=dict(RUN["deploy"], output="the end")))))
    assert [node["attrs"]["aria-labelledby"] for node in found.having("section")] == [
        "next-step", "restored", "loss", "restore-point", "checklists", "checks", "timeline", "locks", "findings", "rows", "phases", "warnings", "output",
    ]  # fmt: skip


def test_no_content_of_rows_and_no_output_of_programs() -> None:
    evidence = [{"constraint": "fk", "table": "public.a", "violations": 2, "keys": [["k-4711"]], "rows": 2}]
    commands = [{"name": "npm test", "argv": ["npm", "--password=pw-4711"], "output": "row-4711", "rc": 1, "seconds": 1.5}]
    found = verified(check("foreign_keys", "fail", evidence=evidence, count=1), check("smoke_commands", evidence=commands, count=1))
    content = html(found)
    assert "4711" not in content and "violations" in content and "npm test" in content


def test_a_monitor_that_saw_nothing_and_one_with_gaps_only() -> None:
    assert "chart-" not in html(deployed(samples=[]))
    nothing = [dict.fromkeys(sample(0), None)]
    assert "chart-" not in html(deployed(samples=[dict(nothing[0], t=1.0)], cancelled=[], size_before=None, size_after=None))
    # What was read before and after is known without a look in between.
    assert html(deployed(samples=[dict(nothing[0], t=1.0)], cancelled=[])).count("<figure") == 1
    assert shown(facts(Page(html(deployed(samples=MONITOR["samples"][:3]))).section("timeline"))["Samples"]).endswith(", the last at 3.5 s")
    one = Page(html(deployed(samples=[sample(1.0)], migrations=[], seconds=0.0)))
    assert len(one.having("svg", role="img")) == 4
    assert "was not watched" in html(NO_MONITOR) and not Page(html(NO_MONITOR)).having("section", **{"aria-labelledby": "locks"})


def test_long_lists_are_folded_and_whole() -> None:
    many = [{"table": "public.t%d" % number, "before": number, "after": number} for number in range(300)]
    page = Page(html(dict(run(), row_counts=many)))
    assert [shown(row[0]) for row in page.table("rows-table")[1]] == [entry["table"] for entry in many]
    names = [{"name": "m%d" % number, "started": number / 100, "ended": (number + 1) / 100, "state": "applied"} for number in range(434)]
    page = Page(html(deployed(migrations=names)))
    assert [node["attrs"].get("start") for node in page.having("ol", **{"class": "bars"})] == [None, "41"]
    assert sum(len(below(node, "li")) for node in page.having("ol", **{"class": "bars"})) == 434


# --- many targets --------------------------------------------------------------------------------


def test_index() -> None:
    bad, good = dict(ROLLED_BACK, target="b"), dict(run(), target="a/1")
    page = Page(index([good, dict(IDLE, target="c"), bad], {"a/1": "a%252F1.html", "b": "b.html"}, {"gone": "unreachable, or never started"}))
    headers, rows = page.table("targets-table")
    assert headers[:4] == ["Target", "Outcome", "Applied", "Took"]
    assert [shown(row[0]) for row in rows] == ["b", "gone", "a/1", "c"]
    assert [(exact(row[2]), exact(row[3])) for row in rows] == [(2, 40.0), ("–", "–"), (2, 40.0), (0, 40.0)]
    assert [node["attrs"]["href"] for node in page.having("a")] == ["./b.html", "./a%252F1.html"]
    assert shown(page.having("h1")[0]) == "2 of 4 targets ended well" and "2 need somebody" in shown(page.having("header")[0])
    assert bad["sentence"] in shown(page.section("needs")) and "gone: no record (unreachable" in shown(page.section("needs"))
    assert {name: exact(cell) for name, cell in facts(page.having("header")[0]).items()} == {
        "Run": "20261122-1",
        "Targets": 4,
        "Rolled back": 1,
        "Applied": 1,
        "Nothing to do": 1,
        "No record": 1,
    }
    well = Page(index([good]))
    assert not well.having("section", **{"aria-labelledby": "needs"}) and "All well" in shown(well.having("header")[0])
    assert shown(Page(index([])).having("h1")[0]) == "0 of 0 targets ended well"


# --- drawing ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("high", "wanted"),
    [(0, [0]), (1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]), (12.3, [0, 5, 10]), (60, [0, 10, 20, 30, 40, 50, 60]), (84.6, [0, 15, 30, 45, 60, 75]), (3600, [0, 600, 1200, 1800, 2400, 3000, 3600]), (0.03, [0, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03])],
)  # fmt: skip
def test_ticks(high: float, wanted: list[float]) -> None:
    assert ticks(high) == pytest.approx(wanted)


@pytest.mark.parametrize(
    ("points", "path"),
    [
        ([(0, 1), (1, 2)], "M0 50L10 0"),
        ([(0, 1), (1, None), (2, 2)], "M0 50h2M20 0h2"),
        ([(0, None)], ""),
        ([], ""),
        ([(0, 0), (5, 0), (6, None)], "M0 100L50 100"),
    ],
)
def test_line_path(points: list[tuple[float, float | None]], path: str) -> None:
    assert line_path(points, Scale(0, 10, 100), Scale(0, 2, 100)) == path


@pytest.mark.parametrize(
    ("found", "wanted"),
    [(duration_text(0.0), "0 ms"), (duration_text(0.0021), "2.1 ms"), (duration_text(0.0004), "0.4 ms"), (duration_text(0.25), "250 ms"), (duration_text(0.9996), "1.0 s"), (duration_text(84.6), "1 min 25 s"),
     (size_text(0), "0 bytes"), (size_text(1), "1 byte"), (size_text(999), "999 bytes"), (size_text(999_960), "1.0 MB"), (size_text(104_998), "105.0 kB"), (size_text(9_248_103_000), "9.2 GB"),
     (tick_text(0.2, 1), "200 ms"), (tick_text(5, 12), "5 s"), (tick_text(75, 80), "1:15"), (tick_text(5400, 9000), "1:30 h")],
)  # fmt: skip
def test_words_of_numbers(found: str, wanted: str) -> None:
    assert found == wanted
