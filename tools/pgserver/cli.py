# Copyright: (c) 2026, the pgops.migrations contributors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The command line: find, start, stop, status, env, remove."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence

from tools.pgserver.cluster import Cluster
from tools.pgserver.postmaster import Running
from tools.pgserver.programs import SOURCES, PgServerError, find_programs


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="pgserver", description="A private PostgreSQL server in a folder.")
    parser.add_argument("--source", choices=SOURCES, help="where to look for PostgreSQL (or PGSERVER_SOURCE)")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("find", help="print the directory of the PostgreSQL programs that would be used")
    for name, text in (
        ("start", "create the server if needed and start it; nothing is done when it runs already"),
        ("stop", "stop it; the data stays"),
        ("status", "say whether it runs (exit code 0) or not (3)"),
        ("env", "print shell lines that make psql and the like use it"),
        ("remove", "stop it and delete its data"),
    ):
        action = actions.add_parser(name, help=text)
        action.add_argument("folder", metavar="DIR")
        if name == "start":
            action.add_argument("--fast", action="store_true", help="unsafe and quick: for data that can be made again")
            action.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="a server setting")
        if name == "env":
            action.add_argument("--with-password", action="store_true", help="also print DATABASE_URL and PGPASSWORD")
    return parser.parse_args(arguments)


def do_find(options: argparse.Namespace) -> int:
    programs = find_programs(source=options.source)
    print(programs.bin_dir)
    print(f"PostgreSQL {programs.version_text} ({programs.source})", file=sys.stderr)
    return 0


def do_start(options: argparse.Namespace) -> int:
    settings = dict(pair.partition("=")[::2] for pair in options.set)
    cluster = Cluster(options.folder, fast=options.fast, settings=settings, source=options.source)
    changed = cluster.start(detached=True)
    for note in cluster.notes:
        print(f"note: {note}", file=sys.stderr)
    print(f"{'started' if changed else 'running already'}: {_summary(cluster, cluster.running())}")
    return 0


def do_stop(options: argparse.Namespace) -> int:
    print("stopped" if Cluster(options.folder, source=options.source).stop() else "was not running")
    return 0


def do_status(options: argparse.Namespace) -> int:
    cluster = Cluster(options.folder, source=options.source)
    running = cluster.status()
    print(_summary(cluster, running) if running else "not running")
    return 0 if running else 3


def do_env(options: argparse.Namespace) -> int:
    cluster = Cluster(options.folder, source=options.source)
    values = cluster.libpq_env()
    if options.with_password:
        values.update(PGPASSWORD=cluster.password, DATABASE_URL=cluster.url())
    for name, value in values.items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(cluster.bin_dir)}:"$PATH"')
    return 0


def do_remove(options: argparse.Namespace) -> int:
    Cluster(options.folder, source=options.source).remove()
    print("removed")
    return 0


def _summary(cluster: Cluster, running: Running) -> str:
    return f"127.0.0.1:{running.port}, pid {running.pid}, socket in {running.socket_dir}, data in {cluster.data_dir}"


ACTIONS = {"find": do_find, "start": do_start, "stop": do_stop, "status": do_status, "env": do_env, "remove": do_remove}


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(arguments)
    try:
        return ACTIONS[options.action](options)
    except (PgServerError, OSError) as error:
        print(f"pgserver: {error}", file=sys.stderr)
        return 1
