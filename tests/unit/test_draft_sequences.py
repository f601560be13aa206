# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._draft_sequences import Reached, go_on
from ansible_collections.pgops.migrations.plugins.module_utils._schema_model import Model, Unit

UP = "AS integer START WITH 1 INCREMENT BY 1 MINVALUE 1 MAXVALUE 100 CACHE 1 NO CYCLE"
DOWN = "AS integer START WITH 100 INCREMENT BY -5 MINVALUE 1 MAXVALUE 100 CACHE 1 NO CYCLE"


def model(definition: str) -> Model:
    unit = Unit("sequence", "public.s", "", definition, ("CREATE SEQUENCE public.s",), "DROP SEQUENCE public.s", facts={"owner": None, "owner_table": None})
    return Model(units={unit.key: unit})


@pytest.mark.parametrize(
    ("definition", "reached", "value", "said"),
    [
        (UP, (41, True), "greatest(41,", "goes on from 41"),
        (UP, (50, False), "greatest(49,", "goes on from 49"),
        (UP, (1, False), "", "starts at its beginning, where it was in the restore point p1"),
        (UP, None, "", "no restore point from before tells"),
        (DOWN, (85, True), "least(85,", "goes on from 85"),
        (DOWN, (100, False), "", "starts at its beginning, where it was"),
    ],
)
def test_where_a_sequence_goes_on(definition: str, reached: tuple[int, bool] | None, value: str, said: str) -> None:
    known: dict[str, t.Any] = {"public.s": Reached(*reached, "p1")} if reached else {}
    found = go_on(model(definition), Model(), known)
    assert [note.text for note in found.notes if said in note.text], found.notes
    assert [statement for _remark, statement in found.statements if value in statement] if value else not found.statements
    assert go_on(model(definition), model(definition), known).notes == []
