# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""`make demo`: the runbooks on a private server, from nothing to the report.

Environment: DEMO=ok (default), failing or rollback, DEMO_ROWS (default 200000), PG_BIN.
"""

from __future__ import annotations

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / ".collections")]

import psycopg2  # noqa: E402
from ansible_collections.pgops.migrations.plugins.module_utils._url import parse_url  # noqa: E402

from tools.microcare import Staging, node_missing, run_module, stage  # noqa: E402
from tools.pgserver import Cluster, PgServerError  # noqa: E402

HOME = ROOT / ".demo"


def say(text: str = "") -> None:
    print(text, flush=True)


def playbook(staging: Staging, name: str = "staging_migrate.yml", **variables: str) -> int:
    """Run a runbook as the README says, with its output on this terminal; its exit status."""
    env = {**os.environ, "DATABASE_URL": staging.database_url, "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg")}
    env["PATH"] = os.path.dirname(sys.executable) + os.pathsep + env["PATH"]
    program = os.path.join(os.path.dirname(sys.executable), "ansible-playbook")
    command = [program, "playbooks/%s" % name, "-e", json.dumps({**staging.playbook_variables(), **variables})]
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


def fingerprint(staging: Staging, dest: pathlib.Path, compare_with: pathlib.Path | None = None) -> dict[str, Any]:
    more = {"compare_with": str(compare_with)} if compare_with else {}
    return run_module("database_fingerprint", database_url=staging.database_url, level="full", dest=str(dest), **more)


def app_role_works(staging: Staging) -> str:
    """The smoke checks as the application's role, in transactions that are rolled back."""
    conn = psycopg2.connect(**parse_url(staging.app_url).conninfo())
    done = []
    for path in sorted((pathlib.Path(staging.app_dir) / "smoke").glob("*.sql")):
        with conn.cursor() as cursor:
            cursor.execute(path.read_text(encoding="utf-8"))
        conn.rollback()
        done.append(path.stem)
    conn.close()
    return "reads and writes (%s)" % ", ".join(done)


def newest_record(staging: Staging) -> tuple[pathlib.Path, dict[str, Any]]:
    """The record of the run that has just ended."""
    found = max(pathlib.Path(staging.reports_dir).glob("*/microcare_staging.json"), key=lambda path: path.stat().st_mtime_ns, default=None)
    if found is None:
        raise SystemExit("demo: the run left no record; what went wrong stands above")
    return found, json.loads(found.read_text(encoding="utf-8"))


def table(rows: list[tuple[str, str]]) -> None:
    width = max(len(name) for name, _ in rows)
    say()
    for name, value in rows:
        say("  %-*s  %s" % (width, name, value))
    say()


def main() -> int:
    kind = os.environ.get("DEMO") or "ok"
    rows = os.environ.get("DEMO_ROWS") or "200000"
    if kind not in ("ok", "failing", "rollback") or not rows.isdigit() or int(rows) < 100:
        say("demo: DEMO is ok, failing or rollback, DEMO_ROWS a number from 100. Next: make demo DEMO=failing DEMO_ROWS=20000")
        return 2
    missing = node_missing()
    if missing:
        say("demo: %s, so the engine direct applies the same migrations folder." % missing)
    # A server that an earlier demo left behind (killed, power lost) is ended and removed; reports are kept.
    Cluster(HOME / "server").remove()
    shutil.rmtree(HOME / "staging", ignore_errors=True)
    HOME.mkdir(mode=0o700, exist_ok=True)
    with Cluster(HOME / "server", fast=True, temporary=True) as cluster:
        return show(cluster, kind, int(rows), missing)


def show(cluster: Cluster, kind: str, rows: int, missing: str | None) -> int:
    started = time.monotonic()
    say("demo: PostgreSQL %s on port %d, %d rows ..." % (".".join(map(str, cluster.version)), cluster.port, rows))
    staging = stage(cluster, HOME / "staging", rows, failing=kind == "failing")
    before = fingerprint(staging, HOME / "staging/before.json")
    say("demo: microcare_staging has %d tables, %d rows; staged in %.1f s\n" % (before["tables"], before["rows"], time.monotonic() - started))
    status = playbook(staging)
    path, record = newest_record(staging)
    result = [("outcome", record["sentence"]), ("exit status", "%d (%s)" % (status, "expected" if bool(status) == (kind == "failing") else "NOT expected"))]
    good = bool(status) == (kind == "failing")
    if kind == "failing":
        after = fingerprint(staging, HOME / "staging/after.json", HOME / "staging/before.json")
        same = after["digest"] == before["digest"] and not after["differences"]
        good = good and same
        equal = "equal: schema, ledger, %d tables, %d rows" % (after["tables"], after["rows"])
        result.append(("fingerprint", equal if same else "DIFFERS: %s" % after["differences"]))
    result.append(("application role", app_role_works(staging)))
    if kind == "rollback":
        done, more = go_back(staging, before)
        good = good and done
        result += more
    if kind == "ok":
        say("\ndemo: the same command again\n")
        again = playbook(staging)
        good = good and again == 0
        result.append(("second run", newest_record(staging)[1]["sentence"]))
    result.append(("engine", "direct (%s)" % missing if missing else "prisma (the real CLI)"))
    result.append(("report", os.path.relpath(path.with_suffix(".md"), ROOT)))
    table(result)
    return 0 if good else 1


def go_back(staging: Staging, before: dict[str, Any]) -> tuple[bool, list[tuple[str, str]]]:
    """The application writes, then the runbook shows the loss, asks, and goes back; whether all went as it should, and what to tell."""
    conn = psycopg2.connect(**parse_url(staging.database_url).conninfo())
    with conn, conn.cursor() as cursor:
        cursor.execute('INSERT INTO messages ("patientId", "authorId", "body") SELECT "patientId", "authorId", $$since$$ FROM messages LIMIT 7')
        cursor.execute("UPDATE messages SET body = $$changed since$$ WHERE id IN (SELECT id FROM messages ORDER BY id LIMIT 3)")
    conn.close()
    say("\ndemo: the application wrote 7 messages and changed 3; now the way back, which asks first\n")
    asked = playbook(staging, "rollback.yml", migration_targets="staging")
    confirmation = newest_record(staging)[1]["restore"]["confirmation"]
    say("\ndemo: confirmed with %s\n" % confirmation)
    done = playbook(staging, "rollback.yml", migration_targets="staging", migration_confirm=confirmation)
    record = newest_record(staging)[1]
    after = fingerprint(staging, HOME / "staging/after.json", HOME / "staging/before.json")
    same = after["digest"] == before["digest"] and not after["differences"]
    told = [("way back", record["sentence"]), ("fingerprint", "equal to that of before the deploy" if same else "DIFFERS: %s" % after["differences"])]
    return bool(asked) and not done and same, told


if __name__ == "__main__":
    try:
        sys.exit(main())
    except PgServerError as error:
        sys.exit("demo: %s" % error)
