# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Whether a target is certified as it is now: its state read, its certificate read, one held against the other."""

from __future__ import annotations

import datetime
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _certificate_file
from ansible_collections.pgops.migrations.plugins.module_utils._certificate import UNREADABLE, age_days, refuse_uncertified
from ansible_collections.pgops.migrations.plugins.module_utils._deploy import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._override import as_list, override_step, reason_given
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_state import state_of
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Options of migration_deploy that decide about what is planned; the module has them, too.
PLANNING = ("engine", "deploy_command", "up_to", "hold", "allow", "expected", "assume_resolved", "maintenance_db", "run_id", *PROJECT_SPEC)
#: Its other options, which a plan only looks at.
_PLAN: dict[str, t.Any] = {
    "database_url_env": [], "lock_timeout": "", "statement_timeout": "", "client_connection_check_interval": "", "lock_wait": 0, "timeout": 3600,
    "monitor": False, "monitor_interval": 0.25, "on_blocked": "wait", "max_block": 5.0, "block_retries": 0, "journal_dir": os.devnull, "job_id": "",
}  # fmt: skip


def certified(target: Target, params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The result of migration_certificate_info.

    :raises MigrationError: what a plan raises; with C(demand) and no override also the ``CERTIFICATE_`` codes.
    """
    planned = deploy(target, dict(_PLAN, **{name: params.get(name) for name in PLANNING}), True)
    state = state_of(target, planned, str(params["run_id"]))
    path = _certificate_file.path_of(params["certificate_dir"], state["database"], state["system_identifier"], state["schema"])
    result: dict[str, t.Any] = {
        "changed": False, "needed": bool(state["migrations"]), "valid": False, "refusal_code": "", "refusal": "", "age_days": None, "signed_by": "",
        "overridden": False, "override_reason": "", "certificate_path": path, "certificate": {}, "state_now": state, "warnings": [],
    }  # fmt: skip
    if not state["migrations"]:
        return result
    moment, found = datetime.datetime.now(datetime.timezone.utc), _certificate_file.read(path)
    if found is not None and UNREADABLE not in found:
        result.update(certificate=found, age_days=round(age_days(found, moment), 3))
    try:
        refuse_uncertified(found, moment, state, float(params["max_days"]))
        if params["signed_by"]:
            result["signed_by"] = _certificate_file.demand_signed(path, found or {}, params["signed_by"], params["gpg_home"] or "")
    except MigrationError as error:
        return _uncertified(error, result, params)
    return dict(result, valid=True)


def _uncertified(error: MigrationError, result: dict[str, t.Any], params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    database = result["state_now"]["database"]
    reason = reason_given(as_list(params["override"]), database)
    result.update(refusal_code=error.code, refusal=error.msg, mismatches=error.facts.get("mismatches", []))
    if reason:
        said = "%s is migrated WITHOUT a valid rehearsal, because that was typed (%s). %s: %s" % (database, reason, error.code, error.msg)
        return dict(result, overridden=True, override_reason=reason, warnings=[said])
    if not params["demand"]:
        return result
    step = "%s; or without a rehearsal, for this run only: %s" % (error.next_step, override_step(database))
    # What is long is left out: the terminal shows all of a failure.
    kept = {name: value for name, value in result.items() if name not in ("warnings", "certificate", "state_now", "refusal", "changed", "needed")}
    raise MigrationError(error.msg, code=error.code, next_step=step, **kept)


__all__ = ("PLANNING", "certified")
