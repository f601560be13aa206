# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import json
import shlex

import pytest
from ansible.parsing.splitter import parse_kv
from ansible_collections.pgops.migrations.plugins.module_utils._typed import confirm_step, is_confirmed, option, said, to_type

NAMES = ["microcare", "Micro-Care_2", 'we"ird-db; drop', "o'neil", "a:b c", "back\\slash", "umlaut-ä", "100%", "$HOME `id`"]


@pytest.mark.parametrize("database", NAMES)
@pytest.mark.parametrize("what", ["20261122T163000Z-ab12cd", "20260301000000_add_bio", "job 17:2"])
def test_what_is_printed_survives_callback_shell_and_ansible(database: str, what: str) -> None:
    typed = to_type("%s %s" % (database, what), database)
    assert json.dumps(typed) == '"%s"' % typed, "a callback that writes JSON would escape it"
    words = shlex.split(confirm_step(typed).split(" with ")[1].split(" (")[0])
    assert words == ["-e", "migration_confirm=" + typed] and parse_kv(words[1]) == {"migration_confirm": typed}
    assert is_confirmed(typed, "%s %s" % (database, what), database)


@pytest.mark.parametrize("database", NAMES)
def test_only_what_names_this_database_and_this_run_confirms(database: str) -> None:
    wanted = "%s r1" % database
    for given in ("%s r1", "%s:r1"):
        assert is_confirmed(given % database, wanted, database)
    for given in ("", "yes", database, "%s:r2" % database, "%s r1 " % database, " %s r1" % database, "%sr1" % database, "other:r1", "%s::r1" % database):
        assert not is_confirmed(given, wanted, database), given


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("", "not confirmed"),
        ("yes", "confirmed with yes"),
        ("db7:r2", "confirmed with db7:r2"),
        ("db7 r2", "confirmed with db7 r2"),
        ("db8:r1", "confirmed with db8:r1, which names the database db8; this is db7, and each database needs its own"),
        ("db8 r1", "confirmed with db8 r1, which names the database db8; this is db7, and each database needs its own"),
        ("db%208:r1", "confirmed with db%208:r1, which names the database db 8; this is db7, and each database needs its own"),
    ],
)
def test_how_it_was_not_confirmed(given: str, words: str) -> None:
    assert said(given, "db7") == words


def test_an_option_is_written_plainly_where_it_can_be() -> None:
    assert option("migration_hold", ["a_1", "b_2"]) == "-e migration_hold=a_1,b_2"
    assert option("migration_restore_point", "/var/b/db7/x") == "-e migration_restore_point=/var/b/db7/x"
    odd = shlex.split(option("migration_hold", ["o'neil b"]))
    assert json.loads(odd[1]) == {"migration_hold": ["o'neil b"]}
