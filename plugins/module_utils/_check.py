# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A check's verdict, with what it rests on. Pure: no I/O."""

from __future__ import annotations

import dataclasses
import typing as t

PASS, FAIL, WARN, SKIPPED = "pass", "fail", "warn", "skipped"
VERDICTS = (FAIL, WARN, SKIPPED, PASS)
#: Entries of evidence in a result; the number of all of them is always said.
MOST = 500
#: What makes an entry of evidence the same as one from before.
_IDENTITY = {
    "application_role": ("table",),
    "check_constraints": ("constraint", "table"),
    "disabled_triggers": ("trigger", "table", "state"),
    # Not the wording: a migration may rename what an object that was made by hand is about.
    "drift": ("kind", "object"),
    "foreign_keys": ("constraint", "table"),
    "invalid_indexes": ("index",),
    "prisma_diff": ("object", "change", "where"),
    "sequences": ("sequence", "exhausted"),
}


@dataclasses.dataclass(frozen=True)
class Check:
    """What was asked, and the answer.

    :ivar name: stable, part of the public interface.
    :ivar text: one sentence.
    :ivar evidence: plain values, never rows of the application but for the keys of a broken reference.
    :ivar limit: the threshold that was held, where there is one.
    """

    name: str
    verdict: str
    text: str
    evidence: tuple[dict[str, t.Any], ...] = ()
    limit: t.Any = None
    seconds: float = 0.0

    def as_dict(self) -> dict[str, t.Any]:
        found = dataclasses.asdict(self)
        found["evidence"] = list(found["evidence"][:MOST])
        found["count"] = len(self.evidence)
        return found


def known(check: Check, earlier: t.Mapping[str, t.Any] | None) -> Check:
    """A failure whose evidence was all there before the deploy only warns: going back would not mend it.

    :param earlier: the same check from before, as :meth:`Check.as_dict` gives it.
    """
    fields = _IDENTITY.get(check.name)
    if check.verdict != FAIL or not fields or not earlier or not check.evidence:
        return check
    old = [entry for entry in earlier.get("evidence") or () if isinstance(entry, dict)]
    there = {tuple(str(entry.get(field)) for field in fields): entry for entry in old}
    # Evidence that decides nothing proves nothing new either.
    for entry in (each for each in check.evidence if not each.get("by_hand")):
        same = there.get(tuple(str(entry.get(field)) for field in fields))
        if same is None or int(entry.get("violations") or 0) > int(same.get("violations") or 0):
            return check
    return dataclasses.replace(check, verdict=WARN, text="As before this run: %s" % check.text)


def worst(checks: t.Iterable[Check]) -> str:
    """The worst verdict; C(pass) of none, and of what was only skipped."""
    found = {check.verdict for check in checks}
    return FAIL if FAIL in found else WARN if WARN in found else PASS


def summary(checks: t.Sequence[Check]) -> dict[str, t.Any]:
    """What a module returns: the verdict, one line, the names of those that failed, and all of them."""
    failing = [check for check in checks if check.verdict == FAIL]
    warned = [check for check in checks if check.verdict == WARN]
    skipped = [check.name for check in checks if check.verdict == SKIPPED]
    asked = len(checks) - len(skipped)
    said = " ".join("%s: %s" % (check.name, check.text) for check in failing or warned)
    if failing:
        text = "%d of %d checks failed. %s" % (len(failing), asked, said)
    elif warned:
        text = "%d of %d checks passed. %s" % (asked - len(warned), asked, said)
    else:
        text = "%d of %d checks passed." % (asked, asked)
    return {"verdict": worst(checks), "text": text, "failing": [check.name for check in failing], "checks": [check.as_dict() for check in checks]}


def counted(number: int, word: str, more: str = "") -> str:
    """``1 index is``, ``3 indexes are``."""
    plural = word if number == 1 else more or word + "s"
    return "%s %s %s" % (format(number, ",d"), plural, "is" if number == 1 else "are")


def names(found: t.Sequence[str], most: int = 5) -> str:
    """The first of them, and how many more there are."""
    return ", ".join(found[:most]) + (" and %d more" % (len(found) - most) if len(found) > most else "")


__all__ = ("FAIL", "MOST", "PASS", "SKIPPED", "VERDICTS", "WARN", "Check", "counted", "known", "names", "summary", "worst")
