# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The real Prisma CLI, as installed by npm in the example project."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import shutil
import subprocess

from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def node_problem(root: pathlib.Path) -> str | None:
    """Why the real CLI cannot run here, or None."""
    if shutil.which("node") is None:
        return "Node.js is not installed: the tests against the real Prisma CLI are skipped"
    if not (root / "examples/microcare/node_modules/.bin/prisma").exists():
        return "examples/microcare/node_modules is missing (run: make node): the tests against the real Prisma CLI are skipped"
    return None


@dataclasses.dataclass
class PrismaProject:
    """A Prisma project in a folder of the test."""

    path: pathlib.Path

    @classmethod
    def create(cls, root: pathlib.Path, path: pathlib.Path) -> PrismaProject:
        """A project without migrations that shares the example's node_modules and configuration."""
        example = root / "examples/microcare"
        (path / "prisma/migrations").mkdir(parents=True)
        (path / "node_modules").symlink_to(example / "node_modules")
        for name in ("package.json", "prisma.config.ts"):
            shutil.copy(example / name, path / name)
        (path / "prisma/schema.prisma").write_text('datasource db {\n  provider = "postgresql"\n  url      = env("DATABASE_URL")\n}\n', encoding="utf-8")
        project = cls(path)
        project.lock('provider = "postgresql"\n')
        return project

    @property
    def migrations(self) -> pathlib.Path:
        return self.path / "prisma/migrations"

    def lock(self, text: str) -> None:
        (self.migrations / "migration_lock.toml").write_text(text, encoding="utf-8")

    def add(self, name: str, sql: str | bytes) -> None:
        """Write one migration."""
        folder = self.migrations / name
        folder.mkdir(exist_ok=True)
        (folder / "migration.sql").write_bytes(sql if isinstance(sql, bytes) else sql.encode("utf-8"))

    def cli(self, target: Target, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run ``prisma <arguments>`` against a target; the caller looks at returncode and output."""
        env = {**os.environ, "DATABASE_URL": target.prisma_url(), "CHECKPOINT_DISABLE": "1", "NO_COLOR": "1"}
        return subprocess.run(
            [str(self.path / "node_modules/.bin/prisma"), *arguments], cwd=self.path, env=env, capture_output=True, text=True, timeout=120, check=False
        )
