# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import pathlib

import state


def test_every_migration_is_applied_once():
    rows = state.query("SELECT migration_name, count(*), bool_and(finished_at IS NOT NULL) FROM _prisma_migrations GROUP BY 1")
    folder = pathlib.Path(state.staging()["app_dir"]) / "prisma/migrations"
    assert {name for name, _count, _done in rows} == {path.parent.name for path in folder.glob("*/migration.sql")}
    assert all(count == 1 and done for _name, count, done in rows)


def test_schema_and_data():
    assert state.query("SELECT count(*) FROM information_schema.columns WHERE table_name = 'patients' AND column_name = 'phone'") == [(0,)]
    assert state.query("SELECT count(*) FROM pg_index WHERE NOT indisvalid") == [(0,)]
    assert state.query("SELECT count(*) > 0 FROM patients", "app_url") == [(True,)]


def test_restore_point_is_private_and_whole(host):
    (manifest,) = pathlib.Path(state.staging()["backup_dir"]).glob("microcare_staging/*/manifest.json")
    for folder in (manifest.parent, manifest.parent.parent, manifest.parent.parent.parent):
        assert host.file(str(folder)).mode == 0o700
    for path in manifest.parent.rglob("*"):
        if path.is_file():
            assert host.file(str(path)).mode == 0o600 and host.file(str(path)).size > 0
    assert not list(manifest.parent.parent.glob("*.partial"))


def test_records_report_and_log(host):
    outcomes = [record["outcome"] for record in state.records()]
    assert outcomes[0] == "applied" and set(outcomes[1:]) == {"nothing_to_do"}
    reports = pathlib.Path(state.staging()["reports_dir"])
    log = host.file(str(reports / "migration_log.md"))
    assert log.mode == 0o600 and log.contains("20260112083000_drop_patient_phone")
    for path in reports.rglob("*"):
        assert host.file(str(path)).mode == (0o700 if path.is_dir() else 0o600)


def test_nothing_is_left_running():
    assert state.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
    assert state.query("SELECT datname FROM pg_database WHERE datname LIKE 'microcare_staging%'") == [("microcare_staging",)]
