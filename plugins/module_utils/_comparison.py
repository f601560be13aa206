# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What differs between two fingerprints. Pure: no I/O.

A difference is a dict: kind, object, before, after, text (one plain sentence), and
subjects, the names of the objects that it is about, as the server spells them.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _compared_database, _compared_rows, _reach
from ansible_collections.pgops.migrations.plugins.module_utils._comparable import looked_at, of_one_side

Fingerprint = t.Mapping[str, t.Any]
Difference = t.Dict[str, t.Any]

LEDGER_TABLE = "_prisma_migrations"
#: Kinds that nothing is lost by: no finding even where no migration names the object.
HARMLESS = frozenset(["sequence_forward"])
#: Kinds whose definition is worded by the server, and not alike by all its versions.
_WORDED = frozenset(["event trigger", "materialized view", "publication", "rule", "view"])
_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\W\d][\w$]*)'
_CHAIN = re.compile(rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})*")
_OWNED_BY = re.compile(rf"(?:owned by|identity of) ({_IDENTIFIER}\.{_IDENTIFIER})\.{_IDENTIFIER}")
_PARENTS = re.compile(rf"(?:partition of|inherits) ({_IDENTIFIER}\.{_IDENTIFIER}(?:, {_IDENTIFIER}\.{_IDENTIFIER})*)")
_OF_TABLE = frozenset(["column", "constraint"])


def compare(before: Fingerprint, after: Fingerprint, of_database: bool = False) -> list[Difference]:
    """All differences between two fingerprints, tables first; none means equal.

    What only one of the two looked at (its level, its skipped tables, see also
    ``_comparable``) is not compared.

    :param of_database: also the database's own rights and settings, which a restore does not bring back.
    """
    old, new = before["schema"]["objects"], after["schema"]["objects"]
    subjects = _Subjects(before, after)
    gone = [name for name in _tables_of(old) if "table " + name not in new]
    added = [name for name in _tables_of(new) if "table " + name not in old]
    former = after.get("former") or {}
    renamed = {then: now for now, then in former.items()}
    found = [_table_gone(name, before, after, added, subjects) for name in gone if name not in renamed]
    found += [_table_added(name, after, subjects) for name in added if name not in former]
    found += [each for then, now in sorted(renamed.items()) if then in gone and now in added for each in _table_renamed(then, now, before, after, subjects)]
    if "schema" not in (before["level"], after["level"]):
        skipped = _only_dealt_out_anew(before, after)
        earlier, later = looked_at(before, after)
        for kind, name, then, now, text in of_one_side(earlier, later):
            found.append(_difference(kind, name, then, now, text, subjects.of_table(name)))
        for name in sorted(earlier):
            if name in later and name not in skipped:
                more = {"object": name, "subjects": subjects.of_table(name), "writers": sorted(subjects.writers.get(name, ()))}
                found += [dict(difference, **more) for difference in _compared_rows.of_table(name, before, after)]
        for then, now in sorted(renamed.items()):
            more = {"object": now, "subjects": [*subjects.of_table(now), *subjects.of_table(then)], "writers": sorted(subjects.writers.get(then, ()))}
            found += [dict(difference, **more) for difference in _compared_rows.of_table(now, before, after, then)]
        found += _sequences(before, after, subjects)
        found += _large_objects(before["large_objects"], after["large_objects"])
    found += _objects(before, after, frozenset(gone), frozenset(added), subjects)
    return found + (_compared_database.of_database(before, after) if of_database else [])


def compared_level(before: Fingerprint, after: Fingerprint) -> str:
    """How much of the two could be compared: the lower one of their levels."""
    return min(before["level"], after["level"], key=("schema", "counts", "full").index)


def row_counts(before: Fingerprint, after: Fingerprint, most: int = 1000) -> list[dict[str, t.Any]]:
    """Rows per table in both, those that differ first."""
    sides = [{name: entry["rows"] for name, entry in side["tables"].items()} for side in (before, after)]
    found = [{"table": name, "before": sides[0].get(name), "after": sides[1].get(name)} for name in sorted({*sides[0], *sides[1]})]
    found.sort(key=lambda entry: entry["before"] == entry["after"])
    return found[:most]


class _Subjects:
    """Finds the names that a difference is about: the object, its table or extension, that one's parents."""

    def __init__(self, before: Fingerprint, after: Fingerprint) -> None:
        self.extensions: dict[str, str] = {}
        self.parents: dict[str, list[str]] = {}
        self.indexes: dict[str, str] = {}
        self.sequences: dict[str, str] = {}
        for side in (before, after):
            for key, definition in side["schema"]["objects"].items():
                self._learn(key, definition)
            for name, entry in side["tables"].items():
                self.parents.setdefault(name, list(entry.get("parents") or ()))
            for name, entry in [*side["tables"].items(), *side["sequences"].items()]:
                if entry.get("extension"):
                    self.extensions[name] = entry["extension"]
        self.writers = _reach.writers([side["schema"]["objects"] for side in (before, after)], [side.get("trigger_names") or {} for side in (before, after)])

    def _learn(self, key: str, definition: str) -> None:
        if key.startswith("table "):
            parents = _PARENTS.search(definition)
            if parents:
                self.parents.setdefault(key[len("table ") :], _CHAIN.findall(parents.group(1)))
        elif key.startswith("index "):
            own, table = names_in(key)[:2]
            self.indexes[own] = table
        elif key.startswith("sequence "):
            owner = _OWNED_BY.search(definition)
            if owner:
                self.sequences[key[len("sequence ") :]] = owner.group(1)

    def of_table(self, name: str) -> list[str]:
        """A table, the table of a sequence or an index, and their parents."""
        table = self.sequences.get(name) or self.indexes.get(name)
        result = [name, table] if table else [name]
        result += [self.extensions[name]] if name in self.extensions else []
        return list(dict.fromkeys(result + self.parents.get(table or name, [])))

    def own(self, key: str) -> set[str]:
        """The object and its table, without that one's parents."""
        names = set(names_in(key))
        return names | {table[name] for table in (self.sequences, self.indexes) for name in names if name in table}

    def of_object(self, key: str) -> list[str]:
        """The same for an object by its key in the schema; the table comes first."""
        result: list[str] = []
        for name in reversed(names_in(key)):
            result += self.of_table(name)
        return list(dict.fromkeys(result))


def names_in(key: str) -> list[str]:
    """The names of the objects in a key such as C(index public.i on public.users).

    The object comes first and its table last; a column or a constraint is named by its
    table alone, a function without its arguments.
    """
    kind, name = split_key(key)
    if kind.endswith("default privileges"):
        return [word for word in _CHAIN.findall(name) if word not in ("of", "in", "schema", "on")][:-1]
    if kind.split(" ")[-1] in ("function", "procedure", "aggregate"):
        match = _CHAIN.match(name)
        return [match.group()] if match else [name]
    words = _CHAIN.findall(name) or [name]
    if "on" in words[1:-1]:
        return [words[0], words[-1]]
    if kind.split(" ")[-1] in _OF_TABLE:
        return [".".join(re.findall(_IDENTIFIER, words[0])[:2])]
    return words[:1]


_KIND = re.compile(
    r"(?:grants |owner |comment |security label \S+ )?(?:column order|database limit|database setting"
    r"|default privileges|event trigger|materialized view|foreign table|table column"
    r"|table constraint|domain constraint|text search \w+|access method|operator class|operator family|foreign-data wrapper|large object|[^\W\d][\w-]*)"
)


def split_key(key: str) -> tuple[str, str]:
    """C(column public.users.id) as ("column", "public.users.id")."""
    match = _KIND.match(key)
    end = match.end() if match else 0
    return key[:end], key[end:].lstrip()


def _tables_of(objects: t.Mapping[str, str]) -> list[str]:
    return sorted(key[len("table ") :] for key in objects if key.startswith("table "))


def _difference(kind: str, name: str, old: t.Any, new: t.Any, text: str, subjects: list[str]) -> Difference:  # noqa: PLR0917
    return {"kind": kind, "object": name, "before": old, "after": new, "text": text, "subjects": subjects}


def _table_gone(name: str, before: Fingerprint, after: Fingerprint, added: list[str], subjects: _Subjects) -> Difference:
    entry = before["tables"].get(name)
    text = "The table %s is gone" % name
    if entry is not None:
        text += ", and with it %s" % _count(entry["rows"])
        same = [other for other in added if entry["rows"] and entry["hash"] and _same_content(entry, after["tables"].get(other))]
        if same:
            text += "; the new table %s has the same content" % same[0]
    return _difference("table_gone", name, entry["rows"] if entry else None, None, text + ".", subjects.of_table(name))


def _table_added(name: str, after: Fingerprint, subjects: _Subjects) -> Difference:
    entry = after["tables"].get(name)
    text = "The table %s is new%s." % (name, ", with %s" % _count(entry["rows"]) if entry else "")
    return _difference("table_added", name, None, entry["rows"] if entry else None, text, subjects.of_table(name))


def _table_renamed(then: str, now: str, before: Fingerprint, after: Fingerprint, subjects: _Subjects) -> list[Difference]:  # noqa: PLR0917
    rows = before["tables"][then]["rows"], after["tables"][now]["rows"]
    gone = _difference("table_gone", then, *rows, "The table %s is called %s now." % (then, now), subjects.of_table(then))
    return [gone, _difference("table_added", now, *rows, "The table %s was called %s before." % (now, then), subjects.of_table(now))]


def _only_dealt_out_anew(before: Fingerprint, after: Fingerprint) -> frozenset[str]:
    """Partitions by hash that hold the same rows together, though not each the same.

    The hash of an enum's value is that of its OID, so a restore puts rows into other partitions. The hash of a
    table is a sum over its rows, hence that of all partitions together is the sum of theirs.
    """
    same: set[str] = set()
    for key, definition in before["schema"]["objects"].items():
        if not key.startswith("table ") or "partition by HASH" not in definition:
            continue
        parent = key[len("table ") :]
        sides = [{name: entry for name, entry in side["tables"].items() if parent in (entry.get("parents") or ())} for side in (before, after)]
        if sides[0] and set(sides[0]) == set(sides[1]) and _together(sides[0]) == _together(sides[1]):
            same |= set(sides[0])
    return frozenset(same)


def _together(tables: t.Mapping[str, t.Mapping[str, t.Any]]) -> tuple[t.Any, ...]:
    """Columns, number and content hash of the rows of several tables."""
    hashes = [entry["hash"] for entry in tables.values()]
    total = sum(int(word, 16) for word in hashes) % (1 << 128) if all(hashes) else None
    return {tuple(entry["columns"]) for entry in tables.values()}, sum(entry["rows"] for entry in tables.values()), total


def _same_content(entry: t.Mapping[str, t.Any], other: t.Mapping[str, t.Any] | None) -> bool:
    return other is not None and all(entry[field] == other[field] for field in ("rows", "hash", "columns"))


def _sequences(before: Fingerprint, after: Fingerprint, subjects: _Subjects) -> list[Difference]:
    found = []
    for name, old in sorted(before["sequences"].items()):
        new = after["sequences"].get(name)
        if new is None or new == old:
            continue
        falling = " increment -" in before["schema"]["objects"].get("sequence " + name, "")
        position, other = (old["last_value"], old["is_called"]), (new["last_value"], new["is_called"])
        if falling:
            position, other = (-position[0], position[1]), (-other[0], other[1])
        back = other < position
        text = "The sequence %s went %s (%d, now %d)%s." % (
            name, "back" if back else "forward", old["last_value"], new["last_value"], ": it may give out numbers a second time" if back else "",
        )  # fmt: skip
        found.append(_difference("sequence_back" if back else "sequence_forward", name, dict(old), dict(new), text, subjects.of_table(name)))
    return found


def _large_objects(old: t.Mapping[str, t.Any], new: t.Mapping[str, t.Any]) -> list[Difference]:
    if old["count"] is None or new["count"] is None:
        return []
    if old["count"] != new["count"]:
        fewer = new["count"] < old["count"]
        text = "There are %s large objects than before (%d, now %d)." % ("fewer" if fewer else "more", old["count"], new["count"])
        return [_difference("large_objects_%s" % ("fewer" if fewer else "more"), "large objects", old["count"], new["count"], text, [])]
    if old["hash"] and new["hash"] and old["hash"] != new["hash"]:
        return [_difference("large_objects_changed", "large objects", old["hash"], new["hash"], "The content of the large objects changed.", [])]
    # A fingerprint of format 1 does not know them.
    rights = old.get("rights"), new.get("rights")
    if all(rights) and rights[0] != rights[1]:
        return [_difference("large_objects_changed", "large objects", *rights, "The owner of large objects, or who may use them, changed.", [])]
    return []


def _objects(before_all: Fingerprint, after_all: Fingerprint, gone: frozenset[str], added: frozenset[str], subjects: _Subjects) -> list[Difference]:
    old, new = before_all["schema"]["objects"], after_all["schema"]["objects"]
    other_version = before_all["server_version_num"] // 10000 != after_all["server_version_num"] // 10000
    found = []
    for key in sorted(set(old) | set(new)):
        before, after = old.get(key), new.get(key)
        if before == after or (other_version and before and after and _same_in_other_words(key, before, after)):
            continue
        about, own = subjects.of_object(key), subjects.own(key)
        # What came or went with its table is told by the table.
        if (after is None and not gone.isdisjoint(own)) or (before is None and not added.isdisjoint(own)):
            continue
        if key.startswith("column order ") and before and after and not _reordered(before, after):
            continue
        if after is None:
            found.append(_difference("object_removed", key, before, None, "The %s is gone." % key, about))
        elif before is None:
            found.append(_difference("object_added", key, None, after, "The %s is new." % key, about))
        else:
            found.append(_difference("object_changed", key, before, after, "The %s changed." % key, about))
    return found


def _same_in_other_words(key: str, before: str, after: str) -> bool:
    """Whether two major versions of the server may just word the definition differently."""
    if key.startswith("grants "):
        return before.replace("MAINTAIN, ", "") == after.replace("MAINTAIN, ", "")
    return split_key(key)[0] in _WORDED


def _reordered(before: str, after: str) -> bool:
    """Whether columns that both have stand in another order; long lists are hashes."""
    old, new = re.findall(_IDENTIFIER, before), re.findall(_IDENTIFIER, after)
    return [name for name in old if name in new] != [name for name in new if name in old]


def _count(rows: int) -> str:
    return "1 row" if rows == 1 else "%d rows" % rows


__all__ = ("HARMLESS", "LEDGER_TABLE", "compare", "compared_level", "names_in", "row_counts", "split_key")
