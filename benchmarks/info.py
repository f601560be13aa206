# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reading the state of migrations against the CLI's own status, and what a run with nothing to do starts: interleaved in one run.

    python benchmarks/info.py [--migrations 434] [--rounds 3] [--json FILE]

Prints a line for each aim and ends with 1 when one is missed. See README.md beside it.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections"), str(ROOT / "tests")]

from ansible_collections.pgops.migrations.plugins.module_utils._survey import project_of, survey  # noqa: E402
from support.prisma import PrismaProject, node_problem  # noqa: E402

from benchmarks import _command  # noqa: E402
from benchmarks._bench import Bench, BenchmarkError  # noqa: E402
from benchmarks._lines import Line  # noqa: E402
from benchmarks.deploy import write_migrations  # noqa: E402

DBNAME = "info"
#: Stands before the real one on PATH, and writes down that it was started.
_NODE = "#!/bin/sh\necho started >> '%s'\nexec '%s' \"$@\"\n"


class Measured:
    """A database with all migrations applied, the project, and what is timed."""

    def __init__(self, made: Bench, migrations: int) -> None:
        self.made = made
        problem = node_problem(ROOT)
        self.no_cli = problem or ""
        self.project = PrismaProject(made.folder / "project") if problem else PrismaProject.create(ROOT, made.folder / "project")
        self.project.migrations.mkdir(parents=True, exist_ok=True)
        self.project.lock('provider = "postgresql"\n')
        write_migrations(self.project, migrations)
        made.execute("CREATE DATABASE info")
        made.module("migration_deploy", DBNAME, app_dir=str(self.project.path), engine="direct")
        self.started = made.folder / "node-started"
        self.environment = {**os.environ, "DATABASE_URL": made.target(DBNAME).prisma_url(), "CHECKPOINT_DISABLE": "1"}
        if not problem:
            (made.folder / "bin").mkdir()
            node = made.folder / "bin/node"
            node.write_text(_NODE % (self.started, shutil.which("node")), encoding="utf-8")
            node.chmod(0o700)
            self.environment["PATH"] = "%s:%s" % (node.parent, os.environ["PATH"])

    def core(self) -> float:
        """What the module does: the folder read, a connection, the ledger, the verdicts."""
        began = time.monotonic()
        project, folder = project_of({"app_dir": str(self.project.path)})
        found = survey(self.made.target(DBNAME), project, folder).as_dict()
        seconds = time.monotonic() - began
        if found["status"] != "up_to_date":
            raise BenchmarkError("the status is %s" % found["status"])
        return seconds

    def cli(self) -> float:
        """C(prisma migrate status) with the project's configuration, which leaves out the CLI's waits."""
        return self._timed([str(self.project.path / "node_modules/.bin/prisma"), "migrate", "status"])

    def ad_hoc(self, module: str, **options: str) -> float:
        """A whole C(ansible) command with one task; the URL is in a file, as no secret belongs on a command line."""
        arguments = self.made.folder / "arguments.json"
        arguments.write_text(json.dumps({"app_dir": str(self.project.path), "url": self.environment["DATABASE_URL"]}), encoding="utf-8")
        words = ["app_dir='{{ app_dir }}'", "database_url='{{ url }}'", *("%s=%s" % option for option in options.items())]
        task = ["-m", "pgops.migrations.%s" % module, "-a", " ".join(words), "-e", "@%s" % arguments]
        ansible = str(Path(sys.executable).parent / "ansible")
        more = {
            "ANSIBLE_COLLECTIONS_PATH": str(ROOT / ".collections"), "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_PIPELINING": "1", "ANSIBLE_PYTHON_INTERPRETER": sys.executable, "ANSIBLE_LOCAL_TEMP": str(self.made.folder / "ansible"),
        }  # fmt: skip
        return self._timed([ansible, "localhost", "-c", "local", "-i", "localhost,", *task], **more)

    def _timed(self, command: list[str], **more: str) -> float:
        began = time.monotonic()
        done = subprocess.run(command, cwd=self.project.path, env={**self.environment, **more}, capture_output=True, text=True, check=False)
        seconds = time.monotonic() - began
        if done.returncode:
            raise BenchmarkError("%s ended with %d: %s" % (Path(command[0]).name, done.returncode, (done.stderr or done.stdout).strip()[-500:]))
        return seconds

    def nodes(self) -> int:
        """How many node processes were started since this was asked last."""
        number = len(self.started.read_text(encoding="utf-8").splitlines()) if self.started.exists() else 0
        self.started.unlink(missing_ok=True)
        return number


def measure(made: Bench, migrations: int) -> list[Line]:
    found = Measured(made, migrations)
    if found.no_cli:
        return [Line("info", "migration_info / prisma migrate status", (), missing=found.no_cli)]
    bare, core, module, ansible, nodes = [], [], [], [], []
    for _round in range(made.rounds):
        bare.append(found.cli())
        if not found.nodes():
            raise BenchmarkError("the CLI was not seen to start node, so nothing can be said of others")
        core.append(min(found.core() for _again in range(3)))
        module.append(made.module("migration_info", DBNAME, app_dir=str(found.project.path))[0])
        ansible.append(found.ad_hoc("migration_info"))
        found.ad_hoc("migration_deploy", engine="prisma")
        nodes.append(float(found.nodes()))
        made.say("info: CLI %.2f s, core %.3f s, module %.2f s, ansible %.2f s, node started %d x" % (bare[-1], core[-1], module[-1], ansible[-1], nodes[-1]))
    baseline = tuple(bare)
    return [
        Line("info", "migration_info, the core / prisma migrate status", tuple(core), baseline, 1 / 30),
        Line("info", "migration_info, the module's process / the same", tuple(module), baseline),
        Line("info", "ansible -m migration_info / the same", tuple(ansible), baseline, 1.0),
        Line("nothing", "node processes of a deploy with nothing to do", tuple(nodes), aim=0.0, unit="x", figure_of="worst"),
    ]


def main(arguments: list[str] | None = None) -> int:
    parser = _command.options("info.py", "Reading the state of migrations against the CLI's own status.")
    parser.add_argument("--migrations", type=int, default=434, help="how many (434)")
    found = parser.parse_args(arguments)
    return _command.run(found, 20_000_000, lambda made: measure(made, found.migrations))


if __name__ == "__main__":
    sys.exit(main())
