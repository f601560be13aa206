# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Run a child program with bounded output and a bounded life; never a shell."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import tempfile
import typing as t

#: Ends the process group of its argument when its standard input ends, unless a byte came before that.
_GUARD = """
import os, signal, sys, time
if not os.read(0, 1):
    for number, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 0)):
        try:
            os.killpg(int(sys.argv[1]), number)
        except OSError:
            break
        time.sleep(seconds)
"""
#: Bytes of output that are kept: the end, where programs say why they failed.
KEEP = 64 * 1024


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a program ended. ``output`` is the end of standard output and error together."""

    returncode: int
    output: str
    timed_out: bool = False


def run_child(argv: t.Sequence[str], cwd: str, env: t.Mapping[str, str], timeout: float) -> Outcome:
    """Run a program to its end, or end it with all its children after ``timeout`` seconds.

    The child leads a process group of its own, so that nothing it started survives it. Nor does anything survive us: where this
    process is killed, a guard that waits for nothing else ends the group.
    :raises OSError: the program cannot be started.
    """
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            list(argv), cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        )
        timed_out = False
        try:
            guard = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", _GUARD, str(process.pid)],
                stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        except OSError:
            end_group(process)
            raise
        try:
            process.wait(timeout=timeout or None)
        except subprocess.TimeoutExpired:
            timed_out = True
        finally:
            # Also when an exception (a signal to us) takes this frame away.
            end_group(process)
            with contextlib.suppress(OSError):
                guard.communicate(b".")
        size = output.seek(0, os.SEEK_END)
        output.seek(max(0, size - KEEP))
        return Outcome(process.returncode, output.read().decode("utf-8", "replace"), timed_out)


def end_group(process: subprocess.Popen[t.Any], grace: float = 5.0) -> None:
    """End what is left of a child's process group: first by asking, then by force."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass
        try:
            process.wait(timeout=grace)
            if number == signal.SIGKILL or not _group_alive(process.pid):
                return
        except subprocess.TimeoutExpired:
            continue


def _group_alive(pgid: int) -> bool:
    try:
        os.killpg(pgid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


__all__ = ("KEEP", "Outcome", "end_group", "run_child")
