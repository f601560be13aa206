# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What an external backup tool lists. Pure: no I/O.

JSON is understood where a backup is an object with one of the names that the known tools use: pgBackRest's C(label),
Barman's C(backup_id), WAL-G's C(backup_name). Of any other text the lines are compared, or what a pattern finds in it.
"""

from __future__ import annotations

import dataclasses
import json
import re
import typing as t

#: Keys of the name of a backup.
LABELS = ("label", "backup_id", "backup_name")
#: Keys of PostgreSQL's system identifier.
SYSTEMS = ("system-id", "systemid", "system_identifier")


@dataclasses.dataclass(frozen=True)
class Listing:
    """``labels`` in the order in which they are listed; ``systems``: label -> the identifiers of the servers
    that are named with it; ``bad``: labels that the tool itself lists with an error."""

    labels: tuple[str, ...]
    systems: t.Mapping[str, frozenset[str]] = dataclasses.field(default_factory=dict)
    bad: frozenset[str] = frozenset()


def read_listing(text: str, pattern: str = "") -> Listing:
    """The backups in the output of a tool's list command.

    :param pattern: a regular expression that finds the names, by its group if it has one.
    """
    if pattern:
        return Listing(tuple(dict.fromkeys(match.group(1 if match.re.groups else 0) or "" for match in re.finditer(pattern, text, re.M))))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, (dict, list)):
        return Listing(tuple(dict.fromkeys(" ".join(line.split()) for line in text.splitlines() if line.strip())))
    labels: list[str] = []
    systems: dict[str, frozenset[str]] = {}
    bad: set[str] = set()
    # A stanza or server with all that belongs to it.
    for part in found if isinstance(found, list) else found.values() if all(isinstance(value, (dict, list)) for value in found.values()) else [found]:
        of_part = frozenset(str(value) for key, value in _pairs(part) if key in SYSTEMS and isinstance(value, (str, int)))
        for backup in _objects(part):
            label = next((backup[key] for key in LABELS if isinstance(backup.get(key), str)), None)
            if label is None:
                continue
            labels.append(label)
            systems[label] = frozenset(str(backup[key]) for key in SYSTEMS if key in backup) or of_part
            if backup.get("error") is True or backup.get("status") == "FAILED":
                bad.add(label)
    return Listing(tuple(dict.fromkeys(labels)), systems, frozenset(bad))


def differs(before: Listing, after: Listing) -> list[str]:
    """The labels that only the later list has."""
    return [label for label in after.labels if label not in before.labels]


def _objects(value: t.Any) -> t.Iterator[dict[str, t.Any]]:
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _objects(each)


def _pairs(value: t.Any) -> t.Iterator[tuple[str, t.Any]]:
    for found in _objects(value):
        yield from found.items()


__all__ = ("Listing", "differs", "read_listing")
