# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pathlib
import signal
import stat
import sys
import time
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _pgprograms, _pgtools
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program, choose_compression, find_program, parse_version
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import conninfo, pgpass_line
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

TARGET = Target(dbname="postgresql://h/x", host="db1", port=6000, user="me", password="s3cr:et\\", libpq={"sslmode": "require", "connect_timeout": "7"})


def script(path: pathlib.Path, text: str) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("#!/bin/sh\n" + text)
    path.chmod(0o755)
    return str(path)


def fake(folder: pathlib.Path, version: str, more: str = "") -> str:
    return script(folder / "pg_dump", 'if [ "$1" = --version ]; then echo "pg_dump (PostgreSQL) %s"; exit 0; fi\n%s' % (version, more))


@pytest.mark.parametrize(
    ("text", "version"),
    [("pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", (15, "15.18")), ("pg_restore (PostgreSQL) 17.10", (17, "17.10")),
     ("pg_dump (PostgreSQL) 19beta2", (19, "19beta2")), ("pg_dump (PostgreSQL) 20devel", (20, "20devel")), ("pg_dump (PostgreSQL) 9.6.24", (9, "9.6.24")),
     ("", None), ("pg_dump: error", None)],
)  # fmt: skip
def test_versions(text: str, version: t.Any) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize(
    ("client", "server", "can"), [(15, 15, True), (16, 15, True), (14, 15, False), (17, 15, False), (17, 17, True), (18, 17, True), (18, 16, False)]
)
def test_which_client_can_serve_which_server(client: int, server: int, can: bool) -> None:
    assert _pgprograms.can_serve(client, server) is can


@pytest.mark.parametrize(("have", "server", "outcome"), [
    (["14.9", "16.2", "15.3"], 150018, "15.3"), (["14.9", "16.2", "18.1"], 150018, "16.2"), (["18.1", "17.2"], 170004, "17.2"), (["14.9", "13.1"], 150018, "CLIENT_TOO_OLD"),
    (["17.2"], 150018, "VERSION_MISMATCH"), (["14.9", "17.2"], 150018, "VERSION_MISMATCH"), ([], 150018, "PROGRAM_MISSING"),
])  # fmt: skip
def test_the_best_program_is_found(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, have: list[str], server: int, outcome: str) -> None:
    for version in have:
        fake(tmp_path / version / "bin", version)
    monkeypatch.setattr(_pgprograms, "BIN_GLOBS", (str(tmp_path / "*" / "bin"),))
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    monkeypatch.setattr(_pgprograms.shutil, "which", lambda name: None)
    try:
        assert find_program("pg_dump", server).version == outcome
    except MigrationError as error:
        assert error.code == outcome


def test_an_explicit_folder_is_the_only_place(tmp_path: pathlib.Path) -> None:
    fake(tmp_path, "15.1")
    assert find_program("pg_dump", 150018, str(tmp_path)).path == str(tmp_path / "pg_dump")
    with pytest.raises(MigrationError) as caught:
        find_program("pg_restore", 150018, str(tmp_path))
    assert caught.value.code == "PROGRAM_MISSING"


def test_the_wrapper_of_debian_is_passed_over(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path / "real", "15.3")
    wrapper = script(tmp_path / "bin" / "pg_wrapper", "echo 'pg_dump (PostgreSQL) 15.18'")
    (tmp_path / "bin" / "pg_dump").symlink_to(wrapper)
    monkeypatch.setattr(_pgprograms, "BIN_GLOBS", (str(tmp_path / "real"),))
    monkeypatch.setattr(_pgprograms.shutil, "which", lambda name: str(tmp_path / "bin" / name))
    assert find_program("pg_dump", 150018).version == "15.3"


@pytest.mark.parametrize(("able", "wanted", "value"), [
    ("zstd:1 lz4 1 0", "auto", "zstd:1"), ("lz4 1 0", "auto", "lz4"), ("1 0", "auto", "1"), ("1 0", "none", "0"), ("1 0", "gzip", "1"), ("1 5 0", "gzip:5", "5"),
    ("zstd:1 zstd:3 1", "zstd:3", "zstd:3"), ("zstd:1 1", "zstd", "zstd:1"), ("1", "zstd", None), ("1", "brotli", None), ("1", "zstd:1 --x", None), ("1", "", None),
])  # fmt: skip
def test_compression(tmp_path: pathlib.Path, able: str, wanted: str, value: str | None) -> None:
    path = fake(
        tmp_path,
        "16.1",
        'for v in %s; do [ "--compress=$v" = "$2" ] && { echo "connection to server failed" >&2; exit 1; }; done\necho invalid >&2; exit 1' % able,
    )
    program = Program("pg_dump", path, "16.1", 16)
    if value is None:
        with pytest.raises(MigrationError) as caught:
            choose_compression(program, wanted)
        assert caught.value.code == "OPTION_INVALID"
    else:
        assert choose_compression(program, wanted) == value


def test_escaping() -> None:
    assert pgpass_line("p:a\\s é") == "*:*:*:*:p\\:a\\\\s é\n".encode()
    assert conninfo("a'b\\c=d") == "dbname='a\\'b\\\\c=d'"
    for password in ("a\nb", "a\rb", "a\0b"):
        with pytest.raises(MigrationError) as caught:
            pgpass_line(password)
        assert caught.value.code == "CONNECTION_OPTIONS"


def show(tmp_path: pathlib.Path, name: str = "show") -> str:
    return script(
        tmp_path / name, 'env; echo "ARGV $0 $*"; stat -c "MODE %a %u" "$PGPASSFILE" "$(dirname "$PGPASSFILE")"; cat "$PGPASSFILE" | od -An -c; umask'
    )


def test_environment_and_password_file(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PGPASSWORD", "PGDATABASE", "PGSERVICE", "AWS_SECRET", "LANG"):
        monkeypatch.setenv(name, "from outside")
    monkeypatch.setattr(_pgtools.tempfile, "tempdir", str(tmp_path))
    done = _pgtools.run_program([show(tmp_path), "--x=y"], TARGET, application_name="app", settings={"lock_timeout": "5s", "search_path": "a b"})
    assert done is not None and done.rc == 0
    lines = done.stdout.splitlines()
    wanted = {"PGHOST=db1", "PGPORT=6000", "PGUSER=me", "PGDATABASE=postgresql://h/x", "PGSSLMODE=require", "PGCONNECT_TIMEOUT=7", "PGAPPNAME=app", "LC_ALL=C",
              "PGOPTIONS=-c lock_timeout=5s -c search_path=a\\ b", "0077"}  # fmt: skip
    assert wanted <= set(lines)
    assert "from outside" not in done.stdout
    assert [line for line in lines if line.startswith("MODE")] == ["MODE 600 %d" % os.geteuid(), "MODE 700 %d" % os.geteuid()]
    assert not list(tmp_path.glob(_pgtools.SECRET_DIR_PREFIX + "*"))
    assert "s3cr" not in done.stdout


def test_output_is_scrubbed(tmp_path: pathlib.Path) -> None:
    done = _pgtools.run_program([script(tmp_path / "leak", "echo 's3cr:et\\\\' >&2; echo s3cr%3Aet%5C; exit 3")], TARGET)
    assert done is not None
    assert (done.rc, done.stdout.strip(), done.stderr.strip()) == (3, "********", "********")
    assert done.why() == "ended with exit code 3: ********"


def test_an_abandoned_password_file_is_removed_and_a_live_one_kept(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_pgtools.tempfile, "tempdir", str(tmp_path))
    abandoned = tmp_path / (_pgtools.SECRET_DIR_PREFIX + "old")
    abandoned.mkdir(mode=0o700)
    (abandoned / "pgpass").write_bytes(b"x")
    os.utime(abandoned, (1, 1))
    with _pgtools.secret_file(b"one") as one:
        os.utime(os.path.dirname(one), (1, 1))
        with _pgtools.secret_file(b"two") as two:
            assert not abandoned.exists()
            assert pathlib.Path(one).read_bytes() == b"one" and pathlib.Path(two).read_bytes() == b"two"
            assert stat.S_IMODE(os.stat(one).st_mode) == 0o600
    assert os.listdir(tmp_path) == []


def gone(pid: int) -> bool:
    try:
        with open("/proc/%d/stat" % pid, encoding="ascii") as handle:
            return handle.read().rsplit(")", 1)[1].split()[0] == "Z"
    except FileNotFoundError:
        return True


def until(condition: t.Callable[[], bool], seconds: float = 5.0) -> bool:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_a_timeout_ends_the_whole_group(tmp_path: pathlib.Path) -> None:
    path = script(tmp_path / "slow", "sleep 60 & echo $! > %s; sleep 60" % (tmp_path / "pid"))
    assert _pgtools.run_program([path], TARGET, timeout=0.3) is None
    assert until(lambda: gone(int((tmp_path / "pid").read_text())))


def test_a_killed_parent_takes_the_program_along(tmp_path: pathlib.Path) -> None:
    path = script(tmp_path / "slow", "echo $$ > %s; exec sleep 60" % (tmp_path / "pid"))
    code = (
        "from ansible_collections.pgops.migrations.plugins.module_utils import _pgtools\n"
        "from ansible_collections.pgops.migrations.plugins.module_utils._url import Target\n"
        "_pgtools.run_program([%r], Target(dbname='x', password='p'))\n" % path
    )
    parent = os.spawnv(os.P_NOWAIT, sys.executable, [sys.executable, "-c", code])
    assert until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip() != "")
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)
    assert until(lambda: gone(int((tmp_path / "pid").read_text())))


def test_a_program_that_cannot_start(tmp_path: pathlib.Path) -> None:
    with pytest.raises(MigrationError) as caught:
        _pgtools.run_program([str(tmp_path / "none")], TARGET)
    assert caught.value.code == "PROGRAM_MISSING"
