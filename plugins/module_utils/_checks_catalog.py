# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Checks of a database by its catalogue and its rows. Reads only."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, SKIPPED, WARN, Check, counted, names
from ansible_collections.pgops.migrations.plugins.module_utils._checks_catalog_sql import (
    CONSTRAINTS_SQL,
    FOREIGN_KEYS_SQL,
    INDEXES_SQL,
    SEQUENCES_SQL,
    SHADOWS_SQL,
    TRIGGERS_SQL,
)
from ansible_collections.pgops.migrations.plugins.module_utils._checks_rows import Asker
from ansible_collections.pgops.migrations.plugins.module_utils._connection import rows, sql

INVALID_INDEXES, FOREIGN_KEYS, SEQUENCES, TRIGGERS, SHADOWS = "invalid_indexes", "foreign_keys", "sequences", "disabled_triggers", "shadow_databases"
CONSTRAINTS = "check_constraints"
#: How pg_trigger.tgenabled is told: in the evidence, in what is known from before, in the sentence.
_STATES = {"D": "disabled", "R": "replica"}
_KNOWN = {"D": "", "R": " (replica)"}
_SAID = {"disabled": "", "replica": " (fires for replication only)"}
#: Offending keys that are shown of a foreign key.
_KEYS = 5
#: Types whose values are keys and nothing else. Of others (an e-mail address can be a key) the number of rows must do.
_PLAIN_KEYS = frozenset(["bigint", "integer", "smallint", "uuid", "oid"])


def invalid_indexes(conn: t.Any, known: t.Collection[str] = ()) -> Check:
    """Indexes that CREATE INDEX CONCURRENTLY left half built, and those of partitioned tables that a partition has not.

    :param known: those from before, which only warn.
    """
    found = [
        {"index": name, "table": table, "written": ready, "partitioned": partitioned, "known": name in known}
        for name, table, ready, partitioned in rows(conn, INDEXES_SQL)
    ]
    new = [entry for entry in found if not entry["known"]]
    if new:
        first = next((entry for entry in new if not entry["partitioned"]), new[0])
        step = "Drop and build anew: DROP INDEX CONCURRENTLY %s." % first["index"]
        if first["partitioned"]:
            step = "It is not on every partition of %s yet: build the missing ones, then ALTER INDEX %s ATTACH PARTITION <index>."
            step %= (first["table"], first["index"])
        text = "%s invalid: %s. %s" % (counted(len(new), "index", "indexes"), names([entry["index"] for entry in new]), step)
        return Check(INVALID_INDEXES, FAIL, text, tuple(found))
    if found:
        return Check(INVALID_INDEXES, WARN, "%s invalid since before this run." % counted(len(found), "index", "indexes"), tuple(found))
    return Check(INVALID_INDEXES, PASS, "Every index is valid.")


@dataclasses.dataclass(frozen=True)
class _Key:
    """A foreign key as the catalogue has it; the columns and operators in its order."""

    name: str
    table: str
    parent: str
    validated: bool
    match: str
    child_schema: str
    child: str
    child_only: bool
    parent_schema: str
    parent_name: str
    parent_only: bool
    columns: tuple[str, ...]
    parent_columns: tuple[str, ...]
    operator_schemas: tuple[str, ...]
    operators: tuple[str, ...]
    types: tuple[str, ...]
    quoted: str

    def violations(self) -> t.Any:
        """FROM .. WHERE of the rows that refer to nothing."""
        mine, theirs = sql.Identifier("c"), sql.Identifier("p")
        equal = sql.SQL(" AND ").join(
            sql.SQL("{}.{} OPERATOR({}.{}) {}.{}").format(
                theirs, sql.Identifier(other), sql.Identifier(schema), sql.SQL(operator), mine, sql.Identifier(column)
            )
            for column, other, schema, operator in zip(self.columns, self.parent_columns, self.operator_schemas, self.operators)
        )
        nulls = [sql.SQL("{}.{} IS NOT NULL").format(mine, sql.Identifier(column)) for column in self.columns]
        # MATCH FULL allows all of them to be null, or none.
        present = sql.SQL(" OR " if self.match == "f" else " AND ").join(nulls)
        return sql.SQL("FROM {}{}.{} c WHERE ({}) AND NOT EXISTS (SELECT FROM {}{}.{} p WHERE {})").format(
            sql.SQL("ONLY " if self.child_only else ""), sql.Identifier(self.child_schema), sql.Identifier(self.child), present,
            sql.SQL("ONLY " if self.parent_only else ""), sql.Identifier(self.parent_schema), sql.Identifier(self.parent_name), equal,
        )  # fmt: skip

    def shown(self) -> t.Any:
        """The key's columns, where they can be shown."""
        return sql.SQL(", ").join(sql.SQL("c.{}::text").format(sql.Identifier(column)) for column in self.columns)


def foreign_keys(conn: t.Any) -> Check:
    """Foreign keys that are not validated, and those whose rows refer to nothing, validated or not."""
    asker = Asker(conn)
    found: list[dict[str, t.Any]] = []
    violated: list[str] = []
    unvalidated: list[str] = []
    clean: list[_Key] = []
    total = 0
    for values in rows(conn, FOREIGN_KEYS_SQL):
        plain_values: list[t.Any] = [tuple(value) if isinstance(value, list) else value for value in values]
        key = _Key(*plain_values)
        total += 1
        sample, reason = asker.ask(sql.SQL("SELECT {} {} LIMIT {}").format(key.shown(), key.violations(), sql.Literal(_KEYS)))
        label = "%s of %s" % (key.name, key.table)
        if reason and key.validated:
            asker.note(label, reason)
        if not sample and key.validated:
            continue
        counts, _late = asker.ask(sql.SQL("SELECT count(*) {}").format(key.violations())) if sample else ([], "")
        # Where they cannot be counted, those that are shown are there at least.
        count = counts[0][0] if counts else len(sample)
        plain = _PLAIN_KEYS.issuperset(key.types)
        found.append({
            "constraint": key.name, "table": key.table, "columns": list(key.columns), "references": key.parent, "validated": key.validated, "violations": count,
            "keys": [list(values) for values in sample] if plain else [], "problem": reason,
        })  # fmt: skip
        if count:
            least = "" if counts else "at least "
            violated.append("%s (%s%s rows%s)" % (label, least, format(count, ",d"), _said(sample, plain)))
        else:
            unvalidated.append(label + (" (its rows cannot be looked at: %s)" % reason if reason else ""))
            clean += [] if reason else [key]
    if violated:
        text = "%s violated: %s." % (counted(len(violated), "foreign key"), names(violated))
        return Check(FOREIGN_KEYS, FAIL, text + (" Not validated: %s." % names(unvalidated) if unvalidated else "") + asker.said(), tuple(found))
    if unvalidated:
        text = "%s not validated: %s.%s" % (counted(len(unvalidated), "foreign key"), names(unvalidated), asker.said())
        if clean:
            every = "them" if len(clean) == len(unvalidated) else "%s of %s" % (clean[0].name, clean[0].table)
            text += " No row violates %s now: ALTER TABLE %s VALIDATE CONSTRAINT %s." % (every, clean[0].table, clean[0].quoted)
        return Check(FOREIGN_KEYS, FAIL, text, tuple(found))
    if asker.unasked:
        text = "%d of %d foreign keys are validated, and none of their rows refers to nothing." % (total - len(asker.unasked), total)
        return Check(FOREIGN_KEYS, SKIPPED, text + asker.said())
    return Check(FOREIGN_KEYS, PASS, "%s validated, and no row refers to nothing." % counted(total, "foreign key") if total else "There is no foreign key.")


def _said(sample: t.Sequence[tuple[t.Any, ...]], plain: bool) -> str:
    return ", for example %s" % ", ".join("/".join(str(value) for value in values) for values in sample[:3]) if plain else ""


def constraints(conn: t.Any) -> Check:
    """CHECK constraints that are not validated, and those that rows violate: all that the server does not guarantee."""
    asker = Asker(conn)
    found: list[dict[str, t.Any]] = []
    said: list[str] = []
    steps: list[str] = []
    all_of_them = rows(conn, CONSTRAINTS_SQL)
    for name, table, validated, schema, relation, only, expression, calls, quoted in all_of_them:
        if validated and (not calls or relation is None):
            continue
        count, reason = _violations(asker, schema, relation, only, expression) if relation is not None else (None, "")
        if validated and reason:
            asker.note("%s of %s" % (name, table), reason)
        if validated and not count:
            continue
        found.append({"constraint": name, "table": table, "validated": validated, "violations": count, "problem": reason})
        how = "%s rows violate it" % format(count, ",d") if count is not None else "rows not looked at%s" % (": %s" % reason if reason else "")
        said.append("%s of %s (%s%s)" % (name, table, "" if validated else "not validated, ", how))
        steps += [] if validated else ["ALTER %s %s VALIDATE CONSTRAINT %s" % ("DOMAIN" if relation is None else "TABLE", table, quoted)]
    if found:
        steps = (["mend the rows"] if any(entry["violations"] for entry in found) else []) + steps[:1]
        text = "%s violated or not validated: %s.%s To do: %s." % (counted(len(found), "CHECK constraint"), names(said), asker.said(), ", then ".join(steps))
        return Check(CONSTRAINTS, FAIL, text, tuple(found))
    if asker.unasked:
        text = "%d of %d CHECK constraints are sound." % (len(all_of_them) - len(asker.unasked), len(all_of_them))
        return Check(CONSTRAINTS, SKIPPED, text + asker.said())
    if not all_of_them:
        return Check(CONSTRAINTS, PASS, "There is no CHECK constraint.")
    return Check(CONSTRAINTS, PASS, "%s validated." % counted(len(all_of_them), "CHECK constraint"))


def _violations(asker: Asker, schema: str, relation: str, only: bool, expression: str) -> tuple[int | None, str]:
    # One that is null is no violation.
    wrong = sql.SQL("FROM {}{} WHERE ({}) IS FALSE").format(sql.SQL("ONLY " if only else ""), sql.Identifier(schema, relation), sql.SQL(expression))
    found, reason = asker.ask(sql.SQL("SELECT count(*) {}").format(wrong))
    return (found[0][0], "") if found else (None, reason)


def sequences(conn: t.Any) -> Check:
    """Sequences whose next number is in their column already, or is more than sequence and column can hold."""
    asker = Asker(conn)
    wrong: list[dict[str, t.Any]] = []
    setvals: list[str] = []
    found = rows(conn, SEQUENCES_SQL)
    for label, schema, name, table_schema, table, column, increment, setval, limit in found:
        up = increment > 0
        statement = sql.SQL("SELECT last_value, is_called, (SELECT {}({}) FROM {}) FROM {}").format(
            sql.SQL("max" if up else "min"), sql.Identifier(column), sql.Identifier(table_schema, table), sql.Identifier(schema, name)
        )
        answer, reason = asker.ask(statement)
        if not answer:
            asker.note(label, reason)
            continue
        last, called, most = answer[0]
        following = last + increment if called else last
        exhausted = following > limit if up else following < limit
        if exhausted or (most is not None and (most >= following if up else most <= following)):
            where = "%s.%s" % (table_schema, table)
            wrong.append({"sequence": label, "table": where, "column": column, "next": following, "reached": most, "exhausted": exhausted, "limit": limit})
            setvals += [] if exhausted else [setval]
    behind = ["%s (next %d, in %s.%s up to %d)" % _values(each, "reached") for each in wrong if not each["exhausted"]]
    spent = ["%s (next %d, %s.%s ends at %d)" % _values(each, "limit") for each in wrong if each["exhausted"]]
    texts = []
    if spent:
        texts.append("%s exhausted: %s. The next INSERT fails: a larger type for column and sequence." % (counted(len(spent), "sequence"), names(spent)))
    if behind:
        texts.append("%s behind: %s. The next INSERT fails or has to be repeated: %s." % (counted(len(behind), "sequence"), names(behind), setvals[0]))
    if texts:
        # What to type stands at the end.
        return Check(SEQUENCES, FAIL, "%s%s" % (asker.said().lstrip() + " " if asker.unasked else "", " ".join(texts)), tuple(wrong))
    if asker.unasked:
        text = "%d of %d sequences are ahead of their columns." % (len(found) - len(asker.unasked), len(found))
        return Check(SEQUENCES, SKIPPED, text + asker.said())
    return Check(SEQUENCES, PASS, "Every sequence is ahead of its column." if found else "There is no sequence.")


def _values(entry: t.Mapping[str, t.Any], last: str) -> tuple[t.Any, ...]:
    return entry["sequence"], entry["next"], entry["table"], entry["column"], entry[last]


def disabled_triggers(conn: t.Any, known: t.Collection[str] = ()) -> Check:
    """Triggers that do not fire, those of foreign keys among them.

    :param known: of those that did not fire before: C(name on table) of the disabled, C(name on table (replica)) of those that fire for replication only.
    """
    found = [
        {
            "trigger": constraint or name, "table": table, "of_constraint": internal, "state": _STATES[state],
            "known": "%s on %s%s" % (name, table, _KNOWN[state]) in known, "quoted": quoted,
        }
        for name, table, state, internal, constraint, quoted in rows(conn, TRIGGERS_SQL)
    ]  # fmt: skip
    new = sorted({"%s on %s%s" % (entry["trigger"], entry["table"], _SAID[str(entry["state"])]) for entry in found if not entry["known"]})
    if new:
        first = min((entry for entry in found if not entry["known"]), key=lambda entry: (entry["of_constraint"], str(entry["table"])))
        # Those of constraints have names that nobody can type, and are a superuser's.
        which = "ALL (as a superuser)" if first["of_constraint"] else first["quoted"]
        text = "%s disabled: %s. Enable them: ALTER TABLE %s ENABLE TRIGGER %s." % (counted(len(new), "trigger"), names(new), first["table"], which)
        return Check(TRIGGERS, FAIL, text, tuple(found))
    if found:
        return Check(TRIGGERS, WARN, "%s disabled since before this run." % counted(len(found), "trigger"), tuple(found))
    return Check(TRIGGERS, PASS, "Every trigger is enabled.")


def shadow_databases(conn: t.Any) -> Check:
    """Shadow databases of Prisma that nobody is in: what an ended C(migrate dev) left."""
    found = [{"database": name, "sessions": sessions, "owner": owner} for name, sessions, owner in rows(conn, SHADOWS_SQL)]
    orphans = [entry["database"] for entry in found if not entry["sessions"]]
    if orphans:
        return Check(
            SHADOWS,
            WARN,
            '%s orphaned: %s. Drop them: DROP DATABASE "%s".' % (counted(len(orphans), "shadow database"), names(orphans), orphans[0]),
            tuple(found),
        )
    return Check(SHADOWS, PASS, "No orphaned shadow database is on the server.", tuple(found))


__all__ = (
    "CONSTRAINTS", "FOREIGN_KEYS", "INVALID_INDEXES", "SEQUENCES", "SHADOWS", "TRIGGERS",
    "constraints", "disabled_triggers", "foreign_keys", "invalid_indexes", "sequences", "shadow_databases",
)  # fmt: skip
