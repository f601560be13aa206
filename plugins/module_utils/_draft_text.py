# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The text and the name of a reverse migration. Pure: no I/O."""

from __future__ import annotations

import datetime
import hashlib
import json
import re
import textwrap
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._collation import sort_key
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._folder import MigrationFile

_MARK = "-- pgops.migrations reverse "
_UNDOES = "-- undoes "
_WIDTH = 118
_LONGEST = 120


def identity(undone: t.Sequence[MigrationFile], after: str, before: str) -> str:
    """One word for a reversal: what it undoes, and the digests of the schema it starts from and arrives at."""
    whole = json.dumps([[[file.name, file.checksum] for file in undone], after, before])
    return hashlib.sha256(whole.encode("utf-8", "surrogatepass")).hexdigest()


def is_reverse(script: str | None, word: str) -> bool:
    """Whether a migration is the reversal of this identity; its first line says so."""
    return bool(script) and (script or "").split("\n", 1)[0].strip() == _MARK + word


def undone_by(script: str | None) -> tuple[str, ...]:
    """The migrations that this one takes back, by its second line; none for an ordinary migration."""
    lines = (script or "").split("\n", 2)
    if len(lines) < 2 or not lines[0].startswith(_MARK) or not lines[1].startswith(_UNDOES):
        return ()
    try:
        found = json.loads(lines[1][len(_UNDOES) :])
    except ValueError:
        return ()
    return tuple(found) if isinstance(found, list) and all(isinstance(name, str) for name in found) else ()


def script(word: str, undone: t.Sequence[str], about: t.Sequence[str], notes: t.Sequence[str], statements: t.Sequence[tuple[str, str]] | str) -> str:
    """The text of migration.sql.

    :param undone: names of the migrations that it takes back.
    :param about: sentences on what it is and how it was tried.
    :param statements: (remark, statement) each, or a whole script.
    """
    lines = [_MARK + word, _UNDOES + json.dumps(list(undone)), "--"]
    for sentence in about:
        lines += _comment(sentence, "-- ")
    if notes:
        lines += ["--", "-- What it does to data:"]
        for note in notes:
            lines += _comment(note, "-- * ")
    lines.append("")
    if isinstance(statements, str):
        return "\n".join(lines) + "\n" + statements.strip() + "\n"
    for remark, statement in statements:
        lines += (_comment(remark, "-- ") if remark else []) + [statement + ";", ""]
    return "\n".join(lines[:-1]) + "\n" if statements else "\n".join(lines)


def _comment(text: str, begin: str) -> list[str]:
    """A sentence as comment lines; no line break of a name may end the comment."""
    flat = " ".join(text.split())
    return textwrap.wrap(flat, _WIDTH, initial_indent=begin, subsequent_indent="-- " + " " * (len(begin) - 3), break_long_words=False, break_on_hyphens=False)


def default_name(undone: t.Sequence[str], existing: t.Sequence[str], now: datetime.datetime) -> str:
    """A name that comes after every folder that is there.

    :raises MigrationError: ``OPTION_INVALID`` when no time can come after them.
    """
    short = re.sub(r"[^a-z0-9]+", "_", re.sub(r"^\d+[_-]*", "", undone[0]).lower()).strip("_")[:_LONGEST] or "migration"
    if len(undone) > 1:
        short += "_and_%d_more" % (len(undone) - 1)
    moment = now
    last = max(existing, key=sort_key, default="")
    if last[:14].isdigit() and len(last) >= 14:
        try:
            after = datetime.datetime.strptime(last[:14], "%Y%m%d%H%M%S").replace(tzinfo=datetime.timezone.utc) + datetime.timedelta(seconds=1)
            moment = max(moment, after)
        except (ValueError, OverflowError):
            pass
    name = "%s_reverse_%s" % (moment.strftime("%Y%m%d%H%M%S"), short)
    demand_last(name, existing)
    return name


def demand_last(name: str, existing: t.Sequence[str]) -> None:
    """:raises MigrationError: ``OPTION_INVALID`` when the name cannot be a folder's, or would not be applied last."""
    if not name or len(name.encode("utf-8", "surrogatepass")) > 200 or re.search(r"[/\\\x00-\x1f]", name) or name.startswith("."):
        raise MigrationError("%r cannot be the name of a migration" % name, code="OPTION_INVALID")
    later = [other for other in existing if sort_key(other) >= sort_key(name) and other != name]
    if later:
        raise MigrationError(
            "the migration %s would not come last: %s comes after it" % (name, max(later, key=sort_key)),
            code="OPTION_INVALID",
            next_step="set name to one that sorts after %s" % max(later, key=sort_key),
        )


__all__ = ("default_name", "demand_last", "identity", "is_reverse", "script", "undone_by")
