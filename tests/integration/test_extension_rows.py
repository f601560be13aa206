# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows of an extension's configuration tables, which pg_dump takes along: in the fingerprint, the loss and the way back."""

from __future__ import annotations

import contextlib
import os
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._explain import explain, findings
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._loss import by_fingerprints, measure
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import find_program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import load
from ansible_collections.pgops.migrations.plugins.module_utils._rowsource import ArchiveRows, moment, pinned
from support.restorepoints import execute, fingerprint, go_back, take_backup

#: As extensions are written: rows that come with it, the users' own rows beside them, and a table that nobody dumps.
SCRIPT = r"""
CREATE TABLE spots (id int PRIMARY KEY, name text, built_in bool NOT NULL DEFAULT false);
INSERT INTO spots VALUES (1, 'shipped', true), (2, 'shipped, too', true);
CREATE TABLE "all of ""it" (a numeric);
CREATE TABLE cache (a int);
CREATE SEQUENCE numbers;
CREATE SEQUENCE inner_numbers;
SELECT pg_catalog.pg_extension_config_dump('spots', E'WHERE NOT built_in AND name NOT LIKE \'tmp%\' AND name <> \'{}\'');
SELECT pg_catalog.pg_extension_config_dump('"all of ""it"', '');
SELECT pg_catalog.pg_extension_config_dump('numbers', '');
"""
#: The next version takes other rows along.
UPDATE = "SELECT pg_catalog.pg_extension_config_dump('spots', 'WHERE id >= 10');"
ALL = 'public."all of ""it"'


@pytest.fixture(scope="module")
def extension(cluster: t.Any) -> t.Iterator[str]:
    """The name of an extension that is installed while these tests run."""
    found = subprocess.run([os.path.join(cluster.bin_dir, "pg_config"), "--sharedir"], capture_output=True, text=True, check=False)
    folder = pathlib.Path(found.stdout.strip() or "/nonexistent", "extension")
    if not os.access(folder, os.W_OK):
        pytest.skip("no right to install an extension into %s" % folder)
    name = "pgops-rows %d" % os.getpid()
    texts = {"%s.control": "default_version = '1'\nsuperuser = false\n", "%s--1.sql": SCRIPT, "%s--1--2.sql": UPDATE}
    paths = [folder / (form % name) for form in texts]
    try:
        for path, text in zip(paths, texts.values()):
            path.write_text(text, encoding="utf-8")
        yield '"%s"' % name
    finally:
        for path in paths:
            path.unlink(missing_ok=True)


@pytest.fixture
def target(database: t.Any, extension: str) -> t.Any:
    """A database with the extension and three rows of the users' own in it."""
    made = database()
    execute(
        made,
        "CREATE EXTENSION %s" % extension,
        "INSERT INTO spots VALUES (10, 'ours'), (11, 'ours'), (12, 'tmp 1')",
        'INSERT INTO "all of ""it" VALUES (1.0)',
        "SELECT nextval('numbers'), nextval('inner_numbers')",
        "CREATE TABLE users (id int PRIMARY KEY)",
        "INSERT INTO users VALUES (1)",
    )
    return made


def taken(target: t.Any, level: str = "full") -> dict[str, t.Any]:
    with connection(target) as conn:
        return t.cast("dict[str, t.Any]", plain(take(conn, level)))


@contextlib.contextmanager
def archive(target: t.Any, point: dict[str, t.Any], bin_dir: t.Any) -> t.Iterator[tuple[t.Any, ArchiveRows]]:
    manifest = load(point["path"])
    program = find_program("pg_restore", manifest.target["server_version_num"], str(bin_dir))
    yield manifest, ArchiveRows(program, point["path"], manifest, target)


def by_table(loss: dict[str, t.Any]) -> dict[str, tuple[t.Any, ...]]:
    assert loss["known"], loss["reason"]
    return {entry["table"]: tuple(entry[word] for word in ("rows_now", "rows_then", "added", "changed", "removed")) for entry in loss["tables"]}


def test_what_pg_dump_takes_along_is_in_the_fingerprint(target: t.Any, extension: str) -> None:
    before = taken(target)
    assert {name: entry["rows"] for name, entry in before["tables"].items()} == {"public.spots": 2, ALL: 1, "public.users": 1}
    assert before["tables"]["public.spots"]["extension"] == extension and "extension" not in before["tables"]["public.users"]
    assert before["sequences"] == {"public.numbers": {"last_value": 1, "is_called": True, "extension": extension}}
    assert [name for name in before["schema"]["objects"] if "spots" in name] == [], "its definition comes with the extension"
    assert {name: entry["rows"] for name, entry in taken(target, "counts")["tables"].items()} == {"public.spots": 2, ALL: 1, "public.users": 1}
    for statement, kinds in (
        ("UPDATE spots SET name = 'other' WHERE id = 10", ["content_changed"]),
        ("UPDATE \"all of \"\"it\" SET a = 1.00", ["content_changed"]),
        ("INSERT INTO spots VALUES (13, 'ours')", ["rows_more"]),
        ("SELECT nextval('numbers')", ["sequence_forward"]),
        # What a restore makes anew, or nobody dumps.
        ("UPDATE spots SET name = 'other' WHERE id = 1", []),
        ("INSERT INTO spots VALUES (14, 'tmp 2')", []),
        ("INSERT INTO cache VALUES (1)", []),
        ("SELECT nextval('inner_numbers')", []),
    ):  # fmt: skip
        before = taken(target)
        execute(target, statement)
        after = taken(target)
        assert [each["kind"] for each in compare(before, after)] == kinds, statement
        assert (before["digest"] == after["digest"]) is not bool(kinds), statement


def test_rows_that_go_with_their_extension(target: t.Any, extension: str) -> None:
    before = taken(target)
    execute(target, "DROP EXTENSION %s" % extension)
    found = compare(before, taken(target))
    assert [(each["kind"], each["object"]) for each in found] == [
        ("table_gone", ALL),
        ("table_gone", "public.spots"),
        ("object_removed", "extension " + extension),
    ]
    assert [each["object"] for each in findings(explain(found, {}))] == [ALL, "public.spots", "extension " + extension]
    assert findings(explain(found, {"m": "DROP EXTENSION %s" % extension})) == []


def test_the_way_back_brings_them_back_and_says_what_it_loses(cluster: t.Any, target: t.Any, scratch: pathlib.Path) -> None:
    before = fingerprint(target)
    point = take_backup(target, scratch, cluster.bin_dir)
    assert point["rows"] == 4
    execute(
        target,
        "INSERT INTO spots VALUES (13, 'new'), (14, 'tmp new')",
        "UPDATE spots SET name = 'other' WHERE id = 10",
        "UPDATE spots SET name = 'other' WHERE id = 1",
        "DELETE FROM spots WHERE id = 11",
        'INSERT INTO "all of ""it" VALUES (2)',
        "SELECT nextval('numbers')",
    )
    with archive(target, point, cluster.bin_dir) as (manifest, then), moment(target) as conn:
        live = plain(take(conn))
        with pinned(conn) as rows:
            loss = measure(then, rows, manifest.expected(live), live)
            rough = by_fingerprints(rows, manifest.expected(live), live)
    assert by_table(loss) == {"public.spots": (2, 2, 1, 1, 1), ALL: (2, 1, 1, 0, 0)}
    assert "Table public.spots: 1 row added, 1 changed, 1 removed." in loss["texts"]
    assert [entry["sequence"] for entry in loss["sequences"]] == ["public.numbers"]
    assert sorted(by_table(rough)) == [ALL, "public.spots"]
    done = go_back(target, point, cluster.bin_dir)
    assert done["changed"] and fingerprint(target) == before
    assert execute(target, "SELECT id, name FROM spots ORDER BY id") == [(1, "shipped"), (2, "shipped, too"), (10, "ours"), (11, "ours")]
    assert execute(target, "SELECT last_value FROM numbers") == [(1,)]


def test_a_dump_is_taken_again_only_while_they_are_the_same(cluster: t.Any, target: t.Any, scratch: pathlib.Path) -> None:
    point = take_backup(target, scratch, cluster.bin_dir)
    # It writes to the WAL, and to nothing that is dumped.
    execute(target, "INSERT INTO cache VALUES (1)", "UPDATE spots SET name = 'x' WHERE built_in")
    assert take_backup(target, scratch, cluster.bin_dir, reuse=True)["id"] == point["id"]
    for statement in ("UPDATE spots SET name = 'x' WHERE id = 10", 'UPDATE "all of ""it" SET a = 1.00', "SELECT nextval('numbers')"):
        execute(target, statement)
        again = take_backup(target, scratch, cluster.bin_dir, reuse=True)
        assert again["reused"] is False, statement


def test_each_side_has_its_own_choice_of_rows(target: t.Any, extension: str) -> None:
    other = target.dbname + "_s"
    execute(target, 'CREATE DATABASE "%s" TEMPLATE "%s"' % (other, target.dbname), dbname="postgres")
    execute(target, "ALTER EXTENSION %s UPDATE TO '2'" % extension)
    with moment(target, other) as before, moment(target) as now:
        then_fingerprint, live_fingerprint = plain(take(before)), plain(take(now))
        with pinned(before) as then, pinned(now) as live:
            loss = measure(then, live, then_fingerprint, live_fingerprint)
            # As a salvage reads both sides, by the shape of the one.
            lines: list[bytes] = []
            live.copy(then.shapes(["public.spots"])["public.spots"], ["id"], lines.append)
    assert by_table(loss) == {"public.spots": (3, 2, 1, 0, 0)}
    assert sorted(lines) == [b"10\n", b"11\n", b"12\n"]


def test_what_the_role_may_not_read_is_named(cluster: t.Any, target: t.Any, admin: t.Any) -> None:
    cursor = admin(target.dbname).cursor()
    cursor.execute("ALTER TABLE spots OWNER TO CURRENT_USER; ALTER SEQUENCE numbers OWNER TO CURRENT_USER")
    found = taken(target)
    assert found["skipped"] == ["public.spots"] and sorted(found["tables"]) == [ALL, "public.users"] and found["sequences"] == {}
    cursor.execute("GRANT SELECT ON spots, numbers TO PUBLIC")
    assert taken(target)["skipped"] == []
    cursor.execute("CREATE POLICY one ON spots USING (id = 10); ALTER TABLE spots ENABLE ROW LEVEL SECURITY")
    found = taken(target)
    assert found["skipped"] == ["public.spots"]
    everything = taken(cluster.superuser_target(target.dbname))
    assert everything["skipped"] == [] and everything["tables"]["public.spots"]["rows"] == 2
    execute(target, 'DELETE FROM "all of ""it"')
    with moment(target) as conn:
        live = plain(take(conn))
        with pinned(conn) as rows:
            loss = by_fingerprints(rows, everything, live)
    assert sorted(by_table(loss)) == [ALL]
    assert "Not compared, as the role may not read it in full: public.spots." in loss["texts"]
