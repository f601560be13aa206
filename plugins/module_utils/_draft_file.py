# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Write a migration folder, whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import SCRIPT


def write(folder: str, name: str, text: str) -> None:
    """Write the migration folder, whole or not at all, over nothing that exists.

    :raises MigrationError: ``REVERSE_EXISTS``, ``PROJECT_MISSING``.
    """
    path = os.path.join(folder, name)
    try:
        # Beside the migrations folder, in which even a half-made folder would be a migration.
        aside = tempfile.mkdtemp(prefix=".pgops-reverse-", dir=os.path.dirname(os.path.abspath(folder)))
        try:
            with open(os.path.join(aside, SCRIPT), "w", encoding="utf-8", errors="surrogatepass", newline="") as handle:
                handle.write(text)
                handle.flush()
                os.fsync(handle.fileno())
            os.chmod(aside, os.stat(folder).st_mode & 0o777)
            if os.path.lexists(path):
                raise MigrationError("the migration %s exists already" % name, code="REVERSE_EXISTS")
            os.rename(aside, path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise MigrationError("cannot write %s (%s)" % (path, error.strerror or error), code="PROJECT_MISSING", next_step="make %s writable" % folder) from None


__all__ = ("write",)
