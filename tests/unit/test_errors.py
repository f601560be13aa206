# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import CODES, MigrationError


def test_a_failure_is_one_line_with_code_and_next_step() -> None:
    error = MigrationError("the table is gone.", code="LEDGER_MALFORMED", next_step="look at it.", rows=3)
    assert error.result() == {
        "msg": "LEDGER_MALFORMED: the table is gone. Next: look at it.",
        "code": "LEDGER_MALFORMED",
        "next_step": "look at it.",
        "rows": 3,
    }
    assert str(error) == "the table is gone."


def test_without_a_next_step_of_its_own_a_failure_has_that_of_its_code() -> None:
    error = MigrationError("x", code="LOCKED")
    assert error.next_step == CODES["LOCKED"][1]
    assert error.result()["msg"].endswith("Next: %s." % CODES["LOCKED"][1])


def test_an_unregistered_code_is_a_mistake() -> None:
    with pytest.raises(KeyError, match="NO_SUCH_CODE"):
        MigrationError("x", code="NO_SUCH_CODE")


def test_facts_cannot_hide_what_the_error_says() -> None:
    error = MigrationError("x", code="LOCKED")
    error.facts.update(code="other", msg="other", next_step="other")
    assert (error.result()["code"], "LOCKED: x" in error.result()["msg"]) == ("LOCKED", True)


@pytest.mark.parametrize("code", sorted(CODES))
def test_a_code_is_explained_in_words_that_fit_into_a_sentence(code: str) -> None:
    means, advice = CODES[code]
    assert re.fullmatch(r"[A-Z][A-Z0-9_]*[A-Z0-9]", code)
    for text in (means, advice):
        assert text == text.strip()
        assert not text.endswith(".")
        assert "\n" not in text
    assert means != advice
