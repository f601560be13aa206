# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A rehearsal on another server: nothing is made on that of the live database, and nothing stays on the other one."""

from __future__ import annotations

import contextlib
import pathlib
import typing as t

import psycopg2
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.restorepoints import execute, fingerprint
from test_rehearsal import BIO, Site, site  # noqa: F401 - a fixture

from tools.pgserver import Cluster


def databases(conn: t.Any) -> set[str]:
    with conn.cursor() as cursor:
        cursor.execute("SELECT datname FROM pg_database")
        return {name for (name,) in cursor.fetchall()}


def test_the_copy_is_made_there(site: Site, admin: t.Any, tmp_path: pathlib.Path) -> None:  # noqa: F811
    site.backup()
    site.add("2_bio", BIO)
    before, here = fingerprint(site.target), databases(admin("postgres"))
    with Cluster(tmp_path / "elsewhere", fast=True, temporary=True) as server, contextlib.closing(psycopg2.connect(**server.connect_args("postgres"))) as conn:
        conn.autocommit = True
        there = databases(conn)
        password = "s3cret p@ss"
        url = Target(dbname="postgres", host="127.0.0.1", port=server.port, user=site.target.user, password=password).prisma_url()
        with conn.cursor() as cursor:
            cursor.execute('CREATE ROLE "somebody"')
            # The roles are not there yet, and nothing is begun.
            refused = site.rehearse(elsewhere_url=url)
            assert refused["code"] == "AUTH_FAILED" and password not in str(refused), refused
            cursor.execute("CREATE ROLE %s LOGIN CREATEDB PASSWORD '%s'" % (site.target.user, password))
        done = site.rehearse(elsewhere_url=url)
        assert done.get("passed") and password not in str(done), done
        assert databases(conn) == there
        # The live server was busy with nothing: whoever looks at its log sees no copy.
        assert databases(admin("postgres")) == here and fingerprint(site.target) == before
        assert site.certified()["valid"] and site.rehearse(elsewhere_url=url)["reused"]
        execute(site.target, "ALTER TABLE visits ADD COLUMN by_hand int")
        assert site.rehearse(elsewhere_url=url)["code"] == "REHEARSAL_OUTDATED" and databases(conn) == there
    assert site.rehearse(elsewhere_url=url, source="template")["code"] == "OPTION_INVALID"
    assert site.rehearse(elsewhere_url=url)["code"] == "SERVER_UNREACHABLE"
