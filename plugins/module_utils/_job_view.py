# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A job as others see it: short, and without what its result holds besides."""

from __future__ import annotations

import datetime
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._job import FAILED, FINISHED, KILLED, RUNNING, jobs
from ansible_collections.pgops.migrations.plugins.module_utils._progress import clock, printable, what


def brief(job: t.Mapping[str, t.Any], now: float) -> dict[str, t.Any]:
    """Pure: no I/O.

    :param job: an entry of :func:`_job.jobs`.
    :param now: seconds since the epoch, by the clock of the host of the job.
    :returns: see RV(jobs) of migration_job_info.
    """
    told, result = job["told"], job["result"] or {}
    began = told.get("started_at")
    end = now if job["state"] == RUNNING else told.get("updated_at")
    seconds = round(max(0.0, end - began), 1) if began and end else None
    return {
        "job_id": job["job_id"],
        "run_id": str(told.get("run_id") or ""),
        "target": str(told.get("target") or ""),
        "state": job["state"],
        "folder": job["folder"],
        "pid": told.get("pid"),
        "started_at": datetime.datetime.fromtimestamp(began, datetime.timezone.utc).isoformat(timespec="seconds").replace("+00:00", "Z") if began else None,
        "seconds": seconds,
        "planned": list(told.get("planned") or ()),
        "applied": [str(entry["name"]) for entry in result.get("applied") or () if isinstance(entry, dict) and "name" in entry],
        "code": str(result.get("code") or ""),
        "line": _line(job["state"], told, result, seconds),
    }


def _line(state: str, told: t.Mapping[str, t.Any], result: t.Mapping[str, t.Any], seconds: float | None) -> str:
    after = " after %s" % clock(seconds) if seconds is not None else ""
    if state == RUNNING:
        return "%s%s" % (what(told), ", for %s" % clock(seconds) if seconds is not None else "")
    if state == KILLED:
        return "its process ended without a result%s; before: %s" % (after, what(told))
    if state == FAILED:
        return printable("failed%s: %s" % (after, str(result.get("msg") or "no message").partition("\n")[0][:300]))
    return "applied %d%s" % (len(result.get("applied") or ()), after) if state == FINISHED else state


def left_behind(journal_dir: str, target: str, job_id: str) -> dict[str, t.Any]:
    """C(left), the jobs of a target that have ended and that nobody was told of; nothing when there are none.

    :param job_id: our own job, which is none of them.
    """
    found = [brief(job, time.time()) for job in jobs(journal_dir) if job["state"] != RUNNING and job["job_id"] != job_id]
    found = [job for job in found if job["target"] == target]
    return {"left": found} if found else {}


__all__ = ("brief", "left_behind")
