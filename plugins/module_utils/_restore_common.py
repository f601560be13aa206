# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What every way back by an exchange of databases shares: options, durations, the confirmation."""

from __future__ import annotations

import contextlib
import dataclasses
import time
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._archive import Decryption
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target


@dataclasses.dataclass(frozen=True)
class RestoreOptions:
    """Options of database_restore; times in seconds.

    One of ``restore_point`` (a dump's folder) and ``from_database`` (a snapshot or a kept
    database) names what to go back to.
    """

    restore_point: str = ""
    from_database: str = ""
    confirm: str = ""
    force: bool = False
    loss: str = "auto"
    jobs: int = 4
    pg_bin_dir: str = ""
    maintenance_db: str = "postgres"
    lock_wait: float = 30.0
    run_id: str = ""
    identity_file: str = ""
    gpg_home: str = ""
    signed_by: str = ""

    @property
    def decryption(self) -> Decryption:
        """How an encrypted archive is opened."""
        return Decryption(identity_file=self.identity_file, gpg_home=self.gpg_home)

    def name(self, what: str) -> str:
        """The application_name of our sessions."""
        return ("pgops.migrations %s %s" % (what, self.run_id)).strip()


def demand_options(target: Target, options: RestoreOptions) -> None:
    """:raises MigrationError: ``OPTION_INVALID``."""
    if options.jobs < 1:
        raise MigrationError("jobs is %d" % options.jobs, code="OPTION_INVALID")
    if bool(options.restore_point) == bool(options.from_database):
        raise MigrationError("give either restore_point or from_database", code="OPTION_INVALID")
    if options.maintenance_db == target.dbname:
        raise MigrationError("maintenance_db is %s itself; it must be another database" % target.dbname, code="OPTION_INVALID")


@contextlib.contextmanager
def timed(seconds: dict[str, float], phase: str) -> t.Iterator[None]:
    """Write the duration of the block into ``seconds``."""
    began = time.monotonic()
    try:
        yield
    finally:
        seconds[phase] = round(time.monotonic() - began, 3)


def size(fingerprint: t.Mapping[str, t.Any]) -> dict[str, int]:
    """Number of tables and rows."""
    tables = fingerprint.get("tables") or {}
    return {"tables": len(tables), "rows": sum(int(table.get("rows") or 0) for table in tables.values())}


def demand_confirmed(options: RestoreOptions, confirmation: str, loss: t.Mapping[str, t.Any]) -> None:
    """:raises MigrationError: ``CONFIRMATION_MISSING`` with the loss and the text to type."""
    if options.confirm == confirmation:
        return
    said = 'confirmed with "%s"' % options.confirm if options.confirm else "not confirmed"
    raise MigrationError(
        'the restore was %s; it will %s To confirm, set confirm to exactly "%s"' % (said, loss_text(loss), confirmation),
        code="CONFIRMATION_MISSING",
        next_step='look at the loss, then confirm it: confirm: %s; with rollback.yml: -e \'{"migration_confirm": "%s"}\'' % (confirmation, confirmation),
        loss=loss,
        confirmation=confirmation,
    )


def loss_text(loss: t.Mapping[str, t.Any]) -> str:
    """The loss summary in one line."""
    if not loss["known"]:
        return "replace the database, whose present content could not be read (%s)." % loss["reason"]
    if not loss["differences"]:
        return "set the database back (nothing differs)."
    more = "" if len(loss["texts"]) <= 10 else " And %d more differences." % (len(loss["texts"]) - 10)
    return "set the database back, and lose this: %s%s" % (" ".join(loss["texts"][:10]), more)


__all__ = ("RestoreOptions", "demand_confirmed", "demand_options", "loss_text", "size", "timed")
