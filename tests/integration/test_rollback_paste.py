# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What rollback.yml prints is pasted as it stands in the terminal, through bash, and does what it says."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import re
import shlex
import subprocess
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url
from support.modules import ModuleRunner
from support.runbooks import Play, fingerprint, recap, records

from tools.microcare import DATABASE, ROOT, Staging

LAST = "20260112083000_drop_patient_phone"
INDEX = "20251202180000_appointment_calendar_index"
Done = subprocess.CompletedProcess[str]


def execute(url: str, *statements: str) -> None:
    conn = psycopg2.connect(**parse_url(url).conninfo())
    conn.autocommit = True
    with conn.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    conn.close()


@pytest.fixture
def typed(staging: Staging, tmp_path: pathlib.Path) -> t.Callable[..., Done]:
    """A command line as an operator has it in the terminal, run by bash, with what was pasted at its end."""
    variables = tmp_path / "variables.json"
    variables.write_text(json.dumps(dict(staging.playbook_variables(), migration_engine="direct")), encoding="utf-8")

    def run(line: str, playbook: str = "rollback.yml", **environment: str) -> Done:
        env = {**os.environ, "DATABASE_URL": staging.database_url, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", **environment}
        targets = "-e migration_targets=staging" if playbook == "rollback.yml" else ""
        command = "ansible-playbook %s -e @%s %s %s" % (shlex.quote(str(ROOT / "playbooks" / playbook)), shlex.quote(str(variables)), targets, line)
        return subprocess.run(["bash", "-c", command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=300, check=False)

    return run


def option(stdout: str, pattern: str) -> str:
    """The last line part that matches, as it stands in the output."""
    found = re.findall(pattern, stdout)
    assert found, stdout
    assert not set(found[-1]) & {'"', "\\"}, found[-1]
    return str(found[-1])


def confirm(stdout: str) -> str:
    return option(stdout, r"-e migration_confirm=\S+")


def said(staging: Staging) -> str:
    return str(records(staging)[-1]["sentence"])


def report(staging: Staging) -> str:
    run = records(staging)[-1]["run_id"]
    return pathlib.Path(staging.reports_dir, run, "microcare_staging.md").read_text(encoding="utf-8")


def logged(staging: Staging, run: str) -> dict[str, str]:
    lines = pathlib.Path(staging.reports_dir, "migration_log.jsonl").read_text(encoding="utf-8").splitlines()
    return {entry["migration"]: entry["status"] for entry in map(json.loads, lines) if entry["run_id"] == run}


def test_a_confirmation_is_pasted_from_every_callback_and_the_report_tells_the_loss(
    staging: Staging, play: Play, typed: t.Callable[..., Done], module: ModuleRunner, admin: t.Any
) -> None:
    before = fingerprint(module, staging)
    assert play("staging_migrate.yml", staging, migration_engine="direct").returncode == 0
    undone = [entry["name"] for entry in records(staging)[-1]["deploy"]["applied"]]
    execute(
        staging.database_url,
        'INSERT INTO messages ("patientId", "authorId", "body") SELECT "patientId", "authorId", $$written since$$ FROM messages LIMIT 3',
        "UPDATE messages SET body = 'changed since' WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 2)",
    )
    after = fingerprint(module, staging)

    check = typed("--check")
    assert check.returncode == 0 and "would lose 3 rows, replace 2 and bring back 0" in check.stdout, check.stdout
    asked = [typed("", ANSIBLE_STDOUT_CALLBACK="minimal"), typed("", ANSIBLE_CALLBACK_RESULT_FORMAT="yaml"), typed("")]
    assert {done.returncode for done in asked} == {2}
    assert len({confirm(done.stdout) for done in [check, *asked]}) == 1, "one text in every run and by every callback"
    assert "…" not in said(staging) and "would lose 3 rows, replace 2 and bring back 0" in said(staging)
    assert "What would be lost" in report(staging) and "\n%s\n" % confirm(asked[-1].stdout) in report(staging)

    wrong = typed(confirm(asked[-1].stdout).replace(DATABASE, "another_db"))
    assert wrong.returncode == 2 and "names the database another_db; this is %s, and each database needs its own" % DATABASE in said(staging)
    assert fingerprint(module, staging) == after

    done = typed(confirm(asked[-1].stdout))
    assert done.returncode == 0 and fingerprint(module, staging) == before, done.stdout
    record = records(staging)[-1]
    text = report(staging)
    assert "## What was lost" in text and re.search(r"`public.messages` \| \d+ \| \d+ \| 3 \| 2 \| 0 \|", text), text
    assert "would" not in text.partition("## What was lost")[2].partition("##")[0] and "will be" not in text, text
    assert "column public.patients.phone came back" in text and 'column public.appointments."durationMinutes" went' in text, text
    assert logged(staging, record["run_id"]) == dict.fromkeys(undone, "rolled_back")

    # The way forward again, by a swap: every line must read in that direction.
    kept = record["restore"]["kept"]
    conn = admin("postgres")
    with conn.cursor() as cursor:
        cursor.execute("ALTER DATABASE %s ALLOW_CONNECTIONS true" % kept)
    back = typed("-e migration_from_database=%s" % kept)
    assert back.returncode == 2 and "%s was opened for connections" % kept in back.stdout + back.stderr, back.stdout
    assert "would lose 0 rows, replace 2 and bring back 3, and 1 object of the schema" in said(staging), said(staging)
    for words in ("column public.patients.phone will be gone", 'column public.appointments.\\"durationMinutes\\" comes back'):
        assert words in back.stdout, back.stdout
    for words in ("could not be compared", "is new.", "goes back by", "Sequences that go back", "second time"):
        assert words not in back.stdout, words
    returned = typed("-e migration_from_database=%s %s" % (kept, confirm(back.stdout)))
    assert returned.returncode == 0 and fingerprint(module, staging) == after, returned.stdout
    text = report(staging)
    assert re.search(r"`public.messages` \| \d+ \| \d+ \| 0 \| 2 \| 3 \|", text) and "column public.patients.phone went" in text, text
    assert "Counted by the run" in text and "All of it is in the kept database" in text and "was opened for connections" in text, text
    assert "Applied again: %s" % ", ".join(undone) in said(staging), said(staging)
    assert logged(staging, records(staging)[-1]["run_id"]) == dict.fromkeys(undone, "applied")


def test_a_reverse_is_checked_pasted_and_tells_what_is_still_pending(staging: Staging, play: Play, typed: t.Callable[..., Done], module: ModuleRunner) -> None:
    assert play("staging_migrate.yml", staging, migration_engine="direct", migration_hold=[LAST]).returncode == 0
    reverse = "-e migration_route=reverse"
    check = typed(reverse + " --check")
    assert check.returncode == 0 and "DROP INDEX" in check.stdout, check.stdout
    assert "would be written and deployed; it undoes %s" % INDEX in check.stdout and "no problem was found" not in check.stdout
    asked = typed(reverse)
    assert asked.returncode == 2 and confirm(asked.stdout) == confirm(check.stdout)
    done = typed("%s %s" % (reverse, confirm(asked.stdout)))
    assert done.returncode == 0 and "REVERSED. %s is undone" % INDEX in said(staging), said(staging)
    assert "Still pending: %s." % LAST in said(staging)
    refused = typed("", "staging_migrate.yml")
    assert refused.returncode == 2 and "HISTORY_DIVERGED" in said(staging)
    allowed = typed(option(done.stdout, r"-e migration_allow=[^\s\"]+"), "staging_migrate.yml")
    assert allowed.returncode == 0, allowed.stdout
    info = module("migration_info", database_url=staging.database_url, app_dir=staging.app_dir)
    assert info["pending"] == [], info


@pytest.mark.exhaustive
@pytest.mark.parametrize("failing", [True], indirect=True)
def test_a_recovery_is_checked_pasted_and_tells_which_script_ran(staging: Staging, typed: t.Callable[..., Done], module: ModuleRunner) -> None:
    broken = module("migration_deploy", database_url=staging.database_url, app_dir=staging.app_dir, engine="direct")
    name = broken["failed_migration"]["name"]
    check = typed("--check")
    assert check.returncode == 0 and "%s is failed_partial" % name in check.stdout and "DROP COLUMN" in check.stdout, check.stdout
    refused = typed("-e migration_route=reverse")
    assert refused.returncode == 2 and "ROLLBACK_IMPOSSIBLE" in said(staging), said(staging)
    asked = typed("")
    pattern = r"-e migration_run_script=before -e migration_confirm=\S+"
    assert asked.returncode == 2 and option(asked.stdout, pattern) == option(check.stdout, pattern)
    preview = typed(option(asked.stdout, pattern) + " --check")
    assert preview.returncode == 0 and "The script to before loses: " in preview.stdout, preview.stdout
    done = typed(option(asked.stdout, pattern))
    assert done.returncode == 0, done.stdout
    sentence = said(staging)
    assert "RECOVERED. %s was half applied" % name in sentence and "the script to before was run, which undid its changes of the schema" in sentence, sentence
    assert 'the column public.patients."firstName" goes, with its values' in sentence and "## What the script lost" in report(staging)
    assert logged(staging, records(staging)[-1]["run_id"]) == {name: "rolled_back"}


@pytest.mark.exhaustive
def test_a_damaged_restore_point_names_the_next_older_one(staging: Staging, play: Play, typed: t.Callable[..., Done], module: ModuleRunner) -> None:
    before = fingerprint(module, staging)
    assert play("staging_migrate.yml", staging, migration_engine="direct", migration_hold=[LAST]).returncode == 0
    assert play("staging_migrate.yml", staging, migration_engine="direct").returncode == 0
    newest = pathlib.Path(records(staging)[-1]["backup"]["restore_point"]["path"])
    data = next(path for path in sorted(newest.rglob("*.dat*")) if path.stat().st_size > 40)
    content = bytearray(data.read_bytes())
    content[30] ^= 0xFF
    data.write_bytes(bytes(content))
    refused = typed("")
    assert refused.returncode == 2 and "BACKUP_CORRUPT" in said(staging), refused.stdout
    older = option(refused.stdout, r"-e migration_restore_point=\S+")
    assert str(newest) not in older
    asked = typed(older)
    assert asked.returncode == 2 and "CONFIRMATION_MISSING" in said(staging), asked.stdout
    done = typed("%s %s" % (older, confirm(asked.stdout)))
    assert done.returncode == 0 and fingerprint(module, staging) == before and recap(done)["failed"] == 0, done.stdout
    listed = option(refused.stdout, r"(ansible \S+ -m pgops\.migrations\.database_backup_info -a '[^']+') \(lists them\)")
    env = {**os.environ, "DATABASE_URL": staging.database_url, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    shown = subprocess.run(["bash", "-c", listed], cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert shown.returncode == 0 and newest.name in shown.stdout, shown.stdout + shown.stderr


@pytest.mark.exhaustive
def test_a_query_that_decides_is_pasted_from_a_callback_that_writes_json(staging: Staging, typed: t.Callable[..., Done], tmp_path: pathlib.Path) -> None:
    name, script = "20260401000000_fill", "UPDATE messages SET body = body;\nALTER TABLE messages ADD COLUMN c int;\n"
    folder = pathlib.Path(staging.app_dir, "prisma/migrations", name)
    folder.mkdir()
    (folder / "migration.sql").write_text(script, encoding="utf-8")
    # A client that died before the script, and somebody who made the column by hand: no evidence tells whether the rows were written.
    insert = "INSERT INTO _prisma_migrations (id, checksum, migration_name) VALUES (gen_random_uuid()::text, '%s', '%s')"
    execute(staging.database_url, insert % (hashlib.sha256(script.encode("ascii")).hexdigest(), name), "ALTER TABLE messages ADD COLUMN c int")
    asked = typed("")
    assert asked.returncode == 2 and "RECOVERY_UNPROVED" in said(staging), asked.stdout
    line, command = option(asked.stdout, r"migration_assert_sql: SELECT \.\.\."), option(asked.stdout, r"-e @assert\.yml")
    (tmp_path / "assert.yml").write_text(line.replace("...", "NOT EXISTS (SELECT FROM messages WHERE body IS NULL)") + "\n", encoding="utf-8")
    done = typed(command.replace("assert.yml", str(tmp_path / "assert.yml")))
    assert done.returncode == 0 and "RECOVERED. %s is recorded as applied" % name in said(staging), said(staging)
