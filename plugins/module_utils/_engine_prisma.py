# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The engine C(prisma): the project's own Prisma CLI, or a command that calls it.

The URL reaches the CLI by the environment of the process and by nothing else.
"""

from __future__ import annotations

import os
import shlex
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, rows, scrub
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._plan import Failure, failure_of_cli
from ansible_collections.pgops.migrations.plugins.module_utils._process import Outcome, run_child
from ansible_collections.pgops.migrations.plugins.module_utils._project import Project
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import without_rows
from ansible_collections.pgops.migrations.plugins.module_utils._stage import staged
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target, parse_url

_SESSIONS = "SELECT pid FROM pg_stat_activity WHERE application_name = %s AND datname = %s AND pid <> pg_backend_pid()"
_END_SESSIONS = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = %s AND datname = %s AND pid <> pg_backend_pid()"


def command(project: Project, deploy_command: str | None, schema_file: str | None) -> list[str]:
    """The argument list that deploys: the operator's command, or the project's own CLI.

    :raises MigrationError: ``PRISMA_NOT_FOUND``, ``OPTION_INVALID``.
    """
    if deploy_command:
        try:
            argv = shlex.split(deploy_command)
        except ValueError as error:
            raise MigrationError("deploy_command cannot be split into words: %s" % error, code="OPTION_INVALID") from None
        if not argv:
            raise MigrationError("deploy_command is empty", code="OPTION_INVALID")
        return argv
    argv = [find_cli(project.app_dir), "migrate", "deploy"]
    return argv + (["--schema", _below(schema_file, project.app_dir)] if schema_file else []) + list(project.cli_options)


def _below(path: str, app_dir: str) -> str:
    """A path as seen from the project, so that it means the same in a view of it; one outside stays as it is."""
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path, app_dir)
    if relative.startswith(os.pardir):
        relative = os.path.relpath(os.path.realpath(path), os.path.realpath(app_dir))
    return path if relative.startswith(os.pardir) else relative


def find_cli(app_dir: str) -> str:
    """node_modules/.bin/prisma of the project or of a folder above it (a workspace)."""
    folder = app_dir
    while True:
        path = os.path.join(folder, "node_modules", ".bin", "prisma")
        if os.path.isfile(path):
            return path
        above = os.path.dirname(folder)
        if above == folder:
            break
        folder = above
    raise MigrationError(
        "%s has no node_modules/.bin/prisma" % app_dir, code="PRISMA_NOT_FOUND", next_step="run npm ci in %s, or set engine: direct" % app_dir, app_dir=app_dir
    )


def check_literal_url(project: Project, target: Target) -> None:
    """:raises MigrationError: ``WRONG_TARGET`` when schema or configuration name a URL themselves: the CLI would go there."""
    if project.literal_url is not None:
        try:
            written = parse_url(project.literal_url).label()
        except MigrationError:
            written = "which cannot be read"
        raise MigrationError(
            "the project's schema or configuration holds a literal URL (%s), which the CLI would use instead of %s" % (written, target.label()),
            code="WRONG_TARGET",
            next_step='write url = env("DATABASE_URL") in the datasource block, process.env.DATABASE_URL in prisma.config.ts, or set engine: direct',
        )


def environment(project: Project, target: Target, names: t.Sequence[str], settings: t.Mapping[str, str], application_name: str) -> dict[str, str]:
    """The environment of the CLI: ours, with the URL under every name the project reads it from."""
    url = target.prisma_url(settings, application_name)
    env = dict(os.environ, CHECKPOINT_DISABLE="1", PRISMA_HIDE_UPDATE_MESSAGE="1", NO_COLOR="1", npm_config_update_notifier="false")
    env.update((name, url) for name in (names or project.url_env))
    return env


def deploy(
    target: Target,
    project: Project,
    *,
    planned: t.Sequence[str],
    pending: t.Sequence[str],
    options: t.Mapping[str, t.Any],
    settings: t.Mapping[str, str],
    application_name: str,
) -> tuple[Failure | None, str]:
    """Run the CLI; what it says of its end, and the end of its output without secrets.

    :param pending: all that it would apply; where more than ``planned``, it is shown a
        copy of the project without the rest.
    """
    check_literal_url(project, target)
    argv = command(project, options.get("deploy_command"), options.get("schema_file"))
    env = environment(project, target, options.get("database_url_env") or (), settings, application_name)
    timeout = float(options.get("timeout") or 0)
    with staged(project, set(pending) - set(planned), options.get("deploy_command")) as folder:
        started = time.monotonic()
        try:
            outcome = run_child(argv, folder, env, timeout)
        except OSError as error:
            raise MigrationError("cannot start %s: %s" % (argv[0], error.strerror), code="PRISMA_NOT_FOUND") from None
        seconds = time.monotonic() - started
    end_sessions(target, application_name)
    output = without_rows(scrub(outcome.output, target))
    return failure_of_cli(outcome.returncode, output, outcome.timed_out, seconds), output


def end_sessions(target: Target, application_name: str, wait: float = 10.0) -> None:
    """End what the CLI left on the server; a killed client's session goes on until it writes.

    :raises MigrationError: ``SESSIONS_REMAIN`` with the pids.
    """
    end = time.monotonic() + wait
    with connection(target) as conn:
        while True:
            found = rows(conn, _SESSIONS, (application_name[:63], target.dbname))
            if not found:
                return
            if time.monotonic() >= end:
                pids = [pid for (pid,) in found]
                text = "the deploy command ended, but its sessions live on: pid %s" % ", ".join(map(str, pids))
                raise MigrationError(text, code="SESSIONS_REMAIN", pids=pids)
            # A session that ends by itself within a moment is not cut off.
            if end - time.monotonic() < wait - 1:
                rows(conn, _END_SESSIONS, (application_name[:63], target.dbname))
            time.sleep(0.05)


__all__ = ("Outcome", "command", "deploy", "end_sessions", "environment", "find_cli")
