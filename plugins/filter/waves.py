# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters for the waves of C(production_migrate.yml)."""

from __future__ import annotations

import typing as t

from ansible import context
from ansible.errors import AnsibleFilterError
from ansible_collections.pgops.migrations.plugins.filter.targets import _empty, _inventory, targets
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._waves import FACTOR, SLACK, planned, sizes_of, verdict

#: A group of this name holds the canaries, unless they are named.
CANARIES = "canary"


def wave_targets(pattern: t.Any, groups: t.Mapping[str, t.Sequence[str]], limit: t.Any = "", canary: t.Any = "") -> t.Any:
    """The pattern with the canaries before the others; see wave_targets.yml."""
    wanted = targets(pattern, groups, limit)
    first = _canaries(wanted, groups, limit, canary)
    return [*first, *([wanted] if isinstance(wanted, str) else wanted)] if first else wanted


def wave_sizes(pattern: t.Any, groups: t.Mapping[str, t.Sequence[str]], limit: t.Any = "", canary: t.Any = "", sizes: t.Any = None) -> list[int]:
    """How many targets each wave has; see wave_sizes.yml."""
    if context.CLIARGS.get("syntax"):
        return [1]
    wanted = targets(pattern, groups, limit)
    try:
        return sizes_of(len(_matched(wanted, groups, limit)), len(_canaries(wanted, groups, limit, canary)), sizes)
    except MigrationError as error:
        raise AnsibleFilterError(error.result()["msg"]) from None


def waves(names: t.Sequence[str], sizes: t.Sequence[int]) -> list[list[str]]:
    """The targets of each wave; see waves.yml."""
    return planned([str(name) for name in names], [int(size) for size in sizes])


def wave_verdict(
    planned_waves: t.Sequence[t.Sequence[str]],
    number: int,
    records: t.Mapping[str, t.Any],
    health: t.Mapping[str, t.Any] | None = None,
    factor: t.Any = FACTOR,
    slack: t.Any = SLACK,
) -> dict[str, t.Any]:
    """Whether the next wave may begin; see wave_verdict.yml."""
    try:
        limits = float(factor), float(slack)
    except (TypeError, ValueError):
        raise AnsibleFilterError("OPTION_INVALID: migration_regression_factor and migration_regression_slack must be numbers") from None
    return verdict(planned_waves, int(number), records, health, *limits)


def _matched(wanted: t.Any, groups: t.Mapping[str, t.Sequence[str]], limit: t.Any) -> list[str]:
    """The hosts that the play will have, in its order."""
    inventory = _inventory(groups)
    if limit:
        inventory.subset(limit)
    return [host.name for host in inventory.get_hosts([wanted] if isinstance(wanted, str) else list(wanted))]


def _canaries(wanted: t.Any, groups: t.Mapping[str, t.Sequence[str]], limit: t.Any, canary: t.Any) -> list[str]:
    """Those of the targets that are canaries; a name that nothing in the inventory has is a mistake."""
    if context.CLIARGS.get("syntax") or not (canary or groups.get(CANARIES)):
        return []
    known = set(_matched(canary or CANARIES, groups, ""))
    if not known:
        raise _empty("migration_canary is %s, which matches no host" % canary, groups)
    return [name for name in _matched(wanted, groups, limit) if name in known]


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"wave_sizes": wave_sizes, "wave_targets": wave_targets, "wave_verdict": wave_verdict, "waves": waves}
