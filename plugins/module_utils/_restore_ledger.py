# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which migrations a restore took back or brought again, read from the ledger on both sides of the swap. Reads only."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import read_facts
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Name -> whether it is finished; one that is unfinished has an open row.
Standing = t.Dict[str, bool]


def standing(target: Target, application_name: str) -> Standing | None:
    """The migrations that the ledger holds now, in its order; None when it cannot be read, which must not hold up a rescue."""
    try:
        with connection(target, application_name=application_name, read_only=True, settings={"lock_timeout": "2s"}) as conn:
            facts = read_facts(conn, target)
    except MigrationError:
        return None
    return {row.migration_name: row.finished_at is not None for row in facts.rows if row.rolled_back_at is None}


def compared(before: Standing | None, after: Standing | None) -> dict[str, list[str]]:
    """C(undone) and C(redone). Pure; empty where a side is not known.

    One that was unfinished before and is not there now was undone, too.
    """
    if before is None or after is None:
        return {"undone": [], "redone": []}
    return {
        "undone": [name for name in before if name not in after],
        "redone": [name for name, finished in after.items() if finished and not before.get(name)],
    }


__all__ = ("compared", "standing")
