# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""How far an unfinished migration came, decided from the schema. Pure: no I/O.

However an engine sends a script (as one message, or statement by statement), what is
committed of it is always a beginning of it: the steps 1 to k, for some k. The script is
carried out step by step in a scratch database, and the schema after each step is
compared with the live one. That leaves the points k at which the migration can have
stopped. A step that does not show in the schema, such as an UPDATE, leaves two points
where others leave one; what is not told apart is called unknown.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparison import LEDGER_TABLE, names_in, split_key
from ansible_collections.pgops.migrations.plugins.module_utils._effects import DATA, DYNAMIC, NONE, SCHEMA, effect, is_conditional, survives_a_rollback, undoes
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_dates import LATER, SINCE, TAKEN_BACK, older, proves, refused_as_there, uninformative
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_reach import entangled
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_rows import tables_of
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_types import Attempt, Changes, Finding, Objects, Replay
from ansible_collections.pgops.migrations.plugins.module_utils._sql import keywords
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import Chain, mentions, scan, split_name
from ansible_collections.pgops.migrations.plugins.module_utils._substate import CLEAN, PARTIAL, RUNNING, UNKNOWN, UNRECORDED

#: What a role or a default privilege of the live server adds to an object; compared only where the script deals with it.
_RIGHTS = re.compile(r"grants |owner |security label ")
_RIGHTS_WORDS = re.compile(r"\b(grant|revoke|owner|privileges|label)\b", re.I)
#: What proves a data step that does not show.
ASK = "migration_assert_sql can tell"
#: What sets values besides the schema in a statement that may find its work done.
_ROWS = frozenset(["using", "restart", "update"])


def decide(replay: Replay, live: Objects, attempt: Attempt) -> Finding:
    """The state as far as the schema shows it."""
    script = _text(replay)
    mentioned = scan(script)
    keys = compared(replay)
    before = older(replay, live, attempt)
    remnants = tuple(key for key in _remnants(replay, live, attempt.invalid, mentioned) if key not in before)
    # An invalid index is what a failed CREATE INDEX CONCURRENTLY leaves; without it, the step before is what is there.
    seen = {key: replay.before.get(key) if key in remnants else live.get(key) for key in keys}
    silent = set(before) | uninformative(replay, attempt)
    by_schema = _points(replay, [key for key in keys if key not in silent], seen)
    points = {point for point in _exclude(by_schema, replay, attempt) if all(point < step for step in before.values())}
    changed = _all_keys(replay)
    unlike = (key for key in sorted(set(replay.before) | set(live)) if replay.before.get(key) != live.get(key))
    drift = tuple(key for key in unlike if key not in changed and key not in remnants and _counts(key, script))
    disturbed = [key for key in drift if _named(key, mentioned)]
    clean, complete = _ends(replay, keys)
    last = len(replay.changes)
    effects = {key: (replay.before.get(key), replay.state(last, key)) for key in keys}
    found = Finding(
        UNKNOWN,
        "",
        len(replay.steps),
        tuple(sorted(points)),
        tuple(key for key in keys if live.get(key) == effects[key][1] != effects[key][0]),
        tuple(key for key in keys if live.get(key) == effects[key][0] != effects[key][1]),
        tuple(key for key in keys if live.get(key) not in effects[key]),
        drift,
        remnants,
        clean,
        complete,
        tuple(key for key in keys if key not in replay.before and key in live and attempt.dates.get(key) != SINCE and key not in before),
        _unwitnessed(replay, keys, attempt, points),
    )
    state, reason = _judge(found, replay, attempt, disturbed, sorted(by_schema - points), before)
    return dataclasses.replace(found, state=state, reason=reason)


def compared(replay: Replay) -> tuple[str, ...]:
    """The objects that the script changes, as far as it could be replayed."""
    script = _text(replay)
    return tuple(sorted(key for key in _all_keys(replay) if _counts(key, script)))


def _text(replay: Replay) -> str:
    return ";\n".join(statement for step in replay.steps for statement in step.statements)


def _all_keys(replay: Replay) -> set[str]:
    return {key for change in replay.changes for key in change}


def _counts(key: str, script: str) -> bool:
    # The order of columns says nothing that the columns do not say, and shows the drift of others.
    if key.startswith("column order ") or LEDGER_TABLE in key:
        return False
    return not _RIGHTS.match(key) or bool(_RIGHTS_WORDS.search(script))


def _named(key: str, mentioned: t.Collection[Chain]) -> bool:
    return any(mentions(mentioned, split_name(name)) for name in names_in(key))


def _remnants(replay: Replay, live: Objects, invalid: t.Collection[str], mentioned: t.Collection[Chain]) -> tuple[str, ...]:
    """Invalid indexes that this script was to make."""
    found = []
    for key in live:
        if not key.startswith("index ") or key in replay.before or names_in(key)[0] not in invalid:
            continue
        states = [replay.state(point, key) for point in range(len(replay.changes) + 1)]
        if live[key] not in states and mentions(mentioned, split_name(names_in(key)[0])[-1:]):
            found.append(key)
    return tuple(sorted(found))


def _points(replay: Replay, keys: t.Sequence[str], seen: Changes) -> set[int]:
    """Where the migration can have stopped, by the schema alone."""
    last, count = len(replay.changes), len(replay.steps)
    points = {point for point in range(last + 1) if all(seen[key] == replay.state(point, key) for key in keys)}
    for point in range(count):
        if point in points and (point >= last or replay.steps[point].effect in (NONE, DYNAMIC) or not _shows(replay, keys, point + 1)):
            points.add(point + 1)
    # A step that could not be replayed may take back what shows.
    rest = [statement for step in replay.steps[last:] for statement in step.statements]
    if any(undoes(statement) and any(_named(key, scan(statement)) for key in keys) for statement in rest):
        points |= set(range(last + 1, count + 1))
    return points


def _shows(replay: Replay, keys: t.Sequence[str], step: int) -> bool:
    return any(replay.state(step, key) != replay.state(step - 1, key) for key in keys)


def _exclude(points: set[int], replay: Replay, attempt: Attempt) -> set[int]:
    """Without the points that the recorded error or the operator's query rule out."""
    count = len(replay.steps)
    if attempt.refused and not attempt.earlier:
        points = points - {count}
        if replay.error and replay.error[0] == attempt.refused and replay.error[1] and replay.error[1] in (attempt.logs or ""):
            # The same refusal as in the scratch database: it is the same step that failed.
            points = {point for point in points if point <= len(replay.changes)}
    data = [number for number, step in enumerate(replay.steps, 1) if step.effect in (DATA, DYNAMIC)]
    if attempt.assertion is not None and data:
        # Of several data steps, some may be done when not all of them are.
        points = {point for point in points if (point >= data[-1]) == attempt.assertion}
    return points


def _ends(replay: Replay, keys: t.Sequence[str]) -> tuple[int, int]:
    """The last point that is as good as the start, and the first that is as good as the end."""
    idle = [_idle(replay, keys, number) for number in range(1, len(replay.steps) + 1)]
    clean = next((number for number, nothing in enumerate(idle) if not nothing), len(idle))
    complete = len(idle) - next((number for number, nothing in enumerate(reversed(idle)) if not nothing), len(idle))
    return clean, complete


def _idle(replay: Replay, keys: t.Sequence[str], number: int) -> bool:
    """Whether a step leaves nothing behind: by its kind, or because what it asks for was there before."""
    step = replay.steps[number - 1]
    if step.effect == NONE:
        return True
    if step.effect != SCHEMA or number > len(replay.changes) or _shows(replay, keys, number):
        return False
    return all(effect(statement) == NONE or (is_conditional(statement) and _ROWS.isdisjoint(keywords(statement))) for statement in step.statements)


def _judge(  # noqa: PLR0917
    found: Finding, replay: Replay, attempt: Attempt, disturbed: t.Sequence[str], excluded: t.Sequence[int], before: t.Mapping[str, int]
) -> tuple[str, str]:
    where = _where(found, replay)
    keys = compared(replay)
    data = _last_unseen(replay, keys)
    others = entangled(replay, keys, attempt.others)
    if others:
        return UNKNOWN, "other unfinished migrations may have touched the same objects: %s" % ", ".join(others)
    foreign = [key for key in found.there if attempt.dates.get(key) == LATER]
    if foreign:
        return UNKNOWN, "made after the migration had ended, so by somebody else: %s" % _listed(foreign)
    if refused_as_there(replay, attempt) and not before:
        return UNKNOWN, "the server refused to make what was there already (SQLSTATE %s), and it is not known what that was" % attempt.refused
    if found.remnants:
        return PARTIAL, "it left an invalid index: %s" % ", ".join(found.remnants)
    if disturbed and any(step.conditional for step in replay.steps):
        return UNKNOWN, "what the script does depends on objects that are not as the replayed history made them: %s" % _listed(disturbed)
    old = "there before the migration began, so step %d did not run: %s" % (min(before.values()), _listed(sorted(before))) if before else ""
    if not found.points and old:
        return UNKNOWN, "%s; what is there besides is as at no point before that step" % old
    if not found.points and excluded:
        why = "the server refused a statement" if attempt.refused else "the query about its data says otherwise"
        return UNKNOWN, "the schema is as after step %s of %d, but %s: somebody else may have made it so" % (excluded[-1], found.steps, why)
    if not found.points:
        return UNKNOWN, "the schema is as at no point of the script%s" % (": %s" % _listed(found.other + found.there) if found.other or found.there else "")
    elsewhere = _elsewhere(found, replay)
    if elsewhere:
        return UNKNOWN, "objects of the same names are in another schema: %s" % _listed(elsewhere)
    if all(point <= found.clean for point in found.points) and survives_a_rollback(_text(replay)):
        return UNKNOWN, "the schema shows nothing of it, but the script sets sequences or reaches outside, which no rollback undoes"
    if all(point <= found.clean for point in found.points) and attempt.lasting:
        text = "the schema shows nothing of it, but functions that it can reach set sequences or reach outside, which no rollback undoes: %s"
        return UNKNOWN, text % _listed(attempt.lasting)
    gone = [key for key in found.missing if attempt.dates.get(key) == TAKEN_BACK]
    if gone and data and all(point <= found.clean for point in found.points):
        return UNKNOWN, "the schema shows nothing of it, but columns were dropped since it began, and its data steps do not show: %s" % _listed(gone)
    if all(point <= found.clean for point in found.points) and old:
        return CLEAN, "%s; nothing else of it shows" % old
    if all(point <= found.clean for point in found.points) and not attempt.refused and attempt.assertion is not False:
        doubt = _taken_back(replay, attempt)
        if doubt:
            return UNKNOWN, doubt
    if all(point <= found.clean for point in found.points):
        return CLEAN, "the schema shows nothing of it, and the first step that lasts would show" if found.clean < found.steps else "no step of it lasts"
    if all(point >= found.complete for point in found.points):
        if attempt.refused and not attempt.earlier:
            return PARTIAL, "all its steps that last are committed, and a later one was refused (SQLSTATE %s)" % attempt.refused
        if attempt.logs and found.points[0] < found.steps:
            return UNKNOWN, "all its steps that last are committed, and an error is recorded that is not understood"
        if attempt.earlier and data:
            return UNKNOWN, "the schema is as after it, but an earlier run may have made it so, and its data steps do not show"
        if data and attempt.assertion is not True and not proves(replay, keys, attempt, data):
            return UNKNOWN, "the schema is as after it, but it may have been so before, and step %d, which changes rows or values, does not show" % data
        bare = [number for number in _unseen(replay, keys) if number not in attempt.wrote]
        if bare and attempt.assertion is not True:
            text = "the schema is as after it, but somebody may have made it so by hand: no row shows that step %d ran (%s)"
            return UNKNOWN, text % (bare[0], ASK)
        return UNRECORDED, "the schema is as after its last step" + (", and data steps before that are committed with it" if data else "")
    if all(found.clean < point < found.complete for point in found.points):
        return PARTIAL, "it stopped %s" % where + ("; %s" % old if old else "")
    return UNKNOWN, "it stopped %s; the steps between do not show in the schema" % where


def _last_unseen(replay: Replay, keys: t.Sequence[str]) -> int:
    """The last step that does what the schema does not show; 0 where there is none."""
    return max(_unseen(replay, keys), default=0)


def _unseen(replay: Replay, keys: t.Sequence[str]) -> list[int]:
    return [
        number
        for number, step in enumerate(replay.steps, 1)
        if not _idle(replay, keys, number) and (step.effect in (DATA, DYNAMIC) or (number <= len(replay.changes) and not _shows(replay, keys, number)))
    ]


def _unwitnessed(replay: Replay, keys: t.Sequence[str], attempt: Attempt, points: t.Collection[int]) -> tuple[int, ...]:
    if attempt.refused or attempt.assertion is True:
        return ()
    return tuple(number for number in _unseen(replay, keys) if points and number <= min(points) and number not in attempt.wrote)


def _taken_back(replay: Replay, attempt: Attempt) -> str:
    """Why it may have been committed, and what shows of it taken back by hand; only where nobody saw its end."""
    if attempt.touched:
        text = "the schema shows nothing of it, but rows were written since it began, and somebody may have taken back the rest by hand: %s (%s)"
        return text % (_listed(attempt.touched), ASK)
    hidden = [number for number, step in enumerate(replay.steps, 1) if step.effect in (DATA, DYNAMIC) and tables_of(step) is None]
    if not hidden:
        return ""
    return "the schema shows nothing of it, but nobody saw its end, and step %d leaves no row that would show whether it ran (%s)" % (hidden[0], ASK)


def _elsewhere(found: Finding, replay: Replay) -> list[str]:
    """Objects like those that are missing, in another schema: the engine's search path may have been another one."""
    missing = {_plain(key) for key in found.missing}
    return [key for key in found.drift if key not in replay.before and _plain(key) in missing]


def _plain(key: str) -> tuple[str, str]:
    """Kind and name of an object without the schema."""
    kind, name = split_key(key)
    return kind, re.sub(r'(^| on )(?:"(?:[^"]|"")*"|[^\s".]+)\.', r"\1", name)


def _where(found: Finding, replay: Replay) -> str:
    low, high = (found.points[0], found.points[-1]) if found.points else (0, 0)
    text = (
        "after step %d" % low
        if low == high
        else "somewhere after step %d and before step %d" % (low, high + 1)
        if high < found.steps
        else ("after step %d or later" % low)
    )
    return "%s of %d%s" % (text, found.steps, " (step %d fails in a scratch database, too)" % (len(replay.changes) + 1) if replay.error else "")


def _listed(names: t.Sequence[str]) -> str:
    return ", ".join(names[:10]) + (" and %d more" % (len(names) - 10) if len(names) > 10 else "")


def combine(by_ids: tuple[str, str], finding: Finding | None, silent: str = "", edited: bool = False) -> tuple[str, str]:
    """State and reason from both kinds of evidence: transaction ids, and the schema. Where both speak, they must agree.

    :param silent: why there is no finding.
    :param edited: the file is not the one that ran, so what it says is no evidence.
    """
    state, reason = by_ids
    if state == RUNNING:
        return by_ids
    if edited:
        return by_ids if state == UNRECORDED else (UNKNOWN, "the file was edited since the migration ran, so what ran is not known")
    if finding is None:
        return (state, reason) if state != UNKNOWN or not silent else (UNKNOWN, "%s; %s" % (silent, reason))
    if state == UNKNOWN:
        return finding.state, finding.reason if finding.state != UNKNOWN else "%s; %s" % (finding.reason, reason)
    if finding.state == state:
        return state, "%s; %s" % (finding.reason, reason)
    if finding.state == UNKNOWN and finding.allows(state) and finding.points:
        return state, reason
    return UNKNOWN, "the evidence disagrees: by the transactions %s (%s), by the schema %s (%s)" % (state, reason, finding.state, finding.reason)


__all__ = ("combine", "compared", "decide")
