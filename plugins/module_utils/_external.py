# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Have an external tool (pgBackRest, Barman, WAL-G) take a restore point, and prove that it did.

The tool's exit status is not believed: its own list must show a backup that was not there before.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import tempfile
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import new_id, now, read_ledger
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row, scrub, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._external_list import Listing, differs, read_listing
from ansible_collections.pgops.migrations.plugins.module_utils._external_record import EXTERNAL_DIR, FORMAT, read_records, write_record
from ansible_collections.pgops.migrations.plugins.module_utils._identity import identify
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._points import folder_of, list_points, next_sequence
from ansible_collections.pgops.migrations.plugins.module_utils._process import end_group
from ansible_collections.pgops.migrations.plugins.module_utils._storage import ensure_private_dir, private_umask
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Bytes of a tool's output that an error shows, and that are read of a list.
TAIL, LISTED = 4096, 64 << 20
#: Seconds to wait until the archiver has the log with the named point in it.
ARCHIVE_WAIT = 30.0
_MAY = """
SELECT pg_is_in_recovery(), current_setting('wal_level'), has_function_privilege('pg_create_restore_point(text)', 'EXECUTE'),
       has_function_privilege('pg_switch_wal()', 'EXECUTE'), current_setting('archive_mode')
"""
_ARCHIVED = "SELECT last_archived_wal FROM pg_stat_archiver"


@dataclasses.dataclass(frozen=True)
class ExternalOptions:
    """Options of database_backup_external; times in seconds, commands as lists of arguments."""

    backup_dir: str
    take: t.Sequence[str]
    list: t.Sequence[str]
    verify: t.Sequence[str] = ()
    environment: t.Mapping[str, str] = dataclasses.field(default_factory=dict)
    list_pattern: str = ""
    tool: str = ""
    restore_hint: str = ""
    timeout: float = 86400.0
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    run_id: str = ""

    @property
    def tool_name(self) -> str:
        """What the tool is called in texts."""
        return self.tool or os.path.basename(self.take[0])

    @property
    def application_name(self) -> str:
        return ("pgops.migrations external %s" % self.run_id).strip()


def take_external(target: Target, options: ExternalOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """C(changed), C(restore_point) and C(warnings).

    :raises MigrationError: ``EXTERNAL_TOOL_FAILED``, ``EXTERNAL_BACKUP_MISSING``, ``BACKUP_FOREIGN``, ``LEDGER_MOVED``,
        ``PROGRAM_MISSING``, ``OPTION_INVALID``. Nothing is recorded then.
    """
    _demand_options(target, options)
    folder = os.path.join(folder_of(target, options.backup_dir), EXTERNAL_DIR)
    with private_umask(), run_lock(target, options.maintenance_db, options.run_id, options.lock_wait):
        for path in (options.backup_dir, os.path.dirname(folder), folder):
            ensure_private_dir(path, create=not check_mode)
        with connection(target, application_name=options.application_name) as conn, sql_errors("read the database", target):
            identity, ledger = identify(conn), read_ledger(conn, target.schema)
        before = _listing(target, options)
        point_id, started_at = new_id(), now()
        if check_mode:
            point = {"id": "", "path": folder, "kind": "external", "tool": options.tool_name, "label": ""}
            return {"changed": True, "restore_point": point, "warnings": []}
        _run(options.take, target, options, "take")
        after = _listing(target, options)
        new = _new(before, after, identity, options)
        if options.verify:
            _run(options.verify, target, options, "verify")
        with connection(target, application_name=options.application_name) as conn, sql_errors("name the restore point", target):
            if read_ledger(conn, target.schema) != ledger:
                raise MigrationError("a migration was recorded while %s ran" % options.tool_name, code="LEDGER_MOVED", label=new[-1])
            named, why_not = _name_point(conn, options.run_id or point_id)
            identity = identify(conn)
            listed = list_points(target, options.backup_dir, conn=conn)["restore_points"]
        record = {
            "id": point_id, "run_id": options.run_id, "kind": "external", "sequence": next_sequence(listed), "tool": options.tool_name, "label": new[-1],
            "labels": new, "commands": {"take": list(options.take), "list": list(options.list), "verify": list(options.verify)},
            "verified": bool(options.verify), "restore_hint": options.restore_hint, "started_at": started_at, "finished_at": now(),
            "lsn": named["lsn"] if named else identity["lsn"], "restore_point": named, "ledger": ledger,
            "target": {name: identity[name] for name in ("system_identifier", "database", "database_oid", "server_version", "server_version_num")},
        }  # fmt: skip
        path = os.path.join(folder, point_id + ".json")
        write_record(path, record)
        _mark_gone(folder, point_id, after, options)
    warnings = [] if named else ["no point of the server's log was named: %s" % why_not]
    if named and named["archived"] is False:
        warnings.append("the log with the point %s was not archived within %g s" % (named["name"], ARCHIVE_WAIT))
    return {"changed": True, "restore_point": dict(record, path=path, format=FORMAT), "warnings": warnings}


def _demand_options(target: Target, options: ExternalOptions) -> None:
    for name, argv in (("take", options.take), ("list", options.list)):
        if not argv or not argv[0]:
            raise MigrationError("%s is empty" % name, code="OPTION_INVALID")
    try:
        if options.list_pattern and re.compile(options.list_pattern).groups > 1:
            raise MigrationError("list_pattern has more than one group", code="OPTION_INVALID")
    except re.error as error:
        raise MigrationError("list_pattern is no regular expression: %s" % error, code="OPTION_INVALID") from None
    said = [*options.take, *options.list, *options.verify, *options.environment.values(), options.restore_hint]
    if any(secret in text for secret in target.secrets() for text in said):
        raise MigrationError(
            "the commands, the environment or the hint hold the password of the database",
            code="OPTION_INVALID",
            next_step="put it into the tool's own configuration",
        )


# --- the tool -----------------------------------------------------------------------------


def _listing(target: Target, options: ExternalOptions) -> Listing:
    return read_listing(_run(options.list, target, options, "list"), options.list_pattern)


def _new(before: Listing, after: Listing, identity: t.Mapping[str, t.Any], options: ExternalOptions) -> list[str]:
    """The labels that are listed now and were not before, the newest last."""
    new = differs(before, after)
    if not new:
        raise MigrationError("%s ended without an error, and lists no backup that it did not list before" % options.tool_name, code="EXTERNAL_BACKUP_MISSING")
    foreign = after.systems.get(new[-1])
    if foreign and identity["system_identifier"] not in foreign:
        raise MigrationError(
            "%s took %s of the server with system identifier %s; this one has %s"
            % (options.tool_name, new[-1], ", ".join(sorted(foreign)), identity["system_identifier"]),
            code="BACKUP_FOREIGN",
            next_step="have the tool back up the server of this target",
        )
    if new[-1] in after.bad:
        raise MigrationError("%s lists %s with an error" % (options.tool_name, new[-1]), code="EXTERNAL_TOOL_FAILED", label=new[-1])
    return new


def _run(argv: t.Sequence[str], target: Target, options: ExternalOptions, what: str) -> str:
    """What the command writes to its standard output.

    :raises MigrationError: ``PROGRAM_MISSING``, ``EXTERNAL_TOOL_FAILED`` with C(rc) and C(output), the end of it.
    """
    environment = {**os.environ, **{name: str(value) for name, value in options.environment.items()}}
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(list(argv), cwd="/", env=environment, stdin=subprocess.DEVNULL, stdout=out, stderr=err, start_new_session=True)
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            raise MigrationError("cannot run %s: %s" % (argv[0], why), code="PROGRAM_MISSING", next_step="install it, or correct %s" % what) from None
        ended = "ended with exit code %d"
        try:
            process.wait(timeout=options.timeout or None)
        except subprocess.TimeoutExpired:
            ended = "was ended after %g s" % options.timeout
        finally:
            end_group(process)
        said = "\n".join(filter(None, (_tail(out), _tail(err))))
        if process.returncode or "was ended" in ended:
            text = ended if "was ended" in ended else ended % process.returncode
            said = scrub(said, target)
            raise MigrationError(
                "%s (%s) %s: %s" % (options.tool_name, what, text, " ".join(said.split())[-400:] or "no output"),
                code="EXTERNAL_TOOL_FAILED",
                rc=process.returncode,
                output=said,
            )
        out.seek(0)
        return out.read(LISTED).decode("utf-8", "replace")


def _tail(handle: t.IO[bytes]) -> str:
    size = handle.seek(0, os.SEEK_END)
    handle.seek(max(0, size - TAIL))
    return handle.read().decode("utf-8", "replace").strip()


def _mark_gone(folder: str, own: str, after: Listing, options: ExternalOptions) -> None:
    """Records of backups that the tool has expired meanwhile say so."""
    for record in read_records(folder):
        if record["id"] == own or record.get("wrong") or record["tool"] != options.tool_name or record["commands"]["list"] != list(options.list):
            continue
        gone = record["label"] not in after.labels
        if gone != bool(record.get("gone")):
            write_record(record["path"], dict(record, gone=gone))


# --- the server ---------------------------------------------------------------------------


def _name_point(conn: t.Any, run_id: str) -> tuple[dict[str, t.Any] | None, str]:
    """A named point in the server's log, or why there is none.

    It is made after the backup and not before: a backup cannot be restored to a point before its own end.
    """
    standby, level, may, may_switch, archive_mode = row(conn, _MAY) or (True, "", False, False, "off")
    if standby:
        return None, "the server is a standby"
    if level == "minimal":
        return None, "wal_level is minimal"
    if not may:
        return None, "the role may not call pg_create_restore_point (GRANT EXECUTE ON FUNCTION pg_create_restore_point(text) TO the role)"
    name = ("pgops_%s" % run_id).encode("utf-8")[:63].decode("utf-8", "ignore")
    lsn, wal = row(conn, "SELECT l::text, pg_walfile_name(l) FROM pg_create_restore_point(%s) l", (name,)) or ("", "")
    archived = None
    if archive_mode != "off" and may_switch:
        # A point whose log is not archived is lost with the server.
        execute(conn, "SELECT pg_switch_wal()")
        archived = _is_archived(conn, wal)
    return {"name": name, "lsn": lsn, "wal": wal, "archived": archived}, ""


def _is_archived(conn: t.Any, wal: str) -> bool:
    end = time.monotonic() + ARCHIVE_WAIT
    while True:
        last = str((row(conn, _ARCHIVED) or ("",))[0] or "")
        # Also of a backup's label or a history file, which begin in the same way.
        if re.match(r"[0-9A-F]{24}", last) and last[:24] >= wal:
            return True
        if time.monotonic() > end:
            return False
        time.sleep(0.1)


__all__ = ("ExternalOptions", "take_external")
