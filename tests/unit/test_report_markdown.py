# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shlex
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._migration_log import log_entries, log_entry, log_text
from ansible_collections.pgops.migrations.plugins.module_utils._report_commands import rollback_command
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown import block, code, table, text
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown_page import report
from markdown_it import MarkdownIt
from support.runs import BACKUP, DEPLOYED, KEPT, LOST, NAMES, POINT, PREFLIGHT, RESTORED, UP_TO_DATE, VERIFIED, WOULD, broken, failed, record

RUN = {"preflight": PREFLIGHT, "backup": BACKUP, "deploy": DEPLOYED, "verification": VERIFIED}
ODD = [
    "a|b", "a`b", "``x``", "`", "*bold* _em_ __s__", "<script>alert(1)</script>", "[a](javascript:alert(1))", "![i](x)", "a\nb\n# head", "# head", "- item", "1. one",
    "> quote", "~~gone~~", "&amp; &lt;", "---", "===", "\\", "a\\|b", "a\\`b|`c", "```\nfence\n```", "\u202egnp.exe", "+ plus", "| a | b |", "snake_case_name", "a__kept_b", "_x_",
]  # fmt: skip


def rendered(markdown: str) -> list[t.Any]:
    return MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(markdown)


def shown(token: t.Any) -> str:
    """The words that a reader sees."""
    return "".join(child.content for child in token.children or ())


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("write", [text, code])
def test_odd_names_are_shown_and_nothing_more(name: str, write: t.Callable[[str], str]) -> None:
    written = write(name)
    assert "\n" not in written
    # Alone, in a list, and in a table.
    paragraph = rendered(written)
    assert [token.type for token in paragraph] == ["paragraph_open", "inline", "paragraph_close"], written
    assert {child.type for child in paragraph[1].children} <= {"text", "text_special", "code_inline"}, written
    expected = " ".join(name.split()).replace("\u202e", "?")
    assert shown(paragraph[1]).strip() == expected.strip()
    cells = [token for token in rendered("\n".join(table(["A", " B"], [[written, "x"], ["y", written]]))) if token.type == "inline"]
    assert [shown(cell).strip() for cell in cells] == ["A", "B", expected.strip(), "x", "y", expected.strip()]


def test_names_with_underscores_can_be_read_as_they_are() -> None:
    assert text("20260301_split_patient_name is kept as a__kept_b") == "20260301_split_patient_name is kept as a__kept_b"


def test_block_holds_fences() -> None:
    tokens = rendered("\n".join(block("a\n````\nb")))
    assert [token.type for token in tokens] == ["fence"] and tokens[0].content == "a\n````\nb\n"


def test_report_of_a_good_run() -> None:
    found = report(record(phases=RUN))
    assert found.startswith("# staging1: 2 migrations applied in 6.2 s, nothing lost, restore point %s\n" % POINT["id"])
    assert "- `%s` 4.9 s" % NAMES[1] in found and "| `public.users` | 20,000 | 20,000 | 0 |" in found
    assert "To go back to it. The command" in found and "```sh\n%s\n```" % rollback_command(record(phases=RUN)) in found and "## Next step" not in found


def test_report_of_a_rollback() -> None:
    found = report(record(phases=dict(RUN, deploy=broken(), verification={}, restore=RESTORED)))
    assert found.startswith("# staging1: ROLLED BACK. %s failed half applied" % NAMES[1])
    assert found.index("## Next step") < found.index("## What failed") < found.index("## Restore point")
    for part in ("Mend the cause and run again", "| SQLSTATE | `23505` |", "| State it left | `failed_partial` |", "committed before the error: users", KEPT):
        assert part in found
    assert "| Table | Former database | Restored | Change |" in found and "| `public.users` | 19,901 | 20,000 | +99 |" in found
    assert "What is shown as applied was undone by the rollback." in found and "bob@example.org" not in found


def test_report_of_findings_and_of_check_mode() -> None:
    found = report(record(phases=dict(RUN, verification=LOST)))
    assert "\n- `rows_fewer` public.users has 99 rows fewer than before.\n" in found
    checks = [{"name": "smoke|1", "verdict": "fail", "text": "no row", "seconds": 0.25}, {"name": "smoke 2", "verdict": "pass"}]
    assert "\n| smoke\\|1 | Fail | no row | – | 250 ms |\n" in report(record(phases=dict(RUN, verification=dict(VERIFIED, checks=checks))))
    found = report(record(check_mode=True, phases={"deploy": WOULD}))
    assert "### Would be applied\n\n- `%s`\n- `%s`\n" % tuple(NAMES) in found and "(check mode)" in found


@pytest.mark.parametrize("name", ODD)
def test_report_with_odd_names_everywhere_keeps_its_shape(name: str) -> None:
    def types(odd: str) -> list[str]:
        deploy = broken()
        deploy["failed_migration"]["name"] = odd
        deploy["applied"] = [odd]
        phases = {
            "preflight": dict(PREFLIGHT, warnings=[odd]),
            "backup": {"changed": True, "restore_point": dict(POINT, path=odd, confirmation=odd)},
            "deploy": dict(deploy, msg=odd, output=odd, pending=[odd], evidence={odd: {"reason": odd, "committed": 1, "named": [odd]}}),
            "verification": {"findings": [{"text": odd}], "before": {"tables": {odd: {"rows": 1}}}, "after": {"tables": {odd: {"rows": 2}}}},
        }
        return [token.type for token in rendered(report(record(target=odd, environment=odd, database=odd, revision=odd, operator=odd, phases=phases)))]

    assert types(name) == types("plain")


def test_what_the_page_folds_away_goes_on_in_the_same_list_and_table() -> None:
    many = [{"name": "m%04d" % number, "seconds": 1} for number in range(300)]
    tables = {"public.t%03d" % number: {"rows": number} for number in range(120)}
    verified = dict(VERIFIED, before={"tables": tables}, after={"tables": tables}, findings=[{"text": "finding %03d" % number} for number in range(150)])
    found = report(record(phases={"deploy": dict(DEPLOYED, applied=many), "verification": verified}))
    for entries in (["- `m%04d` 1.0 s" % number for number in range(300)], ["- finding %03d" % number for number in range(150)]):
        assert "\n%s\n" % "\n".join(entries) in found
    assert "\n%s\n" % "\n".join("| `public.t%03d` | %d | %d | 0 |" % (number, number, number) for number in range(120)) in found
    assert " more" not in found.replace("more than a record", "")


def test_rollback_command_survives_the_shell() -> None:
    odd = 'it\'s "odd" $(x) `y`'
    found = record(target=odd, phases={"backup": {"changed": True, "restore_point": dict(POINT, path="/b/" + odd)}, "deploy": DEPLOYED})
    words = shlex.split(rollback_command(found))
    assert words[:3] == ["ansible-playbook", "pgops.migrations.rollback", "-e"] and words[4] == "-e"
    assert {**json.loads(words[3]), **json.loads(words[5])} == {"migration_targets": odd, "migration_restore_point": "/b/" + odd}
    plain = rollback_command(record(phases=RUN))
    assert plain == "ansible-playbook pgops.migrations.rollback -e migration_targets=staging1 -e migration_restore_point=%s" % POINT["path"]
    assert rollback_command(record(phases={"deploy": DEPLOYED})) == ""


def test_log_entry_has_the_form_of_the_guide() -> None:
    assert log_text(log_entries(record(phases=RUN))[1]) == (
        "Date: 2026-11-22\nMigration: %s\nStatus: Applied\nDuration: 4.9 seconds\n"
        "Notes: staging1 (staging); by ops; revision 7d65178; run 20261122-1; restore point %s\n" % (NAMES[1], POINT["id"])
    )
    assert log_entry(record(phases=RUN)).count("```text\nDate: ") == 2


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (2, "2 seconds"),
        (1, "1 second"),
        (4.93, "4.9 seconds"),
        (204, "204 seconds"),
        (0.0214, "21 milliseconds"),
        (0.0001, "1 millisecond"),
        (0, "0 seconds"),
        (None, "–"),
    ],
)
def test_a_duration_in_the_log_is_in_the_words_of_the_guide(seconds: t.Any, expected: str) -> None:
    (entry,) = log_entries(record(phases={"deploy": dict(DEPLOYED, applied=[{"name": NAMES[0], "seconds": seconds}])}))
    assert "\nDuration: %s\n" % expected in log_text(entry) and entry["seconds"] == seconds


OTHER = {"run_id": "r9", "state": "killed", "applied": NAMES[:1], "started_at": "2026-11-22T16:59:00Z", "seconds": None, "code": ""}
LEFT = {"name": NAMES[1], "state": "rolled_back", "reason": "nothing of it is there."}


def test_what_others_left_is_told_in_every_report_and_in_the_log() -> None:
    found = record(phases=dict(RUN, deploy=dict(DEPLOYED, followed=[OTHER], resolved=[LEFT])))
    run = "Run r9: nobody followed it to its end, it was killed; 1 migration applied by it: %s" % NAMES[0]
    left = "%s, left unfinished, was recorded as rolled back: nothing of it is there" % NAMES[1]
    assert found["sentence"].endswith("restore point %s (Before it: %s. %s.)" % (POINT["id"], run, left))
    assert found["followed"] == [OTHER] and found["resolved"] == [LEFT] and "followed" not in found["deploy"]
    written = report(found)
    assert written.index("## Before this run") < written.index("## Checklists")
    assert "| `r9` | killed | `%s` | 2026-11-22 16:59:00 UTC | – | – |" % NAMES[0] in written and "\n- %s\n" % left in written
    entries = log_entries(found)
    assert [(entry["migration"], entry["status"], entry["by_run"]) for entry in entries] == [
        (NAMES[0], "applied", "r9"), (NAMES[1], "rolled_back", ""), (NAMES[0], "applied", ""), (NAMES[1], "applied", ""),
    ]  # fmt: skip
    assert "applied by run r9: nobody followed it to its end, it was killed; staging1 (staging); recorded by run 20261122-1\n" in log_text(entries[0])
    assert "Notes: marked: %s; staging1 (staging); by ops" % left in log_text(entries[1])
    assert record(phases=RUN)["followed"] == [] and "Before" not in record(phases=RUN)["sentence"]


def test_what_nobody_had_verified_is_said_to_be_verified_only_where_it_was() -> None:
    idle = {"preflight": dict(PREFLIGHT, status="up_to_date", pending=[], followed=[OTHER])}
    verified = record(phases=dict(idle, verification=dict(VERIFIED, findings=[])))
    assert verified["outcome"] == "nothing_to_do" and verified["sentence"].endswith("This run verified what was applied: no check failed.)"), verified["sentence"]
    more = record(phases=dict(idle, verification=dict(VERIFIED, findings=[{"kind": "rows_fewer", "text": "x"}])))
    assert more["sentence"].endswith("no check failed, 1 difference that no migration explains, see the report.)")
    bad = record(phases=dict(idle, verification=VERIFIED), error={"msg": "CHECK_FAILED: 1 of 3 checks failed. ledger: no."})
    assert bad["outcome"] == "failed" and "verified what" not in bad["sentence"], bad["sentence"]
    assert "What an earlier run applied does not pass: CHECK_FAILED: 1 of 3 checks failed. ledger: no. This run deployed nothing, and rolled" in bad["sentence"]
    for phases in (idle, dict(RUN, preflight=idle["preflight"]), dict(idle, verification=failed("AUTH_FAILED", "x"))):
        assert "verified what was applied" not in record(phases=phases)["sentence"]


@pytest.mark.parametrize(
    ("phases", "more", "outcome", "logged"),
    [
        # What was marked stands whatever came after it.
        ({"preflight": failed("POOLER", "p", followed=[OTHER])}, {}, "refused", [(NAMES[0], "applied")]),
        ({"preflight": dict(PREFLIGHT, status="up_to_date", pending=[], followed=[OTHER])}, {}, "nothing_to_do", [(NAMES[0], "applied")]),
        ({"deploy": failed("LOCKED", "l", changed=True, resolved=[LEFT])}, {}, "failed", [(NAMES[1], "rolled_back")]),
        ({"deploy": dict(WOULD, followed=[OTHER], resolved=[LEFT])}, {"check_mode": True}, "checked", []),
        # By the module that records it, before the deploy; and by a rollback, which tells of it in its own words.
        ({"recovery": {"changed": False, "migrations": [LEFT]}, "resolve": {"changed": True, "migration": NAMES[1], "resolved_to": "rolled_back"}, "deploy": DEPLOYED}, {},
         "applied", [(NAMES[1], "rolled_back"), (NAMES[0], "applied"), (NAMES[1], "applied")]),
        ({"resolve": {"changed": True, "migration": NAMES[1], "resolved_to": "rolled_back"}}, {"runbook": "rollback"}, "done", [(NAMES[1], "rolled_back")]),
    ],
)  # fmt: skip
def test_what_others_left_is_logged_however_the_run_ended(
    phases: dict[str, t.Any], more: dict[str, t.Any], outcome: str, logged: list[tuple[str, str]]
) -> None:
    found = record(phases=phases, **more)
    assert found["outcome"] == outcome, found["sentence"]
    assert [(entry["migration"], entry["status"]) for entry in log_entries(found)] == logged
    assert ("would be recorded as" in found["sentence"]) == (outcome == "checked")
    assert ("Before it" in found["sentence"]) == (outcome != "done")


@pytest.mark.parametrize(
    ("phases", "more", "expected"),
    [
        (RUN, {}, [(NAMES[0], "applied"), (NAMES[1], "applied")]),
        (dict(RUN, deploy=broken()), {}, [(NAMES[0], "applied"), (NAMES[1], "failed")]),
        (dict(RUN, deploy=broken(), restore=RESTORED), {}, [(NAMES[0], "rolled_back"), (NAMES[1], "rolled_back")]),
        (dict(RUN, verification=LOST, restore=RESTORED), {}, [(NAMES[0], "rolled_back"), (NAMES[1], "rolled_back")]),
        (dict(RUN, deploy=broken(), restore=failed("SWAP_FAILED", "s")), {}, [(NAMES[0], "applied"), (NAMES[1], "failed")]),
        ({"restore": RESTORED}, {"runbook": "rollback"}, [("(all after the restore point %s)" % POINT["id"], "rolled_back")]),
        ({"deploy": UP_TO_DATE}, {}, []),
        ({"deploy": failed("LOCKED", "l")}, {}, []),
        ({"deploy": WOULD}, {"check_mode": True}, []),
    ],
)
def test_log_entries(phases: dict[str, t.Any], more: dict[str, t.Any], expected: list[tuple[str, str]]) -> None:
    found = log_entries(record(phases=phases, **more))
    assert [(entry["migration"], entry["status"]) for entry in found] == expected
    for entry in found:
        assert {"operator", "revision", "run_id", "restore_point", "restore_point_path", "target", "date"} <= set(entry)
        assert len(log_text(entry).splitlines()) == 5
