#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_backup_retention
short_description: Pin restore points of a database, and drop old ones
version_added: "1.0.0"
description:
  - A restore point that one of the C(keep_*) rules wants is kept. Without such a rule nothing usable is dropped.
  - Nothing is dropped unless O(apply) is set; RV(would_drop) shows what would be.
  - Whatever the rules say, these stay - what is pinned or in use, the newest proved ones (O(min_redundancy)), the newest that was drilled,
    what belongs to another database or server, and what cannot be judged.
  - The order is that of the sequence. Where a clock contradicts it, the doubt is for keeping; a time in the future counts as now.
  - Dumps and snapshots are counted apart. What an external tool keeps is for that tool to expire.
author:
  - pgops.migrations contributors (@pgops)
options:
  backup_dir:
    description: Folder of the restore points, on the host that runs the module.
    type: path
    required: true
  apply:
    description: Drop what no rule keeps. Without it C(changed) is false (unless a pin changed), and nothing is removed.
    type: bool
    default: false
  keep_last:
    description: Keep so many of the newest.
    type: int
  keep_days:
    description: Keep what is not older than so many days.
    type: float
  keep_weekly:
    description: Keep the newest of each ISO week (UTC), for so many weeks that have any.
    type: int
  keep_monthly:
    description: Keep the newest of each calendar month (UTC), for so many months that have any.
    type: int
  min_redundancy:
    description: So many of the newest usable, proved dumps stay in any case. The newest one stays with V(0), too.
    type: int
    default: 1
  snapshots:
    description: Look at snapshots, too. Without it none is dropped.
    type: bool
    default: false
  drop_damaged:
    description: Drop what is damaged, and the records of external backups that their tool lists no more. A pinned one stays.
    type: bool
    default: false
  pin:
    description: Ids of restore points to keep until they are unpinned. Done without O(apply), too.
    type: list
    elements: str
    default: []
  unpin:
    description: Ids of restore points whose pin is removed. It counts before the rules do, so O(apply) may drop them at once.
    type: list
    elements: str
    default: []
  pin_reason:
    description: Why the restore points in O(pin) are kept.
    type: str
    default: ''
  maintenance_db:
    description: Database on the same server where the lock is taken, when a snapshot is dropped.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run on the same database to end, when a snapshot is dropped.
    type: int
    default: 30
  run_id:
    description: Identifies the run in C(application_name).
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Reports what O(apply) would drop, and which pins would change; C(changed) as in the run itself.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: What no rule keeps is gone after the first run.
seealso:
  - module: pgops.migrations.database_backup_info
"""

EXAMPLES = r"""
- name: What would go
  pgops.migrations.database_backup_retention:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    keep_last: 7
    keep_weekly: 4
    keep_monthly: 12
  register: retention

- name: Drop it, snapshots older than a day included
  pgops.migrations.database_backup_retention:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    keep_days: 1
    snapshots: true
    apply: true

- name: Keep one for the auditors
  pgops.migrations.database_backup_retention:
    database_url: "{{ migration_database_url }}"
    backup_dir: /var/backups/migrations
    pin: [20261122T163000Z-ab12cd]
    pin_reason: audit 2026
"""

RETURN = r"""
kept:
  description: Restore points that stay, newest first, each with the reasons.
  returned: success
  type: list
  elements: dict
  sample: [{id: 20261122T163000Z-ab12cd, kind: dump, sequence: 12, state: good, size_bytes: 104998, reasons: [number 1 of the last 7]}]
would_drop:
  description: Restore points that O(apply) would drop. Empty when it did.
  returned: success
  type: list
  elements: dict
  sample: [{id: 20261001T020000Z-ab12cd, kind: dump, sequence: 3, state: good, size_bytes: 104998, reasons: [no rule keeps it]}]
dropped:
  description: Restore points that were dropped.
  returned: success
  type: list
  elements: dict
  sample: []
lines:
  description: A line for each restore point, newest first, with what becomes of it and why; then the sum of it.
  returned: success
  type: list
  elements: str
  sample: ["would drop 20261001T020000Z-ab12cd (dump, 105 kB, 52 days old): no rule keeps it"]
freed_bytes:
  description: Size of what was or would be dropped.
  returned: success
  type: int
  sample: 104998
pinned:
  description: Ids that were pinned now.
  returned: success
  type: list
  elements: str
  sample: []
unpinned:
  description: Ids whose pin was removed now.
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

import dataclasses
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._retain import retain
from ansible_collections.pgops.migrations.plugins.module_utils._retention import Rules
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

OPTIONS = ("backup_dir", "apply", "pin", "unpin", "pin_reason", "maintenance_db", "lock_wait", "run_id")


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    rules = Rules(**{field.name: module.params[field.name] for field in dataclasses.fields(Rules)})
    return retain(target, rules=rules, check_mode=module.check_mode, **{name: module.params[name] for name in OPTIONS})


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            backup_dir=dict(type="path", required=True),
            apply=dict(type="bool", default=False),
            keep_last=dict(type="int"),
            keep_days=dict(type="float"),
            keep_weekly=dict(type="int"),
            keep_monthly=dict(type="int"),
            min_redundancy=dict(type="int", default=1),
            snapshots=dict(type="bool", default=False),
            drop_damaged=dict(type="bool", default=False),
            pin=dict(type="list", elements="str", default=[]),
            unpin=dict(type="list", elements="str", default=[]),
            pin_reason=dict(type="str", default=""),
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
