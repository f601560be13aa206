# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Generated histories: folders and ledgers as years of real work leave them, from a seed."""

from __future__ import annotations

import dataclasses
import datetime
import random
import typing as t
import uuid

from ansible_collections.pgops.migrations.plugins.module_utils._folder import digest

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
PLAIN = ["2024%02d%02d%06d_%s" % (month, month, month * 100, word) for month, word in enumerate(("init", "users", "bio", "Index", "enum", "drop"), 1)]
ODD = [
    "20240101_a", "20240101_B", "20240101-a", "20240101 a", "init", "_init", "0_init", "10_x", "9_x", "Zulu", "alpha", "été", "ete", "with'quote",
    'with"dquote', "semi;colon", "per%cent", "back\\slash", ".hidden", "日本", "emoji_😀", "x" * 200, "-dash", "$dollar", "UPPER", "upper",
]  # fmt: skip

#: What may have happened to one name, and how often. Folder side and ledger side together.
STATES = {
    "pending": 8, "applied": 10, "edited": 2, "crlf": 2, "lf_recorded": 2, "missing": 2, "marked": 2, "rolled_back": 2, "reapplied": 2,
    "finished_rolled_back": 1, "rolled_back_missing": 1, "no_script": 1, "applied_no_script": 1, "twice": 1, "short_checksum": 1, "mended": 1,
}  # fmt: skip
UNFINISHED = ("failed", "interrupted", "finished_and_unfinished", "unfinished_missing", "failed_again")


@dataclasses.dataclass
class History:
    """A folder, a ledger (None: no table) and the rest of a database."""

    seed: int
    files: dict[str, bytes | None] = dataclasses.field(default_factory=dict)
    ledger: list[dict[str, t.Any]] | None = None
    lock: str | None = 'provider = "postgresql"\n'
    other_objects: tuple[str, ...] = ()
    schema: str = "public"
    schema_exists: bool = True
    stray: tuple[str, ...] = ()
    states: dict[str, str] = dataclasses.field(default_factory=dict)


def generate(seed: int) -> History:
    """The history of a seed; the same one every time."""
    rng = random.Random(seed)
    history = History(seed)
    names = rng.sample(PLAIN, rng.randint(1, 5)) + rng.sample(ODD, rng.randint(0, 3))
    blocked = rng.random() < 0.2
    unfinished = rng.choice(names) if blocked else None
    rows: list[dict[str, t.Any]] = []
    for number, name in enumerate(names):
        state = rng.choice(UNFINISHED) if name == unfinished else rng.choices(list(STATES), list(STATES.values()))[0]
        history.states[name] = state
        sql = "-- %s\nCREATE TABLE t_%d (id int);\n" % (name, number)
        on_disk, found = _one(name, state, sql, rng)
        if on_disk is not _ABSENT:
            history.files[name] = t.cast("bytes | None", on_disk)
        rows += found
    if rng.random() < 0.5:
        rng.shuffle(rows)
    if rows or rng.random() < 0.5:
        history.ledger = [dict(row, started_at=START + datetime.timedelta(seconds=60 * i)) for i, row in enumerate(rows)]
        for row in history.ledger:
            _times(row)
    _surroundings(history, rng)
    return history


_ABSENT = object()


def _row(name: str, sql: str, **more: t.Any) -> dict[str, t.Any]:
    return dict(dict(name=name, checksum=digest(sql), finished=True, rolled_back=False, logs=None, steps=1, marked=False), **more)


def _one(name: str, state: str, sql: str, rng: random.Random) -> tuple[object, list[dict[str, t.Any]]]:
    """What is on disk and in the ledger for one name in one state."""
    disk = sql.encode()
    crlf = sql.replace("\n", "\r\n")
    failed = _row(name, sql, finished=False, logs="ERROR: no", steps=0)
    undone = dict(failed, rolled_back=True)
    table: dict[str, tuple[object, list[dict[str, t.Any]]]] = {
        "pending": (disk, []),
        "applied": (disk, [_row(name, sql)]),
        "edited": (disk + b"-- later\n", [_row(name, sql)]),
        "crlf": (crlf.encode(), [_row(name, sql)]),
        "lf_recorded": (disk, [_row(name, crlf)]),
        "missing": (_ABSENT, [_row(name, sql)]),
        "marked": (disk, [_row(name, sql, marked=True, steps=0, logs="")]),
        "rolled_back": (disk, [undone]),
        "mended": (disk + b"-- mended\n", [undone, undone]),
        "reapplied": (disk, [undone, _row(name, sql)]),
        "finished_rolled_back": (disk, [_row(name, sql, rolled_back=True)]),
        "rolled_back_missing": (_ABSENT, [undone]),
        "no_script": (None, []),
        "applied_no_script": (None, [_row(name, sql)]),
        "twice": (disk, [_row(name, sql), _row(name, sql)]),
        "short_checksum": (disk, [_row(name, sql, checksum=digest(sql)[:61])]),
        "failed": (disk, [failed]),
        "interrupted": (disk, [dict(failed, logs=None, steps=rng.randint(0, 1))]),
        "finished_and_unfinished": (disk, [_row(name, sql), failed]),
        "unfinished_missing": (_ABSENT, [failed]),
        "failed_again": (disk, [undone, failed]),
    }
    return table[state]


def _times(row: dict[str, t.Any]) -> None:
    row["id"] = str(uuid.UUID(int=int(row["started_at"].timestamp() * 1000)))
    end = row["started_at"] if row.pop("marked") else row["started_at"] + datetime.timedelta(seconds=2)
    row["finished_at"] = end if row.pop("finished") else None
    row["rolled_back_at"] = end + datetime.timedelta(seconds=9) if row.pop("rolled_back") else None


def _surroundings(history: History, rng: random.Random) -> None:
    if rng.random() < 0.15:
        history.lock = rng.choice(
            [None, "", "provider = \"mysql\"\n", "provider=\"postgresql\"\n", "# generated\nprovider = \"postgresql\"\r\n", "provider = postgresql\n",
             "provider = \"postgres\"\n", " provider = \"postgresql\"\n", "provider = \"postgresql\" # pg\n"]
        )  # fmt: skip
    if rng.random() < (0.3 if history.ledger is None else 0.1):
        history.other_objects = (rng.choice(
            ["CREATE TABLE other (id int)", "CREATE VIEW v AS SELECT 1 AS one", "CREATE TYPE mood AS ENUM ('ok')", "CREATE SEQUENCE s",
             "CREATE TABLE p (i int) PARTITION BY RANGE (i)", "CREATE UNLOGGED TABLE u (i int)", "CREATE MATERIALIZED VIEW m AS SELECT 1 AS one",
             "CREATE TABLE part (i int) PARTITION BY RANGE (i); CREATE TABLE part_1 PARTITION OF part FOR VALUES FROM (0) TO (9)"]
        ),)  # fmt: skip
    if rng.random() < 0.25:
        history.schema = rng.choice(["app", "we-ird", "Mixed"])
        history.schema_exists = history.ledger is not None or bool(history.other_objects) or rng.random() < 0.5
    if rng.random() < 0.2:
        history.stray = ("README.md", "link_to_a_folder")


LEDGER = """
CREATE TABLE _prisma_migrations (
    id VARCHAR(36) PRIMARY KEY NOT NULL, checksum VARCHAR(64) NOT NULL, finished_at TIMESTAMPTZ, migration_name VARCHAR(255) NOT NULL,
    logs TEXT, rolled_back_at TIMESTAMPTZ, started_at TIMESTAMPTZ NOT NULL DEFAULT now(), applied_steps_count INTEGER NOT NULL DEFAULT 0)
"""
INSERT = """
INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, logs, rolled_back_at, started_at, applied_steps_count)
VALUES (%(id)s, %(checksum)s, %(finished_at)s, %(name)s, %(logs)s, %(rolled_back_at)s, %(started_at)s, %(steps)s)
"""
