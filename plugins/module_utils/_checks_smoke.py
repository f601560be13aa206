# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""Checks that the operator brings: SQL, programs, HTTP, and the application's own role."""

from __future__ import annotations

import glob
import os
import re
import shlex
import time
import typing as t

from ansible.module_utils.urls import open_url
from ansible_collections.pgops.migrations.plugins.module_utils import _sql
from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, SKIPPED, WARN, Check, counted, names
from ansible_collections.pgops.migrations.plugins.module_utils._connection import connection, execute, psycopg2, row, rows, scrub, sql
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._process import run_child
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import without_rows
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target, parse_url

SMOKE_SQL, CUSTOM, COMMANDS, HTTP, APPLICATION = "smoke_sql", "custom", "smoke_commands", "http", "application_role"
#: Characters of a program's output that a result keeps: the end.
_TAIL = 4000
_UNREADABLE = """
SELECT format('%%I.%%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm') AND n.nspname = ANY (%s) AND c.relname <> '_prisma_migrations'
   AND NOT (has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'SELECT')) ORDER BY 1
"""


def scripts(paths: t.Sequence[str], folder: str) -> list[str]:
    """The SQL files that are named, and those of a folder in the order of their names.

    :raises MigrationError: ``OPTION_INVALID`` for what is not there.
    """
    found = list(paths)
    if folder:
        if not os.path.isdir(folder):
            raise MigrationError("%s is no folder" % folder, code="OPTION_INVALID")
        found += sorted(glob.glob(os.path.join(glob.escape(folder), "*.sql")))
    missing = [path for path in found if not os.path.isfile(path)]
    if missing:
        raise MigrationError("%s is no file" % missing[0], code="OPTION_INVALID")
    return found


def smoke_sql(target: Target, paths: t.Sequence[str], timeout: float) -> Check:
    """Every file runs without an error, in a transaction that is rolled back."""
    failed, evidence = [], []
    for path in paths:
        began = time.monotonic()
        error = _run(target, path, timeout, read_only=False)[1]
        evidence.append({"file": path, "error": error, "seconds": round(time.monotonic() - began, 3)})
        failed += ["%s: %s" % (os.path.basename(path), error)] if error else []
    return _told(SMOKE_SQL, "smoke script", len(paths), failed, evidence)


def custom(target: Target, paths: t.Sequence[str], timeout: float) -> Check:
    """The last query of every file returns no row: each row is a violation. The rows themselves are not kept."""
    failed, evidence = [], []
    for path in paths:
        began = time.monotonic()
        count, error = _run(target, path, timeout, read_only=True)
        evidence.append({"file": path, "rows": count, "error": error, "seconds": round(time.monotonic() - began, 3)})
        if error or count:
            failed.append("%s: %s" % (os.path.basename(path), error or "%s rows" % format(count, ",d")))
    return _told(CUSTOM, "check of your own", len(paths), failed, evidence, plural="checks of your own")


def _run(target: Target, path: str, timeout: float, read_only: bool) -> tuple[int, str]:
    """Rows of the last statement, and what went wrong; nothing of it lasts."""
    try:
        with open(path, encoding="utf-8-sig") as handle:
            script = handle.read()
    except (OSError, UnicodeError) as error:
        return 0, "it is not UTF-8" if isinstance(error, UnicodeError) else "it cannot be read (%s)" % error.strerror
    if "\0" in script:
        return 0, "it holds a null character"
    if not list(_sql.split(script)):
        return 0, "it holds no statement"
    if any(_sql.controls_transaction(statement) or _sql.runs_alone(statement) for statement in _sql.split(script)):
        return 0, "it begins or ends a transaction itself, so nothing could be rolled back"
    settings = {"statement_timeout": "%dms" % round(timeout * 1000), "lock_timeout": "%dms" % round(timeout * 1000)}
    with connection(target, application_name="pgops.migrations checks", settings=settings, read_only=read_only) as conn:
        if target.schema != "public":
            # Names without a schema mean what they mean in a migration.
            execute(conn, sql.SQL("SELECT set_config('search_path', concat_ws(', ', quote_ident({}), current_setting('search_path')), false)").format(
                sql.Literal(target.schema)
            ))  # fmt: skip
        conn.autocommit = False
        try:
            with conn.cursor() as cursor:
                cursor.execute(script)
                count = cursor.rowcount if cursor.description else 0
                # What a COMMIT would check is checked although there is none.
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
                return count, ""
        except psycopg2.Error as error:
            primary = getattr(error.diag, "message_primary", None) or str(error)
            return 0, without_rows(scrub(" ".join(primary.split()), target))
        finally:
            if not conn.closed:
                conn.rollback()


def smoke_commands(target: Target, commands: t.Sequence[t.Mapping[str, t.Any]], env_names: t.Sequence[str] = ("DATABASE_URL",)) -> Check:
    """Every program ends with exit code 0. It gets the database's URL by its environment, and its output is kept.

    :param commands: C(argv), a list or a line; C(chdir); C(timeout) in seconds (600); C(name).
    """
    failed, evidence = [], []
    for entry in commands:
        argv = entry.get("argv")
        try:
            argv = shlex.split(argv) if isinstance(argv, str) else [str(word) for word in argv or ()]
        except ValueError as problem:
            raise MigrationError("a smoke command cannot be split into words: %s" % problem, code="OPTION_INVALID") from None
        if not argv:
            raise MigrationError("a smoke command has no argv", code="OPTION_INVALID")
        name = str(entry.get("name") or argv[0])
        env = dict(os.environ, **{variable: target.prisma_url() for variable in env_names})
        began = time.monotonic()
        try:
            done = run_child(argv, str(entry.get("chdir") or os.getcwd()), env, float(entry.get("timeout") or 600))
            rc, output = done.returncode, scrub(done.output, target)[-_TAIL:]
            error = "did not end in time" if done.timed_out else "ended with exit code %d" % rc if rc else ""
        except OSError as problem:
            rc, output, error = None, "", "cannot be started (%s)" % problem.strerror
        evidence.append({"name": name, "argv": argv, "rc": rc, "error": error, "output": output, "seconds": round(time.monotonic() - began, 3)})
        failed += ["%s %s" % (name, error)] if error else []
    return _told(COMMANDS, "smoke command", len(commands), failed, evidence)


def http(probes: t.Sequence[t.Mapping[str, t.Any]]) -> Check:
    """Every address answers with the status and the text that are wanted.

    :param probes: C(url), C(status) (200), C(contains) (a regular expression), C(timeout) in seconds (10).
    """
    failed, evidence = [], []
    for entry in probes:
        url, wanted = str(entry.get("url") or ""), int(entry.get("status") or 200)
        if not re.match(r"https?://", url):
            raise MigrationError("the url of a probe is %s" % (url or "empty"), code="OPTION_INVALID")
        try:
            re.compile(str(entry.get("contains") or ""))
        except re.error as problem:
            raise MigrationError("contains of a probe is no regular expression: %s" % problem, code="OPTION_INVALID") from None
        began = time.monotonic()
        status, error = _probe(url, wanted, str(entry.get("contains") or ""), float(entry.get("timeout") or 10))
        # Credentials and tokens stand in URLs, too.
        shown = re.sub(r"//[^/@]*@", "//", url.split("?", 1)[0])
        evidence.append({"url": shown, "status": status, "error": error, "seconds": round(time.monotonic() - began, 3)})
        failed += ["%s %s" % (shown, error)] if error else []
    return _told(HTTP, "HTTP probe", len(probes), failed, evidence)


def _probe(url: str, wanted: int, contains: str, timeout: float) -> tuple[int | None, str]:
    try:
        answer = open_url(url, timeout=timeout, http_agent="pgops.migrations")
        status, body = answer.getcode(), answer.read(1 << 20)
    except Exception as error:  # pylint: disable=broad-except # whatever open_url raises, the probe got no answer
        status = getattr(error, "code", None)
        if status != wanted:
            return status, "answered %s instead of %d" % (status, wanted) if status else "gave no answer (%s)" % type(error).__name__
        body = error.read(1 << 20) if hasattr(error, "read") else b""
    if status != wanted:
        return status, "answered %d instead of %d" % (status, wanted)
    if contains and not re.search(contains, body.decode("utf-8", "replace")):
        return status, "answered without the text that is wanted"
    return status, ""


def application_role(url: str, target: Target, before: t.Mapping[str, t.Any] | None) -> Check:
    """The application can log in, and read every table and view of its schema.

    :param url: the application's own Prisma URL, for the same database.
    :param before: the fingerprint from before: what it has not is new, and must be readable.
    """
    application = parse_url(url)
    if application.dbname != target.dbname:
        return Check(APPLICATION, SKIPPED, "The application's URL names the database %s and not %s." % (application.dbname, target.dbname))
    if application.schema != target.schema:
        return Check(APPLICATION, SKIPPED, "The application's URL names the schema %s and not %s." % (application.schema, target.schema))
    with connection(target, read_only=True) as conn:
        mine = _place(conn)
    try:
        with connection(application, read_only=True) as conn:
            theirs = _place(conn)
            if mine and theirs and mine != theirs:
                return Check(APPLICATION, SKIPPED, "The application's URL leads to another server, or another database of the same name.")
            unreadable = [name for (name,) in rows(conn, _UNREADABLE, ([target.schema],))]
    except MigrationError as error:
        return Check(APPLICATION, FAIL, "The application cannot log in: %s: %s." % (error.code, scrub(error.msg, application)))
    views = ("view ", "materialized view ")
    known = set((before or {}).get("tables") or {}) | {
        key[len(kind) :] for key in ((before or {}).get("schema") or {}).get("objects") or {} for kind in views if key.startswith(kind)
    }
    new = [name for name in unreadable if before is not None and name not in known]
    evidence = tuple({"table": name, "new": name in new} for name in unreadable)
    if new:
        return Check(APPLICATION, FAIL, "The application may not read what is new: %s. GRANT it." % names(new), evidence)
    if unreadable:
        return Check(APPLICATION, WARN, "The application may not read %s." % names(unreadable), evidence)
    return Check(APPLICATION, PASS, "The application logs in, and may read every table of %s." % target.schema)


def _place(conn: t.Any) -> tuple[t.Any, ...] | None:
    """Which database of which cluster this is; a pooler or another name of the host make no difference. None where it is not said."""
    try:
        return row(conn, "SELECT c.system_identifier, d.oid FROM pg_control_system() c, pg_database d WHERE d.datname = current_database()")
    except psycopg2.Error:
        return None


def _told(name: str, word: str, total: int, failed: t.Sequence[str], evidence: t.Sequence[dict[str, t.Any]], plural: str = "") -> Check:  # noqa: PLR0917
    if not total:
        return Check(name, SKIPPED, "None is set.")
    if failed:
        return Check(name, FAIL, "%d of %d failed: %s." % (len(failed), total, names(failed)), tuple(evidence))
    text = counted(total, word, plural)
    return Check(name, PASS, "%s fine." % text, tuple(evidence))


__all__ = ("APPLICATION", "COMMANDS", "CUSTOM", "HTTP", "SMOKE_SQL", "application_role", "custom", "http", "scripts", "smoke_commands", "smoke_sql")
