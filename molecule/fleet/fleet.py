# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the verifier looks at: each host through SSH, its database, and what the runs left on the controller."""

from __future__ import annotations

import functools
import json
import os
import pathlib
import typing as t
import urllib.parse

import lab
import psycopg2
import testinfra

STATE = pathlib.Path(os.environ["PGOPS_STATE"])
MIGRATED = ("sound1", "sound2", "newer")
PENDING = ["20250903101500_appointment_duration", "20251021090000_unique_medical_record_number", "20251202180000_appointment_calendar_index",
           "20260112083000_drop_patient_phone"]  # fmt: skip


@functools.cache
def about(name: str) -> dict[str, str]:
    return t.cast("dict[str, str]", json.loads((STATE / "fleet.json").read_text(encoding="utf-8"))[name])


@functools.cache
def host(name: str) -> t.Any:
    # Its own way through a connection that stays is left out: the file has one.
    return testinfra.get_host("ssh://%s" % name, ssh_config=str(STATE / "ssh_config"), controlpersist=0)


def query(name: str, text: str) -> list[tuple[t.Any, ...]]:
    """Rows of a query on a host's database, as its owner."""
    conn = psycopg2.connect(about(name)["database_url"].partition("?")[0])
    try:
        with conn.cursor() as cursor:
            cursor.execute(text)
            return list(cursor.fetchall())
    finally:
        conn.close()


def applied(name: str) -> list[str]:
    """The migrations that the ledger has as finished, each of them once, and nothing else in it."""
    rows = query(name, "SELECT migration_name, finished_at IS NOT NULL AND rolled_back_at IS NULL FROM _prisma_migrations ORDER BY 1")
    assert all(finished for _name, finished in rows), rows
    return [migration for migration, _finished in rows]


def databases(name: str) -> list[tuple[str, bool]]:
    """The databases of a host's server, and whether one may connect."""
    return query(name, "SELECT datname, datallowconn FROM pg_database WHERE datname LIKE 'microcare%' ORDER BY 1")


def as_before(name: str) -> bool:
    """Whether pg_dump says of the database what it said before any run."""
    return lab.Host(STATE, name).dump() == (STATE / name / "before.sql").read_text(encoding="utf-8")


def runs() -> list[pathlib.Path]:
    """The folders of all runs on the controller, the oldest first."""
    return sorted(path for path in (STATE / "reports").iterdir() if path.is_dir())


def record(run: pathlib.Path, name: str) -> dict[str, t.Any]:
    return t.cast("dict[str, t.Any]", json.loads((run / ("%s.json" % name)).read_text(encoding="utf-8")))


def printed(which: str) -> str:
    return (STATE / ("printed_%s.txt" % which)).read_text(encoding="utf-8")


def row(which: str, name: str) -> str:
    """The line of a host in the table that the runbook printed, with the finding below it."""
    # Not how far it was meanwhile, which begins with its name, too.
    table = printed(which).split("TASK [Show the table]")[1].split("\nTASK [")[0]
    lines = [line.strip(' ",') for line in table.splitlines()]
    (number,) = [number for number, line in enumerate(lines) if line.startswith("%s  " % name)]
    return " ".join([lines[number], *(lines[number + 1 : number + 2] if lines[number + 1].startswith("^") else [])])


def left(name: str) -> str:
    """What a run left behind on a host: temporary files, modules of Ansible, descriptions of jobs, locks, sessions and scratch databases."""
    look = 'find "$TMPDIR" "$HOME/.ansible/tmp" "$HOME/.local/state/pgops.migrations" -mindepth 1 2>/dev/null; find "$HOME" -name "*.partial" -o -name "*.lock"'
    found = [host(name).run(look).stdout]
    found += query(name, "SELECT 'a lock of ' || pid FROM pg_locks WHERE locktype = 'advisory'")
    found += query(name, "SELECT 'a session of ' || application_name FROM pg_stat_activity WHERE usename = current_user AND pid <> pg_backend_pid()")
    found += [(base,) for base, _open in databases(name) if base != "microcare_staging" and "__kept_" not in base]
    return "\n".join(str(each) for each in found).strip()


def secrets() -> set[str]:
    """The passwords, as they stand in the URLs and as they are."""
    raw = {str(urllib.parse.urlsplit(about(name)["database_url"]).password) for name in lab.HOSTS}
    return raw | {urllib.parse.unquote(each) for each in raw}


def tells_a_secret(text: str) -> bool:
    return any(secret in text for secret in secrets())
