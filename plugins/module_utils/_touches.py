# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What each statement of a migration may change, and in which objects. Pure: no I/O.

To name a table explains nothing by itself: C(ALTER TABLE users ADD COLUMN bio) takes no
row away. So every statement is asked which kinds of differences it can cause in what it
names. Code (DO, CALL, a called function) may do anything to what its text names.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _effects, _sql, _sql_names, _touch_rights
from ansible_collections.pgops.migrations.plugins.module_utils._sql_targets import Columns, columns, names_after, retyped, targets

#: Differences of rows, and of definitions; large objects and sequences have kinds of their own.
ADDED, REMOVED, CHANGED, NOT_COMPARED = "rows_more", "rows_fewer", "content_changed", "content_not_compared"
GONE, MADE = "table_gone", "table_added"
BACK, FORWARD = "sequence_back", "sequence_forward"
#: No difference: each row is written anew with the values that it has.
REWRITTEN = "rewritten"
_ROWS = frozenset([ADDED, REMOVED, CHANGED])
_SEQUENCE = frozenset([BACK, FORWARD])
_OBJECT = frozenset(["object_added", "object_removed", "object_changed"])
_LARGE = frozenset(["large_objects_more", "large_objects_fewer", "large_objects_changed"])
#: Words of which a statement must have one to explain a difference in an object of the kind; other kinds need the name alone.
_NEEDS: dict[str, frozenset[str]] = {
    "default privileges": frozenset(["privileges"]),
    "grants": frozenset(["grant", "revoke", "owner", "owned"]),
    "owner": frozenset(["owner", "owned"]),
    "policy": frozenset(["policy", "drop"]),
    "rule": frozenset(["rule", "drop", "view"]),
    "trigger": frozenset(["trigger", "drop"]),
    "extension": frozenset(["extension"]),
    "database limit": frozenset(["database"]),
    "database setting": frozenset(["database"]),
}
_WRITES = {
    "insert": frozenset([ADDED, FORWARD]),
    "copy": frozenset([ADDED, FORWARD]),
    "update": frozenset([CHANGED, FORWARD]),
    "delete": frozenset([REMOVED]),
    "truncate": frozenset([REMOVED]),
    "merge": _ROWS | {FORWARD},
}
#: Words of ALTER .. RENAME that are no names.
_GRAMMAR = frozenset(
    "alter attribute cascade column constraint exists if index rename restrict schema sequence set type value view materialized function".split()
)
_LARGE_FUNCTIONS = re.compile(r"\b(?:lo_\w+|large\s+object)\b", re.I)
#: Words before a parenthesis that call nothing which writes, but for setval, which is asked for by itself.
_READS = frozenset(
    """and any array as case cast coalesce count currval else exists extract filter from greatest in interval least length lower max min not now nullif on or
    over pg_get_serial_sequence select set_config setval some sum then upper using values when where with""".split()  # noqa: SIM905
)
#: Functions that code commonly calls to look, or to raise an error.
_IN_CODE = frozenset(
    "raise exception notice if loop array_length to_regclass current_schema current_database to_regtype not unique check key references".split()
)
#: What holds rows, or a sequence's number: with it they go.
_HOLDERS = frozenset(["table", "schema", "materialized", "sequence", "extension", "type", "foreign"])
_ROUTINES = frozenset(["function", "procedure"])
#: ALTER TABLE with one of these may write the whole table anew: a column with a value for the rows that are there, another storage.
_REWRITES = frozenset("default serial bigserial smallserial serial2 serial4 serial8 generated logged unlogged access expression".split())


class Touch(t.NamedTuple):
    """``kinds`` of differences that a statement may cause in what ``names`` mention.

    :ivar words: the statement's words, which decide about single kinds of objects.
    :ivar anything: every kind, as code may do anything.
    :ivar schemas: schemas of which everything is meant (``ALL TABLES IN SCHEMA``).
    :ivar exact: the names are those of what is written, and no column's or alias's.
    :ivar everywhere: the names are built while it runs, so they may be any.
    :ivar calls: routines that it calls.
    :ivar columns: of which it changes the values; None for any.
    :ivar rights: what it does to rights, where it is a statement that does nothing else with them.
    """

    names: frozenset[_sql_names.Chain]
    kinds: frozenset[str]
    words: frozenset[str]
    anything: bool = False
    schemas: frozenset[str] = frozenset()
    exact: bool = False
    everywhere: bool = False
    calls: frozenset[str] = frozenset()
    columns: Columns = None
    rights: _touch_rights.Change | None = None


def touches(script: str) -> list[Touch]:
    """One for each statement that may change something, and one for each write inside of a WITH or of code."""
    statements = _sql.split(script)
    # A routine that is only made does nothing yet. One that this script may call does what its body says.
    calls = any(_is_code(statement) for statement in statements)
    found: list[Touch] = []
    for statement in statements:
        found += _of_statement(statement, calls)
    # A column that goes and one that comes under its name: other values in as many rows.
    anew = columns(statements, "drop") & columns(statements, "add")
    return found + [Touch(frozenset([name]), frozenset([CHANGED]), frozenset(), columns=frozenset([column])) for name, column in sorted(anew)]


def names_it(touch: Touch, subjects: t.Sequence[_sql_names.Chain], schema: str = "") -> bool:
    """Whether the statement names one of the objects.

    :param schema: where a name without a schema is looked for; empty means anywhere.
    """
    if touch.everywhere or any(len(subject) > 1 and subject[0] in touch.schemas for subject in subjects):
        return True
    if not touch.exact:
        return any(_sql_names.mentions(touch.names, subject) for subject in subjects)
    return any(
        subject[-2:] in touch.names or (subject[-1:] in touch.names and (len(subject) == 1 or not schema or subject[0] == schema)) for subject in subjects
    )


def allows(touch: Touch, kind: str, object_kind: str) -> bool:
    """Whether the statement may cause a difference of a kind in what it names.

    :param kind: of the difference, such as C(rows_fewer).
    :param object_kind: such as C(trigger) or C(grants) for the differences in definitions; else empty.
    """
    if touch.anything:
        return True
    if kind not in touch.kinds:
        return False
    needed = _NEEDS.get(object_kind)
    return needed is None or not needed.isdisjoint(touch.words)


def renamed_values(script: str) -> frozenset[_sql_names.Chain]:
    """Enum types of which a value gets another name: that changes the text of every row that has it."""
    found: set[_sql_names.Chain] = set()
    for statement in _sql.split(script):
        words = _sql.keywords(statement)
        if words[:2] == ["alter", "type"] and "rename" in words and "value" in words:
            found |= names_after(statement, ("type",))
    return frozenset(found)


def renamed(script: str) -> frozenset[_sql_names.Chain]:
    """What gets another name or schema, by the old name and the new one; of a column its table, too."""
    found: set[_sql_names.Chain] = set()
    for statement in _sql.split(script):
        words = _sql.keywords(statement)
        if words[0] == "alter" and ("rename" in words or ("set" in words and "schema" in words)):
            found |= {chain for chain in _sql_names.scan(statement) if chain[-1] not in _GRAMMAR}
    return frozenset(found)


def _is_code(statement: str) -> bool:
    words = _sql.keywords(statement, 2)
    return words[0] not in ("create", "alter", "drop") and _effects.effect(statement) == _effects.DYNAMIC


def _of_statement(statement: str, calls: bool) -> list[Touch]:
    words = _sql.keywords(statement)
    first = words[0]
    everything = _sql_names.scan(statement)
    bag = frozenset(words)
    large = _LARGE if _LARGE_FUNCTIONS.search(statement) else frozenset[str]()
    if first in _WRITES or first in ("with", "explain"):
        return _of_writes(statement, words, bag, large)
    if first in ("create", "alter", "drop", "comment", "grant", "revoke", "reassign", "import", "security", "refresh", "cluster", "reindex"):
        return _of_definition(statement, words, bag, everything, calls) + ([Touch(frozenset(), large, bag)] if large else [])
    if _effects.effect(statement) == _effects.NONE:
        return [Touch(frozenset(), large, bag)] if large else []
    if first == "do":
        return _of_code(statement, large)
    if first == "select" and not _calls_more(words):
        return [Touch(everything, (_SEQUENCE if "setval" in bag else frozenset()) | large, bag)]
    return [Touch(everything, large, bag, anything=True, calls=_called(words))]


def _of_code(statement: str, large: frozenset[str]) -> list[Touch]:
    """An anonymous block: its writes are read where they stand as they are; what it calls or builds may be anything."""
    everything = _sql_names.scan(statement)
    body = [value for kind, value in _sql_names.tokens(statement) if kind == "text"]
    words = _sql.keywords(" ".join(body))
    bag = frozenset(words)
    built = "execute" in bag
    if built or not _called(words) <= _READS | _IN_CODE or {"call", "perform"} & bag:
        # Names that are built while it runs can be those of any object; rows only of what is named.
        more = [Touch(frozenset(), _OBJECT, bag, everywhere=True)] if built and {"format", "|", "quote_ident"} & bag else []
        return [Touch(everything, large, bag, anything=True, calls=_called(words)), *more]
    found = [Touch(frozenset(), large, bag)] if large else []
    for text in body:
        found += _of_targets(text, bag, code=True)
    definitions = set(_OBJECT)
    if "drop" in bag:
        definitions |= {GONE, REMOVED, NOT_COMPARED, *_SEQUENCE} if "table" in bag and ("drop", "table") in set(zip(words, words[1:])) else {NOT_COMPARED}
    definitions |= _of_alter(words, bag) if "alter" in bag else set()
    definitions |= {MADE} if "create" in bag else set()
    return [*found, Touch(everything, frozenset(definitions), bag)]


def _called(words: t.Sequence[str]) -> frozenset[str]:
    return frozenset(word.strip('"') for word, follows in zip(words, words[1:]) if follows == "(" and re.match(r'[a-z_"]', word))


def _calls_more(words: t.Sequence[str]) -> bool:
    """Whether a SELECT calls anything but what reads, or sets a sequence."""
    return not _called(words) <= _READS


def _of_writes(statement: str, words: t.Sequence[str], bag: frozenset[str], large: frozenset[str]) -> list[Touch]:
    """The target of each INSERT, UPDATE, DELETE, ... that stands in a statement, also in its WITH."""
    return ([Touch(frozenset(), large, bag)] if large else []) + _of_targets(statement, bag)


def _of_targets(text: str, bag: frozenset[str], code: bool = False) -> list[Touch]:
    found = []
    for verb, names, set_columns in targets(text, _WRITES, code):
        kinds = set(_WRITES[verb])
        if verb == "insert" and {"conflict", "do", "update"} <= bag:
            kinds.add(CHANGED)
        if verb == "truncate" and {"restart", "identity"} <= bag:
            kinds |= _SEQUENCE
        found.append(Touch(names, frozenset(kinds), bag | {verb}, exact=True, columns=set_columns))
    return found


def _of_definition(statement: str, words: t.Sequence[str], bag: frozenset[str], everything: frozenset[_sql_names.Chain], calls: bool) -> list[Touch]:
    first = words[0]
    if first in ("refresh", "cluster", "reindex"):
        return [Touch(everything, _OBJECT, bag)]
    if first == "create" and not _ROUTINES.isdisjoint(words[:4]):
        own = [Touch(everything if calls else _routine_name(statement), _OBJECT, bag)]
        return own + ([Touch(everything, frozenset(), bag, anything=True)] if calls else [])
    if words[:2] == ["drop", "owned"]:
        return [Touch(everything, _OBJECT, bag, anything=True)]
    of_schema = {"all", "schema"} <= bag or words[:2] in (["drop", "schema"], ["alter", "schema"])
    schemas = frozenset(chain[-1] for chain in (everything if words[:2] == ["alter", "schema"] else _schemas(statement))) if of_schema else frozenset[str]()
    kinds = set(_OBJECT)
    if first == "drop" and words[1] in _HOLDERS:
        kinds |= {GONE, REMOVED, NOT_COMPARED, *_SEQUENCE}
    elif first == "create" and words[1:2] == ["extension"]:
        kinds |= {MADE, ADDED}
    elif first == "create":
        # Of a new table its own name counts, and not those that its keys refer to.
        made = frozenset(names_after(statement, ("table",)))
        return [
            Touch(everything, frozenset(kinds), bag, schemas=schemas),
            Touch(made, frozenset({MADE, FORWARD} | ({ADDED} if "as" in bag else set())), bag, exact=True),
        ]
    elif first == "alter":
        kinds |= _of_alter(words, bag)
        values = retyped(statement)
        if values and CHANGED in kinds and words[1:2] == ["table"] and "expression" not in bag:
            kinds.discard(CHANGED)
            return [Touch(everything, frozenset(kinds), bag), Touch(everything, frozenset([CHANGED]), bag, columns=values)]
    return [Touch(everything, frozenset(kinds), bag, schemas=schemas, rights=_touch_rights.change(statement))]


def _of_alter(words: t.Sequence[str], bag: frozenset[str]) -> set[str]:
    found: set[str] = set()
    if "rename" in bag or "schema" in bag:
        # A column that is gone, or is called otherwise, cannot be compared.
        found.add(NOT_COMPARED)
    if "schema" in bag or ("rename", "to") in set(zip(words, words[1:])):
        found |= {GONE, MADE}
    if "drop" in bag:
        found.add(NOT_COMPARED)
    if _changes_type(words) or "expression" in bag:
        found |= {CHANGED, NOT_COMPARED, REWRITTEN}
    if not _REWRITES.isdisjoint(bag) and words[1:2] == ["table"]:
        found.add(REWRITTEN)
    if words[1:2] == ["sequence"] or {"restart", "identity"} & bag:
        found |= _SEQUENCE
    if {"attach", "detach"} & bag:
        found |= {GONE, MADE}
    if words[1:2] == ["extension"]:
        found |= {ADDED, REMOVED, CHANGED, NOT_COMPARED, GONE, MADE}
    return found


def _changes_type(words: t.Sequence[str]) -> bool:
    """ALTER [COLUMN] name [SET DATA] TYPE; a column that is called so changes nothing."""
    for at, word in enumerate(words):
        if word == "type" and at > 2 and "alter" in words[max(0, at - 4) : at] and (words[at - 1] == "data" or words[at - 2] in ("column", "alter")):
            return True
    return False


def _schemas(statement: str) -> set[_sql_names.Chain]:
    return names_after(statement, ("schema",))


def _routine_name(statement: str) -> frozenset[_sql_names.Chain]:
    return frozenset(names_after(statement, ("function",)) or names_after(statement, ("procedure",)))


__all__ = ("Touch", "allows", "names_it", "renamed", "renamed_values", "touches")
