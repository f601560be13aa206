# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.
"""Run records, reports and the migration log on the disk of the controller.

A file has its name only when it is whole and on the disk. The log is only ever appended
to, by one process at a time, and no entry is written twice.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import stat
import time
import typing as t
from urllib.parse import quote, unquote

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError
from ansible_collections.pgops.migrations.plugins.module_utils._migration_log import HEADER, key_of, log_text
from ansible_collections.pgops.migrations.plugins.module_utils._record import FORMAT
from ansible_collections.pgops.migrations.plugins.module_utils._report_markdown import block
from ansible_collections.pgops.migrations.plugins.module_utils._storage import fsync_dir, private_umask

LOG, LOG_LINES = "migration_log.md", "migration_log.jsonl"
#: Names in a run's folder that are not those of a target.
_OURS = frozenset(["index", "summary"])
#: Seconds to wait for others that append to the log; each of them takes milliseconds.
LOCK_WAIT = 60.0
#: Runs before this one in which the count of a loss is looked for.
_LOOK_BACK = 200


def file_name(name: str) -> str:
    """Any name as a file name: no path, not hidden, not one of ours, and at most 150 bytes; different names stay different."""
    quoted = quote(name, safe=" @+,=", errors="surrogatepass") or "%"
    if quoted[0] in ".- " or quoted in _OURS:
        quoted = "%%%02X%s" % (ord(quoted[0]), quoted[1:])
    if quoted[-1] == " ":
        quoted = quoted[:-1] + "%20"
    if len(quoted) <= 150:
        return quoted
    return "%s~%s" % (quoted[:120], hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:16])


def html_path_of(report_path: str) -> str:
    """The report in HTML beside the one in Markdown."""
    return os.path.splitext(report_path)[0] + ".html"


def paths_of(reports_dir: str, run_id: str, target: str) -> tuple[str, str]:
    """Where the record and the report of a target are."""
    base = os.path.join(reports_dir, file_name(run_id), file_name(target))
    return base + ".json", base + ".md"


@contextlib.contextmanager
def _writing(what: str) -> t.Iterator[None]:
    try:
        with private_umask():
            yield
    except OSError as error:
        raise MigrationError("cannot write %s: %s" % (what, error.strerror or error), code="RECORD_UNWRITABLE") from None


def prepare(reports_dir: str, run_id: str) -> str:
    """The folder of a run, with mode 0700; made if it is missing.

    :raises MigrationError: ``RECORD_UNWRITABLE``.
    """
    if not os.path.isabs(reports_dir):
        raise MigrationError("reports_dir is %s, which is not an absolute path" % (reports_dir or "empty"), code="RECORD_UNWRITABLE")
    folder = os.path.join(reports_dir, file_name(run_id))
    with _writing(folder):
        os.makedirs(folder, 0o700, exist_ok=True)
        found = os.lstat(folder)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid():
            raise MigrationError("%s is not a folder of user %d, who runs this" % (folder, os.geteuid()), code="RECORD_UNWRITABLE")
        if found.st_mode & 0o077:
            os.chmod(folder, 0o700)
        fsync_dir(reports_dir)
    return folder


def write_whole(path: str, content: str) -> None:
    """Replace a file by this content, mode 0600; a reader sees the old one or the new one.

    :raises MigrationError: ``RECORD_UNWRITABLE``.
    """
    temporary = "%s/.%s.tmp" % (os.path.dirname(path), secrets.token_hex(8))
    with _writing(path):
        try:
            with open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as handle:
                handle.write(content.encode("utf-8", "backslashreplace"))
                handle.flush()
                os.fsync(handle.fileno())
            os.replace(temporary, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
            raise
        fsync_dir(os.path.dirname(path))


def to_json(value: t.Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=True) + "\n"


def read_record(reports_dir: str, run_id: str, target: str) -> tuple[dict[str, t.Any] | None, str]:
    """The record of a target in a run; without one, none and why."""
    path = paths_of(reports_dir, run_id, target)[0]
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as handle:
            found = json.loads(handle.read().decode("utf-8"))
    except FileNotFoundError:
        return None, "unreachable, or never started"
    except OSError as error:
        return None, "its record cannot be read: %s" % error.strerror
    except (ValueError, RecursionError):
        return None, "its record is damaged"
    if not is_record(found) or found["target"] != target:
        return None, "its record is damaged"
    return found, ""


def counted_before(reports_dir: str, target: str, confirmation: str, run_id: str) -> dict[str, t.Any] | None:
    """The newest record of a run that counted what this confirmation loses, and asked for it; None without one.

    None, too, where something was done to the database since: the confirmation may be the same, and what it loses is not.
    """
    with contextlib.suppress(OSError):
        with os.scandir(reports_dir) as entries:
            folders = sorted((entry for entry in entries if entry.is_dir(follow_symlinks=False)), key=lambda entry: entry.stat().st_mtime_ns, reverse=True)
        name = file_name(target) + ".json"
        for folder in folders[:_LOOK_BACK]:
            if folder.name == file_name(run_id) or not os.path.lexists(os.path.join(folder.path, name)):
                continue
            record, _why = read_record(reports_dir, unquote(folder.name), target)
            if record is None or record.get("check_mode"):
                continue
            if record.get("changed"):
                return None
            restore = record.get("restore") or {}
            loss = restore.get("loss")
            counted = isinstance(loss, dict) and loss.get("known") and loss.get("measured") is not False
            asked = (record.get("error") or {}).get("code") == "CONFIRMATION_MISSING"
            if counted and asked and restore.get("confirmation") == confirmation:
                return record
    return None


def with_earlier_count(record: dict[str, t.Any], reports_dir: str) -> None:
    """Where a confirmed run did not count the loss again, the count of the run that asked for the confirmation."""
    restore = record["restore"] or {}
    loss = restore.get("loss") or {}
    if loss.get("measured") is not False or not restore.get("confirmation"):
        return
    earlier = counted_before(reports_dir, record["target"], restore["confirmation"], record["run_id"])
    if earlier is not None:
        sessions = loss.get("sessions") or []
        if (earlier["restore"].get("restore_point") or {}).get("opened") and isinstance(restore.get("restore_point"), dict):
            # That run closed it when it had looked.
            restore["restore_point"]["opened"] = True
        restore["loss"] = dict(earlier["restore"]["loss"], sessions=sessions, counted_by=earlier["run_id"], counted_at=earlier["finished_at"])


def is_record(value: t.Any) -> bool:
    """Whether this is a record of this format, as far as its readers rely on it."""
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        return False
    texts = all(isinstance(value.get(key), str) for key in ("target", "outcome", "sentence"))
    return texts and all(value.get(key) is None or isinstance(value[key], dict) for key in ("backup", "deploy", "verification", "restore", "error"))


def append_log(reports_dir: str, entries: t.Sequence[t.Mapping[str, t.Any]]) -> int:
    """Append entries to both logs, unless they are there already; the number of those that are new.

    :raises MigrationError: ``RECORD_UNWRITABLE``.
    """
    if not entries:
        return 0
    lines_path, text_path = os.path.join(reports_dir, LOG_LINES), os.path.join(reports_dir, LOG)
    with _writing(lines_path), _locked(lines_path) as lines:
        # Each file knows by itself what it holds: a run that was killed between the two loses and doubles nothing.
        own, told = _known_lines(_content(lines))
        # What a run says of another one is not needed where that one has said it; the other way round it is.
        new = [entry for entry in entries if key_of(entry) not in (own | told if entry.get("by_run") else own)]
        _append(lines, "".join(json.dumps(entry, ensure_ascii=True) + "\n" for entry in new))
        with open(_open_log(text_path), "r+b", buffering=0) as text:
            content = _content(text)
            parts = [] if content else [HEADER]
            for entry in entries:
                marker, *others = _markers(entry)
                if not any(each.encode("ascii") in content for each in (marker, *others)):
                    parts.append("\n%s\n%s\n" % (marker, "\n".join(block(log_text(entry)))))
            _append(text, "".join(parts))
        fsync_dir(reports_dir)
    return len(new)


def _markers(entry: t.Mapping[str, t.Any]) -> list[str]:
    """The comment before an entry, by which it is known; after it those of entries that say the same."""
    own, told = (
        "<!-- %s -->" % hashlib.sha256("\0".join((*key_of(entry), *more)).encode("utf-8", "surrogatepass")).hexdigest()[:20] for more in ((), ("told",))
    )
    return [told, own] if entry.get("by_run") else [own]


def _known_lines(content: bytes) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """The keys of what runs said of themselves, and of what they said of others."""
    own: set[tuple[str, ...]] = set()
    told: set[tuple[str, ...]] = set()
    for raw in content.splitlines():
        # A line that was torn by a crash is nobody's entry.
        with contextlib.suppress(ValueError, AttributeError):
            entry = json.loads(raw)
            (told if entry.get("by_run") else own).add(key_of(entry))
    return own, told


def _open_log(path: str) -> int:
    return os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW, 0o600)


@contextlib.contextmanager
def _locked(path: str) -> t.Iterator[t.Any]:
    """The file under an exclusive lock, which ends with the process at the latest."""
    with open(_open_log(path), "r+b", buffering=0) as handle:
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(handle.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise MigrationError("another process has locked %s for %d seconds" % (path, LOCK_WAIT), code="RECORD_UNWRITABLE") from None
                time.sleep(0.02)
        yield handle


def _content(handle: t.Any) -> bytes:
    handle.seek(0)
    return t.cast(bytes, handle.read())


def _append(handle: t.Any, text: str) -> None:
    """All of it or, when the disk is full, nothing of it."""
    if not text:
        return
    size = os.fstat(handle.fileno()).st_size
    content = text.encode("utf-8", "backslashreplace")
    if size and os.pread(handle.fileno(), 1, size - 1) != b"\n":
        content = b"\n" + content
    try:
        while content:
            content = content[os.write(handle.fileno(), content) :]
        os.fsync(handle.fileno())
    except OSError:
        with contextlib.suppress(OSError):
            os.ftruncate(handle.fileno(), size)
        raise


__all__ = (
    "LOG", "LOG_LINES", "append_log", "counted_before", "file_name", "html_path_of", "is_record", "paths_of", "prepare", "read_record", "to_json",
    "with_earlier_count", "write_whole",
)  # fmt: skip
