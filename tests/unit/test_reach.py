# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows that go because others go: foreign keys that act, and triggers."""

from __future__ import annotations

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._explain import explain, findings
from ansible_collections.pgops.migrations.plugins.module_utils._reach import writers
from unit.test_comparison import B, fingerprint, table

TABLES = {"table public.users": "", 'table public."Session"': "", "table public.events": "", "table public.other": ""}


def key(action: str) -> str:
    return 'FOREIGN KEY ("userId") REFERENCES public.users(id) %s' % action


@pytest.mark.parametrize(
    ("action", "acts"),
    [
        ("ON UPDATE CASCADE ON DELETE RESTRICT", True),
        ("ON DELETE CASCADE", True),
        ("ON DELETE SET NULL NOT VALID", True),
        ("ON DELETE RESTRICT", False),
        ("", False),
    ],
)
def test_foreign_key(action: str, acts: bool) -> None:
    objects = {**TABLES, 'constraint public."Session".fk': key(action)}
    assert writers([objects], []) == ({'public."Session"': {"public.users"}} if acts else {})


def test_several_steps_and_circles() -> None:
    objects = {
        **TABLES,
        'constraint public."Session".fk': key("ON DELETE CASCADE"),
        "constraint public.events.fk": 'FOREIGN KEY (s) REFERENCES public."Session"(id) ON DELETE CASCADE',
        "constraint public.users.fk": "FOREIGN KEY (e) REFERENCES public.events(id) ON DELETE SET NULL",
    }
    found = writers([objects], [{"public.events": ["other", "nothing"]}])
    assert found["public.events"] == {'public."Session"', "public.users"}
    assert found["public.other"] == {"public.events", 'public."Session"', "public.users"}


def test_a_cascade_is_a_finding_that_says_where_it_came_from() -> None:
    objects = {"constraint public.sessions.fk": key("ON DELETE CASCADE")}
    before = fingerprint({"public.users": table(3), "public.sessions": table(9), "public.other": table(5)}, objects)
    after = fingerprint({"public.users": table(2, B), "public.sessions": table(6, B), "public.other": table(4, B)}, objects)
    found = findings(explain(compare(before, after), {"m": "DELETE FROM users WHERE id = 1"}))
    assert [(each["object"], "m names public.users" in each["text"]) for each in found] == [("public.other", False), ("public.sessions", True)]
