# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The postmaster of a data directory: what it says about itself, and whether that is still true."""

from __future__ import annotations

import contextlib
import glob
import os
import signal
import socket
import time
from dataclasses import dataclass
from pathlib import Path


def free_port() -> int:
    """A port that nobody listens on now. It may be taken before it is used: who starts a server tries again then."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # or a port of a second ago would count as taken
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def serves(pid: int, data_dir: Path) -> bool | None:
    """Is this process a server on this data directory? Each of them works in it. None: it may not be looked at."""
    try:
        program = Path(os.readlink(f"/proc/{pid}/exe")).name
        return program.split()[0] == "postgres" and os.readlink(f"/proc/{pid}/cwd") == os.path.realpath(data_dir)
    except (FileNotFoundError, ProcessLookupError):
        return False if os.path.isdir("/proc/self") else None
    except OSError:  # root in a container without the right to trace
        return None


def servers_on(data_dir: Path) -> list[int]:
    numbers = (int(entry[len("/proc/") :]) for entry in glob.glob("/proc/[0-9]*"))
    return [pid for pid in numbers if serves(pid, data_dir)]


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class Running:
    """What the postmaster of a data directory says about itself in postmaster.pid."""

    pid: int
    port: int
    socket_dir: str


def running_on(data_dir: Path) -> Running | None:
    """The server that runs on a data directory, or None; a stale postmaster.pid of a killed one does not count."""
    try:
        lines = (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        running = Running(int(lines[0]), int(lines[3]), lines[4])
    except (FileNotFoundError, ValueError, IndexError):
        return None
    if not alive(running.pid) or os.path.realpath(lines[1]) != os.path.realpath(data_dir):
        return None
    return None if serves(running.pid, data_dir) is False else running  # a number may be given out again


def end_orphans(data_dir: Path) -> None:
    """After a postmaster was killed, its children may still hold the shared memory, and a start would fail."""
    for number in (0, signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):  # they end by themselves, mostly
        for pid in servers_on(data_dir):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            if not servers_on(data_dir):
                _drop_stale_pid_file(data_dir / "postmaster.pid")
                return
            time.sleep(0.05)


def _drop_stale_pid_file(pid_file: Path) -> None:
    """The server takes any living process with the old number for its rival, and would refuse to start."""
    with contextlib.suppress(FileNotFoundError, ValueError, IndexError):
        pid = int(pid_file.read_text(encoding="utf-8").splitlines()[0])
        if alive(pid) and serves(pid, pid_file.parent) is False:
            pid_file.unlink()
