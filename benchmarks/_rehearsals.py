# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Rehearsals of a fleet against what a person types for each database, by C(xargs -P), at the same parallelism.

What is typed: a template copy, C(prisma migrate deploy) in it, then the dump of the last night restored in its place, and all
dropped. It compares nothing, checks nothing and proves no dump; it is what the proof costs that the ratio tells.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time

from psycopg2 import sql
from support.fleet import GROUP, Fleet
from support.prisma import PrismaProject, node_problem

from benchmarks._bench import ROOT, Bench, BenchmarkError
from benchmarks._data import KEYS, TABLES_SQL
from benchmarks._lines import Line

#: The default parallelism of the role, and so that of xargs.
AT_ONCE = 2
AIM = 1.2
_TEMPLATE = "clinic"
_BY_HAND = """
set -eu
try="$1_try"
createdb -T "$1" "$try"
(cd "$APP" && DATABASE_URL="$URL/$try" CHECKPOINT_DISABLE=1 node_modules/.bin/prisma migrate deploy >/dev/null 2>&1)
dropdb "$try"
createdb "$try"
pg_restore --no-owner -d "$try" -j 2 "$DUMP"
dropdb "$try"
"""
#: What is rehearsed: a column that rewrites nothing, an index, and a backfill of a small table.
_PENDING = """
ALTER TABLE "appointments" ADD COLUMN "reminded_at" TIMESTAMPTZ(3);
CREATE INDEX "appointments_status" ON "appointments" ("status", "starts_at");
ALTER TABLE "users" ADD COLUMN "locale" TEXT NOT NULL DEFAULT 'en';
UPDATE "users" SET "locale" = "settings"->>'language';
"""
#: The aim is for the copies that are made as the bare commands make theirs; a restore point is read, restored twice and proved besides.
_PLAYED: dict[str, dict[str, object]] = {"template copy": {"rehearsal_source": "template"}, "restore point, the default": {}}


def rehearsals(made: Bench, targets: int, plain_bytes: int) -> list[Line]:
    """:param plain_bytes: about the size of the plain dump of each database."""
    missing = node_problem(ROOT)
    if missing:
        return [Line("rehearse", "rehearsals / the bare commands by xargs", (), missing=missing)]
    fleet, project = _fleet(made, targets, plain_bytes)
    by_hand: list[float] = []
    took: dict[str, list[float]] = {name: [] for name in _PLAYED}
    # The restore points are there beforehand, as after any night.
    _play(fleet, "backup.yml")
    for _round in range(made.rounds):
        made.settle()
        by_hand.append(_typed(made, fleet, project))
        for name, extra in _PLAYED.items():
            made.settle()
            took[name].append(_play(fleet, "rehearse.yml", dict(extra, rehearsal_max_age=0, rehearsal_at_once=AT_ONCE)))
        made.say("%d rehearsals: by hand %.1f s, %s" % (targets, by_hand[-1], ", ".join("%s %.1f s" % (name, those[-1]) for name, those in took.items())))
    return [
        Line(
            "rehearse",
            "%d rehearsals, %s / the bare commands" % (targets, name),
            tuple(those),
            tuple(by_hand),
            AIM if name != "restore point, the default" else None,
        )
        for name, those in took.items()
    ]


def _fleet(made: Bench, targets: int, plain_bytes: int) -> tuple[Fleet, PrismaProject]:
    folder = made.folder / "rehearsals"
    folder.mkdir(mode=0o700)
    project = PrismaProject.create(ROOT, folder / "app")
    project.add("20250101000000_init", TABLES_SQL + KEYS)
    made.make_database(_TEMPLATE, plain_bytes)
    done = project.cli(made.target(_TEMPLATE), "migrate", "resolve", "--applied", "20250101000000_init")
    if done.returncode:
        raise BenchmarkError("prisma migrate resolve ended with %d: %s" % (done.returncode, (done.stderr or done.stdout).strip()[-500:]))
    project.add("20250102000000_reminders", _PENDING)
    made.program("pg_dump", "-Fd", "-j2", "-Z1", "-f", str(folder / "dump"), dbname=_TEMPLATE)
    fleet = Fleet(folder, tuple("clinic%02d" % number for number in range(targets)))
    for name in fleet.names:
        made.execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), sql.Identifier(_TEMPLATE)))
    hosts = {name: {"migration_database_url": made.target(name).prisma_url()} for name in fleet.names}
    common = {
        "ansible_connection": "local", "ansible_python_interpreter": sys.executable, "migration_app_dir": str(project.path),
        "migration_reports_dir": str(fleet.reports_dir), "migration_journal_dir": str(folder / "journal"), "migration_backup_dir": str(folder / "backups"),
        "migration_certificate_dir": str(folder / "certificates"), "migration_pg_bin_dir": str(made.server.bin_dir),
    }  # fmt: skip
    fleet.inventory.write_text(json.dumps({GROUP: {"hosts": hosts, "vars": common}}), encoding="utf-8")
    fleet.inventory.chmod(0o600)
    return fleet, project


def _play(fleet: Fleet, book: str, extra: dict[str, object] | None = None) -> float:
    began = time.monotonic()
    done = fleet.play(book, "-e", json.dumps(extra or {}))
    seconds = time.monotonic() - began
    if done.returncode:
        raise BenchmarkError("%s ended with %d: %s" % (book, done.returncode, done.stdout.partition("PLAY RECAP")[0].strip()[-6000:]))
    return seconds


def _typed(made: Bench, fleet: Fleet, project: PrismaProject) -> float:
    """The bare commands for each database, so many at once."""
    script = fleet.folder / "by-hand.sh"
    script.write_text(_BY_HAND, encoding="utf-8")
    url = made.target("").prisma_url().partition("?")[0].rstrip("/")
    environment = {**os.environ, **made.environment("postgres"), "APP": str(project.path), "URL": url, "DUMP": str(fleet.folder / "dump")}
    environment["PATH"] = "%s:%s" % (made.server.bin_dir, os.environ["PATH"])
    began = time.monotonic()
    done = subprocess.run(
        ["xargs", "-P", str(AT_ONCE), "-I{}", "sh", str(script), "{}"],
        input="\n".join(fleet.names),
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise BenchmarkError("the bare commands ended with %d: %s" % (done.returncode, done.stderr.strip()[-500:]))
    return time.monotonic() - began


__all__ = ("rehearsals",)
