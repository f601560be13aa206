# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Waves of a production run: how many targets each has, and whether the next one may begin. Pure: no I/O.

The rule: a wave that is not proved to be good stops the run. A target without a record is not good.
"""

from __future__ import annotations

import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._outcome import GOOD
from ansible_collections.pgops.migrations.plugins.module_utils._words import plural, seconds_text

#: One target, then a tenth, then the rest.
SIZES = (1, "10%", "100%")
#: What may be slower by this factor, and by this many seconds, is as rehearsed: a copy has no traffic, and a machine has other work.
FACTOR, SLACK = 3.0, 5.0
_SIZE = re.compile(r"([0-9]+)(%?)\Z")
Record = t.Mapping[str, t.Any]


def sizes_of(total: int, canaries: int, given: t.Any = None) -> list[int]:
    """How many targets each wave has; together all of them.

    :param canaries: how many stand before the others; they are the first wave, in place of the first size.
    :param given: numbers and percentages of all targets, as the play keyword C(serial) takes them; the last one is repeated.
    :raises MigrationError: ``OPTION_INVALID``.
    """
    wanted = [_size(each, total) for each in _list(given) or SIZES]
    found = [canaries] if canaries else []
    if canaries and len(wanted) > 1:
        wanted = wanted[1:]
    while sum(found) < total:
        size = wanted.pop(0) if len(wanted) > 1 else wanted[0]
        found.append(min(size, total - sum(found)))
    return found


def _list(given: t.Any) -> list[t.Any]:
    """A list, or a text with commas, as it is typed behind C(-e)."""
    if isinstance(given, (list, tuple)):
        return list(given)
    return [part.strip() for part in str(given).split(",")] if given not in (None, "") else []


def _size(given: t.Any, total: int) -> int:
    match = None if isinstance(given, bool) else _SIZE.match(str(given).strip())
    if match is None or int(match.group(1)) < 1:
        raise MigrationError("migration_waves has %r, which is no number above 0 and no percentage such as 10%%" % (given,), code="OPTION_INVALID")
    return max(1, int(match.group(1)) * total // 100) if match.group(2) else int(match.group(1))


def planned(targets: t.Sequence[str], sizes: t.Sequence[int]) -> list[list[str]]:
    """The waves, each with its targets."""
    found, begin = [], 0
    for size in sizes:
        found.append(list(targets[begin : begin + size]))
        begin += size
    return found


def regressions(record: Record, factor: float = FACTOR, slack: float = SLACK) -> list[str]:
    """In what a deploy went worse than its rehearsal, a few words each; nothing where it cannot be compared.

    :param record: a run record, whose phase C(certificate) holds the measured figures.
    """
    deploy = record.get("deploy") or {}
    held = ((record.get("other") or {}).get("certificate") or {}).get("certificate") or {}
    measured = held.get("measured") or {}
    if not deploy.get("applied") or not held:
        return []
    monitor = deploy.get("monitor") or {}
    found = []
    for words, then, now in (
        ("the deploy took %s, and %s in its rehearsal", measured.get("deploy_seconds"), deploy.get("seconds")),
        ("it kept others waiting for up to %s, and %s in its rehearsal", measured.get("longest_block"), monitor.get("longest_block")),
    ):
        before, after = _number(then), _number(now)
        if before is not None and after is not None and after > before * factor and after > before + slack:
            found.append(words % (seconds_text(after), seconds_text(before) if before else "not at all"))
    return found


def _number(value: t.Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None


def verdict(
    waves: t.Sequence[t.Sequence[str]],
    number: int,
    records: t.Mapping[str, t.Any],
    health: t.Mapping[str, t.Any] | None = None,
    factor: float = FACTOR,
    slack: float = SLACK,
) -> dict[str, t.Any]:
    """What came of a wave, and whether the next one may begin.

    :param number: of the wave, from 1. ``records``: target -> result of run_record; those that are missing count as not good.
    :param health: who was asked (a target, or C(migration_health_command)) -> the result of the health check, once it was done.
    :returns: C(waves), C(done), C(of), C(changed), C(applied) (targets), C(stopped) (empty, or C(wave), C(of), C(targets), C(why), C(text)), C(notes), C(text)
    """
    targets, of = list(waves[number - 1]), len(waves)
    why: list[str] = []
    slower: list[str] = []
    bad: list[str] = []
    applied: list[str] = []
    would: list[str] = []
    for target in targets:
        result = records.get(target) or {}
        record = result.get("record") or {}
        if not record:
            bad.append(target)
            why.append("%s: no record of this run, its connection was lost or the run was ended" % target)
            continue
        if record.get("outcome") == "applied":
            applied.append(target)
        if record.get("outcome") == "checked":
            would.append(target)
        if result.get("failed") or record.get("outcome") not in GOOD:
            bad.append(target)
            why.append(str(record.get("sentence") or target))
            continue
        slower += ["%s: %s" % (target, each) for each in regressions(record, factor, slack)]
    if slower and number < of:
        why += slower
        bad += [target for target in targets if any(each.startswith(target + ": ") for each in slower) and target not in bad]
    unwell = ["%s: the health check failed: %s" % (name, _said(result)) for name, result in (health or {}).items() if _failed(result)]
    why += unwell
    # What is asked on the controller is about the wave as a whole.
    ill = [name for name, result in (health or {}).items() if _failed(result)]
    bad += [name for name in targets if name not in bad and (name in ill or set(ill) - set(targets))]
    stopped: dict[str, t.Any] = {}
    if why:
        text = "wave %d of %d was not passed: %s" % (number, of, _names(bad))
        stopped = {"wave": number, "of": of, "targets": bad, "why": why, "text": text}
    return {
        "waves": [list(each) for each in waves], "done": number, "of": of, "applied": applied, "changed": bool(applied), "stopped": stopped,
        "notes": slower if number == of else [], "text": _text(waves, number, applied, would, stopped),
    }  # fmt: skip


def _text(waves: t.Sequence[t.Sequence[str]], number: int, applied: t.Sequence[str], would: t.Sequence[str], stopped: t.Mapping[str, t.Any]) -> str:
    left = sum(len(wave) for wave in waves[number:])
    if would and not stopped:
        return "Wave %d of %d would begin, %s would be migrated (check mode).%s" % (
            number, len(waves), plural(len(would), "target"), " %s left." % plural(left, "target") if left else "",
        )  # fmt: skip
    if not stopped:
        done = "%s migrated" % plural(len(applied), "target") if applied else "nothing was to be done"
        return "Wave %d of %d is passed, %s.%s" % (number, len(waves), done, " %s left." % plural(left, "target") if left else "")
    text = str(stopped["text"])
    after = " %s of later waves not started and not touched." % plural(left, "target") if left else ""
    return "STOPPED: %s.%s Mend the cause and run the same again: it goes on here." % (text, after)


def _names(names: t.Sequence[str]) -> str:
    return ", ".join(names[:5]) + (" and %d more" % (len(names) - 5) if len(names) > 5 else "")


def _failed(result: t.Any) -> bool:
    """Of a command its status; of database_checks also what it found. What gave no answer is not well."""
    if not isinstance(result, t.Mapping) or result.get("skipped"):
        return False
    # The playbook takes no health check for a failed task; a code stands in failures only.
    return any(result.get(name) for name in ("failed", "unreachable", "rc", "failing", "code"))


def _said(result: t.Mapping[str, t.Any]) -> str:
    for name in ("text", "stderr", "stdout", "msg"):
        said = " ".join(str(result.get(name) or "").split())
        if said and not (name == "msg" and said == "non-zero return code"):
            return said[-300:]
    return "it ended with status %s" % result.get("rc", "unknown")


__all__ = ("FACTOR", "SIZES", "SLACK", "planned", "regressions", "sizes_of", "verdict")
