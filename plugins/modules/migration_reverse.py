#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_reverse
short_description: Write a migration that takes the schema back
version_added: "1.0.0"
description:
  - Drafts a new migration that undoes the newest applied ones, tries it on scratch databases, and writes it into the migrations folder.
    Nothing is deployed; M(pgops.migrations.migration_deploy) does that. The live database is only read.
  - The folder's migrations are applied to a scratch database, first without and then with those that are undone.
    The second state must equal the live schema, and after the draft the first; else the module refuses.
  - What was renamed or moved is known by the catalogue's own numbers of tables, columns, constraints, types, values ..., whatever statement did it,
    and is renamed back with its values. A draft that drops or misplaces what was there before is refused while there are values in it.
  - A reverse migration brings back the schema and not the data. What comes back empty, what is lost, and what was written in the meantime is named,
    with numbers of the live database. To get data back, restore it from a restore point.
  - The role must own the database and have CREATEDB, or be a superuser.
author:
  - pgops.migrations contributors (@pgops)
options:
  undo:
    description: Names of the migrations to undo. They must be the newest applied ones, with none left out.
    type: list
    elements: str
    required: true
  draft_by:
    description:
      - V(prisma) takes the draft of the project's own CLI, C(prisma migrate diff); V(catalog) drafts from the server's catalogue.
      - V(auto) takes Prisma's where the CLI can give one, it is proved, keeps all values, and nothing was renamed; else the catalogue's.
        Prisma drops and adds what was renamed, with the loss of its rows; the catalogue's draft renames it back.
    type: str
    choices: [auto, prisma, catalog]
    default: auto
  name:
    description:
      - Name of the migration. It must sort after all that are in the folder.
      - By default the time in UTC, C(_reverse_) and the name of what is undone.
    type: str
  allow_drift:
    description:
      - Go on although the live schema is not what the migrations make. The draft may then fail when it is deployed.
      - Owners, rights, comments and additional extensions never count as drift; a warning says so.
    type: bool
    default: false
  accept_unproved:
    description:
      - Write the draft although it does not bring back exactly the schema of before, or would fail on the data that is there now, or lose
        values that were there before.
      - It has to be mended by hand before it is deployed.
    type: bool
    default: false
  backup_dir:
    description:
      - Folder of the restore points, as O(pgops.migrations.database_backup#module:backup_dir). The newest one from before what is undone tells how far
        the sequences were that come back, so that they go on from there; else they go on behind the numbers that are there, or at their beginning.
    type: path
  maintenance_db:
    description: Database on the same server where the lock is taken.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run on the same database to end.
    type: int
    default: 30
  run_id:
    description: Identifies the run in C(application_name) and in the comments of the scratch databases.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Drafts and tries as always, in scratch databases, and writes no file. What would be refused is returned with RV(proved) and RV(obstacles).
  diff_mode:
    support: full
    details: Shows the text of the migration.
  idempotent:
    support: full
    details: When the newest pending migration already is the reverse of exactly this, it is returned and nothing is written.
seealso:
  - module: pgops.migrations.migration_deploy
  - module: pgops.migrations.database_restore
"""

EXAMPLES = r"""
- name: What it would take to undo the last migration
  pgops.migrations.migration_reverse:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    undo: [20260112083000_drop_patient_phone]
  check_mode: true
  diff: true
  register: preview

- name: Write it
  pgops.migrations.migration_reverse:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    undo: [20260112083000_drop_patient_phone]
  register: reverse

- name: Deploy it
  pgops.migrations.migration_deploy:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    expected: ["{{ reverse.name }}"]
"""

RETURN = r"""
name:
  description: Name of the migration.
  returned: success, and with C(REVERSE_UNPROVED)
  type: str
  sample: 20261122170000_reverse_drop_patient_phone
path:
  description: Its file.
  returned: success, and with C(REVERSE_UNPROVED)
  type: str
sql:
  description: Its text.
  returned: success, and with C(REVERSE_UNPROVED)
  type: str
undone:
  description: What it undoes, the newest first.
  returned: success, and with C(REVERSE_UNPROVED)
  type: list
  elements: str
drafted_by:
  description: V(prisma) or V(catalog).
  returned: success, and with C(REVERSE_UNPROVED)
  type: str
trials:
  description: Why another draft was not taken, as sentences.
  returned: success, and with C(REVERSE_UNPROVED)
  type: list
  elements: str
proved:
  description:
    - Whether the schema was that of before when the draft had been applied to a scratch database.
    - The order of the columns does not count, because no statement can restore it; where it changed, it is among RV(differences).
  returned: success, and with C(REVERSE_UNPROVED)
  type: bool
differences:
  description: What is not as before, each with C(kind), C(object), C(before), C(after) and C(text).
  returned: success, and with C(REVERSE_UNPROVED)
  type: list
  elements: dict
stuck:
  description: Statements of the draft that could not be run, with the server's error.
  returned: success, and with C(REVERSE_UNPROVED)
  type: list
  elements: dict
obstacles:
  description: Those of RV(notes) that make the migration fail on the data that is there now, or lose values that were there before.
  returned: success, and with C(REVERSE_UNPROVED)
  type: list
  elements: dict
notes:
  description: What the migration does to data and cannot bring back, also in the head of its file.
  returned: success, and with C(REVERSE_UNPROVED)
  type: list
  elements: dict
  contains:
    kind:
      description: V(comes_back_empty), V(is_lost), V(needs_data), V(data_not_undone), V(converted) or V(not_drafted).
      type: str
    object:
      description: The table, column, constraint ... that it is about.
      type: str
    text:
      description: One sentence.
      type: str
    count:
      description: Number of rows or values in the live database that are concerned, where it was counted.
      type: int
    blocks:
      description: Whether the migration would fail, or lose values that were there before, because of it, or nobody knows that it would not.
      type: bool
drift:
  description: Differences between the live schema and what the migrations make.
  returned: success, and with C(SCHEMA_DRIFT)
  type: list
  elements: dict
code:
  description: Stable code of the error; C(docs/errors.md) explains all of them.
  returned: failure
  type: str
  sample: REVERSE_UNPROVED
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._reverse import reverse
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            undo=dict(type="list", elements="str", required=True),
            draft_by=dict(type="str", choices=["auto", "prisma", "catalog"], default="auto"),
            name=dict(type="str"),
            allow_drift=dict(type="bool", default=False),
            accept_unproved=dict(type="bool", default=False),
            backup_dir=dict(type="path"),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            run_id=dict(type="str", default=""),
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: reverse(target, module.params, module.check_mode))


if __name__ == "__main__":
    main()
