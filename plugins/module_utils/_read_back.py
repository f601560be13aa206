# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Read every byte of an archive as pg_restore reads it, without a database; a large one by two processes."""

from __future__ import annotations

import contextlib
import os
import re
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Finished, run_program, started
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: Below this a second process costs more than it saves.
SMALL_BYTES = 64 << 20
_ENTRY = re.compile(rb"(\d+); ")


def read_archive(program: Program, archive: str, target: Target) -> Finished:
    """How pg_restore ended that read the archive, or the first of two that failed.

    :param archive: a custom archive's file or a directory archive's folder.
    """
    argv = [program.path, "--file=/dev/null"]
    sizes = _sizes(archive) if os.path.isdir(archive) else {}
    if sum(sizes.values()) < SMALL_BYTES:
        return _ended(run_program([*argv, archive], target))
    with contextlib.ExitStack() as stack:
        contents = stack.enter_context(tempfile.TemporaryFile())
        with started([program.path, "--list", archive], target, stdout=contents) as child:
            listed = _ended(child.wait())
        if listed.rc != 0:
            return listed
        contents.seek(0)
        children = []
        for part in halves(contents.read(), sizes):
            # Names of tables are in it, in a file that only this user can read.
            selection = stack.enter_context(tempfile.NamedTemporaryFile())
            selection.write(part)
            selection.flush()
            children.append(stack.enter_context(started([*argv, "--use-list=%s" % selection.name, archive], target)))
        ends = [_ended(child.wait()) for child in children]
    return next((end for end in ends if end.rc != 0), ends[0])


def halves(contents: bytes, sizes: t.Mapping[int, int]) -> tuple[bytes, bytes]:
    """The lines of ``pg_restore --list`` in two parts with about as many bytes to read; each entry is in exactly one of them.

    :param sizes: dump id -> bytes of its data.
    """
    found = [(int(match.group(1)), line) for line in contents.splitlines(keepends=True) for match in [_ENTRY.match(line)] if match]
    parts: tuple[list[bytes], list[bytes]] = ([], [])
    loads = [0, 0]
    for number, line in sorted(found, key=lambda entry: sizes.get(entry[0], 0), reverse=True):
        half = 0 if number in sizes and loads[0] <= loads[1] else 1
        parts[half].append(line)
        loads[half] += sizes.get(number, 0)
    return b"".join(parts[0]), b"".join(parts[1])


def _sizes(folder: str) -> dict[int, int]:
    """Dump id -> bytes of its data file."""
    found = {}
    for entry in os.scandir(folder):
        match = re.match(r"(\d+)\.dat", entry.name)
        if match:
            found[int(match.group(1))] = entry.stat(follow_symlinks=False).st_size
    return found


def _ended(done: Finished | None) -> Finished:
    if done is None:  # cannot be without a timeout
        raise MigrationError("pg_restore did not end", code="INTERNAL")
    return done


__all__ = ("halves", "read_archive")
