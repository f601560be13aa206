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
  - Puts the roles of the server and their memberships beside it, because an archive of a database does not hold them.
  - Can encrypt all of it with C(age) or C(gpg), so that the plain text is never on the disk, and sign the manifest.
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
    description:
      - V(directory) is dumped by O(jobs) processes; V(custom) is one file.
      - V(auto) is V(directory), and V(custom) with O(encryption), because only one file can be encrypted as a stream.
    type: str
    choices: [auto, directory, custom]
    default: auto
  jobs:
    description: Processes that dump, with O(format=directory).
    type: int
    default: 2
  compression:
    description:
      - V(auto) takes the fastest useful one that C(pg_dump) and C(pg_restore) were built with; V(zstd:1), else V(lz4), else V(gzip:1).
      - Beside V(none), V(gzip:1) takes about two and a half times as long and a third of the room; V(zstd:1) takes a quarter of the room and hardly longer.
      - Or V(none), V(gzip), V(lz4), V(zstd), each but V(none) with an optional C(:level).
    type: str
    default: auto
  globals:
    description:
      - Put the roles of the server and their memberships beside the dump, as C(globals.sql), without the hashes of passwords.
      - Where they cannot be read, that is a warning and no error.
    type: bool
    default: true
  globals_hashes:
    description: Put the hashes of the passwords there, too. Only a superuser may read them.
    type: bool
    default: false
  encryption:
    description:
      - The tool that encrypts archive and roles to O(encryption_recipients); it must be installed where the module runs.
      - The manifest stays readable. It holds the schema, and counts and hashes of rows, and no row.
    type: str
    choices: [none, age, gpg]
    default: none
  encryption_recipients:
    description:
      - Public keys that can decrypt the restore point; for V(age) C(age1...) or C(ssh-...), for V(gpg) full fingerprints.
      - Without one of their secret keys nobody can restore it. A backup needs none of these.
    type: list
    elements: str
    default: []
  sign_with:
    description: Full fingerprint of the C(gpg) key that signs the manifest, which covers the SHA-256 of every file. Empty means no signature.
    type: str
    default: ''
  gpg_home:
    description: Home folder of C(gpg), with the keys of the recipients and the one that signs. Empty means its own default.
    type: path
  identity_file:
    description: Identity file of C(age) with which O(proof=drill) decrypts.
    type: path
  reuse:
    description:
      - Return the newest restore point instead of a new one, if it is still the present state and as these options ask for it.
      - That is so when every file of it is whole, and schema, rows, sequences, ledger, roles and properties of the database are as they are now.
      - The default takes a new one, because a task that says C(database_backup) should leave one behind that no earlier run owns.
    type: bool
    default: false
  proof:
    description:
      - V(read) reads the archive back in full. V(drill) also restores it into a scratch database and compares the fingerprints.
    type: str
    choices: [read, drill]
    default: read
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
  at_once:
    description: How many restore points may be written into O(backup_dir) at once, whichever databases and runs they are of. V(0) for as many as come.
    type: int
    default: 0
  at_once_wait:
    description: Seconds to wait for one of them to end.
    type: int
    default: 3600
  run_id:
    description: Identifies the run in C(application_name) and in the manifest.
    type: str
    default: ''
  label:
    description: A note that the manifest keeps.
    type: str
    default: ''
  migrations_dir:
    description: The folder with the migrations that O(pending) names.
    type: path
  pending:
    description:
      - Names of the migrations that will be applied next. Of the tables that they may change, the fingerprint keeps the content by column,
        so that the comparison after them can tell what they did to columns that they do not name.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Checks the programs, the folder and the room, and writes nothing. With O(reuse) it compares the database as a run would.
  diff_mode:
    support: none
  idempotent:
    support: partial
    details: With O(reuse), a second run takes no new restore point while the database is as it was. Else every run does.
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

- name: Encrypted and signed, unless the newest one still is the present state
  pgops.migrations.database_backup:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    encryption: age
    encryption_recipients:
      - age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p
    sign_with: 0123456789ABCDEF0123456789ABCDEF01234567
    reuse: true
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
    sequence:
      description: Its number among the restore points of the database; their order is by it.
      returned: not in check mode
      type: int
      sample: 7
    reused:
      description: Whether it was there before and still is the present state.
      returned: success
      type: bool
      sample: false
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
      description: Size of all its files.
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
    globals:
      description: The file with the roles, whether it holds the hashes of passwords, and a digest of what it does; none without one.
      returned: not in check mode
      type: dict
      sample: {path: globals.sql, passwords: false, digest: 9f8e7d}
    encryption:
      description: The tool that encrypted it and for whom; none for plain files.
      returned: not in check mode
      type: dict
      sample: {tool: age, recipients: [age1ql3z7hjy54pw3hyww5ayyfg7zqgvc7w3j2elw8zmrj2kg5sfn9aqmcac8p]}
    signed:
      description: Whether there is a signature of the manifest.
      returned: not in check mode
      type: bool
      sample: false
    proof:
      description: How far it is proved (V(read) or V(drill)) and since when.
      returned: not in check mode
      type: dict
      sample: {level: read, at: '2026-11-22T16:30:07Z'}
    confirmation:
      description: What O(pgops.migrations.database_restore#module:confirm) must be to restore it; the database, and the id of the run or of the restore point.
      returned: not in check mode
      type: str
      sample: microcare:20261122T163000Z-ab12cd
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
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_file import migration_texts
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """The options as BackupOptions, the work, and its warnings where Ansible shows them."""
    names = [field.name for field in dataclasses.fields(BackupOptions)]
    options = {name: module.params[name] for name in names if module.params[name] is not None}
    folder = module.params["migrations_dir"]
    options["pending"] = list(migration_texts(folder, module.params["pending"]).values()) if folder else []
    return backup(target, BackupOptions(**options), module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            backup_dir=dict(type="path", required=True),
            format=dict(type="str", choices=["auto", "directory", "custom"], default="auto"),
            jobs=dict(type="int", default=2),
            compression=dict(type="str", default="auto"),
            globals=dict(type="bool", default=True),
            globals_hashes=dict(type="bool", default=False),
            encryption=dict(type="str", choices=["none", "age", "gpg"], default="none"),
            encryption_recipients=dict(type="list", elements="str", default=[]),
            sign_with=dict(type="str", default=""),
            gpg_home=dict(type="path"),
            identity_file=dict(type="path"),
            reuse=dict(type="bool", default=False),
            proof=dict(type="str", choices=["read", "drill"], default="read"),
            pg_bin_dir=dict(type="path"),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            lock_wait_timeout=dict(type="int", default=10),
            at_once=dict(type="int", default=0),
            at_once_wait=dict(type="int", default=3600),
            run_id=dict(type="str", default=""),
            label=dict(type="str", default=""),
            migrations_dir=dict(type="path"),
            pending=dict(type="list", elements="str", default=[]),
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
