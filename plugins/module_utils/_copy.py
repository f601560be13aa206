# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A sibling database as restore point: CREATE DATABASE .. TEMPLATE of the live one.

The copy is closed from its first moment. Its comment is its only record and is written
when the copy is whole, so a copy without one is the leftover of a run that was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, new_id, no_timeouts, now, read_ledger, sequence_values
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._copy_strategy import SNAPSHOT, Marks, Strategy, choose, is_present
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evict import PATIENCE, demand_leaving, evicting, listen, watcher
from ansible_collections.pgops.migrations.plugins.module_utils._evidence import next_xid
from ansible_collections.pgops.migrations.plugins.module_utils._external_record import record_sequences
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name, is_database_name, plain
from ansible_collections.pgops.migrations.plugins.module_utils._points import folder_of
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import demand_swappable
from ansible_collections.pgops.migrations.plugins.module_utils._reuse import manifests, next_sequence
from ansible_collections.pgops.migrations.plugins.module_utils._snapshots import demand_first_of_run, drop_snapshot, leftovers, snapshots, summary
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: While CREATE DATABASE waits for its lock, new connections wait behind it.
SETTINGS = dict(QUIET, lock_timeout="3s", default_transaction_read_only="off", synchronous_commit="on")
#: In use, lock not available, cancelled, deadlock: nothing was made, and it is worth another try.
RETRIED = frozenset(("55006", "55P03", "57014", "40P01"))
#: With these a plain copy would end in the same way as a clone.
_SAME_WITHOUT_CLONE = RETRIED | {"42501", "42P04", "53100", "57P01", "57P02"}
_ME = """
SELECT r.rolsuper OR r.rolcreatedb, r.rolsuper OR pg_has_role(d.datdba, 'USAGE'), r.rolname, pg_get_userbyid(d.datdba)
  FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.oid = %s
"""
# What is written without a transaction id: unlogged tables, and sequences where this role may not read their values.
_UNSEEN = """
SELECT EXISTS (SELECT FROM pg_class WHERE relpersistence = 'u'
               OR CASE WHEN relkind = 'S' AND relpersistence <> 't' THEN NOT has_sequence_privilege(oid, 'SELECT,USAGE') END)
"""


@dataclasses.dataclass(frozen=True)
class CopyOptions:
    """Options of database_copy; times in seconds."""

    state: str = "present"
    name: str = ""
    id: str = ""
    sessions: str = "refuse"
    attempts: int = 3
    strategy: str = "auto"
    verify: bool = False
    reuse: bool = False
    backup_dir: str = ""
    run_id: str = ""
    label: str = ""
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0


def copy(target: Target, options: CopyOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Make (or with C(state=absent) drop) a snapshot; C(changed), C(snapshot), C(seconds), C(warnings), ...

    :raises MigrationError: ``SESSIONS_REMAIN`` (with ``sessions``), ``COPY_REFUSED``, ``COPY_FAILED``, ``DISK_FULL``, ... Nothing is left then.
    """
    if options.maintenance_db == target.dbname:
        raise MigrationError("maintenance_db is %s itself; it must be another database" % target.dbname, code="OPTION_INVALID")
    if options.name and (not is_database_name(options.name) or options.name == target.dbname):
        raise MigrationError("%r cannot be the name of a copy of %s" % (options.name, target.dbname), code="NAME_UNUSABLE")
    if options.attempts < 1:
        raise MigrationError("attempts is %d" % options.attempts, code="OPTION_INVALID")
    began = time.monotonic()
    with run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
        no_timeouts(lock)
        execute(lock, "SET default_transaction_read_only = off")
        if options.state == "absent":
            return drop_snapshot(target, lock, options.name, options.id, check_mode)
        return _Run(target, options, lock, began).work(check_mode)


class _Run:
    """One copy under the run's lock."""

    def __init__(self, target: Target, options: CopyOptions, lock: t.Any, began: float) -> None:
        self.target, self.options, self.lock, self.began = target, options, lock, began
        self.id, self.made_oid, self.terminated = new_id(), 0, 0
        self.made = derived_name(target.dbname, SNAPSHOT, self.id)
        self.app_name = ("pgops.migrations copy %s" % options.run_id).strip()

    def work(self, check_mode: bool) -> dict[str, t.Any]:
        with self._source() as conn, sql_errors("read the database", self.target):
            self.identity = identify(conn)
            demand_writable(self.identity)
            self.oid = int(self.identity["database_oid"])
            before = self._marks(conn)
        strategy = choose(self.options.strategy, self.identity["size_bytes"], self.identity["server_version_num"])
        with sql_errors("check the server", self.target):
            found = snapshots(self.lock, self.target.dbname)
            warnings = ["%s was left by a run that did not end; it is no snapshot" % name for name in leftovers(self.lock, self.target.dbname)]
            result: dict[str, t.Any] = {"terminated": 0, "attempts": 0, "seconds": {}, "strategy": "", "cloned": False, "warnings": warnings}
            newest = found[-1] if found else None
            if newest and self.options.name in ("", newest["name"]) and self._holds_present(newest, before):
                return dict(result, changed=False, reused=True, snapshot=summary(newest, self.target.dbname))
            warnings += self._preflight()
            demand_first_of_run(found, self.options.run_id, self.target.dbname)
        folder = folder_of(self.target, self.options.backup_dir) if self.options.backup_dir else ""
        others = [each["sequence"] for each in found] + (record_sequences(folder) if folder else [])
        sequence = next_sequence(manifests(folder) if folder else [], others)
        facts: dict[str, t.Any] = {
            "id": self.id, "run_id": self.options.run_id, "label": self.options.label, "at": now(), "sequence": sequence, "source_oid": self.oid,
            "system_identifier": self.identity["system_identifier"], "ledger": before.ledger, "fingerprint_digest": "", "lsn": self.identity["lsn"],
            "sequences": before.sequences, "next_xid": 0,
        }  # fmt: skip
        shown = dict(facts, name=self.options.name or self.made, oid=None, size_bytes=self.identity["size_bytes"])
        result.update(changed=True, reused=False, strategy=strategy.name)
        if check_mode:
            return dict(result, snapshot=dict(summary(shown, self.target.dbname), id="", name=self.options.name, confirmation=""))
        result["seconds"], result["cloned"], result["attempts"] = self._create(strategy)
        _failpoint.reached("copy:created")
        try:
            shown["oid"] = self._finish(facts, before, result["seconds"])
        except BaseException:
            # Also after the commit of the mark: what is reported as failed shall not be used.
            with contextlib.suppress(MigrationError, psycopg2.Error):
                for name in (self.made, self.options.name):
                    if name and database_oid(self.lock, name) == self.made_oid:
                        execute(self.lock, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))
            raise
        return dict(result, terminated=self.terminated, snapshot=summary(dict(shown, **facts), self.target.dbname))

    def _source(self, dbname: str | None = None) -> t.Any:
        return connection(self.target, dbname, application_name=self.app_name, settings=QUIET)

    def _marks(self, conn: t.Any) -> Marks:
        """The transaction id first: what is written after it shows."""
        xid = next_xid(conn)
        unseen = (row(conn, _UNSEEN) or (True,))[0]
        values = json.dumps(sequence_values(conn), sort_keys=True)
        sequences = "" if unseen else hashlib.sha256(values.encode("utf-8", "surrogatepass")).hexdigest()
        return Marks(self.identity["system_identifier"], self.oid, xid, sequences, plain(read_ledger(conn, self.target.schema)))

    def _holds_present(self, newest: t.Mapping[str, t.Any], marks: Marks) -> bool:
        if is_present(newest, marks):
            return True
        if not self.options.reuse or not newest.get("fingerprint_digest") or newest.get("system_identifier") != marks.system_identifier:
            return False
        with self._source() as conn:
            return bool(take(conn, level="full")["digest"] == newest["fingerprint_digest"])

    def _preflight(self) -> list[str]:
        """Everything that can be refused before something is made; warnings."""
        name = self.target.dbname
        creates, owns, role, self.owner = row(self.lock, _ME, (self.oid,)) or (False, False, "", "")
        lacking = " and ".join(["the right to create databases (CREATEDB)"] * (not creates) + ["the rights of the owner of %s" % name] * (not owns))
        if lacking:
            raise MigrationError("the role %s lacks %s, which a copy needs" % (role, lacking), code="PERMISSION_DENIED")
        if database_oid(self.lock, name) != self.oid:
            raise MigrationError("%s is another database than a moment ago" % name, code="WRONG_TARGET")
        if self.options.name and database_oid(self.lock, self.options.name) is not None:
            raise MigrationError("the name %s is taken" % self.options.name, code="COPY_REFUSED")
        warnings = []
        try:
            demand_swappable(self.lock, name, self.oid)
        except MigrationError as error:
            if error.code != "SWAP_REFUSED":
                raise
            if "prepared_transactions" in error.facts:
                raise MigrationError(error.msg, code="COPY_REFUSED", **error.facts) from None
            warnings = ["the copy will be of no use for a rollback while this is so: %s" % error.msg]
        self._demand_leaving()
        return warnings

    def _demand_leaving(self, patience: float = PATIENCE) -> None:
        """:raises MigrationError: ``SESSIONS_REMAIN``."""
        end = self.options.sessions == "end"
        try:
            demand_leaving(self.lock, self.target.dbname, self.oid, end, patience)
        except MigrationError as error:
            if not end:
                error.next_step = "stop the application, or have its sessions ended: -e backup_snapshot_sessions=end (sessions: end of database_copy)"
            raise

    def _create(self, strategy: Strategy) -> tuple[dict[str, float], bool, int]:
        """The bare copy; seconds, whether it was cloned, and how many tries it took."""
        clone = strategy.clone
        for attempt in range(1, self.options.attempts + 1):
            while True:
                try:
                    emptied = self._try(strategy, clone)
                    seconds = {"wait": round(emptied - self.began, 3), "copy": round(time.monotonic() - emptied, 3)}
                    return seconds, clone, attempt
                except psycopg2.Error as error:
                    if clone and error.pgcode and error.pgcode not in _SAME_WITHOUT_CLONE:
                        # The file system cannot.
                        clone = False
                        continue
                    if error.pgcode not in RETRIED or attempt == self.options.attempts:
                        if error.pgcode == "55006":
                            self._demand_leaving(0.0)
                        with sql_errors("copy %s" % self.target.dbname, self.target, default="COPY_FAILED"):
                            raise
                break
            time.sleep(0.2 * attempt)
            self._demand_leaving()
        raise MigrationError("no try was made", code="INTERNAL")

    def _try(self, strategy: Strategy, clone: bool) -> float:
        """The moment when nobody was in the source any more, and all that followed was copying."""
        statement = self._statement(strategy)
        with contextlib.ExitStack() as stack:
            conn = stack.enter_context(connection(self.target, self.options.maintenance_db, application_name=self.app_name, settings=SETTINGS))
            no_timeouts(conn)
            channel = listen(conn)
            if clone:
                # Refused where the server was built without it.
                execute(conn, "SET file_copy_method = 'clone'")
            if self.options.sessions != "end":
                began = time.monotonic()
                execute(conn, statement)
                return began
            helper = stack.enter_context(watcher(self.target, self.options.maintenance_db, self.app_name))
            eviction = stack.enter_context(evicting(helper, conn, channel, self.oid))
            began = time.monotonic()
            try:
                execute(conn, statement)
            finally:
                eviction.stop()
                self.terminated += len(eviction.ended)
            return eviction.emptied or began

    def _statement(self, strategy: Strategy) -> t.Any:
        parts = [sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(self.made), sql.Identifier(self.target.dbname))]
        parts.append(sql.SQL("OWNER {} ALLOW_CONNECTIONS false").format(sql.Identifier(self.owner)))
        if strategy.named:
            parts.append(sql.SQL("STRATEGY {}").format(sql.Literal(strategy.name)))
        return sql.SQL(" ").join(parts)

    def _finish(self, facts: dict[str, t.Any], before: Marks, seconds: dict[str, float]) -> int:
        """Make a whole copy a snapshot, by its comment; its OID."""
        with sql_errors("mark the copy of %s" % self.target.dbname, self.target, default="COPY_FAILED"):
            self.made_oid = database_oid(self.lock, self.made) or 0
            with self._source() as conn:
                # The same before and after, so it is that of the copy.
                if plain(read_ledger(conn, self.target.schema)) != before.ledger:
                    raise MigrationError("the ledger of %s changed while it was copied" % self.target.dbname, code="LEDGER_MOVED")
            made, transactions = sql.Identifier(self.made), 2
            statements = [sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(made)]
            if self.options.verify:
                began = time.monotonic()
                execute(self.lock, sql.SQL("; ").join([*statements, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(made)]))
                facts["fingerprint_digest"] = self._verified()
                statements, transactions = [sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS false").format(made)], 3
                seconds["verify"] = round(time.monotonic() - began, 3)
            # CREATE DATABASE has used up one, and each message to the server is one.
            facts["next_xid"] = before.next_xid + transactions
            comment = marker(SNAPSHOT, database=self.target.dbname, **facts)
            statements.append(sql.SQL("COMMENT ON DATABASE {} IS {}").format(made, sql.Literal(comment)))
            if self.options.name:
                statements.append(sql.SQL("ALTER DATABASE {} RENAME TO {}").format(made, sql.Identifier(self.options.name)))
            execute(self.lock, sql.SQL("; ").join(statements))
        return self.made_oid

    def _verified(self) -> str:
        """The digest of the copy's fingerprint, which is that of the source."""
        with self._source(self.made) as conn:
            copied = plain(take(conn, level="full"))
        with self._source() as conn:
            differences = compare(copied, plain(take(conn, level="full")))
        if differences:
            raise MigrationError(
                "the copy differs from %s in %d places; somebody may have written since it was made" % (self.target.dbname, len(differences)),
                code="FINGERPRINT_MISMATCH",
                next_step="stop the writers, then run again, or do without verify",
                differences=plain(differences),
            )
        return str(copied["digest"])


__all__ = ("CopyOptions", "copy", "leftovers", "snapshots")
