# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""database_restore_drill: what it proves was really restored and compared, and nothing is left of it."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import shutil
import signal
import struct
import subprocess
import threading
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _drill, _failpoint, _sidecars
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._drill import DrillOptions, choose, drill, drill_point
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from integration.test_points import rewrite, snapshot
from support.restorepoints import databases, execute, filled, fingerprint, refused, session_count, take_backup, tree, until
from support.swaps import stopped


@pytest.mark.parametrize("name", [None, 'we"ird-db; drop'], ids=["plain", "odd"])
def test_a_drill_proves_measures_and_leaves_nothing(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any, name: str | None
) -> None:
    target = filled(database(name))
    options: dict[str, t.Any] = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir), run_id="nightly")
    none = module("database_restore_drill", target, **options)
    assert none["code"] == "BACKUP_NOT_FOUND" and "backup.yml" in none["next_step"]
    old = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes WHERE id > 1500")
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DROP TABLE keyless")
    before, live, files = databases(admin()), fingerprint(target), tree(scratch)
    check = module("database_restore_drill", target, check=True, **options)
    assert (check["changed"], check["rto_seconds"], check["drilled_at"]) == (True, None, "") and tree(scratch) == files

    done = module("database_restore_drill", target, **options)
    assert (done["changed"], done["restore_point"]["id"], done["restored"]) == (True, point["id"], {"tables": 3, "rows": 2002}), done
    assert set(done["seconds"]) == {"check", "restore", "analyze", "verify", "total"} and done["rto_seconds"] == done["seconds"]["total"] > 0
    assert databases(admin()) == before and fingerprint(target) == live
    proof = _sidecars.read_proof(point["path"])
    assert proof and (proof["level"], proof["run_id"], proof["manifest"], proof["at"]) == ("drill", "nightly", point["sha256"], done["drilled_at"])
    listed = module("database_backup_info", target, backup_dir=str(scratch), verify="hashes")["restore_points"]
    assert [(each["proof"]["level"], each["proof"]["valid"], each["usable"]) for each in listed] == [("drill", True, True), ("read", True, True)]

    young = module("database_restore_drill", target, max_age=1, **options)
    assert (young["changed"], young["drilled_at"], young["rto_seconds"]) == (False, done["drilled_at"], done["rto_seconds"])
    for at in ("2026-01-01T00:00:00Z", "2099-01-01T00:00:00Z", "rubbish"):
        _sidecars.write_proof(point["path"], point["sha256"], "drill", "", at, {"total": 1.0})
        assert module("database_restore_drill", target, check=True, max_age=1, **options)["changed"] is True, at
    for wanted in (old["id"], old["path"]):
        assert module("database_restore_drill", target, restore_point=wanted, **options)["restore_point"]["id"] == old["id"]
    assert module("database_restore_drill", target, restore_point="20000101T000000Z-000000", **options)["code"] == "BACKUP_NOT_FOUND"
    assert module("database_restore_drill", target, jobs=0, **options)["code"] == "OPTION_INVALID"


def test_what_does_not_restore_fails_with_its_code(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir, format="custom")
    path, before = pathlib.Path(point["path"]), databases(admin())
    options: dict[str, t.Any] = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    good = (path / "manifest.json").read_bytes()

    # A manifest with a right digest that promises more rows: only a restore finds that out.
    outer = json.loads(good)
    table = outer["manifest"]["fingerprint"]["tables"]["public.users"]
    rewrite(
        path,
        fingerprint=dict(outer["manifest"]["fingerprint"], tables=dict(outer["manifest"]["fingerprint"]["tables"], **{"public.users": dict(table, rows=501)})),
    )
    lied = module("database_restore_drill", target, **options)
    assert (lied["code"], lied["restore_point"]["id"]) == ("FINGERPRINT_MISMATCH", point["id"]) and databases(admin()) == before, lied
    assert (_sidecars.read_proof(str(path)) or {})["level"] == "read", "the proof of before stays as it was"
    (path / "manifest.json").write_bytes(good)

    archive = path / "archive.dump"
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert module("database_restore_drill", target, **options)["code"] == "BACKUP_CORRUPT"
    archive.write_bytes(content)
    # Objects of a role that is gone, named before anything is made.
    rewrite(path, prerequisites=dict(outer["manifest"]["prerequisites"], roles=["nobody_here"], owners=["nobody_here"]))
    missing = module("database_restore_drill", target, **options)
    assert missing["code"] == "RESTORE_PREREQUISITE" and "nobody_here" in missing["msg"]
    assert databases(admin()) == before
    shutil.rmtree(path)


@pytest.mark.parametrize("check", [True, False])
def test_who_may_not_make_databases_is_told_before_the_archive_is_read(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch, check: bool
) -> None:
    target = filled(database(createdb=False))
    path = take_backup(target, scratch, cluster.bin_dir)["path"]

    def read(*_args: t.Any) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(_drill, "load", read)
    with refused("PERMISSION_DENIED") as caught:
        drill(target, path, DrillOptions(pg_bin_dir=str(cluster.bin_dir)), check)
    assert "CREATEDB" in caught[0].msg
    name = target.dbname + "__snapshot_x"
    snapshot(target, admin, name, id="20261122T120000Z-aaaaaa", sequence=2, fingerprint_digest="0" * 64)
    point = choose(target, str(scratch), name)
    with refused("PERMISSION_DENIED"):
        drill_point(target, point, DrillOptions(), check)


def test_neither_waits_for_the_other(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    """A nightly drill must not hold up a deploy, and a deploy not a drill; two drills come one after the other."""
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir)
    options = DrillOptions(pg_bin_dir=str(cluster.bin_dir), lock_wait=0)
    with run_lock(target):
        assert drill(target, point["path"], options)["changed"] is True
    with _drill.drill_lock(target, options):
        with run_lock(target):
            pass
        with refused("LOCKED") as caught:
            drill(target, point["path"], options)
    assert "(drill)" in caught[0].msg
    with _sidecars.demand_unused(point["path"]), refused("BACKUP_IN_USE"):
        drill(target, point["path"], options)


def test_a_killed_drill_is_cleared_by_the_next(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    execute(target, "INSERT INTO notes (author, body) SELECT 1, repeat('y', 2000) FROM generate_series(1, 20000)")
    point = take_backup(target, scratch, cluster.bin_dir)
    before = databases(admin())
    options: dict[str, t.Any] = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    conn = admin()
    process = module.start("database_restore_drill", target, **options)
    made = until(lambda: [name for name in set(databases(conn)) - set(before) if session_count(conn, name)])
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert made and "__drill_" in made[0]
    assert (_sidecars.read_proof(point["path"]) or {})["level"] == "read"
    done = module("database_restore_drill", target, **options)
    assert done["changed"] is True and databases(admin()) == before


def test_a_restore_point_that_is_tried_out_is_not_dropped(cluster: t.Any, database: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    points = [take_backup(target, scratch, cluster.bin_dir, reuse=False) for _number in range(2)]
    entered, leave = threading.Event(), threading.Event()

    def hold(*args: t.Any, **kwargs: t.Any) -> None:
        entered.set()
        assert leave.wait(60)
        real(*args, **kwargs)

    real = _drill.read_through
    worker = threading.Thread(target=lambda: drill(target, points[0]["path"], DrillOptions(pg_bin_dir=str(cluster.bin_dir))))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_drill, "read_through", hold)
        worker.start()
        assert entered.wait(60)
        answer = module("database_backup_retention", target, backup_dir=str(scratch), keep_last=1, apply=True)
        leave.set()
        worker.join(60)
    assert answer["dropped"] == [] and (_sidecars.read_proof(points[0]["path"]) or {})["level"] == "drill"


def test_room_is_looked_at_where_the_disk_can_be_seen(cluster: t.Any, database: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = filled(database())
    superuser = cluster.superuser_target(target.dbname)
    point = take_backup(superuser, scratch, cluster.bin_dir)
    options = DrillOptions(pg_bin_dir=str(cluster.bin_dir))
    monkeypatch.setattr(_drill, "room", lambda _path: 1 << 20)
    control = pathlib.Path(cluster.server.data_dir, "global", "pg_control")
    with connection(superuser) as conn, conn.cursor() as cursor:
        cursor.execute("SELECT system_identifier::text FROM pg_control_system()")
        (system,) = cursor.fetchone()
    assert str(struct.unpack("=Q", control.read_bytes()[:8])[0]) == system
    with refused("DISK_FULL") as caught:
        drill(superuser, point["path"], options)
    assert caught[0].facts["free_bytes"] == 1 << 20
    # A plain role may not know where the server's data is.
    assert drill(target, point["path"], options)["changed"] is True


def test_a_snapshot_is_compared_with_its_own_fingerprint(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = database()
    empty = fingerprint(target)
    good, other, bare = (target.dbname + "__snapshot_" + word for word in ("good", "other", "bare"))
    snapshot(target, admin, good, id="20261122T120000Z-aaaaaa", sequence=1, fingerprint_digest=empty)
    snapshot(target, admin, other, id="20261122T120000Z-bbbbbb", sequence=2, fingerprint_digest="0" * 64)
    snapshot(target, admin, bare, id="20261122T120000Z-cccccc", sequence=3, fingerprint_digest="")
    for name in (good, other, bare):
        admin().cursor().execute('ALTER DATABASE "%s" ALLOW_CONNECTIONS false' % name)
    before = databases(admin())
    options: dict[str, t.Any] = dict(backup_dir=str(scratch))
    done = module("database_restore_drill", target, restore_point=good, **options)
    assert (done["changed"], done["rto_seconds"], done["restore_point"]["kind"]) == (False, 0, "snapshot"), done
    assert module("database_restore_drill", target, restore_point=other, **options)["code"] == "FINGERPRINT_MISMATCH"
    assert module("database_restore_drill", target, restore_point="20261122T120000Z-cccccc", **options)["code"] == "DRILL_IMPOSSIBLE"
    assert module("database_restore_drill", target, **options)["code"] == "BACKUP_NOT_FOUND", "a drill is of a dump unless told otherwise"
    assert databases(admin()) == before


@pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed: apt-get install age")
def test_an_encrypted_one_is_tried_out_with_its_key(cluster: t.Any, database: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    key = tmp_path / "key.txt"
    subprocess.run(["age-keygen", "-o", str(key)], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", str(key)], check=True, capture_output=True, text=True).stdout.strip()
    options: dict[str, t.Any] = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    taken = module("database_backup", target, encryption="age", encryption_recipients=[public], proof="drill", identity_file=str(key), **options)
    assert taken["restore_point"]["proof"]["level"] == "drill", taken
    assert module("database_restore_drill", target, **options)["code"] == "DECRYPTION_FAILED"
    done = module("database_restore_drill", target, identity_file=str(key), **options)
    assert done["changed"] is True and done["restored"]["rows"] == 2502, done
    (listed,) = module("database_backup_info", target, backup_dir=str(scratch), verify="hashes")["restore_points"]
    assert listed["encryption"]["tool"] == "age" and listed["usable"] and listed["proof"]["level"] == "drill"


@pytest.mark.parametrize("kind", ["dump", "snapshot"])
def test_what_a_drill_left_unmarked_goes_with_the_next_one(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any, kind: str
) -> None:
    target = filled(database('we"ird-db; drop'))
    options: dict[str, t.Any] = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    take_backup(target, scratch, cluster.bin_dir)
    if kind == "snapshot":
        options["restore_point"] = module("database_copy", target, verify=True)["snapshot"]["name"]
    before = databases(admin())
    process = dataclasses.replace(module, env={_failpoint.VARIABLE: "scratch:created"}).start("database_restore_drill", target, **options)
    assert stopped(process), process.communicate()
    process.kill()
    process.communicate()
    (left,) = set(databases(admin())) - set(before)
    assert "__drill_" in left
    assert module("database_restore_drill", target, **options)["drilled_at"]
    assert databases(admin()) == before
