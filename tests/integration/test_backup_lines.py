# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What backup.yml and kept.yml print about old restore points and kept databases."""

from __future__ import annotations

import re
import subprocess
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._copy import CopyOptions, copy
from ansible_collections.pgops.migrations.plugins.module_utils._swap import swap
from integration.test_backup_playbooks import Fleet, fleet  # noqa: F401 - a fixture
from support.restorepoints import databases, execute, filled, take_backup


def said(done: subprocess.CompletedProcess[str]) -> str:
    return " ".join(done.stdout.split())


def test_retention_says_what_goes_and_what_stays_and_why(cluster: t.Any, fleet: Fleet, database: t.Any) -> None:  # noqa: F811
    target = filled(database())
    fleet.add("one", target)
    fleet.backups.mkdir(mode=0o700)
    ids = [take_backup(target, fleet.backups, cluster.bin_dir, reuse=False)["id"] for _number in range(2)]
    execute(target, "DELETE FROM notes")
    for arguments in (("--check",), ()):
        done = fleet.play("backup.yml", *arguments, backup_retention={"keep_last": 1})
        assert done.returncode == 0, done.stdout + done.stderr
        lines = re.findall(r'"((?:keep|would drop) \S+) \(dump, \d+ kB, [^)]*\): ([^"]*)"', done.stdout)
        if arguments:
            assert lines == [("keep %s" % ids[1], "number 1 of the last 1"), ("would drop %s" % ids[0], "no rule keeps it")], done.stdout
            assert "would take is not counted" in said(done)
        else:
            assert lines[1:] == [("would drop %s" % name, "no rule keeps it") for name in reversed(ids)], done.stdout
            assert "3 restore points: 1 stays, 2 would be dropped" in said(done) and "is not counted" not in said(done)


def test_kept_databases_in_words(cluster: t.Any, fleet: Fleet, database: t.Any, admin: t.Any) -> None:  # noqa: F811
    target = filled(database())
    fleet.add("one", target)
    assert "nothing was kept" in said(fleet.play("kept.yml", migration_targets="one"))
    made, kept = copy(target, CopyOptions(run_id="r1"))["snapshot"], target.dbname + "__k"
    swap(target, made["name"], kept, run_id="r2", at="no time")
    which: dict[str, t.Any] = {
        "migration_targets": "one", "migration_kept_state": "absent", "migration_kept": kept, "migration_kept_oid": databases(admin())[kept][0],
    }  # fmt: skip
    asked = fleet.play("kept.yml", **which)
    assert asked.returncode != 0 and "-e migration_confirm=%s:r2" % kept in asked.stdout and "migration_kept_state=salvaged" in asked.stdout
    check = fleet.play("kept.yml", "--check", **which)
    assert check.returncode == 0 and "%s would be dropped; nothing was done" % kept in said(check), check.stdout
    assert "age unknown, run r2" in said(check) and kept in databases(admin())
    done = fleet.play("kept.yml", "-e", "migration_confirm=%s:r2" % kept, **which)
    assert done.returncode == 0 and "%s is dropped" % kept in said(done) and kept not in databases(admin()), done.stdout
