# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Types of a draft: enums, domains, composite and range types. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql_names
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import LOST, NOT_DRAFTED, Change, Draft, Note, literal, quoted
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Type

_LONGEST_NAME = 63


def decide(change: Change) -> None:
    """Find the types that have to be made anew, because PostgreSQL cannot change them so."""
    for name, wanted in change.goal.types.items():
        found = change.now.types.get(name)
        if found is None or (found.kind == wanted.kind and found.facts == wanted.facts):
            continue
        if found.kind != wanted.kind or wanted.kind in ("range", "base"):
            anew = wanted.kind in ("enum", "domain") and found.kind in ("enum", "domain")
        elif wanted.kind == "enum":
            anew = not _only_added(change, wanted, found)
        else:
            anew = wanted.kind == "domain" and any(wanted.facts[fact] != found.facts[fact] for fact in ("base", "collation"))
        if anew:
            change.remade.add(name)


def _only_added(change: Change, wanted: Type, found: Type) -> bool:
    """Whether ADD VALUE is enough: the others keep their order, and nothing in this draft uses a new one, as no transaction may that adds it."""
    labels, had = wanted.facts["labels"] or [], found.facts["labels"] or []
    if [label for label in labels if label in had] != had:
        return False
    new = [literal(label) for label in labels if label not in had]
    goal, now = change.goal, change.now
    texts = [unit.definition for key, unit in goal.units.items() if key not in now.units or now.units[key].definition != unit.definition]
    texts += [column.facts["expression"] or "" for key, column in goal.columns.items() if key not in now.columns]
    return not any(label in text for label in new for text in texts)


def write(change: Change, result: Draft) -> None:
    for name, wanted in change.goal.types.items():
        found = change.now.types.get(name)
        if found is None:
            _create(wanted, result)
        elif name in change.remade:
            aside = _aside(name)
            create = _statement(wanted)
            if create is None:
                result.notes.append(Note(NOT_DRAFTED, name, "the type %s is not drafted: change it by hand" % name))
                continue
            result.add("type", "ALTER TYPE %s RENAME TO %s" % (name, quoted(aside)), create)
            result.add("drop type", "DROP TYPE %s" % _beside(name, aside))
        elif found.facts != wanted.facts:
            _alter(wanted, found, result)
    for name in change.now.types:
        if name not in change.goal.types:
            result.add("drop type", "DROP TYPE %s" % name)


def _create(wanted: Type, result: Draft) -> None:
    statement = _statement(wanted)
    if statement is None:
        result.notes.append(Note(NOT_DRAFTED, wanted.name, "the type %s is not drafted: make it by hand" % wanted.name))
    else:
        result.add("type", statement)


def _statement(wanted: Type) -> str | None:
    facts = wanted.facts
    if wanted.kind == "enum":
        return "CREATE TYPE %s AS ENUM (%s)" % (wanted.name, ", ".join(literal(label) for label in facts["labels"] or ()))
    if wanted.kind == "domain":
        parts = ["CREATE DOMAIN %s AS %s" % (wanted.name, facts["base"])]
        parts += ["COLLATE %s" % facts["collation"]] if facts["collation"] else []
        parts += ["DEFAULT %s" % facts["default"]] if facts["default"] else []
        parts += ["NOT NULL"] if facts["notnull"] else []
        parts += ["CONSTRAINT %s %s" % constraint for constraint in sorted(facts["constraints"].items())]
        return " ".join(parts)
    if wanted.kind == "composite":
        return "CREATE TYPE %s AS (%s)" % (wanted.name, ", ".join("%s %s" % (name, kind) for name, kind in facts["attributes"] or ()))
    if wanted.kind == "range":
        return "CREATE TYPE %s AS RANGE (%s)" % (wanted.name, facts["range"])
    return None


def _alter(wanted: Type, found: Type, result: Draft) -> None:
    if wanted.kind == "enum":
        _add_values(wanted, found, result)
    elif wanted.kind == "domain":
        _alter_domain(wanted, found, result)
    elif wanted.kind == "composite":
        _alter_composite(wanted, found, result)
    else:
        result.notes.append(Note(NOT_DRAFTED, wanted.name, "the type %s is not drafted: change it by hand" % wanted.name))


def _add_values(wanted: Type, found: Type, result: Draft) -> None:
    present = list(found.facts["labels"] or ())
    labels = wanted.facts["labels"]
    for position, label in enumerate(labels):
        if label in present:
            continue
        after = [other for other in labels[:position] if other in present]
        where = " AFTER %s" % literal(after[-1]) if after else " BEFORE %s" % literal(present[0]) if present else ""
        result.add("type", "ALTER TYPE %s ADD VALUE %s%s" % (wanted.name, literal(label), where))
        present.insert(present.index(after[-1]) + 1 if after else 0, label)


def _alter_domain(wanted: Type, found: Type, result: Draft) -> None:
    alter, goal, had = "ALTER DOMAIN %s " % wanted.name, wanted.facts, found.facts
    for name, definition in sorted(had["constraints"].items()):
        if goal["constraints"].get(name) != definition:
            result.add("type", "%sDROP CONSTRAINT %s" % (alter, name))
    for name, definition in sorted(goal["constraints"].items()):
        if had["constraints"].get(name) != definition:
            result.add("type", "%sADD CONSTRAINT %s %s" % (alter, name, definition))
    if goal["default"] != had["default"]:
        result.add("type", alter + ("SET DEFAULT %s" % goal["default"] if goal["default"] else "DROP DEFAULT"))
    if goal["notnull"] != had["notnull"]:
        result.add("type", alter + ("SET NOT NULL" if goal["notnull"] else "DROP NOT NULL"))


def _alter_composite(wanted: Type, found: Type, result: Draft) -> None:
    goal, had = (dict(facts["attributes"] or ()) for facts in (wanted.facts, found.facts))
    alter = "ALTER TYPE %s " % wanted.name
    for name in had:
        if name not in goal:
            result.add("type", "%sDROP ATTRIBUTE %s CASCADE" % (alter, name))
            result.notes.append(Note(LOST, wanted.name, "the attribute %s of the type %s goes, with its values" % (name, wanted.name)))
    for name, kind in goal.items():
        if name not in had:
            result.add("type", "%sADD ATTRIBUTE %s %s CASCADE" % (alter, name, kind))
        elif had[name] != kind:
            result.add("type", "%sALTER ATTRIBUTE %s TYPE %s CASCADE" % (alter, name, kind))


def _aside(name: str) -> str:
    """The name that a type has while its successor takes its own."""
    last = _sql_names.split_name(name)[-1]
    suffix = "__reverse"
    return last.encode("utf-8")[: _LONGEST_NAME - len(suffix)].decode("utf-8", "ignore") + suffix


def _beside(name: str, other: str) -> str:
    """The name of another object in the same schema."""
    return "%s.%s" % (quoted(_sql_names.split_name(name)[0]), quoted(other))


__all__: t.Sequence[str] = ("decide", "write")
