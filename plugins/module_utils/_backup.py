# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Take a restore point: an archive that was read back in full, and its manifest.

Archive and fingerprint are taken from one exported snapshot. Everything is made below
``<id>.partial`` and gets its final name as the last step, so what has a final name is
whole. Existing restore points are never touched.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import secrets
import shutil
import threading
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts, prerequisites_of, read_ledger, sequence_values
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import (
    ARCHIVES,
    FILE_NAME,
    FileEntry,
    Manifest,
    digest,
    plain,
    safe_name,
    to_json,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program, choose_compression, find_program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Child, Finished, started
from ansible_collections.pgops.migrations.plugins.module_utils._storage import (
    ensure_private_dir,
    fsync_dir,
    hash_file,
    private_umask,
    room,
    write_private,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: An empty database has this size and nearly no archive.
EMPTY_DATABASE_BYTES = 8 << 20
#: Below this part of the data an archive hardly ever comes; below the other one it may.
SHORT, TIGHT = 0.05, 0.6
_BLOCKERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, l.relation::regclass::text
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 5
"""


@dataclasses.dataclass(frozen=True)
class BackupOptions:
    """Options of database_backup; times in seconds."""

    backup_dir: str
    format: str = "directory"
    jobs: int = 2
    compression: str = "auto"
    pg_bin_dir: str = ""
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    lock_wait_timeout: float = 10.0
    run_id: str = ""
    label: str = ""


def new_id() -> str:
    """The id of a restore point or of a restore: UTC time and six random hex digits."""
    return "%s-%s" % (datetime.datetime.now(datetime.timezone.utc).strftime("%Y%m%dT%H%M%SZ"), secrets.token_hex(3))


def now() -> str:
    """UTC time in ISO 8601, to the second."""
    return datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def backup(target: Target, options: BackupOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Take a restore point; C(changed), C(restore_point) and C(warnings).

    :raises MigrationError: ``BACKUP_DIR_UNSAFE``, ``DISK_FULL``, ``LOCK_TIMEOUT`` (with ``blockers``),
        ``BACKUP_FAILED``, ``CLIENT_TOO_OLD``, ... Nothing with a final name is left then.
    """
    if options.jobs < 1 or options.format not in ARCHIVES:
        raise MigrationError("jobs is %d and format %s" % (options.jobs, options.format), code="OPTION_INVALID")
    with private_umask(), run_lock(target, options.maintenance_db, options.run_id, options.lock_wait):
        with connection(target, application_name=("pgops.migrations backup %s" % options.run_id).strip(), settings=QUIET, read_only=True) as conn:
            identity = identify(conn)
        _demand_dumpable(identity)
        programs = [find_program(name, identity["server_version_num"], options.pg_bin_dir) for name in ("pg_dump", "pg_restore")]
        compression = choose_compression(programs[0], options.compression)
        ensure_private_dir(options.backup_dir, create=not check_mode)
        folder = os.path.join(options.backup_dir, safe_name(target.dbname))
        warnings = _check_room(options.backup_dir, identity["size_bytes"])
        restore_point_id = new_id()
        if check_mode:
            return {"changed": True, "restore_point": _summary(restore_point_id, folder, options, None), "warnings": warnings}
        ensure_private_dir(folder)
        warnings += ["%s was left by a run that did not end; it is no restore point" % path for path in leftovers(folder)]
        partial = os.path.join(folder, restore_point_id + ".partial")
        try:
            os.mkdir(partial, 0o700)
            manifest = _Run(target, options, programs[0], programs[1], compression, restore_point_id, partial, identity).make()
            write_private(os.path.join(partial, FILE_NAME), to_json(manifest))
            fsync_dir(partial)
            os.rename(partial, os.path.join(folder, restore_point_id))
            fsync_dir(folder)
        except OSError as error:
            raise _os_error(error, options.backup_dir) from None
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return {"changed": True, "restore_point": _summary(restore_point_id, folder, options, manifest), "warnings": warnings}


def _demand_dumpable(identity: t.Mapping[str, t.Any]) -> None:
    # A read-only primary can be backed up; a standby cannot give a snapshot to pg_dump's workers reliably.
    demand_writable(dict(identity, read_only=False))


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


def _summary(restore_point_id: str, folder: str, options: BackupOptions, manifest: Manifest | None) -> dict[str, t.Any]:
    summary: dict[str, t.Any] = {"id": restore_point_id, "path": os.path.join(folder, restore_point_id), "format": options.format, "label": options.label}
    if manifest is None:
        return dict(summary, id="", path=folder)
    tables = manifest.fingerprint.get("tables") or {}
    each = list(tables.values()) if isinstance(tables, dict) else list(tables)
    return dict(
        summary,
        size_bytes=manifest.size_bytes,
        seconds=manifest.archive["seconds"],
        tables=len(each),
        rows=sum(table.get("rows") or 0 for table in each),
        sha256=digest(manifest),
        compression=manifest.archive["compression"],
        started_at=manifest.started_at,
        finished_at=manifest.finished_at,
        ledger=manifest.ledger,
        ledger_clean=manifest.ledger is None or manifest.ledger["clean"],
        confirmation=manifest.confirmation(),
    )


@dataclasses.dataclass
class _Run:
    target: Target
    options: BackupOptions
    pg_dump: Program
    pg_restore: Program
    compression: str
    id: str
    partial: str
    identity: dict[str, t.Any]

    @property
    def name(self) -> str:
        """The application_name of our own sessions; at most 63 bytes."""
        return "pgops.migrations backup %s" % self.id

    @property
    def dump_name(self) -> str:
        """The application_name of pg_dump's sessions, by which they can be ended."""
        return "pgops.migrations dump %s" % self.id

    def make(self) -> Manifest:
        """Dump and fingerprint one snapshot, read the archive back, hash it."""
        began, started_at = time.monotonic(), now()
        wait = dict(QUIET, lock_timeout="%dms" % round(self.options.lock_wait_timeout * 1000))
        with connection(self.target, application_name=self.name, settings=wait, read_only=True) as holder, sql_errors("read the catalogue", self.target):
            no_timeouts(holder)
            execute(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = (row(holder, "SELECT pg_export_snapshot()") or ("",))[0]
            identity = identify(holder)
            settings = read_settings(holder, identity["database_oid"])
            ledger = read_ledger(holder, self.target.schema)
            prerequisites = prerequisites_of(holder, settings)
            before = sequence_values(holder)
            with started(self._dump_argv(snapshot), self.target, application_name=self.dump_name) as child:
                try:
                    fingerprint = self._fingerprint(snapshot, wait, child)
                except MigrationError as error:
                    # When the dump failed as well, its words say more.
                    done = child.wait(1.0)
                    if done is not None and done.rc != 0:
                        self._demand(done, "pg_dump", error)
                    raise self._with_blockers(error) from None
                self._demand(_wait(child), "pg_dump")
            moved = {name: [before.get(name), last] for name, last in sequence_values(holder).items() if before.get(name) != last}
            execute(holder, "ROLLBACK")
        files = self._read_back()
        return Manifest(
            id=self.id,
            run_id=self.options.run_id,
            label=self.options.label,
            started_at=started_at,
            finished_at=now(),
            target={
                **{
                    key: identity[key]
                    for key in ("system_identifier", "database", "database_oid", "owner", "server_version", "server_version_num", "lsn", "size_bytes")
                },
                **{key: settings[key] for key in ("encoding", "collate", "ctype", "locale_provider", "locale", "tablespace")},
                "host": self.target.host,
                "port": self.target.port,
            },
            archive={
                "format": self.options.format,
                "path": ARCHIVES[self.options.format],
                "compression": self.compression,
                "jobs": self.options.jobs,
                "client_version": self.pg_dump.version,
                "client_major": self.pg_dump.major,
                "seconds": round(time.monotonic() - began, 3),
            },
            files=files,
            ledger=ledger,
            fingerprint=plain(fingerprint),
            sequences_moved=moved,
            prerequisites=prerequisites,
            settings=plain(settings),
        )

    @property
    def _archive(self) -> str:
        return os.path.join(self.partial, ARCHIVES[self.options.format])

    def _dump_argv(self, snapshot: str) -> list[str]:
        argv = [
            self.pg_dump.path,
            "--format=%s" % self.options.format,
            "--file=%s" % self._archive,
            "--snapshot=%s" % snapshot,
            "--compress=%s" % self.compression,
            "--lock-wait-timeout=%d" % round(self.options.lock_wait_timeout * 1000),
            "--no-password",
            # The files are synced here, when they are hashed.
            "--no-sync",
        ]
        return argv + (["--jobs=%d" % self.options.jobs] if self.options.format == "directory" else [])

    def _fingerprint(self, snapshot: str, settings: dict[str, str], child: Child) -> dict[str, t.Any]:
        with connection(self.target, application_name=self.name, settings=settings, read_only=True) as conn, sql_errors("take the fingerprint", self.target):
            no_timeouts(conn)

            def watch() -> None:
                # Hashing on beside a dump that has failed would be in vain.
                if child.process.wait() != 0:
                    with contextlib.suppress(psycopg2.Error):
                        conn.cancel()

            threading.Thread(target=watch, daemon=True).start()
            return take(conn, level="full", snapshot=snapshot)

    def _read_back(self) -> tuple[FileEntry, ...]:
        """Every file hashed and synced, while pg_restore reads every byte of the archive."""
        with started([self.pg_restore.path, "--file=/dev/null", self._archive], self.target) as child:
            paths = [self._archive] if self.options.format == "custom" else sorted(os.path.join(self._archive, name) for name in os.listdir(self._archive))
            files = []
            for path in paths:
                size, sha256 = hash_file(path, sync=True)
                files.append(FileEntry(path=os.path.relpath(path, self.partial), size=size, sha256=sha256))
            if self.options.format == "directory":
                fsync_dir(self._archive)
            self._demand(_wait(child), "pg_restore")
        return tuple(files)

    def _demand(self, done: Finished, program: str, other: MigrationError | None = None) -> None:
        if done.rc == 0:
            return
        self._end_sessions()
        message = "%s %s" % (program, done.why())
        if "No space left on device" in done.stderr:
            raise MigrationError("%s is full: %s" % (self.options.backup_dir, message), code="DISK_FULL")
        # --lock-wait-timeout is a statement_timeout for the LOCK TABLE; a worker finds a table locked meanwhile by NOWAIT.
        if "could not obtain lock" in done.stderr or ("statement timeout" in done.stderr and "LOCK TABLE" in done.stderr):
            raise self._with_blockers(MigrationError("a table stayed locked for %g s: %s" % (self.options.lock_wait_timeout, message), code="LOCK_TIMEOUT"))
        if "max_locks_per_transaction" in done.stderr:
            raise MigrationError(message, code="BACKUP_FAILED", next_step="raise max_locks_per_transaction on the server; it has more tables than locks")
        raise MigrationError(message, code="BACKUP_FAILED", rc=done.rc, also=other.msg if other else "")

    def _with_blockers(self, error: MigrationError) -> MigrationError:
        if error.code == "LOCK_TIMEOUT":
            blockers = []
            with contextlib.suppress(MigrationError, psycopg2.Error), connection(self.target, application_name=self.name, settings=QUIET) as conn:
                blockers = [dict(zip(("pid", "user", "application_name", "state", "table"), found)) for found in rows(conn, _BLOCKERS)]
            error.facts["blockers"] = blockers
            if blockers:
                error.msg += "; held by %s" % ", ".join(sorted({"pid %(pid)d (user %(user)s)" % blocker for blocker in blockers}))
        return error

    def _end_sessions(self) -> None:
        """A killed pg_dump leaves its statements running until they notice."""
        with contextlib.suppress(MigrationError, psycopg2.Error), connection(self.target, self.options.maintenance_db) as conn:
            execute(conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s", (self.dump_name,))


def _wait(child: Child) -> Finished:
    done = child.wait()
    if done is None:  # cannot be without a timeout
        raise MigrationError("the program did not end", code="INTERNAL")
    return done


def _os_error(error: OSError, backup_dir: str) -> MigrationError:
    code = "DISK_FULL" if error.errno in (28, 122) else "BACKUP_FAILED"
    return MigrationError("cannot write below %s: %s" % (backup_dir, error.strerror or error), code=code)


__all__ = ("BackupOptions", "backup", "leftovers", "new_id", "now")
