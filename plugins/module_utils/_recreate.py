# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Bring back a database that is gone: restored under another name, verified, then given its own name.

There is nothing live that could be lost, and nothing to swap. Until the last step nobody can enter what
is being made; the name appears at once with the owner, the rights and the settings that the manifest holds.
"""

from __future__ import annotations

import contextlib
import shlex
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup import new_id
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbgrants import other_grantor
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import apply_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._identity import demand_writable, identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest, derived_name
from ansible_collections.pgops.migrations.plugins.module_utils._marked import marked
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program, find_program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import (
    demand_same_database,
    prerequisites,
    read_through,
    rehearse_settings,
)
from ansible_collections.pgops.migrations.plugins.module_utils._restore_common import RestoreOptions, demand_confirmed, size, timed
from ansible_collections.pgops.migrations.plugins.module_utils._restore_proof import analyze_and_verify
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import STAGING, create, drop_left
from ansible_collections.pgops.migrations.plugins.module_utils._staging import fill
from ansible_collections.pgops.migrations.plugins.module_utils._swap import database_oid
from ansible_collections.pgops.migrations.plugins.module_utils._typed import to_type
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def is_gone(target: Target, maintenance_db: str) -> bool:
    """Whether the server answers and has no database of this name."""
    with connection(target, maintenance_db, read_only=True) as conn, sql_errors("look for the database", target):
        return database_oid(conn, target.dbname) is None


def recreate(target: Target, options: RestoreOptions, manifest: Manifest, seconds: dict[str, float], check_mode: bool) -> dict[str, t.Any]:
    """The database of the restore point under its own name, which nobody has now.

    :returns: as ``_restore.restore``; C(kept) is empty.
    :raises MigrationError: until the last step the name is still free.
    """
    with timed(seconds, "check"):
        with connection(target, options.maintenance_db, application_name=options.name("check"), settings=QUIET) as conn:
            identity = dict(identify(conn), database=target.dbname)
            demand_writable(identity)
            demand_same_database(manifest, identity)
            warnings = prerequisites(conn, manifest, identity)
        program = find_program("pg_restore", identity["server_version_num"], options.pg_bin_dir)
    with timed(seconds, "read"):
        read_through(program, options.restore_point, manifest, target, options.decryption)
    result: dict[str, t.Any] = {
        "database": target.dbname, "restore_point": {"id": manifest.id, "path": options.restore_point, "kind": "dump"}, "loss": _comes_back(target, manifest),
        "seconds": seconds, "confirmation": to_type(manifest.confirmation(), target.dbname), "restored": size(manifest.fingerprint), "warnings": warnings,
        "kept": "",
    }  # fmt: skip
    # Who renamed it does not want an older state of it.
    instead = beside(target, options.maintenance_db, int(manifest.target["database_oid"]))
    result["warnings"] += [instead] if instead else []
    if not check_mode:
        try:
            demand_confirmed(options, manifest.confirmation(), result)
        except MigrationError as error:
            error.next_step = "%s; or else %s" % (instead, error.next_step) if instead else error.next_step
            raise
    with run_lock(target, options.maintenance_db, options.run_id, options.lock_wait) as lock:
        no_timeouts(lock)
        if database_oid(lock, target.dbname) is not None:
            raise MigrationError("%s is there again" % target.dbname, code="WRONG_TARGET", next_step="run it again: it reads the new state")
        if check_mode:
            return dict(result, changed=True, comparison="")
        result["warnings"] += _make(target, options, manifest, program, lock, identity, seconds)
    return dict(result, changed=True, comparison="equal")


def _make(  # noqa: PLR0917
    target: Target, options: RestoreOptions, manifest: Manifest, program: Program, lock: t.Any, identity: t.Mapping[str, t.Any], seconds: dict[str, float]
) -> list[str]:
    """Make it, verify it, name it; warnings."""
    staging, name = derived_name(target.dbname, "restore", new_id()), options.name("restore")
    wanted = _settings(manifest)
    drop_left(lock, target, STAGING, wanted["owner"])
    try:
        with timed(seconds, "restore"):
            oid, _comment = create(lock, target, staging, wanted, STAGING, run_id=options.run_id, restore_point=manifest.id)
            with sql_errors("make the staging database", target, default="RESTORE_FAILED"):
                rehearse_settings(lock, staging, oid, wanted, str(identity["current_user"]))
            fill(
                target, staging, program, options.restore_point, manifest, jobs=options.jobs, superuser=bool(identity["superuser"]), application_name=name,
                decryption=options.decryption,
            )  # fmt: skip
        with timed(seconds, "verify"):
            analyze_and_verify(target, staging, manifest, name)
        with timed(seconds, "rename"), sql_errors("give %s its name" % target.dbname, target, default="RESTORE_FAILED"):
            execute(lock, "BEGIN")
            try:
                execute(lock, sql.SQL("ALTER DATABASE {} RENAME TO {}").format(sql.Identifier(staging), sql.Identifier(target.dbname)))
                inexact = apply_settings(lock, target.dbname, oid, wanted)
                execute(lock, "COMMIT")
            except BaseException:
                with contextlib.suppress(psycopg2.Error):
                    execute(lock, "ROLLBACK")
                raise
    except BaseException:
        # With its own name it has no marker any more, so it is safe from this.
        with contextlib.suppress(MigrationError, psycopg2.Error):
            drop_left(lock, target, STAGING, wanted["owner"])
        raise
    return [other_grantor(target.dbname, text) for text in inexact]


def _settings(manifest: Manifest) -> dict[str, t.Any]:
    """The properties of the database as they were; a manifest of before grantors were kept has the rights alone, which the owner grants."""
    found = dict(manifest.settings)
    found.setdefault("grants", [[found["owner"], *entry] for entry in found["acl"]])
    # It was read while it was open; a closed one could not have been dumped.
    return dict(found, allow_connections=True)


def _comes_back(target: Target, manifest: Manifest) -> dict[str, t.Any]:
    tables = [
        {"table": name, "rows_now": None, "rows_then": int(entry["rows"]), "added": 0, "changed": 0, "removed": int(entry["rows"]), "keyed": True}
        for name, entry in sorted((manifest.fingerprint.get("tables") or {}).items())
    ]
    total = sum(entry["removed"] for entry in tables)
    text = "The database %s is not there: it comes back with %d tables and %d rows." % (target.dbname, len(tables), total)
    empty: dict[str, t.Any] = {"sequences": [], "sessions": [], "objects": [], "reason": ""}
    counts = {"rows_now": 0, "rows_then": total, "added": 0, "changed": 0, "removed": total}
    return dict(empty, gone=True, known=True, tables=tables, texts=[text], differences=1, **counts)


def beside(target: Target, maintenance_db: str, oid: int | None = None) -> str:
    """What there is on the server to take instead, as commands; empty where there is nothing.

    :param oid: the OID that the database had, by which one that was renamed is known.
    """
    with connection(target, maintenance_db, read_only=True) as conn, sql_errors("look for the database", target):
        renamed = [name for (name,) in _rows(conn, "SELECT datname FROM pg_database WHERE oid = %s", (oid,))] if oid else []
        kept = [each.name for each in marked(conn, target.dbname) if each.kind in ("kept", "snapshot")]
    steps = []
    for name in renamed:
        if name not in kept:
            steps.append("it was renamed to %s; to name it as before: %s" % (name, _psql(target, maintenance_db, _rename(name, target.dbname))))
    for name in [name for name in kept if name not in renamed][-1:]:
        opened = sql_text("ALTER DATABASE %s ALLOW_CONNECTIONS true", target.dbname)
        command = _psql(target, maintenance_db, _rename(name, target.dbname), opened)
        steps.append("%s is on the server; to make it live: %s (then compare its owner and rights)" % (name, command))
    return "; or ".join(steps)


def _rows(conn: t.Any, statement: str, values: tuple[t.Any, ...]) -> list[tuple[t.Any, ...]]:
    with conn.cursor() as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def sql_text(statement: str, *names: str) -> str:
    """A statement with names, quoted where they need it."""
    plain = [name if name.isidentifier() and name == name.lower() and name.isascii() else '"%s"' % name.replace('"', '""') for name in names]
    return statement % tuple(plain)


def _rename(name: str, new: str) -> str:
    return sql_text("ALTER DATABASE %s RENAME TO %s", name, new)


def _psql(target: Target, maintenance_db: str, *statements: str) -> str:
    words = ["psql", *(["-h", target.host] if target.host else []), "-p", str(target.port), "-U", str(target.user or ""), "-d", maintenance_db]
    return " ".join([*map(shlex.quote, words), *("-c %s" % shlex.quote(statement) for statement in statements)])


__all__ = ("beside", "is_gone", "recreate", "sql_text")
