# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What the next deploy would do. The real CLI is asked the same in tests/integration/test_oracle.py."""

from __future__ import annotations

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import ABSENT, Facts
from ansible_collections.pgops.migrations.plugins.module_utils._prediction import predict_deploy, provider, unapplied
from support.ledgers import folder, rows

AB = folder("a", "b")


@pytest.mark.parametrize(
    ("migrations", "facts", "action", "names", "code"),
    [
        (AB, ABSENT, "create_database", ("a", "b"), "P1003"),
        (AB, Facts(ledger_exists=False), "apply", ("a", "b"), None),
        (AB, Facts(ledger_exists=False, tables=1), "refuse", (), "P3005"),
        (AB, Facts(tables=5), "apply", ("a", "b"), None),
        (AB, Facts(rows=rows("a done")), "apply", ("b",), None),
        (AB, Facts(rows=rows("b done")), "apply", ("a",), None),  # out of order, and silently so
        (AB, Facts(rows=rows("a done edited")), "apply", ("b",), None),  # edits are not looked at
        (AB, Facts(rows=rows("0 done", "a done", "b done")), "nothing", (), None),
        (AB, Facts(rows=rows("a done", "b done")), "nothing", (), None),
        (AB, Facts(rows=rows("a done", "b rolled")), "apply", ("b",), None),
        (AB, Facts(rows=rows("a done", "b done+rolled")), "apply", ("b",), None),
        (AB, Facts(rows=rows("a done", "b failed")), "refuse", (), "P3009"),
        (AB, Facts(rows=rows("a done", "a unfinished", "b done")), "refuse", (), "P3009"),
        (AB, Facts(rows=rows("z unfinished")), "refuse", (), "P3009"),
        (AB, Facts(rows=rows("a rolled", "a done", "b marked")), "nothing", (), None),
        (folder("a", "b", without_script=["a"]), Facts(), "refuse", (), "P3015"),
        (folder("a", "b", without_script=["b"]), Facts(), "apply", ("a",), "P3015"),
        (folder("a", "b", without_script=["a"]), Facts(rows=rows("a done")), "apply", ("b",), None),
        (folder("a", lock=None), Facts(), "apply", ("a",), None),
        (folder("a", lock=""), Facts(), "refuse", (), "P3019"),
        (folder("a", lock='provider="postgresql"'), Facts(), "refuse", (), "P3019"),
        (folder("a", lock='provider = "mysql"\n'), Facts(rows=rows("a unfinished")), "refuse", (), "P3019"),
        (folder("a", lock='provider = "mysql"\n'), Facts(rows=rows("a done")), "refuse", (), "P3019"),
    ],
)
def test_what_deploy_would_do(migrations: Folder, facts: Facts, action: str, names: tuple[str, ...], code: str | None) -> None:
    found = predict_deploy(migrations, facts)
    assert (found.action, found.migrations, found.code) == (action, names, code)
    assert found.as_dict() == {"action": action, "migrations": list(names), "code": code, "why": found.why}
    assert bool(found.why) or found.action == "apply"


@pytest.mark.parametrize(
    ("lock", "expected"),
    [
        ('provider = "postgresql"', "postgresql"),
        ('# comment\n\nprovider = "postgresql"\r\n', "postgresql"),
        ('provider = "postgresql"\nprovider = "mysql"', "postgresql"),
        ('provider="postgresql"', 'provider="postgresql'),
        ('provider  = "postgresql"', 'provider  = "postgresql'),
        (' provider = "postgresql"', None),
        ("", None),
        ("provider = postgresql", "postgresql"),
        ('provider = ""postgresql""', "postgresql"),
        ('provider = "postgresql" ', 'postgresql" '),
    ],
)
def test_the_provider_as_the_engine_reads_it(lock: str, expected: str | None) -> None:
    assert provider(lock) == expected


def test_only_rows_that_are_not_rolled_back_make_a_name_applied() -> None:
    assert unapplied(folder("a", "b", "c", "d"), Facts(rows=rows("a done", "b rolled", "c unfinished"))) == ["b", "d"]
