# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a fleet with nothing to do costs against one C(ansible.builtin.ping) task on the same targets, and rehearsals against
the bare commands by C(xargs -P): interleaved in one run.

    python benchmarks/fleet.py [--only nothing,rehearse] [--targets 1,50,500] [--servers 2] [--memory 1000] [--rehearse 20] [--size 250MB]

Prints a line for each aim and ends with 1 when one is missed. See README.md beside it.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections"), str(ROOT / "tests")]

import psycopg2  # noqa: E402
from psycopg2 import sql  # noqa: E402
from support.fleet import GROUP, Fleet, make_fleet  # noqa: E402

from benchmarks import _command  # noqa: E402
from benchmarks._bench import SETTINGS, Bench, BenchmarkError  # noqa: E402
from benchmarks._lines import Line  # noqa: E402
from benchmarks._rehearsals import rehearsals  # noqa: E402
from benchmarks.rollback import size  # noqa: E402
from tools.pgserver import Cluster  # noqa: E402

#: Of what one ping task takes beyond an empty play. That starts Python on each target; a read here is a fork of the controller's process.
AIMS = {"status": 0.5, "staging_migrate": 1.0}
PARTS = ("nothing", "rehearse")
#: A target's processor time in the largest fleet may be this many times that in the smallest one.
GROWTH = 1.25
_PING = [{"hosts": GROUP, "gather_facts": False, "tasks": [{"ansible.builtin.ping": {}}]}]
_EMPTY = [{"hosts": GROUP, "gather_facts": False, "tasks": []}]
_MEGABYTE = 1024


@dataclasses.dataclass(frozen=True)
class Run:
    """One ansible-playbook: by the clock, by the processors (workers and modules too), and the memory of its largest process."""

    seconds: float
    cpu: float
    kilobytes: int


class Measured:
    """One fleet, and runs on it with a stopwatch and a look at the controller's memory."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        for name, plays in (("ping", _PING), ("empty", _EMPTY)):
            (fleet.folder / ("%s.json" % name)).write_text(json.dumps(plays), encoding="utf-8")

    def run(self, name: str, targets: int) -> Run:
        """A whole ansible-playbook on the first so many targets."""
        own = self.fleet.folder / ("%s.json" % name)
        book = str(own if own.exists() else ROOT / ("playbooks/%s.yml" % name))
        limit = self.fleet.folder / ("first-%d" % targets)
        limit.write_text("\n".join(self.fleet.names[:targets]) + "\n", encoding="utf-8")
        command = self.fleet.command("ansible-playbook", book, "-e", "migration_targets=%s" % GROUP, "--limit", "@%s" % limit)
        with open(self.fleet.folder / "said", "w+", encoding="utf-8") as said:
            began = time.monotonic()
            process = subprocess.Popen(command, cwd=self.fleet.folder, env=self.fleet.environment(), stdin=subprocess.DEVNULL, stdout=said, stderr=said)
            _pid, status, usage = os.wait4(process.pid, 0)
            seconds = time.monotonic() - began
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                raise BenchmarkError("%s on %d targets ended with %d: %s" % (name, targets, process.returncode, said.read().strip()[-500:]))
        return Run(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss)


def interleaved(found: Measured, made: Bench, targets: int) -> dict[str, list[Run]]:
    """Each of the playbooks in turn, so many times as there are rounds."""
    runs: dict[str, list[Run]] = {name: [] for name in ("empty", "ping", *AIMS)}
    for _round in range(made.rounds):
        for name, those in runs.items():
            those.append(found.run(name, targets))
        made.say("%d targets: %s" % (targets, ", ".join("%s %.2f s (cpu %.2f)" % (name, those[-1].seconds, those[-1].cpu) for name, those in runs.items())))
    return runs


def net(runs: Mapping[str, Sequence[Run]], name: str, of: str, each: int = 1) -> tuple[float, ...]:
    """What a run takes beyond a play without tasks, which is the start of Ansible."""
    return tuple(max(1e-6, getattr(run, of) - getattr(empty, of)) / each for run, empty in zip(runs[name], runs["empty"], strict=True))


def whole(runs: Sequence[Run]) -> tuple[float, ...]:
    return tuple(run.seconds for run in runs)


def nothing_to_do(made: Bench, sizes: list[int], servers: int, memory: int) -> list[Line]:
    lines: list[Line] = []
    costs: dict[int, dict[str, tuple[float, ...]]] = {}
    with ExitStack() as stack:
        clusters = [made.server]
        for number in range(1, servers):
            more = Cluster(made.folder / ("server-%d" % number), settings=SETTINGS, pg_bin=made.server.bin_dir, temporary=True)
            clusters.append(stack.enter_context(more))
        folder = made.folder / "fleet"
        folder.mkdir(mode=0o700)
        for cluster in clusters[1:]:
            make_owner(made, cluster)
        began = time.monotonic()
        fleet = make_fleet(clusters, folder, max([*sizes, memory]), made.owner, made.password)
        made.say("made %d databases on %d servers in %.0f s" % (len(fleet.names), servers, time.monotonic() - began))
        found = Measured(fleet)
        for targets in sizes:
            runs = interleaved(found, made, targets)
            costs[targets] = {name: net(runs, name, "cpu", targets) for name in AIMS}
            for name, aim in AIMS.items():
                what = "%s.yml / one ping task, %d target%s" % (name, targets, "" if targets == 1 else "s")
                lines += [
                    Line("nothing", what, net(runs, name, "seconds"), net(runs, "ping", "seconds"), aim),
                    Line("cpu", "  the same in processor time", net(runs, name, "cpu"), net(runs, "ping", "cpu")),
                    Line("whole", "  the same with the start of Ansible", whole(runs[name]), whole(runs["ping"])),
                ]
        lines += growth(costs)
        if memory:
            lines += peaks(found, made, sorted({max(1, memory // 10), memory}))
    return lines


def make_owner(made: Bench, cluster: Cluster) -> None:
    """The owner of the databases, on a further server."""
    conn = psycopg2.connect(**cluster.connect_args())
    try:
        conn.autocommit = True
        with conn.cursor() as cursor:
            cursor.execute(sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}").format(sql.Identifier(made.owner), sql.Literal(made.password)))
    finally:
        conn.close()


def growth(costs: dict[int, dict[str, tuple[float, ...]]]) -> list[Line]:
    """A target's cost in the largest fleet against that in a smaller one; one target alone bears what happens once."""
    sizes = sorted(size for size in costs if size > 1)
    if len(sizes) < 2:
        return []
    small, large = sizes[0], sizes[-1]
    what = "%s.yml: a target's processor time among %d / among %d"
    return [Line("growth", what % (name, large, small), costs[large][name], costs[small][name], GROWTH) for name in AIMS]


def peaks(found: Measured, made: Bench, sizes: list[int]) -> list[Line]:
    """The largest memory of the controller's process."""
    lines = []
    for name in AIMS:
        for targets in sizes:
            run = found.run(name, targets)
            megabytes = run.kilobytes / _MEGABYTE
            made.say("%s.yml on %d targets: %.0f MB, %.1f s (cpu %.1f)" % (name, targets, megabytes, run.seconds, run.cpu))
            lines.append(Line("memory", "controller's memory, %s.yml, %d targets" % (name, targets), (megabytes,), unit="MB", figure_of="worst"))
    return lines


def main(arguments: list[str] | None = None) -> int:
    parser = _command.options("fleet.py", "What a fleet with nothing to do costs, against one ping task.")
    parser.add_argument("--targets", type=_sizes, default=[1, 50], help="sizes of the fleet (1,50); 500 takes some minutes a round")
    parser.add_argument("--servers", type=int, default=2, help="servers that the databases are spread over (2)")
    parser.add_argument(
        "--memory", type=int, default=0, metavar="TARGETS", help="also print the controller's memory at so many targets, and at a tenth of them"
    )
    parser.add_argument("--rehearse", type=int, default=20, metavar="TARGETS", help="how many targets to rehearse (20)")
    parser.add_argument("--size", type=size, default="250MB", help="of the plain dump of each database that is rehearsed (250MB)")
    parser.add_argument("--only", type=_parts, default=",".join(PARTS), help="some of: %s" % ",".join(PARTS))
    found = parser.parse_args(arguments)
    needed = max(8_000_000 * (max([*found.targets, found.memory]) // 20 + 1), found.size * found.rehearse // 3)

    def measure(made: Bench) -> list[Line]:
        lines = nothing_to_do(made, found.targets, found.servers, found.memory) if "nothing" in found.only else []
        return lines + (rehearsals(made, found.rehearse, found.size) if "rehearse" in found.only else [])

    return _command.run(found, needed, measure)


def _parts(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(PARTS):
        raise argparse.ArgumentTypeError("the parts are %s" % ", ".join(PARTS))
    return names


def _sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError("%r is no list of sizes such as 1,50" % text)
    return sizes


if __name__ == "__main__":
    sys.exit(main())
