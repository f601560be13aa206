# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A runbook as an automation platform runs it: through ansible-runner, seen by its events."""

from __future__ import annotations

import json
import pathlib
import sys
import typing as t
import urllib.parse

import ansible_runner
import pytest
from support.runbooks import records

from tools.microcare import Staging

FAILS = "20260301120000_split_patient_name_fails"


def job(folder: pathlib.Path, staging: Staging, name: str, *arguments: str, by_file: bool = False) -> t.Any:
    """Run the runbook in a private data directory, from a project that imports it by its full name, as docs/automation.md has it.

    :param by_file: the URL comes from a file and not as an extra variable; a credential may inject either.
    """
    folder.mkdir(mode=0o700)
    (folder / "project").mkdir()
    (folder / "project/staging.yml").write_text("- name: Staging\n  import_playbook: pgops.migrations.staging_migrate\n", encoding="utf-8")
    connection = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable, "ansible_pipelining": True}
    secret = {"migration_database_url": staging.database_url}
    if by_file:
        path = folder / "urls.json"
        path.write_text(json.dumps({"microcare_staging": staging.database_url}), encoding="utf-8")
        path.chmod(0o600)
        secret = {"migration_urls_file": str(path)}
        connection["migration_database_url"] = "{{ (lookup('ansible.builtin.file', migration_urls_file) | from_json)[inventory_hostname] }}"
    return ansible_runner.run(
        private_data_dir=str(folder),
        ident=name,
        playbook="staging.yml",
        inventory={"staging": {"hosts": {"microcare_staging": None}, "vars": connection}},
        extravars={**staging.playbook_variables(), **secret, "migration_engine": "direct", "awx_user_name": "dana"},
        cmdline=" ".join(arguments) or None,
        quiet=True,
        # Without it the runner takes over the signals of this process.
        cancel_callback=lambda: False,
    )


def events(folder: pathlib.Path, name: str) -> list[dict[str, t.Any]]:
    """The events of a job in their order, each from its own file."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in (folder / "artifacts" / name / "job_events").glob("*.json")]
    return sorted(found, key=lambda event: int(event["counter"]))


def messages(found: list[dict[str, t.Any]], event: str, task: str) -> list[t.Any]:
    """What the results of a task say, by its name."""
    return [each["event_data"]["res"].get("msg") for each in found if each["event"] == event and each["event_data"].get("task") == task]


def assert_readable(found: list[dict[str, t.Any]]) -> None:
    """Nothing was drawn in place: the runner has a terminal, and every piece that is drawn on it becomes an event."""
    drawn = [each["stdout"] for each in found if "\r\x1b[K" in each["stdout"]]
    assert drawn == []


def assert_no_secret(folder: pathlib.Path, staging: Staging) -> None:
    """Neither in an event nor in any other file of a job; what was handed in lies elsewhere."""
    quoted = str(urllib.parse.urlsplit(staging.database_url).password)
    files = [path for path in (folder / "artifacts").rglob("*") if path.is_file()]
    assert len(files) > 50
    for path in files:
        text = path.read_text(encoding="utf-8")
        for secret in (quoted, urllib.parse.unquote(quoted), json.dumps(urllib.parse.unquote(quoted))[1:-1]):
            assert secret not in text, path


@pytest.mark.slow
def test_a_job_that_succeeds(staging: Staging, tmp_path: pathlib.Path) -> None:
    private = tmp_path / "private"
    # In a directory of its own: a runner remembers its command line.
    predicted = job(tmp_path / "check", staging, "run", "--check")
    assert (predicted.status, predicted.rc) == ("successful", 0) and not records(staging)
    done = job(private, staging, "run")
    assert (done.status, done.rc) == ("successful", 0)
    found = events(private, "run")
    assert [each["counter"] for each in found] == list(range(1, len(found) + 1))
    [sentence] = messages(found, "runner_on_ok", "Say what came of it")
    assert "4 migrations applied" in sentence
    [table] = messages(found, "runner_on_ok", "Show the table")
    assert any(line.startswith("microcare_") and " applied " in line for line in table)
    stats = next(each["event_data"] for each in found if each["event"] == "playbook_on_stats")
    assert stats["changed"] == {"microcare_staging": predicted.stats["changed"]["microcare_staging"]} and not stats["failures"]
    [record] = records(staging)
    assert record["outcome"] == "applied" and record["operator"] == "dana"
    assert_readable(found)
    assert_no_secret(private, staging)


@pytest.mark.slow
@pytest.mark.parametrize("failing", [True], indirect=True, ids=["fails"])
def test_a_job_that_fails(staging: Staging, tmp_path: pathlib.Path) -> None:
    private = tmp_path / "private"
    done = job(private, staging, "run", by_file=True)
    assert (done.status, done.rc) == ("failed", 2)
    found = events(private, "run")
    [said] = messages(found, "runner_on_failed", "Fail the targets that did not end well")
    assert "ROLLED BACK" in said and FAILS in said
    stats = next(each["event_data"] for each in found if each["event"] == "playbook_on_stats")
    assert stats["failures"] == {"microcare_staging": 1} and stats["rescued"] == {"microcare_staging": 1}
    assert [record["outcome"] for record in records(staging)] == ["rolled_back"]
    assert_readable(found)
    assert_no_secret(private, staging)
