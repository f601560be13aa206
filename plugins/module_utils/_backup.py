# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Take a restore point: an archive that was read back in full, and its manifest.

Everything is made below ``<id>.partial`` and gets its final name as the last step, so
what has a final name is whole. Existing restore points are never touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shlex
import shutil
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, new_id, now
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._dump import BackupOptions, Dump
from ansible_collections.pgops.migrations.plugins.module_utils._encryption import demand_fingerprint, demand_recipients, demand_tool, sign
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._external_record import record_sequences
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import ARCHIVES, FILE_NAME, Manifest, digest, safe_name, to_json
from ansible_collections.pgops.migrations.plugins.module_utils._marked import marked
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program, choose_compression, find_program
from ansible_collections.pgops.migrations.plugins.module_utils._reuse import manifests, next_sequence, reusable
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import LEVELS, SIGNATURE, read_proof, write_proof
from ansible_collections.pgops.migrations.plugins.module_utils._slots import folder_slot
from ansible_collections.pgops.migrations.plugins.module_utils._storage import ensure_private_dir, fsync_dir, private_umask, room, write_private
from ansible_collections.pgops.migrations.plugins.module_utils._typed import to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: An empty database has this size and nearly no archive.
EMPTY_DATABASE_BYTES = 8 << 20
#: Below this part of the data an archive hardly ever comes; below the other one it may.
SHORT, TIGHT = 0.05, 0.6


def backup(target: Target, options: BackupOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Take a restore point; C(changed), C(restore_point) and C(warnings).

    :raises MigrationError: ``BACKUP_DIR_UNSAFE``, ``DISK_FULL``, ``LOCK_TIMEOUT`` (with ``blockers``),
        ``BACKUP_FAILED``, ``CLIENT_TOO_OLD``, ... Nothing with a final name is left then.
    """
    options = resolved(options)
    result = _take(target, options, check_mode)
    point = result["restore_point"]
    if options.proof == "drill" and point["reused"] and point["proof"]["level"] != "drill":
        result["changed"] = True
    if options.proof == "drill" and not check_mode and point["proof"]["level"] != "drill":
        # After the lock of the run was given back: no deploy need wait for a drill.
        result["warnings"] += _drill(target, options, point["path"])
        point["proof"] = _proof(point["path"])
    return result


def resolved(options: BackupOptions) -> BackupOptions:
    """The options with the format that is meant; whatever contradicts itself is refused.

    :raises MigrationError: ``OPTION_INVALID``.
    """
    if options.tool:
        demand_recipients(options.tool, options.encryption_recipients)
    if options.sign_with:
        demand_fingerprint("sign_with", options.sign_with)
    if options.tool and options.format == "directory":
        raise MigrationError(
            "an archive in a directory cannot be encrypted as one stream", code="OPTION_INVALID", next_step="set format to custom, or leave it out"
        )
    if options.globals_hashes and not options.globals:
        raise MigrationError("globals_hashes is set, and globals is not", code="OPTION_INVALID")
    format_ = options.format if options.format != "auto" else "custom" if options.tool else "directory"
    if options.jobs < 1 or format_ not in ARCHIVES or options.proof not in LEVELS:
        raise MigrationError("jobs is %d, format %s and proof %s" % (options.jobs, options.format, options.proof), code="OPTION_INVALID")
    return dataclasses.replace(options, format=format_)


def _take(target: Target, options: BackupOptions, check_mode: bool) -> dict[str, t.Any]:
    began = time.monotonic()
    with contextlib.ExitStack() as stack, private_umask(), run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
        with connection(target, application_name=("pgops.migrations backup %s" % options.run_id).strip(), settings=QUIET, read_only=True) as conn:
            identity = identify(conn)
        _demand_dumpable(identity, options)
        version = identity["server_version_num"]
        pg_dump, pg_restore = (find_program(name, version, options.pg_bin_dir) for name in ("pg_dump", "pg_restore"))
        pg_dumpall = _pg_dumpall(version, options)
        compression = choose_compression(pg_dump, options.compression, pg_restore)
        if options.tool:
            demand_tool(options.tool, options.encryption_recipients, options.gpg_home)
        ensure_private_dir(options.backup_dir, create=not check_mode)
        folder = os.path.join(options.backup_dir, safe_name(target.dbname))
        found = manifests(folder)
        warnings = [
            "%s was left by a run that did not end; it is no restore point. Remove it with: rm -r -- %s" % (path, shlex.quote(path))
            for path in leftovers(folder)
        ]
        # Databases of the same name on several servers may share a folder.
        newest = next((manifest for manifest in found if manifest.target["system_identifier"] == identity["system_identifier"]), None)
        if options.reuse and newest and reusable(target, options, folder, newest, (pg_dump, pg_restore, pg_dumpall)):
            return {"changed": False, "restore_point": _summary(folder, options, newest, reused=True), "warnings": warnings}
        if options.proof == "drill":
            _demand_drillable(target, options)
        # The turn first: while it was waited for, others have filled the volume.
        began += 0.0 if check_mode else _take_turn(stack, options)
        warnings += _check_room(options.backup_dir, identity["size_bytes"])
        if check_mode:
            return {"changed": True, "restore_point": _summary(folder, options, None), "warnings": warnings}
        ensure_private_dir(folder)
        restore_point_id = new_id()
        sequence = next_sequence(found, _snapshot_sequences(lock, target.dbname) + record_sequences(folder))
        partial = os.path.join(folder, restore_point_id + ".partial")
        try:
            os.mkdir(partial, 0o700)
            manifest = Dump(target, options, pg_dump, pg_restore, pg_dumpall, compression, restore_point_id, sequence, partial, warnings).make()
            write_private(os.path.join(partial, FILE_NAME), to_json(manifest))
            if options.sign_with:
                sign(partial, options.sign_with, options.gpg_home)
            write_proof(partial, digest(manifest), "read", options.run_id, now(), {"read": round(time.monotonic() - began, 3)})
            fsync_dir(partial)
            os.rename(partial, os.path.join(folder, restore_point_id))
            fsync_dir(folder)
        except OSError as error:
            raise _os_error(error, options.backup_dir) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {"changed": True, "restore_point": _summary(folder, options, manifest), "warnings": warnings}


def _take_turn(stack: contextlib.ExitStack, options: BackupOptions) -> float:
    """Among the backups of the folder, until the stack ends; the seconds it was waited for."""
    try:
        return stack.enter_context(folder_slot(options.backup_dir, options.at_once, options.at_once_wait))
    except OSError as error:
        raise _os_error(error, options.backup_dir) from None


def _demand_dumpable(identity: t.Mapping[str, t.Any], options: BackupOptions) -> None:
    # A read-only primary can be backed up; a standby cannot give a snapshot to pg_dump's workers reliably.
    demand_writable(dict(identity, read_only=False))
    if options.globals_hashes and not identity["superuser"]:
        raise MigrationError(
            "globals_hashes is set, and only a superuser may read the hashes of passwords; %s is none" % identity["current_user"],
            code="PERMISSION_DENIED",
            next_step="connect as a superuser, or leave globals_hashes out",
        )


def _pg_dumpall(server_version_num: int, options: BackupOptions) -> Program | None:
    if not options.globals:
        return None
    try:
        return find_program("pg_dumpall", server_version_num, options.pg_bin_dir)
    except MigrationError:
        if options.globals_hashes:
            raise
        return None


def _snapshot_sequences(lock: t.Any, dbname: str) -> list[int]:
    """Of the snapshots of this database, which share the order of restore points with its dumps."""
    return [each.facts.get("sequence") or 0 for each in marked(lock, dbname) if each.facts.get("kind") == "snapshot"]


def _drill(target: Target, options: BackupOptions, path: str) -> list[str]:
    # Late, for a drill's scratch database is named by this module.
    from ansible_collections.pgops.migrations.plugins.module_utils._drill import DrillOptions, drill  # noqa: PLC0415

    names = {field.name for field in dataclasses.fields(DrillOptions)} & {field.name for field in dataclasses.fields(options)}
    return list(drill(target, path, DrillOptions(**{name: getattr(options, name) for name in names}))["warnings"])


def _demand_drillable(target: Target, options: BackupOptions) -> None:
    """Before the dump, which may take long."""
    from ansible_collections.pgops.migrations.plugins.module_utils._drill import demand_right  # noqa: PLC0415

    demand_right(target, options.name)


def leftovers(folder: str) -> list[str]:
    """The ``.partial`` folders of runs that were killed."""
    with contextlib.suppress(OSError):
        return sorted(os.path.join(folder, name) for name in os.listdir(folder) if name.endswith(".partial"))
    return []


def _check_room(backup_dir: str, size_bytes: int) -> list[str]:
    free = room(backup_dir)
    data = max(0, size_bytes - EMPTY_DATABASE_BYTES)
    if free < data * SHORT + (1 << 20):
        raise MigrationError("%s has %d MB free; the database has %d MB" % (backup_dir, free >> 20, size_bytes >> 20), code="DISK_FULL", free_bytes=free)
    if free < data * TIGHT:
        return ["%s has %d MB free for a database of %d MB; the backup may not fit" % (backup_dir, free >> 20, size_bytes >> 20)]
    return []


def _proof(path: str) -> dict[str, t.Any]:
    found = read_proof(path) or {}
    return {"level": found.get("level", ""), "at": found.get("at", "")}


def _summary(folder: str, options: BackupOptions, manifest: Manifest | None, reused: bool = False) -> dict[str, t.Any]:
    if manifest is None:
        return {"id": "", "path": folder, "format": options.format, "label": options.label, "reused": False}
    path = os.path.join(folder, manifest.id)
    tables = manifest.fingerprint.get("tables") or {}
    return {
        "id": manifest.id,
        "path": path,
        "sequence": manifest.sequence,
        "reused": reused,
        "format": manifest.archive["format"],
        "label": manifest.label,
        "size_bytes": manifest.size_bytes,
        "seconds": manifest.archive["seconds"],
        "tables": len(tables),
        "rows": sum(table.get("rows") or 0 for table in tables.values()),
        "sha256": digest(manifest),
        "compression": manifest.archive["compression"],
        "started_at": manifest.started_at,
        "finished_at": manifest.finished_at,
        "ledger": manifest.ledger,
        "ledger_clean": manifest.ledger is None or manifest.ledger["clean"],
        "globals": manifest.globals,
        "encryption": manifest.encryption,
        "signed": os.path.lexists(os.path.join(path, SIGNATURE)),
        "proof": _proof(path),
        "confirmation": to_type(manifest.confirmation(), manifest.target["database"]),
    }


def _os_error(error: OSError, backup_dir: str) -> MigrationError:
    code = "DISK_FULL" if error.errno in (28, 122) else "BACKUP_FAILED"
    return MigrationError("cannot write below %s: %s" % (backup_dir, error.strerror or error), code=code)


__all__ = ("BackupOptions", "backup", "leftovers", "new_id", "now", "resolved")
