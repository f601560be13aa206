# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The private server that every other integration test stands on, with real processes."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tools import pgserver
from tools.pgserver import Cluster, PgServerError, find_programs
from tools.pgserver.folder import SOCKET_PATH_LIMIT

ROOT = Path(__file__).resolve().parents[2]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root has the server run as another account")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("pg") / "server", fast=True, temporary=True) as cluster:
        yield cluster


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose server, if any, is gone after the test."""
    yield tmp_path / "server"
    Cluster(tmp_path / "server").remove()


def fake_programs(bin_dir: Path, version: str, without: str = "") -> Path:
    bin_dir.mkdir(parents=True)
    for name in pgserver.NEEDED:
        if name != without:
            (bin_dir / name).write_text(f"#!/bin/sh\necho '{name} (PostgreSQL) {version}'\n")
            (bin_dir / name).chmod(0o755)
    return bin_dir


def ends(pid: int) -> bool:
    """A process is gone, or waits for nothing but to be counted, within five seconds."""
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


def psql(server: Cluster, host: str, password: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, **server.libpq_env(), "PGPASSFILE": os.devnull, "PGPASSWORD": password}
    command = [server.programs.path("psql"), "-XAtw", "-h", host, "-d", "postgres", "-c", "select 1"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


# -- finding the programs


@pytest.fixture
def system_dirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that has no PostgreSQL but what a test lays into this folder."""
    monkeypatch.setattr(pgserver.programs, "SYSTEM_BIN_DIRS", (str(tmp_path / "*" / "bin"),))
    monkeypatch.setattr(pgserver.programs, "WHEEL", "no_such_module")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    monkeypatch.delenv("PG_BIN", raising=False)
    monkeypatch.delenv("PGSERVER_SOURCE", raising=False)
    return tmp_path


def test_the_newest_complete_server_of_the_machine_is_taken(system_dirs: Path) -> None:
    for version in ("9.6.24", "13.23", "15.3", "16.1", "9.5"):
        fake_programs(system_dirs / version / "bin", version)
    fake_programs(system_dirs / "18.6" / "bin", "18.6", without="initdb")
    found = find_programs()
    assert (found.bin_dir, found.version, found.source) == (system_dirs / "16.1" / "bin", (16, 1), "system")


def test_pg_bin_goes_before_everything(system_dirs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_programs(system_dirs / "16" / "bin", "16.1")
    monkeypatch.setenv("PG_BIN", str(fake_programs(system_dirs / "mine", "14.2")))
    assert find_programs().version == (14, 2)
    assert find_programs(pg_bin=system_dirs / "16" / "bin").version == (16, 1)


@pytest.mark.parametrize(
    ("version", "without", "reason"),
    [("15.1", "pg_dump", "without pg_dump"), ("13.9", "", "version 13.9"), (None, "", "no such directory")],
)
def test_a_pg_bin_that_cannot_be_used_is_refused(system_dirs: Path, monkeypatch: pytest.MonkeyPatch, version: str | None, without: str, reason: str) -> None:
    fake_programs(system_dirs / "16" / "bin", "16.1")
    if version:
        fake_programs(system_dirs / "mine", version, without)
    monkeypatch.setenv("PG_BIN", str(system_dirs / "mine"))
    with pytest.raises(PgServerError, match=f"PG_BIN .*{reason}.*\nNext: set PG_BIN"):
        find_programs()


def test_without_any_server_the_error_names_the_next_command(system_dirs: Path) -> None:
    fake_programs(system_dirs / "11" / "bin", "11.22")
    with pytest.raises(PgServerError, match=r"(?s)version 11\.22.*Next: .* -m pip install .*postgres\.txt"):
        find_programs()


def test_nothing_is_made_when_there_are_no_programs(system_dirs: Path) -> None:
    with pytest.raises(PgServerError), Cluster(system_dirs / "folder"):
        pass
    assert not (system_dirs / "folder").exists()


@as_root
def test_programs_in_a_closed_folder_are_copied_where_the_account_can_run_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o700)
    bin_dir = fake_programs(tmp_path / pgserver.programs.WHEEL / "pginstall" / "bin", "17.10")
    account = pgserver.server_account()
    programs = pgserver.Programs(bin_dir, (17, 10), "wheel")
    usable, note = pgserver.usable_by(account, programs)
    copy = usable.bin_dir.parent
    try:
        assert account.can("-x", usable.bin_dir / "postgres")
        assert not account.can("-w", copy)
        assert str(copy) in note
        assert pgserver.usable_by(account, programs)[0] == usable
        assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o700
    finally:
        subprocess.run(["rm", "-rf", str(copy)], check=True)


# -- a running server


def test_passwords_are_asked_for_on_both_ways_in(server: Cluster) -> None:
    for host in ("127.0.0.1", server.socket_dir):
        assert psql(server, host, server.password).stdout == "1\n"
        refused = psql(server, host, "wrong")
        assert refused.returncode == 2
        assert "password authentication failed" in refused.stderr


def test_secrets_stay_out_of_arguments_and_open_files(server: Cluster) -> None:
    arguments = subprocess.run(["ps", "axww", "-o", "args"], capture_output=True, text=True, check=True).stdout
    assert server.password not in arguments
    assert stat.S_IMODE(server.pgpass_file.stat().st_mode) == 0o600
    assert server.password not in (server.folder / "pgserver.json").read_text()
    assert server.password not in server.log_file.read_text()
    assert sorted(path.name for path in server.home.iterdir()) == ["data", "server.log"]


def test_the_socket_directory_is_private_and_short(server: Cluster) -> None:
    assert stat.S_IMODE(os.stat(server.socket_dir).st_mode) == 0o700
    assert len(os.fsencode(f"{server.socket_dir}/.s.PGSQL.{server.port}")) <= SOCKET_PATH_LIMIT


@as_root
def test_root_runs_it_as_another_account_and_changes_no_mode(server: Cluster) -> None:
    assert Path(f"/proc/{server.pid}").stat().st_uid == server.account.uid != 0
    base = server.folder.parents[1]
    assert stat.S_IMODE(base.stat().st_mode) == 0o700  # pytest's own, closed to that account
    assert any(str(server.home) in note for note in server.notes)


def test_a_standby_follows_and_is_read_only(server: Cluster, tmp_path: Path) -> None:
    with server.make_standby(tmp_path / "standby", temporary=True) as standby:
        server.query("create table follows as select 41 + 1 as answer")
        position = server.query("select pg_current_wal_lsn()")
        deadline = time.monotonic() + 10
        while standby.query(f"select pg_last_wal_replay_lsn() >= '{position}'") != "t":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert standby.query("select answer from follows") == "42"
        with pytest.raises(PgServerError, match="read-only transaction"):
            standby.query("drop table follows")
        assert standby.start() is False


# -- starting and stopping


def test_a_second_start_changes_nothing_and_the_data_outlive_a_stop(folder: Path) -> None:
    with Cluster(folder, fast=True, settings={"work_mem": "7MB"}) as first:
        assert first.query("show work_mem; show fsync") == "7MB\noff"
        first.query("create table kept()")
        second = Cluster(folder, fast=True, settings={"work_mem": "7MB"})
        assert second.start(detached=True) is False
        assert (second.pid, second.password) == (first.pid, first.password)
        pid, port, sockets = first.pid, first.port, first.socket_dir
    assert ends(pid)
    assert not Path(sockets).exists()
    assert Cluster(folder).status() is None
    with Cluster(folder) as third:
        assert third.port == port
        assert third.query("select count(*) from kept; show fsync") == "0\non"


def test_a_killed_postmaster_is_replaced(folder: Path) -> None:
    with Cluster(folder, fast=True) as cluster:
        killed = cluster.pid
        cluster.query("create table committed()")
        os.kill(killed, signal.SIGKILL)
        assert ends(killed)
        assert cluster.status() is None
        assert cluster.start() is True
        assert cluster.pid != killed
        assert cluster.query("select count(*) from committed") == "0"


def test_a_stale_pid_that_belongs_to_somebody_else_is_left_alone(folder: Path) -> None:
    with Cluster(folder, fast=True) as cluster:
        pid_file = cluster.data_dir / "postmaster.pid"
        lines = pid_file.read_text().splitlines()
        cluster.stop()
        bystander = subprocess.Popen(["sleep", "60"])
        try:
            pid_file.write_text("\n".join([str(bystander.pid), *lines[1:]]) + "\n")
            assert cluster.status() is None
            assert cluster.start() is True
            assert bystander.poll() is None
        finally:
            bystander.kill()
            bystander.wait()


def test_a_port_that_is_taken_meanwhile_is_given_up(folder: Path, server: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    ports = iter([server.port, pgserver.free_port()])
    monkeypatch.setattr(pgserver.postmaster, "free_port", lambda: next(ports))
    with Cluster(folder, fast=True) as cluster:
        assert cluster.port != server.port
        assert next(ports, None) is None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_ends_with_the_process_that_started_it(folder: Path, number: signal.Signals) -> None:
    script = (
        "import sys, time; sys.path.insert(0, sys.argv[1]); from tools.pgserver import Cluster\n"
        "c = Cluster(sys.argv[2], fast=True); c.start(); print(c.pid, flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(ROOT), str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(number)
    assert ends(pid)


def test_a_setting_that_the_server_refuses_shows_its_reason(folder: Path) -> None:
    with pytest.raises(PgServerError, match=r"(?s)unrecognized configuration parameter.*Next: "):
        Cluster(folder, fast=True, settings={"no_such_setting": "1"}).start()
    with pytest.raises(PgServerError, match="is no setting"):
        Cluster(folder, settings={"work mem": "1"})


def test_the_command_line_from_start_to_remove(tmp_path: Path) -> None:
    folder = tmp_path / "we\"ird $(folder) 'x"

    def run(*arguments: str) -> tuple[int, str]:
        command = [sys.executable, str(ROOT / "tools" / "pgserver"), *arguments, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout

    try:
        assert run("status") == (3, "not running\n")
        assert run("start", "--fast", "--set", "work_mem=6MB")[1].startswith("started: 127.0.0.1:")
        assert run("start", "--fast", "--set", "work_mem=6MB")[1].startswith("running already: ")
        assert run("status")[0] == 0
        password = Cluster(folder).password
        assert password not in run("env")[1]
        assert password in run("env", "--with-password")[1]
        shell = run("env")[1] + "psql -XAtc 'show work_mem' postgres"
        assert subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=False).stdout == "6MB\n"
        assert run("stop") == (0, "stopped\n")
        assert run("stop") == (0, "was not running\n")
    finally:
        assert run("remove") == (0, "removed\n")
    assert not folder.exists()
