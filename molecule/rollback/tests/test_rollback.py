# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

import state


def test_database_is_as_before_the_deploy():
    assert state.query("SELECT count(*) FROM _prisma_migrations") == [(6,)]
    assert state.query("SELECT count(*) FROM information_schema.columns WHERE table_name = 'patients' AND column_name = 'phone'") == [(1,)]
    assert state.query("SELECT count(*) > 0 FROM patients", "app_url") == [(True,)]


def test_migrated_database_is_kept_once():
    kept = state.query("SELECT datname FROM pg_database WHERE datname LIKE 'microcare_staging\\_\\_kept\\_%'")
    assert len(kept) == 1


def test_owner_and_rights_are_those_of_before():
    assert state.query("SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = current_database()") == [("microcare_owner",)]
    assert state.query("SELECT has_database_privilege('microcare_app', current_database(), 'CONNECT')") == [(True,)]


def test_records():
    outcomes = [record["outcome"] for record in state.records()]
    assert outcomes[:2] == ["applied", "restored"]
