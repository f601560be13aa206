# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the probes of a canary add up to, per table. Pure: no I/O."""

from __future__ import annotations

import math
import typing as t

#: What an application would get where a table or a column that it knows is gone.
BROKEN = {
    "42P01": "a table that the application knows is gone", "42703": "a column that the application knows is gone", "42501": "the right to it is gone",
    "3F000": "its schema is gone", "08006": "the connection was ended", "57P01": "the connection was ended",
}  # fmt: skip


class Probe(t.NamedTuple):
    """One statement of the canary: ``began`` in seconds since the canary did; ``state``: its SQLSTATE; ``ended``: False where it never got through."""

    table: str
    kind: str
    began: float
    seconds: float
    state: str = ""
    waited: bool = False
    ended: bool = True


def percentile(values: t.Sequence[float], share: float) -> float | None:
    """The least value that so large a share of all do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None


def summary(probes: t.Sequence[Probe], seconds: float) -> dict[str, t.Any]:
    """C(tables) with the longest stall first, C(longest_stall) of all, and C(broken): what an application of before could not do any more."""
    tables = [_of_table(name, [probe for probe in probes if probe.table == name]) for name in dict.fromkeys(probe.table for probe in probes)]
    tables.sort(key=lambda entry: (-entry["longest_stall"], entry["table"]))
    broken = [
        {"table": entry["table"], "sqlstate": state, "times": times, "what": BROKEN.get(state, "the server refused it")}
        for entry in tables for state, times in entry["errors"].items()
    ]  # fmt: skip
    return {
        "seconds": round(seconds, 3), "probes": len(probes), "longest_stall": max((entry["longest_stall"] for entry in tables), default=0.0),
        "tables": tables, "broken": broken,
    }  # fmt: skip


def _of_table(name: str, probes: t.Sequence[Probe]) -> dict[str, t.Any]:
    errors: dict[str, int] = {}
    for probe in probes:
        if probe.state:
            errors[probe.state] = errors.get(probe.state, 0) + 1
    worst = max(probes, key=lambda probe: probe.seconds)
    found: dict[str, t.Any] = {"table": name, "probes": len(probes), "longest_stall": round(worst.seconds, 3), "stalled_at": round(worst.began, 3)}
    for kind in ("reader", "writer"):
        own = [probe.seconds for probe in probes if probe.kind == kind]
        value = percentile(own, 0.99)
        found[kind] = {"probes": len(own), "longest": round(max(own, default=0.0), 3), "p99": None if value is None else round(value, 4)}
    value = percentile([probe.seconds for probe in probes], 0.99)
    return dict(found, p99=None if value is None else round(value, 4), errors=errors, never_through=sum(not probe.ended for probe in probes))


def sentence(found: t.Mapping[str, t.Any]) -> str:
    """One line for a person."""
    if not found["probes"]:
        return "no table was probed"
    worst = found["tables"][0]
    text = "an application would have waited at most %.2f s, for %s" % (worst["longest_stall"], worst["table"])
    lost = ["%s: %s (%s)" % (entry["table"], entry["what"], entry["sqlstate"]) for entry in found["broken"][:3]]
    return text + ("; it would have failed: %s" % ", ".join(lost) if lost else "")


__all__ = ("BROKEN", "Probe", "percentile", "sentence", "summary")
