# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Reverse migrations and the rows of the live database: what is written is deployed, and the values are looked at."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, rows
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.modules import ModuleRunner
from support.prisma import PrismaProject

FIRST, SECOND = "20240101000000_init", "20240102000000_more"
PEOPLE = "CREATE TABLE t (id int PRIMARY KEY, name text, last text, other text);"
NAMES = "INSERT INTO t VALUES (1, 'n1', 'l1', 'o1'), (2, 'n2', 'l2', 'o2');"
KEPT = [(1, "n1", "l1", "o1"), (2, "n2", "l2", "o2")]
USERS = 'CREATE TABLE "User" (id int CONSTRAINT "User_pkey" PRIMARY KEY, mail text); CREATE INDEX "User_mail_idx" ON "User" (mail);'
OLD_USERS = "INSERT INTO \"User\" VALUES (1, 'a'), (2, 'b');"


class Case(t.NamedTuple):
    """``data``: rows before the migration; ``later``: rows after it; ``query`` on the live database after its reversal."""

    before: str
    data: str
    change: str
    query: str
    expected: list[tuple[t.Any, ...]]
    later: str = ""


ALL = "SELECT id, name, last, other FROM t ORDER BY id"
CASES: dict[str, Case] = {
    "renamed into the dropped name": Case(PEOPLE, NAMES, "ALTER TABLE t DROP COLUMN name; ALTER TABLE t RENAME COLUMN last TO name;", ALL,
        [(1, None, "l1", "o1"), (2, None, "l2", "o2")]),
    "renamed, and another of that name": Case("CREATE TABLE t (id int PRIMARY KEY, price numeric(6, 2)); CREATE VIEW v AS SELECT price FROM t;",
        "INSERT INTO t VALUES (1, 10.50), (2, 7)", 'ALTER TABLE t RENAME price TO "priceLegacy"; ALTER TABLE t ADD price int;',
        "SELECT id, price::text FROM t ORDER BY id", [(1, "10.50"), (2, "7.00")], "UPDATE t SET price = 99"),
    "table renamed, and another of that name": Case(USERS, OLD_USERS,
        'ALTER TABLE "User" RENAME TO "UserOld"; ALTER TABLE "UserOld" RENAME CONSTRAINT "User_pkey" TO "UserOld_pkey";'
        ' ALTER INDEX "User_mail_idx" RENAME TO "UserOld_mail_idx"; CREATE TABLE "User" (id int CONSTRAINT "User_pkey" PRIMARY KEY, mail text);'
        ' CREATE INDEX "User_mail_idx" ON "User" (mail);',
        'SELECT id, mail FROM "User" ORDER BY id', [(1, "a"), (2, "b")], "INSERT INTO \"User\" VALUES (9, 'new')"),
    "table renamed under a view of its name": Case(USERS, OLD_USERS,
        'ALTER TABLE "User" RENAME TO "_User"; ALTER TABLE "_User" RENAME mail TO address; CREATE VIEW "User" AS SELECT id, address AS mail FROM "_User";',
        'SELECT id, mail FROM "User" ORDER BY id', [(1, "a"), (2, "b")]),
    "in a block": Case(PEOPLE, NAMES, "DO $$ BEGIN ALTER TABLE t RENAME name TO title; END $$;", ALL, KEPT),
    "in EXECUTE": Case(PEOPLE, NAMES, "DO $$ BEGIN EXECUTE format('ALTER TABLE %I RENAME %I TO %I', 't', 'name', 'we\"ird. name'); END $$;", ALL, KEPT),
    "in a function": Case(PEOPLE + "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN ALTER TABLE t RENAME TO moved; END $$;", NAMES,
        "SELECT f();", ALL, KEPT),
    "under another search_path": Case("CREATE SCHEMA s; CREATE TABLE s.t (id int, name text); CREATE TABLE t (id int, name text);",
        "INSERT INTO s.t VALUES (1, 's'); INSERT INTO t VALUES (1, 't')", "SET search_path = s; ALTER TABLE t RENAME name TO title;",
        "SELECT s.name, p.name FROM s.t s JOIN t p USING (id)", [("s", "t")]),
    "a chain": Case(PEOPLE, NAMES, "ALTER TABLE t DROP name; ALTER TABLE t RENAME last TO name; ALTER TABLE t RENAME other TO last;", ALL,
        [(1, None, "l1", "o1"), (2, None, "l2", "o2")]),
    "there and back": Case(PEOPLE, NAMES, "ALTER TABLE t RENAME name TO x; ALTER TABLE t RENAME x TO name; ALTER TABLE t ADD more int;", ALL, KEPT),
    "exchanged in three": Case(PEOPLE, NAMES, "ALTER TABLE t RENAME name TO x; ALTER TABLE t RENAME last TO name; ALTER TABLE t RENAME other TO last;"
        " ALTER TABLE t RENAME x TO other;", ALL, KEPT),
    "moved to another schema": Case(PEOPLE, NAMES, "CREATE SCHEMA s2; ALTER TABLE t SET SCHEMA s2; ALTER TABLE s2.t RENAME TO u;", ALL, KEPT),
    "moved out of a schema that goes": Case('CREATE SCHEMA "old. s"; CREATE TABLE "old. s".t (id serial, name text);',
        "INSERT INTO \"old. s\".t (name) VALUES ('x')", 'ALTER TABLE "old. s".t SET SCHEMA public; DROP SCHEMA "old. s";',
        'SELECT id, name FROM "old. s".t', [(1, "x")]),
    "schema renamed, and another of that name": Case("CREATE SCHEMA s; CREATE TABLE s.t (id int);", "INSERT INTO s.t VALUES (1)",
        "ALTER SCHEMA s RENAME TO s_old; CREATE SCHEMA s; CREATE TABLE s.t (id int);", "SELECT id FROM s.t", [(1,)], "INSERT INTO s.t VALUES (2)"),
    "enum value renamed, and another of that name": Case("CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE t (id int, e e);", "INSERT INTO t VALUES (1, 'a'), (2, 'b')",
        "ALTER TYPE e RENAME VALUE 'a' TO 'x'; ALTER TYPE e ADD VALUE 'a';", "SELECT id, e::text FROM t ORDER BY id", [(1, "a"), (2, "b")]),
    "names of a partitioned table": Case("CREATE TABLE p (id int, at date, note text) PARTITION BY RANGE (at);"
        "CREATE TABLE p1 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');", "INSERT INTO p VALUES (1, '2025-05-05', 'n')",
        "DO $$ BEGIN ALTER TABLE p RENAME note TO remark; ALTER TABLE p1 RENAME TO p_2025; ALTER TABLE p ADD note int; END $$;",
        "SELECT id, note, tableoid::regclass::text FROM p", [(1, "n", "p1")], "UPDATE p SET note = 5"),
}  # fmt: skip


class Reversal:
    """A project of two migrations whose second one is to be taken back."""

    def __init__(self, prisma: PrismaProject, database: t.Any, module: ModuleRunner) -> None:
        self.prisma, self.module = prisma, module
        self.target: Target = database()
        self.app = {"app_dir": str(prisma.path)}

    def prepare(self, before: str, data: str, change: str, later: str = "") -> None:
        for name, text, after in ((FIRST, before, data), (SECOND, change, later)):
            self.prisma.add(name, text)
            done = self.module("migration_deploy", self.target, engine="direct", **self.app)
            assert done.get("status") == "up_to_date", done
            self.live(after or "SELECT")

    def live(self, text: str) -> None:
        with connection(self.target) as conn:
            execute(conn, text)

    def query(self, text: str) -> list[tuple[t.Any, ...]]:
        with connection(self.target) as conn:
            return rows(conn, text)

    def write(self, check: bool = False, **options: t.Any) -> dict[str, t.Any]:
        return self.module("migration_reverse", self.target, check=check, undo=[SECOND], **{"draft_by": "catalog", **self.app, **options})

    def deploy(self) -> None:
        deployed = self.module("migration_deploy", self.target, engine="direct", **self.app)
        assert deployed.get("status") == "up_to_date", deployed

    def notes(self, made: dict[str, t.Any], kind: str) -> dict[str, tuple[t.Any, bool]]:
        return {each["object"]: (each["count"], each["blocks"]) for each in made["notes"] if each["kind"] == kind}


@pytest.fixture
def reversal(prisma: PrismaProject, database: t.Any, module: ModuleRunner) -> Reversal:
    return Reversal(prisma, database, module)


@pytest.mark.parametrize("name", CASES)
def test_values_are_where_they_were(reversal: Reversal, name: str) -> None:
    case = CASES[name]
    reversal.prepare(case.before, case.data, case.change, case.later)
    made = reversal.write()
    assert made.get("changed") and made["proved"] and not made["obstacles"], made
    reversal.deploy()
    assert reversal.query(case.query) == case.expected, made["sql"]
    assert "__reverse" not in str(
        reversal.query("SELECT nspname FROM pg_namespace UNION ALL SELECT relname FROM pg_class UNION ALL SELECT attname FROM pg_attribute")
    )


class Obstacle(t.NamedTuple):
    """``later``: rows that stand in the way of ``object``, ``count`` times, or 0 where nobody can count them; ``mend`` makes room for it."""

    before: str
    change: str
    later: str
    object: str
    count: int
    mend: str


OBSTACLES: dict[str, Obstacle] = {
    "a narrower check": Obstacle("CREATE TABLE t (x int CONSTRAINT c CHECK (x > 0));", "ALTER TABLE t DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (x > -10);",
        "INSERT INTO t VALUES (1), (-5), (-6), (NULL)", "public.t.c", 2, "DELETE FROM t WHERE x < 0"),
    "a check that is not validated any more": Obstacle("CREATE TABLE t (x int CONSTRAINT c CHECK (x > 0));",
        "ALTER TABLE t DROP CONSTRAINT c; INSERT INTO t VALUES (-1); ALTER TABLE t ADD CONSTRAINT c CHECK (x > 0) NOT VALID;", "INSERT INTO t VALUES (1)",
        "public.t.c", 1, "UPDATE t SET x = 1"),
    "a unique index on fewer columns": Obstacle("CREATE TABLE t (a int, b int); CREATE UNIQUE INDEX u ON t (a);",
        "DROP INDEX u; CREATE UNIQUE INDEX u ON t (a, b);", "INSERT INTO t VALUES (1, 1), (1, 2), (2, 1), (NULL, 1), (NULL, 2)", "public.u on public.t", 1,
        "DELETE FROM t WHERE b = 2"),
    "a unique constraint on fewer columns": Obstacle("CREATE TABLE t (a int, b int, CONSTRAINT u UNIQUE (a));",
        "ALTER TABLE t DROP CONSTRAINT u, ADD CONSTRAINT u UNIQUE (a, b);", "INSERT INTO t VALUES (1, 1), (1, 2)", "public.t.u", 1, "DELETE FROM t WHERE b = 2"),
    "a key of fewer columns": Obstacle("CREATE TABLE t (a int, b int NOT NULL, CONSTRAINT t_pkey PRIMARY KEY (a));",
        "ALTER TABLE t DROP CONSTRAINT t_pkey, ADD CONSTRAINT t_pkey PRIMARY KEY (a, b);", "INSERT INTO t VALUES (1, 1), (1, 2)", "public.t.t_pkey", 1,
        "DELETE FROM t WHERE b = 2"),
    "a foreign key to another table": Obstacle("CREATE TABLE p1 (id int PRIMARY KEY); CREATE TABLE p2 (id int PRIMARY KEY);"
        "CREATE TABLE t (p int CONSTRAINT f REFERENCES p1);", "ALTER TABLE t DROP CONSTRAINT f, ADD CONSTRAINT f FOREIGN KEY (p) REFERENCES p2;",
        "INSERT INTO p1 VALUES (1); INSERT INTO p2 VALUES (1), (2); INSERT INTO t VALUES (1), (2), (NULL)", "public.t.f", 1, "DELETE FROM t WHERE p = 2"),
    "a foreign key of renamed tables and columns": Obstacle("CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (p int CONSTRAINT f REFERENCES p);",
        "ALTER TABLE t DROP CONSTRAINT f; ALTER TABLE p RENAME TO parents; ALTER TABLE parents RENAME id TO number; ALTER TABLE t RENAME TO children;"
        " ALTER TABLE children RENAME p TO parent;", "INSERT INTO parents VALUES (1); INSERT INTO children VALUES (1), (2)", "public.t.f", 1,
        "DELETE FROM children WHERE parent = 2"),
    "a column that was renamed and lost NOT NULL": Obstacle("CREATE TABLE t (id int, name text NOT NULL);",
        "ALTER TABLE t ALTER name DROP NOT NULL; ALTER TABLE t RENAME name TO title; ALTER TABLE t RENAME TO u;", "INSERT INTO u VALUES (1, NULL), (2, 'x')",
        "public.t.name", 1, "UPDATE u SET title = ''"),
    "a check of a renamed column in another schema": Obstacle('CREATE SCHEMA s; CREATE TABLE s.t (name text, CONSTRAINT c CHECK (length(name) > 2));',
        'ALTER TABLE s.t DROP CONSTRAINT c; ALTER TABLE s.t RENAME name TO "na me"; ALTER SCHEMA s RENAME TO "s 2";',
        """INSERT INTO "s 2".t VALUES ('abc'), ('a')""", "s.t.c", 1, 'DELETE FROM "s 2".t WHERE length("na me") < 3'),
    "a unique expression of a renamed column": Obstacle("CREATE TABLE t (name text, gone boolean); CREATE UNIQUE INDEX u ON t (lower(name)) WHERE NOT gone;",
        "DROP INDEX u; ALTER TABLE t RENAME name TO title; ALTER TABLE t RENAME gone TO name;", "INSERT INTO t VALUES ('a', false), ('A', false), ('a', true)",
        "public.u on public.t", 1, "DELETE FROM t WHERE title = 'A'"),
    "a unique column that comes back with a default": Obstacle("CREATE TABLE t (id int, code int DEFAULT 0, CONSTRAINT u UNIQUE (id, code));",
        "ALTER TABLE t DROP code;", "INSERT INTO t VALUES (1), (1), (2)", "public.t.u", 1, "DELETE FROM t WHERE ctid IN (SELECT max(ctid) FROM t WHERE id = 1)"),
    "a unique column that is converted": Obstacle("CREATE TABLE t (code int CONSTRAINT u UNIQUE);", "ALTER TABLE t ALTER code TYPE text;",
        "INSERT INTO t VALUES ('1'), ('01'), ('2')", "public.t.u", 1, "DELETE FROM t WHERE code = '01'"),
    "an exclusion": Obstacle("CREATE TABLE t (room int4range, at tsrange, CONSTRAINT x EXCLUDE USING gist (at WITH &&));",
        "ALTER TABLE t DROP CONSTRAINT x, ADD CONSTRAINT x EXCLUDE USING gist (at WITH &&, room WITH &&);",
        "INSERT INTO t VALUES ('[1,2)', '[2025-01-01,2025-01-03)'), ('[2,3)', '[2025-01-02,2025-01-04)'), ('[1,9)', '[2026-01-01,2026-01-02)')",
        "public.t.x", 2, "DELETE FROM t WHERE lower(room) = 2"),
    "a value of an enum that was a number": Obstacle("CREATE TABLE t (n int);", "CREATE TYPE e AS ENUM ('1', 'x'); ALTER TABLE t ALTER n TYPE e USING n::text::e;",
        "INSERT INTO t VALUES ('1'), ('x')", "public.t.n", 0, "DELETE FROM t WHERE n = 'x'"),
    "a domain that takes less": Obstacle("CREATE DOMAIN d AS text CONSTRAINT c CHECK (VALUE LIKE '%@%'); CREATE TABLE t (mail d);",
        "ALTER DOMAIN d DROP CONSTRAINT c; ALTER DOMAIN d ADD CONSTRAINT c CHECK (VALUE <> '');", "INSERT INTO t VALUES ('a'), ('a@b')",
        "public.t.mail", 1, "DELETE FROM t WHERE mail = 'a'"),
    "a value of an enum in which another was renamed": Obstacle("CREATE TYPE e AS ENUM ('a', 'b'); CREATE TABLE t (id int, e e);",
        "ALTER TYPE e RENAME VALUE 'a' TO 'x'; ALTER TYPE e ADD VALUE 'a';", "INSERT INTO t VALUES (1, 'x'), (2, 'a'), (3, 'b')", "public.t.e", 1,
        "DELETE FROM t WHERE e = 'a'"),
}  # fmt: skip


@pytest.mark.parametrize("name", OBSTACLES)
def test_rows_that_stand_in_the_way_are_counted(reversal: Reversal, name: str) -> None:
    case = OBSTACLES[name]
    reversal.prepare(case.before, "", case.change, case.later)
    refused = reversal.write()
    assert refused.get("code") == "REVERSE_UNPROVED" and refused["proved"], refused
    assert [(each["object"], each["count"] or 0) for each in refused["obstacles"]] == [(case.object, case.count)], refused["notes"]
    # It says the truth: so it fails, and once they are out of the way it does not.
    reversal.live("BEGIN; %s; COMMIT" % case.mend)
    made = reversal.write()
    assert made.get("changed") and made["obstacles"] == [], made
    reversal.deploy()


def test_it_fails_on_what_it_counted(reversal: Reversal) -> None:
    case = OBSTACLES["an exclusion"]
    reversal.prepare(case.before, "", case.change, case.later)
    reversal.write(accept_unproved=True)
    assert reversal.module("migration_deploy", reversal.target, engine="direct", **reversal.app)["code"] == "MIGRATION_FAILED_CLEAN"


def test_what_the_live_database_has_not_is_not_counted(reversal: Reversal) -> None:
    reversal.prepare("CREATE TABLE t (id int, name text NOT NULL);", "", "ALTER TABLE t ADD extra int, ALTER name DROP NOT NULL; CREATE TABLE n (id int);")
    reversal.live("DROP TABLE n; ALTER TABLE t DROP extra, DROP name")
    found = reversal.write(check=True, allow_drift=True)
    said = {each["object"]: (each["count"], each["blocks"], each["text"]) for each in found["notes"]}
    assert set(said) == {"public.n", "public.t.extra", "public.t.name"}
    for name, (count, blocks, text) in said.items():
        assert count is None and blocks == (name == "public.t.name") and "cannot be counted: the live database has no such" in text


REDEFINED = (
    'CREATE TABLE "new_t" (id int PRIMARY KEY, %s); INSERT INTO "new_t" SELECT id, name FROM t; DROP TABLE t; ALTER TABLE "new_t" RENAME TO t;'
    ' ALTER TABLE t RENAME CONSTRAINT "new_t_pkey" TO t_pkey;'
)


def test_a_table_that_was_made_anew(reversal: Reversal) -> None:
    reversal.prepare("CREATE TABLE t (id int PRIMARY KEY, name text);", "INSERT INTO t VALUES (1, 'a')", REDEFINED % "name varchar(50) NOT NULL, more int")
    made = reversal.write()
    assert made.get("changed") and "dropped and made again" in made["sql"] and "INSERT of new_t in %s" % SECOND in made["sql"], made
    reversal.deploy()
    assert reversal.query("SELECT * FROM t") == [(1, "a")]


def test_a_column_of_a_table_that_was_made_anew(reversal: Reversal) -> None:
    """Its values were copied under another name, which nothing in the catalogue shows."""
    reversal.prepare("CREATE TABLE t (id int PRIMARY KEY, name text);", "INSERT INTO t VALUES (1, 'a')", REDEFINED % "title varchar(80)")
    refused = reversal.write()
    assert refused.get("code") == "REVERSE_UNPROVED" and "it is not known whether" in str(refused["obstacles"]), refused
    reversal.live("UPDATE t SET title = NULL")
    assert reversal.write().get("changed")


def test_what_migrations_did_to_rows_is_named(reversal: Reversal) -> None:
    before = "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int REFERENCES p); CREATE TABLE o (id int);"
    reversal.prepare(before, "", "TRUNCATE p CASCADE; DELETE FROM o; DO $$ BEGIN PERFORM 1; END $$; ALTER TABLE o ADD more int;")
    made = reversal.write()
    assert set(reversal.notes(made, "data_not_undone")) == {"public.p", "public.c", "public.o", SECOND}
    assert all(SECOND in each["text"] for each in made["notes"] if each["kind"] == "data_not_undone")
    for text in ("TRUNCATE CASCADE of public.c in %s" % SECOND, "DELETE of public.o", "may have changed rows, which is not known"):
        assert text in " ".join(made["sql"].replace("\n--", " ").split())


def test_values_of_a_column_that_goes_are_counted(reversal: Reversal) -> None:
    """The draft of a rename drops what has taken the name since; how many values those are is said, and by the name they have."""
    case = CASES["renamed, and another of that name"]
    reversal.prepare(case.before, case.data, case.change, case.later)
    assert reversal.notes(reversal.write(), "is_lost") == {"public.t.price": (2, False)}


def test_a_column_that_was_dropped_and_added(reversal: Reversal) -> None:
    reversal.prepare(PEOPLE, NAMES, "ALTER TABLE t DROP name; ALTER TABLE t ADD name varchar(9);", "UPDATE t SET name = 'new'")
    made = reversal.write()
    assert "those that it had before do not come back" in str(made["notes"]) and made["changed"]
    reversal.deploy()
    assert reversal.query("SELECT id, name FROM t ORDER BY id") == [(1, "new"), (2, "new")]


@pytest.mark.parametrize(
    ("before", "change", "said"),
    [
        (
            "CREATE TABLE t (id int PRIMARY KEY, a int, b int); INSERT INTO t VALUES (1, 1, 9)",
            "ALTER TABLE t DROP b; ALTER TABLE t ADD b int GENERATED ALWAYS AS (a * 2) STORED",
            "those that it had before do not come back",
        ),
        ("CREATE TABLE t (id int PRIMARY KEY, at timestamp(3)); INSERT INTO t VALUES (1, now())", "ALTER TABLE t ALTER at TYPE timestamptz(3)", "TimeZone"),
        (
            "CREATE TABLE t (id int PRIMARY KEY, n numeric(10, 4)); INSERT INTO t VALUES (1, 1.2345)",
            "ALTER TABLE t ALTER n TYPE numeric(10, 1)",
            "does not come back",
        ),
    ],
)
def test_what_a_change_did_to_values_is_said(reversal: Reversal, before: str, change: str, said: str) -> None:
    reversal.prepare(before, "", change, "")
    assert said in str(reversal.write()["notes"])


@pytest.mark.prisma
def test_a_draft_of_prisma_that_drops_what_was_renamed_is_refused(reversal: Reversal) -> None:
    reversal.prepare(PEOPLE, NAMES, "DO $$ BEGIN ALTER TABLE t RENAME name TO title; END $$;")
    refused = reversal.write(draft_by="prisma")
    assert refused.get("code") == "REVERSE_UNPROVED" and refused["proved"] and refused["drafted_by"] == "prisma", refused
    assert [(each["object"], each["count"]) for each in refused["obstacles"]] == [("public.t.title", 2)]
    made = reversal.write(draft_by="auto")
    assert made["drafted_by"] == "catalog" and "something was renamed" in made["trials"][0]
    reversal.deploy()
    assert reversal.query(ALL) == KEPT


GIVES = (
    "CREATE TABLE bill (id serial PRIMARY KEY, total int); CREATE TABLE stays (id int GENERATED ALWAYS AS IDENTITY, no serial, x int);"
    " CREATE SEQUENCE down INCREMENT BY -5 MAXVALUE 100 START 100;"
)
TAKES = "DROP TABLE bill; ALTER TABLE stays DROP COLUMN no; ALTER TABLE stays ALTER id DROP IDENTITY; DROP SEQUENCE down;"
GAVE = (
    "INSERT INTO bill (total) SELECT 1 FROM generate_series(1, 41); DELETE FROM bill; INSERT INTO stays (x) SELECT 2 FROM generate_series(1, 3);"
    " SELECT nextval('down') FROM generate_series(1, 4)"
)
NEXT = "INSERT INTO stays (x) VALUES (9) RETURNING id, no"


@pytest.mark.parametrize("known", [True, False])
def test_a_sequence_that_comes_back_goes_on_from_where_it_was(reversal: Reversal, scratch: t.Any, known: bool) -> None:
    """Not even a number that no row holds any more is given out again, where a restore point knows of it."""
    for name, text, after in ((FIRST, GIVES, GAVE), (SECOND, TAKES, "INSERT INTO stays (id, x) VALUES (20, 3)")):
        if name == SECOND and known:
            assert not reversal.module("database_backup", reversal.target, backup_dir=str(scratch)).get("failed")
        reversal.prisma.add(name, text)
        assert reversal.module("migration_deploy", reversal.target, engine="direct", **reversal.app)["status"] == "up_to_date"
        reversal.live(after)
    made = reversal.write(backup_dir=str(scratch))
    assert made.get("changed") and made["proved"], made
    said = [each["text"] for each in made["notes"] if "sequence" in each["text"]]
    assert len(said) == 4 and all(("goes on from" in text) == known for text in said), said
    reversal.deploy()
    assert reversal.query(NEXT) == [(21, 5)]
    assert reversal.query("SELECT nextval('bill_id_seq'), nextval('down')") == [(42, 80) if known else (1, 100)]
    assert any("bill_id_seq of public.bill.id starts again at its beginning" in text for text in said) != known, said


PARTS = "CREATE TABLE p (at date, n int) PARTITION BY RANGE (at); CREATE TABLE p25 PARTITION OF p FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');"


def test_a_partition_that_comes_back_counts_the_rows_outside_of_its_bounds(reversal: Reversal) -> None:
    later = "INSERT INTO p25 VALUES ('2025-02-02', 1), ('2026-02-02', 2), (NULL, 3)"
    reversal.prepare(PARTS, "SELECT", "ALTER TABLE p DETACH PARTITION p25; ALTER TABLE p25 RENAME COLUMN at TO day;", later)
    made = reversal.write()
    assert made["code"] == "REVERSE_UNPROVED" and reversal.notes(made, "needs_data")["public.p25"] == (2, True), made
    reversal.live("DELETE FROM p25 WHERE day IS NULL OR day > '2026-01-01'")
    assert reversal.write()["changed"]
    reversal.deploy()
    assert reversal.query("SELECT n, tableoid::regclass::text FROM p") == [(1, "p25")]


def test_the_rows_of_partitions_are_counted_once(reversal: Reversal) -> None:
    change = (
        "CREATE TABLE q (id int, n int) PARTITION BY RANGE (id); CREATE TABLE q1 PARTITION OF q FOR VALUES FROM (1) TO (10);"
        " CREATE TABLE q2 PARTITION OF q FOR VALUES FROM (10) TO (20) PARTITION BY RANGE (n); CREATE TABLE q2a PARTITION OF q2 DEFAULT;"
        " ALTER TABLE q ATTACH PARTITION old FOR VALUES FROM (20) TO (100);"
    )
    reversal.prepare(
        "CREATE TABLE old (id int, n int);", "INSERT INTO old VALUES (20, 1), (21, 2)", change, "INSERT INTO q VALUES (1, 1), (10, 1), (11, 1), (30, 3)"
    )
    made = reversal.write(check=True)
    assert {name: count for name, (count, _blocks) in reversal.notes(made, "is_lost").items()} == {"public.q": 3}, made["notes"]
    assert "those of its partition public.old stay there" in str(made["notes"])


def test_a_required_column_without_values_is_not_said_to_be_null(reversal: Reversal) -> None:
    reversal.prepare("CREATE TABLE t (id int, name text NOT NULL);", "INSERT INTO t VALUES (1, 'n')", "ALTER TABLE t DROP COLUMN name;")
    texts = [each["text"] for each in reversal.write(check=True)["notes"]]
    assert not any("NULL in every row" in text for text in texts) and any("each row needs one before NOT NULL can be set" in text for text in texts), texts


SETS = "CREATE SCHEMA s; CREATE TABLE s.t (id int, name text); CREATE TABLE t (id int, label text); SET search_path = s;"


@pytest.mark.parametrize("together", [True, False])
def test_what_an_earlier_migration_set_holds_in_one_deploy_only(reversal: Reversal, together: bool) -> None:
    reversal.prisma.add(FIRST, SETS)
    if not together:
        reversal.deploy()
    reversal.prisma.add(SECOND, "ALTER TABLE t RENAME name TO title;" if together else "ALTER TABLE t RENAME label TO name;")
    reversal.deploy()
    reversal.live("INSERT INTO s.t VALUES (1, 's'); INSERT INTO public.t VALUES (1, 't')")
    made = reversal.write()
    assert made.get("changed") and made["proved"] and not made["drift"], made
    reversal.deploy()
    assert reversal.query("SELECT s.name, p.label FROM s.t s JOIN public.t p USING (id)") == [("s", "t")]
