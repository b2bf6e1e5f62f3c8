"""Bring a scanned tree to the instance, whole or not at all, by the best way that works there.

Owns the choice of the way and what happens when a local file changes meanwhile. The ways are
`stream` (upload_stream) and the classic ones (upload_classic).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Literal

from towline.core.manifest import shown
from towline.errors import CommandFailed, SourceChanged, SpecError
from towline.line import Line
from towline.transfer.meter import Meter, Report, TransferProgress, TransferResult
from towline.transfer.scan import Scan, rescan
from towline.transfer.upload_classic import CannotPack, file_by_file, single_file, zipped
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
    scan: Scan,
    name: str,
    *,
    mode: Mode,
    codecs: Sequence[str],
    report: Report,
) -> TransferResult:
    """Send a tree and have it verified; unchanged data that is there already is not sent again.

    May be called again after any failure, also by another process: what has arrived counts.

    Args:
        line: To the instance.
        scan: With hashes.
        name: The folder under the run's root: "dataset" or "code".
        mode: The way; auto tries the stream, then the classic ones.
        codecs: What the instance's Python can decompress; empty: no stream.
        report: Told how far it is, and why another way is taken.

    Raises:
        SourceChanged: A local file changed more than once, or went away.
        ChecksumMismatch: Something kept arriving damaged.
        RemoteDiskFull: The instance has no room.
        CommandFailed: No way works there.
        ConnectionLost: The line could not be taken up again.
    """
    changed: set[str] = set()
    meter = Meter("upload", report)
    while True:
        meter.expect(scan.manifest.size_bytes, scan.manifest.file_count)
        job = await Job.of(line, scan, name, codecs, meter)
        try:
            way = await _by_some_way(job, mode)
        except FileChanged as one:
            scan = await _scanned_anew(scan, one.path, changed)
            meter.note(f"{shown(one.path)} changed while it was sent; it is sent anew")
        else:
            return meter.result(way, job.digest)


async def _scanned_anew(scan: Scan, path: str, changed: set[str]) -> Scan:
    """Read a changed file once more; a second time is too often."""
    where = shown(str(scan.root / path))
    hint = "wait until what writes there has ended, then `towline resume`"
    if path in changed:
        raise SourceChanged(f"{where} keeps changing while it is sent", hint=hint)
    changed.add(path)
    try:
        return await asyncio.to_thread(rescan, scan, path)
    except SpecError as error:
        raise SourceChanged(f"{where} went away while it was sent", hint=hint) from error


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
    if mode == "auto" and not job.codecs:
        ways = ["zip", "files"]
        job.meter.note("the instance's Python has no zlib, so the stream is not used")
    if single_file(job.found) and "zip" in ways:
        ways.remove("zip")  # one file is sent as it is
    return ways
