# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A role's promises: its files, and defaults that are its argument specification in names and values."""

from __future__ import annotations

import re
import typing as t

import pytest
from support import tree

ROLES = tree.roles()
TASK_FILES = [path for path in tree.below("roles", ".yml") if path.parts[2] in ("tasks", "handlers")]
#: Option names that hold a secret, and those that only sound like it.
SECRET = re.compile(r"password|secret|token|_url$|key$")
MAIN_LINES = 60
TASK_LINES = 120


def options(role: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", tree.load("roles/%s/meta/argument_specs.yml" % role)["argument_specs"]["main"]["options"])


def defaults(role: str) -> dict[str, t.Any]:
    return tree.load("roles/%s/defaults/main.yml" % role) or {}


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("name", ["README.md", "defaults/main.yml", "meta/argument_specs.yml", "meta/main.yml", "tasks/main.yml"])
def test_a_role_has_its_files(role: str, name: str) -> None:
    assert (tree.ROOT / "roles" / role / name).is_file()


@pytest.mark.parametrize("role", ROLES)
def test_the_specification_and_the_defaults_are_the_same(role: str) -> None:
    specified = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert defaults(role) == specified


@pytest.mark.parametrize("role", ROLES)
def test_a_required_option_stands_commented_in_the_defaults(role: str) -> None:
    commented = set(re.findall(r"^# (\w+):", tree.text("roles/%s/defaults/main.yml" % role), re.M))
    assert {name for name, option in options(role).items() if "default" not in option} <= commented
    assert not [name for name, option in options(role).items() if option.get("required") and "default" in option]


@pytest.mark.parametrize("role", ROLES)
def test_every_option_is_described_and_typed(role: str) -> None:
    for name, option in options(role).items():
        assert option.get("description"), name
        assert option.get("type"), name
        assert option["type"] != "list" or option.get("elements"), name


@pytest.mark.parametrize("role", ROLES)
def test_secret_options_are_kept_out_of_the_logs(role: str) -> None:
    assert [name for name, option in options(role).items() if SECRET.search(name) and option.get("no_log") is not True] == []


@pytest.mark.parametrize("role", ROLES)
def test_options_carry_the_name_of_the_role(role: str) -> None:
    assert [name for name in options(role) if not name.startswith(role + "_")] == []


def tasks(content: t.Any) -> t.Iterator[dict[str, t.Any]]:
    """All tasks of a file, those in blocks, too."""
    for task in content or []:
        yield task
        for part in ("block", "rescue", "always"):
            yield from tasks(task.get(part))


def made_by(task: t.Mapping[str, t.Any]) -> t.Iterator[str]:
    """The variables that a task sets."""
    if "register" in task:
        yield task["register"]
    for keyword in ("ansible.builtin.set_fact", "set_fact"):
        yield from (name for name in task.get(keyword, {}) if name != "cacheable")
    if not any("include_role" in key or "import_role" in key for key in task):
        yield from (name for name in task.get("vars", {}) if not name.startswith("ansible_"))


@pytest.mark.parametrize("path", TASK_FILES, ids=str)
def test_what_a_role_sets_carries_its_name(path: t.Any) -> None:
    """A result for others is <role>_*, what is the role's own is __<role>_*."""
    role = path.parts[1]
    found = [name for task in tasks(tree.load(path)) for name in made_by(task)]
    assert [name for name in found if not name.startswith((role + "_", "__%s_" % role))] == []


@pytest.mark.parametrize("path", TASK_FILES, ids=str)
def test_task_files_are_short(path: t.Any) -> None:
    assert len(tree.text(path).splitlines()) < (MAIN_LINES if path.name == "main.yml" else TASK_LINES)


@pytest.mark.parametrize("role", ROLES)
def test_the_metadata_is_what_galaxy_asks_for(role: str) -> None:
    info = tree.load("roles/%s/meta/main.yml" % role)["galaxy_info"]
    assert {"author", "description", "license", "min_ansible_version"} <= set(info)
    assert info["license"] == "GPL-3.0-or-later"
    assert info["description"] == tree.load("roles/%s/meta/argument_specs.yml" % role)["argument_specs"]["main"]["short_description"]


@pytest.mark.parametrize("role", ROLES)
def test_the_readme_tells_an_operator_what_to_expect(role: str) -> None:
    readme = tree.text("roles/%s/README.md" % role).lower()
    wanted = {"outcome", "rollback", "idempotent"} | (set() if "| changes | nothing |" in readme else {"atomic"})
    assert [word for word in sorted(wanted) if word not in readme] == []
