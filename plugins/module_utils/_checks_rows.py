# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Questions of a check to the rows, each by itself: one that gets no answer says why, and holds up none of the others. Reads only."""

from __future__ import annotations

import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._check import names
from ansible_collections.pgops.migrations.plugins.module_utils._connection import code_for_sqlstate, psycopg2, row, rows

_CANCELLED, _NOT_LOCKED = "57014", "55P03"
#: Questions that may run out of time, before nothing more is asked: a check ends, however many tables there are.
_LATE = 3


class Asker:
    """Asks the rows. ``unasked``: what got no answer, with the reason; the caller notes it."""

    def __init__(self, conn: t.Any) -> None:
        self._conn, self._late = conn, 0
        self.unasked: list[str] = []

    def ask(self, statement: t.Any) -> tuple[list[tuple[t.Any, ...]], str]:
        """The rows, or the reason why there are none."""
        if self._late >= _LATE:
            return [], "the time is up"
        began = time.monotonic()
        try:
            return rows(self._conn, statement), ""
        except psycopg2.Error as error:
            if self._conn.closed or not error.pgcode:
                raise
            sqlstate = error.pgcode
        limit, seconds = self._limit()
        if sqlstate in (_CANCELLED, _NOT_LOCKED):
            self._late += 1
        if sqlstate == _CANCELLED:
            late = seconds and time.monotonic() - began >= seconds
            return [], "it takes longer than %s, see verification_check_timeout" % limit if late else "it was cancelled"
        return [], code_for_sqlstate(sqlstate)

    def note(self, what: str, reason: str) -> None:
        self.unasked.append("%s (%s)" % (what, reason))

    def said(self) -> str:
        """A sentence about what got no answer, with a space before it; nothing where all did."""
        return " Not looked at: %s." % names(self.unasked) if self.unasked else ""

    def _limit(self) -> tuple[str, float]:
        found = row(self._conn, "SELECT current_setting('statement_timeout'), setting::float / 1000 FROM pg_settings WHERE name = 'statement_timeout'")
        return found or ("", 0.0)


__all__ = ("Asker",)
