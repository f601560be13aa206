# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Numbers and durations in words. Pure: no I/O."""

from __future__ import annotations

import typing as t


def plural(count: int, word: str) -> str:
    """``1 migration``, ``1,200 rows``."""
    return "%s %s%s" % (format(count, ",d"), word, "" if count == 1 else "s")


def seconds_text(seconds: t.Any) -> str:
    """``1.9 ms``, ``6.2 s``, ``3 min 20 s``, ``1 h 4 min``; empty for what is no number."""
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        return ""
    if 0 < seconds < 0.05:
        return "%s ms" % format(seconds * 1000, ".2g")
    if seconds < 59.95:
        return "%.1f s" % seconds
    whole = int(round(seconds))
    return "%d min %d s" % divmod(whole, 60) if whole < 3600 else "%d h %d min" % (whole // 3600, whole % 3600 // 60)


__all__ = ("plural", "seconds_text")
