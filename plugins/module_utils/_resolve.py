# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Record an unfinished migration as applied or as rolled back, as C(prisma migrate resolve) does, where that is proved."""

from __future__ import annotations

import datetime
import time
import typing as t
import uuid

from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evidence import ledger_xids
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK, LedgerRow, ledger_table
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_facts import Recovery, examine
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_scripts import BACK, ROLLBACK, Script, carry_out_script, scripts
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN, PARTIAL, RUNNING, UNRECORDED
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey, project_of, survey
from ansible_collections.pgops.migrations.plugins.module_utils._typed import confirm_step, is_confirmed, said, to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import UNFINISHED

AS_APPLIED, AS_ROLLED_BACK = "applied", "rolled_back"
#: What must be proved before it may be recorded, and the script that makes it true.
_NEEDS = {AS_APPLIED: UNRECORDED, AS_ROLLED_BACK: CLEAN}
_SCRIPTS = {"before": AS_ROLLED_BACK, "after": AS_APPLIED}
POLL_SECONDS = 0.2


def plan_rows(name: str, wanted: str, found: t.Sequence[LedgerRow], file: MigrationFile | None) -> bool:
    """Whether there is anything to write. Pure.

    :param found: the ledger's rows of this name.
    :param file: the migration in the folder, if it is there.
    :raises MigrationError: where Prisma's CLI refuses, with C(prisma_code): ``RESOLVE_REFUSED``, ``UNKNOWN_MIGRATION``,
        ``MIGRATION_FILE_MISSING``.
    """
    live = [each for each in found if each.rolled_back_at is None]
    open_rows = [each for each in live if each.finished_at is None]
    finished = [each for each in found if each.finished_at is not None]
    if wanted == AS_ROLLED_BACK:
        if not found:
            raise MigrationError("the ledger has no row of %s" % name, code="UNKNOWN_MIGRATION", prisma_code="P3011")
        if len(finished) == len(found):
            raise MigrationError("%s is applied; it did not fail" % name, code="RESOLVE_REFUSED", prisma_code="P3012")
        return bool(open_rows)
    if live and not open_rows:
        return False
    if finished:
        raise MigrationError(
            "the ledger has a finished row of %s, so Prisma refuses to record it as applied" % name,
            code="RESOLVE_REFUSED",
            next_step="set state to rolled_back, which marks the unfinished row alone" if open_rows else None,
            prisma_code="P3008",
        )
    if file is None:
        raise MigrationError("%s is not in the folder" % name, code="UNKNOWN_MIGRATION", prisma_code="P3017")
    if file.sql is None:
        raise MigrationError("%s has no migration.sql" % name, code="MIGRATION_FILE_MISSING", prisma_code="P3017")
    return True


def judge(recovery: Recovery | None, name: str, wanted: str, require_proof: bool, confirmed: bool, confirmation: str) -> bool:  # noqa: PLR0917
    """Whether what is to be recorded is proved. Pure.

    :raises MigrationError: ``MIGRATION_RUNNING``, ``RECOVERY_UNPROVED``, ``CONFIRMATION_MISSING``.
    """
    if recovery is not None and recovery.state == RUNNING:
        raise MigrationError("%s is being applied by another session" % name, code="MIGRATION_RUNNING", migration=name)
    if recovery is not None and recovery.state == _NEEDS[wanted]:
        return True
    what = "%s: %s" % (recovery.state, recovery.reason) if recovery else "it has no unfinished row, so nothing was looked at"
    facts: dict[str, t.Any] = {"migration": name, "recovery": recovery.as_dict() if recovery else None, "confirmation": confirmation}
    if require_proof:
        text = "nothing proves that %s may be recorded as %s (%s)" % (name, wanted, what)
        raise MigrationError(text, code="RECOVERY_UNPROVED", next_step=_other_way(recovery, wanted, confirmation), **facts)
    if not confirmed:
        text = "recording %s as %s is not proved (%s) and was not confirmed" % (name, wanted, what)
        raise MigrationError(text, code="CONFIRMATION_MISSING", next_step=confirm_step(confirmation), **facts)
    return False


def _other_way(recovery: Recovery | None, wanted: str, confirmation: str) -> str:
    for other, state in _NEEDS.items():
        if recovery is not None and recovery.state == state and other != wanted:
            return "set state to %s" % other
    if recovery is not None and recovery.state == PARTIAL:
        return _scripts_step(_SCRIPTS, confirmation)
    # A file, for a query has blanks: whatever quotes them would be escaped by a callback that writes JSON.
    ask = "write the line migration_assert_sql: SELECT ... (true when done) into assert.yml, then %s -e @assert.yml (where that file is)" % ROLLBACK
    return "say by a query whether its data part is done: %s; or go back: %s" % (ask, BACK)


def _scripts_step(ways: t.Iterable[str], confirmation: str) -> str:
    """What to run for a half-applied migration. Something stands behind each option, so that no full stop is pasted with it."""
    texts = {
        "before": "to take it back: %s -e migration_run_script=before -e migration_confirm=%s (marks it as rolled back)",
        "after": "to complete it: %s -e migration_run_script=after -e migration_confirm=%s (marks it as applied)",
    }
    return "; ".join(["look at the scripts and what they lose"] + [texts[way] % (ROLLBACK, confirmation) for way in ways] + ["or go back: %s" % BACK])


def resolve(target: Target, params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Record a migration's state.

    :param params: the options of migration_resolve.
    :returns: the module's result.
    :raises MigrationError: with the state that was observed.
    """
    name, wanted = params["migration"], params["state"]
    if params["run_script"] != "none" and _SCRIPTS[params["run_script"]] != wanted:
        raise MigrationError("run_script %s leads to %s" % (params["run_script"], _SCRIPTS[params["run_script"]]), code="OPTION_INVALID")
    project, folder = project_of(params)
    file = folder.by_name().get(name)
    found = survey(target, project, folder)
    if not plan_rows(name, wanted, _rows_of(found, name), file):
        return _result(found, params, False, True, None, [])
    with connection(target) as conn:
        demand_writable(identify(conn))
    with run_lock(target, params["maintenance_db"], params["run_id"], params["lock_wait"]) as lock:
        with connection(target, read_only=True) as conn, sql_errors("read the ledger of %s" % target.label(), target):
            xids = ledger_xids(conn, target) if found.facts.ledger_exists else {}
        found = survey(target, project, folder)
        if not plan_rows(name, wanted, _rows_of(found, name), file):
            return _result(found, params, False, True, None, [])
        if not found.facts.ledger_exists:
            raise MigrationError("the schema %s has no ledger" % target.schema, code="UNMANAGED_DATABASE")
        recovery = _recovery(target, found, params, lock)
        offered = scripts(target, found, recovery, params, lock) if recovery and recovery.state == PARTIAL else {}
        try:
            script, proved = _decide(target, recovery, offered, params, check_mode)
        except MigrationError as error:
            error.facts = dict(found.brief(), scripts={key: value.as_dict() for key, value in offered.items()}, **error.facts)
            raise
        diff = _diff(name, _rows_of(found, name), wanted, script)
        more = _of_script(target, script, name, ran=not check_mode)
        if check_mode:
            return dict(_result(found, params, True, proved, recovery, diff), **more)
        _write(target, found, recovery, script, xids, params)
    return dict(_result(survey(target, project, folder), params, True, proved, recovery, diff), **more)


def _of_script(target: Target, script: Script | None, name: str, ran: bool) -> dict[str, t.Any]:
    """What the result says of the script that was run, or in check mode would be; without one as :func:`_result` has it."""
    if script is None:
        return {}
    return {
        "script": dict(script.as_dict(), leads_to=script.leads_to),
        "script_ran": script.leads_to if ran else "none",
        "confirmation": to_type("%s %s" % (target.dbname, name), target.dbname),
    }


def _recovery(target: Target, found: Survey, params: t.Mapping[str, t.Any], lock: t.Any) -> Recovery | None:
    verdicts = {verdict.name: verdict.verdict for verdict in found.report.verdicts}
    if verdicts.get(params["migration"]) != UNFINISHED:
        return None
    return examine(target, found, params["migration"], params, lock if params["replay"] else None)


def _decide(
    target: Target, recovery: Recovery | None, offered: t.Mapping[str, Script], params: t.Mapping[str, t.Any], check_mode: bool
) -> tuple[Script | None, bool]:
    """The script to run, if any, and whether what is recorded is proved. A check shows the script that is to be confirmed."""
    name, wanted = params["migration"], params["state"]
    confirmed = is_confirmed(params["confirm"], "%s %s" % (target.dbname, name), target.dbname)
    confirmation = to_type("%s %s" % (target.dbname, name), target.dbname)
    if params["run_script"] == "none" or recovery is None or recovery.state != PARTIAL:
        return None, judge(recovery, name, wanted, params["require_proof"], confirmed, confirmation)
    script = offered.get(params["run_script"])
    facts: dict[str, t.Any] = {"migration": name, "recovery": recovery.as_dict(), "confirmation": confirmation}
    if script is None or not script.proved:
        why = script.why if script else "there is none"
        text = "the script to %s is not proved: %s" % (params["run_script"], why)
        proved = [way for way in _SCRIPTS if way in offered and offered[way].proved]
        raise MigrationError(text, code="RECOVERY_UNPROVED", next_step=_scripts_step(proved, confirmation), **facts)
    if not confirmed and not check_mode:
        text = "running the script to %s of %s was %s" % (params["run_script"], name, said(params["confirm"], target.dbname))
        raise MigrationError(text, code="CONFIRMATION_MISSING", next_step=confirm_step(confirmation), **facts)
    return script, True


def _rows_of(found: Survey, name: str) -> list[LedgerRow]:
    return [each for each in found.facts.rows if each.migration_name == name]


def _write(  # noqa: PLR0917
    target: Target, found: Survey, recovery: Recovery | None, script: Script | None, xids: t.Mapping[str, int], params: t.Mapping[str, t.Any]
) -> None:
    """All in one transaction, under Prisma's own lock: the script, if any, and the rows."""
    name = params["migration"]
    application_name = ("pgops.migrations %s" % params["run_id"]).strip()
    with connection(target, application_name=application_name, settings={"lock_timeout": "5s"}) as conn:
        _take_prisma_lock(conn, params["lock_wait"])
        with sql_errors("record %s in the ledger of %s" % (name, target.label()), target):
            execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ" if script else "BEGIN")
            execute(conn, sql.SQL("LOCK TABLE {} IN SHARE ROW EXCLUSIVE MODE").format(ledger_table(target)))
            if ledger_xids(conn, target) != xids:
                raise MigrationError("the ledger changed while %s was looked at" % name, code="LEDGER_MOVED")
            if script is not None and recovery is not None:
                carry_out_script(conn, target, script, recovery)
            _write_rows(conn, target, name, params["state"], found.folder.by_name().get(name), _rows_of(found, name))
            execute(conn, "COMMIT")


def _write_rows(conn: t.Any, target: Target, name: str, wanted: str, file: MigrationFile | None, known: t.Sequence[LedgerRow]) -> None:  # noqa: PLR0917
    """What the CLI writes, row for row; each with the client's clock."""
    ledger = ledger_table(target)
    for each in known:
        if each.finished_at is not None or each.rolled_back_at is not None:
            continue
        update = sql.SQL("UPDATE {} SET rolled_back_at = %s WHERE id = %s AND finished_at IS NULL AND rolled_back_at IS NULL").format(ledger)
        if execute(conn, update, (_now(), each.id)) != 1:
            raise MigrationError("the unfinished row of %s is no longer there" % name, code="LEDGER_MOVED")
    if wanted == AS_APPLIED and file is not None:
        insert = sql.SQL(
            "INSERT INTO {} (id, checksum, migration_name, started_at, finished_at, logs, applied_steps_count) VALUES (%s, %s, %s, %s, %s, '', 0)"
        ).format(ledger)
        moment = _now()
        execute(conn, insert, (str(uuid.uuid4()), file.checksum, name, moment, moment))


def _now() -> datetime.datetime:
    now = datetime.datetime.now(datetime.timezone.utc)
    return now.replace(microsecond=now.microsecond // 1000 * 1000)


def _take_prisma_lock(conn: t.Any, wait: float) -> None:
    """So that no CLI deploys or resolves meanwhile; polled for the reason given in _lock."""
    end = time.monotonic() + wait
    while not (row(conn, "SELECT pg_try_advisory_lock(%s)", (PRISMA_LOCK,)) or (False,))[0]:
        if time.monotonic() >= end:
            next_step = "wait for that session to end; migration_info shows its pid"
            raise MigrationError("another session holds Prisma's migration lock", code="LOCKED", next_step=next_step)
        time.sleep(POLL_SECONDS)


def _diff(name: str, known: t.Sequence[LedgerRow], wanted: str, script: Script | None) -> list[dict[str, str]]:
    """The rows before and after, as far as they can be known beforehand."""
    before = [_row_text(each.id, each.finished_at is not None, each.rolled_back_at is not None) for each in known]
    after = [_row_text(each.id, each.finished_at is not None, each.rolled_back_at is not None or each.finished_at is None) for each in known]
    if wanted == AS_APPLIED:
        after.append(_row_text("a new row", True, False))
    header = "_prisma_migrations: %s" % name
    diff = [{"before_header": header, "after_header": header, "before": "".join(before), "after": "".join(after)}]
    if script is not None:
        diff.append({"before_header": "script", "after_header": "script to %s" % script.leads_to, "before": "", "after": script.sql})
    return diff


def _row_text(row_id: str, finished: bool, rolled_back: bool) -> str:
    return "%s: %s\n" % (row_id, "rolled back" if rolled_back else "finished" if finished else "unfinished")


def _result(  # noqa: PLR0917
    found: Survey, params: t.Mapping[str, t.Any], changed: bool, proved: bool, recovery: Recovery | None, diff: list[dict[str, str]]
) -> dict[str, t.Any]:
    verdict = next((each.verdict for each in found.report.verdicts if each.name == params["migration"]), "")
    warnings = [] if proved else ["%s is recorded as %s without proof" % (params["migration"], params["state"])]
    if not changed and verdict != params["state"]:
        # Prisma's CLI finds no unfinished row either, and says nothing.
        warnings.append("%s is %s: it has no unfinished row that could be marked" % (params["migration"], verdict))
    return dict(
        found.as_dict(),
        changed=changed,
        migration=params["migration"],
        resolved_to=params["state"] if changed else verdict,
        proved=proved if changed else None,
        recovery=recovery.as_dict() if recovery else None,
        script=None,
        script_ran="none",
        confirmation=None,
        diff=diff,
        warnings=warnings,
    )


__all__ = ("AS_APPLIED", "AS_ROLLED_BACK", "judge", "plan_rows", "resolve")
