# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import errno
import hashlib
import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder, MigrationFile, digest, order_warnings, read_folder
from hypothesis import given
from hypothesis import strategies as st

SQL = "CREATE TABLE a();\nCREATE TABLE b();\n"


def sha(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def unpadded(text: str) -> str:
    return "".join("%x" % byte for byte in hashlib.sha256(text.encode()).digest())


def make(folder: pathlib.Path, **scripts: str | bytes | None) -> pathlib.Path:
    for name, script in scripts.items():
        (folder / name).mkdir(parents=True)
        if script is not None:
            (folder / name / "migration.sql").write_bytes(script.encode() if isinstance(script, str) else script)
    return folder


@pytest.mark.parametrize(
    ("sql", "recorded", "expected"),
    [
        (SQL, sha(SQL), True),
        (SQL, sha(SQL.replace("\n", "\r\n")), True),
        (SQL.replace("\n", "\r\n"), sha(SQL), True),
        (SQL, unpadded(SQL), True),
        (SQL, unpadded(SQL.replace("\n", "\r\n")), True),
        (SQL, sha(SQL + " "), False),
        (SQL, sha(SQL.rstrip("\n")), False),
        (SQL, sha(SQL).upper(), False),
        (SQL, "", False),
        ("a\r\nb\n", sha("a\nb\n"), True),
        ("a\rb", sha("a\nb"), False),
        ("", sha(""), True),
        (None, sha(""), False),
    ],
)
def test_a_recorded_checksum_is_of_the_text_whatever_its_line_ends(sql: str | None, recorded: str, expected: bool) -> None:
    assert len(unpadded(SQL)) < 64  # or the old form would not be tested
    assert MigrationFile("m", sql).matches(recorded) is expected


@given(st.text(), st.text())
def test_two_texts_match_only_when_they_differ_in_line_ends(one: str, other: str) -> None:
    same = one.replace("\r\n", "\n") == other.replace("\r\n", "\n")
    assert MigrationFile("m", one).matches(digest(other.replace("\r\n", "\n"))) is (same or one == other.replace("\r\n", "\n"))


def test_the_folder_is_read_as_the_cli_reads_it(tmp_path: pathlib.Path) -> None:
    make(tmp_path, b_2="SELECT 2", B_1="SELECT 1", empty=None, bad=b"\xff\xfeSELECT", bom=b"\xef\xbb\xbfSELECT")
    (tmp_path / "migration_lock.toml").write_text('provider = "postgresql"\n')
    (tmp_path / "README.md").write_text("a stray file")
    (tmp_path / "linked").symlink_to(tmp_path / "b_2")
    (tmp_path / "b_2" / "nested").mkdir()
    folder = read_folder(str(tmp_path))
    assert folder.names == ("B_1", "b_2", "bad", "bom", "empty")
    texts = {migration.name: migration.sql for migration in folder.migrations}
    assert texts == {"B_1": "SELECT 1", "b_2": "SELECT 2", "bad": "\ufffd\ufffdSELECT", "bom": "\ufeffSELECT", "empty": None}
    assert folder.lock == 'provider = "postgresql"\n'
    assert folder.by_name()["empty"].checksum is None
    assert folder.by_name()["B_1"].checksum == sha("SELECT 1")


def test_a_script_that_is_a_folder_counts_as_missing(tmp_path: pathlib.Path) -> None:
    make(tmp_path, good="SELECT 1", odd=None)
    (tmp_path / "odd" / "migration.sql").mkdir()
    assert read_folder(str(tmp_path)).by_name()["odd"].sql is None


def test_without_a_lock_file_there_is_none(tmp_path: pathlib.Path) -> None:
    assert read_folder(str(make(tmp_path, m="SELECT 1"))).lock is None


def test_a_lock_file_that_cannot_be_read_is_named(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = make(tmp_path, m="SELECT 1") / "migration_lock.toml"
    lock.write_text("")
    really = open

    def refuse(path: str, mode: str) -> t.Any:
        if path == str(lock):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return really(path, mode)

    monkeypatch.setattr("builtins.open", refuse)  # root may read everything
    with pytest.raises(MigrationError, match=r"cannot read .*migration_lock\.toml \(Permission denied\)") as caught:
        read_folder(str(tmp_path))
    assert caught.value.code == "PROJECT_MISSING"


@pytest.mark.parametrize(
    ("content", "code"),
    [(None, "MIGRATIONS_DIR_MISSING"), ({}, "NOT_A_MIGRATIONS_DIR"), ({"m": None}, "NOT_A_MIGRATIONS_DIR"), ("file", "MIGRATIONS_DIR_MISSING")],
)
def test_a_folder_without_migrations_is_never_nothing_to_do(tmp_path: pathlib.Path, content: object, code: str) -> None:
    place = tmp_path / "migrations"
    if isinstance(content, dict):
        place.mkdir()
        make(place, **content)
    elif content:
        place.write_text("")
    with pytest.raises(MigrationError) as caught:
        read_folder(str(place))
    assert caught.value.code == code
    assert caught.value.facts["migrations_dir"] == str(place)


def folder_of(*pairs: tuple[str, str | None]) -> Folder:
    return Folder("/m", tuple(MigrationFile(name, sql) for name, sql in pairs))


BASE = folder_of(("1_a", "SELECT 1;\n"), ("2_b", None))


@pytest.mark.parametrize(
    ("other", "same"),
    [
        (folder_of(("1_a", "SELECT 1;\r\n"), ("2_b", None)), True),
        (Folder("/elsewhere", BASE.migrations, 'provider = "postgresql"'), True),
        (folder_of(("1_a", "SELECT 1; \n"), ("2_b", None)), False),
        (folder_of(("1_c", "SELECT 1;\n"), ("2_b", None)), False),
        (folder_of(("1_a", "SELECT 1;\n")), False),
        (folder_of(("1_a", "SELECT 1;\n"), ("2_b", "")), False),
        (folder_of(("2_b", None), ("1_a", "SELECT 1;\n")), False),
    ],
)
def test_the_digest_names_a_set_of_migrations(other: Folder, same: bool) -> None:
    assert (other.set_digest == BASE.set_digest) is same


def test_what_is_doubtful_about_an_order_is_said() -> None:
    assert order_warnings(["20240101_a", "20240102_b"]) == []
    [mixed] = order_warnings(["20240101_a", "20240101_B"])
    assert "by localeCompare 20240101_a comes first, by bytes 20240101_B" in mixed
    [accent] = order_warnings(["20240101_a", "20240102_é"])
    assert "20240102_é" in accent
