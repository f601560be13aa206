# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How the live database calls what a draft is about. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Key, Model


class Live:
    """Names of the live database.

    :param now: the schema that is drafted from, where renames were undone already.
    :param live: the same before that; None where nothing was renamed.
    """

    def __init__(self, now: Model, live: Model | None = None) -> None:
        self._now, self._live = now, live or now
        later = self._live.idents
        self._keys = {key: later[ident] for ident, key in now.idents.items() if ident in later}

    def key(self, key: Key) -> Key:
        """Its key there."""
        return self._keys.get(key, key)

    def name(self, key: Key) -> str:
        """Its name, quoted: of a table with its schema, of a column alone."""
        found = self.key(key)
        return self._live.columns[found].name if found in self._live.columns else found[1]

    def labels(self, of_type: str, labels: t.Sequence[str]) -> list[str]:
        """These values of an enum as they are called there; without those that it does not have there."""
        held = [(ident, thing) for ident, thing in self._now.things.items() if thing.kind == "value" and self._is(thing.inside, of_type)]
        if not held:
            return list(labels)
        there = {thing.name: self._live.things[ident].name for ident, thing in held if ident in self._live.things}
        return [there[label] for label in labels if label in there]

    def _is(self, ident: t.Any, of_type: str) -> bool:
        return self._now.idents.get(ident) == ("type", of_type)


__all__ = ("Live",)
