# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rows that are multiplied: every key stays valid, and who cannot be scaled is named."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._scale import scale
from ansible_collections.pgops.migrations.plugins.module_utils._scale_catalog import read_stats

TABLES = """
CREATE EXTENSION IF NOT EXISTS btree_gist;
CREATE TYPE mood AS ENUM ('good', 'bad');
CREATE DOMAIN price AS numeric(10, 2) CHECK (value >= 0);
CREATE TABLE person (
  id serial PRIMARY KEY, email varchar(30) UNIQUE NOT NULL CHECK (email LIKE '%@%'), code uuid UNIQUE DEFAULT gen_random_uuid(), boss integer REFERENCES person,
  mood mood NOT NULL, tags text[], data jsonb, age integer, doubled integer GENERATED ALWAYS AS (age * 2) STORED, fee price, born date, favourite integer);
INSERT INTO person (email, mood, tags, data, age, fee, born) SELECT 'p' || i || '@example.com', 'good', ARRAY['a'], '{"a": 1}', i % 7, i, date '2000-01-01' + i
  FROM generate_series(1, 40) i;
UPDATE person SET boss = id - 1 WHERE id > 1;
CREATE UNIQUE INDEX ON person (lower(email));
CREATE TABLE "Po""st" (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, author integer NOT NULL REFERENCES person, slug text NOT NULL, kind text, UNIQUE (author, slug));
INSERT INTO "Po""st" (author, slug, kind) SELECT 1 + i % 40, 'slug-' || i, CASE WHEN i % 10 = 0 THEN 'rare' ELSE 'often' END FROM generate_series(1, 200) i;
ALTER TABLE person ADD FOREIGN KEY (favourite) REFERENCES "Po""st" (id) DEFERRABLE;
UPDATE person SET favourite = id;
CREATE TABLE liked (person integer REFERENCES person, post bigint REFERENCES "Po""st", PRIMARY KEY (person, post));
INSERT INTO liked SELECT p.id, q.id FROM person p, "Po""st" q WHERE (p.id + q.id) % 50 = 0;
CREATE TABLE profile (person integer PRIMARY KEY REFERENCES person, text text);
INSERT INTO profile SELECT id, 'x' FROM person WHERE id <= 30;
CREATE TABLE event (id uuid DEFAULT gen_random_uuid(), at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
INSERT INTO event (at) SELECT date '2024-01-01' + i FROM generate_series(1, 60) i;
CREATE TABLE audit (n bigserial PRIMARY KEY);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO audit DEFAULT VALUES; RETURN NEW; END $$;
CREATE TRIGGER audit BEFORE INSERT ON "Po""st" FOR EACH ROW EXECUTE FUNCTION audit();
CREATE TABLE room (id integer, during tsrange, EXCLUDE USING gist (id WITH =, during WITH &&)); INSERT INTO room VALUES (1, '[2024-01-01,2024-01-02)');
CREATE TABLE setting (sole boolean PRIMARY KEY, CHECK (sole)); INSERT INTO setting VALUES (true);
CREATE TABLE small (id smallint PRIMARY KEY); INSERT INTO small SELECT generate_series(1, 20000, 10);
CREATE TABLE bounded (id integer PRIMARY KEY CHECK (id < 100)); INSERT INTO bounded SELECT generate_series(1, 60);
CREATE TABLE of_setting (id integer PRIMARY KEY, setting boolean REFERENCES setting); INSERT INTO of_setting VALUES (1, true), (2, NULL);
CREATE TABLE nothing (id integer PRIMARY KEY);
"""


def test_every_key_stays_valid_and_who_cannot_be_scaled_is_named(database: t.Callable[..., t.Any], admin: t.Any) -> None:
    target = database()
    execute(admin(target.dbname), "CREATE EXTENSION btree_gist")
    with connection(target) as conn:
        execute(conn, TABLES)
        execute(conn, "ANALYZE")
        found = scale(target, 2.5, run_id="run-1")
        tables = {entry["table"]: (entry["before"], entry["after"]) for entry in found["tables"]}
        assert tables["public.person"] == (40, 100)
        assert tables['public.Po"st'] == (200, 500)
        assert tables["public.liked"] == (160, 400)
        assert tables["public.profile"] == (30, 75)
        assert tables["public.event"] == (60, 150)
        assert tables["public.of_setting"] == (2, 5)
        reasons = {entry["table"]: entry["reason"] for entry in found["skipped"]}
        assert set(reasons) == {"public.audit", "public.room", "public.setting", "public.small", "public.bounded", "public.nothing"}
        assert reasons["public.room"] == "it has an exclusion constraint"
        assert reasons["public.setting"] == "its key (sole) has no column that can take new values"
        assert reasons["public.small"] == "the numbers of its column id do not suffice"
        assert "23514" in reasons["public.bounded"]
        # Every key is valid, which the server proves by making it anew.
        for table, name, text in rows(
            conn, "SELECT conrelid::regclass::text, quote_ident(conname), pg_get_constraintdef(oid) FROM pg_constraint WHERE contype = 'f' AND conparentid = 0"
        ):
            execute(conn, "ALTER TABLE %s DROP CONSTRAINT %s, ADD CONSTRAINT %s %s" % (table, name, name, text))
        # New parents have children of their own, no trigger ran, and the next row gets a number of its own.
        assert (row(conn, 'SELECT count(DISTINCT author) FROM "Po""st"') or (0,))[0] > 80
        assert row(conn, "SELECT tgenabled::text FROM pg_trigger WHERE tgname = 'audit'") == ("O",)
        execute(conn, "INSERT INTO person (email, mood) VALUES ('n@e', 'bad'); INSERT INTO \"Po\"\"st\" (author, slug) VALUES (1, 'new')")
        assert row(conn, "SELECT count(*) FROM audit") == (1,)
        assert (row(conn, "SELECT reltuples FROM pg_class WHERE relname = 'person'") or (0,))[0] == 100


def test_values_come_as_often_as_productions_statistics_say(database: t.Callable[..., t.Any]) -> None:
    live, target = database(), database()
    table = "CREATE TABLE visit (id bigint PRIMARY KEY, kind text, n integer, at timestamptz NOT NULL, fee numeric(8, 2), on_day date, always boolean)"
    made = """INSERT INTO visit SELECT i, CASE WHEN i % 10 < 7 THEN 'often' WHEN i % 10 < 9 THEN 'seldom' END, i % 1000,
      timestamptz '2020-01-01' + i * interval '1 hour', i / 100.0, date '2020-01-01' + i / 24, i % 4 = 0 FROM generate_series(1, 5000) i; ANALYZE"""
    with connection(live) as conn:
        execute(conn, table)
        execute(conn, made)
        stats = read_stats(conn)
    with connection(target) as conn:
        execute(conn, table)
        execute(conn, "INSERT INTO visit VALUES (1, 'often', 1, '1999-01-01', 1, '1999-01-01', true), (2, 'seldom', 2, '1999-01-01', 2, '1999-01-01', false)")
        found = scale(target, 1.0, stats, {"public.visit": 8000})
        assert [(entry["after"], entry["drawn"]) for entry in found["tables"]] == [(8000, ["kind", "n", "at", "fee", "on_day", "always"])]
        shares = dict(rows(conn, "SELECT coalesce(kind, '-'), count(*) / 8000.0 FROM visit GROUP BY 1"))
        assert {name: round(float(share), 1) for name, share in shares.items()} == {"often": 0.7, "seldom": 0.2, "-": 0.1}
        numbers = row(conn, "SELECT avg(n)::integer, count(DISTINCT n), count(DISTINCT at), min(at) FILTER (WHERE id > 2) >= '2020-01-01' FROM visit")
        assert numbers is not None
        assert 450 < numbers[0] < 550
        assert numbers[1] > 900
        assert numbers[2] > 7000
        assert numbers[3] is True
        # Statistics of another shape of the column are no failure.
        stats["public.visit"]["n"]["most_common_vals"] = ["no number"]
        stats["public.visit"]["n"]["most_common_freqs"] = [0.5]
        assert scale(target, 1.1, stats)["tables"][0]["drawn"] == []


@pytest.mark.parametrize("factor", [0.5, 10001.0, float("nan")])
def test_a_factor_that_cannot_be_is_refused(database: t.Callable[..., t.Any], factor: float) -> None:
    with pytest.raises(MigrationError, match="must be 1 to 10000") as failed:
        scale(database(), factor)
    assert failed.value.code == "OPTION_INVALID"
