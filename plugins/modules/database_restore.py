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
  - A snapshot or a kept database is there already and needs only the exchange of names. Swapping back is the same call with the kept database.
  - Owner, rights, connection limit, settings and comment of the database are carried over.
  - The role must own the database and have CREATEDB, and C(pg_signal_backend) to end the application's sessions; or be a superuser.
author:
  - pgops.migrations contributors (@pgops)
options:
  restore_point:
    description: Folder of the restore point, as RV(pgops.migrations.database_backup#module:restore_point.path) returns it.
    type: path
  from_database:
    description:
      - Instead of O(restore_point), the name of a snapshot (M(pgops.migrations.database_copy)) or of a kept database of this target.
      - It becomes the live database. Nothing is copied, so it is gone under its present name.
    type: str
  confirm:
    description:
      - The database's name, a colon (or a blank), and the id of the run that took the restore point (without a run, of the restore point).
      - Anything else is refused with the text to type and what will be lost.
      - Not needed in check mode.
    type: str
    default: ''
  force:
    description: Restore although the database's content is that of the restore point already.
    type: bool
    default: false
  loss:
    description:
      - V(auto) counts the rows that will be lost until it is confirmed, and not again in the confirmed run. That one tells which tables differ,
        and with O(from_database) not even that, so that it takes as long as the swap.
      - V(before) counts them in the confirmed run, too.
    type: str
    choices: [auto, before]
    default: auto
  jobs:
    description: Processes that restore. An encrypted archive is restored by one.
    type: int
    default: 4
  identity_file:
    description: File with the age identity that opens an encrypted restore point.
    type: path
  gpg_home:
    description: Folder of the gpg keyring that opens an encrypted restore point or checks its signature. Empty means the user's own.
    type: path
  signed_by:
    description: Fingerprint of the key that must have signed the restore point. Empty means that no signature is asked for.
    type: str
    default: ''
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
    details: >-
      Reads the whole restore point, checks the server, shows what would be lost, and makes nothing. A closed snapshot is opened while it is read.
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
    confirm: microcare:20261122T163000Z-ab12cd

- name: Back to a snapshot, or to what an earlier rollback replaced
  pgops.migrations.database_restore:
    database_url: "{{ migration_database_url }}"
    from_database: microcare__kept_20261122t170000z_12ab34
    confirm: microcare:20261122T165900Z-00aa11
"""

RETURN = r"""
database:
  description: Name of the database.
  returned: success
  type: str
  sample: microcare
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
  description: Duration of each phase; C(read) is a part of C(loss). C(unavailable) is the time for which clients had to wait.
  returned: success
  type: dict
  sample: {load: 0.4, check: 0.1, read: 0.9, loss: 1.2, restore: 20.4, verify: 2.2, swap: 0.2, unavailable: 0.04}
comparison:
  description:
    - V(equal) when the fingerprint of what was restored is that of the backup; empty in check mode.
    - V(same_database) when a snapshot or a kept database became live, of which nothing is a copy.
  returned: success
  type: str
  sample: equal
loss:
  description:
    - What the live database holds and the restore point does not, before the restore.
    - C(known) is false, with a C(reason), when the live database could not be read, or was not read again.
    - Per table the rows that were added, changed and removed since, by primary key where there is one; sequences that go back; sessions that are ended.
  returned: success, and with C(CONFIRMATION_MISSING)
  type: dict
  sample:
    known: true
    reason: ''
    tables: [{table: public.users, rows_now: 20001, rows_then: 20000, added: 3, changed: 12, removed: 2, keyed: true}]
    sequences: [{sequence: public.users_id_seq, now: 20003, then: 20000, step_back: 3}]
    sessions: [{pid: 4711, user: microcare, application_name: api, client_addr: 10.0.0.7, state: idle}]
    rows_now: 20001
    rows_then: 20000
    added: 3
    changed: 12
    removed: 2
    differences: 2
    texts: ['Table public.users: 3 rows added, 12 changed, 2 removed.']
undone:
  description: The migrations that the ledger held before the swap and does not hold after it, an unfinished one among them; read on both sides.
  returned: success
  type: list
  elements: str
redone:
  description: The migrations that are applied after the swap and were not before it, as a swap back brings them.
  returned: success
  type: list
  elements: str
confirmation:
  description: What confirms this restore, the database's name and the run.
  returned: success, and with C(CONFIRMATION_MISSING)
  type: str
  sample: microcare:20261122T163000Z-ab12cd
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
            restore_point=dict(type="path"),
            from_database=dict(type="str"),
            confirm=dict(type="str", default=""),
            force=dict(type="bool", default=False),
            loss=dict(type="str", choices=["auto", "before"], default="auto"),
            jobs=dict(type="int", default=4),
            identity_file=dict(type="path"),
            gpg_home=dict(type="path"),
            signed_by=dict(type="str", default=""),
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
