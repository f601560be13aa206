# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The words for restore points."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import View
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_backup import checked, drill_failed, retained


def view(runbook: str = "backup", **results: t.Any) -> View:
    return View("db7", runbook, "clinic", True, dict.fromkeys(results, "ok"), results, {})


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("SERVER_UNREACHABLE", "DRILL NOT DONE. The restore point p1 could not be tried: why; the live"),
        ("PERMISSION_DENIED", "DRILL NOT DONE. The restore point p1 could not be tried: why; the live"),
        ("DECRYPTION_FAILED", "DRILL NOT DONE. The restore point p1 could not be tried: why; the live"),
        ("DISK_FULL", "DRILL NOT DONE. The restore point p1 could not be tried: why; the live"),
        ("", "DRILL NOT DONE. The restore point p1 could not be tried: why; the live"),
        ("FINGERPRINT_MISMATCH", "DRILL FAILED. The restore point p1 was restored and is not equal: why; the live"),
        ("BACKUP_CORRUPT", "DRILL FAILED. The restore point p1 is damaged: why; the live"),
        ("RESTORE_FAILED", "DRILL FAILED. The restore point p1 cannot be restored: why; the live"),
    ],
)
def test_not_tried_is_not_failed(code: str, words: str) -> None:
    said = drill_failed(view(drill={"restore_point": {"id": "p1"}}), code, "why", " Next: do this.")
    assert said.startswith(words) and said.endswith("was not touched. Next: do this.")


def test_ids_are_named() -> None:
    points = [{"id": "p%d" % number} for number in range(5)]
    assert retained(view(retention={"dropped": points[:1], "would_drop": []})) == "; 1 old one dropped: p0"
    assert retained(view(retention={"would_drop": points})) == "; 5 old ones would be dropped: p0, p1, p2 and 2 more"
    assert checked(view(backup={})) == "check mode, nothing done: a restore point would be taken"
    said = checked(view(backup={"restore_point": {"id": "p9"}}, retention={"would_drop": points[:1]}))
    assert said == "check mode, nothing done: the restore point p9 is the present state still; 1 old one would be dropped: p0"


def test_check_mode_names_what_would_be_tried_out() -> None:
    point = {"restore_point": {"id": "p1"}}
    assert checked(view("restore_drill", drill=point)) == "check mode, nothing done: the restore point p1 would be tried out, nothing stands in the way"
    assert checked(view("restore_drill", drill=dict(point, drilled_at="2026-11-22T03:00:00Z"))).endswith(
        "p1 was proved at 2026-11-22T03:00:00Z, which is accepted"
    )
    assert checked(view("rollback")) == ""
