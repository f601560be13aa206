# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the benchmarks with one measurement have in common: options, a server for the time, the table, and the exit status."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

from benchmarks._bench import SETTINGS, Bench, BenchmarkError, bench
from benchmarks._lines import Line, table
from tools.pgserver import PgServerError


def options(name: str, description: str) -> argparse.ArgumentParser:
    """The options that all of them take."""
    parser = argparse.ArgumentParser(prog=name, description=description)
    parser.add_argument("--rounds", type=_positive, default=3, help="baseline and ours so many times in turn (3)")
    parser.add_argument("--pg-bin", default="", help="PostgreSQL programs to use instead of the wheel's")
    parser.add_argument("--dir", default="", help="where the data goes; a temporary directory by default")
    parser.add_argument("--json", type=Path, help="also write every measured value to this file")
    return parser


def _positive(text: str) -> int:
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError("%r is not 1 or more" % text)
    return int(text)


def run(found: argparse.Namespace, plain_bytes: int, measure: Callable[[Bench], Sequence[Line]]) -> int:
    """Measure on a server of its own, and print; 0 when every aim was met, 1 when one was missed, 2 when it could not be measured.

    :param plain_bytes: about the size of the plain dump of what will be there.
    """
    # A run that is told to end takes its server and its files with it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with bench(plain_bytes, found.rounds, found.pg_bin, found.dir, say) as made:
            about = {"server": made.server.programs.version_text, "processors": os.cpu_count(), "rounds": found.rounds, "settings": SETTINGS}
            lines = measure(made)
    except (BenchmarkError, MigrationError, PgServerError) as error:
        say("error: %s" % error)
        return 2
    print("PostgreSQL %(server)s, %(processors)d processors, %(rounds)d rounds" % about)
    print(table(lines))
    if found.json:
        found.json.write_text(json.dumps({**about, "lines": [line.as_dict() for line in lines]}, indent=1) + "\n", encoding="utf-8")
    return 1 if any(line.verdict == "MISSED" for line in lines) else 0


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


__all__ = ("options", "run", "say")
