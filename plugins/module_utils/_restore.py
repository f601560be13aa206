# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Go back to a restore point: into a database beside the live one, verified, then swapped.

Nothing is ever restored over the live database, and nothing that was live is dropped.
Until the swap only databases with our own marker are made or dropped.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._at_work import demand_free
from ansible_collections.pgops.migrations.plugins.module_utils._backup import new_id, now
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts, read_ledger
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, psycopg2, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._encryption import verify_signature
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import told
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest, derived_name
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program, find_program
from ansible_collections.pgops.migrations.plugins.module_utils._recreate import beside, is_gone, recreate
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import (
    demand_same_database,
    demand_swappable,
    load,
    prerequisites,
    read_before,
    read_through,
    rehearse_settings,
)
from ansible_collections.pgops.migrations.plugins.module_utils._restore_common import (
    RestoreOptions,
    demand_confirmed,
    demand_options,
    size,
    timed,
)
from ansible_collections.pgops.migrations.plugins.module_utils._restore_ledger import compared, standing
from ansible_collections.pgops.migrations.plugins.module_utils._restore_loss import differs, loss_to_archive, not_measured
from ansible_collections.pgops.migrations.plugins.module_utils._restore_proof import analyze_and_verify
from ansible_collections.pgops.migrations.plugins.module_utils._restore_sibling import restore_sibling
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import STAGING, create, drop_left
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import in_use
from ansible_collections.pgops.migrations.plugins.module_utils._staging import fill
from ansible_collections.pgops.migrations.plugins.module_utils._storage import private_umask
from ansible_collections.pgops.migrations.plugins.module_utils._swap import Swapped, database_oid, sessions, swap
from ansible_collections.pgops.migrations.plugins.module_utils._typed import is_confirmed, to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def restore(target: Target, options: RestoreOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Bring the database back to the restore point; the former database is kept under another name.

    :returns: C(changed), C(kept), C(restored), C(seconds), C(comparison), C(loss), C(undone), C(redone), C(confirmation), C(warnings).
    :raises MigrationError: until the swap is committed the live database is as it was.
    """
    demand_options(target, options)
    # What would be lost is of no use where it is measured while it changes; it takes its lock only when it is to write.
    demand_free(target, options.maintenance_db, options.lock_wait, options.run_id)
    before = None if check_mode else standing(target, options.name("check"))
    result = _by_its_kind(target, options, check_mode)
    after = standing(target, options.name("check")) if result["changed"] and not check_mode else None
    # As it is printed, too: in the words of who goes back.
    return dict(result, loss=told(result["loss"]), **compared(before, after))


def _by_its_kind(target: Target, options: RestoreOptions, check_mode: bool) -> dict[str, t.Any]:
    if options.from_database:
        try:
            return restore_sibling(target, options, check_mode)
        except MigrationError as error:
            if error.code == "DATABASE_MISSING":
                # There is nothing to swap it with: only its name is wanted.
                error.next_step = beside(target, options.maintenance_db) or error.next_step
            raise
    seconds: dict[str, float] = {}
    with private_umask():
        manifest = load_trusted(options, seconds)
        with in_use(options.restore_point):
            try:
                return _restore(target, options, manifest, seconds, check_mode)
            except MigrationError as error:
                # Said by the first connection, before anything was done.
                if error.code != "DATABASE_MISSING" or not is_gone(target, options.maintenance_db):
                    raise
            return recreate(target, options, manifest, seconds, check_mode)


def load_trusted(options: RestoreOptions, seconds: dict[str, float]) -> Manifest:
    """The manifest, after every file was compared with it, and its signature where one is asked for."""
    with timed(seconds, "load"):
        if options.signed_by:
            verify_signature(options.restore_point, options.gpg_home, options.signed_by)
        return load(options.restore_point)


def _restore(target: Target, options: RestoreOptions, manifest: Manifest, seconds: dict[str, float], check_mode: bool) -> dict[str, t.Any]:
    with timed(seconds, "check"):
        with connection(target, application_name=options.name("check"), settings=QUIET) as conn:
            identity = identify(conn)
            other = _has_another_ledger(conn, manifest)
        demand_writable(identity)
        demand_same_database(manifest, identity)
        program = find_program("pg_restore", identity["server_version_num"], options.pg_bin_dir)
    with timed(seconds, "loss"), concurrent.futures.ThreadPoolExecutor(1) as pool:
        # A program of its own reads the archive, while the server reads the live database.
        reading = pool.submit(_read, program, manifest, target, options, seconds)
        # Who confirms was shown the rows by the run that asked for it; the way back shall not take longer than it must.
        exact = check_mode or options.loss == "before" or not is_confirmed(options.confirm, manifest.confirmation(), target.dbname)
        if not exact and (other or differs(target, manifest, options)):
            # It is not equal, whatever its rows hold; reading all of them would only hold up the rescue.
            loss, equal = not_measured(target, options), False
        else:
            loss, equal = loss_to_archive(target, manifest, program, options, exact)
        reading.result()
    result: dict[str, t.Any] = {
        "database": target.dbname,
        "restore_point": {"id": manifest.id, "path": os.path.normpath(options.restore_point), "kind": "dump"}, "loss": loss, "seconds": seconds,
        "confirmation": to_type(manifest.confirmation(), target.dbname), "restored": size(manifest.fingerprint),
        "warnings": [] if loss["known"] or loss.get("measured") is False else ["what will be lost is not known: %s" % loss["reason"]],
    }  # fmt: skip
    if equal and not options.force:
        return dict(result, changed=False, kept="", comparison="equal")
    if not check_mode:
        demand_confirmed(options, manifest.confirmation(), result)
    with run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
        run = RestoreRun(target, options, manifest, program, identity, lock)
        result["warnings"] += run.preflight()
        if check_mode:
            return dict(result, changed=True, kept=run.kept, comparison="")
        done = run.restore(seconds)
        result["warnings"] += done.pop("warnings")
        return dict(result, changed=True, **done)


def _has_another_ledger(conn: t.Any, manifest: Manifest) -> bool:
    """Whether the ledger is surely not the restore point's; false where that is not known."""
    if manifest.ledger is None:
        return False
    try:
        found = read_ledger(conn, manifest.ledger["schema"])
    except psycopg2.Error:
        return False
    return found is None or found["digest"] != manifest.ledger["digest"]


def _read(program: Program, manifest: Manifest, target: Target, options: RestoreOptions, seconds: dict[str, float]) -> None:
    with timed(seconds, "read"):
        # Every file has the bytes that this very version has read in full when the restore point was taken.
        if not read_before(options.restore_point, manifest, program):
            read_through(program, options.restore_point, manifest, target, options.decryption)


class RestoreRun:
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
            with connection(self.target, application_name=self.options.name("check"), settings=QUIET, read_only=True) as conn:
                warnings = prerequisites(conn, self.manifest, self.identity)
            stubborn = sorted({str(session[1]) for session in sessions(self.lock, self.live_oid) if not session[4]})
            if stubborn:
                warnings.append("sessions of %s must leave %s by themselves before the swap" % (", ".join(stubborn), self.target.dbname))
            return warnings

    def restore(self, seconds: dict[str, float]) -> dict[str, t.Any]:
        """Stage, verify, swap."""
        drop_left(self.lock, self.target, STAGING)
        name = self.options.name("restore")
        try:
            with timed(seconds, "restore"):
                self._create()
                fill(
                    self.target, self.staging, self.program, self.options.restore_point, self.manifest, jobs=self.options.jobs,
                    superuser=bool(self.identity["superuser"]), application_name=name, decryption=self.options.decryption,
                )  # fmt: skip
            with timed(seconds, "verify"):
                analyze_and_verify(self.target, self.staging, self.manifest, name)
            with sql_errors("check the server", self.target):
                demand_swappable(self.lock, self.target.dbname, self.live_oid)
            with timed(seconds, "swap"):
                done = self._swap()
        except BaseException:
            # After a swap the staging database is live and has lost its marker, so it is safe from this.
            with contextlib.suppress(MigrationError, psycopg2.Error):
                drop_left(self.lock, self.target, STAGING)
            raise
        seconds["unavailable"] = done.seconds
        return {
            "kept": self.kept,
            "comparison": "equal",
            "attempts": done.attempts,
            "terminated": done.terminated,
            "warnings": list(done.warnings),
        }

    def _create(self) -> None:
        live = read_settings(self.lock, self.live_oid)
        self.staging_oid, comment = create(self.lock, self.target, self.staging, live, STAGING, run_id=self.options.run_id, restore_point=self.manifest.id)
        with sql_errors("make the staging database", self.target, default="RESTORE_FAILED"):
            rehearse_settings(self.lock, self.staging, self.staging_oid, dict(live, comment=comment), str(self.identity["current_user"]))

    def _swap(self) -> Swapped:
        return swap(
            self.target, self.staging, self.kept, maintenance_db=self.options.maintenance_db, run_id=self.options.run_id, at=now(), live_oid=self.live_oid,
            staging_oid=self.staging_oid,
        )  # fmt: skip


__all__ = ("RestoreOptions", "RestoreRun", "restore")
