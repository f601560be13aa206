# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Pin restore points, and drop those that the retention rules do not keep.

A dump is renamed before it is deleted, so one that is half deleted never counts as a restore point.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import now
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker, read_marker
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._external_record import EXTERNAL_DIR, read_records, write_record
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME
from ansible_collections.pgops.migrations.plugins.module_utils._points import REMOVING, Point, find_point, folder_of, list_points
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import load
from ansible_collections.pgops.migrations.plugins.module_utils._retention import (
    DAMAGED,
    DROP,
    DUMP,
    EXTERNAL,
    KEEP,
    SNAPSHOT,
    Decision,
    Rules,
    plan_retention,
    proved,
)
from ansible_collections.pgops.migrations.plugins.module_utils._retention_text import retention_lines
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import demand_unused, read_pin, remove_pin, write_pin
from ansible_collections.pgops.migrations.plugins.module_utils._storage import ensure_private_dir, fsync_dir, private_umask
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Who uses it now, or what is no more: skipped, and for the next run to look at.
_SKIPPED = ("BACKUP_IN_USE", "BACKUP_NOT_FOUND")
#: Somebody is connected to the snapshot.
_IN_USE = "55006"
_SNAPSHOT = "SELECT oid::bigint, shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s"


def retain(
    target: Target,
    backup_dir: str,
    rules: Rules,
    apply: bool = False,
    pin: t.Sequence[str] = (),
    unpin: t.Sequence[str] = (),
    pin_reason: str = "",
    maintenance_db: str = "postgres",
    lock_wait: float = 30.0,
    run_id: str = "",
    check_mode: bool = False,
) -> dict[str, t.Any]:
    """C(changed), C(pinned), C(unpinned), C(kept), C(would_drop), C(dropped), C(freed_bytes), C(lines) and C(warnings).

    :raises MigrationError: ``BACKUP_NOT_FOUND`` (a pin for what is not there), ``REMOVAL_FAILED``, ``LOCKED`` ...
    """
    if set(pin) & set(unpin):
        raise MigrationError("to be pinned and unpinned: %s" % ", ".join(sorted(set(pin) & set(unpin))), code="OPTION_INVALID")
    with private_umask(), contextlib.ExitStack() as stack:
        ensure_private_dir(backup_dir, create=False)
        conn = stack.enter_context(connection(target, application_name=("pgops.migrations retention %s" % run_id).strip()))
        if apply and not check_mode and rules.snapshots:
            # A rollback that swaps a snapshot in holds this lock. Looked at under it, or a pin of meanwhile would be missed.
            stack.enter_context(run_lock(target, maintenance_db, run_id, lock_wait))
        listed = list_points(target, backup_dir, conn=conn)
        points = listed["restore_points"]
        changed = {"pinned": _pin(conn, target, points, pin, pin_reason, check_mode), "unpinned": _unpin(conn, target, points, unpin, check_mode)}
        plan = _plan(points, rules, intact=apply and not check_mode)
        leaving = [decision.point for decision in plan if decision.action == DROP]
        result: dict[str, t.Any] = dict(changed, kept=[_said(each) for each in plan if each.action == KEEP], dropped=[], would_drop=[], freed_bytes=0)
        result["warnings"] = ["the restore point %s is damaged: %s" % (each["id"], each["reason"]) for each in points if each["state"] == DAMAGED]
        if not apply or check_mode:
            result["would_drop"] = [_said(each) for each in plan if each.action == DROP]
            result["freed_bytes"] = sum(point["size_bytes"] for point in leaving)
            leftovers = _removing(listed)
        else:
            leftovers = _removing(listed)
            for path in leftovers:
                _delete(path)
            for decision in plan:
                try:
                    if decision.action == DROP and _drop(conn, target, backup_dir, decision.point, result["warnings"]):
                        result["dropped"].append(_said(decision))
                except MigrationError as error:
                    error.facts.update(changed=bool(result["dropped"]), dropped=result["dropped"])
                    raise
            gone = {each["id"] for each in result["dropped"]}
            result["freed_bytes"] = sum(point["size_bytes"] for point in leaving if point["id"] in gone)
        result["lines"] = retention_lines(plan, rules, apply and not check_mode, {each["id"] for each in result["dropped"]})
        result["changed"] = any(changed.values()) or bool(apply and (result["would_drop"] or result["dropped"] or leftovers))
    return result


def _plan(points: list[Point], rules: Rules, intact: bool) -> list[Decision]:
    """What is kept and dropped.

    :param intact: read the newest proved dump that is to remain in full. One that is damaged is no reason to drop older ones; ``points`` says so then.
    """
    while True:
        plan = plan_retention(points, rules, datetime.datetime.now(datetime.timezone.utc))
        staying = [each.point for each in plan if each.action == KEEP and each.point["kind"] == DUMP and each.point["usable"] and proved(each.point)]
        if not intact or not staying or not any(each.action == DROP for each in plan):
            return plan
        newest = max(staying, key=lambda point: int(point["sequence"] or 0))
        try:
            load(newest["path"])
            return plan
        except MigrationError as error:
            number = next(number for number, point in enumerate(points) if point["path"] == newest["path"])
            points[number] = dict(points[number], state=DAMAGED, usable=False, code=error.code, reason=error.msg)


def _removing(listed: t.Mapping[str, t.Any]) -> list[str]:
    return [path for path in listed["leftovers"] if path.endswith(REMOVING)]


def _said(decision: Decision) -> dict[str, t.Any]:
    point = decision.point
    facts = {name: point[name] for name in ("id", "kind", "sequence", "finished_at", "size_bytes", "state", "path", "name")}
    return dict(facts, reasons=list(decision.reasons))


# --- pins -----------------------------------------------------------------------------------


def _pin(conn: t.Any, target: Target, points: t.Sequence[Point], wanted: t.Sequence[str], reason: str, check_mode: bool) -> list[str]:
    """The ids that were not pinned before, or for another reason; their points say so."""
    changed = []
    for point in [find_point(points, name) for name in dict.fromkeys(wanted)]:
        if point["pinned"] is not None and (not reason or point["pinned"].get("reason") == reason):
            continue
        point["pinned"] = {"reason": reason, "at": now()}
        changed.append(point["id"])
        if not check_mode:
            if point["kind"] == DUMP:
                write_pin(point["path"], reason, point["pinned"]["at"])
            else:
                _write_down(conn, target, point)
    return changed


def _unpin(conn: t.Any, target: Target, points: t.Sequence[Point], wanted: t.Sequence[str], check_mode: bool) -> list[str]:
    changed = []
    for point in [find_point(points, name) for name in dict.fromkeys(wanted)]:
        if point["pinned"] is None:
            continue
        point["pinned"] = None
        changed.append(point["id"])
        if not check_mode:
            if point["kind"] == DUMP:
                remove_pin(point["path"])
            else:
                _write_down(conn, target, point)
    return changed


def _write_down(conn: t.Any, target: Target, point: Point) -> None:
    """The pin of what has no folder: in the snapshot's comment, in the external one's record."""
    if point["kind"] == EXTERNAL:
        record = next((each for each in read_records(os.path.dirname(point["path"])) if each["id"] == point["id"]), None)
        if record is None or record.get("wrong"):
            raise MigrationError("%s cannot be pinned: %s" % (point["id"], record["wrong"] if record else "it is gone"), code="BACKUP_NOT_FOUND")
        write_record(point["path"], dict(record, pinned=point["pinned"]))
        return
    facts = dict(_demand_snapshot(conn, point), pinned=point["pinned"])
    kind = facts.pop("kind")
    with sql_errors("pin the snapshot %s" % point["name"], target):
        execute(conn, sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(point["name"]), sql.Literal(marker(kind, **facts))))


def _demand_snapshot(conn: t.Any, point: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What the comment says now of the snapshot that was listed.

    :raises MigrationError: ``BACKUP_NOT_FOUND`` when its name belongs to another database, or its comment is another.
    """
    found = row(conn, _SNAPSHOT, (point["name"],))
    facts = read_marker(found[1]) if found else None
    if not found or found[0] != point["oid"] or not facts or facts["kind"] != SNAPSHOT or str(facts.get("id") or point["name"]) != point["id"]:
        raise MigrationError("%s is not the snapshot %s any more" % (point["name"], point["id"]), code="BACKUP_NOT_FOUND")
    return facts


# --- dropping -------------------------------------------------------------------------------


def _drop(conn: t.Any, target: Target, backup_dir: str, point: t.Mapping[str, t.Any], warnings: list[str]) -> bool:
    """Drop one restore point; False, with a warning, where somebody uses it or was faster."""
    try:
        if point["kind"] == SNAPSHOT:
            _drop_snapshot(conn, target, point)
        elif point["kind"] == EXTERNAL:
            _demand_below(point["path"], os.path.join(folder_of(target, backup_dir), EXTERNAL_DIR))
            os.unlink(point["path"])
            fsync_dir(os.path.dirname(point["path"]))
        else:
            _demand_below(point["path"], folder_of(target, backup_dir))
            _drop_dump(point)
    except FileNotFoundError:
        warnings.append("%s was removed by another process" % point["id"])
        return False
    except OSError as error:
        raise MigrationError("cannot remove %s: %s" % (point["path"], error.strerror or error), code="REMOVAL_FAILED") from None
    except MigrationError as error:
        if error.code not in _SKIPPED and error.facts.get("sqlstate") != _IN_USE:
            raise
        warnings.append("%s was not dropped: %s" % (point["id"], error.msg))
        return False
    return True


def _demand_below(path: str, folder: str) -> None:
    """A listing has nothing else; deleting is worth looking twice."""
    if os.path.dirname(path) != folder or os.path.islink(path):
        raise MigrationError("%s does not lie in %s" % (path, folder), code="INTERNAL")


def _drop_dump(point: t.Mapping[str, t.Any]) -> None:
    path = point["path"]
    with contextlib.ExitStack() as stack:
        # Without a manifest nobody can restore it, and there is nothing to lock.
        if os.path.lexists(os.path.join(path, FILE_NAME)):
            stack.enter_context(demand_unused(path))
            if read_pin(path) is not None and point["pinned"] is None:
                raise MigrationError("%s was pinned meanwhile" % point["id"], code="BACKUP_IN_USE")
        if os.path.isdir(path + REMOVING):
            _delete(path + REMOVING)
        os.rename(path, path + REMOVING)
        fsync_dir(os.path.dirname(path))
    _delete(path + REMOVING)


def _delete(path: str) -> None:
    try:
        shutil.rmtree(path)
        fsync_dir(os.path.dirname(path))
    except OSError as error:
        raise MigrationError("cannot remove %s: %s" % (path, error.strerror or error), code="REMOVAL_FAILED") from None


def _drop_snapshot(conn: t.Any, target: Target, point: t.Mapping[str, t.Any]) -> None:
    if _demand_snapshot(conn, point).get("pinned") is not None and point["pinned"] is None:
        raise MigrationError("%s was pinned meanwhile" % point["id"], code="BACKUP_IN_USE")
    with sql_errors("drop the snapshot %s" % point["name"], target, default="REMOVAL_FAILED"):
        # Not by force: whoever is in it has a reason.
        execute(conn, sql.SQL("DROP DATABASE {}").format(sql.Identifier(point["name"])))


__all__ = ("retain",)
