# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""Drift between the targets of one group: who is not as the others are. Pure: no I/O.

What is compared was read. A target that could not be read, or of which something is not known, is no difference; it is
counted apart. Schemas are compared only where head and server version are the same: elsewhere they differ for that reason.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._words import plural

#: Groups that every inventory has; they are compared only where there is no other.
_ANSIBLES = ("all", "ungrouped")
#: Names that a sentence has at most.
_MOST = 6
Row = t.Mapping[str, t.Any]
Finding = t.Dict[str, t.Any]
#: What is compared -> the beginning of the sentence, and what it is of one target.
_WORDS = {
    "head": ("on another ledger head", "%s"),
    "set": ("with another migrations folder", "set %.12s"),
    "server": ("on another server version", "PostgreSQL %s"),
    "schema": ("with another schema, although head and server version are the same", "schema %.12s"),
}


def compared_groups(
    groups: t.Mapping[str, t.Sequence[str]], targets: t.Collection[str], environments: t.Mapping[str, str], wanted: t.Sequence[str] = ()
) -> dict[str, list[str]]:
    """The groups whose targets should be alike: the largest ones within one environment, or those that are named.

    :param environments: target -> C(migration_environment); a group of more than one is none whose targets should be alike.
    """
    members = {name: [host for host in dict.fromkeys(hosts) if host in targets] for name, hosts in groups.items()}
    if wanted:
        return {name: members[name] for name in wanted if len(members.get(name, ())) > 1}
    alike = {name: hosts for name, hosts in members.items() if len(hosts) > 1 and len({environments.get(host, "") for host in hosts}) == 1}
    found: dict[str, list[str]] = {}
    for name in sorted(alike, key=lambda name: (name in _ANSIBLES, -len(alike[name]), name)):
        if not any(set(alike[name]) <= set(hosts) for hosts in found.values()) and not (name in _ANSIBLES and found):
            found[name] = alike[name]
    return found


def between(rows: t.Sequence[Row], groups: t.Mapping[str, t.Sequence[str]], reference: str = "") -> list[Finding]:
    """What differs within each group, among targets of one migrations folder.

    :param rows: of state_row.
    :param reference: a target that the others are held against; else what most of them have. Without a majority all are named.
    """
    known = {row["target"]: row for row in rows if row["ok"]}
    found: list[Finding] = []
    for group, names in groups.items():
        folders: dict[str, list[Row]] = {}
        for name in names:
            if name in known:
                folders.setdefault(str(known[name]["migrations_dir"]), []).append(known[name])
        for each in folders.values():
            found += _of_folder(group, each, reference)
    return found


def _of_folder(group: str, rows: t.Sequence[Row], reference: str) -> list[Finding]:
    held = [row for row in rows if row["status"] != "absent"]
    found = [
        _compare(group, "head", {row["target"]: row["head"] or "none" for row in held}, reference),
        _compare(group, "set", {row["target"]: row["set_digest"] for row in rows if row["set_digest"]}, reference),
        _compare(group, "server", {row["target"]: str(row["server_major"]) for row in held if row["server_major"]}, reference),
    ]
    alike: dict[t.Any, dict[str, str]] = {}
    for row in held:
        if row["schema_digest"]:
            alike.setdefault((row["head"], row["server_major"]), {})[row["target"]] = row["schema_digest"]
    found += [_compare(group, "schema", values, reference) for values in alike.values()]
    return [each for each in found if each]


def _compare(group: str, what: str, values: t.Mapping[str, str], reference: str) -> Finding:
    """Empty where all are alike."""
    by_value: dict[str, list[str]] = {}
    for target, value in values.items():
        by_value.setdefault(value, []).append(target)
    if len(by_value) < 2:
        return {}
    ordered = sorted(by_value, key=lambda value: (-len(by_value[value]), value))
    norm: str | None = values.get(reference)
    if norm is None and len(by_value[ordered[0]]) > len(by_value[ordered[1]]):
        norm = ordered[0]
    differ = {value: by_value[value] for value in ordered if value != norm}
    return {
        "group": group, "what": what, "norm": norm, "reference": reference if reference in values else "", "of": len(values), "differ": differ,
        "text": _text(group, what, norm, differ, len(values), reference if reference in values else ""),
    }  # fmt: skip


def _text(group: str, what: str, norm: str | None, differ: t.Mapping[str, t.Sequence[str]], of: int, reference: str) -> str:
    words, shown = _WORDS[what]
    each = "; ".join("%s (%s)" % (_names(targets), shown % value) for value, targets in list(differ.items())[:_MOST])
    more = "; and %d more" % (len(differ) - _MOST) if len(differ) > _MOST else ""
    if norm is None:
        return "%s: %s are not alike, and no majority is: %s%s" % (group, plural(of, "target"), each, more)
    number = sum(len(targets) for targets in differ.values())
    return "%s: %d of %d %s: %s%s; %s: %s" % (group, number, of, words, each, more, reference or "most", shown % norm)


def _names(names: t.Sequence[str]) -> str:
    return ", ".join(names[:_MOST]) + (" and %d more" % (len(names) - _MOST) if len(names) > _MOST else "")


def marked(rows: t.Sequence[dict[str, t.Any]], findings: t.Sequence[Finding]) -> None:
    """Write into each row in what it differs; where no norm is known, nobody is blamed."""
    by_target: dict[str, list[str]] = {}
    for finding in findings:
        if finding["norm"] is not None:
            for targets in finding["differ"].values():
                for target in targets:
                    by_target.setdefault(target, []).append(finding["what"])
    for row in rows:
        row["differs"] = list(dict.fromkeys(by_target.get(row["target"], ())))


__all__ = ("between", "compared_groups", "marked")
