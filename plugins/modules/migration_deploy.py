#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_deploy
short_description: Apply the pending Prisma migrations of a database
version_added: "1.0.0"
description:
  - Applies what is pending, and asserts from the ledger that exactly that was applied. The exit status of the Prisma CLI is not trusted.
  - Takes a lock of its own first, by polling, so that two runs never meet. The database must exist beforehand.
  - Starts no process and changes nothing when nothing is pending.
  - A failure returns what the ledger and the catalogue hold after it, with SQLSTATE and a stable code.
author:
  - pgops.migrations contributors (@pgops)
options:
  engine:
    description:
      - V(prisma) runs the Prisma CLI of the project, C(node_modules/.bin/prisma), or O(deploy_command).
      - V(direct) applies the files over psycopg2 and writes the ledger as Prisma does. It needs no Node.js.
        One file is one implicit transaction; a file with a statement that cannot run in one is run statement by statement.
    type: str
    choices: [prisma, direct]
    default: prisma
  deploy_command:
    description: The command that deploys, run in O(app_dir) without a shell, such as C(npm run db:migrate:deploy).
    type: str
  database_url_env:
    description:
      - Names of the environment variables through which the project reads its URL.
      - Empty means those that the schema and C(prisma.config.*) name, and C(DATABASE_URL).
    type: list
    elements: str
    default: []
  up_to:
    description: Name of the last migration to apply.
    type: str
  hold:
    description:
      - Names of pending migrations to leave pending, while those after them are applied.
      - One that is overtaken by a later one is out of order from then on, and O(allow) must name it when it is to be applied.
    type: list
    elements: str
    default: []
  expected:
    description: Names that an earlier check announced. Anything else pending is refused with C(LEDGER_MOVED).
    type: list
    elements: str
  allow:
    description: Names of migrations that may be edited, missing or out of order. Everything else of that kind is refused with C(HISTORY_DIVERGED).
    type: list
    elements: str
    default: []
  lock_timeout:
    description: How long a statement may wait for a lock, as PostgreSQL writes it. Empty leaves the server's own setting.
    type: str
    default: 5s
  statement_timeout:
    description: How long a statement may run. Empty leaves the server's own setting.
    type: str
    default: ''
  client_connection_check_interval:
    description:
      - How often the server looks whether the deploying client is alive; a dead client's migration is then rolled back.
      - Empty leaves the server's own setting.
    type: str
    default: 1s
  lock_wait:
    description: Seconds to wait for another run to end.
    type: int
    default: 30
  timeout:
    description: Seconds after which the deploy command and its sessions are ended. V(0) means never.
    type: int
    default: 3600
  maintenance_db:
    description: Database on the same server where the lock is taken.
    type: str
    default: postgres
  run_id:
    description: Identifies the run in C(application_name).
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Lists exactly what would be applied; connects, but runs nothing.
  diff_mode:
    support: full
    details: Shows the SQL of what is applied.
  idempotent:
    support: full
"""

EXAMPLES = r"""
- name: Apply what is pending with the project's Prisma CLI
  pgops.migrations.migration_deploy:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare

- name: The same by the project's own script, up to one migration
  pgops.migrations.migration_deploy:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    deploy_command: npm run db:migrate:deploy
    up_to: 20240301120000_add_appointments

- name: Without Node.js
  pgops.migrations.migration_deploy:
    login_host: db1
    login_user: microcare_owner
    login_password: "{{ password }}"
    login_db: microcare
    migrations_dir: /srv/microcare/prisma/migrations
    engine: direct
"""

RETURN = r"""
applied:
  description: What was applied, in order.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: Name of the migration.
      type: str
    seconds:
      description: Duration by the clock of the client.
      type: float
would_apply:
  description: What would be applied.
  returned: in check mode
  type: list
  elements: str
engine:
  description: The engine that was used.
  returned: success
  type: str
status:
  description: Status of the target after it, as M(pgops.migrations.migration_info) names it.
  returned: always
  type: str
  sample: up_to_date
status_before:
  description: Status of the target before it.
  returned: success
  type: str
ledger_head:
  description: Newest applied migration after it.
  returned: always
  type: str
ledger_head_before:
  description: Newest applied migration before it.
  returned: success
  type: str
migrations:
  description: All verdicts after it, as M(pgops.migrations.migration_info) returns them; on failure without those that are simply applied.
  returned: always
  type: list
  elements: dict
pending:
  description: What is still pending.
  returned: always
  type: list
  elements: str
held:
  description: What is pending because O(hold) names it.
  returned: success
  type: list
  elements: str
seconds:
  description: Duration of the whole deploy.
  returned: success
  type: float
output:
  description: The end of the command's output, without secrets. Empty for the engine V(direct).
  returned: success
  type: str
failed_migration:
  description: The migration that failed.
  returned: when a migration failed
  type: dict
  contains:
    name:
      description: Its name.
      type: str
    state:
      description: V(failed_clean), V(failed_partial), V(committed_unrecorded), V(running) or V(unknown).
      type: str
    sqlstate:
      description: The server's SQLSTATE.
      type: str
    error:
      description: The server's message.
      type: str
touched:
  description: Whether the deploy began and may have changed the database. Where it is false, there is nothing to roll back.
  returned: failure
  type: bool
evidence:
  description: What the state was decided from, per unfinished migration.
  returned: always
  type: dict
code:
  description: Stable code of the error.
  returned: failure
  type: str
  sample: MIGRATION_FAILED_CLEAN
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._deploy import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            engine=dict(type="str", choices=["prisma", "direct"], default="prisma"),
            deploy_command=dict(type="str"),
            database_url_env=dict(type="list", elements="str", default=[]),
            up_to=dict(type="str"),
            hold=dict(type="list", elements="str", default=[]),
            expected=dict(type="list", elements="str"),
            allow=dict(type="list", elements="str", default=[]),
            lock_timeout=dict(type="str", default="5s"),
            statement_timeout=dict(type="str", default=""),
            client_connection_check_interval=dict(type="str", default="1s"),
            lock_wait=dict(type="int", default=30),
            timeout=dict(type="int", default=3600),
            maintenance_db=dict(type="str", default="postgres"),
            run_id=dict(type="str", default=""),
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: deploy(target, module.params, module.check_mode))


if __name__ == "__main__":
    main()
