# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  database_url:
    description:
      - The database as a Prisma URL, as it stands in C(.env), for example C(postgresql://user:password@host:5432/database?schema=public).
      - Special characters in the password are percent-encoded.
      - Parameters that only Prisma knows, such as C(schema) and C(connection_limit), are understood and not passed to libpq.
      - Excludes O(login_host), O(login_user), O(login_password), O(login_unix_socket) and O(login_db).
    type: str
  login_host:
    description: Host name or address of the server. Empty means the Unix socket.
    type: str
  login_port:
    description: Port of the server.
    type: int
    default: 5432
  login_user:
    description: Role to log in as. Empty means the name of the operating system's user.
    type: str
  login_password:
    description: Password of the role, as it is, not percent-encoded.
    type: str
  login_unix_socket:
    description: Directory of the Unix socket.
    type: str
  login_db:
    description: Name of the database.
    type: str
  ssl_mode:
    description:
      - How far the encryption of the connection is demanded, as in libpq.
      - With O(database_url) the URL's own C(sslmode) and C(sslaccept) win over this option.
    type: str
    choices: [allow, disable, prefer, require, verify-ca, verify-full]
    default: prefer
  ca_cert:
    description: File with the certificate authority that the server's certificate is checked against.
    type: path
  ssl_cert:
    description: File with the client's certificate.
    type: path
  ssl_key:
    description: File with the client's private key.
    type: path
  connect_params:
    description: Further libpq connection parameters, which win over all others.
    type: dict
    default: {}
  connect_timeout:
    description: Seconds to wait for the server to answer.
    type: int
    default: 10
requirements:
  - psycopg2 >= 2.8 on the host that runs the module
"""
