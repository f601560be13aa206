# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Try a draft on a scratch database: is the schema that of before, and did all outlive it that must?"""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _comparison, _draft_text, _fingerprint
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import Note
from ansible_collections.pgops.migrations.plugins.module_utils._draft_rows import not_kept
from ansible_collections.pgops.migrations.plugins.module_utils._draft_run import read_model
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile
from ansible_collections.pgops.migrations.plugins.module_utils._replay import on_database, replay
from ansible_collections.pgops.migrations.plugins.module_utils._schema_drift import of_ledger
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Key
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

Fingerprint = t.Dict[str, t.Any]


@dataclasses.dataclass(frozen=True)
class Tried:
    """A draft and what became of it on the scratch database. ``differences``: what is not as before, the order of columns included.

    ``notes``: what it drops or misplaces although it is what was there before.
    """

    by: str
    statements: list[tuple[str, str]] | str
    differences: list[dict[str, t.Any]]
    stuck: list[dict[str, str]]
    notes: tuple[Note, ...] = ()

    @property
    def proved(self) -> bool:
        """Whether the schema is that of before. Where a column stands in its table cannot be restored, and is said instead."""
        return not self.stuck and all(difference["object"].startswith("column order ") for difference in self.differences)


def try_draft(
    target: Target,
    dbname: str,
    by: str,
    statements: list[tuple[str, str]] | str,
    stuck: list[dict[str, str]],
    before: Fingerprint,
    kept: t.Mapping[Key, Key],
) -> Tried:
    """Apply the draft as it would be deployed, and compare with the schema of before.

    :param dbname: a scratch database like the live one.
    :param kept: tables and columns of the live database -> what they were called before.
    """
    start = read_model(target, dbname)
    text = _draft_text.script("trial", [], [], [], statements)
    try:
        replay(target, dbname, [MigrationFile("reverse_trial", text)])
    except MigrationError as error:
        if error.code != "REPLAY_FAILED":
            raise
        stuck = stuck + [{"statement": "", "error": error.msg}]
    notes = tuple(not_kept(kept, start, read_model(target, dbname))) if not stuck else ()
    return Tried(by, statements, compared(before, take(target, dbname)), stuck, notes)


def take(target: Target, dbname: str) -> Fingerprint:
    """The schema of a database of the target's server."""
    with connection(on_database(target, dbname), read_only=True) as conn:
        return _fingerprint.take(conn, level="schema")


def compared(before: Fingerprint, after: Fingerprint) -> list[dict[str, t.Any]]:
    """The differences that are not the ledger's own; of objects by their definition, where the comparison has no sentence."""
    found = [each for each in _comparison.compare(before, after) if not of_ledger(each["object"])]
    old, new = before["schema"]["objects"], after["schema"]["objects"]
    said = {each["object"] for each in found}
    for key in sorted(set(old) | set(new)):
        moved = key.startswith("column order ") and old.get(key) != new.get(key) and key in old and key in new
        if moved and key not in said and not of_ledger(key):
            found.append({"kind": "object_changed", "object": key, "before": old[key], "after": new[key], "text": "The %s changed." % key, "subjects": []})
    return [{field: each[field] for field in ("kind", "object", "before", "after", "text")} for each in found]


__all__ = ("Fingerprint", "Tried", "compared", "take", "try_draft")
