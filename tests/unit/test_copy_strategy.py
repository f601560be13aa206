# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import dataclasses
import os
import pathlib
import subprocess
import sys
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._copy_strategy import WAL_LOG_BELOW, Marks, Strategy, choose, is_present, left_over
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name

SMALL, BIG = WAL_LOG_BELOW - 1, WAL_LOG_BELOW
NOW = Marks("7", 16384, 800, "abc", {"digest": "d", "rows": 2})
SNAPSHOT = {"system_identifier": "7", "source_oid": 16384, "next_xid": 800, "sequences": "abc", "ledger": {"digest": "d", "rows": 2}}


@pytest.mark.parametrize(
    ("wanted", "size", "version", "strategy"),
    [
        ("auto", SMALL, 140000, Strategy("file_copy", False, False)),
        ("auto", BIG, 140011, Strategy("file_copy", False, False)),
        ("file_copy", SMALL, 140011, Strategy("file_copy", False, False)),
        ("auto", SMALL, 150000, Strategy("wal_log", True, False)),
        ("auto", BIG, 150000, Strategy("file_copy", True, False)),
        ("wal_log", BIG, 170005, Strategy("wal_log", True, False)),
        ("file_copy", SMALL, 170005, Strategy("file_copy", True, False)),
        ("auto", SMALL, 180000, Strategy("wal_log", True, False)),
        ("auto", BIG, 180000, Strategy("file_copy", True, True)),
        ("file_copy", SMALL, 190001, Strategy("file_copy", True, True)),
    ],
)
def test_strategy(wanted: str, size: int, version: int, strategy: Strategy) -> None:
    assert choose(wanted, size, version) == strategy


@pytest.mark.parametrize(("wanted", "version"), [("wal_log", 140011), ("hard_link", 180000), ("", 150000)])
def test_strategy_that_the_server_has_not(wanted: str, version: int) -> None:
    with pytest.raises(MigrationError) as caught:
        choose(wanted, BIG, version)
    assert caught.value.code == "OPTION_INVALID"


def test_the_same_marks_prove_the_present_state() -> None:
    assert is_present(SNAPSHOT, NOW)
    assert is_present(dict(SNAPSHOT, ledger=None), dataclasses.replace(NOW, ledger=None))


@pytest.mark.parametrize("field", list(SNAPSHOT))
def test_one_other_or_missing_mark_proves_nothing(field: str) -> None:
    assert not is_present(dict(SNAPSHOT, **{field: "other"}), NOW)
    assert not is_present({name: value for name, value in SNAPSHOT.items() if name != field}, NOW)


def test_what_can_change_without_a_transaction_proves_nothing() -> None:
    assert not is_present(dict(SNAPSHOT, sequences=""), dataclasses.replace(NOW, sequences=""))


@pytest.mark.parametrize("dbname", ["app", 'we"ird-db; drop', "ä" * 31, "d" * 63, "postgresql://h/x"])
def test_left_over_by_its_name(dbname: str) -> None:
    name = derived_name(dbname, "snapshot", "20261122T163000Z-ab12cd")
    assert left_over(name, dbname)
    for other in (name + "x", name.replace("snapshot", "kept"), name[1:], "x__snapshot_2026", "other" + name[5:]):
        assert not left_over(other, dbname)


def test_failpoint_does_nothing_unless_it_is_asked_for() -> None:
    code = "from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint; _failpoint.reached('here'); print('on')"
    for value in (None, "", "elsewhere", "here:kill"):
        env: dict[str, t.Any] = {name: text for name, text in {**os.environ, _failpoint.VARIABLE: value}.items() if text is not None}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60, check=False)
        assert done.stdout == "on\n", done.stderr


def test_failpoint_is_read_in_one_place_only() -> None:
    folder = pathlib.Path(_failpoint.__file__).parent.parent
    assert [path.name for path in sorted(folder.rglob("*.py")) if _failpoint.VARIABLE in path.read_text(encoding="utf-8")] == ["_failpoint.py"]
