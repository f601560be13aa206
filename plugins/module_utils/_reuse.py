# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The restore points of one database by their sequence, and whether the newest one is still the present state."""

from __future__ import annotations

import contextlib
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts, prerequisites_of, read_ledger, unwritten
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._dump import BackupOptions
from ansible_collections.pgops.migrations.plugins.module_utils._encryption import verify_signature
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_columns import lacking
from ansible_collections.pgops.migrations.plugins.module_utils._globals import globals_digest, read_globals
from ansible_collections.pgops.migrations.plugins.module_utils._identity import identify
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME, ID_PATTERN, Manifest, digest, from_json, plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import load
from ansible_collections.pgops.migrations.plugins.module_utils._schema_text import of_archive, of_database
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import in_use, read_proof
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: What says that two snapshots are of the same database on the same server. After a swap the OID is another one.
_SAME = ("system_identifier", "database", "server_version_num")


def manifests(folder: str) -> list[Manifest]:
    """Those in a database's folder that can be read, the newest first; their files were not looked at."""
    found = []
    names = os.listdir(folder) if os.path.isdir(folder) else []
    for name in names:
        if not ID_PATTERN.match(name):
            continue
        with contextlib.suppress(OSError, MigrationError):
            with open(os.open(os.path.join(folder, name, FILE_NAME), os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
                manifest = from_json(handle.read())
            if manifest.id == name:
                found.append(manifest)
    return sorted(found, key=lambda manifest: (manifest.sequence, manifest.id), reverse=True)


def next_sequence(found: t.Iterable[Manifest], others: t.Iterable[int] = ()) -> int:
    """The number of the next restore point; call it under the lock of the run.

    :param others: the numbers of restore points that are no folders, as snapshots.
    """
    return max([manifest.sequence for manifest in found] + list(others) + [0]) + 1


def reusable(target: Target, options: BackupOptions, folder: str, manifest: Manifest, programs: tuple[Program, Program, Program | None]) -> bool:
    """Whether a new restore point would be the same as this one: whole, proved, as it was asked for, and of the present state.

    What is cheap is compared first; the rows are read only when nothing else differs.

    :param programs: pg_dump, pg_restore, and pg_dumpall where there is one.
    """
    pg_dump, pg_restore, pg_dumpall = programs
    path = os.path.join(folder, manifest.id)
    try:
        if not _as_asked(path, options, manifest):
            return False
        with in_use(path):
            with _looking(target, options) as conn:
                proof = _present(conn, target, manifest)
                # Columns that nobody noted could not be followed through the migrations.
                if proof is False or (options.pending and lacking(options.pending, manifest.fingerprint)):
                    return False
            # What a fingerprint leaves out, pg_dump prints; both of the same program, or the texts tell nothing.
            if proof is None and (
                pg_dump.version != manifest.archive["client_version"]
                or of_database(pg_dump, target, options.lock_wait_timeout, options.name) != of_archive(pg_restore, path, manifest, target, options.decryption)
            ):
                return False
            if manifest.globals is not None and not _same_roles(target, options, manifest, pg_dumpall):
                return False
            if options.sign_with:
                verify_signature(path, options.gpg_home, options.sign_with)
            # Every file is hashed anew.
            load(path)
    except MigrationError as error:
        if error.code in ("SERVER_UNREACHABLE", "AUTH_FAILED", "CONNECTION_LOST", "PERMISSION_DENIED"):
            raise
        return False
    return True


def _as_asked(path: str, options: BackupOptions, manifest: Manifest) -> bool:
    proof = read_proof(path) or {}
    # Of any level: what is only read so far can be drilled now.
    proved = proof.get("manifest") == digest(manifest)
    encryption = manifest.encryption or {"tool": "", "recipients": []}
    return (
        proved
        and manifest.archive["format"] == options.format
        and (encryption["tool"], sorted(encryption["recipients"])) == (options.tool, sorted(options.encryption_recipients if options.tool else []))
        and (manifest.globals is not None) == options.globals
        and (manifest.globals is None or manifest.globals["passwords"] == options.globals_hashes)
        # The archive has some value between the two, and nobody knows which.
        and not manifest.sequences_moved
    )


def _same_roles(target: Target, options: BackupOptions, manifest: Manifest, pg_dumpall: Program | None) -> bool:
    return pg_dumpall is not None and globals_digest(read_globals(pg_dumpall, target, options.globals_hashes)) == (manifest.globals or {})["digest"]


@contextlib.contextmanager
def _looking(target: Target, options: BackupOptions) -> t.Iterator[t.Any]:
    wait = dict(QUIET, lock_timeout="%dms" % round(options.lock_wait_timeout * 1000))
    with (
        connection(target, application_name=options.name, settings=wait, read_only=True) as conn,
        sql_errors("compare the database with a restore point", target),
    ):
        no_timeouts(conn)
        execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield conn


def _present(conn: t.Any, target: Target, manifest: Manifest) -> bool | None:
    """True where nothing was written since; None where the fingerprints are equal; False otherwise."""
    identity = identify(conn)
    if [identity[key] for key in _SAME] != [manifest.target[key] for key in _SAME]:
        return False
    settings = read_settings(conn, identity["database_oid"])
    if plain(settings) != manifest.settings or plain(prerequisites_of(conn, settings)) != manifest.prerequisites:
        return False
    if read_ledger(conn, target.schema) != manifest.ledger or take(conn, level="schema")["schema"]["digest"] != manifest.fingerprint["schema"]["digest"]:
        return False
    if unwritten(conn, manifest.target["wal_mark"], manifest.fingerprint):
        return True
    return None if take(conn, level="full")["digest"] == manifest.fingerprint["digest"] else False


__all__ = ("manifests", "next_sequence", "reusable")
