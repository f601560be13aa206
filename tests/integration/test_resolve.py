# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""migration_resolve: the rows of the real CLI, proof before anything is written, and the scripts out of a half-applied migration."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from support import crashes
from support.histories import LEDGER
from support.modules import ModuleRunner
from support.prisma import PrismaProject
from support.sites import Admin, Database, Site

X = "2_x"
TWO = "CREATE TABLE a (id int);\nCREATE TABLE b (id int);\n"
#: Rows of one name: finished, rolled back. Which resolve, and what the CLI says.
SHAPES: list[tuple[list[tuple[bool, bool]], str, str]] = [
    ([(False, False)], "rolled_back", ""), ([(False, False), (False, True), (False, False)], "applied", ""), ([(True, False)], "rolled_back", "P3012"),
    ([(True, False), (False, False)], "applied", "P3008"),
]  # fmt: skip


@pytest.fixture
def site(database: Database, admin: Admin, tmp_path: pathlib.Path) -> Site:
    target = database()
    return Site(target, tmp_path / "migrations", admin(target.dbname), admin(target.dbname))


def half(site: Site) -> None:
    """A migration of two statements that stopped between them."""
    assert crashes.end(site.start(TWO, mode="split", die="after_1")) != 0


def resolve(site: Site, module: ModuleRunner, state: str, **options: t.Any) -> dict[str, t.Any]:
    return module("migration_resolve", site.target, migrations_dir=str(site.folder), migration=X, state=state, **options)


def ledger(site: Site) -> t.Any:
    return site.query("SELECT id, finished_at, rolled_back_at, xmin::text FROM _prisma_migrations ORDER BY id")


@pytest.mark.prisma
def test_the_rows_of_the_real_cli(prisma: PrismaProject, database: Database, admin: Admin, module: ModuleRunner) -> None:
    prisma.add(X, TWO)
    for shape, state, refusal in SHAPES:
        seen = []
        for by_cli in (True, False):
            target = database()
            conn = admin(target.dbname)
            with conn.cursor() as cursor:
                cursor.execute(LEDGER)
                cursor.execute('ALTER TABLE _prisma_migrations OWNER TO "%s"' % target.user)
                for number, (finished, rolled_back) in enumerate(shape):
                    cursor.execute(
                        "INSERT INTO _prisma_migrations (id, checksum, migration_name, finished_at, rolled_back_at) VALUES (%s, %s, %s, %s, %s)",
                        (str(number), "0" * 64, X, "2024-01-01" if finished else None, "2024-01-02" if rolled_back else None),
                    )
                if by_cli:
                    said = prisma.cli(target, "migrate", "resolve", "--applied" if state == "applied" else "--rolled-back", X)
                    assert (said.returncode == 0) == (not refusal) and refusal in said.stderr, said.stderr
                else:
                    options = {"require_proof": False, "confirm": "%s %s" % (target.dbname, X)}
                    ours = module("migration_resolve", target, app_dir=str(prisma.path), migration=X, state=state, **options)
                    assert ours.get("prisma_code", "") == refusal, ours
                cursor.execute(
                    "SELECT length(id) = 36, checksum, migration_name, logs, applied_steps_count, finished_at IS NOT NULL, started_at = finished_at,"
                    " rolled_back_at IS NOT NULL, rolled_back_at > now() - interval '1 minute',"
                    " extract(milliseconds FROM finished_at) = floor(extract(milliseconds FROM finished_at)) FROM _prisma_migrations ORDER BY started_at, id"
                )
                seen.append(cursor.fetchall())
        assert seen[0] == seen[1], (shape, state)


def test_applied_where_it_was_committed(site: Site, module: ModuleRunner) -> None:
    assert crashes.end(site.start(TWO, die="after_script")) != 0
    before = ledger(site)
    said = resolve(site, module, "rolled_back")
    assert said["code"] == "RECOVERY_UNPROVED" and "state to applied" in said["next_step"] and ledger(site) == before
    check = resolve(site, module, "applied", check=True, diff=True)
    assert check["changed"] and check["proved"] and check["status"] == "blocked" and ledger(site) == before, check
    real = resolve(site, module, "applied", diff=True)
    assert real["changed"] and real["proved"] and real["status"] == "up_to_date" and real["diff"] == check["diff"], real
    assert real["migrations"][1]["flags"] == ["marked"]
    after = ledger(site)
    for check_mode in (True, False):
        assert resolve(site, module, "applied", check=check_mode)["changed"] is False
    # As the CLI, which finds nothing to mark: the unfinished row is marked already.
    said = resolve(site, module, "rolled_back")
    assert said["changed"] is False and said["resolved_to"] == "applied" and "no unfinished row" in str(said["warnings"]) and ledger(site) == after
    assert site.query("SELECT count(*) FROM pg_database WHERE datname LIKE '%scratch%'") == [(0,)]


def test_rolled_back_where_nothing_is_left(site: Site, module: ModuleRunner) -> None:
    assert crashes.end(site.start("CREATE TABLE a (id int);\nINSERT INTO users (id) VALUES (1);\n")) == 1
    assert resolve(site, module, "applied")["code"] == "RECOVERY_UNPROVED"
    real = resolve(site, module, "rolled_back")
    assert real["script_ran"] == "none" and real["script"] is None
    assert real["changed"] and real["proved"] and real["recovery"]["state"] == "failed_clean" and real["pending"] == [X], real
    assert resolve(site, module, "rolled_back")["changed"] is False
    site.add(X, TWO)
    assert module("migration_deploy", site.target, migrations_dir=str(site.folder), engine="direct")["status"] == "up_to_date"


def test_asking_does_not_use_up_the_evidence(site: Site, module: ModuleRunner) -> None:
    """On a quiet server the transactions prove what the schema cannot; a scratch database would add to them."""
    assert crashes.end(site.start("UPDATE users SET email = 'b';\nCREATE TABLE a (id int);\n", die="before_script")) != 0
    for _ in range(2):
        assert site.state() == "failed_clean"
    assert resolve(site, module, "rolled_back", check=True)["proved"] and resolve(site, module, "rolled_back")["proved"]


def test_nothing_without_proof_or_confirmation(site: Site, module: ModuleRunner) -> None:
    half(site)
    before = ledger(site)
    for state in ("applied", "rolled_back"):
        said = resolve(site, module, state)
        assert said["code"] == "RECOVERY_UNPROVED" and set(said["scripts"]) == {"after", "before"} and said["recovery"]["state"] == "failed_partial", said
        for option in (
            "migration_run_script=before",
            "migration_run_script=after",
            "migration_confirm=%s" % said["confirmation"],
            "migration_route=restore_point",
        ):
            assert "-e %s " % option in said["next_step"], said["next_step"]
    for check_mode, confirm in ((True, ""), (False, ""), (False, "yes"), (False, X)):
        unconfirmed = resolve(site, module, "applied", require_proof=False, replay=False, confirm=confirm, check=check_mode)
        assert unconfirmed["code"] == "CONFIRMATION_MISSING", unconfirmed
    assert ledger(site) == before
    said = resolve(site, module, "rolled_back", require_proof=False, replay=False, confirm="%s %s" % (site.target.dbname, X))
    assert said["changed"] and said["proved"] is False and "without proof" in str(said["warnings"])
    # Rolled back now: nothing was looked at, so nothing is proved.
    assert resolve(site, module, "applied")["code"] == "RECOVERY_UNPROVED"


def test_never_while_it_runs(site: Site, module: ModuleRunner) -> None:
    site.close_gate()
    client = site.start("ALTER TABLE gate ADD COLUMN x int;")
    crashes.until(site.at_gate)
    options = {"require_proof": False, "confirm": "%s %s" % (site.target.dbname, X)}
    for state in ("applied", "rolled_back"):
        assert resolve(site, module, state, **options)["code"] == "MIGRATION_RUNNING"
    site.open_gate()
    assert crashes.end(client) == 0


@pytest.mark.parametrize("way", ["after", "before"])
def test_the_script_out_of_a_half_applied_migration(way: str, site: Site, module: ModuleRunner) -> None:
    half(site)
    state, status = {"after": ("applied", "up_to_date"), "before": ("rolled_back", "pending")}[way]
    confirm = "%s %s" % (site.target.dbname, X)
    before = ledger(site)
    assert resolve(site, module, state, run_script=way)["code"] == "CONFIRMATION_MISSING"
    assert resolve(site, module, {"applied": "rolled_back", "rolled_back": "applied"}[state], run_script=way, confirm=confirm)["code"] == "OPTION_INVALID"
    refused = resolve(site, module, state, run_script=way)
    assert refused["code"] == "CONFIRMATION_MISSING" and "-e migration_confirm=%s " % refused["confirmation"] in refused["next_step"]
    for confirmed in ("", confirm):
        # What it would run, what it loses and what to type; without a confirmation, too.
        check = resolve(site, module, state, run_script=way, confirm=confirmed, check=True, diff=True)
        assert check["changed"] and check["proved"] and ledger(site) == before, check
        assert check["script"]["leads_to"] == way and check["script"]["sql"] and check["script_ran"] == "none", check
        assert check["confirmation"] == refused["confirmation"]
    real = resolve(site, module, state, run_script=way, confirm=check["confirmation"], diff=True)
    assert real["status"] == status and real["diff"] == check["diff"], real
    assert real["script"] == check["script"] and real["script_ran"] == way
    there = "SELECT to_regclass('a') IS NOT NULL, to_regclass('b') IS NOT NULL"
    assert site.query(there) == [(way == "after",) * 2]
    again = resolve(site, module, state, run_script=way, confirm=confirm)
    assert again["changed"] is False and again["script_ran"] == "none" and again["script"] is None


def test_a_script_that_fails_on_the_rows_is_undone(site: Site, module: ModuleRunner) -> None:
    """Proved on a copy without rows; the rows say no, and nothing of it remains."""
    site.query("INSERT INTO users (email) VALUES (NULL)")
    script = "CREATE TABLE a (id int);\nCREATE TABLE b (id int);\nALTER TABLE users ALTER COLUMN email SET NOT NULL;\n"
    assert crashes.end(site.start(script, mode="split", die="after_1")) != 0
    before = ledger(site)
    said = resolve(site, module, "applied", run_script="after", confirm="%s %s" % (site.target.dbname, X))
    assert said["code"] == "RECOVERY_SCRIPT_FAILED" and said["sqlstate"] == "23502", said
    assert "-e migration_route=restore_point " in said["next_step"], said["next_step"]
    assert ledger(site) == before and site.query("SELECT to_regclass('b')") == [(None,)]
    site.query("DELETE FROM users WHERE email IS NULL")
    assert resolve(site, module, "applied", run_script="after", confirm="%s %s" % (site.target.dbname, X))["status"] == "up_to_date"


def test_the_rest_runs_in_one_transaction_with_its_data(site: Site, module: ModuleRunner) -> None:
    script = "ALTER TABLE users ADD COLUMN c int;\nBEGIN;\nUPDATE users SET c = 7;\nALTER TABLE users ALTER COLUMN c SET NOT NULL;\nCOMMIT;\n"
    assert crashes.end(site.start(script, mode="split", die="after_1")) != 0
    assert resolve(site, module, "applied", run_script="after", confirm="%s %s" % (site.target.dbname, X))["status"] == "up_to_date"
    assert site.query("SELECT count(*) FROM users WHERE c = 7") == site.query("SELECT count(*) FROM users")


def test_an_invalid_index_goes_with_the_script_to_before(site: Site, module: ModuleRunner) -> None:
    assert crashes.end(site.start("CREATE UNIQUE INDEX CONCURRENTLY users_email ON users (email);")) == 1
    said = resolve(site, module, "rolled_back", run_script="before", confirm="%s %s" % (site.target.dbname, X))
    assert said["changed"] and said["pending"] == [X], said
    assert site.query("SELECT to_regclass('users_email')") == [(None,)]


def test_a_ledger_that_moves_is_refused(site: Site, module: ModuleRunner, admin: Admin) -> None:
    """Another session writes the same row while the module waits for Prisma's lock."""
    assert crashes.end(site.start(TWO, die="after_script")) != 0
    other = admin(site.target.dbname)
    with other.cursor() as cursor:
        process = module.start("migration_resolve", site.target, migrations_dir=str(site.folder), migration=X, state="applied", lock_wait=60)
        # After the look for a holder of the lock, which comes before the scratch database.
        crashes.until(lambda: site.query("SELECT count(*) FROM pg_database WHERE datname LIKE '%scratch%'") != [(0,)])
        cursor.execute("SELECT pg_advisory_lock(72707369)")
        cursor.execute("UPDATE _prisma_migrations SET logs = 'seen' WHERE finished_at IS NULL")
        cursor.execute("SELECT pg_advisory_unlock(72707369)")
    said = module.result(*process.communicate(timeout=60))
    assert said["code"] == "LEDGER_MOVED", said
    assert site.query("SELECT count(*) FROM _prisma_migrations WHERE migration_name = '%s'" % X) == [(1,)]


def test_refusals(site: Site, module: ModuleRunner) -> None:
    assert crashes.end(site.start(TWO, die="after_script")) != 0
    common = {"migrations_dir": str(site.folder)}
    assert module("migration_resolve", site.target, migration="nope", state="applied", **common)["prisma_code"] == "P3017"
    assert module("migration_resolve", site.target, migration="nope", state="rolled_back", **common)["prisma_code"] == "P3011"
    assert module("migration_resolve", site.target, migration="1_init", state="applied", **common)["changed"] is False
    assert resolve(site, module, "applied", assert_sql="SELECT 1")["code"] == "OPTION_INVALID"
    blocked = module("migration_deploy", site.target, engine="direct", **common)
    assert blocked["code"] == "UNFINISHED_MIGRATION" and "rollback.yml -e migration_targets=HOST" in blocked["next_step"]
