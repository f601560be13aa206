# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import datetime
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._retention import DROP, KEEP, Rules, plan_retention, proved, time_of
from hypothesis import given, settings
from hypothesis import strategies as st

#: A Sunday.
NOW = datetime.datetime(2026, 11, 22, 12, 0, tzinfo=datetime.timezone.utc)
Point = t.Dict[str, t.Any]


def point(number: int, days: float = 0.0, **more: t.Any) -> Point:
    """A usable, proved dump that was taken so many days before NOW."""
    at = (NOW - datetime.timedelta(days=days)).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "id": "p%d" % number, "sequence": number, "kind": "dump", "finished_at": at, "state": "good", "usable": True, "pinned": None, "in_use": False,
        "proof": {"level": "read", "at": at, "valid": True}, **more,
    }  # fmt: skip


def daily(count: int) -> list[Point]:
    """One a day until today; the newest has the highest number."""
    return [point(number, count - number) for number in range(1, count + 1)]


DRILLED = {"proof": {"level": "drill", "valid": True}}
STALE = {"proof": {"level": "drill", "valid": False}}
DAMAGED = {"state": "damaged", "usable": False, "proof": None, "sequence": None}
FOREIGN = {"state": "foreign", "usable": False}
UNKNOWN = {"state": "unknown", "usable": False, "proof": None, "sequence": None}


def kept(points: t.Sequence[Point], **rules: t.Any) -> list[str]:
    """The ids that stay, in the order of the plan."""
    return [decision.point["id"][1:] for decision in plan_retention(points, Rules(**rules), NOW) if decision.action == KEEP]


@pytest.mark.parametrize(
    ("points", "rules", "expected"),
    [
        ([], {"keep_last": 1}, ""),
        (daily(4), {}, "4 3 2 1"),
        (daily(4), {"min_redundancy": 1}, "4 3 2 1"),
        (daily(4), {"drop_damaged": True, "snapshots": True}, "4 3 2 1"),
        (daily(4), {"keep_last": 2}, "4 3"),
        (daily(4), {"keep_last": 9}, "4 3 2 1"),
        (daily(4), {"keep_last": 0}, "4"),
        (daily(4), {"keep_last": 0, "min_redundancy": 0}, "4"),
        (daily(4), {"keep_last": 0, "min_redundancy": 3}, "4 3 2"),
        (daily(9), {"keep_days": 3}, "9 8 7 6"),
        (daily(9), {"keep_days": 0}, "9"),
        (daily(9), {"keep_days": 2, "keep_last": 1}, "9 8 7"),
        # Sunday 22nd is number 30; weeks end with numbers 30, 23, 16, 9, 2.
        (daily(30), {"keep_weekly": 3}, "30 23 16"),
        (daily(30), {"keep_weekly": 0}, "30"),
        (daily(30), {"keep_weekly": 9}, "30 23 16 9 2"),
        (daily(30), {"keep_weekly": 2, "keep_last": 2}, "30 29 23"),
        (daily(90), {"keep_monthly": 2}, "90 68"),
        (daily(90), {"keep_monthly": 2, "keep_weekly": 2}, "90 83 68"),
        # Every third week has one: weeks without any take no place.
        ([point(1, 42), point(2, 21), point(3, 0)], {"keep_weekly": 3}, "3 2 1"),
        # Age is measured from the end of the backup to the second.
        ([point(1, 7.0), point(2, 6.99), point(3)], {"keep_days": 7}, "3 2 1"),
        ([point(1, 7.01), point(2, 6.99), point(3)], {"keep_days": 7}, "3 2"),
        # What is pinned or in use stays, and fills a place.
        ([point(1, 9, pinned={"reason": "audit"}), *daily(3)[1:]], {"keep_last": 1}, "3 1"),
        ([point(1, 9, pinned={}), *daily(3)[1:]], {"keep_last": 1}, "3 1"),
        ([point(1, 9, in_use=True), *daily(3)[1:]], {"keep_last": 1}, "3 1"),
        ([point(1), point(2, pinned={"reason": ""}), point(3)], {"keep_last": 2}, "3 2"),
        # The last proved one stays, and the last drilled one.
        ([point(1), point(2), point(3, proof=None)], {"keep_last": 1}, "3 2"),
        ([point(1), point(2), point(3, **STALE)], {"keep_last": 1}, "3 2"),
        ([point(1, **DRILLED), point(2, **DRILLED), point(3), point(4)], {"keep_last": 1}, "4 2"),
        ([point(1, **DRILLED), point(2, **STALE), point(3), point(4)], {"keep_last": 1}, "4 1"),
        ([point(1, **DRILLED), point(2), point(3), point(4)], {"keep_last": 1, "min_redundancy": 2}, "4 3 1"),
        ([point(1, **DRILLED), point(2), point(3), point(4)], {"keep_last": 0, "min_redundancy": 2}, "4 3 1"),
        ([point(1, proof=None), point(2, proof=None)], {"keep_last": 0}, "2"),
        # A newer one that is damaged is none of the last two.
        ([point(1), point(2), point(3, **DAMAGED), point(4)], {"keep_last": 2}, "4 2 3"),
        # What cannot be judged is never dropped, what is damaged only when told to.
        ([point(1, **DAMAGED), point(2)], {"keep_last": 1}, "2 1"),
        ([point(1, **DAMAGED), point(2)], {"drop_damaged": True}, "2"),
        ([point(1, **DAMAGED, in_use=True), point(2)], {"drop_damaged": True}, "2 1"),
        ([point(1, **UNKNOWN), point(2, **FOREIGN), point(3)], {"keep_last": 1, "drop_damaged": True}, "3 2 1"),
        ([point(1, 99, kind="external", usable=False, state="external")], {"keep_last": 0, "drop_damaged": True}, "1"),
        ([point(1, 99, kind="external", usable=False, state="damaged")], {"keep_last": 0, "drop_damaged": True}, ""),
        # Snapshots only when told to, by rules of their own; they are no redundancy.
        ([point(1, kind="snapshot", proof=None), point(2), point(3)], {"keep_last": 1}, "3 1"),
        ([point(1, kind="snapshot", proof=None), point(2, kind="snapshot", proof=None), point(3)], {"keep_last": 1, "snapshots": True}, "3 2"),
        ([point(1, kind="snapshot", proof=None), point(2), point(3)], {"keep_last": 0, "snapshots": True}, "3"),
        ([point(1, kind="snapshot", proof=None)], {"keep_last": 0, "snapshots": True}, "1"),
        # The newest by sequence is the newest, whatever the clock says.
        ([point(1, 0), point(2, 300)], {"keep_last": 1}, "2"),
        ([point(1, -9000), point(2, 300)], {"keep_last": 1}, "2"),
        # From the future: new for as long as the clock has not come there.
        ([point(1, 10), point(2, -9000), point(3, 9), point(4, 0)], {"keep_days": 1}, "4 2"),
        # From the past (an empty battery): as old as the next one after it, and new where there is none.
        ([point(1, 3), point(2, 9000), point(3, 1)], {"keep_days": 2}, "3 2"),
        ([point(1, 9), point(2, 9000), point(3, 8), point(4)], {"keep_days": 2}, "4"),
        ([point(1, 3), point(2, 9000)], {"keep_days": 2}, "2"),
        ([point(1, 3, finished_at="rubbish"), point(2, 3)], {"keep_days": 1}, "2"),
        ([point(1, 3), point(2, finished_at="")], {"keep_days": 1}, "2"),
        # A clock that was wrong takes no week from the others, and costs none of them its own.
        ([point(1, 28), point(2, 21), point(3, 9000), point(4, 14), point(5, 7), point(6)], {"keep_weekly": 4}, "6 5 4 3 2 1"),
        ([point(1, 28), point(2, 21), point(3, -9000), point(4, 14), point(5, 7), point(6)], {"keep_weekly": 4}, "6 5 4 3 2"),
        ([point(1, 28), point(2, 1), point(3, 14), point(4, 7), point(5)], {"keep_weekly": 3}, "5 4 3 2 1"),
        # Once there are enough weeks after it, it goes.
        ([point(1, 99), point(2, 60), point(3, 98), point(4, 14), point(5, 7), point(6)], {"keep_weekly": 3}, "6 5 4 3"),
    ],
)  # fmt: skip
def test_what_stays(points: list[Point], rules: dict[str, t.Any], expected: str) -> None:
    assert " ".join(kept(points, **rules)) == expected


def test_the_newest_comes_first_and_every_decision_has_a_reason() -> None:
    plan = plan_retention([point(2, pinned={"reason": "audit"}), point(1), point(3)], Rules(keep_last=1), NOW)
    assert [(each.point["id"], each.action, each.reasons) for each in plan] == [
        ("p3", "keep", ("number 1 of the last 1",)), ("p2", "keep", ("pinned: audit",)), ("p1", "drop", ("no rule keeps it",)),
    ]  # fmt: skip


@pytest.mark.parametrize("name", ["keep_last", "keep_days", "keep_weekly", "keep_monthly", "min_redundancy"])
def test_a_negative_number_is_refused(name: str) -> None:
    with pytest.raises(MigrationError) as caught:
        Rules(**{name: -1})
    assert caught.value.code == "OPTION_INVALID" and name in caught.value.msg


COUNTS = st.none() | st.integers(0, 5)
RULES = st.builds(
    Rules,
    keep_last=COUNTS,
    keep_days=COUNTS,
    keep_weekly=COUNTS,
    keep_monthly=COUNTS,
    min_redundancy=st.integers(0, 3),
    snapshots=st.booleans(),
    drop_damaged=st.booleans(),
)
#: Any clock at all: rubbish, the far past, the far future.
CLOCK = st.sampled_from(["", "rubbish", "0001-01-01T00:00:00Z", "1970-01-01T00:00:00Z", "9999-12-31T23:59:59Z"]) | st.datetimes().map(
    datetime.datetime.isoformat
)
ODD = st.fixed_dictionaries(
    {},
    optional={
        "finished_at": CLOCK, "pinned": st.just({"reason": "x"}), "in_use": st.just(True), "kind": st.sampled_from(["snapshot", "external"]),
        "proof": st.sampled_from([None, DRILLED["proof"], STALE["proof"]]),
    },
)  # fmt: skip
STATE = st.sampled_from([{}, {}, {}, DAMAGED, FOREIGN, UNKNOWN])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(ODD, STATE, st.floats(0, 90)), max_size=12), RULES)
def test_what_no_rule_and_no_clock_may_drop(given_points: list[tuple[Point, Point, float]], rules: Rules) -> None:
    points = [point(number, days, **{**odd, **state}) for number, (odd, state, days) in enumerate(given_points)]
    plan = plan_retention(points, rules, NOW)
    assert sorted(each.point["id"] for each in plan) == sorted(each["id"] for each in points) and all(each.reasons for each in plan)
    dropped = [each.point for each in plan if each.action == DROP]
    good = [each.point for each in plan if each.point["kind"] == "dump" and proved(each.point)]
    assert not [each for each in dropped if each["pinned"] is not None or each["in_use"] or each["state"] in ("foreign", "unknown")]
    assert rules.drop_damaged or all(each["usable"] for each in dropped)
    assert rules.any or all(each["state"] == "damaged" for each in dropped)
    assert rules.snapshots or all(each["kind"] != "snapshot" or each["state"] == "damaged" for each in dropped)
    assert not [each for each in good[: max(1, rules.min_redundancy)] if each in dropped]
    drilled = [each for each in good if each["proof"]["level"] == "drill"]
    assert not drilled or drilled[0] not in dropped
    usable = [each for each in points if each["usable"] and each["kind"] != "external"]
    assert not usable or len(usable) > len([each for each in dropped if each in usable])
    dumps = [each for each in sorted(points, key=lambda each: -(each["sequence"] or 0)) if each["kind"] == "dump" and each["usable"]]
    assert not [each for each in dumps[: rules.keep_last or 0] if each in dropped]


def contradicts(points: t.Sequence[Point], at: int) -> bool:
    """Whether the clock of one restore point can be seen to be wrong."""
    times = [time_of(each["finished_at"]) or NOW for each in points]
    return times[at] > NOW or not all(when <= times[at] for when in times[:at]) or not all(when >= times[at] for when in times[at + 1 :])


@settings(max_examples=400, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=10), st.integers(0, 9), CLOCK, RULES)
def test_one_wrong_clock_costs_no_other_restore_point(ages: list[float], which: int, clock: str, rules: Rules) -> None:
    points = [point(number, days) for number, days in enumerate(sorted(ages, reverse=True))]
    which %= len(points)
    wrong = [dict(each, finished_at=clock) if number == which else each for number, each in enumerate(points)]
    if not contradicts(wrong, which):
        return
    lost = {each.point["id"] for each in plan_retention(wrong, rules, NOW) if each.action == DROP}
    assert lost <= {each.point["id"] for each in plan_retention(points, rules, NOW) if each.action == DROP}
