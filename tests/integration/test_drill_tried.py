# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A drill that could not be tried says nothing about the restore point, and says so."""

from __future__ import annotations

import dataclasses
import pathlib
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _drill
from ansible_collections.pgops.migrations.plugins.module_utils._drill import DrillOptions, choose, drill_point
from ansible_collections.pgops.migrations.plugins.module_utils._drill_tried import restated
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from support.restorepoints import databases, filled, refused, take_backup


def test_what_stands_in_the_way_is_not_held_against_the_restore_point(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, module: t.Any
) -> None:
    target = filled(database())
    options: dict[str, t.Any] = dict(backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir))
    none = module("database_restore_drill", target, **options)
    assert (none["code"], none["tried"]) == ("BACKUP_NOT_FOUND", False)
    point = take_backup(target, scratch, cluster.bin_dir)
    assert module("database_restore_drill", target, check=True, **options)["tried"] is False
    assert module("database_restore_drill", target, **options)["tried"] is True
    down = module("database_restore_drill", dataclasses.replace(target, port=1), **options)
    assert (down["code"], down["tried"]) == ("SERVER_UNREACHABLE", False)
    admin().cursor().execute("ALTER ROLE %s NOCREATEDB" % target.user)
    right = module("database_restore_drill", target, **options)
    assert (right["code"], right["tried"], right["restore_point"]["id"]) == ("PERMISSION_DENIED", False, point["id"])
    admin().cursor().execute("ALTER ROLE %s CREATEDB" % target.user)
    archive = next(pathlib.Path(point["path"]).glob("archive*/*.dat*"))
    content = archive.read_bytes()
    archive.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    damaged = module("database_restore_drill", target, restore_point=point["id"], **options)
    assert (damaged["code"], damaged["tried"]) == ("BACKUP_CORRUPT", True)


@pytest.mark.skipif(shutil.which("age") is None, reason="age is not installed: apt-get install age")
def test_without_the_key_nothing_was_tried(cluster: t.Any, database: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path, module: t.Any) -> None:
    target, key = filled(database()), tmp_path / "key.txt"
    subprocess.run(["age-keygen", "-o", str(key)], check=True, capture_output=True)
    public = subprocess.run(["age-keygen", "-y", str(key)], check=True, capture_output=True, text=True).stdout.strip()
    take_backup(target, scratch, cluster.bin_dir, encryption="age", encryption_recipients=[public], format="custom")
    for given in ({}, {"identity_file": str(tmp_path / "none.txt")}):
        answer = module("database_restore_drill", target, backup_dir=str(scratch), pg_bin_dir=str(cluster.bin_dir), **given)
        assert (answer["code"], answer["tried"]) == ("DECRYPTION_FAILED", False), answer
        assert "migration_identity_file" in answer["next_step"]


def test_a_scratch_database_that_cannot_be_made_is_no_failed_restore(
    cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = filled(database())
    take_backup(target, scratch, cluster.bin_dir)
    point, before = choose(target, str(scratch)), databases(admin())
    real = _drill.read_settings
    # An encoding that the locale does not take: the server refuses CREATE DATABASE with a code that has no meaning of its own here.
    monkeypatch.setattr(_drill, "read_settings", lambda conn, oid: dict(real(conn, oid), encoding="no such encoding"))
    with refused("DRILL_IMPOSSIBLE") as caught:
        drill_point(target, point, DrillOptions(pg_bin_dir=str(cluster.bin_dir)))
    assert caught[0].facts["tried"] is False and "no such encoding" in caught[0].msg and databases(admin()) == before


@pytest.mark.parametrize(
    ("code", "msg", "expected", "tried"),
    [
        ("RESTORE_FAILED", "pg_restore ended with 1: server closed the connection unexpectedly", "CONNECTION_LOST", False),
        ("RESTORE_FAILED", 'pg_restore ended with 1: terminating connection due to administrator command', "CONNECTION_LOST", False),
        ("RESTORE_FAILED", 'pg_restore ended with 1: type "public.citext" does not exist', "RESTORE_FAILED", True),
        ("FINGERPRINT_MISMATCH", "it differs in 3 places", "FINGERPRINT_MISMATCH", True),
        ("BACKUP_CORRUPT", "a file has other content", "BACKUP_CORRUPT", True),
        ("BACKUP_FORMAT", "it has no manifest.json", "BACKUP_FORMAT", True),
        ("BACKUP_FOREIGN", "it is of another server", "BACKUP_FOREIGN", False),
        ("DISK_FULL", "no space left", "DISK_FULL", False),
        ("RESTORE_PREREQUISITE", "the role x is missing", "RESTORE_PREREQUISITE", False),
        ("LOCKED", "another drill runs", "LOCKED", False),
        ("VERSION_MISMATCH", "it is of PostgreSQL 18", "VERSION_MISMATCH", False),
    ],
)  # fmt: skip
def test_which_codes_are_about_the_restore_point(code: str, msg: str, expected: str, tried: bool) -> None:
    found = restated(MigrationError(msg, code=code, seconds=1))
    assert (found.code, found.facts["tried"], found.facts["seconds"]) == (expected, tried, 1)


def test_a_backup_that_is_to_be_drilled_is_refused_before_the_dump(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database(createdb=False))
    with refused("PERMISSION_DENIED"):
        take_backup(target, scratch, cluster.bin_dir, proof="drill")
    assert not list(scratch.glob("*/2*")), "no dump was made for nothing"
