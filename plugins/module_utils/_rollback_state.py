# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Read what the choice of the way back depends on: ledger, folder, restore points. Reads only."""

from __future__ import annotations

import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._at_work import demand_free, demand_no_migration
from ansible_collections.pgops.migrations.plugins.module_utils._draft_text import undone_by
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import Facts
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME, from_json
from ansible_collections.pgops.migrations.plugins.module_utils._points import list_points
from ansible_collections.pgops.migrations.plugins.module_utils._recreate import beside
from ansible_collections.pgops.migrations.plugins.module_utils._rollback import HOLD, RECOVER, Choice, Point, choose, choose_gone
from ansible_collections.pgops.migrations.plugins.module_utils._survey import project_of, survey
from ansible_collections.pgops.migrations.plugins.module_utils._typed import is_confirmed, option, said, to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import APPLIED

_SAYS = {
    "restore_point": "back to the restore point %(id)s, which undoes %(undo)s",
    "snapshot": "back to the snapshot %(id)s by a swap, which undoes %(undo)s",
    "reverse": "forward by a reverse migration, which undoes %(undo)s",
    "recover": "recover from the unfinished migration %(undo)s",
    "hold": "nothing to undo",
}


def way_back(target: Target, params: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """The choice and the state that it was made from.

    :param params: the options of rollback_info.
    :raises MigrationError: ``LOCKED`` or ``MIGRATION_RUNNING`` while another run is at work; what ``_rollback.choose`` and ``choose_gone`` raise.
    """
    project, folder = project_of(params)
    # Before the survey: what it reads may be locked by that run for as long as it takes.
    demand_free(target, params["maintenance_db"])
    found = survey(target, project, folder)
    demand_no_migration(target, found.facts.lock_holders)
    applied = applied_in_order(found.facts, found.report.named(APPLIED))
    entries = list_points(target, params["backup_dir"], maintenance_db=params["maintenance_db"])["restore_points"]
    points = [point for point in map(as_point, entries) if point is not None]
    if not found.facts.database_exists:
        instead = beside(target, params["maintenance_db"], _oid(points))
        return _answer(target, params, project, found, entries, choose_gone(target.dbname, points, instead, params.get("route") or "auto"), [])
    scripts = {name: undone_by(folder.by_name()[name].sql) for name in applied if name in folder.by_name()}
    reverses = {name: undone for name, undone in scripts.items() if undone}
    # One that was taken back itself has taken nothing back.
    again = {name for undone in reverses.values() for name in undone}
    reverses = {name: undone for name, undone in reverses.items() if name not in again}
    confirmed = _confirmed(target, params.get("confirm") or "", entries)
    choice = choose(found.report, applied, points, params.get("undo") or (), params.get("route") or "auto", reverses, confirmed)
    return _answer(target, params, project, found, entries, choice, applied)


def _confirmed(target: Target, confirm: str, entries: t.Sequence[t.Mapping[str, t.Any]]) -> set[str]:
    """The ids of the restore points that are confirmed; one run may have taken two of them."""
    named = {entry["id"]: "%s %s" % (target.dbname, entry["run_id"] or entry["id"]) for entry in entries}
    return {point for point, wanted in named.items() if is_confirmed(confirm, wanted, target.dbname)}


def _oid(points: t.Sequence[Point]) -> int | None:
    """The OID that the database had when its newest usable dump was taken."""
    for point in points:
        if point.kind == "dump" and point.usable:
            with open(os.path.join(point.place, FILE_NAME), "rb") as handle:
                return int(from_json(handle.read()).target["database_oid"])
    return None


def _answer(  # noqa: PLR0917
    target: Target, params: t.Mapping[str, t.Any], project: t.Any, found: t.Any, entries: t.Any, choice: Choice, applied: t.Sequence[str]
) -> dict[str, t.Any]:
    point = choice.point
    wanted = confirmation(target.dbname, choice, entries)
    return dict(
        choice.as_dict(),
        changed=False,
        database=target.dbname,
        sentence=sentence(choice),
        restore_point_path=point.place if point and point.kind == "dump" else "",
        from_database=point.place if point and point.kind == "snapshot" else "",
        confirmation=to_type(wanted, target.dbname) if wanted else "",
        confirmed=bool(wanted) and is_confirmed(params.get("confirm") or "", wanted, target.dbname),
        unconfirmed=said(params.get("confirm") or "", target.dbname),
        status=found.report.status,
        pending=list(found.report.pending),
        applied=list(applied),
        warnings=list(project.warnings),
    )


def confirmation(dbname: str, choice: Choice, entries: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    """What the operator types to have it done: the database, and the run that took the restore point or the migration. Empty for nothing to do."""
    point = choice.point
    if point is not None:
        runs = [entry["run_id"] for entry in entries if (entry["kind"], entry["id"]) == (point.kind, point.id)]
        return "%s %s" % (dbname, next(iter(runs), "") or point.id)
    if choice.route == HOLD or not choice.undo:
        return ""
    return "%s %s" % (dbname, choice.undo[0] if choice.route == RECOVER else choice.undo[-1])


def applied_in_order(facts: Facts, names: t.Sequence[str]) -> list[str]:
    """The applied migrations in the order in which they were; of a name that was applied twice the newest time counts."""
    last = {row.migration_name: number for number, row in enumerate(facts.rows) if row.finished_at and not row.rolled_back_at}
    return sorted((name for name in names if name in last), key=lambda name: last[name])


def as_point(entry: t.Mapping[str, t.Any]) -> Point | None:
    """An entry of database_backup_info as the choice needs it; None for what no rollback of ours can use."""
    if entry["kind"] not in ("dump", "snapshot"):
        return None
    ledger = entry.get("ledger") or {}
    applied = ledger.get("applied")
    # Taken in the middle of a migration: going back to it leads to a blocked database.
    clean = ledger.get("clean") is not False
    return Point(
        kind=entry["kind"],
        id=entry["id"],
        sequence=int(entry.get("sequence") or 0),
        place=str(entry.get("path") or "") if entry["kind"] == "dump" else str(entry.get("name") or ""),
        usable=bool(entry["usable"]) and clean,
        reason=str(entry.get("reason") or ("" if clean else "a migration was unfinished when it was taken")),
        # Without a ledger nothing was applied.
        applied=tuple(applied or ()) if entry["usable"] else None,
    )


def sentence(choice: Choice) -> str:
    """The way back in one line."""
    says = _SAYS[choice.route] % {"id": choice.point.id if choice.point else "", "undo": ", ".join(choice.undo) or "no migration"}
    if choice.point is not None and not choice.undo:
        says = says.partition(", which undoes")[0]
    text = "%s: %s" % (says, choice.why)
    if choice.route == HOLD and choice.hold:
        text += "; to leave it pending: %s (better in the inventory)" % option("migration_hold", choice.hold)
    return text


__all__ = ("applied_in_order", "as_point", "confirmation", "sentence", "way_back")
