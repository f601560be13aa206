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
from ansible_collections.pgops.migrations.plugins.module_utils._loss_table import effect, source_of, told
from ansible_collections.pgops.migrations.plugins.module_utils._typed import confirm_step, is_confirmed, said, to_type
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


def demand_confirmed(options: RestoreOptions, confirmation: str, result: t.Mapping[str, t.Any]) -> None:
    """:raises MigrationError: ``CONFIRMATION_MISSING`` with the loss and the text to type."""
    database, loss = str(result["database"]), result["loss"]
    if is_confirmed(options.confirm, confirmation, database):
        return
    raise MigrationError(
        "the restore was %s; it will %s" % (said(options.confirm, database), loss_text(loss, source_of(result))),
        code="CONFIRMATION_MISSING",
        next_step=confirm_step(to_type(confirmation, database)),
        loss=told(loss),
        database=database,
        warnings=list(result["warnings"]),
        restore_point=result["restore_point"],
        confirmation=to_type(confirmation, database),
    )


def loss_text(loss: t.Mapping[str, t.Any], source: str) -> str:
    """The loss summary in one line."""
    if not loss["known"]:
        return "replace the database, whose present content could not be read (%s)." % loss["reason"]
    if loss.get("gone"):
        return "make it anew from %s. %s" % (source, loss["texts"][0])
    if not loss["differences"]:
        return "set the database back to %s (nothing differs)." % source
    texts = [effect(str(text)) for text in loss["texts"]]
    more = "" if len(texts) <= 10 else " And %d more differences." % (len(texts) - 10)
    # Rows that are added in live are lost, removed ones come back, whichever of the two is the older.
    return "set the database back to %s. Compared with that the live database has: %s%s" % (source, " ".join(texts[:10]), more)


__all__ = ("RestoreOptions", "demand_confirmed", "demand_options", "loss_text", "size", "timed")
