# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How many heavy works run at once: on one database server, and on one volume of backups.

Forks and waves count targets; many targets share a server or a disk, whichever play or controller they belong to. So the
server, and the folder itself, keep the count. A slot is given back by the end of its holder, also of one that is killed.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import row
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._lock import maintenance_connection
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: The first key of the slots of a server; the second one is the number of the slot.
SLOT_CLASS = 0x70676D73
_POLL = 0.25


@contextlib.contextmanager
def server_slot(target: Target, at_once: int, wait: float, maintenance_db: str = "postgres", run_id: str = "") -> t.Iterator[float]:
    """One of so many copies that are made and worked on at once on the target's server; yields the seconds it was waited for.

    :param at_once: 0 for as many as come.
    :param wait: seconds to poll before giving up.
    :raises MigrationError: ``LOCKED``, ``MAINTENANCE_DB_UNREACHABLE``.
    """
    if at_once <= 0:
        yield 0.0
        return
    with contextlib.closing(maintenance_connection(target, maintenance_db, run_id)) as conn:

        def taken(number: int) -> bool:
            return bool((row(conn, "SELECT pg_try_advisory_lock(%s, %s)", (SLOT_CLASS, number)) or (False,))[0])

        yield _wait(taken, at_once, wait, "%d other copies are worked on at once on the server of %s" % (at_once, target.label()))


@contextlib.contextmanager
def folder_slot(folder: str, at_once: int, wait: float) -> t.Iterator[float]:
    """One of so many backups that are written into a folder at once; yields the seconds it was waited for.

    :param folder: exists, and is private to us.
    :raises MigrationError: ``LOCKED``.
    """
    if at_once <= 0:
        yield 0.0
        return
    with contextlib.ExitStack() as stack:

        def taken(number: int) -> bool:
            path = os.path.join(folder, ".slot-%d" % number)
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                return False
            stack.callback(os.close, descriptor)
            return True

        yield _wait(taken, at_once, wait, "%d other backups are written at once to %s" % (at_once, folder))


def _wait(taken: t.Callable[[int], bool], at_once: int, wait: float, why: str) -> float:
    began = time.monotonic()
    while not any(taken(number) for number in range(at_once)):
        if time.monotonic() - began >= wait:
            raise MigrationError(why, code="LOCKED", next_step="wait for them to end, or raise the limit")
        time.sleep(_POLL)
    return round(time.monotonic() - began, 3)


__all__ = ("SLOT_CLASS", "folder_slot", "server_slot")
