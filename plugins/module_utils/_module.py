# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Where the collection's errors become a module's result: the only place."""

from __future__ import annotations

import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule, missing_required_lib
from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._job import Job, detach
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target, target_from_options


def apart(module: AnsibleModule) -> Job:
    """Go on in a process apart from the connection; the one that was called ends here, with the name of the job or with its failure."""
    params = module.params
    try:
        job = detach(params["journal_dir"], params["job_id"], {"run_id": params["run_id"]})
    except MigrationError as error:
        module.fail_json(**dict(error.result(), touched=False))
    if isinstance(job, Job):
        return job
    module.exit_json(changed=False, job=job)
    raise SystemExit(0)


def run(module: AnsibleModule, work: t.Callable[[Target], dict[str, t.Any]]) -> t.NoReturn:
    """Do a module's work and end the module with its result or its failure.

    :param work: takes the target, returns the result; raises :class:`MigrationError`.
    """
    if psycopg2 is None:
        module.fail_json(code="PSYCOPG2_MISSING", msg="PSYCOPG2_MISSING: %s" % missing_required_lib("psycopg2"))
    try:
        target = target_from_options(module.params)
        # Ansible masks the URL as a whole; a program that prints a part of it must not leak either.
        module.no_log_values.update(target.secrets())
        result = work(target)
        for warning in result.pop("warnings", ()):
            module.warn(warning)
    except MigrationError as error:
        module.fail_json(**error.result())
    except psycopg2.Error as error:
        module.fail_json(
            **MigrationError(
                " ".join(str(error).split()),
                code="CONNECTION_LOST" if isinstance(error, psycopg2.OperationalError) and not error.pgcode else "SQL_ERROR",
                sqlstate=error.pgcode,
            ).result()
        )
    except Exception as error:  # pylint: disable=broad-except # a mistake of ours must still end with a code
        module.fail_json(exception=traceback.format_exc(), **MigrationError("%s: %s" % (type(error).__name__, error), code="INTERNAL").result())
    module.exit_json(**result)
    raise SystemExit(0)


__all__ = ("apart", "run")
