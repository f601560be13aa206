# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Certificates of rehearsals on the disk of the target's host, one per database, and their signatures by gpg.

A certificate has its name only when it is whole and on the disk. At any moment in which a run may be killed, the signature beside it
is its own or there is none.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import typing as t
from urllib.parse import quote

from ansible_collections.pgops.migrations.plugins.module_utils._certificate import UNREADABLE, from_json, to_json
from ansible_collections.pgops.migrations.plugins.module_utils._encryption import demand_fingerprint, run_tool, signers
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import safe_name
from ansible_collections.pgops.migrations.plugins.module_utils._storage import ensure_private_dir, fsync_dir, write_private

#: What the name of a signature has behind that of its certificate.
SIGNATURE = ".sig"
_PARTIAL = ".partial"
_GPG = ("gpg", "--batch", "--no-tty", "--quiet")
#: No certificate is as long; a longer file is none.
_MOST = 1 << 22
#: A file name has at most 255 bytes, and the longest of our endings is behind it.
_LONGEST = 200


def path_of(folder: str, database: str, system_identifier: str, schema: str = "public") -> str:
    """Where the certificate of a database is. Two projects may share a database, each with a schema of its own."""
    name = "%s@%s" % (safe_name(database), quote(system_identifier, safe=""))
    if schema != "public":
        name += "@" + quote(schema, safe="")
    if len(name) > _LONGEST:
        name = "%s~%s" % (name[:120], hashlib.sha256(name.encode("utf-8")).hexdigest()[:16])
    return os.path.join(folder, name + ".json")


def demand_folder(folder: str, make: bool) -> None:
    """Demand a private folder of this user; missing, it is made with mode 0700, or left missing without C(make).

    :raises MigrationError: ``CERTIFICATE_UNWRITABLE``.
    """
    try:
        ensure_private_dir(folder, make)
    except MigrationError as error:
        # Advice about a folder for backups is none here, but for a mode it is the same.
        step = error.next_step if error.next_step.startswith("chmod") else None
        raise MigrationError("the folder for certificates cannot be used: %s" % error.msg, code="CERTIFICATE_UNWRITABLE", next_step=step) from None


def demand_key(key: str, gpg_home: str = "") -> None:
    """Whether there is a secret key with this fingerprint, asked before hours are spent on a rehearsal.

    :raises MigrationError: ``OPTION_INVALID``, ``SIGNING_FAILED``, ``PROGRAM_MISSING``.
    """
    demand_fingerprint("the key that signs certificates", key)
    done = run_tool([*_GPG, "--with-colons", "--list-secret-keys", key], gpg_home)
    if done is None or done.rc != 0:
        raise _unsigned("gpg has no secret key %s" % key)


def read(path: str) -> dict[str, t.Any] | None:
    """The certificate; None without one, and C(unreadable) with the reason where it is damaged or not safe from others."""
    try:
        return from_json(_content(path))
    except FileNotFoundError:
        return None
    except OSError as error:
        return {UNREADABLE: "%s: %s" % (path, error.strerror or error)}
    except MigrationError as error:
        return {UNREADABLE: "%s: %s" % (path, error.msg.partition(": ")[2] or error.msg)}


def _content(path: str) -> bytes:
    """:raises OSError: also where somebody else could have written it."""
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb", buffering=0) as handle:
        found = os.fstat(handle.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > _MOST:
            raise OSError(0, "no file of a certificate")
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & 0o022:
            raise OSError(0, "others than user %d could have written it (owner %d, mode %04o)" % (os.geteuid(), found.st_uid, stat.S_IMODE(found.st_mode)))
        return handle.readall()


def write(path: str, certificate: t.Mapping[str, t.Any], sign_with: str = "", gpg_home: str = "") -> None:
    """Put the certificate in the place of the earlier one, whole or not at all, with a signature when a key is given.

    :param sign_with: full fingerprint of the key.
    :raises MigrationError: ``CERTIFICATE_UNWRITABLE``, ``DISK_FULL``, ``SIGNING_FAILED``. The earlier one is as it was then, or gone.
    """
    demand_folder(os.path.dirname(path), True)
    partial = path + _PARTIAL
    with _writing(path):
        _remove(partial, partial + SIGNATURE)
        try:
            write_private(partial, to_json(certificate))
            if sign_with:
                _sign(partial, sign_with, gpg_home)
            # The old signature first: it is not one of the new certificate.
            _remove(path + SIGNATURE)
            os.rename(partial, path)
            if sign_with:
                os.rename(partial + SIGNATURE, path + SIGNATURE)
            fsync_dir(os.path.dirname(path))
        finally:
            _remove(partial, partial + SIGNATURE)


def withdraw(path: str) -> bool:
    """Take the certificate away, and its signature; whether there was one.

    :raises MigrationError: ``CERTIFICATE_UNWRITABLE``.
    """
    with _writing(path):
        there = os.path.lexists(path)
        _remove(path, path + SIGNATURE)
        if there:
            fsync_dir(os.path.dirname(path))
    return there


def demand_signed(path: str, certificate: t.Mapping[str, t.Any], signed_by: str, gpg_home: str = "") -> str:
    """Demand a good signature of exactly this certificate by this key; the fingerprint of the key that made it.

    :param certificate: as it was read; the file may have been replaced since.
    :param signed_by: full fingerprint of the key or of its primary key.
    :raises MigrationError: ``CERTIFICATE_UNSIGNED``, ``OPTION_INVALID``, ``PROGRAM_MISSING``.
    """
    demand_fingerprint("the key that must have signed the certificate", signed_by)
    if not os.path.lexists(path + SIGNATURE):
        raise MigrationError("the certificate %s has no signature, and one by %s is demanded" % (path, signed_by), code="CERTIFICATE_UNSIGNED")
    done = run_tool([*_GPG, "--status-fd=1", "--verify", path + SIGNATURE, path], gpg_home)
    found = signers(done.stdout) if done and done.rc == 0 else []
    if not found:
        why = "the signature of %s is not good: gpg %s" % (path, done.why() if done else "did not end")
        raise MigrationError(why, code="CERTIFICATE_UNSIGNED")
    by = [names for names in found if signed_by.upper() in names]
    if not by:
        why = "%s is signed by %s, and not by %s" % (path, " and ".join(names[0] for names in found), signed_by.upper())
        raise MigrationError(why, code="CERTIFICATE_UNSIGNED")
    if read(path) != certificate:
        raise MigrationError("%s was replaced while its signature was checked" % path, code="CERTIFICATE_UNSIGNED", next_step="run again")
    return by[0][0]


def _sign(path: str, key: str, gpg_home: str) -> None:
    done = run_tool([*_GPG, "--yes", "--local-user=%s" % key, "--output=%s" % (path + SIGNATURE), "--detach-sign", path], gpg_home)
    if done is None or done.rc != 0:
        raise _unsigned("gpg could not sign the certificate: it %s" % (done.why() if done else "did not end"))
    os.chmod(path + SIGNATURE, 0o600)
    with open(path + SIGNATURE, "rb") as handle:
        os.fsync(handle.fileno())


def _unsigned(why: str) -> MigrationError:
    step = "check that the secret key is in migration_gpg_home, and that its agent gives it out; then rehearse again"
    return MigrationError(why, code="SIGNING_FAILED", next_step=step)


def _remove(*paths: str) -> None:
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


@contextlib.contextmanager
def _writing(path: str) -> t.Iterator[None]:
    try:
        yield
    except OSError as error:
        code = "DISK_FULL" if error.errno in (28, 122) else "CERTIFICATE_UNWRITABLE"
        raise MigrationError("cannot write the certificate %s: %s" % (path, error.strerror or error), code=code) from None


def shown(path: str, certificate: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    """What a result tells of it."""
    names = ("issued_at", "run_id", "set_digest", "ledger_head", "schema_digest", "schema_digest_after", "restore_point", "sha256")
    return dict({name: certificate[name] for name in names}, path=path, signed=os.path.lexists(path + SIGNATURE))


__all__ = ("SIGNATURE", "demand_folder", "demand_key", "demand_signed", "path_of", "read", "shown", "withdraw", "write")
