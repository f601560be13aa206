# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Replay migrations of a folder into a scratch database: what the schema was before one, and is after it."""

from __future__ import annotations

import dataclasses
import datetime
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _engine_direct
from ansible_collections.pgops.migrations.plugins.module_utils._connection import sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import APPLIED, Verdict

#: A scratch database may lose its last commits in a crash; nothing is ever read from it after one.
SETTINGS = {"synchronous_commit": "off"}
_LOCK_WAIT = 10.0
_LONG_AGO = datetime.datetime.min.replace(tzinfo=datetime.timezone.utc)


def replay(target: Target, dbname: str, files: t.Sequence[MigrationFile], settings: t.Mapping[str, str] | None = None) -> None:
    """Apply these migrations to another database of the target's server, as the engine C(direct) does.

    :param dbname: a scratch database; it gets a ledger of its own.
    :param settings: server settings of the session, see ``_engine_direct.deploy``.
    :raises MigrationError: ``REPLAY_FAILED`` with C(migration) and C(sqlstate).
    """
    scratch = on_database(target, dbname)
    unreadable = [file.name for file in files if file.sql is None or "\0" in file.sql]
    if unreadable:
        raise MigrationError("%s has no script that could be replayed" % unreadable[0], code="REPLAY_FAILED", migration=unreadable[0], sqlstate=None)
    with sql_errors("replay migrations into %s" % dbname, target, default="REPLAY_FAILED"):
        failure = _engine_direct.deploy(scratch, files, dict(SETTINGS, **(settings or {})), "pgops.migrations replay", _LOCK_WAIT)
    if failure is not None:
        raise MigrationError(
            "%s cannot be replayed into an empty database (SQLSTATE %s): %s" % (failure.migration, failure.sqlstate, failure.message),
            code="REPLAY_FAILED",
            migration=failure.migration,
            sqlstate=failure.sqlstate,
        )


def on_database(target: Target, dbname: str) -> Target:
    """The same login on another database of the server."""
    return dataclasses.replace(target, dbname=dbname)


def applied_history(found: Survey) -> list[Verdict]:
    """The verdicts of what the ledger says is applied, in the order in which it was."""
    applied = [verdict for verdict in found.report.verdicts if verdict.verdict == APPLIED]
    # The names' order, which is that of the verdicts, decides between equal times.
    return sorted(applied, key=lambda verdict: (verdict.row and verdict.row.started_at) or _LONG_AGO)


def files_of(found: Survey, names: t.Sequence[str]) -> list[MigrationFile]:
    """The files of these migrations, in this order.

    :raises MigrationError: ``HISTORY_DIVERGED`` when one is not in the folder.
    """
    files = found.folder.by_name()
    missing = [name for name in names if name not in files or files[name].sql is None]
    if missing:
        raise MigrationError(
            "cannot replay what is not in the folder %s: %s" % (found.folder.path, ", ".join(missing)),
            code="HISTORY_DIVERGED",
            next_step="check out the revision that was deployed",
            missing=missing,
        )
    return [files[name] for name in names]


__all__ = ("SETTINGS", "applied_history", "files_of", "on_database", "replay")
