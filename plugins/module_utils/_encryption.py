# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Encryption and signatures, by gpg and age and never by hand.

Both encrypt to public keys, so a backup needs no secret at all. A secret key is found by
gpg in its home folder, and by age in the identity file; neither is ever asked for a
passphrase here, for there is nobody to type it: gpg may ask its agent.
"""

from __future__ import annotations

import dataclasses
import os
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FILE_NAME
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import base_environment
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Finished, spawned
from ansible_collections.pgops.migrations.plugins.module_utils._sidecars import SIGNATURE
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

TOOLS = ("gpg", "age")
_FINGERPRINT = re.compile(r"^([0-9A-Fa-f]{40}|[0-9A-Fa-f]{64})$")
_AGE_RECIPIENT = re.compile(r"^(age1[0-9a-z]+|ssh-(ed25519|rsa) [^\r\n]+)$")
_GPG = ("gpg", "--batch", "--no-tty", "--quiet")
_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Decryption:
    """Where the secret key is: age's identity file, gpg's home folder (empty: gpg's own default)."""

    identity_file: str = ""
    gpg_home: str = ""


def demand_recipients(tool: str, recipients: t.Sequence[str]) -> None:
    """Whether the recipients say exactly whose keys they are.

    gpg would take any key with a matching name or short id; only a full fingerprint names one key.

    :raises MigrationError: ``OPTION_INVALID``.
    """
    if tool not in TOOLS:
        raise MigrationError("encryption is %r and not one of none, %s" % (tool, ", ".join(TOOLS)), code="OPTION_INVALID")
    if not recipients:
        raise MigrationError("encryption is %s, and encryption_recipients is empty" % tool, code="OPTION_INVALID")
    pattern, shape = (_FINGERPRINT, "the full fingerprint of a key") if tool == "gpg" else (_AGE_RECIPIENT, "a public key age1... or ssh-...")
    wrong = [recipient for recipient in recipients if not pattern.match(recipient)]
    if wrong:
        raise MigrationError("the recipient %r for %s is not %s" % (wrong[0], tool, shape), code="OPTION_INVALID")


def demand_fingerprint(option: str, value: str) -> None:
    """:raises MigrationError: ``OPTION_INVALID`` when it is not the full fingerprint of an OpenPGP key."""
    if not _FINGERPRINT.match(value):
        raise MigrationError("%s is not the full fingerprint of a key (40 hexadecimal digits)" % option, code="OPTION_INVALID")


def encrypt_argv(tool: str, recipients: t.Sequence[str]) -> list[str]:
    """Encrypts stdin to stdout."""
    if tool == "age":
        return ["age", "--encrypt"] + ["--recipient=%s" % recipient for recipient in recipients]
    # The archive is compressed already. The fingerprint is what says that the key is the right one.
    return [*_GPG, "--trust-model=always", "--compress-algo=none"] + ["--recipient=%s" % recipient for recipient in recipients] + ["--encrypt"]


def decrypt_argv(tool: str, path: str, decryption: Decryption) -> list[str]:
    """Decrypts a file to stdout.

    :raises MigrationError: ``DECRYPTION_FAILED`` without an identity for age.
    """
    if tool == "gpg":
        return [*_GPG, "--decrypt", path]
    if not decryption.identity_file:
        raise MigrationError("the restore point is encrypted with age, and no identity file is given", code="DECRYPTION_FAILED")
    return ["age", "--decrypt", "--identity=%s" % decryption.identity_file, path]


def tool_environment(gpg_home: str = "") -> dict[str, str]:
    """The whole environment of gpg or age."""
    return dict(base_environment(), **({"GNUPGHOME": gpg_home} if gpg_home else {}))


def run_tool(argv: t.Sequence[str], gpg_home: str = "") -> Finished | None:
    """Run gpg or age to its end; None when it did not end in a minute."""
    with spawned(argv, tool_environment(gpg_home), Target(dbname="")) as child:
        return child.wait(_SECONDS)


def demand_tool(tool: str, recipients: t.Sequence[str], gpg_home: str = "") -> None:
    """Whether the tool is there and takes these recipients, tried on an empty input.

    :raises MigrationError: ``PROGRAM_MISSING``, ``OPTION_INVALID``.
    """
    done = run_tool(encrypt_argv(tool, recipients), gpg_home)
    if done is None or done.rc != 0:
        raise MigrationError("%s cannot encrypt to these recipients: it %s" % (tool, done.why() if done else "did not end"), code="OPTION_INVALID")


def sign(path: str, key: str, gpg_home: str = "") -> None:
    """Put a detached signature of the manifest beside it.

    :param key: the full fingerprint of the key.
    :raises MigrationError: ``SIGNING_FAILED``, ``PROGRAM_MISSING``.
    """
    argv = [*_GPG, "--yes", "--local-user=%s" % key, "--output=%s" % os.path.join(path, SIGNATURE), "--detach-sign", os.path.join(path, FILE_NAME)]
    done = run_tool(argv, gpg_home)
    if done is None or done.rc != 0:
        raise MigrationError("gpg could not sign the manifest: it %s" % (done.why() if done else "did not end"), code="SIGNING_FAILED")


def verify_signature(path: str, gpg_home: str = "", signed_by: str = "") -> str:
    """Demand a good signature of the manifest; the fingerprint of the key that made it.

    :param signed_by: the full fingerprint that it must be of (the key or its primary key); empty: of any key in the home folder.
    :raises MigrationError: ``SIGNATURE_MISSING``, ``SIGNATURE_INVALID``, ``OPTION_INVALID``, ``PROGRAM_MISSING``.
    """
    if signed_by:
        demand_fingerprint("signed_by", signed_by)
    signature = os.path.join(path, SIGNATURE)
    if not os.path.lexists(signature):
        raise MigrationError("%s has no %s" % (path, SIGNATURE), code="SIGNATURE_MISSING")
    done = run_tool([*_GPG, "--status-fd=1", "--verify", signature, os.path.join(path, FILE_NAME)], gpg_home)
    found = signers(done.stdout) if done and done.rc == 0 else []
    if not found:
        raise MigrationError("the signature of %s is not good: gpg %s" % (path, done.why() if done else "did not end"), code="SIGNATURE_INVALID")
    if signed_by and not any(signed_by.upper() in names for names in found):
        raise MigrationError(
            "%s is signed by %s, and not by %s" % (path, " and ".join(names[0] for names in found), signed_by.upper()), code="SIGNATURE_INVALID"
        )
    return found[0][0]


def signers(status: str) -> list[tuple[str, str]]:
    """Key and primary key of every good signature in gpg's status lines; expired and revoked keys make none."""
    found, good = [], False
    for line in status.splitlines():
        words = line.split()
        if words[:1] != ["[GNUPG:]"] or len(words) < 2:
            continue
        if words[1] in ("NEWSIG", "GOODSIG", "EXPSIG", "EXPKEYSIG", "REVKEYSIG", "BADSIG", "ERRSIG"):
            good = words[1] == "GOODSIG"
        elif words[1] == "VALIDSIG" and good:
            found.append((words[2].upper(), words[-1].upper()))
    return found


__all__ = (
    "TOOLS", "Decryption", "decrypt_argv", "demand_fingerprint", "demand_recipients", "demand_tool", "encrypt_argv", "run_tool", "sign", "signers",
    "tool_environment", "verify_signature",
)  # fmt: skip
