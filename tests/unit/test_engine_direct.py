# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which scripts the engine direct need not wait for."""

from __future__ import annotations

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._engine_direct import _more_than_ddl

ONLY_DDL = [
    "",
    'CREATE TABLE "User" (\n    "id" SERIAL NOT NULL,\n    "updatedAt" TIMESTAMP(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,\n    CONSTRAINT "User_pkey" PRIMARY KEY ("id")\n);',
    '-- AddForeignKey\nALTER TABLE "Post" ADD CONSTRAINT "k" FOREIGN KEY ("userId") REFERENCES "User"("id") ON DELETE SET NULL ON UPDATE CASCADE;',
    'CREATE UNIQUE INDEX "User_email_key" ON "User"("email");\nDROP INDEX "old";\nALTER TABLE "User" DROP COLUMN "name";',
    "CREATE TYPE \"Role\" AS ENUM ('USER', 'ADMIN');\nALTER TYPE \"Role\" ADD VALUE 'GUEST';\nCOMMENT ON TABLE t IS 'x';",
]
MORE = [
    "UPDATE users SET name = 'x';",
    "DELETE FROM users;",
    "ALTER TABLE a ADD b int;\ninsert into a values (1);",
    "WITH x AS (SELECT 1) TABLE x;",
    "DO $$ BEGIN PERFORM 1; END $$;",
    "CALL p();",
    "CREATE TABLE a AS SELECT 1;",
    "COPY a TO PROGRAM 'x';",
    "CREATE INDEX CONCURRENTLY i ON a (b);",
    "VACUUM a;",
    "BEGIN; CREATE TABLE a (id int); COMMIT;",
    "CREATE EXTENSION dblink;",
    "IMPORT FOREIGN SCHEMA s FROM SERVER t INTO u;",
    "CREATE SERVER s FOREIGN DATA WRAPPER w;",
    "CREATE RULE r AS ON DELETE TO a DO ALSO UPDATE b SET c = 1;",
    "ALTER TABLE a ADD b text DEFAULT dblink_connect('x');",
    "ALTER TABLE a ADD b text DEFAULT pg_read_file('x');",
    "DROP TABLE _prisma_migrations;",
]


@pytest.mark.parametrize("script", ONLY_DDL)
def test_ddl_alone_is_known(script: str) -> None:
    assert not _more_than_ddl(script)


@pytest.mark.parametrize("script", MORE)
def test_what_may_do_more_is_waited_for(script: str) -> None:
    assert _more_than_ddl(script)
