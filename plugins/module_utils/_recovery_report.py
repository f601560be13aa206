# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What is known of the unfinished migrations of a target, as migration_recovery_info returns it."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_facts import examine, unfinished
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_scripts import scripts
from ansible_collections.pgops.migrations.plugins.module_utils._substate import PARTIAL
from ansible_collections.pgops.migrations.plugins.module_utils._survey import project_of, survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def report(target: Target, params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The module's result.

    :raises MigrationError: ``OPTION_INVALID``, ``UNKNOWN_MIGRATION``, ``LOCKED``.
    """
    project, folder = project_of(params)
    found = survey(target, project, folder)
    if params["migration"] and params["migration"] not in {verdict.name for verdict in found.report.verdicts}:
        raise MigrationError("%s is neither in the folder nor in the ledger" % params["migration"], code="UNKNOWN_MIGRATION")
    names = [verdict.name for verdict in unfinished(found) if params["migration"] in (None, "", verdict.name)]
    if params["assert_sql"] and len(names) > 1:
        raise MigrationError("assert_sql is about one migration, and several are unfinished", code="OPTION_INVALID", next_step="set migration")
    entries = []
    with contextlib.ExitStack() as stack:
        lock = None
        if names and params["replay"]:
            lock = stack.enter_context(run_lock(target, params["maintenance_db"], params["run_id"], params["lock_wait"]))
            found = survey(target, project, folder)
            names = [verdict.name for verdict in unfinished(found) if verdict.name in names]
        for name in names:
            recovery = examine(target, found, name, params, lock)
            offered = scripts(target, found, recovery, params, lock) if recovery.state == PARTIAL else {}
            entries.append(dict(recovery.as_dict(), scripts={key: script.as_dict() for key, script in offered.items()}))
    return {"changed": False, "migrations": entries, "status": found.report.status, "warnings": list(project.warnings)}


__all__ = ("report",)
