# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Random changes of a schema with rows in it, and what their reversal leaves of the values."""

from __future__ import annotations

import contextlib
import dataclasses
import random
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _draft_data, _draft_run
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, rows

#: How many random changes are tried.
SEEDS = 12
START = """
CREATE SCHEMA s; CREATE TYPE mood AS ENUM ('x', 'y', 'z');
CREATE TABLE a (id serial PRIMARY KEY, c1 text DEFAULT 'd', c2 text, c3 int, m mood);
CREATE TABLE b (id serial PRIMARY KEY, c1 text, a_id int REFERENCES a, c2 int GENERATED ALWAYS AS IDENTITY);
CREATE TABLE s.a (id int CONSTRAINT a_pkey PRIMARY KEY, c1 text CONSTRAINT c_check CHECK (c1 <> ''), c2 int);
CREATE UNIQUE INDEX a_c1 ON a (c1); CREATE INDEX a_c2 ON s.a (c2); CREATE VIEW v AS SELECT c1, c2 FROM a;
INSERT INTO a (c1, c2, c3, m) SELECT 'a1.' || n, 'a2.' || n, n, (ARRAY['x', 'y', 'z'])[n]::mood FROM generate_series(1, 3) n;
INSERT INTO b (c1, a_id) SELECT 'b1.' || n, n FROM generate_series(1, 3) n; INSERT INTO s.a SELECT n, 's1.' || n, n * 7 FROM generate_series(1, 3) n;
"""
NUMBERED = """
SELECT c.oid::bigint, a.attnum, format('%I.%I', n.nspname, c.relname), quote_ident(a.attname)
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE c.relkind = 'r' AND c.oid >= 16384 AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
"""


def some_changes(conn: t.Any, choose: random.Random) -> None:
    """Rename, exchange, move, drop and make again what is there, at random; what the server refuses does not count."""
    for _step in range(choose.randint(2, 9)):
        columns = rows(conn, NUMBERED + " ORDER BY 3, 4")
        if not columns:
            return
        _oid, _number, table, column = choose.choice(columns)
        schema = choose.choice([name for (name,) in rows(conn, "SELECT quote_ident(nspname) FROM pg_namespace WHERE nspname ~ '^(public|s)' ORDER BY 1")])
        name, other = choose.choice(["c1", "c2", "c3", "c4", "m", '"C 1"']), choose.choice(["a", "b", '"B"', "a_c1", "v"])
        label, new = choose.choice("xyzw"), choose.choice("xyzw")
        statement = choose.choice(
            [
                "ALTER TABLE %s RENAME %s TO %s" % (table, column, name),
                "ALTER TABLE %s RENAME %s TO tmp; ALTER TABLE %s RENAME %s TO %s; ALTER TABLE %s RENAME tmp TO %s"
                % (table, column, table, name, column, table, name),
                "ALTER TABLE %s RENAME TO %s" % (table, other),
                "ALTER TABLE %s SET SCHEMA %s" % (table, schema),
                "ALTER TABLE %s DROP %s CASCADE" % (table, column),
                "ALTER TABLE %s ADD %s text DEFAULT 'new'" % (table, name),
                "CREATE TABLE %s.%s (id serial PRIMARY KEY, c1 text, c2 text); INSERT INTO %s.%s (c1) VALUES ('new')" % (schema, other, schema, other),
                "DROP TABLE %s CASCADE" % table,
                "ALTER SCHEMA %s RENAME TO %s" % (schema, choose.choice(["s", "s1", '"s.2"'])),
                "CREATE SCHEMA %s" % choose.choice(["s", "s1"]),
                "CREATE VIEW %s.%s AS SELECT %s AS c1 FROM %s" % (schema, other, column, table),
                "ALTER TYPE mood RENAME VALUE '%s' TO '%s'" % (label, new),
                "ALTER TYPE mood RENAME TO %s" % other,
                "CREATE TYPE mood AS ENUM ('q')",
                "ALTER INDEX a_c1 RENAME TO a_c2",
                "ALTER SEQUENCE a_id_seq RENAME TO %s" % other,
                "ALTER TABLE %s RENAME CONSTRAINT a_pkey TO b_pkey2" % table,
                "CREATE TABLE tmp AS TABLE %s; DROP TABLE %s CASCADE; ALTER TABLE tmp RENAME TO a" % (table, table),
            ]
        )
        with contextlib.suppress(psycopg2.Error):
            execute(conn, statement)


def values_of(conn: t.Any, table: str, column: str) -> list[str]:
    return [value for (value,) in rows(conn, "SELECT COALESCE(%s::text, '') FROM %s ORDER BY ctid" % (column, table))]


@pytest.mark.parametrize("seed", range(SEEDS))
def test_all_that_outlived_the_change_outlives_its_reversal(cluster: t.Any, database: t.Any, admin: t.Any, seed: int) -> None:
    """Whatever was renamed into whatever: values that are still there come back to where they were, and what stands in the way was counted."""
    target = cluster.superuser_target(database().dbname)
    with connection(target) as conn:
        execute(conn, START)
        goal = _draft_run.read_model(target, target.dbname)
        before = {(oid, number): (table, column, values_of(conn, table, column)) for oid, number, table, column in rows(conn, NUMBERED)}
        some_changes(conn, random.Random(seed))
        survived = [before[oid, number] for oid, number, _table, _column in rows(conn, NUMBERED) if (oid, number) in before]
    # A copy of the files, in which all numbers are the same.
    copy = target.dbname + "_copy"
    execute(admin(), 'CREATE DATABASE "%s" TEMPLATE "%s" STRATEGY FILE_COPY' % (copy, target.dbname))
    try:
        _draft_run.empty(target, copy)
        found = _draft_run.work_out(target, copy, dataclasses.replace(goal, database=_draft_run.read_model(target, copy).database), {})
    finally:
        execute(admin(), 'DROP DATABASE "%s" WITH (FORCE)' % copy)
    assert not found.stuck, found.stuck
    counted = _draft_data.count(target, found.notes)
    script = ";\n".join(statement for _remark, statement in found.statements)
    assert not [each for each in counted if each.problem and "converted" not in each.problem], (counted, script)
    obstacles = [each for each in counted if each.blocks]
    with connection(target) as conn:
        try:
            execute(conn, "BEGIN; %s; COMMIT" % script)
        except psycopg2.Error as error:
            assert obstacles, (script, error)
            return
        assert all(each.note.kind == "is_lost" for each in obstacles), (obstacles, script)
        end = _draft_run.read_model(target, target.dbname)
        assert (set(end.tables), set(end.columns), set(end.units)) == (set(goal.tables), set(goal.columns), set(goal.units))
        for table, column, values in survived:
            assert values_of(conn, table, column) == values, (table, column)
