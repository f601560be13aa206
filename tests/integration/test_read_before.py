# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A confirmed way back does not do again what was done and proved before, and only that."""

from __future__ import annotations

import dataclasses
import json
import pathlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import find_program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import load, read_before
from support.histories import LEDGER
from support.restorepoints import execute, filled, go_back, take_backup

ROW = "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('%s', 'c', '%s', now())"


def test_an_archive_is_read_again_unless_this_version_has_read_these_very_bytes(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    point = take_backup(filled(database()), scratch, cluster.bin_dir)
    manifest, program = load(point["path"]), find_program("pg_restore", cluster.major * 10000, str(cluster.bin_dir))
    assert read_before(point["path"], manifest, program)
    assert not read_before(point["path"], manifest, dataclasses.replace(program, version="99.1"))
    proof = pathlib.Path(point["path"]) / "proof.json"
    content = json.loads(proof.read_text())
    for other in (dict(content, manifest="0" * 64), dict(content, level="none"), {}):
        proof.write_text(json.dumps(other))
        assert not read_before(point["path"], manifest, program)
    proof.unlink()
    assert not read_before(point["path"], manifest, program)


def test_rows_are_not_counted_a_second_time_where_the_ledger_says_that_it_is_another_state(cluster: t.Any, database: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    execute(target, LEDGER, ROW % ("1", "1_init"))
    point = take_backup(target, scratch, cluster.bin_dir)
    execute(target, "DELETE FROM notes WHERE id > 1000")
    fewer = go_back(target, point, cluster.bin_dir)
    assert fewer["changed"] and fewer["loss"]["measured"] is False and not fewer["loss"]["tables"], "the numbers of rows say that it is another state"
    execute(target, "UPDATE notes SET body = 'other' WHERE id = 7")
    same = go_back(target, point, cluster.bin_dir)
    assert same["changed"] and [entry["table"] for entry in same["loss"]["tables"]] == ["public.notes"], (
        "the same ledger and as many rows may be the same state: it is looked at"
    )
    assert go_back(target, point, cluster.bin_dir)["changed"] is False
    execute(target, ROW % ("2", "2_next"), "DELETE FROM notes WHERE id > 1000")
    preview = go_back(target, point, cluster.bin_dir, check_mode=True)
    assert {entry["table"] for entry in preview["loss"]["tables"]} == {"public.notes", "public._prisma_migrations"}
    done = go_back(target, point, cluster.bin_dir)
    assert (done["changed"], done["comparison"], done["loss"]["measured"], done["warnings"]) == (True, "equal", False, [])
    assert execute(target, "SELECT count(*) FROM notes") == [(2000,)]
