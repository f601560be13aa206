# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Five hosts on one machine, without any privilege: each an SSH server on a loopback address of its own, with its own home,
its own temporary folder and its own PostgreSQL with MicroCare on it.

    python lab.py up DIR         all servers; the SSH server of the host that is lost is left out
    python lab.py mend DIR       the lost host answers, and the migration that fails is gone from its project
    python lab.py down DIR       stops everything and removes DIR, also after an ``up`` that failed

DIR/fleet.json names everything (mode 0600: it holds the URLs); DIR/ssh_config is how the hosts are reached.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import getpass
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from tools.microcare import DATABASE, node_missing, stage  # noqa: E402
from tools.pgserver import Cluster, find_programs  # noqa: E402

SSHD = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
#: Their addresses are 127.0.0.11 and on. The last one does not answer until it is mended.
HOSTS = ("sound1", "sound2", "fails", "newer", "lost")
FAILING = "20260301120000_split_patient_name_fails"
ROWS = 300


def address(name: str) -> str:
    return "127.0.0.%d" % (11 + HOSTS.index(name))


def other_source() -> str:
    """Which programs are of another major version than those that the other hosts run."""
    return next(source for source in ("wheel", "wheel18") if find_programs(source=source).version[0] != find_programs().version[0])


class Host:
    """One of them; all that belongs to it lies in its folder."""

    def __init__(self, lab: pathlib.Path, name: str) -> None:
        self.lab, self.name, self.folder = lab, name, lab / name
        self.home, self.tmp, self.config = self.folder / "home", self.folder / "tmp", self.folder / "sshd_config"
        self.cluster = Cluster(self.folder / "server", fast=True, source=other_source() if name == "newer" else None)

    def make(self, port: int) -> dict[str, str]:
        """Its server and its database; the variables of the inventory."""
        for path in (self.folder, self.home, self.tmp):
            path.mkdir(mode=0o700)
        self.cluster.start(detached=True)
        staged = stage(self.cluster, self.folder, ROWS, failing=self.name == "fails")
        # The real CLI on one host: it costs seconds of a processor, and has scenarios of its own.
        engine = "direct" if node_missing() or self.name != "sound2" else "prisma"
        # What pg_dump says is what the verifier compares with: a witness that is no part of the collection.
        (self.folder / "before.sql").write_text(self.dump(), encoding="utf-8")
        variables = {"HOME": self.home, "TMPDIR": self.tmp, "PATH": os.environ["PATH"]}
        lines = [
            "ListenAddress %s" % address(self.name), "Port %d" % port, "HostKey %s" % (self.lab / "host_key"),
            "AuthorizedKeysFile %s" % (self.lab / "user_key.pub"), "PasswordAuthentication no", "PermitRootLogin prohibit-password",
            "StrictModes no", "UsePAM no", "Subsystem sftp internal-sftp", "PidFile %s" % (self.folder / "sshd.pid"),
            # One line: of several the first wins.
            "SetEnv " + " ".join('"%s=%s"' % pair for pair in variables.items()),
        ]  # fmt: skip
        self.config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        return {
            "database_url": staged.database_url, "app_dir": staged.app_dir, "pg_bin_dir": staged.pg_bin_dir, "engine": engine, "home": str(self.home),
            "tmp": str(self.tmp), "major": str(self.cluster.version[0]),
        }  # fmt: skip

    def dump(self) -> str:
        """The whole database as text, in an order that does not depend on where its rows lie."""
        command = [self.cluster.programs.path("pg_dump"), "--dbname", DATABASE]
        done = subprocess.run(command, env={**os.environ, **self.cluster.libpq_env()}, capture_output=True, text=True, check=True)
        # Newer programs guard their output with a key that is different every time.
        return "\n".join(sorted(line for line in done.stdout.splitlines() if not line.startswith(("\\restrict", "\\unrestrict"))))

    def answer(self) -> None:
        """Start its SSH server, and wait until it listens."""
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", 0o755, exist_ok=True)
        assert SSHD is not None, "sshd is not installed. Next: apt-get install openssh-server"
        # It goes to the background by itself once it listens.
        subprocess.run([SSHD, "-f", str(self.config), "-E", str(self.folder / "sshd.log")], check=True, stdin=subprocess.DEVNULL)

    def remove(self) -> None:
        for pid in self._sshd():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if self.folder.exists():
            self.cluster.remove()

    def _sshd(self) -> list[int]:
        """The SSH server and its sessions, if the process of that number still is ours."""
        try:
            pid = int((self.folder / "sshd.pid").read_text(encoding="utf-8"))
            ours = str(self.config) in pathlib.Path("/proc/%d/cmdline" % pid).read_text(encoding="utf-8")
        except (OSError, ValueError):
            return []
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False).stdout.split()
        return [pid, *map(int, found)] if ours else []


def up(lab: pathlib.Path) -> None:
    lab.mkdir(mode=0o700, parents=True)
    # The path of a socket must be short, and DIR may be deep.
    sockets = tempfile.mkdtemp(prefix="pgops-fleet-")
    (lab / "sockets").write_text(sockets, encoding="utf-8")
    for name in ("host_key", "user_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(lab / name)], check=True)
    port = free_port()
    key = " ".join((lab / "host_key.pub").read_text(encoding="utf-8").split()[:2])
    (lab / "known_hosts").write_text("".join("[%s]:%d %s\n" % (address(name), port, key) for name in HOSTS), encoding="utf-8")
    shared = {
        "Port": port, "User": getpass.getuser(), "IdentityFile": lab / "user_key", "IdentitiesOnly": "yes", "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": lab / "known_hosts", "ControlMaster": "auto", "ControlPersist": "60", "ControlPath": "%s/%%n" % sockets, "LogLevel": "ERROR",
    }  # fmt: skip
    lines = ["Host %s\n  HostName %s" % (name, address(name)) for name in HOSTS]
    lines += ["Host *", *("  %s %s" % pair for pair in shared.items())]
    (lab / "ssh_config").write_text("\n".join(lines) + "\n", encoding="utf-8")
    hosts = {name: Host(lab, name) for name in HOSTS}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = dict(zip(HOSTS, pool.map(lambda host: host.make(port), hosts.values())))
    with open(os.open(lab / "fleet.json", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as handle:
        json.dump(made, handle, indent=1)
    for name in HOSTS[:-1]:
        hosts[name].answer()


def mend(lab: pathlib.Path) -> None:
    made = json.loads((lab / "fleet.json").read_text(encoding="utf-8"))
    shutil.rmtree(pathlib.Path(made["fails"]["app_dir"]) / "prisma/migrations" / FAILING, ignore_errors=True)
    Host(lab, "lost").answer()


def down(lab: pathlib.Path) -> None:
    with contextlib.suppress(OSError):
        sockets = pathlib.Path((lab / "sockets").read_text(encoding="utf-8"))
        for path in sockets.iterdir():
            # What ssh left in the background ends by being told so.
            subprocess.run(["ssh", "-F", str(lab / "ssh_config"), "-O", "exit", path.name], capture_output=True, check=False)
        end = time.monotonic() + 5
        while time.monotonic() < end and any(sockets.iterdir()):
            time.sleep(0.05)
        shutil.rmtree(sockets)
    for name in HOSTS:
        Host(lab, name).remove()
    shutil.rmtree(lab, ignore_errors=True)


def free_port() -> int:
    """A port that is free on all addresses."""
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    {"up": up, "mend": mend, "down": down}[sys.argv[1]](pathlib.Path(sys.argv[2]).absolute())
