# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Fingerprints: the schema, and per table row count and content hash, at one moment.

Not part of a fingerprint: what an extension owns, but for the rows that pg_dump takes along
of its configuration tables, rows of foreign and temporary tables, the rows of materialized
views, roles. What is the database's own, its rights and settings, is no part of the digest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import (
    _catalog,
    _fingerprint_columns,
    _fingerprint_database,
    _fingerprint_follow,
    _fingerprint_queries,
    _sql_names,
)
from ansible_collections.pgops.migrations.plugins.module_utils._connection import code_for_sqlstate, execute, psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import (
    PINNED,
    Column,
    Table,
    count_statement,
    hash_statement,
    hash_text,
)

#: 2: with the configuration of extensions, and owner and rights of large objects.
FORMAT = 2
#: Those that can be compared; see ``_comparison.looked_at`` for what an older one does not know.
FORMATS = (1, FORMAT)
LEVELS = ("schema", "counts", "full")
#: After so many tables their locks are given back, for a server has room for few thousand.
_BATCH = 500
_SAVEPOINT = "SAVEPOINT pgops_fingerprint"
_SETTINGS_SAVEPOINT = "SAVEPOINT pgops_fingerprint_settings"
_UNDO = "ROLLBACK TO SAVEPOINT pgops_fingerprint"
_UNDO_SETTINGS = "ROLLBACK TO SAVEPOINT pgops_fingerprint_settings; RELEASE SAVEPOINT pgops_fingerprint_settings"


def take(
    conn: t.Any,
    level: str = "full",
    snapshot: str | None = None,
    columns_from: t.Mapping[str, t.Any] | None = None,
    skip_tables: t.Collection[str] = (),
    pending: t.Collection[str] = (),
    follow: bool = False,
) -> dict[str, t.Any]:
    """The fingerprint of the connected database, as plain values that JSON can hold.

    Everything is read in one transaction that sees one moment and writes nothing. Only
    sequences stand outside of it, as they do for pg_dump: they show their value of now.

    :param conn: an autocommit connection, or one inside a REPEATABLE READ transaction,
        which is left as it was found.
    :param level: C(schema), C(counts) (and rows of each table), or C(full) (and content).
    :param snapshot: the id of an exported snapshot to see the database by.
    :param columns_from: an earlier fingerprint: a table that it has is hashed over the
        columns it had then, so that an added column is no change of content.
    :param skip_tables: tables, quoted as the server does, whose rows are not looked at.
    :param pending: texts of migrations that will be applied: of the tables that they may
        change or take columns from, each column is hashed by itself.
    :param follow: ask of each table that differs from ``columns_from`` which of its
        columns do, and how many of its rows were not written since.
    :raises MigrationError: ``PERMISSION_DENIED`` with the table, also when row level
        security would hide rows; ``FINGERPRINT_DISTURBED``; ``SQL_ERROR``.
    """
    if level not in LEVELS:
        raise MigrationError("level %r is none of %s" % (level, ", ".join(LEVELS)), code="OPTION_INVALID")
    earlier = (columns_from or {}).get("tables") or {}
    with _moment(conn, snapshot):
        with _reading("the catalogue"):
            about = row(
                conn,
                "SELECT current_database()::text, current_setting('server_version_num')::int,"
                " to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
            )
            objects = _catalog.objects(conn)
        if about is None or about[1] < 140000:
            raise MigrationError("the server is older than PostgreSQL 14", code="SERVER_TOO_OLD")
        found: dict[str, t.Any] = {
            "format": FORMAT,
            "level": level,
            "database": about[0],
            "server_version_num": about[1],
            "taken_at": about[2],
            "schema": {"digest": _catalog.digest(objects), "objects": objects},
            "of_database": _of_database(conn),
            "tables": {},
            "skipped": sorted(skip_tables),
            "trigger_names": _trigger_names(conn),
            "sequences": {},
            "large_objects": {"count": None, "hash": None, "rights": None},
        }
        if level != "schema":
            tables, hidden = _readable(conn, frozenset(skip_tables))
            with _reading("the catalogue"):
                found["origin"] = _fingerprint_follow.origin(conn, tables)
            found["former"] = _fingerprint_follow.former(columns_from, found) if follow and columns_from else {}
            found["tables"] = _take_tables(conn, level, {**earlier, **{now: earlier[then] for now, then in found["former"].items()}}, tables)
            found["skipped"] = sorted({*skip_tables, *hidden})
            _follow(conn, found, tables, pending, columns_from if follow else None)
            found["sequences"] = _take_sequences(conn)
            found["large_objects"] = _take_large_objects(conn, level)
    found["digest"] = digest(found)
    return found


def digest(fingerprint: t.Mapping[str, t.Any]) -> str:
    """One word for all of a fingerprint but where and when it was taken, and what only follows rows."""
    core = {name: fingerprint[name] for name in ("format", "level", "tables", "skipped", "sequences", "large_objects")}
    core["schema"] = fingerprint["schema"]["digest"]
    return hashlib.sha256(json.dumps(core, sort_keys=True, ensure_ascii=True, separators=(",", ":")).encode("ascii")).hexdigest()


def digests(fingerprint: t.Mapping[str, t.Any]) -> frozenset[str]:
    """Its digest, and the one that it had in format 1, for what was written down then."""
    own = {part: {name: entry for name, entry in fingerprint[part].items() if "extension" not in entry} for part in ("tables", "sequences")}
    large = {field: fingerprint["large_objects"][field] for field in ("count", "hash")}
    skipped = [name for name in fingerprint["skipped"] if "table " + name in fingerprint["schema"]["objects"]]
    return frozenset([digest(fingerprint), digest(dict(fingerprint, format=1, large_objects=large, skipped=skipped, **own))])


def _of_database(conn: t.Any) -> dict[str, t.Any]:
    with _reading("the database"):
        return _fingerprint_database.of_database(conn)


def _trigger_names(conn: t.Any) -> dict[str, list[str]]:
    """Table -> the names that its trigger functions mention: what writing it may write, too."""
    with _reading("the triggers"):
        found = rows(conn, _fingerprint_queries.TRIGGERS)
    names: dict[str, set[str]] = {}
    for table, source in found:
        names.setdefault(table, set()).update(chain[-1] for chain in _sql_names.scan(source))
    return {table: sorted(mentioned) for table, mentioned in names.items()}


def _readable(conn: t.Any, skipped: frozenset[str]) -> tuple[list[Table], list[str]]:
    """The tables to look at, and those of extensions that this role may not read."""
    with _reading("the catalogue"):
        tables, hidden = _tables(conn)
    return [table for table in tables if table.label not in skipped], hidden


def _take_tables(conn: t.Any, level: str, earlier: t.Mapping[str, t.Any], tables: t.Sequence[Table]) -> dict[str, t.Any]:
    result: dict[str, t.Any] = {}
    for number, table in enumerate(tables):
        columns = list(table.columns)
        if table.label in earlier:
            wanted = frozenset(earlier[table.label].get("columns") or ())
            columns = [column for column in columns if column.name in wanted]
        statement = hash_statement(table, columns) if level == "full" else count_statement(table)
        with _reading("table %s" % table.label, table=table.label):
            values = row(conn, statement)
        if values is None or not values[2]:
            raise MigrationError("table %s was rewritten while its fingerprint was taken" % table.label, code="FINGERPRINT_DISTURBED", table=table.label)
        entry: dict[str, t.Any] = {
            "rows": int(values[0]),
            "hash": hash_text(values[1]) if level == "full" else None,
            "columns": sorted(column.name for column in columns),
        }
        if table.parents:
            entry["parents"] = list(table.parents)
        if table.extension:
            entry["extension"] = table.extension
        result[table.label] = entry
        if number % _BATCH == _BATCH - 1:
            execute(conn, _UNDO)
    return result


def _follow(conn: t.Any, found: dict[str, t.Any], tables: t.Sequence[Table], pending: t.Collection[str], earlier: t.Mapping[str, t.Any] | None) -> None:
    """What rows and columns are followed by through a migration, see ``_fingerprint_follow``."""
    with _reading("the columns"):
        if earlier:
            found["followed"], found["kept"] = _fingerprint_follow.again(conn, tables, earlier, found)
        if pending and found["level"] == "full":
            found["columns"] = _fingerprint_follow.by_column(conn, tables, _fingerprint_columns.wanted(pending, tables, found["schema"]["objects"]))
    execute(conn, _UNDO)


def _tables(conn: t.Any) -> tuple[list[Table], list[str]]:
    columns: dict[int, list[Column]] = {}
    for oid, name, type_schema, type_name, output_schema, output_name, number in rows(conn, _fingerprint_queries.COLUMNS):
        columns.setdefault(oid, []).append(Column(name, type_schema, type_name, (output_schema, output_name), number))
    tables, hidden = [], []
    for oid, schema, name, label, parents, extension, condition, readable in rows(conn, _fingerprint_queries.TABLES):
        if readable:
            tables.append(Table(oid, schema, name, label, tuple(dict.fromkeys(parents)), tuple(columns.get(oid, ())), extension or "", condition or ""))
        else:
            hidden.append(label)
    return tables, hidden


def _take_sequences(conn: t.Any) -> dict[str, t.Any]:
    with _reading("the catalogue"):
        names = rows(conn, _fingerprint_queries.SEQUENCES)
    result: dict[str, t.Any] = {}
    for start in range(0, len(names), _BATCH):
        batch = names[start : start + _BATCH]
        parts = [
            sql.SQL("SELECT {}::text, last_value, is_called FROM {}").format(sql.Literal(label), sql.Identifier(schema, name))
            for schema, name, label, _extension in batch
        ]
        with _reading("the sequences"):
            for label, last_value, is_called in rows(conn, sql.SQL(" UNION ALL ").join(parts)):
                result[label] = {"last_value": last_value, "is_called": is_called}
        execute(conn, _UNDO)
    for _schema, _name, label, extension in names:
        if extension:
            result[label]["extension"] = extension
    return result


def _take_large_objects(conn: t.Any, level: str) -> dict[str, t.Any]:
    with _reading("the large objects"):
        if level != "full":
            return {"count": (row(conn, "SELECT count(*) FROM pg_largeobject_metadata") or (0,))[0], "hash": None, "rights": None}
        count, total = row(conn, _fingerprint_queries.LARGE_OBJECTS) or (0, 0)
        return {"count": count, "hash": hash_text(total), "rights": hash_text((row(conn, _fingerprint_queries.LARGE_OBJECT_RIGHTS) or (0,))[0])}


@contextlib.contextmanager
def _moment(conn: t.Any, snapshot: str | None) -> t.Iterator[None]:
    """One read-only transaction with all settings pinned; nothing of it remains."""
    inside = conn.info.transaction_status != psycopg2.extensions.TRANSACTION_STATUS_IDLE
    if inside and snapshot:
        raise MigrationError("a connection inside a transaction cannot take up a snapshot", code="INTERNAL")
    with _reading("the snapshot"):
        if not inside:
            execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        elif (row(conn, "SELECT current_setting('transaction_isolation')") or ("",))[0] not in ("repeatable read", "serializable"):
            raise MigrationError("the transaction of the connection does not see one moment only", code="INTERNAL")
    try:
        with _reading("the snapshot"):
            if snapshot:
                execute(conn, "SET TRANSACTION SNAPSHOT %s", (snapshot,))
            # Two of them: the outer one takes the settings back, the inner one the locks.
            execute(conn, _SETTINGS_SAVEPOINT)
            for name, value in PINNED.items():
                row(conn, "SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
            execute(conn, _SAVEPOINT)
        yield
    finally:
        with contextlib.suppress(psycopg2.Error):
            execute(conn, _UNDO_SETTINGS if inside else "ROLLBACK")


@contextlib.contextmanager
def _reading(what: str, **facts: t.Any) -> t.Iterator[None]:
    """The server's refusal, with the name of what was being read."""
    try:
        yield
    except psycopg2.Error as error:
        code = code_for_sqlstate(error.pgcode) if error.pgcode else "CONNECTION_LOST" if isinstance(error, psycopg2.OperationalError) else "SQL_ERROR"
        text = getattr(error.diag, "message_primary", None) or str(error)
        raise MigrationError("cannot take the fingerprint of %s: %s" % (what, " ".join(text.split())), code=code, sqlstate=error.pgcode, **facts) from None


__all__ = ("FORMAT", "FORMATS", "LEVELS", "digest", "digests", "take")
