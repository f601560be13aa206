#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_restore_drill
short_description: Prove that a restore point can be restored, and measure how long it takes
version_added: "1.0.0"
description:
  - Does what a way back does, but for the exchange of the databases - reads every byte of the restore point, restores it into a scratch
    database on the same server, and compares the fingerprint with that of the backup. The scratch database is dropped in any case.
  - Writes the proof beside the restore point, with the durations.
  - The live database is not touched. A drill has a lock of its own, so no other run waits for it.
  - The role must have CREATEDB and be a member of the roles that own the objects; or be a superuser.
author:
  - pgops.migrations contributors (@pgops)
options:
  backup_dir:
    description: Folder of the restore points, on the host that runs the module.
    type: path
    required: true
  restore_point:
    description:
      - Id or folder of a restore point, or the name of a snapshot. Empty means the newest usable dump.
      - Of a snapshot a copy is compared with the fingerprint that it carries. One without a fingerprint, and what an external tool keeps, cannot be tried out.
    type: str
    default: ''
  max_age:
    description: Accept the proof of an earlier drill of this restore point that is not older than so many hours. With V(0) it is always done anew.
    type: float
    default: 0
  jobs:
    description: Processes that restore. An encrypted archive is restored by one.
    type: int
    default: 4
  identity_file:
    description: File with the age identity that opens an encrypted restore point.
    type: path
  gpg_home:
    description: Folder of the gpg keyring that opens an encrypted restore point. Empty means the user's own.
    type: path
  pg_bin_dir:
    description: Folder of the client programs. Empty means C(PATH) and the places where distributions put them.
    type: path
  maintenance_db:
    description: Database on the same server where the lock is taken and from which the scratch database is made.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another drill of the same database to end.
    type: int
    default: 30
  run_id:
    description: Identifies the run in C(application_name) and in the proof.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Compares every file with the manifest, checks the server and the room, and makes nothing.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: Every drill writes a new proof, so it reports a change, unless O(max_age) accepts the one that is there. A snapshot has no place for a proof.
seealso:
  - module: pgops.migrations.database_backup_info
  - module: pgops.migrations.database_restore
"""

EXAMPLES = r"""
- name: Does the newest restore point restore, and how long does it take
  pgops.migrations.database_restore_drill:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
  register: drill

- name: At most once a week
  pgops.migrations.database_restore_drill:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    max_age: 168
"""

RETURN = r"""
restore_point:
  description: The restore point that was tried out.
  returned: success, and when one was chosen
  type: dict
  sample: {id: 20261122T163000Z-ab12cd, kind: dump, path: /var/backups/migrations/microcare/20261122T163000Z-ab12cd, sequence: 12, age_seconds: 3600}
tried:
  description:
    - Whether the restore point was tried out. In check mode it was not.
    - With a failure, V(true) says that the restore point is not what it should be - C(FINGERPRINT_MISMATCH), C(RESTORE_FAILED), C(BACKUP_CORRUPT) or
      C(BACKUP_FORMAT). V(false) says nothing about it - the server, the room, a right or a key was in the way.
  returned: always, but for options that cannot be read
  type: bool
  sample: true
drilled_at:
  description: When it was proved, UTC; with an accepted proof, that of the earlier drill. Empty in check mode.
  returned: success
  type: str
  sample: "2026-11-22T03:00:00Z"
seconds:
  description: Duration of each phase.
  returned: success
  type: dict
  sample: {check: 4.3, restore: 20.4, analyze: 1.1, verify: 2.2, total: 28.0}
rto_seconds:
  description: How long a way back to this restore point takes, but for the exchange of the databases. Null in check mode, 0 for a snapshot.
  returned: success
  type: float
  sample: 28.0
restored:
  description: Number of tables and rows that were found equal.
  returned: success
  type: dict
  sample: {tables: 12, rows: 2000000}
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
from ansible_collections.pgops.migrations.plugins.module_utils._drill import DrillOptions, choose, drill_point
from ansible_collections.pgops.migrations.plugins.module_utils._drill_tried import told_tried
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    params = module.params
    names = [field.name for field in dataclasses.fields(DrillOptions)]
    options = DrillOptions(**{name: params[name] for name in names if params[name] is not None})
    with told_tried():
        point = choose(target, params["backup_dir"], params["restore_point"], params["maintenance_db"])
        return drill_point(target, point, options, module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            backup_dir=dict(type="path", required=True),
            restore_point=dict(type="str", default=""),
            max_age=dict(type="float", default=0),
            jobs=dict(type="int", default=4),
            identity_file=dict(type="path"),
            gpg_home=dict(type="path"),
            pg_bin_dir=dict(type="path"),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            run_id=dict(type="str", default=""),
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
