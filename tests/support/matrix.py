# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The page over many targets, straight from their records."""

from __future__ import annotations

import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _matrix_html
from ansible_collections.pgops.migrations.plugins.module_utils._summary import run_row

Record = t.Mapping[str, t.Any]


def index(records: t.Sequence[Record], links: t.Mapping[str, str] | None = None, missing: t.Mapping[str, str] | None = None, title: str = "") -> str:
    """As run_summary draws it, for records that all have other targets.

    :param missing: target -> why there is no record of it.
    """
    rows = [run_row(target, None, why) for target, why in (missing or {}).items()] + [run_row(str(record["target"]), record) for record in records]
    return _matrix_html.index(rows, links, str(records[0]["run_id"]) if records else "", (), title)
