# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What every run record must satisfy: its schema, and that its reports say its figures and no others."""

from __future__ import annotations

import collections
import copy
import functools
import json
import pathlib
import re
import typing as t
from html.parser import HTMLParser

import jsonschema  # type: ignore[import-untyped]
from ansible_collections.pgops.migrations.plugins.module_utils._report_html import html
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown_page import report

SCHEMA = pathlib.Path(__file__).resolve().parents[2] / "docs" / "record.schema.json"
Record = t.Mapping[str, t.Any]
#: A figure as a report shows it: its number and its unit.
_SHOWN = re.compile(r"([+-]?[\d,]*\.?\d+(?:e[+-]?\d+)?) ?(.*)\Z")
#: In a sentence; the server's own words, which may hold any, stand in brackets.
_DURATION = re.compile(r"(?<![\w.])(?:\d+ h \d+ min|\d+ min \d+ s|[\d,]*\.?\d+ (?:ms|s))\b")
_COUNT = re.compile(r"(?<![\w.])(\d[\d,]*) (?:migration|finding|table|row|restore point)s?\b")
_UNITS = {"": 1.0, "s": 1.0, "ms": 1e-3, "byte": 1.0, "bytes": 1.0, "kB": 1e3, "MB": 1e6, "GB": 1e9, "%": 1.0}


@functools.cache
def _validator(strict: bool) -> t.Any:
    schema = json.loads(SCHEMA.read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(closed(schema) if strict else schema)


def closed(schema: t.Any) -> t.Any:
    """The same schema, in which a field that nobody has documented is an error."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: closed(value) for key, value in schema.items()}
    if isinstance(schema.get("properties"), dict) and "type" in schema:
        found.setdefault("additionalProperties", False)
    return found


def violations(record: Record, strict: bool = True) -> list[str]:
    """What of the record is not as its schema says."""
    # As a reader gets it.
    written = json.loads(json.dumps(record, allow_nan=False))
    return ["%s: %s" % (error.json_path, error.message[:300]) for error in _validator(strict).iter_errors(written)]


class Figures(HTMLParser):
    """The figures of a page: the exact value and what is shown."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[t.Any, str]] = []
        self._open = False
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: t.Any) -> None:
        if tag == "data":
            self.found.append((json.loads(dict(attrs)["value"]), ""))
            self._open = True

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "data"

    def handle_data(self, data: str) -> None:
        if self._open:
            value, shown = self.found[-1]
            self.found[-1] = (value, shown + data)


def numbers(record: Record) -> set[float]:
    """The numbers of a record, the lengths of its lists, and the differences that reports draw."""
    found: set[float] = set()

    def collect(value: t.Any) -> None:
        if isinstance(value, (dict, list)):
            found.add(len(value))
            for one in value.values() if isinstance(value, dict) else value:
                collect(one)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found.add(value)

    collect(record)
    found |= {entry["after"] - entry["before"] for entry in record["row_counts"] if entry["after"] is not None and entry["before"] is not None}
    monitor = (record["deploy"] or {}).get("monitor") or {}
    if monitor.get("size_before") is not None and monitor.get("size_after") is not None:
        found.add(monitor["size_after"] - monitor["size_before"])
    found |= {round(one["ended"] - one["started"], 3) for one in monitor.get("migrations") or () if one["ended"] is not None and one["started"] is not None}
    return found


def is_rounding(value: float, shown: str) -> bool:
    """Whether what is shown is the value, rounded to the digits that are shown."""
    longer = re.fullmatch(r"(\d+) (min|h) (\d+) (s|min)", shown)
    if longer:
        big, _word, small, _unit = longer.groups()
        factor = 60 if longer.group(2) == "min" else 3600
        return abs(value - (int(big) * factor + int(small) * factor / 60)) <= factor / 60
    found = _SHOWN.match(shown)
    if not found or found.group(2) not in _UNITS:
        return False
    digits, unit = found.group(1).replace(",", ""), _UNITS[found.group(2)]
    decimals = len(digits.partition(".")[2])
    return abs(value - float(digits) * unit) <= 0.5000001 * 10**-decimals * unit


def wrong_figures(record: Record) -> list[str]:
    """Figures of the reports that are not the record's, or are shown as something else, or stand in one report only."""
    page, text = html(record), report(record)
    known = numbers(record)
    found = Figures(page).found
    wrong = ["%r is not in the record" % value for value, _shown in found if value not in known]
    wrong += ["%r is shown as %s" % (value, shown) for value, shown in found if not is_rounding(value, shown)]
    # The samples have no place in the other report, and the record has them.
    told = Figures(re.sub(r'<details class="samples">.*?</details>', "", page, flags=re.S)).found
    for shown, count in collections.Counter(shown for _value, shown in told).items():
        there = len(re.findall(r"(?<![\w.,])%s(?!\w|[.,]\d)" % re.escape(shown), text))
        if there < count:
            wrong.append("%s stands %d times in the page and %d times in the Markdown" % (shown, count, there))
    for sentence in (record["sentence"], *(phase["sentence"] for phase in record["phases"])):
        wrong += ["%s is not in the record, and in the sentence: %s" % (figure, sentence) for figure in _untold(sentence, known)]
    return wrong


def _untold(sentence: str, known: t.Collection[float]) -> list[str]:
    """Durations and counts of a sentence that are no rounding of what the record has."""
    found = [match.group() for match in _DURATION.finditer(sentence) if not any(is_rounding(value, match.group()) for value in known)]
    return found + [match.group() for match in _COUNT.finditer(sentence) if int(match.group(1).replace(",", "")) not in known]


def changed(record: Record, *path: t.Any, value: t.Any) -> dict[str, t.Any]:
    """The record with another value at this place."""
    found: t.Any = copy.deepcopy(record)
    here = found
    for step in path[:-1]:
        here = here[step]
    here[path[-1]] = value
    return t.cast("dict[str, t.Any]", found)
