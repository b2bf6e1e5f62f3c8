"""Bring a scanned tree to the instance, whole or not at all, by the best way that works there.

Owns the choice of the way and what happens when a local file changes meanwhile. The ways are
`stream` (upload_stream) and the classic ones (upload_classic).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal

from towline.core.manifest import shown
from towline.errors import CommandFailed, SourceChanged
from towline.line import Line
from towline.transfer.compression import Compression
from towline.transfer.hash_cache import HashCache
from towline.transfer.hashing import Hashing, rehash
from towline.transfer.meter import Meter, Report, TransferProgress, TransferResult
from towline.transfer.scan import Scan
from towline.transfer.upload_classic import CannotPack, file_by_file, zipped
from towline.transfer.upload_frames import FileChanged
from towline.transfer.upload_job import Job
from towline.transfer.upload_stream import stream

__all__ = ["Report", "TransferProgress", "TransferResult", "upload"]

Mode = Literal["auto", "stream", "zip", "files"]

_WAYS: dict[str, tuple[str, Callable[[Job], Awaitable[None]]]] = {
    "stream": ("the compressed stream", stream),
    "zip": ("one ZIP", zipped),
    "files": ("file by file", file_by_file),
}
_ORDER: dict[Mode, tuple[str, ...]] = {
    # the stream twice: once may be bad luck
    "auto": ("stream", "stream", "zip", "files"),
    "stream": ("stream",),
    "zip": ("zip", "files"),
    "files": ("files",),
}


async def upload(
    line: Line,
    found: Scan,
    name: str,
    *,
    mode: Mode,
    report: Report,
    cache: HashCache | None = None,
) -> TransferResult:
    """Send a tree and have it verified; unchanged data that is there already is not sent again.

    May be called again after any failure, also by another process: what has arrived counts.

    Args:
        line: To the instance.
        found: What the scan found; hashes are added to its manifest.
        name: The folder under the run's root: "dataset" or "code".
        mode: The way; auto tries the stream, then the classic ones.
        report: Told how far it is, and why another way is taken.
        cache: Hashes of earlier scans.

    Raises:
        SpecError: A local file can't be read.
        SourceChanged: A local file changed more than once, or went away.
        ChecksumMismatch: Something kept arriving damaged.
        RemoteDiskFull: The instance has no room.
        CommandFailed: No way works there.
        ConnectionLost: The line could not be taken up again.
    """
    changed: set[int] = set()
    meter = Meter("upload", report)
    hashing = Hashing(found, cache)
    job = Job(
        line=line,
        found=found,
        name=name,
        hashing=hashing,
        compression=Compression(line.codecs),
        meter=meter,
    )
    try:
        while True:
            meter.expect(found.manifest.size_bytes, found.manifest.file_count)
            try:
                way = await _by_some_way(job, mode)
            except FileChanged as one:
                await _read_anew(found, one.number, changed)
                path = shown(found.manifest.path(one.number))
                meter.note(f"{path} changed while it was sent; it is sent anew")
            else:
                meter.expect(found.manifest.size_bytes, found.manifest.file_count)
                return meter.result(way, await asyncio.to_thread(found.manifest.digest))
    finally:
        await hashing.close()


async def _read_anew(found: Scan, number: int, changed: set[int]) -> None:
    """Read a changed file once more; a second time is too often."""
    where = shown(str(found.root / found.manifest.path(number)))
    hint = "wait until what writes there has ended, then `towline resume`"
    if number in changed:
        raise SourceChanged(f"{where} keeps changing while it is sent", hint=hint)
    changed.add(number)
    await asyncio.to_thread(rehash, found, number)


async def _by_some_way(job: Job, mode: Mode) -> str:
    """Try the ways in order; the name of the one that worked."""
    ways = _ways(job, mode)
    for way, after in zip(ways, [*ways[1:], None], strict=True):
        said, go = _WAYS[way]
        try:
            await go(job)
        except (CommandFailed, CannotPack) as error:
            if after is None:
                raise
            if after != way:
                job.meter.note(f"{said} fails ({error.message}); {_WAYS[after][0]} is tried")
        else:
            return way
    raise AssertionError(ways)  # the last way returns or raises


def _ways(job: Job, mode: Mode) -> list[str]:
    """Ways to try, in order."""
    ways = list(_ORDER[mode])
    if job.found.source.is_file() and "zip" in ways:
        ways.remove("zip")  # one file is sent as it is
    return ways
