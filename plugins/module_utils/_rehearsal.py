# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""One rehearsal: copy, prove, deploy, compare, check, go back, prove, certify, drop.

The live database is only read. A rehearsal has the lock of the drills of its database, so no deploy waits for it but
while Prisma's CLI is at work on the copy, see ``_rehearsal_state.out_of_reach``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import os
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _certificate, _certificate_file, _failpoint
from ansible_collections.pgops.migrations.plugins.module_utils._backup_facts import QUIET, no_timeouts, now
from ansible_collections.pgops.migrations.plugins.module_utils._check import Check, known, summary
from ansible_collections.pgops.migrations.plugins.module_utils._checks import CheckOptions, run_checks
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, psycopg2, sql_errors
from ansible_collections.pgops.migrations.plugins.module_utils._deploy import deploy
from ansible_collections.pgops.migrations.plugins.module_utils._drill import DrillOptions, drill_lock
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._explain import explain, findings
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint_file import migration_texts
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import plain
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_judge import (
    TRIED,
    demand_explained,
    demand_passed,
    failure,
    measured,
    sentence,
)
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_left import clear, cleared_after, left
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_options import BEFORE, DEPLOY, RehearsalOptions
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_source import NEW, RESTORE_POINT, Source, open_source
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_state import SCHEMA, moved, out_of_reach, schema_of, state_of
from ansible_collections.pgops.migrations.plugins.module_utils._rehearsal_watch import canary, demand_answering, statements
from ansible_collections.pgops.migrations.plugins.module_utils._restore_common import size
from ansible_collections.pgops.migrations.plugins.module_utils._slots import server_slot
from ansible_collections.pgops.migrations.plugins.module_utils._survey import PROJECT_SPEC
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


def rehearse(target: Target, options: RehearsalOptions, check_mode: bool = False) -> dict[str, t.Any]:
    """Rehearse what is pending; C(changed), C(passed), C(migrations), C(certificate), C(seconds), C(text), ...

    :raises MigrationError: with C(failed_in), the code of what failed, and what was seen until then. The copy is dropped in any case.
    """
    run = _Run(target, options)
    try:
        result = run.work(check_mode)
    except MigrationError as error:
        phase, untouched = run.phase, run.untouched() if run.phase in TRIED else None
        raise failure(error, target.dbname, phase, run.told(), untouched) from None
    return dict(result, text=sentence(result))


class _Run:
    """One rehearsal of one target."""

    def __init__(self, target: Target, options: RehearsalOptions) -> None:
        self.target, self.options, self.run_id = target, options, options.copy.run_id
        self.params: dict[str, t.Any] = dict(DEPLOY, **dict.fromkeys(PROJECT_SPEC))
        self.params.update(options.deploy, run_id=self.run_id, maintenance_db=options.copy.maintenance_db, lock_wait=options.copy.lock_wait)
        self.phase = "plan"
        self.seconds: dict[str, float] = {}
        self.state: dict[str, t.Any] | None = None
        self.source: Source | None = None
        self.seen: dict[str, t.Any] = {"cleared": [], "withdrawn": False, "canary": {}, "forecast": {}, "warnings": []}

    def told(self) -> dict[str, t.Any]:
        """What a result says in any case."""
        source = self.source
        seconds = dict(self.seconds, total=round(sum(self.seconds.values()), 3))
        warnings = list(self.seen["warnings"]) + (list(source.warnings) if source else [])
        names = list(self.state["migrations"]) if self.state else []
        return dict(
            self.seen, database=self.target.dbname, source=self.options.source, restore_point=source.point if source else {}, migrations=names, seconds=seconds,
            copy_seconds=dict(source.seconds) if source else {}, warnings=warnings,
        )  # fmt: skip

    @contextlib.contextmanager
    def _in(self, phase: str) -> t.Iterator[None]:
        self.phase, began = phase, time.monotonic()
        try:
            with sql_errors("rehearse on a copy (%s)" % phase, self.target):
                yield
        finally:
            self.seconds[phase] = round(self.seconds.get(phase, 0.0) + time.monotonic() - began, 3)

    def planned(self) -> dict[str, t.Any]:
        """What a deploy to the live database would do now."""
        return deploy(self.target, self.params, True)

    def work(self, check_mode: bool) -> dict[str, t.Any]:
        options = self.options
        with self._in("plan"):
            planned = self.planned()
            self.state = state = state_of(self.target, planned, self.run_id)
            path = _certificate_file.path_of(options.certificate_dir, state["database"], state["system_identifier"], state["schema"])
        nothing: dict[str, t.Any] = {"changed": False, "passed": False, "reused": False, "certificate": {}}
        if not state["migrations"]:
            return dict(self.told(), **nothing)
        with self._in("source"):
            _certificate_file.demand_folder(options.certificate_dir, not check_mode)
            if options.sign_with:
                _certificate_file.demand_key(options.sign_with, options.copy.gpg_home)
            options.preparation.demand()
            if options.copy.restore_point == NEW and not check_mode:
                raise MigrationError("restore_point is %s, which says what a check would use" % NEW, code="OPTION_INVALID")
            self.source = source = open_source(options.source, self.target, options.copy)
            reused = self._valid(path, state, str(source.point.get("id") or ""))
        if reused is not None:
            return dict(self.told(), **dict(nothing, passed=True, reused=True, certificate=_certificate_file.shown(path, reused)))
        with source.used():
            with self._in("source"):
                source.check()
            if check_mode:
                return dict(self.told(), **dict(nothing, changed=True))
            own = DrillOptions(maintenance_db=options.copy.maintenance_db, run_id=self.run_id, lock_wait=options.copy.lock_wait)
            with contextlib.ExitStack() as stack:
                with self._in("slot"):
                    slot = server_slot(source.place, options.copy.at_once, options.copy.at_once_wait, options.copy.maintenance_db, self.run_id)
                    stack.enter_context(slot)
                lock = stack.enter_context(drill_lock(source.place, own))
                no_timeouts(lock)
                self.seen["cleared"] = clear(lock, source.place)
                try:
                    certificate = self._on_copy(lock, source, state, str(planned["migrations_dir"]), path)
                finally:
                    # Also of one that failed: what is said to be gone is looked for.
                    with contextlib.suppress(MigrationError, psycopg2.Error):
                        self.seen["warnings"] += ["%s could not be dropped; the next rehearsal does it" % name for name in left(lock, source.place)]
        with self._in("certificate"):
            _certificate_file.write(path, certificate, options.sign_with, options.copy.gpg_home)
        return dict(self.told(), **dict(nothing, changed=True, passed=True, certificate=_certificate_file.shown(path, certificate)))

    def _valid(self, path: str, state: t.Mapping[str, t.Any], point: str) -> dict[str, t.Any] | None:
        """The certificate of an earlier rehearsal that would prove nothing more; a newer restore point is not proved by it."""
        found, options = _certificate_file.read(path), self.options
        if found is None:
            return None
        try:
            _certificate.refuse_uncertified(found, datetime.datetime.now(datetime.timezone.utc), state, options.max_age / 24)
        except MigrationError:
            return None
        if options.sign_with and not os.path.lexists(path + _certificate_file.SIGNATURE):
            return None
        same = found["options"] == options.deciding() and found["budgets"] == options.budgets() and found["restore_point"] == point
        return t.cast("dict[str, t.Any]", found) if same and options.max_age > 0 else None

    def _on_copy(self, lock: t.Any, source: Source, state: t.Mapping[str, t.Any], folder: str, path: str) -> dict[str, t.Any]:
        """All that is done on the copy, which is gone at the end; the certificate, not yet written."""
        texts = migration_texts(folder, state["migrations"])
        with contextlib.ExitStack() as stack:
            with self._in("copy"):
                copy = dataclasses.replace(source.place, dbname=stack.enter_context(source.copied(lock)))
                stack.enter_context(cleared_after(lock, copy))
            with self._in("prove"):
                before = self._fingerprint(copy, texts)
                source.prove(before, list(texts.values()))
                self.seen["copied"] = size(before)
            wanted = before
            if self.options.preparation.wanted:
                with self._in("prepare"):
                    self._prepare(lock, copy)
                    before = self._fingerprint(copy, texts)
                    wanted = wanted if source.brings_back_the_source else before
            _failpoint.reached("rehearsal:copied")
            with self._in("state"):
                self._demand_present(copy, state)
            with self._in("guard"):
                source.guard(copy)
            # Of rows that are masked or multiplied the way back leads to others, so only here can be asked what is wrong with them already.
            known_before = self._asked_before(copy) if self.options.preparation.wanted else None
            with self._in("deploy"):
                with out_of_reach(self.target, str(self.params["engine"]), self.run_id), canary(copy, self.run_id, self.options.canary, self.seen):
                    # From here on the earlier certificate may turn out to be wrong.
                    self.seen["withdrawn"] = _certificate_file.withdraw(path)
                    deployed = deploy(copy, dict(self.params, expected=list(state["migrations"])), False)
                self.seen["applied"] = deployed["applied"]
            _failpoint.reached("rehearsal:deployed")
            with self._in("compare"):
                after = self._compared(copy, before, texts)
            with self._in("checks"):
                checks = run_checks(copy, self._checks(self.options.checks, before=before, deploy=deployed, earlier=known_before or ()))
                found = self._judged(checks, ())
                # A replay of all migrations is spared where nothing is found: the way back leads to where it can be asked.
                asked_again = known_before is None and bool(BEFORE & set(found["failing"]))
                if not asked_again:
                    self._demand(found)
            with self._in("rollback"):
                way = source.back(copy)
                self.seen["rollback_seconds"], self.seen["warnings"] = way["seconds"], self.seen["warnings"] + list(way["warnings"])
            with self._in("proof"):
                differences = compare(wanted, self._fingerprint(copy, texts))
                if differences:
                    why = "after the way back the copy differs from before in %d places" % len(differences)
                    raise MigrationError(why, code="FINGERPRINT_MISMATCH", differences=plain(differences))
            if asked_again:
                found = self._judged(checks, self._asked_before(copy))
                with self._in("checks"):
                    self._demand(found)
            if self.options.statements:
                with self._in("statements"):
                    if self.options.preparation.factor > 1 and source.brings_back_the_source:
                        self._prepare(lock, copy)
                    lock_timeout = str(self.params.get("lock_timeout") or "")
                    self.seen["forecast"], problem = statements(copy, texts, self.options.production, lock_timeout, self.options.copy.name)
                    self.seen["warnings"] += [problem] if problem else []
            # What was proved must still be about the live database.
            with self._in("live"):
                self._demand_unmoved()
                if deployed["set_digest"] != state["set_digest"] or self.planned()["set_digest"] != state["set_digest"]:
                    raise MigrationError("the migrations folder changed during the rehearsal", code="REHEARSAL_OUTDATED", next_step="rehearse again")
            with self._in("drop"):
                stack.close()
        size_bytes = int(source.identity["size_bytes"])
        self.seen["measured"] = measured(deployed, found["checks"], self.seconds, way, source.seconds, size_bytes, self.seen["canary"])
        return _certificate.build(
            state, schema_digest_after=after["schema"]["digest"], source=self.options.source, restore_point=str(source.point.get("id") or ""),
            options=self.options.deciding(), budgets=self.options.budgets(), measured=self.seen["measured"], issued_at=now(), run_id=self.run_id,
        )  # fmt: skip

    def _asked_before(self, copy: Target) -> list[dict[str, t.Any]]:
        """What the checks find that fail only where something is new, on a copy in the state before the deploy."""
        with self._in("before"):
            return t.cast("list[dict[str, t.Any]]", summary(run_checks(copy, self._checks(sorted(BEFORE & set(self.options.checks)))))["checks"])

    def _judged(self, checks: t.Sequence[Check], before: t.Sequence[t.Mapping[str, t.Any]]) -> dict[str, t.Any]:
        there = {str(each["name"]): each for each in before}
        found = summary([known(check, there.get(check.name)) for check in checks])
        self.seen["checks"] = found["checks"]
        return found

    def _demand(self, found: t.Mapping[str, t.Any]) -> None:
        demand_passed(found)
        demand_answering(self.seen["canary"], self.options.budgets()["max_blocking_seconds"])

    def _prepare(self, lock: t.Any, copy: Target) -> None:
        done = self.options.preparation.make(lock, copy, self.run_id)
        self.seen.update(masked=done["masked"], scaled=done["scaled"])
        self.seen["warnings"] += [each for each in done["warnings"] if each not in self.seen["warnings"]]

    def _fingerprint(self, copy: Target, texts: t.Mapping[str, str]) -> dict[str, t.Any]:
        with self._inside(copy) as conn:
            return t.cast("dict[str, t.Any]", plain(take(conn, level="full", pending=list(texts.values()))))

    def _inside(self, copy: Target) -> t.Any:
        return connection(copy, application_name=self.options.copy.name, settings=QUIET, read_only=True)

    def _demand_present(self, copy: Target, state: t.Mapping[str, t.Any]) -> None:
        found = moved(state, state_of(copy, deploy(copy, self.params, True), self.run_id))
        # What the comparison of restored databases lets pass (the wording of another version, say) makes another digest.
        if found and not (found == [SCHEMA] and not compare(schema_of(self.target, self.run_id), schema_of(copy, self.run_id))):
            words = "the restore point" if self.options.source == RESTORE_POINT else "the copy"
            why = "%s has not the present state of %s; other than there is %s" % (words, self.target.dbname, ", ".join(found))
            raise MigrationError(why, code="REHEARSAL_OUTDATED")

    def _demand_unmoved(self) -> None:
        untouched = self.untouched()
        if untouched is not True:
            why = "could not be asked again" if untouched is None else "got another ledger or schema during the rehearsal"
            raise MigrationError("%s %s" % (self.target.dbname, why), code="REHEARSAL_OUTDATED")

    def untouched(self) -> bool | None:
        """Whether ledger and schema of the live database are as at the beginning; None where they cannot be read."""
        if self.state is None:
            return None
        try:
            return not moved(self.state, state_of(self.target, self.planned(), self.run_id))
        except MigrationError as error:
            # It was plain before, and is refused now.
            return False if error.code in ("UNFINISHED_MIGRATION", "HISTORY_DIVERGED", "UNMANAGED_DATABASE") else None

    def _compared(self, copy: Target, before: dict[str, t.Any], texts: t.Mapping[str, str]) -> dict[str, t.Any]:
        with self._inside(copy) as conn:
            after = take(conn, level="full", columns_from=before, follow=True)
        objects = {**before["schema"]["objects"], **after["schema"]["objects"]}
        explained = explain(compare(before, after, of_database=True), texts, self.options.expect, objects, self.target.schema)
        self.seen["findings"] = plain(findings(explained))
        demand_explained(self.seen["findings"], self.options.fail_on)
        return after

    def _checks(self, names: t.Sequence[str], **more: t.Any) -> CheckOptions:
        project = {name: self.params[name] for name in PROJECT_SPEC}
        options = self.options.copy
        return CheckOptions(
            wanted=names,
            project=project,
            maintenance_db=options.maintenance_db,
            lock_wait=options.lock_wait,
            run_id=self.run_id,
            **dict(self.options.check, **more),
        )


__all__ = ("rehearse",)
