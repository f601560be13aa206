# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What an unfinished migration left behind, decided from evidence. Pure: no I/O.

An unfinished row of the ledger may mean that the migration runs, that it failed and
left nothing, that it failed half way, or that it was committed and its client died
before it could write so. The ledger alone cannot tell; transaction ids can: every
transaction that changed something has one, and the server remembers its end.
"""

from __future__ import annotations

import dataclasses
import typing as t

RUNNING, CLEAN, PARTIAL, UNRECORDED, UNKNOWN = "running", "failed_clean", "failed_partial", "committed_unrecorded", "unknown"


@dataclasses.dataclass(frozen=True)
class Evidence:
    """What was seen between the start of a migration and its end.

    ``error_recorded``: the server refused a statement and the client lived to write it.
    ``steps``: applied_steps_count, which the client raises after the whole script succeeded.
    ``session_alive``: a session still holds Prisma's lock.
    ``committed``: number of transactions in the window, committed or still in progress, that
    the ledger does not explain; None when the server could not be asked for all of them.
    ``objects``: catalogue objects that those transactions wrote; ``named``: those among
    them that the migration's own SQL names.
    ``invalid_indexes``: invalid indexes that the migration's own SQL names.
    ``doubt``: why no count of transactions can prove anything here, one sentence.
    """

    error_recorded: bool
    steps: int = 0
    session_alive: bool = False
    committed: int | None = None
    objects: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    invalid_indexes: tuple[str, ...] = ()
    doubt: str = ""

    def as_dict(self) -> dict[str, t.Any]:
        return {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(self).items()}


def decide(evidence: Evidence) -> tuple[str, str]:
    """The sub-state and the reason for it, one sentence.

    Nothing is called clean or committed without proof; what is not proved is unknown.
    """
    if evidence.session_alive:
        return RUNNING, "a session still holds Prisma's migration lock"
    if not evidence.error_recorded and evidence.steps > 0:
        return UNRECORDED, "the script ended without an error; only the finish of the row was not written"
    if evidence.committed == 0 and not evidence.doubt:
        return CLEAN, "no transaction in that time committed anything but the ledger's own row"
    named = evidence.named + evidence.invalid_indexes
    if evidence.error_recorded and named:
        return PARTIAL, "committed before the error: %s" % ", ".join(named[:10])
    return UNKNOWN, _why_unknown(evidence)


def _why_unknown(evidence: Evidence) -> str:
    if evidence.doubt:
        return evidence.doubt
    if evidence.committed is None:
        return "the transactions of that time can no longer be told one by one"
    if evidence.named:
        return "the client ended without recording an error; committed since: %s; whether that is all of it is not proved" % ", ".join(evidence.named[:10])
    if evidence.objects:
        return "committed in that time, and not named by the migration: %s" % ", ".join(evidence.objects[:10])
    return "%d transactions committed or open in that time cannot be told from the migration's" % evidence.committed


__all__ = ("CLEAN", "PARTIAL", "RUNNING", "UNKNOWN", "UNRECORDED", "Evidence", "decide")
