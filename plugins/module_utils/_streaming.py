# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""pg_dump through a tool that encrypts, into one file, while pg_restore reads the same bytes.

The plain text is in pipes and in the memory of these programs, and never on the disk. So
the archive is read in full when it is made: without the secret key, nobody can do it later.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
import subprocess
import threading
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils._encryption import tool_environment
from ansible_collections.pgops.migrations.plugins.module_utils._pgtools import Child, Finished, spawned, started
from ansible_collections.pgops.migrations.plugins.module_utils._url import Target

_CHUNK = 1 << 18


class _Streamed(Child):
    """pg_dump whose output two more programs read; it ended well only if all three did."""

    def __init__(self, dump: Child, others: t.Mapping[str, Child], pump: threading.Thread) -> None:  # pylint: disable=super-init-not-called
        self.__dict__.update(dump.__dict__)
        self._others, self._pump = others, pump

    def wait(self, timeout: float | None = None) -> Finished | None:
        done = super().wait(timeout)
        if done is None:
            return None
        self._pump.join()
        ended = {name: child.wait() for name, child in self._others.items()}
        # Who broke the chain: a reader that failed ends pg_dump by a broken pipe, and a pg_dump that failed leaves its readers half an archive.
        broken = done.rc == -signal.SIGPIPE or "Broken pipe" in done.stderr
        if done.rc == 0 or broken:
            for name, other in ended.items():
                if other is not None and other.rc != 0:
                    return dataclasses.replace(done, rc=other.rc if other.rc > 0 else 1, stderr="%s %s" % (name, other.why()))
        return done


def _copy(source: t.IO[bytes], sinks: t.Sequence[t.IO[bytes]]) -> None:
    """Every byte to every sink, until the source ends or a sink is gone; then all are closed."""
    try:
        while True:
            chunk = os.read(source.fileno(), _CHUNK)
            if not chunk:
                break
            for sink in sinks:
                sink.write(chunk)
    except OSError:
        # The program at the other end has said why.
        pass
    finally:
        for pipe in (source, *sinks):
            with contextlib.suppress(OSError):
                pipe.close()


@contextlib.contextmanager
def streaming(
    dump_argv: t.Sequence[str],
    restore_argv: t.Sequence[str],
    tool_argv: t.Sequence[str],
    path: str,
    target: Target,
    application_name: str = "",
    settings: t.Mapping[str, str] | None = None,
    gpg_home: str = "",
) -> t.Iterator[Child]:
    """Start all three; the child that is given stands for pg_dump and for the whole.

    :param dump_argv: writes a custom archive to stdout. ``restore_argv``: reads one from stdin. ``tool_argv``: encrypts stdin to stdout.
    :param path: the new file for what is encrypted.
    """
    pipe = subprocess.PIPE
    with contextlib.ExitStack() as stack:
        handle = stack.enter_context(open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb"))
        tool = stack.enter_context(spawned(tool_argv, tool_environment(gpg_home), target, stdin=pipe, stdout=handle))
        reader = stack.enter_context(started(restore_argv, target, stdin=pipe))
        dump = stack.enter_context(started(dump_argv, target, application_name=application_name, settings=settings, stdout=pipe))
        ends = [t.cast("t.IO[bytes]", end) for end in (dump.process.stdout, tool.process.stdin, reader.process.stdin)]
        pump = threading.Thread(target=_copy, args=(ends[0], ends[1:]), daemon=True)
        pump.start()
        yield _Streamed(dump, {os.path.basename(tool_argv[0]): tool, "pg_restore": reader}, pump)


__all__ = ("streaming",)
