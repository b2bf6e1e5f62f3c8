"""From files to blocks: read, hash, pack, compress. The second half of every upload.

Sync, and made to run in a thread. Knows nothing of connections: any share of the pieces makes a
sequence of blocks of its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path

from towline.core.manifest import Entry
from towline.onboard import wire
from towline.transfer.scan import Scan
from towline.transfer.upload_plan import Piece

_BLOCK = 1024 * 1024


class FileChanged(Exception):
    """A file is no longer what the manifest says; ``path`` is its entry's."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


@dataclass(frozen=True, slots=True)
class Frame:
    """One block: its ``payload``, the file bytes in it, and how many files it ends."""

    payload: bytes
    bytes: int
    files: int


def frames(found: Scan, pieces: Iterable[Piece], codec: str) -> Iterator[Frame]:
    """Read pieces into blocks of about a megabyte; small files share one.

    Every file is hashed from its beginning, also when only its rest is sent.

    Raises:
        FileChanged: A file is gone, or not what the manifest says. What was yielded of it is
            dropped by the instance, which finds that the hash does not fit.
    """
    packer = wire.Packer(codec)
    count = files = 0
    for piece in pieces:
        entry = found.manifest.entries[piece.number]
        try:
            with (found.root / entry.path).open("rb", buffering=0) as file:
                for offset, data in _checked(file, entry, piece.offset, lambda: packer.room):
                    packer.add(piece.number, offset, data)
                    count += len(data)
                    files += offset + len(data) == entry.size_bytes
                    if not packer.room:
                        yield Frame(packer.take(), count, files)
                        count = files = 0
        except OSError as error:
            raise FileChanged(entry.path) from error
    if count:
        yield Frame(packer.take(), count, files)


def _checked(
    file: FileIO, entry: Entry, offset: int, room: Callable[[], int]
) -> Iterator[tuple[int, bytes]]:
    """Yield a file's bytes from an offset, as many as there is room for; then compare its hash."""
    digest = hashlib.sha256()
    at = 0
    while at < offset and (data := file.read(min(_BLOCK, offset - at))):
        digest.update(data)
        at += len(data)
    while at < entry.size_bytes and (data := file.read(min(room(), entry.size_bytes - at))):
        digest.update(data)
        yield at, data
        at += len(data)
    if file.read(1) or digest.hexdigest() != entry.sha256:
        raise FileChanged(entry.path)


def copy_checked(found: Scan, entry: Entry, write: Callable[[bytes], object]) -> None:
    """Copy a file's bytes to a function, and compare its hash.

    Raises:
        FileChanged: It is gone, or no longer what the manifest says.
    """
    try:
        file = (found.root / entry.path).open("rb", buffering=0)
    except OSError as error:
        raise FileChanged(entry.path) from error
    with file:
        for _offset, data in _checked(file, entry, 0, lambda: _BLOCK):
            write(data)


def require_unchanged(found: Scan, pieces: Iterable[Piece]) -> None:
    """Hash files again.

    Raises:
        FileChanged: One is no longer what the manifest says.
    """
    for piece in pieces:
        entry = found.manifest.entries[piece.number]
        if _hash(found.root / entry.path) != entry.sha256:
            raise FileChanged(entry.path)


def _hash(local: Path) -> str:
    """SHA-256 of a file, "" when it can't be read."""
    try:
        with local.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""  # gone or locked: whoever compares sees a change
