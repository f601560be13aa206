# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A deploy that was started apart from its connection: how it is started, followed and ended, over any connection of Ansible's."""

from __future__ import annotations

import contextlib
import inspect
import json
import multiprocessing
import os
import re
import secrets
import shlex
import time
import typing as t

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.parsing.convert_bool import boolean
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._job import JOURNAL_DIR, KILLED, OUT, STATE
from ansible_collections.pgops.migrations.plugins.module_utils._progress import short, what
from ansible_collections.pgops.migrations.plugins.plugin_utils._live import Live

MODULE, INFO = "pgops.migrations.migration_deploy", "pgops.migrations.migration_job_info"
#: Between two looks at a job: at first as for a short deploy, then as for a long one.
FIRST_PAUSE, GROWTH, LONGEST_PAUSE = 0.1, 1.3, 2.0
#: A job tells that it lives every two seconds. After this time it is asked whether it does.
SILENT_SECONDS = 15.0
RECONNECT_PAUSE = 2.0
#: Failures that mean that a run is at work.
AT_WORK = ("LOCKED", "MIGRATION_RUNNING")
#: What a job is at before it touches anything.
BEFORE = ("starting", "lock")


class Detached:
    """The deploys of one task: several, when the first ones found somebody else at work."""

    def __init__(self, action: t.Any, args: dict[str, t.Any], task_vars: dict[str, t.Any], live: Live, reconnect: float) -> None:
        self._action, self._args, self._vars, self._live, self._reconnect = action, args, task_vars, live, reconnect
        self._journal = str(args.get("journal_dir") or JOURNAL_DIR)
        self._attached = action._task.check_mode or not boolean(args.get("detach", True), strict=False)
        self._jobs: list[dict[str, t.Any]] = []

    def once(self) -> dict[str, t.Any]:
        """One deploy from its start to its end."""
        if self._attached:
            return self._module(self._args)
        job_id = "%s-%s" % (re.sub(r"[^A-Za-z0-9._:+-]", "-", str(self._args.get("run_id") or "run"))[:100], secrets.token_hex(4))
        try:
            started = self._module(dict(self._args, job_id=job_id))
        except AnsibleConnectionFailure:
            # It may have begun before the connection broke.
            started = self._patiently(lambda: self._found(job_id))
            if not started:
                raise
        if started.get("failed") and not started.get("code"):
            # The process that was called was ended before it could tell; the job may have begun.
            started = self._patiently(lambda: self._found(job_id)) or started
        with contextlib.suppress(AnsibleConnectionFailure):
            # Without pipelining the options lie there, with their secrets, and nobody might come to remove them later.
            self._action._remove_tmp_path(self._action._connection._shell.tmpdir)
        if started.get("failed") or not started.get("job"):
            return started
        return self._end(job_id, str(started["job"]["folder"]))

    def told(self, run_id: str) -> str:
        """Where a run of somebody else is, if it tells so on this host."""
        with contextlib.suppress(AnsibleConnectionFailure):
            self._jobs = self._info(run_id=run_id) or self._jobs
        for job in self._jobs:
            if job["run_id"] == run_id:
                return str(job["line"])
        return ""

    def ends(self, waited: t.Mapping[str, t.Mapping[str, t.Any]], found: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
        """How those ended that were waited for, and those that nobody had followed to their end.

        :param found: the deploy's result, whose C(left) names the jobs that have ended on this host.
        """
        entries = []
        left = {job["run_id"] or job["job_id"]: job for job in found.get("left") or ()}
        for run_id in [*waited, *(name for name in left if name not in waited)]:
            job = left.get(run_id, {})
            entries.append(
                {
                    "run_id": run_id,
                    "state": job.get("state", "unknown"),
                    "applied": job.get("applied", []),
                    "started_at": job.get("started_at"),
                    "seconds": job.get("seconds"),
                    "code": job.get("code", ""),
                    "waited_for": run_id in waited,
                }
            )
        return entries

    def forget(self, folders: t.Sequence[str]) -> None:
        """Remove the folders of jobs whose end was told."""
        with contextlib.suppress(AnsibleConnectionFailure):
            for folder in folders:
                self._action._low_level_execute_command(self._action._connection._shell.remove(folder, recurse=True))

    def _module(self, args: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", self._action._execute_module(module_name=MODULE, module_args=dict(args), task_vars=self._vars))

    def _info(self, **filters: str) -> list[dict[str, t.Any]] | None:
        """The jobs on the host; None where they cannot be asked, which says nothing of whether they live."""
        args = dict(filters, journal_dir=self._journal)
        found = self._action._execute_module(module_name=INFO, module_args=args, task_vars=self._vars)
        return None if found.get("failed") else list(found.get("jobs") or ())

    def _found(self, job_id: str) -> dict[str, t.Any]:
        return next(({"job": job} for job in self._info(job_id=job_id) or ()), {})

    def _patiently(self, look: t.Callable[[], t.Any]) -> t.Any:
        """What a look through the connection gives; one that is lost is tried again for the time that is allowed."""
        end, said = time.monotonic() + self._reconnect, False
        while True:
            try:
                return look()
            except AnsibleConnectionFailure as error:
                if time.monotonic() >= end:
                    # Not as its cause, which Ansible would print a second time.
                    raise AnsibleConnectionFailure("%s; the deploy goes on without it: run the same playbook again, and it waits for its end" % error) from None
                if not said:
                    self._live.say("the connection is lost, the deploy goes on; trying again for %d s" % self._reconnect)
                    said = True
            time.sleep(RECONNECT_PAUSE)
            with contextlib.suppress(Exception):  # what a connection cannot reset, it opens anew
                self._action._connection.reset()

    def _end(self, job_id: str, folder: str) -> dict[str, t.Any]:
        pause, told, heard = FIRST_PAUSE, t.cast("dict[str, t.Any]", {}), time.monotonic()
        while True:
            state, result = self._patiently(lambda: self._read(folder))
            end_with_ansible()
            if result is not None:
                self.forget([folder])
                return result
            if state:
                if state.get("beat") != told.get("beat"):
                    heard = time.monotonic()
                told = state
                self._live.show(what(state), short(state))
            if time.monotonic() - heard > SILENT_SECONDS:
                heard = time.monotonic()
                found = self._patiently(lambda: self._info(job_id=job_id))
                if found is not None and (not found or found[0]["state"] == KILLED):
                    return self._killed(folder, told)
            time.sleep(pause)
            pause = min(LONGEST_PAUSE, pause * GROWTH)

    def _read(self, folder: str) -> tuple[dict[str, t.Any], dict[str, t.Any] | None]:
        """What the job told last, and its result if it has one."""
        files = " ".join(shlex.quote("%s/%s" % (folder, name)) for name in (STATE, OUT))
        lines = str(self._action._low_level_execute_command("cat %s" % files).get("stdout") or "").splitlines()
        state = _json(lines[0]) if lines else None
        result = next((line for line in reversed(lines[1:]) if _json(line) is not None), None)
        return state or {}, None if result is None else self._parsed(result)

    def _parsed(self, line: str) -> dict[str, t.Any]:
        """A module's output as Ansible reads it; since 2.19 warnings, errors and values that are tagged have a form of their own in it."""
        parse = self._action._parse_returned_data
        profile = ["legacy"] if len(inspect.signature(parse).parameters) > 1 else []
        found: dict[str, t.Any] = parse({"stdout": line, "stderr": "", "rc": 0}, *profile)
        return {key: value for key, value in found.items() if not key.startswith("_ansible_")}

    def _killed(self, folder: str, told: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The failure of a deploy whose process is gone, with the state that it left."""
        observed = self._observed()
        while observed.get("code") in AT_WORK and self._is_own(observed):
            # Its folder is gone and not its process: the lock in the database is the better witness.
            self._live.show("at work, but its folder on the host is gone: how far it is cannot be told", "at work")
            time.sleep(LONGEST_PAUSE)
            observed = self._observed()
        self.forget([folder])
        begun = told.get("phase") not in BEFORE
        said = "the process of the deploy ended without a result; the last it said: %s" % (what(told) if told else "nothing")
        error = MigrationError(
            said if begun else said + ". Nothing was begun",
            code="DEPLOY_KILLED",
            touched=begun,
            changed=begun,
            **{key: observed[key] for key in ("status", "ledger_head", "pending", "migrations", "evidence", "migrations_dir") if key in observed},
        )
        return dict(error.result(), failed=True)

    def _observed(self) -> dict[str, t.Any]:
        """The state of the database, as a check tells it."""
        check_mode, self._action._task.check_mode = self._action._task.check_mode, True
        try:
            return t.cast("dict[str, t.Any]", self._patiently(lambda: self._module(self._args)))
        finally:
            self._action._task.check_mode = check_mode

    def _is_own(self, observed: t.Mapping[str, t.Any]) -> bool:
        return (observed.get("running") or {}).get("run_id") == str(self._args.get("run_id") or "")


def end_with_ansible() -> None:
    """End this process if Ansible was killed and hears no more: what it would begin or read now, the next run is to be told."""
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid != os.getppid():
        os._exit(1)


def _json(line: str) -> dict[str, t.Any] | None:
    if not line.startswith("{"):
        return None
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) else None


__all__ = ("AT_WORK", "Detached", "end_with_ansible")
