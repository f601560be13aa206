# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A run record as one HTML page that needs nothing else. Pure: no I/O.

No script, no font, no picture and no address: the page's own policy forbids them.
"""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_counted as counted
from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_judged as judged
from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_others as aside
from ansible_collections.pgops.migrations.plugins.module_utils import _report_html_timeline as over_time
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_locks import locks
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_rehearsal import rehearsal
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_style import STYLE
from ansible_collections.pgops.migrations.plugins.module_utils._report_html_tags import (
    Html,
    code,
    join,
    number,
    tag,
    text,
)  # fmt: skip

Record = t.Mapping[str, t.Any]
POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html(record: Record) -> str:
    """The report of one target."""
    body = [
        judged.error(record),
        judged.failure(record),
        aside.others(record),
        rehearsal(record),
        counted.restored(record),
        counted.loss(record),
        counted.restore_point(record),
        judged.checklists(record),
        judged.checks(record),
        over_time.timeline(record),
        locks(record),
        judged.findings(record),
        counted.rows_and_sizes(record),
        counted.phases(record),
        counted.warnings(record),
        counted.output(record),
        aside.left_out(record),
    ]
    title = "%s: %s" % (record["target"], judged.OUTCOME_BADGES.get(str(record["outcome"]), ("", str(record["outcome"])))[1])
    foot = join([text("Drawn from the run record"), code(record["run_id"]), text("and from nothing else; format"), number(record["format"])], " ")
    return whole_page(title, judged.status(record), join(body), foot)


def whole_page(title: str, head: Html, body: Html, foot: Html) -> str:
    meta = [
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY),
        tag("meta", name_="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name_="color-scheme", content="light dark"),
        tag("meta", name_="referrer", content="no-referrer"),
        tag("title", text(title, 300)),
        tag("style", Html(STYLE)),
    ]
    whole = tag("body", head, tag("main", body), tag("footer", tag("p", foot)))
    return "<!DOCTYPE html>\n%s\n" % tag("html", tag("head", *meta), whole, lang="en")


__all__ = ("POLICY", "html", "whole_page")
