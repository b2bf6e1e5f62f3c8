"""The manifest: every entry of a tree, and one digest that names the whole.

Owns the canonical form that both ends hash. Paths are relative, with `/`, and are bytes that
need not be text; in JSON they travel with Python's surrogate escapes.
"""

from __future__ import annotations

import bisect
import enum
import hashlib
import json
from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any


class EntryKind(enum.StrEnum):
    """What an entry is; nothing else is ever sent."""

    FILE = "f"
    DIR = "d"
    LINK = "l"


_KINDS = list(EntryKind)
_KIND_BYTES = {kind: number for number, kind in enumerate(_KINDS)}
_FILE = _KIND_BYTES[EntryKind.FILE]
_WIDTH = hashlib.sha256().digest_size
_NO_HASH = bytes(_WIDTH)  # no content has this hash that anybody could make


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, empty or full folder, or symbolic link inside the tree.

    ``sha256`` is the hex digest of a file's content, ``target`` a link's text; the other is "".
    A file that has not been read yet has no hash. ``mode`` holds the nine permission bits only: setuid, setgid and sticky are never sent.
    """

    path: str
    kind: EntryKind
    size_bytes: int = 0
    mode: int = 0o644
    mtime_ns: int = 0
    sha256: str = ""
    target: str = ""

    def row(self) -> list[Any]:
        """Canonical list form: path, kind, size, mode, mtime, sha256, target."""
        return [
            self.path,
            str(self.kind),
            self.size_bytes,
            self.mode,
            self.mtime_ns,
            self.sha256,
            self.target,
        ]


class Manifest:
    """Entries sorted by path; the position is the entry's number on the wire.

    Kept in columns: about 100 bytes an entry, so that a million files fit into a small memory.
    Made by `append` in order, or by `of`.
    """

    def __init__(self) -> None:
        self.size_bytes = 0  # of all files
        self.file_count = 0
        self._unhashed = 0
        self._folders: list[str] = []
        self._folder_numbers: dict[str, int] = {}
        self._folder = array("I")
        self._names = bytearray()
        self._ends = array("Q")  # of each name
        self._kinds = bytearray()
        self._sizes = array("Q")
        self._modes = array("H")
        self._times = array("q")
        self._hashes = bytearray()
        self._targets: dict[int, str] = {}
        self._digest: str | None = None

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Manifest:
        """Sort entries into a manifest."""
        made = cls()
        for entry in sorted(entries, key=lambda entry: path_bytes(entry.path)):
            made.append(entry)
        return made

    def append(self, entry: Entry) -> None:
        """Add an entry; its path's bytes come after those of the one before."""
        self._digest = None
        folder, _slash, name = entry.path.rpartition("/")
        number = self._folder_numbers.get(folder)
        if number is None:
            number = self._folder_numbers[folder] = len(self._folders)
            self._folders.append(folder)
        self._folder.append(number)
        self._names += path_bytes(name)
        self._ends.append(len(self._names))
        self._kinds.append(_KIND_BYTES[entry.kind])
        self._sizes.append(entry.size_bytes)
        self._modes.append(entry.mode)
        self._times.append(entry.mtime_ns)
        self._hashes += bytes.fromhex(entry.sha256) if entry.sha256 else _NO_HASH
        if entry.target:
            self._targets[len(self) - 1] = entry.target
        self._count(len(self) - 1, 1)

    def _count(self, number: int, by: int) -> None:
        if self._kinds[number] == _FILE:
            self.file_count += by
            self.size_bytes += by * self._sizes[number]
            self._unhashed += by * (not self._sha256(number))

    def __len__(self) -> int:
        return len(self._kinds)

    def __getitem__(self, number: int) -> Entry:
        if not 0 <= number < len(self):
            raise IndexError(number)
        return Entry(
            path=self.path(number),
            kind=_KINDS[self._kinds[number]],
            size_bytes=self._sizes[number],
            mode=self._modes[number],
            mtime_ns=self._times[number],
            sha256=self._sha256(number),
            target=self._targets.get(number, ""),
        )

    def __iter__(self) -> Iterator[Entry]:
        return (self[number] for number in range(len(self)))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Manifest) or len(self) != len(other):
            return False
        return all(one == two for one, two in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]

    def path(self, number: int) -> str:
        """Path of an entry."""
        start = self._ends[number - 1] if number else 0
        name = self._names[start : self._ends[number]].decode("utf-8", "surrogateescape")
        folder = self._folders[self._folder[number]]
        return f"{folder}/{name}" if folder else name

    def size(self, number: int) -> int:
        """Bytes of an entry; 0 for what is no file."""
        return self._sizes[number]

    def is_file(self, number: int) -> bool:
        """Whether an entry is a file."""
        return self._kinds[number] == _FILE

    def has_hash(self, number: int) -> bool:
        """Whether an entry needs no hash, or has it."""
        return self._kinds[number] != _FILE or bool(self._sha256(number))

    def find(self, path: str) -> int | None:
        """Number of the entry at a path."""
        raw = path_bytes(path)
        number = bisect.bisect_left(range(len(self)), raw, key=lambda n: path_bytes(self.path(n)))
        return number if number < len(self) and self.path(number) == path else None

    def set_hash(self, number: int, sha256: str) -> None:
        """Add a file's hash."""
        self._digest = None
        self._unhashed -= not self._sha256(number)
        self._hashes[_WIDTH * number : _WIDTH * (number + 1)] = bytes.fromhex(sha256)

    def replace(self, number: int, entry: Entry) -> None:
        """Take a changed file's new figures; its path stays."""
        self._digest = None
        self._count(number, -1)
        self._sizes[number], self._modes[number] = entry.size_bytes, entry.mode
        self._times[number] = entry.mtime_ns
        raw = bytes.fromhex(entry.sha256) if entry.sha256 else _NO_HASH
        self._hashes[_WIDTH * number : _WIDTH * (number + 1)] = raw
        self._count(number, 1)

    def _sha256(self, number: int) -> str:
        raw = self._hashes[_WIDTH * number : _WIDTH * (number + 1)]
        return "" if raw == _NO_HASH else raw.hex()

    def lines(self, first: int = 0, end: int | None = None) -> Iterator[bytes]:
        """Canonical bytes, one JSON list a line; the far side hashes these very bytes."""
        for number in range(first, len(self) if end is None else end):
            path = self.path(number)
            if self._kinds[number] == _FILE and _is_plain(path) and number not in self._targets:
                yield (
                    f'["{path}","f",{self._sizes[number]},{self._modes[number]},'
                    f'{self._times[number]},"{self._sha256(number)}",""]\n'
                ).encode("ascii")
            else:
                row = json.dumps(self[number].row(), separators=(",", ":"))
                yield row.encode("ascii") + b"\n"

    def digest(self) -> str:
        """SHA-256 of all ``lines()``: the tree's name."""
        if self._digest is None:
            digest = hashlib.sha256()
            for line in self.lines():
                digest.update(line)
            self._digest = digest.hexdigest()
        return self._digest


def _is_plain(path: str) -> bool:
    """Whether JSON writes a path as it is."""
    return path.isascii() and path.isprintable() and '"' not in path and "\\" not in path


def path_bytes(path: str) -> bytes:
    """Bytes of a path as the far side's file system will see them."""
    return path.encode("utf-8", "surrogateescape")


def shown(path: str) -> str:
    """Make a path safe to print: control characters, invalid bytes and bidi marks escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in path
    )
