# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A reverse migration from end to end: replay before and after, draft, try, look at the data, write.

The live database is only read. All that is run is run in scratch databases.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import (
    _draft_data,
    _draft_file,
    _draft_prisma,
    _draft_run,
    _draft_text,
)
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, row
from ansible_collections.pgops.migrations.plugins.module_utils._dbsettings import read_settings
from ansible_collections.pgops.migrations.plugins.module_utils._draft_parts import LOST
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import SCRIPT, MigrationFile, digest
from ansible_collections.pgops.migrations.plugins.module_utils._lock import run_lock
from ansible_collections.pgops.migrations.plugins.module_utils._replay import applied_history, files_of, replay
from ansible_collections.pgops.migrations.plugins.module_utils._reverse_numbers import numbers_before
from ansible_collections.pgops.migrations.plugins.module_utils._reverse_replay import may_leave_settings, replay_in_one
from ansible_collections.pgops.migrations.plugins.module_utils._reverse_trial import Fingerprint, Tried, compared, take, try_draft
from ansible_collections.pgops.migrations.plugins.module_utils._rewrites import remarks
from ansible_collections.pgops.migrations.plugins.module_utils._schema_drift import by_hand, of_ledger
from ansible_collections.pgops.migrations.plugins.module_utils._scratch import scratch_database
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey, project_of, survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from ansible_collections.pgops.migrations.plugins.module_utils._verdicts import UNFINISHED

CATALOG, PRISMA = "catalog", "prisma"
_NO_DATA = "Nothing: neither rows nor values are concerned."
_REMARK: dict[str, t.Any] = {"kind": "data_not_undone", "object": "", "count": None, "blocks": False}


def reverse(target: Target, params: t.Mapping[str, t.Any], check_mode: bool) -> dict[str, t.Any]:
    """Draft, try and write a reverse migration.

    :param params: the options of migration_reverse.
    :returns: the module's result.
    :raises MigrationError: ``UNKNOWN_MIGRATION``, ``UNFINISHED_MIGRATION``, ``HISTORY_DIVERGED``, ``REPLAY_FAILED``,
        ``SCHEMA_DRIFT``, ``REVERSE_UNPROVED``, ``REVERSE_EXISTS``, ...
    """
    project, folder = project_of(params)
    if target.pooled:
        raise MigrationError("the URL says pgbouncer=true", code="POOLER")
    # Said at once, and not after minutes of replaying.
    _choose(survey(target, project, folder), params)
    with run_lock(target, params["maintenance_db"], params["run_id"], params["lock_wait"]) as lock:
        found = survey(target, project, folder)
        history, undo = _choose(found, params)
        files = files_of(found, history)
        with contextlib.ExitStack() as stack:
            with connection(target, read_only=True) as conn:
                oid = (row(conn, "SELECT oid::bigint FROM pg_database WHERE datname = current_database()") or (0,))[0]
                settings = read_settings(conn, oid)

            def scratch() -> str:
                return stack.enter_context(scratch_database(target, lock, settings, run_id=params["run_id"]))

            return _Work(target, params, found, files, undo, scratch).result(check_mode)


def _choose(found: Survey, params: t.Mapping[str, t.Any]) -> tuple[list[str], list[str]]:
    """The applied history, and the part of it that is undone, both oldest first."""
    unfinished = found.report.named(UNFINISHED)
    if unfinished:
        raise MigrationError("%s is not finished" % unfinished[0], code="UNFINISHED_MIGRATION", **found.brief())
    history = [verdict.name for verdict in applied_history(found)]
    wanted = list(dict.fromkeys(params["undo"]))
    unknown = [name for name in wanted if name not in history]
    if unknown:
        raise MigrationError("%s is not among the applied migrations" % ", ".join(unknown), code="UNKNOWN_MIGRATION", **found.brief())
    if not wanted:
        raise MigrationError("undo names no migration", code="REVERSE_EMPTY")
    last = history[len(history) - len(wanted) :]
    if set(last) != set(wanted):
        raise MigrationError(
            "only the newest applied migrations can be undone, and %s is newer than some of those named"
            % next(name for name in reversed(history) if name not in wanted),
            code="UNKNOWN_MIGRATION",
            next_step="set undo to the newest ones, with none left out: %s" % ", ".join(history[min(map(history.index, wanted)) :]),
            newest=history[min(map(history.index, wanted)) :],
        )
    return history, last


class _States(t.NamedTuple):
    """A scratch database after all of the history, its schema before and after what is undone, and the former as a model."""

    database: str
    before: Fingerprint
    goal: t.Any
    after: Fingerprint


class _Work:
    def __init__(
        self, target: Target, params: t.Mapping[str, t.Any], found: Survey, files: list[MigrationFile], undo: list[str], scratch: t.Callable[[], str]
    ) -> None:
        self.target, self.params, self.found, self.files, self.undo, self.scratch = target, params, found, files, undo, scratch
        self.undone = files[len(files) - len(undo) :]
        self.warnings: list[str] = []
        self.trials: list[str] = []

    def result(self, check_mode: bool) -> dict[str, t.Any]:
        target, params = self.target, self.params
        states, drift = self._states()
        after_db, before, goal, after = states.database, states.before, states.goal, states.after
        hard = [each for each in drift if not by_hand(each)]
        if hard and not params["allow_drift"]:
            text = "%s differs in %d places from what its migrations make: %s" % (target.label(), len(hard), hard[0]["text"])
            raise MigrationError(text, code="SCHEMA_DRIFT", drift=drift)
        if len(hard) < len(drift):
            text = "%d owners, rights, comments or extensions of %s are not what its migrations make: they stay, but not on what the draft makes anew"
            self.warnings.append(text % (len(drift) - len(hard), target.label()))
        word = _draft_text.identity(self.undone, self._digest(after), self._digest(before))
        reached = numbers_before(target, params.get("backup_dir") or "", self.undo, params["maintenance_db"])
        worked = _draft_run.work_out(target, after_db, goal, {file.name: file.sql or "" for file in self.undone}, reached)
        tried = self._best(worked, before, after_db)
        notes = _draft_data.count(target, [*worked.notes, *tried.notes])
        name, existing = self._name(word)
        text = existing if existing is not None else self._text(word, tried, notes)
        result = self._result(name, text, tried, notes, drift)
        result["changed"] = existing is None
        if existing is not None:
            return result
        result["diff"] = {"before_header": name, "after_header": "%s/%s" % (name, SCRIPT), "before": "", "after": text}
        if not check_mode:
            if (not tried.proved or result["obstacles"]) and not params["accept_unproved"]:
                del result["changed"]
                facts = {key: value for key, value in result.items() if key != "warnings"}
                raise MigrationError(_why_not(tried, result["obstacles"]), code="REVERSE_UNPROVED", **facts)
            _draft_file.write(self.found.folder.path, name, text)
        return result

    def _states(self) -> tuple[_States, list[dict[str, t.Any]]]:
        """The schema before and after what is undone, and how the live one differs from that after."""
        live = take(self.target, self.target.dbname)
        failed: MigrationError | None = None
        first: _States | None = None
        drift: list[dict[str, t.Any]] = []
        try:
            first = self._replayed(one_session=False)
            drift = compared(first.after, live)
        except MigrationError as error:
            if error.code != "REPLAY_FAILED":
                raise
            failed = error
        if (failed or any(not by_hand(each) for each in drift)) and may_leave_settings(self.files[:-1]):
            # They may have been deployed together, and so with what an earlier one had set.
            with contextlib.suppress(MigrationError):
                second = self._replayed(one_session=True)
                other = compared(second.after, live)
                if first is None or all(by_hand(each) for each in other):
                    return second, other
        if first is None:
            raise failed or MigrationError("nothing was replayed", code="INTERNAL")
        return first, drift

    def _replayed(self, one_session: bool) -> _States:
        # Both in one database, where the catalogue's own numbers show what was renamed, whatever the scripts say.
        target, name, older = self.target, self.scratch(), self.files[: len(self.files) - len(self.undo)]

        def states() -> tuple[Fingerprint, t.Any]:
            return take(target, name), _draft_run.read_model(target, name)

        if one_session:
            before, goal = replay_in_one(target, name, older, self.undone, states)
        else:
            replay(target, name, older)
            before, goal = states()
            replay(target, name, self.undone)
        _draft_run.empty(target, name)
        return _States(name, before, goal, take(target, name))

    def _best(self, worked: _draft_run.Found, before: Fingerprint, after_db: str) -> Tried:
        """The draft to use: the CLI's where it is wanted, can be had and is proved; else the catalogue's."""
        wanted = self.params["draft_by"]
        if wanted == "auto" and worked.renamed:
            self.trials.append("Prisma was not asked: something was renamed, and its draft would drop and add it, with the loss of its rows.")
        elif wanted in ("auto", PRISMA):
            try:
                script = _draft_prisma.draft(self.target, self.scratch(), self.found.project, self.found.folder, self.files, self.files[: -len(self.undone)])
                script = "\n\n".join([script.rstrip(), *("%s;" % statement for statement in worked.numbers)])
                tried = try_draft(self.target, self._copy_of_after(), PRISMA, script, [], before, worked.kept)
                if wanted == PRISMA or (tried.proved and not tried.notes):
                    return tried
                why = tried.stuck[0]["error"] if tried.stuck else tried.notes[0].text if tried.proved else tried.differences[0]["text"]
                self.trials.append("Prisma's draft %s: %s" % ("does not keep all values" if tried.proved else "does not restore the schema", why))
            except MigrationError as error:
                if wanted == PRISMA:
                    raise
                self.trials.append("Prisma's draft is not used: %s." % error.msg.rstrip("."))
        # The last use of the database, so it needs no copy.
        return try_draft(self.target, after_db, CATALOG, worked.statements, worked.stuck, before, worked.kept)

    def _copy_of_after(self) -> str:
        name = self.scratch()
        replay(self.target, name, self.files)
        _draft_run.empty(self.target, name)
        return name

    def _digest(self, fingerprint: Fingerprint) -> str:
        return digest("\n".join("%s\t%s" % pair for pair in sorted(fingerprint["schema"]["objects"].items()) if not of_ledger(pair[0])))

    def _name(self, word: str) -> tuple[str, str | None]:
        """The name of the folder, and its text where it was written before."""
        pending = [file for file in self.found.folder.migrations if file.name in self.found.report.pending]
        for file in pending[-1:]:
            if _draft_text.is_reverse(file.sql, word) and self.params["name"] in (None, "", file.name):
                return file.name, file.sql
        if pending:
            names = ", ".join(file.name for file in pending)
            self.warnings.append(
                "%s is pending and older: the reverse migration was tried without it. rollback.yml holds it back; afterwards it is out of order,"
                " and the next deploy must be given -e migration_allow=%s" % (names, ",".join(file.name for file in pending))
            )
        existing = self.found.folder.names
        name = self.params["name"] or _draft_text.default_name(self.undo, existing, datetime.datetime.now(datetime.timezone.utc))
        if name in existing or os.path.lexists(os.path.join(self.found.folder.path, name)):
            raise MigrationError("the migration %s exists already" % name, code="REVERSE_EXISTS")
        _draft_text.demand_last(name, existing)
        return name, None

    def _text(self, word: str, tried: Tried, notes: t.Sequence[_draft_data.Counted]) -> str:
        about = ["Undoes %s." % ", ".join(reversed(self.undo))]
        if tried.proved:
            about.append("Tried on a scratch database where all migrations had been applied: the schema was that of before, object by object.")
            moved = [each["object"][len("column order ") :] for each in tried.differences]
            about += ["Not restored is the order of the columns of %s: what comes back stands last." % ", ".join(moved)] if moved else []
        else:
            about.append("NOT PROVED. Tried on a scratch database where all migrations had been applied; the schema was not that of before:")
            about += [each["text"] for each in tried.differences] + ["Cannot be run: %s %s." % (each["error"], each["statement"]) for each in tried.stuck]
        blocking = [note for note in notes if note.blocks]
        if any(note.note.kind == LOST for note in blocking):
            about.append("MAY LOSE values that were there before; see below.")
        if any(note.note.kind != LOST for note in blocking):
            about.append("FAILS on the data that is there, unless it is changed first; see below.")
        said = [note.text() for note in notes] + self._remarks()
        return _draft_text.script(word, [file.name for file in self.undone], about, said or [_NO_DATA], tried.statements)

    def _remarks(self) -> list[str]:
        return [text for file in self.undone for text in remarks(file.name, file.sql or "")]

    def _result(self, name: str, text: str, tried: Tried, notes: t.Sequence[_draft_data.Counted], drift: list[dict[str, t.Any]]) -> dict[str, t.Any]:
        obstacles = [note.as_dict() for note in notes if note.blocks]
        return {
            "name": name,
            "path": os.path.join(self.found.folder.path, name, SCRIPT),
            "sql": text,
            "undone": list(reversed(self.undo)),
            "drafted_by": tried.by,
            "trials": self.trials,
            "proved": tried.proved,
            "differences": tried.differences,
            "stuck": tried.stuck,
            "obstacles": obstacles,
            "notes": [note.as_dict() for note in notes] + [dict(_REMARK, text=text) for text in self._remarks()],
            "drift": drift,
            "warnings": self.warnings
            + list(self.found.project.warnings)
            + ([] if tried.proved else ["the draft does not bring back exactly the schema of before"]),
        }


def _why_not(tried: Tried, obstacles: t.Sequence[t.Mapping[str, t.Any]]) -> str:
    if tried.stuck:
        return "a statement of the draft cannot be run: %s" % tried.stuck[0]["error"]
    if not tried.proved:
        first = next(each for each in tried.differences if not each["object"].startswith("column order "))
        return "the draft does not bring back the schema of before: %s" % first["text"]
    what = "may lose values that were there before" if obstacles[0]["kind"] == LOST else "would fail on the data that is there now"
    return "the draft %s: %s" % (what, obstacles[0]["text"])


__all__ = ("reverse",)
