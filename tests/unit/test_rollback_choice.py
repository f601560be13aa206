# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._rollback import Point, choose
from support.ledgers import folder, report

ABC = folder("a", "b", "c")


def dump(sequence: int, *applied: str, usable: bool = True, kind: str = "dump") -> Point:
    return Point(kind, "p%d" % sequence, sequence, "/p/%d" % sequence, usable, "" if usable else "damaged", tuple(applied))


def snapshot(sequence: int, *applied: str) -> Point:
    return dump(sequence, *applied, kind="snapshot")


ALL = ("a done", "b done", "c done")


@pytest.mark.parametrize(
    ("described", "points", "options", "route", "undo", "point"),
    [
        # Scenario 1: not applied.
        (("a done",), [], {"undo": ["b"]}, "hold", [], None),
        (("a done",), [dump(1, "a")], {}, "hold", [], None),
        (("a done",), [], {"route": "hold"}, "hold", [], None),
        # Scenario 2: applied.
        (ALL, [dump(1, "a", "b")], {}, "restore_point", ["c"], "p1"),
        (ALL, [dump(1, "a"), dump(2, "a", "b")], {}, "restore_point", ["c"], "p2"),
        (ALL, [dump(2, "a"), dump(1, "a", "b")], {}, "restore_point", ["b", "c"], "p2"),
        (ALL, [dump(1, "a", "b"), dump(2, "a", "b", "c")], {}, "restore_point", ["c"], "p1"),
        (ALL, [dump(1, "a", "b"), snapshot(1, "a", "b")], {}, "snapshot", ["c"], "p1"),
        (ALL, [dump(1, "a", "b"), snapshot(2, "a", "b")], {}, "snapshot", ["c"], "p2"),
        (ALL, [dump(1, "a", "b"), snapshot(2, "a", "b")], {"route": "restore_point"}, "restore_point", ["c"], "p1"),
        (ALL, [dump(1, "a", "b"), dump(2, "a", "b", usable=False)], {}, "restore_point", ["c"], "p1"),
        (ALL, [dump(1, "a"), dump(2, "a", "b")], {"undo": ["b", "c"]}, "restore_point", ["b", "c"], "p1"),
        (ALL, [dump(1, "a")], {"undo": ["c"]}, "reverse", ["c"], None),
        (ALL, [], {"undo": ["c", "b"]}, "reverse", ["b", "c"], None),
        (ALL, [dump(1, "a", "b")], {"route": "reverse"}, "reverse", ["c"], None),
        (ALL, [dump(2, "a", "b", "c")], {"route": "restore_point"}, "restore_point", [], "p2"),
        # Done already by the run that was confirmed: not a second time, and not behind it.
        (ALL, [dump(1, "a", "b"), dump(2, "a", "b", "c")], {"confirmed": {"p2"}}, "hold", [], None),
        (ALL, [dump(1, "a", "b"), dump(2, "a", "b", "c")], {"confirmed": {"p1"}}, "restore_point", ["c"], "p1"),
        (ALL, [dump(2, "a", "b", "c")], {"confirmed": {"p2"}, "route": "restore_point"}, "restore_point", [], "p2"),
        # Another history is no way back.
        (ALL, [dump(2, "a", "x"), dump(1, "a")], {}, "restore_point", ["b", "c"], "p1"),
        # Scenario 3: half way.
        (ALL, [dump(1, "a")], {"route": "recover"}, "hold", [], None),
        (("a done", "b failed"), [dump(1, "a")], {}, "recover", ["b"], None),
        (("a done", "b failed"), [dump(1, "a")], {"route": "recover"}, "recover", ["b"], None),
        (("a done", "b failed"), [dump(1)], {"route": "restore_point"}, "restore_point", ["a"], "p1"),
        (("a done", "b failed"), [dump(1, "a")], {"route": "restore_point"}, "restore_point", [], "p1"),
    ],
)
def test_the_way_back(described: tuple[str, ...], points: list[Point], options: dict[str, t.Any], route: str, undo: list[str], point: str | None) -> None:
    applied = [text.split()[0] for text in described if text.endswith("done")]
    found = choose(report(ABC, *described), applied, points, **options)
    assert (found.route, list(found.undo), found.point.id if found.point else None) == (route, undo, point), found
    assert found.why
    if route in ("restore_point", "snapshot"):
        # Or else the next deploy applies them again, the one that was half way, too.
        unfinished = tuple(text.split()[0] for text in described if text.endswith("failed"))
        assert found.hold == found.undo + unfinished


@pytest.mark.parametrize(
    ("described", "points", "options", "code"),
    [
        (ALL, [], {}, "ROLLBACK_UNDECIDED"),
        (ALL, [dump(1, "a", "b", usable=False)], {}, "ROLLBACK_UNDECIDED"),
        (("a done",), [], {"undo": ["a", "b"]}, "ROLLBACK_UNDECIDED"),
        (ALL, [], {"undo": ["z"]}, "UNKNOWN_MIGRATION"),
        (ALL, [], {"undo": ["b"]}, "ROLLBACK_IMPOSSIBLE"),
        (ALL, [], {"undo": ["c"], "route": "restore_point"}, "ROLLBACK_IMPOSSIBLE"),
        (ALL, [dump(1, "a", "b")], {"undo": ["c"], "route": "snapshot"}, "ROLLBACK_IMPOSSIBLE"),
        (ALL, [], {"undo": ["c"], "route": "hold"}, "ROLLBACK_IMPOSSIBLE"),
        (ALL, [], {"route": "sideways"}, "OPTION_INVALID"),
        # A reverse migration could not be deployed behind an unfinished one, and has nothing to take back where nothing is applied.
        (("a done", "b failed"), [dump(1, "a")], {"route": "reverse"}, "ROLLBACK_IMPOSSIBLE"),
        (("a done", "b failed"), [], {"route": "reverse", "undo": ["a"]}, "ROLLBACK_IMPOSSIBLE"),
        ((), [], {"route": "reverse"}, "ROLLBACK_IMPOSSIBLE"),
    ],
)
def test_ways_that_lead_nowhere(described: tuple[str, ...], points: list[Point], options: dict[str, t.Any], code: str) -> None:
    applied = [text.split()[0] for text in described if text.endswith("done")]
    with pytest.raises(MigrationError) as caught:
        choose(report(ABC, *described), applied, points, **options)
    assert caught.value.code == code, caught.value.msg


def test_a_held_migration_is_named() -> None:
    assert choose(report(ABC, "a done"), ["a"], [], undo=["c"]).hold == ("c",)
    assert choose(report(ABC, "a done"), ["a"], [dump(1, "a")]).hold == ("b", "c")


def test_what_a_reverse_migration_has_taken_back_is_not_undone_again() -> None:
    state = report(folder("a", "b", "r"), "a done", "b done", "r done"), ["a", "b", "r"], []
    for options in ({"undo": ["b"]}, {"undo": ["b"], "route": "reverse"}, {"route": "reverse"}):
        assert choose(*state, reverses={"r": ["b"]}, **options).route == "hold"  # type: ignore[arg-type]
    assert choose(*state, reverses={"r": ["b"]}, undo=["r"]).undo == ("r",)


def test_what_is_not_in_the_folder_is_not_held_back() -> None:
    """The next deploy refuses a hold that names something it does not know."""
    found = choose(report(folder("a", "b"), "a done", "b done", "x done"), ["a", "b", "x"], [dump(1, "a")])
    assert (found.undo, found.hold) == (("b", "x"), ("b",))


def test_the_next_older_restore_point_is_named() -> None:
    points = [dump(1, "a"), dump(2, "a", "b"), dump(3, "a", "b"), dump(4, "a", "x")]
    found = choose(report(ABC, *ALL), ["a", "b", "c"], points)
    assert (found.point.id, found.older.id) == ("p3", "p2")  # type: ignore[union-attr]
    assert found.as_dict()["next_older"] == {"id": "p2", "kind": "dump", "place": "/p/2"}
    assert choose(report(ABC, *ALL), ["a", "b", "c"], points[:2], undo=["c"]).older == points[0]
    assert choose(report(ABC, *ALL), ["a", "b", "c"], points[:2], undo=["b", "c"]).older is None


def test_going_behind_a_newer_restore_point_of_the_same_migrations_is_said() -> None:
    applied = ["a", "b", "c"]
    found = choose(report(ABC, *ALL), applied, [dump(1, "a", "b"), dump(2, *applied)])
    assert "the newer restore point p2 (/p/2) has the migrations that the database has" in found.why
    assert "newer" not in choose(report(ABC, *ALL), applied, [dump(1, *applied), dump(2, "a", "b")]).why


def test_a_kind_that_is_not_there_is_named_and_the_other_one_offered() -> None:
    with pytest.raises(MigrationError) as caught:
        choose(report(ABC, *ALL), ["a", "b", "c"], [dump(1, "a", "b")], route="snapshot")
    assert "no usable snapshot" in caught.value.msg and "restore point p1" in str(caught.value.next_step)
