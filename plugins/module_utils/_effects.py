# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What kind of effect a statement has, as far as its words tell. Pure: no I/O.

The kinds are ordered: of a statement that is not recognised the worst is thought.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._sql import keywords, split, tokens

#: C(none): nothing that lasts. C(schema): the catalogue alone, or rows together with a change of it. C(data): rows or
#: values that no catalogue shows. C(dynamic): code of somebody's, which may do anything, or something else on other data.
NONE, SCHEMA, DATA, DYNAMIC = "none", "schema", "data", "dynamic"
ORDER = (NONE, SCHEMA, DATA, DYNAMIC)

_NONE = frozenset(
    ["set", "reset", "show", "lock", "begin", "start", "commit", "end", "savepoint", "release", "rollback", "abort", "listen", "unlisten", "analyze", "analyse"]
)
_DATA = frozenset(["insert", "update", "delete", "merge", "copy", "truncate", "refresh", "with", "values", "table", "cluster", "reindex", "vacuum", "import"])
_DDL = frozenset(["create", "alter", "drop", "comment", "grant", "revoke"])
#: What may be made, altered or dropped and shows in the schema's fingerprint; the word after those in _SKIPPED.
_OBJECTS = frozenset(
    """aggregate cast collation constraint conversion default domain event extension foreign function index materialized operator policy procedure
    publication routine rule schema sequence server statistics table text trigger type view""".split()  # noqa: SIM905
)
_SKIPPED = frozenset(["or", "replace", "unique", "unlogged", "recursive", "global", "local", "trusted"])
#: Functions that leave nothing behind.
_HARMLESS = frozenset(["set_config", "current_setting", "pg_sleep", "now", "version"])
_CALLS = frozenset(["select", "and", "or", "not", "in", "values", "as", "over", "filter", "cast", "case", "when", "then", "else"])

#: Statements that reach beyond the database, which a replay must not run a second time. Searched in the raw text, so that
#: bodies of code count, too: a word too many only costs a proof.
_GAP = r"(?:\s|--[^\n]*\n|/\*.*?\*/)+"
_OUTSIDE = re.compile(
    r"\b(?:create|alter|drop)" + _GAP + r"(?:role|user|group|database|tablespace|system|subscription)\b"
    r"|\b(?:comment|label)\b[^;]{0,200}?\bon" + _GAP + r"(?:role|database|tablespace)\b|\bon" + _GAP + r"(?:database|tablespace|parameter)\b"
    r"|\b(?:reassign|drop)" + _GAP + r"owned\b|\b(?:to|from)" + _GAP + r"program\b|\bcopy\b[^;]{0,2000}?\b(?:to|from)" + _GAP + r"'"
    r"|\b(?:dblink\w*|lo_export|lo_import|pg_file_\w+|pg_read_\w*file|pg_terminate_backend|pg_cancel_backend|pg_reload_conf|pg_rotate_logfile"
    r"|pg_(?:create|drop|replication|copy)_\w*slot\w*|pg_switch_wal|pg_create_restore_point|pg_promote|notify|pg_notify|import" + _GAP + r"foreign"
    r"|user" + _GAP + r"mapping|foreign" + _GAP + r"table|prepare" + _GAP + r"transaction|_prisma_migrations|cron\.\w+)\b",
    re.I | re.S,
)
#: Granting a role to a role has no ON; granting a right on something has.
_GRANT = re.compile(r"\b(?:grant|revoke)\b([^;']*)", re.I)
_LASTING = re.compile(
    # Code that is built, and names in escapes, may be anything.
    r"\bu&\"|\be'[^']*\\[xu0-7]|\bexecute\b(?!" + _GAP + r"(?:function|procedure|on)\b)"
    r"|\b(?:setval|dblink\w*|lo_export|pg_file_\w+|pg_advisory_unlock\w*)|\bto" + _GAP + r"program\b|\bcopy\b[^;]{0,2000}?\bto" + _GAP + r"'",
    re.I | re.S,
)
_UNDOES = frozenset(["drop", "rename", "detach", "disable", "reset", "replace"])


@dataclasses.dataclass(frozen=True)
class Step:
    """What is committed at once: one statement, or those from BEGIN to COMMIT."""

    statements: tuple[str, ...]
    effect: str

    @property
    def conditional(self) -> bool:
        return any(is_conditional(statement) for statement in self.statements)


def effect(statement: str) -> str:
    """The kind of effect that a statement can have at worst."""
    words = keywords(statement, 60)
    first = words[0]
    if first in _NONE:
        return NONE
    if first == "select":
        return _of_select(statement)
    if first in _DATA:
        return DATA
    if first in _DDL:
        return _of_ddl(words)
    return DYNAMIC


def _worst(statements: t.Iterable[str]) -> str:
    return max(map(effect, statements), key=ORDER.index, default=NONE)


def steps_of(script: str) -> tuple[Step, ...]:
    """The script cut where it commits; what it leaves open at its end is one step."""
    steps: list[Step] = []
    block: list[str] = []
    inside = False
    for statement in split(script):
        first = keywords(statement, 1)[0]
        inside = inside or first in ("begin", "start")
        block.append(statement)
        if inside and first not in ("commit", "end"):
            continue
        steps.append(Step(tuple(block), _worst(block)))
        block, inside = [], False
    if block:
        steps.append(Step(tuple(block), _worst(block)))
    return tuple(steps)


def leaves_open(script: str) -> bool:
    """Whether the script begins a transaction and does not end it, or goes on in a chained one."""
    words = [keywords(statement, 4) for statement in split(script)]
    marks = [found[0] in ("begin", "start") for found in words if found[0] in ("begin", "start", "commit", "end")]
    return bool(marks and marks[-1]) or any(found[0] in ("commit", "end") and "chain" in found for found in words)


def _of_ddl(words: t.Sequence[str]) -> str:
    if words[0] in ("comment", "grant", "revoke"):
        return SCHEMA
    kind = next((word for word in words[1:] if word not in _SKIPPED), "")
    if kind not in _OBJECTS:
        # Temporary objects among them: nothing of them is seen by others.
        return DATA
    if words[0] == "create" and kind in ("table", "materialized") and "as" in words:
        return DATA
    return SCHEMA


def _of_select(statement: str) -> str:
    """A SELECT of constants and harmless functions does nothing; any other may call anything."""
    words = keywords(statement)
    if "into" in words or "from" in words:
        return DYNAMIC
    for word, follows in zip(words, words[1:]):
        called = follows == "(" and (re.match(r'[\w"]', word) is not None)
        if called and word not in _HARMLESS and word not in _CALLS:
            return DYNAMIC
    return NONE


def is_conditional(statement: str) -> bool:
    """Whether the statement does nothing where its work is done already."""
    words = keywords(statement)
    pairs = set(zip(words, words[1:]))
    return ("if", "exists") in pairs or ("if", "not") in pairs or ("or", "replace") in pairs


def undoes(statement: str) -> bool:
    """Whether the statement can take away what an earlier one has made."""
    return effect(statement) in (DATA, DYNAMIC) or not _UNDOES.isdisjoint(keywords(statement))


def outside(script: str) -> str:
    """What in a script reaches beyond its database, so that it must not be run in a scratch one; empty when nothing does."""
    found = _OUTSIDE.search(script)
    if found:
        return " ".join(found.group().lower().split())[:60]
    for match in _GRANT.finditer(without_comments(script)):
        if not re.search(r"\bon\b", match.group(1), re.I) and re.search(r"\b(?:to|from)\b", match.group(1), re.I):
            return "membership of roles"
    return ""


def hides_its_end(script: str, statements: t.Sequence[str]) -> str:
    """Why the script does not commit its statements one after the other, or an empty text."""
    for statement in statements:
        words = keywords(statement, 12)
        if words[0] in ("rollback", "abort") or words[:2] == ["prepare", "transaction"]:
            return "the script holds %s, which the engines do not understand alike" % words[0].upper()
        if words[0] == "call" or (words[0] == "do" and re.search(r"\b(?:commit|rollback|call)\b", statement, re.I)):
            return "the script runs code that can commit by itself"
        if words[0] == "reindex" and "concurrently" in words:
            return "the script holds REINDEX CONCURRENTLY, which leaves indexes of other names where it fails"
        if words[0] in ("create", "drop", "alter") and "concurrently" in words and "detach" in keywords(statement):
            return "the script detaches a partition concurrently"
    for step in steps_of(script):
        if len(step.statements) == 1 and lasts_a_transaction(step.statements[0]):
            return "the script sets something for one transaction, whose end the engines do not understand alike"
    if re.search(r"\b(?:pg_advisory_unlock\w*|discard)\b", script, re.I):
        return "the script gives up Prisma's lock while it runs"
    return ""


def survives_a_rollback(script: str) -> bool:
    """Whether a text holds what is not undone with its transaction. Searched in the raw text, for it may stand in code."""
    return _LASTING.search(script) is not None


def advances(script: str) -> bool:
    """Whether the script may take numbers of sequences: a rollback leaves gaps."""
    return any(effect(statement) in (DATA, DYNAMIC) for statement in split(script))


def lasts_a_transaction(statement: str) -> bool:
    """Whether the statement sets something until the end of its transaction."""
    words = keywords(statement)
    return words[:2] in (["set", "local"], ["set", "transaction"], ["set", "constraints"]) or ("set_config" in words and "true" in words)


def sets_session(statement: str) -> bool:
    """Whether the statement sets something for all that comes after it."""
    words = keywords(statement)
    return effect(statement) == NONE and (words[0] in ("set", "reset") or "set_config" in words) and not lasts_a_transaction(statement)


def without_comments(script: str) -> str:
    return "".join(token.text if token.kind != "comment" else " " for token in tokens(script))


__all__ = (
    "DATA", "DYNAMIC", "NONE", "ORDER", "SCHEMA", "Step", "advances", "effect", "hides_its_end", "is_conditional",
    "lasts_a_transaction", "leaves_open", "outside", "sets_session", "steps_of", "survives_a_rollback", "undoes", "without_comments",
)  # fmt: skip
