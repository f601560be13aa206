# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shlex
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._migration_log import log_entries, log_entry, log_text
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown import block, code, report, rollback_command, table, text
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
    assert "| `%s` | 4.9 s |" % NAMES[1] in found and "| `public.users` | 20,000 | 20,000 | 0 |" in found
    assert "To go back to it:" in found and "## Next step" not in found and "End of the deploy" not in found


def test_report_of_a_rollback() -> None:
    found = report(record(phases=dict(RUN, deploy=broken(), verification={}, restore=RESTORED)))
    assert found.startswith("# staging1: ROLLED BACK. %s failed half applied" % NAMES[1])
    assert found.index("## Next step") < found.index("## What failed") < found.index("## Restore point")
    for part in ("Mend the cause and run again", "| SQLSTATE | `23505` |", "| State it left | `failed_partial` |", "committed before the error: users", KEPT):
        assert part in found
    assert "| Table | Former database | Restored | Change |" in found and "| `public.users` | 19,901 | 20,000 | +99 |" in found
    assert "## Applied, and undone by the rollback" in found and "bob@example.org" not in found


def test_report_of_findings_and_of_check_mode() -> None:
    found = report(record(phases=dict(RUN, verification=LOST)))
    assert "## Findings\n\n- public.users has 99 rows fewer than before." in found
    checks = [{"name": "smoke|1", "ok": False, "msg": "no row"}, {"name": "smoke 2", "ok": True}]
    assert "## Failed checks\n\n- smoke\\|1: no row\n" in report(record(phases=dict(RUN, verification=dict(VERIFIED, checks=checks))))
    found = report(record(check_mode=True, phases={"deploy": WOULD}))
    assert "## Would be applied\n\n- `%s`\n- `%s`\n" % tuple(NAMES) in found and "(check mode)" in found


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


def test_long_lists_are_cut_in_the_report_and_not_in_the_record() -> None:
    many = [{"name": "m%04d" % number, "seconds": 1} for number in range(300)]
    found = record(phases={"deploy": dict(DEPLOYED, applied=many)})
    assert len(found["deploy"]["applied"]) == 300
    assert "And 200 more; the record has all of them." in report(found)


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
