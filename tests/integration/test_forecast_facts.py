# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the statements of migrations did, as the server tells it."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _forecast as f
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, row
from ansible_collections.pgops.migrations.plugins.module_utils._forecast_facts import measure, settings_of, sizes

SCRIPTS = {
    "1": "-- AddColumn\nALTER TABLE a ADD COLUMN plain integer;\n\nALTER TABLE a ADD COLUMN token uuid DEFAULT gen_random_uuid();\nALTER TABLE a ALTER n TYPE bigint;",
    "2": "CREATE INDEX a_n ON a (n);\nUPDATE a SET plain = 1 WHERE n % 2 = 0;\nALTER TABLE a ALTER n SET NOT NULL;\nCREATE TABLE c AS SELECT * FROM a;"
    "\nCREATE INDEX ON c (n);\nINSERT INTO b VALUES (1), (2);\nDO $$ BEGIN DELETE FROM a WHERE n % 7 = 0; END $$;\nTRUNCATE c",
    "3": "CREATE INDEX CONCURRENTLY a_plain ON a (plain);\nVACUUM a;",
    "4": "SELECT 1;\nUPDATE a SET n = 'no number'::text::bigint",
    "5": "SELECT 1",
}  # fmt: skip


def test_the_server_tells_what_each_statement_did(database: t.Callable[..., t.Any]) -> None:
    target = database()
    with connection(target) as conn:
        execute(conn, "CREATE TABLE a (n integer); CREATE TABLE b (id integer); INSERT INTO a SELECT generate_series(1, 3000)")
        copied = sizes(conn, exactly=True)
        assert (copied["public.a"]["rows"], copied["public.b"]["rows"]) == (3000, 0)
        assert sizes(conn)["public.a"]["rows"] is None
        execute(conn, "ANALYZE a")
        assert sizes(conn)["public.a"]["rows"] == 3000
        assert settings_of(conn)["maintenance_work_mem"] >= 1 << 20
        measured, problem = measure(target, SCRIPTS)
        # What the start of a worker takes was tried on a table of our own, which is gone.
        assert 0 <= measured[0]["worker_start"] < 1 and row(conn, "SELECT to_regclass('\"pgops.migrations probe\"')") == (None,)
    assert problem == "4 stopped with SQLSTATE 22P02"
    found = [(entry["migration"], entry["line"], f.kind_of(entry)) for entry in measured if not entry.get("commit")]
    assert found == [
        ("1", 2, f.CATALOGUE), ("1", 4, f.REWRITE), ("1", 5, f.REWRITE),
        ("2", 1, f.INDEX), ("2", 2, f.ROWS), ("2", 3, f.SCAN), ("2", 4, f.ROWS), ("2", 5, f.INDEX), ("2", 6, f.CATALOGUE), ("2", 7, f.ROWS), ("2", 8, f.CATALOGUE),
        ("3", 1, f.INDEX), ("3", 2, f.SCAN),
    ]  # fmt: skip
    assert measured[0]["locks"] == [{"table": "public.a", "mode": "AccessExclusiveLock"}]
    live = {"public.a": {"rows": 30_000, "bytes": copied["public.a"]["bytes"] * 10}, "public.b": copied["public.b"]}
    statements = [entry for migration in f.forecast(measured, copied, live)["migrations"] for entry in migration["statements"]]
    factors = {entry["text"]: entry["factor"] for entry in statements}
    # The index of a table that was made of another grows as that one.
    assert factors["CREATE INDEX ON c (n)"] >= 10
    assert factors["INSERT INTO b VALUES (1), (2)"] == 1.0


def test_a_script_of_thousands_of_rows_is_measured_in_time_and_told_in_part(database: t.Callable[..., t.Any]) -> None:
    target = database()
    script = "CREATE TABLE a (n integer);" + "INSERT INTO a VALUES (1);" * 2000 + "CREATE INDEX a_n ON a (n);"
    measured, problem = measure(target, {"1": script})
    assert problem == ""
    assert [(len(measured), measured[-1].get("commit"), measured[-2]["indexes"][0]["index"])] == [(2003, True, "public.a_n")]
    told = f.forecast(measured, {}, {})["migrations"][0]
    assert (len(told["statements"]), told["more"]) == (50, 1953)


def test_a_table_that_is_renamed_or_made_anew_grows_as_it_did_before(database: t.Callable[..., t.Any]) -> None:
    target = database()
    with connection(target) as conn:
        execute(conn, "CREATE TABLE a (n integer); CREATE TABLE b (n integer); INSERT INTO a SELECT generate_series(1, 3000); INSERT INTO b SELECT n FROM a")
        copied = sizes(conn, exactly=True)
    anew = "CREATE TABLE new_b (n bigint); INSERT INTO new_b SELECT n FROM b; DROP TABLE b; ALTER TABLE new_b RENAME TO b; CREATE INDEX b_n ON b (n)"
    measured, problem = measure(target, {"1": "ALTER TABLE a RENAME TO c", "2": "CREATE INDEX c_n ON c (n)", "3": anew})
    assert problem == ""
    live = {name: {"rows": 30_000, "bytes": entry["bytes"] * 10} for name, entry in copied.items()}
    factors = {entry["text"]: entry["factor"] for migration in f.forecast(measured, copied, live)["migrations"] for entry in migration["statements"]}
    assert factors["CREATE INDEX c_n ON c (n)"] > 10
    assert factors["CREATE INDEX b_n ON b (n)"] >= 10
    assert factors["INSERT INTO new_b SELECT n FROM b"] >= 10
