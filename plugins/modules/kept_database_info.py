#!/usr/bin/python

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: kept_database_info
short_description: List the databases that this collection made beside a database
version_added: "1.0.0"
description:
  - A rollback never drops what it replaces, it keeps the database under another name. This lists such databases, with their age and size.
  - Snapshots are listed, too, and what a run that was killed left behind (staging and scratch databases; the next run drops those).
  - They are known by their comment, whatever their name is. A comment counts only on a database that belongs to the owner of the
    database itself, to the connecting role or to a superuser.
author:
  - pgops.migrations contributors (@pgops)
options:
  max_age:
    description: Databases older than so many days are marked as expired. Nothing is dropped.
    type: float
  maintenance_db:
    description: Database on the same server to ask in, so that this works while the database itself is missing.
    type: str
    default: postgres
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
seealso:
  - module: pgops.migrations.kept_database
  - module: pgops.migrations.database_restore
"""

EXAMPLES = r"""
- name: What lies beside the database
  pgops.migrations.kept_database_info:
    database_url: "{{ migration_database_url }}"
    max_age: 14
  register: beside

- name: Say what may go
  ansible.builtin.debug:
    msg: "{{ beside.databases | selectattr('kind', 'equalto', 'kept') | selectattr('expired') | map(attribute='confirmation') }}"
"""

RETURN = r"""
databases:
  description: The databases, by name.
  returned: success
  type: list
  elements: dict
  sample:
    - name: microcare__kept_20261122t170000z_12ab34
      oid: 24601
      kind: kept
      size_bytes: 1073741824
      run_id: 20261122T165900Z-00aa11
      at: "2026-11-22T17:00:00Z"
      age_seconds: 86400
      age_days: 1.0
      open: false
      expired: false
      confirmation: microcare__kept_20261122t170000z_12ab34:20261122T165900Z-00aa11
  contains:
    name:
      description: Name of the database.
      type: str
    oid:
      description: OID of the database, which a new database of the same name would not have.
      type: int
    kind:
      description: >-
        V(kept), V(snapshot), V(staging) or V(scratch). V(leftover) is a database whose run was killed before it was marked,
        or whose DROP DATABASE was interrupted; it is of no use, and nothing here drops it.
      type: str
    size_bytes:
      description: Its size; null where the role may not ask for it.
      type: int
    run_id:
      description: The run that made it; empty where it had none.
      type: str
    at:
      description: When it was made, in UTC.
      type: str
    age_seconds:
      description: Its age by the server's clock; null where the marker does not say when it was made.
      type: int
    age_days:
      description: The same in days.
      type: float
    open:
      description: Whether connections are allowed. A kept database is closed.
      type: bool
    expired:
      description: Whether it is older than O(max_age).
      type: bool
    confirmation:
      description: What M(pgops.migrations.kept_database) wants as confirmation; empty for other kinds.
      type: str
size_bytes:
  description: Size of all of them, as far as it is known.
  returned: success
  type: int
  sample: 1073741824
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
from ansible_collections.pgops.migrations.plugins.module_utils._kept import list_all
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """The list, and its sum."""
    found = list_all(target, module.params["maintenance_db"], module.params["max_age"])
    return {"changed": False, "databases": found, "size_bytes": sum(entry["size_bytes"] or 0 for entry in found)}


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            max_age=dict(type="float"),
            maintenance_db=dict(type="str", default="postgres"),
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
