# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

# PRIVATE to the collection: no promise of a stable interface outside it.

"""What a restore point says about itself: manifest.json. Pure: no I/O.

The manifest names every file with its size and SHA-256, and the database and cluster
they come from. Its own digest covers all of that, so an edited manifest is found. The
digest is a checksum and no signature: who can rewrite the folder can also rewrite it.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import typing as t
from urllib.parse import quote

from ansible_collections.pgops.migrations.plugins.module_utils._errors import MigrationError

FORMAT = 2
FILE_NAME = "manifest.json"
#: The archive's name inside the restore point, by pg_dump's format.
ARCHIVES = {"directory": "archive", "custom": "archive.dump"}
GLOBALS = "globals.sql"
#: The tools that encrypt, and what they add to the name of a file.
SUFFIXES = {"gpg": ".gpg", "age": ".age"}
ID_PATTERN = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]{6}$")
_SHA256 = re.compile(r"^[0-9a-f]{64}$")


@dataclasses.dataclass(frozen=True)
class FileEntry:
    """One file of the archive: path below the restore point, size in bytes, SHA-256."""

    path: str
    size: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """A restore point of kind C(dump).

    ``sequence``: 1, 2, 3... among the restore points of a database; their order is by it and not by a clock.
    ``target``: identity of the database, see :data:`_TARGET`. ``ledger``: None without a
    table _prisma_migrations, see :data:`_LEDGER`. ``fingerprint``: of the same snapshot as
    the archive. ``sequences_moved``: sequence -> its values before and after the dump, where
    they differ: they know no snapshot. ``prerequisites``: what a restore needs on the server. ``settings``: what
    belongs to the database and is not in the archive. ``globals``: the file with the roles,
    whether it holds their password hashes, and the digest of its text; None without one.
    ``encryption``: the tool and for whom; None for plain files. Times are UTC in ISO 8601.
    """

    id: str
    sequence: int
    run_id: str
    label: str
    started_at: str
    finished_at: str
    target: t.Mapping[str, t.Any]
    archive: t.Mapping[str, t.Any]
    files: tuple[FileEntry, ...]
    ledger: t.Mapping[str, t.Any] | None
    fingerprint: t.Mapping[str, t.Any]
    sequences_moved: t.Mapping[str, t.Any]
    prerequisites: t.Mapping[str, t.Any]
    settings: t.Mapping[str, t.Any]
    globals: t.Mapping[str, t.Any] | None = None
    encryption: t.Mapping[str, t.Any] | None = None
    kind: str = "dump"

    @property
    def size_bytes(self) -> int:
        """The size of all its files."""
        return sum(entry.size for entry in self.files)

    def expected(self, found: t.Mapping[str, t.Any]) -> dict[str, t.Any]:
        """The fingerprint that a faithful copy has, given the one that was found.

        A sequence that moved while the dump ran may have any value that it passed.
        """
        wanted = dict(self.fingerprint)
        sequences = dict(wanted.get("sequences") or {})
        for name, (before, after) in self.sequences_moved.items():
            seen = (found.get("sequences") or {}).get(name)
            if name in sequences and seen and min(_reached(before), _reached(after)) <= _reached(seen["last_value"]) <= max(_reached(before), _reached(after)):
                sequences[name] = seen
        wanted["sequences"] = sequences
        return wanted

    def confirmation(self) -> str:
        """What an operator types to have this restore point restored."""
        return "%s %s" % (self.target["database"], self.run_id or self.id)


def _reached(value: int | None) -> float:
    # A sequence that was never called has no value.
    return float("-inf") if value is None else value


_TEXT, _MAYBE_TEXT, _NAMES = (str,), (str, type(None)), "names"
#: Field -> what its value must be: a tuple of types, or "names" for a list of texts.
_TARGET: dict[str, t.Any] = {
    "system_identifier": _TEXT, "database": _TEXT, "database_oid": (int,), "host": _TEXT, "port": (int,), "owner": _TEXT,
    "server_version": _TEXT, "server_version_num": (int,), "encoding": _TEXT, "collate": _MAYBE_TEXT, "ctype": _MAYBE_TEXT,
    "locale_provider": _TEXT, "locale": _MAYBE_TEXT, "tablespace": _TEXT, "lsn": _MAYBE_TEXT, "wal_mark": _TEXT, "size_bytes": (int,),
}  # fmt: skip
_ARCHIVE: dict[str, t.Any] = {
    "format": _TEXT, "path": _TEXT, "compression": _TEXT, "jobs": (int,), "client_version": _TEXT, "client_major": (int,), "seconds": (int, float),
}  # fmt: skip
_LEDGER: dict[str, t.Any] = {
    "schema": _TEXT, "rows": (int,), "head": _MAYBE_TEXT, "digest": _TEXT, "clean": (bool,), "unfinished": _NAMES, "applied": _NAMES,
}  # fmt: skip
_PREREQUISITES: dict[str, t.Any] = {"roles": _NAMES, "owners": _NAMES, "extensions": (list,), "tablespaces": _NAMES}
_GLOBALS: dict[str, t.Any] = {"path": _TEXT, "passwords": (bool,), "digest": _TEXT}
_ENCRYPTION: dict[str, t.Any] = {"tool": _TEXT, "recipients": _NAMES}
_EXTENSION: dict[str, t.Any] = {"name": _TEXT, "version": _TEXT, "schema": _TEXT}
_TOP: dict[str, t.Any] = {
    "id": _TEXT, "sequence": (int,), "run_id": _TEXT, "label": _TEXT, "started_at": _TEXT, "finished_at": _TEXT, "target": (dict,), "archive": (dict,),
    "files": (list,),
    "ledger": (dict, type(None)), "fingerprint": (dict,), "sequences_moved": (dict,), "prerequisites": (dict,), "settings": (dict,),
    "globals": (dict, type(None)), "encryption": (dict, type(None)), "kind": _TEXT,
}  # fmt: skip


def ledger_digest(ledger_rows: t.Iterable[tuple[str, str, bool, bool]]) -> str:
    """SHA-256 over (name, checksum, finished?, rolled back?) of the ledger's rows, in the order given."""
    return hashlib.sha256(_canonical([list(row) for row in ledger_rows])).hexdigest()


def safe_name(dbname: str) -> str:
    """The database's name as a folder name: reversible, without a path, not hidden, not an option."""
    name = quote(dbname, safe="")
    return "%%%02X%s" % (ord(name[0]), name[1:]) if name[0] in ".-" else name


def archive_name(format_: str, tool: str = "") -> str:
    """The archive's path inside a restore point. Only one file can be encrypted as a stream."""
    return ARCHIVES[format_] + (SUFFIXES[tool] if tool else "")


def globals_name(tool: str = "") -> str:
    """The path of the file with the roles inside a restore point."""
    return GLOBALS + (SUFFIXES[tool] if tool else "")


def is_database_name(name: str) -> bool:
    """Whether PostgreSQL takes it as it is: 1 to 63 bytes."""
    return 1 <= len(name.encode("utf-8", "surrogatepass")) <= 63 and "\0" not in name


def derived_name(dbname: str, word: str, restore_point_id: str) -> str:
    """``<db>__<word>_<id>``, the database's part cut by bytes so that it fits into 63.

    Of the id only letters and digits are kept, in lower case.
    """
    suffix = "__%s_%s" % (word, re.sub(r"[^0-9a-z]+", "_", restore_point_id.lower()))
    room = 63 - len(suffix.encode("utf-8"))
    return dbname.encode("utf-8")[:room].decode("utf-8", "ignore") + suffix


def _canonical(value: t.Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode("ascii")


def plain(value: t.Any) -> t.Any:
    """The value as it comes back from JSON (tuples are lists, keys are texts)."""
    return json.loads(json.dumps(value, allow_nan=False))


def digest(manifest: Manifest) -> str:
    """The digest that stands in the manifest and covers all the rest of it."""
    return _digest(dataclasses.asdict(manifest))


def _digest(content: t.Mapping[str, t.Any]) -> str:
    return hashlib.sha256(_canonical({"format": FORMAT, "manifest": content})).hexdigest()


def to_json(manifest: Manifest) -> bytes:
    """The manifest as the content of manifest.json."""
    content = plain(dataclasses.asdict(manifest))
    return (json.dumps({"format": FORMAT, "manifest": content, "digest": _digest(content)}, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode("ascii")


def from_json(text: bytes) -> Manifest:
    """The manifest in the content of manifest.json.

    :raises MigrationError: ``BACKUP_FORMAT`` when it is no manifest of this format,
        ``BACKUP_CORRUPT`` when its digest says that it was changed.
    """
    try:
        outer = json.loads(text.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise MigrationError("%s is not JSON" % FILE_NAME, code="BACKUP_FORMAT") from None
    if not isinstance(outer, dict) or "format" not in outer:
        raise _malformed("it is not an object with a format")
    if not _is_int(outer["format"]) or outer["format"] != FORMAT:
        raise MigrationError("%s has format %r; this version reads format %d" % (FILE_NAME, outer["format"], FORMAT), code="BACKUP_FORMAT")
    if set(outer) != {"format", "manifest", "digest"} or not isinstance(outer["manifest"], dict):
        raise _malformed("it holds something else than format, manifest and digest")
    if outer["digest"] != _digest(outer["manifest"]):
        raise MigrationError("%s was changed after it was written: its digest is wrong" % FILE_NAME, code="BACKUP_CORRUPT")
    return _validated(outer["manifest"])


def _is_int(value: object) -> bool:
    """JSON's true is an int to Python."""
    return isinstance(value, int) and not isinstance(value, bool)


def _validated(content: dict[str, t.Any]) -> Manifest:
    _check("the manifest", content, _TOP)
    _check("target", content["target"], _TARGET)
    _check("archive", content["archive"], _ARCHIVE)
    _check("prerequisites", content["prerequisites"], _PREREQUISITES)
    for extension in content["prerequisites"]["extensions"]:
        _check("extension", extension, _EXTENSION)
    if content["ledger"] is not None:
        _check("ledger", content["ledger"], _LEDGER)
    for bounds in content["sequences_moved"].values():
        if not (isinstance(bounds, list) and len(bounds) == 2 and all(value is None or _is_int(value) for value in bounds)):
            raise _malformed("sequences_moved has a value of the wrong type")
    if content["kind"] != "dump":
        raise _malformed("kind is %r" % content["kind"])
    if not ID_PATTERN.match(content["id"]):
        raise _malformed("id is %r" % content["id"])
    if not is_database_name(content["target"]["database"]):
        raise _malformed("the database has no usable name")
    if content["sequence"] < 1:
        raise _malformed("sequence is %d" % content["sequence"])
    files = _files(content)
    return Manifest(**dict(content, files=files))


def _files(content: dict[str, t.Any]) -> tuple[FileEntry, ...]:
    archive, encryption, roles = content["archive"], content["encryption"], content["globals"]
    tool = ""
    if encryption is not None:
        _check("encryption", encryption, _ENCRYPTION)
        tool = encryption["tool"]
        if tool not in SUFFIXES or not encryption["recipients"] or archive["format"] != "custom":
            raise _malformed("encryption by %r of the format %r" % (tool, archive["format"]))
    if archive["format"] not in ARCHIVES or archive["path"] != archive_name(archive["format"], tool):
        raise _malformed("archive is %r in format %r" % (archive["path"], archive["format"]))
    beside = set()
    if roles is not None:
        _check("globals", roles, _GLOBALS)
        if roles["path"] != globals_name(tool):
            raise _malformed("globals is %r" % roles["path"])
        beside = {roles["path"]}
    files = tuple(_file(entry, archive, beside) for entry in content["files"])
    names = {entry.path for entry in files}
    if len(names) != len(files) or not names - beside or not beside <= names:
        raise _malformed("files names a file twice, or one is missing")
    return files


def _file(entry: t.Any, archive: t.Mapping[str, t.Any], beside: set[str]) -> FileEntry:
    _check("file", entry, {"path": _TEXT, "size": (int,), "sha256": _TEXT})
    inside = re.match(r"^archive/[^/\0]+$", entry["path"]) and entry["path"] not in ("archive/.", "archive/..")
    if entry["path"] not in beside and not (inside if archive["format"] == "directory" else entry["path"] == archive["path"]):
        raise _malformed("the file %r is not inside the archive" % entry["path"])
    if entry["size"] < 0 or not _SHA256.match(entry["sha256"]):
        raise _malformed("the file %r has no usable size or SHA-256" % entry["path"])
    return FileEntry(**entry)


def _check(what: str, value: t.Any, fields: t.Mapping[str, t.Any]) -> None:
    if not isinstance(value, dict):
        raise _malformed("%s is not an object" % what)
    if set(value) != set(fields):
        raise _malformed("%s has other fields than it should: %s" % (what, ", ".join(sorted(set(value) ^ set(fields)))))
    for name, kinds in fields.items():
        if kinds == _NAMES:
            good = isinstance(value[name], list) and all(isinstance(item, str) for item in value[name])
        else:
            # For Python a truth value is an integer too.
            good = isinstance(value[name], kinds) and (isinstance(value[name], bool) is (kinds == (bool,)))
        if not good:
            raise _malformed("%s.%s has a value of the wrong type" % (what, name))


def _malformed(why: str) -> MigrationError:
    return MigrationError("%s cannot be used: %s" % (FILE_NAME, why), code="BACKUP_FORMAT")


def _refuse_constant(name: str) -> t.NoReturn:
    raise ValueError("%s is not JSON" % name)


__all__ = (
    "ARCHIVES", "FILE_NAME", "FORMAT", "FileEntry", "ID_PATTERN", "Manifest", "SUFFIXES", "archive_name", "derived_name", "digest", "from_json",
    "globals_name", "is_database_name", "ledger_digest", "plain", "safe_name", "to_json",
)  # fmt: skip
