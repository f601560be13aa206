# Copyright: Contributors to the pgops.migrations collection
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Ways to damage a copy of a restore point, each at a random position."""

from __future__ import annotations

import hashlib
import json
import os
import pathlib
import random
import typing as t

from ansible_collections.pgops.migrations.plugins.module_utils import _manifest

Content = t.Dict[str, t.Any]


def rewrite(path: pathlib.Path, change: t.Callable[[Content], t.Any]) -> None:
    """Edit a manifest as somebody who knows how to compute the digests."""
    content = json.loads((path / "manifest.json").read_text())["manifest"]
    change(content)
    for entry in content["files"]:
        file = path / entry["path"]
        if file.is_file():
            entry.update(size=file.stat().st_size, sha256=hashlib.sha256(file.read_bytes()).hexdigest())
    (path / "manifest.json").write_text(json.dumps({"format": _manifest.FORMAT, "manifest": content, "digest": _manifest._digest(content)}))


def files(path: pathlib.Path) -> list[pathlib.Path]:
    """The files that a manifest covers."""
    beside = ("manifest.json", "proof.json")
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name not in beside)


def change(file: pathlib.Path, how: t.Callable[[bytes], bytes]) -> None:
    """Another content, and it really is another one."""
    before = file.read_bytes()
    after = how(before)
    assert after != before, "%s was not damaged" % file.name
    file.write_bytes(after)


class Damages:
    """:ivar path: the copy that will be damaged. ``other``: a restore point of the same database in another state. ``foreign``: one of another database."""

    def __init__(self, path: pathlib.Path, other: pathlib.Path, foreign: pathlib.Path, outside: pathlib.Path, dice: random.Random) -> None:
        self.path, self.other, self.foreign, self.outside, self.dice = path, other, foreign, outside, dice

    def any_file(self) -> pathlib.Path:
        return self.dice.choice([file for file in files(self.path) if file.stat().st_size])

    def truncated(self) -> None:
        file = self.any_file()
        change(file, lambda content: content[: self.dice.randrange(len(content))])

    def bit_flip(self) -> None:
        def flip(content: bytes) -> bytes:
            bit = self.dice.randrange(len(content) * 8)
            return content[: bit // 8] + bytes([content[bit // 8] ^ (1 << bit % 8)]) + content[bit // 8 + 1 :]

        change(self.any_file(), flip)

    def empty(self) -> None:
        change(self.any_file(), lambda content: b"")

    def zeroed_block(self) -> None:
        def zero(content: bytes) -> bytes:
            while True:
                at, size = self.dice.randrange(len(content)), self.dice.randint(1, 512)
                if content[at : at + size].strip(b"\0"):
                    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]

        change(self.any_file(), zero)

    def longer(self) -> None:
        change(self.any_file(), lambda content: content + self.dice.randbytes(self.dice.randint(1, 4096)))

    def file_of_another_restore_point(self) -> None:
        pairs = [(file, self.other / file.relative_to(self.path)) for file in files(self.path)]
        mine, theirs = self.dice.choice([pair for pair in pairs if pair[1].is_file() and pair[0].read_bytes() != pair[1].read_bytes()])
        change(mine, lambda content: theirs.read_bytes())

    def manifest_of_another_restore_point(self) -> None:
        change(self.path / "manifest.json", lambda content: (self.dice.choice([self.other, self.foreign]) / "manifest.json").read_bytes())

    def missing_file(self) -> None:
        self.dice.choice(files(self.path)).unlink()

    def extra_file(self) -> None:
        folder = self.dice.choice([self.path, *(each for each in self.path.rglob("*") if each.is_dir())])
        (folder / ("%08x.dat" % self.dice.getrandbits(32))).write_bytes(self.dice.randbytes(self.dice.randrange(64)))

    def link(self) -> None:
        file = self.dice.choice(files(self.path))
        moved = self.outside / ("%08x" % self.dice.getrandbits(32))
        os.rename(file, moved)
        file.symlink_to(moved)

    def manifest_edited(self) -> None:
        def edit(content: bytes) -> bytes:
            # Other white space would be the same manifest.
            at = self.dice.choice([at for at, byte in enumerate(content) if not chr(byte).isspace()])
            other = self.dice.choice([byte for byte in b'abcxyz0123456789{}[],:"\\\xff' if byte != content[at]])
            return content[:at] + bytes([other]) + content[at + 1 :]

        change(self.path / "manifest.json", edit)

    def manifest_cut(self) -> None:
        change(self.path / "manifest.json", lambda content: content[: self.dice.randrange(len(content.rstrip()))])

    def manifest_missing(self) -> None:
        (self.path / "manifest.json").unlink()

    def foreign_cluster(self) -> None:
        rewrite(self.path, lambda content: content["target"].update(system_identifier=str(self.dice.randrange(10**18, 10**19))))

    def foreign_database(self) -> None:
        name = json.loads((self.foreign / "manifest.json").read_text())["manifest"]["target"]["database"]
        rewrite(self.path, lambda content: content["target"].update(database=self.dice.choice([name, name + "x", "postgres", name.upper()])))

    def newer_client(self) -> None:
        major = self.dice.randint(90, 999)
        rewrite(self.path, lambda content: content["archive"].update(client_major=major, client_version="%d.1" % major))

    def newer_server(self) -> None:
        rewrite(self.path, lambda content: content["target"].update(server_version_num=self.dice.randint(90, 999) * 10000 + 1))

    def newer_archive(self) -> None:
        """The version in the archive's head, and a manifest that says nothing of it."""
        head = self.path / "archive" / "toc.dat" if (self.path / "archive").is_dir() else self.path / "archive.dump"
        change(head, lambda content: content[:6] + bytes([self.dice.randint(60, 250)]) + content[7:])
        rewrite(self.path, lambda content: None)


CORRUPT, FORMAT, FOREIGN, VERSION = ("BACKUP_CORRUPT",), ("BACKUP_FORMAT",), ("BACKUP_FOREIGN",), ("VERSION_MISMATCH",)
#: Kind -> the codes that are right for it.
KINDS: dict[str, tuple[str, ...]] = {
    "truncated": CORRUPT,
    "bit_flip": CORRUPT,
    "empty": CORRUPT,
    "zeroed_block": CORRUPT,
    "longer": CORRUPT,
    "file_of_another_restore_point": CORRUPT,
    "manifest_of_another_restore_point": CORRUPT,
    "missing_file": CORRUPT,
    "extra_file": CORRUPT,
    "link": CORRUPT,
    # A byte may be one of the structure, of the format's number, or of what the digest covers.
    "manifest_edited": CORRUPT + FORMAT,
    "manifest_cut": FORMAT,
    "manifest_missing": FORMAT,
    "foreign_cluster": FOREIGN,
    "foreign_database": FOREIGN,
    "newer_client": VERSION,
    "newer_server": VERSION,
    "newer_archive": VERSION,
}

__all__ = ("KINDS", "Damages", "change", "files", "rewrite")
