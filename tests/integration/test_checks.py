# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The module that runs the checks: a clean deploy passes them, and each of them fails for its own reason."""

from __future__ import annotations

import dataclasses
import http.server
import json
import pathlib
import sys
import threading
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._checks import DEFAULT
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from support.restorepoints import execute

from tools.pgserver import Cluster

INIT = """
CREATE TABLE "User" (id serial PRIMARY KEY, email text UNIQUE, role text);
CREATE TABLE pets (id serial PRIMARY KEY, owner int NOT NULL REFERENCES "User");
INSERT INTO "User" (email) SELECT 'u' || g FROM generate_series(1, 10) g;
INSERT INTO pets (owner) SELECT 1 + g % 10 FROM generate_series(1, 30) g;
"""


class Site:
    """A database whose migrations were deployed by the module, and what to ask the checks for it."""

    def __init__(self, target: t.Any, module: t.Any, folder: pathlib.Path) -> None:
        self.target, self.module, self.folder = target, module, folder
        self.add("1_init", INIT)
        (folder / "migration_lock.toml").write_text('provider = "postgresql"\n')
        self.deployed = module("migration_deploy", target, migrations_dir=str(folder), engine="direct")
        assert self.deployed["changed"], self.deployed

    def add(self, name: str, script: str) -> None:
        (self.folder / name).mkdir(parents=True, exist_ok=True)
        (self.folder / name / "migration.sql").write_text(script)

    def ask(self, *checks: str, **options: t.Any) -> dict[str, t.Any]:
        """The result; with one check, that check alone."""
        if checks:
            options["checks"] = list(checks)
        found = self.module("database_checks", self.target, migrations_dir=str(self.folder), **options)
        assert not found.get("failed"), found
        assert found["changed"] is False
        return t.cast("dict[str, t.Any]", found["checks"][0] if len(checks) == 1 else found)


@pytest.fixture
def site(database: t.Any, module: t.Any, tmp_path: pathlib.Path) -> Site:
    return Site(database(), module, tmp_path / "migrations")


def test_a_clean_deploy_passes_every_check_that_can_be_made(site: Site) -> None:
    found = site.ask(deploy=site.deployed)
    assert [check["name"] for check in found["checks"]] == list(DEFAULT)
    assert {check["verdict"] for check in found["checks"]} == {"pass", "skipped"} and found["failing"] == []
    skipped = {check["name"]: check["text"] for check in found["checks"] if check["verdict"] == "skipped"}
    # A deploy may be over before anybody looked.
    assert set(skipped) - {"blocking_time"} == {"application_role", "smoke_sql", "custom", "smoke_commands", "http"} and all(skipped.values())
    made = len(DEFAULT) - len(skipped)
    assert (found["verdict"], found["text"]) == ("pass", "%d of %d checks passed." % (made, made)) and made >= 12


def test_the_line_names_what_failed_and_tolerated_checks_only_warn(site: Site) -> None:
    execute(site.target, "SELECT setval('pets_id_seq', 5)")
    found = site.ask()
    assert found["failing"] == ["sequences"] and found["verdict"] == "fail"
    assert found["text"].startswith("1 of 8 checks failed. sequences: 1 sequence is behind: public.pets_id_seq (next 6, in public.pets.id up to 30).")
    tolerated = site.ask(tolerate=["sequences"])
    assert (tolerated["verdict"], tolerated["failing"]) == ("warn", [])


def test_check_mode_only_reads(site: Site, tmp_path: pathlib.Path) -> None:
    found = site.ask("smoke_commands", "drift", smoke_commands=[{"argv": "touch %s" % (tmp_path / "made")}], check=True)
    assert [check["text"] for check in found["checks"]] == ["Not in check mode."] * 2 and not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("plant", "verdict", "said"),
    [
        ("UPDATE _prisma_migrations SET checksum = 'x'", "fail", "edited: 1_init"),
        ("UPDATE _prisma_migrations SET finished_at = NULL", "fail", "unfinished"),
        ("INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at) VALUES ('x', 'x', '0_gone', now())", "fail", "missing_locally: 0_gone"),
        ("", "warn", "not applied: 2_more"),
    ],
)
def test_the_ledger(site: Site, plant: str, verdict: str, said: str) -> None:
    assert site.ask("ledger")["verdict"] == "pass"
    if plant:
        execute(site.target, plant)
    else:
        site.add("2_more", "SELECT 1")
    found = site.ask("ledger")
    assert found["verdict"] == verdict and said in found["text"], found


@pytest.mark.parametrize(
    ("plant", "said"),
    [
        ("ALTER TABLE pets ALTER COLUMN owner DROP NOT NULL", "column public.pets.owner"),
        ("CREATE TABLE extra (a int)", "The table public.extra is new"),
        ("ALTER TABLE pets DROP CONSTRAINT pets_owner_fkey", "pets_owner_fkey"),
        ("CREATE INDEX by_hand ON pets (owner)", "by_hand"),
    ],
)
def test_drift(site: Site, plant: str, said: str) -> None:
    execute(site.target, plant)
    found = site.ask("drift")
    assert found["verdict"] == "fail" and said in found["text"], found


def test_rights_that_were_given_by_hand_are_no_drift_and_are_shown(site: Site) -> None:
    execute(site.target, "GRANT SELECT ON pets TO PUBLIC", "COMMENT ON TABLE pets IS 'by hand'")
    found = site.ask("drift")
    assert found["verdict"] == "pass" and found["text"].endswith("but for 2 rights, owners or comments.")
    assert all(each["by_hand"] for each in found["evidence"])


def test_drift_that_cannot_be_told_says_why(database: t.Any, module: t.Any, tmp_path: pathlib.Path) -> None:
    site = Site(database(createdb=False), module, tmp_path / "migrations")
    found = site.ask("drift")
    assert found["verdict"] == "skipped" and "PERMISSION_DENIED" in found["text"], found


def test_a_check_that_takes_too_long_is_skipped_and_says_so(site: Site, tmp_path: pathlib.Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (own / "slow.sql").write_text("SELECT pg_sleep(5)")
    found = site.ask("custom", custom_sql_dir=str(own), timeout=0.2)
    assert found["verdict"] == "fail" and "statement timeout" in found["text"]
    with connection(site.target) as conn, conn.cursor() as cursor:
        cursor.execute("BEGIN; LOCK TABLE pets")
        blocked = site.ask("sequences", "disabled_triggers", timeout=0.3)
    first, second = blocked["checks"]
    assert (first["verdict"], second["verdict"], blocked["verdict"]) == ("skipped", "pass", "pass"), "and none holds up another"
    assert "longer than 0.3 s" in first["text"] or "LOCK_TIMEOUT" in first["text"]


def test_the_budget(site: Site) -> None:
    fast = site.ask("deploy_time", deploy={"seconds": 2.5, "applied": [{"name": "a", "seconds": 1.0}, {"name": "b", "seconds": 1.5}]})
    assert fast["verdict"] == "pass" and "the slowest: b with 1.5 s" in fast["text"] and fast["limit"] == 300
    slow = site.ask("deploy_time", deploy={"seconds": 2.5, "applied": [{"name": "a", "seconds": 2.5}]}, max_deploy_seconds=2)
    assert slow["verdict"] == "fail" and slow["text"].startswith("The deploy took longer than 2 s")


def test_smoke_scripts_leave_nothing_and_may_not_commit(site: Site, tmp_path: pathlib.Path) -> None:
    files = {
        "a_good.sql": "INSERT INTO \"User\" (email) VALUES ('smoke'); SELECT count(*) FROM pets",
        "b_bad.sql": "SELECT no_such_column FROM pets",
        "c_commits.sql": "INSERT INTO \"User\" (email) VALUES ('kept'); COMMIT",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    good = site.ask("smoke_sql", smoke_sql=[str(tmp_path / "a_good.sql")])
    assert (good["verdict"], good["text"]) == ("pass", "1 smoke script is fine.")
    found = site.ask("smoke_sql", smoke_sql_dir=str(tmp_path))
    assert found["verdict"] == "fail" and [bool(each["error"]) for each in found["evidence"]] == [False, True, True]
    assert 'column "no_such_column" does not exist' in found["text"]
    assert execute(site.target, 'SELECT count(*) FROM "User"') == [(10,)], "nothing of it lasts"
    missing = site.module("database_checks", site.target, smoke_sql=[str(tmp_path / "none.sql")])
    assert missing["failed"] and missing["code"] == "OPTION_INVALID"


def test_a_check_of_your_own_fails_for_each_row_and_keeps_none(site: Site, tmp_path: pathlib.Path) -> None:
    (tmp_path / "no_role.sql").write_text('SELECT id, email FROM "User" WHERE role IS NULL')
    found = site.ask("custom", custom_sql=[str(tmp_path / "no_role.sql")])
    assert found["verdict"] == "fail" and "no_role.sql: 10 rows" in found["text"] and "u1" not in json.dumps(found)
    (tmp_path / "no_role.sql").write_text("DELETE FROM pets RETURNING id")
    assert "read-only" in site.ask("custom", custom_sql=[str(tmp_path / "no_role.sql")])["text"]
    (tmp_path / "no_role.sql").write_text("SELECT 1 WHERE false")
    assert site.ask("custom", custom_sql=[str(tmp_path / "no_role.sql")])["text"] == "1 check of your own is fine."


def test_smoke_commands(site: Site, tmp_path: pathlib.Path) -> None:
    tell = "%s -c \"import os; print('at', os.getcwd()); print(os.environ['DATABASE_URL'])\"" % sys.executable
    found = site.ask("smoke_commands", smoke_commands=[{"argv": tell, "chdir": str(tmp_path), "name": "tell"}])
    (told,) = found["evidence"]
    assert found["verdict"] == "pass" and "at %s" % tmp_path in told["output"]
    assert "********" in told["output"]
    assert all(secret not in json.dumps(found) for secret in site.target.secrets())
    failing = site.ask("smoke_commands", smoke_commands=[{"argv": "false"}, {"argv": "no-such-program"}, {"argv": "sleep 30", "timeout": 0.2}])
    assert [each["error"] for each in failing["evidence"]] == [
        "ended with exit code 1", "cannot be started (No such file or directory)", "did not end in time",
    ]  # fmt: skip
    assert failing["text"].startswith("3 of 3 failed: false ended with exit code 1")


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(503 if self.path.startswith("/down") else 200)
        self.end_headers()
        self.wfile.write(b"all is ok")

    def log_message(self, *_args: t.Any) -> None:
        """Quiet."""


def test_http_probes(site: Site) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), _Answers) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        base = "http://127.0.0.1:%d" % server.server_port
        good = site.ask("http", http_probes=[{"url": base + "/health?token=secret", "contains": "is ok"}, {"url": base + "/down", "status": 503}])
        assert good["verdict"] == "pass" and "secret" not in json.dumps(good)
        bad = site.ask("http", http_probes=[{"url": base + "/down"}, {"url": base + "/health", "contains": "sad"}])
        assert [each["error"] for each in bad["evidence"]] == ["answered 503 instead of 200", "answered without the text that is wanted"]
        server.shutdown()
    assert site.ask("http", http_probes=[{"url": base}])["verdict"] == "fail"


def test_the_application_must_read_what_is_new(site: Site, admin: t.Any, tmp_path: pathlib.Path) -> None:
    role = "app_of_%s" % site.target.dbname
    before = str(tmp_path / "before.json")
    conn = admin(site.target.dbname)
    with conn.cursor() as cursor:
        cursor.execute("CREATE ROLE %s LOGIN PASSWORD 'app secret'" % role)
        cursor.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO %s" % role)
        try:
            assert site.module("database_fingerprint", site.target, dest=before, level="counts")["changed"]
            url = "postgresql://%s:app%%20secret@%s:%d/%s" % (role, site.target.host, site.target.port, site.target.dbname)
            assert site.ask("application_role", application_url=url, before=before)["verdict"] == "pass"
            execute(site.target, "REVOKE SELECT ON pets FROM %s" % role)
            old = site.ask("application_role", application_url=url, before=before)
            assert old["verdict"] == "warn" and "public.pets" in old["text"]
            execute(site.target, "CREATE TABLE fresh (a int)")
            new = site.ask("application_role", application_url=url, before=before)
            assert new["verdict"] == "fail" and "public.fresh" in new["text"]
            locked_out = site.ask("application_role", application_url=url.replace("app%20secret", "wrong"))
            assert locked_out["verdict"] == "fail" and "AUTH_FAILED" in locked_out["text"]
            other = site.ask("application_role", application_url=url + "_other")
            assert other["verdict"] == "skipped"
        finally:
            cursor.execute("DROP OWNED BY %s; DROP ROLE %s" % (role, role))


def test_smoke_sql_meets_what_a_commit_would_have_met(site: Site, tmp_path: pathlib.Path) -> None:
    execute(site.target, 'CREATE TABLE late (a int REFERENCES "User" DEFERRABLE INITIALLY DEFERRED)')
    (tmp_path / "late.sql").write_text("INSERT INTO late VALUES (4711)")
    found = site.ask("smoke_sql", smoke_sql_dir=str(tmp_path))
    assert found["verdict"] == "fail" and "late_a_fkey" in found["text"], found


def test_names_without_a_schema_are_looked_for_in_that_of_the_url(database: t.Any, module: t.Any, tmp_path: pathlib.Path) -> None:
    site = Site(database(schema="App Data"), module, tmp_path / "migrations")
    assert site.ask("drift")["verdict"] == "pass"
    execute(site.target, "CREATE TABLE besides (a int)")
    own = tmp_path / "own.sql"
    own.write_text("SELECT pets.id FROM pets, besides WHERE pets.id < 0")
    found = site.ask("smoke_sql", "custom", "ledger", "sequences", smoke_sql=[str(own)], custom_sql=[str(own)])
    assert [check["verdict"] for check in found["checks"]] == ["pass"] * 4, found


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"smoke_commands": [{"argv": "echo 'open"}]}, "cannot be split into words"),
        ({"http_probes": [{"url": "http://127.0.0.1:1/", "contains": "("}]}, "is no regular expression"),
    ],
)
def test_options_that_cannot_be_right(site: Site, options: dict[str, t.Any], said: str) -> None:
    found = site.module("database_checks", site.target, **options)
    assert found["failed"] and found["code"] == "OPTION_INVALID" and said in found["msg"], found


def test_a_file_that_is_no_text_fails_its_check(site: Site, tmp_path: pathlib.Path) -> None:
    (tmp_path / "a.sql").write_bytes(b"SELECT '\xff\xfe'")
    (tmp_path / "b.sql").write_bytes(b"SELECT 1\0")
    (tmp_path / "c.sql").write_bytes(b"-- nothing\n")
    found = site.ask("custom", custom_sql_dir=str(tmp_path))
    assert found["verdict"] == "fail" and found["text"].startswith("3 of 3 failed"), found
    assert [each["error"] for each in found["evidence"]] == ["it is not UTF-8", "it holds a null character", "it holds no statement"]


def test_the_application_on_another_server_or_schema_is_not_taken_for_this_one(site: Site, tmp_path: pathlib.Path) -> None:
    url = site.target.prisma_url()
    assert site.ask("application_role", application_url=url)["verdict"] == "pass"
    other = site.ask("application_role", application_url=url.replace("schema=public", "schema=other"))
    assert other["verdict"] == "skipped" and "schema other and not public" in other["text"], other
    with Cluster(tmp_path / "server", fast=True, temporary=True) as server:
        away = dataclasses.replace(site.target, port=server.port, user=server.superuser, password=server.password)
        execute(dataclasses.replace(away, dbname="postgres"), 'CREATE DATABASE "%s"' % site.target.dbname)
        elsewhere = site.ask("application_role", application_url=away.prisma_url())
    assert elsewhere["verdict"] == "skipped" and "another server" in elsewhere["text"], elsewhere
