# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile
import threading
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _backup, _manifest
from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption, restoring
from ansible_collections.pgops.migrations.plugins.module_utils._encryption import sign, signers, verify_signature
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import find_program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_checks import load, read_through
from ansible_collections.pgops.migrations.plugins.module_utils._staging import fill, verify
from support.restorepoints import execute, filled, programs, refused, small_disk, take_backup, tree, until

CANARY = "canary-row-in-plain-text"


class Keys:
    """Key pairs of age and gpg; the gpg home has a short path, for its agent's socket must fit into 108 bytes."""

    def __init__(self) -> None:
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="keys-"))
        self.homes: list[pathlib.Path] = []

    def age(self) -> tuple[str, str]:
        """Public key and identity file."""
        path = self.folder / ("age-%d" % len(list(self.folder.iterdir())))
        subprocess.run(["age-keygen", "-o", str(path)], check=True, stderr=subprocess.DEVNULL)
        return next(line.split()[-1] for line in path.read_text().splitlines() if "public key" in line), str(path)

    def gpg(self) -> tuple[str, str]:
        """Fingerprint and home folder."""
        home = self.folder / ("gpg-%d" % len(self.homes))
        home.mkdir(mode=0o700)
        self.homes.append(home)
        run = functools.partial(subprocess.run, env=dict(os.environ, GNUPGHOME=str(home)), check=True, stderr=subprocess.DEVNULL)
        run(["gpg", "--batch", "--passphrase", "", "--quick-generate-key", "Operator <op@example.com>", "future-default", "default", "1y"])
        listed = run(["gpg", "--batch", "--with-colons", "--list-keys"], stdout=subprocess.PIPE).stdout.decode()
        return next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr:")), str(home)

    def send(self, home: str, other: str) -> None:
        """The public keys of one home to another."""
        keys = subprocess.run(["gpg", "--batch", "--export"], env=dict(os.environ, GNUPGHOME=home), check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["gpg", "--batch", "--quiet", "--import"], env=dict(os.environ, GNUPGHOME=other), input=keys, check=True)


@pytest.fixture(scope="module")
def keys() -> t.Iterator[Keys]:
    made = Keys()
    yield made
    for home in made.homes:
        subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)
    shutil.rmtree(made.folder)


class Case(t.NamedTuple):
    """How to encrypt, how to decrypt, and a way to decrypt that has not the key."""

    options: dict[str, t.Any]
    right: Decryption
    wrong: Decryption


@pytest.fixture(params=["age", "gpg"])
def case(request: pytest.FixtureRequest, keys: Keys) -> Case:
    if request.param == "age":
        (public, identity), (_other, stranger) = keys.age(), keys.age()
        return Case({"encryption": "age", "encryption_recipients": [public]}, Decryption(identity_file=identity), Decryption(identity_file=stranger))
    (fingerprint, home), (_mine, sender) = keys.gpg(), keys.gpg()
    keys.send(home, sender)
    return Case({"encryption": "gpg", "encryption_recipients": [fingerprint], "gpg_home": sender}, Decryption(gpg_home=home), Decryption(gpg_home=sender))


def test_nothing_of_it_is_plain_and_it_comes_back(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, case: Case) -> None:
    target = filled(database())
    execute(target, "INSERT INTO keyless VALUES (7, '%s')" % CANARY)
    point = take_backup(target, scratch, cluster.bin_dir, **case.options)
    path, suffix = pathlib.Path(point["path"]), "." + case.options["encryption"]
    assert sorted(os.listdir(path)) == ["archive.dump" + suffix, "globals.sql" + suffix, "manifest.json", "proof.json"]
    assert point["encryption"] == {"tool": case.options["encryption"], "recipients": case.options["encryption_recipients"]}
    content = {each.name: each.read_bytes() for each in path.iterdir()}
    assert not any(CANARY.encode() in text for text in content.values()) and b"CREATE ROLE" not in content["globals.sql" + suffix]
    assert not content["archive.dump" + suffix].startswith(b"PGDMP")

    manifest = load(point["path"])
    program = find_program("pg_restore", manifest.target["server_version_num"], str(cluster.bin_dir))
    read_through(program, point["path"], manifest, target, case.right)
    for decryption in (case.wrong, Decryption(identity_file="/nonexistent", gpg_home="/nonexistent"), None):
        with refused("DECRYPTION_FAILED"):
            read_through(program, point["path"], manifest, target, decryption)
    copy = target.dbname + "_copy"
    admin().cursor().execute('CREATE DATABASE "%s" OWNER "%s" TEMPLATE template0' % (copy, target.user))
    try:
        with refused("DECRYPTION_FAILED"):
            fill(target, copy, program, point["path"], manifest, decryption=case.wrong)
        fill(target, copy, program, point["path"], manifest, decryption=case.right)
        verify(target, copy, manifest)
        assert execute(target, "SELECT count(*) FROM keyless WHERE b = '%s'" % CANARY, dbname=copy) == [(1,)]
    finally:
        admin().cursor().execute('DROP DATABASE "%s"' % copy)


def test_an_encrypted_archive_that_was_changed_fails_although_its_hashes_were_made_to_fit(
    cluster: t.Any, database: t.Any, scratch: pathlib.Path, case: Case
) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir, **case.options)
    manifest = load(point["path"])
    program = find_program("pg_restore", manifest.target["server_version_num"], str(cluster.bin_dir))
    archive = pathlib.Path(point["path"], manifest.archive["path"])
    whole = archive.read_bytes()
    for damaged in (whole[:-10], whole[: len(whole) // 2], whole[:-200] + bytes([whole[-200] ^ 1]) + whole[-199:]):
        archive.write_bytes(damaged)
        with refused("DECRYPTION_FAILED"):
            read_through(program, point["path"], manifest, target, case.right)


def test_the_output_of_a_restore_can_go_elsewhere(cluster: t.Any, database: t.Any, scratch: pathlib.Path, case: Case) -> None:
    target = filled(database())
    point = take_backup(target, scratch, cluster.bin_dir, **case.options)
    manifest = load(point["path"])
    program = find_program("pg_restore", manifest.target["server_version_num"], str(cluster.bin_dir))
    args = ["--data-only", "--table=keyless", "--file=-"]
    with tempfile.TemporaryFile() as out:
        with restoring(program, point["path"], manifest, target, args, decryption=case.right, stdout=out) as child:
            assert getattr(child.wait(), "rc", None) == 0
        out.seek(0)
        assert out.read().count(b"1\ttwice\n") == 2


def test_what_cannot_encrypt_is_refused_before_a_dump(cluster: t.Any, database: t.Any, scratch: pathlib.Path, keys: Keys) -> None:
    target = database()
    public, _identity = keys.age()
    fingerprint, home = keys.gpg()
    cases: list[dict[str, t.Any]] = [
        {"encryption": "age"},
        {"encryption": "age", "encryption_recipients": ["age1nothing"]},
        {"encryption": "age", "encryption_recipients": ["-i/etc/passwd"]},
        {"encryption": "age", "encryption_recipients": [public], "format": "directory"},
        {"encryption": "gpg", "encryption_recipients": ["op@example.com"], "gpg_home": home},
        {"encryption": "gpg", "encryption_recipients": [fingerprint[-16:]], "gpg_home": home},
        {"encryption": "gpg", "encryption_recipients": ["0" * 40], "gpg_home": home},
        {"sign_with": "op@example.com", "gpg_home": home},
        {"encryption": "rot13", "encryption_recipients": [public]},
    ]
    for options in cases:
        with refused("OPTION_INVALID"):
            take_backup(target, scratch, cluster.bin_dir, **options)
    with refused("SIGNING_FAILED"):
        take_backup(target, scratch, cluster.bin_dir, sign_with="0" * 40, gpg_home=home)
    assert not list(scratch.rglob("*.partial")) and not list(scratch.rglob("manifest.json"))


def test_a_full_disk(cluster: t.Any, database: t.Any, scratch: pathlib.Path, case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    target = database()
    execute(target, "CREATE TABLE big AS SELECT md5(g::text || random()) FROM generate_series(1, 40000) g")
    monkeypatch.setattr(_backup, "room", lambda path: 1 << 40)
    with small_disk(scratch / "small", "300k") as folder:
        with refused("DISK_FULL"):
            take_backup(target, folder, cluster.bin_dir, **case.options)
        assert [each for each in folder.rglob("*") if each.is_file()] == []


@pytest.mark.parametrize("name", ["age", "pg_restore", "pg_dump"])
def test_a_link_of_the_chain_that_is_killed_ends_all_of_it(cluster: t.Any, database: t.Any, admin: t.Any, scratch: pathlib.Path, keys: Keys, name: str) -> None:
    target = filled(database())
    options = {"encryption": "age", "encryption_recipients": [keys.age()[0]]}
    take_backup(target, scratch, cluster.bin_dir, **options)
    before, errors = tree(scratch), []
    blocker = admin(target.dbname)
    blocker.cursor().execute("BEGIN; LOCK TABLE notes IN ACCESS EXCLUSIVE MODE")

    def work() -> None:
        try:
            take_backup(target, scratch, cluster.bin_dir, lock_wait_timeout=20, **options)
        except MigrationError as error:
            errors.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    word = options["encryption_recipients"][0] if name == "age" else "PGDATABASE=" + target.dbname
    pids = until(lambda: programs("pg_dump", "PGDATABASE=" + target.dbname) and programs(name, word))
    assert pids
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    blocker.close()
    thread.join(20)
    assert not thread.is_alive() and [error.code for error in errors] == ["BACKUP_FAILED"]
    assert tree(scratch) == before
    assert until(lambda: not any(programs(each, "PGDATABASE=" + target.dbname) for each in ("pg_dump", "pg_restore")))


def test_a_signature_binds_the_manifest_to_a_key(cluster: t.Any, database: t.Any, scratch: pathlib.Path, keys: Keys) -> None:
    target = filled(database())
    (mine, home), (other, stranger) = keys.gpg(), keys.gpg()
    point = take_backup(target, scratch, cluster.bin_dir, sign_with=mine, gpg_home=home)
    assert point["signed"] is True and sorted(os.listdir(point["path"]))[-2:] == ["manifest.json.sig", "proof.json"]
    load(point["path"])
    assert verify_signature(point["path"], home, mine) == verify_signature(point["path"], home, mine.lower()) == verify_signature(point["path"], home)
    with refused("SIGNATURE_INVALID"):
        verify_signature(point["path"], home, other)
    with refused("SIGNATURE_INVALID"):
        verify_signature(point["path"], stranger, mine)
    with refused("OPTION_INVALID"):
        verify_signature(point["path"], home, "op@example.com")
    # Somebody who can write the folder makes every digest fit, and signs with a key of his own.
    manifest = pathlib.Path(point["path"], "manifest.json")
    signature = pathlib.Path(point["path"], "manifest.json.sig")
    content = json.loads(manifest.read_text())["manifest"]
    content["label"] = "forged"
    manifest.write_text(json.dumps({"format": _manifest.FORMAT, "manifest": content, "digest": _manifest._digest(content)}))
    load(point["path"])
    with refused("SIGNATURE_INVALID"):
        verify_signature(point["path"], home, mine)
    signature.unlink()
    with refused("SIGNATURE_MISSING"):
        verify_signature(point["path"], home, mine)
    sign(point["path"], other, stranger)
    keys.send(stranger, home)
    assert verify_signature(point["path"], home) == other
    with refused("SIGNATURE_INVALID"):
        verify_signature(point["path"], home, mine)


@pytest.mark.parametrize(
    ("status", "found"),
    [
        ("", []),
        ("[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AB op\n[GNUPG:] VALIDSIG ab 2026 0 4 0 22 10 00 cd\n", [("AB", "CD")]),
        ("[GNUPG:] NEWSIG\n[GNUPG:] EXPKEYSIG AB op\n[GNUPG:] VALIDSIG AB 2026 0 4 0 22 10 00 CD\n", []),
        ("[GNUPG:] NEWSIG\n[GNUPG:] REVKEYSIG AB op\n[GNUPG:] VALIDSIG AB 2026 0 4 0 22 10 00 CD\n", []),
        ("[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG AB op\n[GNUPG:] NEWSIG\n[GNUPG:] VALIDSIG AB 2026 0 4 0 22 10 00 CD\n", []),
        ("gpg: [GNUPG:] GOODSIG AB op\ngpg: [GNUPG:] VALIDSIG AB x CD\n", []),
    ],
)
def test_only_good_signatures_count(status: str, found: list[tuple[str, str]]) -> None:
    assert signers(status) == found
