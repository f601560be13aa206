# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Records, reports and the log on a real disk; the role in a real playbook."""

from __future__ import annotations

import collections
import json
import os
import pathlib
import re
import stat
import subprocess
import sys
import typing as t

import pytest
import yaml
from ansible_collections.pgops.migrations.plugins.module_utils._report_files import append_log, file_name
from support.modules import ModuleRunner
from support.runs import BACKUP, DEPLOYED, NAMES, POINT, PREFLIGHT, RESTORED, UP_TO_DATE, VERIFIED, WOULD, broken

RUN = {"preflight": PREFLIGHT, "backup": BACKUP, "deploy": DEPLOYED, "verification": VERIFIED}
ODD = [
    "a/b", "..", ".hidden", "-x", "index", "summary", "näme", "日本" * 60, "x" * 300, "a b", " ", "a\nb", "%2e", "we\"ird'; $(x)", "a|b`c`", "migration_log", "A", "a",
]  # fmt: skip


class Reports:
    """A folder of reports, and the modules that write into it."""

    def __init__(self, module: ModuleRunner, folder: pathlib.Path) -> None:
        self.module, self.folder = module, folder

    def start(self, target: str, *, check: bool = False, **options: t.Any) -> subprocess.Popen[str]:
        # Not by the runner, for which a target is a database.
        arguments = dict(self.options(target, **options), _ansible_check_mode=check, _ansible_remote_tmp=str(self.folder.parent))
        command = [sys.executable, "-m", "ansible_collections.pgops.migrations.plugins.modules.run_record"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=self.folder.parent)
        assert process.stdin is not None
        process.stdin.write(json.dumps({"ANSIBLE_MODULE_ARGS": arguments}))
        process.stdin.close()
        process.stdin = None
        return process

    def record(self, target: str = "staging1", *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return self.module.result(*self.start(target, check=check, **options).communicate(timeout=120))

    def options(self, target: str, run_id: str = "r1", **options: t.Any) -> dict[str, t.Any]:
        return dict(dict(reports_dir=str(self.folder), run_id=run_id, runbook="staging_migrate", target=target, phases=RUN), **options)

    def summary(self, targets: list[str], *, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return self.module("run_summary", check=check, **dict(dict(reports_dir=str(self.folder), run_id="r1", targets=targets), **options))

    def lines(self) -> list[dict[str, t.Any]]:
        path = self.folder / "migration_log.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    def files(self) -> list[pathlib.Path]:
        return sorted(path for path in self.folder.rglob("*") if path.is_file())


@pytest.fixture
def reports(module: ModuleRunner, tmp_path: pathlib.Path) -> Reports:
    return Reports(module, tmp_path / "reports")


def test_writes_record_report_and_log(reports: Reports) -> None:
    found = reports.record(environment="staging", revision="7d65178", operator="ops", started_at="2026-01-01T00:00:00Z")
    assert not found.get("failed") and found["changed"] and found["ok"] and found["logged"] == 2, found
    assert found["sentence"] == "staging1: 2 migrations applied in 6.2 s, nothing lost, restore point %s" % POINT["id"]
    assert json.loads(pathlib.Path(found["path"]).read_text()) == found["record"]
    assert pathlib.Path(found["report_path"]).read_text().startswith("# staging1: 2 migrations applied")
    assert [(entry["migration"], entry["run_id"], entry["revision"], entry["restore_point"]) for entry in reports.lines()] == [
        (name, "r1", "7d65178", POINT["id"]) for name in NAMES
    ]
    log = (reports.folder / "migration_log.md").read_text()
    assert log.startswith("# Migration log\n") and log.count("\nDate: ") == 2
    assert [path.name for path in reports.files()] == ["migration_log.jsonl", "migration_log.md", "staging1.html", "staging1.json", "staging1.md"]
    for path in reports.files():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path
    assert stat.S_IMODE(reports.folder.stat().st_mode) == stat.S_IMODE((reports.folder / "r1").stat().st_mode) == 0o700


def test_again_writes_no_second_entry(reports: Reports) -> None:
    first, second = reports.record(), reports.record()
    assert (first["logged"], second["logged"]) == (2, 0)
    assert reports.record(run_id="r2")["logged"] == 2
    assert len(reports.lines()) == 4 and (reports.folder / "migration_log.md").read_text().count("\nDate: ") == 4


def test_a_run_that_did_nothing_is_recorded_and_no_change(reports: Reports) -> None:
    found = reports.record(phases={"deploy": UP_TO_DATE})
    assert (found["changed"], found["outcome"], found["logged"]) == (False, "nothing_to_do", 0)
    assert os.path.exists(found["path"]) and reports.lines() == []


def test_check_mode_writes_nothing(reports: Reports) -> None:
    found = reports.record(check=True, phases={"deploy": WOULD})
    assert (found["changed"], found["outcome"], found["ok"]) == (True, "checked", True)
    assert found["path"] == str(reports.folder / "r1" / "staging1.json") and "2 migrations would be applied" in found["sentence"]
    assert not reports.folder.exists()
    # The summary of a run in check mode gets the records by hand.
    summary = reports.summary(["staging1", "gone"], check=True, records={"staging1": found, "gone": {}})
    assert summary["unsuccessful"] == ["gone"] and summary["counts"] == "1 checked, 1 no_record" and not reports.folder.exists()


def test_twenty_hosts_end_at_once(reports: Reports) -> None:
    running = [reports.start("host%d" % number) for number in range(20)]
    results = [reports.module.result(*process.communicate(timeout=120)) for process in running]
    assert [found["logged"] for found in results] == [2] * 20, results
    assert sorted((entry["target"], entry["migration"]) for entry in reports.lines()) == sorted(("host%d" % n, name) for n in range(20) for name in NAMES)
    log = (reports.folder / "migration_log.md").read_text()
    assert log.count("# Migration log\n") == 1 and log.count("\nDate: ") == 40 and log.count("```") == 80
    summary = reports.summary(["host%d" % number for number in range(20)])
    assert summary["ok"] and summary["counts"] == "20 applied"
    assert not [path for path in reports.files() if path.name.endswith(".tmp")]


def test_the_same_host_twenty_times_at_once(reports: Reports) -> None:
    running = [reports.start("one") for _ in range(20)]
    assert sum(reports.module.result(*process.communicate(timeout=120))["logged"] for process in running) == 2
    assert len(reports.lines()) == 2


def test_twenty_runs_that_end_at_once_tell_of_another_one_once(reports: Reports) -> None:
    """Whoever finds the run that nobody followed logs what it applied; what that run says of itself later stands beside it."""
    other = {"run_id": "r0", "state": "finished", "applied": NAMES[:1], "started_at": "2026-11-22T16:59:00Z", "seconds": 12.34}
    states: list[dict[str, t.Any]] = [
        {"deploy": dict(DEPLOYED, applied=DEPLOYED["applied"][1:])},
        {"deploy": broken(applied=[]), "restore": RESTORED},
        {"deploy": broken(applied=[])},
        {"deploy": {}, "verification": {}, "preflight": dict(PREFLIGHT, pending=[], status="up_to_date")},
    ]
    running = []
    for number in range(20):
        phases = dict(RUN, **states[number % 4])
        name = "preflight" if number % 4 == 3 else "deploy"
        phases[name] = dict(phases[name], followed=[other])
        running.append(reports.start("one", run_id="r%d" % (number + 1), phases=phases))
    results = [reports.module.result(*process.communicate(timeout=120)) for process in running]
    assert all(not found.get("failed") and "nobody followed it to its end, it finished after 12.3 s" in found["sentence"] for found in results), results
    entries = reports.lines()
    assert [(entry["migration"], entry["status"], entry["operator"]) for entry in entries if entry["by_run"]] == [(NAMES[0], "applied", "")]
    told = collections.Counter((entry["run_id"], entry["status"]) for entry in entries if not entry["by_run"])
    # The ledger of a rollback's other side may name more than the deploy told.
    wanted = {0: "applied", 1: "rolled_back", 2: "failed"}
    assert told == {("r%d" % (number + 1), wanted[number % 4]): 1 for number in range(20) if number % 4 != 3}
    # Each of the two logs holds the same entries.
    log = (reports.folder / "migration_log.md").read_text()
    assert [re.findall(r"^%s: (.*)$" % name, log, re.M) for name in ("Migration", "Status")] == [
        [entry["migration"] for entry in entries], [{"applied": "Applied", "failed": "Failed", "rolled_back": "Rolled back"}[entry["status"]] for entry in entries],
    ]  # fmt: skip
    assert reports.record("one", run_id="r0")["logged"] == 2 and reports.record("one", run_id="r0")["logged"] == 0
    assert len(reports.lines()) == len(entries) + 2 and (reports.folder / "migration_log.md").read_text().count("\nDate: ") == len(entries) + 2


def test_odd_names(reports: Reports) -> None:
    assert len({file_name(name) for name in ODD}) == len(ODD)
    for name in ODD[:-2]:
        if name.strip():
            found = reports.record(name, run_id="run/../x", environment=name, revision=name)
            assert not found.get("failed"), found
            assert found["record"]["target"] == name and os.path.dirname(found["path"]) == str(reports.folder / "run%2F..%2Fx")
    targets = [name for name in ODD[:-2] if name.strip()]
    summary = reports.summary(targets, run_id="run/../x")
    assert summary["ok"] and all(len(line) <= 120 for line in summary["lines"]), summary
    assert len(summary["lines"]) == len(targets) + 3 and summary["lines"][-1] == "%d targets, none needs anybody: %d applied" % (len(targets), len(targets))
    page = pathlib.Path(summary["path"]).read_text()
    assert page.startswith("# Run run/../x: %d applied" % len(targets))
    assert json.loads((reports.folder / "run%2F..%2Fx" / "summary.json").read_text())["ok"] is True
    assert reports.record(" ")["code"] == "OPTION_INVALID"


def test_summary_names_who_has_no_record(reports: Reports) -> None:
    reports.record("good")
    reports.record("bad", phases=dict(RUN, deploy=broken(), verification={}, restore=RESTORED))
    reports.record("damaged")
    (reports.folder / "r1" / "damaged.json").write_text("{")
    summary = reports.summary(["good", "bad", "damaged", "never"])
    assert (summary["ok"], summary["changed"], summary["unsuccessful"]) == (False, False, ["bad", "damaged", "never"])
    assert [row.get("note") for row in summary["rows"]][2:] == ["its record is damaged", "unreachable, or never started"]
    assert summary["sentences"]["bad"].startswith("bad: ROLLED BACK.") and len(summary["sentences"]) == 4
    assert "never" in pathlib.Path(summary["path"]).read_text()


def test_summary_of_states(reports: Reports) -> None:
    states = {"a": UP_TO_DATE, "b": {"failed": True, "msg": "AUTH_FAILED: no"}, "c": {"status": "diverged", "migrations": [], "pending": []}}
    found = reports.module("run_summary", states=states, targets=["a", "b", "c", "d"])
    assert (found["unsuccessful"], found["attention"], found["path"]) == (["b", "d"], ["b", "c", "d"], "")
    assert found["lines"][0].split() == ["target", "status", "applied", "pending", "head", "note"] or "head" not in found["lines"][0]
    assert not reports.folder.exists()
    assert os.path.exists(reports.module("run_summary", states=states, reports_dir=str(reports.folder), run_id="s1")["path"])
    assert reports.module("run_summary")["code"] == "OPTION_INVALID"


@pytest.mark.parametrize("where", ["relative", "file", "link"])
def test_unwritable(reports: Reports, tmp_path: pathlib.Path, where: str) -> None:
    folder = "reports"
    if where == "file":
        reports.folder.write_text("x")
        folder = str(reports.folder)
    if where == "link":
        (reports.folder).mkdir()
        (tmp_path / "elsewhere").mkdir()
        (reports.folder / "r1").symlink_to(tmp_path / "elsewhere")
        folder = str(reports.folder)
    found = reports.record(reports_dir=folder)
    assert (found["failed"], found["code"], found["outcome"]) == (True, "RECORD_UNWRITABLE", "applied"), found
    assert found["sentence"].startswith("staging1: 2 migrations applied")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_log_that_is_a_link_is_refused(reports: Reports) -> None:
    reports.folder.mkdir()
    (reports.folder / "migration_log.jsonl").symlink_to("/dev/full")
    assert reports.record()["code"] == "RECORD_UNWRITABLE"


def test_full_disk_leaves_the_log_whole(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    reports.record()
    before = (reports.folder / "migration_log.jsonl").read_bytes()
    real, left = os.write, [10]

    def write(handle: int, content: bytes) -> int:
        if left[0] <= 0:
            raise OSError(28, "No space left on device")
        left[0] -= 10
        return real(handle, content[:10])

    monkeypatch.setattr(os, "write", write)
    with pytest.raises(Exception, match="No space left on device"):
        append_log(str(reports.folder), [dict(reports.lines()[0], run_id="r9")])
    assert (reports.folder / "migration_log.jsonl").read_bytes() == before


def test_torn_line_is_stepped_over(reports: Reports) -> None:
    reports.folder.mkdir()
    (reports.folder / "migration_log.jsonl").write_text('{"run_id": "r1", "targ')
    assert reports.record()["logged"] == 2
    assert len((reports.folder / "migration_log.jsonl").read_text().splitlines()) == 3


def test_killed_between_the_two_logs_is_made_good(reports: Reports) -> None:
    reports.record()
    (reports.folder / "migration_log.md").unlink()
    assert reports.record()["logged"] == 0
    assert (reports.folder / "migration_log.md").read_text().count("\nDate: ") == 2


def test_no_secret_on_the_disk(reports: Reports) -> None:
    secret = "postgresql://u:S3cr3t@h/db"
    phases = dict(RUN, preflight=dict(PREFLIGHT, database_url=secret, warnings=[secret]), deploy=broken(output="x\n" * 9000 + secret))
    found = reports.record(phases=phases, error={"msg": secret}, revision=secret)
    assert not found.get("failed")
    for path in reports.files():
        assert "S3cr3t" not in path.read_text() and "bob@example.org" not in path.read_text(), path
    assert "S3cr3t" not in json.dumps({name: value for name, value in found.items() if name != "invocation"})


PLAYBOOK = """
- hosts: "{{ migration_targets | default('all') | pgops.migrations.targets(groups, ansible_limit | default('')) }}"
  gather_facts: false
  ignore_unreachable: true
  tasks:
    - block:
        - ansible.builtin.ping:
          register: preflight_result
          vars: {ansible_connection: "{{ 'ssh' if 'gone' in inventory_hostname else 'local' }}", ansible_become: false, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
        - ansible.builtin.fail: {msg: "it breaks"}
          when: "'bad' in inventory_hostname"
      rescue:
        - ansible.builtin.set_fact: {caught: "{{ ansible_failed_result }}"}
      always:
        - ansible.builtin.include_role: {name: pgops.migrations.report}
          vars:
            report_runbook: staging_migrate
            report_phases: {preflight: "{{ preflight_result | default({}) }}", deploy: "{{ deploys[inventory_hostname] | default({}) }}"}
            report_error: "{{ caught | default({}) }}"
- hosts: "{{ migration_targets | default('all') }}"
  gather_facts: false
  tasks:
    - pgops.migrations.run_summary:
        reports_dir: "{{ migration_reports_dir }}"
        run_id: "{{ migration_run_id }}"
        targets: "{{ ansible_play_hosts_all }}"
        records: "{{ dict(ansible_play_hosts_all | zip(ansible_play_hosts_all | map('extract', hostvars) | map(attribute='report_result', default={}))) }}"
      register: summary
      run_once: true
      delegate_to: localhost
      become: false
      vars: {ansible_become: false, ansible_connection: local, ansible_python_interpreter: "{{ ansible_playbook_python }}"}
    - ansible.builtin.debug: {msg: "{{ summary.lines }}"}
      run_once: true
    - ansible.builtin.fail: {msg: "{{ summary.unsuccessful | join(',') }}"}
      run_once: true
      when: not summary.ok
"""
#: What an inventory may say of its targets must not reach the controller's side.
HOSTILE = {
    "ansible_become": True,
    "ansible_become_exe": "/nonexistent/sudo",
    "ansible_python_interpreter": "/nonexistent/python",
    "ansible_host": "127.0.0.1",
    "ansible_port": 1,
}


def play(tmp_path: pathlib.Path, hosts: list[str], *arguments: str, **variables: t.Any) -> subprocess.CompletedProcess[str]:
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": {"hosts": dict.fromkeys(hosts, None), "vars": HOSTILE}}))
    facts = dict(dict(migration_reports_dir=str(tmp_path / "reports"), migration_run_id="r1", deploys={}), **variables)
    (tmp_path / "vars.json").write_text(json.dumps(facts))
    command = ["ansible-playbook", "-i", str(tmp_path / "hosts.yml"), str(tmp_path / "play.yml"), "-e", "@%s" % (tmp_path / "vars.json"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False, cwd=tmp_path, env=dict(os.environ, ANSIBLE_NOCOLOR="1"))


def test_role_in_a_playbook(tmp_path: pathlib.Path) -> None:
    done = play(tmp_path, ["good1", "good2"], deploys={"good1": DEPLOYED, "good2": UP_TO_DATE})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "good1: 2 migrations applied in 6.2 s, NOT verified, NO restore point" in done.stdout
    assert json.loads((tmp_path / "reports" / "r1" / "summary.json").read_text())["counts"] == "1 applied, 1 nothing_to_do"


def test_role_with_failed_and_unreachable_hosts_under_limit(tmp_path: pathlib.Path) -> None:
    done = play(tmp_path, ["good1", "bad1", "gone1", "left_out"], "--limit", "good1,bad1,gone1", deploys={"good1": DEPLOYED})
    assert done.returncode == 2, done.stdout + done.stderr
    summary = json.loads((tmp_path / "reports" / "r1" / "summary.json").read_text())
    assert {row["target"]: row["outcome"] for row in summary["rows"]} == {"good1": "applied", "bad1": "refused", "gone1": "refused"}, done.stdout


def test_role_in_check_mode(tmp_path: pathlib.Path) -> None:
    done = play(tmp_path, ["good1"], "--check", deploys={"good1": WOULD})
    assert done.returncode == 0, done.stdout + done.stderr
    assert "checked" in done.stdout and not (tmp_path / "reports").exists()
