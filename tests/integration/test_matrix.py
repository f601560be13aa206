# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PostgreSQL 14 to 18, each with client programs of its own version, of newer and of older ones."""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import can_serve
from conftest import TestCluster
from support.majors import MAJORS, clients, servers
from support.restorepoints import databases, execute, filled, fingerprint

from tools.pgserver import Cluster

MIGRATIONS = {
    "20260101000000_init": "CREATE TABLE parcels (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code text NOT NULL, weight numeric(8,2));\n"
    "CREATE TABLE stops (id serial PRIMARY KEY, parcel bigint NOT NULL REFERENCES parcels, at timestamptz NOT NULL DEFAULT now()) ;\n",
    "20260201000000_price": "ALTER TABLE parcels ADD COLUMN price numeric NOT NULL DEFAULT 0;\nALTER TABLE parcels DROP COLUMN weight;\n",
    "20260301000000_code": "CREATE UNIQUE INDEX parcels_code ON parcels (code);\n",
}


@pytest.fixture(scope="module", params=MAJORS, ids="PostgreSQL {}".format)
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[TestCluster]:
    """A server of each major version in turn, in place of the session's."""
    if request.param not in servers():
        pytest.skip("no PostgreSQL %d here: neither of the machine, nor of a wheel (make postgres-wheel), nor of npm (make servers)" % request.param)
    found = servers()[request.param]
    how: dict[str, t.Any] = {"source": "npm14"} if found.source == "npm" else {"pg_bin": found.bin_dir}
    with Cluster(tmp_path_factory.mktemp("major"), fast=True, temporary=True, **how) as server:
        assert server.version[0] == request.param
        yield TestCluster(server)


@pytest.mark.skipif(not (os.environ.get("CI") and shutil.which("npm")), reason="who works on the collection may have less")
def test_none_is_missing_where_all_are_installed() -> None:
    """Else a package that could not be had would make half of these tests skip, and nobody would see it."""
    assert set(servers()) >= {14, 16, 17, 18} and set(clients()) >= {16, 17, 18}


def expected(client: int, server: int) -> str:
    """How a backup by this client ends: "" or the code of its refusal."""
    return "" if can_serve(client, server) else "CLIENT_TOO_OLD" if client < server else "VERSION_MISMATCH"


def raw(program: str, *arguments: str, **connection: str) -> subprocess.CompletedProcess[str]:
    """A client program without the collection."""
    env = {**os.environ, "LC_ALL": "C", "PGHOST": "127.0.0.1", **connection}
    return subprocess.run([program, *arguments], env=env, capture_output=True, text=True, check=False)


def test_which_clients_can_serve_it_is_what_the_clients_say(cluster: TestCluster, admin: t.Any, tmp_path: pathlib.Path) -> None:
    """The rule that refuses, held against pg_dump and pg_restore themselves."""
    for name in ("source", "copy"):
        admin().cursor().execute("CREATE DATABASE %s" % name)
    connection = {"PGPORT": str(cluster.port), "PGUSER": cluster.superuser, "PGPASSFILE": str(cluster.server.pgpass_file)}
    said = {}
    for client, folder in clients().items():
        archive = tmp_path / str(client)
        dumped = raw(folder + "/pg_dump", "-Fc", "-f", str(archive), "source", **connection)
        restored = raw(folder + "/pg_restore", "--exit-on-error", "-d", "copy", str(archive), **connection) if dumped.returncode == 0 else dumped
        said[client] = restored.returncode == 0
        if client < cluster.major:
            assert "server version mismatch" in dumped.stderr
    assert said == {client: can_serve(client, cluster.major) for client in clients()}


def test_there_and_back(cluster: TestCluster, database: t.Any, admin: t.Any, module: t.Any, scratch: pathlib.Path) -> None:
    target = database('we"ird-%d; drop' % cluster.major)
    folder = scratch / "migrations"
    for name, text in MIGRATIONS.items():
        (folder / name).mkdir(parents=True)
        (folder / name / "migration.sql").write_text(text, encoding="utf-8")
    options = {"migrations_dir": str(folder)}
    first, *pending = MIGRATIONS
    assert module("migration_info", target, **options)["status"] == "empty"
    done = module("migration_deploy", target, engine="direct", up_to=first, monitor=False, **options)
    assert [each["name"] for each in done["applied"]] == [first], done
    execute(
        target,
        "INSERT INTO parcels (code, weight) SELECT 'p' || n, n / 7.0 FROM generate_series(1, 200) n",
        "INSERT INTO stops (parcel) SELECT id FROM parcels",
    )
    filled(target)
    state = module("migration_info", target, **options)
    assert (state["status"], state["pending"]) == ("pending", pending), state
    facts = module("database_info", target)
    assert not facts.get("failed") and facts["identity"]["server_version_num"] // 10000 == cluster.major, facts
    before = fingerprint(target)

    points = {}
    for client, bin_dir in clients().items():
        backups = scratch / ("backups_%d" % client)
        made = module("database_backup", target, backup_dir=str(backups), pg_bin_dir=bin_dir, run_id="r%d" % client)
        assert made.get("code", "") == expected(client, cluster.major), made
        if made.get("failed"):
            # Its message names both versions, and there is a next step.
            assert "PostgreSQL %d" % cluster.major in made["msg"] and bin_dir in made["msg"] and made["next_step"]
            assert not [path for path in backups.rglob("*") if path.is_file()]
        else:
            points[client] = made["restore_point"]
    assert set(points) == {client for client in clients() if can_serve(client, cluster.major)}
    snapshot = module("database_copy", target, verify=True, run_id="copy")["snapshot"]

    client = min(points)
    rehearsed = module(
        "migration_rehearsal", target, engine="direct", backup_dir=str(scratch / ("backups_%d" % client)), certificate_dir=str(scratch / "certificates"),
        pg_bin_dir=clients()[client], **options,
    )  # fmt: skip
    assert rehearsed.get("passed") and rehearsed["migrations"] == pending, rehearsed
    certificate = json.loads(pathlib.Path(rehearsed["certificate"]["path"]).read_text(encoding="utf-8"))
    assert fingerprint(target) == before and certificate["server_major"] == cluster.major

    deployed = module("migration_deploy", target, engine="direct", expected=pending, **options)
    assert [each["name"] for each in deployed["applied"]] == pending, deployed
    assert module("migration_info", target, **options)["status"] == "up_to_date"
    assert module("migration_deploy", target, engine="direct", **options)["changed"] is False
    assert fingerprint(target) != before

    # Back by each client that could make a restore point, and forward again.
    for client, point in points.items():
        back = module("database_restore", target, restore_point=point["path"], confirm=point["confirmation"], pg_bin_dir=clients()[client])
        assert (back["changed"], back["comparison"]) == (True, "equal") and fingerprint(target) == before, back
        again = module("migration_deploy", target, engine="direct", monitor=False, **options)
        assert [each["name"] for each in again["applied"]] == pending, again
    # And by the snapshot, which needs no client at all.
    back = module("database_restore", target, from_database=snapshot["name"], confirm=snapshot["confirmation"])
    assert back["changed"] and fingerprint(target) == before, back
    left = {name for name in databases(admin()) if name.startswith(target.dbname[:12]) and "__kept_" not in name}
    assert left == {target.dbname}, "no staging database is left"
