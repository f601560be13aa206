# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The usual judges of a collection have nothing to say, with no rule skipped and no finding ignored."""

from __future__ import annotations

import pathlib

import pytest
from support import sanity, tree

#: What compiles and can be imported on the oldest and here does so on those between, and mostly on newer ones.
ELSEWHERE = [
    pytest.param(version, marks=[pytest.mark.exhaustive] if version != sanity.PYTHONS[0] else []) for version in sanity.PYTHONS if version != sanity.OWN
]


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    """The collection as it ships, in a folder that is named as these tools want it."""
    folder = tmp_path_factory.mktemp("tooling")
    return sanity.as_repository(tree.install(tree.build(folder), folder))


def test_ruff() -> None:
    tree.passes("ruff", "check", ".")


def test_mypy() -> None:
    tree.passes("mypy", env={"PYTHONPATH": ""})


@pytest.mark.slow
def test_ansible_lint() -> None:
    configuration = tree.load(".ansible-lint")
    assert (configuration["profile"], configuration["offline"], configuration["skip_list"], configuration["warn_list"]) == ("production", True, [], [])
    assert not (tree.ROOT / ".ansible-lint-ignore").exists()
    tree.passes("ansible-lint", "--nocolor", "-q", "--strict")


@pytest.mark.slow
def test_antsibull_docs(collection: pathlib.Path) -> None:
    tree.passes(
        "antsibull-docs",
        "lint-collection-docs",
        "--plugin-docs",
        "--validate-collection-refs=all",
        collection,
        cwd=collection,
        env=tree.only(collection.parents[2]),
    )


def test_antsibull_changelog() -> None:
    tree.passes("antsibull-changelog", "lint")


def test_no_finding_of_the_sanity_tests_is_ignored() -> None:
    assert tree.named("tests/sanity/ignore*") == []
    assert "# noqa: E501" not in "".join(map(tree.text, tree.below("plugins", ".py")))


@pytest.mark.slow
def test_sanity(collection: pathlib.Path) -> None:
    """All tests of ansible-test, on the Python that runs this."""
    sanity.passes(collection, sanity.OWN)


@pytest.mark.slow
@pytest.mark.parametrize("python", ELSEWHERE)
def test_sanity_on_other_pythons(collection: pathlib.Path, python: str) -> None:
    """A managed node may have an older or a newer Python: everything compiles there and can be imported."""
    if python not in sanity.pythons():
        pytest.skip("there is no Python %s on this machine" % python)
    sanity.passes(collection, python, "compile", "import")
