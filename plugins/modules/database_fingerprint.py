#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: database_fingerprint
short_description: Take the fingerprint of a database and compare it with an earlier one
version_added: "1.0.0"
description:
  - Reads the schema of a database, and per table the number of rows and a hash of the content, all as of one moment, without writing to it.
  - The hash does not depend on the order of the rows, is the same after a dump and restore, and the same on PostgreSQL 14 to 18.
  - The result and the file hold names, definitions, counts and hashes, and no content of any row.
  - What extensions own, but for the rows that pg_dump takes along of their configuration tables, rows of foreign and temporary tables, and rows of
    materialized views are not part of a fingerprint.
options:
  level:
    description:
      - V(schema) reads definitions only.
      - V(counts) also counts the rows of each table and reads the sequences.
      - V(full) also hashes the content, which takes about a third of the time of a dump.
    type: str
    choices: [schema, counts, full]
    default: full
  dest:
    description:
      - File to write the fingerprint to, as JSON, on the host that the module runs on. Only its owner can read it.
      - A file with an equal fingerprint is left alone; one that holds something else is not overwritten.
      - Together with O(compare_with) it has the hashes over the columns that the earlier fingerprint knows.
    type: path
  compare_with:
    description:
      - File with an earlier fingerprint to compare with, or the C(manifest.json) of a restore point.
      - A table is hashed over the columns that it had then, so that an added column is no change of content.
      - Where it is of the same database, rows that were not written since are recognised by their transaction. So rows that were added do not
        hide others that were changed or deleted, and the content of a table is known to be unchanged also after a column of it was dropped.
    type: path
  strict:
    description: Fail with FINGERPRINT_MISMATCH when there is any difference, explained or not.
    type: bool
    default: false
  migrations_dir:
    description: Folder with the migrations that may explain a difference.
    type: path
  applied:
    description:
      - Names of the migrations that were applied between the two fingerprints.
      - A difference is explained when a statement of one of them can have caused it in what it names, and a finding otherwise.
        C(ALTER TABLE users ADD COLUMN bio) explains no row that is gone from C(users).
    type: list
    elements: str
    default: []
  pending:
    description:
      - Names of the migrations that are going to be applied. Of the tables that they may change or take columns from, each column is hashed by
        itself, at O(level=full), so that a later comparison can tell which columns changed, and compares what a dropped, renamed or retyped column
        leaves.
      - Columns are compared by the text of their values and with the primary key (or a unique index) of their row.
    type: list
    elements: str
    default: []
  expect:
    description:
      - What is expected to differ although no migration says so, such as rows that a foreign key takes along.
      - Either the name of the object as a finding writes it, or a dictionary with C(object), and perhaps C(kind)
        and C(rows), the exact number of rows more (below 0, fewer).
      - Rows that were expected in an exact number and came in another one are a finding, even where a migration explains them.
    type: list
    elements: raw
    default: []
  skip_tables:
    description: Tables whose rows are not looked at, with their schema, quoted as PostgreSQL would do it.
    type: list
    elements: str
    default: []
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.attributes
attributes:
  check_mode:
    support: full
    details: Takes and compares the fingerprint and does not write O(dest).
  diff_mode:
    support: none
    details: The differences are in the result.
  idempotent:
    support: full
notes:
  - Sequences are outside of transactions, so their values are those of now, as in a dump.
  - The role must be able to read every table. Row level security that would hide rows is an error.
author:
  - pgops.migrations contributors (@pgops)
"""

EXAMPLES = r"""
- name: Remember what is there
  pgops.migrations.database_fingerprint:
    database_url: "{{ migration_database_url }}"
    dest: /var/lib/pgops/before.json

- name: See what the migrations did, and what they did not say
  pgops.migrations.database_fingerprint:
    database_url: "{{ migration_database_url }}"
    compare_with: /var/lib/pgops/before.json
    migrations_dir: /srv/app/prisma/migrations
    applied: [20260101120000_add_phone]
  register: after

- name: Nothing may be lost
  ansible.builtin.assert:
    that: after.findings | length == 0
"""

RETURN = r"""
digest:
  description: One word for the whole fingerprint at this level.
  returned: success
  type: str
  sample: 6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b
schema_digest:
  description: One word for the definitions.
  returned: success
  type: str
  sample: d4735e3a265e16eee03f59718b9b5d03019c07d8b6c51f90da3a666eec13ab35
level:
  description: The level that was read.
  returned: success
  type: str
  sample: full
compared_level:
  description:
    - How much was compared, which is the lower level of the two fingerprints; V(none) without O(compare_with).
    - Only at V(full) contents were compared.
  returned: success
  type: str
  sample: full
tables:
  description: Number of tables whose rows were looked at.
  returned: success
  type: int
  sample: 12
rows:
  description: Number of rows in all of them.
  returned: success
  type: int
  sample: 120345
differences:
  description: What differs from O(compare_with), tables first. Empty without it.
  returned: always
  type: list
  elements: dict
  sample:
    - kind: rows_fewer
      object: public.users
      before: 10
      after: 9
      text: "public.users has 1 row fewer than before (10, now 9)."
      subjects: [public.users]
      explained_by: []
      severity: finding
  contains:
    kind:
      description: >-
        One of table_gone, table_added, rows_fewer, rows_more, content_changed, content_not_compared, sequence_back, sequence_forward,
        large_objects_fewer, large_objects_more, large_objects_changed, object_removed, object_added, object_changed.
      type: str
    object:
      description: Name of the table, or kind and name of the object.
      type: str
    before:
      description: Rows, hash or definition before.
      type: raw
    after:
      description: Rows, hash or definition now.
      type: raw
    text:
      description: The difference in one sentence.
      type: str
    subjects:
      description: Names that a migration may explain the difference by.
      type: list
      elements: str
    explained_by:
      description: Names of the migrations of which a statement may have caused it.
      type: list
      elements: str
    columns:
      description: Of content_changed, the columns whose values changed, where that is known; see O(pending).
      type: list
      elements: str
    gone:
      description: Rows of before that were changed or deleted, where that is known and another number tells less.
      type: int
    fresh:
      description: Rows of now that are new or were changed, likewise.
      type: int
    severity:
      description: V(explained), V(expected) by O(expect), V(finding), or V(note) for what loses nothing.
      type: str
row_counts:
  description: Rows per table before and now, those that differ first, at most 1000; null where there is or was no such table.
  returned: always
  type: list
  elements: dict
  sample: [{table: public.users, before: 120, after: 118}]
findings:
  description: Those differences that no migration explains and nobody expected.
  returned: always
  type: list
  elements: dict
  sample: []
dest:
  description: The file that has the fingerprint, or null.
  returned: success
  type: str
  sample: /var/lib/pgops/before.json
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
from ansible_collections.pgops.migrations.plugins.module_utils import _comparison, _explain, _fingerprint, _fingerprint_file
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def work(module: AnsibleModule, target: Target) -> dict[str, t.Any]:
    """Take, compare, write; in this order, so that a failure to compare changes nothing."""
    params = module.params
    earlier = _fingerprint_file.load(params["compare_with"]) if params["compare_with"] else None
    folder = params["migrations_dir"]
    migrations, pending = (_fingerprint_file.migration_texts(folder, params[which]) if folder else {} for which in ("applied", "pending"))
    with connection(target, settings=QUIET, read_only=True) as conn:
        taken = _fingerprint.take(
            conn, params["level"], columns_from=earlier, skip_tables=params["skip_tables"], pending=list(pending.values()), follow=earlier is not None
        )
    differences: list[dict[str, t.Any]] = []
    if earlier:
        objects = {**earlier["schema"]["objects"], **taken["schema"]["objects"]}
        differences = _explain.explain(_comparison.compare(earlier, taken, of_database=True), migrations, params["expect"], objects, target.schema)
    changed = _fingerprint_file.save(params["dest"], taken, dry_run=module.check_mode) if params["dest"] else False
    result: dict[str, t.Any] = dict(
        changed=changed,
        digest=taken["digest"],
        schema_digest=taken["schema"]["digest"],
        level=taken["level"],
        compared_level=_comparison.compared_level(earlier, taken) if earlier else "none",
        tables=len(taken["tables"]),
        rows=sum(table["rows"] for table in taken["tables"].values()),
        row_counts=_comparison.row_counts(earlier, taken) if earlier else [],
        differences=differences,
        findings=_explain.findings(differences),
        dest=params["dest"],
    )
    if params["strict"] and differences:
        raise MigrationError(
            "%s differs from %s in %d ways; the first: %s" % (target.label(), params["compare_with"], len(differences), differences[0]["text"]),
            code="FINGERPRINT_MISMATCH",
            next_step="look at the differences in the result",
            **result,
        )
    return result


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            level=dict(type="str", choices=["schema", "counts", "full"], default="full"),
            dest=dict(type="path"),
            compare_with=dict(type="path"),
            strict=dict(type="bool", default=False),
            migrations_dir=dict(type="path"),
            applied=dict(type="list", elements="str", default=[]),
            pending=dict(type="list", elements="str", default=[]),
            expect=dict(type="list", elements="raw", default=[]),
            skip_tables=dict(type="list", elements="str", default=[]),
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: work(module, target))


if __name__ == "__main__":
    main()
