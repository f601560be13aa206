# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""The end of a module that connects to no database. The only place here that ends one."""

from __future__ import annotations

import traceback
import typing as t

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError


def run_local(module: AnsibleModule, work: t.Callable[[], dict[str, t.Any]]) -> t.NoReturn:
    """Do a module's work and end the module with its result or its failure.

    :param work: returns the result; raises :class:`MigrationError`.
    """
    try:
        result = work()
    except MigrationError as error:
        module.fail_json(**error.result())
    except Exception as error:  # pylint: disable=broad-except # a mistake of ours must still end with a code
        module.fail_json(exception=traceback.format_exc(), **MigrationError("%s: %s" % (type(error).__name__, error), code="INTERNAL").result())
    module.exit_json(**result)
    raise SystemExit(0)


__all__ = ("run_local",)
