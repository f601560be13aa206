# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What is typed to migrate production without a rehearsal: for one database, in one run, with the reason. Pure: no I/O.

C(DATABASE:without-rehearsal:REASON). As the confirmations of ``_typed`` it needs no blank and no quote.
"""

from __future__ import annotations

import typing as t
from urllib.parse import quote, unquote

WORD = "without-rehearsal"
#: What stands for the reason where the option is shown; who pastes it as it is has given none.
PLACEHOLDER = "REASON"
#: Fewer characters are no reason.
_LEAST = 4


def as_list(given: t.Any) -> list[str]:
    """One text or several; a reason may hold commas, so nothing is split."""
    if not given:
        return []
    return [str(each) for each in given] if isinstance(given, (list, tuple)) else [str(given)]


def override_step(database: str) -> str:
    """The option to type, with a placeholder for the reason."""
    return "-e migration_override_certificate=%s:%s:%s (the reason in place of %s, with - for blanks; it is recorded)" % (
        quote(database, safe=""), WORD, PLACEHOLDER, PLACEHOLDER,
    )  # fmt: skip


def reason_given(given: t.Sequence[str], database: str) -> str:
    """The reason for which this database goes without a rehearsal; empty where nobody typed that."""
    for text in given:
        # From the left the name as it is, for it may hold anything; else as it is printed.
        for name in (database, quote(database, safe="")):
            for begin in ("%s:%s:" % (name, WORD), "%s %s:" % (name, WORD.replace("-", " "))):
                reason = unquote(text[len(begin) :]).strip() if text.startswith(begin) else ""
                if len(reason) >= _LEAST and reason != PLACEHOLDER and reason.isprintable():
                    return reason
    return ""


__all__ = ("PLACEHOLDER", "WORD", "as_list", "override_step", "reason_given")
