# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The folder of a cluster: where its server is, on which port it was, and its password, kept between two runs."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from tools.pgserver.account import Account, give, private_dir, write_private
from tools.pgserver.programs import PgServerError

SUPERUSER = "postgres"
SOCKET_PATH_LIMIT = 107


def command(action: str, folder: Path) -> str:
    return f"python tools/pgserver {action} {shlex.quote(str(folder))}"


class Folder:
    """pgserver.json (no secret in it), pgpass (mode 0600), and the server's own files where its account can get at them."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self.pgpass_file = self.path / "pgpass"
        self.home: Path | None = None
        self.port = 0
        self.socket_dir = ""
        self.settings: dict[str, str] | None = None
        self.load()

    @property
    def password(self) -> str:
        return self.pgpass_file.read_text(encoding="utf-8").splitlines()[0].rsplit(":", 1)[1]

    def set_password(self, password: str) -> None:
        write_private(self.pgpass_file, f"*:*:*:{SUPERUSER}:{password}\n")

    def load(self) -> None:
        try:
            state = json.loads((self.path / "pgserver.json").read_text(encoding="utf-8"))
            self.home = self.path / state["home"]
            self.port = int(state["port"])
            self.socket_dir = str(state["socket_dir"])
            self.settings = state["settings"]
        except FileNotFoundError:
            self.home, self.settings = None, None
        except (ValueError, TypeError, KeyError):
            raise PgServerError(f"{self.path}/pgserver.json cannot be read. Next: remove {self.path}.") from None

    def save(self) -> None:
        home = "server" if self.home == self.path / "server" else str(self.home)  # so the folder may be moved
        state = {"home": home, "port": self.port, "socket_dir": self.socket_dir, "settings": self.settings}
        write_private(self.path / "pgserver.json", json.dumps(state, indent=1) + "\n")

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """One start or stop at a time per folder, also between processes."""
        self.path.mkdir(parents=True, exist_ok=True)
        with (self.path / ".pgserver.lock").open("w") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            self.load()  # somebody else may have been at work until now
            yield

    def choose_home(self, account: Account) -> str:
        """Settle where the server's own files are; returns a note when that is not in the folder."""
        if self.home is not None and self.home.is_dir():
            return ""
        note = ""
        self.home = self.path / "server"
        if account.can("-x", self.path):
            self.home.mkdir(mode=0o700, exist_ok=True)
            give(self.home, account)
        else:
            self.home = private_dir(account, "pgserver-")
            note = f"the account {account.name} cannot reach {self.path}: the data is in {self.home}"
        self.save()
        return note

    def new_socket_dir(self, account: Account) -> None:
        self.drop_socket_dir()
        self.socket_dir = str(private_dir(account, "pg-", SOCKET_PATH_LIMIT - len("/.s.PGSQL.65535.lock")))
        self.save()

    def drop_socket_dir(self) -> None:
        if self.socket_dir:
            shutil.rmtree(self.socket_dir, ignore_errors=True)
            self.socket_dir = ""

    def delete(self) -> None:
        """Delete all that belongs to the cluster and nothing else: the folder goes only when it is empty then."""
        if self.home and self.home.exists():
            if self.home != self.path / "server" and not self.home.name.startswith("pgserver-"):
                raise PgServerError(f"{self.home} was not made by this tool. Next: remove {self.path} by hand.")
            shutil.rmtree(self.home)
        for name in ("pgserver.json", "pgpass", ".pgserver.lock"):
            with contextlib.suppress(FileNotFoundError):
                (self.path / name).unlink()
        with contextlib.suppress(OSError):  # other people's files are in it, or it is gone
            self.path.rmdir()
        self.home, self.settings = None, None
