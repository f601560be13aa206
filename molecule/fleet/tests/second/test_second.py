# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import re

import fleet
import lab
import pytest


@pytest.mark.parametrize("name", lab.HOSTS)
def test_every_host_is_migrated_once(name):
    assert fleet.applied(name)[-4:] == fleet.PENDING and len(fleet.applied(name)) == 10
    assert fleet.left(name) == ""


def test_the_second_run_changed_only_what_the_first_one_had_left():
    _first, second = fleet.runs()
    assert {name: fleet.record(second, name)["outcome"] for name in lab.HOSTS} == {
        "sound1": "nothing_to_do", "sound2": "nothing_to_do", "newer": "nothing_to_do", "fails": "applied", "lost": "applied",
    }  # fmt: skip
    changed = {name: int(number) for name, number in re.findall(r"^(\w+) +: ok=\d+ +changed=(\d+)", fleet.printed("second"), re.M)}
    assert set(changed) == set(lab.HOSTS)
    assert {name for name, number in changed.items() if number} == {"fails", "lost"}


def test_what_was_kept_of_the_failure_is_still_there():
    assert len([base for base, _open in fleet.databases("fails") if "__kept_" in base]) == 1
    assert not fleet.tells_a_secret(fleet.printed("second"))
