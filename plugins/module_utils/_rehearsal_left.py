# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a rehearsal makes beside a database, and that nothing of it stays.

The copy is a database of a drill, by name, comment and lock, so a drill clears it, too. What a deploy and a way back
make beside the copy belongs to the copy by its comment, and is of no use to anybody once the copy is gone.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import psycopg2, rows
from ansible_collections.pgops.migrations.plugins.module_utils._copy_strategy import SNAPSHOT
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._marked import LEFTOVER, Marked, marked, read_facts, word_of
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import DRILL, SCRATCH, STAGING, drop, drop_left
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

# As in _marked: what roles wrote that nobody has a reason to trust is not even fetched.
_MARKS = """
SELECT shobj_description(d.oid, 'pg_database') FROM pg_database d JOIN pg_roles o ON o.oid = d.datdba
 WHERE (o.rolsuper OR o.rolname = current_user OR o.oid = (SELECT l.datdba FROM pg_database l WHERE l.datname = %s))
   AND shobj_description(d.oid, 'pg_database') LIKE 'pgops.migrations {%%'
"""


def clear(lock: t.Any, target: Target) -> list[str]:
    """Drop what rehearsals and drills that were killed left of this target; the names.

    :param lock: the connection that holds the lock of the target's drills.
    :raises MigrationError: where one cannot be dropped.
    """
    dropped = []
    copies = _copies(lock, target)
    for name in sorted(copies):
        dropped += clear_beside(lock, dataclasses.replace(target, dbname=name), copies)
    return dropped + drop_left(lock, target, DRILL)


def clear_beside(lock: t.Any, copy: Target, copies: t.Collection[str] = ()) -> list[str]:
    """Drop all that was made beside a copy: kept and staging databases, snapshots, scratch databases; the names.

    :param copies: more copies of the same target, of which nothing is wanted either.
    """
    dropped = []
    for each in marked(lock, copy.dbname):
        if each.facts.get("database") == copy.dbname or _unmarked_snapshot(lock, each, {copy.dbname, *copies}):
            drop(lock, copy, each.name)
            dropped.append(each.name)
    # Those that nobody could mark any more.
    for kind in (STAGING, SCRATCH):
        dropped += drop_left(lock, copy, kind)
    return dropped


def _unmarked_snapshot(lock: t.Any, found: Marked, copies: t.Collection[str]) -> bool:
    """Whether it is the snapshot of a copy that was not marked any more, and by its name (which may be cut) of nothing else."""
    if found.facts or found.kind != LEFTOVER or not any(word_of(found.name, name) == SNAPSHOT for name in copies):
        return False
    others = rows(lock, "SELECT datname::text FROM pg_database WHERE datname <> ALL(%s)", ([found.name, *copies],))
    return not any(word_of(found.name, other) for (other,) in others)


def left(lock: t.Any, target: Target) -> list[str]:
    """What is there of rehearsals and drills of this target."""
    copies = _copies(lock, target)
    beside = {
        each.name for name in copies for each in marked(lock, name) if each.facts.get("database") == name or _unmarked_snapshot(lock, each, copies)
    }  # fmt: skip
    return sorted(beside | {each.name for each in marked(lock, target.dbname) if each.facts.get("kind") == DRILL})


def _copies(lock: t.Any, target: Target) -> set[str]:
    """The names of copies, also of those that are gone while something beside them is not."""
    names = {each.name for each in marked(lock, target.dbname) if each.facts.get("kind") == DRILL}
    for (comment,) in rows(lock, _MARKS, (target.dbname,)):
        database = (read_facts(comment) or {}).get("database")
        if isinstance(database, str) and word_of(database, target.dbname) == DRILL:
            names.add(database)
    return names


@contextlib.contextmanager
def cleared_after(lock: t.Any, copy: Target) -> t.Iterator[None]:
    """At the end of the block nothing is left beside the copy; what cannot be dropped now, the next run drops."""
    try:
        yield
    finally:
        with contextlib.suppress(MigrationError, psycopg2.Error):
            clear_beside(lock, copy)


__all__ = ("clear", "clear_beside", "cleared_after", "left")
