# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The checkout as data, for tests that hold the collection to its promises."""

from __future__ import annotations

import functools
import importlib
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(sys.executable).parent
PLUGINS = "ansible_collections.pgops.migrations.plugins"


def files() -> list[pathlib.Path]:
    """Every file of the project, relative to its root: tracked ones, and new ones that are not ignored."""
    listing = subprocess.run(["git", "ls-files", "-coz", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(pathlib.Path(name) for name in set(filter(None, listing.split("\0"))) if (ROOT / name).is_file())


def named(*patterns: str) -> list[pathlib.Path]:
    """The project's files that match one of these patterns, such as C(plugins/modules/*.py)."""
    return [path for path in files() if any(path.match(pattern) for pattern in patterns)]


def below(folder: str, suffix: str) -> list[pathlib.Path]:
    return [path for path in files() if path.suffix == suffix and path.parts[0] == folder]


def text(path: pathlib.Path | str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def load(path: pathlib.Path | str) -> t.Any:
    """The content of a YAML file; Ansible's own tags (!vault, !unsafe) become plain values."""
    return yaml.load(text(path), Loader=_Loader)


class _Loader(yaml.SafeLoader):
    pass


_Loader.add_multi_constructor("!", lambda loader, _suffix, node: loader.construct_scalar(t.cast(yaml.ScalarNode, node)))


def modules() -> list[str]:
    return [path.stem for path in named("plugins/modules/*.py")]


def roles() -> list[str]:
    return sorted({path.parts[1] for path in files() if path.parts[0] == "roles" and len(path.parts) > 2})


@functools.cache
def module_kwargs(name: str) -> dict[str, t.Any]:
    """What a module passes to AnsibleModule: its argument_spec, supports_check_mode and rules."""
    module = importlib.import_module("%s.modules.%s" % (PLUGINS, name))
    seen: dict[str, t.Any] = {}

    class Stop(Exception):
        pass

    def capture(*_args: t.Any, **kwargs: t.Any) -> t.NoReturn:
        seen.update(kwargs)
        raise Stop

    kept, module.AnsibleModule = module.AnsibleModule, capture  # type: ignore[attr-defined]
    try:
        module.main()
    except Stop:
        return seen
    finally:
        module.AnsibleModule = kept  # type: ignore[attr-defined]
    raise AssertionError("%s.main() makes no AnsibleModule" % name)


def documentation(name: str, part: str = "DOCUMENTATION") -> t.Any:
    """A documentation string of a module as data, without what its fragments add."""
    return yaml.safe_load(getattr(importlib.import_module("%s.modules.%s" % (PLUGINS, name)), part))


def fragment_options(name: str) -> dict[str, t.Any]:
    """The options that the doc fragments of a module add."""
    options: dict[str, t.Any] = {}
    for fragment in documentation(name).get("extends_documentation_fragment", []):
        stem, _dot, section = fragment.replace("pgops.migrations.", "", 1).partition(".")
        klass = importlib.import_module("%s.doc_fragments.%s" % (PLUGINS, stem)).ModuleDocFragment
        options.update(yaml.safe_load(getattr(klass, (section or "documentation").upper())).get("options", {}))
    return options


def run(*command: str | os.PathLike[str], cwd: pathlib.Path = ROOT, env: t.Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run a program of the environment that runs the tests, or one on PATH."""
    program = BIN / command[0]
    found = str(program) if program.exists() else command[0]
    return subprocess.run([found, *command[1:]], cwd=cwd, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False)


def passes(*command: str | os.PathLike[str], cwd: pathlib.Path = ROOT, env: t.Mapping[str, str] | None = None) -> str:
    """Run a program that must succeed; its output."""
    done = run(*command, cwd=cwd, env=env)
    assert done.returncode == 0, "%s ended with %d:\n%s\n%s" % (command[0], done.returncode, done.stdout[-8000:], done.stderr[-4000:])
    return done.stdout


def only(folder: pathlib.Path) -> dict[str, str]:
    """An environment in which Ansible finds collections in this folder and nowhere else, not the checkout."""
    return {"ANSIBLE_COLLECTIONS_PATH": str(folder), "PYTHONPATH": "", "ANSIBLE_LOCALHOST_WARNING": "false"}


def build(folder: pathlib.Path) -> pathlib.Path:
    """Build the collection from the project's files, not from whatever else lies in the checkout; the tarball."""
    copy = folder / "checkout"
    for path in files():
        (copy / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, copy / path)
    passes("ansible-galaxy", "collection", "build", "--output-path", folder, copy, cwd=folder)
    return next(folder.glob("pgops-migrations-*.tar.gz"))


def install(tarball: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
    """Install a tarball without any network; returns the folder of the collection."""
    passes("ansible-galaxy", "collection", "install", "--offline", "--collections-path", folder, tarball, cwd=folder, env=only(folder))
    return folder / "ansible_collections" / "pgops" / "migrations"
