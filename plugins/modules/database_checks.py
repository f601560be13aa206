#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_checks
short_description: Ask a database the questions of a migration checklist
version_added: "1.0.0"
description:
  - Runs named checks after a deploy, each with a verdict, one sentence, and the evidence for it. The names are stable.
  - A check that fails does not fail the module; the role C(verification) and your playbook decide by RV(failing).
  - Nothing in the database is changed. Smoke scripts run in a transaction that is rolled back (numbers that a sequence gave out stay used),
    and C(drift) and C(prisma_diff) make a scratch database and drop it.
author:
  - pgops.migrations contributors (@pgops)
options:
  checks:
    description:
      - Which checks to run.
      - V(ledger), the ledger holds what the folder holds, finished, unchanged and in order.
      - V(drift), the live schema is the one that the applied migrations make in an empty database. Needs CREATEDB.
      - V(prisma_diff), the project's own Prisma CLI (4 to 7, C(migrate diff --exit-code)) finds nothing in the live schema that is neither
        in C(schema.prisma) nor made by the applied migrations. Needs Node.js, and CREATEDB where the two differ. Not among the default checks, because
        it starts a CLI that takes seconds, and V(drift) sees more of the schema; what it adds is a C(schema.prisma) with more than the
        migrations make, of which it warns.
      - V(invalid_indexes), none was left half built, and each of a partitioned table is on all of its partitions.
      - V(foreign_keys), all are validated, and no row refers to nothing. Reads every table with a foreign key.
      - V(check_constraints), all are validated, C(NOT NULL) among them, and no row violates one that is not or that calls a function.
      - V(sequences), each is ahead of the column that it fills, and not at its end.
      - V(disabled_triggers), every trigger fires, those of foreign keys among them.
      - V(shadow_databases), no shadow database of Prisma was left on the server; warns.
      - V(deploy_time), the deploy took no longer than O(max_deploy_seconds).
      - V(blocking_time), no session waited for the migrations longer than O(max_blocking_seconds).
      - V(table_rewrites), no table got a new file; warns.
      - V(index_build_time), no index took longer to build than O(max_index_seconds); warns.
      - V(growth), size and WAL; evidence only.
      - V(application_role), O(application_url) logs in to this very database, and may read every table and view of its schema.
      - V(smoke_sql), V(custom), V(smoke_commands), V(http), your own; see the options.
    type: list
    elements: str
    choices:
      - ledger
      - drift
      - prisma_diff
      - invalid_indexes
      - foreign_keys
      - check_constraints
      - sequences
      - disabled_triggers
      - shadow_databases
      - deploy_time
      - blocking_time
      - table_rewrites
      - index_build_time
      - growth
      - application_role
      - smoke_sql
      - custom
      - smoke_commands
      - http
    default:
      - ledger
      - drift
      - invalid_indexes
      - foreign_keys
      - check_constraints
      - sequences
      - disabled_triggers
      - shadow_databases
      - deploy_time
      - blocking_time
      - table_rewrites
      - index_build_time
      - growth
      - application_role
      - smoke_sql
      - custom
      - smoke_commands
      - http
  tolerate:
    description: Checks whose failure shall only warn.
    type: list
    elements: str
    default: []
  before:
    description:
      - The fingerprint from before the deploy, a file of M(pgops.migrations.database_fingerprint) or a restore point's C(manifest.json).
      - Triggers that it knows as disabled only warn; a table that it does not know is new, and must be readable by the application.
    type: path
  earlier:
    description:
      - RV(checks) of a run of this module from before the deploy.
      - A check that finds nothing but what it found then only warns, because going back would not mend it.
    type: list
    elements: dict
    default: []
  known_invalid_indexes:
    description: Invalid indexes from before, as M(pgops.migrations.database_info) names them; they only warn.
    type: list
    elements: str
    default: []
  deploy:
    description: The result of M(pgops.migrations.migration_deploy).
    type: dict
    default: {}
  max_deploy_seconds:
    description: Budget for all migrations together, in seconds; V(0) for none.
    type: float
    default: 300
  max_blocking_seconds:
    description: Longest time that another session may have waited for the migrations, in seconds; V(0) for none.
    type: float
    default: 5
  max_index_seconds:
    description: Longest time that the build of an index may take, in seconds; V(0) for none.
    type: float
    default: 0
  timeout:
    description:
      - Seconds for one statement of a check. What needs longer is named and not looked at; after three of them the check asks the rows nothing more.
      - Where nothing else is found, such a check is skipped, and says so.
    type: float
    default: 60
  smoke_sql:
    description:
      - SQL files that must run without an error. They run in a transaction that is rolled back, and may not begin or end one.
      - Deferred constraints are checked at the end. Names without a schema are looked for in that of the URL first.
    type: list
    elements: path
    default: []
  smoke_sql_dir:
    description: A folder with more of them, C(*.sql), in the order of their names.
    type: path
  custom_sql:
    description:
      - SQL files whose last query must return no row; each row is a violation. They can read only.
      - The number of rows is kept, and not the rows.
    type: list
    elements: path
    default: []
  custom_sql_dir:
    description: A folder with more of them, C(*.sql), in the order of their names.
    type: path
  smoke_commands:
    description:
      - Programs on this host that must end with exit code 0, such as C(npm test). The end of their output is kept.
      - They find the database in C(DATABASE_URL). What they do to it is theirs.
    type: list
    elements: dict
    default: []
    suboptions:
      name:
        description: What to call it; its first word by default.
        type: str
      argv:
        description: The program and its arguments, in one line. No shell reads it.
        type: str
        required: true
      chdir:
        description: Folder to run it in.
        type: path
      timeout:
        description: Seconds after which it is ended.
        type: float
        default: 600
  http_probes:
    description: Addresses that must answer.
    type: list
    elements: dict
    default: []
    suboptions:
      url:
        description: The address. What follows a question mark is not shown.
        type: str
        required: true
      status:
        description: The status that is wanted.
        type: int
        default: 200
      contains:
        description: Regular expression that the answer must hold.
        type: str
      timeout:
        description: Seconds to wait.
        type: float
        default: 10
  application_url:
    description: The database as the application has it, a Prisma URL.
    type: str
  maintenance_db:
    description: Database on the same server where the lock for the scratch database is taken.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another run against this database to end.
    type: int
    default: 30
  run_id:
    description: Id of the run; stands in the names of our sessions.
    type: str
    default: ""
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Leaves out what is more than reading, C(drift), C(prisma_diff) and your own scripts, programs and probes.
  diff_mode:
    support: N/A
    details: Nothing is changed.
  idempotent:
    support: full
seealso:
  - module: pgops.migrations.database_fingerprint
"""

EXAMPLES = r"""
- name: Check a database after a deploy
  pgops.migrations.database_checks:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    smoke_commands:
      - argv: npm test
        chdir: /srv/microcare
    http_probes:
      - url: https://microcare.example.org/health
        contains: ok
  register: checks

- name: Stop where one failed
  ansible.builtin.assert:
    that: checks.failing | length == 0
    fail_msg: "{{ checks.text }}"
"""

RETURN = r"""
verdict:
  description: V(fail) when one failed, V(warn) when one warned, else V(pass).
  returned: success
  type: str
  sample: fail
text:
  description: All of it in one line.
  returned: success
  type: str
  sample: "1 of 13 checks failed: sequences: 1 sequence is behind: public.users_id_seq (next 4, in public.users.id up to 20)."
failing:
  description: Names of those that failed.
  returned: success
  type: list
  elements: str
checks:
  description: One entry per check, in the order of O(checks).
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Stable name.
      type: str
    verdict:
      description: V(pass), V(fail), V(warn) or V(skipped).
      type: str
    text:
      description: One sentence; for V(skipped) the reason.
      type: str
    evidence:
      description: What the verdict rests on, at most 500 entries. No row of the application, but the keys of broken references.
      type: list
      elements: dict
    count:
      description: Number of all entries of evidence.
      type: int
    limit:
      description: The threshold, where there is one.
      type: raw
    seconds:
      description: Duration of the check.
      type: float
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
from ansible_collections.pgops.migrations.plugins.module_utils import _fingerprint_file
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._check import summary
from ansible_collections.pgops.migrations.plugins.module_utils._checks import DEFAULT, NAMES, CheckOptions, run_checks
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """Run the checks, and sum them up."""
    params = module.params
    same = (
        "earlier", "known_invalid_indexes", "deploy", "max_deploy_seconds", "max_blocking_seconds", "max_index_seconds", "timeout", "smoke_sql",
        "custom_sql", "smoke_commands", "http_probes", "maintenance_db", "lock_wait", "run_id",
    )  # fmt: skip
    options = CheckOptions(
        wanted=params["checks"],
        tolerated=params["tolerate"],
        project={name: params[name] for name in PROJECT_SPEC},
        before=_fingerprint_file.load(params["before"]) if params["before"] else None,
        smoke_sql_dir=params["smoke_sql_dir"] or "",
        custom_sql_dir=params["custom_sql_dir"] or "",
        application_url=params["application_url"] or "",
        **{name: params[name] for name in same},
    )
    return dict(changed=False, **summary(run_checks(target, options, module.check_mode)))


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            checks=dict(type="list", elements="str", choices=list(NAMES), default=list(DEFAULT)),
            tolerate=dict(type="list", elements="str", default=[]),
            before=dict(type="path"),
            earlier=dict(type="list", elements="dict", default=[]),
            known_invalid_indexes=dict(type="list", elements="str", default=[]),
            deploy=dict(type="dict", default={}),
            max_deploy_seconds=dict(type="float", default=300),
            max_blocking_seconds=dict(type="float", default=5),
            max_index_seconds=dict(type="float", default=0),
            timeout=dict(type="float", default=60),
            smoke_sql=dict(type="list", elements="path", default=[]),
            smoke_sql_dir=dict(type="path"),
            custom_sql=dict(type="list", elements="path", default=[]),
            custom_sql_dir=dict(type="path"),
            smoke_commands=dict(
                type="list",
                elements="dict",
                default=[],
                options=dict(name=dict(type="str"), argv=dict(type="str", required=True), chdir=dict(type="path"), timeout=dict(type="float", default=600)),
            ),
            http_probes=dict(
                type="list",
                elements="dict",
                default=[],
                options=dict(
                    url=dict(type="str", required=True), status=dict(type="int", default=200), contains=dict(type="str"), timeout=dict(type="float", default=10)
                ),
            ),
            application_url=dict(type="str", no_log=True),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            run_id=dict(type="str", default=""),
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
