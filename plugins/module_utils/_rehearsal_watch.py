# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a rehearsal sees beside whether the deploy succeeds: what users would feel, each statement, and production's size."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._canary import Canary
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._forecast import forecast, sentence
from ansible_collections.pgops.migrations.plugins.module_utils._forecast_facts import measure, settings_of, sizes
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import plain
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


@contextlib.contextmanager
def canary(copy: Target, run_id: str, wanted: bool, seen: dict[str, t.Any]) -> t.Iterator[None]:
    """Read and write every table meanwhile; C(canary) of ``seen`` gets what came of it, also when the deploy failed."""
    if not wanted:
        yield
        return
    with Canary(copy, run_id) as bird:
        try:
            yield
        finally:
            bird.stop()
            seen["canary"] = plain(bird.result())


def demand_answering(found: t.Mapping[str, t.Any], most: float) -> None:
    """Nobody but the canary is in a copy, so only it feels what a budget for blocked sessions is about.

    :param most: seconds; 0 for none.
    :raises MigrationError: ``CHECK_FAILED`` where a table did not answer for longer.
    """
    slow = [each for each in found.get("tables") or () if most and each["longest_stall"] > most]
    if slow:
        words = ", ".join("%s for %.1f s" % (each["table"], each["longest_stall"]) for each in slow[:5])
        why = "during the deploy there was no answer from %s, and the budget is %g s (max_blocking_seconds)" % (words, most)
        raise MigrationError(why, code="CHECK_FAILED", failing=["blocking_time"])


def statements(copy: Target, texts: t.Mapping[str, str], production: Target | None, lock_timeout: str, name: str) -> tuple[dict[str, t.Any], str]:
    """The migrations once more on the copy, one statement at a time, and how long each would take at production's size.

    :param copy: as before the deploy; it is deployed afterwards, without rows in its ledger.
    :param production: whose sizes count, read from its catalogue only; None for those of the copy.
    :return: see ``_forecast.forecast``, with C(text); and why it is not known, or nothing.
    """
    try:
        with connection(copy, application_name=name, settings=QUIET, read_only=True) as conn:
            copied = sizes(conn, exactly=True)
            live, settings = copied, settings_of(conn)
        if production is not None:
            with connection(production, application_name=name, settings=QUIET, read_only=True) as conn:
                live, settings = sizes(conn), settings_of(conn)
    except MigrationError as error:
        return {}, "the statements were not measured: %s" % error.msg
    measured, problem = measure(copy, texts, {"lock_timeout": lock_timeout} if lock_timeout else None)
    found = forecast(measured, copied, live, settings)
    return t.cast("dict[str, t.Any]", plain(dict(found, text=sentence(found)))), problem


__all__ = ("canary", "demand_answering", "statements")
