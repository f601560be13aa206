# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The connection options, defined once: the code beside doc_fragments/connection.py."""

from __future__ import annotations

import typing as t


def connection_argument_spec(**own: t.Any) -> dict[str, t.Any]:
    """The connection options plus a module's own ones.

    Names are those of community.postgresql. ``database_url`` takes a Prisma URL as it
    stands in ``.env``; it and the ``login_*`` options exclude each other.
    """
    spec: dict[str, t.Any] = dict(
        database_url=dict(type="str", no_log=True),
        login_host=dict(type="str"),
        login_port=dict(type="int", default=5432),
        login_user=dict(type="str"),
        login_password=dict(type="str", no_log=True),
        login_unix_socket=dict(type="str"),
        login_db=dict(type="str"),
        ssl_mode=dict(type="str", choices=["allow", "disable", "prefer", "require", "verify-ca", "verify-full"], default="prefer"),
        ca_cert=dict(type="path"),
        ssl_cert=dict(type="path"),
        ssl_key=dict(type="path", no_log=False),
        connect_params=dict(type="dict", default={}),
        connect_timeout=dict(type="int", default=10),
    )
    spec.update(own)
    return spec


CONNECTION_RULES: dict[str, t.Any] = dict(
    mutually_exclusive=[("database_url", name) for name in ("login_host", "login_user", "login_password", "login_unix_socket", "login_db")],
)

__all__ = ("CONNECTION_RULES", "connection_argument_spec")
