# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a rollback loses, for a terminal and for a report. Pure: no I/O.

The loss meter compares the live database with what it goes back to, and says what is new
or gone in live. An operator asks for the effect: what will be gone, what comes back. That
reads the same whether the source is older (a rollback) or newer (a swap back). Before it
is done it is said in the future, afterwards in the past.
"""

from __future__ import annotations

import collections
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._table import draw, one_line

Loss = t.Mapping[str, t.Any]
#: Rows of the table, and names in a line; the record has all of them.
_ROWS, _NAMES = 40, 8
COLUMNS = ("rows_now", "rows_then", "added", "changed", "removed")
_HEADERS = ("table", "rows now", "rows then", "lost", "replaced", "back", "by")
_DONE_HEADERS = ("table", "rows before", "rows after", "lost", "replaced", "back", "by")
#: What the comparison says of live, and what it means for who goes back: before it is done, and afterwards.
_EFFECTS = tuple((re.compile(pattern, re.S), before, after) for pattern, before, after in (
    (r"The content of (.*) could not be compared: .*\.\Z", r"\1 gets its other columns.", r"\1 got its other columns."),
    (r"The content of .*\Z", r"\g<0>", r"\g<0>"),
    (r"(.*) is not in the restore point: (.*) will be gone\.\Z", r"\1 goes: \2 will be gone.", r"\1 went, and with it \2."),
    (r"(.*) was removed: it comes back with (.*)\.\Z", r"\1 comes back with \2.", r"\1 came back with \2."),
    (r"The sequence (.*) went (?:back|forward) \((-?\d+), now (-?\d+)\).*\Z", r"Sequence \1 goes from \3 to \2.", r"Sequence \1 went from \3 to \2."),
    (r"(Sequence .*) goes back (by .*)\Z", r"\1 goes back \2", r"\1 went back \2"),
    (r"(.*) is new(, with .*)?\.\Z", r"\1 will be gone\2.", r"\1 went\2."),
    (r"(.*) is gone, and with it (.*?)(?:; the new table .*)?\.\Z", r"\1 comes back with \2.", r"\1 came back with \2."),
    (r"(.*) is gone\.\Z", r"\1 comes back.", r"\1 came back."),
    (r"(The .*) changed\.\Z", r"\1 becomes what it is there.", r"\1 became what it is there."),
    # What was said before it was done.
    (r"(.*) will be gone(, with .*)?\.\Z", r"\g<0>", r"\1 went\2."),
    (r"(.*) comes back(| with .*)\.\Z", r"\g<0>", r"\1 came back\2."),
    (r"(.*) becomes what it is there\.\Z", r"\g<0>", r"\1 became what it is there."),
))  # fmt: skip


def effect(text: str, done: bool = False) -> str:
    """What the comparison says of live, as what becomes of it by going back."""
    for pattern, before, after in _EFFECTS:
        found = pattern.match(text)
        if found is not None:
            return found.expand(after if done else before)
    return text


def told(loss: Loss) -> dict[str, t.Any]:
    """The loss with its texts as what becomes of them."""
    return dict(loss, **{name: [effect(str(text)) for text in loss[name]] for name in ("texts", "objects") if loss.get(name)})


def source_of(restore: t.Mapping[str, t.Any]) -> str:
    """C(the restore point ID), C(the snapshot ID) or C(the kept database NAME), of what database_restore returned."""
    point = restore.get("restore_point") or {}
    word = {"snapshot": "the snapshot", "kept": "the kept database"}.get(str(point.get("kind")), "the restore point")
    opened = " (which was opened for connections since it was made)" if point.get("opened") else ""
    return ("%s %s" % (word, one_line(point.get("id") or ""))).strip() + opened


def lines_of_record(record: t.Mapping[str, t.Any]) -> list[str]:
    """What the way back of a run lost or would lose, for a terminal."""
    restore = record["restore"] or {}
    done = bool(restore.get("changed")) and not record["check_mode"]
    kept = str(restore.get("kept") or "") if done else ""
    return loss_lines(restore.get("loss") or {}, done=done, source=source_of(restore), kept=kept)


def loss_lines(loss: Loss, width: int = 120, *, done: bool = False, source: str = "the restore point", kept: str = "") -> list[str]:
    """The lines; none for what is no loss.

    :param loss: as database_restore returns it.
    :param done: whether the database was set back.
    :param source: what it goes back to, see :func:`source_of`.
    :param kept: the former database.
    """
    if not loss or "known" not in loss:
        return []
    if not loss["known"]:
        return [unknown_text(loss, done, kept)] + _sessions(loss, done)
    tables = [entry for entry in loss.get("tables") or () if isinstance(entry, dict)]
    lines: list[str] = []
    if tables:
        rows = [[entry.get("table"), *(_number(entry.get(key)) for key in COLUMNS), _by(entry)] for entry in tables]
        headers = _DONE_HEADERS if done else _HEADERS
        lines = [intro(loss, done, source, kept), "", *draw(headers, rows[:_ROWS], width, headers[1:6])]
        lines += ["and %d more tables" % (len(rows) - _ROWS)] if len(rows) > _ROWS else []
    elif not loss.get("differences"):
        lines = ["Nothing differ%s from %s." % ("ed" if done else "s", source)]
    return lines + about(loss, done) + _sessions(loss, done)


def intro(loss: Loss, done: bool, source: str, kept: str = "") -> str:
    """What the table means."""
    if loss.get("gone"):
        return "The database %s on the server; all of it %s %s." % ("was not" if done else "is not", "came back from" if done else "comes back from", source)
    if loss.get("measured") is False:
        return "Tables that differ%s from %s; their rows were not counted one by one." % ("ed" if done else "", source)
    if not done:
        return "By going back to %s: rows that only the live database has will be lost, changed ones replaced; those that were removed come back." % source
    text = "By going back to %s: rows that only the former database had were lost, changed ones replaced; those that were removed came back." % source
    text += " All of it is in the kept database %s." % kept if kept else ""
    if loss.get("counted_by"):
        text += " Counted by the run %s, which asked for the confirmation; what was written after that was lost, too." % one_line(loss["counted_by"])
    return text


def unknown_text(loss: Loss, done: bool, kept: str = "") -> str:
    """That the loss is not known, and why."""
    reason = one_line(loss.get("reason"))
    if loss.get("measured") is False:
        named = " %s" % kept if kept and reason.endswith("kept database") else ""
        return "What %s lost was not counted again: %s%s" % ("was" if done else "would be", reason, named)
    return "What %s lost is not known: %s" % ("was" if done else "will be", reason)


def about(loss: Loss, done: bool) -> list[str]:
    """What is no row: sequences and the schema."""
    sequences = [entry for entry in loss.get("sequences") or () if isinstance(entry, dict)]
    lines = []
    if sequences:
        texts = ["%s %s -> %s" % (one_line(entry.get("sequence")), _number(entry.get("now")), _number(entry.get("then"))) for entry in sequences]
        lines.append("Sequences that %s back: %s" % ("went" if done else "go", _limited(texts)))
    objects = [effect(one_line(text), done) for text in loss.get("objects") or ()]
    return lines + (["Schema: %s" % _limited(objects, " ")] if objects else [])


def _number(value: t.Any) -> str:
    return format(value, ",d") if isinstance(value, int) and not isinstance(value, bool) else "-"


def _by(entry: t.Mapping[str, t.Any]) -> str:
    return "" if "keyed" not in entry else "key" if entry["keyed"] else "whole row"


def _limited(texts: t.Sequence[str], glue: str = ", ") -> str:
    more = " and %d more" % (len(texts) - _NAMES) if len(texts) > _NAMES else ""
    return glue.join(texts[:_NAMES]) + more


def _sessions(loss: Loss, done: bool) -> list[str]:
    sessions = [entry for entry in loss.get("sessions") or () if isinstance(entry, dict)]
    if not sessions:
        return []
    named = collections.Counter(one_line(entry.get("application_name")) or "user %s" % one_line(entry.get("user")) for entry in sessions)
    listed = _limited(["%s: %d" % pair for pair in named.most_common()])
    return ["Sessions that %s: %d (%s)" % ("were there before it" if done else "will be ended", len(sessions), listed)]


__all__ = ("COLUMNS", "about", "effect", "intro", "lines_of_record", "loss_lines", "source_of", "told", "unknown_text")
