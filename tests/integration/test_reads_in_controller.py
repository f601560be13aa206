# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reads, backups and rehearsals in the controller's process: each task runs there and as a module of its own, and nobody can tell the results apart."""

from __future__ import annotations

import json
import os
import pathlib
import re
import signal
import typing as t
from urllib.parse import quote

import pytest
from ansible_collections.pgops.migrations.plugins.plugin_utils._in_controller import forked, is_this_python
from conftest import PASSWORD, TestCluster, drop_databases
from support.fleet import Fleet, add_migration, make_fleet
from support.modules import ModuleRunner

#: The environment of a task is a module's own, so this has it started as any other module.
AS_MODULE = {"environment": {"ANY": "thing"}}
URL = {"database_url": "{{ migration_database_url }}"}
APP = {"app_dir": "{{ migration_app_dir }}"}
LATER = "20250104000000_later"
#: What each of the compared tasks is given: module, options, keywords.
SAME: dict[str, tuple[str, dict[str, t.Any], dict[str, t.Any]]] = {
    "the state": ("migration_info", {**URL, **APP}, {}),
    "a warning": ("migration_info", {**URL, "app_dir": "bare"}, {}),
    "options by their defaults": ("migration_info", APP, {"module_defaults": {"group/pgops.migrations.all": URL}}),
    "another working directory": ("migration_info", {**URL, "app_dir": "app"}, {}),
    "no server": ("migration_info", {"login_host": "127.0.0.1", "login_port": 1, "login_user": "u", "login_password": "{{ secret }}", "login_db": "d", **APP}, {}),
    "a wrong password": ("database_info", {"database_url": "{{ migration_database_url | replace(quoted, 'wrong-' ~ quoted) }}"}, {}),
    "options that exclude each other": ("migration_info", {**URL, "login_host": "x"}, {}),
    "an option that there is not": ("database_info", {**URL, "colour": "red"}, {}),
    "a number that is none": ("database_info", {**URL, "connect_timeout": "soon"}, {}),
    "a plan": ("migration_deploy", {**URL, **APP, "engine": "direct"}, {"check_mode": True, "diff": True}),
    "a plan that is refused": ("migration_deploy", {**URL, **APP, "engine": "direct", "up_to": "nothing_of_this_name"}, {"check_mode": True}),
    "a fingerprint": ("database_fingerprint", {**URL, "level": "full"}, {}),
    "checks": ("database_checks", {**URL, **APP, "checks": ["ledger", "drift", "foreign_keys"]}, {}),
    "a backup": ("database_backup", {**URL, "backup_dir": "{{ playbook_dir }}/points", "pg_bin_dir": "{{ migration_pg_bin_dir | default(omit) }}"}, {"check_mode": True}),
    "a rehearsal": (
        "migration_rehearsal", {**URL, **APP, "source": "template", "certificate_dir": "{{ playbook_dir }}/certificates", "engine": "direct"},
        {"check_mode": True},
    ),
    "a rehearsal without a restore point": ("migration_rehearsal", {**URL, **APP, "certificate_dir": "/nowhere", "backup_dir": "/nowhere"}, {}),
    "a loop": ("migration_info", {**URL, "app_dir": "{{ item }}"}, {"loop": ["{{ migration_app_dir }}", "/nowhere"]}),
    "elsewhere": ("migration_info", {**URL, **APP}, {"delegate_to": "localhost"}),
    "unspoken": ("migration_info", {**URL, **APP}, {"no_log": True}),
}  # fmt: skip
#: What asks for another process, in words of the task.
OTHERWISE: dict[str, dict[str, t.Any]] = {
    "environment": AS_MODULE,
    "another Python": {"vars": {"ansible_python_interpreter": "/usr/bin/../bin/python3-of-nobody"}},
    "another user": {"become": True, "become_method": "ansible.builtin.su"},
    "in the background": {"async": 60, "poll": 1},
}


def task(name: str, module: str, options: dict[str, t.Any], keywords: dict[str, t.Any], register: str) -> dict[str, t.Any]:
    return {"name": name, "pgops.migrations.%s" % module: options, "register": register, "ignore_errors": True, **keywords}


def playbook(tasks: list[dict[str, t.Any]], out: pathlib.Path, results: list[str]) -> list[dict[str, t.Any]]:
    written = {"content": "{{ {%s} | to_json }}" % ", ".join("'%s': %s" % (name, name) for name in results), "dest": str(out), "mode": "0600"}
    return [
        {
            "hosts": "staging",
            "gather_facts": False,
            "vars": {"secret": PASSWORD, "quoted": quote(PASSWORD, safe="")},
            "tasks": [*tasks, {"name": "keep", "ansible.builtin.copy": written, "no_log": True}],
        }
    ]


@pytest.fixture
def fleet(cluster: TestCluster, tmp_path: pathlib.Path) -> t.Iterator[Fleet]:
    """One target with a migration to apply."""
    conn, role = cluster.admin(), "fleet_reads_%d" % os.getpid()
    with conn.cursor() as cursor:
        cursor.execute("SELECT format('CREATE ROLE %%I LOGIN CREATEDB PASSWORD %%L', %s, %s)", (role, PASSWORD))
        cursor.execute(cursor.fetchone()[0])
    try:
        found = make_fleet([cluster], tmp_path, 1, role, PASSWORD)
        add_migration(found, LATER, "ALTER TABLE visits ADD COLUMN note text;\n")
        (tmp_path / "bare/prisma").mkdir(parents=True)
        (tmp_path / "bare/prisma/migrations").symlink_to(found.migrations_dir)
        yield found
    finally:
        drop_databases(conn, [("", role)])
        conn.close()


def run(fleet: Fleet, book: pathlib.Path) -> t.Any:
    # Otherwise the name of a task is printed behind what its worker said.
    return fleet.run(fleet.command("ansible-playbook", str(book), "-vvv"), ANSIBLE_DISPLAY_SKIPPED_HOSTS="true")


def sections(output: str) -> dict[str, str]:
    """What was printed for each task."""
    parts = re.split(r"^TASK \[(.*)\] \**$", output, flags=re.M)
    return {name: parts[2 * index + 2] for index, name in enumerate(parts[1::2])}


def as_module(text: str) -> bool:
    return "Using module file" in text


def stable(found: t.Any) -> t.Any:
    """Without what two looks at one thing may tell differently."""
    if isinstance(found, dict):
        dropped = ("age_seconds", "ansible_facts", "seconds", "_ansible_verbose_override")
        return {key: stable(value) for key, value in found.items() if key not in dropped}
    return [stable(value) for value in found] if isinstance(found, list) else found


def test_a_read_in_the_controller_cannot_be_told_from_the_module(fleet: Fleet, tmp_path: pathlib.Path) -> None:
    tasks, names = [], []
    for index, (name, (module, options, keywords)) in enumerate(SAME.items()):
        tasks += [
            task(name, module, options, keywords, "here_%d" % index),
            task("module: " + name, module, options, {**keywords, **AS_MODULE}, "module_%d" % index),
        ]
        names += ["here_%d" % index, "module_%d" % index]
    for index, (name, keywords) in enumerate(OTHERWISE.items()):
        tasks.append(task("otherwise: " + name, "migration_info", {**URL, **APP}, keywords, "otherwise_%d" % index))
        names.append("otherwise_%d" % index)
    out, book = tmp_path / "results.json", tmp_path / "book.json"
    book.write_text(json.dumps(playbook(tasks, out, names)), encoding="utf-8")
    done = run(fleet, book)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr
    printed, found = sections(done.stdout), json.loads(out.read_text(encoding="utf-8"))
    for index, name in enumerate(SAME):
        assert not as_module(printed[name]), name
        assert as_module(printed["module: " + name]), name
        assert stable(found["here_%d" % index]) == stable(found["module_%d" % index]), name
    result = {name: found["here_%d" % index] for index, name in enumerate(SAME)}
    assert result["the state"]["status"] == "pending" and result["the state"]["pending"] == [LATER]
    assert "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER" in printed["the state"] and '"module_args"' in printed["the state"]
    assert result["a warning"]["warnings"]
    assert result["no server"]["code"] == "SERVER_UNREACHABLE" and result["a wrong password"]["code"] == "AUTH_FAILED"
    assert result["a plan"]["would_apply"] == [LATER] and result["a plan"]["diff"]
    assert result["a plan that is refused"]["failed"] and result["a plan that is refused"]["code"]
    assert [entry.get("failed", False) for entry in result["a loop"]["results"]] == [False, True]
    for index, name in enumerate(OTHERWISE):
        assert as_module(printed["otherwise: " + name]), name
        text = json.dumps(found["otherwise_%d" % index])
        assert ("python3-of-nobody" in text) if name == "another Python" else found["otherwise_%d" % index]["status"] == "pending", text
    for form in {PASSWORD, quote(PASSWORD, safe=""), json.dumps(PASSWORD)[1:-1]}:
        assert form not in done.stdout + done.stderr


def test_a_timeout_ends_a_read_that_waits_for_a_lock(fleet: Fleet, cluster: TestCluster, tmp_path: pathlib.Path) -> None:
    book, out, blocker = tmp_path / "book.json", tmp_path / "results.json", cluster.admin(fleet.names[0])
    blocker.autocommit = False
    try:
        with blocker.cursor() as cursor:
            cursor.execute("LOCK TABLE _prisma_migrations IN ACCESS EXCLUSIVE MODE")
            book.write_text(json.dumps(playbook([task("wait", "migration_info", {**URL, **APP}, {"timeout": 2}, "waited")], out, ["waited"])), encoding="utf-8")
            done = run(fleet, book)
            found = json.loads(out.read_text(encoding="utf-8"))["waited"]
            assert found["failed"] and "timed out" in json.dumps(found).lower(), found
            assert not as_module(sections(done.stdout)["wait"])
    finally:
        blocker.close()


def test_a_process_that_dies_is_a_failure_and_not_a_silence(tmp_path: pathlib.Path) -> None:
    killed = forked(lambda: os.kill(os.getpid(), signal.SIGKILL), b"{}", str(tmp_path))
    assert killed == {"rc": -signal.SIGKILL, "stdout": "", "stderr": ""}

    def breaks() -> None:
        print("said", flush=True)
        os.write(2, b"to nobody\n")
        raise ValueError(os.getcwd())

    broken = forked(breaks, b"{}", str(tmp_path))
    assert (broken["rc"], broken["stdout"]) == (1, "said\n")
    assert broken["stderr"].startswith("to nobody\n") and "ValueError: %s" % tmp_path in broken["stderr"]
    # More than a pipe holds, on both at once.
    much = forked(lambda: [os.write(number, b"x" * 70_000) for number in (1, 2, 1, 2)] and None, b"{}", str(tmp_path))
    assert (much["rc"], len(much["stdout"]), len(much["stderr"])) == (0, 140_000, 140_000)


def test_a_run_that_cannot_be_recorded_is_known_before_it_begins(module: ModuleRunner, tmp_path: pathlib.Path) -> None:
    reports = tmp_path / "a/reports"
    run_of = {"reports_dir": str(reports), "run_id": "r1", "runbook": "staging_migrate", "target": "all", "prepare": True}
    assert not module("run_record", check=True, **run_of).get("failed") and not reports.parent.exists()
    made = module("run_record", **run_of)
    assert made["changed"] is False and "record" not in made
    assert [path.stat().st_mode & 0o777 for path in (reports, reports / "r1")] == [0o700, 0o700] and not list((reports / "r1").iterdir())
    (tmp_path / "file").touch()
    assert module("run_record", **{**run_of, "reports_dir": str(tmp_path / "file/reports")})["code"] == "RECORD_UNWRITABLE"


def test_which_python_is_this_one(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, elsewhere = tmp_path / "bin/python3.11", tmp_path / "elsewhere"
    for folder in (real.parent, elsewhere):
        folder.mkdir()
    real.touch()
    (real.parent / "python3").symlink_to(real.name)
    (elsewhere / "python3").symlink_to(real)
    monkeypatch.setattr("sys.executable", str(real.parent / "python3"))
    for wanted in ("", "auto", "auto_silent", "auto_legacy", str(real), str(real.parent / "python3"), "%s/../bin/python3" % real.parent):
        assert is_this_python(wanted), wanted
    # The bare Python of an environment is another one, though it is the same file.
    for wanted in (str(elsewhere / "python3"), "/usr/bin/python3", "python3"):
        assert not is_this_python(wanted), wanted
