# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The filter in the hosts of real playbook runs: an empty match must not end with status 0."""

from __future__ import annotations

import os
import pathlib
import subprocess

import pytest
import yaml
from ansible.errors import AnsibleFilterError
from ansible_collections.pgops.migrations.plugins.filter.targets import targets

INVENTORY = {
    "all": {
        "hosts": {"lonely": None},
        "children": {
            "staging": {"hosts": {"staging1": None, "staging2": None}},
            "production": {"children": {"wave1": {"hosts": {"prod1": None}}, "wave2": {"hosts": {"prod2": None, "prod3": None}}}},
            "empty": {},
        },
        "vars": {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"},
    }
}
PLAY = [
    {
        "name": "Migrate",
        "hosts": "{{ migration_targets | default('staging') | pgops.migrations.targets(groups, ansible_limit | default('')) }}",
        "gather_facts": False,
        "tasks": [{"name": "Act", "ansible.builtin.debug": {"msg": "acting on {{ inventory_hostname }}"}}],
    }
]


@pytest.fixture
def project(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    (tmp_path / "play.yml").write_text(yaml.safe_dump(PLAY))
    (tmp_path / "limit.txt").write_text("staging2\n")
    (tmp_path / "none.txt").write_text("prod1\n")
    return tmp_path


def run(project: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["ansible-playbook", "play.yml", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False, env=dict(os.environ, ANSIBLE_NOCOLOR="1"))


@pytest.mark.parametrize(
    ("arguments", "hosts"),
    [
        ([], ["staging1", "staging2"]),
        (["-l", "staging1"], ["staging1"]),
        (["-l", "@limit.txt"], ["staging2"]),
        (["-l", "~.*2$"], ["staging2"]),
        (["-l", "all:!staging1"], ["staging2"]),
        (["-e", "migration_targets=production:!wave2"], ["prod1"]),
        (["-e", "migration_targets=production[1:2]"], ["prod2", "prod3"]),
        (["-e", "migration_targets=~(lone|nope)"], ["lonely"]),
        (["-e", '{"migration_targets": ["staging1", "prod3"]}', "-l", "prod3,lonely"], ["prod3"]),
        (["-e", "migration_targets=localhost"], ["localhost"]),
    ],
)
def test_matches_run_as_ever(project: pathlib.Path, arguments: list[str], hosts: list[str]) -> None:
    done = run(project, "-i", "hosts.yml", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    acted = sorted(line.split("acting on ")[1].strip('"') for line in done.stdout.splitlines() if "acting on " in line)
    assert acted == hosts


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["-e", "migration_targets=stagin"], "stagin matches no host"),
        (["-e", "migration_targets=empty"], "empty matches no host"),
        (["-e", "migration_targets="], "the pattern is empty"),
        (["-e", "migration_targets=staging:&production"], "staging:&production matches no host"),
        (["-e", "migration_targets=staging[7]"], "No hosts matched the subscripted pattern"),
        (["-l", "prod1"], "staging matches 2, but --limit prod1 leaves none of them"),
        (["-l", "@none.txt"], "but --limit @none.txt leaves none of them"),
        (["-l", "~prod"], "but --limit ~prod leaves none of them"),
        (["-e", "migration_targets=nope", "--check"], "nope matches no host"),
        (["-e", "migration_targets=nope", "--list-hosts"], "nope matches no host"),
    ],
)
def test_empty_match_is_an_error(project: pathlib.Path, arguments: list[str], words: str) -> None:
    done = run(project, "-i", "hosts.yml", *arguments)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0 and "acting on" not in done.stdout
    assert "TARGETS_EMPTY: " in said and words in said, said
    assert "Known groups: production (3), staging (2), wave1 (1), wave2 (2)" in said


def test_no_inventory_at_all(project: pathlib.Path) -> None:
    done = run(project)
    assert done.returncode != 0 and "TARGETS_EMPTY" in done.stdout + done.stderr
    assert run(project, "--syntax-check").returncode == 0


def test_pattern_comes_back_as_it_was() -> None:
    groups = {"all": ["a", "b"], "ungrouped": [], "g": ["a"]}
    for pattern in ("g", "all:!g", ["a", "b"], "~^a$", "a,b"):
        assert targets(pattern, groups) is pattern
    for pattern in (None, 5, {}, [], " ", ","):
        with pytest.raises(AnsibleFilterError, match="TARGETS_EMPTY"):
            targets(pattern, groups)
