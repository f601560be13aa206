# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""pg_restore on the archive of a restore point, whether it is encrypted or not.

An encrypted archive goes through a pipe from the tool that decrypts it to pg_restore;
its plain text is never on the disk.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._encryption import Decryption, decrypt_argv, tool_environment
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Child, Finished, spawned, started
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


class _Fed(Child):
    """pg_restore that is fed by a tool; it ended well only if the tool did."""

    def __init__(self, child: Child, feeder: Child, tool: str) -> None:  # pylint: disable=super-init-not-called
        self.__dict__.update(child.__dict__)
        self._feeder, self._tool = feeder, tool

    def wait(self, timeout: float | None = None) -> Finished | None:
        """:raises MigrationError: ``DECRYPTION_FAILED``."""
        done = super().wait(timeout)
        if done is None:
            return None
        # It reads to the end, or it is told by SIGPIPE that nobody listens any more.
        fed = self._feeder.wait(30.0)
        if fed is None or fed.rc > 0 or (fed.rc < 0 and done.rc == 0):
            raise MigrationError("%s %s" % (self._tool, fed.why() if fed else "did not end"), code="DECRYPTION_FAILED")
        return done


def archive_path(path: str, manifest: Manifest) -> str:
    """The archive of the restore point at ``path``."""
    return os.path.join(os.path.normpath(path), manifest.archive["path"])


@contextlib.contextmanager
def restoring(
    program: Program,
    path: str,
    manifest: Manifest,
    target: Target,
    args: t.Sequence[str],
    dbname: str | None = None,
    application_name: str = "",
    settings: t.Mapping[str, str] | None = None,
    decryption: Decryption | None = None,
    stdout: t.Any = None,
) -> t.Iterator[Child]:
    """Start pg_restore on the archive; at the end of the block everything that still runs is ended.

    An encrypted archive is a stream: it can be read once, and not by ``--jobs``.

    :param args: what stands before the archive in argv.
    :param stdout: a file or the end of a pipe for the output; kept for ``Finished`` by default.
    :raises MigrationError: ``PROGRAM_MISSING``; ``Child.wait`` raises ``DECRYPTION_FAILED``.
    """
    archive = archive_path(path, manifest)
    if manifest.encryption is None:
        with started([program.path, *args, archive], target, dbname, application_name, settings, stdout=stdout) as child:
            yield child
        return
    tool = manifest.encryption["tool"]
    how = decryption or Decryption()
    with spawned(decrypt_argv(tool, archive, how), tool_environment(how.gpg_home), target, stdout=subprocess.PIPE) as feeder:
        source = t.cast("t.IO[bytes]", feeder.process.stdout)
        with started([program.path, *args], target, dbname, application_name, settings, stdin=source, stdout=stdout) as child:
            # Only pg_restore holds this end now, so its death reaches the tool.
            source.close()
            yield _Fed(child, feeder, tool)


__all__ = ("Decryption", "archive_path", "restoring")
