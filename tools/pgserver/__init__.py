# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A private PostgreSQL server in a folder: for the tests, the demo and the benchmarks.

As a library::

    with Cluster(folder, fast=True) as server:
        server.query("select 1")

On the command line::

    python tools/pgserver start DIR [--fast] [--set name=value]
    eval "$(python tools/pgserver env DIR)"
    python tools/pgserver stop DIR

The server listens on a free port of 127.0.0.1 and on a socket in a private directory, and asks for a password on both.
PostgreSQL refuses to run as root, so for root its programs run as another account; a folder that this account cannot
enter keeps only the small files, and the data goes below the system's temporary directory. No permission of a
directory that was there before is ever changed.
"""

from tools.pgserver.account import Account, server_account, usable_by
from tools.pgserver.cluster import Cluster
from tools.pgserver.postmaster import Running, free_port
from tools.pgserver.programs import NEEDED, PgServerError, Programs, find_programs

__all__ = [
    "NEEDED",
    "Account",
    "Cluster",
    "PgServerError",
    "Programs",
    "Running",
    "find_programs",
    "free_port",
    "server_account",
    "usable_by",
]
