# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What an operator types or pastes: confirmations and options of a playbook. Pure: no I/O.

A line to paste goes through a callback that writes it as JSON, through a shell, and through
Ansible's own reading of ``-e name=value``. What has no blank, no quote and no backslash is
the same at the end of all three.
"""

from __future__ import annotations

import json
import re
import shlex
import typing as t
from urllib.parse import quote, unquote

_PLAIN = re.compile(r"[A-Za-z0-9_./:,+@%=-]+\Z")


def to_type(confirmation: str, database: str) -> str:
    """C(database:run), the one form that is printed; a part with other characters is percent-encoded.

    :param confirmation: the database, a blank, and the run or the migration.
    """
    return "%s:%s" % (quote(database, safe=""), quote(_what(confirmation, database), safe=""))


def is_confirmed(given: str, confirmation: str, database: str) -> bool:
    """Whether exactly this was typed: as printed, or with the names as they are and a colon or a blank between them."""
    what = _what(confirmation, database)
    return given in (to_type(confirmation, database), "%s:%s" % (database, what), "%s %s" % (database, what))


def said(given: str, database: str) -> str:
    """How it was not confirmed, a few words."""
    if not given:
        return "not confirmed"
    named = named_database(given)
    if named and named != database and not given.startswith((database + " ", database + ":")):
        # One text for several targets: each accepts its own only.
        return "confirmed with %s, which names the database %s; this is %s, and each database needs its own" % (given, named, database)
    return "confirmed with %s" % given


def confirm_step(typed: str) -> str:
    """What to do next where a confirmation is missing. Something stands behind the option, so that no full stop is pasted with it.

    :param typed: see :func:`to_type`.
    """
    return "look at what would be lost, then run the same again with -e migration_confirm=%s (in a task of your own: confirm)" % typed


def _what(confirmation: str, database: str) -> str:
    return confirmation[len(database) + 1 :] if confirmation.startswith(database + " ") else confirmation


def named_database(given: str) -> str:
    """The database that a confirmation names; empty where it names none."""
    if re.match(r"[^: ]+:[^: ]+\Z", given):
        return unquote(given.partition(":")[0])
    return given.rpartition(" ")[0]


def option(name: str, value: t.Any) -> str:
    """C(-e name=value) for a playbook; a list is written with commas."""
    text = ",".join(str(item) for item in value) if isinstance(value, (list, tuple)) else str(value)
    if _PLAIN.match(text):
        return "-e %s=%s" % (name, text)
    # Only by JSON does everything come through; it must be taken from a report, where nothing is escaped.
    return "-e %s" % shlex.quote(json.dumps({name: value}, ensure_ascii=False))


__all__ = ("confirm_step", "is_confirmed", "named_database", "option", "said", "to_type")
