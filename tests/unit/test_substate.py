# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN, PARTIAL, RUNNING, UNKNOWN, UNRECORDED, Evidence, decide
from hypothesis import given
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("evidence", "substate", "reason"),
    [
        (Evidence(error_recorded=False, session_alive=True, committed=0), RUNNING, "lock"),
        (Evidence(error_recorded=True, session_alive=True, steps=1), RUNNING, "lock"),
        (Evidence(error_recorded=False, steps=1), UNRECORDED, "finish of the row"),
        (Evidence(error_recorded=False, steps=1, committed=0), UNRECORDED, "finish of the row"),
        (Evidence(error_recorded=True, steps=1, committed=0), CLEAN, "no transaction"),
        (Evidence(error_recorded=True, committed=0), CLEAN, "no transaction"),
        (Evidence(error_recorded=False, committed=0), CLEAN, "no transaction"),
        (Evidence(error_recorded=True, committed=1, named=("patients",)), PARTIAL, "patients"),
        (Evidence(error_recorded=True, committed=1, objects=("patients",)), UNKNOWN, "not named by the migration: patients"),  # others may have made it
        (Evidence(error_recorded=True, committed=2, invalid_indexes=("i",)), PARTIAL, "i"),
        (Evidence(error_recorded=False, committed=1, named=("patients",)), UNKNOWN, "not proved"),
        (Evidence(error_recorded=True, committed=0, doubt="the script uses setval"), UNKNOWN, "setval"),
        (Evidence(error_recorded=False, committed=0, doubt="this is a standby"), UNKNOWN, "standby"),
        (Evidence(error_recorded=False, committed=None), UNKNOWN, "no longer be told"),
        (Evidence(error_recorded=True, committed=None), UNKNOWN, "no longer be told"),
        (Evidence(error_recorded=True, committed=None, named=("patients",)), PARTIAL, "patients"),
        (Evidence(error_recorded=False, committed=3), UNKNOWN, "3 transactions"),
    ],
)
def test_what_evidence_proves(evidence: Evidence, substate: str, reason: str) -> None:
    assert decide(evidence)[0] == substate
    assert reason in decide(evidence)[1]


names = st.lists(st.sampled_from(["patients", "users"]), max_size=2).map(tuple)
everything = st.builds(
    Evidence,
    error_recorded=st.booleans(),
    steps=st.integers(0, 2),
    session_alive=st.booleans(),
    committed=st.none() | st.integers(0, 3),
    doubt=st.sampled_from(["", "setval"]),
    objects=names,
    named=names,
    invalid_indexes=names,
)


@given(everything)
def test_nothing_is_claimed_without_proof(evidence: Evidence) -> None:
    substate, reason = decide(evidence)
    claims = {
        RUNNING: evidence.session_alive,
        UNRECORDED: evidence.steps > 0 and not evidence.error_recorded,
        CLEAN: evidence.committed == 0 and not evidence.doubt,
        PARTIAL: evidence.error_recorded and bool(evidence.named or evidence.invalid_indexes),
        UNKNOWN: True,
    }
    assert claims[substate]
    assert reason
    # Only a session that lives goes before: with one, nothing else can be known yet.
    assert (substate == RUNNING) is evidence.session_alive


def test_the_plain_values_of_evidence() -> None:
    plain: dict[str, t.Any] = Evidence(error_recorded=True, objects=("a", "b")).as_dict()
    assert plain["objects"] == ["a", "b"]
    assert (plain["error_recorded"], plain["committed"]) == (True, None)
