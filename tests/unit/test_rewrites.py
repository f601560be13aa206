# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._rewrites import made_anew, remarks, unseen


@pytest.mark.parametrize(
    ("script", "anew", "silent", "said"),
    [
        ("CREATE TABLE a (id int); ALTER TABLE a ADD COLUMN b int", [], "", 0),
        ("ALTER TABLE a DROP COLUMN b", [], "", 0),
        ('ALTER TABLE "User" DROP COLUMN "age",\nADD COLUMN     "age" INTEGER;', ['column "age"'], "makes anew", 0),
        ("ALTER TABLE IF EXISTS users DROP COLUMN email, ADD COLUMN email text", ["column email"], "conditional", 0),
        ('CREATE TABLE "new_User" (id int); DROP TABLE "User"; ALTER TABLE "new_User" RENAME TO "User"', ['table "User"'], "makes anew", 0),
        ("DROP TABLE IF /* old */ EXISTS legacy", [], "conditional", 0),
        ("ALTER TABLE users DROP COLUMN IF --c\n EXISTS extra", [], "conditional", 0),
        ("CREATE INDEX IF NOT EXISTS i ON a (b)", [], "conditional", 0),
        ("CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'", [], "conditional", 0),
        ("ALTER TABLE p ALTER price TYPE int USING price * 100", [], "computes", 1),
        ("ALTER SEQUENCE s RESTART WITH 500", [], "sequence", 1),
        ('ALTER TABLE a ALTER id DROP DEFAULT; DROP SEQUENCE "a_id_seq"', [], "", 0),
    ],
)
def test_what_a_schema_does_not_show(script: str, anew: list[str], silent: str, said: int) -> None:
    assert made_anew(script) == anew
    assert (silent in unseen(script)) if silent else unseen(script) == ""
    assert len(remarks("m", script)) == said
