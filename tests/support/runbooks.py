# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Runs of playbooks on the MicroCare example, and what is left of them."""

from __future__ import annotations

import json
import pathlib
import re
import subprocess
import typing as t

from support.modules import ModuleRunner
from tools.microcare import Staging

Play = t.Callable[..., subprocess.CompletedProcess[str]]


def recap(done: subprocess.CompletedProcess[str]) -> dict[str, int]:
    line = re.findall(r"^microcare_staging\s+:\s+(.*)$", done.stdout, re.M)[-1]
    return {key: int(value) for key, value in (pair.split("=") for pair in line.split())}


def records(staging: Staging) -> list[dict[str, t.Any]]:
    found = pathlib.Path(staging.reports_dir).glob("*/microcare_staging.json")
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(found, key=lambda path: path.stat().st_mtime_ns)]


def fingerprint(module: ModuleRunner, staging: Staging) -> dict[str, t.Any]:
    taken = module("database_fingerprint", database_url=staging.database_url)
    assert not taken.get("failed"), taken
    return {"digest": taken["digest"], "tables": taken["tables"], "rows": taken["rows"]}
