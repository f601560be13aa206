# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a migration would take at the size of production, from what it took on a smaller copy. Pure: no I/O.

A statement is classified by what it was seen to do (files written anew, indexes made, rows read and written), and not by
its words: see ``_forecast_facts``. Its time grows with the tables it read; what it only wrote, such as the rows of a VALUES, is
as many in production. Index builds grow a little faster than their table, for they sort. A forecast is of a server that does
as the rehearsal's does, with the table in its cache; the error bar is for what cannot be known from one size.
"""

from __future__ import annotations

import math
import typing as t

INDEX, REWRITE, ROWS, SCAN, CATALOGUE, COMMIT = "index", "rewrite", "rows", "scan", "catalogue", "commit"
#: Reading fewer rows than this is a look at single ones, of which production has no more.
FEW = 100
#: The share by which the truth may differ, at ten times the size: measured by benchmarks/forecast.py, and rounded up.
ERROR = {INDEX: 0.25, REWRITE: 0.25, ROWS: 0.25, SCAN: 0.30, CATALOGUE: 0.0, COMMIT: 0.5}
#: More of it for each reason to doubt.
_SEVERAL, _SHAPE, _MEMORY, _DECADE, _WORKERS, _UNKNOWN = 0.20, 0.10, 0.15, 0.10, 0.15, 0.50
#: What one measurement may be off on a busy machine, in seconds.
JITTER = 0.005
#: A catalogue change where none was measured.
CONSTANT = 0.001
#: How much of the logarithm shows in the time: all of it in the builds that sort or descend a tree; half of it where rows are written, into indexes
#: that are deeper and caches that are too small; nothing where a table is only read from its begin to its end.
_SORTED = {"btree": 1.0, "gist": 1.0, "spgist": 1.0, "gin": 0.5}
_DEEPER = {ROWS: 0.5, REWRITE: 0.5}
#: And all of it where one table is held against another, as a foreign key is, whose hash leaves the processor's cache.
_JOINED = 1.0
#: The size of a table from which the server plans its first worker, and what a worker saves of a build.
_PARALLEL, _SAVES = 8 << 20, 0.25
#: Of a migration of thousands of statements those that take the longest are told.
MOST_STATEMENTS = 50
Sizes = t.Mapping[str, t.Mapping[str, t.Any]]
Statement = t.Mapping[str, t.Any]


def kind_of(statement: Statement) -> str:
    """What the time of a statement went to, by what was seen of it."""
    if statement.get("commit"):
        return COMMIT
    if statement.get("rewritten"):
        return REWRITE
    if any(statement.get("written", {}).values()) and any(count > FEW for count in statement.get("read", {}).values()):
        return ROWS
    if statement.get("indexes"):
        return INDEX
    if any(count > FEW for count in statement.get("read", {}).values()):
        return SCAN
    return ROWS if any(count > FEW for count in statement.get("written", {}).values()) else CATALOGUE


def drivers(statement: Statement) -> dict[str, float]:
    """The tables with which the time grows, and the weight of each: the rows that were read of it."""
    found = {table: float(count) for table, count in statement.get("read", {}).items() if count > FEW}
    for table in [*statement.get("rewritten", ()), *(index["table"] for index in statement.get("indexes", ()))]:
        # Workers of a parallel build count their rows elsewhere.
        found[table] = max(found.get(table, 0.0), 1.0)
    return found


def forecast(measured: t.Sequence[Statement], copied: Sizes, live: Sizes, settings: t.Mapping[str, t.Any] | None = None) -> dict[str, t.Any]:
    """Per migration, and per statement of it, C(seconds) at the size of production, between C(low) and C(high).

    :param measured: see ``_forecast_facts.measure``. ``copied``: the tables' C(rows) and C(bytes) on the copy, before the migrations.
    :param live: those of production. A table that is not in both is taken to be as large there as on the copy.
    :param settings: C(maintenance_work_mem), C(shared_buffers) in bytes and C(workers), as far as they are known.
    """
    constant = _constant(measured)
    migrations: dict[str, dict[str, t.Any]] = {}
    for name in dict.fromkeys(str(statement["migration"]) for statement in measured):
        own = [statement for statement in measured if statement["migration"] == name]
        statements: list[dict[str, t.Any]] = []
        for statement in own:
            statements.append(_of_statement(statement, copied, live, settings or {}, constant, statements))
        total = {key: round(sum(entry[key] for entry in statements), 3) for key in ("measured", "seconds", "low", "high")}
        longest = sorted(sorted(range(len(statements)), key=lambda place: -statements[place]["seconds"])[:MOST_STATEMENTS])
        more = len(statements) - len(longest)
        migrations[name] = {"name": name, **total, "statements": [statements[place] for place in longest], "more": more}
    found = list(migrations.values())
    whole = {key: round(sum(entry[key] for entry in found), 3) for key in ("measured", "seconds", "low", "high")}
    return {**whole, "factor": _overall(copied, live), "migrations": found}


def _constant(measured: t.Sequence[Statement]) -> float:
    found = sorted(float(statement["seconds"]) for statement in measured if kind_of(statement) == CATALOGUE)
    return found[len(found) // 2] if found else CONSTANT


def _overall(copied: Sizes, live: Sizes) -> float | None:
    both = [name for name in copied if name in live]
    small = sum(copied[name]["bytes"] or 0 for name in both)
    return round(sum(live[name]["bytes"] or 0 for name in both) / small, 2) if small else None


def _of_statement(
    statement: Statement, copied: Sizes, live: Sizes, settings: t.Mapping[str, t.Any], constant: float, before: t.Sequence[Statement]
) -> dict[str, t.Any]:
    kind, seconds = kind_of(statement), float(statement["seconds"])
    told = {key: statement[key] for key in ("line", "text", "locks") if key in statement}
    told.update(kind=kind, measured=round(seconds, 4), tables=sorted(drivers(statement)), doubts=[])
    if kind == COMMIT:
        # What is not yet on the disk is more the more was written.
        small = sum(entry["measured"] for entry in before)
        factor, error, doubts = (sum(entry["seconds"] for entry in before) / small if small else 1.0), ERROR[COMMIT], t.cast("list[str]", [])
    else:
        factor, error, doubts = _growth(statement, kind, copied, live, settings)
    fixed = _fixed(statement, kind, copied, settings, min(constant, seconds)) if factor != 1.0 else 0.0
    central = fixed + (seconds - fixed) * factor
    jitter = JITTER * max(1.0, factor) + float(statement.get("spread", 0.0)) * factor
    told.update(
        factor=round(factor, 3), seconds=round(central, 4), low=round(max(0.0, central / (1 + error) - jitter), 4),
        high=round(central * (1 + error) + jitter, 4), doubts=doubts,
    )  # fmt: skip
    return told


def _fixed(statement: Statement, kind: str, copied: Sizes, settings: t.Mapping[str, t.Any], constant: float) -> float:
    """The part that does not grow: what any statement takes, and the start of the workers of a build."""
    built = [copied[index["table"]] for index in statement.get("indexes", ()) if index["method"] == "btree" and index["table"] in copied]
    started = sum(_workers(table, settings) for table in built) if kind == INDEX else 0
    # One measurement of a start must not explain away the build.
    return constant + min(started * float(statement.get("worker_start", 0.0)), (float(statement["seconds"]) - constant) / 2)


def _growth(statement: Statement, kind: str, copied: Sizes, live: Sizes, settings: t.Mapping[str, t.Any]) -> tuple[float, float, list[str]]:
    """How many times longer, give or take which share, and why that is in doubt."""
    weights, factors = drivers(statement), t.cast("dict[str, float]", {})
    error, doubts = ERROR[kind], t.cast("list[str]", [])
    if statement.get("unknown"):
        error, doubts = error + _UNKNOWN, ["what it read could not be seen"]
    whole = sum(weights.values())
    big = [table for table in weights if weights[table] >= whole / 20]
    deeper = _JOINED if kind == SCAN and len(big) > 1 else _DEEPER.get(kind, 0.0)
    for table in weights:
        if table not in copied:
            # Made by the same migration: as many rows as it was given from others.
            factors[table] = _inherited(table, copied, live, statement)
            continue
        if table not in live:
            doubts.append("%s is not in production" % table)
            error += _UNKNOWN
            factors[table] = 1.0
            continue
        factors[table], more, why = _table(copied[table], live[table], table)
        factors[table] *= _logarithm(copied[table], live[table]) ** deeper
        error, doubts = error + more, doubts + why
    if not factors:
        return 1.0, 0.0 if kind == CATALOGUE else 0.10, doubts
    factor = sum(weights[table] * factors[table] for table in factors) / whole
    if len(big) > 1:
        error, doubts = error + _SEVERAL, [*doubts, "reads several tables, and how it does may change with their size"]
    if factor > 10.5 or factor < 1:
        error += _DECADE * abs(math.log10(max(factor, 1e-6) / (10 if factor > 1 else 1)))
    for index in statement.get("indexes", ()) if kind == INDEX else ():
        table = index["table"]
        if table in copied and table in live:
            more_factor, more, why = _sorting(index, copied[table], live[table], settings)
            factor, error, doubts = factor * more_factor, error + more, doubts + why
    return factor, error, doubts


def _inherited(table: str, copied: Sizes, live: Sizes, statement: Statement) -> float:
    sources = statement.get("filled_from", {}).get(table, ())
    found = [_table(copied[name], live[name], name)[0] for name in sources if name in copied and name in live]
    return max(found, default=1.0)


def _table(small: t.Mapping[str, t.Any], large: t.Mapping[str, t.Any], name: str) -> tuple[float, float, list[str]]:
    """How many times as large a table is in production, by its rows; by its bytes where they are not known."""
    of_bytes = float(large["bytes"] or 0) / float(small["bytes"]) if small.get("bytes") else None
    if not small.get("rows") or large.get("rows") is None:
        if of_bytes is None or not small.get("rows", 1):
            return 1.0, _UNKNOWN, ["%s has no rows on the copy" % name]
        return of_bytes, _SHAPE, ["the rows of %s are not known, only its bytes" % name]
    of_rows = float(large["rows"]) / float(small["rows"])
    if of_bytes and of_rows and abs(math.log(of_bytes / of_rows)) > math.log(1.3):
        return of_rows, min(1.0, abs(math.log(of_bytes / of_rows))), ["the rows of %s are of another size in production, or it is bloated" % name]
    return of_rows, 0.0, []


def _sorting(
    index: t.Mapping[str, t.Any], small: t.Mapping[str, t.Any], large: t.Mapping[str, t.Any], settings: t.Mapping[str, t.Any]
) -> tuple[float, float, list[str]]:
    """What the sort of a build adds to the growth of its table, and what more workers save."""
    method, count = str(index["method"]), index.get("rows")
    # Of a partial index most of the time goes to reading what is not in it.
    share = 1.0 if count is None or not small.get("rows") else min(1.0, float(count) / float(small["rows"]))
    factor, error, doubts = _logarithm(small, large) ** (_SORTED.get(method, 0.0) * share), 0.0, t.cast("list[str]", [])
    memory = settings.get("maintenance_work_mem")
    if memory and float(small["bytes"] or 0) <= memory < float(large["bytes"] or 0):
        error, doubts = error + _MEMORY, ["it may sort in memory on the copy, and on the disk in production"]
    first, then = (_workers(entry, settings) for entry in (small, large))
    if method == "btree" and first != then:
        factor *= (1 - _SAVES) if then > first else 1 / (1 - _SAVES)
        error, doubts = error + _WORKERS, [*doubts, "%d workers on the copy, %d in production" % (first, then)]
    return factor, error, doubts


def _logarithm(small: t.Mapping[str, t.Any], large: t.Mapping[str, t.Any]) -> float:
    rows, more = float(small.get("rows") or 0), float(large.get("rows") or 0)
    return math.log(more) / math.log(rows) if rows > 1 and more > 1 else 1.0


def _workers(table: t.Mapping[str, t.Any], settings: t.Mapping[str, t.Any]) -> int:
    """How many the server plans for a build: one more with each threefold size, as far as each has 32 MB of memory."""
    size, most = float(table["bytes"] or 0), int(settings.get("workers") or 0)
    memory = int(float(settings.get("maintenance_work_mem") or 0) // (32 << 20)) - 1
    wanted = int(math.log(size / _PARALLEL, 3)) + 1 if size >= _PARALLEL else 0
    return max(0, min(wanted, most, memory))


def sentence(found: t.Mapping[str, t.Any]) -> str:
    """One line for a person; empty where the copy is as large as production."""
    factor = found.get("factor")
    if not factor or abs(factor - 1) < 0.2:
        return ""
    slowest = max(found["migrations"], key=lambda entry: entry["seconds"], default=None)
    text = "at the size of production (%.3g times the copy) about %s, between %s and %s" % (
        factor, _seconds(found["seconds"]), _seconds(found["low"]), _seconds(found["high"]),
    )  # fmt: skip
    return text + (", most of it %s (%s)" % (slowest["name"], _seconds(slowest["seconds"])) if slowest and len(found["migrations"]) > 1 else "")


def _seconds(value: float) -> str:
    return "%.1f s" % value if value < 120 else "%.0f min" % (value / 60)


__all__ = ("CATALOGUE", "COMMIT", "ERROR", "INDEX", "REWRITE", "ROWS", "SCAN", "Sizes", "Statement", "drivers", "forecast", "kind_of", "sentence")
