# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write docs/record.md from docs/record.schema.json: python tools/record_docs.py"""

from __future__ import annotations

import json
import pathlib
from typing import Any, Mapping

ROOT = pathlib.Path(__file__).resolve().parent.parent
SCHEMA = ROOT / "docs" / "record.schema.json"
PAGE = ROOT / "docs" / "record.md"
HEAD = """# The run record

Every run leaves one JSON file for each target: `REPORTS/RUN/TARGET.json`, with mode 0600. It is what the run saw and decided; the
[report](report.md), the index of a run and the migration log are drawn from it and from nothing else. Its form is a JSON Schema
(draft 2020-12), [record.schema.json](record.schema.json), which every record satisfies.

`kept.yml` and `status.yml` write no record: the one is a list and a clean-up, the other reads. In check mode the record is returned and not written.

## What is promised

- `format` is the version of the form. Within one format a field is added and never removed or renamed, and keeps its meaning, its unit and its type;
  a word is added to a list of words only where the field may be shown as it is. What breaks this gets the next number.
- So a reader must pass over fields that it does not know, and refuse a `format` that it does not know.
- Fields on the first level are always there. A phase that was not run is `null`. In a phase, a field may be missing.
- `null` means *not known* or *there is none*, as the field says; it never means 0.
- Every figure of a report is a field of the record, the length of one of its lists, or the difference of two fields; it is rounded only where it is shown.
- Times are UTC, durations are in seconds and sizes in bytes.
- It holds no password, no URL of a database and no content of rows, but for keys of broken references and the output of your smoke commands
  (`verification.checks[].evidence`). Texts of programs are kept by their last 4 kB, which then begin with `[...]`; a line that was cut ends with `…`.
- Without blanks it has at most 4 MB. Where a run reports more, lists are cut at their end, and `cut` says which, how much is kept and how much there was.

This page is written by `python tools/record_docs.py` from the schema.

## The migration log

`REPORTS/migration_log.jsonl` has a line for each migration that a run applied, failed to apply, took back or marked; `migration_log.md` has the same
in the guide's form (Date, Migration, Status, Duration, Notes). Both are only ever appended to, by one process at a time.

| field | meaning |
|---|---|
| `format` | version of the line's form, with the same promise |
| `date` | when the run ended, UTC |
| `migration`, `status` | its name, and what became of it: `applied`, `failed`, `rolled_back` |
| `seconds` | its duration; null where it is not known |
| `target`, `environment`, `database` | where |
| `operator`, `revision` | who, and from which commit; empty where that is not known |
| `run_id`, `runbook` | the run that says so, and its playbook |
| `restore_point`, `restore_point_path` | what the run could go back to; empty without one |
| `by_run` | the run that applied it, where that was another one which nobody followed to its end; else empty |
| `notes` | the rest, in words |

The same run, target, migration and status stand in it once.
"""


def page() -> str:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    parts = [HEAD, "## Fields\n\n%s" % _table(schema, with_source=True)]
    for name, found in schema["properties"].items():
        parts += _sections(name, found)
    for name, found in schema["$defs"].items():
        parts += _sections(name, found, "### A `%s`" % name)
    return "\n".join(parts)


def _sections(path: str, found: Mapping[str, Any], title: str = "") -> list[str]:
    """The tables of an object, and of those in it that have fields of their own."""
    inner, path = (found["items"], path + "[]") if "items" in found else (found, path)
    if "properties" not in inner:
        return []
    parts = ["%s\n\n%s\n\n%s" % (title or "### `%s`" % path, found["description"] + _of(found), _table(inner))]
    for name, field in inner["properties"].items():
        parts += _sections("%s.%s" % (path, name), field)
    return parts


def _of(found: Mapping[str, Any]) -> str:
    return " From: %s." % found["x-source"] if "x-source" in found else ""


def _table(found: Mapping[str, Any], with_source: bool = False) -> str:
    heads = ["field", "type", "unit", "meaning", *(["from"] if with_source else [])]
    lines = ["| %s |" % " | ".join(heads), "|%s" % ("---|" * len(heads))]
    always = found.get("required", ())
    for name, field in found["properties"].items():
        cells = ["`%s`" % name, _type(field), field.get("x-unit", ""), _meaning(field, name in always and not with_source)]
        cells += [field.get("x-source", "")] if with_source else []
        lines.append("| %s |" % " | ".join(cell.replace("|", r"\|") for cell in cells))
    return "\n".join(lines) + "\n"


def _type(field: Mapping[str, Any]) -> str:
    if "$ref" in field:
        return "`%s`" % field["$ref"].rpartition("/")[2]
    found = field.get("type", "any")
    names = [found] if isinstance(found, str) else list(found)
    items = field.get("items", {})
    of = " of %s" % _type(items) if names[0] == "array" and ("$ref" in items or items.get("type")) else ""
    return names[0] + of + (" or null" if "null" in names[1:] else "")


def _meaning(field: Mapping[str, Any], always: bool) -> str:
    words = field.get("description", "")
    if "enum" in field:
        words += " One of: %s." % ", ".join("`%s`" % one if one else "empty" for one in field["enum"])
    return words + (" Always there." if always else "")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
