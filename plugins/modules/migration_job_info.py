#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_job_info
short_description: Tell which deploys are at work on a host, and how those ended that nobody followed
version_added: "1.0.0"
description:
  - M(pgops.migrations.migration_deploy) deploys in a process apart from its connection, which goes on when the controller or the connection is lost.
    This reads what such processes tell of themselves on this host. It connects to no database.
  - A deploy whose end was told to its controller is not listed any more.
author:
  - pgops.migrations contributors (@pgops)
options:
  journal_dir:
    description: Folder of the jobs, as O(pgops.migrations.migration_deploy#module:journal_dir).
    type: path
    default: ~/.local/state/pgops.migrations
  run_id:
    description: Only the jobs of this run.
    type: str
    default: ''
  job_id:
    description: Only this job.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
seealso:
  - module: pgops.migrations.migration_deploy
"""

EXAMPLES = r"""
- name: What is being deployed on these hosts now
  pgops.migrations.migration_job_info:
  register: at_work
"""

RETURN = r"""
jobs:
  description: The deploys of this user on this host, oldest first.
  returned: success
  type: list
  elements: dict
  contains:
    job_id:
      description: Name of the job.
      type: str
    run_id:
      description: The run that it belongs to.
      type: str
    target:
      description: The database, as C(host:port/name).
      type: str
    state:
      description: V(running), V(finished), V(failed), or V(killed) when its process ended without a result.
      type: str
    folder:
      description: Its folder.
      type: str
    pid:
      description: Its process.
      type: int
    started_at:
      description: When it began, in UTC.
      type: str
    seconds:
      description: How long it has been at work, or was.
      type: float
    planned:
      description: The migrations that it is to apply.
      type: list
      elements: str
    applied:
      description: The migrations that it applied, once it has ended. Of a job that was killed, the ledger tells.
      type: list
      elements: str
    code:
      description: Error code of its failure.
      type: str
    line:
      description: Where it is, in one line.
      type: str
      sample: 3 of 12, 20240301120000_add_appointments, waits 0:04 for public.visits behind pid 4711 (user app), for 1:42
code:
  description: Stable error code; C(docs/errors.md) of the collection lists them all.
  returned: failure
  type: str
next_step:
  description: What to do or to type next.
  returned: failure
  type: str
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._job import JOURNAL_DIR, jobs
from ansible_collections.pgops.migrations.plugins.module_utils._job_view import brief


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            journal_dir=dict(type="path", default=JOURNAL_DIR),
            run_id=dict(type="str", default=""),
            job_id=dict(type="str", default=""),
        ),
        supports_check_mode=True,
    )
    found = [brief(job, time.time()) for job in jobs(module.params["journal_dir"])]
    wanted = {name: module.params[name] for name in ("run_id", "job_id") if module.params[name]}
    module.exit_json(changed=False, jobs=[job for job in found if all(job[name] == value for name, value in wanted.items())])


if __name__ == "__main__":
    main()
