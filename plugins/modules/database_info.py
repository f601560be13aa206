#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_info
short_description: Read what decides whether a run on a database may begin
version_added: "1.0.0"
description:
  - Which database on which server this is, who is connected, what stands in the way of a restore, and what the role may do.
  - Never changes anything. A database that does not exist is the error DATABASE_MISSING.
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
author:
  - pgops.migrations contributors (@pgops)
"""

EXAMPLES = r"""
- name: Look before anything is touched
  pgops.migrations.database_info:
    database_url: "{{ migration_database_url }}"
  register: database

- name: Demand the primary, without a pooler in between
  ansible.builtin.assert:
    that:
      - database.primary
      - database.proxy.verdict != 'certain'
"""

RETURN = r"""
exists:
  description: True, for a database that does not exist is an error.
  returned: success
  type: bool
  sample: true
identity:
  description: Which database on which cluster this is.
  returned: success
  type: dict
  sample:
    {system_identifier: "7301234567890123456", database: app, database_oid: 16384, owner: app, server_version_num: 170010, server_version: "17.10",
     in_recovery: false, read_only: false, encoding: UTF8, collate: C, ctype: C, size_bytes: 8000000, current_user: app, superuser: false, lsn: 0/1A2B3C4}
primary:
  description: Whether the server is no standby.
  returned: success
  type: bool
  sample: true
sessions:
  description: Other clients' sessions in this database; C(unknown) are those whose state the role may not see.
  returned: success
  type: dict
  sample: {client: 3, active: 1, idle_in_transaction: 0, unknown: 0}
connection_slots:
  description: The limits of the server, the role (C(-1) is none) and the database (the same), and how many more sessions the role can open.
  returned: success
  type: dict
  sample: {max: 100, reserved: 3, used: 12, role_limit: -1, database_limit: -1, free: 85}
prepared_transactions:
  description: Prepared transactions of this database, oldest first. They hold locks, and no database with one can be renamed.
  returned: success
  type: list
  elements: dict
  sample: [{gid: tx-1, owner: app, seconds: 3600}]
logical_slots:
  description: Logical replication slots of this database. They stay with the database that is moved away.
  returned: success
  type: list
  elements: dict
  sample: [{name: cdc, plugin: pgoutput, active: true, temporary: false}]
subscriptions:
  description: Subscriptions of this database, or null when the role may not see them.
  returned: success
  type: list
  elements: dict
  sample: []
migration_sessions:
  description: Sessions that hold or wait for the lock that Prisma takes while it migrates; holders first. Times are seconds since the session began, and UTC.
  returned: success
  type: list
  elements: dict
  sample:
    - {pid: 4711, granted: true, application_name: "", user: app, state: active, seconds: 12, query_start: "2026-01-01T12:00:00Z"}
proxy:
  description: >-
    Whether something stands between the host and the server: verdict C(none), C(possible) (only addresses differ, which a network does as well)
    or C(certain), and the evidence.
  returned: success
  type: dict
  sample: {verdict: none, evidence: []}
rollback_obstacles:
  description: Why this database could not be swapped with a restored one now, as sentences. Empty when it could.
  returned: success
  type: list
  elements: str
  sample: []
invalid_indexes:
  description: Indexes that a failed C(CREATE INDEX CONCURRENTLY) left and that no query uses.
  returned: success
  type: list
  elements: str
  sample: []
unvalidated_constraints:
  description: Constraints that existing rows were never checked against (C(NOT VALID)), with their table.
  returned: success
  type: list
  elements: str
  sample: []
privileges:
  description: What the role may do; C(schema) is the one of the URL.
  returned: success
  type: dict
  sample:
    {schema_exists: true, create_in_schema: true, create_schema: true, createdb: true, owner: true, signal_sessions: true, see_sessions: false,
     bypass_row_security: false}
code:
  description: Stable code of the error; C(docs/errors.md) explains all of them.
  returned: failure
  type: str
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._database_facts import gather
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._obstacles import invalid_objects, rollback_obstacles
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(target: Target) -> dict[str, t.Any]:
    with connection(target, read_only=True) as conn:
        return dict(gather(conn, target), rollback_obstacles=rollback_obstacles(conn), **invalid_objects(conn), changed=False)


def main() -> None:
    run(AnsibleModule(argument_spec=connection_argument_spec(), supports_check_mode=True, **CONNECTION_RULES), work)


if __name__ == "__main__":
    main()
