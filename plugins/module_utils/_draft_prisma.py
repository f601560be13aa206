# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The draft of the project's own Prisma CLI: C(prisma migrate diff) between two folders.

It needs a shadow database, which the CLI resets: it is shown a scratch database only,
never the live one. A project whose CLI wants the shadow's URL as an argument is not asked,
because the password would stand in the process list.
"""

from __future__ import annotations

import os
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _engine_prisma
from ansible_collections.pgops.migrations.plugins.module_utils._connection import scrub
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import LOCK_FILE, SCRIPT, Folder, MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._process import run_child
from ansible_collections.pgops.migrations.plugins.module_utils._project import Project
from ansible_collections.pgops.migrations.plugins.module_utils._replay import on_database
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import without_rows
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

_TIMEOUT = 300.0


def draft(
    target: Target,
    dbname: str,
    project: Project,
    folder: Folder,
    after: t.Sequence[MigrationFile],
    before: t.Sequence[MigrationFile],
) -> str:
    """The CLI's script from the schema after all migrations to the one before.

    :param dbname: an empty scratch database; the CLI may do with it what it likes.
    :raises MigrationError: ``PRISMA_NOT_FOUND``, ``WRONG_TARGET``, ``DEPLOY_COMMAND_FAILED`` with why the CLI cannot do it here.
    """
    scratch = on_database(target, dbname)
    _engine_prisma.check_literal_url(project, target)
    cli = _engine_prisma.find_cli(project.app_dir)
    name = "pgops-diff %d" % os.getpid()
    env = _engine_prisma.environment(project, scratch, (), {}, name)
    with tempfile.TemporaryDirectory(prefix="pgops-reverse-") as outer:
        ends = [_write(os.path.join(outer, part), folder, files) for part, files in (("after", after), ("before", before))]
        output = os.path.join(outer, "draft.sql")
        argv = [cli, "migrate", "diff", "--from-migrations", ends[0], "--to-migrations", ends[1], "--script", "--output", output]
        try:
            outcome = run_child(argv, project.app_dir, env, _TIMEOUT)
        except OSError as error:
            raise MigrationError("cannot start %s: %s" % (cli, error.strerror), code="PRISMA_NOT_FOUND") from None
        _engine_prisma.end_sessions(scratch, name)
        said = without_rows(scrub(outcome.output, target))
        if outcome.returncode != 0 or outcome.timed_out or not os.path.isfile(output):
            text = "the Prisma CLI did not draft it"
            if "shadow-database-url" in said:
                text = "the Prisma CLI wants the URL of a shadow database as an argument, where its password could be seen"
            raise MigrationError(text, code="DEPLOY_COMMAND_FAILED", output=said)
        with open(output, encoding="utf-8") as handle:
            return handle.read()


def _write(path: str, folder: Folder, files: t.Sequence[MigrationFile]) -> str:
    os.mkdir(path)
    if folder.lock is not None:
        _text(os.path.join(path, LOCK_FILE), folder.lock)
    for file in files:
        os.mkdir(os.path.join(path, file.name))
        _text(os.path.join(path, file.name, SCRIPT), file.sql or "")
    return path


def _text(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8", errors="surrogatepass", newline="") as handle:
        handle.write(text)


__all__ = ("draft",)
