# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Databases that are made for one purpose and dropped again: known by their comment, never by their name alone."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._backup import new_id, now
from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, psycopg2, row, rows, sql, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import marker
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name
from ansible_collections.pgops.migrations.plugins.module_utils._marked import LEFTOVER, marked, word_of
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: A staging database becomes live by a swap; a scratch database, and that of a drill, never does.
STAGING, SCRATCH, DRILL = "staging", "scratch", "drill"
#: The words in the names of those that may be dropped unmarked, by kind.
_WORDS = {STAGING: "restore", SCRATCH: "scratch", DRILL: "drill"}
# Whoever made it could never enter it, so nothing is in it that is not elsewhere: it is empty, or the copy of a snapshot.
_NEVER_MARKED = """
SELECT datname::text FROM pg_database
 WHERE datname = %s AND NOT datallowconn AND NOT datistemplate AND shobj_description(oid, 'pg_database') IS NULL AND pg_has_role(datdba, 'USAGE')
"""
#: What this process has made and not dropped yet; all else of its kind was left by a run that was killed.
_MINE: set[str] = set()


def create(conn: t.Any, target: Target, name: str, like: t.Mapping[str, t.Any], kind: str = SCRATCH, **facts: t.Any) -> tuple[int, str]:
    """Make an empty database that nobody else may enter; its OID and its comment.

    :param conn: an autocommit connection to another database of the server.
    :param like: properties of the live database, see ``_dbsettings.read_settings``.
    :param facts: what the comment shall say besides kind and database.
    """
    return make(conn, target, name, create_statement(name, like), kind, **facts)


def make(conn: t.Any, target: Target, name: str, statement: t.Any, kind: str, **facts: t.Any) -> tuple[int, str]:
    """The same with a CREATE DATABASE of the caller's, which says ALLOW_CONNECTIONS false.

    Closed until it is marked: a run that is killed in between leaves nothing that anybody can enter.
    """
    comment = marker(kind, database=target.dbname, at=now(), **facts)
    database = sql.Identifier(name)
    with sql_errors("make the database %s" % name, target, default="RESTORE_FAILED"):
        execute(conn, statement)
        _failpoint.reached("scratch:created")
        try:
            execute(conn, sql.SQL("COMMENT ON DATABASE {} IS {}").format(database, sql.Literal(comment)))
            execute(conn, sql.SQL("REVOKE CONNECT ON DATABASE {} FROM PUBLIC").format(database))
            execute(conn, sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS true").format(database))
            found = row(conn, "SELECT oid::bigint FROM pg_database WHERE datname = %s", (name,))
        except BaseException:
            with contextlib.suppress(MigrationError, psycopg2.Error):
                drop(conn, target, name)
            raise
    return int(found[0]) if found else 0, comment


def drop_left(conn: t.Any, target: Target, kind: str, owner: str = "") -> list[str]:
    """Drop the databases of this kind that this run or an earlier one made for the target; their names.

    The caller holds the lock under which such databases are made. One whose drop was interrupted is dropped, too, and
    one that the server made to its end for a client that was killed: nobody could mark it any more.

    :param owner: see ``_marked.marked``.
    """
    dropped = []
    for each in marked(conn, target.dbname, owner=owner):
        unmarked = each.kind == LEFTOVER and not each.facts and _never_marked(conn, target, each.name, kind)
        if (unmarked or each.facts.get("kind") == kind) and each.name not in _MINE:
            drop(conn, target, each.name)
            dropped.append(each.name)
    return dropped


def _never_marked(conn: t.Any, target: Target, name: str, kind: str) -> bool:
    """Whether the name is one that only a database of this kind and target gets, and it is closed, without a comment and of the own role."""
    word = _WORDS.get(kind)
    if not word or word_of(name, target.dbname) != word or row(conn, _NEVER_MARKED, (name,)) is None:
        return False
    # Two long names can be the same where they are cut; then it may be what another run makes right now.
    others = rows(conn, "SELECT datname::text FROM pg_database WHERE datname <> ALL(%s)", ([target.dbname, name],))
    return not any(word_of(name, other) for (other,) in others)


def drop(conn: t.Any, target: Target, name: str) -> None:
    """Drop a database of ours and end whoever is in it."""
    with sql_errors("drop the database %s" % name, target, default="RESTORE_FAILED"):
        execute(conn, sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))


@contextlib.contextmanager
def scratch_database(target: Target, lock: t.Any, live_settings: t.Mapping[str, t.Any], word: str = SCRATCH, run_id: str = "") -> t.Iterator[str]:
    """The name of an empty database beside the target's, dropped at the end of the block.

    :param lock: the connection that ``_lock.run_lock`` yields.
    :param live_settings: see :func:`create`.
    :param word: kind and part of the name. Left-over databases of the same kind are dropped first, so whoever
        makes some of a kind holds one lock for all of them.
    """
    drop_left(lock, target, word)
    name = derived_name(target.dbname, word, new_id())
    _MINE.add(name)
    try:
        create(lock, target, name, live_settings, word, run_id=run_id)
        yield name
    finally:
        # What cannot be dropped now carries its marker, and the next run drops it.
        with contextlib.suppress(MigrationError, psycopg2.Error):
            drop(lock, target, name)
        _MINE.discard(name)


def create_statement(name: str, live: t.Mapping[str, t.Any]) -> t.Any:
    """CREATE DATABASE, closed, with the owner, encoding, locale and tablespace of another one; see _dbsettings.read_settings."""
    parts = [sql.SQL("CREATE DATABASE {} TEMPLATE template0").format(sql.Identifier(name))]
    parts.append(sql.SQL("OWNER {}").format(sql.Identifier(live["owner"])))
    # Naming the default one needs a right that using it does not.
    if live["tablespace"] != "pg_default":
        parts.append(sql.SQL("TABLESPACE {}").format(sql.Identifier(live["tablespace"])))
    provider = live["locale_provider"]
    options = [("ENCODING", live["encoding"]), ("LC_COLLATE", live["collate"]), ("LC_CTYPE", live["ctype"])]
    if provider != "libc":
        options += [("LOCALE_PROVIDER", provider), ("ICU_LOCALE" if provider == "icu" else "BUILTIN_LOCALE", live["locale"]), ("ICU_RULES", live["icu_rules"])]
    parts += [sql.SQL(words + " {}").format(sql.Literal(value)) for words, value in options if value is not None]
    return sql.SQL(" ").join([*parts, sql.SQL("ALLOW_CONNECTIONS false")])


__all__ = ("DRILL", "SCRATCH", "STAGING", "create", "create_statement", "drop", "drop_left", "make", "scratch_database")
