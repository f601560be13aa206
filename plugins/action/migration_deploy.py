# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""M(pgops.migrations.migration_deploy) seen from the controller: started apart from the connection, followed to its end."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._progress import clock
from ansible_collections.pgops.migrations.plugins.modules.migration_deploy import main
from ansible_collections.pgops.migrations.plugins.plugin_utils._detached import AT_WORK, Detached, end_with_ansible
from ansible_collections.pgops.migrations.plugins.plugin_utils._in_controller import InController
from ansible_collections.pgops.migrations.plugins.plugin_utils._live import Live

#: How often it is looked whether somebody else's run has ended.
LOOK_SECONDS = 3.0
DEFAULTS = {"follow": 3600, "reconnect": 300}


class ActionModule(InController):
    """Waits for the run that is at work, then deploys, and shows how far it is."""

    mains = {"pgops.migrations.migration_deploy": main}

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super(InController, self).run(tmp, task_vars)
        variables: dict[str, t.Any] = task_vars or {}
        args = dict(self._task.args)
        if self._task.async_val:
            # Who asks for async follows the task by other means.
            result.update(self._execute_module(module_args=args, task_vars=variables, wrap_async=True))
            return result
        try:
            follow, reconnect = (_seconds(args, name) for name in ("follow", "reconnect"))
        except MigrationError as error:
            return dict(result, failed=True, **error.result())
        host = str(variables.get("inventory_hostname", ""))
        hosts = [str(name) for name in variables.get("ansible_play_batch") or [host]]
        mode = "none" if self._task.no_log else str(args.get("progress") or "auto")
        with Live(host, mode, min(40, max(map(len, hosts)))) as live:
            detached = Detached(self, args, variables, live, reconnect)
            found = self._followed(detached, live, follow)
        left = found.get("left")
        # In a check nothing is taken note of, so nothing is forgotten.
        if left and not variables.get("ansible_check_mode"):
            detached.forget([job["folder"] for job in left])
        result.update(found)
        return result

    def _may(self, task_vars: t.Mapping[str, t.Any]) -> bool:
        # A check reads; what writes is started apart from here.
        return bool(self._task.check_mode) and super()._may(task_vars)

    def _followed(self, detached: Detached, live: Live, follow: float) -> dict[str, t.Any]:
        """The deploy's result, after the end of whoever was at work before it."""
        waited: dict[str, dict[str, t.Any]] = {}
        end, seen = time.monotonic() + follow, ""
        while True:
            found = detached.once()
            running = found.get("running") if found.get("failed") and found.get("code") in AT_WORK else None
            if not running:
                break
            name = running.get("run_id") or "pid %s" % running.get("pid")
            if time.monotonic() >= end:
                waited.pop(name, None)  # it has not ended
                break
            if name != seen:
                live.say("waits for the end of run %s, at work for %s" % (name, clock(float(running.get("seconds") or 0))))
                seen = name
            waited[name] = dict(running, waited_until=time.time())
            live.show("waits for run %s: %s" % (name, detached.told(name) or "it has not said where it is"), "waits for run %s" % name)
            time.sleep(LOOK_SECONDS)
            end_with_ansible()
        followed = detached.ends(waited, found)
        return dict(found, followed=followed) if followed else found


def _seconds(args: dict[str, t.Any], name: str) -> float:
    try:
        return max(0.0, float(args.get(name, DEFAULTS[name])))
    except (TypeError, ValueError):
        raise MigrationError("%s is %r" % (name, args[name]), code="OPTION_INVALID") from None
