#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_backup_info
short_description: List the restore points of a database
version_added: "1.0.0"
description:
  - Lists the dumps below O(backup_dir), the snapshots on the server, and what external tools have taken, the newest first.
  - The order is that of their sequence and not that of a clock.
  - Says of each whether it can be used, why not, and how far it is proved. A damaged one is listed like any other, and is no error.
author:
  - pgops.migrations contributors (@pgops)
options:
  backup_dir:
    description: Folder of the restore points, on the host that runs the module. One that does not exist holds none.
    type: path
    required: true
  verify:
    description:
      - With V(hashes) every file of every dump is read and compared with its manifest, which takes as long as reading them.
      - With V(none) only the manifest, the names of the files and their sizes are.
    type: str
    choices: [none, hashes]
    default: none
  before:
    description:
      - Name of a migration. RV(newest) is then the newest usable restore point that holds nothing of it.
      - One whose ledger does not say which migrations were applied is not taken for that.
    type: str
    default: ''
  maintenance_db:
    description: Database on the same server that is asked where the database itself is missing or lets nobody in. RV(restore_points[].present) is null then.
    type: str
    default: postgres
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
seealso:
  - module: pgops.migrations.database_backup
  - module: pgops.migrations.database_backup_retention
  - module: pgops.migrations.database_restore
"""

EXAMPLES = r"""
- name: What can be gone back to
  pgops.migrations.database_backup_info:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
  register: backups

- name: The newest restore point from before a migration, every byte of all of them read
  pgops.migrations.database_backup_info:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    before: 20260301120000_split_patient_name
    verify: hashes
  register: backups
"""

RETURN = r"""
restore_points:
  description: All restore points, the newest first by their sequence.
  returned: success
  type: list
  elements: dict
  contains:
    kind:
      description: V(dump), V(snapshot) or V(external).
      type: str
      sample: dump
    id:
      description: Its id.
      type: str
      sample: 20261122T163000Z-ab12cd
    run_id:
      description: The run that took it.
      type: str
      sample: 20261122-1
    label:
      description: The note, or the external tool's name of its backup.
      type: str
      sample: before 2026.11
    sequence:
      description: Its place in the order, null where that cannot be read.
      type: int
      sample: 12
    path:
      description: Folder of a dump, record of an external one; empty for a snapshot.
      type: str
      sample: /var/backups/migrations/microcare/20261122T163000Z-ab12cd
    name:
      description: Name of a snapshot's database; empty for others.
      type: str
      sample: ''
    oid:
      description: OID of a snapshot.
      returned: for a snapshot
      type: int
      sample: 16999
    started_at:
      description: When it was begun, UTC. Of a snapshot the same as C(finished_at).
      type: str
      sample: "2026-11-22T16:30:00Z"
    finished_at:
      description: When it was complete, UTC.
      type: str
      sample: "2026-11-22T16:30:07Z"
    age_seconds:
      description: Age by the clock of this host, negative for a time in the future, null where no time is known.
      type: int
      sample: 3600
    size_bytes:
      description: Size of its files, or of the snapshot.
      type: int
      sample: 104998
    ledger:
      description: State of _prisma_migrations in it (schema, rows, head, digest, clean, unfinished, applied); null without that table.
      type: dict
      sample: {schema: public, rows: 12, head: 20260112083000_drop_patient_phone, digest: 9f86d0, clean: true, unfinished: [], applied: []}
    lsn:
      description: Position in the server's log.
      type: str
      sample: 0/1A2B3C4
    proof:
      description:
        - How far it is proved; C(level) is V(read) (read back in full) or V(drill) (restored, and its fingerprint compared).
        - C(valid) says whether the proof is for what lies there now.
      type: dict
      sample: {level: drill, at: "2026-11-22T03:00:00Z", run_id: nightly, seconds: {total: 27.4}, valid: true}
    pinned:
      description: Why and since when it must be kept; null where it is not pinned.
      type: dict
      sample: {reason: audit 2026, at: "2026-11-22T17:00:00Z"}
    in_use:
      description: Whether a process restores or checks it now. For dumps.
      type: bool
      sample: false
    encryption:
      description: Tool and recipients of an encrypted dump; null for a plain one. It is usable for whoever has the key, which is not tried here.
      type: dict
      sample: {tool: age, recipients: [age1qqqq]}
    state:
      description: V(good), V(damaged), V(foreign) (of another database or server), V(external) or V(unknown) (it cannot be judged here).
      type: str
      sample: good
    usable:
      description: Whether M(pgops.migrations.database_restore) can go back to it.
      type: bool
      sample: true
    code:
      description: Code of the reason, see C(docs/errors.md).
      type: str
      sample: ''
    reason:
      description: Why it is not usable.
      type: str
      sample: ''
    present:
      description: Whether the live database has the same ledger; null where that cannot be told.
      type: bool
      sample: false
    restore_hint:
      description: How an external one is restored, in the words of who set it up.
      type: str
      sample: ''
    fingerprint_digest:
      description: Digest of a snapshot's fingerprint, where one was taken.
      returned: for a snapshot
      type: str
      sample: ''
newest:
  description: Id of the newest usable restore point, from before the migration O(before) where that is given; empty without one.
  returned: success
  type: str
  sample: 20261122T163000Z-ab12cd
leftovers:
  description:
    - What runs left that did not end, which is no restore point.
    - Folders (C(.partial), C(.removing)), and names of databases that were to be snapshots.
  returned: success
  type: list
  elements: str
  sample: []
code:
  description: Stable code of the error; C(docs/errors.md) explains all of them.
  returned: failure
  type: str
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._points import list_points
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    params = module.params
    options = {name: params[name] for name in ("backup_dir", "maintenance_db", "verify", "before")}
    return dict(list_points(target, **options), changed=False)


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            backup_dir=dict(type="path", required=True),
            verify=dict(type="str", choices=["none", "hashes"], default="none"),
            before=dict(type="str", default=""),
            maintenance_db=dict(type="str", default="postgres"),
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
