"""Contents read and hashed, once for each change: what is known from an earlier scan is not read.

`Hashing` is an upload's view: hashes come in order, just ahead of who needs them.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Callable, Generator

from towline.core.manifest import Entry, shown
from towline.errors import SourceChanged
from towline.transfer.hash_cache import CachedRoot, HashCache
from towline.transfer.scan import Scan, file_entry, unreadable
from towline.transfer.upload_frames import Kept

_BLOCK = 1024 * 1024
_SMALL_BYTES = 64 * 1024  # contents up to this size are kept for the sender
_READ = os.O_RDONLY | getattr(os, "O_BINARY", 0)
_TRIES = 3  # a file that changes while it is hashed is hashed again
#: a batch ends after so many entries, bytes or seconds
_BATCH_ROWS, _BATCH_BYTES, _BATCH_S = 2000, 32 * 1024 * 1024, 0.25


def rehash(found: Scan, number: int) -> None:
    """Read one file anew.

    Raises:
        SpecError: It can't be read any more.
        SourceChanged: It changes all the time.
    """
    path = found.manifest.path(number)
    entry, _status, _data = _read(f"{found.root}/{path}", path)
    found.manifest.replace(number, entry)


def hashed(
    found: Scan, cache: HashCache | None = None, keep: Callable[[int, bytes], object] | None = None
) -> Generator[int]:
    """Give every file its hash, in order; yields how many entries, from the first on, are done.

    Blocking: made to run in a thread.

    Args:
        found: Whose manifest is filled in.
        cache: Hashes of earlier scans; new ones are added.
        keep: Given the contents of small files that were read.

    Raises:
        SpecError: A file can't be read.
        SourceChanged: A file changes all the time.
    """
    manifest = found.manifest
    known = CachedRoot(cache, found.root)
    try:
        began, first, size = time.monotonic(), 0, 0
        for number in range(len(manifest)):
            if not manifest.has_hash(number):
                size += _give_hash(found, number, known, keep)
            late = time.monotonic() - began > _BATCH_S
            if late or size >= _BATCH_BYTES or number - first >= _BATCH_ROWS:
                known.save()
                yield number + 1
                began, first, size = time.monotonic(), number, 0
        known.drop_rest()
        yield len(manifest)
    finally:
        known.close()


def _give_hash(
    found: Scan, number: int, known: CachedRoot, keep: Callable[[int, bytes], object] | None
) -> int:
    """Find or make one file's hash; how many bytes were read."""
    entry = found.manifest[number]
    local = f"{found.root}/{entry.path}"
    sha256 = known.find(entry, local)
    if sha256 is not None:
        found.manifest.set_hash(number, sha256)
        return 0
    began_ns = time.time_ns()
    fresh, status, data = _read(local, entry.path)
    found.manifest.replace(number, fresh)
    known.add(fresh, status, began_ns)
    if data and keep is not None:
        keep(number, data)
    return fresh.size_bytes


def _read(local: str, path: str) -> tuple[Entry, os.stat_result, bytes]:
    """Hash a file, again while it changes, three times at most; a small one's content too."""
    for _ in range(_TRIES):
        try:
            fd = os.open(local, _READ)  # a file object would cost as much as reading a small file
            try:
                before = os.fstat(fd)
                digest, size, data = _hash(fd, before.st_size)
                after = os.fstat(fd)
            finally:
                os.close(fd)
        except FileNotFoundError as error:
            message = f"{shown(local)} went away before it was sent"
            raise SourceChanged(message, hint="start again when the folder stands still") from error
        except OSError as error:
            raise unreadable(local, error) from error
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        if same and size == after.st_size:
            return file_entry(path, after, digest), after, data
    message = f"{shown(local)} keeps changing while it is read"
    raise SourceChanged(message, hint="wait until what writes it has ended, then start again")


def _hash(fd: int, size: int) -> tuple[str, int, bytes]:
    """(hash, bytes read, the content of a small file)."""
    if size <= _SMALL_BYTES:
        data = os.read(fd, size + 1)
        while len(data) <= size and (more := os.read(fd, size + 1 - len(data))):
            data += more
        return hashlib.sha256(data).hexdigest(), len(data), data
    digest = hashlib.sha256()
    count = 0
    buffer = bytearray(_BLOCK)
    view = memoryview(buffer)
    while n := os.readv(fd, [buffer]) if hasattr(os, "readv") else _read_into(fd, buffer):
        digest.update(view[:n])
        count += n
    return digest.hexdigest(), count, b""


def _read_into(fd: int, buffer: bytearray) -> int:
    """As os.readv, which Windows lacks."""
    data = os.read(fd, len(buffer))
    buffer[: len(data)] = data
    return len(data)


class Hashing:
    """An upload's hashes on their way: more are made when somebody waits for them.

    ``kept`` holds contents of small files that were read for it.
    """

    def __init__(self, found: Scan, cache: HashCache | None) -> None:
        self.kept = Kept()
        self._count = len(found.manifest)
        self._source = hashed(found, cache, self.kept.add)
        self._ready = 0
        self._pull: asyncio.Task[int] | None = None

    def start(self) -> None:
        """Begin with the next ones, so that they are there when they are asked for."""
        if self._pull is None and self._ready < self._count:
            self._pull = asyncio.create_task(asyncio.to_thread(next, self._source, self._count))

    async def beyond(self, number: int) -> int:
        """Wait until entry ``number`` has its hash; how many have one, from the first on.

        Raises:
            SpecError: A file can't be read.
            SourceChanged: A file changes all the time.
        """
        while self._ready <= number:
            self.start()
            assert self._pull is not None  # noqa: S101 - not all are ready
            # shielded: the thread goes on when the one who waits is ended
            ready = await asyncio.shield(self._pull)
            self._pull, self._ready = None, ready
        self.start()
        return self._ready

    async def all(self) -> None:
        """Wait until every entry has its hash."""
        await self.beyond(self._count - 1)

    async def close(self) -> None:
        """End; a thread that reads a large file is waited for."""
        if self._pull is not None:
            await asyncio.wait({self._pull})
            self._pull.exception()
        await asyncio.to_thread(self._source.close)
