# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  app_dir:
    description:
      - The Prisma project, the folder with C(package.json) and C(prisma/), on the host that runs the module.
      - The migrations folder is found as the Prisma CLI finds it, from C(prisma.config.*), C(package.json) and the schema, without running them.
    type: path
  migrations_dir:
    description:
      - The migrations folder, when it is not where the Prisma CLI looks, or there is no project around it.
      - Relative to O(app_dir).
    type: path
  schema_file:
    description: The Prisma schema, a file or a folder, as in C(prisma --schema). Relative to O(app_dir).
    type: path
"""
