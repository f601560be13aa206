# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A deploy that is watched, and one whose controller, connection or process is really killed: the next run tells the truth, and converges."""

from __future__ import annotations

import json
import os
import pathlib
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url
from conftest import ROOT
from support.modules import ModuleRunner
from support.restorepoints import until
from support.runbooks import Play, fingerprint, recap, records
from support.sshd import PROGRAM, SshServer

from tools.microcare import Staging

SLOW = "20260901000000_slow"


def add_slow(staging: Staging, seconds: float) -> None:
    folder = pathlib.Path(staging.app_dir) / "prisma/migrations" / SLOW
    folder.mkdir()
    (folder / "migration.sql").write_text("CREATE TABLE slow AS SELECT 1 AS n FROM pg_sleep(%g);\n" % seconds, encoding="utf-8")


def jobs(staging: Staging) -> pathlib.Path:
    return pathlib.Path(staging.playbook_variables()["migration_journal_dir"])


def told(staging: Staging) -> dict[str, t.Any]:
    for path in jobs(staging).glob("*/state.json"):
        try:
            return t.cast("dict[str, t.Any]", json.loads(path.read_text(encoding="utf-8")))
        except ValueError:
            continue
    return {}


def query(staging: Staging, text: str) -> list[tuple[t.Any, ...]]:
    with psycopg2.connect(**parse_url(staging.database_url).conninfo()) as conn, conn.cursor() as cursor:
        cursor.execute(text)
        found = cursor.fetchall()
    conn.close()
    return t.cast("list[tuple[t.Any, ...]]", found)


def starts(staging: Staging) -> list[int]:
    """How often each migration was started and not taken back."""
    return [count for (count,) in query(staging, "SELECT count(*) FROM _prisma_migrations WHERE rolled_back_at IS NULL GROUP BY migration_name")]


def at_work(staging: Staging) -> bool:
    """The slow statement runs now."""
    return bool(query(staging, "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'CREATE TABLE slow%' AND state = 'active'"))


class Started:
    """A playbook in a process group of its own, that can be killed with all of its workers."""

    def __init__(self, staging: Staging, tmp_path: pathlib.Path, *arguments: str, stderr: int | None = None, **variables: t.Any) -> None:
        env = {**os.environ, "DATABASE_URL": staging.database_url, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}
        self.out, self.err = tmp_path / "started.out", tmp_path / "started.err"
        with open(self.out, "wb") as out, open(self.err, "wb") as err:
            self.process = subprocess.Popen(
                ["ansible-playbook", str(ROOT / "playbooks/staging_migrate.yml"), "-e", json.dumps({**staging.playbook_variables(), **variables}), *arguments],
                cwd=ROOT, env=env, stdin=subprocess.DEVNULL, stdout=out, stderr=err if stderr is None else stderr, start_new_session=True,
            )  # fmt: skip

    def kill(self) -> None:
        """As when the machine of the controller is gone."""
        with_workers = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False).stdout.split()
        for pid in [str(self.process.pid), *with_workers]:
            os.kill(int(pid), signal.SIGKILL)
        self.process.wait()


@pytest.mark.exhaustive
def test_progress_is_told_on_standard_error(staging: Staging, play: Play) -> None:
    add_slow(staging, 11)
    done = play("staging_migrate.yml", staging)
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("microcare_staging")]
    assert re.fullmatch(r"microcare_staging +0:1\d  5 of 5, %s(, .*)?" % SLOW, line), line
    assert line not in done.stdout and "\r" not in done.stderr
    assert not list(jobs(staging).iterdir()), "nothing is left of a deploy whose end was told"


def test_progress_is_drawn_in_place_on_a_terminal(staging: Staging, tmp_path: pathlib.Path) -> None:
    add_slow(staging, 4)
    controller, terminal = pty.openpty()
    started = Started(staging, tmp_path, stderr=terminal)
    os.close(terminal)
    seen = b""
    while started.process.poll() is None or select.select([controller], [], [], 0)[0]:
        if select.select([controller], [], [], 0.2)[0]:
            try:
                seen += os.read(controller, 65536)
            except OSError:
                break
    os.close(controller)
    assert started.process.wait() == 0, started.out.read_text()
    assert re.search(rb"\r\x1b\[Kmicrocare_staging  0:0\d  5 of 5, %s" % SLOW.encode(), seen), seen
    assert seen.endswith(b"\r\x1b[K"), "the line is cleared at the end"


def test_a_killed_controller_leaves_a_deploy_that_the_next_run_follows(staging: Staging, play: Play, tmp_path: pathlib.Path) -> None:
    add_slow(staging, 12)
    started = Started(staging, tmp_path)
    assert until(lambda: at_work(staging), 60), started.out.read_text()
    started.kill()
    assert at_work(staging), "the migration goes on"
    second = play("staging_migrate.yml", staging)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "waits for the end of run" in second.stderr and "nothing to do" in second.stdout
    assert query(staging, "SELECT count(*) FROM slow") == [(1,)] and set(starts(staging)) == {1}
    (followed,) = records(staging)[-1]["followed"]
    assert followed["state"] == "finished" and followed["applied"][-1] == SLOW and len(followed["applied"]) == 5
    # The lost run had no time to verify what it applied; this one holds it against the lost run's restore point.
    verified = records(staging)[-1]["verification"]
    assert verified["compared_level"] == "full" and verified["checks"] and "This run verified what was applied: no check failed" in second.stdout
    assert not list(jobs(staging).iterdir())
    third = play("staging_migrate.yml", staging)
    assert third.returncode == 0 and recap(third)["changed"] == 0 and records(staging)[-1]["followed"] == []


@pytest.mark.exhaustive
def test_the_end_of_a_deploy_that_nobody_followed_is_told_later(staging: Staging, play: Play, tmp_path: pathlib.Path) -> None:
    add_slow(staging, 4)
    started = Started(staging, tmp_path)
    assert until(lambda: at_work(staging), 60), started.out.read_text()
    started.process.kill()  # its worker lives, and must not read the end and forget it
    started.process.wait()
    assert until(lambda: starts(staging) and not query(staging, "SELECT 1 FROM _prisma_migrations WHERE finished_at IS NULL"), 30)
    assert until(lambda: (next(jobs(staging).glob("*/out"))).stat().st_size > 0, 30)
    check = play("staging_migrate.yml", staging, "--check")
    assert check.returncode == 0 and list(jobs(staging).iterdir()), "a check forgets nothing"
    second = play("staging_migrate.yml", staging)
    (followed,) = records(staging)[-1]["followed"]
    assert second.returncode == 0 and followed["state"] == "finished" and not list(jobs(staging).iterdir())


def test_a_killed_process_is_told_and_rolled_back(staging: Staging, play: Play, module: ModuleRunner, tmp_path: pathlib.Path) -> None:
    add_slow(staging, 60)
    before = fingerprint(module, staging)
    started = Started(staging, tmp_path)
    assert until(lambda: at_work(staging), 60), started.out.read_text()
    os.kill(told(staging)["pid"], signal.SIGKILL)
    assert started.process.wait(120) == 2
    assert "DEPLOY_KILLED" in started.out.read_text(), started.out.read_text()
    assert fingerprint(module, staging) == before
    (record,) = records(staging)
    assert record["outcome"] == "rolled_back" and record["error"]["code"] == "DEPLOY_KILLED" and not list(jobs(staging).iterdir())


@pytest.mark.exhaustive
def test_controller_and_process_killed(staging: Staging, play: Play, tmp_path: pathlib.Path) -> None:
    """Nobody is left who could tell; what the migration left is found out, and the next run goes on."""
    folder = pathlib.Path(staging.app_dir) / "prisma/migrations" / SLOW
    folder.mkdir()
    (folder / "migration.sql").write_text('ALTER TABLE "audit_log" ADD COLUMN "slow" INTEGER;\n', encoding="utf-8")
    blocker = psycopg2.connect(**parse_url(staging.database_url).conninfo())
    blocker.cursor().execute("SELECT 1 FROM audit_log LIMIT 1")
    started = Started(staging, tmp_path, migrate_deploy_lock_timeout="", migrate_deploy_on_blocked="wait")
    waits = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE 'ALTER TABLE%'"
    assert until(lambda: query(staging, waits), 60), started.out.read_text()
    started.kill()
    os.kill(told(staging)["pid"], signal.SIGKILL)
    assert until(lambda: not query(staging, waits), 30), "nothing of the client side survives"
    blocker.close()
    check = play("staging_migrate.yml", staging, "--check")
    assert check.returncode == 0, check.stdout + check.stderr
    assert "It would be recorded as rolled_back" in check.stdout.replace("\n", " ")
    done = play("staging_migrate.yml", staging)
    assert done.returncode == 0, done.stdout + done.stderr
    assert recap(done)["changed"] == recap(check)["changed"]
    record = records(staging)[-1]
    assert record["followed"][0]["state"] == "killed" and record["resolved"][0]["name"] == SLOW and record["resolved"][0]["state"] == "rolled_back", record
    assert query(staging, "SELECT count(slow) FROM audit_log") == [(0,)] and set(starts(staging)) == {1} and not list(jobs(staging).iterdir())
    again = play("staging_migrate.yml", staging)
    assert again.returncode == 0 and recap(again)["changed"] == 0


def adhoc(staging: Staging, env: dict[str, str], *arguments: str, **options: t.Any) -> subprocess.Popen[str]:
    """The module as a task without a playbook, by its action plugin."""
    known = dict(database_url=staging.database_url, app_dir=staging.app_dir, engine="direct", journal_dir=str(jobs(staging)), run_id="one")
    return subprocess.Popen(
        ["ansible", "localhost", "-c", "local", "-m", "pgops.migrations.migration_deploy", "-a", json.dumps({**known, **options}), *arguments],
        cwd=ROOT, env={**os.environ, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **env},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def answer(process: subprocess.Popen[str]) -> dict[str, t.Any]:
    out, err = process.communicate(timeout=120)
    assert " => {" in out, out + err
    return t.cast("dict[str, t.Any]", json.loads(out[out.index(" => {") + 4 :]))


def test_a_deploy_that_is_killed_before_it_began_touched_nothing(staging: Staging) -> None:
    """Going back to a restore point would undo what the run did that it waited for."""
    with run_lock(parse_url(staging.database_url), "postgres", "other"):
        refused = answer(adhoc(staging, {}, "--check", follow=1))
        assert refused["code"] == "LOCKED" and "followed" not in refused, "it was waited for, and has not ended"
        process = adhoc(staging, {})
        assert until(lambda: told(staging).get("phase") == "lock", 60)
        os.kill(told(staging)["pid"], signal.SIGKILL)
        found = answer(process)
    assert found["code"] == "DEPLOY_KILLED" and found["touched"] is False and found["changed"] is False, found
    assert found["msg"].count("ended without a result") == 1 and "Nothing was begun" in found["msg"] and not list(jobs(staging).iterdir())


def test_a_start_that_is_killed_is_followed_and_leaves_no_secret(staging: Staging, tmp_path: pathlib.Path) -> None:
    """The process that began the job is ended before it answers; and without pipelining a task's options lie in a file."""
    add_slow(staging, 4)
    python = tmp_path / "python"
    lost = tmp_path / "lost"
    python.write_text(
        '#!/bin/sh\nsaid=$(%s "$@")\ncase "$said" in *\'"job": {\'*) : > %s; kill -9 $$;; esac\nprintf "%%s\\n" "$said"\n'
        % (shlex.quote(sys.executable), shlex.quote(str(lost))),
        encoding="utf-8",
    )
    python.chmod(0o700)
    remote = tmp_path / "remote"
    env = {"ANSIBLE_PIPELINING": "0", "ANSIBLE_REMOTE_TMP": str(remote)}
    process = adhoc(staging, env, "-e", "ansible_python_interpreter=%s" % python)
    assert until(lambda: at_work(staging), 60)
    (spare,) = jobs(staging).glob("*/spare")
    assert spare.stat().st_blocks * 512 >= 1 << 20, "room for the result is kept on the disk"
    secret = json.dumps(parse_url(staging.database_url).password)[1:-1]
    assert until(lambda: secret not in "".join(path.read_text(errors="replace") for path in remote.rglob("*.py")), 3)
    found = answer(process)
    assert lost.exists() and found["changed"] and found["applied"][-1]["name"] == SLOW, found
    assert set(starts(staging)) == {1} and not list(jobs(staging).iterdir())


@pytest.fixture
def ssh(tmp_path: pathlib.Path) -> t.Iterator[SshServer]:
    if PROGRAM is None:
        pytest.skip("no sshd: apt-get install openssh-server")
    server = SshServer(tmp_path / "ssh")
    yield server
    server.stop()


def test_a_connection_that_is_cut_is_made_again(staging: Staging, ssh: SshServer, tmp_path: pathlib.Path) -> None:
    add_slow(staging, 8)
    started = Started(staging, tmp_path, "-i", "inventory.example", "-i", str(ssh.inventory))
    assert until(lambda: at_work(staging), 60), started.out.read_text()
    assert ssh.cut() > 0
    assert started.process.wait(120) == 0, started.out.read_text()
    assert "unreachable=0" in started.out.read_text() and set(starts(staging)) == {1} and not list(jobs(staging).iterdir())


def test_a_host_that_is_lost_deploys_on_and_the_next_run_converges(staging: Staging, play: Play, ssh: SshServer, tmp_path: pathlib.Path) -> None:
    add_slow(staging, 20)
    through = ["-i", "inventory.example", "-i", str(ssh.inventory)]
    started = Started(staging, tmp_path, *through, migrate_deploy_reconnect=1)
    assert until(lambda: at_work(staging), 60), started.out.read_text()
    ssh.stop()
    assert started.process.wait(120) == 2, started.out.read_text()
    said = started.out.read_text().replace("\n", " ")
    assert "the deploy goes on without it: run the same playbook again" in said and "microcare_staging: the connection is lost" in started.err.read_text()
    assert at_work(staging)
    ssh.start()
    second = play("staging_migrate.yml", staging, *through)
    assert second.returncode == 0, second.stdout + second.stderr
    assert set(starts(staging)) == {1} and records(staging)[-1]["followed"][0]["state"] == "finished" and not list(jobs(staging).iterdir())


@pytest.mark.exhaustive
@pytest.mark.parametrize("mode", ["none", "attached"])
def test_without(staging: Staging, play: Play, mode: str) -> None:
    """A folder that cannot be written refuses before anything is begun; without a process apart none is needed."""
    blocked = pathlib.Path(staging.reports_dir).parent / "file"
    blocked.write_text("", encoding="utf-8")
    more = {"migrate_deploy_detach": False} if mode == "attached" else {}
    done = play("staging_migrate.yml", staging, migration_journal_dir=str(blocked / "jobs"), **more)
    if mode == "attached":
        assert done.returncode == 0, done.stdout
    else:
        assert done.returncode == 2 and "JOB_UNWRITABLE" in done.stdout and "migrate_deploy_detach=false" in done.stdout, done.stdout
        assert records(staging)[-1]["outcome"] == "refused"


def test_two_jobs_never_share_a_name(staging: Staging, module: ModuleRunner, tmp_path: pathlib.Path) -> None:
    options = dict(database_url=staging.database_url, app_dir=staging.app_dir, engine="direct", journal_dir=str(tmp_path / "jobs"), job_id="one")
    first = module("migration_deploy", **options)
    assert first["job"]["pid"] > 0
    assert until(lambda: (tmp_path / "jobs/one/out").exists() and (tmp_path / "jobs/one/out").stat().st_size > 0, 60)
    second = module("migration_deploy", **options)
    assert second["code"] == "JOB_UNWRITABLE" and second["touched"] is False
    for name in ("../two", "a/b", "", ".hidden"):
        refused = module("migration_deploy", **dict(options, job_id=name)) if name else {"code": "OPTION_INVALID"}
        assert refused["code"] == "OPTION_INVALID", refused
    (job,) = module("migration_job_info", journal_dir=str(tmp_path / "jobs"))["jobs"]
    assert job["state"] == "finished" and job["line"].startswith("applied 4 after 0:")
    modes = {path.name: path.stat().st_mode & 0o777 for path in [tmp_path / "jobs", tmp_path / "jobs/one", *(tmp_path / "jobs/one").iterdir()]}
    assert modes == {"jobs": 0o700, "one": 0o700, "state.json": 0o600, "out": 0o600, "errors": 0o600}
    secret = parse_url(staging.database_url).password
    assert secret and all(secret not in path.read_text() for path in (tmp_path / "jobs/one").iterdir())
