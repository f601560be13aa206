# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The words for restore points: backups, drills, retention. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._drill_tried import was_tried
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import View

#: What a drill found out about a restore point.
_FOUND = {
    "BACKUP_CORRUPT": "is damaged",
    "BACKUP_FORMAT": "is damaged",
    "FINGERPRINT_MISMATCH": "was restored and is not equal",
    "RESTORE_FAILED": "cannot be restored",
}


def drill_failed(view: View, code: str, why: str, next_step: str) -> str:
    """A drill that did not prove its restore point. What stood in its way says nothing about the restore point."""
    which = str((view.result("drill").get("restore_point") or {}).get("id") or "")
    words = ("DRILL FAILED", _FOUND.get(code, "is not proved")) if was_tried(code) else ("DRILL NOT DONE", "could not be tried")
    return "%s. The restore point%s %s: %s; the live database was not touched.%s" % (words[0], " " + which if which else "", words[1], why, next_step)


def checked(view: View) -> str:
    """What backup.yml or restore_drill.yml would do; nothing for other runbooks."""
    if view.runbook == "rehearse" and view.result("rehearsal").get("text"):
        return "check mode, nothing done: %s" % view.result("rehearsal")["text"]
    if view.runbook == "restore_drill":
        drill = view.result("drill")
        which = str((drill.get("restore_point") or {}).get("id") or "")
        if drill.get("drilled_at"):
            return "check mode, nothing done: the restore point %s was proved at %s, which is accepted" % (which, drill["drilled_at"])
        return "check mode, nothing done: the restore point %s would be tried out, nothing stands in the way" % which
    if view.runbook != "backup":
        return ""
    point = view.result("backup").get("restore_point") or {}
    text = "the restore point %s is the present state still" % point["id"] if point.get("id") else "a restore point would be taken"
    return "check mode, nothing done: %s%s" % (text, retained(view))


def retained(view: View) -> str:
    """What retention dropped or would drop, by id; the reasons are in its own lines."""
    return "".join(_gone(view.result("retention").get(key) or (), words) for key, words in (("dropped", "dropped"), ("would_drop", "would be dropped")))


def _gone(points: t.Sequence[t.Mapping[str, t.Any]], words: str) -> str:
    names = [str(point["id"]) for point in points if point.get("id")]
    listed = ": " + ", ".join(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "") if names else ""
    return "; %d old one%s %s%s" % (len(points), "" if len(points) == 1 else "s", words, listed) if points else ""


__all__ = ("checked", "drill_failed", "retained")
