#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_copy
short_description: Copy a database on its own server, as a restore point for a maintenance window
version_added: "1.0.0"
description:
  - Makes a snapshot, a sibling database with the content of the live one, by C(CREATE DATABASE .. TEMPLATE).
  - To go back to it takes a swap of names and no restore.
  - The server copies only a database without sessions, and lets nobody in until it is done. So this is for a maintenance window.
  - The copy is closed for connections from its first moment. Its comment says of what it is the copy, and is written when it is whole.
  - The copy lies on the same disks as the original. It is no backup against the loss of the server.
  - It holds all data, large objects, publications and unlogged tables. It has not the rights, connection limit, settings (of the database,
    and of roles in it), comment and security labels of the database, which a swap carries over from the live one, nor the server's statistics about its use.
  - The role must have the rights of the database's owner and CREATEDB, and C(pg_signal_backend) to end other roles' sessions; or be a superuser.
author:
  - pgops.migrations contributors (@pgops)
options:
  state:
    description: V(absent) drops the snapshot that has both this O(name) and this O(id).
    type: str
    choices: [absent, present]
    default: present
  name:
    description:
      - Name of the copy. Empty means one made of the database's name and the snapshot's id.
      - Required with O(state=absent).
    type: str
    default: ''
  id:
    description: Id of the snapshot to drop, or of the run that made it. Required with O(state=absent).
    type: str
    default: ''
  sessions:
    description:
      - What to do about sessions in the database. V(refuse) fails and lists them.
      - V(end) ends them as soon as the server lets no new ones in, so pools that reconnect wait until the copy is made.
    type: str
    choices: [refuse, end]
    default: refuse
  attempts:
    description: Number of tries, where sessions cannot be got out in time.
    type: int
    default: 3
  strategy:
    description:
      - How the server copies. V(auto) is V(wal_log) for databases below 64 MB, and else V(file_copy), which is quicker then but makes two checkpoints.
      - PostgreSQL 14 always does V(file_copy). PostgreSQL 18 is asked to clone the files first, which takes no time and no room where the file system can.
    type: str
    choices: [auto, file_copy, wal_log]
    default: auto
  verify:
    description:
      - Compare the content of the copy with that of the database after it was made, and keep the fingerprint with the snapshot.
      - Reads both in full. The applications must not write meanwhile.
    type: bool
    default: false
  reuse:
    description:
      - Read the database in full to find out whether the newest snapshot, if it was made with O(verify), still is its present state, and make no new one then.
      - Without it, the newest one is used again only where the server's counters prove that nothing was written since, in any database.
    type: bool
    default: false
  backup_dir:
    description: Folder of the restore points, if there are dumps, too. Snapshots and dumps are then numbered together.
    type: path
  maintenance_db:
    description: Database on the same server where the lock is taken and from which the copy is made.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run on the same database to end.
    type: int
    default: 30
  run_id:
    description: Identifies the run in C(application_name) and in the comment of the copy.
    type: str
    default: ''
  label:
    description: A note that the comment of the copy keeps. Every role of the server can read it.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Checks sessions, rights and obstacles, and makes nothing.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: A snapshot that is proved to be the present state is used again. On a busy server that cannot be proved without O(reuse).
notes:
  - Free space on the server cannot be asked for by SQL. Unless the files are cloned, the copy needs as much as RV(snapshot.size_bytes).
seealso:
  - module: pgops.migrations.database_backup
  - module: pgops.migrations.database_restore
"""

EXAMPLES = r"""
- name: Take a snapshot before a deploy in a maintenance window
  pgops.migrations.database_copy:
    database_url: "{{ migration_database_url }}"
    sessions: end
    label: before 2026.11
  register: copy

- name: Drop it when it is not needed any more
  pgops.migrations.database_copy:
    database_url: "{{ migration_database_url }}"
    state: absent
    name: "{{ copy.snapshot.name }}"
    id: "{{ copy.snapshot.id }}"
"""

RETURN = r"""
snapshot:
  description: The snapshot. In check mode of a new one, RV(snapshot.id) is empty. With O(state=absent) the one that was dropped, or nothing.
  returned: success
  type: dict
  contains:
    name:
      description: Name of the copy. In check mode what O(name) says.
      returned: success
      type: str
      sample: microcare__snapshot_20261122t163000z_ab12cd
    oid:
      description: OID of the copy.
      returned: not in check mode
      type: int
      sample: 16500
    id:
      description: UTC time and six hexadecimal digits.
      returned: success
      type: str
      sample: 20261122T163000Z-ab12cd
    run_id:
      description: The run that made it.
      returned: success
      type: str
      sample: r-20261122
    label:
      description: The note.
      returned: success
      type: str
      sample: before 2026.11
    at:
      description: When it was made, UTC.
      returned: success
      type: str
      sample: '2026-11-22T16:30:00Z'
    sequence:
      description: Number among the restore points of this database.
      returned: success
      type: int
      sample: 3
    ledger:
      description: Head, number of rows and digest of the ledger in it; none without a ledger.
      returned: success
      type: dict
      sample: {schema: public, rows: 12, head: 20260101000000_init, digest: 9f8e7d, clean: true, unfinished: []}
    ledger_clean:
      description: Whether no migration was unfinished.
      returned: success
      type: bool
      sample: true
    lsn:
      description: Position of the WAL before the copy.
      returned: success
      type: str
      sample: 0/1A2B3C4
    fingerprint_digest:
      description: Digest of the content, with O(verify).
      returned: success
      type: str
      sample: ''
    size_bytes:
      description: Size of the database.
      returned: success
      type: int
      sample: 1073741824
    confirmation:
      description: What a restore of it must be confirmed with.
      returned: success
      type: str
      sample: microcare r-20261122
reused:
  description: Whether an earlier snapshot holds the present state already.
  returned: with O(state=present)
  type: bool
  sample: false
strategy:
  description: How the server copied; empty when it did not.
  returned: with O(state=present)
  type: str
  sample: file_copy
cloned:
  description: Whether the server took its clone method for the files. On a file system that cannot share blocks, that is a plain copy inside the kernel.
  returned: with O(state=present)
  type: bool
  sample: false
terminated:
  description: Number of sessions that were ended.
  returned: with O(state=present)
  type: int
  sample: 8
attempts:
  description: Number of tries; 0 when nothing was made.
  returned: with O(state=present)
  type: int
  sample: 1
seconds:
  description: Duration of C(wait) (lock, checks, and until the last session had left), C(copy), and with O(verify) of C(verify).
  returned: with O(state=present)
  type: dict
  sample: {wait: 0.2, copy: 4.1}
code:
  description: Stable code of the error; C(docs/errors.md) explains all of them.
  returned: failure
  type: str
next_step:
  description: What to do next.
  returned: failure
  type: str
sessions:
  description: The sessions in the way, with whether this role may end them.
  returned: with C(SESSIONS_REMAIN)
  type: list
  elements: dict
  sample: [{pid: 4711, user: app, application_name: pool, kind: client backend, may_end: true}]
"""

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._copy import CopyOptions, copy
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """The options as CopyOptions, and the work."""
    names = [field.name for field in dataclasses.fields(CopyOptions)]
    options = {name: module.params[name] for name in names if module.params[name] is not None}
    return copy(target, CopyOptions(**options), module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            state=dict(type="str", choices=["absent", "present"], default="present"),
            name=dict(type="str", default=""),
            id=dict(type="str", default=""),
            sessions=dict(type="str", choices=["refuse", "end"], default="refuse"),
            attempts=dict(type="int", default=3),
            strategy=dict(type="str", choices=["auto", "file_copy", "wal_log"], default="auto"),
            verify=dict(type="bool", default=False),
            reuse=dict(type="bool", default=False),
            backup_dir=dict(type="path"),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            run_id=dict(type="str", default=""),
            label=dict(type="str", default=""),
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
