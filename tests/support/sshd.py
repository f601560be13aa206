# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""An SSH server on the loopback, for connections that are really lost."""

from __future__ import annotations

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
import time

PROGRAM = shutil.which("sshd", path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


class SshServer:
    """One server, and an inventory in which the staging target is reached through it."""

    def __init__(self, folder: pathlib.Path) -> None:
        self.folder = folder
        folder.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        key = (folder / "host.pub").read_text(encoding="utf-8").split()[:2]
        (folder / "known_hosts").write_text("[127.0.0.1]:%d %s\n" % (self.port, " ".join(key)), encoding="utf-8")
        lines = [
            "ListenAddress 127.0.0.1", "Port %d" % self.port, "HostKey %s" % (folder / "host"), "AuthorizedKeysFile %s" % (folder / "user.pub"),
            "PasswordAuthentication no", "PermitRootLogin prohibit-password", "StrictModes no", "UsePAM no", "PidFile none", "Subsystem sftp internal-sftp",
        ]  # fmt: skip
        (folder / "config").write_text("\n".join(lines) + "\n", encoding="utf-8")
        options = ["-o UserKnownHostsFile=%s" % (folder / "known_hosts"), "-o StrictHostKeyChecking=yes", "-o IdentitiesOnly=yes"]
        variables = {
            "ansible_connection": "ansible.builtin.ssh", "ansible_host": "127.0.0.1", "ansible_port": self.port, "ansible_user": getpass.getuser(),
            "ansible_ssh_private_key_file": str(folder / "user"), "ansible_ssh_common_args": " ".join(options),
            "ansible_control_path_dir": str(folder / "cp"), "ansible_python_interpreter": sys.executable,
        }  # fmt: skip
        inventory = {"staging": {"hosts": {"microcare_staging": variables}}}
        self.inventory = folder / "inventory.json"
        self.inventory.write_text(json.dumps(inventory), encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        if os.geteuid() == 0:
            os.makedirs("/run/sshd", 0o755, exist_ok=True)
        assert PROGRAM is not None
        # Sessions of their own are children of this one.
        self.process = subprocess.Popen([PROGRAM, "-D", "-e", "-f", str(self.folder / "config")], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while time.monotonic() < end:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise AssertionError("the SSH server does not answer")

    def cut(self) -> int:
        """Kill the connections that there are; how many."""
        assert self.process is not None
        found = subprocess.run(["ps", "-o", "pid=", "--ppid", str(self.process.pid)], capture_output=True, text=True, check=False).stdout.split()
        for pid in found:
            # A process that separates privileges has a child of its own.
            below = subprocess.run(["ps", "-o", "pid=,comm=", "--ppid", pid], capture_output=True, text=True, check=False).stdout.splitlines()
            for each in [pid, *(line.split()[0] for line in below if "sshd" in line)]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(each), signal.SIGKILL)
        return len(found)

    def stop(self) -> None:
        if self.process is not None:
            self.cut()
            self.process.kill()
            self.process.wait()
            self.process = None
