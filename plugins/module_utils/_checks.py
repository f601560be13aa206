# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Run the checks after a deploy, each by itself: one that cannot be made says why, and holds up none of the others."""

from __future__ import annotations

import dataclasses
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _checks_catalog, _checks_smoke
from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, SKIPPED, WARN, Check, known
from ansible_collections.pgops.migrations.plugins.module_utils._checks_budget import (
    BLOCKING_TIME,
    DEPLOY_TIME,
    GROWTH,
    INDEX_BUILD_TIME,
    TABLE_REWRITES,
    blocking_time,
    deploy_time,
    growth,
    index_build_time,
    table_rewrites,
)
from ansible_collections.pgops.migrations.plugins.module_utils._checks_history import DRIFT, LEDGER, drift, ledger
from ansible_collections.pgops.migrations.plugins.module_utils._checks_prisma import PRISMA_DIFF, prisma_diff
from ansible_collections.pgops.migrations.plugins.module_utils._connection import code_for_sqlstate, connection, psycopg2, scrub
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._survey import project_of, survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: In the order of a report; names are part of the public interface.
NAMES = (
    LEDGER, DRIFT, PRISMA_DIFF, _checks_catalog.INVALID_INDEXES, _checks_catalog.FOREIGN_KEYS, _checks_catalog.CONSTRAINTS, _checks_catalog.SEQUENCES,
    _checks_catalog.TRIGGERS, _checks_catalog.SHADOWS, DEPLOY_TIME, BLOCKING_TIME, TABLE_REWRITES, INDEX_BUILD_TIME, GROWTH,
    _checks_smoke.APPLICATION, _checks_smoke.SMOKE_SQL, _checks_smoke.CUSTOM, _checks_smoke.COMMANDS, _checks_smoke.HTTP,
)  # fmt: skip
#: Those that run unless others are named. The CLI takes seconds, and sees less than the comparison of the catalogue.
DEFAULT = tuple(name for name in NAMES if name != PRISMA_DIFF)
#: What is more than reading: left out in check mode.
_ACTS = frozenset([DRIFT, PRISMA_DIFF, _checks_smoke.SMOKE_SQL, _checks_smoke.COMMANDS, _checks_smoke.HTTP])


@dataclasses.dataclass(frozen=True)
class CheckOptions:
    """Options of database_checks; times in seconds.

    :ivar earlier: checks from before the deploy, as ``_check.summary`` gives them.
    :ivar before: the fingerprint from before the deploy, if there is one.
    :ivar deploy: the result of migration_deploy.
    """

    wanted: t.Sequence[str] = DEFAULT
    tolerated: t.Collection[str] = ()
    project: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    before: t.Mapping[str, t.Any] | None = None
    earlier: t.Sequence[t.Mapping[str, t.Any]] = ()
    known_invalid_indexes: t.Collection[str] = ()
    deploy: t.Mapping[str, t.Any] = dataclasses.field(default_factory=dict)
    max_deploy_seconds: float = 300.0
    max_blocking_seconds: float = 5.0
    max_index_seconds: float = 0.0
    timeout: float = 60.0
    smoke_sql: t.Sequence[str] = ()
    smoke_sql_dir: str = ""
    custom_sql: t.Sequence[str] = ()
    custom_sql_dir: str = ""
    smoke_commands: t.Sequence[t.Mapping[str, t.Any]] = ()
    http_probes: t.Sequence[t.Mapping[str, t.Any]] = ()
    application_url: str = ""
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    run_id: str = ""


def run_checks(target: Target, options: CheckOptions, check_mode: bool = False) -> list[Check]:
    """Every wanted check, in the order of :data:`NAMES`.

    :raises MigrationError: ``OPTION_INVALID``, ``PROJECT_NOT_FOUND``, ... for options that cannot be right; never for what a check finds.
    """
    smoke = _checks_smoke.scripts(options.smoke_sql, options.smoke_sql_dir)
    own = _checks_smoke.scripts(options.custom_sql, options.custom_sql_dir)
    makers: dict[str, t.Callable[[], Check]] = {
        LEDGER: lambda: _with_project(LEDGER, target, options),
        DRIFT: lambda: _with_project(DRIFT, target, options),
        PRISMA_DIFF: lambda: _with_project(PRISMA_DIFF, target, options),
        _checks_catalog.INVALID_INDEXES: lambda: _asked(target, options, _checks_catalog.invalid_indexes, options.known_invalid_indexes),
        _checks_catalog.FOREIGN_KEYS: lambda: _asked(target, options, _checks_catalog.foreign_keys),
        _checks_catalog.CONSTRAINTS: lambda: _asked(target, options, _checks_catalog.constraints),
        _checks_catalog.SEQUENCES: lambda: _asked(target, options, _checks_catalog.sequences),
        _checks_catalog.TRIGGERS: lambda: _asked(target, options, _checks_catalog.disabled_triggers, _disabled_before(options.before)),
        _checks_catalog.SHADOWS: lambda: _asked(target, options, _checks_catalog.shadow_databases),
        DEPLOY_TIME: lambda: deploy_time(options.deploy, options.max_deploy_seconds),
        BLOCKING_TIME: lambda: blocking_time(options.deploy, options.max_blocking_seconds),
        TABLE_REWRITES: lambda: table_rewrites(options.deploy),
        INDEX_BUILD_TIME: lambda: index_build_time(options.deploy, options.max_index_seconds),
        GROWTH: lambda: growth(options.deploy),
        _checks_smoke.APPLICATION: lambda: _application(target, options),
        _checks_smoke.SMOKE_SQL: lambda: _checks_smoke.smoke_sql(target, smoke, options.timeout),
        _checks_smoke.CUSTOM: lambda: _checks_smoke.custom(target, own, options.timeout),
        _checks_smoke.COMMANDS: lambda: _checks_smoke.smoke_commands(target, options.smoke_commands),
        _checks_smoke.HTTP: lambda: _checks_smoke.http(options.http_probes),
    }
    earlier = {str(each.get("name")): each for each in options.earlier}
    found = []
    for name in NAMES:
        if name not in options.wanted:
            continue
        began = time.monotonic()
        check = Check(name, SKIPPED, "Not in check mode.") if check_mode and name in _ACTS else _made(name, target, options, makers[name])
        check = known(check, earlier.get(name))
        if check.verdict == FAIL and name in options.tolerated:
            check = dataclasses.replace(check, verdict=WARN)
        found.append(dataclasses.replace(check, seconds=round(time.monotonic() - began, 3)))
    return found


def _made(name: str, target: Target, options: CheckOptions, make: t.Callable[[], Check]) -> Check:
    try:
        return make()
    except MigrationError as error:
        if error.code == "OPTION_INVALID":
            raise
        return Check(name, SKIPPED, "It cannot be told: %s: %s." % (error.code, error.msg.rstrip(".")))
    except psycopg2.Error as error:
        if error.pgcode == "57014":
            return Check(
                name, SKIPPED, "It takes longer than %g s on this database; verification_check_timeout gives it more." % options.timeout, limit=options.timeout
            )
        code = code_for_sqlstate(error.pgcode) if error.pgcode else "CONNECTION_LOST"
        primary = getattr(error.diag, "message_primary", None) or str(error)
        return Check(name, SKIPPED, "It cannot be told: %s: %s." % (code, scrub(" ".join(primary.split()), target).rstrip(".")))


def _asked(target: Target, options: CheckOptions, check: t.Callable[..., Check], *more: t.Any) -> Check:
    # Rows that row security hides would be rows that were not checked; with this, the server says so.
    limit = "%dms" % round(options.timeout * 1000)
    settings = {"statement_timeout": limit, "lock_timeout": limit, "row_security": "off"}
    with connection(target, application_name="pgops.migrations checks", settings=settings, read_only=True) as conn:
        return check(conn, *more)


def _with_project(name: str, target: Target, options: CheckOptions) -> Check:
    if not any(options.project.get(key) for key in ("app_dir", "migrations_dir", "schema_file")):
        return Check(name, SKIPPED, "No project is set.")
    found = survey(target, *project_of(options.project))
    if name == LEDGER:
        return ledger(found)
    return (drift if name == DRIFT else prisma_diff)(target, found, options.maintenance_db, options.run_id, options.lock_wait)


def _application(target: Target, options: CheckOptions) -> Check:
    if not options.application_url:
        return Check(_checks_smoke.APPLICATION, SKIPPED, "No URL of the application is set.")
    return _checks_smoke.application_role(options.application_url, target, options.before)


def _disabled_before(before: t.Mapping[str, t.Any] | None) -> list[str]:
    objects = ((before or {}).get("schema") or {}).get("objects") or {}
    states = ((" (disabled)", ""), (" (replica)", " (replica)"))
    triggers = {key[len("trigger ") :]: definition for key, definition in objects.items() if key.startswith("trigger ")}
    return [name + more for name, definition in triggers.items() for end, more in states if definition.endswith(end)]


__all__ = ("DEFAULT", "NAMES", "CheckOptions", "run_checks")
