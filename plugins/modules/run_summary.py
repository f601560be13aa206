#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: run_summary
short_description: Draw many targets into one table
version_added: "1.0.0"
description:
  - Reads the records that M(pgops.migrations.run_record) wrote in a run, and finds the targets that have none.
  - Or takes the results of M(pgops.migrations.migration_info) of many hosts in O(states).
  - Never fails because of a target; RV(ok) and RV(unsuccessful) are for the playbook to decide by.
  - Runs on the controller, so delegate it to C(localhost). It connects to no database.
author:
  - pgops.migrations contributors (@pgops)
options:
  targets:
    description: All hosts that should have a record or a state. Of O(states) its keys are taken where this is empty.
    type: list
    elements: str
    default: []
  reports_dir:
    description: Folder of all reports. Required without O(states); with O(states) and without this nothing is written.
    type: path
  run_id:
    description: Identifies the run. Required without O(states); with O(states) and without this nothing is written.
    type: str
    default: ''
  records:
    description:
      - Results of M(pgops.migrations.run_record) by host, for those that have no file.
      - In check mode no record is written, so without this every target is V(no_record).
    type: dict
    default: {}
  states:
    description: Results of M(pgops.migrations.migration_info) by host, failed ones included.
    type: dict
  width:
    description: Width of the table.
    type: int
    default: 120
extends_documentation_fragment:
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Writes nothing.
  diff_mode:
    support: none
  idempotent:
    support: full
    details: A summary is a log and no change, so it never reports one.
seealso:
  - module: pgops.migrations.run_record
"""

EXAMPLES = r"""
- name: Sum the run up
  pgops.migrations.run_summary:
    reports_dir: /var/lib/migrations/reports
    run_id: "{{ migration_run_id }}"
    targets: "{{ ansible_play_hosts_all }}"
    records: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='report_result', default={}))) }}"
  register: summary
  run_once: true
  delegate_to: localhost

- name: Show it
  ansible.builtin.debug:
    msg: "{{ summary.lines }}"
  run_once: true

- name: End with the status that the run deserves
  ansible.builtin.fail:
    msg: "These targets need somebody: {{ summary.unsuccessful | join(', ') }}"
  when: not summary.ok
  run_once: true

- name: One table of states
  pgops.migrations.run_summary:
    targets: "{{ ansible_play_hosts_all }}"
    states: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='state', default={}))) }}"
  run_once: true
  delegate_to: localhost
"""

RETURN = r"""
lines:
  description: The table, line by line, aligned, and no wider than O(width).
  returned: success
  type: list
  elements: str
  sample: ["target    outcome  applied  time", "--------  -------  -------  -----", "staging1  applied        4  6.2 s"]
ok:
  description: Whether there is no target in RV(unsuccessful).
  returned: success
  type: bool
  sample: true
unsuccessful:
  description: Targets whose outcome is not a good one, or that have no record; with O(states) those that could not be read.
  returned: success
  type: list
  elements: str
  sample: []
attention:
  description: RV(unsuccessful), and with O(states) also the targets whose status is V(blocked), V(diverged), V(unmanaged) or V(absent).
  returned: success
  type: list
  elements: str
  sample: []
counts:
  description: How many targets have which outcome or status.
  returned: success
  type: str
  sample: 9 applied, 1 rolled_back
sentences:
  description: The line of each target.
  returned: success
  type: dict
  sample: {staging1: "staging1: nothing to do, 12 migrations applied"}
rows:
  description: The table's rows as dictionaries.
  returned: success
  type: list
  elements: dict
  sample: [{target: staging1, outcome: applied, ok: true, applied: 4}]
path:
  description: The page C(index.md); empty where nothing is written. Beside it is the same as C(index.html).
  returned: success
  type: str
  sample: /var/lib/migrations/reports/20261122-1/index.md
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

import os
import typing as t
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._module_local import run_local
from ansible_collections.pgops.migrations.plugins.module_utils._report_files import (
    file_name,
    html_path_of,
    is_record,
    paths_of,
    prepare,
    read_record,
    to_json,
    write_whole,
)
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import index
from ansible_collections.pgops.migrations.plugins.module_utils._summary import (
    RUN_COLUMNS,
    STATE_COLUMNS,
    counted,
    index_text,
    lines_of,
    run_row,
    state_row,
)


def record_of(params: t.Mapping[str, t.Any], target: str) -> tuple[dict[str, t.Any] | None, str]:
    """The record of a target: its file, else what was handed over."""
    found, why = read_record(params["reports_dir"], params["run_id"], target)
    given = params["records"].get(target)
    given = given.get("record") if isinstance(given, dict) else None
    if found is None and given and is_record(given) and given.get("run_id") == params["run_id"]:
        return given, ""
    return found, why


def work(module: AnsibleModule) -> dict[str, t.Any]:
    params = module.params
    states = params["states"]
    if params["width"] < 40:
        raise MigrationError("width is %d; a table needs 40" % params["width"], code="OPTION_INVALID")
    targets = list(dict.fromkeys(params["targets"] or states or ()))
    columns: tuple[str, ...]
    if states is not None:
        rows, columns, key = [state_row(target, states.get(target)) for target in targets], STATE_COLUMNS, "status"
    else:
        rows, columns, key = [run_row(target, *record_of(params, target)) for target in targets], RUN_COLUMNS, "outcome"
    failed = [row["target"] for row in rows if not row["ok"]]
    summary = {
        "ok": not failed,
        # Not "failed": Ansible takes a result with that key for a failed task.
        "unsuccessful": failed,
        "attention": [row["target"] for row in rows if not row["ok"] or row.get("attention")],
        "counts": counted(rows, key),
        "sentences": {row["target"]: row["sentence"] for row in rows if row.get("sentence")},
        "rows": rows,
    }
    written = bool(params["reports_dir"] and params["run_id"])
    path = os.path.join(params["reports_dir"], file_name(params["run_id"]), "index.md") if written else ""
    if written and not module.check_mode:
        folder = prepare(params["reports_dir"], params["run_id"])
        reported = [target for target in targets if os.path.exists(paths_of(params["reports_dir"], params["run_id"], target)[1])]
        links = {target: quote(file_name(target), safe="") + ".md" for target in reported}
        title = "Run %s: %s" % (params["run_id"], summary["counts"] or "no target")
        write_whole(path, index_text(title, columns, rows, links))
        if states is None:
            write_whole(os.path.join(folder, "index.html"), _index(params, targets))
        write_whole(os.path.join(folder, "summary.json"), to_json(dict(summary, format=1, run_id=params["run_id"])))
    return dict(summary, changed=False, lines=lines_of(columns, rows, params["width"]), path=path)


def _index(params: t.Mapping[str, t.Any], targets: t.Sequence[str]) -> str:
    """The page over all targets, with links to their reports."""
    found = {target: record_of(params, target) for target in targets}
    links = {
        target: quote(file_name(target), safe="") + ".html"
        for target in targets
        if os.path.exists(html_path_of(paths_of(params["reports_dir"], params["run_id"], target)[1]))
    }
    missing = {target: why for target, (record, why) in found.items() if record is None}
    return index([record for record, _why in found.values() if record is not None], links, missing)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            targets=dict(type="list", elements="str", default=[]),
            reports_dir=dict(type="path"),
            run_id=dict(type="str", default=""),
            records=dict(type="dict", default={}),
            states=dict(type="dict"),
            width=dict(type="int", default=120),
        ),
        supports_check_mode=True,
    )
    if module.params["states"] is None and not (module.params["reports_dir"] and module.params["run_id"]):
        module.fail_json(**MigrationError("reports_dir and run_id are needed, unless states is given", code="OPTION_INVALID").result())
    run_local(module, lambda: work(module))


if __name__ == "__main__":
    main()
