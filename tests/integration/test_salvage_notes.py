# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What a salvage says about tables whose rows nothing tells apart."""

from __future__ import annotations

import pathlib
import typing as t

from integration.test_kept import rolled_back
from support.restorepoints import filled


def test_rows_without_a_key_are_said_to_be_compared_as_a_whole(database: t.Any, admin: t.Any, module: t.Any, scratch: pathlib.Path) -> None:
    target = filled(database())
    changes = ("UPDATE keyless SET b = 'changed'", "INSERT INTO notes (author) VALUES (1)", "CREATE TABLE later AS SELECT 1 AS a")
    kept = rolled_back(target, admin, *changes)
    assert module("kept_database", target, state="salvaged", salvage_dir=str(scratch / "s"), **kept)["changed"] is True
    said = [line for line in (scratch / "s" / "README.txt").read_text().splitlines() if "compared by whole rows" in line]
    assert len(said) == 1 and said[0].startswith("public.keyless was compared by whole rows"), said
