# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a deploy may do wrong without anybody being told: each of it is found and named; and sound deploys are left in peace."""

from __future__ import annotations

import pathlib
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils import _comparison, _explain, _fingerprint
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._check import summary
from ansible_collections.pgops.migrations.plugins.module_utils._checks import CheckOptions, run_checks
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._replay import files_of, replay
from ansible_collections.pgops.migrations.plugins.module_utils._survey import project_of, survey
from support import tree
from support.restorepoints import execute

BASE = """
CREATE TYPE "Role" AS ENUM ('PATIENT', 'STAFF');
CREATE TABLE "User" (id serial PRIMARY KEY, email text NOT NULL, name text, role "Role" NOT NULL DEFAULT 'PATIENT');
CREATE UNIQUE INDEX "User_email_key" ON "User" (email);
CREATE TABLE "Visit" (id serial PRIMARY KEY, "userId" int NOT NULL, note text, fee numeric(8, 2),
    CONSTRAINT "Visit_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" (id) ON DELETE CASCADE);
CREATE TABLE "Audit" (id serial PRIMARY KEY, what text);
CREATE TABLE "Setting" (key text PRIMARY KEY, value text);
CREATE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO "Audit" (what) VALUES (TG_OP); RETURN NULL; END $$;
CREATE TRIGGER visit_audit AFTER DELETE ON "Visit" FOR EACH ROW EXECUTE FUNCTION audit();
CREATE VIEW "Paid" AS SELECT id, fee FROM "Visit" WHERE fee > 0;
INSERT INTO "User" (email, name) SELECT 'u' || g || '@example.org', 'Somebody ' || g FROM generate_series(1, 40) g;
INSERT INTO "Visit" ("userId", note, fee) SELECT 1 + g % 40, 'note ' || g, g FROM generate_series(1, 120) g;
INSERT INTO "Setting" VALUES ('a', '1'), ('b', '2');
GRANT SELECT ON "User" TO PUBLIC;
"""
ADD_BIO = 'ALTER TABLE "User" ADD COLUMN bio text'
FAIL_ON: list[str] = tree.load("roles/verification/defaults/main.yml")["verification_fail_on"]


class Verdict(t.NamedTuple):
    """All that a run would fail with, and what it would say."""

    findings: list[str]
    failing: list[str]
    text: str


class Site:
    """A database with one applied migration and data, and a project that gets more."""

    def __init__(self, target: t.Any, folder: pathlib.Path, admin: t.Any) -> None:
        self.target, self.folder, self.admin = target, folder, admin
        self.add("1_init", BASE)
        (folder / "migration_lock.toml").write_text('provider = "postgresql"\n')
        self.deploy()

    def add(self, name: str, script: str) -> None:
        (self.folder / name).mkdir(parents=True)
        (self.folder / name / "migration.sql").write_text(script)

    def deploy(self) -> None:
        """What is pending, by the engine C(direct)."""
        found = survey(self.target, *project_of({"migrations_dir": str(self.folder)}))
        replay(self.target, self.target.dbname, files_of(found, found.report.pending))

    def superuser(self, *statements: str) -> None:
        with self.admin(self.target.dbname).cursor() as cursor:
            for statement in statements:
                cursor.execute(statement)

    def verdict(self, migration: str, plant: t.Sequence[str] = (), expected: t.Sequence[t.Any] = ()) -> Verdict:
        """As the role does it: before, deploy, (what nobody ordered), after."""
        options = CheckOptions(project={"migrations_dir": str(self.folder)})
        with connection(self.target, settings=QUIET, read_only=True) as conn:
            before = _fingerprint.take(conn, pending=[migration])
        earlier = summary(run_checks(self.target, options))["checks"]
        if migration:
            self.add("2_next", migration)
            self.deploy()
        self.superuser(*plant)
        with connection(self.target, settings=QUIET, read_only=True) as conn:
            after = _fingerprint.take(conn, columns_from=before, follow=True)
        explained = _explain.explain(
            _comparison.compare(before, after, of_database=True),
            {"2_next": migration} if migration else {},
            expected,
            after["schema"]["objects"],
            "public",
        )
        findings = [each["text"] for each in _explain.findings(explained) if each["kind"] in FAIL_ON]
        found = summary(run_checks(self.target, CheckOptions(project={"migrations_dir": str(self.folder)}, before=before, earlier=earlier)))
        return Verdict(findings, found["failing"], found["text"])


@pytest.fixture
def site(database: t.Any, tmp_path: pathlib.Path, admin: t.Any) -> Site:
    return Site(database(), tmp_path / "migrations", admin)


#: name -> migration, what happens behind its back, words that the findings must hold, and checks that must fail.
DEFECTS: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], set[str]]] = {
    "row deleted by a cascade": ('DELETE FROM "User" WHERE id = 3', (), ('public."Visit" has 3 rows fewer', "A foreign key or a trigger"), set()),
    "rows added by a trigger, row deleted by a cascade": ('DELETE FROM "User" WHERE id IN (4, 5)', (), ('public."Visit" has 6 rows fewer',), set()),
    "row deleted beside it": (ADD_BIO, ('DELETE FROM "Setting" WHERE key = \'a\'',), ('public."Setting" has 1 row fewer',), set()),
    "row deleted from the table it alters": (ADD_BIO, ('DELETE FROM "User" WHERE id = 40',), ('public."User" has 1 row fewer',), set()),
    "truncated text in the table it alters": (ADD_BIO, ('UPDATE "User" SET name = left(name, 5)',), ('content of public."User" changed',), set()),
    "truncated text in another table": (ADD_BIO, ('UPDATE "Visit" SET note = left(note, 4)',), ('content of public."Visit" changed',), set()),
    "one value rounded": (ADD_BIO, ('UPDATE "Visit" SET fee = fee + 0.01 WHERE id = 7',), ('content of public."Visit" changed',), set()),
    "rows swapped": (ADD_BIO, ("UPDATE \"Setting\" SET value = CASE key WHEN 'a' THEN '2' ELSE '1' END",), ('content of public."Setting" changed',), set()),
    "table emptied": (ADD_BIO, ('TRUNCATE "Audit", "Setting"',), ('public."Setting" has 2 rows fewer',), set()),
    "table gone": (ADD_BIO, ('DROP TABLE "Setting"',), ('The table public."Setting" is gone, and with it 2 rows',), {"drift"}),
    "extra table": (ADD_BIO, ("CREATE TABLE extra (a int); GRANT SELECT ON extra TO PUBLIC",), ("The table public.extra is new",), {"drift"}),
    "drifted column": (ADD_BIO, ('ALTER TABLE "Visit" ALTER COLUMN note SET DEFAULT \'x\'',), ('public."Visit".note',), {"drift"}),
    "drifted column in the table it alters": (ADD_BIO, ('ALTER TABLE "User" ALTER COLUMN name SET NOT NULL',), (), {"drift"}),
    "column gone": (ADD_BIO, ('ALTER TABLE "Visit" DROP COLUMN note',), ('public."Visit"',), {"drift"}),
    "lost grant": (ADD_BIO, ('REVOKE SELECT ON "User" FROM PUBLIC',), ('grants table public."User"',), set()),
    "lost owner": (ADD_BIO, ('GRANT SELECT ON "Setting" TO PUBLIC; ALTER TABLE "Setting" OWNER TO postgres',), ('owner table public."Setting" changed',), set()),
    "disabled trigger by hand": (ADD_BIO, ('ALTER TABLE "Visit" DISABLE TRIGGER visit_audit',), ("visit_audit",), {"disabled_triggers", "drift"}),
    "disabled trigger by the migration": ('ALTER TABLE "Visit" DISABLE TRIGGER visit_audit', (), (), {"disabled_triggers"}),
    "disabled foreign key": (ADD_BIO, ('ALTER TABLE "Visit" DISABLE TRIGGER ALL',), (), {"disabled_triggers"}),
    "trigger gone": (ADD_BIO, ('DROP TRIGGER visit_audit ON "Visit"',), ("visit_audit",), {"drift"}),
    "foreign key not valid": (
        'ALTER TABLE "Audit" ADD COLUMN "by" int; ALTER TABLE "Audit" ADD CONSTRAINT by_fk FOREIGN KEY ("by") REFERENCES "User" NOT VALID', (), (), {"foreign_keys"},
    ),
    "orphaned rows": (ADD_BIO, ("SET session_replication_role = replica", 'DELETE FROM "User" WHERE id = 9'), ('public."User" has 1 row fewer',), {"foreign_keys"}),
    "orphaned rows by the migration": (
        'ALTER TABLE "Visit" DROP CONSTRAINT "Visit_userId_fkey"; UPDATE "Visit" SET "userId" = 9999 WHERE id = 1;'
        ' ALTER TABLE "Visit" ADD CONSTRAINT "Visit_userId_fkey" FOREIGN KEY ("userId") REFERENCES "User" (id) ON DELETE CASCADE NOT VALID',
        (), (), {"foreign_keys"},
    ),
    "sequence behind": ('INSERT INTO "Audit" (id, what) VALUES (700, \'x\')', (), (), {"sequences"}),
    "sequence set back": (ADD_BIO, ('SELECT setval(\'"Visit_id_seq"\', 3)',), ('The sequence public."Visit_id_seq" went back',), {"sequences"}),
    "constraint gone": (ADD_BIO, ('ALTER TABLE "Visit" DROP CONSTRAINT "Visit_userId_fkey"',), ("Visit_userId_fkey",), {"drift"}),
    "unique index gone": (ADD_BIO, ('DROP INDEX "User_email_key"',), (), {"drift"}),
    "view changed": (ADD_BIO, ('CREATE OR REPLACE VIEW "Paid" AS SELECT id, fee FROM "Visit"',), ('view public."Paid" changed',), {"drift"}),
    "function changed": (
        ADD_BIO, ("CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$",), ("public.audit()",), {"drift"},
    ),
    "enum value more": (ADD_BIO, ('ALTER TYPE "Role" ADD VALUE \'ADMIN\'',), ('public."Role"',), {"drift"}),
    "row security switched on": (ADD_BIO, ('ALTER TABLE "Setting" ENABLE ROW LEVEL SECURITY',), ('public."Setting"',), {"drift"}),
    "ledger edited": (ADD_BIO, ("UPDATE _prisma_migrations SET checksum = 'x' WHERE migration_name = '1_init'",), (), {"ledger"}),
    "invalid index": (
        ADD_BIO, ('UPDATE pg_index SET indisvalid = false WHERE indexrelid = \'"User_email_key"\'::regclass',), (), {"invalid_indexes", "drift"},
    ),
    "rows gone behind a trigger that goes": ('DROP TRIGGER visit_audit ON "Visit"', ('DELETE FROM "Visit" WHERE id > 100',), ('"Visit" has 20 rows fewer',), set()),
    "rows gone behind code that adds a constraint": (
        'DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = \'fee\') THEN ALTER TABLE "Visit" ADD CONSTRAINT fee CHECK (fee > 0); END IF; END $$',
        ('DELETE FROM "Visit" WHERE id > 100',), ('"Visit" has 20 rows fewer',), set(),
    ),
    "changed behind ON CONFLICT DO NOTHING": (
        'INSERT INTO "Setting" VALUES (\'a\', \'9\') ON CONFLICT (key) DO NOTHING', ("UPDATE \"Setting\" SET value = 'x' WHERE key = 'b'",),
        ('content of public."Setting" changed',), set(),
    ),
    "text truncated beside a column that goes": (
        'ALTER TABLE "Visit" DROP COLUMN fee CASCADE', ('UPDATE "Visit" SET note = left(note, 4)',), ('public."Visit" changed in note', "No migration sets note"), set(),
    ),
    "row deleted beside rows that come": (
        "INSERT INTO \"Setting\" VALUES ('c', '3'), ('d', '4')", ("DELETE FROM \"Setting\" WHERE key = 'a'",),
        ('Of the 2 rows that public."Setting" had before, 1 was changed or deleted.',), set(),
    ),
    "another right lost beside a GRANT": (
        'GRANT INSERT ON "User" TO PUBLIC', ('REVOKE SELECT ON "User" FROM PUBLIC',), ('grants table public."User"',), set(),
    ),
    "connect revoked": (ADD_BIO, ("DO $$ BEGIN EXECUTE format('REVOKE CONNECT ON DATABASE %I FROM PUBLIC', current_database()); END $$",), ("grants database",), set()),
    "setting of the database": (
        ADD_BIO, ("DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET statement_timeout = 7', current_database()); END $$",), ("database setting",), set(),
    ),
    "large object gone": (ADD_BIO, ("SELECT lo_unlink(oid) FROM pg_largeobject_metadata",), ("fewer large objects",), set()),
}  # fmt: skip


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_is_found_and_named(site: Site, name: str) -> None:
    migration, plant, said, checks = DEFECTS[name]
    if name == "large object gone":
        execute(site.target, "SELECT lo_from_bytea(0, 'x')")
    found = site.verdict(migration, plant)
    assert found.findings or found.failing, "the run would have been green"
    for words in said:
        assert any(words in text for text in found.findings), found
    assert checks <= set(found.failing), found


SOUND: dict[str, str] = {
    "nothing": "SELECT 1",
    "column": ADD_BIO,
    "column with a default that fills it": 'ALTER TABLE "User" ADD COLUMN n serial; UPDATE "User" SET name = upper(name)',
    "table with a key": (
        'CREATE TABLE "Pet" (id serial PRIMARY KEY, "ownerId" int NOT NULL); CREATE INDEX ON "Pet" ("ownerId");'
        ' ALTER TABLE "Pet" ADD CONSTRAINT fk FOREIGN KEY ("ownerId") REFERENCES "User"(id) ON DELETE RESTRICT ON UPDATE CASCADE'
    ),
    "enum made anew as Prisma does": (
        "BEGIN; CREATE TYPE \"Role_new\" AS ENUM ('PATIENT', 'STAFF', 'ADMIN'); ALTER TABLE \"User\" ALTER COLUMN role DROP DEFAULT;"
        ' ALTER TABLE "User" ALTER COLUMN role TYPE "Role_new" USING (role::text::"Role_new"); ALTER TYPE "Role" RENAME TO "Role_old";'
        ' ALTER TYPE "Role_new" RENAME TO "Role"; DROP TYPE "Role_old"; ALTER TABLE "User" ALTER COLUMN role SET DEFAULT \'PATIENT\'; COMMIT'
    ),
    "column renamed": 'ALTER TABLE "Visit" RENAME COLUMN fee TO price',
    "table renamed": 'ALTER TABLE "Visit" RENAME TO "Appointment"; ALTER TABLE "Appointment" RENAME CONSTRAINT "Visit_pkey" TO "Appointment_pkey"',
    "column dropped with its view": 'DROP VIEW "Paid"; ALTER TABLE "Visit" DROP COLUMN fee',
    "type widened": 'DROP VIEW "Paid"; ALTER TABLE "Visit" ALTER COLUMN fee TYPE numeric(12, 2); CREATE VIEW "Paid" AS SELECT id, fee FROM "Visit" WHERE fee > 0',
    "backfill": ADD_BIO + '; UPDATE "User" SET bio = \'\' WHERE bio IS NULL; ALTER TABLE "User" ALTER COLUMN bio SET NOT NULL',
    "rows moved": 'CREATE TABLE "Old" AS SELECT * FROM "Setting"; DELETE FROM "Setting" WHERE key = \'a\'',
    "do block": 'DO $$ BEGIN UPDATE "Visit" SET note = upper(note); END $$',
    "index concurrently": 'CREATE INDEX CONCURRENTLY visit_fee ON "Visit" (fee)',
    "table dropped": 'DROP TABLE "Setting"',
    "enum value renamed": "ALTER TYPE \"Role\" RENAME VALUE 'PATIENT' TO 'CLIENT'",
    "rights": 'REVOKE SELECT ON "User" FROM PUBLIC; GRANT SELECT ON "User" TO PUBLIC; GRANT INSERT ON ALL TABLES IN SCHEMA public TO PUBLIC',
    "schema and policy": 'CREATE SCHEMA app; ALTER TABLE "Setting" SET SCHEMA app; ALTER TABLE app."Setting" ENABLE ROW LEVEL SECURITY; CREATE POLICY p ON app."Setting" USING (true)',
    "function and trigger": (
        "CREATE OR REPLACE FUNCTION audit() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;"
        ' CREATE TRIGGER user_audit AFTER UPDATE ON "User" FOR EACH ROW EXECUTE FUNCTION audit()'
    ),
    "sequence set right": 'INSERT INTO "Audit" (id, what) VALUES (700, \'x\'); SELECT setval(\'"Audit_id_seq"\', (SELECT max(id) FROM "Audit"))',
    "type changed as Prisma does without a cast": 'ALTER TABLE "Visit" DROP COLUMN "note",\nADD COLUMN     "note" INTEGER',
    "seeded anew": "TRUNCATE \"Setting\"; INSERT INTO \"Setting\" VALUES ('a', '5'), ('c', '6')",
    "made anew beside it": (
        'CREATE TABLE new_setting (LIKE "Setting" INCLUDING ALL); INSERT INTO new_setting SELECT key, upper(value) || \'!\' FROM "Setting"; DROP TABLE "Setting";'
        ' ALTER TABLE new_setting RENAME TO "Setting"'
    ),
    "index of a key renamed": 'ALTER INDEX "User_pkey" RENAME TO users_pkey',
    "dropped with what depends on it": 'DROP TABLE "User" CASCADE; DROP FUNCTION audit() CASCADE',
    "row security for all": (
        "DO $$ DECLARE r record; BEGIN FOR r IN SELECT tablename FROM pg_tables WHERE schemaname = 'public' LOOP"
        " EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', r.tablename); END LOOP; END $$"
    ),
    "partitioned": 'CREATE TABLE "Log" (id int, at date) PARTITION BY RANGE (at); CREATE TABLE "Log_1" PARTITION OF "Log" DEFAULT; CREATE INDEX ON "Log" (at)',
}


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_deploy_is_left_in_peace(site: Site, name: str) -> None:
    found = site.verdict(SOUND[name])
    assert (found.findings, found.failing) == ([], []), found.text


def test_what_was_wrong_before_does_not_fail_the_deploy(site: Site) -> None:
    execute(site.target, "SELECT setval('\"User_id_seq\"', 3)", "CREATE TABLE by_hand (a int)")
    found = site.verdict(ADD_BIO)
    assert found.failing == [] and "As before this run" in found.text


def test_rows_that_a_cascade_takes_along_can_be_expected_in_their_exact_number(site: Site) -> None:
    found = site.verdict('DELETE FROM "User" WHERE id = 3', expected=[{"object": 'public."Visit"', "rows": -3}])
    assert (found.findings, found.failing) == ([], [])


def test_another_number_than_the_expected_one_is_a_finding(site: Site) -> None:
    found = site.verdict('DELETE FROM "User" WHERE id = 3', expected=[{"object": 'public."Visit"', "rows": -2}])
    assert "Expected were -2 rows, and it is -3." in found.findings[0]
