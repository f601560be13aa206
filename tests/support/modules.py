# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Run the collection's modules the way Ansible runs them."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

from support import warm


@dataclasses.dataclass
class ModuleRunner:
    """``runner("migration_info", target, app_dir=...)`` gives the module's result as a dict."""

    folder: pathlib.Path
    env: dict[str, str] = dataclasses.field(default_factory=dict)

    def __call__(self, name: str, target: Target | None = None, /, *, check: bool = False, diff: bool = False, **options: t.Any) -> dict[str, t.Any]:
        if not self.env and _failpoint.VARIABLE not in os.environ:
            return self.result(*warm.run(name, self.order(target, check, diff, options)))
        process = self.start(name, target, check=check, diff=diff, **options)
        out, err = process.communicate(timeout=300)
        return self.result(out, err)

    def order(self, target: Target | None, check: bool, diff: bool, options: t.Mapping[str, t.Any]) -> str:
        """What Ansible writes to the standard input of a module."""
        arguments = dict(options, _ansible_check_mode=check, _ansible_diff=diff, _ansible_remote_tmp=str(self.folder), _ansible_tmpdir=str(self.folder))
        if target is not None:
            arguments["database_url"] = target.prisma_url()
        return json.dumps({"ANSIBLE_MODULE_ARGS": arguments})

    def start(self, name: str, target: Target | None = None, /, *, check: bool = False, diff: bool = False, **options: t.Any) -> subprocess.Popen[str]:
        """Start the module and leave it running, for tests that kill it."""
        process = subprocess.Popen(
            [sys.executable, "-m", "ansible_collections.pgops.migrations.plugins.modules.%s" % name],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **self.env},
            start_new_session=True,
        )
        assert process.stdin is not None
        process.stdin.write(self.order(target, check, diff, options))
        process.stdin.close()
        process.stdin = None
        return process

    @staticmethod
    def result(out: str, err: str) -> dict[str, t.Any]:
        """The JSON that the module printed; anything else is a failure of the test."""
        try:
            return t.cast("dict[str, t.Any]", json.loads(out))
        except ValueError:
            raise AssertionError("the module printed no JSON:\n%s\n%s" % (out[-2000:], err[-4000:])) from None
