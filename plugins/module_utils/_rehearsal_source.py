# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Where the copy of a rehearsal comes from, and how the rehearsed way back brings it to what it was.

From a restore point it is what rollback.yml does with that restore point: restored beside, compared, swapped in. A
template copy has none, so a snapshot of it is taken before the deploy and swapped in.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, new_id, now
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, sql
from ansible_collections.pgops.migrations.plugins.module_utils._copy import RETRIED, CopyOptions, copy
from ansible_collections.pgops.migrations.plugins.module_utils._copy_strategy import choose as choose_strategy
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import apply_settings, read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._drill import PHASES, ROOM, choose, demand_right, demand_room
from ansible_collections.pgops.migrations.plugins.module_utils._drill_tried import making_room
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evict import PATIENCE, demand_leaving
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import maintenance_connection, run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest, derived_name, digest, plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program, find_program
from ansible_collections.pgops.migrations.plugins.module_utils._precedence import DRILL_NAME
from ansible_collections.pgops.migrations.plugins.module_utils._restore import RestoreOptions, RestoreRun, restore
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import demand_same_database, load, prerequisites, read_through, rehearse_settings
from ansible_collections.pgops.migrations.plugins.module_utils._restore_common import timed
from ansible_collections.pgops.migrations.plugins.module_utils._retention import DUMP
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import DRILL, drop, make, scratch_database
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import in_use, write_proof
from ansible_collections.pgops.migrations.plugins.module_utils._staging import analyze, fill
from ansible_collections.pgops.migrations.plugins.module_utils._storage import private_umask
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

RESTORE_POINT, TEMPLATE = "restore_point", "template"
#: In place of the name of a restore point: one that is taken before a rehearsal; only in check mode.
NEW = "new"
_TOLD = ("id", "kind", "path", "sequence", "finished_at", "age_seconds", "size_bytes")


@dataclasses.dataclass(frozen=True)
class SourceOptions:
    """What making a copy and going back on it takes; times in seconds."""

    backup_dir: str = ""
    restore_point: str = ""
    jobs: int = 4
    pg_bin_dir: str = ""
    identity_file: str = ""
    gpg_home: str = ""
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    at_once: int = 0
    at_once_wait: float = 3600.0
    run_id: str = ""
    #: Any database of another server, where the copy is made instead.
    elsewhere: Target | None = None

    @property
    def decryption(self) -> Decryption:
        return Decryption(identity_file=self.identity_file, gpg_home=self.gpg_home)

    @property
    def name(self) -> str:
        """The application_name of our sessions."""
        return ("pgops.migrations rehearsal %s" % self.run_id).strip()


class Source:
    """Of one rehearsal; C(check), C(copied), C(prove), C(guard) and C(back) are called in this order.

    :ivar point: what a result tells of the restore point; empty for a template copy.
    :ivar seconds: of each step of making the copy.
    :ivar brings_back_the_source: whether the way back leads to what was copied, also where that was masked in the copy.
    """

    brings_back_the_source = False

    def __init__(self, target: Target, options: SourceOptions) -> None:
        self.target, self.options = target, options
        #: The database's name on the server of the copy; there it need not exist.
        self.place = dataclasses.replace(options.elsewhere, dbname=target.dbname, schema=target.schema) if options.elsewhere else target
        self.point: dict[str, t.Any] = {}
        self.seconds: dict[str, float] = {}
        self.warnings: list[str] = []
        self.identity: dict[str, t.Any] = {}
        self.there: dict[str, t.Any] = {}
        self.live: dict[str, t.Any] = {}

    @contextlib.contextmanager
    def used(self) -> t.Iterator[None]:
        """Nobody takes it away in this block."""
        yield

    def check(self) -> None:
        """All that can be refused before something is made. The live database is only asked for its properties."""
        entry = dataclasses.replace(self.place, dbname=self.options.maintenance_db) if self.options.elsewhere else self.target
        demand_right(entry, self.options.name)
        with contextlib.ExitStack() as stack:
            conn = stack.enter_context(connection(self.target, application_name=self.options.name, settings=QUIET, read_only=True))
            self.identity = identify(conn)
            demand_writable(dict(self.identity, read_only=False))
            self.live = read_settings(conn, int(self.identity["database_oid"]))
            beside = conn
            if self.options.elsewhere:
                beside = stack.enter_context(connection(entry, application_name=self.options.name, settings=QUIET, read_only=True))
            self.there = identify(beside) if self.options.elsewhere else self.identity
            demand_writable(dict(self.there, read_only=False))
            majors = [int(each["server_version_num"]) // 10000 for each in (self.identity, self.there)]
            if majors[0] != majors[1]:
                why = "%s is on PostgreSQL %d, and the server of the rehearsal is %d" % (self.target.dbname, majors[0], majors[1])
                raise MigrationError(why, code="VERSION_MISMATCH", next_step="rehearse on a server of the same major version")
            self._check(beside)

    def _check(self, beside: t.Any) -> None:
        """:param beside: a connection on the server of the copy."""
        raise NotImplementedError

    def copied(self, lock: t.Any) -> t.ContextManager[str]:
        """The name of a database with the source's content, dropped at the end of the block."""
        raise NotImplementedError

    def prove(self, found: t.Mapping[str, t.Any], pending: t.Collection[str]) -> None:
        """:raises MigrationError: ``FINGERPRINT_MISMATCH`` when this fingerprint of the copy is not that of the source."""
        raise NotImplementedError

    def guard(self, target: Target) -> None:
        """What has to be done with the copy before the deploy, so that there is a way back."""

    def back(self, target: Target) -> dict[str, t.Any]:
        """Bring the copy to what it was; C(seconds), C(warnings)."""
        raise NotImplementedError

    def carry_settings(self, lock: t.Any, name: str) -> None:
        """What is set for the live database (a search_path, say) holds for the deploy, so it must for the copy.

        :raises MigrationError: ``RESTORE_PREREQUISITE`` where this role may not set it, for then the way back of the live database fails, too.
        """
        oid = database_oid(lock, name) or 0
        rehearse_settings(lock, name, oid, self.live, str(self.there["current_user"]))
        apply_settings(lock, name, oid, dict(read_settings(lock, oid), settings=self.live["settings"]))


class FromPoint(Source):
    """A copy that is restored from a dump, which proves the dump."""

    brings_back_the_source = True

    def __init__(self, target: Target, options: SourceOptions) -> None:
        super().__init__(target, options)
        if not options.backup_dir:
            raise MigrationError("source is restore_point, and backup_dir is not given", code="OPTION_INVALID")
        found = choose(target, options.backup_dir, options.restore_point, options.maintenance_db)
        if found["kind"] != DUMP:
            why = "%s is a %s; a copy can be restored from a dump only" % (found["id"], found["kind"])
            raise MigrationError(why, code="DRILL_IMPOSSIBLE", next_step="name a dump, or copy the database: -e rehearsal_source=template")
        self.point = {name: found[name] for name in _TOLD}
        self.path = str(found["path"])
        self.manifest: Manifest
        self.program: Program

    @contextlib.contextmanager
    def used(self) -> t.Iterator[None]:
        with in_use(self.path):
            yield

    def _check(self, beside: t.Any) -> None:
        with timed(self.seconds, "check"):
            self.manifest = load(self.path)
            demand_same_database(self.manifest, self.identity)
            self.program = find_program("pg_restore", self.there["server_version_num"], self.options.pg_bin_dir)
            self.warnings += prerequisites(beside, self.manifest, self.there)
            # The copy, and the one that the way back restores beside it.
            demand_room(beside, self.target, self.there, int(2 * self.manifest.target["size_bytes"] * ROOM))

    @contextlib.contextmanager
    def copied(self, lock: t.Any) -> t.Iterator[str]:
        options = self.options
        with private_umask(), timed(self.seconds, "read"):
            read_through(self.program, self.path, self.manifest, self.target, options.decryption)
        with contextlib.ExitStack() as stack:
            with making_room():
                name = stack.enter_context(scratch_database(self.place, lock, self.live, DRILL, options.run_id))
            with private_umask(), timed(self.seconds, "restore"):
                superuser = bool(self.there["superuser"])
                fill(self.place, name, self.program, self.path, self.manifest, options.jobs, superuser, options.name, options.decryption)
            with timed(self.seconds, "analyze"):
                analyze(self.place, name, options.name)
            self.carry_settings(lock, name)
            yield name

    def prove(self, found: t.Mapping[str, t.Any], pending: t.Collection[str]) -> None:
        _equal(self.manifest.expected(found), found, "the copy differs from what was backed up")
        # The same as a drill does, so it counts as one.
        seconds = dict(self.seconds, check=round(self.seconds["check"] + self.seconds["read"], 3))
        del seconds["read"]
        seconds["total"] = round(sum(seconds.get(phase, 0.0) for phase in PHASES), 3)
        with private_umask():
            write_proof(self.path, digest(self.manifest), DRILL, self.options.run_id, now(), seconds)

    def back(self, target: Target) -> dict[str, t.Any]:
        options, seconds = self.options, t.cast("dict[str, float]", {})
        with private_umask(), run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
            with connection(target, application_name=options.name, settings=QUIET) as conn:
                identity = identify(conn)
            manifest = dataclasses.replace(self.manifest, target=dict(self.manifest.target, database=target.dbname))
            wanted = RestoreOptions(
                restore_point=self.path, jobs=options.jobs, pg_bin_dir=options.pg_bin_dir, maintenance_db=options.maintenance_db, lock_wait=options.lock_wait,
                run_id=options.run_id, identity_file=options.identity_file, gpg_home=options.gpg_home,
            )  # fmt: skip
            way = RestoreRun(target, wanted, manifest, self.program, identity, lock)
            warnings = way.preflight()
            return {"seconds": seconds, "warnings": warnings + list(way.restore(seconds)["warnings"])}


class FromTemplate(Source):
    """A copy that the server makes of the files of the live database; nobody may be connected to that meanwhile."""

    def __init__(self, target: Target, options: SourceOptions) -> None:
        super().__init__(target, options)
        if options.restore_point:
            raise MigrationError("source is template, and a restore point is named", code="OPTION_INVALID")
        if options.elsewhere:
            raise MigrationError("source is template, and a server copies its own databases only", code="OPTION_INVALID")
        self.snapshot: dict[str, t.Any] = {}

    def _check(self, beside: t.Any) -> None:
        demand_room(beside, self.target, self.identity, int(2 * self.identity["size_bytes"] * ROOM))
        with contextlib.closing(maintenance_connection(self.target, self.options.maintenance_db, self.options.run_id)) as conn:
            # Our own session is about to end.
            beside.close()
            self._demand_alone(conn)

    def _demand_alone(self, conn: t.Any) -> None:
        """Sessions that are about to end, our own of a moment ago among them, are waited for."""
        until = time.monotonic() + PATIENCE
        while True:
            try:
                demand_leaving(conn, self.target.dbname, int(self.identity["database_oid"]), False)
                return
            except MigrationError as error:
                if error.code != "SESSIONS_REMAIN" or time.monotonic() >= until:
                    error.next_step = "stop the application, or rehearse on a restore point: -e rehearsal_source=restore_point"
                    raise
            time.sleep(0.05)

    @contextlib.contextmanager
    def copied(self, lock: t.Any) -> t.Iterator[str]:
        name = derived_name(self.target.dbname, DRILL, new_id())
        strategy = choose_strategy("auto", self.identity["size_bytes"], self.identity["server_version_num"])
        parts = [sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(self.target.dbname))]
        parts.append(sql.SQL("OWNER {} ALLOW_CONNECTIONS false").format(sql.Identifier(self.live["owner"])))
        if strategy.named:
            parts.append(sql.SQL("STRATEGY {}").format(sql.Literal(strategy.name)))
        try:
            with timed(self.seconds, "copy"):
                self._demand_alone(lock)
                # By this name a way back of the live database knows whom it may cancel.
                execute(lock, "SET application_name = %s", (("%s %s" % (DRILL_NAME, self.options.run_id)).strip(),))
                # While it waits for its lock, new connections of the application wait behind it.
                execute(lock, "SET lock_timeout = '3s'")
                self._make(lock, name, sql.SQL(" ").join(parts))
                execute(lock, "SET lock_timeout = 0")
            self.carry_settings(lock, name)
            yield name
        finally:
            # What cannot be dropped now carries its marker, and the next run drops it.
            with contextlib.suppress(MigrationError, psycopg2.Error):
                drop(lock, self.target, name)

    def _make(self, lock: t.Any, name: str, statement: t.Any) -> None:
        try:
            make(lock, self.target, name, statement, DRILL, run_id=self.options.run_id)
        except MigrationError as error:
            if error.facts.get("sqlstate") in RETRIED:
                raise MigrationError(error.msg, code="COPY_REFUSED", next_step="run again when nobody is connected", **error.facts) from None
            code = "COPY_FAILED" if error.code == "RESTORE_FAILED" else error.code
            raise MigrationError(error.msg, code=code, **error.facts) from None

    def prove(self, found: t.Mapping[str, t.Any], pending: t.Collection[str]) -> None:
        with connection(self.target, application_name=self.options.name, settings=QUIET, read_only=True) as conn:
            live = plain(take(conn, level="full", pending=pending))
        _equal(live, found, "the copy differs from the live database (somebody may have written since it was made)")

    def guard(self, target: Target) -> None:
        with timed(self.seconds, "snapshot"):
            wanted = CopyOptions(run_id=self.options.run_id, maintenance_db=self.options.maintenance_db, lock_wait=self.options.lock_wait)
            self.snapshot = copy(target, wanted)["snapshot"]

    def back(self, target: Target) -> dict[str, t.Any]:
        wanted = RestoreOptions(
            from_database=str(self.snapshot["name"]), confirm=str(self.snapshot["confirmation"]), maintenance_db=self.options.maintenance_db,
            lock_wait=self.options.lock_wait, run_id=self.options.run_id,
        )  # fmt: skip
        done = restore(target, wanted)
        return {"seconds": done["seconds"], "warnings": done["warnings"]}


class ToBeTaken(Source):
    """The restore point that the run takes first: in check mode there is none, and nothing is copied."""

    def _check(self, beside: t.Any) -> None:
        find_program("pg_restore", self.there["server_version_num"], self.options.pg_bin_dir)
        demand_room(beside, self.target, self.there, int(2 * self.identity["size_bytes"] * ROOM))


def _equal(wanted: t.Mapping[str, t.Any], found: t.Mapping[str, t.Any], words: str) -> None:
    differences = compare(wanted, found)
    if differences:
        raise MigrationError("%s in %d places" % (words, len(differences)), code="FINGERPRINT_MISMATCH", differences=plain(differences))


def open_source(kind: str, target: Target, options: SourceOptions) -> Source:
    """:raises MigrationError: ``BACKUP_NOT_FOUND``, ``DRILL_IMPOSSIBLE``, ``OPTION_INVALID``."""
    if kind not in (RESTORE_POINT, TEMPLATE):
        raise MigrationError("source is %r and not one of %s, %s" % (kind, RESTORE_POINT, TEMPLATE), code="OPTION_INVALID")
    if kind == RESTORE_POINT and options.restore_point == NEW:
        return ToBeTaken(target, options)
    return FromPoint(target, options) if kind == RESTORE_POINT else FromTemplate(target, options)


__all__ = ("NEW", "RESTORE_POINT", "TEMPLATE", "Source", "SourceOptions", "open_source")
