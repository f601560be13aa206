# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Checks of what a deploy took against what it may take. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, SKIPPED, WARN, Check, names

DEPLOY_TIME, BLOCKING_TIME, TABLE_REWRITES, INDEX_BUILD_TIME, GROWTH = "deploy_time", "blocking_time", "table_rewrites", "index_build_time", "growth"
_NOTHING, _NOT_WATCHED = "Nothing was deployed.", "The deploy was not watched (migrate_deploy_monitor)."


def deploy_time(deploy: t.Mapping[str, t.Any], most: float) -> Check:
    """The migrations took no longer than the budget.

    :param deploy: the result of migration_deploy. ``most``: in seconds; 0 means no budget.
    """
    applied = [entry for entry in deploy.get("applied") or () if isinstance(entry, dict)]
    seconds = deploy.get("seconds")
    if not applied or not isinstance(seconds, (int, float)):
        return Check(DEPLOY_TIME, SKIPPED, "Nothing was deployed.", limit=most)
    evidence = tuple({"migration": entry.get("name"), "seconds": entry.get("seconds")} for entry in applied)
    slowest = max(applied, key=lambda entry: entry.get("seconds") or 0)
    said = "%.1f s; the slowest: %s with %.1f s" % (seconds, slowest.get("name"), slowest.get("seconds") or 0)
    if most and seconds > most:
        return Check(DEPLOY_TIME, FAIL, "The deploy took longer than %.0f s: %s." % (most, said), evidence, most)
    return Check(DEPLOY_TIME, PASS, "The deploy took %s." % said, evidence, most)


def blocking_time(deploy: t.Mapping[str, t.Any], most: float) -> Check:
    """No other session waited for a migration longer than the limit.

    :param deploy: the result of migration_deploy. ``most``: in seconds; 0 means no limit.
    """
    monitor, skipped = _watched(deploy)
    if monitor is None:
        return Check(BLOCKING_TIME, SKIPPED, skipped, limit=most)
    if not monitor.get("taken"):
        return Check(BLOCKING_TIME, SKIPPED, "The deploy could not be watched, so nothing is known of what it blocked.", limit=most)
    longest = float(monitor.get("longest_block") or 0)
    sessions = int(monitor.get("blocked_sessions") or 0)
    evidence = tuple(dict(entry) for entry in monitor.get("blocks") or () if entry.get("by") == "migration")
    if not sessions:
        return Check(BLOCKING_TIME, PASS, "No other session was seen waiting for a migration.", evidence, most)
    said = "%d other %s waited for a migration, the longest for %.1f s" % (sessions, "session" if sessions == 1 else "sessions", longest)
    at = names(list(dict.fromkeys(str(entry["relation"]) for entry in evidence if entry.get("relation"))))
    said += " (%s)" % at if at else ""
    if most and longest > most:
        return Check(BLOCKING_TIME, FAIL, "%s; the limit is %g s." % (said, most), evidence, most)
    return Check(BLOCKING_TIME, PASS, "%s." % said, evidence, most)


def table_rewrites(deploy: t.Mapping[str, t.Any]) -> Check:
    """Which tables of before were written anew, under a lock that keeps everybody out."""
    monitor, skipped = _watched(deploy)
    if monitor is None:
        return Check(TABLE_REWRITES, SKIPPED, skipped)
    if monitor.get("size_after") is None or monitor.get("size_before") is None:
        # What is read at both ends is read together.
        return Check(TABLE_REWRITES, SKIPPED, "The tables could not be compared before and after the deploy.")
    found = [str(name) for name in monitor.get("rewrites") or ()]
    evidence = tuple({"table": name} for name in found)
    if found:
        text = "%d %s rewritten (or emptied by TRUNCATE): %s." % (len(found), "table was" if len(found) == 1 else "tables were", names(found))
        return Check(TABLE_REWRITES, WARN, text, evidence)
    return Check(TABLE_REWRITES, PASS, "No table of before was rewritten.")


def index_build_time(deploy: t.Mapping[str, t.Any], most: float = 0.0) -> Check:
    """How long the builds of indexes on tables of before took.

    :param most: seconds for the slowest; 0 means no limit.
    """
    monitor, skipped = _watched(deploy)
    if monitor is None:
        return Check(INDEX_BUILD_TIME, SKIPPED, skipped, limit=most)
    builds = [dict(entry) for entry in monitor.get("index_builds") or ()]
    if not builds:
        return Check(INDEX_BUILD_TIME, PASS, "No index was built on a table of before.", limit=most)
    timed = [entry for entry in builds if entry.get("seconds") is not None]
    said = "%d %s built" % (len(builds), "index was" if len(builds) == 1 else "indexes were")
    if timed:
        slowest = max(timed, key=lambda entry: float(entry["seconds"]))
        said += "; the slowest seen: %s with %.1f s" % (slowest.get("index"), slowest["seconds"])
        if most and slowest["seconds"] > most:
            return Check(INDEX_BUILD_TIME, WARN, "%s; the limit is %g s." % (said, most), tuple(builds), most)
    if len(timed) < len(builds):
        said += "; the time of %d is not known" % (len(builds) - len(timed))
    return Check(INDEX_BUILD_TIME, PASS, "%s." % said, tuple(builds), most)


def growth(deploy: t.Mapping[str, t.Any]) -> Check:
    """How much the database grew, and how much write-ahead log was written. Evidence only: there is no right size."""
    monitor, skipped = _watched(deploy)
    if monitor is None:
        return Check(GROWTH, SKIPPED, skipped)
    before, after, wal = monitor.get("size_before"), monitor.get("size_after"), monitor.get("wal")
    evidence = ({"size_before": before, "size_after": after, "wal": wal, "temp": monitor.get("temp")},)
    if before is None or after is None:
        return Check(GROWTH, SKIPPED, "The size of the database could not be read before and after the deploy.", evidence)
    change = "grew by %s" % megabytes(after - before) if after >= before else "shrank by %s" % megabytes(before - after)
    log = "; the server wrote %s of write-ahead log" % megabytes(wal) if wal is not None else ""
    return Check(GROWTH, PASS, "The database %s to %s%s." % (change, megabytes(after), log), evidence)


def megabytes(size: int) -> str:
    """``12.3 MB``, in units of 1000000 bytes."""
    return "%s MB" % format(size / 1e6, ",.1f")


def _watched(deploy: t.Mapping[str, t.Any]) -> tuple[t.Mapping[str, t.Any] | None, str]:
    """What was seen of a deploy that applied something, or why there is nothing."""
    if not deploy.get("applied"):
        return None, _NOTHING
    monitor = deploy.get("monitor")
    return (monitor, "") if isinstance(monitor, dict) else (None, _NOT_WATCHED)


__all__ = (
    "BLOCKING_TIME", "DEPLOY_TIME", "GROWTH", "INDEX_BUILD_TIME", "TABLE_REWRITES", "blocking_time", "deploy_time", "growth", "index_build_time",
    "table_rewrites",
)  # fmt: skip
