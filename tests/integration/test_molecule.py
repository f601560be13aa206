# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every molecule scenario, with its idempotence step and its testinfra verifier."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
from conftest import ROOT
from support import sshd

SCENARIOS = sorted(path.parent.name for path in (ROOT / "molecule").glob("*/molecule.yml"))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [pytest.param(name, marks=[pytest.mark.exhaustive] if name == "failed_migration" else []) for name in SCENARIOS])
def test_scenario(scenario: str, tmp_path: pathlib.Path) -> None:
    if scenario == "fleet" and sshd.PROGRAM is None:
        pytest.skip("sshd is not installed")
    # Molecule keeps its state below HOME; one of its own keeps parallel runs apart and the user's home clean.
    env = {**os.environ, "HOME": str(tmp_path), "NO_COLOR": "1"}
    env.pop("PYTHONPATH", None)
    done = subprocess.run(["molecule", "test", "--scenario-name", scenario], cwd=ROOT, env=env, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]


def test_there_are_the_four_scenarios() -> None:
    assert {"default", "failed_migration", "fleet", "rollback"} <= set(SCENARIOS)
