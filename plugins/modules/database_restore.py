#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_restore
short_description: Bring a database back to a restore point
version_added: "1.0.0"
description:
  - Checks every byte of the restore point, restores it into a staging database beside the live one, and compares the fingerprint with that of the backup.
  - Only then both databases change names in one transaction. Clients wait for a fraction of a second.
  - The former database is kept under another name, closed for connections, and never dropped. To go back again, swap it in.
  - Owner, rights, connection limit, settings and comment of the database are carried over.
  - The role must own the database and have CREATEDB, and C(pg_signal_backend) to end the application's sessions; or be a superuser.
author:
  - pgops.migrations contributors (@pgops)
options:
  restore_point:
    description: Folder of the restore point, as RV(pgops.migrations.database_backup#module:restore_point.path) returns it.
    type: path
    required: true
  confirm:
    description:
      - The database's name, a blank, and the restore point's id. Anything else is refused with the text to type and what will be lost.
      - Not needed in check mode.
    type: str
    default: ''
  force:
    description: Restore although the database's content is that of the restore point already.
    type: bool
    default: false
  jobs:
    description: Processes that restore.
    type: int
    default: 2
  pg_bin_dir:
    description: Folder of the client programs. Empty means C(PATH) and the places where distributions put them.
    type: path
  maintenance_db:
    description: Database on the same server where the lock is taken and from which the swap is done.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run on the same database to end.
    type: int
    default: 30
  run_id:
    description: Identifies the run in C(application_name) and in the comments of the databases it makes.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Reads the whole restore point, checks the server, shows what would be lost, and makes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A database whose content is that of the restore point is left alone, unless O(force) is set.
seealso:
  - module: pgops.migrations.database_backup
"""

EXAMPLES = r"""
- name: What would be lost
  pgops.migrations.database_restore:
    database_url: "{{ migration_database_url }}"
    restore_point: /var/backups/migrations/microcare/20261122T163000Z-ab12cd
  check_mode: true
  register: preview

- name: Go back
  pgops.migrations.database_restore:
    database_url: "{{ migration_database_url }}"
    restore_point: /var/backups/migrations/microcare/20261122T163000Z-ab12cd
    confirm: microcare 20261122T163000Z-ab12cd
"""

RETURN = r"""
kept:
  description: Name under which the former database is kept; empty when nothing was restored. In check mode an example of it.
  returned: success
  type: str
  sample: microcare__kept_20261122t170000z_12ab34
restored:
  description: Number of tables and rows of the restore point.
  returned: success
  type: dict
  sample: {tables: 12, rows: 2000000}
restore_point:
  description: Id and folder of the restore point.
  returned: success
  type: dict
  sample: {id: 20261122T163000Z-ab12cd, path: /var/backups/migrations/microcare/20261122T163000Z-ab12cd}
seconds:
  description: Duration of each phase; C(unavailable) is the time for which clients had to wait.
  returned: success
  type: dict
  sample: {check: 1.2, read: 3.1, restore: 20.4, verify: 2.2, swap: 0.2, unavailable: 0.12}
comparison:
  description: V(equal) when the fingerprint of what was restored is that of the backup; empty in check mode.
  returned: success
  type: str
  sample: equal
loss:
  description:
    - What the live database holds and the restore point does not, before the restore.
    - C(known) is false, with a C(reason), when the live database could not be read.
  returned: success, and with C(CONFIRMATION_MISSING)
  type: dict
  sample:
    known: true
    reason: ''
    tables: [{table: public.users, rows_now: 19901, rows_then: 20000}]
    rows_now: 19901
    rows_then: 20000
    differences: 1
attempts:
  description: Number of tries that the swap took.
  returned: when a swap was done
  type: int
  sample: 1
terminated:
  description: Number of sessions that were ended for the swap.
  returned: when a swap was done
  type: int
  sample: 8
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
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._restore import RestoreOptions, restore
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """The options as RestoreOptions, the work, and its warnings where Ansible shows them."""
    names = [field.name for field in dataclasses.fields(RestoreOptions)]
    options = {name: module.params[name] for name in names if module.params[name] is not None}
    result = restore(target, RestoreOptions(**options), module.check_mode)
    for warning in result.pop("warnings"):
        module.warn(warning)
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            restore_point=dict(type="path", required=True),
            confirm=dict(type="str", default=""),
            force=dict(type="bool", default=False),
            jobs=dict(type="int", default=2),
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
