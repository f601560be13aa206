# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Snapshots of a database: siblings on the same server, known by their comment and by nothing else."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, rows, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._copy_strategy import SNAPSHOT, left_over
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_marker
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

# With a comment of ours, or without any and a name that could be ours.
# The size only where it may be asked for; without the right it is an error.
_DATABASES = """
SELECT d.oid::bigint, d.datname, c.text,
       CASE WHEN has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE') THEN pg_database_size(d.oid) END
  FROM pg_database d, LATERAL (SELECT shobj_description(d.oid, 'pg_database')) AS c(text)
 WHERE NOT d.datistemplate AND (c.text LIKE 'pgops.migrations {%%' OR c.text IS NULL AND strpos(d.datname, %s) > 0)
"""


def snapshots(conn: t.Any, dbname: str) -> list[dict[str, t.Any]]:
    """All snapshots of this database, the newest last: their comments with C(name), C(oid), C(size_bytes)."""
    found = []
    for oid, name, comment, size in rows(conn, _DATABASES, ("__%s_" % SNAPSHOT,)):
        facts = read_marker(comment)
        if facts and facts["kind"] == SNAPSHOT and facts.get("database") == dbname and name != dbname:
            found.append(dict(facts, name=name, oid=oid, size_bytes=size, sequence=int(facts.get("sequence") or 0)))
    return sorted(found, key=lambda each: (each["sequence"], str(each.get("id"))))


def leftovers(conn: t.Any, dbname: str) -> list[str]:
    """Databases that a run made and did not live to mark as snapshot of this database; they prove nothing."""
    return sorted(name for _oid, name, comment, _size in rows(conn, _DATABASES, ("__%s_" % SNAPSHOT,)) if comment is None and left_over(name, dbname))


def drop_snapshot(target: Target, lock: t.Any, name: str, snapshot_id: str, check_mode: bool) -> dict[str, t.Any]:
    """Drop a snapshot of the target that has this name and this id (or the id of its run); the result of the module.

    :param lock: the connection that holds the lock of the run.
    :raises MigrationError: ``COPY_REFUSED`` when there is something else under the name.
    """
    result: dict[str, t.Any] = {"changed": False, "snapshot": {}, "warnings": []}
    if not name or not snapshot_id:
        raise MigrationError("to drop a snapshot takes its name and its id", code="OPTION_INVALID")
    oid = database_oid(lock, name)
    if oid is None:
        return result
    found = next((each for each in snapshots(lock, target.dbname) if each["oid"] == oid), None)
    if found is None:
        raise MigrationError("%s is no snapshot of %s" % (name, target.dbname), code="COPY_REFUSED", next_step="name a snapshot, or leave it alone")
    if snapshot_id not in (found.get("id"), found.get("run_id") or found.get("id")):
        raise MigrationError("the snapshot %s has the id %s and not %s" % (name, found.get("id"), snapshot_id), code="COPY_REFUSED")
    if found.get("pinned"):
        raise MigrationError("the snapshot %s is pinned" % name, code="COPY_REFUSED", next_step="remove the pin first")
    if not check_mode:
        with sql_errors("drop the snapshot %s" % name, target, default="COPY_FAILED"):
            execute(lock, sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    return dict(result, changed=True, snapshot=summary(found, target.dbname))


def summary(facts: t.Mapping[str, t.Any], dbname: str) -> dict[str, t.Any]:
    """What the module returns about a snapshot."""
    names = ("name", "oid", "id", "run_id", "label", "at", "sequence", "ledger", "lsn", "fingerprint_digest", "size_bytes")
    ledger = facts.get("ledger")
    confirmation = "%s %s" % (dbname, facts.get("run_id") or facts.get("id") or "")
    return dict({name: facts.get(name) for name in names}, ledger_clean=ledger is None or bool(ledger.get("clean")), confirmation=confirmation)


__all__ = ("drop_snapshot", "leftovers", "snapshots", "summary")
