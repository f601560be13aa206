# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which rights a GRANT or REVOKE gives or takes, and whether that is what came and went. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql_names

#: (role, right); a right WITH GRANT OPTION has one more with a star.
Right = t.Tuple[str, str]
#: Roles by another name than their own.
_ANY_ROLE = frozenset(["current_user", "current_role", "session_user"])
_END = frozenset(["with", "granted", "cascade", "restrict"])


class Change(t.NamedTuple):
    """What one statement does to rights; an empty set of rights or roles means all of them.

    :ivar owner: the role that owns the object from now on; such a change gives and takes nothing else.
    """

    gives: bool
    rights: frozenset[str]
    roles: frozenset[str]
    owner: str = ""

    def explains(self, right: Right, gained: bool) -> bool:
        return self.gives is gained and self._has(right)

    def _has(self, right: Right) -> bool:
        return (not self.roles or right[0] in self.roles) and (not self.rights or right[1].rstrip("*") in self.rights)


def change(statement: str) -> Change | None:
    """What GRANT, REVOKE or OWNER TO does; None for another statement."""
    tokens = [token for token in _sql_names.tokens(statement) if token[0] != "text"]
    words = [value if kind != "name" else "" for kind, value in tokens]
    if words[:1] == ["alter"] and "privileges" not in words and any(words[at : at + 2] == ["owner", "to"] for at in range(len(words))):
        return Change(False, frozenset(), frozenset(), tokens[min(words.index("owner") + 2, len(tokens) - 1)][1])
    if words[:1] not in (["grant"], ["revoke"]) or "on" not in words:
        return None
    gives = words[0] == "grant"
    on, to = words.index("on"), _last(words, "to" if gives else "from")
    rights, depth = set(), 0
    for word in words[1:on]:
        depth += {"(": 1, ")": -1}.get(word, 0)
        # With columns in parentheses; ALL, or ALL PRIVILEGES, is any.
        if not depth and word.isalpha() and word not in ("option", "for", "grant"):
            rights.add(word.upper())
    roles: set[str] = set()
    for kind, value in tokens[to + 1 :]:
        if kind == "word" and value in _END:
            break
        if kind in ("word", "name") and (kind, value) != ("word", "group"):
            roles.add(value)
    everyone = not gives and "cascade" in words
    return Change(gives, frozenset() if "ALL" in rights else frozenset(rights), frozenset() if everyone or roles & _ANY_ROLE else frozenset(roles))


def _last(words: t.Sequence[str], word: str) -> int:
    return max((at for at, value in enumerate(words) if value == word), default=len(words))


def rights(definition: t.Any) -> frozenset[Right] | None:
    """``app: INSERT, SELECT (with grant option); public: SELECT`` as pairs; None where only its hash was kept."""
    if not definition or definition == "none":
        return frozenset()
    if not isinstance(definition, str) or definition.startswith("sha256:"):
        return None
    found: set[Right] = set()
    role, word, takes_role = "", "", True
    for kind, value in _sql_names.tokens(definition):
        if (kind, value) == ("sign", ";"):
            takes_role = True
        elif (kind, value) == ("sign", ":"):
            takes_role = False
        elif takes_role and kind in ("word", "name"):
            role = value
        elif kind == "word" and value not in ("with", "grant", "option"):
            word = value.upper()
            found.add((role, word))
        elif (kind, value) == ("word", "grant"):
            found.add((role, word + "*"))
    return frozenset(found)


def explained(before: t.Any, after: t.Any, changes: t.Sequence[Change]) -> bool | None:
    """Whether each right that came and each that went is one that a statement names; None where the rights are not known."""
    old, new = rights(before), rights(after)
    if old is None or new is None:
        return None
    gained, lost = new - old, old - new
    plain = [each for each in changes if not each.owner]
    owners = {each.owner for each in changes if each.owner}
    left = [right for right in gained if right[0] not in owners and not any(each.explains(right, True) for each in plain)]
    gone = [right for right in lost if not any(each.explains(right, False) for each in plain)]
    # The rights of the owner before are those of the next one; of no other role are any lost by it.
    passed_on = len({role for role, _right in gone}) == 1 and all((owner, right) in new for owner in owners for _role, right in gone)
    return not left and (not gone or (bool(owners) and passed_on))


__all__ = ("Change", "Right", "change", "explained", "rights")
