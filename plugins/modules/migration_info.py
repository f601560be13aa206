#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_info
short_description: Read the state of a database's Prisma migrations
version_added: "1.0.0"
description:
  - Compares the migrations folder with the ledger C(_prisma_migrations) and gives a verdict per migration and a status per database.
  - Says what C(prisma migrate deploy) would do next, and where C(prisma migrate status) would mislead.
  - Reads only. Never creates the database, and needs no Node.js.
author:
  - pgops.migrations contributors (@pgops)
options:
  schema_digest:
    description:
      - Also read the whole schema, over the same connection, for RV(schema_digest).
      - Costs two to four times as much as all the rest, and more the more tables there are.
    type: bool
    default: false
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
"""

EXAMPLES = r"""
- name: Read the state
  pgops.migrations.migration_info:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
  register: state

- name: Show what the next deploy would do
  ansible.builtin.debug:
    msg: "{{ state.next_deploy.action }}: {{ state.pending | join(', ') }}"
"""

RETURN = r"""
status:
  description:
    - V(up_to_date), V(pending), V(blocked) (an unfinished row), V(diverged) (edited, missing or out of order),
      V(unmanaged) (tables and no ledger), V(empty) (neither), V(absent) (no such database).
  returned: success
  type: str
  sample: pending
migrations:
  description: One entry per name in the folder or the ledger, in the order of application.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the folder.
      type: str
    verdict:
      description: V(applied), V(pending), V(rolled_back) or V(unfinished).
      type: str
    substate:
      description: For V(unfinished) only, V(running), V(failed_clean), V(failed_partial), V(committed_unrecorded) or V(unknown).
      type: str
    flags:
      description: Any of V(edited), V(missing_locally), V(out_of_order), V(marked) (recorded by C(resolve --applied), never run).
      type: list
      elements: str
    rows:
      description: Number of rows of this name in the ledger.
      type: int
    started_at:
      description: Start, by the clock of the client.
      type: str
    finished_at:
      description: End, by the clock of the client.
      type: str
    rolled_back_at:
      description: When C(resolve --rolled-back) marked it.
      type: str
    seconds:
      description: Duration.
      type: float
    logs:
      description: What the server said when it failed.
      type: str
    prisma_reports_edited:
      description: Whether Prisma's own comparison, which looks at the first row of a name, calls it edited.
      type: bool
pending:
  description: Names that the next deploy would apply, in order; includes what was rolled back.
  returned: success
  type: list
  elements: str
ledger_head:
  description: Newest applied migration.
  returned: success
  type: str
server_major:
  description: Major version of the server; null where there is no such database.
  returned: success
  type: int
  sample: 16
schema_digest:
  description:
    - With O(schema_digest), SHA-256 over the definitions of all that the database's schema holds, but for owners and rights.
    - Databases that the same migrations made on servers of the same major version have the same one. Empty where it was not, or could not be read.
  returned: success
  type: str
  sample: ''
set_digest:
  description: SHA-256 over names and texts of all migrations in the folder; line endings do not count.
  returned: success
  type: str
next_deploy:
  description: What C(prisma migrate deploy) would do now.
  returned: success
  type: dict
  contains:
    action:
      description: V(nothing), V(apply), V(refuse), or V(create_database).
      type: str
    migrations:
      description: What it would apply, in order.
      type: list
      elements: str
    code:
      description: The error of Prisma's with which it would stop, after those migrations.
      type: str
    why:
      description: The reason in words.
      type: str
status_misleads:
  description: Sentences that say what C(prisma migrate status) would not say.
  returned: success
  type: list
  elements: str
schema:
  description: What the schema of the URL holds.
  returned: success
  type: dict
  contains:
    exists:
      description: Whether the schema exists.
      type: bool
    ledger_exists:
      description: Whether it has the table C(_prisma_migrations).
      type: bool
    tables:
      description: Number of ordinary tables besides the ledger.
      type: int
sessions:
  description: Sessions that hold Prisma's advisory lock or wait for it.
  returned: success
  type: dict
  contains:
    holders:
      description: Sessions that hold it.
      type: list
      elements: dict
    waiters:
      description: Sessions that wait for it.
      type: list
      elements: dict
evidence:
  description: For each unfinished migration, what its sub-state was decided from.
  returned: success
  type: dict
migrations_dir:
  description: The migrations folder that was read.
  returned: success
  type: str
code:
  description: Stable code of the error.
  returned: failure
  type: str
  sample: LEDGER_UNREADABLE
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC, project_of, survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    project, folder = project_of(module.params)
    server: dict[str, t.Any] = {"server_major": None, "schema_digest": ""}

    def look(conn: t.Any) -> None:
        server["server_major"] = conn.server_version // 10000
        if module.params["schema_digest"]:
            # Only here, for on a target each module is compiled anew in each task.
            from ansible_collections.pgops.migrations.plugins.module_utils._schema_likeness import likeness  # noqa: PLC0415

            server["schema_digest"] = likeness(conn)

    found = survey(target, project, folder, also=look)
    return dict(found.as_dict(), **server, changed=False, warnings=list(project.warnings) + list(found.report.warnings))


def main() -> None:
    spec = connection_argument_spec(**PROJECT_SPEC, schema_digest=dict(type="bool", default=False))
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True, **CONNECTION_RULES)
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
