# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""database_backup_info: what restore points there are, in their order, whatever has become of them."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import threading
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _backup, _sidecars
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._copy import CopyOptions, copy
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._kept import listing
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FORMAT, _digest, safe_name
from ansible_collections.pgops.migrations.plugins.module_utils._points import list_points
from support.restorepoints import execute, filled, refused, take_backup

LEDGER = """
CREATE TABLE _prisma_migrations (
    id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at TIMESTAMPTZ, migration_name VARCHAR(255) NOT NULL,
    logs TEXT, rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0)
"""
APPLY = "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES (gen_random_uuid(), md5('%s'), '%s', %s)"


def apply(target: t.Any, name: str, finished: bool = True) -> None:
    execute(target, APPLY % (name, name, "now()" if finished else "NULL"))


def snapshot(target: t.Any, admin: t.Any, name: str, **facts: t.Any) -> None:
    """A database with the comment of a snapshot, as database_copy makes it."""
    with admin().cursor() as cursor:
        cursor.execute("SELECT format('CREATE DATABASE %%I OWNER %%I', %s, %s), format('COMMENT ON DATABASE %%I IS %%L', %s, %s)", (
            name, target.user, name, marker("snapshot", **{"database": target.dbname, "at": "2026-11-22T12:00:00Z", "run_id": "", **facts}),
        ))  # fmt: skip
        for statement in cursor.fetchone():
            cursor.execute(statement)


def rewrite(path: pathlib.Path, **changes: t.Any) -> None:
    """Another manifest with a right digest: what another server, database or clock would have written."""
    outer = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    target = changes.pop("target", {})
    outer["manifest"].update(changes, target=dict(outer["manifest"]["target"], **target))
    outer["digest"] = _digest(outer["manifest"])
    (path / "manifest.json").write_text(json.dumps(outer), encoding="utf-8")


def listed(module: t.Any, target: t.Any, folder: pathlib.Path, **options: t.Any) -> dict[str, t.Any]:
    answer = module("database_backup_info", target, backup_dir=str(folder), **options)
    assert not answer.get("failed") and answer["changed"] is False, answer
    return t.cast("dict[str, t.Any]", answer)


def test_all_of_them_in_their_order(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database('we"ird-db; drop'))
    for folder in (scratch, scratch / "none"):
        none = listed(module, target, folder)
        assert (none["restore_points"], none["newest"], none["leftovers"]) == ([], "", [])
    first = take_backup(target, scratch, cluster.bin_dir, run_id="r1", label="before all")
    execute(target, LEDGER)
    apply(target, "1_init")
    apply(target, "2_fails", finished=False)
    second = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "UPDATE _prisma_migrations SET finished_at = now() WHERE finished_at IS NULL")
    third = take_backup(target, scratch, cluster.bin_dir)
    with connection(target) as conn:
        ledger = list_points(target, str(scratch), conn=conn)["restore_points"][0]["ledger"]
    snapshot(target, admin, target.dbname + "__snapshot_x", id="20261122T120000Z-aaaaaa", sequence=4, ledger=ledger, lsn="0/1")
    snapshot(target, admin, target.dbname + "__snapshot_y", id="20261122T120000Z-bbbbbb", sequence=5, database="another")
    folder = scratch / safe_name(target.dbname)
    (folder / "20261122T120000Z-cccccc.partial").mkdir()
    (folder / "notes").mkdir()

    answer = listed(module, target, scratch)
    points = answer["restore_points"]
    assert [(each["kind"], each["sequence"], each["id"]) for each in points] == [
        ("snapshot", 4, "20261122T120000Z-aaaaaa"), ("dump", 3, third["id"]), ("dump", 2, second["id"]), ("dump", 1, first["id"]),
    ]  # fmt: skip
    assert all(each["usable"] and each["state"] == "good" and not each["in_use"] and each["pinned"] is None for each in points)
    assert [each["present"] for each in points] == [True, True, False, False]
    assert answer["newest"] == "20261122T120000Z-aaaaaa" and answer["leftovers"] == [str(folder / "20261122T120000Z-cccccc.partial")]
    assert [(each["proof"]["level"], each["proof"]["valid"]) for each in points[1:]] == [("read", True)] * 3 and points[0]["proof"] is None
    assert (points[3]["run_id"], points[3]["label"], points[3]["ledger"], points[3]["path"]) == ("r1", "before all", None, first["path"])
    assert points[1]["ledger"]["applied"] == ["1_init", "2_fails"] and points[2]["ledger"]["applied"] == ["1_init"]
    assert points[0]["name"] == target.dbname + "__snapshot_x" and points[0]["size_bytes"] > 0 and points[0]["lsn"] == "0/1"
    assert 0 <= points[1]["age_seconds"] < 60 and points[1]["size_bytes"] == third["size_bytes"]
    # A migration that was only begun is in it, too.
    newest = {name: listed(module, target, scratch, before=name)["newest"] for name in ("3_next", "2_fails", "1_init")}
    assert newest == {"3_next": "20261122T120000Z-aaaaaa", "2_fails": first["id"], "1_init": first["id"]}

    # The database itself may be gone: this is when its restore points are looked for.
    admin().cursor().execute('DROP DATABASE "%s" WITH (FORCE)' % target.dbname.replace('"', '""'))
    without = listed(module, target, scratch)
    assert [(each["id"], each["usable"], each["present"]) for each in without["restore_points"]] == [(each["id"], True, None) for each in points]


@pytest.mark.parametrize(
    "facts",
    [
        {"sequence": "abc"}, {"sequence": [1]}, {"sequence": True}, {"sequence": -1}, {"sequence": 1 << 70}, {"ledger": "x"}, {"ledger": {"applied": "x"}},
        {"ledger": {"applied": [1]}}, {"pinned": "x"}, {"id": 1}, {"id": "\ud800"}, {"at": []}, {"run_id": {}}, {"lsn": 7},
    ],
    ids=str,
)  # fmt: skip
def test_a_comment_of_wrong_types_is_none_of_ours(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, facts: dict[str, t.Any]) -> None:
    target = database()
    snapshot(target, admin, target.dbname + "__snapshot_x", **{"id": "20261122T120000Z-aaaaaa", "sequence": 4, **facts})
    with connection(target) as conn:
        assert list_points(target, str(scratch), conn=conn)["restore_points"] == []
        assert listing(conn, target) == [] and _backup._snapshot_sequences(conn, target.dbname) == []
    assert copy(target, CopyOptions(), check_mode=True)["changed"] is True


def damage(how: str, path: pathlib.Path) -> None:
    manifest = path / "manifest.json"
    text = manifest.read_text(encoding="utf-8")
    archive = sorted((path / "archive").iterdir())[0]
    content = archive.read_bytes()
    if how == "flipped":
        archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    elif how == "cut":
        archive.write_bytes(content[:-1])
    elif how == "file gone":
        archive.unlink()
    elif how == "manifest gone":
        manifest.unlink()
    elif how == "manifest empty":
        manifest.write_text("", encoding="utf-8")
    elif how == "manifest edited":
        manifest.write_text(text.replace('"sequence": 1', '"sequence": 9'), encoding="utf-8")
    elif how == "later format":
        manifest.write_text(text.replace('"format": %d' % FORMAT, '"format": %d' % (FORMAT + 1), 1), encoding="utf-8")
    elif how == "link":
        shutil.move(str(path), str(path) + "-moved")
        path.symlink_to(str(path) + "-moved")
    elif how == "another's":
        rewrite(path, id="20261122T120000Z-ffffff")
    elif how == "other server":
        rewrite(path, target={"system_identifier": "4711"})
    elif how == "other database":
        rewrite(path, target={"database": "another"})
    elif how == "newer server":
        rewrite(path, target={"server_version_num": 990000})
    elif how == "future":
        rewrite(path, finished_at="2099-01-01T00:00:00Z")


@pytest.mark.parametrize(
    ("how", "state", "code"),
    [
        ("flipped", "damaged", "BACKUP_CORRUPT"),
        ("cut", "damaged", "BACKUP_CORRUPT"),
        ("file gone", "damaged", "BACKUP_CORRUPT"),
        ("manifest gone", "damaged", "BACKUP_FORMAT"),
        ("manifest empty", "damaged", "BACKUP_FORMAT"),
        ("manifest edited", "damaged", "BACKUP_CORRUPT"),
        ("another's", "damaged", "BACKUP_CORRUPT"),
        ("later format", "unknown", "BACKUP_FORMAT"),
        ("link", "unknown", "BACKUP_FORMAT"),
        ("newer server", "unknown", "VERSION_MISMATCH"),
        ("other server", "foreign", "BACKUP_FOREIGN"),
        ("other database", "foreign", "BACKUP_FOREIGN"),
        ("future", "good", ""),
    ],
)
def test_what_cannot_be_used_is_listed_with_its_reason(one: t.Any, how: str, state: str, code: str) -> None:
    target, folder, point = one
    damage(how, pathlib.Path(point["path"]))
    with connection(target) as conn:
        # A flipped bit is found by reading; everything else without it.
        (seen,) = list_points(target, str(folder), conn=conn, verify="hashes" if how == "flipped" else "none")["restore_points"]
        newest = list_points(target, str(folder), conn=conn)["newest"]
    assert (seen["state"], seen["code"], seen["usable"], bool(seen["reason"])) == (state, code, state == "good", state != "good")
    assert seen["id"] == point["id"] and newest == (point["id"] if how in ("flipped", "future") else "")
    assert seen["size_bytes"] > 0 or how == "link"
    assert how != "future" or seen["age_seconds"] < 0


@pytest.fixture(scope="module")
def taken(cluster: t.Any, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[tuple[t.Any, dict[str, t.Any]]]:
    """One restore point of the maintenance database's empty sibling, to be copied and damaged."""
    folder = tmp_path_factory.mktemp("points")
    target = cluster.superuser_target("points_of_one")
    conn = cluster.admin()
    conn.cursor().execute("CREATE DATABASE points_of_one")
    try:
        execute(target, "CREATE TABLE t (i int)", "INSERT INTO t VALUES (1)")
        yield target, take_backup(target, folder, cluster.bin_dir)
    finally:
        conn.cursor().execute("DROP DATABASE points_of_one WITH (FORCE)")
        conn.close()


@pytest.fixture
def one(taken: t.Any, scratch: pathlib.Path) -> tuple[t.Any, pathlib.Path, dict[str, t.Any]]:
    target, point = taken
    path = scratch / safe_name(target.dbname) / point["id"]
    shutil.copytree(point["path"], path)
    return target, scratch, dict(point, path=str(path))


def test_proofs_pins_and_locks(one: t.Any) -> None:
    target, folder, point = one
    path = point["path"]

    def seen(conn: t.Any) -> dict[str, t.Any]:
        return t.cast("dict[str, t.Any]", list_points(target, str(folder), conn=conn)["restore_points"][0])

    with connection(target) as conn:
        _sidecars.write_proof(path, "0" * 64, "drill", "r", "2026-11-22T12:00:00Z", {"total": 1.5})
        assert seen(conn)["proof"] == {"level": "drill", "at": "2026-11-22T12:00:00Z", "run_id": "r", "seconds": {"total": 1.5}, "valid": False}
        _sidecars.write_proof(path, point["sha256"], "drill", "r", "2026-11-22T12:00:00Z", {})
        assert seen(conn)["proof"]["valid"] is True
        for rubbish in ("", "[]", '{"level": "guess", "manifest": "x"}', "[" * 100000):
            (pathlib.Path(path) / "proof.json").write_text(rubbish, encoding="utf-8")
            assert _sidecars.read_proof(path) is None and seen(conn)["proof"] is None
        _sidecars.write_pin(path, "audit", "2026-11-22T12:00:00Z")
        assert seen(conn)["pinned"] == {"reason": "audit", "at": "2026-11-22T12:00:00Z"}
        (pathlib.Path(path) / "pinned.json").write_text("rubbish", encoding="utf-8")
        assert seen(conn)["pinned"] == {}, "a pin that cannot be read still pins"
        _sidecars.remove_pin(path)
        _sidecars.remove_pin(path)
        assert seen(conn)["pinned"] is None and seen(conn)["usable"]
        with _sidecars.in_use(path), _sidecars.in_use(path):
            assert seen(conn)["in_use"] is True
            with refused("BACKUP_IN_USE"), _sidecars.demand_unused(path):
                pass
        assert seen(conn)["in_use"] is False
        with _sidecars.demand_unused(path), refused("BACKUP_IN_USE"), _sidecars.in_use(path):
            pass
    assert {name: oct(os.stat(os.path.join(path, name)).st_mode & 0o777) for name in ("proof.json",)} == {"proof.json": "0o600"}


def test_who_lists_them_keeps_nobody_from_using_one(one: t.Any) -> None:
    """The look whether one is in use takes a lock for a moment; a reader must not be refused because of it."""
    _target, _folder, point = one
    stop, errors = threading.Event(), list[str]()

    def look() -> None:
        while not stop.is_set():
            try:
                with _sidecars.demand_unused(point["path"]):
                    pass
            except MigrationError as error:
                errors.append(error.code)

    threads = [threading.Thread(target=look) for _number in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _number in range(200):
            with _sidecars.in_use(point["path"]):
                pass
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert set(errors) <= {"BACKUP_IN_USE"}
