# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What is done to a restored database before it becomes live: statistics for the planner, and the proof of its content."""

from __future__ import annotations

import concurrent.futures

from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest
from ansible_collections.pgops.migrations.plugins.module_utils._staging import analyze, verify
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def analyze_and_verify(target: Target, dbname: str, manifest: Manifest, application_name: str = "") -> None:
    """Both at once, for both only read the rows: no statistics are part of a fingerprint.

    :raises MigrationError: ``FINGERPRINT_MISMATCH``, ``RESTORE_FAILED``.
    """
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        analyzing = pool.submit(analyze, target, dbname, application_name)
        verify(target, dbname, manifest, application_name)
        analyzing.result()


__all__ = ("analyze_and_verify",)
