#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_resolve
short_description: Record an unfinished Prisma migration as applied or rolled back, where that is proved
version_added: "1.0.0"
description:
  - Writes the ledger exactly as C(prisma migrate resolve) does, and needs no Node.js.
  - Demands proof first, as M(pgops.migrations.migration_recovery_info) describes it. V(applied) needs a migration that was committed and not recorded,
    V(rolled_back) one that left nothing behind. For all others it stops, unless told otherwise by O(run_script) or O(require_proof).
  - Holds the collection's lock and Prisma's own. Ledger and script are written in one transaction.
  - A ledger that changed since it was looked at is refused with C(LEDGER_MOVED).
author:
  - pgops.migrations contributors (@pgops)
options:
  migration:
    description: Name of the migration.
    type: str
    required: true
  state:
    description:
      - V(applied) marks the unfinished rows as rolled back and adds a finished one, as C(resolve --applied).
      - V(rolled_back) marks the unfinished rows as rolled back, so the next deploy runs the migration again, as C(resolve --rolled-back).
    type: str
    required: true
    choices: [applied, rolled_back]
  replay:
    description:
      - Make a scratch database on the server for the evidence by the schema, also in check mode. It is dropped again; the live one is only read for it.
      - Without it only the transactions of the server are evidence.
    type: bool
    default: true
  require_proof:
    description: V(false) records the state without proof. It needs O(confirm), and the result says C(proved=false). A migration that runs is never resolved.
    type: bool
    default: true
  run_script:
    description:
      - For a half-applied migration, run the script that leads to V(before) it (with O(state=rolled_back)) or to V(after) it (with O(state=applied)).
      - It must be proved on a copy of the live schema, is run in one transaction, and is looked at once more before that is committed. It needs O(confirm).
      - Check mode needs no O(confirm). It returns the script, what it loses, and the text to confirm with.
    type: str
    choices: [none, before, after]
    default: none
  confirm:
    description: The name of the database, a colon (or a blank) and the name of the migration.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.recovery
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Decides as the real run does, with a scratch database that is dropped again, and writes nothing.
  diff_mode:
    support: full
    details: Shows the rows of the ledger and the script.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: The client died after the commit; record the migration as applied, if that is so
  pgops.migrations.migration_resolve:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    migration: 20240301120000_add_appointments
    state: applied

- name: Take a half-applied migration back and mark it, so that the mended one can be deployed
  pgops.migrations.migration_resolve:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    migration: 20240301120000_add_appointments
    state: rolled_back
    run_script: before
    confirm: microcare:20240301120000_add_appointments
"""

RETURN = r"""
migration:
  description: Name of the migration.
  returned: success
  type: str
resolved_to:
  description: The state that was (or in check mode would be) recorded; the verdict of the ledger when there was nothing to do.
  returned: success
  type: str
proved:
  description: Whether what was recorded is proved. Null when there was nothing to do.
  returned: success
  type: bool
recovery:
  description: What the migration left behind and the evidence for it, as M(pgops.migrations.migration_recovery_info) returns it.
  returned: always
  type: dict
script:
  description:
    - The script of O(run_script) that was run, or in check mode would be. Null when there was none to run.
    - C(leads_to) is V(before) or V(after), C(sql) its text, C(loses) what it cannot bring back, one sentence each.
    - C(proved), C(why) and C(transactional) are as in RV(scripts).
  returned: success
  type: dict
script_ran:
  description: Which script was run and committed together with the ledger, V(before), V(after) or V(none). Always V(none) in check mode.
  returned: success
  type: str
  sample: before
confirmation:
  description: The text to confirm the script or the unproved record with. Null when nothing needs one.
  returned: success, and where the confirmation or the proof is missing
  type: str
  sample: microcare:20240301120000_add_appointments
scripts:
  description:
    - For a half-applied migration, by C(before) and C(after), the SQL that leads there, what it loses, and whether it was proved on a copy of the schema.
  returned: failure
  type: dict
status:
  description: Status of the target after it, as M(pgops.migrations.migration_info) names it; in check mode the present one.
  returned: always
  type: str
migrations:
  description: All verdicts after it, as M(pgops.migrations.migration_info) returns them.
  returned: always
  type: list
  elements: dict
prisma_code:
  description: The code with which Prisma's CLI refuses the same.
  returned: when it does
  type: str
code:
  description: Stable code of the error.
  returned: failure
  type: str
  sample: RECOVERY_UNPROVED
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_facts import RECOVERY_SPEC
from ansible_collections.pgops.migrations.plugins.module_utils._resolve import resolve
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            migration=dict(type="str", required=True),
            state=dict(type="str", required=True, choices=["applied", "rolled_back"]),
            replay=dict(type="bool", default=True),
            require_proof=dict(type="bool", default=True),
            run_script=dict(type="str", choices=["none", "before", "after"], default="none"),
            confirm=dict(type="str", default=""),
            **RECOVERY_SPEC,
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: resolve(target, module.params, module.check_mode))


if __name__ == "__main__":
    main()
