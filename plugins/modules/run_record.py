#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_record
short_description: Record what a run did to one target
version_added: "1.0.0"
description:
  - Makes one record of a run from the results of its phases, decides its outcome, and says it in one line.
  - Writes C(<reports_dir>/<run_id>/<target>.json) and a report beside it (C(.html) and C(.md)), with mode 0600 in a folder with mode 0700.
  - Every field of the record is explained in C(docs/record.md), and C(docs/record.schema.json) is its JSON Schema.
  - Appends each migration that was applied, failed, was rolled back or was marked to C(<reports_dir>/migration_log.md) and C(migration_log.jsonl),
    never twice for the same run, target, migration and status. Any number of hosts may do so at once.
  - Keeps no URL, no password, no row and no SQL; of a command's output the last 4 kB. A record has at most 4 MB, and says what it left out.
  - Runs on the controller, so delegate it to C(localhost). It connects to no database.
author:
  - pgops.migrations contributors (@pgops)
options:
  reports_dir:
    description: Folder of all reports, an absolute path or one that begins with C(~). It is made with mode 0700 if it is missing.
    type: path
    required: true
  run_id:
    description: Identifies the run, which may have many targets.
    type: str
    required: true
  runbook:
    description: The playbook that ran.
    type: str
    required: true
  target:
    description: The host of the inventory that stands for the database.
    type: str
    required: true
  phases:
    description:
      - The results of the phases as they were registered, by name. Empty, skipped and failed results are welcome.
      - Known names are V(status), V(guard), V(preflight), V(server), V(certificate), V(choice), V(recovery), V(reverse), V(backup), V(deploy),
        V(verification), V(resolve), V(restore), V(restore_verification), V(external), V(retention) and V(drill). Others are kept in the record under C(other).
    type: dict
    default: {}
  error:
    description:
      - The failure that the playbook caught, such as C(ansible_failed_result), for a failure that no phase has registered.
      - C(phase) in it names the phase, if that is known.
    type: dict
    default: {}
  environment:
    description: Name of the environment.
    type: str
    default: ''
  database:
    description: Name of the database, for the texts. Empty means the one that the restore point names.
    type: str
    default: ''
  revision:
    description: Revision of the application, such as its git commit.
    type: str
    default: ''
  operator:
    description: Who ran it. Empty means the login name on the controller.
    type: str
    default: ''
  started_at:
    description: When the run began, as ISO 8601. Empty means that it is not known, and so is the duration.
    type: str
    default: ''
  prepare:
    description:
      - Only make sure that the run can be recorded, before it begins. The folder is made, or it fails with C(RECORD_UNWRITABLE).
      - Nothing is recorded, and no more is returned than C(changed).
    type: bool
    default: false
extends_documentation_fragment:
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Writes nothing; returns outcome, sentence and the paths that would be written.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: C(changed) says whether the run changed its target. A record is a log and no change, so a run that did nothing reports none.
seealso:
  - module: pgops.migrations.run_summary
"""

EXAMPLES = r"""
- name: Record the run
  pgops.migrations.run_record:
    reports_dir: /var/lib/migrations/reports
    run_id: "{{ migration_run_id }}"
    runbook: staging_migrate
    target: "{{ inventory_hostname }}"
    environment: staging
    phases:
      preflight: "{{ preflight_result | default({}) }}"
      backup: "{{ backup_result | default({}) }}"
      deploy: "{{ migrate_deploy_result | default({}) }}"
    error: "{{ ansible_failed_result | default({}) }}"
  delegate_to: localhost
  vars:
    ansible_connection: local
    ansible_python_interpreter: "{{ ansible_playbook_python }}"
"""

RETURN = r"""
outcome:
  description:
    - V(nothing_to_do), V(applied), V(restored), V(checked) (check mode) or V(done) (a runbook that neither deploys nor restores).
    - V(refused) when the run stopped before it touched the database, V(failed) when it failed and nothing was rolled back.
    - V(rolled_back) when it failed and the database is proved to be as before, V(rollback_failed) when that is not proved.
  returned: always
  type: str
  sample: applied
sentence:
  description: The line that an operator reads.
  returned: always
  type: str
  sample: "staging1: 4 migrations applied in 6.2 s, nothing lost, restore point 20261122T163000Z-ab12cd"
ok:
  description: Whether the outcome is a good one.
  returned: always
  type: bool
  sample: true
loss_lines:
  description: What the way back of this run loses or would lose, as lines for a terminal; empty without one.
  returned: always
  type: list
  elements: str
path:
  description: The record.
  returned: always
  type: str
  sample: /var/lib/migrations/reports/20261122-1/staging1.json
report_path:
  description: The report.
  returned: always
  type: str
  sample: /var/lib/migrations/reports/20261122-1/staging1.md
html_path:
  description: The same report as one HTML file, which loads nothing from elsewhere.
  returned: always
  type: str
  sample: /var/lib/migrations/reports/20261122-1/staging1.html
log_path:
  description: The migration log.
  returned: always
  type: str
  sample: /var/lib/migrations/reports/migration_log.md
logged:
  description: Number of entries that were new in the migration log.
  returned: success
  type: int
  sample: 4
record:
  description: The record. In check mode M(pgops.migrations.run_summary) takes it, as no file was written.
  returned: always
  type: dict
  sample: {format: 1, target: staging1, outcome: applied}
code:
  description: Stable code of the error.
  returned: failure
  type: str
  sample: RECORD_UNWRITABLE
next_step:
  description: What to do next.
  returned: failure
  type: str
  sample: check the folder named in the message
"""

import datetime
import getpass
import os
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import lines_of_record
from ansible_collections.pgops.migrations.plugins.module_utils._migration_log import log_entries
from ansible_collections.pgops.migrations.plugins.module_utils._module_local import run_local
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import GOOD
from ansible_collections.pgops.migrations.plugins.module_utils._record import build_record
from ansible_collections.pgops.migrations.plugins.module_utils._report_files import (
    LOG,
    append_log,
    html_path_of,
    paths_of,
    prepare,
    to_json,
    with_earlier_count,
    write_whole,
)
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import html
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown_page import report

TEXTS = ("run_id", "runbook", "target", "environment", "database", "revision", "started_at")


def operator() -> str:
    """The login name, also under sudo; the number where there is none."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (KeyError, OSError):
        return str(os.getuid())


def work(module: AnsibleModule) -> dict[str, t.Any]:
    params = module.params
    for name in ("run_id", "target"):
        if not params[name].strip():
            raise MigrationError("%s is empty" % name, code="OPTION_INVALID")
    if params["prepare"]:
        if not module.check_mode:
            prepare(params["reports_dir"], params["run_id"])
        return {"changed": False}
    record = build_record(
        phases=params["phases"],
        error=params["error"],
        operator=params["operator"] or operator(),
        check_mode=module.check_mode,
        finished_at=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        **{name: params[name] for name in TEXTS},
    )
    with_earlier_count(record, params["reports_dir"])
    path, report_path = paths_of(params["reports_dir"], params["run_id"], params["target"])
    result = {
        "outcome": record["outcome"], "sentence": record["sentence"], "ok": record["outcome"] in GOOD, "record": record,
        "loss_lines": lines_of_record(record),
        "path": path, "report_path": report_path, "html_path": html_path_of(report_path), "log_path": os.path.join(params["reports_dir"], LOG),
    }  # fmt: skip
    if module.check_mode:
        return dict(result, changed=record["changed"], logged=0)
    try:
        prepare(params["reports_dir"], params["run_id"])
        write_whole(path, to_json(record))
        write_whole(report_path, report(record))
        logged = append_log(params["reports_dir"], log_entries(record))
        write_whole(html_path_of(report_path), html(record))
        return dict(result, changed=record["changed"], logged=logged)
    except MigrationError as error:
        # What came of the run must not be lost with the file.
        error.facts = dict(result, **error.facts)
        raise


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            reports_dir=dict(type="path", required=True),
            run_id=dict(type="str", required=True),
            runbook=dict(type="str", required=True),
            target=dict(type="str", required=True),
            phases=dict(type="dict", default={}),
            error=dict(type="dict", default={}),
            environment=dict(type="str", default=""),
            database=dict(type="str", default=""),
            revision=dict(type="str", default=""),
            operator=dict(type="str", default=""),
            started_at=dict(type="str", default=""),
            prepare=dict(type="bool", default=False),
        ),
        supports_check_mode=True,
    )
    run_local(module, lambda: work(module))


if __name__ == "__main__":
    main()
