# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Nothing lost is said where contents were compared, and nowhere else: in the sentence of a run, and in the guide's box."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._report_boxes import boxes
from ansible_collections.pgops.migrations.plugins.module_utils._sentence_compared import without_findings
from support.runs import BACKUP, DEPLOYED, PREFLIGHT, VERIFIED, record

DROPPED = {"kind": "object_removed", "object": "column public.p.x", "severity": "explained", "text": "The column public.p.x is gone."}
UNKNOWN = {"kind": "content_not_compared", "object": "public.p", "severity": "explained", "text": "The content of public.p could not be compared."}

CASES: list[tuple[dict[str, t.Any], str, str]] = [
    ({"compared_level": "full"}, "nothing lost", "pass"),
    ({"compared_level": "full", "differences": [DROPPED]}, "nothing lost but what was meant to go", "pass"),
    ({"compared_level": "full", "differences": [DROPPED, UNKNOWN]}, "no finding, the content of 1 table could NOT be compared", "warn"),
    ({"compared_level": "counts"}, "no table has fewer rows than the migrations explain, contents NOT compared", "warn"),
    ({"compared_level": "schema"}, "the schema changed as the migrations say, rows NOT compared", "warn"),
    # What was read after the deploy is of no use where there was nothing before.
    ({"compared_level": "none", "level": "full"}, "NOT compared with the state before", "not_answered"),
]


@pytest.mark.parametrize(("about", "said", "verdict"), CASES)
def test_no_more_is_said_than_was_compared(about: dict[str, t.Any], said: str, verdict: str) -> None:
    verification = dict(VERIFIED, findings=[], row_counts=[{"table": "public.p", "before": 3, "after": 3}], checks=[], **{"level": "full", **about})
    assert without_findings(verification) == said
    made = record(phases={"preflight": PREFLIGHT, "backup": BACKUP, "deploy": DEPLOYED, "verification": verification, "restore": {}})
    assert ", %s, restore point" % said in made["sentence"]
    (box,) = [each for each in boxes(made) if each.name == "no_data_loss"]
    assert box.verdict == verdict, box
