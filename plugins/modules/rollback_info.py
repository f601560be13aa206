#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: rollback_info
short_description: Find the way back from the present state of a database
version_added: "1.0.0"
description:
  - Reads ledger, migrations folder and restore points, and says which way back there is, what it undoes and why. It changes nothing.
  - An unfinished migration must be recovered from. What is not applied needs no undoing, only to be held back.
    What is applied goes back by a snapshot, else by the newest restore point from just before, else by a reverse migration.
  - While another run is at work in the database, it says whose that is and fails at once, with C(LOCKED) or C(MIGRATION_RUNNING).
author:
  - pgops.migrations contributors (@pgops)
options:
  backup_dir:
    description: Folder of the restore points, as O(pgops.migrations.database_backup#module:backup_dir).
    type: path
    required: true
  undo:
    description:
      - Names of the migrations to undo. Those that are applied must be the newest ones.
      - Empty means all that were applied since the newest restore point that has less.
    type: list
    elements: str
    default: []
  route:
    description: The way that must be taken. One that does not fit the state is refused with C(ROLLBACK_IMPOSSIBLE).
    type: str
    choices: [auto, restore_point, snapshot, reverse, recover, hold]
    default: auto
  confirm:
    description:
      - What the operator typed. RV(confirmed) says whether it is what RV(confirmation) asks for.
      - Where it is that of a restore point whose migrations the database has, the way back was gone already, and there is nothing to undo.
    type: str
    default: ""
  maintenance_db:
    description: Database on the same server from which snapshots are looked for.
    type: str
    default: postgres
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
seealso:
  - module: pgops.migrations.database_backup_info
  - module: pgops.migrations.database_restore
  - module: pgops.migrations.migration_reverse
  - module: pgops.migrations.migration_resolve
"""

EXAMPLES = r"""
- name: Which way back is there?
  pgops.migrations.rollback_info:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    backup_dir: /var/backups/migrations
  register: way_back
"""

RETURN = r"""
route:
  description: V(restore_point), V(snapshot), V(reverse), V(recover), or V(hold) when there is nothing to undo.
  returned: success
  type: str
  sample: restore_point
why:
  description: Why this way, a few words.
  returned: success
  type: str
  sample: restore point 20261122T163000Z-ab12cd (/var/backups/migrations/microcare/20261122T163000Z-ab12cd) was taken before 20260301000000_add_bio
sentence:
  description: Way, reason and what it undoes in one line.
  returned: success
  type: str
undo:
  description: The migrations that are undone.
  returned: success
  type: list
  elements: str
hold:
  description: The migrations to hold back, so that the next deploy does not apply them.
  returned: success
  type: list
  elements: str
restore_point:
  description: The restore point to go back to; none for the other ways.
  returned: success
  type: dict
restore_point_path:
  description: Its folder, empty for a snapshot and for the other ways.
  returned: success
  type: str
from_database:
  description: The snapshot's database, empty for a dump and for the other ways.
  returned: success
  type: str
confirmation:
  description: What confirms the way back, the database's name with a run or a migration. Empty where there is nothing to undo.
  returned: success
  type: str
  sample: microcare:20261122T163000Z-ab12cd
confirmed:
  description: Whether O(confirm) is that; a blank in the place of the colon is accepted.
  returned: success
  type: bool
unconfirmed:
  description: How O(confirm) falls short where RV(confirmed) is false, such as that it names another database.
  returned: success
  type: str
  sample: not confirmed
database:
  description: Name of the database.
  returned: success
  type: str
alternatives:
  description: Other restore points that would do.
  returned: success
  type: list
  elements: str
next_older:
  description: The restore point to take where the chosen one turns out to be damaged, with C(id), C(kind) and C(place). None where there is none.
  returned: success
  type: dict
  sample: {id: 20261121T163000Z-00ff00, kind: dump, place: /var/backups/migrations/microcare/20261121T163000Z-00ff00}
status:
  description: Status of the target, as M(pgops.migrations.migration_info) names it.
  returned: success
  type: str
  sample: up_to_date
pending:
  description: What is pending.
  returned: success
  type: list
  elements: str
applied:
  description: What is applied, in the order in which it was.
  returned: success
  type: list
  elements: str
running:
  description: The session of the run that is at work, with C(run_id), C(pid), C(application_name), C(user) and C(seconds).
  returned: when it failed with C(LOCKED) or C(MIGRATION_RUNNING)
  type: dict
code:
  description: Stable code of the error; C(docs/errors.md) explains all of them.
  returned: failure
  type: str
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._rollback_state import way_back
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            backup_dir=dict(type="path", required=True),
            undo=dict(type="list", elements="str", default=[]),
            route=dict(type="str", choices=["auto", "restore_point", "snapshot", "reverse", "recover", "hold"], default="auto"),
            confirm=dict(type="str", default=""),
            maintenance_db=dict(type="str", default="postgres"),
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: way_back(target, module.params))


if __name__ == "__main__":
    main()
