# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""One dump: archive and fingerprint from one exported snapshot, read back in full and hashed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import os
import threading
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import (
    QUIET,
    no_timeouts,
    now,
    prerequisites_of,
    read_ledger,
    read_wal_mark,
    sequence_values,
    settled,
)  # fmt: skip
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._encryption import Decryption, encrypt_argv
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import PINNED
from ansible_collections.pgops.migrations.plugins.module_utils._globals import globals_digest, read_globals, write_globals
from ansible_collections.pgops.migrations.plugins.module_utils._identity import identify
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FileEntry, Manifest, archive_name, globals_name, plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Child, Finished, started
from ansible_collections.pgops.migrations.plugins.module_utils._read_back import read_archive
from ansible_collections.pgops.migrations.plugins.module_utils._storage import fsync_dir, hash_file
from ansible_collections.pgops.migrations.plugins.module_utils._streaming import streaming
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: What the text of a value depends on and pg_dump leaves to the settings of database and role.
#: The others it sets itself (DateStyle, IntervalStyle, extra_float_digits, search_path, row_security...).
TEXT_SETTINGS = {name: PINNED[name] for name in ("TimeZone", "DateStyle", "IntervalStyle", "bytea_output", "lc_monetary", "quote_all_identifiers", "xmlbinary")}
#: pg_dump lifts the limits itself, but not before its first statement.
_SESSION = dict(TEXT_SETTINGS, **QUIET)
_BLOCKERS = """
SELECT DISTINCT a.pid, a.usename, a.application_name, a.state, l.relation::regclass::text
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'relation' AND l.granted AND l.mode = 'AccessExclusiveLock'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) ORDER BY 1, 5
"""


@dataclasses.dataclass(frozen=True)
class BackupOptions:
    """Options of database_backup; times in seconds. C(format) is resolved here: see ``_backup.resolved``.

    :ivar pending: texts of the migrations that will be applied, see ``_fingerprint.take``.
    """

    backup_dir: str
    format: str = "auto"
    jobs: int = 2
    compression: str = "auto"
    globals: bool = True
    globals_hashes: bool = False
    encryption: str = "none"
    encryption_recipients: t.Sequence[str] = ()
    sign_with: str = ""
    gpg_home: str = ""
    identity_file: str = ""
    reuse: bool = False
    proof: str = "read"
    pg_bin_dir: str = ""
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    lock_wait_timeout: float = 10.0
    at_once: int = 0
    at_once_wait: float = 3600.0
    run_id: str = ""
    label: str = ""
    pending: t.Sequence[str] = ()

    @property
    def name(self) -> str:
        """The application_name of sessions before there is a restore point to name them by."""
        return ("pgops.migrations backup %s" % self.run_id).strip()

    @property
    def decryption(self) -> Decryption:
        """How an archive that was encrypted so is opened."""
        return Decryption(identity_file=self.identity_file, gpg_home=self.gpg_home)

    @property
    def tool(self) -> str:
        """The tool that encrypts, or nothing."""
        return "" if self.encryption == "none" else self.encryption


@dataclasses.dataclass
class Dump:
    """The dump of one database into the folder ``partial``; what goes wrong raises, and leaves the folder to the caller."""

    target: Target
    options: BackupOptions
    pg_dump: Program
    pg_restore: Program
    pg_dumpall: Program | None
    compression: str
    id: str
    sequence: int
    partial: str
    warnings: list[str]

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
            mark = settled(holder, read_wal_mark(holder))
            execute(holder, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            snapshot = (row(holder, "SELECT pg_export_snapshot()") or ("",))[0]
            identity = identify(holder)
            settings = read_settings(holder, identity["database_oid"])
            ledger = read_ledger(holder, self.target.schema)
            prerequisites = prerequisites_of(holder, settings)
            before = sequence_values(holder)
            with self._dumping(snapshot) as child:
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
        files, roles = self._read_back(), self._globals()
        return Manifest(
            id=self.id,
            sequence=self.sequence,
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
                "wal_mark": mark,
            },
            archive={
                "format": self.options.format,
                "path": archive_name(self.options.format, self.options.tool),
                "compression": self.compression,
                "jobs": self.options.jobs,
                "client_version": self.pg_dump.version,
                "client_major": self.pg_dump.major,
                "seconds": round(time.monotonic() - began, 3),
            },
            files=files + (() if roles is None else (self._file(os.path.join(self.partial, roles["path"])),)),
            ledger=ledger,
            fingerprint=plain(fingerprint),
            sequences_moved=moved,
            prerequisites=prerequisites,
            settings=plain(settings),
            globals=roles,
            encryption={"tool": self.options.tool, "recipients": list(self.options.encryption_recipients)} if self.options.tool else None,
        )

    @property
    def _archive(self) -> str:
        return os.path.join(self.partial, archive_name(self.options.format, self.options.tool))

    def _dump_argv(self, snapshot: str) -> list[str]:
        argv = [
            self.pg_dump.path,
            "--format=%s" % self.options.format,
            "--snapshot=%s" % snapshot,
            "--compress=%s" % self.compression,
            "--lock-wait-timeout=%d" % round(self.options.lock_wait_timeout * 1000),
            "--no-password",
            # The files are synced here, when they are hashed.
            "--no-sync",
        ]
        argv += [] if self.options.tool else ["--file=%s" % self._archive]
        return argv + (["--jobs=%d" % self.options.jobs] if self.options.format == "directory" else [])

    def _dumping(self, snapshot: str) -> t.ContextManager[Child]:
        argv, tool = self._dump_argv(snapshot), self.options.tool
        if not tool:
            return started(argv, self.target, application_name=self.dump_name, settings=_SESSION)
        return streaming(
            argv,
            [self.pg_restore.path, "--file=/dev/null"],
            encrypt_argv(tool, self.options.encryption_recipients),
            self._archive,
            self.target,
            self.dump_name,
            _SESSION,
            self.options.gpg_home,
        )

    def _globals(self) -> dict[str, t.Any] | None:
        if not self.options.globals:
            return None
        try:
            if self.pg_dumpall is None:
                raise MigrationError("pg_dumpall was not found", code="GLOBALS_FAILED")
            text = read_globals(self.pg_dumpall, self.target, self.options.globals_hashes, self.dump_name)
            path = globals_name(self.options.tool)
            write_globals(os.path.join(self.partial, path), text, self.options.tool, self.options.encryption_recipients, self.options.gpg_home)
        except MigrationError as error:
            # A restore of the database works without the roles' definitions; who asked for the passwords meant to have them.
            if self.options.globals_hashes or error.code != "GLOBALS_FAILED":
                raise
            self.warnings.append("the restore point has no globals.sql: %s" % error.msg)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(self.partial, globals_name(self.options.tool)))
            return None
        return {"path": path, "passwords": self.options.globals_hashes, "digest": globals_digest(text)}

    def _fingerprint(self, snapshot: str, settings: dict[str, str], child: Child) -> dict[str, t.Any]:
        # Parallel query would take the processors away from the dump, whose last table then is alone.
        settings = dict(settings, max_parallel_workers_per_gather="0")
        with connection(self.target, application_name=self.name, settings=settings, read_only=True) as conn, sql_errors("take the fingerprint", self.target):
            no_timeouts(conn)

            ended = threading.Event()

            def watch() -> None:
                # Hashing on beside a dump that has failed would be in vain. A cancel between two statements is lost, so it is repeated.
                if child.process.wait() != 0:
                    with contextlib.suppress(psycopg2.Error):
                        conn.cancel()
                        while not ended.wait(0.2):
                            conn.cancel()

            threading.Thread(target=watch, daemon=True).start()
            try:
                return take(conn, level="full", snapshot=snapshot, pending=self.options.pending)
            finally:
                ended.set()

    def _read_back(self) -> tuple[FileEntry, ...]:
        """Every file hashed and synced, while pg_restore reads every byte of the archive (of one that is encrypted, it has done so)."""
        if self.options.tool:
            return (self._file(self._archive),)
        paths = [self._archive] if self.options.format == "custom" else [os.path.join(self._archive, name) for name in os.listdir(self._archive)]
        paths.sort(key=os.path.getsize, reverse=True)
        # Both hashing and fsync let other threads work.
        with concurrent.futures.ThreadPoolExecutor(3) as pool:
            reading = pool.submit(read_archive, self.pg_restore, self._archive, self.target)
            files = sorted(pool.map(self._file, paths), key=lambda entry: entry.path)
            self._demand(reading.result(), "pg_restore")
        if self.options.format == "directory":
            fsync_dir(self._archive)
        return tuple(files)

    def _file(self, path: str) -> FileEntry:
        size, sha256 = hash_file(path, sync=True)
        return FileEntry(path=os.path.relpath(path, self.partial), size=size, sha256=sha256)

    def _demand(self, done: Finished, program: str, other: MigrationError | None = None) -> None:
        if done.rc == 0:
            return
        self._end_sessions()
        message = "%s %s" % (program, done.why())
        if "no space left on device" in done.stderr.lower():
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


__all__ = ("TEXT_SETTINGS", "BackupOptions", "Dump")
