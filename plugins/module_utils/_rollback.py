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
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import UNFINISHED, Report

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
    """

    route: str
    why: str
    undo: tuple[str, ...] = ()
    hold: tuple[str, ...] = ()
    point: Point | None = None
    others: tuple[str, ...] = ()

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
        }


def choose(
    report: Report,
    applied: t.Sequence[str],
    points: t.Sequence[Point],
    undo: t.Sequence[str] = (),
    route: str = "auto",
    reverses: t.Mapping[str, t.Sequence[str]] | None = None,
) -> Choice:
    """The way back.

    :param applied: the applied migrations in the order in which they were.
    :param undo: names to undo; empty means what was applied since the newest restore point that has less.
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
    done = _reversed(applied, undo, route, reverses or {})
    if done:
        return done
    waiting = [name for name in undo if name in report.pending]
    if route == HOLD or (undo and len(waiting) == len(undo)):
        return _hold(report, undo, route)
    if waiting:
        raise MigrationError("%s is not applied, but %s is; undo one kind at a time" % (waiting[0], _first(undo, waiting)), code="ROLLBACK_UNDECIDED")
    if not undo and route != REVERSE:
        return _to_newest(report, applied, points, route)
    return _undo(applied, points, tuple(undo) or tuple(applied[-1:]), route)


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


def _to_newest(report: Report, applied: t.Sequence[str], points: t.Sequence[Point], route: str) -> Choice:
    """Without names: back to the newest restore point that has less than the database."""
    usable = _by_preference(points, route)
    for point in usable:
        if point.applied is None or list(point.applied) == list(applied):
            continue
        gone = tuple(name for name in applied if name not in point.applied)
        if gone and set(point.applied) <= set(applied):
            return Choice(_BY_KIND[point.kind], _why(point, gone), undo=gone, hold=gone, point=point, others=_others(usable, point))
    same = [point for point in usable if point.applied is not None and list(point.applied) == list(applied)]
    if same and route == "auto":
        held = report.pending
        return Choice(HOLD, "nothing was applied since the restore point %s" % same[0].id, hold=held, others=(_describe(same[0]),))
    if same:
        # Forced: the same migrations, other rows.
        return Choice(_BY_KIND[same[0].kind], "no migration was applied since the restore point %s; its rows come back" % same[0].id, point=same[0])
    raise MigrationError(
        "there is no usable restore point from before a migration%s" % _unusable(points),
        code="ROLLBACK_UNDECIDED",
        next_step="name what to undo by a reverse migration: -e migration_undo=%s" % (applied[-1] if applied else "NAME"),
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
    return Choice(_BY_KIND[exact.kind], _why(exact, newest), undo=tuple(newest), hold=tuple(newest), point=exact, others=_others(usable, exact))


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


def _why(point: Point, gone: t.Sequence[str]) -> str:
    return "%s was taken before %s" % (_describe(point), gone[0])


def _unusable(points: t.Sequence[Point]) -> str:
    reasons = ["%s: %s" % (point.id, point.reason) for point in points if not point.usable]
    return " (not usable: %s)" % "; ".join(reasons[:3]) if reasons else ""


__all__ = ("HOLD", "RECOVER", "RESTORE_POINT", "REVERSE", "ROUTES", "SNAPSHOT", "Choice", "Point", "choose")
