# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Fixtures: a real PostgreSQL server per test process, databases on it, and the real Prisma CLI."""

from __future__ import annotations

import itertools
import json
import os
import pathlib
import shutil
import subprocess
import sys
import typing as t

import psycopg2
import pytest

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / ".collections"), str(ROOT), str(ROOT / "tests")]
# Child processes (modules, playbooks, CLI) find the collection in this checkout, too.
os.environ["ANSIBLE_COLLECTIONS_PATH"] = str(ROOT / ".collections")
os.environ["PYTHONPATH"] = str(ROOT / ".collections")
os.environ["PATH"] = os.path.dirname(sys.executable) + os.pathsep + os.environ["PATH"]

from ansible_collections.pgops.migrations.plugins.module_utils._url import Target  # noqa: E402
from support.modules import ModuleRunner  # noqa: E402
from support.prisma import PrismaProject, node_problem  # noqa: E402
from support.runbooks import Play  # noqa: E402

from tools.microcare import APP_ROLE, OWNER, Staging, stage  # noqa: E402
from tools.pgserver import Cluster  # noqa: E402

# The module's own arguments, as a test passes them for a target.
Connect = t.Callable[[str], t.Any]
_names = itertools.count(1)

#: Passwords of test roles hold what breaks naive code: URL, pgpass and shell specials.
PASSWORD = "p@ss:w/ord%é'\"\\ $x"


class TestCluster:
    """The server that the tests share, with the connection data of its superuser."""

    __test__ = False
    host = "127.0.0.1"

    def __init__(self, server: Cluster) -> None:
        self.server = server
        self.port = server.port
        self.superuser = server.superuser
        self.password = server.password
        self.bin_dir = server.bin_dir
        self.socket_dir = server.socket_dir
        self.major = server.version[0]
        self.settings = server.settings

    def admin(self, dbname: str = "postgres") -> t.Any:
        """A superuser's connection in autocommit mode; the caller closes it."""
        conn = psycopg2.connect(**self.server.connect_args(dbname))
        conn.autocommit = True
        return conn

    def superuser_target(self, dbname: str = "postgres", **more: t.Any) -> Target:
        return Target(dbname=dbname, host=self.host, port=self.port, user=self.superuser, password=self.password, **more)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[TestCluster]:
    """One private server per test process; logical WAL and prepared transactions are on for the refusals."""
    folder = tmp_path_factory.mktemp("server")
    # Autovacuum off: its transactions are commits of others, which rightly turn "clean" into "unknown".
    settings = {"wal_level": "logical", "autovacuum": "off", "max_prepared_transactions": "10", "max_replication_slots": "10", "max_wal_senders": "5"}
    with Cluster(folder, fast=True, settings=settings, temporary=True) as server:
        yield TestCluster(server)


@pytest.fixture
def admin(cluster: TestCluster) -> t.Iterator[Connect]:
    """Open superuser connections that are closed at the end of the test."""
    opened: list[t.Any] = []

    def connect(dbname: str = "postgres") -> t.Any:
        opened.append(cluster.admin(dbname))
        return opened[-1]

    yield connect
    for conn in opened:
        conn.close()


@pytest.fixture
def database(cluster: TestCluster, admin: Connect) -> t.Iterator[t.Callable[..., Target]]:
    """A factory of databases, each owned by its own plain role with CREATEDB; all are dropped at the end.

    Everything whose name starts with the name of such a database (kept, staging) goes, too.
    """
    conn = admin("postgres")
    made: list[tuple[str, str]] = []

    def make(name: str | None = None, *, createdb: bool = True, schema: str = "public") -> Target:
        number = "%d_%d" % (os.getpid(), next(_names))
        dbname, role = name or "db_%s" % number, "owner_%s" % number
        with conn.cursor() as cursor:
            cursor.execute("SELECT format('CREATE ROLE %%I LOGIN %%s PASSWORD %%L', %s, %s, %s)", (role, "CREATEDB" if createdb else "", PASSWORD))
            cursor.execute(cursor.fetchone()[0])
            cursor.execute("GRANT pg_signal_backend TO %s" % role)
            made.append((dbname, role))
            cursor.execute("SELECT format('CREATE DATABASE %%I OWNER %%I', %s, %s)", (dbname, role))
            cursor.execute(cursor.fetchone()[0])
        return Target(dbname=dbname, host=cluster.host, port=cluster.port, user=role, password=PASSWORD, schema=schema)

    yield make
    drop_databases(conn, made)


def drop_databases(conn: t.Any, made: t.Sequence[tuple[str, str]]) -> None:
    """Drop test databases with what a restore left beside them, and their roles."""
    with conn.cursor() as cursor:
        for _dbname, role in made:
            cursor.execute("SELECT datname FROM pg_database WHERE pg_get_userbyid(datdba) = %s", (role,))
            for (found,) in cursor.fetchall():
                # Slots and prepared transactions of a test hold its database.
                cursor.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = %s AND NOT active", (found,))
                cursor.execute("SELECT format('DROP DATABASE IF EXISTS %%I WITH (FORCE)', %s)", (found,))
                cursor.execute(cursor.fetchone()[0])
            cursor.execute("SELECT format('DROP ROLE IF EXISTS %%I', %s)", (role,))
            cursor.execute(cursor.fetchone()[0])


@pytest.fixture
def module(tmp_path: pathlib.Path) -> ModuleRunner:
    """Run a module of the collection as Ansible does: a process with JSON on standard input."""
    return ModuleRunner(tmp_path)


@pytest.fixture(scope="session")
def prisma_available() -> None:
    """Skip, with the reason, where the real Prisma CLI cannot run."""
    problem = node_problem(ROOT)
    if problem:
        pytest.skip(problem)


@pytest.fixture
def prisma(prisma_available: None, tmp_path: pathlib.Path) -> PrismaProject:
    """An empty Prisma project that uses the example's installed CLI."""
    return PrismaProject.create(ROOT, tmp_path / "project")


@pytest.fixture
def scratch(tmp_path: pathlib.Path) -> t.Iterator[pathlib.Path]:
    """A private folder (0700) that goes at the end even where a test left big files."""
    folder = tmp_path / "scratch"
    folder.mkdir(mode=0o700)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=[False], ids=["ok"])
def failing(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def staging(cluster: t.Any, admin: t.Any, tmp_path: pathlib.Path, failing: bool) -> t.Iterator[Staging]:
    """A MicroCare staging database with 2,000 rows, six migrations applied and four (or five) pending."""
    try:
        yield stage(cluster.server, tmp_path / "staging", rows=2000, failing=failing)
    finally:
        drop_databases(admin("postgres"), [("", OWNER), ("", APP_ROLE)])


@pytest.fixture
def play(tmp_path: pathlib.Path) -> Play:
    """Run a playbook of this checkout with the example inventory."""

    def run(name: str, staging: Staging, *arguments: str, url: str | None = None, **variables: t.Any) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "DATABASE_URL": url or staging.database_url, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "COLUMNS": "200"}
        extra = json.dumps({**staging.playbook_variables(), **variables})
        return subprocess.run(
            ["ansible-playbook", str(ROOT / "playbooks" / name), "-e", extra, *arguments],
            cwd=ROOT,
            env=env,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    return run
