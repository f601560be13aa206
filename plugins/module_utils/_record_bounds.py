# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How big a record may become, and what it says of that which does not fit. Pure: no I/O.

The outcome, the sentence and the phases are made from all that was reported; only then
something is left out, and C(cut) says how much. So no figure is smaller than what it counts.
"""

from __future__ import annotations

import json
import typing as t

Record = t.Mapping[str, t.Any]
#: Keys and numbers that lead to a list; a key may hold a dot.
Path = t.Tuple[t.Union[str, int], ...]
#: Characters of a record as JSON without blanks, and entries of each of its lists. Lists get shorter until the record fits.
MOST = 4_000_000
_LADDER = (10_000, 5_000, 2_000, 1_000, 500, 200, 100, 50, 20, 5)
#: What a report draws as a line, and the names that its sentence counts, go last: down to this rung.
_LAST = frozenset(["applied", "held", "migrations", "pending", "phases", "planned", "redone", "samples", "undone", "would_apply"])
_LAST_KEEP = 500
#: Keys of a dict that is one thing and no collection of many.
_THING = 64
#: Entries of C(cut) itself.
_CUTS = 200
_PHASES = ("preflight", "backup", "deploy", "verification", "restore", "drill")


def fit(record: dict[str, t.Any], known: t.Mapping[str, int] | None = None, most: int = MOST) -> None:
    """Make the record fit, and put into ``record["cut"]`` what was left out of which list: C(path), C(kept), C(of).

    :param known: how many entries a list of the first level would have, where what was reported of it may be a part.
    """
    totals: dict[Path, int] = {(name,): count for name, count in (known or {}).items() if count > len(record[name])}
    for rung in _LADDER:
        record.update({key: _shortened(value, (key,), rung, totals) for key, value in record.items()})
        if _size(record) <= most:
            break
    else:
        _last_resort(record, most, totals)
    left = [(path, _kept(record, path)) for path in totals]
    cut = [{"path": _said(path), "kept": kept, "of": totals[path]} for path, kept in left if kept is not None]
    record["cut"] = cut[:_CUTS] + ([{"path": "cut", "kept": _CUTS, "of": len(cut)}] if len(cut) > _CUTS else [])


def whole(record: Record, path: str, kept: int) -> int:
    """How many entries there were where ``kept`` are left."""
    return next((int(entry["of"]) for entry in record.get("cut") or () if entry["path"] == path), kept)


def _size(value: t.Any) -> int:
    return len(json.dumps(value, separators=(",", ":")))


def _shortened(value: t.Any, path: Path, rung: int, totals: dict[Path, int]) -> t.Any:
    most = max(rung, _LAST_KEEP) if path[-1] in _LAST else rung
    if isinstance(value, list):
        if len(value) > most:
            totals.setdefault(path, len(value))
        return [_shortened(item, (*path, number), rung, totals) for number, item in enumerate(value[:most])]
    if isinstance(value, dict):
        most = max(most, _THING)
        if len(value) > most:
            totals.setdefault(path, len(value))
        return {key: _shortened(value[key], (*path, key), rung, totals) for key in list(value)[:most]}
    return value


def _last_resort(record: dict[str, t.Any], most: int, totals: dict[Path, int]) -> None:
    """Whole parts, the biggest first; what says how the run ended is never among them."""
    holders: list[tuple[Path, dict[str, t.Any]]] = [(("other",), record["other"])]
    holders += [((phase,), record[phase]) for phase in _PHASES if record[phase]]
    parts = [(path, holder, key) for path, holder in holders for key in holder if isinstance(holder[key], (dict, list))]
    for path, holder, key in sorted(parts, key=lambda part: -_size(part[1][part[2]])):
        if _size(record) <= most:
            return
        totals.setdefault((*path, key), len(holder[key]))
        holder[key] = type(holder[key])()


def _kept(record: Record, path: Path) -> int | None:
    """How many entries are left there; None where the list itself went with what it stood in."""
    found: t.Any = record
    for step in path:
        try:
            found = found[step]
        except (KeyError, IndexError):
            return None
    return len(found)


def _said(path: Path) -> str:
    """C(verification.checks[3].evidence)."""
    return "".join("[%d]" % step if isinstance(step, int) else ".%s" % step for step in path).lstrip(".")


__all__ = ("MOST", "fit", "whole")
