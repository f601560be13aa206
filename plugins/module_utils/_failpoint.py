# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Places where a test stops this process, to kill it or its server exactly there.

Nothing happens unless the environment has ``PGM_FAILPOINT`` with the name of the place.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "PGM_FAILPOINT"
_WANTED = os.environ.get(VARIABLE, "")
_passed: set[str] = set()


def reached(name: str) -> None:
    """Stop here, once in a process, when this place was asked for; go on after SIGCONT."""
    if _WANTED and name == _WANTED and name not in _passed:
        _passed.add(name)
        os.kill(os.getpid(), signal.SIGSTOP)


__all__ = ("VARIABLE", "reached")
