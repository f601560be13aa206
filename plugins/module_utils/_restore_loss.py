# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the live database has and will not have after a restore. Reads only."""

from __future__ import annotations

import contextlib
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._comparison import compare
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._fingerprint import take
from ansible_collections.pgops.migrations.plugins.module_utils._kept import entered
from ansible_collections.pgops.migrations.plugins.module_utils._lock import maintenance_connection
from ansible_collections.pgops.migrations.plugins.module_utils._loss import Loss, by_fingerprints, measure, sessions_to_cut, unknown
from ansible_collections.pgops.migrations.plugins.module_utils._manifest import Manifest, plain
from ansible_collections.pgops.migrations.plugins.module_utils._pgprograms import Program
from ansible_collections.pgops.migrations.plugins.module_utils._restore_common import RestoreOptions
from ansible_collections.pgops.migrations.plugins.module_utils._rowsource import ArchiveRows, moment, pinned
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

#: A table that is locked for longer shall not hold up a rescue.
LOCK_TIMEOUT = "5s"


def loss_to_archive(target: Target, manifest: Manifest, program: Program, options: RestoreOptions, exact: bool = True) -> tuple[Loss, bool]:
    """The loss, and whether nothing differs at all.

    :param exact: read the rows of the tables that differ; else only tell which tables do, by their number of rows and their hash.

    It must not stand in the way of a rescue: when live cannot be read, that is said instead.
    """
    then = ArchiveRows(program, options.restore_point, manifest, target, options.decryption, options.name("check"))
    try:
        with moment(target, None, options.name("check"), {"lock_timeout": LOCK_TIMEOUT}) as conn:
            live = plain(take(conn, columns_from=manifest.fingerprint))
            with pinned(conn) as rows:
                then_fingerprint = manifest.expected(live)
                loss = measure(then, rows, then_fingerprint, live) if exact else by_fingerprints(rows, then_fingerprint, live)
    except MigrationError as error:
        return unknown(error.msg, manifest.fingerprint), False
    return loss, loss["known"] and not loss["differences"]


def differs(target: Target, manifest: Manifest, options: RestoreOptions) -> bool:
    """Whether the live database is surely not as in the manifest, by what costs little: schema, sequences, numbers of rows."""
    try:
        for level in ("schema", "counts"):
            with moment(target, None, options.name("check"), {"lock_timeout": LOCK_TIMEOUT}) as conn:
                live = plain(take(conn, level=level, columns_from=manifest.fingerprint))
            if compare(manifest.expected(live), live):
                return True
    except MigrationError:
        # Whoever reads all of it says why it cannot be read.
        return False
    return False


def loss_to_sibling(target: Target, name: str, options: RestoreOptions) -> tuple[Loss, bool, dict[str, t.Any] | None]:
    """The same for a database that is there, and its fingerprint."""
    settings = {"lock_timeout": LOCK_TIMEOUT}
    try:
        with contextlib.ExitStack() as stack:
            lock = stack.enter_context(contextlib.closing(maintenance_connection(target, options.maintenance_db, options.run_id)))
            then_conn = stack.enter_context(entered(lock, target, name, options.name("check"), settings))
            then = plain(take(then_conn))
            with moment(target, None, options.name("check"), settings) as conn:
                live = plain(take(conn, columns_from=then))
                with pinned(then_conn) as then_rows, pinned(conn) as rows:
                    loss = measure(then_rows, rows, then, live)
    except MigrationError as error:
        return unknown(error.msg), False, None
    return loss, loss["known"] and not loss["differences"], then


def not_measured(target: Target, options: RestoreOptions) -> Loss:
    """What a run that was confirmed says instead; the sessions cost nothing."""
    loss = dict(unknown("it was shown before it was confirmed; all of it is in the kept database"), measured=False)
    with contextlib.suppress(MigrationError), moment(target, None, options.name("check")) as conn, pinned(conn) as rows:
        loss["sessions"] = sessions_to_cut(rows)
    return loss


__all__ = ("LOCK_TIMEOUT", "differs", "loss_to_archive", "loss_to_sibling", "not_measured")
