# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""A deploy that outlives the connection through which it was started, and the folder in which it tells how it goes.

A job has a folder of its own, readable by its user alone: C(state.json), what it tells meanwhile, and C(out), the result that
the module would have printed. The process holds a lock (flock) on C(state.json) for as long as it lives, so a job whose
process was killed is told from one that is at work, whatever its file says, and no number of a process is trusted.
"""

from __future__ import annotations

import contextlib
import fcntl
import importlib
import io
import json
import os
import re
import shutil
import sys
import threading
import time
import typing as t
import zipfile

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._storage import ensure_private_dir

JOURNAL_DIR = "~/.local/state/pgops.migrations"
STATE, OUT, ERRORS = "state.json", "out", "errors"
#: Room for the result, given back when it is written: a disk that fills up meanwhile must not take it.
SPARE, SPARE_BYTES = "spare", 1 << 20
RUNNING, FINISHED, FAILED, KILLED = "running", "finished", "failed", "killed"
#: A job that tells nothing else tells that it lives.
BEAT_SECONDS = 2.0
#: Between two tellings of how far it is; a new phase is told at once.
TELL_SECONDS = 0.5
#: Longer than any telling is.
_MOST = 1 << 16
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:+-]{0,127}\Z")


class Job:
    """The writing side. Without a folder (``None``) it tells nobody."""

    def __init__(self, folder: str | None = None, facts: t.Mapping[str, t.Any] | None = None) -> None:
        self._state: dict[str, t.Any] = dict(facts or {}, pid=os.getpid(), phase="starting", started_at=time.time(), beat=0)
        self._handle: int | None = None
        self._guard, self._ended = threading.Lock(), threading.Event()
        self._told = 0.0
        if folder is not None:
            # Whoever looks for jobs tries the lock, so it is held before there is a name to look for.
            path = os.path.join(folder, STATE)
            self._handle = os.open(path + ".new", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            # Children must not hold it when this process is gone.
            os.set_inheritable(self._handle, False)
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._write()
            os.rename(path + ".new", path)

    @property
    def heard(self) -> bool:
        """Whether anybody can read what it tells."""
        return self._handle is not None

    def begin(self) -> None:
        """From here on it tells that it lives."""
        if self._handle is not None:
            threading.Thread(target=self._beat, name="job", daemon=True).start()

    def tell(self, **facts: t.Any) -> None:
        """What is known now. Never fails: a disk that is full must not cost a deploy."""
        with self._guard:
            new_phase = facts.get("phase", self._state.get("phase")) != self._state.get("phase")
            self._state.update(facts)
            if self._handle is not None and (new_phase or time.monotonic() - self._told >= TELL_SECONDS):
                self._write()

    def _beat(self) -> None:
        while not self._ended.wait(BEAT_SECONDS):
            with self._guard:
                self._write()

    def _write(self) -> None:
        self._state["beat"] += 1
        self._state["updated_at"] = time.time()
        text = json.dumps(self._state).encode()[:_MOST] + b"\n"
        self._told = time.monotonic()
        with contextlib.suppress(OSError):
            os.pwrite(t.cast(int, self._handle), text, 0)
            os.ftruncate(t.cast(int, self._handle), len(text))


def detach(journal_dir: str, job_id: str, facts: t.Mapping[str, t.Any]) -> dict[str, t.Any] | Job:
    """Go on in a process that belongs to no session, terminal or connection.

    Must be called before there is a thread or a connection.

    :param job_id: name of the folder to make.
    :returns: in the process that was called, C(pid) and C(folder) of the job; in the new one the job. There, standard output is the job's file C(out).
    :raises MigrationError: ``JOB_UNWRITABLE``, ``OPTION_INVALID``. Nothing was begun then.
    """
    folder = job_folder(journal_dir, job_id)
    try:
        ensure_private_dir(os.path.dirname(folder))
        os.mkdir(folder, 0o700)
    except MigrationError as error:
        raise MigrationError(error.msg, code="JOB_UNWRITABLE") from None
    except OSError as error:
        raise MigrationError("cannot make %s: %s" % (folder, error.strerror), code="JOB_UNWRITABLE") from None
    _import_all()
    reading, writing = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child:
        os.close(writing)
        os.waitpid(child, 0)
        with os.fdopen(reading, "rb") as handle:
            said = handle.read().decode("utf-8", "replace")
        if not said.startswith("pid "):
            shutil.rmtree(folder, ignore_errors=True)
            raise MigrationError("the deploy could not be started apart from this connection: %s" % (said or "it died"), code="JOB_UNWRITABLE")
        return {"pid": int(said[4:]), "folder": folder}
    os.close(reading)
    os.setsid()
    if os.fork():
        os._exit(0)
    try:
        _redirect(folder)
        job = Job(folder, dict(facts, job_id=job_id))
        os.write(writing, b"pid %d" % os.getpid())
    except BaseException as error:
        os.write(writing, ("%s: %s" % (type(error).__name__, error)).encode())
        os._exit(1)
    os.close(writing)
    job.begin()
    return job


def _redirect(folder: str) -> None:
    for name, number in ((os.devnull, 0), (OUT, 1), (ERRORS, 2)):
        flags = os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        handle = os.open(name if number == 0 else os.path.join(folder, name), flags, 0o600)
        os.dup2(handle, number)
        os.close(handle)
    spare = os.path.join(folder, SPARE)
    try:
        with open(spare, "xb") as room:
            os.posix_fallocate(room.fileno(), 0, SPARE_BYTES)
    except OSError:  # where there is none to spare, what is left is left for the result
        with contextlib.suppress(OSError):
            os.unlink(spare)
    sys.stdout = _Out(io.BufferedWriter(io.FileIO(1, "wb", closefd=False)), spare)


class _Out(io.TextIOWrapper):
    """Standard output of a job, for which room is kept until it is written."""

    def __init__(self, raw: io.BufferedWriter, spare: str) -> None:
        super().__init__(raw, encoding="utf-8", errors="surrogateescape")
        self._spare = spare

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            os.unlink(self._spare)
        return super().write(text)


def _import_all() -> None:
    """Everything that Ansible sent along, for its archive is deleted as soon as the process that was called ends."""
    for entry in sys.path:
        if not zipfile.is_zipfile(entry):
            continue
        with zipfile.ZipFile(entry) as archive:
            names = [name[:-3].replace("/", ".") for name in archive.namelist() if name.endswith(".py") and "/module_utils/" in name]
        for name in names:
            # What cannot be imported here could not be imported later either.
            with contextlib.suppress(ImportError):
                importlib.import_module(name[: -len(".__init__")] if name.endswith(".__init__") else name)


def job_folder(journal_dir: str, job_id: str) -> str:
    """:raises MigrationError: ``OPTION_INVALID`` for a name that is no name of a folder."""
    if not _NAME.match(job_id):
        raise MigrationError("job_id is %r" % job_id, code="OPTION_INVALID")
    return os.path.join(os.path.abspath(os.path.expanduser(journal_dir)), job_id)


def jobs(journal_dir: str) -> list[dict[str, t.Any]]:
    """The jobs of a folder, oldest first. What is no job of this user is passed over.

    Each has C(job_id), C(folder), C(state) (C(running), C(finished), C(failed) or C(killed)), C(told) with what it told last,
    and C(result) with what it would have printed.
    """
    root = os.path.abspath(os.path.expanduser(journal_dir))
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(root):
            job = _job(os.path.join(root, name)) if _NAME.match(name) else None
            if job:
                found.append(job)
    return sorted(found, key=lambda job: job["told"].get("started_at") or 0.0)


def _job(folder: str) -> dict[str, t.Any] | None:
    try:
        handle = os.open(os.path.join(folder, STATE), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        if os.fstat(handle).st_uid != os.geteuid():
            return None
        alive = False
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            alive = True
        told = _json(os.read(handle, _MOST * 2))
    finally:
        os.close(handle)
    result = None
    if not alive:
        with contextlib.suppress(OSError), open(os.path.join(folder, OUT), "rb") as out:
            result = _json(out.read()) or None
    state = RUNNING if alive else KILLED if result is None else FAILED if result.get("failed") else FINISHED
    return {"job_id": os.path.basename(folder), "folder": folder, "state": state, "told": told, "result": result}


def _json(text: bytes) -> dict[str, t.Any]:
    try:
        found = json.loads(text.decode("utf-8", "replace"))
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


__all__ = ("FAILED", "FINISHED", "JOURNAL_DIR", "KILLED", "OUT", "RUNNING", "STATE", "Job", "detach", "job_folder", "jobs")
