# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Masking files: nobody is let in before they ran, and no value gets into a message."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._masking import digest, keep_closed, load, mask, open_to

PEOPLE = """
CREATE TABLE person (id integer PRIMARY KEY, email text UNIQUE NOT NULL, born text);
INSERT INTO person SELECT i, CASE WHEN i <= 50 THEN 'geheim-' || i ELSE 'zweitens' || i END, 'geboren' FROM generate_series(1, 100) i;
ANALYZE person;
"""


def _file(folder: pathlib.Path, text: str, name: str = "mask.sql") -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def test_the_copy_is_closed_until_all_values_are_gone(database: t.Callable[..., t.Any], admin: t.Any, tmp_path: pathlib.Path) -> None:
    target = database('co"py; --%s')
    server = admin("postgres")
    reader = "%s_reader" % target.user
    execute(server, "CREATE ROLE %s LOGIN PASSWORD 'x'" % reader)
    try:
        execute(server, 'GRANT CONNECT ON DATABASE "co""py; --%%s" TO %s' % reader)
        with connection(target) as conn:
            execute(conn, PEOPLE)
        one = _file(
            tmp_path, "-- the first\n/* and\nmore */ UPDATE person SET email = 'person' || id || '@example.com';\nSET search_path = nowhere;\n", "1.sql"
        )
        two = _file(tmp_path, "UPDATE person SET born = NULL WHERE '%s' <> '';", "2.sql")
        files = load([one, two])
        with connection(target, "postgres") as beside:
            before = keep_closed(beside, target.dbname)
            assert not _may(server, reader, target.dbname)
            done = mask(target, files, "run-1")
            assert [(entry["file"], entry["statements"], entry["rows"]) for entry in done] == [(one, 2, 100), (two, 1, 100)]
            assert not _may(server, reader, target.dbname), "still closed"
            assert open_to(beside, target.dbname, before) == []
            assert _may(server, reader, target.dbname)
        with connection(target) as conn:
            assert row(conn, "SELECT count(*) FROM person WHERE email LIKE 'person%@example.com' AND born IS NULL") == (100,)
            shown = str(rows(conn, "SELECT most_common_vals::text, histogram_bounds::text FROM pg_stats WHERE tablename = 'person'"))
            assert "geheim" not in shown
            assert "geboren" not in shown
            # Whoever is in already could read what comes.
            with connection(target, "postgres") as beside, pytest.raises(MigrationError, match="is connected to the copy"):
                keep_closed(beside, target.dbname)
        assert digest(files) != digest(files[::-1])
        assert digest([]) == ""
    finally:
        execute(server, 'REVOKE ALL ON DATABASE "co""py; --%%s" FROM %s' % reader)
        execute(server, "DROP ROLE %s" % reader)


@pytest.mark.parametrize(
    ("text", "line", "state", "named"),
    [
        pytest.param("UPDATE person SET born = '';\n\n-- why\nUPDATE person SET id = email::integer;\n", 4, "22P02", "InvalidTextRepresentation", id="value"),
        pytest.param("UPDATE person SET email = 'geheim-1' WHERE id = 2", 1, "23505", "constraint person_email_key", id="duplicate"),
        pytest.param("UPDATE person SET emial = ''", 1, "42703", "UndefinedColumn", id="a typing mistake"),
        pytest.param("\\set x 1\nUPDATE person SET born = :x", 1, "42601", "SyntaxError", id="psql's own command"),
    ],
)  # fmt: skip
def test_a_file_that_fails_changes_nothing_and_says_where(
    database: t.Callable[..., t.Any], tmp_path: pathlib.Path, text: str, line: int, state: str, named: str
) -> None:
    target = database()
    with connection(target) as conn:
        execute(conn, PEOPLE)
        path = _file(tmp_path, text)
        with pytest.raises(MigrationError) as failed:
            mask(target, load([path]))
        error = failed.value
        assert (error.code, error.facts["file"], error.facts["line"], error.facts["sqlstate"]) == ("MASKING_FAILED", path, line, state)
        assert "line %d" % line in error.msg
        assert named in error.msg
        assert "geheim" not in error.msg + str(error.facts)
        assert row(conn, "SELECT count(*) FROM person WHERE born = 'geboren' AND email <> ''") == (100,)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param(None, "cannot be read: No such file", id="no file"),
        pytest.param("-- nothing\n;", "holds no statement", id="empty"),
        pytest.param("SELECT 1;\nCOMMIT;", "line 2: begins or ends a transaction", id="commit"),
        pytest.param("VACUUM FULL person", "line 1: PostgreSQL refuses this statement inside a transaction", id="vacuum"),
        pytest.param("SELECT 1;\n\nDROP ROLE somebody;", "line 3: reaches beyond the copy", id="role"),
        pytest.param("COPY person TO '/tmp/people'", "line 1: reaches beyond the copy", id="file of the server"),
    ],
)
def test_what_cannot_be_one_transaction_on_the_copy_is_refused_first(tmp_path: pathlib.Path, text: str | None, words: str) -> None:
    path = _file(tmp_path, text) if text is not None else str(tmp_path / "none.sql")
    with pytest.raises(MigrationError, match=words) as failed:
        load([path])
    assert failed.value.code == "MASKING_FAILED"


def _may(server: t.Any, role: str, dbname: str) -> bool:
    return bool((row(server, "SELECT has_database_privilege(%s, %s, 'CONNECT')", (role, dbname)) or (None,))[0])
