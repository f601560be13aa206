# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Snapshots of a database: siblings on the same server, known by their comment and by nothing else."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._copy_strategy import SNAPSHOT, left_over
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._marked import LEFTOVER, marked
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid
from ansible_collections.pgops.migrations.plugins.module_utils._typed import to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def snapshots(conn: t.Any, dbname: str) -> list[dict[str, t.Any]]:
    """All snapshots of this database, the newest last: their comments with C(name), C(oid), C(size_bytes)."""
    found = [
        dict(each.facts, name=each.name, oid=each.oid, size_bytes=each.size_bytes, sequence=each.facts.get("sequence") or 0)
        for each in marked(conn, dbname, sizes=True)
        if each.kind == SNAPSHOT
    ]
    return sorted(found, key=lambda each: (each["sequence"], str(each.get("id"))))


def leftovers(conn: t.Any, dbname: str) -> list[str]:
    """Databases that a run made and did not live to mark as snapshot of this database, or to drop whole; they prove nothing."""
    found = [each for each in marked(conn, dbname) if each.kind == LEFTOVER]
    return [each.name for each in found if each.facts.get("kind") == SNAPSHOT or (not each.facts and left_over(each.name, dbname))]


def demand_first_of_run(found: t.Iterable[t.Mapping[str, t.Any]], run_id: str, dbname: str) -> None:
    """A way back is confirmed by the run that made the snapshot, so a run has one of each database.

    :param found: the snapshots of the database.
    :raises MigrationError: ``COPY_REFUSED``.
    """
    other = next((each for each in found if run_id and each.get("run_id") == run_id), None)
    if other is not None:
        raise MigrationError(
            "the run %s has the snapshot %s of %s already, and a way back is confirmed by its run" % (run_id, other["name"], dbname),
            code="COPY_REFUSED",
            next_step="go back by that one, or run again under another id (each run has its own without -e migration_run_id; run_id of database_copy)",
        )


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
        raise MigrationError(
            "the snapshot %s is pinned" % name,
            code="COPY_REFUSED",
            next_step="remove the pin first: database_backup_retention with unpin: %s" % found.get("id"),
        )
    if not check_mode:
        with sql_errors("drop the snapshot %s" % name, target, default="COPY_FAILED"):
            execute(lock, sql.SQL("DROP DATABASE {}").format(sql.Identifier(name)))
    return dict(result, changed=True, snapshot=summary(found, target.dbname))


def summary(facts: t.Mapping[str, t.Any], dbname: str) -> dict[str, t.Any]:
    """What the module returns about a snapshot."""
    names = ("name", "oid", "id", "run_id", "label", "at", "sequence", "ledger", "lsn", "fingerprint_digest", "size_bytes")
    ledger = facts.get("ledger")
    confirmation = to_type("%s %s" % (dbname, facts.get("run_id") or facts.get("id") or ""), dbname)
    return dict({name: facts.get(name) for name in names}, ledger_clean=ledger is None or bool(ledger.get("clean")), confirmation=confirmation)


__all__ = ("demand_first_of_run", "drop_snapshot", "leftovers", "snapshots", "summary")
