# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Whether what a migration makes was there before it began: by the transactions that wrote the catalogue. Pure: no I/O.

A schema that is as after a script proves nothing of the script's data steps where somebody
had made it so before. An object's row in the catalogue carries the transaction that wrote
it, and the ledger's row the one after which the migration began.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparison import names_in, split_key
from ansible_collections.pgops.migrations.plugins.module_utils._effects import DYNAMIC, effect, is_conditional
from ansible_collections.pgops.migrations.plugins.module_utils._recovery_types import Attempt, Objects, Replay
from ansible_collections.pgops.migrations.plugins.module_utils._sql import keywords
from ansible_collections.pgops.migrations.plugins.module_utils._sql_names import split_name

#: Older than the migration; written since it began; written since it had ended, so not by it; gone, and not by a rollback.
BEFORE, SINCE, LATER, TAKEN_BACK = "before", "since", "later", "taken_back"
#: What is there already, by the kinds of objects that the SQLSTATE is about.
_EXISTS: dict[str, frozenset[str]] = {
    "42P07": frozenset(["table", "index", "sequence", "view", "materialized view", "foreign table"]),
    "42701": frozenset(["column"]),
    "42710": frozenset(
        ["constraint", "type", "enum", "domain", "trigger", "policy", "extension", "rule", "publication", "event trigger", "statistics", "collation"]
    ),
    "42P06": frozenset(["schema"]),
    "42723": frozenset(["function", "procedure", "aggregate"]),
}  # fmt: skip
ALREADY_THERE = frozenset(_EXISTS)
#: As servers of other languages quote.
_QUOTES = ('"%s"', "\u00ab%s\u00bb", "\u201e%s\u201c", "\u00bb%s\u00ab", "\u201c%s\u201d", "`%s`")
_MOVES = frozenset(["rename", "schema"])


class Window(t.NamedTuple):
    """``began``: everything up to this transaction was before the migration; ``least``: all after this one was not.

    ``ended``: everything after this one is not its own. Between them nothing is known.
    """

    began: int
    least: int | None
    ended: int | None = None


def window(xids: t.Mapping[str, int], row_id: str, failed: bool, made: t.Collection[int]) -> Window | None:
    """The migration's time by the ledger; None where the ledger was written by another tool, such as a restore.

    :param xids: which transaction wrote each row of the ledger, by the row's id.
    :param failed: an error is recorded, so the row was written after the run and not before it.
    :param made: the transactions that made the ledger.
    """
    own = xids[row_id]
    if any(xid >= own for xid in made) or any(xid == own for other, xid in xids.items() if other != row_id):
        return None
    # Somebody may have written the row again by hand: what is younger than the row before it may be the migration's own.
    began = max((xid for other, xid in xids.items() if other != row_id and xid < own), default=0)
    return Window(began, None, own) if failed else Window(began, own)


def dated(rows: t.Sequence[int], when: Window) -> str | None:
    """When an object came about; None where that is not known.

    :param rows: the transactions that wrote the object's rows in the catalogue, the one with its name first.
    """
    if not rows:
        return None
    if rows[0] <= when.began:
        return BEFORE
    if when.ended is not None and min(rows) > when.ended:
        return LATER
    return SINCE if when.least is not None and min(rows) > when.least else None


def older(replay: Replay, live: Objects, attempt: Attempt) -> dict[str, int]:
    """The objects that the migration was to make and that somebody else had made before; each with the step that makes it.

    That step did not do its work: the server refuses to make what is there.
    """
    if attempt.earlier or any(_moves(statement) for step in replay.steps for statement in step.statements):
        # What an earlier run of it has left is its own; what is renamed keeps its old rows.
        return {}
    found = {}
    refused = [key for key in {key for change in replay.changes for key in change} if _refused_over(key, replay, attempt)]
    for key in {key for change in replay.changes for key in change}:
        if key in replay.before or key not in live:
            continue
        step = next(number for number in range(1, len(replay.changes) + 1) if replay.state(number, key) is not None)
        # Code may have looked first, or caught the error.
        refuses = not any(is_conditional(statement) or effect(statement) == DYNAMIC for statement in replay.steps[step - 1].statements)
        # The server's message has no schema: of two objects of a name, either may be meant.
        if refuses and (attempt.dates.get(key) == BEFORE or refused == [key]):
            found[key] = step
    return found


def _moves(statement: str) -> bool:
    words = keywords(statement)
    return words[0] == "alter" and not _MOVES.isdisjoint(words)


def refused_as_there(replay: Replay, attempt: Attempt) -> bool:
    """Whether the server refused to make what is there, and does not do so in a scratch database."""
    return not attempt.earlier and attempt.refused in _EXISTS and not (replay.error and replay.error[0] == attempt.refused)


def _refused_over(key: str, replay: Replay, attempt: Attempt) -> bool:
    kind, name = split_key(key)
    if not refused_as_there(replay, attempt) or kind not in _EXISTS[str(attempt.refused)]:
        return False
    own = [split_name(names_in(key)[0])[-1]]
    if kind in ("column", "constraint"):
        own.append(split_name(name)[-1])
    elif " on " in name and kind in ("trigger", "policy", "rule"):
        own = [split_name(part)[-1] for part in names_in(key)]
    return all(any(quoted % part in (attempt.logs or "") for quoted in _QUOTES) for part in own)


def uninformative(replay: Replay, attempt: Attempt) -> set[str]:
    """What is older than the migration: columns that it was to alter were so before, and what it makes only where it is missing was there."""
    if attempt.earlier:
        return set()
    return {key for key, date in attempt.dates.items() if date == BEFORE and (key not in replay.before or split_key(key)[0] == "column")}


def proves(replay: Replay, keys: t.Sequence[str], attempt: Attempt, step: int) -> bool:
    """Whether this step or a later one left what was not there before: then all steps before it are committed."""
    shown = {key for number in range(step, len(replay.changes) + 1) for key in keys if replay.state(number, key) != replay.state(number - 1, key)}
    dates = {attempt.dates[key] for key in shown if attempt.dates.get(key)}
    return dates == {SINCE}


__all__ = ("ALREADY_THERE", "BEFORE", "LATER", "SINCE", "TAKEN_BACK", "Window", "dated", "older", "proves", "refused_as_there", "uninformative", "window")
