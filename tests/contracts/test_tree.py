# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What holds for the whole tree: nothing of the maker's machine in it, and pages that say what is there."""

from __future__ import annotations

import pathlib
import re

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import CODES
from support import tree

from tools import error_docs

TEXTS = [path for path in tree.files() if path.suffix not in (".gz", ".png") and path.name != "LICENSE" and not (tree.ROOT / path).is_symlink()]
#: Lists that tools write, which name where packages come from by their nature.
LOCKS = {"package-lock.json"}
#: Addresses that are nobody's: reserved for documentation and tests.
NOBODY = re.compile(r"@(?:[\w.-]+\.)?(?:example(?:\.(?:com|org|net))?|invalid|test|localhost|microcare\.(?:test|example|invalid))\b")
MACHINE_PATH = re.compile(r"(?<![\w.$}~/-])/(?:work|root|home/[a-z]\w*|Users/\w+|opt/(?:pypi|wheels)[\w-]*)(?:/|\b(?![\w.-]))")
EMAIL = re.compile(r"(?<![\w:/%])[\w.+-]+@[\w-]+(?:\.[\w-]+)*\.[a-z]{2,}\b")
REGISTRY = re.compile(r"(?:https?://|//)[^\s\"']*(?:pypi|npmjs|registry|simple/|verdaccio|artifactory)[^\s\"']*|--(?:extra-)?index-url|--find-links", re.I)

each_text = pytest.mark.parametrize("path", TEXTS, ids=str)


def lines(path: pathlib.Path, pattern: re.Pattern[str]) -> list[str]:
    if path.name == pathlib.Path(__file__).name:  # the patterns themselves
        return []
    return ["%d: %s" % (number, match.group()) for number, line in enumerate(tree.text(path).splitlines(), 1) for match in pattern.finditer(line)]


@each_text
def test_no_path_of_the_makers_machine(path: pathlib.Path) -> None:
    assert lines(path, MACHINE_PATH) == []


@each_text
def test_no_mail_address(path: pathlib.Path) -> None:
    assert [found for found in lines(path, EMAIL) if not NOBODY.search(found)] == []


@each_text
def test_no_address_of_a_registry(path: pathlib.Path) -> None:
    """Packages are named and pinned; where they come from is the machine's own setting."""
    if path.name in LOCKS:
        assert re.findall(r'"resolved": *"(?!https://registry\.npmjs\.org/)[^"]*"', tree.text(path)) == []
    else:
        assert lines(path, REGISTRY) == []


@each_text
def test_every_text_ends_with_one_newline(path: pathlib.Path) -> None:
    text = tree.text(path)
    assert not text or (text.endswith("\n") and not text.endswith("\n\n") and "\r\n" not in text)


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        (MACHINE_PATH, "in /work/main here", True),
        (MACHINE_PATH, "'/root/.cache'", True),
        (MACHINE_PATH, "/srv/work/app and docs/work/x and mysql://root@db", False),
        (EMAIL, "mail somebody@company.io now", True),
        (EMAIL, "postgresql://owner:password@db1:5432/app", False),
        (REGISTRY, "https://pypi.company.io/simple/", True),
    ],
)
def test_the_searches_find_what_they_should(pattern: re.Pattern[str], text: str, found: bool) -> None:
    assert bool(pattern.search(text)) is found


def test_the_page_of_errors_is_the_register() -> None:
    assert error_docs.PAGE.read_text(encoding="utf-8") == error_docs.page(), "run: python tools/error_docs.py"
    listed = re.findall(r"^\| `([A-Z0-9_]+)` \| (.+?) \| (.+?) \|$", error_docs.page(), re.M)
    assert {code: (means, advice) for code, means, advice in listed} == {code: tuple(map(error_docs._cell, said)) for code, said in CODES.items()}


def table(heading: str) -> list[str]:
    """The first column of the table below a heading of README.md."""
    section = re.search(r"^## %s\n(.*?)(?=^## |\Z)" % heading, tree.text("README.md"), re.M | re.S)
    assert section, "README.md has no section %s" % heading
    return re.findall(r"^\| `([\w.]+)` \|", section.group(1), re.M)


def test_the_readme_lists_every_runbook() -> None:
    assert sorted(table("Runbooks")) == [path.name for path in tree.named("playbooks/*.yml")]


def test_the_readme_lists_every_role() -> None:
    assert sorted(table("Roles")) == tree.roles()


def test_the_readme_lists_every_module() -> None:
    assert sorted(table("Modules")) == tree.modules()


@pytest.mark.parametrize("path", [path for path in tree.files() if path.suffix == ".md"], ids=str)
def test_links_in_pages_lead_somewhere(path: pathlib.Path) -> None:
    targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", tree.text(path)) if "://" not in target]
    assert [target for target in targets if target and not (tree.ROOT / path.parent / target).exists()] == []


def test_there_is_a_changelog() -> None:
    assert tree.named("changelogs/fragments/*.yml") or tree.named("changelogs/changelog.yaml")
    assert tree.text("CHANGELOG.md").strip()


def test_the_execution_environment_names_files_that_exist() -> None:
    needs = tree.load("meta/execution-environment.yml")["dependencies"]
    assert all((tree.ROOT / needs[kind]).is_file() for kind in ("python", "system"))
