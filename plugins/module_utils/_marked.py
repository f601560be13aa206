# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The databases that this collection made beside a database: known by a comment that can be believed.

Every role with CREATEDB can own a database and write any comment on it. A comment is believed only where the database
belongs to the owner of the live database, to the current role or to a superuser, and says what it says in the right types.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import rows
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_marker
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import derived_name

#: Of no use to anybody: made and not marked any more by a run that was killed, or half dropped.
LEFTOVER = "leftover"
#: The words in the names of databases that are marked only after they were made.
_NAMED = r"__(snapshot|restore|scratch|drill)_([0-9]{8}t[0-9]{6}z_[0-9a-f]{6})$"
_TEXTS = (
    "database", "id", "run_id", "label", "at", "system_identifier", "fingerprint_digest", "lsn", "sequences", "restored_from", "restored_id", "restore_point",
)  # fmt: skip
_NUMBERS = ("sequence", "source_oid", "next_xid", "restored_oid")
# What untrusted roles wrote is not even fetched: its bytes need not be text.
# The size only where it may be asked for; without the right it is an error. A connection limit of -2: DROP DATABASE did not end.
_DATABASES = """
SELECT d.oid::bigint, d.datname::text, c.text, d.datallowconn, d.datconnlimit = -2,
       CASE WHEN %(sizes)s AND (has_database_privilege(d.oid, 'CONNECT') OR pg_has_role('pg_read_all_stats', 'USAGE')) THEN pg_database_size(d.oid) END
  FROM pg_database d JOIN pg_roles o ON o.oid = d.datdba,
       LATERAL (SELECT CASE WHEN o.rolsuper OR o.rolname IN (current_user, %(owner)s) OR o.oid = (SELECT l.datdba FROM pg_database l WHERE l.datname = %(live)s)
                            THEN coalesce(shobj_description(d.oid, 'pg_database'), '') END) AS c(text)
 WHERE d.datname NOT IN ('template0', 'template1', %(live)s)
   AND (c.text LIKE 'pgops.migrations {%%' OR c.text = '' AND d.datname ~ %(named)s)
 ORDER BY d.datname
"""


@dataclasses.dataclass(frozen=True)
class Marked:
    """A database of ours.

    ``kind``: that of its marker, or :data:`LEFTOVER`. ``facts``: its marker; empty where it has none.
    ``size_bytes``: None where it was not asked for, or the role may not ask for it.
    """

    name: str
    oid: int
    kind: str
    facts: t.Mapping[str, t.Any]
    open: bool
    size_bytes: int | None


def marked(conn: t.Any, dbname: str, sizes: bool = False, owner: str = "") -> list[Marked]:
    """The databases that were made beside the database of this name, by name; it need not exist.

    :param conn: a connection to any database of the server.
    :param owner: of the database that is gone; what that role wrote is believed, too.
    """
    found = []
    for oid, name, comment, is_open, unusable, size in rows(conn, _DATABASES, {"live": dbname, "sizes": sizes, "named": _NAMED, "owner": owner}):
        facts = read_facts(comment)
        if comment and (facts is None or facts["database"] != dbname):
            continue
        word = word_of(name, dbname)
        # A snapshot is opened for its comparison before it is marked.
        if not comment and (not word or (is_open and word != "snapshot" and not unusable)):
            continue
        kind = LEFTOVER if facts is None or unusable else str(facts["kind"])
        found.append(Marked(name, oid, kind, facts or {}, is_open, size))
    return found


def word_of(name: str, dbname: str) -> str:
    """The word in a name that only a database made beside this one gets; else nothing."""
    found = re.search(_NAMED, name)
    return found.group(1) if found and name == derived_name(dbname, found.group(1), found.group(2)) else ""


def read_facts(comment: str | None) -> dict[str, t.Any] | None:
    """What a marker says, or None for any other comment and for one whose values have wrong types."""
    facts = read_marker(comment)
    if facts is None or not isinstance(facts.get("database"), str):
        return None
    pin = facts.get("pinned")
    right = (
        all(facts.get(name) is None or _is_text(facts[name]) for name in ("kind", *_TEXTS))
        and all(facts.get(name) is None or _is_number(facts[name]) for name in _NUMBERS)
        and _is_ledger(facts.get("ledger"))
        and (pin is None or (isinstance(pin, dict) and all(_is_text(value) for value in pin.values())))
    )
    return facts if right else None


def _is_text(value: t.Any) -> bool:
    # JSON can hold what no UTF-8 and no PostgreSQL can.
    return isinstance(value, str) and not re.search("[\0\ud800-\udfff]", value)


def _is_number(value: t.Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63


def _is_ledger(ledger: t.Any) -> bool:
    """As ``_backup_facts.read_ledger`` returns it; None where there was none."""
    if ledger is None:
        return True
    if not isinstance(ledger, dict):
        return False
    names = [ledger.get(key, []) for key in ("applied", "unfinished")]
    return (
        all(isinstance(each, list) and all(_is_text(name) for name in each) for each in names)
        and all(ledger.get(key) is None or _is_text(ledger[key]) for key in ("schema", "head", "digest"))
        and isinstance(ledger.get("clean", False), bool)
        and _is_number(ledger.get("rows", 0))
    )


__all__ = ("LEFTOVER", "Marked", "marked", "read_facts", "word_of")
