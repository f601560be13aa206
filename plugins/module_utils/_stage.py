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
import re
import shutil
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import SCRIPT
from ansible_collections.pgops.migrations.plugins.module_utils._project import Project, read_file, strip_comments


def check_stageable(project: Project, without: t.Collection[str], deploy_command: str | None = None) -> None:
    """:raises MigrationError: ``OPTION_INVALID`` when the CLI would find these migrations in spite of a view without them."""
    if not without:
        return
    if _outside(project.migrations_dir, project.app_dir) or project.migrations_dir == project.app_dir:
        raise MigrationError(
            "up_to cannot hide migrations of %s, which is no folder inside %s" % (project.migrations_dir, project.app_dir),
            code="OPTION_INVALID",
            next_step="set engine: direct, or app_dir to a folder above the migrations",
        )
    package = os.path.join(project.app_dir, "package.json")
    texts = [deploy_command or ""]
    texts += [strip_comments(read_file(project.config))] if project.config else []
    texts += [read_file(package)] if os.path.isfile(package) else []
    if project.absolute or _schema_outside(project) or any(_names(text, project.app_dir) for text in texts):
        raise MigrationError(
            "up_to cannot hide migrations from a project that names its own absolute path",
            code="OPTION_INVALID",
            next_step="set engine: direct, or use relative paths",
            app_dir=project.app_dir,
        )


def _schema_outside(project: Project) -> bool:
    if project.schema is None or not _outside(project.schema, project.app_dir):
        return False
    return _outside(os.path.realpath(project.schema), os.path.realpath(project.app_dir))


def _outside(path: str, folder: str) -> bool:
    return os.path.relpath(path, folder).split(os.sep)[0] == os.pardir


def _names(text: str, folder: str) -> bool:
    """Whether a text holds the folder's path; programs in its node_modules do not tell the CLI where migrations are."""
    paths = {folder, os.path.realpath(folder)} - {os.sep}
    return any(re.search(r"(?<![\w.-])" + re.escape(path) + r"(?![\w.-])(?!/node_modules\b)", text) for path in paths)


@contextlib.contextmanager
def staged(project: Project, without: t.Collection[str], deploy_command: str | None = None) -> t.Iterator[str]:
    """The folder to run the CLI in: the project, or its view without these migrations.

    :raises MigrationError: ``OPTION_INVALID`` when the migrations cannot be hidden.
    """
    check_stageable(project, without, deploy_command)
    if not without:
        yield project.app_dir
        return
    relative = os.path.relpath(project.migrations_dir, project.app_dir)
    with tempfile.TemporaryDirectory(prefix="pgops-project-") as outer:
        # Modules are looked for in the project, then above it: a workspace keeps them there.
        modules = _modules_above(project.app_dir)
        if modules:
            os.symlink(modules, os.path.join(outer, "node_modules"))
        view = os.path.join(outer, "project")
        os.mkdir(view)
        ways = [relative.split(os.sep)]
        if project.config:
            # The folder of the configuration, too: in a linked one it would be resolved to its real place.
            ways.append(os.path.relpath(project.config, project.app_dir).split(os.sep)[:-1])
        _link(project.app_dir, view, [way for way in ways if way], without, 0)
        yield view


def _modules_above(app_dir: str) -> str | None:
    folder = os.path.dirname(app_dir)
    while folder != os.path.dirname(folder):
        path = os.path.join(folder, "node_modules")
        if os.path.isdir(path):
            return path
        folder = os.path.dirname(folder)
    return None


def _link(source: str, view: str, ways: t.Sequence[t.Sequence[str]], without: t.Collection[str], depth: int) -> None:
    """Link every entry of a folder, going down on the way to the migrations (the first way) and to the configuration."""
    for entry in os.scandir(source):
        path = os.path.join(view, entry.name)
        down = [way for way in ways if len(way) > depth and way[depth] == entry.name]
        if down and ways[0] in down and len(ways[0]) == depth + 1:
            os.mkdir(path)
            _copy_migrations(entry.path, path, without)
        elif down:
            os.mkdir(path)
            _link(entry.path, path, down, without, depth + 1)
        else:
            _copy_or_link(entry, path)


def _copy_or_link(entry: os.DirEntry[str], path: str) -> None:
    # A linked configuration would be resolved to its real place, and find the real migrations there.
    try:
        if entry.is_file() and entry.stat().st_size < 1 << 20:
            shutil.copy(entry.path, path)
            return
    except OSError:
        pass  # What cannot be read here is left for the CLI to complain of, if it needs it.
    if os.path.lexists(path):
        os.unlink(path)
    os.symlink(entry.path, path)


def _copy_migrations(source: str, view: str, without: t.Collection[str]) -> None:
    """Copy what the CLI reads: each migration's script, as it passes over linked directories, and the files beside them."""
    for entry in os.scandir(source):
        path = os.path.join(view, entry.name)
        if entry.is_dir(follow_symlinks=False):
            if entry.name in without:
                continue
            os.mkdir(path)
            script = os.path.join(entry.path, SCRIPT)
            try:
                if os.path.isfile(script):
                    shutil.copy(script, os.path.join(path, SCRIPT))
            except OSError:
                pass  # The CLI takes an unreadable script for a missing one.
        elif entry.is_file():
            _copy_or_link(entry, path)


__all__ = ("check_stageable", "staged")
