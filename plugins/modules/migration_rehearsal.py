#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_rehearsal
short_description: Deploy the pending migrations to a copy of the database, go back, and certify it
version_added: "1.0.0"
description:
  - Makes a scratch copy on the same server, proves that it is the present state, deploys what is pending, compares the fingerprints, runs the checks,
    goes back by the way that a rollback would take, and proves that the fingerprint is the one from before. The copy is dropped whatever happened.
  - Reads and writes every table of the copy meanwhile, so that what users would feel is known, and measures each statement.
  - A rehearsal that passed leaves a certificate of exactly this migration set on exactly this state, which C(production_migrate.yml) demands. One that
    fails withdraws the earlier certificate.
  - The live database is only read. While the Prisma CLI is at work on the copy, Prisma's own lock is held in the live database, so a project that takes its
    URL from elsewhere cannot migrate that one by mistake.
  - The role must have CREATEDB and be a member of the roles that own the objects; or be a superuser.
author:
  - pgops.migrations contributors (@pgops)
options:
  certificate_dir:
    description: Folder of the certificates on the host that runs the module, an absolute path or one that begins with C(~).
    type: path
    required: true
  source:
    description:
      - V(restore_point) restores a dump, which is proved by it; the database stays in use.
      - V(template) lets the server copy the files of the live database; nobody may be connected to that meanwhile.
    type: str
    choices: [restore_point, template]
    default: restore_point
  backup_dir:
    description: Folder of the restore points, on the host that runs the module. Required with O(source=restore_point).
    type: path
  restore_point:
    description: Id or folder of a restore point. Empty means the newest usable dump, in check mode V(new) one
      that is taken first. It must hold the present ledger and schema.
    type: str
    default: ''
  elsewhere_url:
    description:
      - URL of any database on another server, where the copy is made instead. Its role needs CREATEDB there, and the roles that own the objects must exist.
      - The server must be of the same major version. Not with O(source=template).
    type: str
  max_age:
    description:
      - Accept the certificate of an earlier rehearsal of the same, from the same restore point, that is not older than so many hours.
      - V(0) always rehearses.
    type: float
    default: 24
  sign_with:
    description: Full fingerprint of the gpg key that signs the certificate. Empty means no signature.
    type: str
    default: ''
  gpg_home:
    description: Folder of the gpg keyring that signs, and that opens an encrypted restore point. Empty means the user's own.
    type: path
  identity_file:
    description: File with the age identity that opens an encrypted restore point.
    type: path
  masking:
    description: SQL files that are run on the copy, each in one transaction, before anything else is done with it; nobody else can connect before and after.
    type: list
    elements: path
    default: []
  scale:
    description:
      - How many times the rows of the copy, where no copy of production may be used. Keys stay unique and references valid; values are drawn by the
        statistics of O(forecast_url), else of the copy. A table that cannot be scaled is named with the reason. V(0) leaves the rows as they are.
      - The way back restores the rows that were there, so its duration is that of the unscaled database.
    type: float
    default: 0
  canary:
    description: Read and write each table of the copy during the deploy, and tell how long it did not answer.
    type: bool
    default: true
  statements:
    description: Run the migrations once more on the copy, one statement at a time, for the duration and the locks of each.
    type: bool
    default: true
  forecast_url:
    description:
      - URL of a larger database, for whose sizes the durations are forecast. Only its catalogue is read.
      - Empty means that the copy is as large as production.
    type: str
  engine:
    description: As in M(pgops.migrations.migration_deploy).
    type: str
    choices: [prisma, direct]
    default: prisma
  deploy_command:
    description: As in M(pgops.migrations.migration_deploy).
    type: str
  database_url_env:
    description: As in M(pgops.migrations.migration_deploy).
    type: list
    elements: str
    default: []
  up_to:
    description: As in M(pgops.migrations.migration_deploy).
    type: str
  hold:
    description: As in M(pgops.migrations.migration_deploy).
    type: list
    elements: str
    default: []
  allow:
    description: As in M(pgops.migrations.migration_deploy).
    type: list
    elements: str
    default: []
  lock_timeout:
    description: As in M(pgops.migrations.migration_deploy).
    type: str
    default: 5s
  statement_timeout:
    description: As in M(pgops.migrations.migration_deploy).
    type: str
    default: ''
  timeout:
    description: Seconds after which the deploy to the copy and its sessions are ended.
    type: int
    default: 3600
  checks:
    description: Checks of M(pgops.migrations.database_checks) that are run on the copy. V(prisma_diff) is one more that can be named.
    type: list
    elements: str
    default:
      - ledger
      - drift
      - invalid_indexes
      - foreign_keys
      - check_constraints
      - sequences
      - disabled_triggers
      - deploy_time
      - blocking_time
      - table_rewrites
      - index_build_time
      - growth
      - smoke_sql
      - custom
    choices:
      - ledger
      - drift
      - prisma_diff
      - invalid_indexes
      - foreign_keys
      - check_constraints
      - sequences
      - disabled_triggers
      - deploy_time
      - blocking_time
      - table_rewrites
      - index_build_time
      - growth
      - smoke_sql
      - custom
  tolerate:
    description: Checks whose failure shall only warn.
    type: list
    elements: str
    default: []
  check_timeout:
    description: Seconds for one statement of a check.
    type: int
    default: 60
  max_deploy_seconds:
    description: Budget for all migrations together, in seconds; V(0) for none.
    type: float
    default: 300
  max_blocking_seconds:
    description: Longest time that a table of the copy may not have answered, in seconds; V(0) for none.
    type: float
    default: 5
  max_index_seconds:
    description: Longest time that the build of an index may take, in seconds; V(0) for none.
    type: float
    default: 0
  smoke_sql:
    description: SQL files that must run on the deployed copy without an error, and are rolled back.
    type: list
    elements: path
    default: []
  smoke_sql_dir:
    description: A folder of such files.
    type: path
  custom_sql:
    description: SQL files whose query must return no row from the deployed copy.
    type: list
    elements: path
    default: []
  custom_sql_dir:
    description: A folder of such files.
    type: path
  fail_on:
    description: Kinds of unexplained differences that fail, as M(pgops.migrations.database_fingerprint) names them.
    type: list
    elements: str
    default:
      - table_added
      - table_gone
      - rows_fewer
      - content_changed
      - content_not_compared
      - sequence_back
      - large_objects_fewer
      - large_objects_changed
      - object_added
      - object_removed
      - object_changed
      - expectation_missed
  expect:
    description: What is expected to differ although no migration says so, as in M(pgops.migrations.database_fingerprint).
    type: list
    elements: raw
    default: []
  jobs:
    description: Processes that restore. An encrypted archive is restored by one.
    type: int
    default: 4
  pg_bin_dir:
    description: Folder of the client programs. Empty means C(PATH) and the places where distributions put them.
    type: path
  maintenance_db:
    description: Database on the same server where locks are taken and from which the copy is made.
    type: str
    default: postgres
  lock_wait:
    description: Seconds to wait for another rehearsal or drill of the same database to end.
    type: int
    default: 30
  at_once:
    description:
      - How many copies may be worked on at once on the database server, whichever hosts, plays and controllers they belong to. V(0) for as many as come.
    type: int
    default: 2
  at_once_wait:
    description: Seconds to wait for one of them to end.
    type: int
    default: 7200
  run_id:
    description: Identifies the run in C(application_name) and in the certificate.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Reads the state and the restore point, and makes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: While the certificate of an earlier rehearsal still holds, nothing is done. See O(max_age).
seealso:
  - module: pgops.migrations.migration_certificate_info
  - module: pgops.migrations.database_restore_drill
"""

EXAMPLES = r"""
- name: Prove the pending migrations on a copy
  pgops.migrations.migration_rehearsal:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    backup_dir: /var/backups/migrations
    certificate_dir: /var/lib/migrations/certificates
  register: rehearsal

- name: Say what came of it
  ansible.builtin.debug:
    msg: "{{ rehearsal.text }}"
"""

RETURN = r"""
passed:
  description: Whether what is pending is certified now.
  returned: success
  type: bool
  sample: true
reused:
  description: Whether the certificate of an earlier rehearsal still held.
  returned: success
  type: bool
text:
  description: What came of it, in one line.
  returned: success
  type: str
  sample: "2 migrations rehearsed on the restore point 20261122T163000Z-ab12cd: deployed in 1.4 s, checked, and back in 2.0 s to the same fingerprint."
migrations:
  description: Names of the pending migrations.
  returned: always
  type: list
  elements: str
restore_point:
  description: What the copy was made of; empty for a template copy, and in check mode for a restore point that is taken first.
  returned: always
  type: dict
certificate:
  description: The certificate, with C(path), C(signed), C(issued_at), C(run_id) and the digests.
  returned: success
  type: dict
measured:
  description: What was measured, as the certificate has it. Times in seconds.
  returned: after a rehearsal
  type: dict
  sample: {deploy_seconds: 1.4, longest_stall: 0.12, stalls: {public.visits: 0.12}, size_bytes: 104857600}
canary:
  description: What users would have felt - per table the longest stall, the 99th percentile, and errors by SQLSTATE. Times in seconds.
  returned: always
  type: dict
forecast:
  description: Each statement with its duration, locks and kind, and the forecast at the size of O(forecast_url) with its bounds. Times in seconds.
  returned: always
  type: dict
masked:
  description: The masking files with their digests, and how many rows each changed.
  returned: after masking
  type: list
  elements: dict
scaled:
  description: The tables that got more rows, and those that could not, with the reason.
  returned: after scaling
  type: dict
findings:
  description: Differences that no migration explains.
  returned: when the fingerprints were compared
  type: list
  elements: dict
checks:
  description: The checks, as M(pgops.migrations.database_checks) returns them.
  returned: when they were run
  type: list
  elements: dict
seconds:
  description: Duration of each phase.
  returned: always
  type: dict
  sample: {copy: 12.1, deploy: 1.4, rollback: 2.0, total: 31.7}
copy_seconds:
  description: Duration of each step of making the copy.
  returned: always
  type: dict
rollback_seconds:
  description: Duration of each step of the way back.
  returned: when it was gone
  type: dict
cleared:
  description: Databases that an earlier rehearsal had left, and that were dropped.
  returned: always
  type: list
  elements: str
withdrawn:
  description: Whether an earlier certificate was withdrawn.
  returned: always
  type: bool
failed_in:
  description: The phase that failed.
  returned: failure
  type: str
  sample: deploy
deploy:
  description: Of a failed deploy, what M(pgops.migrations.migration_deploy) returned of it.
  returned: failure
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

import dataclasses

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal import rehearse
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_judge import FAIL_ON
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_options import CHECKS, DEFAULT_CHECKS, RehearsalOptions
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_prepare import Preparation
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_source import RESTORE_POINT, TEMPLATE, SourceOptions
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url

_DEPLOY = (
    *PROJECT_SPEC, "engine", "deploy_command", "database_url_env", "up_to", "hold", "allow", "lock_timeout", "statement_timeout", "timeout",
)  # fmt: skip
_CHECK = ("max_deploy_seconds", "max_blocking_seconds", "max_index_seconds", "smoke_sql", "smoke_sql_dir", "custom_sql", "custom_sql_dir")
_OPTIONS = ("certificate_dir", "source", "max_age", "checks", "fail_on", "expect", "sign_with", "canary", "statements")


def options_of(module: AnsibleModule) -> RehearsalOptions:
    """What the options of the module mean."""
    given = {name: value for name, value in module.params.items() if value is not None}
    production, elsewhere = (parse_url(given[name]) if given.get(name) else None for name in ("forecast_url", "elsewhere_url"))
    for other in (production, elsewhere):
        module.no_log_values.update(other.secrets() if other else ())
    names = [field.name for field in dataclasses.fields(SourceOptions)]
    check = {name: given[name] for name in _CHECK if name in given}
    return RehearsalOptions(
        deploy={name: given[name] for name in _DEPLOY if name in given},
        check=dict(check, timeout=float(given["check_timeout"]), tolerated=given["tolerate"]),
        copy=SourceOptions(elsewhere=elsewhere, **{name: given[name] for name in names if name in given}),
        production=production,
        preparation=Preparation(given["masking"], given["scale"], production),
        **{name: given[name] for name in _OPTIONS},
    )


def main() -> None:
    names = dict(type="list", elements="str", default=[])
    paths = dict(type="list", elements="path", default=[])
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            certificate_dir=dict(type="path", required=True),
            source=dict(type="str", choices=[RESTORE_POINT, TEMPLATE], default=RESTORE_POINT),
            backup_dir=dict(type="path"),
            restore_point=dict(type="str", default=""),
            elsewhere_url=dict(type="str", no_log=True),
            max_age=dict(type="float", default=24),
            sign_with=dict(type="str", default=""),
            gpg_home=dict(type="path"),
            identity_file=dict(type="path"),
            masking=paths,
            scale=dict(type="float", default=0),
            canary=dict(type="bool", default=True),
            statements=dict(type="bool", default=True),
            forecast_url=dict(type="str", no_log=True),
            engine=dict(type="str", choices=["prisma", "direct"], default="prisma"),
            deploy_command=dict(type="str"),
            database_url_env=names,
            up_to=dict(type="str"),
            hold=names,
            allow=names,
            lock_timeout=dict(type="str", default="5s"),
            statement_timeout=dict(type="str", default=""),
            timeout=dict(type="int", default=3600),
            checks=dict(type="list", elements="str", choices=list(CHECKS), default=list(DEFAULT_CHECKS)),
            tolerate=names,
            check_timeout=dict(type="int", default=60),
            max_deploy_seconds=dict(type="float", default=300),
            max_blocking_seconds=dict(type="float", default=5),
            max_index_seconds=dict(type="float", default=0),
            smoke_sql=paths,
            smoke_sql_dir=dict(type="path"),
            custom_sql=paths,
            custom_sql_dir=dict(type="path"),
            fail_on=dict(type="list", elements="str", default=list(FAIL_ON)),
            expect=dict(type="list", elements="raw", default=[]),
            jobs=dict(type="int", default=4),
            pg_bin_dir=dict(type="path"),
            maintenance_db=dict(type="str", default="postgres"),
            lock_wait=dict(type="int", default=30),
            at_once=dict(type="int", default=2),
            at_once_wait=dict(type="int", default=7200),
            run_id=dict(type="str", default=""),
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: rehearse(target, options_of(module), module.check_mode))


if __name__ == "__main__":
    main()
