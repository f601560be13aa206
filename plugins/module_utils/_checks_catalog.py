# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Checks of a database by its catalogue and its rows. Reads only."""

from __future__ import annotations

import dataclasses
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, WARN, Check, counted, names
from ansible_collections.pgops.migrations.plugins.module_utils._checks_catalog_sql import (
    CONSTRAINTS_SQL,
    FOREIGN_KEYS_SQL,
    INDEXES_SQL,
    SEQUENCES_SQL,
    SHADOWS_SQL,
    TRIGGERS_SQL,
)
from ansible_collections.pgops.migrations.plugins.module_utils._connection import row, rows, sql

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
    """Indexes that CREATE INDEX CONCURRENTLY left half built. ``known``: those from before, which only warn."""
    found = [{"index": name, "table": table, "written": ready, "known": name in known} for name, table, ready in rows(conn, INDEXES_SQL)]
    new = [entry["index"] for entry in found if not entry["known"]]
    if new:
        text = "%s invalid: %s. Drop and build anew: DROP INDEX CONCURRENTLY %s." % (counted(len(new), "index", "indexes"), names(new), new[0])
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
    found: list[dict[str, t.Any]] = []
    violated: list[str] = []
    unvalidated: list[str] = []
    total = 0
    for values in rows(conn, FOREIGN_KEYS_SQL):
        plain_values: list[t.Any] = [tuple(value) if isinstance(value, list) else value for value in values]
        key = _Key(*plain_values)
        total += 1
        sample = rows(conn, sql.SQL("SELECT {} {} LIMIT {}").format(key.shown(), key.violations(), sql.Literal(_KEYS)))
        if not sample and key.validated:
            continue
        count = (row(conn, sql.SQL("SELECT count(*) {}").format(key.violations())) or (0,))[0] if sample else 0
        plain = _PLAIN_KEYS.issuperset(key.types)
        found.append({
            "constraint": key.name, "table": key.table, "columns": list(key.columns), "references": key.parent, "validated": key.validated, "violations": count,
            "keys": [list(values) for values in sample] if plain else [],
        })  # fmt: skip
        (violated if count else unvalidated).append(
            "%s of %s" % (key.name, key.table) + (" (%s rows%s)" % (format(count, ",d"), _said(sample, plain)) if count else "")
        )
    if violated:
        text = "%s violated: %s." % (counted(len(violated), "foreign key"), names(violated))
        return Check(FOREIGN_KEYS, FAIL, text + (" Not validated: %s." % names(unvalidated) if unvalidated else ""), tuple(found))
    if unvalidated:
        statement = "ALTER TABLE %s VALIDATE CONSTRAINT .." % found[0]["table"]
        return Check(
            FOREIGN_KEYS,
            FAIL,
            "%s not validated: %s. No row violates them now: %s." % (counted(len(unvalidated), "foreign key"), names(unvalidated), statement),
            tuple(found),
        )
    return Check(FOREIGN_KEYS, PASS, "%s validated, and no row refers to nothing." % counted(total, "foreign key") if total else "There is no foreign key.")


def _said(sample: t.Sequence[tuple[t.Any, ...]], plain: bool) -> str:
    return ", for example %s" % ", ".join("/".join(str(value) for value in values) for values in sample[:3]) if plain else ""


def constraints(conn: t.Any) -> Check:
    """CHECK constraints that are not validated, and those that rows violate: all that the server does not guarantee."""
    found: list[dict[str, t.Any]] = []
    said: list[str] = []
    all_of_them = rows(conn, CONSTRAINTS_SQL)
    for name, table, validated, schema, relation, only, expression, calls in all_of_them:
        if validated and (not calls or relation is None):
            continue
        count = _violations(conn, schema, relation, only, expression) if relation is not None else None
        if validated and not count:
            continue
        found.append({"constraint": name, "table": table, "validated": validated, "violations": count})
        how = "rows not looked at" if count is None else "%s rows violate it" % format(count, ",d")
        said.append("%s of %s (%s%s)" % (name, table, "" if validated else "not validated, ", how))
    if found:
        unvalidated = [entry for entry in found if not entry["validated"]]
        steps = ["mend the rows"] if any(entry["violations"] for entry in found) else []
        steps += ["ALTER %s %s VALIDATE CONSTRAINT .." % ("DOMAIN" if each["violations"] is None else "TABLE", each["table"]) for each in unvalidated[:1]]
        text = "%s violated or not validated: %s. To do: %s." % (counted(len(found), "CHECK constraint"), names(said), ", then ".join(steps))
        return Check(CONSTRAINTS, FAIL, text, tuple(found))
    if not all_of_them:
        return Check(CONSTRAINTS, PASS, "There is no CHECK constraint.")
    return Check(CONSTRAINTS, PASS, "%s validated." % counted(len(all_of_them), "CHECK constraint"))


def _violations(conn: t.Any, schema: str, relation: str, only: bool, expression: str) -> int:
    # One that is null is no violation.
    wrong = sql.SQL("FROM {}{} WHERE ({}) IS FALSE").format(sql.SQL("ONLY " if only else ""), sql.Identifier(schema, relation), sql.SQL(expression))
    if not rows(conn, sql.SQL("SELECT 1 {} LIMIT 1").format(wrong)):
        return 0
    return int((row(conn, sql.SQL("SELECT count(*) {}").format(wrong)) or (0,))[0])


def sequences(conn: t.Any) -> Check:
    """Sequences whose next number is in their column already, or is more than sequence and column can hold."""
    wrong: list[dict[str, t.Any]] = []
    found = rows(conn, SEQUENCES_SQL)
    for label, schema, name, table_schema, table, column, increment, limit in found:
        up = increment > 0
        statement = sql.SQL("SELECT last_value, is_called, (SELECT {}({}) FROM {}) FROM {}").format(
            sql.SQL("max" if up else "min"), sql.Identifier(column), sql.Identifier(table_schema, table), sql.Identifier(schema, name)
        )
        last, called, most = row(conn, statement) or (0, False, None)
        following = last + increment if called else last
        exhausted = following > limit if up else following < limit
        if exhausted or (most is not None and (most >= following if up else most <= following)):
            where = "%s.%s" % (table_schema, table)
            wrong.append({"sequence": label, "table": where, "column": column, "next": following, "reached": most, "exhausted": exhausted, "limit": limit})
    behind = ["%s (next %d, in %s.%s up to %d)" % _values(each, "reached") for each in wrong if not each["exhausted"]]
    spent = ["%s (next %d, %s.%s ends at %d)" % _values(each, "limit") for each in wrong if each["exhausted"]]
    texts = []
    if spent:
        texts.append("%s exhausted: %s. The next INSERT fails: a larger type for column and sequence." % (counted(len(spent), "sequence"), names(spent)))
    if behind:
        texts.append("%s behind: %s. The next INSERT fails or has to be repeated: SELECT setval(..)." % (counted(len(behind), "sequence"), names(behind)))
    if texts:
        return Check(SEQUENCES, FAIL, " ".join(texts), tuple(wrong))
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
            "known": "%s on %s%s" % (name, table, _KNOWN[state]) in known,
        }
        for name, table, state, internal, constraint in rows(conn, TRIGGERS_SQL)
    ]  # fmt: skip
    new = sorted({"%s on %s%s" % (entry["trigger"], entry["table"], _SAID[str(entry["state"])]) for entry in found if not entry["known"]})
    if new:
        tables = sorted({entry["table"] for entry in found if not entry["known"]})
        return Check(
            TRIGGERS,
            FAIL,
            "%s disabled: %s. Enable them: ALTER TABLE %s ENABLE TRIGGER ALL." % (counted(len(new), "trigger"), names(new), tables[0]),
            tuple(found),
        )
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
