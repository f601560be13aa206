# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import copy
import dataclasses
import json
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _manifest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import FileEntry, Manifest, derived_name, from_json, safe_name, to_json

SHA = "a" * 64


def manifest(**changes: t.Any) -> Manifest:
    whole = Manifest(
        id="20261122T163000Z-ab12cd",
        sequence=3,
        run_id="r1",
        label="before ünïcode",
        started_at="2026-11-22T16:30:00Z",
        finished_at="2026-11-22T16:30:07Z",
        target={
            "system_identifier": "7234567890123456789", "database": 'we"ird', "database_oid": 16400, "host": "127.0.0.1", "port": 5432, "owner": "o",
            "server_version": "15.18", "server_version_num": 150018, "encoding": "UTF8", "collate": "C", "ctype": "C", "locale_provider": "libc",
            "locale": None, "tablespace": "pg_default", "lsn": "0/1", "wal_mark": "0/1@1", "size_bytes": 1,
        },
        archive={"format": "directory", "path": "archive", "compression": "1", "jobs": 2, "client_version": "15.18", "client_major": 15, "seconds": 1.5},
        files=(FileEntry("archive/toc.dat", 10, SHA), FileEntry("archive/1.dat.gz", 5, SHA)),
        ledger={"schema": "public", "rows": 1, "head": "a", "digest": SHA, "clean": True, "unfinished": [], "applied": ["a"]},
        fingerprint={"tables": {"public.t": {"rows": 1}}, "sequences": {"public.s": {"last_value": 5, "is_called": True}}},
        sequences_moved={"public.s": [5, 9]},
        prerequisites={"roles": ["o"], "owners": ["o"], "extensions": [{"name": "citext", "version": "1.6", "schema": "public"}], "tablespaces": []},
        settings={},
    )  # fmt: skip
    return dataclasses.replace(whole, **changes)


def edited(change: t.Callable[[dict[str, t.Any]], t.Any], whole: Manifest | None = None) -> bytes:
    """The manifest after an edit by someone who computes the digest anew."""
    content = json.loads(to_json(whole or manifest()))["manifest"]
    change(content)
    return json.dumps({"format": _manifest.FORMAT, "manifest": content, "digest": _manifest._digest(content)}).encode()


ENCRYPTED: dict[str, t.Any] = {
    "archive": {"format": "custom", "path": "archive.dump.age", "compression": "1", "jobs": 2, "client_version": "15.18", "client_major": 15, "seconds": 1.5},
    "files": (FileEntry("archive.dump.age", 10, SHA), FileEntry("globals.sql.age", 5, SHA)),
    "globals": {"path": "globals.sql.age", "passwords": False, "digest": SHA},
    "encryption": {"tool": "age", "recipients": ["age1abc"]},
}


def code_of(text: bytes) -> str:
    with pytest.raises(MigrationError) as caught:
        from_json(text)
    return caught.value.code


def test_round_trip() -> None:
    assert from_json(to_json(manifest())) == manifest()
    assert from_json(to_json(manifest(ledger=None))).ledger is None
    assert from_json(to_json(manifest(**ENCRYPTED))) == manifest(**ENCRYPTED)
    assert manifest().size_bytes == 15
    assert manifest().confirmation() == 'we"ird r1'
    assert manifest(run_id="").confirmation() == 'we"ird 20261122T163000Z-ab12cd'


@pytest.mark.parametrize(
    "text",
    [
        b"", b"{", b"[]", b"null", b"\xff\xfe", b"{}", b'{"format": 2}', b'{"format": 1, "manifest": {}, "digest": ""}', b'{"format": "2"}', b'{"format": true}',
        b'{"format": NaN}', b"[" * 100000, b'{"format": 2, "manifest": [], "digest": ""}', b"--\n-- PostgreSQL database dump\n--\n",
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_refused(text: bytes) -> None:
    assert code_of(text) == "BACKUP_FORMAT"


def set_in(*path: t.Any) -> t.Callable[[dict[str, t.Any]], None]:
    *keys, last, value = path

    def change(content: dict[str, t.Any]) -> None:
        for key in keys:
            content = content[key]
        content[last] = copy.deepcopy(value)

    return change


MALFORMED: dict[str, t.Callable[[dict[str, t.Any]], t.Any]] = {
    "sequence zero": set_in("sequence", 0),
    "sequence a truth value": set_in("sequence", True),
    "globals elsewhere": set_in("globals", {"path": "../globals.sql", "passwords": False, "digest": SHA}),
    "globals that is no file": set_in("globals", {"path": "globals.sql", "passwords": False, "digest": SHA}),
    "globals of another tool": set_in("globals", {"path": "globals.sql.gpg", "passwords": False, "digest": SHA}),
    "encrypted directory": set_in("encryption", {"tool": "age", "recipients": ["age1abc"]}),
    "field missing": lambda content: content.pop("files"),
    "field unknown": set_in("more", 1),
    "other kind": set_in("kind", "snapshot"),
    "id with a path": set_in("id", "../20261122T163000Z-ab12cd"),
    "id of another shape": set_in("id", "latest"),
    "run_id no text": set_in("run_id", 5),
    "target no object": set_in("target", []),
    "target field missing": lambda content: content["target"].pop("system_identifier"),
    "system identifier a number": set_in("target", "system_identifier", 7),
    "port a truth value": set_in("target", "port", True),
    "database empty": set_in("target", "database", ""),
    "database too long": set_in("target", "database", "ä" * 32),
    "database with NUL": set_in("target", "database", "a\0b"),
    "archive elsewhere": set_in("archive", "path", "/etc"),
    "archive format unknown": set_in("archive", "format", "tar"),
    "archive of the other format": set_in("archive", "format", "custom"),
    "no files": set_in("files", []),
    "file twice": lambda content: content["files"].append(dict(content["files"][0])),
    "file no object": set_in("files", 0, "archive/toc.dat"),
    "file absolute": set_in("files", 0, "path", "/etc/passwd"),
    "file above": set_in("files", 0, "path", "archive/../../x"),
    "file is dots": set_in("files", 0, "path", "archive/.."),
    "file beside the archive": set_in("files", 0, "path", "manifest.json"),
    "file with the roles, unannounced": lambda content: content["files"].append({"path": "globals.sql", "size": 1, "sha256": SHA}),
    "file in a sub-folder": set_in("files", 0, "path", "archive/a/b"),
    "size negative": set_in("files", 0, "size", -1),
    "size a text": set_in("files", 0, "size", "10"),
    "hash too short": set_in("files", 0, "sha256", "ab"),
    "hash in capitals": set_in("files", 0, "sha256", "A" * 64),
    "ledger field missing": lambda content: content["ledger"].pop("clean"),
    "ledger clean no truth value": set_in("ledger", "clean", 1),
    "ledger unfinished no names": set_in("ledger", "unfinished", [1]),
    "fingerprint a list": set_in("fingerprint", []),
    "sequence bounds": set_in("sequences_moved", "public.s", [1]),
    "roles no list": set_in("prerequisites", "roles", "o"),
    "extension without version": set_in("prerequisites", "extensions", [{"name": "x", "schema": "y"}]),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_manifest_is_refused(case: str) -> None:
    assert code_of(edited(MALFORMED[case])) == "BACKUP_FORMAT"


ENCRYPTED_MALFORMED: dict[str, t.Callable[[dict[str, t.Any]], t.Any]] = {
    "tool unknown": set_in("encryption", "tool", "rot13"),
    "no recipient": set_in("encryption", "recipients", []),
    "recipients no names": set_in("encryption", "recipients", [1]),
    "plain in truth": set_in("encryption", None),
    "globals plain": lambda content: (content["globals"].update(path="globals.sql"), content["files"][1].update(path="globals.sql")),
    "globals alone": lambda content: content["files"].pop(0),
    "globals missing": lambda content: content["files"].pop(1),
    "archive plain": lambda content: (content["archive"].update(path="archive.dump"), content["files"][0].update(path="archive.dump")),
}


@pytest.mark.parametrize("case", ENCRYPTED_MALFORMED)
def test_a_malformed_manifest_of_what_is_encrypted_is_refused(case: str) -> None:
    assert code_of(edited(ENCRYPTED_MALFORMED[case], manifest(**ENCRYPTED))) == "BACKUP_FORMAT"


@pytest.mark.parametrize(
    "change",
    [set_in("target", "database", "other"), set_in("target", "system_identifier", "1"), set_in("files", 0, "path", "archive/x"), set_in("files", 0, "sha256", "b" * 64),
     set_in("fingerprint", {}), set_in("id", "20261122T163000Z-ab12ce")],
)  # fmt: skip
def test_an_edit_without_the_digest_is_found(change: t.Callable[[dict[str, t.Any]], None]) -> None:
    outer = json.loads(to_json(manifest()))
    change(outer["manifest"])
    assert code_of(json.dumps(outer).encode()) == "BACKUP_CORRUPT"


@pytest.mark.parametrize(
    ("found", "equal"), [({"last_value": 5, "is_called": True}, True), ({"last_value": 7, "is_called": True}, True), ({"last_value": 9, "is_called": True}, True),
                         ({"last_value": 4, "is_called": True}, False), ({"last_value": 10, "is_called": True}, False), (None, False)]
)  # fmt: skip
def test_a_sequence_that_moved_may_have_any_value_it_passed(found: t.Any, equal: bool) -> None:
    seen = {"sequences": {} if found is None else {"public.s": found}}
    assert (manifest().expected(seen)["sequences"] == seen["sequences"]) is equal


@pytest.mark.parametrize(
    ("name", "folder"), [("shop", "shop"), ("..", "%2E."), (".hidden", "%2Ehidden"), ("-rf", "%2Drf"), ("a/b", "a%2Fb"), ("a b", "a%20b"), ("%2E", "%252E"), ("ü", "%C3%BC")]
)  # fmt: skip
def test_folder_names(name: str, folder: str) -> None:
    assert safe_name(name) == folder


@pytest.mark.parametrize("name", ["shop", "d" * 63, "ü" * 31 + "x", 'we"ird-db; drop'])
def test_derived_names_fit(name: str) -> None:
    for word in ("kept", "restore", "failed"):
        derived = derived_name(name, word, "20261122T163000Z-ab12cd")
        assert len(derived.encode()) <= 63
        assert derived.endswith("__%s_20261122t163000z_ab12cd" % word)
        assert derived[0] == name[0]
