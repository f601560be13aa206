# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the boxes of the checklists ask of a run record. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, SKIPPED, WARN
from ansible_collections.pgops.migrations.plugins.module_utils._report_words import duration_text
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

NONE = "not_answered"
Record = t.Mapping[str, t.Any]
#: A verdict, and a sentence.
Answer = t.Tuple[str, str]
_ENVIRONMENTS = {"development": "development", "dev": "development", "staging": "staging", "stage": "staging", "production": "production", "prod": "production"}


class Run:
    """What the boxes ask of a record."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.deploy: Record = record.get("deploy") or {}
        self.verification: Record = record.get("verification") or {}
        self.outcome = str(record.get("outcome"))
        self.environment = _ENVIRONMENTS.get(str(record.get("environment") or "").strip().lower(), "")
        self.phases = {str(phase.get("name")): str(phase.get("outcome")) for phase in record.get("phases") or ()}
        self.checks = {str(check.get("name")): check for check in self.verification.get("checks") or () if isinstance(check, dict)}
        failed = self.deploy.get("failed_migration") or {}
        self.applied: list[Record] = [] if record.get("check_mode") else list(self.deploy.get("applied") or ())
        self.failed_name = "" if record.get("check_mode") else str(failed.get("name") or "")

    def deployed(self) -> Answer:
        """pass: migrations were applied and stayed; fail: that went wrong; else why there was none."""
        if self.record.get("check_mode"):
            return NONE, "Check mode: nothing was deployed."
        if self.failed_name:
            return FAIL, "%s failed." % self.failed_name
        if self.phases.get("deploy") == "failed" and self.outcome != "refused":
            return FAIL, "The deploy failed."
        if not self.applied:
            return NONE, "Nothing was deployed in this run."
        said = plural(len(self.applied), "migration")
        if self.outcome == "applied":
            return PASS, "%s applied in %s." % (said, duration_text(self.deploy.get("seconds")) or "a time that is not known")
        if self.outcome == "rolled_back":
            return FAIL, "%s applied, and undone by the rollback." % said
        return FAIL, "%s applied, and the run ended with: %s." % (said, self.outcome)

    def check(self, name: str) -> Answer:
        """The answer of one check; a skipped one gives none."""
        found = self.checks.get(name)
        if found is None:
            return NONE, "The check %s was not made in this run." % name
        said = str(found.get("text") or "")
        return (NONE, "The check %s was skipped: %s" % (name, said)) if found.get("verdict") == SKIPPED else (str(found.get("verdict")), said)

    def worst(self, names: t.Sequence[str]) -> Answer | None:
        """The first failure, else the first warning among these checks; None where neither is."""
        for wanted in (FAIL, WARN):
            for name in names:
                verdict, said = self.check(name)
                if verdict == wanted:
                    return verdict, "%s: %s" % (name, said)
        return None

    def passed(self, names: t.Sequence[str]) -> list[str]:
        return [name for name in names if self.check(name)[0] == PASS]

    def longest_migration(self) -> float | None:
        """The duration of the longest migration; None where one is not known."""
        known = [entry.get("seconds") for entry in self.applied]
        timed = [float(seconds) for seconds in known if isinstance(seconds, (int, float))]
        return max(timed) if timed and len(timed) == len(known) and not self.failed_name else None

    def seen_at_work(self) -> bool:
        """Whether a look fell into the time of a migration, or saw what it did; where the times are not known, that is assumed."""
        monitor = self.deploy.get("monitor") or {}
        spans = [(entry.get("started"), entry.get("ended")) for entry in monitor.get("migrations") or () if isinstance(entry, dict)]
        looks = [entry.get("t") for entry in monitor.get("samples") or () if isinstance(entry, dict)]
        if not spans or len(looks) < int(monitor.get("taken") or 0) or monitor.get("locks"):
            # Of merged samples only the first one's time is known.
            return True
        known = [(begin, end) for begin, end in spans if isinstance(begin, (int, float))]
        return any(isinstance(at, (int, float)) and begin <= at <= (at if end is None else end) for at in looks for begin, end in known)

    def was_compared(self) -> bool:
        """Whether there was a state before: its tables stand in the row counts, and a deploy at least adds rows to the ledger."""
        counted = self.record.get("row_counts_of") == "verification" and self.record.get("row_counts")
        return bool(counted or self.verification.get("differences"))

    def compared(self) -> str:
        """How much was compared: tables and rows of the fingerprint after the deploy."""
        tables, rows = self.verification.get("tables"), self.verification.get("rows")
        if not isinstance(tables, int) or not isinstance(rows, int):
            return ""
        return "%s, %s" % (plural(tables, "table"), plural(rows, "row"))


__all__ = ("NONE", "Answer", "Record", "Run")
