# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The prediction against the real CLI: what it says of the next deploy is what that deploy does.

Every history is written into a real database and folder, read by the collection, and then
deployed by the real `prisma migrate deploy`.
"""

from __future__ import annotations

import pathlib
import re
import shutil
import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder, read_folder
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import read_facts
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import classify
from psycopg2 import sql
from support.histories import INSERT, LEDGER, History, generate
from support.prisma import PrismaProject

CHUNK = 18
CHUNKS = 8


def write_database(conn: t.Any, history: History) -> None:
    """Make the database look like the history; what an earlier history left is dropped."""
    schema = sql.Identifier(history.schema)
    with conn.cursor() as cursor:
        cursor.execute("SELECT nspname FROM pg_namespace WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'")
        for (name,) in cursor.fetchall():
            cursor.execute(sql.SQL("DROP SCHEMA {} CASCADE").format(sql.Identifier(name)))
        cursor.execute("CREATE SCHEMA public")
        if history.schema != "public" and history.schema_exists:
            cursor.execute(sql.SQL("CREATE SCHEMA {}").format(schema))
        cursor.execute(sql.SQL("SET search_path = {}").format(schema))
        for statement in history.other_objects:
            cursor.execute(statement)
        if history.ledger is not None:
            cursor.execute(LEDGER)
            for row in history.ledger:
                cursor.execute(INSERT, row)


def write_folder(project: PrismaProject, history: History) -> None:
    shutil.rmtree(project.migrations)
    project.migrations.mkdir()
    if history.lock is not None:
        (project.migrations / "migration_lock.toml").write_bytes(history.lock.encode())
    for name, text in history.files.items():
        if text is None:
            (project.migrations / name).mkdir()
        else:
            project.add(name, text)
    for name in history.stray:
        path = project.migrations / name
        if name.startswith("link"):
            path.symlink_to(project.path / "prisma")
        else:
            path.write_text("stray", encoding="utf-8")


def folder_of(project: PrismaProject) -> Folder:
    """The folder as read; one without any script is refused by the module, and still predicted here."""
    try:
        return read_folder(str(project.migrations))
    except MigrationError as error:
        assert error.code == "NOT_A_MIGRATIONS_DIR"
        return Folder(str(project.migrations), (), _lock_text(project.migrations))


def _lock_text(path: pathlib.Path) -> str | None:
    lock = path / "migration_lock.toml"
    return lock.read_bytes().decode() if lock.exists() else None


def finished_names(conn: t.Any, schema: str) -> list[str]:
    """Names of finished rows in the order of their start, or nothing without a ledger."""
    with conn.cursor() as cursor:
        cursor.execute("SELECT to_regclass(format('%%I._prisma_migrations', %s))", (schema,))
        if cursor.fetchone()[0] is None:
            return []
        cursor.execute(
            sql.SQL("SELECT migration_name FROM {} WHERE finished_at IS NOT NULL ORDER BY started_at, id").format(sql.Identifier(schema, "_prisma_migrations"))
        )
        return [name for (name,) in cursor.fetchall()]


@pytest.mark.prisma
@pytest.mark.slow
@pytest.mark.parametrize("chunk", [pytest.param(chunk, marks=[pytest.mark.exhaustive] if chunk > 1 else []) for chunk in range(CHUNKS)])
def test_prediction_equals_the_next_deploy(chunk: int, prisma: PrismaProject, database: t.Callable[..., Target], admin: t.Callable[..., t.Any]) -> None:
    target = database()
    conn = admin(target.dbname)
    with conn.cursor() as cursor:
        cursor.execute(sql.SQL("ALTER ROLE {} SUPERUSER").format(sql.Identifier(target.user)))
    wrong = []
    for seed in range(chunk * CHUNK, (chunk + 1) * CHUNK):
        history = generate(seed)
        write_database(conn, history)
        write_folder(prisma, history)
        at = Target(**{**target.__dict__, "schema": history.schema})
        if not any(text is not None for text in history.files.values()):
            continue
        with connection(at, read_only=True) as reading:
            predicted = classify(folder_of(prisma), read_facts(reading, at)).next_deploy
        before = finished_names(conn, history.schema)
        said = prisma.cli(at, "migrate", "deploy")
        text = said.stdout + said.stderr
        applied = finished_names(conn, history.schema)[len(before) :]
        code = re.search(r"\bP\d{4}\b", text)
        actual = (applied, code.group() if code else None, said.returncode)
        expected = (list(predicted.migrations), predicted.code, 1 if predicted.code else 0)
        if actual != expected:
            wrong.append("seed %d: predicted %s, real %s\n%s\n%s" % (seed, expected, actual, history.states, text[-600:]))
    assert not wrong, "\n".join(wrong)
