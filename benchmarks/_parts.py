# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What is measured: the guide's way or the bare command, then ours, round by round."""

from __future__ import annotations

import contextlib
import importlib
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible_collections.pgops.migrations.plugins.module_utils._swap import swap
from psycopg2 import sql

from benchmarks._bench import Bench, BenchmarkError, size_of
from benchmarks._clients import Clients
from benchmarks._lines import Line

LIVE, SMALL, GUIDE = "clinic", "clinic_small", "clinic_guide"
SMALL_BYTES = 10_000_000
CLIENTS = 8
#: Swaps of each database in a round.
SWAPS = 7
_UTILS = "ansible_collections.pgops.migrations.plugins.module_utils.%s"


class Found:
    """What one part leaves for the next: the guide's file and restore, and a restore point of ours."""

    plain: Path
    point: dict[str, Any]
    guide_seconds: tuple[float, ...] = ()


# --- dump -----------------------------------------------------------------------------------


def dump(bench: Bench, found: Found) -> list[Line]:
    """``pg_dump > file.sql`` against database_backup, and pg_dump as the module calls it against the bare command."""
    folder, record = bench.recorder()
    bench.module("database_backup", LIVE, backup_dir=str(bench.folder / "warm"), pg_bin_dir=str(folder))
    alone = _without_snapshot(record)
    compression = next(word for word in alone if word.startswith("--compress="))
    plain, whole, bare, called = [], [], [], []
    for _round in range(bench.rounds):
        bench.remove("warm", "points", "bare", "called", "plain.sql")
        bench.settle()
        plain.append(bench.program("pg_dump", dbname=LIVE, output=str(bench.folder / "plain.sql")))
        seconds, result = bench.module("database_backup", LIVE, backup_dir=str(bench.folder / "points"), pg_bin_dir=bench.server.bin_dir)
        whole.append(seconds)
        bare.append(bench.program("pg_dump", "-Fd", "-j2", compression, "--file=%s" % (bench.folder / "bare"), dbname=LIVE))
        called.append(bench.program("pg_dump", *alone, "--file=%s" % (bench.folder / "called"), dbname=LIVE))
        found.point, found.plain = result["restore_point"], bench.folder / "plain.sql"
        bench.say("dump: plain %.2f s, restore point %.2f s; bare %.2f s, as called %.2f s" % (plain[-1], whole[-1], bare[-1], called[-1]))
    bench.remove("bare", "called")
    sizes = (float(found.point["size_bytes"]),), (float(size_of(found.plain)),)
    return [
        Line("dump", "pg_dump as the module calls it / pg_dump -Fd -j2 %s" % compression, tuple(called), tuple(bare), 1.1),
        Line("dump", "proved restore point / pg_dump > file.sql", tuple(whole), tuple(plain), 1.3),
        Line("dump", "size of the archive / of file.sql", *sizes, 0.55, unit="B"),
    ]


def _without_snapshot(record: Path) -> list[str]:
    """The arguments of the last recorded pg_dump that had a snapshot, without that and its file: both are gone by now."""
    calls = [line.strip("\0").split("\0") for line in record.read_text(encoding="utf-8").splitlines()]
    call = next((words for words in reversed(calls) if any(word.startswith("--snapshot=") for word in words)), None)
    if call is None:
        raise BenchmarkError("the module called pg_dump without a snapshot")
    return [word for word in call if not word.startswith(("--snapshot=", "--file="))]


def _demand_dump(bench: Bench, found: Found) -> None:
    """The dumps that a restore starts from, where the dump part did not run."""
    if not hasattr(found, "plain"):
        found.plain = bench.folder / "plain.sql"
        bench.program("pg_dump", dbname=LIVE, output=str(found.plain))
    if not hasattr(found, "point"):
        found.point = bench.module("database_backup", LIVE, backup_dir=str(bench.folder / "points"), pg_bin_dir=bench.server.bin_dir)[1]["restore_point"]


# --- restore --------------------------------------------------------------------------------


def restore(bench: Bench, found: Found) -> list[Line]:
    """``dropdb; createdb; psql < file.sql`` against database_restore after a migration that went wrong."""
    _demand_dump(bench, found)
    guide, ours, phases = [], [], []
    for _round in range(bench.rounds):
        guide.append(_restore_as_the_guide(bench, found.plain))
        bench.drop_database(GUIDE)
        _migrate_wrongly(bench)
        bench.settle()
        seconds, result = bench.module(
            "database_restore",
            LIVE,
            restore_point=found.point["path"],
            confirm=found.point["confirmation"],
            pg_bin_dir=bench.server.bin_dir,
        )
        ours.append(seconds)
        phases.append(result["seconds"])
        bench.drop_database(result["kept"])
        bench.say("restore: guide %.2f s, ours %.2f s (%s)" % (guide[-1], seconds, ", ".join("%s %.2f" % item for item in result["seconds"].items())))
    found.guide_seconds = tuple(guide)
    before = tuple(seconds - phase.get("swap", 0.0) for seconds, phase in zip(ours, phases, strict=True))
    return [Line("restore", "restore from a dump, verified / dropdb; createdb; psql < file.sql", before, tuple(guide), 0.65)]


def _restore_as_the_guide(bench: Bench, plain: Path) -> float:
    bench.settle()
    # The database that it drops is one of its size, as it would be.
    if not bench.execute(sql.SQL("SELECT FROM pg_database WHERE datname = {}").format(sql.Literal(GUIDE))):
        bench.copy_database(LIVE, GUIDE)
    return bench.program("dropdb", GUIDE) + bench.program("createdb", GUIDE) + bench.program("psql", "--quiet", "--file=%s" % plain, dbname=GUIDE)


def _migrate_wrongly(bench: Bench) -> None:
    """A migration adds a column, changes one appointment in a hundred, and deletes about one message in 256."""
    bench.execute(
        "ALTER TABLE appointments ADD COLUMN IF NOT EXISTS room text; UPDATE appointments SET fee = fee + 1 WHERE fee < 4;"
        " DELETE FROM messages WHERE id < '01000000-0000-0000-0000-000000000000'",
        LIVE,
    )


# --- loss -----------------------------------------------------------------------------------


def loss(bench: Bench, found: Found) -> list[Line]:
    """What database_restore takes to say in check mode what a rollback would lose, rows compared one by one."""
    _demand_dump(bench, found)
    _migrate_wrongly(bench)
    speeds = []
    for _round in range(bench.rounds):
        seconds, result = bench.module("database_restore", LIVE, restore_point=found.point["path"], pg_bin_dir=bench.server.bin_dir, _ansible_check_mode=True)
        said = result["loss"]
        compared = sum(table["rows_then"] for table in said["tables"])
        if not said["known"] or not compared:
            raise BenchmarkError("the loss is not known: %s" % said["reason"])
        speeds.append(compared / seconds)
        bench.say("loss: %d rows compared in %.2f s" % (compared, seconds))
    return [Line("loss", "rows compared in a second to say what will be lost, check mode", tuple(speeds), unit="rows/s", figure_of="median")]


# --- snapshot -------------------------------------------------------------------------------


def snapshot(bench: Bench, found: Found) -> list[Line]:
    """``CREATE DATABASE .. TEMPLATE`` by hand against database_copy's core, in this process."""
    what = "snapshot / CREATE DATABASE .. TEMPLATE .. STRATEGY FILE_COPY"
    copier = _optional("_copy")
    if copier is None:
        return [Line("snapshot", what, (), missing="database_copy is not there")]
    bare, ours = [], []
    for number in range(bench.rounds):
        for mine in (False, True) if number % 2 == 0 else (True, False):
            bench.settle()
            began = time.monotonic()
            if mine:
                result = copier.copy(bench.target(LIVE), copier.CopyOptions(), False)
                ours.append(time.monotonic() - began)
                bench.drop_database(result["snapshot"]["name"])
            else:
                bench.copy_database(LIVE, "clinic_bare")
                bare.append(time.monotonic() - began)
                bench.drop_database("clinic_bare")
        bench.say("snapshot: bare %.2f s, ours %.2f s" % (bare[-1], ours[-1]))
    return [Line("snapshot", what, tuple(ours), tuple(bare), 1.1)]


# --- swap -----------------------------------------------------------------------------------


def exchange(bench: Bench, found: Found) -> list[Line]:
    """The swap, as the core's function that a rollback from a snapshot ends in, under clients at full speed."""
    if not found.guide_seconds:
        _demand_dump(bench, found)
        found.guide_seconds = (_restore_as_the_guide(bench, found.plain),)
        bench.drop_database(GUIDE)
    gaps: dict[str, list[float]] = {LIVE: [], SMALL: []}
    seconds: dict[str, list[float]] = {LIVE: [], SMALL: []}
    for number in range(bench.rounds):
        for dbname in (LIVE, SMALL):
            some = _swaps(bench, dbname, number)
            gaps[dbname] += [gap for gap, _seconds in some]
            seconds[dbname] += [took for _gap, took in some]
        bench.say("swap: longest gap of %d clients, median %.0f ms, worst %.0f ms" % (CLIENTS, statistics.median(gaps[LIVE]) * 1000, max(gaps[LIVE]) * 1000))
    guide = statistics.median(found.guide_seconds)
    median = statistics.median(seconds[LIVE])
    return [
        Line("swap", "longest gap of %d clients, median of %d swaps" % (CLIENTS, len(gaps[LIVE])), tuple(gaps[LIVE]), aim=0.05, figure_of="median"),
        Line("swap", "longest gap of %d clients, worst of %d swaps" % (CLIENTS, len(gaps[LIVE])), tuple(gaps[LIVE]), aim=0.25, figure_of="worst"),
        Line("swap", "swap / the guide's restore", (median,), (guide,), 0.01),
        # Medians of many, as a swap takes milliseconds and the clients' load is uneven.
        Line("swap", "swap / swap of a %.0f MB database" % (SMALL_BYTES / 1e6), (median,), (statistics.median(seconds[SMALL]),), 1.25),
    ]


def _swaps(bench: Bench, dbname: str, number: int) -> list[tuple[float, float]]:
    """The longest gap and the duration of each swap there and back; only the database in use is left."""
    target, spare = bench.target(dbname), "%s_spare_%d_%%d" % (dbname, number)
    bench.copy_database(dbname, spare % 0)
    bench.settle()
    times = []
    try:
        with Clients(CLIENTS, bench.environment(dbname)) as clients:
            for swapped in range(SWAPS):
                time.sleep(0.5)
                began = time.monotonic()
                swap(target, spare % swapped, spare % (swapped + 1))
                times.append((began, time.monotonic()))
            time.sleep(0.5)
    finally:
        for swapped in range(SWAPS + 1):
            bench.drop_database(spare % swapped)
    # A client that was cut off late is back after the swap's own end.
    return [(clients.longest_gap(began, ended + 0.2), ended - began) for began, ended in times]


# --- the parts ------------------------------------------------------------------------------


def _optional(name: str) -> Any:
    with contextlib.suppress(ModuleNotFoundError):
        return importlib.import_module(_UTILS % name)
    return None


Part = Callable[[Bench, Found], list[Line]]
PARTS: dict[str, Part] = {"dump": dump, "restore": restore, "loss": loss, "snapshot": snapshot, "swap": exchange}

__all__ = ("CLIENTS", "LIVE", "PARTS", "SMALL", "SMALL_BYTES", "Found")
