# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Figures in words, rounded in one way for all that a report says. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._words import seconds_text


def duration_text(value: t.Any) -> str:
    """``20 ms``, ``6.2 s``, ``3 min 20 s``; empty for what is no number."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return ""
    if abs(value) < 0.9995:
        thousandths = value * 1000
        return "%s ms" % (format(thousandths, ".2g") if 0 < abs(thousandths) < 9.95 else "%d" % round(thousandths))
    return seconds_text(value)


def size_text(value: float) -> str:
    """``12.3 MB``, in units of 1000."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if abs(value) >= factor * 0.99995:
            return "%s %s" % (format(value / factor, ",.1f"), unit)
    return "%d byte%s" % (value, "" if value == 1 else "s")


__all__ = ("duration_text", "size_text")
