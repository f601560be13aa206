# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What no playbook and no role may do, whatever a linter thinks of it."""

from __future__ import annotations

import pathlib
import re
import typing as t

import pytest
from support import tree

SHIPPED = [
    path
    for path in tree.files()
    if path.suffix == ".yml" and (path.parts[0] == "playbooks" or (path.parts[0] == "roles" and path.parts[2] in ("tasks", "handlers")))
]
SCENARIOS = [path for path in tree.below("molecule", ".yml") if path.name not in ("molecule.yml", "hosts.yml") and "group_vars" not in path.parts]
#: What may stand beside a task's action.
KEYWORDS = set(
    """any_errors_fatal args async become become_user block always rescue changed_when check_mode delegate_facts delegate_to diff environment failed_when
    ignore_errors ignore_unreachable listen loop loop_control module_defaults name no_log notify poll register retries run_once tags throttle until vars when
    become_method connection timeout""".split()
)
SECRET = re.compile(r"password|secret|token|database_url|DATABASE_URL", re.I)

each_file = pytest.mark.parametrize("path", SHIPPED + SCENARIOS, ids=str)
each_shipped = pytest.mark.parametrize("path", SHIPPED, ids=str)


def tasks(content: t.Any) -> t.Iterator[dict[str, t.Any]]:
    for item in content if isinstance(content, list) else []:
        if "hosts" not in item and not any("import_playbook" in key for key in item):
            yield item
        for part in ("pre_tasks", "tasks", "post_tasks", "handlers", "block", "rescue", "always"):
            yield from tasks(item.get(part))


def plays(content: t.Any) -> t.Iterator[dict[str, t.Any]]:
    return (item for item in content if "hosts" in item)


def actions(task: t.Mapping[str, t.Any]) -> list[str]:
    return [key for key in task if key not in KEYWORDS and not key.startswith("with_")]


@each_file
def test_every_action_has_its_full_name_and_every_task_a_name(path: pathlib.Path) -> None:
    for task in tasks(tree.load(path)):
        assert all(re.fullmatch(r"\w+\.\w+\.\w+", action) for action in actions(task)), task
        assert len(actions(task)) == (0 if "block" in task else 1), task
        assert task.get("name"), task


@each_file
def test_no_shell_and_no_ignored_errors(path: pathlib.Path) -> None:
    for task in tasks(tree.load(path)):
        assert not {"shell", "ansible.builtin.shell", "raw", "ansible.builtin.raw", "ignore_errors", "local_action"} & set(task), task


@each_file
def test_a_command_says_when_it_changes_and_why_it_is_one(path: pathlib.Path) -> None:
    text = tree.text(path)
    for task in tasks(tree.load(path)):
        if {"command", "ansible.builtin.command"} & set(task):
            assert "changed_when" in task, task
            assert "argv" in task["ansible.builtin.command"], "a command is a list of arguments: %s" % task
            name = re.search(r"^(\s*)#.*\n\s*- name: %s$" % re.escape(task["name"]), text, re.M)
            assert name or re.search(r"- name: %s\n\s*#" % re.escape(task["name"]), text), "without a comment: %s" % task["name"]


@each_file
def test_no_secret_in_the_environment_of_a_task(path: pathlib.Path) -> None:
    """Ansible shows a task's environment with -vvv and hands it to every process of the task."""
    content = tree.load(path)
    for item in [*tasks(content), *(plays(content) if isinstance(content, list) else [])]:
        assert not SECRET.search(str(item.get("environment", ""))), item


@each_shipped
def test_every_task_of_a_database_is_a_module_of_ours(path: pathlib.Path) -> None:
    for task in tasks(tree.load(path)):
        assert all(action.startswith(("ansible.builtin.", "pgops.migrations.")) for action in actions(task)), task


@pytest.mark.parametrize("path", [path for path in SHIPPED if path.parts[0] == "playbooks"], ids=str)
def test_the_hosts_of_a_runbook_are_a_variable(path: pathlib.Path) -> None:
    for play in plays(tree.load(path)):
        assert play["hosts"] == "localhost" or "migration_targets" in play["hosts"], play["name"]
        assert play.get("gather_facts") is False, play["name"]


@pytest.mark.parametrize("path", [path for path in tree.files() if path.parts[0] in ("roles", "playbooks", "meta", "inventory.example")], ids=str)
def test_yaml_is_named_yml(path: pathlib.Path) -> None:
    assert path.suffix != ".yaml"
