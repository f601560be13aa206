# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Which migration, or which expectation, explains a difference between two fingerprints. Pure: no I/O."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _sql_names, _touch_reach, _touch_rights, _touches
from ansible_collections.pgops.migrations.plugins.module_utils._comparison import HARMLESS, LEDGER_TABLE, Difference, split_key
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

BY_LEDGER = "the ledger itself"
EXPLAINED, EXPECTED, FINDING, NOTE = "explained", "expected", "finding", "note"
#: A difference that was declared and did not come.
MISSED = "expectation_missed"
_CONTENT = frozenset(["rows_more", "rows_fewer", "content_changed"])
_TAKES = frozenset(["rows_fewer", "table_gone"])
_GIVES = frozenset(["rows_more", "table_added"])
#: Words of DROP and ALTER that are no names.
_WORDS = frozenset("alter cascade column constraint drop exists function if index policy schema sequence trigger type view materialized".split())
_RIGHTS = frozenset(["grant", "revoke", "owner", "owned"])
_OF_OBJECTS = ("owner ", "grants ", "comment ")
_TABLE_KINDS = frozenset(["rows_more", "rows_fewer", "content_changed", "content_not_compared", "table_gone", "table_added"])


def explain(
    differences: t.Sequence[Difference],
    migrations: t.Mapping[str, str],
    expected: t.Sequence[t.Any] = (),
    objects: t.Mapping[str, str] | None = None,
    schema: str = "",
) -> list[Difference]:
    """The differences with what explains them, and one more for every expectation that did not come true.

    Each gets C(explained_by), the names of the migrations of which a statement may have
    caused it, and C(severity): C(explained), C(expected), C(finding), or C(note) for what
    loses nothing.

    :param migrations: name -> text of migration.sql, of those that were applied between.
    :param expected: texts (the object) or dicts with C(object), and perhaps C(kind) and C(rows): the exact number of rows more (or, below 0, fewer).
    :param objects: of the schema, ``column public.users.role`` -> its definition: of which type a column is, what a view or a routine names.
    :param schema: where the migrations' names without a schema are looked for; empty means anywhere.
    :raises MigrationError: ``OPTION_INVALID`` for an expectation that cannot be read.
    """
    wanted = [_expectation(entry) for entry in expected]
    reached = _touch_reach.reachable(objects or {})
    scripts = {name: _Script(text, reached) for name, text in migrations.items()}
    seen: set[int] = set()
    result = []
    own = {(each["kind"], each["object"]): _by(each, scripts, objects or {}, schema) for each in differences}
    beside = {each["object"]: each for each in differences if _is_beside(each)}
    for difference in differences:
        by = own[difference["kind"], difference["object"]] or _by_its_object(difference, own)
        name, unnamed = difference["object"], [own.get((kind, difference["object"])) == [] for kind in ("rows_more", "rows_fewer")]
        if any(unnamed) and _is_beside(difference):
            # The number is no migration's doing either, so the two are one: somebody else writes to the table.
            continue
        told_with = difference["kind"] in ("rows_more", "rows_fewer") and any(unnamed) and name in beside
        text = "%s %s" % (difference["text"], beside[name]["text"]) if told_with else difference["text"]
        severity = EXPLAINED if by else NOTE if difference["kind"] in HARMLESS else FINDING
        for number, entry in enumerate(wanted):
            if not _about(entry, difference):
                continue
            seen.add(number)
            if entry["rows"] is None or entry["rows"] == _more(difference):
                severity = EXPECTED if severity != EXPLAINED else severity
            else:
                # An exact number holds for what a migration explains, too.
                severity = FINDING
                text += " Expected were %+d rows, and it is %+d." % (entry["rows"], _more(difference))
        if severity == FINDING and not by:
            text += _taken_along(difference, scripts) + _set_by_none(difference, scripts, objects or {}, schema)
        kept = {field: value for field, value in difference.items() if field != "renamed"}
        result.append(dict(kept, text=text, explained_by=by, severity=severity))
    return result + [_missed(entry) for number, entry in enumerate(wanted) if number not in seen and entry["rows"]]


def _is_beside(difference: Difference) -> bool:
    """Whether it is about rows that were exchanged beside those that came or went, see ``_compared_rows``."""
    return difference["kind"] == "content_changed" and "gone" in difference


def findings(explained: t.Sequence[Difference]) -> list[Difference]:
    """Those that a person has to look at."""
    return [difference for difference in explained if difference["severity"] == FINDING]


class _Script:
    def __init__(self, text: str, reached: t.Sequence[_touch_reach.Reached]) -> None:
        self.reached = reached
        self.touches = _touches.touches(text)
        self.renamed_values = _touches.renamed_values(text)
        self.renamed = _touches.renamed(text)
        self.names = _sql_names.scan(text)
        # A name without a schema may then be that of any.
        self.anywhere = "search_path" in text.lower()

    def about(self, subjects: t.Sequence[_sql_names.Chain], schema: str) -> list[_touches.Touch]:
        """The statements that name or reach one of the objects."""
        where = "" if self.anywhere else schema
        found = []
        for touch in self.touches:
            if _touches.names_it(touch, subjects, where):
                found.append(touch)
            elif _touch_reach.through(touch, subjects, self.reached):
                # The columns of a view have names of their own.
                found.append(touch._replace(columns=None))
        return found

    def explains(self, difference: Difference, about: t.Sequence[_touches.Touch]) -> bool:
        """:param about: its statements that name or reach what differs."""
        kind = difference["kind"]
        if kind.startswith("large_objects_"):
            return any(kind in touch.kinds for touch in self.touches)
        object_kind = _object_kind(difference)
        if any(_touches.allows(touch, kind, object_kind) for touch in about):
            return True
        # Rows that go and rows that come, or a table that is made anew under its name: by two statements.
        if kind in _CONTENT and any(one.kinds & _TAKES and other.kinds & _GIVES for one in about for other in about if one is not other):
            return True
        return self._by_cascade(difference) or self._by_rename(difference)

    def _by_cascade(self, difference: Difference) -> bool:
        """What CASCADE takes along is what names the object that goes; rows, where a foreign key leads to it."""
        for touch in self.touches:
            if "cascade" not in touch.words:
                continue
            if difference["kind"] == "object_removed" and "drop" in touch.words:
                names = _sql_names.scan("%s %s" % (difference["before"], split_key(difference["object"])[1]))
                if any(_sql_names.mentions(names, chain) for chain in touch.names if chain[-1] not in _WORDS):
                    return True
            if difference["kind"] == "rows_fewer" and "truncate" in touch.words:
                return any(_touches.names_it(touch, [_sql_names.split_name(writer)]) for writer in difference.get("writers") or ())
        return False

    def _by_rename(self, difference: Difference) -> bool:
        """The server words anew what names something that got another name; a routine is even called by its arguments' types."""
        key = difference["object"]
        if not self.renamed or not difference["kind"].startswith("object_"):
            return False
        texts = [str(difference[side]) for side in ("before", "after")] if difference["kind"] == "object_changed" else [key] if "(" in key else []
        return any(_sql_names.mentions(_sql_names.scan(text), chain) for text in texts for chain in self.renamed)


def _object_kind(difference: Difference) -> str:
    """Such as trigger; "grants table" and "owner index" are about the right and the owner, of whatever it is."""
    kind = split_key(difference["object"])[0] if difference["kind"].startswith("object_") else ""
    return next((word for word in ("grants", "owner") if kind.startswith(word + " ")), kind)


def _by(difference: Difference, scripts: t.Mapping[str, _Script], objects: t.Mapping[str, str], schema: str) -> list[str]:
    subjects = [_sql_names.split_name(subject) for subject in difference["subjects"]]
    if any(chain[-1] == LEDGER_TABLE for chain in subjects[:1]):
        return [BY_LEDGER]
    kind, name = split_key(difference["object"])
    if kind in ("constraint", "index") and subjects:
        # An index is renamed by its own name, and its constraint with it.
        subjects = [*subjects, (subjects[-1][0], _sql_names.split_name(name)[-1])]
    about = {migration: script.about(subjects, schema) for migration, script in scripts.items()}
    found = []
    for migration, script in scripts.items():
        values = difference["kind"] == "content_changed" and _touch_reach.columns_of_type(difference["object"], script.renamed_values, objects)
        if values or script.explains(difference, about[migration]):
            found.append(migration)
    if difference.get("gone") and "columns" not in difference:
        # Each by itself: what takes rows may be another migration than what brings them.
        ways = {_touches.CHANGED, _touches.REWRITTEN} | (
            _GIVES if difference["kind"] == "content_changed" and difference["after"] < difference["before"] else _TAKES
        )
        found = [name for name in scripts if name in found or any(touch.kinds & ways for touch in about[name])]
    if _object_kind(difference) == "grants":
        every = [touch for touches in about.values() for touch in touches]
        changes = [touch.rights for touch in every if touch.rights]
        # What code grants is not read.
        unread = any(touch.anything or (touch.rights is None and _RIGHTS & touch.words and "default" not in touch.words) for touch in every)
        if not unread and _touch_rights.explained(difference["before"], difference["after"], changes) is False:
            return []
    if _is_beside(difference):
        return [migration for migration, touches in about.items() if _exchanges(difference, touches)]
    if difference["kind"] in ("content_changed", "content_not_compared") and not _enough(difference, about, scripts, objects):
        return []
    return found


def _exchanges(difference: Difference, touches: t.Sequence[_touches.Touch]) -> bool:
    """Whether a statement may have changed rows beside those that only came or went; rows that came explain none that went, and the reverse."""
    more = difference["after"] > difference["before"]
    kinds = {_touches.CHANGED, _touches.REWRITTEN, _touches.REMOVED if more else _touches.ADDED}
    return any(touch.anything or not kinds.isdisjoint(touch.kinds) for touch in touches)


def _enough(difference: Difference, about: t.Mapping[str, t.Sequence[_touches.Touch]], scripts: t.Mapping[str, _Script], objects: t.Mapping[str, str]) -> bool:
    """Whether all the migrations together may have changed each of the columns that changed, or have written rows as was seen."""
    touches = [touch for several in about.values() for touch in several]
    kinds = frozenset(kind for touch in touches for kind in touch.kinds)
    if any(touch.anything for touch in touches) or (kinds & _TAKES and kinds & _GIVES and "columns" in difference):
        return True
    if "columns" in difference:
        return not unexplained_columns(difference, touches, [script.renamed_values for script in scripts.values()], objects)
    if not difference.get("gone"):
        return True
    return bool(kinds & {_touches.CHANGED, _touches.REWRITTEN}) or {_touches.REMOVED, _touches.ADDED} <= kinds


def unexplained_columns(
    difference: Difference,
    touches: t.Sequence[_touches.Touch],
    renamed_values: t.Sequence[t.Collection[_sql_names.Chain]],
    objects: t.Mapping[str, str],
) -> list[str]:
    """The columns that changed and that no statement sets; what is computed from others changes with them."""
    may: set[str] = set()
    for touch in touches:
        if _touches.CHANGED in touch.kinds:
            if touch.columns is None:
                return []
            may |= touch.columns
    for types in renamed_values:
        may |= _touch_reach.columns_of_type(difference["object"], types, objects)
    renamed = difference.get("renamed") or {}
    computed = _touch_reach.generated(difference["object"], objects)
    left = [name for name in difference["columns"] if name not in may and renamed.get(name) not in may]
    explained = len(left) < len(difference["columns"])
    noted = _touch_reach.stamped(difference["object"], objects) if may else frozenset[str]()
    return [name for name in left if name not in noted and not (explained and name in computed)]


def _by_its_object(difference: Difference, own: t.Mapping[tuple[str, str], list[str]]) -> list[str]:
    """Owner, rights and comment that came or went with their object are explained by what explains the object."""
    for word in _OF_OBJECTS:
        if difference["object"].startswith(word) and difference["kind"] != "object_changed":
            return own.get((difference["kind"], difference["object"][len(word) :]), [])
    return []


def _taken_along(difference: Difference, scripts: t.Mapping[str, _Script]) -> str:
    """How a migration may have changed rows of a table that it does not name. A hint, no explanation: nobody wrote that they should go."""
    for migration, script in scripts.items():
        for writer in difference.get("writers") or ():
            if _sql_names.mentions(script.names, _sql_names.split_name(writer)):
                return " A foreign key or a trigger may have taken them along: %s names %s." % (migration, writer)
    return ""


def _set_by_none(difference: Difference, scripts: t.Mapping[str, _Script], objects: t.Mapping[str, str], schema: str) -> str:
    """Which of the changed columns no statement sets, where others are set."""
    subjects = [_sql_names.split_name(subject) for subject in difference["subjects"]]
    touches = [touch for script in scripts.values() for touch in script.about(subjects, schema)]
    if not difference.get("columns") or not touches:
        return ""
    left = unexplained_columns(difference, touches, [script.renamed_values for script in scripts.values()], objects)
    fires = any(key.startswith("trigger ") and key.endswith(" on %s" % difference["object"]) for key in objects)
    return " No migration sets %s%s." % (", ".join(left), ", a trigger of the table may" if fires else "") if left else ""


def _expectation(entry: t.Any) -> dict[str, t.Any]:
    if isinstance(entry, str) and entry:
        return {"object": entry, "kind": None, "rows": None}
    if not isinstance(entry, dict) or not isinstance(entry.get("object"), str) or set(entry) - {"object", "kind", "rows"}:
        raise MigrationError(
            "an expectation is %r" % (entry,),
            code="OPTION_INVALID",
            next_step="write the object's name, or object, kind and rows: {object: public.users, rows: -3}",
        )
    rows = entry.get("rows")
    if rows is not None:
        try:
            rows = int(str(rows))
        except ValueError:
            raise MigrationError("the rows of an expectation are %r and no number" % (rows,), code="OPTION_INVALID") from None
    return {"object": entry["object"], "kind": entry.get("kind"), "rows": rows}


def _about(entry: t.Mapping[str, t.Any], difference: Difference) -> bool:
    if entry["object"] != difference["object"] or entry["kind"] not in (None, difference["kind"]):
        return False
    # Of rows that were exchanged beside those that came or went, no number was declared.
    return entry["rows"] is None or (difference["kind"] in _TABLE_KINDS and not _is_beside(difference))


def _more(difference: Difference) -> int:
    """Rows more than before; 0 where the number of rows is the same."""
    if difference["kind"] in ("rows_more", "rows_fewer", "table_gone", "table_added"):
        return int(difference["after"] or 0) - int(difference["before"] or 0)
    return 0


def _missed(entry: t.Mapping[str, t.Any]) -> Difference:
    text = "Expected were %+d rows in %s, and nothing of that kind differs." % (entry["rows"], entry["object"])
    return {
        "kind": MISSED, "object": entry["object"], "before": None, "after": None, "text": text, "subjects": [entry["object"]],
        "explained_by": [], "severity": FINDING,
    }  # fmt: skip


__all__ = ("BY_LEDGER", "EXPECTED", "EXPLAINED", "FINDING", "MISSED", "NOTE", "explain", "findings")
