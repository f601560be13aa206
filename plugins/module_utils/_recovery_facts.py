# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Gather what _recovery.py decides from. The live database is read only; a scratch database is made beside it and dropped."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _effects
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, scrub, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evidence import functions_of
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._recovery import combine, compared, decide
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_catalog import read_dates, witnesses
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_reach import lasting
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_rows import steps_that_wrote, written_since
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_types import Attempt, Finding, Replay
from ansible_collections.pgops.migrations.plugins.module_utils._replay import applied_history, files_of, on_database, replay
from ansible_collections.pgops.migrations.plugins.module_utils._rewrites import unseen
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import scratch_database
from ansible_collections.pgops.migrations.plugins.module_utils._sql import keywords, split
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import scan
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN, RUNNING
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import EDITED, MISSING, UNFINISHED, Verdict

#: How long sessions at work may take to come to rest before nothing is proved.
QUIET_SECONDS = 5.0
#: A session counts as quiet when it was seen without a transaction so often: a script may commit in between.
_QUIET_LOOKS = 2
#: Options that every module takes which decides this.
RECOVERY_SPEC: dict[str, t.Any] = dict(
    assert_sql=dict(type="str"),
    replay_timeout=dict(type="int", default=300),
    pg_bin_dir=dict(type="path"),
    lock_wait=dict(type="int", default=30),
    maintenance_db=dict(type="str", default="postgres"),
    run_id=dict(type="str", default=""),
)
_IN_TRANSACTION = """
SELECT DISTINCT l.pid FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'virtualxid' AND l.mode = 'ExclusiveLock' AND l.granted AND a.datname = current_database()
   AND a.backend_type = 'client backend' AND l.pid <> pg_backend_pid()
"""
_INVALID = """
SELECT format('%I.%I', n.nspname, c.relname), c.relname::text, EXISTS (SELECT FROM pg_stat_progress_create_index p WHERE p.index_relid = c.oid)
  FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT i.indisvalid ORDER BY 1
"""
_NOT_VALID = """
SELECT format('%s on %I.%I', quote_ident(k.conname), n.nspname, c.relname), k.conname::text
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE NOT k.convalidated ORDER BY 1
"""


@dataclasses.dataclass(frozen=True)
class Recovery:
    """What is known of an unfinished migration, and what follows from it.

    ``silent``: why the schema was not asked. ``replayed`` and ``live`` are what the finding was made from.
    """

    verdict: Verdict
    state: str
    reason: str
    by_ids: tuple[str, str]
    finding: Finding | None = None
    silent: str = ""
    replayed: Replay | None = None
    live: t.Mapping[str, str] | None = None
    invalid_indexes: tuple[str, ...] = ()
    not_valid: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, t.Any]:
        """Plain values for a module's result."""
        found = self.finding
        schema: dict[str, t.Any] = {"state": None, "reason": self.silent}
        if found is not None:
            schema = {key: list(value) if isinstance(value, tuple) else value for key, value in dataclasses.asdict(found).items()}
        return {
            "name": self.verdict.name,
            "state": self.state,
            "reason": self.reason,
            "by_transactions": {"state": self.by_ids[0], "reason": self.by_ids[1]},
            "by_schema": schema,
            "invalid_indexes": list(self.invalid_indexes),
            "not_valid_constraints": list(self.not_valid),
            "resolve": {"failed_clean": "rolled_back", "committed_unrecorded": "applied"}.get(self.state),
        }


def unfinished(found: Survey) -> list[Verdict]:
    return [verdict for verdict in found.report.verdicts if verdict.verdict == UNFINISHED]


def examine(target: Target, found: Survey, name: str, options: t.Mapping[str, t.Any], lock: t.Any = None) -> Recovery:
    """The state of one unfinished migration.

    :param found: a survey from before a lock of Prisma's was taken: the one that holds it then is the migration's.
    :param options: see RECOVERY_SPEC.
    :param lock: the connection that ``_lock.run_lock`` yields; without it no scratch database is made.
    :raises MigrationError: ``OPTION_INVALID`` for a query that cannot be an assertion.
    """
    verdict = next(verdict for verdict in unfinished(found) if verdict.name == name)
    known = found.evidence[name]
    by_ids = (str(known["state"]), str(known["reason"]))
    file = found.folder.by_name().get(name)
    script = file.sql if file else None
    edited = EDITED in verdict.flags
    with connection(target, read_only=True) as conn:
        with sql_errors("read the catalogue of %s" % target.label(), target):
            invalid, not_valid = rows(conn, _INVALID), rows(conn, _NOT_VALID)
        if any(building for _name, _plain, building in invalid):
            by_ids = (RUNNING, "an index is being built")
        mentioned = {part for chain in scan(script or "") for part in chain}
        base = Recovery(
            verdict,
            *by_ids,
            by_ids=by_ids,
            invalid_indexes=tuple(index for index, plain, _building in invalid if plain in mentioned),
            not_valid=tuple(label for label, plain in not_valid if plain in mentioned),
        )
        assertion = ask(conn, target, options.get("assert_sql"))
        if by_ids[0] == RUNNING:
            return base
        silent = _silent(verdict, script, edited)
        attempt = Attempt(
            verdict.row.logs if verdict.row else None,
            verdict.rows > 1,
            frozenset(index for index, _plain, _building in invalid),
            {other.name: _script(found, other.name) for other in unfinished(found) if other.name != name},
            assertion,
            lasting=lasting(script or "", functions_of(conn)),
        )
        if not silent and by_ids[0] == CLEAN and not attempt.logs:
            # The proof is that nothing was committed since, and a scratch database is.
            silent = "it was not asked, since that would use up the evidence by transactions"
        if not silent and not attempt.refused:
            silent = _at_work(conn)
        replayed, live = None, None
        if not silent:
            replayed, live, silent = _compare(conn, target, found, t.cast(str, script), options, lock)
        if replayed is not None and verdict.row is not None:
            attempt = dataclasses.replace(attempt, dates=read_dates(conn, target, verdict.row, replayed, compared(replayed)))
            attempt = dataclasses.replace(
                attempt,
                wrote=steps_that_wrote(conn, target, replayed.steps, witnesses(conn, replayed, attempt.dates)),
                touched=() if attempt.refused else written_since(conn, target, verdict.row, replayed.steps),
            )
        finding = decide(replayed, live, attempt) if replayed is not None and live is not None else None
    state, reason = combine(by_ids, finding, silent, edited)
    if state == CLEAN and _effects.advances(script or ""):
        reason += "; sequences may have given out numbers, which leaves gaps and loses nothing"
    return dataclasses.replace(base, state=state, reason=reason, finding=finding, silent=silent, replayed=replayed, live=live)


def ask(conn: t.Any, target: Target, query: str | None) -> bool | None:
    """What the operator's query says of the data part; None without a query.

    :raises MigrationError: ``OPTION_INVALID`` unless it is one SELECT that gives one boolean.
    """
    if not query:
        return None
    statements = split(query)
    if len(statements) != 1 or keywords(statements[0], 1)[0] not in ("select", "with", "values", "table"):
        raise MigrationError("assert_sql must be one SELECT", code="OPTION_INVALID")
    try:
        execute(conn, "BEGIN READ ONLY")
        found = rows(conn, statements[0])
    except psycopg2.Error as error:
        text = getattr(error.diag, "message_primary", None) or type(error).__name__
        raise MigrationError("assert_sql fails: %s" % scrub(text, target), code="OPTION_INVALID", sqlstate=error.pgcode) from None
    finally:
        if not conn.closed:
            execute(conn, "ROLLBACK")
    if len(found) != 1 or len(found[0]) != 1 or not isinstance(found[0][0], bool):
        raise MigrationError("assert_sql must give one boolean: true when the data part of the migration is done", code="OPTION_INVALID")
    return bool(found[0][0])


def _script(found: Survey, name: str) -> str | None:
    file = found.folder.by_name().get(name)
    return file.sql if file else None


def _silent(verdict: Verdict, script: str | None, edited: bool) -> str:
    """Why the schema can prove nothing, or an empty text."""
    if script is None or MISSING in verdict.flags:
        return "the migration is not in the folder, so what it does is not known"
    if edited:
        return "the file was edited since the migration ran"
    outside = _effects.outside(script)
    if outside:
        return "the script reaches beyond the database (%s), so it is not run in a scratch one" % outside
    if _effects.leaves_open(script):
        return "the script begins a transaction and does not end it"
    return unseen(script) or _effects.hides_its_end(script, split(script))


def _at_work(conn: t.Any) -> str:
    """Wait until each session that is in a transaction was seen without one; else the sessions that were not.

    A client that was killed leaves its session at work, and without Prisma's lock where that is turned off.
    """
    looks = {pid: 0 for (pid,) in rows(conn, _IN_TRANSACTION)}
    end = time.monotonic() + QUIET_SECONDS
    while looks and time.monotonic() < end:
        time.sleep(0.05)
        busy = {pid for (pid,) in rows(conn, _IN_TRANSACTION)}
        looks = {pid: seen + (pid not in busy) for pid, seen in looks.items()}
        looks = {pid: seen for pid, seen in looks.items() if seen < _QUIET_LOOKS}
    return "sessions are at work in this database, and one may be the migration's: pid %s" % ", ".join(map(str, sorted(looks))) if looks else ""


def _compare(
    conn: t.Any, target: Target, found: Survey, script: str, options: t.Mapping[str, t.Any], lock: t.Any
) -> tuple[Replay | None, t.Mapping[str, str] | None, str]:
    """The replayed script and the live schema; or why there is none."""
    steps = _effects.steps_of(script)
    if all(step.effect in (_effects.NONE, _effects.DATA) and not _has_ddl(step) for step in steps):
        # Nothing of it can show, so nothing is replayed.
        return Replay(steps, {}, ({},) * len(steps)), {}, ""
    if lock is None:
        return None, None, "the migration was not replayed into a scratch database"
    live = take(conn, "schema")["schema"]["objects"]
    try:
        replayed = _replay(target, found, steps, options, lock)
    except MigrationError as error:
        return None, None, "it could not be replayed into a scratch database: %s" % error.msg.rstrip(".")
    if take(conn, "schema")["schema"]["objects"] != live:
        return None, None, "the schema changed while it was looked at"
    return replayed, live, ""


def _has_ddl(step: _effects.Step) -> bool:
    return any(keywords(statement, 1)[0] in ("create", "alter", "drop") for statement in step.statements)


def _replay(target: Target, found: Survey, steps: t.Sequence[_effects.Step], options: t.Mapping[str, t.Any], lock: t.Any) -> Replay:
    with history(target, found, options, lock) as name, engine_session(target, name, options) as conn, connection(target, name, read_only=True) as look:
        return carry_out(conn, look, steps)


@contextlib.contextmanager
def history(target: Target, found: Survey, options: t.Mapping[str, t.Any], lock: t.Any) -> t.Iterator[str]:
    """A scratch database with the migrations that the ledger says are applied.

    :raises MigrationError: ``REPLAY_FAILED``, ``HISTORY_DIVERGED``.
    """
    files = files_of(found, [verdict.name for verdict in applied_history(found)])
    for file in files:
        outside = _effects.outside(file.sql or "")
        if outside:
            raise MigrationError("%s reaches beyond the database (%s)" % (file.name, outside), code="REPLAY_FAILED", migration=file.name)
    with scratch_like(target, lock, options) as name:
        replay(target, name, files, _timeout(options))
        yield name


@contextlib.contextmanager
def engine_session(target: Target, name: str, options: t.Mapping[str, t.Any]) -> t.Iterator[t.Any]:
    """A session of a scratch database as the engines have one."""
    with connection(on_database(target, name), settings=dict(_timeout(options), synchronous_commit="off")) as conn:
        execute(conn, sql.SQL("SET search_path = {}").format(sql.Identifier(target.schema)))
        yield conn


def _timeout(options: t.Mapping[str, t.Any]) -> dict[str, str]:
    return {"statement_timeout": "%ds" % options["replay_timeout"]}


def scratch_like(target: Target, lock: t.Any, options: t.Mapping[str, t.Any]) -> t.ContextManager[str]:
    """A scratch database with the live one's encoding, locale and owner."""
    oid = (row(lock, "SELECT oid::bigint FROM pg_database WHERE datname = %s", (target.dbname,)) or (0,))[0]
    return scratch_database(target, lock, read_settings(lock, oid), run_id=options.get("run_id") or "")


def run_step(conn: t.Any, step: _effects.Step) -> None:
    for statement in step.statements:
        # Nobody else is here, and outside of a transaction it is an error where engines send it inside of one.
        if keywords(statement, 1) != ["lock"]:
            execute(conn, statement)


def carry_out(conn: t.Any, look: t.Any, steps: t.Sequence[_effects.Step]) -> Replay:
    """Carry the steps out one by one, and note after each what others see of it.

    :param conn: a session as the engine's. :param look: another session of the same database.
    """
    before = take(look, "schema")["schema"]["objects"]
    changes: list[dict[str, str | None]] = []
    for step in steps:
        try:
            run_step(conn, step)
        except psycopg2.Error as error:
            message = getattr(error.diag, "message_primary", None) or ""
            return Replay(tuple(steps), before, tuple(changes), (error.pgcode or "", message))
        if step.effect in (_effects.NONE, _effects.DATA) and not _has_ddl(step):
            changes.append(changes[-1] if changes else {})
            continue
        after = take(look, "schema")["schema"]["objects"]
        changes.append({key: after.get(key) for key in set(before) | set(after) if before.get(key) != after.get(key)})
    return Replay(tuple(steps), before, tuple(changes))


__all__ = ("QUIET_SECONDS", "RECOVERY_SPEC", "Recovery", "ask", "carry_out", "engine_session", "examine", "history", "run_step", "scratch_like", "unfinished")
