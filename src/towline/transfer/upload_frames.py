"""From files to blocks: read, pack, compress. Sync, and made to run in threads.

Knows nothing of connections: any share makes a block of its own.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from towline.core.manifest import Entry
from towline.onboard import blocks
from towline.transfer.compression import Compression
from towline.transfer.scan import Scan
from towline.transfer.shares import Share

_BLOCK = 1024 * 1024
_KEPT_BYTES = 12 * 1024 * 1024


class FileChanged(Exception):
    """File ``number`` of the manifest is no longer what the manifest says."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Kept:
    """Contents of small files, kept since they were hashed: most need not be read twice.

    Used by two kinds of threads at once; each operation is one of a dict's own.
    """

    def __init__(self) -> None:
        self._contents: dict[int, bytes] = {}
        self._bytes = 0

    def add(self, number: int, data: bytes) -> None:
        """Keep a content; the oldest goes when there are too many."""
        self._contents[number] = data
        self._bytes += len(data)
        while self._bytes > _KEPT_BYTES:
            oldest = next(iter(self._contents), None)
            if oldest is None:
                break
            self.pop(oldest)

    def pop(self, number: int) -> bytes | None:
        """Take a content out."""
        data = self._contents.pop(number, None)
        if data is not None:
            self._bytes -= len(data)
        return data


def block_of(found: Scan, share: Share, kept: Kept, compression: Compression) -> bytes:
    """Read a share's bytes into one block.

    Raises:
        FileChanged: A file is gone, or is not what was hashed: another size, another time.
    """
    parts = []
    for part in share.parts:
        data = kept.pop(part.number)
        if data is None:
            data = _read(found, part.number, part.start, part.end)
        parts += [blocks.record(part.number, part.start, len(data)), data]
    return compression.pack(b"".join(parts))


def _read(found: Scan, number: int, start: int, end: int) -> bytes:
    entry = found.manifest[number]
    try:
        with open(f"{found.root}/{entry.path}", "rb", buffering=0) as file:  # noqa: PTH123 - fast
            if start:
                file.seek(start)
            data = file.read(end - start)
            while len(data) < end - start and (more := file.read(end - start - len(data))):
                data += more
            status = os.fstat(file.fileno())
    except OSError as error:
        raise FileChanged(number) from error
    now = (status.st_size, status.st_mtime_ns, len(data))
    if now != (entry.size_bytes, entry.mtime_ns, end - start):
        raise FileChanged(number)
    return data


def require_untouched(found: Scan) -> None:
    """Look at every file's size and time again.

    Raises:
        FileChanged: One is not what was hashed.
    """
    for number, entry in enumerate(found.manifest):
        if entry.sha256:
            try:
                status = (found.root / entry.path).stat()
            except OSError as error:
                raise FileChanged(number) from error
            if (status.st_size, status.st_mtime_ns) != (entry.size_bytes, entry.mtime_ns):
                raise FileChanged(number)


def copy_checked(found: Scan, number: int, write: Callable[[bytes], object]) -> None:
    """Copy a file's bytes to a function, and compare its hash.

    Raises:
        FileChanged: It is gone, or no longer what the manifest says.
    """
    entry = found.manifest[number]
    digest = hashlib.sha256()
    try:
        file = (found.root / entry.path).open("rb", buffering=0)
    except OSError as error:
        raise FileChanged(number) from error
    with file:
        while data := file.read(_BLOCK):
            digest.update(data)
            write(data)
    if digest.hexdigest() != entry.sha256:
        raise FileChanged(number)


def require_same_hash(found: Scan, number: int) -> None:
    """Hash a file again.

    Raises:
        FileChanged: It is no longer what the manifest says.
    """
    entry: Entry = found.manifest[number]
    if _hash(found.root / entry.path) != entry.sha256:
        raise FileChanged(number)


def _hash(local: Path) -> str:
    """SHA-256 of a file, "" when it can't be read."""
    try:
        with local.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""  # gone or locked: whoever compares sees a change
