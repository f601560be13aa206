# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Restore points and rollback against the guide's commands: ratios, interleaved in one run.

    python benchmarks/rollback.py [--size 1GB] [--rounds 3] [--only dump,restore,loss,snapshot,swap] [--json FILE]

Prints a line for each aim and ends with 1 when one is missed. See README.md beside it.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError  # noqa: E402

from benchmarks._bench import SETTINGS, BenchmarkError, bench  # noqa: E402
from benchmarks._lines import Line, table  # noqa: E402
from benchmarks._parts import LIVE, PARTS, SMALL, SMALL_BYTES, Found  # noqa: E402
from tools.pgserver import PgServerError  # noqa: E402

UNITS = {"MB": 10**6, "GB": 10**9}


def size(text: str) -> int:
    """Bytes of a size such as 20MB or 1.5GB."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(MB|GB)", text)
    if not found or float(found[1]) == 0:
        raise argparse.ArgumentTypeError("%r is no size such as 20MB or 1GB" % text)
    return int(float(found[1]) * UNITS[found[2]])


def parts(text: str) -> list[str]:
    names = text.split(",")
    if set(names) - set(PARTS):
        raise argparse.ArgumentTypeError("the parts are %s" % ", ".join(PARTS))
    return [name for name in PARTS if name in names]


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="rollback.py", description="Restore points and rollback against the guide's commands.")
    parser.add_argument("--size", type=size, default="1GB", help="of the database as a plain dump, about (1GB)")
    parser.add_argument("--rounds", type=int, default=3, help="baseline and ours so many times in turn (3)")
    parser.add_argument("--only", type=parts, default=",".join(PARTS), help="some of: %s" % ",".join(PARTS))
    parser.add_argument("--pg-bin", default="", help="PostgreSQL programs to use instead of the wheel's")
    parser.add_argument("--dir", default="", help="where the data goes; a temporary directory by default")
    parser.add_argument("--json", type=Path, help="also write every measured value to this file")
    found = parser.parse_args(arguments)
    if found.rounds < 1:
        parser.error("--rounds must be 1 or more")
    return found


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def measure(options: argparse.Namespace) -> tuple[list[Line], dict[str, Any]]:
    """The lines, and on what they were measured."""
    with bench(options.size, options.rounds, options.pg_bin, options.dir, say) as found:
        about = {
            "server": found.server.programs.version_text,
            "processors": os.cpu_count(),
            "rounds": options.rounds,
            "settings": SETTINGS,
            "database_bytes": found.make_database(LIVE, options.size),
        }
        if "swap" in options.only:
            found.make_database(SMALL, SMALL_BYTES)
        left = Found()
        lines = [line for name in options.only for line in PARTS[name](found, left)]
    return lines, about


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    # A run that is told to end takes its server and its files with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        lines, about = measure(options)
    except (BenchmarkError, MigrationError, PgServerError) as error:
        say("rollback.py: %s" % error)
        return 2
    print(
        "PostgreSQL %(server)s, %(processors)d processors, database of %(megabytes).0f MB, %(rounds)d rounds"
        % {**about, "megabytes": about["database_bytes"] / 1e6}
    )
    print(table(lines))
    if options.json:
        options.json.write_text(json.dumps({**about, "lines": [line.as_dict() for line in lines]}, indent=1) + "\n", encoding="utf-8")
    return 1 if any(line.verdict == "MISSED" for line in lines) else 0


if __name__ == "__main__":
    sys.exit(main())
