# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the next C(prisma migrate deploy) would do. Pure: folder and facts in.

Held by a differential test against the real CLI over generated histories.
"""

from __future__ import annotations

import dataclasses
import re
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._folder import Folder
from ansible_collections.pgops.migrations.plugins.module_utils._ledger import Facts

NOTHING, APPLY, REFUSE, CREATE = "nothing", "apply", "refuse", "create_database"


@dataclasses.dataclass(frozen=True)
class Deploy:
    """The prediction.

    ``action``: C(nothing), C(apply), C(refuse), or C(create_database) (a missing database
    would be created: a typo gives a fresh, wrong one). ``migrations`` are applied in this
    order; with a ``code`` after them it stops there with that error of Prisma's.
    """

    action: str
    migrations: tuple[str, ...] = ()
    code: str | None = None
    why: str = ""

    def as_dict(self) -> dict[str, t.Any]:
        return dict(dataclasses.asdict(self), migrations=list(self.migrations))


def provider(lock: str) -> str | None:
    """The provider as Prisma's engine reads it from the text of migration_lock.toml.

    It takes the first line that starts with C(provider) and cuts exactly C(provider = )
    off its start and quotes off both ends; any other spacing is another provider to it.
    None when there is no such line, which the engine takes for a mismatch as well.
    """
    for line in lock.split("\n"):
        if line.startswith("provider"):
            rest = line.rstrip("\r")
            while rest.startswith("provider = "):
                rest = rest[len("provider = ") :]
            return re.sub(r'^"+|"+$', "", rest)
    return None


def unapplied(folder: Folder, facts: Facts) -> list[str]:
    """The names that deploy would run: those without a row that is not rolled back."""
    done = {row.migration_name for row in facts.rows if row.rolled_back_at is None}
    return [name for name in folder.names if name not in done]


def predict_deploy(folder: Folder, facts: Facts) -> Deploy:
    """What C(prisma migrate deploy) would do now."""
    if not facts.database_exists:
        return Deploy(CREATE, folder.names, "P1003", "the database does not exist; prisma migrate deploy would create it")
    if folder.lock is not None and provider(folder.lock) != "postgresql":
        return Deploy(REFUSE, (), "P3019", "Prisma reads the provider of migration_lock.toml as %s" % (provider(folder.lock) or "missing"))
    if not facts.ledger_exists and facts.tables:
        return Deploy(REFUSE, (), "P3005", "the schema has %d tables and no ledger" % facts.tables)
    unfinished = [row.migration_name for row in facts.rows if row.finished_at is None and row.rolled_back_at is None]
    if unfinished:
        return Deploy(REFUSE, (), "P3009", "unfinished in the ledger: %s" % ", ".join(dict.fromkeys(unfinished)))
    names = unapplied(folder, facts)
    if not names:
        return Deploy(NOTHING, (), None, "no pending migration")
    files = folder.by_name()
    for index, name in enumerate(names):
        if files[name].sql is None:
            return Deploy(APPLY if index else REFUSE, tuple(names[:index]), "P3015", "%s has no migration.sql" % name)
    return Deploy(APPLY, tuple(names), None, "")


__all__ = ("APPLY", "CREATE", "NOTHING", "REFUSE", "Deploy", "predict_deploy", "provider", "unapplied")
