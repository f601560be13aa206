# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Comments, owners and rights of a draft. Pure: no I/O.

Only of what both schemas have and what stays: the rest is drafted once it is there.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import NOT_DRAFTED, Change, Draft, Note, literal

#: The types that pg_identify_object names, as COMMENT ON calls them.
_COMMENTED = {
    "table column": "COLUMN", "view column": "COLUMN", "materialized view column": "COLUMN", "foreign table column": "COLUMN",
    "composite type column": "COLUMN", "table constraint": "CONSTRAINT", "domain constraint": "CONSTRAINT", "statistics object": "STATISTICS",
    "composite type": "TYPE",
}  # fmt: skip
_RELATIONS = ("TABLE", "VIEW", "MATERIALIZED VIEW")


def write(change: Change, result: Draft) -> None:
    _comments(change, result)
    goal, now = change.goal, change.now
    for key, owner in goal.owners.items():
        if key in now.owners and now.owners[key] != owner:
            result.add("rights", "ALTER %s %s OWNER TO %s" % (*key, owner))
    for key, rights in goal.rights.items():
        # A new owner takes the rights of the old one with it: looked at again after that.
        if key in now.rights and now.rights[key] != rights and now.owners[key] == goal.owners[key]:
            _rights(key, rights, now.rights[key], result)
    for where in sorted(set(goal.default_rights) | set(now.default_rights), key=str):
        # One for all schemas replaces the built-in rights, so its absence stands for those; one for a schema only adds.
        builtin = goal.builtin_rights.get(where) or now.builtin_rights.get(where) or set()
        _default_rights(where, goal.default_rights.get(where, builtin), now.default_rights.get(where, builtin), result)


def _comments(change: Change, result: Draft) -> None:
    goal, now = change.goal.comments, change.now.comments
    for key in sorted(set(goal) | set(now)):
        if goal.get(key) == now.get(key):
            continue
        kind, identity = key
        if kind == "domain constraint":
            name, _on, domain = identity.rpartition(" on ")
            identity = "%s ON DOMAIN %s" % (name, domain)
        text = goal.get(key)
        # What lost its comment may be gone by then, which is as good.
        phase = "comment" if text is not None else "drop comment"
        result.add(phase, "COMMENT ON %s %s IS %s" % (_COMMENTED.get(kind, kind.upper()), identity, "NULL" if text is None else literal(text)))


def _rights(key: tuple[str, str], goal: set[tuple[t.Any, ...]], now: set[tuple[t.Any, ...]], result: Draft) -> None:
    word, name = key
    on = "%s %s" % ("TABLE" if word in _RELATIONS else "TYPE" if word == "DOMAIN" else "FUNCTION" if word == "AGGREGATE" else word, name)
    for column, grantee, privilege, grantable in sorted(now - goal, key=str):
        what = "%s (%s)" % (privilege, column) if column else privilege
        result.add("rights", "REVOKE %s ON %s FROM %s" % (what, on, grantee))
        # What is to stay, only without the right to pass it on, is given again.
        if grantable and (column, grantee, privilege, False) in goal:
            result.add("rights", "GRANT %s ON %s TO %s" % (what, on, grantee))
    for column, grantee, privilege, grantable in sorted(goal - now, key=str):
        what = "%s (%s)" % (privilege, column) if column else privilege
        result.add("rights", "GRANT %s ON %s TO %s%s" % (what, on, grantee, " WITH GRANT OPTION" if grantable else ""))


def _default_rights(where: tuple[t.Any, ...], goal: set[tuple[t.Any, ...]], now: set[tuple[t.Any, ...]], result: Draft) -> None:
    role, schema, what = where
    if what is None and goal != now:
        result.notes.append(Note(NOT_DRAFTED, str(role), "the default privileges of %s are not drafted" % role))
        return
    alter = "ALTER DEFAULT PRIVILEGES FOR ROLE %s%s " % (role, " IN SCHEMA %s" % schema if schema else "")
    for grantee, privilege, _grantable in sorted(now - goal):
        result.add("rights", "%sREVOKE %s ON %s FROM %s" % (alter, privilege, what, grantee))
    for grantee, privilege, grantable in sorted(goal - now):
        result.add("rights", "%sGRANT %s ON %s TO %s%s" % (alter, privilege, what, grantee, " WITH GRANT OPTION" if grantable else ""))


__all__ = ("write",)
