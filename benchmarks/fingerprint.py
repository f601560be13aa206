# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A fingerprint of the content against a dump of the same database, and counts against bare ones: interleaved in one run.

    python benchmarks/fingerprint.py [--size 1GB] [--rounds 3] [--json FILE]

Prints a line for each aim and ends with 1 when one is missed. See README.md beside it.
"""

from __future__ import annotations

import inspect
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take  # noqa: E402
from psycopg2 import sql  # noqa: E402

from benchmarks import _command  # noqa: E402
from benchmarks._bench import Bench  # noqa: E402
from benchmarks._data import TABLES  # noqa: E402
from benchmarks._lines import Line  # noqa: E402
from benchmarks.rollback import size  # noqa: E402

DBNAME = "clinic"
DUMP = ("-Fc", "-Z0")
#: The counts take moments, so they are taken more often.
COUNTS_A_ROUND = 5


def measure(made: Bench) -> list[Line]:
    made.make_database(DBNAME, made.plain_bytes)
    dump, full, module, bare, counts, added = [], [], [], [], [], []
    for _round in range(made.rounds):
        dump.append(made.program("pg_dump", *DUMP, dbname=DBNAME))
        full.append(_take(made, "full"))
        module.append(made.module("database_fingerprint", DBNAME, level="full")[0])
        for _again in range(COUNTS_A_ROUND):
            bare.append(_count(made))
            counts.append(_take(made, "counts"))
            added.append(counts[-1] - _take(made, "schema"))
        made.say(
            "fingerprint: dump %.2f s, full %.2f s (as a module %.2f s), counts %.3f s, bare %.3f s" % (dump[-1], full[-1], module[-1], counts[-1], bare[-1])
        )
    return [
        Line("full", "fingerprint / pg_dump -Fc -Z0 > /dev/null", tuple(full), tuple(dump), 0.30),
        Line("full", "the module database_fingerprint / the same", tuple(module), tuple(dump)),
        Line("wide", "fingerprint of 128 bit / of 64 bit", (), aim=1.5, missing=_no_wide_hash()),
        Line("counts", "counts / the bare count(*)s", tuple(counts), tuple(bare), 1.1),
        Line("counts", "counts less the schema, which it has in it / the same", tuple(added), tuple(bare)),
    ]


def _no_wide_hash() -> str:
    return "" if "bits" in inspect.signature(take).parameters else "there is no such level; a table's hash is a sum of 64-bit hashes"


def _take(made: Bench, level: str) -> float:
    with made.connection(DBNAME) as conn:
        began = time.monotonic()
        take(conn, level)
        return time.monotonic() - began


def _count(made: Bench) -> float:
    with made.connection(DBNAME) as conn, conn.cursor() as cursor:
        began = time.monotonic()
        for table in TABLES:
            cursor.execute(sql.SQL("SELECT count(*) FROM {}").format(sql.Identifier(table)))
            cursor.fetchall()
        return time.monotonic() - began


def main(arguments: list[str] | None = None) -> int:
    parser = _command.options("fingerprint.py", "A fingerprint against a dump.")
    parser.add_argument("--size", type=size, default="1GB", help="of the database as a plain dump, about (1GB)")
    found = parser.parse_args(arguments)
    return _command.run(found, found.size, measure)


if __name__ == "__main__":
    sys.exit(main())
