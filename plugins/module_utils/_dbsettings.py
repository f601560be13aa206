# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What belongs to a database and is not in its archive: owner, rights, limits, settings, comment.

A database that takes another's name does not take these over; they are read from the
one and applied to the other, by statements that are valid inside a transaction.
"""

from __future__ import annotations

import json
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import execute, psycopg2, row, rows, sql
from ansible_collections.pgops.migrations.plugins.module_utils._dbgrants import apply_grants, read_grants
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._precedence import copied, copiers

#: Settings whose value is a list of names; PostgreSQL's own list (GUC_LIST_QUOTE). The
#: stored value is already quoted, so it is taken apart and not quoted once more.
LIST_SETTINGS = frozenset(
    ["local_preload_libraries", "search_path", "session_preload_libraries", "shared_preload_libraries", "temp_tablespaces", "unix_socket_directories"]
)
MARKER = "pgops.migrations "

_DATABASE = """
SELECT pg_get_userbyid(d.datdba), d.datconnlimit, d.datallowconn, d.datistemplate, shobj_description(d.oid, 'pg_database'),
       t.spcname, pg_encoding_to_char(d.encoding), to_jsonb(d) - 'datacl', d.datname
  FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE d.oid = %s
"""
_ACL = """
SELECT DISTINCT coalesce(r.rolname, ''), a.grantee = 0, a.privilege_type, a.is_grantable
  FROM pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a LEFT JOIN pg_roles r ON r.oid = a.grantee
 WHERE d.oid = %s AND (a.grantee = 0 OR r.rolname IS NOT NULL)
 ORDER BY 1, 2, 3, 4
"""
_SETTINGS = """
SELECT coalesce(r.rolname, ''), s.setrole = 0, s.setconfig
  FROM pg_db_role_setting s LEFT JOIN pg_roles r ON r.oid = s.setrole
 WHERE s.setdatabase = %s AND (s.setrole = 0 OR r.rolname IS NOT NULL)
 ORDER BY 1
"""
_LABELS = "SELECT provider, label FROM pg_shseclabel WHERE classoid = 'pg_database'::regclass AND objoid = %s ORDER BY 1"


def read_settings(conn: t.Any, oid: int) -> dict[str, t.Any]:
    """The properties of the database with this OID, as plain values that JSON can hold.

    ``acl``: [grantee or None for PUBLIC, privilege, grantable], the effective rights; ``grants``: the same with the grantor first;
    ``settings``: [role or None for all, name, value as stored].
    """
    found = row(conn, _DATABASE, (oid,))
    if found is None:
        raise MigrationError("there is no database with OID %d" % oid, code="DATABASE_MISSING")
    grants = read_grants(conn, oid)
    catalog = found[7] if isinstance(found[7], dict) else json.loads(found[7])
    return {
        "name": found[8],
        "owner": found[0],
        "connection_limit": found[1],
        "allow_connections": found[2],
        "is_template": found[3],
        "comment": found[4],
        "tablespace": found[5],
        "encoding": found[6],
        "collate": catalog.get("datcollate"),
        "ctype": catalog.get("datctype"),
        # 14 has only libc; 17 renamed the locale's column.
        "locale_provider": {"c": "libc", "i": "icu", "b": "builtin"}.get(catalog.get("datlocprovider", "c"), "libc"),
        "locale": catalog.get("datlocale", catalog.get("daticulocale")),
        "icu_rules": catalog.get("daticurules"),
        "acl": sorted([list(entry) for entry in {tuple(grant[1:]) for grant in grants}], key=lambda entry: (entry[0] or "", *entry[1:])),
        "grants": grants,
        "settings": [[None if everyone else role, *item.split("=", 1)] for role, everyone, config in rows(conn, _SETTINGS, (oid,)) for item in config or []],
        "labels": [list(label) for label in rows(conn, _LABELS, (oid,))],
    }


def split_list(value: str) -> list[str]:
    """The elements of a stored list setting: ``"$user", public`` -> [``$user``, ``public``]."""
    elements: list[str] = []
    at, size = 0, len(value)
    while at < size:
        while at < size and value[at] in " \t\n,":
            at += 1
        if at >= size:
            break
        if value[at] == '"':
            part, at = "", at + 1
            while at < size and (value[at] != '"' or value[at : at + 2] == '""'):
                part, at = part + value[at], at + (2 if value[at] == '"' else 1)
            at += 1
        else:
            start = at
            while at < size and value[at] != ",":
                at += 1
            part = value[start:at].rstrip()
        elements.append(part)
    return elements


def _value(name: str, value: str) -> t.Any:
    if name.lower() not in LIST_SETTINGS:
        return sql.Literal(value)
    # An empty list is written as one empty element.
    return sql.SQL(", ").join([sql.Literal(element) for element in split_list(value)] or [sql.Literal("")])


def setting_name(name: str) -> t.Any:
    """A setting's name, whose parts (``app.user``) are identifiers of their own."""
    return sql.SQL(".").join(sql.Identifier(part) for part in name.split("."))


def apply_settings(conn: t.Any, name: str, oid: int, wanted: t.Mapping[str, t.Any], comment: bool = True) -> list[str]:
    """Give the database ``name`` (with this OID) the owner, rights, settings... in ``wanted``.

    What is already so is left alone, so a role that may not set it again need not.

    :param comment: set the comment, too. That takes a lock which whoever copies the database has, so a rehearsal leaves it out: an owner may set it.
    :returns: the rights that could not be granted by their grantor, and that the owner granted; see ``_dbgrants``.
    """
    database = sql.Identifier(name)
    now = read_settings(conn, oid)
    if now["owner"] != wanted["owner"]:
        execute(conn, sql.SQL("ALTER DATABASE {} OWNER TO {}").format(database, sql.Identifier(wanted["owner"])))
        now = read_settings(conn, oid)
    for key, words in (("connection_limit", "CONNECTION LIMIT"), ("allow_connections", "ALLOW_CONNECTIONS"), ("is_template", "IS_TEMPLATE")):
        if now[key] != wanted[key]:
            execute(conn, sql.SQL("ALTER DATABASE {} {} {}").format(database, sql.SQL(words), sql.Literal(wanted[key])))
    inexact = apply_grants(conn, name, oid, wanted["owner"], wanted["grants"])
    _apply_role_settings(conn, database, now["settings"], wanted["settings"])
    if comment and now["comment"] != wanted["comment"]:
        _comment(conn, name, oid, wanted["comment"])
    for provider, label in wanted["labels"]:
        if [provider, label] not in now["labels"]:
            execute(conn, sql.SQL("SECURITY LABEL FOR {} ON DATABASE {} IS {}").format(sql.Identifier(provider), database, sql.Literal(label)))
    return inexact


def _comment(conn: t.Any, name: str, oid: int, text: str | None) -> None:
    """:raises MigrationError: ``SWAP_REFUSED`` where the session has no limit of its own and somebody copies the database for long."""
    limited = row(conn, "SELECT pg_catalog.set_config('lock_timeout', '3s', true) WHERE pg_catalog.current_setting('lock_timeout') = '0'") is None
    execute(conn, "SAVEPOINT pgops_comment")
    try:
        execute(conn, sql.SQL("COMMENT ON DATABASE {} IS {}").format(sql.Identifier(name), sql.Literal(text)))
    except psycopg2.errors.LockNotAvailable:
        execute(conn, "ROLLBACK TO SAVEPOINT pgops_comment")
        if limited:
            raise
        raise copied(name, copiers(conn, [oid])) from None


def _apply_role_settings(conn: t.Any, database: t.Any, now: list[list[t.Any]], wanted: list[list[t.Any]]) -> None:
    for role, name, _old in now:
        if not any(entry[:2] == [role, name] for entry in wanted):
            execute(conn, sql.SQL("{} RESET {}").format(_subject(database, role), setting_name(name)))
    for entry in wanted:
        if entry not in now:
            execute(conn, sql.SQL("{} SET {} TO {}").format(_subject(database, entry[0]), setting_name(entry[1]), _value(entry[1], entry[2])))


def _subject(database: t.Any, role: str | None) -> t.Any:
    if role is None:
        return sql.SQL("ALTER DATABASE {}").format(database)
    return sql.SQL("ALTER ROLE {} IN DATABASE {}").format(sql.Identifier(role), database)


def marker(kind: str, **facts: t.Any) -> str:
    """The comment by which a database of ours is known: staging, kept."""
    return MARKER + json.dumps(dict(facts, kind=kind), sort_keys=True)


def read_marker(comment: str | None) -> dict[str, t.Any] | None:
    """What :func:`marker` wrote, or None for any other comment."""
    if not (comment or "").startswith(MARKER):
        return None
    try:
        found = json.loads((comment or "")[len(MARKER) :])
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("kind"), str) else None


__all__ = ("apply_settings", "marker", "read_marker", "read_settings", "setting_name", "split_list")
