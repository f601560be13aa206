#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kept_database
short_description: Save the rows of a database that a rollback replaced, or drop it
version_added: "1.0.0"
description:
  - A rollback keeps what it replaces under another name, closed. It is the only copy of what was written between the restore point and the rollback.
  - V(salvaged) writes the rows that the live database does not have into files, one or two per table. Neither database is changed.
  - V(absent) drops exactly one kept database, by name and OID, and only when it is confirmed.
  - Databases without this collection's marker of a kept database of the same target are refused.
author:
  - pgops.migrations contributors (@pgops)
options:
  name:
    description: Name of the kept database.
    type: str
    required: true
  oid:
    description: Its OID, as M(pgops.migrations.kept_database_info) shows it, so that no other database of the same name can be meant.
    type: int
    required: true
  state:
    description:
      - V(absent) drops it. Sessions in it refuse that; nobody is thrown out.
      - V(salvaged) writes its rows into O(salvage_dir).
    type: str
    choices: [absent, salvaged]
    required: true
  confirm:
    description:
      - For O(state=absent) the kept database's name, a colon or a blank, and the id of the run that kept it (its OID where it had none).
      - Anything else is refused with the text to type. Not needed in check mode.
    type: str
    default: ''
  salvage_dir:
    description:
      - Folder for the rows, on the host that the module runs on. It is made, with mode 0700, and must not exist, except with this same salvage in it.
      - It gets the files, C(index.json) with their rows and SHA-256, C(README.txt), and psql scripts that load them in the order of the foreign keys.
    type: path
  format:
    description:
      - V(copy) is COPY text, which psql loads fastest.
      - V(sql) is one INSERT a row.
    type: str
    choices: [copy, sql]
    default: copy
  tables:
    description: Only these tables, with their schema, quoted as PostgreSQL would do it. All by default.
    type: list
    elements: str
  maintenance_db:
    description: Database on the same server where the lock is taken.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run on the same database to end.
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
    details: Says whether it would be dropped or salvaged, reads no rows and writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A database that is gone is no change, nor is a salvage that is there and intact.
notes:
  - A row is known by the table's primary key, else by a unique key of columns that are never NULL; without one, whole rows are compared.
  - A table whose key can be equal and written differently (numeric, citext, character without a length, a collation that
    ignores case, WITHOUT OVERLAPS) is compared by whole rows.
  - While it connects, V(salvaged) lets the database accept connections, but not from PUBLIC; a run that is killed in that moment is put right by the next.
seealso:
  - module: pgops.migrations.kept_database_info
  - module: pgops.migrations.database_restore
"""

EXAMPLES = r"""
- name: Save what was written between the restore point and the rollback
  pgops.migrations.kept_database:
    database_url: "{{ migration_database_url }}"
    name: microcare__kept_20261122t170000z_12ab34
    oid: 24601
    state: salvaged
    salvage_dir: /var/backups/migrations/microcare-salvage

- name: Drop it
  pgops.migrations.kept_database:
    database_url: "{{ migration_database_url }}"
    name: microcare__kept_20261122t170000z_12ab34
    oid: 24601
    state: absent
    confirm: microcare__kept_20261122t170000z_12ab34:20261122T165900Z-00aa11
"""

RETURN = r"""
database:
  description: What was dropped, or would be, as M(pgops.migrations.kept_database_info) shows it; null when it was gone.
  returned: O(state=absent)
  type: dict
  sample: {name: microcare__kept_20261122t170000z_12ab34, oid: 24601, kind: kept, size_bytes: 1073741824}
salvage_dir:
  description: The folder with the files.
  returned: O(state=salvaged)
  type: str
  sample: /var/backups/migrations/microcare-salvage
tables:
  description: The tables of which rows were written, in the order of loading. Empty in check mode.
  returned: O(state=salvaged)
  type: list
  elements: dict
  sample:
    - {table: public.users, added: 3, changed: 12, keyed: true}
  contains:
    table:
      description: Name of the table.
      type: str
    added:
      description: Rows that only the kept database has.
      type: int
    changed:
      description: Rows whose key is in both, with other content.
      type: int
    keyed:
      description: Whether rows were told apart by a key.
      type: bool
rows_added:
  description: Sum over all tables; null in check mode.
  returned: O(state=salvaged)
  type: int
  sample: 3
rows_changed:
  description: Sum over all tables; null in check mode.
  returned: O(state=salvaged)
  type: int
  sample: 12
confirmation:
  description: The text to type.
  returned: with C(CONFIRMATION_MISSING)
  type: str
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
from ansible_collections.pgops.migrations.plugins.module_utils._kept import KeptOptions, drop
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._salvage import salvage
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """The options as KeptOptions, and the work."""
    names = [field.name for field in dataclasses.fields(KeptOptions)]
    options = KeptOptions(**{name: module.params[name] for name in names if module.params[name] is not None})
    return (drop if module.params["state"] == "absent" else salvage)(target, options, module.check_mode)


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            name=dict(type="str", required=True),
            oid=dict(type="int", required=True),
            state=dict(type="str", choices=["absent", "salvaged"], required=True),
            confirm=dict(type="str", default=""),
            salvage_dir=dict(type="path"),
            format=dict(type="str", choices=["copy", "sql"], default="copy"),
            tables=dict(type="list", elements="str"),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            run_id=dict(type="str", default=""),
        ),
        required_if=[("state", "salvaged", ["salvage_dir"])],
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
