# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What records, reports and the log say of a way back: asked for, looked at, done."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._migration_log import log_entries
from ansible_collections.pgops.migrations.plugins.module_utils._report_files import paths_of, prepare, to_json, with_earlier_count, write_whole
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown_page import report
from support.runs import BACKUP, DEPLOYED, KEPT, NAMES, POINT, RESTORED, failed, record

TYPED = "microcare:20261122T163000Z-ab12cd"
CHOICE: dict[str, t.Any] = {"changed": False, "route": "restore_point", "confirmation": TYPED, "hold": NAMES[1:], "restore_point_path": POINT["path"]}
OLDER = {"id": "p1", "kind": "dump", "place": "/var/backups/migrations/microcare/p1"}
LOSS: dict[str, t.Any] = {
    "known": True, "differences": 3, "rows_now": 9, "rows_then": 8, "objects": ["The column public.users.bio is new."], "sessions": [], "sequences": [],
    "texts": ["Table public.users: %s." % ("x" * 3000)],
    "tables": [
        {"table": "public.users", "rows_now": 9, "rows_then": 8, "added": 3, "changed": 2, "removed": 1, "keyed": True},
        {"table": "public._prisma_migrations", "rows_now": 2, "rows_then": 1, "added": 1, "changed": 0, "removed": 0, "keyed": True},
    ],
}  # fmt: skip
STEP = "look at what would be lost, then run the same again with -e migration_confirm=%s (in a task of your own: confirm)" % TYPED
ASKED = failed(
    "CONFIRMATION_MISSING", "the restore was not confirmed; it will set it back: %s" % ("x" * 3000), next_step=STEP, loss=LOSS, confirmation=TYPED,
    restore_point={"id": POINT["id"], "kind": "dump"},
)  # fmt: skip
KEPT_POINT = {"id": KEPT, "kind": "kept", "database": KEPT, "path": ""}
UNMEASURED = {"known": False, "measured": False, "reason": "it was shown before it was confirmed; all of it is in the kept database", "sessions": []}
SCRIPTS = {"before": {"proved": True, "loses": ["the column a.b goes"], "sql": "x"}, "after": {"proved": False, "loses": [], "sql": "y"}}
FOUND = {"name": NAMES[1], "state": "failed_partial", "reason": "it stopped after step 1 of 3", "resolve": None, "scripts": SCRIPTS}
RECOVERY: dict[str, t.Any] = {"changed": False, "migrations": [FOUND]}
RESOLVED: dict[str, t.Any] = {
    "changed": True, "migration": NAMES[1], "resolved_to": "rolled_back", "proved": True, "recovery": {"state": "failed_partial", "reason": "it stopped"},
    "script_ran": "before", "script": dict(SCRIPTS["before"], leads_to="before"),
}  # fmt: skip
TO_RECOVER = dict(CHOICE, route="recover", confirmation="microcare:" + NAMES[1])
REVERSE: dict[str, t.Any] = {
    "changed": True,
    "name": "20260401120000_reverse_x",
    "undone": [NAMES[1]],
    "proved": True,
    "notes": [{"text": "phone comes back empty."}],
}


@pytest.mark.parametrize(
    ("phases", "more", "words"),
    [
        # A command is never cut, however much would be lost.
        (
            {"choice": CHOICE, "restore": ASKED},
            {},
            "not confirmed; going back to the restore point %s would lose 3 rows, replace 2 and bring back 1, and 1 object of the schema with what is in it."
            " Next: %s." % (POINT["id"], STEP),
        ),
        (
            {"choice": CHOICE, "restore": dict(RESTORED, loss=LOSS, comparison="", confirmation=TYPED)},
            {"check_mode": True},
            "with -e migration_confirm=%s added" % TYPED,
        ),
        (
            {"choice": dict(CHOICE, next_older=OLDER), "restore": failed("BACKUP_CORRUPT", "a file has other content")},
            {},
            "the next older one is p1: run the same again with -e migration_restore_point=/var/backups/migrations/microcare/p1 to see",
        ),
        (
            {"choice": CHOICE, "restore": failed("BACKUP_CORRUPT", "a file has other content")},
            {},
            "there is no older one that would do; by a reverse migration: -e migration_route=reverse. All of them: ansible staging1 -m",
        ),
        (
            {"choice": TO_RECOVER, "recovery": RECOVERY, "resolve": failed("RECOVERY_UNPROVED", "nothing proves it")},
            {},
            "run a proved script: -e migration_run_script=before -e migration_confirm=microcare:%s (undoes it)." % NAMES[1],
        ),
        (
            {"choice": TO_RECOVER, "recovery": RECOVERY},
            {"check_mode": True},
            "%s is failed_partial: it stopped after step 1 of 3. Proved on a copy: the" % NAMES[1],
        ),
        (
            {"choice": TO_RECOVER, "recovery": RECOVERY, "resolve": RESOLVED},
            {},
            "the script to before was run, which undid its changes of the schema, and it is recorded as rolled back",
        ),
        ({"choice": TO_RECOVER, "recovery": RECOVERY, "resolve": RESOLVED}, {}, "The script lost: the column a.b goes. Next: mend"),
        (
            {"choice": dict(CHOICE, route="reverse"), "reverse": REVERSE},
            {"check_mode": True},
            "the reverse migration 20260401120000_reverse_x would be written and deployed; it undoes %s. It does not bring back or loses: phone comes back empty."
            " To do it, run the same without --check and with -e migration_confirm=%s added" % (NAMES[1], TYPED),
        ),
        (
            {
                "choice": dict(CHOICE, route="reverse"),
                "reverse": REVERSE,
                "backup": BACKUP,
                "deploy": dict(DEPLOYED, pending=["20260301130000_y", "20270101000000_z"]),
            },
            {},
            "Still pending: 20260301130000_y, 20270101000000_z. Older than the reverse migration, it is out of order now, which a deploy refuses;"
            " the next one must be given -e migration_allow=20260301130000_y to apply it",
        ),
        (
            {"restore": dict(RESTORED, restore_point=KEPT_POINT, comparison="same_database", redone=NAMES, undone=[])},
            {},
            "Applied again: %s." % ", ".join(NAMES),
        ),
        ({"restore": dict(RESTORED, undone=NAMES, redone=[])}, {}, "unless it is held back: -e migration_hold=%s (" % ",".join(NAMES)),
        (
            {"restore": dict(RESTORED, restore_point=dict(KEPT_POINT, opened=True), comparison="same_database")},
            {},
            "%s (which was opened for connections since it was made)" % KEPT,
        ),
    ],
)
def test_what_is_said(phases: dict[str, t.Any], more: dict[str, t.Any], words: str) -> None:
    found = record(runbook="rollback", phases=phases, **more)
    assert words in found["sentence"], found["sentence"]
    assert "…" not in found["sentence"].partition("Next: ")[2]


def test_the_report_shows_the_options_as_they_are_typed() -> None:
    text = report(record(runbook="rollback", phases={"choice": CHOICE, "restore": ASKED}))
    assert "```sh\n-e migration_confirm=%s\n```" % TYPED in text and "## What would be lost" in text
    text = report(record(runbook="rollback", phases={"choice": TO_RECOVER, "recovery": RECOVERY, "resolve": failed("RECOVERY_UNPROVED", "no")}))
    assert "\n-e migration_run_script=before -e migration_confirm=microcare:%s\n" % NAMES[1] in text


@pytest.mark.parametrize(
    ("phases", "expected"),
    [
        ({"restore": dict(RESTORED, undone=NAMES, redone=[])}, dict.fromkeys(NAMES, "rolled_back")),
        ({"restore": dict(RESTORED, restore_point=KEPT_POINT, undone=[], redone=NAMES)}, dict.fromkeys(NAMES, "applied")),
        ({"restore": dict(RESTORED, undone=[], redone=[])}, {"(no migration, only rows)": "rolled_back"}),
        ({"recovery": RECOVERY, "resolve": RESOLVED}, {NAMES[1]: "rolled_back"}),
    ],
)
def test_the_log_names_what_is_applied_no_more_and_again(phases: dict[str, t.Any], expected: dict[str, str]) -> None:
    found = log_entries(record(runbook="rollback", phases=phases))
    assert {entry["migration"]: entry["status"] for entry in found} == expected
    if "resolve" in phases:
        assert found[0]["notes"] == "was unfinished, recorded as rolled back; the script to before was run; lost by it: the column a.b goes"


def test_a_confirmed_swap_shows_what_the_run_before_it_counted(tmp_path: pathlib.Path) -> None:
    def keep(run: str, **phases: t.Any) -> dict[str, t.Any]:
        found: dict[str, t.Any] = record(run_id=run, runbook="rollback", phases=phases)
        prepare(str(tmp_path), run)
        write_whole(paths_of(str(tmp_path), run, "staging1")[0], to_json(found))
        return found

    keep("r1", restore=dict(ASKED, confirmation="microcare:another"))
    keep("r2", restore=ASKED)
    done = keep("r3", restore=dict(RESTORED, restore_point=KEPT_POINT, comparison="same_database", confirmation=TYPED, loss=UNMEASURED))
    assert "What was lost was not counted again" in report(done)
    with_earlier_count(done, str(tmp_path))
    text = report(done)
    assert "Counted by the run r2" in text and "| `public.users` | 9 | 8 | 3 | 2 | 1 |" in text and "will be" not in text, text
    other = keep("r4", restore=dict(RESTORED, confirmation="microcare:unasked", loss=UNMEASURED))
    with_earlier_count(other, str(tmp_path))
    assert other["restore"]["loss"] == UNMEASURED
    # It was done: the same confirmation loses something else from now on.
    again = keep("r5", restore=dict(RESTORED, restore_point=KEPT_POINT, comparison="same_database", confirmation=TYPED, loss=UNMEASURED))
    with_earlier_count(again, str(tmp_path))
    assert again["restore"]["loss"] == UNMEASURED


def test_the_command_that_a_module_advises_names_the_target() -> None:
    error = failed("MIGRATION_FAILED_PARTIAL", "it failed", next_step="ansible-playbook playbooks/rollback.yml -e migration_targets=HOST")
    found = record(phases={"deploy": error})
    assert found["error"]["next_step"].endswith("-e migration_targets=staging1") and "migration_targets=staging1" in found["sentence"]
