# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What is done to the rows of a copy before it is worked on: values that nobody may read go, and rows come, as many as production has."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _masking
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import plain
from ansible_collections.pgops.migrations.plugins.module_utils._scale import scale
from ansible_collections.pgops.migrations.plugins.module_utils._scale_catalog import read_stats
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


@dataclasses.dataclass(frozen=True)
class Preparation:
    """``masking``: SQL files. ``factor``: how many times the rows; 0 or 1 for those that are there. ``production``: whose distributions count."""

    masking: t.Sequence[str] = ()
    factor: float = 0.0
    production: Target | None = None

    def demand(self) -> None:
        """:raises MigrationError: ``MASKING_FAILED``, ``OPTION_INVALID``: before there is a copy."""
        _masking.load(self.masking)
        if self.factor and self.factor < 1:
            raise MigrationError("scale is %g, and rows can only be added: 1 or more" % self.factor, code="OPTION_INVALID")

    @property
    def wanted(self) -> bool:
        return bool(self.masking) or self.factor > 1

    def deciding(self) -> dict[str, t.Any]:
        """What a certificate keeps of it."""
        return {"masking": _masking.digest(_masking.load(self.masking)), "scale": self.factor if self.factor > 1 else 0}

    def make(self, lock: t.Any, copy: Target, run_id: str) -> dict[str, t.Any]:
        """Do it; C(masked), C(scaled) and C(warnings).

        :param lock: a connection to the maintenance database with the rights of the copy's owner.
        """
        found: dict[str, t.Any] = {"masked": [], "scaled": {}, "warnings": []}
        if self.masking:
            _masking.keep_closed(lock, copy.dbname)
            found["masked"] = plain(_masking.mask(copy, _masking.load(self.masking), run_id))
        if self.factor > 1:
            stats = None
            if self.production is not None:
                with connection(self.production, application_name="pgops.migrations rehearsal %s" % run_id, settings=QUIET, read_only=True) as conn:
                    stats = read_stats(conn)
            scaled = scale(copy, self.factor, stats, None, run_id)
            found["scaled"] = plain(scaled)
            found["warnings"] = ["%s was not scaled: %s" % (each["table"], each["reason"]) for each in scaled["skipped"]]
        return found


__all__ = ("Preparation",)
