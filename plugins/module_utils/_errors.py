# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""The one error type of the collection, and the register of its codes.

A code is part of the public interface: operators grep for it, playbooks branch on
it, docs/errors.md explains it. Codes are added, never renamed.
"""

from __future__ import annotations

import typing as t

#: code -> (what it means, the next thing to do). Placeholders are not used: a next
#: step that needs a name is given by the place that raises the error.
CODES: dict[str, tuple[str, str]] = {
    # --- input -----------------------------------------------------------------
    "URL_INVALID": (
        "the database URL cannot be read",
        "write it as postgresql://user:password@host:5432/database, every special character of the password percent-encoded (@ is %40)",
    ),
    "URL_NOT_DIRECT": (
        "the URL names a proxy and not a PostgreSQL server",
        "use the direct postgresql:// URL of the database",
    ),
    "CONNECTION_OPTIONS": (
        "the connection options contradict each other or name no database",
        "set migration_database_url (database_url of a module), or login_db with login_host/login_user/login_password",
    ),
    "NAME_UNUSABLE": (
        "a name cannot be used for a database, a schema or a file",
        "choose a name of 1 to 63 bytes without control characters",
    ),
    "OPTION_INVALID": ("an option has a value that cannot work", "correct the option named in the message"),
    # --- reaching the server ---------------------------------------------------
    "SERVER_UNREACHABLE": (
        "no PostgreSQL server answers at this address",
        "check host, port, firewall and that the server runs: pg_isready -h HOST -p PORT",
    ),
    "AUTH_FAILED": ("the server refused the user or the password", "check user and password, and the server's pg_hba.conf"),
    "DATABASE_MISSING": (
        "the database does not exist; prisma migrate deploy would create it, this collection does not",
        "check the name in the URL; list the databases with: psql -l",
    ),
    "TOO_MANY_CONNECTIONS": ("the server has no free connection slot", "close idle connections or stop the application's pool, then run again"),
    "TLS_FAILED": ("the encrypted connection could not be made as demanded", "check ssl_mode, ca_cert and the server's certificate"),
    "CONNECTION_LOST": ("the connection to the server ended in the middle of the work", "check that the server runs, then run again; the state is read anew"),
    "PERMISSION_DENIED": (
        "the role lacks a right that the step needs",
        "grant the right named in the message, or connect as the owner of the database; where row-level security is named: ALTER ROLE name BYPASSRLS",
    ),
    "MAINTENANCE_DB_UNREACHABLE": (
        "the maintenance database cannot be reached, so the lock that keeps two runs apart cannot be taken",
        "name a database on the same server that this role may connect to: -e migration_maintenance_db=NAME (maintenance_db of a module)",
    ),
    "NOT_PRIMARY": ("the server is a standby or the database is read-only", "connect to the primary"),
    "WRONG_TARGET": ("this is not the server or database that was expected", "check the inventory: the URL points elsewhere"),
    "SERVER_TOO_OLD": ("the server is older than PostgreSQL 14", "use PostgreSQL 14 or newer"),
    "SQL_ERROR": ("a statement failed on the server", "read the server's message and SQLSTATE"),
    # --- the project folder ----------------------------------------------------
    "PROJECT_MISSING": (
        "the project folder does not exist or cannot be read",
        "name the folder with package.json and prisma/: -e migration_app_dir=FOLDER (app_dir of a module)",
    ),
    "MIGRATIONS_DIR_MISSING": (
        "there is no migrations folder where the Prisma CLI would look",
        "name it with -e migration_migrations_dir=FOLDER, or the folder with prisma/schema.prisma with -e migration_app_dir=FOLDER (migrations_dir, app_dir)",
    ),
    "NOT_A_MIGRATIONS_DIR": (
        "the folder holds no Prisma migration",
        "name the folder whose subfolders hold migration.sql: -e migration_migrations_dir=FOLDER (migrations_dir of a module)",
    ),
    "PROVIDER_MISMATCH": ("migration_lock.toml does not name postgresql the way Prisma reads it", 'write the line: provider = "postgresql"'),
    "MIGRATION_FILE_MISSING": ("a migration folder has no migration.sql", "restore the file or remove the empty folder"),
    # --- the ledger --------------------------------------------------------------
    "SCHEMA_MISSING": ("the schema of the URL does not exist", "check the schema parameter of the URL"),
    "LEDGER_UNREADABLE": ("the table _prisma_migrations exists but this role may not read it", "grant SELECT on _prisma_migrations to the role"),
    "LEDGER_MALFORMED": ("the table _prisma_migrations has not the columns that Prisma writes", "look at the table: another tool may have made it"),
    "UNFINISHED_MIGRATION": (
        "a migration is recorded as started and not finished; Prisma refuses to deploy (P3009)",
        "see what it left and clear it, do not retry blindly: ansible-playbook playbooks/rollback.yml -e migration_targets=HOST",
    ),
    "MIGRATION_RUNNING": ("another session is applying a migration now", "wait for it to end; its pid is in the result"),
    "HISTORY_DIVERGED": (
        "the ledger and the migrations folder disagree (edited, missing or out of order)",
        "check out the revision that was deployed, or allow it by name: -e migration_allow=NAME (allow of migration_deploy)",
    ),
    "POOLER": (
        "a connection pooler stands between this host and the server; locks and settings of a session do not survive it",
        "use the direct URL of the database, not that of the pooler",
    ),
    "UNMANAGED_DATABASE": ("the schema has tables but no ledger; Prisma refuses to deploy (P3005)", "baseline it first: prisma migrate resolve --applied NAME"),
    "LEDGER_MOVED": ("the ledger changed between the check and the deploy", "run the playbook again: it reads the new state"),
    "REHEARSAL_OUTDATED": (
        "what was rehearsed is not what is there now: the ledger, the schema or the migrations moved since the restore point, or meanwhile",
        "take a restore point and rehearse again: rehearse.yml does both",
    ),
    "RECOVERY_SCRIPT_FAILED": (
        "the script that was to clear a half-applied migration failed or did not lead where it should; it was rolled back",
        "read the server's message; go back to a restore point: rollback.yml",
    ),
    "RECOVERY_UNPROVED": (
        "nothing proves what an unfinished migration left, so nothing is recorded",
        "look at the evidence; give -e migration_assert_sql=QUERY for its data part, or decide: migration_resolve with require_proof false and confirm",
    ),
    "RESOLVE_REFUSED": ("Prisma refuses to record this migration so (P3008, P3012)", "read the state with status.yml (migration_info)"),
    "UNKNOWN_MIGRATION": ("a migration that was named does not exist in the folder", "check the name; status.yml (migration_info) reads them"),
    # --- taking a schema back ------------------------------------------------------
    "REPLAY_FAILED": (
        "a migration of the folder cannot be applied to an empty database; the live database was not touched",
        "read the server's message; what the migrations need and do not make themselves must exist in template0 or on the server",
    ),
    "REVERSE_EMPTY": ("there is nothing that a reverse migration could undo", "check the names; status.yml (migration_info) reads the applied migrations"),
    "REVERSE_EXISTS": ("a migration folder of that name exists already", "choose another name"),
    "REVERSE_UNPROVED": (
        "the reverse migration does not bring back exactly the schema of before, fails on the data that is there now, or may lose values; nothing was written",
        "read differences and obstacles in the result; write it with -e restore_accept_unproved=true and mend it by hand, or go back to a restore point",
    ),
    "SCHEMA_DRIFT": (
        "the database's schema is not what its migrations make",
        "look at the differences in the result; put them into a migration, undo them, or set allow_drift of migration_reverse",
    ),
    # --- deploying ---------------------------------------------------------------
    "LOCKED": ("another run holds the lock of this database", "wait for the run named in the message to end"),
    "PRISMA_NOT_FOUND": (
        "the Prisma CLI of the project is not installed",
        "run npm ci in the project folder, or set -e migration_engine=direct (engine of a module)",
    ),
    "DEPLOY_COMMAND_FAILED": ("the deploy command failed before it changed the ledger", "read its output in the result"),
    "DEPLOY_TIMEOUT": (
        "the deploy command took longer than allowed and was ended",
        "raise migrate_deploy_timeout (timeout of migration_deploy), or look what it waited for",
    ),
    "MIGRATION_FAILED": ("a migration failed; the state after it is in the result", "read error and state; roll back or resolve"),
    "MIGRATION_FAILED_CLEAN": (
        "a migration failed and left nothing behind",
        "mend the cause, mark it rolled back (prisma migrate resolve --rolled-back NAME), deploy again",
    ),
    "MIGRATION_FAILED_PARTIAL": (
        "a migration failed half applied",
        "go back to the restore point from before: rollback.yml (staging_migrate.yml does it by itself)",
    ),
    "DEPLOY_KILLED": (
        "the process that deployed on the target ended without a result; the state after it is in the result",
        "look who ended it (the kernel's log tells of memory), then run again; the state is read anew",
    ),
    "JOB_UNWRITABLE": (
        "the deploy could not be started apart from its connection, so nothing was begun",
        "mend the folder named in the message, or name another: -e migrate_deploy_journal_dir=FOLDER; -e migrate_deploy_detach=false does without",
    ),
    "DEPLOY_INCOMPLETE": (
        "the deploy command ended without an error, but the ledger does not hold exactly the expected migrations",
        "check that the project's configuration reads the URL from the environment and finds the migrations folder",
    ),
    "LOCK_TIMEOUT": ("a statement waited longer than lock_timeout for a lock", "find the blocker (it is in the result where it was seen) and run again"),
    "BLOCKED_TOO_LONG": (
        "a migration blocked the application, or waited for a lock, for longer than allowed; it left nothing and is recorded as rolled back",
        "run it in a maintenance window with -e migrate_deploy_on_blocked=wait (on_blocked of migration_deploy), or split the migration",
    ),
    "STATEMENT_TIMEOUT": (
        "a statement ran longer than statement_timeout",
        "raise migrate_deploy_statement_timeout (statement_timeout of migration_deploy), or split the migration",
    ),
    # --- restore points ------------------------------------------------------------
    "PROGRAM_MISSING": (
        "a PostgreSQL client program was not found",
        "install the PostgreSQL client programs, or name their folder: -e migration_pg_bin_dir=FOLDER (pg_bin_dir of a module)",
    ),
    "CLIENT_TOO_OLD": (
        "the client program is older than the server",
        "install client programs at least as new as the server, or name their folder: -e migration_pg_bin_dir=FOLDER (pg_bin_dir of a module)",
    ),
    "BACKUP_DIR_UNSAFE": (
        "the backup folder is not a private folder of this user",
        "use a folder with mode 0700 that this user owns: -e migration_backup_dir=FOLDER (backup_dir of a module)",
    ),
    "BACKUP_FAILED": ("the backup did not come to its end; nothing was deployed", "read the program's message"),
    "DISK_FULL": ("there is not enough room", "free space at the place named in the message"),
    "BACKUP_IN_USE": ("another process reads or restores this restore point", "wait until it ends, then run again"),
    "REMOVAL_FAILED": (
        "a restore point could not be removed as a whole; it counts as one no more",
        "remove the cause named in the message, then run backup.yml again (or database_backup_retention)",
    ),
    "MASKING_FAILED": (
        "the copy could not be masked, so nobody was let in and it was dropped",
        "correct the SQL file at the line named in the message; try it with psql -1 -f FILE on a scratch database, then run again",
    ),
    "DRILL_IMPOSSIBLE": ("this restore point cannot be tried out", "drill a dump; rehearse an external restore point with its own tool"),
    "EXTERNAL_TOOL_FAILED": ("the external backup tool failed; no restore point was recorded", "read the tool's output in the result and its own log"),
    "EXTERNAL_BACKUP_MISSING": (
        "the external tool ended without an error, but lists no new backup; no restore point was recorded",
        "compare what take and list do: they must work on the same repository",
    ),
    "BACKUP_NOT_FOUND": (
        "there is no restore point here",
        "give the absolute path of a folder with a manifest.json; they lie in BACKUP_DIR/DATABASE/ (migration_restore_point, restore_drill_point)",
    ),
    "BACKUP_FORMAT": (
        "this is no restore point of this collection, or its manifest cannot be read",
        "choose a folder with a manifest.json that the role backup made",
    ),
    "BACKUP_CORRUPT": ("a file of the restore point is not what its manifest says", "do not use it; choose another restore point"),
    "BACKUP_FOREIGN": ("the restore point belongs to another database or server", "choose a restore point of this database"),
    "VERSION_MISMATCH": (
        "the archive was written by a newer PostgreSQL than can be read here",
        "use client programs and a server at least as new as the archive",
    ),
    "GLOBALS_FAILED": (
        "the roles of the server could not be written beside the dump",
        "read the program's message, or leave them out: -e backup_globals=false (globals of database_backup)",
    ),
    "DECRYPTION_FAILED": (
        "an encrypted restore point cannot be decrypted; nothing was changed",
        "give the secret key of one of its recipients: -e migration_identity_file=FILE for age, -e migration_gpg_home=FOLDER for gpg (identity_file, gpg_home)",
    ),
    "SIGNING_FAILED": (
        "the manifest cannot be signed, so there is no restore point",
        "check that the secret key is in migration_gpg_home (gpg_home of a module), and that its agent gives it out",
    ),
    "SIGNATURE_MISSING": (
        "a signature was demanded, and the restore point has none",
        "choose a signed restore point, or do not demand one (migration_signed_by, signed_by of a module)",
    ),
    "SIGNATURE_INVALID": ("the restore point is not signed by the key that was demanded", "do not use it; choose another restore point"),
    "RESTORE_PREREQUISITE": ("something that the archive needs is not on this server", "create what is named in the message, then run again"),
    "RESTORE_FAILED": ("the restore into the staging database failed; the live database was not touched", "read the program's message"),
    "FINGERPRINT_DISTURBED": ("a table was rewritten (TRUNCATE, ALTER TABLE, VACUUM FULL) while it was read", "run again when nobody changes the schema"),
    "FINGERPRINT_MISMATCH": ("what was restored is not what was backed up; the live database was not touched", "look at the differences in the result"),
    "ROLLBACK_UNDECIDED": (
        "the state leads to no single way back",
        "name what to undo (-e migration_undo), the restore point (-e migration_restore_point) or the way (-e migration_route)",
    ),
    "ROLLBACK_IMPOSSIBLE": (
        "the way back that was asked for does not fit the state of the database",
        "look at the state: ansible-playbook playbooks/status.yml",
    ),
    "COPY_REFUSED": (
        "the database cannot be copied now, or the name is not that of one of its snapshots; nothing was changed",
        "remove the obstacle named in the message",
    ),
    "COPY_FAILED": ("the copy did not come to its end; the database that was to be copied is as it was", "read the server's message"),
    "SWAP_REFUSED": ("the database cannot be swapped now; nothing was changed", "remove the obstacle named in the message"),
    "SWAP_FAILED": ("the swap did not happen; the live database was not touched", "end the sessions named in the result and run again"),
    "NOT_KEPT": (
        "this is no kept database of the target, or not the one that was meant; nothing was changed",
        "list them with kept.yml (kept_database_info), and give name and OID as it shows them: -e migration_kept=NAME -e migration_kept_oid=NUMBER (name, oid)",
    ),
    "KEPT_IN_USE": ("there are sessions or transactions in the kept database; it was not dropped", "end what the message names, then run again"),
    "SALVAGE_EXISTS": (
        "the folder for the salvage is there already and holds something else; nothing was written",
        "name a folder that does not exist: -e migration_salvage_dir=FOLDER (salvage_dir of kept_database)",
    ),
    "SESSIONS_REMAIN": (
        "sessions that must not be there are still alive",
        "wait for them to end, or end those that the message names, then run again; a snapshot can end them: -e backup_snapshot_sessions=end",
    ),
    "CONFIRMATION_MISSING": (
        "a destructive step was not confirmed",
        "look at what the message shows, then type the confirmation: -e migration_confirm (confirm of a module)",
    ),
    "DATA_LOSS": ("rows or objects are gone or changed that no migration explains", "look at the findings; roll back if they are real"),
    "CHECK_FAILED": ("a check after the deploy failed", "look at the failed checks in the report"),
    # --- certificates of rehearsals ------------------------------------------------
    "CERTIFICATE_MISSING": (
        "no rehearsal has certified the pending migrations for this target; nothing was touched",
        "rehearse them: ansible-playbook playbooks/rehearse.yml -e migration_targets=HOST",
    ),
    "CERTIFICATE_STALE": (
        "the certificate is older than allowed (migration_certificate_max_days), or dated in the future; nothing was touched",
        "rehearse again: ansible-playbook playbooks/rehearse.yml -e migration_targets=HOST",
    ),
    "CERTIFICATE_MISMATCH": (
        "the certificate is about another migration set, another ledger head, another schema or another server; nothing was touched",
        "rehearse what is pending now: ansible-playbook playbooks/rehearse.yml -e migration_targets=HOST",
    ),
    "CERTIFICATE_INVALID": (
        "the file of the certificate is damaged, was changed after it was written, or can be written by others; nothing was touched",
        "do not trust it; rehearse again: ansible-playbook playbooks/rehearse.yml -e migration_targets=HOST",
    ),
    "CERTIFICATE_UNSIGNED": (
        "a signature was demanded (migration_certificate_signed_by), and the certificate has none of that key; nothing was touched",
        "rehearse again with the key: ansible-playbook playbooks/rehearse.yml -e migration_targets=HOST -e migration_certificate_sign_with=FINGERPRINT",
    ),
    "CERTIFICATE_UNWRITABLE": (
        "the certificate cannot be written",
        "mend the folder named in the message, or name another with mode 0700: -e migration_certificate_dir=FOLDER (certificate_dir of a module)",
    ),
    # --- the run -------------------------------------------------------------------
    "TARGETS_EMPTY": ("no target matches", "check migration_targets and --limit against: ansible-inventory --graph"),
    "TARGET_UNREACHABLE": (
        "the host of the target does not answer, or the connection to it was lost",
        "mend the connection to its host, then run the same playbook again: what is done is not done twice",
    ),
    "WRONG_ENVIRONMENT": (
        "the target is not said to be of the environment that this playbook is for; nothing was touched",
        "say so in the inventory, group_vars/production.yml: migration_environment: production",
    ),
    "RECORD_UNWRITABLE": (
        "the run record cannot be written",
        "check the folder named in the message; another one: -e migration_reports_dir=FOLDER (reports_dir of a module)",
    ),
    "PSYCOPG2_MISSING": ("psycopg2 is not installed for this Python", "install psycopg2-binary for the interpreter named in the message"),
    "INTERNAL": ("the collection made a mistake", "report it with the output of -vvv"),
}


class MigrationError(Exception):
    """A failure that an operator can act on.

    :param msg: one sentence: what is wrong, with the names of the things concerned.
    :param code: a key of :data:`CODES`.
    :param next_step: what to type or do next; defaults to the code's own.
    :param facts: the state that was observed; returned with the failure. No secrets.
    """

    def __init__(self, msg: str, *, code: str, next_step: str | None = None, **facts: t.Any) -> None:
        if code not in CODES:
            raise KeyError("unregistered error code %s" % code)
        super().__init__(msg)
        self.msg = msg
        self.code = code
        self.next_step = next_step or CODES[code][1]
        self.facts = facts

    def result(self) -> dict[str, t.Any]:
        """The failure as module result: C(msg) is the one line that an operator reads."""
        return dict(
            self.facts,
            code=self.code,
            next_step=self.next_step,
            msg="%s: %s. Next: %s." % (self.code, self.msg.rstrip("."), self.next_step.rstrip(".")),
        )


__all__ = ("CODES", "MigrationError")
