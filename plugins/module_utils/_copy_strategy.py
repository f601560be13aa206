# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Decisions about a template copy, over plain data: how it is made, and whether an earlier one still is the present state."""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name

#: The word in the name of a snapshot, and the kind in its comment.
SNAPSHOT = "snapshot"
STRATEGIES = ("auto", "file_copy", "wal_log")
#: Below this size writing every page to the WAL is cheaper than the two checkpoints of a file copy.
WAL_LOG_BELOW = 64 << 20
FILE_COPY, WAL_LOG = "file_copy", "wal_log"
_ID_IN_NAME = re.compile(r"__%s_([0-9]{8}t[0-9]{6}z_[0-9a-f]{6})$" % SNAPSHOT)


@dataclasses.dataclass(frozen=True)
class Strategy:
    """How the server shall copy.

    :param named: whether the server has STRATEGY in CREATE DATABASE (15 and newer).
    :param clone: whether to ask it for copy-on-write files first (18 and newer).
    """

    name: str
    named: bool
    clone: bool


def choose(wanted: str, size_bytes: int, server_version_num: int) -> Strategy:
    """The strategy for a source of this size.

    :raises MigrationError: ``OPTION_INVALID`` when the server has not the one that is wanted.
    """
    if wanted not in STRATEGIES:
        raise MigrationError("strategy %r is none of %s" % (wanted, ", ".join(STRATEGIES)), code="OPTION_INVALID")
    named = server_version_num >= 150000
    if not named and wanted == WAL_LOG:
        raise MigrationError("strategy wal_log needs PostgreSQL 15 or newer", code="OPTION_INVALID")
    name = wanted
    if wanted == "auto":
        name = WAL_LOG if named and size_bytes < WAL_LOG_BELOW else FILE_COPY
    return Strategy(name, named, clone=name == FILE_COPY and server_version_num >= 180000)


@dataclasses.dataclass(frozen=True)
class Marks:
    """What tells cheaply whether a database has changed since it was copied.

    :param next_xid: the transaction id that the server gives out next; all that is logged needs one.
    :param sequences: digest of all sequence values, which can move without one; empty where
        there is something else that can, as an unlogged table, which a crash empties.
    """

    system_identifier: str
    source_oid: int
    next_xid: int
    sequences: str
    ledger: t.Mapping[str, t.Any] | None


def is_present(snapshot: t.Mapping[str, t.Any], now: Marks) -> bool:
    """Whether the marks prove that the source still is what the snapshot holds."""
    return (
        bool(now.sequences)
        and snapshot.get("system_identifier") == now.system_identifier
        and snapshot.get("source_oid") == now.source_oid
        and snapshot.get("next_xid") == now.next_xid
        and snapshot.get("sequences") == now.sequences
        and snapshot.get("ledger") == now.ledger
    )


def left_over(name: str, dbname: str) -> bool:
    """Whether a database without a comment has a name that only a snapshot of this database gets by itself."""
    found = _ID_IN_NAME.search(name)
    return bool(found) and name == derived_name(dbname, SNAPSHOT, found.group(1) if found else "")


__all__ = ("FILE_COPY", "Marks", "SNAPSHOT", "STRATEGIES", "Strategy", "WAL_LOG", "WAL_LOG_BELOW", "choose", "is_present", "left_over")
