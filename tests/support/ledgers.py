# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Folders and ledgers in a few words, for tables of cases."""

from __future__ import annotations

import datetime
import itertools
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder, MigrationFile, digest
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import Facts, LedgerRow
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import Report, classify

POSTGRESQL = 'provider = "postgresql"\n'
_START = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)


def sql_of(name: str) -> str:
    return "CREATE TABLE t_%s();\n" % name


def folder(*names: str, without_script: t.Collection[str] = (), lock: str | None = POSTGRESQL) -> Folder:
    """A folder with these migrations, in this order."""
    return Folder("/app/prisma/migrations", tuple(MigrationFile(name, None if name in without_script else sql_of(name)) for name in names), lock)


def rows(*described: str) -> tuple[LedgerRow, ...]:
    """Rows in the order in which they were started, each as C(name state...).

    States: done, failed (logs), unfinished, rolled (rolled back), done+rolled, marked; C(edited) after them: another text was recorded.
    """
    made = []
    for number, description in zip(itertools.count(), described):
        name, state, *more = description.split()
        start = _START + datetime.timedelta(minutes=number)
        end = start + datetime.timedelta(seconds=1.5)
        made.append(
            LedgerRow(
                id=str(number),
                checksum=digest(sql_of(name) + ("-- other" if "edited" in more else "")),
                migration_name=name,
                started_at=start,
                finished_at=start if state == "marked" else end if state in ("done", "done+rolled") else None,
                rolled_back_at=end if state in ("rolled", "done+rolled") else None,
                logs='ERROR: relation "a" already exists' if state == "failed" else "" if state == "marked" else None,
                applied_steps_count=1 if state in ("done", "done+rolled") else 0,
            )
        )
    return tuple(made)


def report(migrations: Folder, *described: str, substates: t.Mapping[str, str] | None = None, **facts: t.Any) -> Report:
    return classify(migrations, Facts(rows=rows(*described), **facts), substates)
