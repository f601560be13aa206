# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Try a restore point out: restore it into a scratch database, compare it, measure it, drop it.

The live database is not touched and need not be locked: nothing is read from it but its identity. So a drill
takes a lock of its own, which only another drill of the same database holds, and no deploy waits for it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import struct
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, new_id, no_timeouts, now
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._drill_tried import making_room, restated
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import digests, take
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest, derived_name, digest
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import find_program
from ansible_collections.pgops.migrations.plugins.module_utils._points import Point, find_point, list_points
from ansible_collections.pgops.migrations.plugins.module_utils._precedence import DRILL_NAME
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import demand_same_database, load, prerequisites, read_through
from ansible_collections.pgops.migrations.plugins.module_utils._restore_common import size, timed
from ansible_collections.pgops.migrations.plugins.module_utils._retention import DUMP, SNAPSHOT, time_of
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import DRILL, drop, drop_left, make, scratch_database
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import in_use, read_proof, write_proof
from ansible_collections.pgops.migrations.plugins.module_utils._staging import analyze, fill, verify
from ansible_collections.pgops.migrations.plugins.module_utils._storage import private_umask, room
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: What a restore needs of the server's disk, as a part of the database's size at the backup; the rest is for WAL.
ROOM = 1.2
#: The server's words for a statement that was cancelled.
_CANCELLED = "57014"
_ME = "SELECT rolsuper OR rolcreatedb, rolname, quote_ident(rolname) FROM pg_roles WHERE rolname = current_user"
#: What a way back does; the sum of it is what an operator waits for.
PHASES = ("check", "restore", "analyze", "verify")


@dataclasses.dataclass(frozen=True)
class DrillOptions:
    """Options of a drill; times in seconds, ``max_age`` in hours."""

    jobs: int = 4
    pg_bin_dir: str = ""
    maintenance_db: str = "postgres"
    run_id: str = ""
    lock_wait: float = 30.0
    identity_file: str = ""
    gpg_home: str = ""
    max_age: float = 0.0

    @property
    def decryption(self) -> Decryption:
        """How an encrypted archive is opened."""
        return Decryption(identity_file=self.identity_file, gpg_home=self.gpg_home)

    @property
    def name(self) -> str:
        """The application_name of our sessions."""
        return ("%s %s" % (DRILL_NAME, self.run_id)).strip()


def choose(target: Target, backup_dir: str, wanted: str = "", maintenance_db: str = "postgres") -> Point:
    """The restore point to try out: the one that was named by id, folder or name, or the newest usable dump.

    :raises MigrationError: ``BACKUP_NOT_FOUND``, and whatever makes the one that was named unusable.
    """
    points = list_points(target, backup_dir, maintenance_db)["restore_points"]
    if wanted:
        return find_point(points, wanted, backup_dir)
    point = next((point for point in points if point["usable"] and point["kind"] == DUMP), None)
    if point is None:
        seen = "; ".join("%s: %s" % (each["id"], each["reason"]) for each in points if each["kind"] == DUMP)
        raise MigrationError(
            "%s has no usable dump below %s%s" % (target.dbname, backup_dir, " (%s)" % seen if seen else ""),
            code="BACKUP_NOT_FOUND",
            next_step="take one: ansible-playbook playbooks/backup.yml",
        )
    return point


def drill_point(target: Target, point: Point, options: DrillOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """:func:`drill` or :func:`drill_snapshot` for an entry of ``_points.list_points``, with C(restore_point).

    :raises MigrationError: ``DRILL_IMPOSSIBLE``, and theirs, with C(restore_point) as well.
    """
    said = {name: point[name] for name in ("id", "kind", "path", "name", "sequence", "finished_at", "age_seconds", "size_bytes")}
    try:
        if point["kind"] == SNAPSHOT:
            found = drill_snapshot(target, point, options, check_mode)
        elif point["kind"] == DUMP:
            found = drill(target, point["path"], options, check_mode)
        else:
            raise MigrationError("%s is an external restore point: %s" % (point["id"], point["reason"]), code="DRILL_IMPOSSIBLE")
    except MigrationError as error:
        error.facts.setdefault("restore_point", said)
        raise restated(error) from None
    return dict(found, restore_point=said, tried=bool(found["drilled_at"]))


def drill(target: Target, path: str, options: DrillOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Try out the dump in this folder; C(changed), C(drilled_at), C(seconds), C(rto_seconds), C(restored) and C(warnings).

    :raises MigrationError: ``BACKUP_CORRUPT``, ``RESTORE_FAILED``, ``FINGERPRINT_MISMATCH``, ``DISK_FULL``, ... The scratch
        database is dropped in any case.
    """
    _demand_options(options)
    seconds: dict[str, float] = {}
    # Nobody removes it while it is tried out.
    with private_umask(), in_use(path):
        with timed(seconds, "check"):
            demand_right(target, options.name)
            manifest = load(path)
            with connection(target, application_name=options.name, settings=QUIET, read_only=True) as conn:
                identity = identify(conn)
                demand_writable(dict(identity, read_only=False))
                demand_same_database(manifest, identity)
                live = read_settings(conn, identity["database_oid"])
                program = find_program("pg_restore", identity["server_version_num"], options.pg_bin_dir)
                warnings = prerequisites(conn, manifest, identity)
        proof = _accepted(path, manifest, options.max_age)
        result: dict[str, t.Any] = {"changed": True, "drilled_at": "", "rto_seconds": None, "restored": size(manifest.fingerprint), "warnings": []}
        if proof is not None:
            return dict(result, changed=False, drilled_at=proof["at"], seconds=proof["seconds"], rto_seconds=_rto(proof["seconds"]))
        result["warnings"] = warnings
        with connection(target, application_name=options.name, read_only=True) as conn:
            demand_room(conn, target, identity, int(manifest.target["size_bytes"] * ROOM))
        if check_mode:
            return dict(result, seconds=seconds)
        with drill_lock(target, options) as lock, sql_errors("try the restore point out", target, default="RESTORE_FAILED"):
            no_timeouts(lock)
            with timed(seconds, "read"):
                read_through(program, path, manifest, target, options.decryption)
            with _scratch(target, lock, live, options) as name:
                with timed(seconds, "restore"):
                    fill(target, name, program, path, manifest, options.jobs, bool(identity["superuser"]), options.name, options.decryption)
                with timed(seconds, "analyze"):
                    analyze(target, name, options.name)
                with timed(seconds, "verify"):
                    verify(target, name, manifest, options.name)
        # A way back reads the archive through before it touches anything, too.
        seconds["check"] = round(seconds["check"] + seconds.pop("read"), 3)
        seconds["total"] = _rto(seconds)
        result["drilled_at"] = now()
        write_proof(path, digest(manifest), DRILL, options.run_id, result["drilled_at"], seconds)
        return dict(result, seconds=seconds, rto_seconds=seconds["total"])


@contextlib.contextmanager
def _scratch(target: Target, lock: t.Any, live: t.Mapping[str, t.Any], options: DrillOptions) -> t.Iterator[str]:
    with contextlib.ExitStack() as stack:
        with making_room():
            name = stack.enter_context(scratch_database(target, lock, live, DRILL, options.run_id))
        yield name


def _demand_options(options: DrillOptions) -> None:
    if options.jobs < 1 or options.max_age < 0:
        raise MigrationError("jobs is %d and max_age %g" % (options.jobs, options.max_age), code="OPTION_INVALID")


def demand_right(target: Target, name: str) -> None:
    """Before an archive is written or read that may be large.

    :param name: the application_name of the session.
    :raises MigrationError: ``PERMISSION_DENIED``.
    """
    with connection(target, application_name=name, read_only=True) as conn:
        may, role, quoted = row(conn, _ME) or (False, "", "")
    if not may:
        raise MigrationError(
            "the role %s lacks the right to create databases (CREATEDB), which a drill needs" % role,
            code="PERMISSION_DENIED",
            next_step="have a superuser run ALTER ROLE %s CREATEDB, or connect as a role that has it" % quoted,
        )


def _rto(seconds: t.Mapping[str, float]) -> float:
    """How long the way back takes but for the swap, which is a matter of milliseconds."""
    return round(sum(float(seconds.get(phase, 0.0)) for phase in PHASES), 3)


def drill_lock(target: Target, options: DrillOptions) -> t.Any:
    return run_lock(dataclasses.replace(target, dbname="%s (drill)" % target.dbname), options.maintenance_db, options.run_id, options.lock_wait)


def _accepted(path: str, manifest: Manifest, max_age: float) -> dict[str, t.Any] | None:
    """The proof of an earlier drill that is young enough; a time in the future proves nothing."""
    proof = read_proof(path)
    if not max_age or not proof or proof["level"] != DRILL or proof["manifest"] != digest(manifest) or not isinstance(proof.get("seconds"), dict):
        return None
    at = time_of(proof.get("at"))
    age = (datetime.datetime.now(datetime.timezone.utc) - at).total_seconds() if at else -1.0
    return proof if 0 <= age <= max_age * 3600 else None


def demand_room(conn: t.Any, target: Target, identity: t.Mapping[str, t.Any], needed: int) -> None:
    """:raises MigrationError: ``DISK_FULL``; where the server's disk cannot be seen from here, nothing is said.

    A full disk stops the live database, too.
    """
    with contextlib.suppress(psycopg2.Error, OSError, struct.error):
        folder = str((row(conn, "SELECT setting FROM pg_settings WHERE name = 'data_directory'") or ("",))[0] or "")
        # The same path on another machine is another disk: the cluster says of itself which one it is.
        with open(os.path.join(folder, "global", "pg_control"), "rb") as handle:
            if not folder or str(struct.unpack("=Q", handle.read(8))[0]) != identity["system_identifier"]:
                return
        free = room(folder)
        if free < needed:
            why = "%s has %d MB free, and a scratch copy of %s may need %d MB" % (folder, free >> 20, target.dbname, needed >> 20)
            raise MigrationError(why, code="DISK_FULL", free_bytes=free)


def drill_snapshot(target: Target, point: Point, options: DrillOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """A snapshot needs no restore; what can be asked is whether its content is still the one that was written down."""
    _demand_options(options)
    if not point.get("fingerprint_digest"):
        raise MigrationError(
            "the snapshot %s carries no fingerprint, so there is nothing to compare it with" % point["id"],
            code="DRILL_IMPOSSIBLE",
            next_step="drill a dump, or take snapshots with a fingerprint (verify: true of database_copy)",
        )
    seconds: dict[str, float] = {}
    result: dict[str, t.Any] = {"changed": False, "drilled_at": "", "rto_seconds": None, "restored": {}, "warnings": [], "seconds": seconds}
    with timed(seconds, "check"), connection(target, application_name=options.name, read_only=True) as conn:
        demand_right(target, options.name)
        demand_room(conn, target, identify(conn), int(point["size_bytes"] * ROOM))
    if check_mode:
        return result
    with drill_lock(target, options) as lock, sql_errors("try the snapshot out", target, default="RESTORE_FAILED"):
        no_timeouts(lock)
        drop_left(lock, target, DRILL)
        name = derived_name(target.dbname, DRILL, new_id())
        try:
            # It is closed and stays so: a copy of it is looked at.
            with timed(seconds, "copy"), making_room(), _copying(point):
                # By this name a way back to the snapshot knows whom it may cancel.
                execute(lock, "SET application_name = %s", (options.name,))
                statement = sql.SQL("CREATE DATABASE {} TEMPLATE {} ALLOW_CONNECTIONS false").format(sql.Identifier(name), sql.Identifier(point["name"]))
                make(lock, target, name, statement, DRILL, run_id=options.run_id)
            with timed(seconds, "verify"), connection(target, name, application_name=options.name, settings=QUIET) as conn:
                found = take(conn, level="full")
        finally:
            with contextlib.suppress(MigrationError, psycopg2.Error):
                drop(lock, target, name)
    if point["fingerprint_digest"] not in digests(found):
        raise MigrationError("the snapshot %s is not what it was when it was taken" % point["id"], code="FINGERPRINT_MISMATCH")
    seconds["total"] = round(sum(seconds.values()), 3)
    # The copy is for the comparison only; the way back to a snapshot is the swap.
    return dict(result, drilled_at=now(), restored=size(found), rto_seconds=0.0)


@contextlib.contextmanager
def _copying(point: Point) -> t.Iterator[None]:
    try:
        yield
    except MigrationError as error:
        if error.facts.get("sqlstate") == _CANCELLED:
            raise MigrationError(
                "the copy of the snapshot %s was cancelled, as a way back to it does, which goes first" % point["id"],
                code="DRILL_IMPOSSIBLE",
                next_step="when the way back has ended, drill what is the newest restore point then",
            ) from None
        raise


__all__ = ("DRILL", "DrillOptions", "choose", "demand_right", "demand_room", "drill", "drill_lock", "drill_point", "drill_snapshot")
