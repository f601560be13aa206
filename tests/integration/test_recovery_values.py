# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Unfinished migrations whose rows and values the schema does not show: objects made by hand before, sequences, data steps."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from support import crashes
from support.modules import ModuleRunner
from support.prisma import PrismaProject
from support.sites import INIT_SQL, Admin, Database, Site

CLEAN, PARTIAL, UNRECORDED, UNKNOWN = "failed_clean", "failed_partial", "committed_unrecorded", "unknown"
X = "2_x"
INDEX = "CREATE INDEX users_email ON users (email);\n"
COLUMN = "ALTER TABLE users ADD COLUMN c int;\n"
FILL = "UPDATE users SET email = 'b';\n"
SETTER = "CREATE FUNCTION begin_anew() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM setval('users_id_seq', 1000); END $$"


@pytest.fixture
def site(database: Database, admin: Admin, tmp_path: pathlib.Path) -> Site:
    target = database()
    return Site(target, tmp_path / "migrations", admin(target.dbname), admin(target.dbname))


@pytest.fixture
def noise(site: Site) -> t.Callable[[], None]:
    """A transaction of somebody else's, so that the transactions of the server prove nothing."""
    return lambda: site.query("CREATE TABLE IF NOT EXISTS noise (id int); INSERT INTO noise VALUES (1)")


#: what somebody did by hand before the migration, its script, how it is run, what is known of it.
BY_HAND: dict[str, tuple[str, str, dict[str, t.Any], str]] = {
    "killed_before_it": (INDEX, INDEX + FILL, {"die": "before_script"}, UNKNOWN),
    "refused_over_it": (INDEX, INDEX + FILL, {}, CLEAN),
    "refused_over_it_split": (INDEX, INDEX + FILL, {"mode": "split"}, CLEAN),
    "data_first_killed": (INDEX, FILL + INDEX, {"die": "before_script"}, UNKNOWN),
    "data_first_refused_whole": (INDEX, FILL + INDEX, {}, UNKNOWN),
    "data_first_refused_split": (INDEX, FILL + INDEX, {"mode": "split"}, UNKNOWN),
    "in_one_transaction": (INDEX, "BEGIN;\n" + INDEX + FILL + "COMMIT;\n", {"die": "before_script"}, UNKNOWN),
    "behind_another": (INDEX, COLUMN + INDEX + FILL, {"mode": "split"}, PARTIAL),
    "a_column": (COLUMN, COLUMN + FILL, {"mode": "split"}, CLEAN),
    "a_column_that_was_dropped": ("ALTER TABLE users DROP COLUMN email", "DELETE FROM users;\nALTER TABLE users DROP COLUMN email;\n", {"die": "before_script"}, UNKNOWN),
    "a_rule_that_was_set": ("ALTER TABLE users ALTER email SET NOT NULL", FILL + "ALTER TABLE users ALTER COLUMN email SET NOT NULL;\n", {"die": "before_script"}, UNKNOWN),
    "an_error_caught": (INDEX, "DO $$ BEGIN CREATE INDEX users_email ON users (email); EXCEPTION WHEN duplicate_table THEN NULL; END $$;\n" + FILL,
                        {"mode": "split", "die": "after_2"}, UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("case", BY_HAND)
def test_made_by_hand_before(case: str, site: Site, noise: t.Callable[[], None]) -> None:
    before, script, how, state = BY_HAND[case]
    site.query(before)
    assert crashes.end(site.start(script, **how)) != 0
    noise()
    [entry] = site.examine()
    assert entry["state"] == state, (entry["reason"], entry["by_schema"])
    if state in (CLEAN, PARTIAL):
        assert "was there" in entry["reason"] or "there before the migration began" in entry["reason"]
    # The hand-made index is nobody's to drop.
    assert not [script for script in (entry["scripts"] or {}).values() if script["proved"] and "DROP INDEX" in script["sql"]]


@pytest.mark.parametrize(("script", "how"), [(INDEX + FILL, {"die": "before_script"}), ("BEGIN;\n" + INDEX + FILL + "COMMIT;\n", {"die": "before_script"})])
def test_made_by_hand_before_the_last_deploy(script: str, how: dict[str, t.Any], site: Site, noise: t.Callable[[], None]) -> None:
    """That it is older than the migration is proved, so the step that makes it did not run."""
    site.query(INDEX)
    site.add("1_z", "SELECT 1;")
    assert crashes.end(crashes.start(site.target, "1_z", "SELECT 1;")) == 0
    assert crashes.end(site.start(script, **how)) != 0
    noise()
    [entry] = site.examine()
    assert entry["state"] == CLEAN and "there before the migration began" in entry["reason"], entry["reason"]


def test_a_ledger_row_that_somebody_wrote_again(site: Site, noise: t.Callable[[], None]) -> None:
    """Marked as finished by hand, and taken back: the row is younger than what the migration has made."""
    assert crashes.end(site.start(INDEX + FILL, mode="split", die="after_2")) != 0
    site.query("UPDATE _prisma_migrations SET finished_at = now() WHERE finished_at IS NULL")
    site.query("UPDATE _prisma_migrations SET finished_at = NULL WHERE migration_name = '2_x'")
    noise()
    assert site.state() == UNKNOWN


#: The same scripts where the migration did it itself: the useful answer stays.
BY_ITSELF: dict[str, tuple[str, dict[str, t.Any], str]] = {
    "data_then_index": (FILL + INDEX, {"die": "after_script"}, UNRECORDED),
    "data_then_drop": ("UPDATE users SET id = id + 0;\nALTER TABLE users DROP COLUMN email;\n", {"die": "after_script"}, UNRECORDED),
    "the_usual_three": (COLUMN + "UPDATE users SET c = 1;\nALTER TABLE users ALTER COLUMN c SET NOT NULL;\n", {"die": "after_script"}, UNRECORDED),
    "one_transaction": ("BEGIN;\n" + INDEX + FILL + "COMMIT;\n", {"die": "after_script"}, UNRECORDED),
    "index_then_data": (INDEX + FILL, {"die": "after_script"}, UNKNOWN),
    # Which tables code writes to is not known, so no row of it proves that it ran.
    "code_then_table": ("DO $$ BEGIN UPDATE users SET email = 'b'; END $$;\nCREATE TABLE b (id serial PRIMARY KEY);\n", {"die": "after_script"}, UNKNOWN),
}


@pytest.mark.parametrize("case", BY_ITSELF)
def test_made_by_the_migration(case: str, site: Site, noise: t.Callable[[], None]) -> None:
    script, how, state = BY_ITSELF[case]
    assert crashes.end(site.start(script, **how)) != 0
    noise()
    [entry] = site.examine()
    assert entry["state"] == state, (entry["reason"], entry["by_schema"])


@pytest.mark.prisma
def test_the_real_cli_over_an_index_made_by_hand(prisma: PrismaProject, site: Site, module: ModuleRunner) -> None:
    prisma.add("1_init", INIT_SQL)
    prisma.add(X, INDEX + FILL)
    site.query(INDEX)
    assert prisma.cli(site.target, "migrate", "deploy").returncode == 1
    site.query("CREATE TABLE noise (id int)")
    [entry] = module("migration_recovery_info", site.target, app_dir=str(prisma.path), replay=True)["migrations"]
    assert entry["state"] == CLEAN and "users_email" in entry["reason"], entry
    assert site.query("SELECT count(*) FROM users WHERE email = 'b'") == [(0,)]


#: script, how it is run, what somebody does by hand after the client had died. Whether the data steps ran is not proved.
AFTERWARDS: dict[str, tuple[str, dict[str, t.Any], str]] = {
    "column": (FILL + COLUMN, {"die": "before_script"}, COLUMN),
    "column_written_anew": (FILL + "ALTER TABLE users ADD COLUMN c uuid DEFAULT gen_random_uuid();\n", {"die": "before_script"}, "ALTER TABLE users ADD COLUMN c uuid DEFAULT gen_random_uuid()"),
    "table": ("INSERT INTO users (email) VALUES ('x');\nCREATE TABLE b (id int);\n", {"die": "before_script"}, "CREATE TABLE b (id int)"),
    "split": ("CREATE TABLE a (id int);\n" + FILL + "CREATE TABLE b (id int);\n", {"mode": "split", "die": "after_1"}, "CREATE TABLE b (id int)"),
    "delete": (COLUMN + "DELETE FROM users;\nALTER TABLE users DROP COLUMN email;\n", {"mode": "split", "die": "after_1"}, "ALTER TABLE users DROP COLUMN email"),
    "table_taken_back": ("CREATE TABLE b (id int);\nINSERT INTO users (email) VALUES ('x');\n", {"die": "after_script"}, "DROP TABLE b"),
    "index_taken_back": (INDEX + FILL, {"die": "after_script"}, "DROP INDEX users_email"),
    "index_taken_back_delete": (INDEX + "DELETE FROM users;\n", {"die": "after_script"}, "DROP INDEX users_email"),
    "default_taken_back": ("ALTER TABLE users ALTER email SET DEFAULT 'n';\n" + FILL, {"die": "after_script"}, "ALTER TABLE users ALTER email DROP DEFAULT"),
}  # fmt: skip


@pytest.mark.parametrize("case", AFTERWARDS)
def test_done_or_taken_back_by_hand_afterwards(case: str, site: Site) -> None:
    script, how, by_hand = AFTERWARDS[case]
    site.query('ALTER TABLE users OWNER TO "%s"' % site.target.user)
    assert crashes.end(site.start(script, **how)) != 0
    site.query(by_hand)
    [entry] = site.examine()
    assert entry["state"] == UNKNOWN and "migration_assert_sql" in entry["reason"], (entry["reason"], entry["by_schema"])


CALLS = [
    "SELECT begin_anew();",
    "DO $$ BEGIN PERFORM begin_anew(); END $$;",
    "UPDATE users SET email = begin_anew()::text;",
    "SELECT nested();",
    "DELETE FROM users;",
]


@pytest.mark.parametrize("loud", [False, True], ids=["quiet", "busy"])
@pytest.mark.parametrize("call", CALLS)
def test_a_sequence_that_a_called_function_set(call: str, loud: bool, site: Site, noise: t.Callable[[], None]) -> None:
    """The run is refused and rolled back; the sequence stays where the function set it."""
    site.query(SETTER)
    site.query("CREATE FUNCTION nested() RETURNS void LANGUAGE sql AS 'SELECT begin_anew()'")
    site.query("CREATE FUNCTION on_delete() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM begin_anew(); RETURN OLD; END $$")
    site.query("CREATE TRIGGER t BEFORE DELETE ON users FOR EACH ROW EXECUTE FUNCTION on_delete()")
    assert crashes.end(site.start("CREATE TABLE a (id int);\n%s\nSELECT 1/0;\n" % call)) == 1
    assert site.query("SELECT last_value FROM users_id_seq") == [(1000,)] and site.query("SELECT to_regclass('a')") == [(None,)]
    if loud:
        noise()
    [entry] = site.examine()
    assert entry["state"] == UNKNOWN and "begin_anew" in entry["reason"], entry["reason"]


@pytest.mark.parametrize("loud", [False, True], ids=["quiet", "busy"])
def test_numbers_that_were_given_out_lose_nothing(loud: bool, site: Site, noise: t.Callable[[], None]) -> None:
    assert crashes.end(site.start("CREATE TABLE a (id int);\nINSERT INTO users (email) VALUES ('x');\nSELECT 1/0;\n")) == 1
    assert site.query("SELECT last_value FROM users_id_seq") == [(3,)]
    if loud:
        noise()
    [entry] = site.examine()
    assert entry["state"] == CLEAN and "gaps" in entry["reason"], entry["reason"]


def test_the_scripts_say_what_becomes_of_rows(site: Site) -> None:
    script = COLUMN + FILL + "CREATE TABLE b (id int);\nDROP TABLE gate;\nDELETE FROM users WHERE email = 'b';\n"
    assert crashes.end(site.start(script, mode="split", die="after_3")) != 0
    [entry] = site.examine()
    assert entry["state"] == PARTIAL, entry["reason"]
    before, after = entry["scripts"]["before"], entry["scripts"]["after"]
    assert any("step 2" in text and "UPDATE users" in text and "not undone" in text for text in before["loses"]), before
    assert not after["sql"] and not after["proved"] and "step 2 (UPDATE users" in after["why"], "nobody saw it run"


def test_a_step_that_somebody_made_by_hand_proves_nothing_of_those_before(site: Site) -> None:
    """Killed after the first step; the third was made by hand. To leave the second out would lose what it fills."""
    script = COLUMN + FILL + "CREATE TABLE b (id int);\nCREATE TABLE c (id int);\n"
    assert crashes.end(site.start(script, mode="split", die="after_1")) != 0
    site.query('CREATE TABLE b (id int); ALTER TABLE b OWNER TO "%s"' % site.target.user)
    [entry] = site.examine()
    assert entry["state"] in (PARTIAL, UNKNOWN), entry["reason"]
    after = entry["scripts"].get("after", {"proved": False, "sql": ""})
    assert not after["proved"] and not after["sql"], after
    [entry] = site.examine(assert_sql="SELECT true")
    after = entry["scripts"]["after"]
    assert after["proved"] and "CREATE TABLE c" in after["sql"], after


def test_a_script_whose_end_is_not_known_has_no_after(site: Site) -> None:
    """Two data steps behind each other: which of them ran is not known, so no script can run the rest."""
    assert crashes.end(site.start(COLUMN + FILL + "DELETE FROM users;\nCREATE TABLE b (id int);\n", mode="split", die="after_2")) != 0
    [entry] = site.examine()
    assert entry["state"] == PARTIAL and "DELETE FROM users" in entry["scripts"]["after"]["why"] and entry["scripts"]["after"]["sql"] == "", entry["scripts"][
        "after"
    ]
    assert any("may have" in text and "step 3" in text for text in entry["scripts"]["before"]["loses"]), entry["scripts"]["before"]


@pytest.mark.parametrize(
    "other", ["DROP SCHEMA app CASCADE;", "ALTER SCHEMA app RENAME TO old;", "DO $$ BEGIN EXECUTE 'DROP TABLE ' || 'app.' || 'a'; END $$;"]
)
def test_another_unfinished_migration_that_does_not_name_the_object(other: str, site: Site) -> None:
    """It took away what the first had committed, and died, too: nothing shows of the first."""
    first = "CREATE TABLE app.a (id int);\n" + FILL
    site.add("1_schema", "CREATE SCHEMA app;")
    assert crashes.end(crashes.start(site.target, "1_schema", "CREATE SCHEMA app;")) == 0
    assert crashes.end(site.start(first, die="after_script")) != 0
    site.add("3_y", other)
    assert crashes.end(crashes.start(site.target, "3_y", other, die="after_script")) != 0
    assert site.query("SELECT to_regclass('app.a')") == [(None,)]
    entry = site.examine()[0]
    assert entry["name"] == X and entry["state"] == UNKNOWN and "3_y" in entry["reason"], entry


def test_a_function_that_analyzes_is_not_taken_for_autovacuum(site: Site) -> None:
    """Its transaction writes statistics, as autovacuum's do; what it did to rows is committed."""
    site.query("CREATE FUNCTION fill() RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE users SET email = 'b'; EXECUTE 'ANALYZE users'; END $$")
    site.query('ALTER TABLE users OWNER TO "%s"' % site.target.user)
    # As a superuser has it, the usual role of a deploy.
    site.query('GRANT SELECT ON pg_statistic TO "%s"' % site.target.user)
    assert crashes.end(site.start("SELECT fill();\nCREATE TABLE a (id int);\n", mode="split", die="after_1")) != 0
    assert site.query("SELECT count(*) FROM users WHERE email = 'b'") == [(2,)]
    for replay in (False, True):
        [entry] = site.examine(replay=replay)
        assert entry["state"] == UNKNOWN, entry


EXPRESSIONS = {
    "view": ("CREATE VIEW v AS SELECT begin_anew()::text AS x", "SELECT * FROM v;"),
    "default": ("ALTER TABLE users ADD COLUMN d text DEFAULT begin_anew()::text", "INSERT INTO users (email) VALUES ('x');"),
    "check": ("ALTER TABLE gate ADD CHECK (begin_anew() IS NOT NULL)", "INSERT INTO gate VALUES (1);"),
    "rule": ("CREATE RULE r AS ON INSERT TO gate DO ALSO SELECT begin_anew()", "INSERT INTO gate VALUES (1);"),
}


@pytest.mark.parametrize("case", EXPRESSIONS)
def test_a_sequence_that_was_set_without_naming_a_function(case: str, site: Site) -> None:
    made, call = EXPRESSIONS[case]
    site.query(SETTER)
    site.query(made)
    site.query("GRANT ALL ON ALL TABLES IN SCHEMA public TO PUBLIC")
    site.query("SELECT setval('users_id_seq', 5)")
    # A deploy in between, so that what was made here is before the window of the failed one.
    site.add("1_z", "SELECT 1;")
    assert crashes.end(crashes.start(site.target, "1_z", "SELECT 1;")) == 0
    assert crashes.end(site.start("CREATE TABLE a (id int);\n%s\nSELECT 1/0;\n" % call)) == 1
    assert site.query("SELECT last_value FROM users_id_seq") >= [(1000,)]
    [entry] = site.examine()
    assert entry["state"] == UNKNOWN and "no rollback undoes" in entry["reason"], entry["reason"]


@pytest.mark.parametrize(("script", "state"), [(COLUMN + FILL + "CREATE TABLE b (id int);\n", UNKNOWN), (COLUMN + "CREATE TABLE b (id int);\n", CLEAN)])
def test_a_column_that_somebody_dropped_to_try_again(script: str, state: str, site: Site) -> None:
    """The column is gone, so nothing shows of the migration; what its data step did is still there."""
    assert crashes.end(site.start(script, mode="split", die="after_%d" % (script.count(";") - 1))) != 0
    site.query("ALTER TABLE users DROP COLUMN c")
    [entry] = site.examine()
    assert entry["state"] == state, entry["reason"]


def test_the_rest_runs_with_the_settings_of_its_session(site: Site, module: ModuleRunner) -> None:
    """What the script had set for its session decides which table its data statements mean."""
    first = "CREATE SCHEMA other;\nCREATE TABLE other.users (id int, email text);\nINSERT INTO other.users VALUES (1, 'a');\n"
    site.add("1_other", first)
    assert crashes.end(crashes.start(site.target, "1_other", first)) == 0
    script = "SELECT pg_catalog.set_config('search_path', 'other', false);\nALTER TABLE users ADD COLUMN c int;\nALTER TABLE users ADD COLUMN d int;\n" + FILL
    assert crashes.end(site.start(script, mode="split", die="after_2")) != 0
    options = {"migrations_dir": str(site.folder), "migration": X, "state": "applied", "run_script": "after"}
    check = module("migration_resolve", site.target, check=True, **options)
    assert check["script_ran"] == "none" and any("UPDATE users" in text for text in check["script"]["loses"]), check
    real = module("migration_resolve", site.target, confirm=check["confirmation"], **options)
    assert real["script_ran"] == "after" and real["script"] == check["script"], real
    assert site.query("SELECT (SELECT email FROM other.users), (SELECT count(*) FROM public.users WHERE email = 'b')") == [("b", 0)]


def test_looking_does_not_wait_for_the_locks_of_a_migration_at_work(site: Site) -> None:
    """Views, defaults and functions over a table that is locked; the server would open the table to write them out."""
    site.query("CREATE VIEW v AS SELECT id FROM users")
    site.query("CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT count(*) FROM users; END")
    site.query("ALTER TABLE users ADD CHECK (id > 0); CREATE RULE r AS ON INSERT TO gate DO ALSO SELECT 1")
    site.close_gate()
    client = site.start("ALTER TABLE users ADD COLUMN c int;\nALTER TABLE gate ADD COLUMN x int;\n", mode="whole", lock=False)
    crashes.until(site.at_gate)
    assert site.state(replay=False) == UNKNOWN
    site.open_gate()
    assert crashes.end(client) == 0
