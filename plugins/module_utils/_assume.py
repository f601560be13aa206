# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A target as it would be after migration_resolve, for a check that predicts what a run does which resolves first. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._ledger import LedgerRow
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import UNFINISHED, classify


def assume(found: Survey, states: t.Mapping[str, str]) -> Survey:
    """The survey with the unfinished rows of these migrations resolved.

    :param states: by name, C(applied) or C(rolled_back); a migration that is not unfinished is left as it is.
    """
    names = {verdict.name for verdict in found.report.verdicts if verdict.verdict == UNFINISHED} & set(states)
    if not names:
        return found
    now = datetime.datetime.now(datetime.timezone.utc)

    def resolved(row: LedgerRow) -> LedgerRow:
        if row.migration_name not in names or row.finished_at or row.rolled_back_at:
            return row
        if states[row.migration_name] == "applied":
            return dataclasses.replace(row, finished_at=now)
        return dataclasses.replace(row, rolled_back_at=now)

    facts = dataclasses.replace(found.facts, rows=tuple(map(resolved, found.facts.rows)))
    substates = {verdict.name: verdict.substate for verdict in found.report.verdicts if verdict.substate and verdict.name not in names}
    return dataclasses.replace(found, facts=facts, report=classify(found.folder, facts, substates))


__all__ = ("assume",)
