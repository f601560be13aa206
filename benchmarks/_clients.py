# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Clients as an application's pool has them: they write at full speed, and reconnect at once when they are cut off.

Each client is a process of its own, so that none waits for another one's Python. Run as
a program, this file is one client: it writes until its standard input is closed, and then
prints its gaps, the times between two writes that the server acknowledged.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

#: Shorter gaps are the ordinary time of a write on a busy machine, and are not kept.
SHORTEST_GAP = 0.005
#: A client that is refused tries again after this many seconds.
PAUSE = 0.001


class Clients:
    """So many clients of one database, from the start of the block to its end; ``gaps`` is filled then.

    ``gaps`` has (start, end) in seconds of the monotonic clock, which all processes share.
    """

    def __init__(self, number: int, environment: Mapping[str, str]) -> None:
        self.gaps: list[tuple[float, float]] = []
        self.written = 0
        self._number, self._environment = number, dict(environment)
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Clients:
        try:
            for number in range(self._number):
                command = [sys.executable, str(Path(__file__).resolve()), str(number)]
                environment = {**os.environ, **self._environment}
                self._processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment))
            for process in self._processes:
                assert process.stdout is not None
                process.stdout.readline()  # it has written once
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, _kind: type[BaseException] | None, error: BaseException | None, _trace: TracebackType | None) -> None:
        if error is None:
            for process in self._processes:
                out, _ = process.communicate(timeout=60)
                said = json.loads(out)
                self.written += said["written"]
                self.gaps += [tuple(gap) for gap in said["gaps"]]
        self._end()

    def longest_gap(self, start: float, end: float) -> float:
        """Of the gaps that overlap this time the longest, in seconds."""
        return max((last - first for first, last in self.gaps if first < end and last > start), default=0.0)

    def _end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    with contextlib.suppress(OSError):
                        stream.close()


def run_client(number: int) -> None:
    """Write to the database that libpq's environment names until standard input ends."""
    import psycopg2  # noqa: PLC0415  only the client's own process needs it

    stop = threading.Event()

    def wait() -> None:
        sys.stdin.read()
        stop.set()

    threading.Thread(target=wait, daemon=True).start()
    gaps: list[tuple[float, float]] = []
    written, last, conn = 0, time.monotonic(), None
    while not stop.is_set():
        try:
            if conn is None:
                conn = psycopg2.connect("")
                conn.autocommit = True
            with conn.cursor() as cursor:
                cursor.execute("INSERT INTO acked VALUES (%s, %s)", (number, written))
        except psycopg2.Error:
            if conn is not None:
                conn.close()
            conn = None
            time.sleep(PAUSE)
            continue
        now = time.monotonic()
        if written and now - last >= SHORTEST_GAP:
            gaps.append((last, now))
        written, last = written + 1, now
        if written == 1:
            print("started", flush=True)
    if conn is not None:
        conn.close()
    print(json.dumps({"written": written, "gaps": gaps}))


if __name__ == "__main__":
    run_client(int(sys.argv[1]))
