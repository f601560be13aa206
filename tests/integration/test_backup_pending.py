# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A restore point that knows which migrations come next keeps what it takes to judge them."""

from __future__ import annotations

import pathlib
import typing as t

from support.restorepoints import execute, filled

DROP = "ALTER TABLE notes ADD COLUMN extra text; ALTER TABLE users DROP COLUMN name"


def test_columns_of_the_tables_that_pending_migrations_change(cluster: t.Any, database: t.Any, scratch: pathlib.Path, module: t.Any) -> None:
    target = filled(database())
    execute(target, "ALTER TABLE users ADD COLUMN email text; UPDATE users SET email = id || '@example.org'")
    migrations = scratch / "migrations"
    (migrations / "2_drop").mkdir(parents=True)
    (migrations / "2_drop" / "migration.sql").write_text(DROP, encoding="utf-8")
    (scratch / "points").mkdir(mode=0o700)
    options = dict(backup_dir=str(scratch / "points"), pg_bin_dir=str(cluster.bin_dir), reuse=True, migrations_dir=str(migrations))
    plain = module("database_backup", target, **options)
    # It does not know the columns that this one asks for.
    first = module("database_backup", target, pending=["2_drop"], **options)
    again = module("database_backup", target, pending=["2_drop"], **options)
    assert [each["restore_point"]["reused"] for each in (plain, first, again)] == [False, False, True], (plain, first, again)
    execute(target, DROP, "UPDATE users SET email = left(email, 3)")
    options = dict(compare_with=first["restore_point"]["path"] + "/manifest.json", migrations_dir=str(migrations), applied=["2_drop"])
    found = module("database_fingerprint", target, **options)
    assert [(each["kind"], each["object"], each["columns"]) for each in found["findings"]] == [("content_changed", "public.users", ["email"])], found
