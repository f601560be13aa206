# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which tables' rows change when another table is written. Pure: no I/O.

A migration that deletes users also deletes their sessions when a foreign key says so,
and writes an audit table when a trigger does; it names neither.
"""

from __future__ import annotations

import re
import typing as t

_IDENTIFIER = r'(?:"(?:[^"]|"")*"|[^\W\d][\w$]*)'
_ACTING_KEY = re.compile(rf"FOREIGN KEY .*? REFERENCES ({_IDENTIFIER}\.{_IDENTIFIER})\(.*ON (?:UPDATE|DELETE) (?:CASCADE|SET NULL|SET DEFAULT)", re.S)
_TABLE_OF_KEY = re.compile(rf"constraint ({_IDENTIFIER}\.{_IDENTIFIER})\.")


def writers(objects: t.Iterable[t.Mapping[str, str]], writes: t.Iterable[t.Mapping[str, t.Sequence[str]]]) -> dict[str, set[str]]:
    """Table -> the tables whose writing may change its rows, over any number of steps.

    :param objects: schema objects of fingerprints, key -> definition.
    :param writes: table -> names that its trigger functions mention.
    """
    direct: dict[str, set[str]] = {}
    names: set[str] = set()
    for side in objects:
        for key, definition in side.items():
            if key.startswith("table "):
                names.add(key[len("table ") :])
            child, parent = _TABLE_OF_KEY.match(key), _ACTING_KEY.match(definition)
            if child and parent:
                direct.setdefault(child.group(1), set()).add(parent.group(1))
    for triggers in writes:
        for table, mentioned in triggers.items():
            for name in names:
                if _last(name) in mentioned:
                    direct.setdefault(name, set()).add(table)
    return {table: _closure(table, direct) for table in direct}


def _last(name: str) -> str:
    part = re.findall(_IDENTIFIER, name)[-1]
    return part[1:-1].replace('""', '"') if part.startswith('"') else part


def _closure(table: str, direct: t.Mapping[str, set[str]]) -> set[str]:
    found: set[str] = set()
    waiting = [table]
    while waiting:
        for writer in direct.get(waiting.pop(), ()):
            if writer not in found:
                found.add(writer)
                waiting.append(writer)
    return found - {table}


__all__ = ("writers",)
