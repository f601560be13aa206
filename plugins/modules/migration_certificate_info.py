#!/usr/bin/python
# -*- coding: utf-8 -*-

# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
---
module: migration_certificate_info
short_description: Whether a rehearsal has certified the pending migrations of a database
version_added: "1.0.0"
description:
  - Reads the state of the database (pending migrations, digest of the migration set, head of the ledger, schema, server) and the certificate that a
    rehearsal has left, and says whether the certificate is about exactly this state, fresh enough, whole, and signed where that is demanded.
  - Reads only. No row of a table is read, and no lock is taken that a migration waits for.
  - Certificates lie in O(certificate_dir) on the host of the target, one file per database with mode 0600. The file holds a digest of itself, so a
    damaged one is found. Against somebody who can write there only a signature helps, see O(signed_by).
author:
  - pgops.migrations contributors (@pgops)
options:
  certificate_dir:
    description: Folder of the certificates, an absolute path or one that begins with C(~).
    type: path
    required: true
  max_days:
    description: Days for which a certificate is valid.
    type: float
    default: 7
  signed_by:
    description: Full fingerprint of the OpenPGP key that must have signed the certificate, or of its primary key. Empty means that no signature is demanded.
    type: str
    default: ''
  gpg_home:
    description: Home folder of gpg, with the public key. Empty means gpg's own default.
    type: path
  demand:
    description: Fail with the code in RV(refusal_code) where migrations are pending, there is no valid certificate, and no override was typed.
    type: bool
    default: false
  override:
    description:
      - What an operator typed to go without a rehearsal, C(DATABASE:without-rehearsal:REASON), or a list of these, one per database.
      - The database's name is percent-encoded where it has other characters than letters, digits and C(_.-~). The reason has at least four characters.
    type: raw
  engine:
    description: As in M(pgops.migrations.migration_deploy).
    type: str
    choices: [prisma, direct]
    default: prisma
  deploy_command:
    description: As in M(pgops.migrations.migration_deploy).
    type: str
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
  expected:
    description: As in M(pgops.migrations.migration_deploy), what is to be certified. Fails with C(LEDGER_MOVED) where something else is pending now.
    type: list
    elements: str
  assume_resolved:
    description: As in M(pgops.migrations.migration_deploy), for check mode.
    type: dict
    default: {}
  maintenance_db:
    description: Database on the same server where locks are taken; here it is only seen whether another run is at work.
    type: str
    default: postgres
  run_id:
    description: Identifies the run, and names its connections on the server.
    type: str
    default: ''
extends_documentation_fragment:
  - pgops.migrations.connection
  - pgops.migrations.project
  - pgops.migrations.attributes
  - pgops.migrations.attributes.info_module
seealso:
  - module: pgops.migrations.migration_deploy
  - module: pgops.migrations.migration_info
"""

EXAMPLES = r"""
- name: Is there a valid certificate?
  pgops.migrations.migration_certificate_info:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    certificate_dir: /var/lib/migrations/certificates
  register: certified

- name: Refuse to go on without one, signed by the release team
  pgops.migrations.migration_certificate_info:
    database_url: "{{ migration_database_url }}"
    app_dir: /srv/microcare
    certificate_dir: /var/lib/migrations/certificates
    signed_by: 4F1C6A7B2D9E0F3A5C8B1D2E4F6A7B8C9D0E1F2A
    demand: true
"""

RETURN = r"""
needed:
  description: Whether anything is pending. Where nothing is, there is nothing to certify.
  returned: success
  type: bool
  sample: true
valid:
  description: Whether there is a valid certificate for the state as it is now.
  returned: always
  type: bool
  sample: true
refusal_code:
  description:
    - Why not, as a code; C(CERTIFICATE_MISSING), C(CERTIFICATE_STALE), C(CERTIFICATE_MISMATCH), C(CERTIFICATE_INVALID) or C(CERTIFICATE_UNSIGNED).
    - Empty where the certificate is valid, or none is needed.
  returned: always
  type: str
  sample: CERTIFICATE_STALE
refusal:
  description: The same in words.
  returned: success
  type: str
mismatches:
  description: In what the certificate is about another state, with C(name), C(rehearsed), C(now) and C(text) each.
  returned: when there is no valid certificate
  type: list
  elements: dict
  sample: [{name: ledger_head, rehearsed: 20260101000000_a, now: 20260201000000_b, text: "the head of the ledger (rehearsed .., now ..)"}]
age_days:
  description: How old the certificate is; none without one.
  returned: always
  type: float
  sample: 1.25
signed_by:
  description: Fingerprint of the key that signed it, where O(signed_by) demands one.
  returned: always
  type: str
overridden:
  description: Whether O(override) lets this database go without a valid certificate.
  returned: always
  type: bool
  sample: false
override_reason:
  description: The reason that was typed.
  returned: always
  type: str
certificate_path:
  description: Where the certificate is, or would be.
  returned: always
  type: str
  sample: /var/lib/migrations/certificates/microcare@7301234567890123456.json
certificate:
  description: The certificate as it was read, with the state that was rehearsed, C(budgets), C(measured), C(issued_at) and C(run_id); empty without one.
  returned: success
  type: dict
state_now:
  description: The state as it is now, with the same names as in the certificate.
  returned: success
  type: dict
code:
  description: Stable code of the error.
  returned: failure
  type: str
  sample: CERTIFICATE_MISSING
next_step:
  description: What to do next.
  returned: failure
  type: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from ansible_collections.pgops.migrations.plugins.module_utils._certified import certified
from ansible_collections.pgops.migrations.plugins.module_utils._module import run
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC


def main() -> None:
    module = AnsibleModule(
        argument_spec=connection_argument_spec(
            certificate_dir=dict(type="path", required=True),
            max_days=dict(type="float", default=7),
            signed_by=dict(type="str", default=""),
            gpg_home=dict(type="path"),
            demand=dict(type="bool", default=False),
            override=dict(type="raw"),
            engine=dict(type="str", choices=["prisma", "direct"], default="prisma"),
            deploy_command=dict(type="str"),
            up_to=dict(type="str"),
            hold=dict(type="list", elements="str", default=[]),
            allow=dict(type="list", elements="str", default=[]),
            expected=dict(type="list", elements="str"),
            assume_resolved=dict(type="dict", default={}),
            maintenance_db=dict(type="str", default="postgres"),
            run_id=dict(type="str", default=""),
            **PROJECT_SPEC,
        ),
        supports_check_mode=True,
        **CONNECTION_RULES,
    )
    run(module, lambda target: certified(target, module.params))


if __name__ == "__main__":
    main()
