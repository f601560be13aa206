# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""One word for what a database's schema is, alike on all databases that the same migrations made."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _catalog
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take

#: Whom it belongs to and who may use it: each target has roles of its own.
_OF_ROLES = ("owner ", "grants ")


def alike(objects: t.Mapping[str, str]) -> str:
    """The digest of what does not depend on the roles of a server. Pure."""
    return _catalog.digest({key: definition for key, definition in objects.items() if not key.startswith(_OF_ROLES)})


def likeness(conn: t.Any) -> str:
    """Read from the catalogue, no row is; empty where it cannot be read, which is no difference."""
    try:
        return alike(take(conn, level="schema")["schema"]["objects"])
    except MigrationError:
        return ""


__all__ = ("alike", "likeness")
