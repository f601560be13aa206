# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the verifiers of all scenarios look at: the staged database and the files of the runs."""

from __future__ import annotations

import json
import os
import pathlib
import typing as t

import psycopg2


def staging() -> dict[str, str]:
    """What create.yml staged; see tools/microcare.py."""
    return t.cast("dict[str, str]", json.loads((pathlib.Path(os.environ["PGOPS_STATE"]) / "staging.json").read_text(encoding="utf-8")))


def query(text: str, url: str = "database_url", database: str | None = None) -> list[tuple[t.Any, ...]]:
    """Rows of a query on the staged database, as its owner or (app_url) as the application."""
    dsn = staging()[url].partition("?")[0]
    conn = psycopg2.connect(dsn, **({"dbname": database} if database else {}))
    try:
        with conn.cursor() as cursor:
            cursor.execute(text)
            return list(cursor.fetchall())
    finally:
        conn.close()


def records() -> list[dict[str, t.Any]]:
    """The run records, oldest first."""
    found = sorted(pathlib.Path(staging()["reports_dir"]).glob("*/microcare_staging.json"), key=lambda path: path.stat().st_mtime_ns)
    return [json.loads(path.read_text(encoding="utf-8")) for path in found]
