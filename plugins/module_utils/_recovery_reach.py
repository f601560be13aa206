# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a script may do besides what it says: by functions that it can reach, and to another migration's objects. Pure: no I/O."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparison import names_in
from ansible_collections.pgops.migrations.plugins.module_utils._effects import DATA, DYNAMIC, NONE, effect, survives_a_rollback
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_types import Replay
from ansible_collections.pgops.migrations.plugins.module_utils._sql import keywords, split
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import mentions, scan, split_name

_WORD = re.compile(r"[^\W\d][\w$]*")
_NAME = r'(?:"(?:[^"]|"")*"|[^\W\d][\w$]*)'
_REFERENCES = re.compile(r"\b(?:references|partition of|inherits|on|from|join)\s+(%s(?:\.%s)?)" % (_NAME, _NAME), re.I)
_ANALYZES = re.compile(r"\b(analy[sz]e|vacuum)\b", re.I)
_MANY = frozenset(["cascade", "owned"])


class Function(t.NamedTuple):
    """A function, or what else calls some where it is named: a view, a table by its defaults, checks, rules and policies, a domain.

    ``at_hand``: why it may run without being named: ``rows`` by a trigger of a table, ``ddl`` by one of events,
    ``any`` by an operator or a cast; or empty.
    """

    name: str
    source: str
    at_hand: str = ""


def lasting(script: str, functions: t.Sequence[Function]) -> tuple[str, ...]:
    """The functions that the script can reach and whose work no rollback undoes, as far as their text tells."""
    return tuple(sorted({function.name for function in reached(script, functions) if survives_a_rollback(function.source)}))


def analyzes(script: str, functions: t.Sequence[Function] = ()) -> bool:
    """Whether the script writes statistics, as autovacuum does: not told from it then."""
    return any(_ANALYZES.search(text) for text in [script] + [function.source for function in reached(script, functions)])


def reached(script: str, functions: t.Sequence[Function]) -> set[Function]:
    """The functions that a script can call, by name and from each other."""
    statements = split(script)
    if all(effect(statement) == NONE for statement in statements):
        return set()
    # Definitions fire no trigger of a table, and neither does a table that is made with its rows.
    fired = {"any", "ddl"} | ({"rows"} if any(_writes_rows(statement) for statement in statements) else set())
    at_hand = [function for function in functions if function.at_hand in fired]
    by_name: dict[str, list[Function]] = {}
    for function in functions:
        by_name.setdefault(function.name.lower(), []).append(function)
    found: set[Function] = set()
    texts = [script] + [function.source for function in at_hand]
    found.update(at_hand)
    while texts:
        words = {word.lower() for word in _WORD.findall(texts.pop())}
        for function in (each for word in words for each in by_name.get(word, ())):
            if function not in found:
                found.add(function)
                texts.append(function.source)
    return found


def _writes_rows(statement: str) -> bool:
    """Whether the statement may write rows of a table that is there, by itself or by code that it calls."""
    return effect(statement) == DYNAMIC or (
        effect(statement) == DATA and keywords(statement, 1)[0] not in ("create", "refresh", "cluster", "reindex", "vacuum")
    )


def entangled(replay: Replay, keys: t.Sequence[str], others: t.Mapping[str, str | None]) -> list[str]:
    """Other unfinished migrations that may have touched the same objects."""
    subjects = {chain for key in keys for chain in _subjects(replay, key)}
    return sorted(name for name, script in others.items() if script is None or _touches(script, subjects))


def _touches(script: str, subjects: t.Collection[tuple[str, ...]]) -> bool:
    for statement in split(script):
        words = keywords(statement)
        # Code may do anything; CASCADE and a schema take along what they do not name.
        if effect(statement) == DYNAMIC or (words[0] in ("drop", "alter", "truncate", "reassign") and not _MANY.isdisjoint(words)):
            return True
        if words[:2] in (["drop", "schema"], ["alter", "schema"]):
            named = {part for chain in scan(statement) for part in chain}
            if any(len(subject) == 1 or subject[0] in named for subject in subjects):
                return True
    mentioned = scan(script)
    return any(mentions(mentioned, subject) for subject in subjects)


def _subjects(replay: Replay, key: str) -> t.Iterator[tuple[str, ...]]:
    """The object, its table, and what its definition hangs on, before the script and after each step."""
    for name in names_in(key):
        yield split_name(name)
    for point in range(len(replay.changes) + 1):
        for name in _REFERENCES.findall(replay.state(point, key) or ""):
            yield split_name(name)


__all__ = ("Function", "analyzes", "entangled", "lasting", "reached")
