# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The collection as an operator gets it: built, installed without a network, and called by its full name."""

from __future__ import annotations

import json
import pathlib
import tarfile

import pytest
from support import tree

#: Lists that ansible-builder looks for in the root; see meta/execution-environment.yml.
EE = {"ee-bindep.txt", "ee-requirements.txt"}
#: What a run needs; everything else in the tarball is a page or a list of changes.
CONTENT = {"meta", "playbooks", "plugins", "roles"}
BESIDES = {"CHANGELOG.md", "CONTRIBUTING.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md", "changelogs", "docs", *EE}


@pytest.fixture(scope="module")
def tarball(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tree.build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="module")
def installed(tarball: pathlib.Path, tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tree.install(tarball, tmp_path_factory.mktemp("installed"))


def from_there(installed: pathlib.Path, *command: str) -> str:
    """Run a program that finds no other copy of the collection than the installed one."""
    return tree.passes(*command, cwd=installed.parents[2], env=tree.only(installed.parents[2]))


def test_the_tarball_holds_what_a_run_needs_and_nothing_of_the_workshop(tarball: pathlib.Path) -> None:
    with tarfile.open(tarball) as archive:
        names = {pathlib.PurePath(name).parts[0] for name in archive.getnames()}
    assert names >= CONTENT
    assert names <= CONTENT | BESIDES


def test_a_build_in_the_checkout_leaves_out_what_tools_leave_there() -> None:
    """People build in the checkout, where caches lie that no list of files knows of."""
    ignored = set(tree.load("galaxy.yml")["build_ignore"])
    made = {line.strip("/") for line in tree.text(".gitignore").splitlines() if line.endswith("/") and "/" not in line.strip("/")}
    # ansible-galaxy itself leaves out __pycache__, and node_modules lies in the examples only.
    assert made - ignored - {"node_modules", "__pycache__"} == set()


def test_what_was_installed_is_what_was_built(installed: pathlib.Path) -> None:
    from_there(installed, "ansible-galaxy", "collection", "verify", "--offline", "--collections-path", str(installed.parents[2]), "pgops.migrations")


@pytest.mark.parametrize("kind", ["module", "role"])
def test_the_documentation_can_be_read_from_there(installed: pathlib.Path, kind: str) -> None:
    names = tree.modules() if kind == "module" else tree.roles()
    said = json.loads(from_there(installed, "ansible-doc", "--json", "--type", kind, *("pgops.migrations.%s" % name for name in names)))
    assert sorted(said) == sorted("pgops.migrations.%s" % name for name in names)
    for name, found in said.items():
        assert str(installed) in (found["doc"]["filename"] if kind == "module" else found["path"]), name


@pytest.mark.parametrize("path", tree.named("playbooks/*.yml"), ids=lambda path: path.stem)
def test_a_runbook_can_be_called_by_its_full_name(installed: pathlib.Path, path: pathlib.Path) -> None:
    said = from_there(
        installed,
        "ansible-playbook",
        "--syntax-check",
        "-i",
        "db1,",
        "-e",
        "migration_targets=db1",
        "-e",
        "migration_run_id=x",
        "pgops.migrations.%s" % path.stem,
    )
    assert "playbook:" in said
