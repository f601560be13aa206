#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_recovery_info
short_description: Find out what unfinished Prisma migrations left behind
version_added: "1.0.0"
description:
  - Says for each unfinished migration whether it runs, left nothing, left a part, or was committed and not recorded, and from which evidence.
  - There are two kinds of evidence, the transactions of the server and the schema. Where both speak, they must agree. What is not proved is V(unknown).
  - For the schema, the applied migrations and then the unfinished one, step by step, are replayed into a scratch database,
    and the live schema is compared with that after each step. That is done with O(replay) only.
  - An object that is older than the migration proves nothing of it. Where data statements do not show in the schema, what the migration made must be
    younger than the ledger's row, and each data step is proved by rows of its transaction, else by O(assert_sql).
    What others change by hand after it had ended is not told from its own work, so look before you mend.
  - The live database is read and never written. With O(replay), a scratch database without the live one's rows is made on the same server and
    dropped again, also in check mode. What the scripts do besides would happen once more,
    so scripts that reach beyond their database (roles, other servers, files) are not replayed.
  - While the scratch database exists, the server gives out transaction ids, so the evidence by transactions may say less afterwards.
author:
  - pgops.migrations contributors (@pgops)
options:
  migration:
    description: Only this one. O(assert_sql) needs it when several migrations are unfinished.
    type: str
  replay:
    description: Make a scratch database on the server for the evidence by the schema. Needs the right to create databases.
    type: bool
    default: false
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.recovery
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
"""

EXAMPLES = r"""
- name: What did the migration leave?
  pgops.migrations.migration_recovery_info:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    replay: true
  register: recovery

- name: One with a data part
  pgops.migrations.migration_recovery_info:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    migration: 20240301120000_fill_names
    assert_sql: SELECT NOT EXISTS (SELECT FROM patients WHERE name IS NULL)
    replay: true
"""

RETURN = r"""
migrations:
  description: One entry per unfinished migration, in the order of application.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the migration.
      type: str
    state:
      description: V(running), V(failed_clean), V(failed_partial), V(committed_unrecorded) or V(unknown).
      type: str
    reason:
      description: Why, in one sentence.
      type: str
    resolve:
      description: The O(pgops.migrations.migration_resolve#module:state) that is proved, if one is.
      type: str
    by_transactions:
      description: State and reason by the transactions of the server alone.
      type: dict
    by_schema:
      description:
        - State and reason by the schema alone. C(points) are the steps after which the migration can have stopped, of C(steps).
        - C(there), C(missing) and C(other) are its effects; C(drift) is what differs from the replayed history and is not the migration's.
      type: dict
    invalid_indexes:
      description: Invalid indexes that the migration names.
      type: list
      elements: str
    not_valid_constraints:
      description: Constraints that are NOT VALID and that the migration names.
      type: list
      elements: str
    scripts:
      description: For V(failed_partial), by C(before) and C(after), the SQL that leads there, what it loses, and whether it was proved on a copy of
        the schema. The one to V(after) runs the data statements that are left, or has no SQL and says why.
      type: dict
status:
  description: Status of the target, as M(pgops.migrations.migration_info) names it.
  returned: success
  type: str
code:
  description: Stable code of the error.
  returned: failure
  type: str
  sample: LOCKED
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_facts import RECOVERY_SPEC
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_report import report
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            migration=dict(type="str"),
            replay=dict(type="bool", default=False),
            **RECOVERY_SPEC,
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: report(target, module.params))


if __name__ == "__main__":
    main()
