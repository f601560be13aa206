# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Filters for the C(hosts:) of the collection's playbooks."""

from __future__ import annotations

import typing as t

from ansible import context
from ansible.errors import AnsibleError, AnsibleFilterError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader


def targets(pattern: t.Any, groups: t.Mapping[str, t.Sequence[str]], limit: t.Any = "") -> t.Any:
    """The pattern as it came, when it matches a host; see targets.yml.

    :raises AnsibleFilterError: ``TARGETS_EMPTY``.
    """
    if not isinstance(pattern, (str, list, tuple)):
        raise AnsibleFilterError("TARGETS_EMPTY: the pattern is %r and not a text or a list" % (pattern,))
    if context.CLIARGS.get("syntax"):
        # Whether a playbook is well written does not depend on an inventory, and linters ask without one.
        return pattern
    wanted = [pattern] if isinstance(pattern, str) else list(pattern)
    if not any(str(part).strip(" ,:") for part in wanted):
        raise _empty("the pattern is empty", groups)
    inventory = _inventory(groups)
    try:
        matched = inventory.get_hosts(wanted)
        if matched and limit:
            # By Ansible's own rules, @file and ~regex included.
            inventory.subset(limit)
            left = inventory.get_hosts(wanted)
            if not left:
                raise _empty("%s matches %d, but --limit %s leaves none of them" % (_shown(wanted), len(matched), limit), groups)
    except AnsibleFilterError:
        raise
    except AnsibleError as error:
        raise _empty("%s: %s" % (_shown(wanted), error), groups) from error
    if not matched:
        raise _empty("%s matches no host" % _shown(wanted), groups)
    return pattern


def _inventory(groups: t.Mapping[str, t.Sequence[str]]) -> InventoryManager:
    """Groups and hosts as the playbook sees them; variables play no part in a pattern."""
    inventory = InventoryManager(loader=DataLoader(), sources=None, parse=False)
    for host in groups.get("all", ()):
        inventory.add_host(str(host), "all")
    for name, hosts in groups.items():
        group = inventory.add_group(str(name))
        for host in hosts:
            inventory.add_host(str(host), group)
    return inventory


def _shown(wanted: t.Sequence[t.Any]) -> str:
    return ",".join(str(part) for part in wanted)


def _empty(why: str, groups: t.Mapping[str, t.Sequence[str]]) -> AnsibleFilterError:
    known = ["%s (%d)" % (name, len(hosts)) for name, hosts in sorted(groups.items()) if hosts and name not in ("all", "ungrouped")]
    listed = ", ".join(known[:20]) + (" and %d more" % (len(known) - 20) if len(known) > 20 else "")
    step = "check -e migration_targets=..., --limit and -i against: ansible-inventory --graph"
    return AnsibleFilterError("TARGETS_EMPTY: %s. Known groups: %s. Next: %s." % (why, listed or "none with a host", step))


class FilterModule:
    """The filters of this file."""

    def filters(self) -> dict[str, t.Callable[..., t.Any]]:
        return {"targets": targets}
