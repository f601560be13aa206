#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_backup
short_description: Take a restore point of a database
version_added: "1.0.0"
description:
  - Dumps the database with C(pg_dump) and takes its fingerprint (schema, row counts, content hashes) from the same snapshot.
  - Reads the archive back in full, and writes a manifest with the SHA-256 of every file.
  - A restore point has its final name only when all of that is done and on the disk. Existing restore points are never touched.
  - Blocks nobody, and waits for a locked table no longer than O(lock_wait_timeout).
author:
  - pgops.migrations contributors (@pgops)
options:
  backup_dir:
    description:
      - Folder of the restore points, on the host that runs the module. It is made if it is missing.
      - It must belong to the user that runs the module, with mode 0700, and must not be a symbolic link.
    type: path
    required: true
  format:
    description: V(directory) is dumped by O(jobs) processes; V(custom) is one file.
    type: str
    choices: [directory, custom]
    default: directory
  jobs:
    description: Processes that dump, with O(format=directory).
    type: int
    default: 2
  compression:
    description:
      - V(auto) takes the fastest useful one that C(pg_dump) was built with; V(zstd:1), else V(lz4), else V(gzip:1).
      - Or V(none), V(gzip), V(lz4), V(zstd), each but V(none) with an optional C(:level).
    type: str
    default: auto
  pg_bin_dir:
    description:
      - Folder of the client programs. Empty means C(PATH) and the places where distributions put them.
      - The programs must not be older than the server.
    type: path
  maintenance_db:
    description: Database on the same server where the lock is taken.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run on the same database to end.
    type: int
    default: 30
  lock_wait_timeout:
    description: Seconds to wait for a table that another session has locked.
    type: int
    default: 10
  run_id:
    description: Identifies the run in C(application_name) and in the manifest.
    type: str
    default: ''
  label:
    description: A note that the manifest keeps.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Checks the programs, the folder and the room, and writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run takes a new restore point.
seealso:
  - module: pgops.migrations.database_restore
"""

EXAMPLES = r"""
- name: Take a restore point before a deploy
  pgops.migrations.database_backup:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    label: before 2026.11
  register: backup

- name: With the client programs of one version
  pgops.migrations.database_backup:
    login_host: db1
    login_user: microcare_owner
    login_password: "{{ password }}"
    login_db: microcare
    backup_dir: /var/backups/migrations
    pg_bin_dir: /usr/lib/postgresql/17/bin
    format: custom
"""

RETURN = r"""
restore_point:
  description: The restore point. In check mode RV(restore_point.id) is empty and RV(restore_point.path) is the folder where it would be made.
  returned: success
  type: dict
  contains:
    id:
      description: UTC time and six hexadecimal digits.
      returned: success
      type: str
      sample: 20261122T163000Z-ab12cd
    path:
      description: Its folder, which O(pgops.migrations.database_restore#module:restore_point) takes.
      returned: success
      type: str
      sample: /var/backups/migrations/microcare/20261122T163000Z-ab12cd
    format:
      description: The archive's format.
      returned: success
      type: str
      sample: directory
    label:
      description: The note.
      returned: success
      type: str
      sample: before 2026.11
    size_bytes:
      description: Size of the archive.
      returned: not in check mode
      type: int
      sample: 104998
    seconds:
      description: Duration, fingerprint and reading back included.
      returned: not in check mode
      type: float
      sample: 7.4
    tables:
      description: Number of tables.
      returned: not in check mode
      type: int
      sample: 12
    rows:
      description: Number of rows in all tables.
      returned: not in check mode
      type: int
      sample: 2000000
    sha256:
      description: Digest of the manifest, which covers the SHA-256 of every file.
      returned: not in check mode
      type: str
      sample: 2a70dbfe07df34829f47a09c5257cd01b7a5e6e02473815f504f56957a5d6aa5
    compression:
      description: What C(pg_dump --compress) was given; a number is a gzip level.
      returned: not in check mode
      type: str
      sample: zstd:1
    started_at:
      description: Start, UTC.
      returned: not in check mode
      type: str
      sample: '2026-11-22T16:30:00Z'
    finished_at:
      description: End, UTC.
      returned: not in check mode
      type: str
      sample: '2026-11-22T16:30:07Z'
    ledger:
      description: Head, number of rows and digest of the ledger in the snapshot; none without a ledger.
      returned: not in check mode
      type: dict
      sample: {schema: public, rows: 12, head: 20260101000000_init, digest: 9f8e7d, clean: true, unfinished: []}
    ledger_clean:
      description: Whether no migration was unfinished in the snapshot.
      returned: not in check mode
      type: bool
      sample: true
    confirmation:
      description: What O(pgops.migrations.database_restore#module:confirm) must be to restore it.
      returned: not in check mode
      type: str
      sample: microcare 20261122T163000Z-ab12cd
code:
  description: Stable code of the error; C(docs/errors.md) explains all of them.
  returned: failure
  type: str
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._backup import BackupOptions, backup
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """The options as BackupOptions, the work, and its warnings where Ansible shows them."""
    names = [field.name for field in dataclasses.fields(BackupOptions)]
    options = {name: module.params[name] for name in names if module.params[name] is not None}
    result = backup(target, BackupOptions(**options), module.check_mode)
    for warning in result.pop("warnings"):
        module.warn(warning)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            backup_dir=dict(type="path", required=True),
            format=dict(type="str", choices=["directory", "custom"], default="directory"),
            jobs=dict(type="int", default=2),
            compression=dict(type="str", default="auto"),
            pg_bin_dir=dict(type="path"),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            lock_wait_timeout=dict(type="int", default=10),
            run_id=dict(type="str", default=""),
            label=dict(type="str", default=""),
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
