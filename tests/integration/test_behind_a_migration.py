# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Content that changes behind several migrations, or by a trigger: what all of them explain together, and what none does."""

from __future__ import annotations

import json
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _comparison, _explain, _fingerprint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute

BASE = """
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE TABLE p (id int PRIMARY KEY, x text, y text, n int, m mood, up text GENERATED ALWAYS AS (upper(y)) STORED, at timestamptz DEFAULT '2024-01-01');
INSERT INTO p SELECT g, 'x' || g, 'some text ' || g, g * 7, CASE WHEN g % 2 = 0 THEN 'good' ELSE 'bad' END::mood FROM generate_series(1, 50) g;
INSERT INTO p VALUES (51, NULL, NULL, NULL, NULL);
CREATE TABLE bare (a text, b text);
INSERT INTO bare SELECT 'a' || g, 'b' || g FROM generate_series(1, 5) g;
CREATE TABLE other (id int PRIMARY KEY, m mood, t text);
INSERT INTO other VALUES (1, 'good', 't');
"""


def findings(conn: t.Any, scripts: t.Sequence[str], behind: str = "") -> list[str]:
    """What a run would say after migrations and what happened beside them."""
    before = json.loads(json.dumps(_fingerprint.take(conn, pending=scripts)))
    for script in scripts:
        execute(conn, script)
    if behind:
        execute(conn, behind)
    after = _fingerprint.take(conn, columns_from=before, follow=True)
    assert json.loads(json.dumps(after)) == after
    objects = {**before["schema"]["objects"], **after["schema"]["objects"]}
    found = _explain.explain(_comparison.compare(before, after), {"m%d" % number: script for number, script in enumerate(scripts)}, (), objects, "public")
    return [each["text"] for each in _explain.findings(found)]


@pytest.fixture
def site(database: t.Any) -> t.Iterator[t.Any]:
    with connection(database()) as conn:
        execute(conn, BASE)
        yield conn


SOUND = [
    ["ALTER TABLE p ALTER COLUMN id TYPE bigint, ALTER COLUMN n TYPE text USING n::text, DROP COLUMN x"],
    ["UPDATE p SET x = CASE WHEN p.y IS DISTINCT FROM p.x THEN 'a' END, m = 'bad' FROM other WHERE other.id = 1"],
    ["ALTER TYPE mood RENAME VALUE 'good' TO 'fine'; UPDATE p SET x = 'a'"],
    ["INSERT INTO p (id) VALUES (60), (61)", "DELETE FROM p WHERE id = 4"],
    ["DELETE FROM p WHERE id IN (4, 5)", "INSERT INTO p (id) VALUES (60)"],
    ["ALTER TABLE p DROP COLUMN x; INSERT INTO p (id) VALUES (60)", "UPDATE p SET y = 'a'"],
    ["TRUNCATE bare; INSERT INTO bare SELECT 'n', 'n' FROM generate_series(1, 9)"],
]


@pytest.mark.parametrize("scripts", SOUND, ids=" -- ".join)
def test_a_sound_migration_has_no_finding(site: t.Any, scripts: list[str]) -> None:
    assert findings(site, scripts) == []


DEFECTS = [
    (["ALTER TABLE p ADD COLUMN k int", "UPDATE p SET k = 1"], "UPDATE p SET y = left(y, 4)", "public.p", " y"),
    (["INSERT INTO bare SELECT 'n', 'n' FROM generate_series(1, 9)"], "DELETE FROM bare WHERE a = 'a1'", "public.bare", "1 was changed or deleted"),
    (["INSERT INTO p (id) VALUES (60), (61)", "DELETE FROM other"], "DELETE FROM p WHERE id = 4", "public.p", "1 was changed or deleted"),
]  # fmt: skip


@pytest.mark.parametrize(("scripts", "behind", "table", "said"), DEFECTS)
def test_what_happened_behind_it_is_found(site: t.Any, scripts: list[str], behind: str, table: str, said: str) -> None:
    found = findings(site, scripts, behind)
    assert any(table in text and said in text for text in found), found


def trigger(body: str) -> str:
    return (
        "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN %s; RETURN NEW; END $$;"
        " CREATE TRIGGER t BEFORE UPDATE ON p FOR EACH ROW EXECUTE FUNCTION f()" % body
    )


def test_a_trigger_that_cuts_another_column_is_found(site: t.Any) -> None:
    execute(site, trigger("NEW.y := left(NEW.y, 4)"))
    found = findings(site, ["UPDATE p SET x = 'a'; ALTER TABLE p DROP COLUMN n"])
    assert any("public.p" in text and "No migration sets y, a trigger of the table may." in text for text in found), found


def test_the_time_of_a_change_that_a_trigger_sets_is_no_finding(site: t.Any) -> None:
    execute(site, trigger("NEW.at := now()"))
    assert findings(site, ["UPDATE p SET x = 'a'"]) == []
    assert findings(site, ["UPDATE p SET x = 'a' WHERE id = 3"]) == []
