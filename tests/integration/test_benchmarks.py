# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The benchmark runs to its end and leaves nothing; what it measures on so little data says nothing."""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
import sys
import time
import typing as t

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINES = [
    ("dump", "ratio"), ("dump", "ratio"), ("dump", "ratio"), ("restore", "ratio"), ("loss", "median"), ("snapshot", "ratio"),
    ("swap", "median"), ("swap", "worst"), ("swap", "ratio"), ("swap", "ratio"),
]  # fmt: skip


def start(folder: pathlib.Path, *arguments: str, name: str = "rollback") -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / ("benchmarks/%s.py" % name)), "--rounds", "1", "--dir", str(folder), *arguments]
    environment = {name: value for name, value in os.environ.items() if name not in ("PG_BIN", "PGSERVER_SOURCE")}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def left_in(folder: pathlib.Path) -> list[str]:
    """What a run left in its folder, and every process that names the folder."""
    found = [path.name for path in folder.iterdir()]
    for path in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            found += [path.parent.name] * (os.fsencode(folder) in path.read_bytes())
        except OSError:
            continue
    return found


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_small_run_prints_every_line_and_leaves_nothing(tmp_path: pathlib.Path) -> None:
    folder, written = tmp_path / "here", tmp_path / "found.json"
    folder.mkdir(mode=0o755)
    process = start(folder, "--size", "20MB", "--json", str(written))
    out, err = process.communicate(timeout=300)
    assert process.returncode in (0, 1), err
    found = json.loads(written.read_text(encoding="utf-8"))
    lines: list[dict[str, t.Any]] = found["lines"]
    assert [(line["part"], line["figure_of"]) for line in lines] == LINES
    for line in lines:
        assert line["what"] in out
        assert line["missing"] == "" and line["figure"] > 0 and min(line["ours"]) > 0, line
    # Seven swaps, and the clients noticed each of them.
    assert len(lines[6]["ours"]) == 7 and lines[6]["figure"] <= lines[7]["figure"] < 10
    assert lines[2]["figure"] < 0.6, "the archive is compressed, on any machine"
    assert found["database_bytes"] > 20_000_000 and found["server"].startswith("17.")
    assert left_in(folder) == []


#: Of each small benchmark: its arguments, and the parts of its lines.
SMALL = {
    "fingerprint": (("--size", "5MB"), ["full", "full", "wide", "counts", "counts"]),
    "info": (("--migrations", "4"), ["info", "info", "info", "nothing"]),
    "deploy": (("--migrations", "4", "--only", "direct"), ["direct", "direct", "direct"]),
    "fleet": (("--targets", "2", "--servers", "1", "--rehearse", "1", "--size", "1MB"), [*["nothing", "cpu", "whole"] * 2, "rehearse", "rehearse"]),
}


@pytest.mark.prisma
@pytest.mark.parametrize("name", SMALL)
def test_the_other_benchmarks_run_to_their_end(name: str, prisma_available: None, tmp_path: pathlib.Path) -> None:
    folder, written = tmp_path / "here", tmp_path / "found.json"
    folder.mkdir(mode=0o755)
    arguments, parts = SMALL[name]
    process = start(folder, *arguments, "--json", str(written), name=name)
    try:
        out, err = process.communicate(timeout=120)
    finally:
        # It would go on, and take its time from the other tests.
        process.terminate()
    assert process.returncode in (0, 1), err
    lines: list[dict[str, t.Any]] = json.loads(written.read_text(encoding="utf-8"))["lines"]
    assert [line["part"] for line in lines] == parts
    for line in lines:
        assert line["what"] in out
        assert line["missing"] if line["part"] == "wide" else not line["missing"] and len(line["ours"]) >= 1, line
    if name == "info":
        # However small the data: who reads the ledger by himself starts no other program for it.
        assert lines[3]["verdict"] == "met" and lines[3]["ours"] == [0.0]
    assert left_in(folder) == []


def test_make_runs_a_benchmark_by_its_name() -> None:
    told = subprocess.run(["make", "-n", "bench", "BENCH=fingerprint"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "benchmarks/fingerprint.py" in told.stdout
    refused = subprocess.run(
        ["make", "-o", "venv-runtime", "-o", "postgres-wheel", "bench", "BENCH=dance"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert refused.returncode == 2 and "no benchmark 'dance'" in refused.stderr


@pytest.mark.parametrize("seconds", [0.3, 2.0], ids=["while it starts", "while it works"])
def test_a_run_that_is_ended_leaves_nothing(tmp_path: pathlib.Path, seconds: float) -> None:
    process = start(tmp_path, "--size", "20MB", "--only", "dump")
    end = time.monotonic() + 30
    while not list(tmp_path.glob("*/server/*")) and time.monotonic() < end:
        time.sleep(0.02)
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, ""), err
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("arguments", [("--size", "20"), ("--size", "0MB"), ("--rounds", "0"), ("--only", "dump,dance")])
def test_what_makes_no_sense_is_refused(tmp_path: pathlib.Path, arguments: tuple[str, ...]) -> None:
    process = start(tmp_path, *arguments)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "usage" in err
    assert left_in(tmp_path) == []


def test_too_little_room_is_said_beforehand(tmp_path: pathlib.Path) -> None:
    process = start(tmp_path, "--size", "900000GB")
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 2 and "GB free" in err and "Next: " in err
    assert left_in(tmp_path) == []
