# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which way back there is, decided from the ledger and the restore points. Pure: no I/O.

The guide's three scenarios: not applied yet, applied, failed half way. The operator may
force a way; what cannot work is refused with the reason, never bent into another way.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import MISSING, UNFINISHED, Report

#: Nothing to undo; back by a dump; by a snapshot; by a reverse migration; clear an unfinished migration.
HOLD, RESTORE_POINT, SNAPSHOT, REVERSE, RECOVER = "hold", "restore_point", "snapshot", "reverse", "recover"
ROUTES = (HOLD, RESTORE_POINT, SNAPSHOT, REVERSE, RECOVER)
#: A snapshot needs the swap only; a dump must be restored first.
_BY_KIND = {"snapshot": SNAPSHOT, "dump": RESTORE_POINT}


@dataclasses.dataclass(frozen=True)
class Point:
    """A restore point as far as the choice needs it.

    ``applied``: the migrations that it has, in the ledger's order; None when it is not known.
    ``place``: a dump's folder or a snapshot's database.
    """

    kind: str
    id: str
    sequence: int
    place: str
    usable: bool
    reason: str = ""
    applied: tuple[str, ...] | None = None


@dataclasses.dataclass(frozen=True)
class Choice:
    """The way back: what it undoes, by which restore point, why, and what else would do.

    ``hold``: migrations to hold back so that the next deploy does not apply them (again).
    ``older``: the restore point to take where the chosen one turns out to be damaged.
    """

    route: str
    why: str
    undo: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    point: Point | None = None
    others: tuple[str, ...] = ()
    older: Point | None = None

    def as_dict(self) -> dict[str, t.Any]:
        point = dataclasses.asdict(self.point) if self.point else None
        if point is not None and point["applied"] is not None:
            point["applied"] = list(point["applied"])
        return {
            "route": self.route,
            "why": self.why,
            "undo": list(self.undo),
            "hold": list(self.hold),
            "restore_point": point,
            "alternatives": list(self.others),
            "next_older": {"id": self.older.id, "kind": self.older.kind, "place": self.older.place} if self.older else None,
        }


def choose(
    report: Report,
    applied: t.Sequence[str],
    points: t.Sequence[Point],
    undo: t.Sequence[str] = (),
    route: str = "auto",
    reverses: t.Mapping[str, t.Sequence[str]] | None = None,
    confirmed: t.Collection[str] = (),
) -> Choice:
    """The way back.

    :param applied: the applied migrations in the order in which they were.
    :param undo: names to undo; empty means what was applied since the newest restore point that has less.
    :param confirmed: ids of the restore points that what the operator typed confirms.
    :param reverses: applied reverse migrations, and what each of them has taken back already.
    :raises MigrationError: ``UNKNOWN_MIGRATION``, ``ROLLBACK_UNDECIDED``, ``ROLLBACK_IMPOSSIBLE``.
    """
    if route not in ("auto", *ROUTES):
        raise MigrationError("route is %s and none of auto, %s" % (route, ", ".join(ROUTES)), code="OPTION_INVALID")
    _demand_known(report, undo)
    unfinished = report.named(UNFINISHED)
    if route == RECOVER or (route == "auto" and unfinished):
        if not unfinished:
            # The second run of a recovery; never a way to somewhere else.
            return Choice(HOLD, "no migration is unfinished, so there is nothing to recover from")
        others = () if route == RECOVER else tuple(_describe(point) for point in _by_preference(points, None))
        return Choice(RECOVER, "%s is unfinished" % ", ".join(unfinished), undo=tuple(unfinished), others=others)
    if route == REVERSE and unfinished:
        raise MigrationError(
            "%s unfinished, and a reverse migration cannot be deployed behind it" % _are(unfinished),
            code="ROLLBACK_IMPOSSIBLE",
            next_step="clear it first with -e migration_route=recover, or go back behind it with -e migration_route=restore_point instead",
        )
    done = _reversed(applied, undo, route, reverses or {})
    if done:
        return done
    waiting = [name for name in undo if name in report.pending]
    if route == HOLD or (undo and len(waiting) == len(undo)):
        return _hold(report, undo, route)
    if waiting:
        raise MigrationError("%s is not applied, but %s is; undo one kind at a time" % (waiting[0], _first(undo, waiting)), code="ROLLBACK_UNDECIDED")
    if not undo and route != REVERSE:
        return _held(report, _to_newest(report, applied, points, route, confirmed))
    if not applied:
        raise MigrationError(
            "no migration is applied, so there is nothing that a reverse migration could take back",
            code="ROLLBACK_IMPOSSIBLE",
            next_step="to keep what is pending from being deployed, hold it back: -e migration_route=hold shows how",
        )
    return _held(report, _undo(applied, points, tuple(undo) or tuple(applied[-1:]), route))


def _held(report: Report, choice: Choice) -> Choice:
    """What the next deploy would find pending after a way back by a restore point; what is not in the folder it does not see."""
    if choice.point is None:
        return choice
    there = {verdict.name for verdict in report.verdicts if MISSING not in verdict.flags}
    names = dict.fromkeys([*choice.undo, *report.named(UNFINISHED)])
    return dataclasses.replace(choice, hold=tuple(name for name in names if name in there))


def choose_gone(dbname: str, points: t.Sequence[Point], instead: str, route: str = "auto") -> Choice:
    """The way back where the server has no database of this name: made anew from the newest usable dump.

    :param instead: commands that name another database, see ``_recreate.beside``.
    :raises MigrationError: ``DATABASE_MISSING``.
    """
    usable = [point for point in _by_preference(points, RESTORE_POINT) if point.kind == "dump"]
    if not usable or route not in ("auto", RESTORE_POINT):
        why = "" if usable else ", and there is no usable dump of it%s" % _unusable(points)
        step = instead or ("leave out migration_route: it comes back from the restore point %s" % usable[0].id if usable else None)
        raise MigrationError("the database %s does not exist%s" % (dbname, why), code="DATABASE_MISSING", next_step=step)
    why = "there is no database %s on the server, and this is the newest usable dump%s" % (dbname, "; but first: %s" % instead if instead else "")
    older = usable[1] if len(usable) > 1 else None
    return Choice(RESTORE_POINT, why, point=usable[0], others=_others(usable, usable[0]), older=older)


def _demand_known(report: Report, undo: t.Sequence[str]) -> None:
    verdicts = {verdict.name: verdict for verdict in report.verdicts}
    for name in undo:
        if name not in verdicts:
            raise MigrationError("undo names %s, which is neither in the folder nor in the ledger" % name, code="UNKNOWN_MIGRATION")


def _reversed(applied: t.Sequence[str], undo: t.Sequence[str], route: str, reverses: t.Mapping[str, t.Sequence[str]]) -> Choice | None:
    """Nothing to undo where a reverse migration has done so."""
    by = {name: reverse for reverse, names in reverses.items() for name in names}
    if undo and all(name in by for name in undo):
        return Choice(HOLD, "%s taken back already by %s" % (_are(tuple(undo)), by[undo[0]]))
    if route == REVERSE and not undo and applied and applied[-1] in reverses:
        return Choice(HOLD, "the newest migration %s is itself a reverse migration; name it in undo to take it back" % applied[-1])
    return None


def _first(names: t.Sequence[str], without: t.Collection[str]) -> str:
    return next(name for name in names if name not in without)


def _hold(report: Report, undo: t.Sequence[str], route: str) -> Choice:
    applied = [name for name in undo if name not in report.pending]
    if applied:
        raise MigrationError("%s is applied already, so it cannot be held back" % applied[0], code="ROLLBACK_IMPOSSIBLE")
    held = tuple(undo) or (report.pending if route == HOLD else ())
    return Choice(HOLD, "%s not applied, so there is nothing to undo" % _are(held), hold=held)


def _are(names: t.Sequence[str]) -> str:
    return "%s %s" % (", ".join(names) or "nothing", "are" if len(names) > 1 else "is")


def _to_newest(report: Report, applied: t.Sequence[str], points: t.Sequence[Point], route: str, confirmed: t.Collection[str]) -> Choice:
    """Without names: back to the newest restore point that has less than the database.

    The second run of a way back that was confirmed and done is no way to an older restore point.
    """
    usable = _by_preference(points, route)
    there = [point for point in usable if point.applied is not None and list(point.applied) == list(applied)]
    done = [point for point in there if point.id in confirmed]
    if route == "auto" and done:
        why = "the database has the migrations of the %s, which is the one that was confirmed" % _describe(done[0])
        return Choice(HOLD, why, hold=report.pending, others=_others(usable, usable[0]))
    for point in usable:
        if point.applied is None or list(point.applied) == list(applied):
            continue
        gone = tuple(name for name in applied if name not in point.applied)
        if gone and set(point.applied) <= set(applied):
            why = _why(point, gone)
            if there and there[0].sequence > point.sequence:
                why += "; the newer %s has the migrations that the database has, so this goes back behind it" % _describe(there[0])
            return Choice(_BY_KIND[point.kind], why, undo=gone, point=point, others=_others(usable, point), older=_older(usable, point, applied))
    same = there
    if same and route == "auto":
        held = report.pending
        return Choice(HOLD, "nothing was applied since the restore point %s" % same[0].id, hold=held, others=(_describe(same[0]),))
    if same:
        # Forced: the same migrations, other rows.
        why = "no migration was applied since the restore point %s; its rows come back" % same[0].id
        return Choice(_BY_KIND[same[0].kind], why, point=same[0], others=_others(usable, same[0]), older=_older(usable, same[0], applied))
    other = next((point for point in _by_preference(points, None) if point not in usable), None)
    reverse = "name what to undo by a reverse migration: -e migration_undo=%s" % (applied[-1] if applied else "NAME")
    raise MigrationError(
        "there is no usable %s from before a migration%s" % ("snapshot" if route == SNAPSHOT else "restore point", _unusable(points)),
        code="ROLLBACK_UNDECIDED",
        next_step="there is the %s: leave out migration_route; or %s" % (_describe(other), reverse) if other else reverse,
    )


def _undo(applied: t.Sequence[str], points: t.Sequence[Point], undo: tuple[str, ...], route: str) -> Choice:
    missing = [name for name in undo if name not in applied]
    if missing:
        raise MigrationError("%s is not applied" % missing[0], code="ROLLBACK_IMPOSSIBLE")
    newest = applied[len(applied) - len(set(undo)) :]
    later = [name for name in newest if name not in undo]
    if later:
        raise MigrationError(
            "%s was applied after %s; what came later must be undone, too" % (later[-1], undo[0]),
            code="ROLLBACK_IMPOSSIBLE",
            next_step="name all of them: %s" % ", ".join(applied[list(applied).index(min(undo, key=list(applied).index)) :]),
        )
    before = [name for name in applied if name not in undo]
    usable = _by_preference(points, route)
    exact = next((point for point in usable if point.applied is not None and list(point.applied) == before), None)
    if route == REVERSE or (route == "auto" and exact is None):
        why = "told to" if route == REVERSE else "there is no usable restore point from just before%s" % _unusable(points)
        return Choice(REVERSE, why, undo=tuple(newest), others=tuple(_describe(point) for point in usable))
    if exact is None:
        raise MigrationError(
            "there is no usable %s from just before %s%s" % ("snapshot" if route == SNAPSHOT else "restore point", newest[0], _unusable(points)),
            code="ROLLBACK_IMPOSSIBLE",
            next_step="go back by a reverse migration: -e migration_route=reverse",
        )
    older = _older(usable, exact, before)
    return Choice(_BY_KIND[exact.kind], _why(exact, newest), undo=tuple(newest), point=exact, others=_others(usable, exact), older=older)


def _by_preference(points: t.Sequence[Point], route: str | None) -> list[Point]:
    """Usable ones, newest first; of the same moment the snapshot first. A forced route leaves out the other kind."""
    kinds = [kind for kind, name in _BY_KIND.items() if route in (None, "auto", REVERSE, name)]
    return sorted(
        (point for point in points if point.usable and point.kind in kinds), key=lambda point: (point.sequence, point.kind == "snapshot"), reverse=True
    )


def _describe(point: Point) -> str:
    return "%s %s (%s)" % ("restore point" if point.kind == "dump" else point.kind, point.id, point.place)


def _others(usable: t.Sequence[Point], chosen: Point) -> tuple[str, ...]:
    return tuple(_describe(point) for point in usable if point is not chosen)


def _older(usable: t.Sequence[Point], chosen: Point, applied: t.Sequence[str]) -> Point | None:
    """The next usable one behind the chosen one that has no other history."""
    behind = usable[list(usable).index(chosen) + 1 :]
    return next((point for point in behind if point.applied is not None and set(point.applied) <= set(applied)), None)


def _why(point: Point, gone: t.Sequence[str]) -> str:
    return "%s was taken before %s" % (_describe(point), gone[0])


def _unusable(points: t.Sequence[Point]) -> str:
    reasons = ["%s: %s" % (point.id, point.reason) for point in points if not point.usable]
    return " (not usable: %s)" % "; ".join(reasons[:3]) if reasons else ""


__all__ = ("HOLD", "RECOVER", "RESTORE_POINT", "REVERSE", "ROUTES", "SNAPSHOT", "Choice", "Point", "choose", "choose_gone")
