# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._matrix_drift import between, compared_groups, marked
from ansible_collections.pgops.migrations.plugins.module_utils._schema_likeness import alike
from ansible_collections.pgops.migrations.plugins.module_utils._summary import state_row

State = t.Dict[str, t.Any]
SAME: State = {
    "status": "up_to_date", "migrations": [], "pending": [], "ledger_head": "2_b", "set_digest": "5e7", "server_major": 16, "schema_digest": "5c8",
    "migrations_dir": "/srv/app",
}  # fmt: skip
LOST: State = {"unreachable": True, "msg": "ssh"}
BEHIND, OLD, BENT = dict(SAME, ledger_head="1_a"), dict(SAME, server_major=14, schema_digest="014"), dict(SAME, schema_digest="bad")


def found(states: dict[str, State], reference: str = "") -> list[tuple[str, str | None, dict[str, list[str]]]]:
    rows = [state_row(name, state) for name, state in states.items()]
    return [(each["what"], each["norm"], each["differ"]) for each in between(rows, {"g": list(states)}, reference)]


@pytest.mark.parametrize(
    ("states", "reference", "expected"),
    [
        ({"a": SAME, "b": SAME, "c": SAME}, "", []),
        ({"a": SAME}, "", []),
        ({"a": SAME, "b": SAME, "c": BEHIND}, "", [("head", "2_b", {"1_a": ["c"]})]),
        # The reference counts more than the number; one that was not read cannot.
        ({"a": SAME, "b": SAME, "c": BEHIND}, "c", [("head", "1_a", {"2_b": ["a", "b"]})]),
        ({"a": SAME, "b": SAME, "c": LOST}, "c", []),
        ({"a": SAME, "b": SAME, "c": BEHIND, "d": LOST}, "d", [("head", "2_b", {"1_a": ["c"]})]),
        # A tie blames nobody.
        ({"a": SAME, "b": BEHIND}, "", [("head", None, {"1_a": ["b"], "2_b": ["a"]})]),
        ({"a": SAME, "b": BEHIND, "c": dict(SAME, ledger_head="")}, "", [("head", None, {"1_a": ["b"], "2_b": ["a"], "none": ["c"]})]),
        # A majority is the largest part, also where it is not the half.
        ({"a": SAME, "b": SAME, "c": BEHIND, "d": dict(SAME, ledger_head=""), "e": dict(SAME, ledger_head="0")}, "",
         [("head", "2_b", {"0": ["e"], "1_a": ["c"], "none": ["d"]})]),
        # Another version writes its catalogue otherwise: that is no other schema.
        ({"a": SAME, "b": SAME, "c": OLD}, "", [("server", "16", {"14": ["c"]})]),
        ({"a": SAME, "b": SAME, "c": BENT}, "", [("schema", "5c8", {"bad": ["c"]})]),
        ({"a": SAME, "b": SAME, "c": dict(BEHIND, schema_digest="x")}, "", [("head", "2_b", {"1_a": ["c"]})]),
        ({"a": SAME, "b": SAME, "c": dict(SAME, schema_digest="")}, "", []),
        ({"a": SAME, "b": SAME, "c": dict(SAME, set_digest="0fd")}, "", [("set", "5e7", {"0fd": ["c"]})]),
        # Another folder is another project; nothing of it is compared.
        ({"a": SAME, "b": SAME, "c": dict(BEHIND, migrations_dir="/srv/other")}, "", []),
        # A database that is not there has no head that could be another one.
        ({"a": SAME, "b": SAME, "c": {"status": "absent", "set_digest": "5e7", "migrations_dir": "/srv/app"}}, "", []),
        ({"a": LOST, "b": LOST}, "", []),
    ],
)  # fmt: skip
def test_what_differs(states: dict[str, State], reference: str, expected: list[t.Any]) -> None:
    assert found(states, reference) == expected


def test_the_sentence_names_who_differs_and_how() -> None:
    states = {"db%d" % number: SAME for number in range(48)}
    states.update(db48=BEHIND, db49=BEHIND, db50=LOST)
    rows = [state_row(name, state) for name, state in states.items()]
    (finding,) = between(rows, {"staging": list(states)})
    assert finding["text"] == "staging: 2 of 50 on another ledger head: db48, db49 (1_a); most: 2_b"
    assert (finding["of"], finding["reference"]) == (50, "")
    marked(rows, [finding])
    assert [row["target"] for row in rows if row["differs"] == ["head"]] == ["db48", "db49"]
    (tie,) = between([state_row("a", SAME), state_row("b", BEHIND)], {"g": ["a", "b"]})
    assert tie["text"] == "g: 2 targets are not alike, and no majority is: b (1_a); a (2_b)"
    both = [state_row("a", SAME), state_row("b", BEHIND)]
    marked(both, [tie])
    assert [row["differs"] for row in both] == [[], []]
    many = {"db%d" % number: dict(SAME, ledger_head="head %d" % number) for number in range(1000)}
    (wide,) = between([state_row(name, state) for name, state in many.items()], {"g": list(many)})
    assert len(wide["text"]) < 300 and "and 994 more" in wide["text"]


TEN = {"a": "staging", "b": "staging", "c": "staging", "p": "production", "q": "production"}


@pytest.mark.parametrize(
    ("groups", "wanted", "environments", "expected"),
    [
        (
            {"all": list(TEN), "ungrouped": [], "staging": ["a", "b", "c"], "production": ["p", "q"]},
            [],
            TEN,
            {"staging": ["a", "b", "c"], "production": ["p", "q"]},
        ),
        # Staging and production may well be on two heads; what holds both of them is not compared, a part of what is compared neither.
        ({"all": list(TEN), "both": list(TEN), "staging": ["a", "b", "c"], "eu": ["a", "b"]}, [], TEN, {"staging": ["a", "b", "c"]}),
        ({"all": list(TEN), "both": list(TEN), "staging": ["a", "b", "c"], "eu": ["a", "b"]}, ["eu"], TEN, {"eu": ["a", "b"]}),
        ({"all": ["a", "b"], "ungrouped": ["a", "b"]}, [], TEN, {"all": ["a", "b"]}),
        ({"all": ["a", "p"], "ungrouped": ["a", "p"]}, [], TEN, {}),
        ({"one": ["a"], "none": ["other"]}, [], TEN, {}),
        ({"staging": ["a", "a", "b", "stranger"]}, [], {}, {"staging": ["a", "b"]}),
        ({"staging": ["a", "b"]}, ["nobody"], {}, {}),
    ],
)
def test_which_groups_are_compared(groups: dict[str, list[str]], wanted: list[str], environments: dict[str, str], expected: dict[str, list[str]]) -> None:
    assert compared_groups(groups, set(TEN), environments, wanted) == expected


def test_roles_are_no_part_of_a_schema() -> None:
    schema = {"table public.users": "table", "owner table public.users": "one", "grants table public.users": "one: SELECT"}
    assert alike(schema) == alike(dict(schema, **{"owner table public.users": "two", "grants table public.users": "two: SELECT"}))
    assert alike(schema) != alike(dict(schema, **{"index public.by_hand": "CREATE INDEX"}))
