# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""database_backup_retention: what it drops is gone, what it keeps is whole. The rules themselves are in the unit test."""

from __future__ import annotations

import json
import pathlib
import shutil
import signal
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _retain, _sidecars
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name, safe_name
from ansible_collections.pgops.migrations.plugins.module_utils._points import list_points
from ansible_collections.pgops.migrations.plugins.module_utils._retain import retain
from ansible_collections.pgops.migrations.plugins.module_utils._retention import Rules
from integration.test_points import rewrite, snapshot
from support.restorepoints import databases, refused, take_backup, tree


@pytest.fixture
def five(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> tuple[t.Any, pathlib.Path, list[str]]:
    """A database and five of its restore points, the oldest first: one was taken, the others are copies of it."""
    target = database('we"ird-db; drop')
    point = take_backup(target, scratch, cluster.bin_dir)
    ids = [point["id"]]
    for number in range(2, 6):
        ids.append("2026112%dT120000Z-00000%d" % (number, number))
        copy = pathlib.Path(point["path"]).parent / ids[-1]
        shutil.copytree(point["path"], copy)
        rewrite(copy, id=ids[-1], sequence=number)
    with connection(target) as conn:
        assert [each["sequence"] for each in list_points(target, str(scratch), conn=conn)["restore_points"]] == [5, 4, 3, 2, 1]
    for number in ids[1:]:
        # The proof of a copy is for another manifest.
        digest = json.loads((scratch / safe_name(target.dbname) / number / "manifest.json").read_text(encoding="utf-8"))["digest"]
        _sidecars.write_proof(str(scratch / safe_name(target.dbname) / number), digest, "read", "", "2026-11-22T12:00:00Z", {})
    return target, scratch, ids


def left(target: t.Any, folder: pathlib.Path) -> list[str]:
    return sorted(path.name for path in (folder / safe_name(target.dbname)).iterdir())


def ids(entries: list[dict[str, t.Any]]) -> list[str]:
    return [entry["id"] for entry in entries]


def test_nothing_goes_until_it_is_told_to(five: t.Any, module: t.Any) -> None:
    target, folder, points = five
    before = tree(folder)
    options: dict[str, t.Any] = dict(backup_dir=str(folder), keep_last=2)
    dry = module("database_backup_retention", target, **options)
    assert (dry["changed"], ids(dry["would_drop"]), ids(dry["kept"]), dry["dropped"]) == (False, points[2::-1], points[:2:-1], []), dry
    assert dry["freed_bytes"] == sum(each["size_bytes"] for each in dry["would_drop"]) > 0 and dry["kept"][0]["reasons"] == ["number 1 of the last 2"]
    none = module("database_backup_retention", target, backup_dir=str(folder), apply=True)
    assert (none["changed"], none["would_drop"], none["dropped"]) == (False, [], []), "without a rule nothing is dropped"
    check = module("database_backup_retention", target, check=True, apply=True, pin=[points[0]], **options)
    assert (check["changed"], ids(check["would_drop"]), check["pinned"]) == (True, points[2:0:-1], [points[0]])
    assert module("database_backup_retention", target, pin=["20000101T000000Z-000000"], **options)["code"] == "BACKUP_NOT_FOUND"
    assert module("database_backup_retention", target, pin=points[:1], unpin=points[:1], **options)["code"] == "OPTION_INVALID"
    assert module("database_backup_retention", target, backup_dir=str(folder), keep_last=-1)["code"] == "OPTION_INVALID"
    assert tree(folder) == before

    pinned = module("database_backup_retention", target, pin=[points[0]], pin_reason="audit", backup_dir=str(folder))
    assert (pinned["changed"], pinned["pinned"]) == (True, [points[0]])
    assert module("database_backup_retention", target, pin=[points[0]], backup_dir=str(folder))["changed"] is False
    with _sidecars.in_use(str(folder / safe_name(target.dbname) / points[1])):
        applied = module("database_backup_retention", target, apply=True, **options)
    assert (applied["changed"], ids(applied["dropped"]), applied["would_drop"]) == (True, [points[2]], []), applied
    assert {each["id"]: each["reasons"] for each in applied["kept"]}[points[1]] == ["in use"]
    assert left(target, folder) == sorted([*points[:2], *points[3:]])
    again = module("database_backup_retention", target, apply=True, **options)
    assert ids(again["dropped"]) == [points[1]] and module("database_backup_retention", target, apply=True, **options)["changed"] is False
    freed = module("database_backup_retention", target, apply=True, unpin=[points[0]], **options)
    assert (freed["unpinned"], ids(freed["dropped"]), left(target, folder)) == ([points[0]], [points[0]], sorted(points[3:]))
    listing = module("database_backup_info", target, backup_dir=str(folder), verify="hashes")
    assert [each["usable"] for each in listing["restore_points"]] == [True, True], "what stays is whole"


def test_a_killed_removal_leaves_no_restore_point(five: t.Any, module: t.Any, monkeypatch: pytest.MonkeyPatch) -> None:
    target, folder, points = five

    def killed(path: str) -> None:
        raise KeyboardInterrupt(path)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        # From here on a kill can come: the rename is done and on the disk.
        patch.setattr(_retain, "_delete", killed)
        retain(target, str(folder), Rules(keep_last=4), apply=True)
    gone = str(folder / safe_name(target.dbname) / (points[0] + ".removing"))
    listing = module("database_backup_info", target, backup_dir=str(folder))
    assert ids(listing["restore_points"]) == points[:0:-1] and listing["leftovers"] == [gone]
    finished = module("database_backup_retention", target, backup_dir=str(folder), keep_last=4, apply=True)
    assert finished["changed"] is True and finished["dropped"] == [] and left(target, folder) == sorted(points[1:])


def test_killed_at_any_moment_it_leaves_whole_ones_or_none(five: t.Any, module: t.Any) -> None:
    target, folder, points = five
    for seconds in (0.35, 0.6):
        process = module.start("database_backup_retention", target, backup_dir=str(folder), keep_last=1, apply=True)
        try:
            process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
        listing = module("database_backup_info", target, backup_dir=str(folder), verify="hashes")
        assert all(each["usable"] for each in listing["restore_points"]) and listing["newest"] == points[-1]
    assert not module("database_backup_retention", target, backup_dir=str(folder), keep_last=1, apply=True).get("failed")
    assert left(target, folder) == points[-1:]


def test_damaged_foreign_and_unproved_ones(five: t.Any, module: t.Any) -> None:
    target, folder, points = five
    home = folder / safe_name(target.dbname)
    (home / points[4] / "manifest.json").unlink()
    rewrite(home / points[3], target={"system_identifier": "4711"})
    rewrite(home / points[2], label="its proof is for another manifest")
    options: dict[str, t.Any] = dict(backup_dir=str(folder), keep_last=0, apply=True)
    done = module("database_backup_retention", target, **options)
    assert ids(done["dropped"]) == [points[2], points[0]] and "is damaged: it has no manifest.json" in str(done["warnings"])
    assert {each["id"]: each["reasons"] for each in done["kept"]} == {
        points[1]: ["the newest proved one"], points[3]: ["of another database or server"], points[4]: ["damaged; drop_damaged drops it"],
    }  # fmt: skip
    assert ids(module("database_backup_retention", target, drop_damaged=True, **options)["dropped"]) == [points[4]]
    assert left(target, folder) == sorted([points[1], points[3]])


def test_snapshots_are_dropped_by_what_they_are(five: t.Any, admin: t.Any, module: t.Any) -> None:
    target, folder, points = five
    old, new = (derived_name(target.dbname, "snapshot", "2026112%dT120000Z-ffffff" % day) for day in (1, 2))
    snapshot(target, admin, old, id="20261121T120000Z-ffffff", sequence=6)
    snapshot(target, admin, new, id="20261122T120000Z-ffffff", sequence=7)
    options: dict[str, t.Any] = dict(backup_dir=str(folder), keep_last=1, apply=True, run_id="r1")
    assert ids(module("database_backup_retention", target, **options)["dropped"]) == points[3::-1], "not without being told to"
    pinned = module("database_backup_retention", target, pin=[old], pin_reason="audit", backup_dir=str(folder))
    assert pinned["pinned"] == ["20261121T120000Z-ffffff"]
    kept = module("database_backup_retention", target, snapshots=True, **options)
    assert kept["changed"] is False and "pinned: audit" in str(kept["kept"])
    module("database_backup_retention", target, unpin=[old], backup_dir=str(folder))
    busy = admin(old)
    with busy.cursor() as cursor:
        cursor.execute("SELECT 1")
        refusal = module("database_backup_retention", target, snapshots=True, **options)
    assert refusal["dropped"] == [] and "was not dropped" in str(refusal["warnings"]), refusal
    busy.close()
    with connection(target) as conn:
        seen = next(each for each in list_points(target, str(folder), conn=conn)["restore_points"] if each["name"] == old)
        with refused("BACKUP_NOT_FOUND"):
            _retain._demand_snapshot(conn, dict(seen, oid=seen["oid"] + 1))
    done = module("database_backup_retention", target, snapshots=True, **options)
    assert ids(done["dropped"]) == ["20261121T120000Z-ffffff"] and old not in databases(admin()) and new in databases(admin())


def test_a_damaged_newest_one_is_no_reason_to_drop_an_intact_one(five: tuple[t.Any, pathlib.Path, list[str]]) -> None:
    target, folder, ids_ = five
    data = max((folder / safe_name(target.dbname) / ids_[-1] / "archive").iterdir(), key=lambda path: path.stat().st_size)
    content = bytearray(data.read_bytes())
    content[len(content) // 2] ^= 1
    data.write_bytes(bytes(content))
    done = retain(target, str(folder), Rules(keep_last=1), apply=True)
    assert ids_[-2] in left(target, folder) and ids_[-2] not in ids(done["dropped"])
    assert any(ids_[-1] in warning and "damaged" in warning for warning in done["warnings"]), done["warnings"]


def test_a_pin_of_meanwhile_counts(five: tuple[t.Any, pathlib.Path, list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    target, folder, ids_ = five
    plan = _retain._plan

    def pinned_after(*args: t.Any, **options: t.Any) -> t.Any:
        decided = plan(*args, **options)
        _sidecars.write_pin(str(folder / safe_name(target.dbname) / ids_[0]), "audit", "2026-11-22T12:00:00Z")
        return decided

    monkeypatch.setattr(_retain, "_plan", pinned_after)
    done = retain(target, str(folder), Rules(keep_last=1), apply=True)
    assert ids_[0] in left(target, folder) and any("pinned meanwhile" in warning for warning in done["warnings"])
