# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Deploys against a bare loop and the bare CLI, watched and not, and how long an application waits: interleaved in one run.

    python benchmarks/deploy.py [--migrations 434] [--rounds 3] [--only direct,prisma,waits] [--json FILE]

Prints a line for each aim and ends with 1 when one is missed. See README.md beside it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections"), str(ROOT / "tests")]

from psycopg2 import sql  # noqa: E402
from support.prisma import PrismaProject, node_problem  # noqa: E402

from benchmarks._bench import SETTINGS, Bench, BenchmarkError, bench  # noqa: E402
from benchmarks._lines import Line, table  # noqa: E402
from tools.pgserver import PgServerError  # noqa: E402

PARTS = ("direct", "prisma", "waits")
#: The CLI may be started, checked and judged in this time on top of its own, and of its own in so much more.
START_SECONDS, SHARE = 0.5, 0.02
_LOOP = """
import os, pathlib, sys, psycopg2
conn = psycopg2.connect("")
conn.autocommit = True
for path in sorted(pathlib.Path(sys.argv[1]).glob("*/migration.sql")):
    conn.cursor().execute(path.read_text())
"""
READ = "SELECT count(*) FROM queue WHERE id < 10"
BLOCKED_SECONDS, MAX_BLOCK = 8.0, 2.0


def write_migrations(project: PrismaProject, count: int) -> None:
    """Files of about a kilobyte, as Prisma writes them: tables, keys, indexes and columns added later."""
    for number in range(count):
        name, earlier = "item_%04d" % number, "item_%04d" % (number - number % 4)
        if number % 4 == 0:
            columns = "".join('    "field_%d" %s,\n' % (i, ("TEXT NOT NULL DEFAULT ''", "INTEGER", "TIMESTAMP(3)", "JSONB")[i % 4]) for i in range(16))
            script = 'CREATE TABLE "%s" (\n    "id" TEXT NOT NULL,\n%s\n    CONSTRAINT "%s_pkey" PRIMARY KEY ("id")\n);\n' % (name, columns, name)
            script += "".join('CREATE INDEX "%s_field_%d_idx" ON "%s"("field_%d");\n' % (name, i, name, i) for i in (0, 1))
        else:
            script = "".join('ALTER TABLE "%s" ADD COLUMN "more_%d_%d" TEXT;\n' % (earlier, number, i) for i in range(8))
            script += 'CREATE INDEX "%s_more_%d_idx" ON "%s"("more_%d_0");\n' % (earlier, number, earlier, number)
        project.add("2024%04d000000_step" % number, script)


@contextlib.contextmanager
def database(made: Bench) -> Iterator[str]:
    made.execute("CREATE DATABASE deploy")
    made.settle()
    try:
        yield "deploy"
    finally:
        made.drop_database("deploy")


def run(command: list[str], made: Bench, cwd: Path, **env: str) -> float:
    began = time.monotonic()
    done = subprocess.run(command, cwd=cwd, env={**os.environ, **made.environment("deploy"), **env}, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BenchmarkError("%s ended with %d: %s" % (command[0], done.returncode, (done.stderr or done.stdout).strip()[-500:]))
    return time.monotonic() - began


def module(made: Bench, project: PrismaProject, **options: Any) -> tuple[float, float]:
    """Seconds of the module's process, and of the deploy in it."""
    with database(made) as name:
        seconds, result = made.module("migration_deploy", name, app_dir=str(project.path), **options)
        return seconds, result["seconds"]


def direct(made: Bench, project: PrismaProject, cli: str) -> list[Line]:
    rounds: dict[str, list[float]] = {"loop": [], "watched": [], "inside": [], "alone": []}
    for _ in range(made.rounds):
        with database(made):
            rounds["loop"].append(run([sys.executable, "-c", _LOOP, str(project.migrations)], made, project.path))
        for name, seconds in zip(("watched", "inside"), module(made, project, engine="direct"), strict=True):
            rounds[name].append(seconds)
        rounds["alone"].append(module(made, project, engine="direct", monitor=False)[0])
    watched = tuple(rounds["watched"])
    return [
        Line("direct", "engine direct / bare psycopg2 loop", watched, tuple(rounds["loop"]), 1.15),
        Line("direct", "the deploy in it, without the module's start and checks / the same", tuple(rounds["inside"]), tuple(rounds["loop"])),
        Line("direct", "engine direct, watched / not watched", watched, tuple(rounds["alone"])),
    ]


def prisma(made: Bench, project: PrismaProject, cli: str) -> list[Line]:
    if cli:
        return [Line("prisma", "engine prisma / bare CLI", (), missing=cli)]
    bare, ours, own = [], [], []
    for _ in range(made.rounds):
        with database(made) as name:
            command = [str(project.path / "node_modules/.bin/prisma"), "migrate", "deploy"]
            bare.append(run(command, made, project.path, DATABASE_URL=made.target(name).prisma_url(), CHECKPOINT_DISABLE="1"))
        ours.append(module(made, project, engine="prisma")[0])
        own.append(module(made, project, engine="direct")[0])
    allowed = tuple(START_SECONDS + (1 + SHARE) * seconds for seconds in bare)
    return [
        Line("prisma", "engine prisma / 0.5 s and 1.02 x the bare CLI", tuple(ours), allowed, 1.0),
        Line("prisma", "engine direct / bare CLI", tuple(own), tuple(bare), 0.5),
    ]


def waits(made: Bench, project: PrismaProject, cli: str) -> list[Line]:
    """Four readers of a table that an ALTER wants, while a report holds it for eight seconds: with the watchdog and without."""
    folder = PrismaProject(made.folder / "queue")
    folder.migrations.mkdir(parents=True)
    folder.lock('provider = "postgresql"\n')
    folder.add("1_queue", "CREATE TABLE queue (id int PRIMARY KEY); INSERT INTO queue SELECT generate_series(1, 1000);")
    found: dict[str, list[float]] = {"cancel_migration": [], "wait": []}
    for _ in range(made.rounds):
        for on_blocked, worst in found.items():
            worst.append(_waited(made, folder, on_blocked))
    return [
        Line("waits", "p99 of readers behind an ALTER, max_block 2 s", tuple(found["cancel_migration"]), tuple(found["wait"]), MAX_BLOCK, figure_of="worst"),
    ]


def _waited(made: Bench, folder: PrismaProject, on_blocked: str) -> float:
    took: list[float] = []
    stop = threading.Event()

    def read(name: str) -> None:
        with made.connection(name) as conn, conn.cursor() as cursor:
            while not stop.wait(0.05):
                began = time.monotonic()
                cursor.execute(READ)
                took.append(time.monotonic() - began)

    options: dict[str, Any] = {"migrations_dir": str(folder.migrations), "engine": "direct", "lock_timeout": "", "max_block": MAX_BLOCK}
    with database(made) as name:
        made.module("migration_deploy", name, **options)
        folder.add("2_more", "ALTER TABLE queue ADD COLUMN more int;")
        with made.connection(name) as report:
            report.cursor().execute(sql.SQL("BEGIN; SELECT FROM queue"))
            readers = [threading.Thread(target=read, args=(name,)) for _ in range(4)]
            for reader in readers:
                reader.start()
            timer = threading.Timer(BLOCKED_SECONDS, lambda: report.cursor().execute("COMMIT"))
            timer.start()
            try:
                made.module("migration_deploy", name, on_blocked=on_blocked, block_retries=20, **options)
            finally:
                stop.set()
                for thread in [timer, *readers]:
                    thread.join()
        (folder.migrations / "2_more/migration.sql").unlink()
        (folder.migrations / "2_more").rmdir()
    return sorted(took)[int(len(took) * 0.99)]


def parts(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(PARTS):
        raise argparse.ArgumentTypeError("the parts are %s" % ", ".join(PARTS))
    return [name for name in PARTS if name in names]


def main() -> int:
    parser = argparse.ArgumentParser(prog="deploy.py", description="Deploys against a bare loop and the bare CLI.")
    parser.add_argument("--migrations", type=int, default=434, help="how many (434)")
    parser.add_argument("--rounds", type=int, default=3, help="baseline and ours so many times in turn (3)")
    parser.add_argument("--only", type=parts, default=",".join(PARTS), help="some of: %s" % ",".join(PARTS))
    parser.add_argument("--pg-bin", default="", help="PostgreSQL programs to use instead of the wheel's")
    parser.add_argument("--dir", default="", help="where the data goes; a temporary directory by default")
    parser.add_argument("--json", type=Path, help="also write every measured value to this file")
    found = parser.parse_args()
    cli = node_problem(ROOT) or ""
    lines: list[Line] = []
    try:
        with bench(20_000_000, found.rounds, found.pg_bin, found.dir, lambda text: print(text, file=sys.stderr, flush=True)) as made:
            project = PrismaProject.create(ROOT, made.folder / "project") if not cli else PrismaProject(made.folder / "project")
            project.migrations.mkdir(parents=True, exist_ok=True)
            project.lock('provider = "postgresql"\n')
            write_migrations(project, found.migrations)
            for name in found.only:
                lines += {"direct": direct, "prisma": prisma, "waits": waits}[name](made, project, cli)
    except (BenchmarkError, PgServerError) as error:
        print("error: %s" % error, file=sys.stderr)
        return 2
    print(table(lines))
    if found.json:
        found.json.write_text(json.dumps({"settings": SETTINGS, "lines": [line.as_dict() for line in lines]}, indent=2) + "\n", encoding="utf-8")
    return 1 if any(line.verdict == "MISSED" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
