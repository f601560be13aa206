#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_backup_external
short_description: Have an external backup tool take a restore point, and record it
version_added: "1.0.0"
description:
  - Runs the command of a tool such as pgBackRest, Barman or WAL-G, and demands that the tool then lists a backup that it did not list before.
    Its exit status alone is not believed.
  - Afterwards names a point in the server's log (C(pg_create_restore_point), C(pgops_) and the run id) where the role may, and waits until
    the log is archived. It is named after the backup, because a backup cannot be restored to a point before its own end.
  - Records label, position, ledger and commands in C(BACKUP_DIR/DATABASE/external/), where M(pgops.migrations.database_backup_info) finds it.
  - This collection cannot restore it; O(restore_hint) is kept for whoever has to.
author:
  - pgops.migrations contributors (@pgops)
options:
  backup_dir:
    description: Folder of the restore points, on the host that runs the module; private to its user.
    type: path
    required: true
  take:
    description:
      - The command that takes a backup, as a list of arguments. No shell sees it.
      - It must hold no secret, for it is recorded and every user of the host can read it while it runs. The tool has its own configuration for that.
    type: list
    elements: str
    required: true
  list:
    description: The command that lists the backups, best as JSON. It is run before and after O(take). No secret here either.
    type: list
    elements: str
    required: true
  verify:
    description: A command that checks the backups, run after O(take). When it fails, no restore point is recorded. No secret here either.
    type: list
    elements: str
    default: []
  list_pattern:
    description:
      - A regular expression that finds the names of the backups in what O(list) writes, by its group if it has one. C(^) is the beginning of a line.
      - Without it, JSON is understood where backups have a C(label), a C(backup_id) or a C(backup_name); of other text the lines are compared.
    type: str
    default: ''
  environment:
    description: Variables for the commands besides those of the module. No secret here either, Ansible shows them.
    type: dict
    default: {}
  tool:
    description: What the tool is called in texts. Empty means the first word of O(take).
    type: str
    default: ''
  restore_hint:
    description: How such a backup is restored, for the one who has to do it at night. Recorded as it is.
    type: str
    default: ''
  timeout:
    description: Seconds after which each command is ended with all that it has started.
    type: int
    default: 86400
  maintenance_db:
    description: Database on the same server where the lock is taken.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run on the same database to end.
    type: int
    default: 30
  run_id:
    description: Identifies the run in C(application_name), in the record and in the name of the point.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Runs O(list), to see that it works, and nothing else.
  diff_mode:
    support: none
  idempotent:
    support: none
    details: Every run takes a new backup.
notes:
  - Such a tool backs up a whole server. Where several targets share one, one of them is enough.
seealso:
  - module: pgops.migrations.database_backup
  - module: pgops.migrations.database_backup_info
"""

EXAMPLES = r"""
- name: An incremental backup by pgBackRest
  pgops.migrations.database_backup_external:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    take: [sudo, -n, -u, postgres, pgbackrest, --stanza=main, --type=incr, backup]
    list: [sudo, -n, -u, postgres, pgbackrest, --stanza=main, --output=json, info]
    verify: [sudo, -n, -u, postgres, pgbackrest, --stanza=main, verify]
    restore_hint: "stop the server, then pgbackrest --stanza=main --delta --type=name --target=POINT restore, see the wiki"

- name: Barman, whose list is searched by a pattern
  pgops.migrations.database_backup_external:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    take: [ssh, barman@backup1, barman, backup, --wait, main]
    list: [ssh, barman@backup1, barman, list-backups, --minimal, main]
    list_pattern: ^\d{8}T\d{6}$
"""

RETURN = r"""
restore_point:
  description:
    - The record. C(label) is the tool's name of the backup, C(restore_point) the named point in the server's log (name, lsn, wal, archived) or null.
    - In check mode C(id) is empty.
  returned: success
  type: dict
  sample:
    id: 20261122T163000Z-ab12cd
    kind: external
    tool: pgbackrest
    label: 20261122-163001F
    sequence: 13
    path: /var/backups/migrations/microcare/external/20261122T163000Z-ab12cd.json
    lsn: 0/5000108
    verified: true
    restore_point: {name: pgops_20261122-1, lsn: 0/5000108, wal: "000000010000000000000005", archived: true}
rc:
  description: Exit code of the command that failed; negative for a signal.
  returned: with C(EXTERNAL_TOOL_FAILED)
  type: int
  sample: 55
output:
  description: The end of what the command wrote.
  returned: with C(EXTERNAL_TOOL_FAILED)
  type: str
  sample: 'ERROR: [055]: unable to load info file'
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
from ansible_collections.pgops.migrations.plugins.module_utils._external import ExternalOptions, take_external
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    options = ExternalOptions(**{field.name: module.params[field.name] for field in dataclasses.fields(ExternalOptions)})
    return take_external(target, options, module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            backup_dir=dict(type="path", required=True),
            take=dict(type="list", elements="str", required=True),
            list=dict(type="list", elements="str", required=True),
            verify=dict(type="list", elements="str", default=[]),
            list_pattern=dict(type="str", default=""),
            environment=dict(type="dict", default={}),
            tool=dict(type="str", default=""),
            restore_hint=dict(type="str", default=""),
            timeout=dict(type="int", default=86400),
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
