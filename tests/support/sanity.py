# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""C(ansible-test sanity) without a container and without its download server.

It makes an environment per test and Python, which takes a minute; they stay in C(.cache) of the checkout. It would
fetch a bootstrap of pip from its own server; the same pip comes from the package index here, checked by the hash
that requirements/test.txt pins.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pathlib
import re
import subprocess
import sys
import typing as t

from support import tree

HOME = tree.ROOT / ".cache" / "ansible-test"
PYTHONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
OWN = "%d.%d" % sys.version_info[:2]
BOOTSTRAP = """import os, sys
sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(os.environ["GET_PIP"])), "pip-{version}-py3-none-any.whl"))
from pip._internal.cli.main import main
sys.exit(main(["install", "--upgrade"] + [word for word in sys.argv[1:] if word not in ("--no-setuptools", "--no-wheel")]))
"""


def pythons() -> dict[str, str]:
    """The Pythons of this machine that ansible-test knows and that run, with the folder of each."""
    found = {OWN: str(tree.BIN)}
    for version in PYTHONS:
        # What pyenv puts on PATH runs only those versions that are chosen; the others are there as well.
        kept = sorted((pathlib.Path.home() / ".pyenv" / "versions").glob("%s.*/bin/python%s" % (version, version)))
        for program in ["python" + version, *map(str, kept)]:
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                asked = subprocess.run([program, "-c", "import ssl, venv, sys; print(sys.executable)"], capture_output=True, text=True, check=True)
                found.setdefault(version, os.path.dirname(asked.stdout.strip()))
    return found


def passes(collection: pathlib.Path, python: str, *tests: str) -> None:
    """Run sanity tests (all when none is named) of an installed collection for one Python; their findings are the failure."""
    command = ["sanity", "--color", "no", "--python", python]
    for test in tests:
        command += ["--test", test]
    folders = [str(tree.BIN), *(folder for version, folder in pythons().items() if version != OWN), os.environ["PATH"]]
    with _home() as home:
        environment = {"HOME": str(home), "PATH": os.pathsep.join(folders), "PYTHONPATH": "", "ANSIBLE_COLLECTIONS_PATH": "", **_pip_config()}
        done = tree.run("ansible-test", *command, cwd=collection, env=environment)
    said = done.stdout + done.stderr
    found = [line for line in said.splitlines() if line.startswith(("ERROR", "FATAL"))]
    assert done.returncode == 0, "\n".join(found) or said[-4000:]


def as_repository(collection: pathlib.Path) -> pathlib.Path:
    """ansible-test lists files with git."""
    tree.passes("git", "init", "--quiet", ".", cwd=collection)
    tree.passes("git", "add", "--all", "--force", cwd=collection)
    return collection


@contextlib.contextmanager
def _home() -> t.Iterator[pathlib.Path]:
    """The folder with the environments, for one process at a time."""
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    with (HOME / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _lay_pip(cache)
        yield HOME


def _lay_pip(cache: pathlib.Path) -> None:
    pinned = re.search(r"^pip==(\S+) \\\n(?:    --hash=\S+(?: \\)?\n)+", tree.text("requirements/test.txt"), re.M)
    assert pinned, "requirements/test.txt pins no pip"
    version = pinned.group(1)
    script = cache / ("get_pip_%s.py" % version.replace(".", "_"))
    if not script.exists():
        only_pip = cache / "pip.txt"
        only_pip.write_text(pinned.group())
        tree.passes("pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", cache, "-r", only_pip)
        script.write_text(BOOTSTRAP.format(version=version))


def _pip_config() -> dict[str, str]:
    """The user's own pip settings, which pip would look for in HOME."""
    if "PIP_CONFIG_FILE" in os.environ:
        return {}
    base = pathlib.Path(os.environ.get("XDG_CONFIG_HOME") or pathlib.Path.home() / ".config")
    found = [path for path in (base / "pip" / "pip.conf", pathlib.Path.home() / ".pip" / "pip.conf") if path.is_file()]
    return {"PIP_CONFIG_FILE": str(found[0])} if found else {}
