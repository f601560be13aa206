# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Work a draft out on a scratch database: run it in a transaction that is rolled back, and keep the order that worked.

The server decides what has to come before what: a statement that fails is tried again
after the others. Then the schema is read again and what is still missing is drafted.
"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _draft_rows
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, rows, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._draft import draft
from ansible_collections.pgops.migrations.plugins.module_utils._draft_live import Live
from ansible_collections.pgops.migrations.plugins.module_utils._draft_names import undo_renames
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import NOT_DRAFTED, Note, Step
from ansible_collections.pgops.migrations.plugins.module_utils._draft_sequences import Reached, go_on
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import TABLE
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Key, Model, read
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import split_name
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: One for the structure, one for comments and rights of what came back; the others are reserve.
ROUNDS = 5
#: What the rows of a partition must be like; without the parents that nobody sees here, of all of them.
_PARTITION_CHECKS = """
SELECT format('%I.%I', n.nspname, c.relname), pg_get_partition_constraintdef(c.oid) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relispartition AND c.relkind IN ('r', 'p')
"""
_MISSING = frozenset(["42P01", "42703", "42704", "42883", "3F000"])
_NO_CAST = frozenset(["42804", "42846"])


@dataclasses.dataclass
class Found:
    """``statements``: (remark, statement) in the order that worked. ``stuck``: what could not be run, with the server's words."""

    statements: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    notes: list[Note] = dataclasses.field(default_factory=list)
    stuck: list[dict[str, str]] = dataclasses.field(default_factory=list)
    #: The last ones of the statements, which set sequences: another draft of the same schema needs them, too.
    numbers: list[str] = dataclasses.field(default_factory=list)
    renamed: bool = False
    #: Tables and columns of the live database that must outlive the draft -> what they were called before.
    kept: dict[Key, Key] = dataclasses.field(default_factory=dict)


def read_model(target: Target, dbname: str) -> Model:
    """The schema of a database of the target's server, without the ledger."""
    with connection(dataclasses.replace(target, dbname=dbname), read_only=True) as conn:
        model = read(conn, (target.schema, TABLE))
        for name, check in rows(conn, _PARTITION_CHECKS):
            if name in model.tables:
                model.tables[name]["partition_check"] = check
    return model


def empty(target: Target, dbname: str) -> None:
    """Remove all rows of a scratch database: what migrations insert shall not stand in the way of trying a schema."""
    with connection(dataclasses.replace(target, dbname=dbname), settings={"synchronous_commit": "off"}) as conn:
        names = [name for name, facts in read(conn, (target.schema, TABLE)).tables.items() if facts["kind"] in ("r", "p")]
        if names:
            with sql_errors("empty the tables of %s" % dbname, target, default="REPLAY_FAILED"):
                tables = sql.SQL(", ").join(sql.Identifier(*split_name(name)) for name in names)
                execute(conn, sql.SQL("TRUNCATE {} CASCADE").format(tables))


def work_out(target: Target, dbname: str, goal: Model, scripts: t.Mapping[str, str], reached: t.Mapping[str, Reached] | None = None) -> Found:
    """The statements that take the scratch database to ``goal``; it is left as it was.

    :param goal: read in this very database before the scripts ran in it, so that it is known what was renamed.
    :param scripts: name -> text of the migrations that are undone, in the order in which they were applied.
    :param reached: see ``_draft_sequences.go_on``.
    """
    found = Found(notes=_draft_rows.data_notes(scripts, goal, target.schema))
    with connection(dataclasses.replace(target, dbname=dbname), settings={"synchronous_commit": "off"}) as conn:
        execute(conn, "BEGIN")
        try:
            # As the engines run a script.
            execute(conn, sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(target.schema)))
            live = read(conn, (target.schema, TABLE))
            found.kept = _draft_rows.kept(goal, live)
            undo = undo_renames(goal.things, live.things) if goal.database == live.database else []
            found.renamed = bool(undo)
            if not _run_names(conn, undo, found):
                # Else a draft would drop and add what it could not rename.
                return found
            start = read(conn, (target.schema, TABLE))
            for number in range(ROUNDS):
                now = read(conn, (target.schema, TABLE)) if number else start
                if not number:
                    found.notes += _draft_rows.made_anew(goal, now) + _draft_rows.unknown(goal, now, Live(now, live))
                result = draft(goal, now, live)
                found.notes += [note for note in result.notes if not number or (note.kind == NOT_DRAFTED and note not in found.notes)]
                if not result.steps or not _run(conn, result.steps, found):
                    break
            _go_on(conn, goal, start, reached or {}, found)
        finally:
            if not conn.closed:
                execute(conn, "ROLLBACK")
    return found


def _go_on(conn: t.Any, goal: Model, start: Model, reached: t.Mapping[str, Reached], found: Found) -> None:
    """What sets the sequences that came back, where all of them did."""
    if found.stuck:
        return
    plan = go_on(goal, start, reached)
    found.notes += plan.notes
    for remark, statement in plan.statements:
        done, error = _attempt(conn, Step("attribute", (statement,)))
        if error is not None:
            found.stuck.append({"statement": statement, "error": _words(error)})
        found.statements += [(remark, each) for each in done]
        found.numbers += done


def _run_names(conn: t.Any, statements: t.Sequence[str], found: Found) -> bool:
    """Run the renames in their order; False with one of them stuck."""
    for statement in statements:
        _done, error = _attempt(conn, Step("table", (statement,)))
        if error is not None:
            found.stuck = [{"statement": statement, "error": _words(error)}]
            return False
        found.statements.append(("", statement))
    return True


def _run(conn: t.Any, steps: t.Sequence[Step], found: Found) -> bool:
    """Run the steps in an order that works; whether any did."""
    before = len(found.statements)
    # All that can be dropped goes first, or else something would be made upon what has to go.
    left = _run_part(conn, [step for step in steps if step.first], found)
    left = _run_part(conn, [step for step, _error in left] + [step for step in steps if not step.first], found)
    found.stuck = [{"statement": "; ".join(step.statements), "error": _words(error)} for step, error in left]
    return len(found.statements) > before


def _run_part(conn: t.Any, steps: t.Sequence[Step], found: Found) -> list[tuple[Step, t.Any]]:
    """What is left when no step works any more, with the last errors."""
    waiting = list(steps)
    while True:
        left: list[tuple[Step, t.Any]] = []
        for step in waiting:
            statements, error = _attempt(conn, step)
            if error is None:
                found.statements += [(step.remark if not number else "", statement) for number, statement in enumerate(statements)]
            elif not (step.dropping and error.pgcode in _MISSING):
                left.append((step, error))
        if len(left) == len(waiting):
            return left
        waiting = [step for step, _error in left]


def _attempt(conn: t.Any, step: Step) -> tuple[tuple[str, ...], t.Any]:
    for statements in (step.statements, *step.otherwise):
        execute(conn, "SAVEPOINT pgops_step")
        try:
            for statement in statements:
                execute(conn, statement)
        except psycopg2.Error as error:
            if conn.closed:
                raise
            execute(conn, "ROLLBACK TO SAVEPOINT pgops_step")
            failed = error
            if error.pgcode not in _NO_CAST:
                break
        else:
            execute(conn, "RELEASE SAVEPOINT pgops_step")
            return statements, None
    return (), failed


def _words(error: t.Any) -> str:
    return "%s (SQLSTATE %s)" % (" ".join(str(error.diag.message_primary or error).split()), error.pgcode)


__all__ = ("Found", "empty", "read_model", "work_out")
