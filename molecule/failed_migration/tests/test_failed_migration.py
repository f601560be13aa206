# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import json
import pathlib

import state

FAILS = "20260301120000_split_patient_name_fails"


def test_database_is_as_before():
    names = state.query("SELECT migration_name FROM _prisma_migrations WHERE finished_at IS NOT NULL ORDER BY 1")
    assert len(names) == 6 and state.query("SELECT count(*) FROM _prisma_migrations") == [(6,)]
    columns = {name for (name,) in state.query("SELECT column_name FROM information_schema.columns WHERE table_name = 'patients'")}
    assert "phone" in columns and "lastName" not in columns


def test_rows_are_those_of_the_restore_point():
    manifest = max(pathlib.Path(state.staging()["backup_dir"]).glob("microcare_staging/*/manifest.json"))
    for name, table in json.loads(manifest.read_text(encoding="utf-8"))["manifest"]["fingerprint"]["tables"].items():
        assert state.query("SELECT count(*) FROM %s" % name) == [(table["rows"],)]


def test_application_reads_and_writes():
    assert state.query("UPDATE patients SET \"fullName\" = \"fullName\" WHERE id = 7 RETURNING id", "app_url") == [(7,)]


def test_failed_databases_are_kept_and_closed():
    kept = state.query("SELECT datname, datallowconn FROM pg_database WHERE datname LIKE 'microcare_staging\\_\\_kept\\_%'")
    assert kept and not any(open_for_all for _name, open_for_all in kept)
    assert not state.query("SELECT datname FROM pg_database WHERE datname LIKE '%\\_\\_restore\\_%'")


def test_record_and_log_tell_it():
    for record in state.records():
        assert record["outcome"] == "rolled_back" and FAILS in record["sentence"]
    log = (pathlib.Path(state.staging()["reports_dir"]) / "migration_log.md").read_text(encoding="utf-8")
    assert FAILS in log
