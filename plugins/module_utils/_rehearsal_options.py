# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The options of a rehearsal, and which of them decide about its verdict."""

from __future__ import annotations

import dataclasses
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._manifest import plain
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_judge import FAIL_ON
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_prepare import Preparation
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_source import RESTORE_POINT, SourceOptions
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: The checks that make sense on a copy: not those of the server, of the application's own URL, and of programs that may reach more than the copy.
CHECKS = (
    "ledger", "drift", "prisma_diff", "invalid_indexes", "foreign_keys", "check_constraints", "sequences", "disabled_triggers", "deploy_time",
    "blocking_time", "table_rewrites", "index_build_time", "growth", "smoke_sql", "custom",
)  # fmt: skip
DEFAULT_CHECKS = tuple(name for name in CHECKS if name != "prisma_diff")
#: Limits that are 0 where there is none.
BUDGETS = ("max_deploy_seconds", "max_blocking_seconds", "max_index_seconds")
#: What is asked before the deploy, too; what was there already only warns.
BEFORE = frozenset(["drift", "prisma_diff", "invalid_indexes", "foreign_keys", "check_constraints", "sequences", "disabled_triggers"])
#: What migration_deploy takes besides, and a rehearsal leaves as it is.
DEPLOY: dict[str, t.Any] = {
    "up_to": None, "hold": [], "allow": [], "deploy_command": None, "database_url_env": [], "expected": None,
    "assume_resolved": {}, "client_connection_check_interval": "1s", "monitor": True, "monitor_interval": 0.25,
    "on_blocked": "cancel_migration", "max_block": 5.0, "block_retries": 5, "journal_dir": os.devnull, "job_id": "",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class RehearsalOptions:
    """Options of a rehearsal.

    ``deploy``: options of migration_deploy, the project's among them. ``check``: options of database_checks. ``max_age``:
    in hours, for which an earlier rehearsal of the same is accepted. ``production``: the database whose sizes the forecast is for.
    ``preparation``: what is done to the rows of the copy before anything else.
    """

    certificate_dir: str
    source: str = RESTORE_POINT
    max_age: float = 24.0
    deploy: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    checks: t.Sequence[str] = DEFAULT_CHECKS
    check: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    fail_on: t.Sequence[str] = FAIL_ON
    expect: t.Sequence[t.Any] = ()
    sign_with: str = ""
    canary: bool = True
    statements: bool = True
    production: Target | None = None
    preparation: Preparation = dataclasses.field(default_factory=Preparation)
    copy: SourceOptions = dataclasses.field(default_factory=SourceOptions)

    def deciding(self) -> dict[str, t.Any]:
        """What decides about a verdict, besides the state and the migrations."""
        check = {name: value for name, value in self.check.items() if value and name not in BUDGETS}
        deploying = {name: self.deploy.get(name) or "" for name in ("engine", "deploy_command", "lock_timeout", "statement_timeout")}
        found = dict(deploying, source=self.source, checks=sorted(self.checks), fail_on=sorted(self.fail_on), expect=list(self.expect), check=check)
        found.update(self.preparation.deciding(), elsewhere=self.copy.elsewhere is not None)
        return t.cast("dict[str, t.Any]", plain(found))

    def budgets(self) -> dict[str, float]:
        return {name: float(self.check.get(name) or 0) for name in BUDGETS}


__all__ = ("BEFORE", "BUDGETS", "CHECKS", "DEFAULT_CHECKS", "DEPLOY", "RehearsalOptions")
