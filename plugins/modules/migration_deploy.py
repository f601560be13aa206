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
        A crash of the server during the deploy may take away the last migrations together with their rows; what the module returned is on the disk.
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
  assume_resolved:
    description:
      - In check mode, plan as if these unfinished migrations were recorded as V(applied) or V(rolled_back) before, by name. It is ignored elsewhere.
    type: dict
    default: {}
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
  monitor:
    description:
      - Whether the server is watched over a second connection while migrations are applied. It costs less than 2 % of the time.
      - Without it nothing is known of what the migrations blocked, and O(on_blocked) has no effect.
    type: bool
    default: true
  monitor_interval:
    description: Seconds between two looks at the beginning. They become rarer in a long deploy, up to eight times that.
    type: float
    default: 0.25
  on_blocked:
    description:
      - What is done when the migration keeps other client sessions waiting for longer than O(max_block). A statement that waits for a
        strong lock does so, too, since everybody who comes after it waits behind it.
      - V(cancel_migration) cancels the migration's statement. Where it waited for a lock and is proved to have left nothing, it is recorded
        as rolled back and tried again. Where it had its lock and was at work, it is not tried again (C(BLOCKED_TOO_LONG)).
      - V(cancel_blocker) cancels the statement of the session that the migration waits for, and the migration where that does not help.
        It never touches another migration, a session of the server's own such as autovacuum, or one that is idle in a transaction.
      - V(wait) cancels nothing; for a maintenance window.
    type: str
    choices: [wait, cancel_migration, cancel_blocker]
    default: cancel_migration
  max_block:
    description: Seconds that another session may wait for the migration.
    type: float
    default: 5
  block_retries:
    description:
      - How often a migration that was ended because of locks, by O(on_blocked) or by its own O(lock_timeout), is tried again, with growing pauses.
      - Only where it is proved that nothing is left of the attempt.
    type: int
    default: 5
  maintenance_db:
    description: Database on the same server where the lock is taken.
    type: str
    default: postgres
  run_id:
    description: Identifies the run in C(application_name).
    type: str
    default: ''
  detach:
    description:
      - Deploy in a process apart from the connection, so that a lost connection, a controller that was killed or Ctrl-C end the display and not the migration.
        The next run finds it, waits for its end, and tells it.
      - With V(false), or where the module is not run by its action plugin, what ends the connection may end the migration.
    type: bool
    default: true
  follow:
    description: Seconds to wait for the end of another run that is at work in the database. V(0) fails at once with C(LOCKED) or C(MIGRATION_RUNNING).
    type: int
    default: 3600
  reconnect:
    description: Seconds to try again when the connection is lost during the deploy, before the host counts as unreachable.
    type: int
    default: 300
  progress:
    description:
      - What is shown meanwhile, on standard error. V(auto) draws one line in place where that is a terminal, and prints one line a minute elsewhere.
      - V(lines) never draws in place. A task with C(no_log) shows nothing.
    type: str
    choices: [auto, lines, none]
    default: auto
  journal_dir:
    description: Folder on the target, readable by its user alone, where a deploy tells how it goes.
    type: path
    default: ~/.local/state/pgops.migrations
  job_id:
    description: Name of the job. Set by the action plugin; with it, the module returns RV(job) at once.
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
monitor:
  description: What was seen on the server meanwhile. Times in seconds since the deploy began, sizes in bytes; null where the server or the rights give nothing.
  returned: when something was deployed and O(monitor) is true
  type: dict
  contains:
    interval:
      description: Seconds between two samples, on average.
      type: float
    started_at:
      description: When it began, in UTC.
      type: str
    seconds:
      description: How long it was watched.
      type: float
    taken:
      description: Number of samples.
      type: int
    samples:
      description:
        - At most 600; neighbours are merged by their maximum. The size is looked at seldom and is null in between.
        - Sessions are those of this database without the migration's own. C(waiting) for any lock, C(blocked) for the migration, directly or not.
      type: list
      elements: dict
    locks:
      description: Tables that the migration locked or waited for, by mode, longest first. Times as they were seen, so rather too short than too long.
      type: list
      elements: dict
    blocks:
      description: Who waited for the migration (C(by) is V(migration)), and for whom it waited; longest first.
      type: list
      elements: dict
    blocked_sessions:
      description: How many other sessions waited for the migration.
      type: int
    longest_block:
      description: The longest time that another session waited for the migration.
      type: float
    longest_wait:
      description: The longest time that the migration waited for others.
      type: float
    progress:
      description: What PostgreSQL said of the progress of index builds, copies and rewrites; the last seen of each.
      type: list
      elements: dict
    index_builds:
      description: New indexes of tables that were there before. C(seconds) is null where the build was not seen.
      type: list
      elements: dict
    rewrites:
      description: Tables that were there before and have a new file.
      type: list
      elements: str
    size_before:
      description: Size of the database before it.
      type: int
    size_after:
      description: Size of the database after it.
      type: int
    wal:
      description: Write-ahead log that the server wrote meanwhile, for all of its databases.
      type: int
    temp:
      description: Temporary files that were written in the database meanwhile.
      type: int
    migrations:
      description: When each migration ran, every attempt.
      type: list
      elements: dict
    cancelled:
      description: What was cancelled because of locks, why, and the number of the retry that followed.
      type: list
      elements: dict
running:
  description: The run that is at work in the database; C(run_id), C(pid), C(user), C(application_name), and C(seconds) since it connected.
  returned: when the deploy failed with C(LOCKED) or C(MIGRATION_RUNNING)
  type: dict
followed:
  description:
    - The runs that were waited for, and those on this host whose end nobody had been told. C(state) is V(finished), V(failed), V(killed) or V(unknown),
      C(applied) names what they applied.
  returned: when there are any
  type: list
  elements: dict
left:
  description: Deploys of this database on this host whose end nobody was told, as M(pgops.migrations.migration_job_info) returns them.
  returned: when there are any
  type: list
  elements: dict
job:
  description: C(pid) and C(folder) of the process that deploys.
  returned: to the action plugin
  type: dict
attempts:
  description: How often the deploy was tried.
  returned: when it was given up because of locks
  type: int
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
from ansible_collections.pgops.migrations.plugins.module_utils._job import JOURNAL_DIR, Job
from ansible_collections.pgops.migrations.plugins.module_utils._module import apart, run
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
            assume_resolved=dict(type="dict", default={}),
            lock_timeout=dict(type="str", default="5s"),
            statement_timeout=dict(type="str", default=""),
            client_connection_check_interval=dict(type="str", default="1s"),
            lock_wait=dict(type="int", default=30),
            timeout=dict(type="int", default=3600),
            monitor=dict(type="bool", default=True),
            monitor_interval=dict(type="float", default=0.25),
            on_blocked=dict(type="str", choices=["wait", "cancel_migration", "cancel_blocker"], default="cancel_migration"),
            max_block=dict(type="float", default=5),
            block_retries=dict(type="int", default=5),
            maintenance_db=dict(type="str", default="postgres"),
            run_id=dict(type="str", default=""),
            detach=dict(type="bool", default=True),
            follow=dict(type="int", default=3600),
            reconnect=dict(type="int", default=300),
            progress=dict(type="str", choices=["auto", "lines", "none"], default="auto"),
            journal_dir=dict(type="path", default=JOURNAL_DIR),
            job_id=dict(type="str", default=""),
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    job = apart(module) if module.params["job_id"] and not module.check_mode else Job()
    run(module, lambda target: deploy(target, module.params, module.check_mode, job))


if __name__ == "__main__":
    main()
