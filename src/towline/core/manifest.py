"""The manifest: every entry of a tree, and one digest that names the whole.

Owns the canonical form that both ends hash. Paths are relative, with `/`, and are bytes that
need not be text; in JSON they travel with Python's surrogate escapes.
"""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any


class EntryKind(enum.StrEnum):
    """What an entry is; nothing else is ever sent."""

    FILE = "f"
    DIR = "d"
    LINK = "l"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One file, empty or full folder, or symbolic link inside the tree.

    ``sha256`` is the hex digest of a file's content, ``target`` a link's text; the other is "".
    ``mode`` holds the nine permission bits only: setuid, setgid and sticky are never sent.
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


@dataclass(frozen=True, slots=True)
class Manifest:
    """Entries sorted by path; the position in ``entries`` is the entry's number on the wire."""

    entries: tuple[Entry, ...]

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Manifest:
        """Sort entries into a manifest."""
        return cls(tuple(sorted(entries, key=lambda entry: path_bytes(entry.path))))

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(entry.size_bytes for entry in self.entries)

    @property
    def file_count(self) -> int:
        """Number of files."""
        return sum(entry.kind is EntryKind.FILE for entry in self.entries)

    def lines(self) -> bytes:
        """Canonical bytes: one JSON list a line; the far side hashes these very bytes."""
        return b"".join(
            json.dumps(entry.row(), separators=(",", ":")).encode("ascii") + b"\n"
            for entry in self.entries
        )

    def digest(self) -> str:
        """SHA-256 of ``lines()``: the tree's name."""
        return hashlib.sha256(self.lines()).hexdigest()

    def content_digest(self) -> str:
        """SHA-256 over paths, kinds, contents and link targets only: times and modes left out."""
        rows = (
            json.dumps([entry.path, str(entry.kind), entry.sha256, entry.target])
            for entry in self.entries
        )
        return hashlib.sha256("\n".join(rows).encode("ascii")).hexdigest()


def path_bytes(path: str) -> bytes:
    """Bytes of a path as the far side's file system will see them."""
    return path.encode("utf-8", "surrogateescape")


def shown(path: str) -> str:
    """Make a path safe to print: control characters, invalid bytes and bidi marks escaped."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in path
    )
