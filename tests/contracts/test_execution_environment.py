# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The execution environment, as ansible-builder makes it of the checkout and as it reads the installed collection."""

from __future__ import annotations

import pathlib
import re

import pytest
import yaml
from support import tree


def content(path: str) -> list[str]:
    return [line for line in tree.text(path).splitlines() if line and not line.startswith("#")]


def test_ansible_builder_makes_a_context_of_the_definition(tmp_path: pathlib.Path) -> None:
    definition, context = str(tree.ROOT / "meta/execution-environment.yml"), str(tmp_path / "context")
    said = tree.passes("ansible-builder", "create", "-f", definition, "-c", context, "--output-filename", "Containerfile", cwd=tmp_path)
    assert "Complete" in said
    build = tmp_path / "context/_build"
    for made, source in (("requirements.txt", "meta/ee-requirements.txt"), ("bindep.txt", "meta/ee-bindep.txt")):
        assert (build / made).read_text(encoding="utf-8") == tree.text(source)
    assert yaml.safe_load((build / "requirements.yml").read_text(encoding="utf-8")) == {"collections": [{"name": "pgops.migrations"}]}
    steps = (tmp_path / "context/Containerfile").read_text(encoding="utf-8")
    assert "ansible-core>=2.17" in steps and tree.load("meta/runtime.yml")["requires_ansible"].startswith(">=2.17")


def test_other_images_with_the_collection_get_what_it_needs(tmp_path: pathlib.Path) -> None:
    """What ansible-builder finds when it looks at the collection as it was built and installed."""
    (tmp_path / "installed").mkdir()
    tree.install(tree.build(tmp_path), tmp_path / "installed")
    tree.passes("ansible-builder", "introspect", str(tmp_path / "installed"), "--write-pip", str(tmp_path / "pip"), "--write-bindep", str(tmp_path / "bindep"))
    for found, source in (("pip", "meta/ee-requirements.txt"), ("bindep", "meta/ee-bindep.txt")):
        lines = (tmp_path / found).read_text(encoding="utf-8").splitlines()
        assert sorted(re.sub(r"\s+# from collection pgops.migrations$", "", line) for line in lines if line.strip()) == sorted(content(source)), found


@pytest.mark.parametrize("name", ["ee-bindep.txt", "ee-requirements.txt"])
def test_both_places_of_a_list_say_the_same(name: str) -> None:
    assert content(name) in (content("meta/" + name), ["-r meta/" + name])


def test_the_page_for_platforms_names_what_there_is() -> None:
    """Runbooks and variables that it tells to use exist; and what it shows as YAML is YAML."""
    page = tree.text("docs/automation.md")
    runbooks = set(re.findall(r"`(\w+)\.yml`|import_playbook: pgops\.migrations\.(\w+)", page))
    assert {one or other for one, other in runbooks} <= {path.stem for path in tree.named("playbooks/*.yml")}
    yamls = "\n".join(tree.text(path) for path in (*tree.below("playbooks", ".yml"), *tree.below("roles", ".yml")))
    known = set(re.findall(r"\b(?:migration|rehearsal)_\w+", yamls))
    tasks = re.findall(r"^\| \*([^*]+)\* \|", page, re.M)
    assert len(tasks) > 3 and [name for name in tasks if "- name: %s\n" % name not in yamls] == []
    # Of the page's own making: the file that its credential makes.
    assert set(re.findall(r"\b(?:migration|rehearsal)_\w+", page)) - known == {"migration_urls_file"}
    for block in re.findall(r"```yaml\n(.*?)```", page, re.S):
        assert yaml.safe_load(block)
