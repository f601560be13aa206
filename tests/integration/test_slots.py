# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How many heavy works run at once is counted by the server and by the folder."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._slots import folder_slot, server_slot


@pytest.fixture(params=["server", "folder"])
def slot(request: pytest.FixtureRequest, database: t.Any, scratch: pathlib.Path) -> t.Callable[[int, float], contextlib.AbstractContextManager[float]]:
    # Different databases of one server share its slots.
    targets = [database(), database()]

    def take(at_once: int, wait: float) -> contextlib.AbstractContextManager[float]:
        targets.reverse()
        return server_slot(targets[0], at_once, wait) if request.param == "server" else folder_slot(str(scratch), at_once, wait)

    return take


def test_no_more_than_so_many_and_each_is_given_back(slot: t.Any) -> None:
    with slot(2, 0), slot(2, 0):
        with pytest.raises(MigrationError) as caught, slot(2, 0):
            pass
        assert caught.value.code == "LOCKED" and "2 other" in caught.value.msg
        with slot(0, 0), slot(3, 0):
            pass
    with slot(2, 0), slot(2, 0):
        pass
