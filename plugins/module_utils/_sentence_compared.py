# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a comparison without a finding allows to be said: no more than was compared. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

_LESS = {
    "counts": "no table has fewer rows than the migrations explain, contents NOT compared",
    "schema": "the schema changed as the migrations say, rows NOT compared",
    "none": "NOT compared with the state before",
}
#: With these, something is gone that was there, and was meant to go.
_TAKEN = frozenset(["large_objects_fewer", "rows_fewer", "table_gone"])


def without_findings(verification: t.Mapping[str, t.Any]) -> str:
    """Part of a sentence, for a verification whose findings are none."""
    level = str(verification.get("compared_level") or verification.get("level") or "full")
    if level in _LESS:
        return _LESS[level]
    differences = [each for each in verification.get("differences") or () if isinstance(each, t.Mapping)]
    unknown = {str(each.get("object")) for each in differences if each.get("kind") == "content_not_compared"}
    if unknown:
        return "no finding, the content of %s could NOT be compared" % plural(len(unknown), "table")
    # A table that is only called otherwise has its rows in both.
    taken = any(
        (each.get("kind") in _TAKEN and not (each["kind"] == "table_gone" and each.get("after") is not None)) or _is_column(each) for each in differences
    )
    return "nothing lost but what was meant to go" if taken else "nothing lost"


def _is_column(difference: t.Mapping[str, t.Any]) -> bool:
    return difference.get("kind") == "object_removed" and str(difference.get("object")).startswith("column ")


__all__ = ("without_findings",)
