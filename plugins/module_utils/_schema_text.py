# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The schema as pg_dump prints it, of a database and of an archive: it knows what a fingerprint leaves out.

Text search mappings, options of servers, rights on what PostgreSQL brings along ... are in every dump.
"""

from __future__ import annotations

import hashlib
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption, restoring
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._dump import TEXT_SETTINGS
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Child, started
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: What the text depends on, as for the dump that it is compared with.
_SESSION = dict(TEXT_SETTINGS, **QUIET)
#: Comments tell versions and times; the key of \restrict is new each time.
_VARYING = (b"--", b"\\restrict ", b"\\unrestrict ")


def of_database(program: Program, target: Target, lock_wait_timeout: float, application_name: str = "") -> str:
    """SHA-256 of the schema of the present database, under the settings of a dump.

    :param lock_wait_timeout: seconds; a table that is locked for longer is an error.
    :raises MigrationError: ``BACKUP_FAILED``.
    """
    argv = [program.path, "--schema-only", "--no-password", "--lock-wait-timeout=%d" % round(lock_wait_timeout * 1000)]
    with tempfile.TemporaryFile() as text, started(argv, target, application_name=application_name, settings=_SESSION, stdout=text) as child:
        return _digest(child, text, "pg_dump")


def of_archive(program: Program, path: str, manifest: Manifest, target: Target, decryption: Decryption | None = None) -> str:
    """The same of what a restore point would bring back.

    :raises MigrationError: ``BACKUP_FAILED``, ``DECRYPTION_FAILED``.
    """
    args = ["--schema-only", "--file=-"]
    with tempfile.TemporaryFile() as text, restoring(program, path, manifest, target, args, decryption=decryption, stdout=text) as child:
        return _digest(child, text, "pg_restore")


def _digest(child: Child, text: t.IO[bytes], program: str) -> str:
    done = child.wait()
    if done is None or done.rc != 0:
        raise MigrationError("%s %s" % (program, done.why() if done else "did not end"), code="BACKUP_FAILED")
    text.seek(0)
    value = hashlib.sha256()
    for line in text:
        if line.strip() and not line.startswith(_VARYING):
            value.update(line)
    return value.hexdigest()


__all__ = ("of_archive", "of_database")
