# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How two sets of rows differ, in memory that does not grow with them.

Of each row only two digests are kept: that of its key, and that of the whole row. They go to
files without a name, split by the key's digest, and each such part is then compared in a
dict. The digests are keyed by a secret of this comparison, so they tell nothing about the
rows, and a process that is killed leaves no file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import struct
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._copytext import split
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

DIGEST = 16
RECORD = struct.Struct("%ds%ds" % (DIGEST, DIGEST))
#: A part of so many rows takes about 25 MB in a dict.
ROWS_IN_PART = 100_000
#: Two files are open for each; a process may have 1024.
MOST_PARTS = 256
#: Rows between two writes to the files.
_FLUSH = 1 << 15
#: What became of a row of the second set.
SAME, ADDED, CHANGED = 0, 1, 2


@dataclasses.dataclass(frozen=True)
class Counts:
    """Rows only in the second set, with another content, only in the first one.

    ``keyed`` is false where rows were compared as a whole; nothing is C(changed) then.
    """

    added: int
    changed: int
    removed: int
    keyed: bool


class Rows:
    """The digests of one set of rows."""

    def __init__(self, secret: bytes, parts: int, key: t.Sequence[int], stack: contextlib.ExitStack) -> None:
        self.secret, self.key, self.count = secret, tuple(key), 0
        self.files = [stack.enter_context(tempfile.TemporaryFile(prefix="pgops-migrations-rows-")) for _number in range(parts)]  # noqa: SIM115
        self._waiting: list[list[bytes]] = [[] for _number in range(parts)]

    def hasher(self) -> t.Callable[[bytes], bytes]:
        """The function from a line to its record. A set without a key is its own key."""
        start = hashlib.blake2b(digest_size=DIGEST, key=self.secret).copy
        key = self.key

        def whole(line: bytes) -> bytes:
            value = start()
            value.update(line)
            return value.digest() * 2

        def leading(line: bytes) -> bytes:
            value, rest = start(), start()
            value.update(line.partition(b"\t")[0])
            rest.update(line)
            return value.digest() + rest.digest()

        def any_key(line: bytes) -> bytes:
            value, rest, fields = start(), start(), split(line)
            value.update(b"\t".join([fields[position] for position in key]))
            rest.update(line)
            return value.digest() + rest.digest()

        return whole if not key else leading if key == (0,) else any_key

    def writer(self) -> t.Callable[[bytes], None]:
        """The function that takes the lines, one at a time; :meth:`flush` at the end."""
        record, waiting, parts = self.hasher(), self._waiting, len(self.files)

        def write(line: bytes) -> None:
            entry = record(line)
            # The first two bytes: one would not do for an even split into 100 parts.
            waiting[(entry[0] << 8 | entry[1]) % parts].append(entry)
            self.count += 1
            if self.count % _FLUSH == 0:
                self.flush()

        return write

    def flush(self) -> None:
        """Everything to the files.

        :raises MigrationError: ``DISK_FULL``.
        """
        for file, entries in zip(self.files, self._waiting):
            if entries:
                with room_for_rows():
                    file.write(b"".join(entries))
                entries.clear()

    def part(self, number: int) -> bytes:
        """The records of one part, in the order in which they came."""
        file = self.files[number]
        with room_for_rows():
            file.seek(0)
            return file.read()

    def place(self, record: bytes) -> int:
        """The part that a record is in."""
        return (record[0] << 8 | record[1]) % len(self.files)


@contextlib.contextmanager
def room_for_rows() -> t.Iterator[None]:
    """:raises MigrationError: ``DISK_FULL`` where the block cannot write."""
    try:
        yield
    except OSError as error:
        raise MigrationError("cannot write to %s: %s" % (tempfile.gettempdir(), error.strerror), code="DISK_FULL") from None


@contextlib.contextmanager
def pair(rows: int, key: t.Sequence[int]) -> t.Iterator[tuple[Rows, Rows]]:
    """Two empty sets that can be compared.

    :param rows: about as many as the larger one will have.
    :param key: positions of the key's columns in a line; none where there is no key.
    """
    parts = max(1, min(MOST_PARTS, rows // ROWS_IN_PART + 1))
    secret = os.urandom(DIGEST)
    with contextlib.ExitStack() as stack:
        with room_for_rows():
            both = Rows(secret, parts, key, stack), Rows(secret, parts, key, stack)
        yield both


def compare(first: Rows, second: Rows, verdicts: t.Callable[[int, bytes], t.Any] | None = None) -> Counts:
    """What the second set has added, changed and removed.

    A key that is there twice in the first set is none, and rows are compared as a whole then.

    :param verdicts: is given each part's number and one byte for each of its rows in the second set; what it is given last for a number counts.
    """
    first.flush()
    second.flush()
    for by in (_by_key, _as_a_whole) if first.key else (_as_a_whole,):
        added = changed = removed = 0
        for number in range(len(first.files)):
            result = by(first.part(number), second.part(number))
            if result is None:
                break
            found, left = result
            added += found.count(ADDED)
            changed += found.count(CHANGED)
            removed += left
            if verdicts is not None:
                verdicts(number, bytes(found))
        else:
            return Counts(added, changed, removed, by is _by_key)
    raise AssertionError("rows as a whole can always be compared")


def again(rows: Rows, verdicts: t.Mapping[int, bytes]) -> t.Callable[[bytes], int]:
    """The function that gives the verdict for each line of a set that is read a second time, in the same order.

    :raises MigrationError: ``FINGERPRINT_DISTURBED``, by that function, when it is another line than the first time.
    """
    record, size = rows.hasher(), RECORD.size
    positions = [0] * len(rows.files)
    for file in rows.files:
        file.seek(0)

    def verdict(line: bytes) -> int:
        entry = record(line)
        part = rows.place(entry)
        position = positions[part]
        if rows.files[part].read(size) != entry:
            raise MigrationError("the rows are not the same as when they were read first", code="FINGERPRINT_DISTURBED")
        positions[part] = position + 1
        return verdicts[part][position]

    return verdict


def _by_key(first: bytes, second: bytes) -> tuple[bytearray, int] | None:
    """A verdict for each record of the second, and how many of the first are left; None where a key is there twice."""
    rest_of = dict(RECORD.iter_unpack(first))
    if len(rest_of) * RECORD.size != len(first):
        return None
    take = rest_of.pop
    found = bytearray()
    tell = found.append
    for key, rest in RECORD.iter_unpack(second):
        before = take(key, None)
        tell(SAME if before == rest else ADDED if before is None else CHANGED)
    return found, len(rest_of)


def _as_a_whole(first: bytes, second: bytes) -> tuple[bytearray, int] | None:
    """The same for multisets: of rows that are alike, the first ones are the same."""
    there: dict[bytes, int] = {}
    for _key, rest in RECORD.iter_unpack(first):
        there[rest] = there.get(rest, 0) + 1
    found = bytearray()
    for _key, rest in RECORD.iter_unpack(second):
        number = there.get(rest, 0)
        found.append(SAME if number else ADDED)
        if number:
            there[rest] = number - 1
    return found, sum(there.values())


__all__ = ("ADDED", "CHANGED", "Counts", "DIGEST", "RECORD", "Rows", "SAME", "again", "compare", "pair", "room_for_rows")
