# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a statement reaches without naming it, by the definitions of the schema. Pure: no I/O."""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql_names, _touches
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import split_key

_ROUTINES = frozenset(["function", "procedure"])
_THROUGH = tuple("%s " % kind for kind in ("view", *sorted(_ROUTINES)))
_TIME = re.compile(r"(?:timestamp|date|time)\b")


class Reached(t.NamedTuple):
    """A view or a routine: C(kind), its name, and what the server says of it."""

    kind: str
    chain: _sql_names.Chain
    definition: str


def reachable(objects: t.Mapping[str, str]) -> list[Reached]:
    """The views and routines of a schema. To be found once: each statement is held against each of them for each difference."""
    found = []
    for key, definition in objects.items():
        # Most keys are columns, and taking a key apart takes its time.
        if key.startswith(_THROUGH):
            kind, name = split_key(key)
            found.append(Reached(kind, _sql_names.split_name(name.partition("(")[0]), definition))
    return found


def through(touch: _touches.Touch, subjects: t.Sequence[_sql_names.Chain], reached: t.Iterable[Reached]) -> bool:
    """Whether it writes by a view, or calls a routine, that names one of the objects."""
    if not touch.exact and not touch.calls:
        return False
    for kind, chain, definition in reached:
        used = kind == "view" and touch.exact and _touches.names_it(touch, [chain])
        used = used or (kind in _ROUTINES and chain[-1] in touch.calls)
        if used and any(_sql_names.mentions(_sql_names.scan(definition), subject) for subject in subjects):
            return True
    return False


def columns_of_type(table: str, types: t.Collection[_sql_names.Chain], objects: t.Mapping[str, str]) -> frozenset[str]:
    """The columns of a table that are of one of these types."""
    if not types:
        return frozenset()
    start = "column %s." % table
    found = {key[len(start) :]: _sql_names.scan(definition) for key, definition in objects.items() if key.startswith(start)}
    return frozenset(_sql_names.split_name(name)[-1] for name, names in found.items() if any(_sql_names.mentions(names, chain) for chain in types))


def generated(table: str, objects: t.Mapping[str, str]) -> frozenset[str]:
    """The columns of a table that are computed from the others."""
    start = "column %s." % table
    return frozenset(_sql_names.split_name(key[len(start) :])[-1] for key, text in objects.items() if key.startswith(start) and " generated stored" in text)


def stamped(table: str, objects: t.Mapping[str, str]) -> frozenset[str]:
    """The columns of a table in which a trigger of it may note the time of a change, as it is done everywhere."""
    if not any(key.startswith("trigger ") and key.endswith(" on %s" % table) for key in objects):
        return frozenset()
    start = "column %s." % table
    return frozenset(_sql_names.split_name(key[len(start) :])[-1] for key, text in objects.items() if key.startswith(start) and _TIME.match(text))


__all__ = ("Reached", "columns_of_type", "generated", "reachable", "stamped", "through")
