# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Where the rows of two states come from: a database, or the archive of a restore point.

Both give them as lines of COPY, in the same encoding and under the same settings, so equal
rows are equal bytes.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import os
import subprocess
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption, restoring
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts
from ansible_collections.pgops.migrations.plugins.module_utils._connection import code_for_sqlstate, connection, execute, psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._copytext import Columns, CopyError, blocks
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_sql import CONFIGURATION, PINNED, rows_of
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Child
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

Write = t.Callable[[bytes], t.Any]
#: Settings of a transaction that reads rows: their text form, and the same order each time.
READING = dict(PINNED, synchronize_seqscans="off", max_parallel_workers_per_gather="0")
#: More names than this are not put into a command line.
MOST_NAMES = 500
_PIPE_BYTES = 1 << 20
_COLUMNS = """
SELECT format('%%I.%%I', n.nspname, c.relname), n.nspname::text, c.relname::text, a.attname::text, a.attidentity = 'a'
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attgenerated = ''
 WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND format('%%I.%%I', n.nspname, c.relname) = ANY(%s)
 ORDER BY 1, a.attnum
"""
# Those whose columns are never NULL, over all rows and over plain columns; the primary key first, then the shortest.
# Keys are compared by their text, so only those whose type says that what is equal is written alike (btree's function 4, equalimage):
# not numeric, float, interval, jsonb, arrays, citext, a collation that ignores case, and no key WITHOUT OVERLAPS. Of character
# only those with a length, as the others keep blanks at the end that make no difference.
_KEYS = """
SELECT format('%%I.%%I', n.nspname, c.relname), array_agg(a.attname::text ORDER BY k.number), i.indimmediate
  FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_class x ON x.oid = i.indexrelid
 CROSS JOIN LATERAL unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, number) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum
 WHERE i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL AND k.number <= i.indnkeyatts
   AND format('%%I.%%I', n.nspname, c.relname) = ANY(%s)
   AND NOT EXISTS (
     SELECT FROM generate_series(0, i.indnkeyatts - 1) part JOIN pg_opclass o ON o.oid = i.indclass[part]
      WHERE NOT EXISTS (SELECT FROM pg_amproc p WHERE p.amprocfamily = o.opcfamily AND p.amproclefttype = o.opcintype AND p.amprocrighttype = o.opcintype
                           AND p.amprocnum = 4 AND o.opcmethod = (SELECT oid FROM pg_am WHERE amname = 'btree'))
         OR EXISTS (SELECT FROM pg_collation l WHERE l.oid = i.indcollation[part] AND NOT l.collisdeterministic)
         OR (o.opcintype = 'bpchar'::regtype
             AND EXISTS (SELECT FROM pg_attribute b WHERE b.attrelid = i.indrelid AND b.attnum = i.indkey[part] AND b.atttypmod < 0)))
 GROUP BY 1, i.indexrelid, i.indisprimary, i.indimmediate, x.relname HAVING bool_and(a.attnotnull)
 ORDER BY 1, i.indisprimary DESC, count(*), x.relname
"""
_CONDITIONS = """
SELECT format('%I.%I', n.nspname, c.relname), k.condition FROM (""" + CONFIGURATION + """) k
  JOIN pg_class c ON c.oid = k.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE k.condition <> ''
"""  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Shape:
    """A table as rows can be written into it: its columns but the generated ones, and what tells its rows apart.

    ``keys``: (columns, whether it is checked with each row) of each unique key.
    """

    label: str
    schema: str
    name: str
    columns: Columns
    always_identity: Columns = ()
    keys: tuple[tuple[Columns, bool], ...] = ()

    def key(self, columns: t.Collection[str], immediate: bool = False) -> Columns:
        """The first key that these columns hold as a whole, or nothing."""
        return next((key for key, checked in self.keys if set(key) <= set(columns) and (checked or not immediate)), ())


class RowSource(t.Protocol):
    """What rows are read from. ``encoding``: the server's name for that of the lines."""

    encoding: str

    def each(self, shapes: t.Sequence[Shape]) -> t.Iterator[tuple[Shape, Columns, t.Callable[[Write], int]]]:
        """For each of these tables: the columns of its lines, and a function that gives the lines away and counts them.

        :raises MigrationError: when a table cannot be read.
        """


class _Sink:
    """What psycopg2 writes a COPY to: each call has one row, or else it is put together here."""

    def __init__(self, write: Write) -> None:
        self._take, self._rest, self.count = write, b"", 0

    def write(self, data: bytes) -> int:
        if self._rest or data[-1:] != b"\n" or data.count(b"\n") != 1:
            *lines, self._rest = (self._rest + data).split(b"\n")
            for line in lines:
                self._take(line + b"\n")
            self.count += len(lines)
        else:
            self._take(data)
            self.count += 1
        return len(data)


class DatabaseRows:
    """The rows of a connected database, as of the REPEATABLE READ transaction that the connection is in; see :func:`pinned`."""

    def __init__(self, conn: t.Any, encoding: str) -> None:
        self.conn, self.encoding = conn, encoding
        #: Table of an extension -> which of its rows pg_dump takes along, in this database; asked for once.
        self._conditions: dict[str, str] | None = None

    def shapes(self, labels: t.Collection[str]) -> dict[str, Shape]:
        """Table, quoted as the server does -> its shape, of those that are there."""
        keys: dict[str, list[tuple[Columns, bool]]] = {}
        found: dict[str, Shape] = {}
        with reading("the catalogue"):
            for label, columns, immediate in rows(self.conn, _KEYS, (list(labels),)):
                keys.setdefault(label, []).append((tuple(columns), immediate))
            for label, schema, name, column, always in rows(self.conn, _COLUMNS, (list(labels),)):
                shape = found.get(label) or Shape(label, schema, name, (), (), tuple(keys.get(label, ())))
                more: Columns = (column,) if column is not None else ()
                found[label] = dataclasses.replace(shape, columns=shape.columns + more, always_identity=shape.always_identity + (more if always else ()))
        return found

    def copy(self, shape: Shape, columns: t.Sequence[str], write: Write, encoding: str = "") -> int:
        """Give each row of the table itself, without its children, as a line with these columns; the number of rows.

        Of a table of an extension only the rows that pg_dump takes along.
        """
        sink = _Sink(write)
        if self._conditions is None:
            with reading("the catalogue"):
                self._conditions = dict(rows(self.conn, _CONDITIONS))
        source = rows_of(shape.schema, shape.name, self._conditions.get(shape.label, ""))
        statement = sql.SQL("COPY (SELECT {} FROM {}) TO STDOUT WITH (ENCODING {})").format(
            sql.SQL(", ").join([sql.Identifier(column) for column in columns]), source, sql.Literal(encoding or self.encoding)
        )
        with reading("table %s" % shape.label, table=shape.label), self.conn.cursor() as cursor:
            execute(self.conn, "SAVEPOINT pgops_rows")
            cursor.copy_expert(statement, sink, size=_PIPE_BYTES)
            # Gives the table's lock back.
            execute(self.conn, "ROLLBACK TO SAVEPOINT pgops_rows; RELEASE SAVEPOINT pgops_rows")
        return sink.count

    def each(self, shapes: t.Sequence[Shape]) -> t.Iterator[tuple[Shape, Columns, t.Callable[[Write], int]]]:
        """See :class:`RowSource`."""
        own = self.shapes([shape.label for shape in shapes])
        for shape in shapes:
            here = own.get(shape.label)
            if here is None:
                raise MigrationError("there is no table %s" % shape.label, code="SQL_ERROR", table=shape.label)
            yield shape, here.columns, functools.partial(self.copy, here, here.columns)


class ArchiveRows:
    """The rows in the archive of a restore point, read by pg_restore in the order of the archive."""

    def __init__(
        self, program: Program, path: str, manifest: Manifest, target: Target, decryption: Decryption | None = None, application_name: str = ""
    ) -> None:
        self.encoding = str(manifest.target["encoding"])
        self._start = lambda args, pipe: restoring(program, path, manifest, target, args, None, application_name, None, decryption, pipe)

    def each(self, shapes: t.Sequence[Shape]) -> t.Iterator[tuple[Shape, Columns, t.Callable[[Write], int]]]:
        """See :class:`RowSource`."""
        wanted = {(shape.schema, shape.name): shape for shape in shapes}
        if not wanted:
            return
        codec = python_encoding(self.encoding)
        args = ["--data-only", "--file=-", *_selection(wanted, codec)]
        with contextlib.ExitStack() as stack:
            child = stack.enter_context(self._start(args, subprocess.PIPE))
            output = t.cast("t.IO[bytes]", child.process.stdout)
            # Closed before pg_restore is waited for, so that it does not wait for a reader.
            with open(os.dup(output.fileno()), "rb", _PIPE_BYTES) as stream, _reading_archive(child):
                output.close()
                for schema, name, columns, lines in blocks(stream, codec):
                    shape = wanted.pop((schema, name), None)
                    if shape is not None:
                        yield shape, columns, functools.partial(_give, child, lines)
            _demand_end(child)
        if wanted:
            raise MigrationError("the restore point has no rows of %s" % ", ".join(sorted(shape.label for shape in wanted.values())), code="BACKUP_CORRUPT")


def _selection(wanted: t.Collection[tuple[str, str]], codec: str) -> list[str]:
    """Options that leave out most of what is not wanted; pg_restore takes names as they are, in the archive's encoding."""
    schemas, names = sorted({schema for schema, _name in wanted}), sorted({name for _schema, name in wanted})
    args = ["--schema=%s" % schema for schema in schemas] if len(schemas) <= MOST_NAMES else []
    args += ["--table=%s" % name for name in names] if len(names) <= MOST_NAMES else []
    return [os.fsdecode(arg.encode(codec, "surrogateescape")) for arg in args]


def python_encoding(encoding: str) -> str:
    """Python's name for an encoding of the server. Bytes that belong to none are taken as the connection takes them."""
    return "utf-8" if encoding == "SQL_ASCII" else psycopg2.extensions.encodings.get(encoding, "utf-8")


@contextlib.contextmanager
def moment(target: Target, dbname: str | None = None, application_name: str = "", settings: t.Mapping[str, str] | None = None) -> t.Iterator[t.Any]:
    """A connection in a REPEATABLE READ transaction that cannot write."""
    with connection(target, dbname, application_name=application_name, settings=dict(QUIET, **(settings or {})), read_only=True) as conn:
        with reading("the snapshot"):
            no_timeouts(conn)
            execute(conn, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        yield conn


@contextlib.contextmanager
def pinned(conn: t.Any) -> t.Iterator[DatabaseRows]:
    """The rows of the database, by a connection from :func:`moment`, whose settings are as before at the end."""
    with reading("the snapshot"):
        execute(conn, "SAVEPOINT pgops_reading")
        for name, value in READING.items():
            row(conn, "SELECT pg_catalog.set_config(%s, %s, true)", (name, value))
        encoding = (row(conn, "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()") or ("UTF8",))[0]
    try:
        yield DatabaseRows(conn, encoding)
    finally:
        with contextlib.suppress(psycopg2.Error):
            execute(conn, "ROLLBACK TO SAVEPOINT pgops_reading; RELEASE SAVEPOINT pgops_reading")


@contextlib.contextmanager
def reading(what: str, **facts: t.Any) -> t.Iterator[None]:
    """The server's refusal, with the name of what was being read."""
    try:
        yield
    except psycopg2.Error as error:
        text = getattr(error.diag, "message_primary", None) or str(error)
        code = code_for_sqlstate(error.pgcode) if error.pgcode else "CONNECTION_LOST"
        raise MigrationError("cannot read %s: %s" % (what, " ".join(text.split())), code=code, sqlstate=error.pgcode, **facts) from None


@contextlib.contextmanager
def _reading_archive(child: Child) -> t.Iterator[None]:
    try:
        yield
    except CopyError as error:
        # It has the better reason.
        _demand_end(child)
        raise MigrationError("cannot read the rows of the restore point: %s" % error, code="BACKUP_CORRUPT") from None


def _demand_end(child: Child) -> None:
    done = child.wait(60.0)
    if done is None or done.rc != 0:
        raise MigrationError("cannot read the rows of the restore point: pg_restore %s" % (done.why() if done else "did not end"), code="BACKUP_CORRUPT")


def _give(child: Child, lines: t.Iterable[bytes], write: Write) -> int:
    count = 0
    with _reading_archive(child):
        for count, line in enumerate(lines, 1):  # noqa: B007
            write(line)
    return count


__all__ = ("ArchiveRows", "DatabaseRows", "READING", "RowSource", "Shape", "moment", "pinned", "python_encoding", "reading")
