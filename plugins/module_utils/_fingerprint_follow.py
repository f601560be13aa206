# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a fingerprint notes so that rows and columns can be followed through a migration, and what a later one finds of it."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _fingerprint_columns, _fingerprint_queries
from ansible_collections.pgops.migrations.plugins.module_utils._comparable import same_database
from ansible_collections.pgops.migrations.plugins.module_utils._connection import row, rows
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import Column, Table, hash_text

Found = t.Dict[str, t.Any]
Earlier = t.Mapping[str, t.Any]


def origin(conn: t.Any, tables: t.Sequence[Table]) -> Found:
    """Server, database, snapshot and tables: by them, and by nothing else, is a row of later known to be one of now."""
    found = row(conn, _fingerprint_queries.ORIGIN) or ("", 0, "")
    heaps = {oid for (oid,) in rows(conn, _fingerprint_queries.HEAPS)}
    own = {table.label: table.oid for table in tables if table.oid in heaps and not table.condition.strip()}
    return {"system_identifier": found[0], "database_oid": found[1], "snapshot": found[2], "tables": own}


def former(earlier: Earlier, found: Earlier) -> dict[str, str]:
    """Table -> what it was called in an earlier fingerprint; only of those whose present name was no table's then, and whose former is none's now."""
    if not same_database(earlier, found):
        return {}
    then, now = earlier["origin"]["tables"], found["origin"]["tables"]
    names = {oid: label for label, oid in then.items() if label not in now and label in earlier["tables"]}
    return {label: names[oid] for label, oid in now.items() if oid in names and label not in earlier["tables"]}


def by_column(conn: t.Any, tables: t.Sequence[Table], wanted: t.Sequence[Table]) -> Found:
    """Of each of these tables the hash of its keys, and of each column, by the names of now."""
    keys = dict(rows(conn, _fingerprint_queries.KEYS)) if wanted else {}
    found: Found = {}
    for table in tables:
        if table in wanted:
            names = {column.name: column for column in table.columns}
            # A key may be of a column that is computed when it is read.
            key = [names[name] for name in keys.get(table.oid, ()) if name in names]
            found[table.label] = {
                "numbers": {column.name: column.number for column in table.columns},
                **_hashes(conn, table, names, [each.name for each in key]),
            }
    return found


def _hashes(conn: t.Any, table: Table, columns: t.Mapping[str, Column], key: t.Sequence[str]) -> Found:
    """By the names that the columns are called by here."""
    single = sorted(set(columns) - set(key))
    values = row(conn, _fingerprint_columns.column_statement(table, [columns[name] for name in key], [columns[name] for name in single])) or ()
    hashes = [hash_text(value) for value in values]
    return {"key": list(key), "key_hash": hashes[0] if key else None, "hashes": dict(zip(single, hashes[1:]))}


def again(conn: t.Any, tables: t.Sequence[Table], earlier: Earlier, found: Earlier) -> tuple[Found, Found]:
    """Of each table that is not as it was in an earlier fingerprint: its columns, as far as they were noted then, and how many rows were not written since."""
    columns, kept = {}, {}
    here = same_database(earlier, found)
    oids = earlier["origin"]["tables"] if here else {}
    for table in tables:
        was = found["former"].get(table.label, table.label)
        old, new = earlier["tables"].get(was), found["tables"].get(table.label)
        if old is None or new is None or all(old[field] == new[field] for field in ("rows", "hash", "columns")):
            continue
        same_table = table.oid == oids.get(was)
        noted = (earlier.get("columns") or {}).get(was)
        if noted and old["rows"] == new["rows"] and new["hash"]:
            columns[table.label] = _column_again(conn, table, noted, same_table)
        if same_table and (old["rows"] != new["rows"] or old["columns"] != new["columns"]):
            statement = _fingerprint_columns.kept_statement(table, earlier["origin"]["snapshot"], found["origin"]["snapshot"])
            if statement is not None:
                kept[table.label] = int((row(conn, statement) or (0,))[0])
    return columns, kept


def _column_again(conn: t.Any, table: Table, noted: Earlier, same_table: bool) -> Found:
    """The columns of before, by their names of then; without hashes where the key is gone."""
    now = _fingerprint_columns.follow(table, noted, same_table)
    names = {column.name for column in table.columns}
    result: Found = {
        "names": {name: column.name for name, column in now.items()},
        # Dropped, and made anew under its name.
        "replaced": sorted(name for name in noted["numbers"] if name not in now and name in names),
        "key": list(noted["key"]), "key_hash": None, "hashes": {},
    }  # fmt: skip
    return {**result, **_hashes(conn, table, now, noted["key"])} if set(noted["key"]) <= set(now) else result


__all__ = ("again", "by_column", "former", "origin")
