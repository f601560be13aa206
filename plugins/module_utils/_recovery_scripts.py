# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The two ways out of a half-applied migration, as SQL: back to before it, and on to after it; each tried on a copy of the schema."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparison import names_in
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, scrub, sql
from ansible_collections.pgops.migrations.plugins.module_utils._draft_run import read_model, work_out
from ansible_collections.pgops.migrations.plugins.module_utils._effects import DATA, DYNAMIC, NONE, lasts_a_transaction, sets_session
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import find_program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import conninfo, run_program
from ansible_collections.pgops.migrations.plugins.module_utils._recovery import compared
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_facts import Recovery, engine_session, history, run_step, scratch_like
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_types import Finding, Replay
from ansible_collections.pgops.migrations.plugins.module_utils._replay import on_database
from ansible_collections.pgops.migrations.plugins.module_utils._sql import controls_transaction, keywords, runs_alone
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

BEFORE, AFTER = "before", "after"
#: To be pasted. Something stands behind the last option, so that no full stop is pasted with it.
ROLLBACK = "ansible-playbook playbooks/rollback.yml -e migration_targets=HOST"
BACK = ROLLBACK + " -e migration_route=restore_point (it shows first what would be lost)"
#: Of a statement, in a sentence.
SHOWN = 160


@dataclasses.dataclass(frozen=True)
class Script:
    """``proved``: tried on a copy of the live schema, it led to where it should; ``why`` it is not.

    ``loses``: what it cannot bring back. ``transactional``: it can be run in one transaction.
    """

    leads_to: str
    statements: tuple[str, ...]
    proved: bool = False
    why: str = ""
    loses: tuple[str, ...] = ()
    transactional: bool = True

    @property
    def sql(self) -> str:
        return "".join("%s;\n" % statement for statement in self.statements)

    def as_dict(self) -> dict[str, t.Any]:
        return {
            "sql": self.sql,
            "proved": self.proved,
            "why": self.why,
            "loses": list(self.loses),
            "transactional": self.transactional,
        }


def scripts(target: Target, found: Survey, recovery: Recovery, options: t.Mapping[str, t.Any], lock: t.Any) -> dict[str, Script]:
    """The scripts that can be given, by C(before) and C(after); each was tried where that was possible.

    :param options: besides RECOVERY_SPEC, ``pg_bin_dir``.
    """
    finding, replayed = recovery.finding, recovery.replayed
    if finding is None or replayed is None:
        return {}
    drafts = [draft for draft in (_before(target, found, recovery, options, lock), _to_after(replayed, finding)) if draft is not None]
    if lock is None or not drafts:
        return {draft.leads_to: draft for draft in drafts}
    try:
        with scratch_like(target, lock, options) as name:
            copy_schema(target, name, options)
            return {draft.leads_to: _tried(on_database(target, name), draft, recovery) for draft in drafts}
    except MigrationError as error:
        return {draft.leads_to: dataclasses.replace(draft, why="no copy of the schema to try it on: %s" % error.msg) for draft in drafts}


def _before(target: Target, found: Survey, recovery: Recovery, options: t.Mapping[str, t.Any], lock: t.Any) -> Script | None:
    try:
        return _to_before(target, found, recovery, options, lock)
    except (MigrationError, psycopg2.Error) as error:
        why = getattr(error, "msg", None) or type(error).__name__
        return Script(BEFORE, (), why="it could not be worked out: %s" % why, transactional=False)


def carry_out_script(conn: t.Any, target: Target, script: Script, recovery: Recovery) -> None:
    """Run the script in the open REPEATABLE READ transaction, and look whether it led to where it should.

    :raises MigrationError: ``RECOVERY_SCRIPT_FAILED``; the caller ends the transaction by closing the connection.
    """
    base = take(conn, "schema")["schema"]["objects"]
    decided = t.cast("t.Mapping[str, str]", recovery.live)
    moved = [key for key in compared(t.cast(Replay, recovery.replayed)) if base.get(key) != decided.get(key) and key not in _remnants(recovery)]
    if moved:
        raise MigrationError("the schema changed while it was looked at: %s" % ", ".join(moved[:10]), code="LEDGER_MOVED")
    execute(conn, sql.SQL("SET LOCAL search_path = {}").format(sql.Identifier(target.schema)))
    try:
        for statement in script.statements:
            execute(conn, statement)
    except psycopg2.Error as error:
        text = scrub(getattr(error.diag, "message_primary", None) or type(error).__name__, target)
        message = "the script to %s fails: %s" % (script.leads_to, text)
        step = "mend what the server's message names and run the same again, or go back: %s" % BACK
        raise MigrationError(message, code="RECOVERY_SCRIPT_FAILED", next_step=step, sqlstate=error.pgcode) from None
    wrong = _unlike(base, take(conn, "schema")["schema"]["objects"], script.leads_to, recovery)
    if wrong:
        text = "the script to %s leaves other objects than it should: %s" % (script.leads_to, ", ".join(wrong[:10]))
        raise MigrationError(text, code="RECOVERY_SCRIPT_FAILED", next_step="nothing of it remains; go back: %s" % BACK, objects=wrong)


def _remnants(recovery: Recovery) -> tuple[str, ...]:
    return recovery.finding.remnants if recovery.finding else ()


def _unlike(base: t.Mapping[str, str], objects: t.Mapping[str, str], leads_to: str, recovery: Recovery) -> list[str]:
    """The migration's objects that are not as they should be before it, or after it; nothing else may have changed."""
    replayed = t.cast(Replay, recovery.replayed)
    keys = set(compared(replayed))
    point = 0 if leads_to == BEFORE else len(replayed.steps)
    wrong = [key for key in sorted(keys) if objects.get(key) != replayed.state(point, key)]
    own = keys | {key for change in replayed.changes for key in change} | set(_remnants(recovery))
    return wrong + [key for key in sorted(set(base) | set(objects)) if key not in own and objects.get(key) != base.get(key)]


def _to_after(replayed: Replay, finding: Finding) -> Script | None:
    """The rest of the migration itself, with its data steps; without a statement where the rest is not known, or does not work."""
    if replayed.error is not None or not finding.points:
        return None
    if finding.unwitnessed:
        text = "nobody saw the end of it, and no row shows whether these ran, so what is left is not known: %s (assert_sql can tell)"
        return Script(AFTER, (), why=text % "; ".join(_step(replayed, number) for number in finding.unwitnessed), transactional=False)
    rest = remaining(replayed, finding)
    if rest is None:
        return Script(AFTER, (), why=_why_no_rest(replayed, finding), transactional=False)
    statements = _drops(finding) + rest
    return Script(AFTER, statements, loses=after_loses(replayed, finding), transactional=not any(runs_alone(statement) for statement in statements))


def _why_no_rest(replay: Replay, finding: Finding) -> str:
    doubtful = _unclear(replay, finding)
    if not doubtful:
        return "the rest sets something for one of its transactions, and would be run in one"
    return "its data statements cannot be run: the schema does not show whether they ran before: %s (assert_sql can tell)" % "; ".join(doubtful)


def _unclear(replay: Replay, finding: Finding) -> list[str]:
    between = range(finding.points[0] + 1, finding.points[-1] + 1)
    return [_step(replay, number) for number in between if replay.steps[number - 1].effect != NONE]


def _step(replay: Replay, number: int) -> str:
    """A step by its number and its words, those of a transaction without BEGIN and COMMIT."""
    words = [" ".join(statement.split()) for statement in replay.steps[number - 1].statements if not controls_transaction(statement)]
    text = "; ".join(words)
    return "step %d (%s)" % (number, text if len(text) <= SHOWN else text[: SHOWN - 3] + "...")


def after_loses(replay: Replay, finding: Finding) -> tuple[str, ...]:
    """What the rest of the migration does to rows and takes away."""
    found = []
    for number in range(finding.points[-1] + 1, len(replay.steps) + 1):
        step = replay.steps[number - 1]
        if step.effect in (DATA, DYNAMIC):
            found.append("%s changes the rows as they are now; only a restore point brings them back" % _step(replay, number))
        elif any("drop" in keywords(statement) for statement in step.statements):
            found.append("%s takes away what it names, with its rows" % _step(replay, number))
    return tuple(found)


def before_loses(replay: Replay, finding: Finding) -> tuple[str, ...]:
    """What the script to before does not bring back, besides what the statements of its own lose."""
    found = []
    for number in range(1, finding.points[-1] + 1):
        if replay.steps[number - 1].effect in (DATA, DYNAMIC):
            sure = number <= finding.points[0] and number not in finding.unwitnessed
            found.append("%s %s, and what it did to rows is not undone" % (_step(replay, number), "ran" if sure else "may have run"))
    tables = [key for key in finding.undated if key.startswith("table ")]
    columns = [key for key in finding.undated if key.startswith("column ") and "table %s" % names_in(key)[0] not in tables]
    return tuple(found) + tuple("it is not proved that the migration made the %s; what rows were in it before go, too" % key for key in tables + columns)


def remaining(replay: Replay, finding: Finding) -> tuple[str, ...] | None:
    """The statements that lead from here to the end of the migration; None where it is not known where it stopped.

    Without its own transaction control: they are meant to be run in one transaction. What was
    set for the session is set again; what was set for a transaction ended with it.
    """
    if not finding.points or any(replay.steps[point].effect != NONE for point in range(finding.points[0], finding.points[-1])):
        return None
    at = finding.points[0]
    settings = [statement for step in replay.steps[:at] for statement in step.statements if sets_session(statement)]
    if any(lasts_a_transaction(statement) for step in replay.steps[at:-1] for statement in step.statements):
        return None
    rest = [statement for step in replay.steps[at:] for statement in step.statements]
    return tuple(statement for statement in settings + rest if not controls_transaction(statement))


def _drops(finding: Finding) -> tuple[str, ...]:
    """Statements that take away the invalid indexes; names as the server quotes them."""
    return tuple("DROP INDEX IF EXISTS %s" % names_in(key)[0] for key in finding.remnants)


def _to_before(target: Target, found: Survey, recovery: Recovery, options: t.Mapping[str, t.Any], lock: t.Any) -> Script | None:
    """Drafted from two replays: the history alone, and the history with what is there of the migration."""
    finding, replayed = t.cast(Finding, recovery.finding), t.cast(Replay, recovery.replayed)
    if not finding.points:
        return None
    done = replayed.steps[: finding.points[-1]]
    loses = list(before_loses(replayed, finding))
    drops = _drops(finding)
    if not finding.points[0]:
        return Script(BEFORE, drops, loses=tuple(loses))
    if lock is None:
        return None
    with history(target, found, options, lock) as name:
        goal = read_model(target, name)
        with engine_session(target, name, options) as conn:
            for step in replayed.steps[: finding.points[0]]:
                run_step(conn, step)
        text = ";\n".join(statement for step in done for statement in step.statements)
        worked = work_out(target, name, goal, {recovery.verdict.name: text})
    loses += [note.text for note in worked.notes if note.text not in loses]
    statements = drops + tuple(statement for _remark, statement in worked.statements)
    why = "no statement was found that works: %s" % "; ".join(each["error"] for each in worked.stuck[:5]) if worked.stuck else ""
    return Script(BEFORE, statements, False, why, tuple(loses), not any(runs_alone(statement) for statement in statements))


def copy_schema(target: Target, name: str, options: t.Mapping[str, t.Any]) -> None:
    """The live schema without any row, in the database ``name``.

    :raises MigrationError: ``REPLAY_FAILED``, or that a client program is missing.
    """
    with connection(target, read_only=True) as conn:
        version = int((row(conn, "SELECT current_setting('server_version_num')::int") or (0,))[0])
    dump, restore = (find_program(program, version, options.get("pg_bin_dir") or "") for program in ("pg_dump", "pg_restore"))
    with tempfile.TemporaryDirectory(prefix="pgops-schema-") as folder:
        archive = os.path.join(folder, "schema.dump")
        dumped = [dump.path, "--format=custom", "--schema-only", "--no-password", "--file=%s" % archive]
        for argv, dbname in (
            (dumped, target.dbname),
            ([restore.path, "--exit-on-error", "--no-password", "--dbname=%s" % conninfo(name), archive], name),
        ):
            done = run_program(argv, target, dbname, timeout=float(options["replay_timeout"]))
            if done is None or done.rc != 0:
                raise MigrationError("%s %s" % (os.path.basename(argv[0]), done.why() if done else "took too long"), code="REPLAY_FAILED")


def _tried(copy: Target, script: Script, recovery: Recovery) -> Script:
    """The script with what came of it on the copy."""
    if not script.transactional or script.why:
        return dataclasses.replace(script, why=script.why or "it holds a statement that cannot run in a transaction")
    with connection(copy) as conn, contextlib.ExitStack() as stack:
        execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ")
        stack.callback(_rollback, conn)
        try:
            carry_out_script(conn, copy, script, recovery)
        except (MigrationError, psycopg2.Error) as error:
            return dataclasses.replace(script, why=getattr(error, "msg", None) or type(error).__name__)
    return dataclasses.replace(script, proved=True)


def _rollback(conn: t.Any) -> None:
    with contextlib.suppress(psycopg2.Error):
        execute(conn, "ROLLBACK")


__all__ = ("AFTER", "BACK", "BEFORE", "ROLLBACK", "Script", "after_loses", "before_loses", "carry_out_script", "copy_schema", "remaining", "scripts")
