# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""How targets are put into waves, what stops a run between two of them, and what is typed to go without a rehearsal."""

from __future__ import annotations

import typing as t

import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._override import override_step, reason_given
from ansible_collections.pgops.migrations.plugins.module_utils._waves import planned, regressions, sizes_of, verdict


@pytest.mark.parametrize(
    ("total", "canaries", "given", "sizes"),
    [
        (50, 0, None, [1, 5, 44]),
        (50, 2, None, [2, 5, 43]),
        (1, 0, None, [1]),
        (1, 1, None, [1]),
        (2, 2, None, [2]),
        (6, 0, None, [1, 1, 4]),
        (6, 1, [2], [1, 2, 2, 1]),
        (6, 0, "1,2,100%", [1, 2, 3]),
        (6, 0, "2", [2, 2, 2]),
        (10, 0, ["50%"], [5, 5]),
        (3, 0, [10], [3]),
        (3, 0, ["1%"], [1, 1, 1]),
        (0, 0, None, []),
    ],
)
def test_sizes(total: int, canaries: int, given: t.Any, sizes: list[int]) -> None:
    assert sizes_of(total, canaries, given) == sizes and sum(sizes) == total
    assert [len(wave) for wave in planned([str(number) for number in range(total)], sizes)] == sizes


@pytest.mark.parametrize("given", [[0], ["0%"], ["all"], "1;2", [True], [-1], [1.5], ["10 %"], {"a": 1}])
def test_sizes_that_are_none_are_refused(given: t.Any) -> None:
    with pytest.raises(MigrationError) as caught:
        sizes_of(5, 0, given)
    assert caught.value.code == "OPTION_INVALID"


def record(seconds: t.Any = 6.0, block: t.Any = 0.0, measured: t.Any = None, outcome: str = "applied", **more: t.Any) -> dict[str, t.Any]:
    figures = {"deploy_seconds": 6.0, "longest_block": 0.0} if measured is None else measured
    deploy = {"applied": [{"name": "2_b", "seconds": seconds}], "seconds": seconds, "monitor": {"longest_block": block}}
    found = {"outcome": outcome, "sentence": "said", "deploy": deploy, "other": {"certificate": {"certificate": {"measured": figures}}}}
    return dict(found, **more)


@pytest.mark.parametrize(
    ("name", "found", "words"),
    [
        ("as rehearsed", record(), ""),
        ("three times is allowed", record(18.0), ""),
        ("more is not", record(18.1), "the deploy took 18.1 s, and 6.0 s in its rehearsal"),
        ("ten times of little is little", record(0.5, measured={"deploy_seconds": 0.05, "longest_block": 0}), ""),
        ("ten times and seconds", record(6.0, measured={"deploy_seconds": 0.5, "longest_block": 0}), "the deploy took 6.0 s"),
        ("five seconds of waiting are allowed", record(block=5.0), ""),
        ("more are not", record(block=5.1), "it kept others waiting for up to 5.1 s, and not at all in its rehearsal"),
        ("no monitor", record(block=None), ""),
        ("no figures", record(100.0, measured={}), ""),
        ("figures that are none", record(100.0, measured={"deploy_seconds": "fast", "longest_block": True}), ""),
        ("no certificate, overridden", record(100.0, other={"certificate": {"certificate": {}}}), ""),
        ("no such phase", record(100.0, other={}), ""),
        ("nothing applied", record(100.0, deploy={"applied": [], "seconds": 100.0}), ""),
        ("nothing at all", {}, ""),
    ],
)
def test_regressions(name: str, found: dict[str, t.Any], words: str) -> None:
    said = regressions(found)
    assert words in " ".join(said) and bool(said) == bool(words), (name, said)


def test_a_limit_of_ones_own() -> None:
    assert regressions(record(13.0), factor=2, slack=1) and not regressions(record(13.0), factor=2, slack=10)


WAVES = [["canary"], ["a", "b"], ["c", "d", "e"]]


def result(found: dict[str, t.Any], **more: t.Any) -> dict[str, t.Any]:
    return dict({"record": found}, **more)


GOOD, IDLE = result(record()), result(record(outcome="nothing_to_do", deploy=None))


@pytest.mark.parametrize(
    ("number", "records", "health", "targets", "words"),
    [
        (1, {"canary": GOOD}, None, [], ""),
        (2, {"a": IDLE, "b": IDLE}, None, [], ""),
        (2, {"a": GOOD, "b": result(record(outcome="rolled_back"))}, None, ["b"], "wave 2 of 3 was not passed: b"),
        (2, {"a": GOOD, "b": result(record(outcome="refused"))}, None, ["b"], "said"),
        (2, {"a": GOOD, "b": result(record(outcome="an outcome of later"))}, None, ["b"], "said"),
        (2, {"a": GOOD}, None, ["b"], "b: no record of this run"),
        (2, {}, None, ["a", "b"], "not passed: a, b"),
        (2, {"a": GOOD, "b": result(record(), failed=True)}, None, ["b"], "said"),
        (2, {"a": GOOD, "b": result(record(30.0))}, None, ["b"], "b: the deploy took 30.0 s"),
        (3, {"c": GOOD, "d": result(record(30.0)), "e": IDLE}, None, [], ""),
        (1, {"canary": GOOD}, {"migration_health_command": {"rc": 0}, "canary": {"failing": []}}, [], ""),
        (1, {"canary": GOOD}, {"migration_health_command": {"skipped": True}}, [], ""),
        (1, {"canary": GOOD}, {"migration_health_command": {"rc": 1, "stderr": "503"}}, ["canary"], "migration_health_command: the health check failed: 503"),
        (
            3,
            {"c": GOOD, "d": GOOD, "e": GOOD},
            {"migration_health_command": {"rc": 1, "stdout": "", "msg": "non-zero return code"}},
            ["c", "d", "e"],
            "ended with status 1",
        ),
        (1, {"canary": GOOD}, {"canary": {"failing": ["custom"], "text": "custom: 3 rows"}}, ["canary"], "custom: 3 rows"),
        (1, {"canary": GOOD}, {"canary": {"unreachable": True, "msg": "no route"}}, ["canary"], "no route"),
    ],
)
def test_what_stops_a_run(number: int, records: t.Any, health: t.Any, targets: list[str], words: str) -> None:
    found = verdict(WAVES, number, records, health)
    assert bool(found["stopped"]) == bool(words), found
    if words:
        assert found["stopped"]["targets"] == targets and words in " ".join([found["stopped"]["text"], *found["stopped"]["why"]]), found
        assert "STOPPED" in found["text"] and ("not touched" in found["text"]) == (number < 3)
    else:
        assert "is passed" in found["text"]


def test_what_a_wave_says() -> None:
    assert verdict(WAVES, 1, {"canary": GOOD})["text"] == "Wave 1 of 3 is passed, 1 target migrated. 5 targets left."
    idle = verdict(WAVES, 2, {"a": IDLE, "b": IDLE})
    assert idle["text"] == "Wave 2 of 3 is passed, nothing was to be done. 3 targets left." and not idle["changed"]
    check = verdict(WAVES, 2, {"a": result(record(outcome="checked")), "b": IDLE})
    assert check["text"] == "Wave 2 of 3 would begin, 1 target would be migrated (check mode). 3 targets left." and not check["changed"]
    last = verdict(WAVES, 3, {"c": GOOD, "d": result(record(30.0)), "e": IDLE})
    assert last["changed"] and last["applied"] == ["c", "d"] and last["notes"] == ["d: the deploy took 30.0 s, and 6.0 s in its rehearsal"]


@pytest.mark.parametrize(
    ("given", "database", "reason"),
    [
        ("microcare:without-rehearsal:hotfix-4711", "microcare", "hotfix-4711"),
        ("microcare without rehearsal: hotfix 4711", "microcare", "hotfix 4711"),
        ("microcare:without-rehearsal:hotfix%204711", "microcare", "hotfix 4711"),
        ("microcare:without-rehearsal:REASON", "microcare", ""),
        ("microcare:without-rehearsal:", "microcare", ""),
        ("microcare:without-rehearsal:why", "microcare", ""),
        ("microcare:without-rehearsal", "microcare", ""),
        ("other:without-rehearsal:hotfix-4711", "microcare", ""),
        ("microcare2:without-rehearsal:hotfix-4711", "microcare", ""),
        ("true", "microcare", ""),
        ("", "microcare", ""),
        ('we"ird-db; drop:without-rehearsal:said so', 'we"ird-db; drop', "said so"),
        ("we%22ird-db%3B%20drop:without-rehearsal:said-so", 'we"ird-db; drop', "said-so"),
        ("a:b:without-rehearsal:said-so", "a:b", "said-so"),
        ("microcare:without-rehearsal:a%0Ab%1b[2J", "microcare", ""),
    ],
)
def test_an_override_names_the_database_and_the_reason(given: str, database: str, reason: str) -> None:
    assert reason_given(["x:without-rehearsal:no matter", given], database) == reason


def test_the_override_that_is_shown_is_one_once_a_reason_is_in_it() -> None:
    for database in ("microcare", 'we"ird-db; drop', "ö b"):
        shown = override_step(database).split("=", 1)[1].split(" ")[0]
        assert not reason_given([shown], database) and reason_given([shown.replace("REASON", "hotfix-4711")], database) == "hotfix-4711"
