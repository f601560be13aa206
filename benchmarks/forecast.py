# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The forecast of a rehearsal on a copy of a tenth of the size, against the measured time at the full size.

    python benchmarks/forecast.py [--rows 2000000] [--rounds 3] [--only index] [--json FILE]

Prints a line for each shape of migration and ends with 1 when one is off by more than the aim. See README.md beside it.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.pgops.migrations.plugins.module_utils._forecast import forecast  # noqa: E402
from ansible_collections.pgops.migrations.plugins.module_utils._forecast_facts import measure as run  # noqa: E402
from ansible_collections.pgops.migrations.plugins.module_utils._forecast_facts import settings_of, sizes  # noqa: E402
from psycopg2 import sql  # noqa: E402

from benchmarks import _command  # noqa: E402
from benchmarks._bench import Bench  # noqa: E402
from benchmarks._lines import Line  # noqa: E402

#: Bytes of a row in the plain dump, about.
ROW_BYTES = 200
#: Off by at most so many percent.
AIM = 30.0
TABLES = """
CREATE TABLE person (id integer PRIMARY KEY, email text NOT NULL);
INSERT INTO person SELECT i, md5(i::text) || '@example.com' FROM generate_series(1, {rows} / 10) i;
CREATE TABLE visit (
  id bigint PRIMARY KEY, person_id integer NOT NULL, number integer, name text, note text, key uuid, price numeric(10, 2), data jsonb,
  made_at timestamptz NOT NULL);
INSERT INTO visit SELECT i, 1 + (i * 7919) % ({rows} / 10), (i * 7919) % 1000003, md5((i * 31)::text), repeat('x', (40 + i % 40)::integer), md5(i::text)::uuid,
  (i % 10000) / 100.0, jsonb_build_object('kind', i % 50, 'tag', 'tag' || i % 1000, 'on', i % 2 = 0), timestamptz '2024-01-01' + i * interval '7 s'
  FROM generate_series(1::bigint, {rows}) i;
"""
SHAPES = {
    "index on integer": "CREATE INDEX made ON visit (number)",
    "index on text": "CREATE INDEX made ON visit (name)",
    "unique index on uuid": "CREATE UNIQUE INDEX made ON visit (key)",
    "index on two columns": "CREATE INDEX made ON visit (person_id, made_at DESC)",
    "index on jsonb (gin)": "CREATE INDEX made ON visit USING gin (data)",
    "index, concurrently": "CREATE INDEX CONCURRENTLY made ON visit (number)",
    "partial index": "CREATE INDEX made ON visit (made_at) WHERE number % 10 = 0",
    "backfill of all rows": "UPDATE visit SET number = number + 1",
    "backfill of a new column": "ALTER TABLE visit ADD COLUMN label text; UPDATE visit SET label = lower(name) || id",
    "backfill of half the rows": "UPDATE visit SET note = 'short' WHERE number % 2 = 0",
    "backfill by a join": "UPDATE visit SET note = person.email FROM person WHERE person.id = visit.person_id",
    "INSERT .. SELECT, with a key": "CREATE TABLE kept (id bigint PRIMARY KEY, name text); INSERT INTO kept SELECT id, name FROM visit",
    "CREATE TABLE AS, and its index": "CREATE TABLE kept AS SELECT id, name, made_at FROM visit; CREATE INDEX ON kept (name)",
    "column with a volatile default": "ALTER TABLE visit ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
    "integer to bigint": "ALTER TABLE visit ALTER COLUMN number TYPE bigint",
    "text to other text, USING": "ALTER TABLE visit ALTER COLUMN name TYPE varchar(64) USING upper(name)",
    "SET NOT NULL": "ALTER TABLE visit ALTER COLUMN note SET NOT NULL",
    "CHECK": "ALTER TABLE visit ADD CONSTRAINT made CHECK (price >= 0)",
    "foreign key": "ALTER TABLE visit ADD CONSTRAINT made FOREIGN KEY (person_id) REFERENCES person (id)",
    "deletion of a third": "DELETE FROM visit WHERE number % 3 = 0",
}


def measure(made: Bench, only: str = "") -> list[Line]:
    """:param only: a part of the names of the shapes."""
    rows = made.plain_bytes // ROW_BYTES
    for name, count in (("small", rows // 10), ("full", rows)):
        made.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
        with made.connection(name) as conn, conn.cursor() as cursor:
            cursor.execute(TABLES.format(rows=count))
            cursor.execute("VACUUM ANALYZE")
        made.say("made %s: %d rows" % (name, count))
    lines = []
    for shape, script in ((shape, script) for shape, script in SHAPES.items() if only in shape):
        told, taken, inside = [], [], 0
        for _round in range(made.rounds):
            small, full = _run(made, "small", shape, script), _run(made, "full", shape, script)
            found = forecast(small["statements"], small["sizes"], full["sizes"], small["settings"])
            told.append(found["seconds"])
            taken.append(sum(statement["seconds"] for statement in full["statements"]))
            inside += found["low"] <= taken[-1] <= found["high"]
            made.say(
                "%-32s copy %.3f s, forecast %.2f s (%.2f to %.2f), measured %.2f s: %.2f"
                % (shape, found["measured"], found["seconds"], found["low"], found["high"], taken[-1], told[-1] / taken[-1])
            )
        lines.append(Line(shape, "%s: forecast / measured" % shape, tuple(told), tuple(taken)))
        off = abs(statistics.median(one / other for one, other in zip(told, taken, strict=True)) - 1)
        lines.append(Line(shape, "  off by (within the error bar %d of %d times)" % (inside, made.rounds), (100 * off,), aim=AIM, unit="%", figure_of="worst"))
    return lines


def _run(made: Bench, source: str, shape: str, script: str) -> dict[str, Any]:
    made.copy_database(source, "scratch")
    try:
        with made.connection("scratch") as conn:
            found = {"sizes": sizes(conn, exactly=source == "small"), "settings": settings_of(conn)}
            # A copy that was just made is not in the cache; production's tables are.
            conn.cursor().execute("SELECT count(*) FROM visit WHERE note <> ''")
        made.settle()
        statements, problem = run(made.target("scratch"), {shape: script})
        if problem:
            raise RuntimeError("%s: %s" % (shape, problem))
        return dict(found, statements=statements)
    finally:
        made.drop_database("scratch")


def main(arguments: list[str] | None = None) -> int:
    parser = _command.options("forecast.py", "The forecast from a tenth of the size.")
    parser.add_argument("--rows", type=_rows, default=2000000, help="of the largest table (2000000)")
    parser.add_argument("--only", default="", choices=["", "index", "backfill", *SHAPES], metavar="SHAPE", help="one of the shapes, or index, or backfill")
    found = parser.parse_args(arguments)
    return _command.run(found, found.rows * ROW_BYTES, lambda made: measure(made, found.only))


def _rows(text: str) -> int:
    found = int(text)
    if found < 1000:
        raise ValueError("less than 1000 rows")
    return found


if __name__ == "__main__":
    sys.exit(main())
