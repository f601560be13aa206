# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Read a target whole: project, folder, ledger, evidence. What every module starts with."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder, read_folder
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import ABSENT, Facts, read_facts
from ansible_collections.pgops.migrations.plugins.module_utils._project import Project, find_project
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import APPLIED, UNFINISHED, Report, classify

#: The options of every module that reads a migrations folder.
PROJECT_SPEC: dict[str, t.Any] = dict(
    app_dir=dict(type="path"),
    migrations_dir=dict(type="path"),
    schema_file=dict(type="path"),
)


@dataclasses.dataclass(frozen=True)
class Survey:
    """A target as it stands: where its migrations are, what they are, and the verdicts."""

    project: Project
    folder: Folder
    facts: Facts
    report: Report
    evidence: dict[str, dict[str, t.Any]]

    def as_dict(self) -> dict[str, t.Any]:
        """The result that migration_info returns, and that every other module returns as its state."""
        report = self.report
        return {
            "status": report.status,
            "migrations": [verdict.as_dict() for verdict in report.verdicts],
            "pending": list(report.pending),
            "ledger_head": report.ledger_head,
            "set_digest": self.folder.set_digest,
            "next_deploy": report.next_deploy.as_dict(),
            "status_misleads": list(report.status_misleads),
            "schema": {"exists": self.facts.schema_exists, "ledger_exists": self.facts.ledger_exists, "tables": self.facts.tables},
            "sessions": {"holders": list(self.facts.lock_holders), "waiters": list(self.facts.lock_waiters)},
            "evidence": self.evidence,
            "migrations_dir": self.folder.path,
        }

    def brief(self) -> dict[str, t.Any]:
        """What a failure returns, short enough to be read at night: what is not simply in order."""
        whole = self.as_dict()
        whole["migrations"] = [entry for entry in whole["migrations"] if entry["verdict"] != APPLIED or entry["flags"]]
        if not (self.facts.lock_holders or self.facts.lock_waiters):
            del whole["sessions"]
        return {key: value for key, value in whole.items() if key not in ("schema", "set_digest", "status_misleads") and value not in ({}, None)}


def project_of(params: t.Mapping[str, t.Any]) -> tuple[Project, Folder]:
    """The project and its folder as a module's options name them."""
    project = find_project(params.get("app_dir"), params.get("migrations_dir"), params.get("schema_file"))
    return project, read_folder(project.migrations_dir)


def survey(target: Target, project: Project, folder: Folder, start_xid: int | None = None, also: t.Callable[[t.Any], None] | None = None) -> Survey:
    """Everything about a target, over one read-only connection. A missing database is a status.

    :param start_xid: where a deploy began, when one has just ended; makes evidence exact.
    :param also: what else is to be read over the connection.
    """
    try:
        with connection(target, read_only=True) as conn:
            facts = read_facts(conn, target)
            evidence, substates = _unfinished(conn, target, folder, facts, start_xid)
            if also is not None:
                also(conn)
    except MigrationError as error:
        if error.code != "DATABASE_MISSING":
            raise
        facts, evidence, substates = ABSENT, {}, {}
    return Survey(project, folder, facts, classify(folder, facts, substates), evidence)


def _unfinished(conn: t.Any, target: Target, folder: Folder, facts: Facts, start_xid: int | None) -> tuple[dict[str, dict[str, t.Any]], dict[str, str]]:
    evidence: dict[str, dict[str, t.Any]] = {}
    substates: dict[str, str] = {}
    if all(row.finished_at or row.rolled_back_at for row in facts.rows):
        return evidence, substates
    # Only here, for on a target each module is compiled anew in each task: this and what it needs is a third of it.
    from ansible_collections.pgops.migrations.plugins.module_utils._evidence import gather  # noqa: PLC0415
    from ansible_collections.pgops.migrations.plugins.module_utils._substate import decide  # noqa: PLC0415

    files = folder.by_name()
    for verdict in classify(folder, facts).verdicts:
        if verdict.verdict != UNFINISHED or verdict.row is None:
            continue
        file = files.get(verdict.name)
        found = gather(conn, target, verdict.row, file.sql if file else None, bool(facts.lock_holders), start_xid)
        state, reason = decide(found)
        substates[verdict.name] = state
        evidence[verdict.name] = dict(found.as_dict(), state=state, reason=reason)
    return evidence, substates


__all__ = ("PROJECT_SPEC", "Survey", "project_of", "survey")
