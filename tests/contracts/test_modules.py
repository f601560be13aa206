# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A module's promises: options equal documentation, one action group, failures with a code and a next step."""

from __future__ import annotations

import re
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._argspec import CONNECTION_RULES, connection_argument_spec
from support import tree

MODULES = tree.modules()
CONNECTION = connection_argument_spec()
CONNECTING = [name for name in MODULES if "database_url" in tree.module_kwargs(name)["argument_spec"]]
#: Every word in an option's name that may mean a secret, wherever Ansible would look for one.
SENSITIVE = re.compile(r"pass(?!ive)|secret|token|_key$|database_url$|credential")
#: Attributes of an option that its documentation must repeat, and what they are when they are not said.
MIRRORED = {"type": "str", "default": None, "required": False, "choices": None, "elements": None, "aliases": None}
GLUE_LINES = 120


def spec(name: str) -> dict[str, dict[str, t.Any]]:
    return t.cast("dict[str, dict[str, t.Any]]", tree.module_kwargs(name)["argument_spec"])


def documented(name: str) -> dict[str, dict[str, t.Any]]:
    return {**tree.fragment_options(name), **tree.documentation(name).get("options", {})}


def test_there_are_modules_to_look_at() -> None:
    assert len(CONNECTING) >= 6


def test_the_action_group_is_the_modules_that_connect() -> None:
    groups = tree.load("meta/runtime.yml")["action_groups"]
    assert sorted(groups) == ["all"]
    assert groups["all"] == sorted(CONNECTING)


@pytest.mark.parametrize("name", CONNECTING)
def test_a_member_of_the_group_takes_every_connection_option(name: str) -> None:
    """Ansible hands a group's defaults to every member unfiltered."""
    assert {option: spec(name).get(option) for option in CONNECTION} == CONNECTION
    assert {rule: tree.module_kwargs(name).get(rule) for rule in CONNECTION_RULES} == CONNECTION_RULES


@pytest.mark.parametrize("name", MODULES)
def test_the_documentation_is_the_argument_spec(name: str) -> None:
    def seen(options: t.Mapping[str, t.Mapping[str, t.Any]]) -> dict[str, dict[str, t.Any]]:
        return {option: {key: given.get(key, otherwise) for key, otherwise in MIRRORED.items()} for option, given in options.items()}

    assert seen(documented(name)) == seen(spec(name))


@pytest.mark.parametrize("name", MODULES)
def test_secrets_are_never_logged(name: str) -> None:
    """no_log must be said for every name that sounds like a secret, so that Ansible does not guess."""
    assert [option for option, given in spec(name).items() if SENSITIVE.search(option) and "no_log" not in given] == []
    assert [option for option, given in spec(name).items() if re.search(r"password|database_url$", option) and given["no_log"] is not True] == []


@pytest.mark.parametrize("name", MODULES)
def test_check_mode_is_supported(name: str) -> None:
    assert tree.module_kwargs(name)["supports_check_mode"] is True


@pytest.mark.parametrize("name", MODULES)
def test_the_attributes_are_complete(name: str) -> None:
    fragments = tree.documentation(name)["extends_documentation_fragment"]
    assert "pgops.migrations.attributes" in fragments
    assert ("pgops.migrations.attributes.info_module" in fragments) == name.endswith("_info")
    assert ("pgops.migrations.connection" in fragments) == (name in CONNECTING)


@pytest.mark.parametrize("name", MODULES)
def test_a_failure_is_documented_with_its_code_and_next_step(name: str) -> None:
    returned = tree.documentation(name, "RETURN")
    for key in ("code", "next_step"):
        assert returned[key]["type"] == "str"
        assert "failure" in returned[key]["returned"]


def keys(returned: t.Mapping[str, t.Any], prefix: str = "") -> t.Iterator[tuple[str, t.Mapping[str, t.Any]]]:
    for key, value in returned.items():
        yield prefix + key, value
        yield from keys(value.get("contains", {}), "%s%s." % (prefix, key))


@pytest.mark.parametrize("name", MODULES)
def test_every_returned_key_is_described_and_typed(name: str) -> None:
    for key, value in keys(tree.documentation(name, "RETURN")):
        assert value.get("description"), key
        assert value.get("type"), key
        assert value["type"] != "list" or value.get("elements"), key
        assert "." in key or value.get("returned"), key


@pytest.mark.parametrize("name", MODULES)
def test_examples_use_full_names_and_options_that_exist(name: str) -> None:
    full = "pgops.migrations.%s" % name
    found = [task[full] for task in tree.documentation(name, "EXAMPLES") if full in task]
    assert found
    for options in found:
        assert set(options or {}) <= set(spec(name)) | {alias for given in spec(name).values() for alias in given.get("aliases", [])}


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_documentation_and_glue(name: str) -> None:
    source = tree.text("plugins/modules/%s.py" % name)
    assert source.startswith("#!/usr/bin/python\n")
    glue = source[source.index("\nimport ") :] if "\nimport " in source else source[source.rindex('"""') :]
    assert len(glue.splitlines()) <= GLUE_LINES
