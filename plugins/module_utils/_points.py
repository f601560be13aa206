# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The restore points of one database: dumps, snapshots, and what external tools have taken. Reads only.

A restore point is a dict of plain values. ``state`` says what is known of it:

* good: it is what it says and can be restored here;
* damaged: it is not what its manifest says, or has none;
* foreign: of another database or server;
* external: only the tool that took it can restore it;
* unknown: it cannot be judged here: no right to read it, a format or a PostgreSQL of later.
"""

from __future__ import annotations

import datetime
import json
import os
import stat
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import read_ledger
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, psycopg2
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._external_record import EXTERNAL_DIR, read_records
from ansible_collections.pgops.migrations.plugins.module_utils._identity import identify
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME, FORMAT, ID_PATTERN, Manifest, digest, from_json, plain, safe_name
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import demand_same_database, load
from ansible_collections.pgops.migrations.plugins.module_utils._retention import DAMAGED, DUMP, EXTERNAL, FOREIGN, GOOD, SNAPSHOT, order, time_of
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import demand_unused, read_pin, read_proof
from ansible_collections.pgops.migrations.plugins.module_utils._snapshots import leftovers as unfinished_snapshots
from ansible_collections.pgops.migrations.plugins.module_utils._snapshots import snapshots
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

UNKNOWN = "unknown"
PARTIAL, REMOVING = ".partial", ".removing"
Point = t.Dict[str, t.Any]
#: Another reader holds the lock for a moment only; who restores holds it for long.
_PROBES, _PROBE_SECONDS = 4, 0.02


def folder_of(target: Target, backup_dir: str) -> str:
    """Where the restore points of the target's database lie."""
    return os.path.join(os.path.normpath(backup_dir), safe_name(target.dbname))


def list_points(
    target: Target, backup_dir: str, maintenance_db: str = "postgres", verify: str = "none", before: str = "", conn: t.Any = None
) -> dict[str, t.Any]:
    """C(restore_points), the newest first by sequence, C(newest) (id of the newest usable one, or empty) and C(leftovers).

    :param maintenance_db: asked for the server's identity and the snapshots where the database itself lets nobody in.
    :param verify: C(hashes) has every file of every dump read and compared; otherwise only names and sizes are.
    :param before: a migration; only restore points that do not hold it can be C(newest).
    :param conn: an open connection to the target's database, if there is one.
    """
    if conn is None:
        try:
            with connection(target, read_only=True) as own:
                return list_points(target, backup_dir, verify=verify, before=before, conn=own)
        except MigrationError as error:
            if error.code not in ("DATABASE_MISSING", "PERMISSION_DENIED"):
                raise
            with connection(target, maintenance_db, read_only=True) as own:
                return list_points(target, backup_dir, verify=verify, before=before, conn=own)
    identity, folder = identify(conn), folder_of(target, backup_dir)
    now = datetime.datetime.now(datetime.timezone.utc)
    readable = identity["database"] == target.dbname
    identity["database"], live = target.dbname, None
    try:
        live = read_ledger(conn, target.schema) if readable else None
    except psycopg2.errors.InsufficientPrivilege:
        readable = False
    names = _names(folder)
    dumps = [_dump(os.path.join(folder, name), identity, verify) for name in names if ID_PATTERN.match(name)]
    points = [point for point in dumps if point is not None] + [_snapshot(found) for found in snapshots(conn, target.dbname)]
    points += [_external(record, identity) for record in read_records(os.path.join(folder, EXTERNAL_DIR))]
    points.sort(key=order, reverse=True)
    for point in points:
        taken = time_of(point["finished_at"])
        point["age_seconds"] = round((now - taken).total_seconds()) if taken else None
        same = (point["ledger"] or {}).get("digest") == (live or {}).get("digest")
        point["present"] = same if readable and point["state"] in (GOOD, EXTERNAL) else None
    newest = next((point["id"] for point in points if point["usable"] and (not before or is_before(point["ledger"], before))), "")
    leftovers = [os.path.join(folder, name) for name in names if name.endswith((PARTIAL, REMOVING))] + unfinished_snapshots(conn, target.dbname)
    return {"restore_points": points, "newest": newest, "leftovers": leftovers}


def find_point(points: t.Sequence[Point], wanted: str, backup_dir: str = "") -> Point:
    """The restore point with this id, folder, or name of a snapshot.

    :raises MigrationError: ``BACKUP_NOT_FOUND``.
    """
    for point in points:
        if wanted in (point["id"], point["name"]) or (point["path"] and os.path.normpath(wanted) == point["path"]):
            return point
    raise MigrationError("there is no restore point %s%s" % (wanted, " below %s" % backup_dir if backup_dir else ""), code="BACKUP_NOT_FOUND")


def is_before(ledger: t.Mapping[str, t.Any] | None, migration: str) -> bool:
    """Whether a restore point with this ledger has nothing of the migration, neither applied nor begun."""
    if ledger is None:
        return True
    return "applied" in ledger and migration not in ledger["applied"] and migration not in ledger.get("unfinished", ())


def next_sequence(points: t.Sequence[Point]) -> int:
    """The number for what is taken after all of these."""
    return 1 + max([int(point["sequence"] or 0) for point in points], default=0)


def _names(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []
    except OSError as error:
        raise MigrationError("cannot read %s: %s" % (folder, error.strerror), code="BACKUP_DIR_UNSAFE") from None


def _point(kind: str, point_id: str, **facts: t.Any) -> Point:
    empty: Point = {
        "kind": kind, "id": point_id, "run_id": "", "label": "", "sequence": None, "path": "", "name": "", "started_at": "", "finished_at": "",
        "age_seconds": None, "size_bytes": 0, "ledger": None, "lsn": None, "proof": None, "pinned": None, "in_use": False, "encryption": None,
        "state": GOOD, "usable": True, "code": "", "reason": "", "present": None, "restore_hint": "",
    }  # fmt: skip
    return dict(empty, **facts)


def _unusable(point: Point, state: str, code: str, reason: str) -> Point:
    return dict(point, state=state, usable=False, code=code, reason=reason)


# --- dumps --------------------------------------------------------------------------------


def _dump(path: str, identity: t.Mapping[str, t.Any], verify: str) -> Point | None:
    """The dump in this folder; None when it is gone meanwhile."""
    name = os.path.basename(path)
    # Until the manifest says more, the id tells when it was begun.
    at = datetime.datetime.strptime(name[:16], "%Y%m%dT%H%M%SZ") if _is_time(name[:16]) else None
    point = _point(DUMP, name, path=path, finished_at=at.strftime("%Y-%m-%dT%H:%M:%SZ") if at else "")
    try:
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            return _unusable(point, UNKNOWN, "BACKUP_FORMAT", "%s is no folder" % path)
        with open(os.open(os.path.join(path, FILE_NAME), os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
            text = handle.read()
    except FileNotFoundError:
        if not os.path.isdir(path):
            return None
        return _unusable(dict(point, size_bytes=_size(path), pinned=read_pin(path)), DAMAGED, "BACKUP_FORMAT", "it has no %s" % FILE_NAME)
    except OSError as error:
        return _unusable(point, UNKNOWN, "BACKUP_FORMAT", "its %s cannot be read: %s" % (FILE_NAME, error.strerror))
    point.update(pinned=read_pin(path), in_use=_in_use(path))
    try:
        manifest = from_json(text)
    except MigrationError as error:
        state = UNKNOWN if _is_of_other_version(text) else DAMAGED
        return _unusable(dict(point, size_bytes=_size(path)), state, error.code, error.msg)
    point.update(
        run_id=manifest.run_id, label=manifest.label, sequence=manifest.sequence, started_at=manifest.started_at, finished_at=manifest.finished_at,
        size_bytes=manifest.size_bytes, ledger=plain(manifest.ledger), lsn=manifest.target["lsn"], encryption=plain(manifest.encryption),
        proof=_proof(path, manifest),
    )  # fmt: skip
    try:
        if manifest.id != name:
            raise MigrationError("its manifest is that of %s" % manifest.id, code="BACKUP_CORRUPT")
        demand_same_database(manifest, identity)
        if verify == "hashes":
            load(path)
        else:
            _check_sizes(path, manifest)
    except MigrationError as error:
        states = {"BACKUP_FOREIGN": FOREIGN, "VERSION_MISMATCH": UNKNOWN}
        return _unusable(point, states.get(error.code, DAMAGED), error.code, error.msg)
    return point


def _is_time(text: str) -> bool:
    try:
        return bool(datetime.datetime.strptime(text, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return False


def _is_of_other_version(text: bytes) -> bool:
    """Whether it says of itself that another version of this collection wrote it."""
    try:
        found = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        return False
    number = found.get("format") if isinstance(found, dict) else None
    return isinstance(number, int) and not isinstance(number, bool) and number != FORMAT


def _check_sizes(path: str, manifest: Manifest) -> None:
    for entry in manifest.files:
        try:
            found = os.lstat(os.path.join(path, entry.path))
        except FileNotFoundError:
            raise MigrationError("%s is missing" % entry.path, code="BACKUP_CORRUPT") from None
        except OSError as error:
            raise MigrationError("%s cannot be read: %s" % (entry.path, error.strerror), code="VERSION_MISMATCH") from None
        if not stat.S_ISREG(found.st_mode) or found.st_size != entry.size:
            raise MigrationError("%s has %d bytes instead of %d" % (entry.path, found.st_size, entry.size), code="BACKUP_CORRUPT")


def _proof(path: str, manifest: Manifest) -> dict[str, t.Any] | None:
    found = read_proof(path)
    if not found:
        return None
    kept = {name: found.get(name) for name in ("level", "at", "run_id", "seconds")}
    return dict(kept, valid=found["manifest"] == digest(manifest))


def _in_use(path: str) -> bool:
    for _probe in range(_PROBES):
        try:
            with demand_unused(path):
                return False
        except MigrationError as error:
            if error.code != "BACKUP_IN_USE":
                return False
        time.sleep(_PROBE_SECONDS)
    return True


def _size(path: str) -> int:
    total = 0
    for folder, _folders, names in os.walk(path):
        for name in names:
            try:
                total += os.lstat(os.path.join(folder, name)).st_size
            except OSError:
                continue
    return total


# --- the others ---------------------------------------------------------------------------


def _snapshot(found: t.Mapping[str, t.Any]) -> Point:
    at = str(found.get("at") or "")
    return _point(
        SNAPSHOT, str(found.get("id") or found["name"]), run_id=str(found.get("run_id") or ""), label=str(found.get("label") or ""), name=found["name"],
        oid=found["oid"], size_bytes=found["size_bytes"] or 0, started_at=at, finished_at=at, sequence=found["sequence"], ledger=found.get("ledger"),
        lsn=found.get("lsn"), pinned=found.get("pinned"), fingerprint_digest=str(found.get("fingerprint_digest") or ""),
    )  # fmt: skip


def _external(record: t.Mapping[str, t.Any], identity: t.Mapping[str, t.Any]) -> Point:
    names = ("run_id", "label", "sequence", "path", "started_at", "finished_at", "ledger", "lsn", "pinned", "restore_hint", "tool", "restore_point")
    point = _point(EXTERNAL, record["id"], **{name: record[name] for name in names if name in record})
    if record.get("wrong"):
        return _unusable(point, DAMAGED if record["damaged"] else UNKNOWN, "BACKUP_CORRUPT" if record["damaged"] else "BACKUP_FORMAT", record["wrong"])
    target = record["target"]
    if target["system_identifier"] != identity["system_identifier"] or target["database"] != identity["database"]:
        return _unusable(point, FOREIGN, "BACKUP_FOREIGN", "it is of the database %s of another server" % target["database"])
    if record.get("gone"):
        return _unusable(point, DAMAGED, "BACKUP_NOT_FOUND", "%s lists it no more" % record["tool"])
    return _unusable(point, EXTERNAL, "", "only %s can restore it" % record["tool"])


__all__ = ("PARTIAL", "REMOVING", "UNKNOWN", "find_point", "folder_of", "is_before", "list_points", "next_sequence")
