# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A server that ends with the process that started it, however that process ends."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from tools.pgserver.account import Account

# The server leads its own session, so it would outlive a parent that is killed outright. This small shell waits for
# the parent's end of a pipe to close, and then asks the postmaster to stop, if it is still the one that it knew.
WATCH = """
read -r _
[ "$(head -n 1 "$1/postmaster.pid" 2>/dev/null)" = "$2" ] && kill -INT "$2"
"""


class Guard:
    """Calls leave() when this process ends in an orderly way, and has a watcher for when it does not."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._leave = leave
        self._owner_pid = 0
        self._watcher: subprocess.Popen[bytes] | None = None

    @property
    def watching(self) -> bool:
        return self._watcher is not None

    def own(self) -> None:
        if self._owner_pid != os.getpid():
            self._owner_pid = os.getpid()
            _exit_on_signals()
            atexit.register(self._at_exit)

    def disown(self) -> None:
        if self._owner_pid == os.getpid():
            self._owner_pid = 0
            atexit.unregister(self._at_exit)
            self._unwatch()

    def watch(self, pid: int, data_dir: Path, account: Account) -> None:
        self._unwatch()
        self._watcher = subprocess.Popen(
            ["/bin/sh", "-c", WATCH, "sh", str(data_dir), str(pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            **account.popen_args(),
        )

    def _unwatch(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher and watcher.stdin:
            watcher.stdin.close()
            watcher.wait()

    def _at_exit(self) -> None:
        if self._owner_pid == os.getpid():  # not in a fork of the owner
            self._leave()


def _exit_on_signals() -> None:
    """A plain kill runs the finally clauses and atexit too. A handler that somebody chose is left alone."""
    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise_exit)


def _raise_exit(signum: int, _frame: FrameType | None) -> None:
    raise SystemExit(128 + signum)
