# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How far the targets are, while their tasks run: one line in place on a terminal, one line a minute and target elsewhere.

On standard error, so that what reads standard output (a callback that writes JSON, a pipe) is not disturbed. Ansible runs each
target in a process of its own; on a terminal they share a folder, and one of them draws the line for all.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
import typing as t

from ansible import constants as C
from ansible.utils.display import Display
from ansible_collections.pgops.migrations.plugins.module_utils._progress import clock, printable

#: The first line comes when it is clear that it takes a while.
FIRST_SECONDS, EVERY_SECONDS = 10.0, 60.0
#: Who has not told for so long is no longer at work.
_SILENT_SECONDS = 15.0
#: Of a terminal that does not know its width.
_LEAST_WIDTH, _WIDTH = 40, 80


class Entry(t.NamedTuple):
    """One target: seconds since it began, what it is at, and the same in few words."""

    host: str
    seconds: float
    what: str
    short: str


def one_line(entries: t.Sequence[Entry], width: int) -> str:
    """All targets that are at work in one line of a terminal, as many as there is room for. Pure."""
    if not entries:
        return ""
    if len(entries) == 1:
        return _cut("%s  %s  %s" % (entries[0].host, clock(entries[0].seconds), entries[0].what), width)
    # What is in trouble first, then what takes longest; their order must not change from look to look.
    ordered = sorted(entries, key=lambda entry: (" " not in entry.short, -int(entry.seconds / 10), entry.host))
    texts = [printable("%s %s %s" % (entry.host, clock(entry.seconds), entry.short)) for entry in ordered]
    line = "%d at work" % len(entries)
    for number, text in enumerate(texts):
        left = len(texts) - number
        room = width - len(line) - len(" | ") - (len(" | and %d more" % left) if left > 1 else 0)
        if len(text) > room:
            return _cut("%s | %s" % (line, text), width) if number == 0 else "%s | and %d more" % (line, left)
        line += " | " + text
    return line


def _cut(text: str, width: int) -> str:
    text = printable(text)
    return text if len(text) <= width else text[: max(0, width - 3)] + "..."


class Live:
    """The display of one target's task.

    :param mode: ``auto``, ``lines`` (never in place) or ``none``.
    """

    def __init__(self, host: str, mode: str, width_of_names: int = 0) -> None:
        self.host, self.mode = host, mode
        self._names = max(width_of_names, len(host))
        self._display = Display()
        self._began = time.monotonic()
        self._next = self._began + FIRST_SECONDS
        self._width = _terminal_width() if mode == "auto" else 0
        self._drawn = False

    def __enter__(self) -> Live:
        return self

    def __exit__(self, *_error: object) -> None:
        if self._width:
            with contextlib.suppress(OSError):
                os.unlink(self._path())
            if self._drawn:
                self._put("\r\x1b[K", in_place=True)

    def show(self, what: str, short: str = "") -> None:
        """What the target is at now, and the same in few words; may be called as often as there is news."""
        now = time.monotonic()
        if self.mode == "none":
            return
        if self._width:
            self._draw(Entry(self.host, now - self._began, what, short or what))
        elif now >= self._next:
            self._next = now + EVERY_SECONDS
            self._put("%-*s  %7s  %s" % (self._names, printable(self.host), clock(now - self._began), printable(what)))

    def say(self, what: str) -> None:
        """What must be seen, whatever the time is; once."""
        if self._width and self._drawn:
            self._put("\r\x1b[K", in_place=True)
        self._put("%s: %s" % (printable(self.host), printable(what)))

    def _put(self, text: str, in_place: bool = False) -> None:
        self._display.display(text, stderr=True, newline=not in_place, screen_only=in_place)

    def _folder(self) -> str:
        # Made for this run of Ansible alone, and removed with it.
        return os.path.join(C.DEFAULT_LOCAL_TMP, "pgops-live")

    def _path(self) -> str:
        return os.path.join(self._folder(), self.host.encode().hex()[:200])

    def _draw(self, entry: Entry) -> None:
        try:
            os.makedirs(self._folder(), 0o700, exist_ok=True)
            with open(self._path() + ".new", "w", encoding="utf-8") as handle:
                json.dump(entry, handle)
            os.replace(self._path() + ".new", self._path())
            with open(os.path.join(self._folder(), ".drawing"), "w", encoding="utf-8") as lock:
                # Whoever draws now, draws for all.
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._put("\r\x1b[K%s\r" % one_line(self._entries(), self._width - 1), in_place=True)
                self._drawn = True
        except OSError:
            return

    def _entries(self) -> list[Entry]:
        found = []
        for entry in os.scandir(self._folder()):
            if entry.name.startswith(".") or entry.name.endswith(".new"):
                continue
            with contextlib.suppress(OSError, ValueError, TypeError):
                if time.time() - entry.stat().st_mtime < _SILENT_SECONDS:
                    with open(entry.path, encoding="utf-8") as handle:
                        found.append(Entry(*json.load(handle)))
        return found


def _terminal_width() -> int:
    """Columns of the terminal that standard error of Ansible is, or 0. A task's own process has none; its parent's is asked."""
    # ansible-runner, and with it AWX, gives Ansible a terminal, and keeps whatever is drawn on it as an event of the job.
    if os.environ.get("AWX_ISOLATED_DATA_DIR"):
        return 0
    try:
        handle = os.open("/proc/%d/fd/2" % os.getppid(), os.O_WRONLY | os.O_NOCTTY)
    except OSError:
        return 0
    try:
        return max(_LEAST_WIDTH, os.get_terminal_size(handle).columns or _WIDTH) if os.isatty(handle) else 0
    except OSError:
        return 0
    finally:
        os.close(handle)


__all__ = ("Live", "one_line")
