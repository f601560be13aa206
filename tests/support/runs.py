# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Results of phases as Ansible registers them, for the tests of records and reports."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._record import build_record

Result = t.Dict[str, t.Any]
POINT: Result = {
    "id": "20261122T163000Z-ab12cd", "path": "/var/backups/migrations/microcare/20261122T163000Z-ab12cd", "format": "directory", "size_bytes": 104998,
    "seconds": 7.4, "tables": 9, "rows": 200123, "confirmation": "microcare 20261122T163000Z-ab12cd",
}  # fmt: skip
KEPT = "microcare__kept_20261122t170000z_12ab34"
NAMES = ["20260228120000_a", "20260301120000_x"]


def failed(code: str, msg: str, **facts: t.Any) -> Result:
    """A module's failure as it is registered."""
    return dict(MigrationError(msg, code=code, **facts).result(), failed=True, changed=bool(facts.get("changed")))


def verdicts(*applied: str) -> list[Result]:
    return [{"name": name, "verdict": "applied" if name in applied else "pending", "seconds": 1.5 if name in applied else None, "flags": []} for name in NAMES]


PREFLIGHT: Result = {"changed": False, "status": "pending", "pending": NAMES, "warnings": ["the folder holds a README"]}
IDLE: Result = {"changed": False, "status": "up_to_date", "pending": [], "migrations": verdicts(*NAMES)}
BACKUP: Result = {"changed": True, "restore_point": POINT, "warnings": []}
DEPLOYED: Result = {
    "changed": True, "applied": [{"name": NAMES[0], "seconds": 1.25}, {"name": NAMES[1], "seconds": 4.9}], "seconds": 6.2, "status": "up_to_date",
    "pending": [], "engine": "prisma", "migrations": verdicts(*NAMES), "output": "All migrations have been successfully applied.",
}  # fmt: skip
UP_TO_DATE: Result = dict(IDLE, applied=[], seconds=0.0, engine="prisma", output="")
WOULD: Result = dict(DEPLOYED, applied=[], would_apply=NAMES, seconds=0.0, status="pending", migrations=verdicts())
VERIFIED: Result = {
    "changed": False,
    "findings": [],
    "before": {"tables": {"public.users": {"rows": 20000}}},
    "after": {"tables": {"public.users": {"rows": 20000}}},
}
LOST = failed(
    "DATA_LOSS", "public.users has 99 rows fewer than before", findings=[{"kind": "rows_fewer", "text": "public.users has 99 rows fewer than before."}]
)
RESTORED: Result = {
    "changed": True, "kept": KEPT, "restored": {"tables": 9, "rows": 200123}, "comparison": "equal", "terminated": 8, "attempts": 1,
    "seconds": {"check": 1.2, "read": 3.1, "restore": 20.4, "verify": 2.2, "swap": 0.2, "unavailable": 0.12},
    "restore_point": {"id": POINT["id"], "path": POINT["path"]},
    "loss": {"known": True, "tables": [{"table": "public.users", "rows_now": 19901, "rows_then": 20000}], "rows_now": 200024, "rows_then": 200123},
}  # fmt: skip
SAME: Result = dict(RESTORED, changed=False, kept="")
UNPROVEN: Result = dict(RESTORED, comparison="")


def broken(state: str = "failed_partial", code: str = "MIGRATION_FAILED_PARTIAL", **facts: t.Any) -> Result:
    """A deploy whose second migration failed."""
    error = 'could not create unique index "User_email_key"'
    return failed(
        code,
        "%s failed (SQLSTATE 23505): %s. State after it: %s (committed before the error: users)" % (NAMES[1], error, state),
        **dict(
            dict(
                changed=True, applied=NAMES[:1], planned=NAMES, migrations=verdicts(NAMES[0]), sqlstate="23505", seconds=3.5, output="Error: P3018",
                failed_migration={"name": NAMES[1], "state": state, "sqlstate": "23505", "error": error, "logs": "ERROR: %s\nDETAIL:  Key (email)=(bob@example.org)." % error},
                evidence={NAMES[1]: {"committed": 2, "objects": ["users"], "named": ["users"], "invalid_indexes": [], "reason": "committed before the error: users"}},
            ),
            **facts,
        ),
    )  # fmt: skip


def record(**changes: t.Any) -> Result:
    """A record of a run on staging1; ``phases`` and whatever else is given."""
    facts = dict(
        run_id="20261122-1", runbook="staging_migrate", target="staging1", phases={}, started_at="2026-11-22T17:00:00Z", finished_at="2026-11-22T17:00:40+00:00",
        environment="staging", operator="ops", revision="7d65178", database="microcare",
    )  # fmt: skip
    return build_record(**dict(facts, **changes))
