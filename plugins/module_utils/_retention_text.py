# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What retention did or would do, in lines for a terminal. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._retention import DROP, SNAPSHOT, Decision, Rules

_UNITS = ((86400, "day"), (3600, "hour"), (60, "minute"))


def retention_lines(plan: t.Sequence[Decision], rules: Rules, applied: bool, dropped: t.Collection[str] = ()) -> list[str]:
    """A line for each restore point, newest first: what becomes of it, and why; then the sum of it.

    :param applied: whether something was dropped; C(dropped) then has the ids, and what is missing there could not be.
    """
    leaving = [each for each in plan if each.action == DROP and (not applied or each.point["id"] in dropped)]
    lines = ["%s %s: %s" % (_word(each, applied, dropped), _point(each.point), ", ".join(each.reasons)) for each in plan]
    if not leaving and not rules.any:
        # Each of them would say the same.
        lines = [line for line, each in zip(lines, plan) if each.reasons != ("no rule was given",)]
    size = megabytes(sum(int(each.point["size_bytes"] or 0) for each in leaving))
    goes = "%d %s (%s)" % (len(leaving), "dropped" if applied else "would be dropped", size) if leaving else "nothing %s" % (
        "was dropped" if applied else "would be dropped"
    )  # fmt: skip
    why = "" if rules.any else "; no rule was given that drops what is usable (keep_last, keep_days, keep_weekly, keep_monthly)"
    staying = len(plan) - len(leaving)
    return [*lines, "%d restore point%s: %d %s, %s%s" % (len(plan), "" if len(plan) == 1 else "s", staying, "stays" if staying == 1 else "stay", goes, why)]


def _word(decision: Decision, applied: bool, dropped: t.Collection[str]) -> str:
    if decision.action != DROP:
        return "keep"
    if not applied:
        return "would drop"
    return "dropped" if decision.point["id"] in dropped else "not dropped"


def _point(point: t.Mapping[str, t.Any]) -> str:
    what = "%s %s" % (point["kind"], point["name"]) if point["kind"] == SNAPSHOT else str(point["kind"])
    return "%s (%s, %s, %s)" % (point["id"], what, megabytes(point["size_bytes"]), age_text(point["age_seconds"]))


def megabytes(size: t.Any) -> str:
    """``1.5 MB``, ``19 kB``; what an external tool keeps has no size here."""
    if not isinstance(size, (int, float)) or not size:
        return "of unknown size"
    return "%.1f MB" % (size / 1e6) if size >= 1e6 else "%d kB" % max(1, round(size / 1e3))


def age_text(seconds: t.Any) -> str:
    """``3 days old``, in the largest unit that it fills."""
    if not isinstance(seconds, (int, float)):
        return "of unknown age"
    if seconds < 0:
        return "from the future"
    for size, name in _UNITS:
        if seconds >= size:
            number = int(seconds // size)
            return "%d %s%s old" % (number, name, "" if number == 1 else "s")
    return "new"


__all__ = ("age_text", "megabytes", "retention_lines")
