# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which PostgreSQL of each supported major version can be had here, and which client programs."""

from __future__ import annotations

import functools

from tools.pgserver import PgServerError, find_programs
from tools.pgserver.programs import NEEDED, SOURCES, Programs

MAJORS = (14, 15, 16, 17, 18)


@functools.cache
def servers() -> dict[int, Programs]:
    """The programs by major version; of two, those that can more."""
    found: dict[int, Programs] = {}
    for source in SOURCES:
        try:
            programs = find_programs(source=source)
        except PgServerError:
            continue
        found.setdefault(programs.version[0], programs)
    return found


@functools.cache
def clients() -> dict[int, str]:
    """The folder of the client programs by their major version; not every server comes with them."""
    return {major: str(found.bin_dir) for major, found in servers().items() if all((found.bin_dir / name).exists() for name in NEEDED)}
