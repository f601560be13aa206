# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""M(pgops.migrations.migration_rehearsal) seen from the controller: run there, where the connection is local."""

from __future__ import annotations

from ansible_collections.pgops.migrations.plugins.modules.migration_rehearsal import main
from ansible_collections.pgops.migrations.plugins.plugin_utils._in_controller import InController


class ActionModule(InController):
    """Runs the module in a fork of the controller's process."""

    mains = {"pgops.migrations.migration_rehearsal": main}
