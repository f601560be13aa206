# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A way back goes before a drill.

CREATE DATABASE .. TEMPLATE locks the database that it copies for as long as it copies, and a database that is copied
cannot be renamed. A drill of a snapshot is such a copy. It can be done again at any time, so it is cancelled when the
snapshot is needed; whoever else copies is named.
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import rows
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

#: How the session that makes a drill's copy is called; its run id follows.
DRILL_NAME = "pgops.migrations drill"
POLL_SECONDS = 0.02

# Nothing but CREATE DATABASE locks a database so.
_COPYING = """
SELECT a.pid, a.usename, a.application_name
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'object' AND l.classid = 'pg_database'::regclass AND l.objid = ANY(%s::oid[]) AND l.mode = 'ShareLock' AND l.granted
 ORDER BY a.pid
"""
# Where this role may; looked at in the moment in which the statement is cancelled.
_CANCEL = """
SELECT pg_cancel_backend(a.pid)
  FROM pg_stat_activity a JOIN pg_roles me ON me.rolname = current_user JOIN pg_roles r ON r.oid = a.usesysid
 WHERE a.pid = ANY(%s) AND starts_with(a.application_name, %s)
   AND (me.rolsuper OR (NOT r.rolsuper AND (pg_has_role(r.oid, 'USAGE') OR pg_has_role('pg_signal_backend', 'USAGE'))))
"""


def copiers(conn: t.Any, oids: t.Sequence[int]) -> list[dict[str, t.Any]]:
    """The sessions that copy one of these databases, as facts of an error."""
    return [dict(zip(("pid", "user", "application_name"), found)) for found in rows(conn, _COPYING, (list(oids),))]


def make_way(conn: t.Any, oids: t.Sequence[int], patience: float) -> list[dict[str, t.Any]]:
    """Cancel the drills that copy one of these databases; who still copies one after ``patience`` seconds."""
    end = time.monotonic() + patience
    while True:
        found = copiers(conn, oids)
        if not found or time.monotonic() >= end:
            return found
        rows(conn, _CANCEL, ([each["pid"] for each in found], DRILL_NAME))
        time.sleep(POLL_SECONDS)


def copied(name: str, copying: t.Sequence[t.Mapping[str, t.Any]], code: str = "SWAP_REFUSED", why: str = "", **facts: t.Any) -> MigrationError:
    """The error that says who copies the database, and what to do about it."""
    who = ", ".join("pid %(pid)d (user %(user)s, application %(application_name)s)" % each for each in copying)
    cancel = ", or cancel it as a superuser: SELECT pg_cancel_backend(%d)" % copying[0]["pid"] if copying else ""
    return MigrationError(
        "%s%s is being copied by %s" % (why, name, who or "a session that has ended meanwhile"),
        code=code,
        next_step="wait until the copy has ended%s; then run again" % cancel,
        copying=[dict(each) for each in copying],
        **facts,
    )


__all__ = ("DRILL_NAME", "copied", "copiers", "make_way")
