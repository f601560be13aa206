# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A GRANT or REVOKE explains the rights that it names, for the roles that it names, and no others."""

from __future__ import annotations

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._explain import explain
from ansible_collections.pgops.migrations.plugins.module_utils._touch_rights import rights

OWNER = "me: DELETE, INSERT, SELECT, UPDATE"
APP = OWNER + "; app: SELECT"
BOTH = OWNER + "; app: INSERT, SELECT"
WEIRD = OWNER + '; "we""ird; x: SELECT": SELECT'


@pytest.mark.parametrize(
    ("script", "before", "after", "explained"),
    [
        ('GRANT SELECT ON "User" TO app', OWNER, APP, True),
        ('GRANT SELECT ON "User" TO other', OWNER, APP, False),
        ('GRANT INSERT ON "User" TO app', OWNER, APP, False),
        ('GRANT SELECT ON "User" TO other, app', OWNER, APP, True),
        ('GRANT ALL PRIVILEGES ON TABLE public."User" TO app', OWNER, BOTH, True),
        ('GRANT SELECT, INSERT ON "User" TO GROUP app', OWNER, BOTH, True),
        ('GRANT SELECT (id), UPDATE (id, name) ON "User" TO app', OWNER, APP, True),
        ('GRANT SELECT ON ALL TABLES IN SCHEMA public TO PUBLIC', OWNER, OWNER + "; public: SELECT", True),
        # It gives what came, and takes nothing away.
        ('GRANT INSERT ON "User" TO app', APP, OWNER + "; app: INSERT", False),
        ('GRANT INSERT ON "User" TO app', APP, OWNER, False),
        ('GRANT SELECT ON "User" TO app', APP, OWNER, False),
        ('REVOKE SELECT ON "User" FROM app', APP, OWNER, True),
        ('REVOKE SELECT ON "User" FROM app', OWNER, APP, False),
        ('REVOKE ALL ON "User" FROM app', BOTH, OWNER, True),
        ('REVOKE INSERT ON "User" FROM app', BOTH, OWNER, False),
        ('REVOKE INSERT ON "User" FROM app; REVOKE SELECT ON "User" FROM app', BOTH, OWNER, True),
        ('REVOKE SELECT ON "User" FROM other CASCADE', APP, OWNER, True),
        ('REVOKE ALL ON "User" FROM CURRENT_USER', OWNER, "none", True),
        ('REVOKE ALL ON "User" FROM app; GRANT SELECT ON "User" TO app', BOTH, APP, True),
        ('GRANT SELECT ON "User" TO app WITH GRANT OPTION', OWNER, OWNER + "; app: SELECT (with grant option)", True),
        ('REVOKE GRANT OPTION FOR SELECT ON "User" FROM app', OWNER + "; app: SELECT (with grant option)", APP, True),
        ('GRANT SELECT ON "User" TO "we""ird; x: SELECT"', OWNER, WEIRD, True),
        ('ALTER TABLE "User" OWNER TO other', OWNER, "other: DELETE, INSERT, SELECT, UPDATE", True),
        ('ALTER TABLE "User" OWNER TO other', APP, "other: DELETE, INSERT, SELECT, UPDATE; app: SELECT", True),
        ('ALTER TABLE "User" OWNER TO other', APP, "other: DELETE, INSERT, SELECT, UPDATE", False),
        ('ALTER TABLE "User" OWNER TO other', BOTH + "; third: TRUNCATE", "other: DELETE, INSERT, SELECT, UPDATE", False),
        # What code does is not read.
        ('DO $$ BEGIN GRANT SELECT ON "User" TO app; END $$', OWNER, APP, True),
        ("DO $$ BEGIN EXECUTE format('GRANT SELECT ON %I TO app', 'User'); END $$", OWNER, APP, True),
        # Nor are long ones known.
        ('GRANT SELECT ON "User" TO app', "sha256:1", "sha256:2", True),
    ],
)  # fmt: skip
def test_rights(script: str, before: str, after: str, explained: bool) -> None:
    about = {"kind": "object_changed", "object": 'grants table public."User"', "before": before, "after": after, "text": "", "subjects": ['public."User"']}
    assert (explain([about], {"m": script})[0]["severity"] == "explained") is explained


def test_rights_as_they_are_written_down() -> None:
    assert rights(OWNER + '; "A b": SELECT (with grant option)') == {
        ("me", "DELETE"), ("me", "INSERT"), ("me", "SELECT"), ("me", "UPDATE"), ("A b", "SELECT"), ("A b", "SELECT*"),
    }  # fmt: skip
    assert rights("none") == rights(None) == frozenset()
    assert rights("sha256:ab") is None
