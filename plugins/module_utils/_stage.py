# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A view of a project in which some migrations do not exist.

The CLI applies whatever is pending; to stop earlier it must not see the rest. The
project itself is never touched: a temporary folder links to everything in it, down to
the migrations folder, which is copied in part.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._project import Project


@contextlib.contextmanager
def staged(project: Project, without: t.Collection[str]) -> t.Iterator[str]:
    """The folder to run the CLI in: the project, or its view without these migrations.

    :raises MigrationError: ``OPTION_INVALID`` when the migrations lie outside the project.
    """
    if not without:
        yield project.app_dir
        return
    relative = os.path.relpath(project.migrations_dir, project.app_dir)
    if relative.startswith(os.pardir):
        raise MigrationError(
            "up_to cannot hide migrations of %s, which lies outside %s" % (project.migrations_dir, project.app_dir),
            code="OPTION_INVALID",
            next_step="set engine: direct, or app_dir to a folder above the migrations",
        )
    with tempfile.TemporaryDirectory(prefix="pgops-project-") as view:
        _link(project.app_dir, view, relative.split(os.sep), without)
        yield view


def _link(source: str, view: str, down: t.Sequence[str], without: t.Collection[str]) -> None:
    """Link every entry of a folder, going down into the next one on the way to the migrations."""
    for entry in os.scandir(source):
        path = os.path.join(view, entry.name)
        if not down:
            # Inside the migrations folder: the CLI passes over linked directories, so these are copies.
            if entry.name not in without:
                shutil.copytree(entry.path, path) if entry.is_dir(follow_symlinks=False) else shutil.copy(entry.path, path, follow_symlinks=False)
        elif entry.name == down[0]:
            os.mkdir(path)
            _link(entry.path, path, down[1:], without)
        elif entry.is_file() and entry.stat().st_size < 1 << 20:
            # A linked configuration would be resolved to its real place, and find the real migrations there.
            shutil.copy(entry.path, path)
        else:
            os.symlink(entry.path, path)


__all__ = ("staged",)
