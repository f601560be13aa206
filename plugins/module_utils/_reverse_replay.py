# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Replay a history that is looked at before its last migrations, in one session.

An engine applies what is pending in one session. What a migration sets there (SET search_path) holds for the next ones
of the same deploy, and not for those of a later deploy. The ledger does not tell which were deployed together.
"""

from __future__ import annotations

import concurrent.futures
import re
import secrets
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, row
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._replay import on_database, replay
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

_T = t.TypeVar("_T")
_SETS = re.compile(r"\bSET\b|\bset_config\b", re.I)
_WAITS = """
SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))
"""


def may_leave_settings(files: t.Sequence[MigrationFile]) -> bool:
    """Whether one of these may have set something for its session."""
    return any(_SETS.search(file.sql or "") for file in files)


def replay_in_one(target: Target, dbname: str, before: t.Sequence[MigrationFile], later: t.Sequence[MigrationFile], between: t.Callable[[], _T]) -> _T:
    """Replay all of them in one session; what ``between`` returned, called when the first ones were applied.

    :raises MigrationError: ``REPLAY_FAILED``.
    """
    key = secrets.randbits(60)
    # It waits there for a lock that is held here.
    gate = MigrationFile("pgops_gate", "SELECT pg_catalog.pg_advisory_lock(%d), pg_catalog.pg_advisory_unlock(%d);" % (key, key))
    with concurrent.futures.ThreadPoolExecutor(1) as pool, connection(on_database(target, dbname)) as conn:
        row(conn, "SELECT pg_advisory_lock(%s)", (key,))
        replaying = pool.submit(replay, target, dbname, [*before, gate, *later])
        # Closing the connection, in whatever way the block is left, opens the gate.
        while not (row(conn, _WAITS) or (False,))[0]:
            if replaying.done():
                replaying.result()
            time.sleep(0.01)
        found = between()
        row(conn, "SELECT pg_advisory_unlock(%s)", (key,))
        replaying.result()
    return found


__all__ = ("may_leave_settings", "replay_in_one")
