# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The times in a record. Pure: no I/O."""

from __future__ import annotations

import datetime


def between(started_at: str, finished_at: str) -> float | None:
    """Seconds; None where a time is not known."""
    begin, end = moment(started_at), moment(finished_at)
    return None if begin is None or end is None else round(max((end - begin).total_seconds(), 0.0), 3)


def zoned(text: str) -> str:
    """The same time with its zone: one that says none is UTC, as all that this collection writes."""
    found = moment(text)
    return text if found is None or _parsed(text).tzinfo else text + "Z"


def moment(text: str) -> datetime.datetime | None:
    try:
        found = _parsed(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=datetime.timezone.utc)


def _parsed(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text.strip().replace("Z", "+00:00").replace("z", "+00:00"))


__all__ = ("between", "moment", "zoned")
