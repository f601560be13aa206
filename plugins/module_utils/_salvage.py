# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Salvage: the rows that only a kept database has, as files per table.

Nothing is written to the live database. The files hold rows, so their folder is private,
and no row gets into a result or a log.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _salvage_files as files
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import now
from ansible_collections.pgops.migrations.plugins.module_utils._connection import rows
from ansible_collections.pgops.migrations.plugins.module_utils._copytext import Columns
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._kept import KeptOptions, close_left, entered, find, locked
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import TABLE as LEDGER
from ansible_collections.pgops.migrations.plugins.module_utils._loss import sequences_back
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import plain
from ansible_collections.pgops.migrations.plugins.module_utils._rowdiff import ADDED, CHANGED, Rows, again, compare, pair
from ansible_collections.pgops.migrations.plugins.module_utils._rowsource import DatabaseRows, Shape, moment, pinned, reading
from ansible_collections.pgops.migrations.plugins.module_utils._storage import ensure_private_dir, fsync_dir, hash_file, private_umask, write_private
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

FORMAT = 1
FORMATS = ("copy", "sql")
_SETTINGS = {"lock_timeout": "5s"}
# Those of a partition are written at the partition, too.
_FOREIGN_KEYS = """
SELECT format('%I.%I', n.nspname, c.relname), format('%I.%I', fn.nspname, f.relname)
  FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_class f ON f.oid = k.confrelid JOIN pg_namespace fn ON fn.oid = f.relnamespace WHERE k.contype = 'f'
"""


def salvage(target: Target, options: KeptOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Write the rows that only the kept database has into a new folder.

    :returns: C(changed), C(salvage_dir), C(tables) (names and counts), C(rows_added), C(rows_changed), C(warnings).
    :raises MigrationError: ``NOT_KEPT``, ``SALVAGE_EXISTS``, ``BACKUP_DIR_UNSAFE``, ``DISK_FULL``, ``FINGERPRINT_DISTURBED``, ...
    """
    folder = os.path.normpath(options.salvage_dir)
    if options.format not in FORMATS or not os.path.isabs(options.salvage_dir):
        raise MigrationError("salvage needs an absolute salvage_dir, and a format of %s" % ", ".join(FORMATS), code="OPTION_INVALID")
    with locked(target, options) as lock, private_umask():
        kept = find(lock, target, options.name, options.oid)
        if kept is None:
            raise MigrationError("there is no database %s" % options.name, code="NOT_KEPT")
        if os.path.lexists(folder):
            return dict(_done(folder, kept, options), changed=False, warnings=[])
        if check_mode:
            return {"changed": True, "salvage_dir": folder, "tables": [], "rows_added": None, "rows_changed": None, "warnings": []}
        close_left(lock, target)
        name = ("pgops.migrations salvage %s" % options.run_id).strip()
        with _made(folder) as partial, contextlib.ExitStack() as stack:
            kept_conn = stack.enter_context(entered(lock, target, kept["name"], name, _SETTINGS))
            live_conn = stack.enter_context(moment(target, None, name, _SETTINGS))
            work = _Salvage(target, options, kept, kept_conn, live_conn, partial)
            index = work.write()
    return dict(_result(folder, index), changed=True, warnings=work.notes)


@contextlib.contextmanager
def _made(folder: str) -> t.Iterator[str]:
    """The folder under another name while it is filled; what a killed run left there is removed."""
    partial = folder + ".partial"
    if ensure_private_dir(partial):
        shutil.rmtree(partial)
        ensure_private_dir(partial)
    try:
        try:
            yield partial
            fsync_dir(partial)
            if os.path.lexists(folder):
                raise MigrationError("%s was made meanwhile" % folder, code="SALVAGE_EXISTS")
            os.rename(partial, folder)
            fsync_dir(os.path.dirname(folder))
        except OSError as error:
            raise MigrationError(
                "cannot write to %s: %s" % (folder, error.strerror), code="DISK_FULL" if error.errno in (28, 122) else "BACKUP_DIR_UNSAFE"
            ) from None
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def _done(folder: str, kept: t.Mapping[str, t.Any], options: KeptOptions) -> dict[str, t.Any]:
    """What an earlier run wrote with the same options; its files are checked."""
    ensure_private_dir(folder, create=False)
    try:
        with open(os.path.join(folder, files.INDEX), "rb") as handle:
            index = json.loads(handle.read())
        same = all(index[word] == value for word, value in _request(kept, options).items())
        entries = [entry for table in index["tables"] for entry in table["files"]]
        intact = same and all(hash_file(os.path.join(folder, entry["path"])) == (entry["size"], entry["sha256"]) for entry in entries)
    except (OSError, ValueError, KeyError, TypeError):
        intact = False
    if not intact:
        raise MigrationError("%s is there and is not this salvage" % folder, code="SALVAGE_EXISTS")
    return _result(folder, index)


def _request(kept: t.Mapping[str, t.Any], options: KeptOptions) -> dict[str, t.Any]:
    tables = None if options.tables is None else sorted(options.tables)
    return {"format": FORMAT, "kept": {word: kept[word] for word in ("name", "oid", "run_id", "at")}, "file_format": options.format, "only": tables}


def _result(folder: str, index: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
    tables = [{word: table[word] for word in ("table", "added", "changed", "keyed")} for table in index["tables"]]
    sums = {"rows_" + word: sum(table[word] for table in tables) for word in ("added", "changed")}
    return dict(sums, salvage_dir=folder, tables=tables)


class _Salvage:
    """One salvage into an empty folder."""

    def __init__(self, target: Target, options: KeptOptions, kept: t.Mapping[str, t.Any], kept_conn: t.Any, live_conn: t.Any, folder: str) -> None:  # noqa: PLR0917
        self.target, self.options, self.kept, self.folder = target, options, kept, folder
        self.kept_conn, self.live_conn = kept_conn, live_conn
        self.notes: list[str] = []
        self.parts: dict[str, list[bytes]] = {files.LOAD: [], files.LOAD_CHANGED: []}
        self.selfish: set[str] = set()
        #: Table -> its rows in kept and in live.
        self.sizes: dict[str, tuple[int, ...]] = {}

    def write(self) -> dict[str, t.Any]:
        """All files; the content of index.json."""
        kept_print = plain(take(self.kept_conn))
        live_print = plain(take(self.live_conn, columns_from=kept_print))
        if kept_print["large_objects"] != live_print["large_objects"]:
            self.notes.append("The large objects differ; they are not in the files, and stay in the kept database only.")
        labels = self._wanted(kept_print, live_print)
        self.sizes = {label: tuple(int((side["tables"].get(label) or {"rows": 0})["rows"]) for side in (kept_print, live_print)) for label in labels}
        order, cyclic = self._order(labels, kept_print)
        with pinned(self.kept_conn) as source, pinned(self.live_conn) as live:
            # Text that a client can convert; where the server knows no encoding, nobody can.
            encoding = "SQL_ASCII" if source.encoding == "SQL_ASCII" else "UTF8"
            source.encoding = live.encoding = encoding
            there, here = source.shapes(order), live.shapes(order)
            tables = [self._table(number, source, live, there[label], here.get(label)) for number, label in enumerate(order, 1)]
            sequences = sequences_back(live_print, kept_print)
            write_private(os.path.join(self.folder, files.SEQUENCES), files.sequences_script(sequences, self.live_conn, encoding))
        for name, parts in self.parts.items():
            write_private(os.path.join(self.folder, name), files.script(parts, encoding))
        made_at = now()
        index = dict(
            _request(self.kept, self.options),
            database=self.target.dbname,
            made_at=made_at,
            encoding=encoding,
            tables=[entry for entry in tables if entry["files"]],
        )
        index.update(sequences=sequences, circle=cyclic, notes=self.notes)
        write_private(os.path.join(self.folder, files.README), files.readme(self.kept, self.target.dbname, made_at, cyclic, self.notes))
        write_private(os.path.join(self.folder, files.INDEX), (json.dumps(index, indent=1, sort_keys=True) + "\n").encode("ascii"))
        return index

    def _wanted(self, kept: t.Mapping[str, t.Any], live: t.Mapping[str, t.Any]) -> list[str]:
        """The tables whose content differs, among those that were asked for."""
        only = self.options.tables
        missing = sorted(set(only or ()) - set(kept["tables"]))
        if missing:
            raise MigrationError(
                "%s has no table %s" % (self.kept["name"], ", ".join(missing)),
                code="OPTION_INVALID",
                next_step="write tables as public.users: -e migration_salvage_tables=public.users,public.notes (tables of kept_database)",
            )
        # Rows of the ledger would claim what the live schema does not have.
        ledger = "." + LEDGER
        if any(label.endswith(ledger) and entry != live["tables"].get(label) for label, entry in kept["tables"].items()):
            self.notes.append("The ledger %s differs; it is not in the files, as live's must tell of live." % LEDGER)
        names = [label for label in kept["tables"] if (only is None or label in only) and not label.endswith(ledger)]
        return [label for label in names if kept["tables"][label]["rows"] and kept["tables"][label] != live["tables"].get(label)]

    def _order(self, labels: t.Collection[str], kept: t.Mapping[str, t.Any]) -> tuple[list[str], list[str]]:
        """The tables so that what is referred to comes first, and those where that cannot be."""
        with reading("the catalogue"):
            edges = rows(self.kept_conn, _FOREIGN_KEYS)
        needs: dict[str, set[str]] = {label: set() for label in labels}
        for child, parent in edges:
            for label in labels:
                if child in needs and (label == parent or parent in (kept["tables"][label].get("parents") or ())):
                    needs[child].add(label)
        self.selfish = {label for label in labels if label in needs[label]}
        order: list[str] = []
        while len(order) < len(needs):
            free = sorted(label for label in needs if label not in order and needs[label] <= {*order, label})
            if not free:
                cyclic = sorted(set(needs) - set(order))
                return order + cyclic, cyclic
            order += free
        return order, []

    def _table(self, number: int, source: DatabaseRows, live: DatabaseRows, there: Shape, here: Shape | None) -> dict[str, t.Any]:  # noqa: PLR0917
        columns = there.columns if here is None else tuple(column for column in there.columns if column in here.columns)
        left_out = [column for column in there.columns if column not in columns]
        key: Columns = ()
        if here is not None:
            own = {frozenset(found) for found, _immediate in there.keys}
            # Unique in both, and the server can find a row by it.
            key = next((found for found, immediate in here.keys if immediate and frozenset(found) in own and set(found) <= set(columns)), ())
        shape = here or there
        entry: dict[str, t.Any] = {"table": there.label, "columns": list(columns), "columns_left_out": left_out, "key": list(key), "files": []}
        entry.update(added=0, changed=0, keyed=bool(key), in_live=here is not None)
        together = there.label in self.selfish
        suffix = self.options.format
        more = files.sheet(
            self.folder, files.file_name(number, there.label, suffix), shape, columns, suffix, source.encoding, self.kept_conn, together
        )  # fmt: skip
        other = files.sheet(
            self.folder, files.file_name(number, there.label, "changed." + suffix), shape, columns, suffix, source.encoding, self.kept_conn, key=key
        )  # fmt: skip
        if here is None:
            self.notes.append("%s has no table %s: make it before its rows are loaded." % (self.target.dbname, there.label))
            source.copy(there, columns, more.write)
        else:
            self._differing(source, live, there, columns, key, {ADDED: more.write, CHANGED: other.write})
            if not key and more.rows:
                text = "%s was compared by whole rows, as nothing in it can be compared as a key: a row that was changed is among those that are missing."
                self.notes.append(text % there.label)
        if left_out:
            text = "%s has no column %s in %s, or computes it: its content is not in the files."
            self.notes.append(text % (self.target.dbname, ", ".join(left_out), there.label))
        for sheet, script, counted, by in ((more, files.LOAD, "added", ()), (other, files.LOAD_CHANGED, "changed", key)):
            done = sheet.close()
            if done is not None:
                entry["files"].append(dict(done, kind=counted))
                entry[counted] = done["rows"]
                part = files.load_part(done["path"], shape, columns, suffix, self.kept_conn, by, number)
                if not part:
                    self.notes.append("%s is in none of the scripts, as psql's copy takes no line break in a name: use the format sql for it." % done["path"])
                self.parts[script].append(part)
        return entry

    def _differing(self, source: DatabaseRows, live: DatabaseRows, there: Shape, columns: Columns, key: Columns, sinks: t.Mapping[int, t.Any]) -> None:  # noqa: PLR0917
        """Give each row that live has not, or has otherwise, to its sink. The rows of kept are read twice."""
        verdicts: dict[int, bytes] = {}
        expected = self.sizes[there.label]
        with pair(max(expected), [columns.index(column) for column in key]) as (before, after):
            found = source.copy(there, columns, after.writer()), live.copy(there, columns, before.writer())
            if found != expected:
                raise _disturbed(there)
            compare(before, after, verdicts.__setitem__)
            _sort(source, there, columns, after, verdicts, sinks)


def _sort(source: DatabaseRows, shape: Shape, columns: Columns, after: Rows, verdicts: t.Mapping[int, bytes], sinks: t.Mapping[int, t.Any]) -> None:  # noqa: PLR0917
    verdict = again(after, verdicts)

    def sort(line: bytes) -> None:
        sink = sinks.get(verdict(line))
        if sink is not None:
            sink(line)

    if source.copy(shape, columns, sort) != after.count:
        raise _disturbed(shape)


def _disturbed(shape: Shape) -> MigrationError:
    return MigrationError("%s changed while it was read" % shape.label, code="FINGERPRINT_DISTURBED")


__all__ = ("FORMAT", "FORMATS", "salvage")
