# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What is checked before a restore touches anything: the restore point and the server."""

from __future__ import annotations

import concurrent.futures
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption, archive_path, restoring
from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, psycopg2, row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import apply_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import PRISMA_LOCK
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME, ID_PATTERN, Manifest, digest, from_json
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Finished
from ansible_collections.pgops.migrations.plugins.module_utils._read_back import read_archive
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import SIDECARS, read_proof
from ansible_collections.pgops.migrations.plugins.module_utils._storage import hash_file
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

_MIGRATIONS = """
SELECT a.pid, a.usename, a.application_name, l.granted, extract(epoch FROM now() - a.backend_start)::int
  FROM pg_locks l JOIN pg_stat_activity a USING (pid)
 WHERE l.locktype = 'advisory' AND l.classid = 0 AND l.objid = %s AND l.objsubid = 1 AND l.database = %s ORDER BY 1
"""
_TABLESPACES = "SELECT spcname, has_tablespace_privilege(oid, 'CREATE') FROM pg_tablespace WHERE spcname = ANY(%s)"
_ME = """
SELECT r.rolsuper, r.rolcreatedb, pg_has_role(d.datdba, 'USAGE'), r.rolname, pg_has_role('pg_signal_backend', 'USAGE')
  FROM pg_roles r, pg_database d WHERE r.rolname = current_user AND d.oid = %s
"""


# --- the restore point ------------------------------------------------------------------


def load(path: str) -> Manifest:
    """The manifest of a restore point whose every file was compared with it.

    :raises MigrationError: ``BACKUP_NOT_FOUND``, ``BACKUP_FORMAT``, ``BACKUP_CORRUPT``.
    """
    path = os.path.normpath(path)
    if not os.path.isabs(path) or not os.path.isdir(path):
        raise MigrationError("%s is no folder" % path, code="BACKUP_NOT_FOUND")
    name = os.path.basename(path)
    if not ID_PATTERN.match(name):
        raise MigrationError("%s does not have the name of a finished restore point" % path, code="BACKUP_FORMAT")
    try:
        with open(os.open(os.path.join(path, FILE_NAME), os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
            manifest = from_json(handle.read())
    except OSError as error:
        raise MigrationError("%s has no readable %s: %s" % (path, FILE_NAME, error.strerror), code="BACKUP_FORMAT") from None
    if manifest.id != name:
        raise MigrationError("the manifest in %s is that of %s" % (path, manifest.id), code="BACKUP_CORRUPT")
    _verify_files(path, manifest)
    return manifest


def _verify_files(path: str, manifest: Manifest) -> None:
    wanted = {entry.path: entry for entry in manifest.files}
    found: set[str] = set()
    for folder, folders, names in os.walk(path):
        # A link to a folder is listed and not entered.
        found |= {
            os.path.relpath(os.path.join(folder, name), path) for name in names + [each for each in folders if os.path.islink(os.path.join(folder, each))]
        }
    # What a crash leaves of a sidecar that was being replaced is no damage.
    found -= {FILE_NAME, *SIDECARS, *(".%s.new" % name for name in SIDECARS)}
    wrong = ["%s is missing" % name for name in sorted(set(wanted) - found)] + ["%s is not in the manifest" % name for name in sorted(found - set(wanted))]
    names = sorted(set(wanted) & found)
    # The hashing of large pieces lets other threads work.
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        hashed = {name: pool.submit(hash_file, os.path.join(path, name)) for name in sorted(names, key=lambda name: wanted[name].size, reverse=True)}
    for name in names:
        try:
            size, sha256 = hashed[name].result()
        except OSError as error:
            wrong.append("%s cannot be read (%s)" % (name, error.strerror))
            continue
        if size != wanted[name].size:
            wrong.append("%s has %d bytes instead of %d" % (name, size, wanted[name].size))
        elif sha256 != wanted[name].sha256:
            wrong.append("%s has other content (SHA-256)" % name)
    if wrong:
        raise MigrationError("%s: %s" % (path, "; ".join(wrong[:5])), code="BACKUP_CORRUPT", files=wrong)


def read_through(program: Program, path: str, manifest: Manifest, target: Target, decryption: Decryption | None = None) -> None:
    """Have pg_restore read every byte of the archive, without a database.

    :raises MigrationError: ``VERSION_MISMATCH``, ``BACKUP_CORRUPT``, ``DECRYPTION_FAILED``.
    """
    if program.major < manifest.archive["client_major"]:
        raise _version_mismatch(program, manifest)
    if manifest.encryption is None:
        done: Finished | None = read_archive(program, archive_path(path, manifest), target)
    else:
        with restoring(program, path, manifest, target, ["--file=/dev/null"], decryption=decryption) as child:
            done = child.wait()
    if done is not None and done.rc == 0:
        return
    why = done.why() if done else "did not end"
    if "unsupported version" in why or "does not support compression" in why:
        raise _version_mismatch(program, manifest, why)
    raise MigrationError("pg_restore cannot read the archive: it %s" % why, code="BACKUP_CORRUPT")


def read_before(path: str, manifest: Manifest, program: Program) -> bool:
    """Whether the proof says that this program's version read the archive in full, when its files had the hashes that they have.

    Never of an encrypted one: whether it can be opened here is to be seen.
    """
    proof = read_proof(path)
    if not proof or manifest.encryption:
        return False
    return proof["manifest"] == digest(manifest) and program.version == manifest.archive["client_version"]


def _version_mismatch(program: Program, manifest: Manifest, why: str = "") -> MigrationError:
    return MigrationError(
        "the archive was written by pg_dump %s, %s is %s%s" % (manifest.archive["client_version"], program.path, program.version, ": " + why if why else ""),
        code="VERSION_MISMATCH",
    )


def demand_same_database(manifest: Manifest, identity: t.Mapping[str, t.Any]) -> None:
    """:raises MigrationError: ``BACKUP_FOREIGN``, ``VERSION_MISMATCH``."""
    target = manifest.target
    if target["system_identifier"] != identity["system_identifier"]:
        raise MigrationError(
            "the restore point %s is of the server with system identifier %s, this one has %s"
            % (manifest.id, target["system_identifier"], identity["system_identifier"]),
            code="BACKUP_FOREIGN",
        )
    if target["database"] != identity["database"]:
        raise MigrationError(
            "the restore point %s is of the database %s, not of %s" % (manifest.id, target["database"], identity["database"]), code="BACKUP_FOREIGN"
        )
    if target["server_version_num"] // 10000 > identity["server_version_num"] // 10000:
        raise MigrationError(
            "the archive is of PostgreSQL %s, the server is %s" % (target["server_version"], identity["server_version"]), code="VERSION_MISMATCH"
        )


# --- the server ---------------------------------------------------------------------------


def demand_swappable(conn: t.Any, dbname: str, oid: int) -> None:
    """Whether the live database can be renamed and no migration runs in it.

    :param conn: a connection to any other database of the server.
    :raises MigrationError: ``SESSIONS_REMAIN``, ``SWAP_REFUSED``, ``PERMISSION_DENIED``.
    """
    migrations = [dict(zip(("pid", "user", "application_name", "granted", "seconds"), found)) for found in rows(conn, _MIGRATIONS, (PRISMA_LOCK, oid))]
    if migrations:
        who = ", ".join("pid %(pid)d (user %(user)s, for %(seconds)d s)" % session for session in migrations)
        raise MigrationError("%s has sessions of a migration: %s" % (dbname, who), code="SESSIONS_REMAIN", sessions=migrations)
    prepared = [gid for (gid,) in rows(conn, "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY 1", (dbname,))]
    if prepared:
        raise MigrationError("%s has prepared transactions: %s" % (dbname, ", ".join(prepared)), code="SWAP_REFUSED", prepared_transactions=prepared)
    slots = [name for (name,) in rows(conn, "SELECT slot_name FROM pg_replication_slots WHERE database = %s AND slot_type = 'logical' ORDER BY 1", (dbname,))]
    if slots:
        raise MigrationError(
            "%s has logical replication slots, which would follow the old database: %s" % (dbname, ", ".join(slots)),
            code="SWAP_REFUSED",
            replication_slots=slots,
        )
    subscriptions = [name for (name,) in rows(conn, "SELECT subname FROM pg_subscription WHERE subdbid = %s ORDER BY 1", (oid,))]
    if subscriptions:
        raise MigrationError("%s has subscriptions: %s" % (dbname, ", ".join(subscriptions)), code="SWAP_REFUSED", subscriptions=subscriptions)
    superuser, createdb, owns, name, _signal = row(conn, _ME, (oid,)) or (False, False, False, "", False)
    if not superuser and not (createdb and owns):
        lacking = " and ".join(["the right to create databases (CREATEDB)"] * (not createdb) + ["ownership of %s" % dbname] * (not owns))
        raise MigrationError("the role %s lacks %s, which the swap needs" % (name, lacking), code="PERMISSION_DENIED")


def rehearse_settings(conn: t.Any, name: str, oid: int, wanted: t.Mapping[str, t.Any], role: str) -> None:
    """Whether this role may give the database ``name`` these properties, tried where it costs nothing and rolled back.

    :param conn: an autocommit connection to another database of the server.
    :param wanted: see ``_dbsettings.read_settings``.
    :raises MigrationError: ``RESTORE_PREREQUISITE``.
    """
    execute(conn, "BEGIN")
    try:
        apply_settings(conn, name, oid, wanted, comment=False)
    except psycopg2.Error as error:
        raise MigrationError(
            "the role %s cannot carry over a property of the database: %s" % (role, " ".join(str(error).split())),
            code="RESTORE_PREREQUISITE",
            next_step="restore as a superuser, or grant the right (for a setting: GRANT SET ON PARAMETER name TO role)",
            sqlstate=error.pgcode,
        ) from None
    finally:
        execute(conn, "ROLLBACK")


def prerequisites(conn: t.Any, manifest: Manifest, identity: t.Mapping[str, t.Any]) -> list[str]:
    """What the archive needs on the server; warnings.

    :param conn: a connection to the live database.
    :raises MigrationError: ``RESTORE_PREREQUISITE`` with everything that is missing.
    """
    needs = manifest.prerequisites
    superuser = bool(identity["superuser"])
    roles = dict(rows(conn, "SELECT rolname, pg_has_role(oid, 'MEMBER') FROM pg_roles WHERE rolname = ANY(%s)", (needs["roles"],)))
    missing = ["the role %s" % name for name in needs["roles"] if name not in roles]
    if not superuser:
        missing += ["membership in the role %s, which owns objects" % name for name in needs["owners"] if roles.get(name) is False]
    spaces = dict(rows(conn, _TABLESPACES, (needs["tablespaces"],)))
    missing += ["the tablespace %s" % name for name in needs["tablespaces"] if name not in spaces]
    missing += ["the right to create in the tablespace %s" % name for name, may in spaces.items() if not may]
    warnings = _extensions(conn, needs["extensions"], superuser, missing)
    if missing:
        raise MigrationError("the restore needs what is not there: %s" % ", ".join(missing), code="RESTORE_PREREQUISITE", missing=missing)
    if not superuser and not (row(conn, "SELECT pg_has_role('pg_signal_backend', 'USAGE')") or (False,))[0]:
        warnings.append("the role %s may end its own sessions only (no pg_signal_backend); others must leave by themselves" % identity["current_user"])
    return warnings


def _extensions(conn: t.Any, wanted: t.Sequence[t.Mapping[str, str]], superuser: bool, missing: list[str]) -> list[str]:
    names = [extension["name"] for extension in wanted]
    available = {
        name: (default, needs_superuser)
        for name, default, needs_superuser in rows(
            conn,
            "SELECT e.name, e.default_version, v.superuser AND NOT v.trusted FROM pg_available_extensions e"
            " JOIN pg_available_extension_versions v ON v.name = e.name AND v.version = e.default_version WHERE e.name = ANY(%s)",
            (names,),
        )
    }
    warnings = []
    for extension in wanted:
        name = extension["name"]
        if name not in available:
            missing.append("the extension %s" % name)
        elif available[name][1] and not superuser:
            missing.append("a superuser, to create the extension %s" % name)
        elif available[name][0] != extension["version"]:
            warnings.append("extension %s: %s was backed up, %s will be installed" % (name, extension["version"], available[name][0]))
    return warnings


__all__ = (
    "demand_same_database", "demand_swappable", "load", "prerequisites", "read_before", "read_through", "rehearse_settings",
)  # fmt: skip
