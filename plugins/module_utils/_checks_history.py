# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Checks against the migrations folder: the ledger, and the schema that the migrations make."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _fingerprint, _schema_drift
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET
from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, SKIPPED, WARN, Check, counted, names
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, row
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._replay import applied_history, files_of, on_database, replay
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import scratch_database
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import APPLIED, MARKED, OUT_OF_ORDER, PENDING, UNFINISHED

LEDGER, DRIFT = "ledger", "drift"


def ledger(found: Survey) -> Check:
    """The ledger holds what the folder holds, finished, unchanged and in order."""
    report = found.report
    wrong: dict[str, list[str]] = {}
    for verdict in report.verdicts:
        words = [flag for flag in verdict.flags if flag != MARKED]
        words += ["unfinished (%s)" % (verdict.substate or "unknown")] if verdict.verdict == UNFINISHED else []
        for word in words:
            wrong.setdefault(word, []).append(verdict.name)
    evidence = tuple({"migration": name, "problem": word} for word, which in wrong.items() for name in which)
    fatal = [word for word in wrong if word != OUT_OF_ORDER]
    if fatal:
        return Check(LEDGER, FAIL, "The ledger is not what the folder says: %s." % "; ".join("%s: %s" % (word, names(wrong[word])) for word in fatal), evidence)
    pending = [{"migration": name, "problem": PENDING} for name in report.pending]
    if pending or wrong:
        said = (["not applied: %s" % names(list(report.pending))] if pending else []) + ["%s: %s" % (word, names(which)) for word, which in wrong.items()]
        return Check(LEDGER, WARN, "The ledger is clean, but for this: %s." % "; ".join(said), evidence + tuple(pending))
    applied = [verdict for verdict in report.verdicts if verdict.verdict == APPLIED]
    return Check(LEDGER, PASS, "%s applied, and equal to the folder." % counted(len(applied), "migration"))


def drift(target: Target, found: Survey, maintenance_db: str, run_id: str, lock_wait: float) -> Check:
    """The live schema is the one that the applied migrations make in an empty database.

    Owners, rights, comments and extensions more are commonly set by hand: they are in the evidence and no drift.
    """
    try:
        with replayed(target, found, maintenance_db, run_id, lock_wait) as scratch:
            with connection(target, settings=QUIET, read_only=True) as conn:
                live = _fingerprint.take(conn, level="schema")
            with connection(scratch, read_only=True) as conn:
                made = _fingerprint.take(conn, level="schema")
    except MigrationError as error:
        return Check(DRIFT, SKIPPED, "It cannot be told: %s: %s." % (error.code, error.msg.rstrip(".")))
    return compared(made, live)


@contextlib.contextmanager
def replayed(target: Target, found: Survey, maintenance_db: str, run_id: str, lock_wait: float) -> t.Iterator[Target]:
    """A scratch database with the applied migrations in it, dropped at the end of the block.

    :raises MigrationError: ``HISTORY_DIVERGED``, ``REPLAY_FAILED``, ``PERMISSION_DENIED``, ... with why there is none.
    """
    files = files_of(found, [verdict.name for verdict in applied_history(found)])
    with run_lock(target, maintenance_db, run_id, lock_wait) as lock:
        with connection(target, read_only=True) as conn:
            oid = (row(conn, "SELECT oid::bigint FROM pg_database WHERE datname = current_database()") or (0,))[0]
            settings = read_settings(conn, oid)
        with scratch_database(target, lock, settings, run_id=run_id) as name:
            replay(target, name, files)
            yield on_database(target, name)


def compared(made: t.Mapping[str, t.Any], live: t.Mapping[str, t.Any]) -> Check:
    """The verdict on two fingerprints of the schema. Pure."""
    differences = _schema_drift.drift(made, live)
    hard = [each for each in differences if not _schema_drift.by_hand(each)]
    evidence = tuple(dict(each, by_hand=each not in hard) for each in hard + [each for each in differences if each not in hard])
    if hard:
        said = " ".join(each["text"] for each in hard[:3]) + (" And %d more." % (len(hard) - 3) if len(hard) > 3 else "")
        return Check(DRIFT, FAIL, "The schema is not the one that the migrations make: %s" % said, evidence)
    text = "The schema is the one that the migrations make%s." % (", but for %d rights, owners or comments" % len(evidence) if evidence else "")
    return Check(DRIFT, PASS, text, evidence)


__all__ = ("DRIFT", "LEDGER", "compared", "drift", "ledger", "replayed")
