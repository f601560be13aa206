# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The expressions of SQL with which rows are multiplied; s is the row that is there, g the number of its copy."""

from __future__ import annotations

import itertools
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._connection import sql
from ansible_collections.pgops.migrations.plugins.module_utils._scale_plan import KINDS, Column

#: Types between whose values there are others.
_BETWEEN = {
    "int2": "round", "int4": "round", "int8": "round", "numeric": "", "float4": "", "float8": "", "timestamptz": "", "timestamp": "", "date": "round",
}  # fmt: skip


def fresh(column: Column, stride: t.Any) -> t.Any:
    """A new value that is made of the old one, the same for the same old one.

    :param stride: how far the copies of a class of numbers, or the days of one of dates, are apart.
    """
    old, kind = sql.SQL("s.{}").format(sql.Identifier(column.name)), KINDS[column.type]
    if kind == "number":
        made = sql.SQL("{} + g * {}").format(old, sql.Literal(stride))
    elif kind == "time":
        made = sql.SQL("{} + g * {} * interval '1 second'").format(old, sql.Literal(stride))
    elif kind == "date":
        made = sql.SQL("{} + (g * {})::integer").format(old, sql.Literal(stride))
    elif kind == "uuid":
        made = sql.SQL("md5({}::text || '/' || g)::uuid").format(old)
    elif kind == "bytes":
        made = sql.SQL("sha256({} || convert_to('/' || g, 'UTF8'))").format(old)
    else:
        # Before the @ of an address, and behind anything else, such as https://..
        made = sql.SQL("(CASE WHEN {0} LIKE '_%@%' THEN g || '.' || {0} ELSE {0} || '-' || g END)").format(old)
        if column.length:
            short = sql.SQL("left(md5({}::text || '/' || g), {})").format(old, sql.Literal(column.length))
            made = sql.SQL("CASE WHEN length({0}) <= {1} THEN {0} ELSE {2} END").format(made, sql.Literal(column.length), short)
    return made


def drawn(column: Column, cast: t.Any, stats: t.Mapping[str, t.Any]) -> t.Any | None:
    """A value as often as production's statistics say, or None where they say too little.

    :param cast: the column's type, as SQL. ``stats``: C(null_frac), C(most_common_vals) and so on as pg_stats has them, values as text.
    """
    values, shares = list(stats.get("most_common_vals") or ()), [float(share) for share in stats.get("most_common_freqs") or ()]
    bounds, nulls = list(stats.get("histogram_bounds") or ()), float(stats.get("null_frac") or 0.0)
    values = values[: len(shares)]
    if not values and len(bounds) < 2:
        return None
    if not column.nullable:
        nulls = 0.0
    whole = nulls + sum(shares)
    # In a subquery of its own each array is read once, and not for each row.
    # One number decides; what is left of it decides within the histogram.
    cases = [sql.SQL("WHEN d.r < {} THEN NULL").format(sql.Literal(nulls))]
    if values:
        ends = [nulls, *(nulls + share for share in itertools.accumulate(shares[:-1]))]
        array = sql.SQL("(SELECT {}::{}[])").format(sql.Literal(values), cast)
        common = sql.SQL("{}[greatest(1, width_bucket(d.r, {}::float8[]))]").format(array, sql.Literal(ends))
        if len(bounds) < 2:
            cases.append(sql.SQL("ELSE {}").format(common))
        else:
            cases.append(sql.SQL("WHEN d.r < {} THEN {}").format(sql.Literal(whole), common))
    if len(bounds) >= 2:
        array = sql.SQL("(SELECT {}::{}[])").format(sql.Literal(bounds), cast)
        at = sql.SQL("(greatest(0, least(0.999999, (d.r - {0}) / {1})) * {2})").format(
            sql.Literal(whole), sql.Literal(max(1e-6, 1 - whole)), sql.Literal(len(bounds) - 1)
        )
        low = sql.SQL("{}[floor({})::integer + 1]").format(array, at)
        if column.type in _BETWEEN:
            high = sql.SQL("{}[floor({})::integer + 2]").format(array, at)
            step = sql.SQL("({} - {}) * ({} - floor({}))").format(high, low, at, at)
            step = sql.SQL("round(({})::numeric)").format(step) if _BETWEEN[column.type] and column.type != "date" else step
            step = sql.SQL("round({})::integer").format(step) if column.type == "date" else step
            low = sql.SQL("({} + {})::{}").format(low, step, cast)
        cases.append(sql.SQL("ELSE {}").format(low))
    # A subquery that needs something of the row is asked for each row, and its number is drawn once for all that stands here.
    return sql.SQL("(SELECT CASE {} END FROM (SELECT random() AS r WHERE g > 0 OFFSET 0) d)").format(sql.SQL(" ").join(cases))


__all__ = ("drawn", "fresh")
