# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Go back to a restore point: into a database beside the live one, verified, then swapped.

Nothing is ever restored over the live database, and nothing that was live is dropped.
Until the swap only databases with our own marker are made or dropped.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup import new_id, now
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, rows, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import apply_settings, marker, read_marker, read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest, derived_name, plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program, find_program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import conninfo, started
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import (
    archive_path,
    demand_same_database,
    demand_swappable,
    load,
    prerequisites,
    read_through,
)
from ansible_collections.pgops.migrations.plugins.module_utils._storage import private_umask
from ansible_collections.pgops.migrations.plugins.module_utils._swap import Swapped, database_oid, sessions, swap
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: For the sessions of pg_restore: the staging database may be lost at any time until the swap.
SETTINGS = {"maintenance_work_mem": "256MB", "synchronous_commit": "off", "max_parallel_maintenance_workers": "0", "default_transaction_read_only": "off"}
#: Only a superuser may set it.
SUPERUSER_SETTINGS = {"wal_compression": "on"}
#: A table that is locked for longer shall not hold up a rescue.
LOSS_LOCK_TIMEOUT = "5s"
_MARKED = """
SELECT oid::bigint, datname, shobj_description(oid, 'pg_database') FROM pg_database
 WHERE shobj_description(oid, 'pg_database') LIKE 'pgops.migrations {%'
"""


@dataclasses.dataclass(frozen=True)
class RestoreOptions:
    """Options of database_restore; times in seconds."""

    restore_point: str
    confirm: str = ""
    force: bool = False
    jobs: int = 2
    pg_bin_dir: str = ""
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    run_id: str = ""


def restore(target: Target, options: RestoreOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Bring the database back to the restore point; the former database is kept under another name.

    :returns: C(changed), C(kept), C(restored), C(seconds), C(comparison), C(loss), C(warnings).
    :raises MigrationError: until the swap is committed the live database is as it was.
    """
    if options.jobs < 1:
        raise MigrationError("jobs is %d" % options.jobs, code="OPTION_INVALID")
    if options.maintenance_db == target.dbname:
        raise MigrationError("maintenance_db is %s itself; it must be another database" % target.dbname, code="OPTION_INVALID")
    seconds: dict[str, float] = {}
    with private_umask():
        with _timed(seconds, "check"):
            manifest = load(options.restore_point)
            with connection(target, application_name=_name("check", options), settings=QUIET) as conn:
                identity = identify(conn)
            demand_writable(identity)
            demand_same_database(manifest, identity)
            program = find_program("pg_restore", identity["server_version_num"], options.pg_bin_dir)
            loss, equal = _loss(target, manifest, options)
        result: dict[str, t.Any] = {"restore_point": {"id": manifest.id, "path": os.path.normpath(options.restore_point)}, "loss": loss, "seconds": seconds}
        result["warnings"] = [] if loss["known"] else ["what will be lost is not known: %s" % loss["reason"]]
        if equal and not options.force:
            with _timed(seconds, "read"):
                read_through(program, options.restore_point, manifest, target)
            return dict(result, changed=False, kept="", restored=_size(manifest.fingerprint), comparison="equal")
        if not check_mode and options.confirm != manifest.confirmation():
            raise MigrationError(
                'the restore was %s; it will %s To confirm, set confirm to exactly "%s"'
                % ('confirmed with "%s"' % options.confirm if options.confirm else "not confirmed", loss_text(loss), manifest.confirmation()),
                code="CONFIRMATION_MISSING",
                next_step="look at the loss, then confirm it: confirm: %s; with rollback.yml: -e '{\"migration_confirm\": \"%s\"}'"
                % (manifest.confirmation(), manifest.confirmation()),
                loss=loss,
                confirmation=manifest.confirmation(),
            )
        with _timed(seconds, "read"):
            read_through(program, options.restore_point, manifest, target)
        with run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
            run = _Run(target, options, manifest, program, identity, lock)
            result["warnings"] += run.preflight()
            if check_mode:
                return dict(result, changed=True, kept=run.kept, restored=_size(manifest.fingerprint), comparison="")
            return dict(result, changed=True, **run.restore(seconds))


def _name(what: str, options: RestoreOptions) -> str:
    return ("pgops.migrations %s %s" % (what, options.run_id)).strip()


@contextlib.contextmanager
def _timed(seconds: dict[str, float], phase: str) -> t.Iterator[None]:
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = round(time.monotonic() - began, 3)


def _tables(fingerprint: t.Mapping[str, t.Any]) -> dict[str, int]:
    """Rows by table."""
    return {name: int(table.get("rows") or 0) for name, table in (fingerprint.get("tables") or {}).items()}


def _size(fingerprint: t.Mapping[str, t.Any]) -> dict[str, int]:
    tables = _tables(fingerprint)
    return {"tables": len(tables), "rows": sum(tables.values())}


def _loss(target: Target, manifest: Manifest, options: RestoreOptions) -> tuple[dict[str, t.Any], bool]:
    """What the live database has and will not have after the restore, and whether nothing differs at all.

    It must not stand in the way of a rescue: when live cannot be read, that is said instead.
    """
    before = _tables(manifest.fingerprint)
    try:
        settings = dict(QUIET, lock_timeout=LOSS_LOCK_TIMEOUT)
        with connection(target, application_name=_name("check", options), settings=settings, read_only=True) as conn, sql_errors("read live", target):
            live = plain(take(conn, level="full"))
        differences = compare(manifest.expected(live), live)
    except MigrationError as error:
        return {"known": False, "reason": error.msg, "tables": [], "rows_now": None, "rows_then": sum(before.values())}, False
    counts = _tables(live)
    tables = [
        {"table": name, "rows_now": counts.get(name), "rows_then": before.get(name)}
        for name in sorted(set(before) | set(counts))
        if counts.get(name) != before.get(name)
    ]
    loss = {"known": True, "reason": "", "tables": tables, "rows_now": sum(counts.values()), "rows_then": sum(before.values()), "differences": len(differences)}
    # Rows that were only changed are lost, too, and show in no count.
    loss["texts"] = [str(difference["text"]) for difference in differences]
    return loss, not differences


def loss_text(loss: t.Mapping[str, t.Any]) -> str:
    """The loss summary in one line."""
    if not loss["known"]:
        return "replace the database, whose present content could not be read (%s)" % loss["reason"]
    if not loss["differences"]:
        return "set the database back (nothing differs)"
    more = "" if len(loss["texts"]) <= 10 else " And %d more differences." % (len(loss["texts"]) - 10)
    return "set the database back, and lose this: %s%s" % (" ".join(loss["texts"][:10]), more)


class _Run:
    """One restore under the run's lock."""

    def __init__(self, target: Target, options: RestoreOptions, manifest: Manifest, program: Program, identity: t.Mapping[str, t.Any], lock: t.Any) -> None:
        self.target, self.options, self.manifest, self.program, self.identity, self.lock = target, options, manifest, program, identity, lock
        self.live_oid = int(identity["database_oid"])
        act = new_id()
        # Named by this restore and not by the restore point, which may be restored more than once.
        self.staging, self.kept = derived_name(target.dbname, "restore", act), derived_name(target.dbname, "kept", act)
        self.staging_oid = 0

    def preflight(self) -> list[str]:
        """Everything that can be refused before something is made; warnings."""
        with sql_errors("check the server", self.target):
            no_timeouts(self.lock)
            if database_oid(self.lock, self.target.dbname) != self.live_oid:
                raise MigrationError("%s is another database than a moment ago" % self.target.dbname, code="WRONG_TARGET")
            demand_swappable(self.lock, self.target.dbname, self.live_oid)
            for name in (self.staging, self.kept):
                if database_oid(self.lock, name) is not None:
                    raise MigrationError("the name %s is taken" % name, code="SWAP_REFUSED")
            with connection(self.target, application_name=_name("check", self.options), settings=QUIET, read_only=True) as conn:
                warnings = prerequisites(conn, self.manifest, self.identity)
            stubborn = sorted({str(session[1]) for session in sessions(self.lock, self.live_oid) if not session[4]})
            if stubborn:
                warnings.append("sessions of %s must leave %s by themselves before the swap" % (", ".join(stubborn), self.target.dbname))
            return warnings

    def restore(self, seconds: dict[str, float]) -> dict[str, t.Any]:
        """Stage, verify, swap."""
        self._drop_own_stagings()
        try:
            with _timed(seconds, "restore"):
                self._create()
                self._fill()
                self._analyze()
            with _timed(seconds, "verify"):
                self._verify()
            with sql_errors("check the server", self.target):
                demand_swappable(self.lock, self.target.dbname, self.live_oid)
            with _timed(seconds, "swap"):
                done = self._swap()
        except BaseException:
            # After a swap the staging database is live and has lost its marker, so it is safe from this.
            with contextlib.suppress(MigrationError, psycopg2.Error):
                self._drop_own_stagings()
            raise
        seconds["unavailable"] = done.seconds
        return {
            "kept": self.kept,
            "restored": _size(self.manifest.fingerprint),
            "comparison": "equal",
            "attempts": done.attempts,
            "terminated": done.terminated,
        }

    def _drop_own_stagings(self) -> None:
        """Drop what this or an earlier run of ours staged for this database; known by the comment, not by the name."""
        for oid, name, comment in rows(self.lock, _MARKED):
            found = read_marker(comment)
            if not found or found["kind"] != "staging" or found.get("database") != self.target.dbname:
                continue
            if oid == self.live_oid or name == self.target.dbname:
                continue
            with sql_errors("drop the staging database %s" % name, self.target, default="RESTORE_FAILED"):
                execute(self.lock, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _create(self) -> None:
        live = read_settings(self.lock, self.live_oid)
        comment = marker("staging", database=self.target.dbname, run_id=self.options.run_id, restore_point=self.manifest.id, at=now())
        staging = sql.Identifier(self.staging)
        with sql_errors("make the staging database", self.target, default="RESTORE_FAILED"):
            execute(self.lock, create_statement(self.staging, live))
            execute(self.lock, sql.SQL("COMMENT ON DATABASE {} IS {}").format(staging, sql.Literal(comment)))
            execute(self.lock, sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(staging))
            self.staging_oid = database_oid(self.lock, self.staging) or 0
            self._rehearse_settings(live, comment)

    def _rehearse_settings(self, live: dict[str, t.Any], comment: str) -> None:
        """Whether this role may carry everything over, tried where it costs nothing, before the long restore."""
        execute(self.lock, "BEGIN")
        try:
            apply_settings(self.lock, self.staging, self.staging_oid, dict(live, comment=comment))
        except psycopg2.Error as error:
            raise MigrationError(
                "the role %s cannot carry over a property of the database: %s" % (self.identity["current_user"], " ".join(str(error).split())),
                code="RESTORE_PREREQUISITE",
                next_step="restore as a superuser, or grant the right (for a setting: GRANT SET ON PARAMETER name TO role)",
                sqlstate=error.pgcode,
            ) from None
        finally:
            execute(self.lock, "ROLLBACK")

    def _fill(self) -> None:
        settings = dict(SETTINGS, **(SUPERUSER_SETTINGS if self.identity["superuser"] else {}))
        argv = [
            self.program.path, "--exit-on-error", "--jobs=%d" % self.options.jobs, "--no-password",
            "--dbname=%s" % conninfo(self.staging), archive_path(self.options.restore_point, self.manifest),
        ]  # fmt: skip
        with started(argv, self.target, self.staging, _name("restore", self.options), settings) as child:
            done = child.wait()
        if done is None or done.rc != 0:
            why = done.why() if done else "did not end"
            code = "DISK_FULL" if "No space left on device" in why else "RESTORE_FAILED"
            raise MigrationError("pg_restore %s" % why, code=code)

    def _analyze(self) -> None:
        """An archive holds no statistics of the planner (before PostgreSQL 18); without them the application is slow."""
        with self._staging_connection() as conn, sql_errors("analyze the restored database", self.target, default="RESTORE_FAILED"):
            execute(conn, "ANALYZE")

    def _verify(self) -> None:
        with self._staging_connection() as conn, sql_errors("take the fingerprint of the restored database", self.target, default="RESTORE_FAILED"):
            found = plain(take(conn, level="full"))
            differences = compare(self.manifest.expected(found), found)
        if differences:
            raise MigrationError(
                "the restored database differs from what was backed up in %d places" % len(differences),
                code="FINGERPRINT_MISMATCH",
                differences=plain(differences),
            )

    def _staging_connection(self) -> t.Any:
        return connection(self.target, self.staging, application_name=_name("restore", self.options), settings=dict(QUIET, default_transaction_read_only="off"))

    def _swap(self) -> Swapped:
        return swap(
            self.target, self.staging, self.kept, maintenance_db=self.options.maintenance_db, run_id=self.options.run_id, at=now(), live_oid=self.live_oid,
            staging_oid=self.staging_oid,
        )  # fmt: skip


def create_statement(name: str, live: t.Mapping[str, t.Any]) -> t.Any:
    """CREATE DATABASE with the owner, encoding, locale and tablespace of another one; see _dbsettings.read_settings."""
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))]
    parts.append(sql.SQL("OWNER {}").format(sql.Identifier(live["owner"])))
    # Naming the default one needs a right that using it does not.
    if live["tablespace"] != "pg_default":
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(live["tablespace"])))
    provider = live["locale_provider"]
    options = [("ENCODING", live["encoding"]), ("LC_COLLATE", live["collate"]), ("LC_CTYPE", live["ctype"])]
    if provider != "libc":
        options += [("LOCALE_PROVIDER", provider), ("ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE", live["locale"]), ("ICU_RULES", live["icu_rules"])]
    parts += [sql.SQL(words + " {}").format(sql.Literal(value)) for words, value in options if value is not None]
    return sql.SQL(" ").join(parts)


__all__ = ("RestoreOptions", "create_statement", "loss_text", "restore")
