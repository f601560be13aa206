# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A module where Ansible itself runs: the worker's process is forked, instead of a Python being started and the module packed and sent to it.

It is the module's own C(main) that runs, with the options and the result format of Ansible's module interface, so there is one
code path, and redaction, check mode, warnings and failures are the module's. The fork keeps what a module is allowed to do to
its process (working directory, signals, a crash in a C library) away from the worker, and can be ended by a C(timeout).
"""

from __future__ import annotations

import inspect
import io
import json
import os
import selectors
import signal
import sys
import traceback
import typing as t

from ansible import constants as C
from ansible.module_utils import basic
from ansible.module_utils.common import json as ansible_json
from ansible.plugins.action import ActionBase
from ansible.plugins.connection.local import Connection as Local
from ansible.utils.unsafe_proxy import wrap_var
from ansible.utils.vars import merge_hash
from ansible.vars.clean import remove_internal_keys
from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2

try:
    # Since ansible-core 2.19 warnings of a module are told from those of the controller.
    from ansible.module_utils import _internal
except ImportError:
    _internal = None

Main = t.Callable[[], None]
PROFILE = "legacy"
TAGS = hasattr(ansible_json, "get_module_encoder")
_CHUNK = 1 << 16


class InController(ActionBase):
    """An action that runs modules of this collection in a fork of its own process, where nothing in the task or the inventory asks for another one."""

    _supports_check_mode = True
    _supports_async = True

    #: Name of the module -> its main. What is not here runs as any other module.
    mains: t.ClassVar[t.Mapping[str, Main]] = {}
    #: Whether those modules connect to a database.
    needs_psycopg2: t.ClassVar[bool] = True

    def run(self, tmp: t.Any = None, task_vars: dict[str, t.Any] | None = None) -> dict[str, t.Any]:
        result = super().run(tmp, task_vars)
        wrap_async = bool(self._task.async_val and not self._connection.has_native_async)
        found: dict[str, t.Any] = merge_hash(result, self._execute_module(task_vars=task_vars, wrap_async=wrap_async))
        if not wrap_async:
            self._remove_tmp_path(self._connection._shell.tmpdir)
        return found

    def _execute_module(self, *args: t.Any, **kwargs: t.Any) -> dict[str, t.Any]:
        name = kwargs.get("module_name") or self._task.resolved_action or self._task.action
        main, task_vars = self.mains.get(str(name)), kwargs.get("task_vars") or {}
        if args or main is None or kwargs.get("wrap_async") or not self._may(task_vars):
            return t.cast("dict[str, t.Any]", super()._execute_module(*args, **kwargs))
        options = dict(self._task.args if kwargs.get("module_args") is None else kwargs["module_args"])
        self._update_module_args(str(name), options, task_vars)
        found = self._parsed(forked(main, _encoded(options), self._loader.get_basedir()))
        remove_internal_keys(found)
        # Before ansible-core 2.19 a text is a template until it is said not to be one.
        return found if TAGS else t.cast("dict[str, t.Any]", wrap_var(found))

    def _may(self, task_vars: t.Mapping[str, t.Any]) -> bool:
        """Whether the module would run here, as this user, by this Python, with this environment."""
        task = self._task
        if self._connection.__class__ is not Local or self._connection.become or task.async_val:
            return False
        if self.needs_psycopg2 and psycopg2 is None:
            return False
        environment: dict[str, t.Any] = {}
        self._compute_environment_string(environment)
        if environment:
            return False
        of = task_vars.get("ansible_delegated_vars", {}).get(task.delegate_to) if task.delegate_to else None
        wanted = C.config.get_config_value("INTERPRETER_PYTHON", variables=dict(of or task_vars))
        return is_this_python(str(self._templar.template(wanted) or "").strip())

    def _parsed(self, said: dict[str, t.Any]) -> dict[str, t.Any]:
        parse = self._parse_returned_data
        profile = [PROFILE] if len(inspect.signature(parse).parameters) > 1 else []
        return t.cast("dict[str, t.Any]", parse(said, *profile))


def is_this_python(wanted: str) -> bool:
    """Whether the interpreter that is asked for is the one that runs this. Discovery (C(auto)) asks for none in particular."""
    if wanted == "" or wanted.startswith("auto"):
        return True
    wanted, this = os.path.abspath(os.path.expanduser(wanted)), os.path.abspath(sys.executable)
    # In one folder, names of one file are one environment; elsewhere they may be the bare Python of an environment.
    return os.path.dirname(wanted) == os.path.dirname(this) and os.path.realpath(wanted) == os.path.realpath(this)


def _encoded(options: dict[str, t.Any]) -> bytes:
    """The options as Ansible hands them to a module."""
    named = {"ANSIBLE_MODULE_ARGS": options}
    if TAGS:
        encoder = ansible_json.get_module_encoder(PROFILE, ansible_json.Direction.CONTROLLER_TO_MODULE)
        return json.dumps(named, cls=encoder).encode()
    return json.dumps(named, cls=ansible_json.AnsibleJSONEncoder, vault_to_text=True).encode()


def forked(main: Main, options: bytes, folder: str) -> dict[str, t.Any]:
    """C(rc), C(stdout) and C(stderr) of a module in a process of its own.

    :param folder: its working directory, that of every module over a local connection.
    """
    out, err = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            # As in a process that was just started: a signal ends it, also while it waits in libpq.
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            signal.alarm(0)
            code = _module(main, options, folder, out[1], err[1])
        finally:
            os._exit(code)
    for _reading, writing in (out, err):
        os.close(writing)
    try:
        texts = _read([out[0], err[0]])
        _pid, status = os.waitpid(child, 0)
        child = 0
    finally:
        for reading, _writing in (out, err):
            os.close(reading)
        if child:
            # A timeout of the task, or the end of the play.
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    return {"rc": os.waitstatus_to_exitcode(status), "stdout": texts[0], "stderr": texts[1]}


def _module(main: Main, options: bytes, folder: str, out: int, err: int) -> int:
    os.chdir(folder)
    null = os.open(os.devnull, os.O_RDONLY)
    for handle, number in ((null, 0), (out, 1), (err, 2)):
        os.dup2(handle, number)
    sys.stdout, sys.stderr = (io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8", "surrogateescape", write_through=True) for number in (1, 2))
    basic._ANSIBLE_ARGS, basic._ANSIBLE_PROFILE = options, PROFILE
    if _internal is not None:
        _internal.is_controller = False
    try:
        main()
    except SystemExit as end:
        return int(end.code or 0)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
    return 0


def _read(pipes: t.Sequence[int]) -> list[str]:
    """All that comes out of the pipes until their ends."""
    parts: dict[int, list[bytes]] = {pipe: [] for pipe in pipes}
    with selectors.DefaultSelector() as selector:
        for pipe in pipes:
            selector.register(pipe, selectors.EVENT_READ)
        while selector.get_map():
            for key, _events in selector.select():
                found = os.read(key.fd, _CHUNK)
                parts[key.fd].append(found)
                if not found:
                    selector.unregister(key.fd)
    return [b"".join(parts[pipe]).decode("utf-8", "surrogateescape") for pipe in pipes]


__all__ = ("InController", "forked", "is_this_python")
