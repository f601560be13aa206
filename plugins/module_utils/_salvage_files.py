# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The files that salvaged rows go to: COPY text or SQL per table, and what loads them.

Values are those of COPY, so the settings under which their text means the same go with them.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import sql
from ansible_collections.pgops.migrations.plugins.module_utils._copytext import Columns, literal, split, unescape
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import safe_name
from ansible_collections.pgops.migrations.plugins.module_utils._rowsource import Shape

README, INDEX, LOAD, LOAD_CHANGED, SEQUENCES = "README.txt", "index.json", "load.sql", "load-changed.sql", "sequences.sql"
_LOADING = (
    ("standard_conforming_strings", "on"), ("DateStyle", "ISO, YMD"), ("IntervalStyle", "postgres"), ("TimeZone", "UTC"), ("lc_monetary", "C"),
    ("xmloption", "content"),
)  # fmt: skip
_README = """\
Rows of {kept} (run {run_id}, kept at {at}) that {database} did not have when this was
written ({made_at}). index.json lists the files with their rows and SHA-256.

To put the rows back that are missing, in this folder, as the owner of the tables:

    PGDATABASE={name} psql -X -f {load}

It loads the tables in the order of their foreign keys, in one transaction: all or nothing.
{order}
Files named .changed hold rows whose key is in both databases with other content. They are
not loaded by that. After a rollback, the same number may stand for another row than before:
look at them first. To overwrite what {database} has now with them:

    PGDATABASE={name} psql -X -f {changed}

WARNING, sequences: loading rows does not move the sequences that gave out their numbers.
Before the application writes again, do this, or it will get numbers that are taken:

    PGDATABASE={name} psql -X -f {sequences}

Triggers of the tables fire for each row. A superuser can load without them and without
foreign keys: PGOPTIONS='-c session_replication_role=replica' before psql.
{notes}"""


@dataclasses.dataclass
class Sheet:
    """One new file of rows. It is made with its first row."""

    folder: str
    path: str
    #: Bytes before the first row, between two rows, and after the last.
    head: bytes
    glue: bytes
    tail: bytes
    row: t.Callable[[bytes], bytes]
    rows: int = 0
    size: int = 0
    _file: t.Any = None
    _sum: t.Any = None

    def write(self, line: bytes) -> None:
        """A line of COPY."""
        if self._file is None:
            self._file, self._sum = new_file(self.folder, self.path), hashlib.sha256()
            self._put(self.head + self.row(line))
        else:
            self._put(self.glue + self.row(line))
        self.rows += 1

    def _put(self, data: bytes) -> None:
        self._file.write(data)
        self._sum.update(data)
        self.size += len(data)

    def close(self) -> dict[str, t.Any] | None:
        """The file's entry for the index, once it is on the disk; None when there was no row."""
        if self._file is None:
            return None
        self._put(self.tail)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        return {"path": self.path, "rows": self.rows, "size": self.size, "sha256": self._sum.hexdigest()}


def new_file(folder: str, path: str) -> t.IO[bytes]:
    """A file that was not there, for this user only."""
    return open(os.open(os.path.join(folder, path), os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb")


def file_name(number: int, label: str, suffix: str) -> str:
    """``0001.public.users.copy``: in the order of loading, safe whatever the table's name is."""
    return "%04d.%s.%s" % (number, safe_name(label)[:120], suffix)


def settings_sql(encoding: str) -> bytes:
    """What a session must be set to before it reads the values."""
    lines = ["SET client_encoding = '%s';" % encoding] + ["SET %s = '%s';" % item for item in _LOADING]
    return ("\n".join(lines) + "\n").encode("ascii")


def sheet(folder: str, path: str, shape: Shape, columns: Columns, format_: str, encoding: str, conn: t.Any, together: bool = False, key: Columns = ()) -> Sheet:  # noqa: PLR0917
    """A file of rows in ``copy`` or ``sql``.

    :param together: all rows in one statement, as a table needs whose rows refer to each other.
    :param key: write rows that take the place of those with the same key; only for ``sql``.
    """
    if format_ == "copy":
        return Sheet(folder, path, b"", b"", b"", lambda line: line)
    insert = as_bytes(_insert(shape, columns), conn)
    end = as_bytes(_conflict(shape, columns, key), conn) if key else b""
    if not columns:
        return Sheet(folder, path, settings_sql(encoding), b"", b"", lambda line: insert + b" DEFAULT VALUES;\n")

    def values(line: bytes) -> bytes:
        return b"(%s)" % b", ".join([literal(unescape(field)) for field in split(line)])

    if together:
        return Sheet(folder, path, settings_sql(encoding) + insert + b" VALUES\n", b",\n", end + b";\n", values)
    return Sheet(folder, path, settings_sql(encoding), b"", b"", lambda line: b"%s VALUES %s%s;\n" % (insert, values(line), end))


def _insert(shape: Shape, columns: Columns) -> t.Any:
    table = sql.Identifier(shape.schema, shape.name)
    if not columns:
        return sql.SQL("INSERT INTO {}").format(table)
    return sql.SQL("INSERT INTO {} ({}) OVERRIDING SYSTEM VALUE").format(table, names(columns))


def _conflict(shape: Shape, columns: Columns, key: Columns) -> t.Any:
    # PostgreSQL lets nobody set such an identity column of a row that is there.
    others = [column for column in columns if column not in key and column not in shape.always_identity]
    if not others:
        return sql.SQL(" ON CONFLICT ({}) DO NOTHING").format(names(key))
    sets = [sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(column)) for column in others]
    return sql.SQL(" ON CONFLICT ({}) DO UPDATE SET {}").format(names(key), sql.SQL(", ").join(sets))


def names(columns: t.Iterable[str]) -> t.Any:
    """Columns in SQL, with commas."""
    return sql.SQL(", ").join([sql.Identifier(column) for column in columns])


def as_bytes(statement: t.Any, conn: t.Any) -> bytes:
    """The statement as text in UTF-8."""
    return t.cast(str, statement.as_string(conn)).encode("utf-8", "surrogateescape")


def load_part(path: str, shape: Shape, columns: Columns, format_: str, conn: t.Any, key: Columns = (), number: int = 0) -> bytes:  # noqa: PLR0917
    r"""The lines of load.sql for one file. :returns: nothing where psql's ``\copy`` cannot take the names."""
    if format_ == "sql":
        return b"\\ir '%s'\n" % path.encode("ascii")
    table = sql.Identifier(shape.schema, shape.name)
    if not key:
        return _copy(table, columns, path, conn)
    scratch = sql.Identifier("pgops_salvage_%d" % number)
    copy = _copy(scratch, columns, path, conn)
    if not copy:
        return b""
    before = sql.SQL("CREATE TEMPORARY TABLE {} ON COMMIT DROP AS SELECT {} FROM {} WITH NO DATA;\n").format(scratch, names(columns), table)
    after = sql.SQL(" SELECT {} FROM {}").format(names(columns), scratch)
    return as_bytes(before, conn) + copy + as_bytes(_insert(shape, columns) + after + _conflict(shape, columns, key) + sql.SQL(";\n"), conn)


def _copy(table: t.Any, columns: Columns, path: str, conn: t.Any) -> bytes:
    of_columns = sql.SQL(" ({})").format(names(columns)) if columns else sql.SQL("")
    text = as_bytes(sql.SQL("\\copy {}{} from {}").format(table, of_columns, sql.Literal(path)), conn)
    return b"" if b"\n" in text or b"\r" in text else text + b"\n"


def script(parts: t.Iterable[bytes], encoding: str) -> bytes:
    """A psql script of one transaction that stops at the first error."""
    return b"\\set ON_ERROR_STOP on\n" + settings_sql(encoding) + b"BEGIN;\n" + b"".join(parts) + b"COMMIT;\n"


def sequences_script(sequences: t.Sequence[t.Mapping[str, t.Any]], conn: t.Any, encoding: str) -> bytes:
    """Each sequence to at least the value that it had in the kept database; its label is quoted by the server."""
    parts = []
    for entry in sequences:
        further = "LEAST" if entry["now"] < entry["then"] else "GREATEST"
        statement = sql.SQL("SELECT pg_catalog.setval({}::regclass, {}((SELECT last_value FROM {}), {}));\n").format(
            sql.Literal(entry["sequence"]), sql.SQL(further), sql.SQL(entry["sequence"]), sql.Literal(entry["now"])
        )
        parts.append(as_bytes(statement, conn))
    return script(parts, encoding)


def readme(kept: t.Mapping[str, t.Any], database: str, made_at: str, cyclic: t.Sequence[str], notes: t.Sequence[str]) -> bytes:
    """README.txt."""
    order = ""
    if cyclic:
        order = "Their foreign keys form a circle, so load these without foreign keys (see below): %s\n" % ", ".join(cyclic)
    return _README.format(
        kept=kept["name"],
        run_id=kept["run_id"] or "unknown",
        at=kept["at"] or "an unknown time",
        database=database,
        made_at=made_at,
        name=shlex.quote(database),
        load=LOAD,
        changed=LOAD_CHANGED,
        sequences=SEQUENCES,
        order=order,
        notes="".join("\n%s\n" % note for note in notes),
    ).encode("utf-8", "surrogateescape")


__all__ = (
    "INDEX", "LOAD", "LOAD_CHANGED", "README", "SEQUENCES", "Sheet", "file_name", "load_part", "new_file", "readme", "script", "sequences_script", "sheet",
)  # fmt: skip
