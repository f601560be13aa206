# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Which certificates are accepted for a state, and what is left of one on the disk."""

from __future__ import annotations

import datetime
import json
import os
import pathlib
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _certificate, _certificate_file
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

STATE: dict[str, t.Any] = {
    "database": 'we"ird-db; drop', "system_identifier": "7301234567890123456", "server_major": 16, "schema": "public", "set_digest": "a" * 64,
    "migrations": ["2_b", "3_c"], "ledger_head": "1_a", "schema_digest": "b" * 64,
}  # fmt: skip
NOW = datetime.datetime(2026, 11, 23, 3, 0, 0, tzinfo=datetime.timezone.utc)


def certificate(issued_at: str = "2026-11-22T03:00:00Z", **state: t.Any) -> dict[str, t.Any]:
    return _certificate.build(
        dict(STATE, **state), schema_digest_after="c" * 64, source="restore_point", restore_point="20261122T020000Z-ab12cd", options={"engine": "direct"},
        budgets={"max_deploy_seconds": 60.0}, measured={"deploy_seconds": 6.2, "longest_block": None}, issued_at=issued_at, run_id="20261122T030000Z-ffffff",
    )  # fmt: skip


def refused(found: t.Mapping[str, t.Any] | None, now: datetime.datetime = NOW, max_days: float = 7, **state: t.Any) -> MigrationError | None:
    try:
        _certificate.refuse_uncertified(found, now, dict(STATE, **state), max_days)
    except MigrationError as error:
        return error
    return None


REFUSALS: list[tuple[str, t.Any, dict[str, t.Any], str, str]] = [
    # name, certificate, what else is different, code, words
    ("the same", certificate(), {}, "", ""),
    ("none", None, {}, "CERTIFICATE_MISSING", 'for the 2 pending migrations of we"ird-db; drop'),
    ("damaged", {"unreadable": "/x.json: it is cut off or no JSON"}, {}, "CERTIFICATE_INVALID", "cut off"),
    ("seven days", certificate("2026-11-16T03:00:00Z"), {}, "", ""),
    ("a second more", certificate("2026-11-16T02:59:59Z"), {}, "CERTIFICATE_STALE", "7.0 days old, and 7 days are allowed"),
    ("half a day is enough", certificate(), {"max_days": 0.5}, "CERTIFICATE_STALE", "24 h 0 min old, and 0.5 days are allowed"),
    ("a minute ahead", certificate("2026-11-23T03:01:00Z"), {}, "", ""),
    ("tomorrow", certificate("2026-11-24T03:00:00Z"), {}, "CERTIFICATE_STALE", "dated in the future: it is 2026-11-23T03:00:00Z now"),
    ("another set", certificate(), {"set_digest": "d" * 64}, "CERTIFICATE_MISMATCH", "the migration set (rehearsed aaaaaaaaaaaa, now dddddddddddd)"),
    ("a part applied", certificate(), {"migrations": ["3_c"], "ledger_head": "2_b"}, "CERTIFICATE_MISMATCH", "rehearsed and no longer pending: 2_b); the head of the ledger (rehearsed 1_a, now 2_b)"),
    ("more pending", certificate(), {"migrations": ["2_b", "3_c", "4_d"]}, "CERTIFICATE_MISMATCH", "the pending migrations (not rehearsed: 4_d)"),
    ("another order", certificate(), {"migrations": ["3_c", "2_b"]}, "CERTIFICATE_MISMATCH", "the pending migrations (in another order)"),
    ("an empty ledger", certificate(), {"ledger_head": None}, "CERTIFICATE_MISMATCH", "the head of the ledger (rehearsed 1_a, now none)"),
    ("another schema", certificate(), {"schema_digest": "e" * 64}, "CERTIFICATE_MISMATCH", "the schema of the database (rehearsed bbbbbbbbbbbb, now eeeeeeeeeeee)"),
    ("another cluster", certificate(), {"system_identifier": "1"}, "CERTIFICATE_MISMATCH", "the system identifier of the server"),
    ("another database", certificate(), {"database": "x"}, "CERTIFICATE_MISMATCH", "the database (rehearsed"),
    ("an upgrade", certificate(), {"server_major": 17}, "CERTIFICATE_MISMATCH", "the major version of the server (rehearsed 16, now 17)"),
    ("another schema of the URL", certificate(), {"schema": "app"}, "CERTIFICATE_MISMATCH", "the schema that is migrated (rehearsed public, now app)"),
    ("old and for another set", certificate("2020-01-01T00:00:00Z"), {"set_digest": "d" * 64}, "CERTIFICATE_MISMATCH", "the migration set"),
]  # fmt: skip


@pytest.mark.parametrize(("found", "changes", "code", "words"), [row[1:] for row in REFUSALS], ids=[row[0] for row in REFUSALS])
def test_what_is_refused(found: t.Any, changes: dict[str, t.Any], code: str, words: str) -> None:
    changes = dict(changes)
    error = refused(found, max_days=changes.pop("max_days", 7), **changes)
    assert (error.code if error else "") == code
    if error:
        assert words in error.msg, error.msg
        assert "rehearse.yml -e migration_targets=HOST" in error.next_step


def test_every_field_of_the_state_counts() -> None:
    for name in _certificate.STATE:
        other: t.Any = {"migrations": [], "server_major": 1}.get(name, "other")
        error = refused(certificate(), **{name: other})
        assert error and error.code == "CERTIFICATE_MISMATCH" and [each["name"] for each in error.facts["mismatches"]] == [name]


def edited(**changes: t.Any) -> bytes:
    return json.dumps(dict(certificate(), **changes)).encode()


def test_every_byte_counts_on_the_way_through_a_file() -> None:
    whole = _certificate.to_json(certificate())
    assert _certificate.from_json(whole) == certificate()
    without = {name: value for name, value in certificate().items() if name != "run_id"}
    damaged = [
        b"", b"null", b"[]", b"{}", whole[: len(whole) // 2], b"\xff" + whole, whole.replace(b"3_c", b"3_d"), edited(format=2), edited(format=True), edited(more=1),
        edited(issued_at="2027-01-01T00:00:00Z"), edited(migrations="2_b"), edited(server_major=True), edited(sha256="0" * 64),
        json.dumps(without).encode(), whole.replace(b"6.2", b"NaN"), whole.replace(b"6.2", b"1e999"), b"[" * 100000,
    ]  # fmt: skip
    for text in damaged:
        with pytest.raises(MigrationError) as caught:
            _certificate.from_json(text)
        assert caught.value.code == "CERTIFICATE_INVALID", text[:80]
    # Someone who makes the digest anew, too, is stopped by the date's form at least, and else by a signature only.
    odd = dict(certificate(), issued_at="soon")
    with pytest.raises(MigrationError):
        _certificate.from_json(json.dumps(dict(odd, sha256=_certificate.digest(odd))).encode())


def test_a_file_is_replaced_as_a_whole_and_read_as_it_was_written(tmp_path: pathlib.Path) -> None:
    folder = str(tmp_path / "certificates")
    path = _certificate_file.path_of(folder, STATE["database"], STATE["system_identifier"])
    assert _certificate_file.read(path) is None and not _certificate_file.withdraw(path)
    _certificate_file.demand_folder(folder, False)
    assert not os.path.exists(folder)
    _certificate_file.write(path, certificate())
    # Of a run that was killed.
    pathlib.Path(path + ".partial").write_text("half", encoding="utf-8")
    _certificate_file.write(path, certificate(ledger_head="0_z"))
    found = _certificate_file.read(path)
    assert found == certificate(ledger_head="0_z") and os.listdir(folder) == [os.path.basename(path)]
    assert os.stat(path).st_mode & 0o777 == 0o600 and os.stat(folder).st_mode & 0o777 == 0o700
    os.chmod(path, 0o620)
    assert "others than user" in (_certificate_file.read(path) or {})["unreadable"]
    os.chmod(path, 0o600)
    with open(path, "r+b") as handle:
        handle.truncate(100)
    error = refused(_certificate_file.read(path))
    assert error and error.code == "CERTIFICATE_INVALID" and path in error.msg and "cut off" in error.msg
    assert _certificate_file.withdraw(path) and os.listdir(folder) == []
    os.symlink("/etc/passwd", path)
    assert "unreadable" in (_certificate_file.read(path) or {})
    os.chmod(folder, 0o755)
    with pytest.raises(MigrationError) as caught:
        _certificate_file.write(path, certificate())
    assert caught.value.code == "CERTIFICATE_UNWRITABLE" and caught.value.next_step == "chmod 0700 %s" % folder


def test_each_database_has_a_file_of_its_own() -> None:
    names = [
        ("a", "1"),
        ("a@1", "1"),
        ("a", "1", "app"),
        ("a/b", "1"),
        ("..", "1"),
        ("é" * 31, "1" * 20, "ü" * 31),
        ("é" * 31, "1" * 20, "ö" * 31),
        ("x" * 63, "1"),
    ]
    paths = [_certificate_file.path_of("/c", *name) for name in names]
    assert len(set(paths)) == len(paths)
    for path in paths:
        assert os.path.dirname(path) == "/c" and len(os.path.basename(path)) <= 230 and not os.path.basename(path).startswith(".")


def gpg(home: pathlib.Path, *arguments: str) -> str:
    return subprocess.run(["gpg", "--homedir", str(home), "--batch", *arguments], capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.fixture
def keys(tmp_path: pathlib.Path) -> t.Iterator[tuple[str, str, str]]:
    """A home folder of gpg with two keys, which is short: its sockets lie in it."""
    home = tmp_path / "g"
    home.mkdir(mode=0o700)
    for name in ("a", "b"):
        gpg(home, "--passphrase", "", "--quick-generate-key", "%s@example.com" % name, "ed25519", "sign", "1y")
    found = [line.split(":")[9] for line in gpg(home, "--with-colons", "--list-secret-keys").splitlines() if line.startswith("fpr:")]
    yield str(home), found[0], found[1]
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=False, timeout=60)


def test_a_signature_is_of_this_certificate_and_of_this_key(tmp_path: pathlib.Path, keys: tuple[str, str, str]) -> None:
    home, mine, other = keys
    path = _certificate_file.path_of(str(tmp_path / "c"), "db", "1")

    def unsigned(by: str = mine) -> str:
        with pytest.raises(MigrationError) as caught:
            _certificate_file.demand_signed(path, _certificate_file.read(path) or {}, by, home)
        assert caught.value.code == "CERTIFICATE_UNSIGNED"
        return caught.value.msg

    _certificate_file.demand_key(mine, home)
    for key, code in (("0" * 40, "SIGNING_FAILED"), ("a@example.com", "OPTION_INVALID")):
        with pytest.raises(MigrationError) as caught:
            _certificate_file.demand_key(key, home)
        assert caught.value.code == code
    with pytest.raises(MigrationError) as caught:
        _certificate_file.write(path, certificate(), "0" * 40, home)
    assert caught.value.code == "SIGNING_FAILED" and os.listdir(tmp_path / "c") == []
    _certificate_file.write(path, certificate())
    assert "has no signature" in unsigned()
    _certificate_file.write(path, certificate(), mine, home)
    assert _certificate_file.demand_signed(path, certificate(), mine.lower(), home) == mine
    assert "and not by %s" % other in unsigned(other)
    # Another certificate under a signature that is good for the first.
    kept = pathlib.Path(path + _certificate_file.SIGNATURE).read_bytes()
    _certificate_file.write(path, certificate(ledger_head=None))
    assert not os.path.exists(path + _certificate_file.SIGNATURE)
    pathlib.Path(path + _certificate_file.SIGNATURE).write_bytes(kept)
    assert "is not good" in unsigned()
    assert _certificate_file.withdraw(path) and os.listdir(tmp_path / "c") == []
