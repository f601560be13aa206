# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  assert_sql:
    description:
      - One SELECT that gives one boolean, true when the data part of O(migration) is done. Run in a read-only transaction.
    type: str
  replay_timeout:
    description: Seconds that one statement may take in the scratch database.
    type: int
    default: 300
  pg_bin_dir:
    description: Folder of C(pg_dump) and C(pg_restore), which copy the schema for the scripts to be tried on.
    type: path
  lock_wait:
    description: Seconds to wait for another run to end, and for Prisma's lock where the ledger is written.
    type: int
    default: 30
  maintenance_db:
    description: Database on the same server where the lock is taken.
    type: str
    default: postgres
  run_id:
    description: Identifies the run in C(application_name).
    type: str
    default: ''
"""
