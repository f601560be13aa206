# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The adapter for external backup tools: with the real pgBackRest, and with tools that lie."""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
import shutil
import stat
import subprocess
import sys
import tempfile
import typing as t

import psycopg2
import pytest
from ansible_collections.pgops.migrations.plugins.module_utils._external_list import differs, read_listing
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target
from support.restorepoints import execute, filled, until

from tools.pgserver import Cluster

#: A tool that keeps its backups in a folder: take DIR, lie DIR, list DIR [json SYSTEM].
TOOL = """
import json, os, sys, time
what, folder = sys.argv[1:3]
if what == "take":
    open(os.path.join(folder, "b%d" % len(os.listdir(folder))), "w").close()
elif what == "expire":
    os.unlink(os.path.join(folder, sorted(os.listdir(folder))[0]))
elif what == "fail":
    print("half done", file=sys.stderr)
    sys.exit(7)
elif what == "hang":
    time.sleep(60)
elif what == "json":
    print(json.dumps([{"db": [{"system-id": int(sys.argv[3])}], "backup": [{"label": name, "error": name in sys.argv[4:]} for name in sorted(os.listdir(folder))]}]))
elif what == "list":
    print("Backups of main:")
    for name in sorted(os.listdir(folder)):
        print(name, " 12 MB")
elif what == "environment":
    sys.exit(0 if os.environ.get("TOOL_REPO") == "main" else 9)
"""


@dataclasses.dataclass
class Tool:
    """The small tool above, with its folder."""

    script: pathlib.Path
    folder: pathlib.Path

    def __call__(self, what: str, *more: str) -> list[str]:
        return [sys.executable, str(self.script), what, str(self.folder), *more]


@pytest.fixture
def tool(tmp_path: pathlib.Path) -> Tool:
    (tmp_path / "tool.py").write_text(TOOL, encoding="utf-8")
    (tmp_path / "repository").mkdir()
    return Tool(tmp_path / "tool.py", tmp_path / "repository")


def records(folder: pathlib.Path) -> list[dict[str, t.Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*/external/*"))]


def test_what_a_tool_did_is_believed_by_its_list_alone(database: t.Any, module: t.Any, scratch: pathlib.Path, tool: Tool) -> None:
    target = filled(database('we"ird-db; drop'))
    options: dict[str, t.Any] = dict(backup_dir=str(scratch), list=tool("list"), run_id="run-1", restore_hint="ask the tool", tool="keeper")

    def refused(code: str, **more: t.Any) -> dict[str, t.Any]:
        answer = module("database_backup_external", target, **{**options, "take": tool("take"), **more})
        assert answer["failed"] and answer["code"] == code, answer
        assert records(scratch) == []
        return t.cast("dict[str, t.Any]", answer)

    assert "lists no backup" in refused("EXTERNAL_BACKUP_MISSING", take=tool("list"))["msg"]
    failed = refused("EXTERNAL_TOOL_FAILED", take=tool("fail"))
    assert failed["rc"] == 7 and failed["output"] == "half done" and "half done" in failed["msg"]
    assert "after 1 s" in refused("EXTERNAL_TOOL_FAILED", take=tool("hang"), timeout=1)["msg"]
    refused("EXTERNAL_TOOL_FAILED", list=tool("fail"))
    refused("EXTERNAL_TOOL_FAILED", verify=tool("environment"))
    refused("PROGRAM_MISSING", take=["/nonexistent/tool"])
    refused("OPTION_INVALID", take=[""])
    refused("OPTION_INVALID", list_pattern="(")
    secret = refused("OPTION_INVALID", take=[*tool("take"), "--password=%s" % target.password])
    assert str(target.password) not in json.dumps(secret)
    system = module("database_info", target)["identity"]["system_identifier"]
    assert "of the server with system identifier 4711" in refused("BACKUP_FOREIGN", list=tool("json", "4711"))["msg"]
    refused("EXTERNAL_TOOL_FAILED", list=tool("json", system, "b2"))
    assert len(os.listdir(tool.folder)) == 3, "each of them took a backup, but for those that were refused before"
    check = module("database_backup_external", target, check=True, take=tool("take"), **options)
    assert check["changed"] is True and records(scratch) == [] and len(os.listdir(tool.folder)) == 3

    done = module("database_backup_external", target, take=tool("take"), verify=tool("environment"), environment={"TOOL_REPO": "main"}, **options)
    assert done["changed"] is True, done
    point = done["restore_point"]
    assert (point["label"], point["tool"], point["verified"], point["restore_hint"]) == ("b3 12 MB", "keeper", True, "ask the tool")
    # The role of an application may not name points; that is said and no failure.
    assert point["restore_point"] is None and "may not call pg_create_restore_point" in json.dumps(done["warnings"]) and point["lsn"]
    assert stat.S_IMODE(os.stat(point["path"]).st_mode) == 0o600 and stat.S_IMODE(os.stat(os.path.dirname(point["path"])).st_mode) == 0o700

    module("database_backup_external", target, take=tool("take"), **{**options, "list": tool("json", system)})
    listed = module("database_backup_info", target, backup_dir=str(scratch))
    assert [(each["kind"], each["sequence"], each["label"], each["state"], each["usable"], each["present"]) for each in listed["restore_points"]] == [
        ("external", 2, "b4", "external", False, True), ("external", 1, "b3 12 MB", "external", False, True),
    ]  # fmt: skip
    assert listed["newest"] == "" and listed["restore_points"][1]["restore_hint"] == "ask the tool"
    # What the tool has expired is said, and what somebody has changed.
    for _number in range(4):
        subprocess.run(tool("expire"), check=True)
    module("database_backup_external", target, take=tool("take"), **{**options, "list_pattern": r"^(b\d)\s"})
    states = {each["label"]: (each["state"], each["reason"]) for each in module("database_backup_info", target, backup_dir=str(scratch))["restore_points"]}
    assert states["b3 12 MB"] == ("damaged", "keeper lists it no more") and states["b1"][0] == "external" == states["b4"][0]
    pinned = module("database_backup_retention", target, backup_dir=str(scratch), pin=[point["id"]], pin_reason="audit", drop_damaged=True)
    reasons = [record["pinned"]["reason"] for record in records(scratch) if record["id"] == point["id"]]
    assert pinned["changed"] is True and pinned["would_drop"] == [] and reasons == ["audit"]
    path = pathlib.Path(point["path"])
    path.write_text(path.read_text(encoding="utf-8").replace("ask the tool", "rm -rf /"), encoding="utf-8")
    changed = next(each for each in module("database_backup_info", target, backup_dir=str(scratch))["restore_points"] if each["id"] == point["id"])
    assert (changed["state"], changed["code"], changed["restore_hint"]) == ("damaged", "BACKUP_CORRUPT", "")
    gone = module("database_backup_retention", target, backup_dir=str(scratch), drop_damaged=True, apply=True)
    assert [each["id"] for each in gone["dropped"]] == [point["id"]] and not path.exists()


@pytest.mark.parametrize(
    ("text", "pattern", "labels"),
    [
        ("", "", ()),
        ("[]", "", ()),
        ('[{"backup":[],"status":{"code":2}}]', "", ()),
        ('[{"backup":[{"label":"20261122-193000F"},{"label":"20261122-193000F_20261122-194000I"}],"db":[{"system-id":1}]}]', "",
         ("20261122-193000F", "20261122-193000F_20261122-194000I")),
        ('{"main": [{"backup_id": "20261122T193000", "status": "DONE"}]}', "", ("20261122T193000",)),
        ('[{"backup_name": "base_000000010000000000000002", "time": "2026"}]', "", ("base_000000010000000000000002",)),
        ("a  1\n\nb 2\n", "", ("a 1", "b 2")),
        ("12", "", ("12",)),
        ("x b1 y\nb2\n", r"\bb\d", ("b1", "b2")),
        ("name=b1\nname=b2\n", r"name=(\w+)", ("b1", "b2")),
        ("[" * 100000, "", ("[" * 100000,)),
    ],
)  # fmt: skip
def test_what_tools_list(text: str, pattern: str, labels: tuple[str, ...]) -> None:
    listing = read_listing(text, pattern)
    assert listing.labels == labels and differs(listing, listing) == [] and differs(read_listing(""), listing) == list(labels)


@dataclasses.dataclass
class PgBackRest:
    """A server that archives its log with pgBackRest, and the tool's commands as the account that it needs."""

    server: Cluster
    folder: pathlib.Path

    def __call__(self, *arguments: str) -> list[str]:
        account = self.server.account
        become = ["setpriv", "--reuid=%d" % account.uid, "--regid=%d" % account.gid, "--clear-groups", "--"] if account.is_other else []
        return [*become, "pgbackrest", "--config=%s" % (self.folder / "pgbackrest.conf"), "--stanza=main", *arguments]

    @property
    def environment(self) -> dict[str, str]:
        return {"PGPASSFILE": str(self.folder / "pgpass")}

    def run(self, *arguments: str) -> str:
        done = subprocess.run(self(*arguments), env={**os.environ, **self.environment}, cwd="/", capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture
def pgbackrest(tmp_path: pathlib.Path) -> t.Iterator[PgBackRest]:
    if shutil.which("pgbackrest") is None:
        pytest.skip("pgBackRest is not installed: apt-get install pgbackrest")
    # Below pytest's own folder the server's account could not enter.
    folder = pathlib.Path(tempfile.mkdtemp(prefix="pgops-pgbackrest-"))
    archive = "pgbackrest --config=%s --stanza=main archive-push %%p" % (folder / "pgbackrest.conf")
    settings = {"archive_mode": "on", "wal_level": "replica", "archive_command": archive}
    try:
        with Cluster(tmp_path / "server", fast=True, settings=settings, temporary=True) as server:
            lines = [
                "[global]", "repo1-path=%s/repository" % folder, "lock-path=%s/lock" % folder, "log-path=%s/log" % folder, "spool-path=%s/spool" % folder,
                "log-level-console=warn", "log-level-file=off", "start-fast=y", "compress-type=none", "repo1-retention-full=2",
                "[main]", "pg1-path=%s" % server.data_dir, "pg1-socket-path=%s" % server.socket_dir, "pg1-port=%d" % server.port, "pg1-user=%s" % server.superuser,
            ]  # fmt: skip
            (folder / "pgbackrest.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
            (folder / "pgpass").write_text("*:*:*:*:%s\n" % server.password, encoding="utf-8")
            (folder / "pgpass").chmod(0o600)
            for path in (folder, *folder.iterdir()):
                os.chown(path, server.account.uid, server.account.gid)
            tool = PgBackRest(server, folder)
            tool.run("stanza-create")
            yield tool
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def test_pgbackrest_takes_a_point_that_can_be_gone_back_to(pgbackrest: PgBackRest, module: t.Any, scratch: pathlib.Path, tmp_path: pathlib.Path) -> None:
    server = pgbackrest.server
    target = Target(dbname="postgres", host="127.0.0.1", port=server.port, user=server.superuser, password=server.password)
    execute(target, "CREATE TABLE kept (i int)", "INSERT INTO kept VALUES (1)")
    options: dict[str, t.Any] = dict(
        backup_dir=str(scratch), list=pgbackrest("--output=json", "info"), environment=pgbackrest.environment, run_id="20261122-7",
        restore_hint="pgbackrest --stanza=main --type=name --target=NAME restore",
    )  # fmt: skip
    done = module("database_backup_external", target, take=pgbackrest("--type=full", "backup"), verify=pgbackrest("verify"), **options)
    assert done["changed"] is True and not done.get("warnings"), done
    point = done["restore_point"]
    info = json.loads(pgbackrest.run("--output=json", "info"))
    assert (
        point["label"] == info[0]["backup"][-1]["label"] and point["restore_point"]["name"] == "pgops_20261122-7" and point["restore_point"]["archived"] is True
    )
    assert server.password not in pathlib.Path(point["path"]).read_text(encoding="utf-8")
    listed = module("database_backup_info", target, backup_dir=str(scratch))["restore_points"]
    assert [(each["id"], each["label"], each["lsn"]) for each in listed] == [(point["id"], point["label"], point["restore_point"]["lsn"])]

    # What was written after the point is not there after a restore to it; what was written before is.
    execute(target, "INSERT INTO kept VALUES (2)", "SELECT pg_switch_wal()")
    (last,) = execute(target, "SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
    assert until(lambda: str(execute(target, "SELECT last_archived_wal FROM pg_stat_archiver")[0][0]) > point["restore_point"]["wal"], 30), last
    copy = pgbackrest.folder / "copy"
    pgbackrest.run(
        "restore", "--set=%s" % point["label"], "--type=name", "--target=%s" % point["restore_point"]["name"], "--target-action=promote", "--pg1-path=%s" % copy
    )
    port = str(server.port + 1) if server.port < 65000 else str(server.port - 1)
    start = [
        "-D",
        str(copy),
        "-w",
        "-l",
        str(pgbackrest.folder / "copy.log"),
        "-o",
        "-p %s -c archive_mode=off -c listen_addresses='' -k %s" % (port, pgbackrest.folder),
    ]
    control = str(pathlib.Path(server.bin_dir) / "pg_ctl")
    server.account.run(control, "start", *start)
    try:
        with_password = dict(host=str(pgbackrest.folder), port=port, user=server.superuser, password=server.password, dbname="postgres")
        assert until(lambda: not _rows(with_password, "SELECT pg_is_in_recovery()")[0][0], 20)
        assert _rows(with_password, "SELECT i FROM kept ORDER BY 1") == [(1,)]
    finally:
        server.account.run(control, "stop", "-D", str(copy), "-m", "immediate")

    stopped = module("database_backup_external", target, take=pgbackrest("--no-such-option", "backup"), **options)
    assert stopped["code"] == "EXTERNAL_TOOL_FAILED" and "no-such-option" in stopped["output"] and stopped["rc"] > 0, stopped


def _rows(connect: dict[str, t.Any], statement: str) -> list[tuple[t.Any, ...]]:
    conn = psycopg2.connect(**connect)
    try:
        with conn.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())
    finally:
        conn.close()
