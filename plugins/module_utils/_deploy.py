# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""One deploy from end to end: look, lock, look again, run an engine, look, judge."""

from __future__ import annotations

import contextlib
import dataclasses
import re
import time
import typing as t
import uuid

from ansible_collections.pgops.migrations.plugins.module_utils import _engine_direct, _engine_prisma
from ansible_collections.pgops.migrations.plugins.module_utils._assume import assume
from ansible_collections.pgops.migrations.plugins.module_utils._connection import code_for_sqlstate, connection, psycopg2, scrub
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._evidence import committed_since, next_xid
from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder, MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._job import Job
from ansible_collections.pgops.migrations.plugins.module_utils._job_view import left_behind
from ansible_collections.pgops.migrations.plugins.module_utils._lock import maintenance_connection, refuse_locked, run_lock, run_of
from ansible_collections.pgops.migrations.plugins.module_utils._monitor_tell import Teller
from ansible_collections.pgops.migrations.plugins.module_utils._plan import Failure, applied_between, assess, hold_warnings, plan, with_seconds
from ansible_collections.pgops.migrations.plugins.module_utils._project import Project
from ansible_collections.pgops.migrations.plugins.module_utils._sql import statements_alone
from ansible_collections.pgops.migrations.plugins.module_utils._stage import check_stageable
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey, project_of, survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog_retry import Blocked, blocked_too_long, mark_rolled_back
from ansible_collections.pgops.migrations.plugins.module_utils._watchdog_run import Watch

#: How long a server may take to come back from a crash before its state counts as unknown.
RECOVERY_SECONDS = 30
SETTINGS = ("lock_timeout", "statement_timeout", "client_connection_check_interval")


def deploy(target: Target, params: t.Mapping[str, t.Any], check_mode: bool, job: Job | None = None) -> dict[str, t.Any]:
    """Apply the pending migrations of a target.

    :param params: the options of migration_deploy.
    :param job: is told how it goes.
    :returns: the module's result.
    :raises MigrationError: with the state that was observed, and C(touched): whether the
        deploy had begun, so that the database may be changed.
    """
    job = job or Job()
    job.tell(target=target.label())
    left = left_behind(params["journal_dir"], target.label(), params["job_id"])
    try:
        result = _deploy(target, params, check_mode, job)
    except MigrationError as error:
        error.facts.setdefault("touched", False)
        error.facts.update(left)
        raise
    return dict(result, **left)


def _deploy(target: Target, params: t.Mapping[str, t.Any], check_mode: bool, job: Job) -> dict[str, t.Any]:
    project, folder = project_of(params)
    if target.pooled:
        raise MigrationError("the URL says pgbouncer=true", code="POOLER")
    found = survey(target, project, folder)
    if check_mode:
        found = assume(found, params["assume_resolved"])
    try:
        names = _plan(found, params)
    except MigrationError as error:
        # A run of ours that is at work is waited for like any other holder of the lock.
        if error.code != "MIGRATION_RUNNING" or check_mode:
            raise
        names = None
    if names == []:
        return _result(found, found, [], params, 0.0)
    # What cannot be repaired by waiting is said before anything waits, and in check mode, too.
    _demand_writable(target)
    if params["engine"] == "prisma":
        _engine_prisma.check_literal_url(project, target)
        _engine_prisma.command(project, params.get("deploy_command"), params.get("schema_file"))
        check_stageable(project, set(found.report.pending) - set(names or found.report.pending), params.get("deploy_command"))
    for name, least in (("timeout", 0), ("block_retries", 0), ("max_block", 0.1), ("monitor_interval", 0.05)):
        if params[name] < least:
            raise MigrationError("%s is %g" % (name, params[name]), code="OPTION_INVALID")
    if params["engine"] == "direct":
        refuse_nul([folder.by_name()[name] for name in names or ()])
    with contextlib.closing(maintenance_connection(target, params["maintenance_db"], params["run_id"])) as conn:
        if check_mode:
            refuse_locked(conn, target)
    if check_mode and names:
        return dict(_result(found, found, names, params, 0.0), applied=[], would_apply=names)
    job.tell(phase="lock", planned=names or [])
    with run_lock(target, params["maintenance_db"], params["run_id"], params["lock_wait"]):
        found = survey(target, project, folder)
        names = _plan(found, params)
        if not names:
            return _result(found, found, [], params, 0.0)
        job.tell(phase="deploy", planned=names, of=len(names), done=0)
        return _run(target, project, folder, found, names, params, job)


def refuse_nul(files: t.Sequence[MigrationFile]) -> None:
    """A script with a NUL would reach the server cut off there, and be recorded as applied.

    :raises MigrationError: ``OPTION_INVALID``.
    """
    for file in files:
        if "\0" in (file.sql or ""):
            text = "%s holds a NUL character, which no SQL script can" % file.name
            raise MigrationError(text, code="OPTION_INVALID", next_step="save the file as UTF-8 text")


def _plan(found: Survey, params: t.Mapping[str, t.Any]) -> list[str]:
    try:
        return plan(found.report, params.get("up_to"), params.get("expected"), params.get("allow") or (), params.get("hold") or ())
    except MigrationError as error:
        error.facts = dict(found.brief(), **error.facts)
        if error.code == "MIGRATION_RUNNING" and found.facts.lock_holders:
            holder = found.facts.lock_holders[0]
            error.facts["running"] = dict(holder, run_id=run_of(str(holder.get("application_name") or "")), seconds=holder.get("age_seconds"))
        raise


def _demand_writable(target: Target) -> None:
    with connection(target) as conn:
        demand_writable(identify(conn))


def _run(  # noqa: PLR0917
    target: Target, project: Project, folder: Folder, before: Survey, names: list[str], params: t.Mapping[str, t.Any], job: Job
) -> dict[str, t.Any]:
    # Told apart from every other session by this name, also from an earlier run's.
    # The server keeps ASCII and 63 bytes of it.
    application_name = ("pgops-deploy %s" % re.sub(r"[^\w.:+-]", "-", params["run_id"] or uuid.uuid4().hex[:12], flags=re.A))[:63]
    with connection(target) as conn:
        start_xid = next_xid(conn)
    watch = Watch(target, application_name, params, Teller(target, job, names))
    try:
        started = time.monotonic()
        done = _attempts(target, project, folder, before, names, params, watch, application_name, start_xid, job)
        seconds = round(time.monotonic() - started, 3)
        monitor = watch.end(before, done.after, names)
    except MigrationError as error:
        error.facts.setdefault("monitor", watch.end(before, None, names))
        # An engine was at work; what it did is not known.
        error.facts.update(touched=True, changed=True, planned=names)
        raise
    finally:
        watch.stop()
    after, failure = done.after, done.failure
    state = dict(after.brief(), engine=params["engine"], output=done.output, seconds=seconds, status_before=before.report.status, monitor=monitor)
    # The ledger tells what Prisma did; what another command did besides, only the count of transactions can rule out.
    custom = params["engine"] == "prisma" and params.get("deploy_command")
    try:
        if done.blocked is not None:
            evidence = {done.blocked.name: {"state": CLEAN, "reason": done.blocked.proof}}
            applied = applied_between(before.report, after.report)
            state.update(applied=with_seconds(applied, after.report), planned=names, changed=True, touched=bool(applied), evidence=evidence)
            raise blocked_too_long(done.blocked, done.attempts, watch.blockers(), state)
        applied = assess(before.report, after.report, names, failure, state)
    except MigrationError as error:
        error.msg += watch.said()
        touched = bool(error.facts.get("touched", error.facts.get("changed", True)))
        error.facts["touched"] = touched or bool(custom and _committed_since(target, start_xid))
        raise
    result = _result(before, after, applied, params, seconds)
    result.update(output=done.output, monitor=monitor)
    result["warnings"] += watch.warnings()
    if failure is not None:
        result["warnings"].append("the deploy command complained although the ledger holds all that was planned: %s" % failure.message)
    return result


@dataclasses.dataclass(frozen=True)
class _Done:
    """How the attempts ended. ``blocked``: the last one was ended because of locks, left nothing, and is marked as rolled back."""

    failure: Failure | None
    output: str
    after: Survey
    attempts: int
    blocked: Blocked | None = None


def _attempts(  # noqa: PLR0917
    target: Target,
    project: Project,
    folder: Folder,
    before: Survey,
    names: t.Sequence[str],
    params: t.Mapping[str, t.Any],
    watch: Watch,
    application_name: str,
    start_xid: int,
    job: Job,
) -> _Done:
    """Run the engine; once more for each time that it was ended because of locks, left nothing, and may come through later."""
    settings = {name: str(params[name]) for name in SETTINGS if params.get(name)}
    attempts, found = 0, before
    while True:
        attempts += 1
        job.tell(phase="deploy", attempt=attempts)
        watch.begin()
        files = [folder.by_name()[name] for name in names if name in found.report.pending]
        failure, output = _engine(target, project, files, found, params, settings, application_name)
        if watch.gives_way(failure):
            failure, output = _engine(target, project, files, found, params, settings, application_name)
        job.tell(phase="judging")
        with watch.ended():
            found = _survey_patiently(target, project, folder, start_xid)
        blocked = watch.blocked(found, names, failure)
        if blocked is None:
            return _Done(failure, output, found, attempts)
        try:
            mark_rolled_back(target, found, blocked, params["run_id"], params["lock_wait"])
        except MigrationError as error:
            return _Done(dataclasses.replace(failure or Failure(), message="%s; %s" % (blocked.message, error.msg)), output, found, attempts)
        found = survey(target, project, folder, start_xid)
        if not blocked.waited or attempts > params["block_retries"]:
            return _Done(failure, output, found, attempts, blocked)
        watch.retry(blocked, attempts)


def _engine(
    target: Target,
    project: Project,
    files: t.Sequence[MigrationFile],
    before: Survey,
    params: t.Mapping[str, t.Any],
    settings: t.Mapping[str, str],
    application_name: str,
) -> tuple[Failure | None, str]:
    """Run the chosen engine; whatever stops it is a failure to be judged by the state after it."""
    try:
        if params["engine"] == "direct":
            return _engine_direct.deploy(target, files, settings, application_name, params["lock_wait"]), ""
        names = [file.name for file in files]
        return _engine_prisma.deploy(
            target, project, planned=names, pending=before.report.pending, options=params, settings=settings, application_name=application_name
        )
    except MigrationError as error:
        return Failure(None, error.facts.get("sqlstate"), error.msg, error.code), ""
    except psycopg2.Error as error:
        return Failure(None, error.pgcode, scrub(" ".join(str(error).split()), target), code_for_sqlstate(error.pgcode, "CONNECTION_LOST")), ""


def _survey_patiently(target: Target, project: Project, folder: Folder, start_xid: int) -> Survey:
    """The state after an engine; a server that recovers from a crash is waited for, since it alone knows."""
    end = time.monotonic() + RECOVERY_SECONDS
    while True:
        try:
            return survey(target, project, folder, start_xid)
        except MigrationError as error:
            if error.code not in ("SERVER_UNREACHABLE", "CONNECTION_LOST") or time.monotonic() > end:
                raise
        time.sleep(0.5)


def _committed_since(target: Target, start_xid: int) -> bool:
    with connection(target, read_only=True) as conn:
        return committed_since(conn, start_xid)


def _result(before: Survey, after: Survey, names: t.Sequence[str], params: t.Mapping[str, t.Any], seconds: float) -> dict[str, t.Any]:
    """The module's result: the state after, and what was (or in check mode would be) applied."""
    files = after.folder.by_name()
    held = [name for name in after.report.pending if name in (params.get("hold") or ())]
    return dict(
        after.as_dict(),
        changed=bool(names),
        held=held,
        engine=params["engine"],
        applied=with_seconds(names, after.report),
        status_before=before.report.status,
        ledger_head_before=before.report.ledger_head,
        seconds=seconds,
        output="",
        monitor=None,
        warnings=list(after.project.warnings) + list(after.report.warnings) + _direct_warnings(names, files, params) + hold_warnings(names, held),
        diff=[{"before_header": name, "after_header": "%s/migration.sql" % name, "before": "", "after": files[name].sql or ""} for name in names],
    )


def _direct_warnings(names: t.Sequence[str], files: t.Mapping[str, t.Any], params: t.Mapping[str, t.Any]) -> list[str]:
    if params["engine"] != "direct":
        return []
    split = [name for name in names if statements_alone(files[name].sql or "")]
    return ["%s is not atomic: it holds a statement that cannot run in a transaction, so it is run statement by statement" % name for name in split]


__all__ = ("deploy",)
