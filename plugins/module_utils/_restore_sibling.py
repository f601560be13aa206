# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Go back to a database that is there already, a snapshot or a kept one: by the swap alone."""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup import new_id, now
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import maintenance_connection, run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name
from ansible_collections.pgops.migrations.plugins.module_utils._marked import marked
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import demand_swappable, rehearse_settings
from ansible_collections.pgops.migrations.plugins.module_utils._restore_common import RestoreOptions, demand_confirmed, size, timed
from ansible_collections.pgops.migrations.plugins.module_utils._restore_loss import loss_to_sibling, not_measured
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid, swap
from ansible_collections.pgops.migrations.plugins.module_utils._typed import is_confirmed, to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: A snapshot was made to go back to; a kept database is what an earlier rollback replaced.
SWAPPABLE = ("snapshot", "kept")
_LEAVE_OUT = "there is none at all; leave out migration_from_database to have the way back chosen"


@dataclasses.dataclass(frozen=True)
class Sibling:
    """A database of ours beside the live one."""

    name: str
    oid: int
    kind: str
    facts: t.Mapping[str, t.Any]
    open: bool = False

    @property
    def id(self) -> str:
        """What identifies it to an operator: the snapshot's id, else its name."""
        return str(self.facts.get("id") or self.name)

    def confirmation(self, dbname: str) -> str:
        """What an operator types: the database and the run that made the sibling."""
        return "%s %s" % (dbname, self.facts.get("run_id") or self.id)


def restore_sibling(target: Target, options: RestoreOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Swap a snapshot or a kept database in; what was live is kept in turn.

    :returns: as ``_restore.restore``; C(comparison) is C(same_database): nothing was copied.
    :raises MigrationError: ``BACKUP_NOT_FOUND``, ``BACKUP_FOREIGN``, ``CONFIRMATION_MISSING``, ``SWAP_REFUSED`` ...
    """
    seconds: dict[str, float] = {}
    with timed(seconds, "check"):
        with connection(target, application_name=options.name("check"), settings=QUIET) as conn:
            identity = identify(conn)
        demand_writable(identity)
        live_oid = int(identity["database_oid"])
        with contextlib.closing(maintenance_connection(target, options.maintenance_db, options.run_id)) as conn, sql_errors("look for the database", target):
            siblings = _siblings(conn, target)
        source = next((each for each in siblings if each.name == options.from_database and each.kind in SWAPPABLE), None)
        result: dict[str, t.Any] = {"database": target.dbname, "seconds": seconds, "warnings": [], "restored": {}, "loss": {}}
        result.update(comparison="", kept="", confirmation="")
        if source is None:
            return dict(result, **_already(siblings, options, live_oid, target))
        result["restore_point"] = {"id": source.id, "path": "", "database": source.name, "kind": source.kind}
        if source.open:
            # It is closed when it is made; somebody opened it since.
            word = {"kept": "kept database"}.get(source.kind, source.kind)
            said = "the %s %s was opened for connections: it may hold more or less than when it was made" % (word, source.name)
            result["warnings"].append(said)
            result["restore_point"]["opened"] = True
        result["confirmation"] = to_type(source.confirmation(target.dbname), target.dbname)
        confirmed = is_confirmed(options.confirm, source.confirmation(target.dbname), target.dbname)
        if options.loss == "before" or check_mode or not confirmed:
            loss, equal, fingerprint = loss_to_sibling(target, source.name, options)
            result.update(loss=loss, restored=size(fingerprint) if fingerprint else {})
            if equal and not options.force:
                return dict(result, changed=False, comparison="equal")
        else:
            # Shown by the run that asked for the confirmation; now the way back shall take no longer than the swap.
            result["loss"] = not_measured(target, options)
    if not check_mode:
        demand_confirmed(options, source.confirmation(target.dbname), result)
    with run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
        kept = derived_name(target.dbname, "kept", new_id())
        with sql_errors("check the server", target):
            no_timeouts(lock)
            if database_oid(lock, target.dbname) != live_oid or database_oid(lock, source.name) != source.oid:
                raise MigrationError("%s or %s is another database than a moment ago" % (target.dbname, source.name), code="WRONG_TARGET")
            demand_swappable(lock, target.dbname, live_oid)
            demand_swappable(lock, source.name, source.oid)
            rehearse_settings(lock, source.name, source.oid, read_settings(lock, live_oid), str(identity["current_user"]))
        if check_mode:
            return dict(result, changed=True, kept=kept)
        with timed(seconds, "swap"):
            done = swap(
                target, source.name, kept, maintenance_db=options.maintenance_db, run_id=options.run_id, at=now(), live_oid=live_oid, staging_oid=source.oid,
                facts={"restored_from": source.name, "restored_oid": source.oid, "restored_id": source.id},
            )  # fmt: skip
    seconds["unavailable"] = done.seconds
    result["warnings"] += done.warnings
    return dict(result, changed=True, kept=kept, comparison="same_database", attempts=done.attempts, terminated=done.terminated)


def _siblings(conn: t.Any, target: Target) -> list[Sibling]:
    return [Sibling(each.name, each.oid, each.kind, each.facts, each.open) for each in marked(conn, target.dbname)]


def _already(siblings: t.Sequence[Sibling], options: RestoreOptions, live_oid: int, target: Target) -> dict[str, t.Any]:
    """A run that was confirmed before and did it: the sibling is the live database now, known by its OID."""
    for sibling in siblings:
        if sibling.kind == "kept" and sibling.facts.get("restored_from") == options.from_database and sibling.facts.get("restored_oid") == live_oid:
            point = {"id": str(sibling.facts.get("restored_id") or ""), "path": "", "database": options.from_database, "kind": "snapshot"}
            return {"changed": False, "kept": sibling.name, "comparison": "same_database", "restore_point": point}
    names = [sibling.name for sibling in siblings if sibling.kind in SWAPPABLE]
    raise MigrationError(
        "there is no snapshot and no kept database of %s with the name %s" % (target.dbname, options.from_database),
        code="BACKUP_NOT_FOUND",
        next_step="name one of: %s" % ", ".join(names) if names else _LEAVE_OUT,
    )


__all__ = ("SWAPPABLE", "Sibling", "restore_sibling")
