# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What the project's own Prisma CLI says of the live schema: C(prisma migrate diff --exit-code).

It compares a database with schema.prisma. Migrations may hold what schema.prisma does not (a table of raw SQL),
so a difference counts only where the database that the migrations make has not the same one.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import tempfile
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _engine_prisma
from ansible_collections.pgops.migrations.plugins.module_utils._check import FAIL, PASS, SKIPPED, WARN, Check, names
from ansible_collections.pgops.migrations.plugins.module_utils._checks_history import replayed
from ansible_collections.pgops.migrations.plugins.module_utils._connection import scrub
from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._process import Outcome, run_child
from ansible_collections.pgops.migrations.plugins.module_utils._project import Project, read_file, strip_comments
from ansible_collections.pgops.migrations.plugins.module_utils._server_text import without_rows
from ansible_collections.pgops.migrations.plugins.module_utils._survey import Survey
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

PRISMA_DIFF = "prisma_diff"
#: One line of a summary: what it is about, and the change.
Change = tuple[str, str]
_TIMEOUT = 300.0
#: Major versions whose flags are known. Before 4 the command was young; 8 keeps its history in another way.
_OLDEST, _NEWEST, _BY_CONFIG = 4, 7, 7
_LINE = 300
_HEADER = re.compile(r"\[([+*-])\] \S")
_REFUSED = re.compile(r"is not supported when\s+defining an\s+adapter", re.I)
_NOISE = re.compile(
    r"Loaded Prisma config|Prisma schema loaded|Prisma config detected|Environment variables loaded|Datasource \"|[-✖✔] Introspect|at \S+:|Node\.js v"
)
#: What the application asks for by name.
_ASKED_FOR = re.compile(r"\[\+\] Added (?:tables|enums|column\b|variant)|\[\+\] Added$")
# An engine that is missing would be fetched. This is nobody's address.
_NOWHERE = "http://127.0.0.1:9"


@dataclasses.dataclass
class _Cli:
    """A CLI that can be asked. ``adapter``: it connects by a driver adapter, so that it cannot compare a database."""

    path: str
    version: str
    major: int
    project: Project
    schema: str
    adapter: bool = False

    def differences(self, database: Target) -> list[Change]:
        """What would make this database the one of schema.prisma, in the CLI's words.

        :raises MigrationError: ``DEPLOY_COMMAND_FAILED`` with why there is no comparison.
        """
        if not self.adapter:
            outcome = self._compare(from_database(self.major, self.schema), database)
            self.adapter = bool(_REFUSED.search(outcome.output))
        if self.adapter:
            outcome = self._by_introspection(database)
        found, reason = told(outcome.returncode, outcome.output, outcome.timed_out)
        if reason:
            raise MigrationError("Prisma %s made no comparison: %s" % (self.version, reason), code="DEPLOY_COMMAND_FAILED")
        return found

    def _compare(self, start: t.Sequence[str], database: Target) -> Outcome:
        return self._run(["migrate", "diff", *start, *to_schema(self.major, self.schema), "--exit-code"], database)

    def _by_introspection(self, database: Target) -> Outcome:
        """The CLI writes down what it sees in the database, and compares that."""
        with tempfile.TemporaryDirectory(prefix="pgops-diff-") as folder:
            seen = os.path.join(folder, os.path.basename(self.schema.rstrip(os.sep)))
            text = _copied(self.schema, seen)
            if re.search(r"previewFeatures\s*=\s*\[[^\]]*\"views\"", text):
                raise MigrationError("its CLI would write the views' files into the project", code="DEPLOY_COMMAND_FAILED")
            outcome = self._run(["db", "pull", "--schema", seen], database)
            start = from_schema(self.major, seen)
            if "P4001" in outcome.output:
                start = ["--from-empty"]
            elif outcome.returncode != 0 or outcome.timed_out:
                return dataclasses.replace(outcome, returncode=outcome.returncode or 1)
            return self._compare(start, database)

    def _run(self, arguments: t.Sequence[str], database: Target) -> Outcome:
        name = "pgops-diff %d" % os.getpid()
        # Whatever the CLI does besides, it does not write.
        env = _engine_prisma.environment(self.project, database, (), {"default_transaction_read_only": "on"}, name)
        env.update(PRISMA_ENGINES_MIRROR=_NOWHERE, PRISMA_BINARIES_MIRROR=_NOWHERE)
        env.pop("DEBUG", None)
        try:
            outcome = run_child([self.path, *arguments], self.project.app_dir, env, _TIMEOUT)
        except OSError as error:
            raise MigrationError("cannot start %s: %s" % (self.path, error.strerror), code="PRISMA_NOT_FOUND") from None
        finally:
            _engine_prisma.end_sessions(database, name)
        return dataclasses.replace(outcome, output=without_rows(scrub(outcome.output, database)))


def prisma_diff(target: Target, found: Survey, maintenance_db: str, run_id: str, lock_wait: float) -> Check:
    """The live schema is, as the CLI sees it, schema.prisma's or the one that the applied migrations make."""
    cli, reason = _cli(found.project, target)
    if cli is None:
        return Check(PRISMA_DIFF, SKIPPED, reason)
    live = cli.differences(target)
    if not live:
        return Check(PRISMA_DIFF, PASS, "Prisma %s finds no difference between the database and schema.prisma." % cli.version)
    try:
        with replayed(target, found, maintenance_db, run_id, lock_wait) as scratch:
            made = cli.differences(scratch)
    except MigrationError as error:
        text = "The database is not schema.prisma's (%s), and whether the migrations make it so cannot be told: %s: %s." % (
            names([said(change) for change in live], 3), error.code, error.msg.rstrip("."),
        )  # fmt: skip
        return Check(PRISMA_DIFF, SKIPPED, text, tuple(_entry(change, "live") for change in live))
    return judged(live, made, bool(found.report.pending))


def judged(live: t.Sequence[Change], made: t.Sequence[Change], pending: bool) -> Check:
    """The verdict on what parts a database from schema.prisma. Pure.

    :param live: of the live one. ``made``: of the one that the migrations make. ``pending``: whether some are not applied yet.
    """
    extra, missing = [change for change in live if change not in made], [change for change in made if change not in live]
    common = tuple(_entry(change, "both") for change in live if change in made)
    evidence = tuple(_entry(change, "live") for change in extra) + tuple(_entry(change, "migrations") for change in missing) + common
    if extra:
        text = "The database is not the one that the migrations make. To be schema.prisma's it needs: %s." % names([said(change) for change in extra], 3)
        return Check(PRISMA_DIFF, FAIL, text, evidence)
    if missing:
        text = "The database has what no migration makes, and schema.prisma has: %s. Next: write the migration (prisma migrate dev --create-only)."
        return Check(PRISMA_DIFF, FAIL, text % names([said(change) for change in missing], 3), evidence)
    asked = [said(change) for change in live if _ASKED_FOR.match(change[1]) or _ASKED_FOR.match(change[0])]
    if asked and not pending:
        text = "schema.prisma has what no migration makes, so the application may ask for it in vain: %s." % names(asked, 3)
        return Check(PRISMA_DIFF, WARN, "%s Next: write the migration (prisma migrate dev --create-only)." % text, evidence)
    text = "The database is the one that the migrations make; both differ from schema.prisma (%d), as raw SQL or a pending migration does." % len(live)
    return Check(PRISMA_DIFF, PASS, text, evidence)


def told(returncode: int, output: str, timed_out: bool) -> tuple[list[Change], str]:
    """The differences that the CLI printed, or why there was no comparison. Pure.

    An exit code is not enough: an engine that cannot run may end with 0.
    """
    found = changes(output)
    if not timed_out and returncode == 2 and found:
        return found, ""
    if not timed_out and returncode == 0 and not found and "No difference detected" in output:
        return [], ""
    if timed_out:
        return [], "it did not end within %d s" % _TIMEOUT
    lines = [line.strip() for line in output.splitlines() if line.strip() and not _NOISE.match(line.strip())]
    start = next((number for number, line in enumerate(lines) if re.match(r"\W*(?:\w*Error\b|P\d{4})", line)), 0)
    text = " ".join(lines[start:])
    return [], "exit code %d%s" % (returncode, ", %s" % text[:_LINE].rstrip(". ") if text else " and not a word")


def changes(output: str) -> list[Change]:
    """The lines of a summary, each with what it is about. Pure."""
    found: list[Change] = []
    header, told_of = "", True
    for line in output.splitlines():
        text = line.strip()[:_LINE]
        if _HEADER.match(line):
            found += [] if told_of else [(header, "")]
            header, told_of = text, False
        elif header and line.startswith("  ") and text:
            found.append((header, text))
            told_of = True
        elif text:
            # Behind a summary stands advice.
            found += [] if told_of else [(header, "")]
            header, told_of = "", True
    return found + ([] if told_of else [(header, "")])


def said(change: Change) -> str:
    """``Changed the `users` table: [+] Added column `x```."""
    header = change[0][4:]
    return "%s: %s" % (header, change[1].lstrip("- ")) if change[1] else header


def _entry(change: Change, where: str) -> dict[str, t.Any]:
    return {"object": change[0], "change": change[1], "where": where}


def from_database(major: int, schema: str) -> list[str]:
    """The database that the environment names, as the CLI of this version wants it said. Pure."""
    return ["--from-config-datasource"] if major >= _BY_CONFIG else ["--from-schema-datasource", schema]


def from_schema(major: int, schema: str) -> list[str]:
    """The same for a schema's models, as the beginning. Pure."""
    return ["--from-schema" if major >= _BY_CONFIG else "--from-schema-datamodel", schema]


def to_schema(major: int, schema: str) -> list[str]:
    """And as the end. Pure."""
    return ["--to-schema" if major >= _BY_CONFIG else "--to-schema-datamodel", schema]


def _cli(project: Project, target: Target) -> tuple[_Cli | None, str]:
    """The project's CLI, or why it cannot be asked."""
    if not project.schema or not os.path.exists(project.schema):
        return None, "The project has no schema.prisma."
    try:
        path = _engine_prisma.find_cli(project.app_dir)
        _engine_prisma.check_literal_url(project, target)
    except MigrationError as error:
        return None, "%s: %s." % (error.code, error.msg.rstrip("."))
    if shutil.which("node") is None:
        return None, "Node.js is not on the PATH."
    package = os.path.join(os.path.dirname(os.path.dirname(path)), "prisma", "package.json")
    try:
        version = str(json.loads(read_file(package))["version"])
        major = int(version.split(".", 1)[0])
    except (MigrationError, ValueError, KeyError, TypeError):
        return None, "%s does not say which Prisma it is." % package
    if not _OLDEST <= major <= _NEWEST:
        return None, "The project's Prisma is %s; the flags of migrate diff are known for %d to %d." % (version, _OLDEST, _NEWEST)
    # Known by its configuration, a run that would be refused is saved.
    adapter = bool(project.config and re.search(r"\badapter\b", strip_comments(read_file(project.config)))) and major < _BY_CONFIG
    return _Cli(path, version, major, project, project.schema, adapter), ""


def _copied(schema: str, dest: str) -> str:
    """Copy a schema, a file or a folder of them; all of its text without comments."""
    if os.path.isfile(schema):
        shutil.copyfile(schema, dest)
        return strip_comments(read_file(schema))
    texts = []
    for folder, _folders, files in os.walk(schema):
        for name in sorted(each for each in files if each.endswith(".prisma")):
            place = os.path.join(dest, os.path.relpath(folder, schema), name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            shutil.copyfile(os.path.join(folder, name), place)
            texts.append(strip_comments(read_file(place)))
    return "\n".join(texts)


__all__ = ("PRISMA_DIFF", "changes", "from_database", "from_schema", "judged", "prisma_diff", "said", "to_schema", "told")
