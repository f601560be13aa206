# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Statements whose effect on values a schema does not show. Pure: no I/O; rather one too many than one too few."""

from __future__ import annotations

import re

from ansible_collections.pgops.migrations.plugins.module_utils._effects import without_comments

_NAME = r'(?:"(?:[^"]|"")+"|[\w$]+)'
_CONDITIONAL = re.compile(r"\bIF\s+(?:NOT\s+)?EXISTS\b|\bCREATE\s+OR\s+REPLACE\b", re.I)
_USING = re.compile(r"\bTYPE\b[^;]*?\bUSING\b", re.I)
_RESTART = re.compile(r"\bRESTART\b", re.I)
_DROPPED = re.compile(r"\bDROP\s+COLUMN\s+(?:IF\s+EXISTS\s+)?(%s)" % _NAME, re.I)
_ADDED = re.compile(r"\bADD\s+COLUMN\s+(?:IF\s+NOT\s+EXISTS\s+)?(%s)" % _NAME, re.I)
_TABLE_DROPPED = re.compile(r"\bDROP\s+TABLE\s+(?:IF\s+EXISTS\s+)?((?:%s\.)?%s)" % (_NAME, _NAME), re.I)
_TABLE_MADE = re.compile(r"\b(?:CREATE\s+(?:UNLOGGED\s+)?TABLE\s+(?:IF\s+NOT\s+EXISTS\s+)?|RENAME\s+TO\s+)((?:%s\.)?%s)" % (_NAME, _NAME), re.I)


def made_anew(script: str) -> list[str]:
    """Columns and tables that a script both drops and makes: their values do not survive."""
    script = without_comments(script)
    columns = set(_DROPPED.findall(script)) & set(_ADDED.findall(script))
    tables = set(_TABLE_DROPPED.findall(script)) & set(_TABLE_MADE.findall(script))
    return sorted("column %s" % name for name in columns) + sorted("table %s" % name for name in tables)


def unseen(script: str) -> str:
    """Why the schema alone does not show how far a script came, or an empty text."""
    script = without_comments(script)
    conditional = _CONDITIONAL.search(script)
    if conditional:
        return "the script has conditional statements (%s): what they make may have been there before" % " ".join(conditional.group().upper().split())
    if _USING.search(script):
        return "the script computes values anew (TYPE .. USING)"
    if _RESTART.search(script):
        return "the script sets a sequence"
    anew = made_anew(script)
    return "the script drops and makes anew: %s" % ", ".join(anew) if anew else ""


def remarks(name: str, script: str) -> list[str]:
    """What a reverse migration must say of the values that this migration touched, besides what was dropped and made again.

    The latter is known of the catalogue, and not guessed from the text.
    """
    script = without_comments(script)
    found: list[str] = []
    if _USING.search(script):
        found.append("%s computes values anew (TYPE .. USING): they are converted back as they are now, and not as they were before." % name)
    if _RESTART.search(script):
        # One that was dropped has a note of its own in the draft.
        found.append("%s has RESTART: what it set a sequence to stays, and where that was before is not in the database." % name)
    return found


__all__ = ("made_anew", "remarks", "unseen")
