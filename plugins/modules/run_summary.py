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
  waves:
    description:
      - What the filter P(pgops.migrations.wave_verdict#filter) said of the last wave that was judged; empty without waves.
      - A target of a later wave is V(not_started), with the reason why its wave did not begin.
    type: dict
    default: {}
  groups:
    description:
      - With O(states), the groups of the inventory. What differs between the targets of a group is found and told.
      - Compared are the largest groups within one of O(environments); V(all) only where there is no other.
    type: dict
    default: {}
  compare:
    description: Names of those O(groups) that are to be compared instead, whatever their environments are.
    type: list
    elements: str
    default: []
  environments:
    description: The environment of each target, for O(groups).
    type: dict
    default: {}
  reference:
    description: A target that the others of its group are held against, instead of what most of them have.
    type: str
    default: ''
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
  description:
    - The table, line by line, aligned, and no wider than O(width); what needs somebody comes first, with its reason below it.
    - Of a big fleet the others are counted; RV(rows) and the pages have all of them.
  returned: success
  type: list
  elements: str
  sample: ["target    outcome  time", "--------  -------  -----", "staging1  applied  6.2 s", "1 target, none needs anybody: 1 applied"]
shown:
  description: RV(lines), and below them where the page is.
  returned: success
  type: list
  elements: str
  sample: ["1 target, none needs anybody: 1 applied", "All of it: /var/lib/migrations/reports/20261122-1/index.html"]
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
failing:
  description:
    - Those for which the play is to fail, RV(unsuccessful) without those that were never started.
    - Where only others kept them from starting, the first of these; so it is empty only with RV(ok).
  returned: success
  type: list
  elements: str
  sample: []
differences:
  description: With O(groups), what differs between the targets of a group.
  returned: success
  type: list
  elements: dict
  sample: [{group: staging, what: head, norm: 20260301_x, of: 50, differ: {20260228_a: [db7]}}]
alike:
  description: Whether nothing is in RV(attention), and nothing in RV(differences).
  returned: success
  type: bool
  sample: true
strictly:
  description: In a sentence why RV(alike) is false; else empty.
  returned: success
  type: str
  sample: ''
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
  description: Everything that is known of each target in figures, in the order of O(targets). Its fields are in C(docs/summary.md).
  returned: success
  type: list
  elements: dict
  sample: [{target: staging1, outcome: applied, ok: true, applied: 4, seconds: 6.2}]
path:
  description: The page C(index.md); empty where nothing is written. Beside it is the same as C(index.html), and C(summary.json).
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
from ansible_collections.pgops.migrations.plugins.module_utils import _matrix as matrix
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._matrix_drift import between, compared_groups, marked
from ansible_collections.pgops.migrations.plugins.module_utils._matrix_html import index
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
from ansible_collections.pgops.migrations.plugins.module_utils._summary import counted, failing, run_row, state_row, why_without

#: Version of summary.json, see docs/summary.md.
FORMAT = 2


def row_of(params: t.Mapping[str, t.Any], target: str) -> dict[str, t.Any]:
    """The row of a target: from its record in the file, else from what was handed over. One record is held at a time."""
    found, why = read_record(params["reports_dir"], params["run_id"], target)
    given = params["records"].get(target)
    given = given.get("record") if isinstance(given, dict) else None
    if found is None and given and is_record(given) and given.get("run_id") == params["run_id"]:
        return run_row(target, given)
    if found is None:
        return run_row(target, None, *why_without(target, why, params["waves"]))
    report = paths_of(params["reports_dir"], params["run_id"], target)[1]
    return dict(run_row(target, found), report=os.path.basename(report) if os.path.exists(report) else "")


def work(module: AnsibleModule) -> dict[str, t.Any]:
    params = module.params
    states = params["states"]
    if params["width"] < 40:
        raise MigrationError("width is %d; a table needs 40" % params["width"], code="OPTION_INVALID")
    targets = list(dict.fromkeys(params["targets"] or states or ()))
    differences: list[dict[str, t.Any]] = []
    if states is not None:
        rows, key = [state_row(target, states.get(target)) for target in targets], "status"
        differences = between(rows, compared_groups(params["groups"], set(targets), params["environments"], params["compare"]), params["reference"])
        marked(rows, differences)
    else:
        rows, key = [row_of(params, target) for target in targets], "outcome"
    unsuccessful = [row["target"] for row in rows if not row["ok"]]
    summary = {
        "ok": not unsuccessful,
        # Not "failed": Ansible takes a result with that key for a failed task.
        "unsuccessful": unsuccessful,
        "failing": failing(rows) if states is None else unsuccessful,
        "attention": [row["target"] for row in rows if matrix.needs(row)],
        "counts": counted(rows, key),
        "differences": differences,
        "alike": not differences and not any(matrix.needs(row) for row in rows),
        "sentences": {row["target"]: row["sentence"] for row in rows if row.get("sentence")},
        "rows": rows,
    }
    written = bool(params["reports_dir"] and params["run_id"])
    path = os.path.join(params["reports_dir"], file_name(params["run_id"]), "index.md") if written else ""
    if written and not module.check_mode:
        prepare(params["reports_dir"], params["run_id"])
        links = {row["target"]: quote(row["report"], safe="") for row in rows if row.get("report")}
        title = "Run %s: %s" % (params["run_id"], summary["counts"] or "no target")
        write_whole(path, matrix.page(title, rows, links, differences))
        pages = {target: html_path_of(link) for target, link in links.items()}
        write_whole(html_path_of(path), index(rows, pages, params["run_id"], differences))
        write_whole(os.path.join(os.path.dirname(path), "summary.json"), to_json(dict(summary, format=FORMAT, run_id=params["run_id"])))
    lines = matrix.lines_of(rows, params["width"], differences)
    shown = lines + (["All of it: %s" % html_path_of(path)] if written and not module.check_mode else [])
    strictly = "" if summary["alike"] else "; ".join([lines[-1], *(each["text"] for each in differences)])
    return dict(summary, changed=False, lines=lines, shown=shown, strictly=strictly, path=path)


def main() -> None:
    module = AnsibleModule(
        argument_spec=dict(
            targets=dict(type="list", elements="str", default=[]),
            reports_dir=dict(type="path"),
            run_id=dict(type="str", default=""),
            records=dict(type="dict", default={}),
            states=dict(type="dict"),
            waves=dict(type="dict", default={}),
            groups=dict(type="dict", default={}),
            compare=dict(type="list", elements="str", default=[]),
            environments=dict(type="dict", default={}),
            reference=dict(type="str", default=""),
            width=dict(type="int", default=120),
        ),
        supports_check_mode=True,
    )
    if module.params["states"] is None and not (module.params["reports_dir"] and module.params["run_id"]):
        module.fail_json(**MigrationError("reports_dir and run_id are needed, unless states is given", code="OPTION_INVALID").result())
    run_local(module, lambda: work(module))


if __name__ == "__main__":
    main()
