# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Where a schema differs from the one that its migrations make, the ledger left aside. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparison import LEDGER_TABLE, compare, names_in

_BY_HAND = ("owner ", "grants ", "comment ", "security label ", "default privileges ", "column order ")


def of_ledger(key: str) -> bool:
    """Whether an object, or a table, is the ledger's own."""
    if " " not in key:
        return key.endswith("." + LEDGER_TABLE)
    return any(name.rpartition(".")[2] == LEDGER_TABLE for name in names_in(key))


def drift(made: t.Mapping[str, t.Any], live: t.Mapping[str, t.Any]) -> list[dict[str, t.Any]]:
    """Differences of two fingerprints of the schema, those of the ledger left out.

    :param made: what the migrations make. ``live``: what is there.
    """
    return [{field: each[field] for field in ("kind", "object", "before", "after", "text")} for each in compare(made, live) if not of_ledger(each["object"])]


def by_hand(difference: t.Mapping[str, t.Any]) -> bool:
    """Whether it is something that is commonly set outside of migrations: owners, rights, comments, an extension more."""
    key = difference["object"]
    return key.startswith(_BY_HAND) or (key.startswith("extension ") and difference["before"] is None)


__all__ = ("by_hand", "drift", "of_ledger")
