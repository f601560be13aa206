# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which restore points are kept. Pure: no I/O.

Order is that of the sequence. The clock decides ages, weeks and months only, and where it contradicts the
sequence every doubt is for keeping:

* ahead: a time in the future, or later than that of a restore point taken afterwards;
* behind: earlier than that of a restore point taken before.

What is behind counts as old as the next one taken after it whose clock is right, or as new when there is none.
Contradicted ones take no place of a week or month from others.
"""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

Point = t.Mapping[str, t.Any]
KEEP, DROP = "keep", "drop"
#: Kinds that retention may drop; what an external tool keeps is for that tool to expire.
DUMP, SNAPSHOT, EXTERNAL = "dump", "snapshot", "external"
#: States of a restore point, see ``_points``.
GOOD, DAMAGED, FOREIGN = "good", "damaged", "foreign"


@dataclasses.dataclass(frozen=True)
class Rules:
    """What to keep; a restore point that one of the C(keep_*) rules wants is kept. None: no such rule.

    ``keep_days``: by age. ``keep_weekly``, ``keep_monthly``: the newest one of each of so many ISO weeks or
    calendar months (UTC) that have any. ``min_redundancy``: so many of the newest usable, proved dumps stay whatever
    the rules say. Without any ``keep_*`` rule nothing usable is dropped.
    """

    keep_last: int | None = None
    keep_days: float | None = None
    keep_weekly: int | None = None
    keep_monthly: int | None = None
    min_redundancy: int = 1
    snapshots: bool = False
    drop_damaged: bool = False

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and not isinstance(value, bool) and value < 0:
                raise MigrationError("%s is %s" % (field.name, value), code="OPTION_INVALID")

    @property
    def any(self) -> bool:
        """Whether there is a rule by which something usable may be dropped."""
        return any(value is not None for value in (self.keep_last, self.keep_days, self.keep_weekly, self.keep_monthly))


@dataclasses.dataclass(frozen=True)
class Decision:
    """What becomes of a restore point (``keep`` or ``drop``), and why."""

    point: Point
    action: str
    reasons: tuple[str, ...]


def plan_retention(points: t.Sequence[Point], rules: Rules, now: datetime.datetime) -> list[Decision]:
    """A decision on every restore point, newest first by sequence.

    :param points: as ``_points.list_points`` gives them: C(kind), C(id), C(sequence), C(finished_at), C(state),
        C(usable), C(proof), C(pinned), C(in_use).
    :param now: with a time zone.
    """
    reasons: dict[int, list[str]] = {index: [] for index in range(len(points))}
    fates: dict[int, str] = {}
    ordered = sorted(reasons, key=lambda index: order(points[index]), reverse=True)
    for index in ordered:
        found = _fixed(points[index], rules)
        if found is not None:
            fates[index], reasons[index] = found[0], [found[1]]
    for kind in (DUMP, SNAPSHOT):
        # Pinned ones and those in use fill a rule's places like any other.
        usable = [index for index in ordered if points[index]["kind"] == kind and points[index]["usable"]]
        for number, why in _wanted([points[index] for index in usable], rules, now):
            reasons[usable[number]].append(why)
        for index in usable:
            fates.setdefault(index, KEEP if reasons[index] else DROP)
    for index, why in list(_protected(points, ordered, fates, rules)):
        reasons[index].append(why)
        fates[index] = KEEP
    return [Decision(points[index], fates[index], tuple(reasons[index] or ["no rule keeps it"])) for index in ordered]


def order(point: Point) -> tuple[int, str, str]:
    """The key by which restore points are sorted; the clock only decides among those without a sequence."""
    sequence = point.get("sequence")
    return (sequence if isinstance(sequence, int) else 0, str(point.get("finished_at") or ""), str(point["id"]))


def proved(point: Point) -> bool:
    """Whether it is usable and its proof is for what lies there now."""
    return bool(point["usable"] and (point.get("proof") or {}).get("valid"))


def _fixed(point: Point, rules: Rules) -> tuple[str, str] | None:
    """What no rule about number or age decides."""
    if point.get("pinned") is not None:
        reason = (point["pinned"] or {}).get("reason")
        return KEEP, "pinned" + (": %s" % reason if reason else "")
    if point.get("in_use"):
        return KEEP, "in use"
    if point["kind"] == EXTERNAL and point["state"] != DAMAGED:
        return KEEP, "its own tool expires it"
    if point["state"] == DAMAGED:
        return (DROP, "damaged") if rules.drop_damaged else (KEEP, "damaged; drop_damaged drops it")
    if not point["usable"]:
        return KEEP, "of another database or server" if point["state"] == FOREIGN else "its state is not known"
    if point["kind"] == SNAPSHOT and not rules.snapshots:
        return KEEP, "snapshots are not looked at"
    return None if rules.any else (KEEP, "no rule was given")


def _protected(points: t.Sequence[Point], ordered: t.Sequence[int], fates: t.Mapping[int, str], rules: Rules) -> t.Iterator[tuple[int, str]]:
    """Restore points that stay although no rule wants them."""
    good = [index for index in ordered if points[index]["kind"] == DUMP and proved(points[index])]
    drilled = [index for index in good if points[index]["proof"]["level"] == "drill"]
    # The newest proved one stays even where min_redundancy is 0.
    count = max(1, rules.min_redundancy)
    for index in good[:count]:
        if fates[index] != KEEP:
            yield index, "one of the newest %d proved ones" % count if count > 1 else "the newest proved one"
    for index in drilled[:1]:
        if fates[index] != KEEP:
            yield index, "the newest drilled one"
    usable = [index for index in ordered if points[index]["usable"] and points[index]["kind"] != EXTERNAL]
    if not good and usable and not any(fates[index] == KEEP for index in usable):
        yield usable[0], "the last usable one, though not proved"


# --- the rules ----------------------------------------------------------------------------


def _wanted(points: t.Sequence[Point], rules: Rules, now: datetime.datetime) -> t.Iterator[tuple[int, str]]:
    """Which of the restore points (newest first) a rule keeps, by their places, and why."""
    clocks = _clocks(points, now)
    for number, clock in enumerate(clocks):
        if rules.keep_last is not None and number < rules.keep_last:
            yield number, "number %d of the last %d" % (number + 1, rules.keep_last)
        if rules.keep_days is not None and (clock.newest is None or (now - clock.newest).total_seconds() <= rules.keep_days * 86400):
            yield number, "not older than %g days" % rules.keep_days if clock.newest is not None else "its clock is wrong, so it counts as new"
    for count, name, start in ((rules.keep_weekly, "week", _week), (rules.keep_monthly, "month", _month)):
        if count:
            yield from _of_periods(clocks, count, name, start)


@dataclasses.dataclass(frozen=True)
class _Clock:
    """``newest``: the latest time that the restore point may have been taken at, None for now."""

    newest: datetime.datetime | None
    right: bool


def _clocks(points: t.Sequence[Point], now: datetime.datetime) -> list[_Clock]:
    """How the clock of each restore point (newest first) agrees with their order."""
    times = [time_of(point.get("finished_at")) for point in reversed(points)]
    past = [when if when is not None and when <= now else None for when in times]
    behind, latest = [], None
    for when in past:
        behind.append(when is None or (latest is not None and when < latest))
        latest = when if latest is None else max(latest, when or latest)
    found: list[_Clock] = []
    earliest: datetime.datetime | None = None
    next_right: datetime.datetime | None = None
    for given, when, is_behind in zip(reversed(times), reversed(past), reversed(behind)):
        next_right = next_right if is_behind else when
        ahead = given is not None and (when is None or (earliest is not None and when > earliest))
        # What lies in the future may be of any time, so it counts as new.
        found.append(_Clock(None if given is not None and when is None else next_right, not is_behind and not ahead))
        earliest = when if earliest is None else min(earliest, when or earliest)
    return found


def _of_periods(clocks: t.Sequence[_Clock], count: int, name: str, start: t.Callable[[datetime.datetime], datetime.date]) -> t.Iterator[tuple[int, str]]:
    places: list[datetime.date] = []
    for number, clock in enumerate(clocks):
        if clock.right and clock.newest is not None and start(clock.newest) not in places and len(places) < count:
            places.append(start(clock.newest))
            yield number, "the newest of the %s from %s" % (name, places[-1].isoformat())
    for number, clock in enumerate(clocks):
        if not clock.right and (clock.newest is None or len(places) < count or start(clock.newest) >= min(places)):
            yield number, "its clock contradicts the order"


def _week(when: datetime.datetime) -> datetime.date:
    day = when.astimezone(datetime.timezone.utc).date()
    return day - datetime.timedelta(days=day.weekday())


def _month(when: datetime.datetime) -> datetime.date:
    return when.astimezone(datetime.timezone.utc).date().replace(day=1)


def time_of(text: t.Any) -> datetime.datetime | None:
    """The time in ISO 8601, UTC unless it says otherwise; None for what is none."""
    try:
        found = datetime.datetime.fromisoformat(str(text or "").replace("Z", "+00:00"))
        return (found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)).astimezone(datetime.timezone.utc)
    except (ValueError, OverflowError):
        return None


__all__ = ("DAMAGED", "DROP", "DUMP", "Decision", "EXTERNAL", "FOREIGN", "GOOD", "KEEP", "Rules", "SNAPSHOT", "order", "plan_retention", "proved", "time_of")
