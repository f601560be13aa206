# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The verdict per migration and the status per target. Pure: folder and facts in, report out.

The rules are those of Prisma's engine: what decides is not the newest row of a name
but whether any row of it is unfinished, and then whether any row is not rolled back.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._collation import sort_key, sort_names
from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder, MigrationFile, order_warnings
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import Facts, LedgerRow
from ansible_collections.pgops.migrations.plugins.module_utils._prediction import Deploy, predict_deploy
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import without_rows

APPLIED, PENDING, ROLLED_BACK, UNFINISHED = "applied", "pending", "rolled_back", "unfinished"
EDITED, MISSING, OUT_OF_ORDER, MARKED = "edited", "missing_locally", "out_of_order", "marked"


@dataclasses.dataclass(frozen=True)
class Verdict:
    """One name: its verdict, flags, and the row that decides.

    ``substate`` is set for C(unfinished) only. ``prisma_reports_edited`` is what the
    CLI's own comparison finds, which looks at the first row of a name, rolled back or not.
    """

    name: str
    verdict: str
    flags: tuple[str, ...] = ()
    substate: str | None = None
    row: LedgerRow | None = None
    rows: int = 0
    prisma_reports_edited: bool = False

    @property
    def seconds(self) -> float | None:
        """Duration by the clock of the client that deployed it."""
        if self.row and self.row.started_at and self.row.finished_at:
            return round((self.row.finished_at - self.row.started_at).total_seconds(), 3)
        return None

    def as_dict(self) -> dict[str, t.Any]:
        """Plain values for a module's result."""
        row = self.row
        return {
            "name": self.name,
            "verdict": self.verdict,
            "substate": self.substate,
            "flags": list(self.flags),
            "rows": self.rows,
            "started_at": row.started_at.isoformat() if row and row.started_at else None,
            "finished_at": row.finished_at.isoformat() if row and row.finished_at else None,
            "rolled_back_at": row.rolled_back_at.isoformat() if row and row.rolled_back_at else None,
            "seconds": self.seconds,
            "logs": without_rows(row.logs) if row and row.logs else None,
            "prisma_reports_edited": self.prisma_reports_edited,
        }


@dataclasses.dataclass(frozen=True)
class Report:
    """Everything that is known about a target before anything is done to it."""

    status: str
    verdicts: tuple[Verdict, ...]
    pending: tuple[str, ...]
    next_deploy: Deploy
    status_misleads: tuple[str, ...]
    warnings: tuple[str, ...]
    ledger_head: str | None

    def named(self, verdict: str) -> list[str]:
        return [found.name for found in self.verdicts if found.verdict == verdict]

    def flagged(self, flag: str) -> list[str]:
        return [found.name for found in self.verdicts if flag in found.flags]


def classify(folder: Folder, facts: Facts, substates: t.Mapping[str, str] | None = None) -> Report:
    """Verdicts, status and prediction.

    :param substates: sub-state per unfinished name, where evidence was gathered.
    """
    by_name: dict[str, list[LedgerRow]] = {}
    for row in facts.rows:
        by_name.setdefault(row.migration_name, []).append(row)
    files = folder.by_name()
    verdicts = [_verdict(name, files.get(name), by_name.get(name, []), facts, substates or {}) for name in sort_names(set(files) | set(by_name))]
    verdicts = _mark_out_of_order(verdicts)
    deploy = predict_deploy(folder, facts)
    pending = tuple(v.name for v in verdicts if v.name in files and v.verdict in (PENDING, ROLLED_BACK))
    finished = [row for row in facts.rows if row.finished_at and not row.rolled_back_at]
    return Report(
        status=_status(facts, verdicts, pending),
        verdicts=tuple(verdicts),
        pending=pending,
        next_deploy=deploy,
        status_misleads=tuple(_misleads(folder, facts, verdicts)),
        warnings=tuple(order_warnings(folder.names)),
        ledger_head=max(finished, key=lambda row: (row.started_at is not None, row.started_at)).migration_name if finished else None,
    )


def _verdict(name: str, file: MigrationFile | None, rows: list[LedgerRow], facts: Facts, substates: t.Mapping[str, str]) -> Verdict:
    flags = []
    live = [row for row in rows if row.rolled_back_at is None]
    unfinished = [row for row in live if row.finished_at is None]
    if unfinished:
        verdict, decides = UNFINISHED, unfinished[-1]
    elif live:
        verdict, decides = APPLIED, live[-1]
    elif rows:
        verdict, decides = ROLLED_BACK, rows[-1]
    else:
        return Verdict(name, PENDING)
    # A rolled-back migration is expected to be mended before it runs again.
    if file is None or (file.sql is None and verdict != ROLLED_BACK):
        flags.append(MISSING)
    elif verdict != ROLLED_BACK and not file.matches(decides.checksum):
        flags.append(EDITED)
    if verdict == APPLIED and _marked(decides):
        flags.append(MARKED)
    substate = None
    if verdict == UNFINISHED:
        substate = "running" if facts.lock_holders else substates.get(name, "unknown")
    return Verdict(name, verdict, tuple(flags), substate, decides, len(rows), file is not None and not file.matches(rows[0].checksum))


def _marked(row: LedgerRow) -> bool:
    """Whether the row was written by C(resolve --applied): recorded, never executed."""
    return row.applied_steps_count == 0 and row.started_at == row.finished_at and row.finished_at is not None


def _mark_out_of_order(verdicts: list[Verdict]) -> list[Verdict]:
    newest = max((sort_key(v.name) for v in verdicts if v.verdict == APPLIED), default=None)
    if newest is None:
        return verdicts
    return [dataclasses.replace(v, flags=v.flags + (OUT_OF_ORDER,)) if v.verdict == PENDING and sort_key(v.name) < newest else v for v in verdicts]


def _status(facts: Facts, verdicts: t.Sequence[Verdict], pending: t.Sequence[str]) -> str:
    if not facts.database_exists:
        return "absent"
    if not facts.ledger_exists:
        return "unmanaged" if facts.tables else "empty"
    if any(v.verdict == UNFINISHED for v in verdicts):
        return "blocked"
    if any(v.verdict == APPLIED and set(v.flags) & {EDITED, MISSING} or OUT_OF_ORDER in v.flags for v in verdicts):
        return "diverged"
    return "pending" if pending else "up_to_date"


def _misleads(folder: Folder, facts: Facts, verdicts: t.Sequence[Verdict]) -> t.Iterator[str]:
    """Where C(prisma migrate status) says less than, or other than, what is true."""
    if not facts.ledger_exists:
        return
    for flag, says in ((EDITED, "was edited after it was applied"), (MISSING, "was applied and is not in the folder")):
        names = [v.name for v in verdicts if v.verdict == APPLIED and flag in v.flags]
        if names:
            yield "prisma migrate status does not say that %s %s" % (", ".join(names), says)
    waiting = [v.name for v in verdicts if v.verdict == ROLLED_BACK and MISSING not in v.flags]
    if waiting:
        yield "prisma migrate status calls the schema up to date; deploy will run again what was rolled back: %s" % ", ".join(waiting)
    unfinished = [v.name for v in verdicts if v.verdict == UNFINISHED]
    if unfinished and any(v.verdict == PENDING for v in verdicts):
        yield "prisma migrate status names only the pending migrations; deploy refuses because of %s (P3009)" % ", ".join(unfinished)
    out_of_order = [v.name for v in verdicts if OUT_OF_ORDER in v.flags]
    if out_of_order:
        yield "prisma migrate status does not say that %s would be applied out of order" % ", ".join(out_of_order)
    to_run = {v.name for v in verdicts if v.verdict in (PENDING, ROLLED_BACK)}
    missing_script = [m.name for m in folder.migrations if m.sql is None and m.name in to_run]
    if missing_script:
        yield "prisma migrate status counts %s, which has no migration.sql; deploy stops there (P3015)" % ", ".join(missing_script)


__all__ = ("APPLIED", "EDITED", "MARKED", "MISSING", "OUT_OF_ORDER", "PENDING", "ROLLED_BACK", "UNFINISHED", "Report", "Verdict", "classify")
