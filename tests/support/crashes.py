# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A client that migrates like Prisma's engines do, and can be killed at any point: a process of its own.

It writes the ledger as they do (four commits), sends the script whole (native engine up to 7.3)
or statement by statement (7.4 and later, driver adapters), and records what the server refuses.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

PROGRAM = r"""
import json, os, sys
import psycopg2
from ansible_collections.pgops.migrations.plugins.module_utils._sql import split
from ansible_collections.pgops.migrations.plugins.module_utils._folder import digest
order = json.load(sys.stdin)
conn = psycopg2.connect(**order["connect"])
conn.autocommit = True
cursor = conn.cursor()
for setting, value in order["settings"].items():
    cursor.execute("SELECT set_config(%s, %s, false)", (setting, value))
if order["lock"]:
    cursor.execute("SELECT pg_advisory_lock(72707369)")
cursor.execute("INSERT INTO _prisma_migrations (id, checksum, migration_name, started_at) VALUES (gen_random_uuid()::text, %s, %s, now()) RETURNING id",
               (digest(order["sql"]), order["name"]))
row = cursor.fetchone()
def die(where):
    if order["die"] == where:
        os.kill(os.getpid(), 9)
die("before_script")
try:
    if order["mode"] == "whole":
        cursor.execute(order["sql"])
    else:
        for number, statement in enumerate(split(order["sql"]), 1):
            cursor.execute(statement)
            die("after_%d" % number)
except psycopg2.Error as error:
    if conn.closed:
        sys.exit(3)
    if conn.info.transaction_status != 0:
        cursor.execute("ROLLBACK")
    cursor.execute("UPDATE _prisma_migrations SET logs = %s WHERE id = %s", ("Database error code: %s\n\nDatabase error:\nERROR: %s" % (error.pgcode, error), row))
    sys.exit(1)
die("after_script")
cursor.execute("UPDATE _prisma_migrations SET applied_steps_count = 1 WHERE id = %s", row)
die("after_steps")
cursor.execute("UPDATE _prisma_migrations SET finished_at = now() WHERE id = %s", row)
"""


def start(target: Target, name: str, sql: str, mode: str = "whole", die: str = "", lock: bool = True, **settings: str) -> subprocess.Popen[str]:
    """Begin one migration. ``die``: where the client kills itself. ``settings``: of the session."""
    connect = {"host": target.host, "port": target.port, "user": target.user, "password": target.password, "dbname": target.dbname}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    assert process.stdin is not None
    process.stdin.write(json.dumps({"connect": connect, "name": name, "sql": sql, "mode": mode, "die": die, "lock": lock, "settings": settings}))
    process.stdin.close()
    return process


def end(process: subprocess.Popen[str]) -> int:
    """Wait for the client; its exit status."""
    code = process.wait(timeout=60)
    assert process.stderr is not None
    process.stderr.close()
    return code


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    assert end(process) == -signal.SIGKILL


def until(condition: t.Callable[[], t.Any], seconds: float = 20.0) -> None:
    """Wait for a condition to hold."""
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit, "did not come about in %d s" % seconds
        time.sleep(0.02)
