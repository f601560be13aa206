# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A process that has imported the modules once and forks one child per run: thousands of runs need not start Python each.

A child is a process of its own session, with its own environment, folder, standard streams and __main__, as if it had
been started; only its imports were made before. Runs that are killed, or are to see an environment at import, start
Python as Ansible does, see ``modules.ModuleRunner``.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib
import json
import os
import pkgutil
import runpy
import select
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
import typing as t

PACKAGE = "ansible_collections.pgops.migrations.plugins.modules"
_TIMEOUT = 300


@functools.cache
def _server() -> str:
    """The path of the server's socket; it ends with the process that asked first."""
    folder = tempfile.TemporaryDirectory(prefix="warm-")
    path = os.path.join(folder.name, "socket")
    process = subprocess.Popen([sys.executable, __file__, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd="/", start_new_session=True)

    def end() -> None:
        assert process.stdin and process.stdout
        process.stdin.close()
        process.wait(10)
        process.stdout.close()
        folder.cleanup()

    atexit.register(end)
    assert process.stdout and process.stdout.readline() == b"ready\n"
    return path


def run(name: str, stdin: str) -> tuple[str, str]:
    """What a module prints to standard output and error.

    :raises TimeoutError: after 300 s; the module's whole session is killed.
    """
    with contextlib.ExitStack() as stack:
        streams = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(3)]
        streams[0].write(stdin.encode())
        streams[0].seek(0)
        conn = stack.enter_context(socket.socket(socket.AF_UNIX))
        conn.connect(_server())
        conn.settimeout(_TIMEOUT)
        order = json.dumps({"name": name, "env": dict(os.environ), "cwd": os.getcwd()}).encode()
        socket.send_fds(conn, [b"%8d" % len(order)], [stream.fileno() for stream in streams])
        conn.sendall(order)
        pid = int(conn.recv(16))
        try:
            # Its end closes the connection.
            conn.recv(1)
        except TimeoutError:
            os.killpg(pid, signal.SIGKILL)
            raise
        for stream in streams[1:]:
            stream.seek(0)
        return streams[1].read().decode(), streams[2].read().decode()


def _child(conn: socket.socket, listening: socket.socket) -> t.NoReturn:
    os.setsid()
    head, descriptors, _flags, _address = socket.recv_fds(conn, 8, 3)
    order = b""
    while len(order) < int(head):
        order += conn.recv(65536)
    wanted = json.loads(order)
    listening.close()
    for number, descriptor in enumerate(descriptors):
        os.dup2(descriptor, number)
        os.close(descriptor)
    conn.sendall(b"%d" % os.getpid())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # Programs that it starts and leaves behind must not keep the connection; exec closes it.
    conn.set_inheritable(False)
    sys.stdin = open(0, encoding="utf-8", closefd=False)  # noqa: SIM115 - they end with the process
    sys.stdout, sys.stderr = open(1, "w", encoding="utf-8", closefd=False), open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    os.chdir(wanted["cwd"])
    os.environ.clear()
    os.environ.update(wanted["env"])
    sys.argv = [wanted["name"]]
    code: t.Any = 1
    try:
        runpy.run_module("%s.%s" % (PACKAGE, wanted["name"]), run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


def _serve(path: str) -> None:
    for name in ("ansible.module_utils.basic", "psycopg2"):
        importlib.import_module(name)
    package = importlib.import_module(PACKAGE.rpartition(".")[0] + ".module_utils")
    for found in pkgutil.iter_modules(package.__path__):
        importlib.import_module("%s.%s" % (package.__name__, found.name))
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen(16)
        os.write(1, b"ready\n")
        while True:
            sources: list[t.Any] = [listening, 0]
            readable, _, _ = select.select(sources, [], [])
            if 0 in readable:
                return
            conn, _address = listening.accept()
            if os.fork() == 0:
                _child(conn, listening)
            conn.close()


if __name__ == "__main__":
    # The folder of this file, which no module of the collection has there.
    del sys.path[0]
    _serve(sys.argv[1])
