# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every kind of damage at random positions: the restore is refused before anything is changed."""

from __future__ import annotations

import os
import pathlib
import random
import secrets
import shutil
import subprocess
import typing as t

import pytest
from support.damage import KINDS, Damages
from support.restorepoints import databases, execute, filled, fingerprint, go_back, refused, take_backup

POSITIONS = 20
#: Kinds without a position in the files.
FEW = {"manifest_missing": 1, "foreign_cluster": 3, "foreign_database": 4, "newer_client": 3, "newer_server": 3}
#: Run the same positions again with what a failure printed.
SEED = int(os.environ.get("PGOPS_TEST_SEED") or secrets.randbits(32))


class Points(t.NamedTuple):
    """A restore point, one of another state and one of another database, and how to restore the first."""

    target: t.Any
    point: dict[str, t.Any]
    other: dict[str, t.Any]
    foreign: dict[str, t.Any]
    options: dict[str, t.Any]


@pytest.fixture(params=["directory", pytest.param("custom", marks=[pytest.mark.exhaustive]), "age"])
def points(request: pytest.FixtureRequest, cluster: t.Any, database: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path) -> Points:
    target, foreign = filled(database()), filled(database())
    options: dict[str, t.Any] = {"format": request.param}
    back: dict[str, t.Any] = {}
    if request.param == "age":
        identity = tmp_path / "identity"
        subprocess.run(["age-keygen", "-o", str(identity)], check=True, stderr=subprocess.DEVNULL)
        public = next(line.split()[-1] for line in identity.read_text().splitlines() if "public key" in line)
        options, back = {"encryption": "age", "encryption_recipients": [public]}, {"identity_file": str(identity)}
    other = take_backup(target, scratch, cluster.bin_dir, **options)
    execute(target, "UPDATE notes SET body = md5(id::text)", "INSERT INTO users (name) VALUES ('one more')", "CREATE TABLE more (a int)")
    point = take_backup(target, scratch, cluster.bin_dir, **options)
    execute(target, "DELETE FROM notes WHERE id > 1000", "DROP TABLE more")
    return Points(target, point, other, take_backup(foreign, scratch, cluster.bin_dir, **options), back)


def test_every_damage_is_refused_before_any_change(cluster: t.Any, admin: t.Any, points: Points, tmp_path: pathlib.Path) -> None:
    before, content = databases(admin()), fingerprint(points.target)
    copy, outside = tmp_path / "copy" / points.point["id"], tmp_path / "outside"
    outside.mkdir()
    refusals = 0
    for kind, codes in KINDS.items():
        if kind == "newer_archive" and points.options:
            # The head of an encrypted archive cannot be changed by who has not the key; that it is refused is tested with the encryption.
            continue
        for number in range(FEW.get(kind, POSITIONS)):
            shutil.copytree(points.point["path"], copy, symlinks=True)
            dice = random.Random("%d %s %d" % (SEED, kind, number))
            getattr(Damages(copy, pathlib.Path(points.other["path"]), pathlib.Path(points.foreign["path"]), outside, dice), kind)()
            try:
                with refused(*codes):
                    go_back(points.target, dict(points.point, path=str(copy)), cluster.bin_dir, **points.options)
            except Exception as error:
                raise AssertionError("%s, position %d, PGOPS_TEST_SEED=%d: %s" % (kind, number, SEED, error)) from error
            refusals += 1
            shutil.rmtree(copy)
        assert databases(admin()) == before, kind
    assert refusals >= 12 * POSITIONS and fingerprint(points.target) == content
    shutil.copytree(points.point["path"], copy)
    result = go_back(points.target, dict(points.point, path=str(copy)), cluster.bin_dir, **points.options)
    assert result["changed"] is True and execute(points.target, "SELECT count(*) FROM notes") == [(2000,)], "and what is whole is restored"


@pytest.mark.parametrize("points", ["directory"], indirect=True)
def test_the_module_says_it_with_the_same_codes(cluster: t.Any, admin: t.Any, points: Points, tmp_path: pathlib.Path, module: t.Any) -> None:
    before = databases(admin())
    copy = tmp_path / "copy" / points.point["id"]
    for kind in ("bit_flip", "manifest_cut", "foreign_database", "newer_archive"):
        shutil.copytree(points.point["path"], copy)
        getattr(Damages(copy, copy, pathlib.Path(points.foreign["path"]), tmp_path, random.Random(SEED)), kind)()
        answer = module("database_restore", points.target, restore_point=str(copy), confirm=points.point["confirmation"], pg_bin_dir=str(cluster.bin_dir))
        assert answer["failed"] and answer["code"] in KINDS[kind], "%s, PGOPS_TEST_SEED=%d: %s" % (kind, SEED, answer)
        shutil.rmtree(copy)
    answer = module("database_restore", points.target, restore_point=str(copy), confirm=points.point["confirmation"], pg_bin_dir=str(cluster.bin_dir))
    assert answer["code"] == "BACKUP_NOT_FOUND"
    assert databases(admin()) == before
