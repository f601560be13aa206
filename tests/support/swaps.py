# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A swap or a copy in a process of its own, which a test stops and kills."""

from __future__ import annotations

import os
import pathlib
import subprocess
import sys
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint

from support.restorepoints import until

_SWAP = """
import dataclasses, json, os, sys
from ansible_collections.pgops.migrations.plugins.module_utils._swap import swap
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url
options = {name: int(value) for name, value in (item.split("=") for item in sys.argv[3:])}
print(json.dumps(dataclasses.asdict(swap(parse_url(os.environ["TARGET"]), sys.argv[1], sys.argv[2], **options))))
"""


def swapping(target: t.Any, staging: str, kept: str, stop_at: str = "", **oids: int) -> subprocess.Popen[str]:
    """Start a swap that stops (SIGSTOP) at a failpoint."""
    return subprocess.Popen(
        [sys.executable, "-c", _SWAP, staging, kept, *("%s=%d" % item for item in oids.items())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TARGET": target.prisma_url(), _failpoint.VARIABLE: stop_at},
    )


def stopped(process: subprocess.Popen[str]) -> bool:
    """Whether the process has reached its failpoint; false when it ended."""
    return bool(until(lambda: process.poll() is not None or _state(process.pid) == "T", 20)) and process.poll() is None


def _state(pid: int) -> str:
    try:
        return pathlib.Path("/proc/%d/stat" % pid).read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
