# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the monitor of a deploy tells those who wait for it, from the looks that it takes anyway."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2, row, sql
from ansible_collections.pgops.migrations.plugins.module_utils._job import Job
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_view import View
from ansible_collections.pgops.migrations.plugins.module_utils._progress import Eta, observed
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: How often the ledger is asked; nobody reads faster.
SECONDS = 1.0
_LEDGER = """
SELECT count(DISTINCT migration_name) FILTER (WHERE finished_at IS NOT NULL),
       (array_agg(migration_name ORDER BY started_at DESC) FILTER (WHERE finished_at IS NULL))[1]
  FROM {} WHERE rolled_back_at IS NULL AND migration_name = ANY(%s)
"""


class Teller:
    """Tells the job, from each look at the server, which of the planned migrations is at work and what holds it up."""

    def __init__(self, target: Target, job: Job, names: t.Sequence[str]) -> None:
        self._query, self._job, self._names = sql.SQL(_LEDGER).format(ledger_table(target)), job, list(names)
        self._eta, self._next = Eta(), 0.0

    def __call__(self, conn: t.Any, view: View) -> None:
        if not self._job.heard or time.monotonic() < self._next:
            return
        self._next = time.monotonic() + SECONDS
        try:
            done, migration = row(conn, self._query, (self._names,)) or (0, None)
        except psycopg2.Error:  # the first migration is about to make the ledger
            done, migration = 0, None
        self._job.tell(done=done, migration=migration, **observed(view, self._eta))


__all__ = ("Teller",)
