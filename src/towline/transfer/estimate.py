"""What an upload will weigh on the line, from a sample of it. Sync: callers run it in a thread."""

from __future__ import annotations

import bisect
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate, chain

from towline.core.manifest import shown
from towline.errors import SourceChanged
from towline.onboard import codecs
from towline.onboard.blocks import BLOCK_BYTES
from towline.transfer.compression import Compression
from towline.transfer.scan import Scan
from towline.transfer.shares import Part, Share
from towline.transfer.upload_frames import FileChanged, Kept, block_of

_BLOCKS = 64
_SPREAD = 8  # blocks are read in so many rounds, so that a round cut short still saw it all
_LIMIT_S = 1.0
_ENTRY_BYTES = 50  # of the manifest on the line for each entry: a hash does not shrink
_ZIP_ENTRY_BYTES = 240  # of a ZIP's own headers beside it
_ZIP_LEVEL = 6


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes on the line, and what that was judged by."""

    sent_bytes: int
    sample_bytes: int
    codec: str


def estimate(found: Scan, mode: str) -> Estimate:
    """Pack blocks from all over an upload the way it would be sent in that mode.

    It is assumed that the instance has the codecs that this machine has, and nothing of the
    upload. At most 64 MiB are read, and no longer than about a second.

    Raises:
        SourceChanged: A file changed since the scan.
    """
    packing = _packing(mode)
    shares = _spread(found)
    sampled, began = 0, time.monotonic()
    for share in chain.from_iterable(shares[first::_SPREAD] for first in range(_SPREAD)):
        if sampled and time.monotonic() - began > _LIMIT_S:
            break
        try:
            block_of(found, share, Kept(), packing)
        except FileChanged as changed:
            path = shown(str(found.root / found.manifest.path(changed.number)))
            message = f"{path} changed while it was looked at"
            raise SourceChanged(message, hint="try again when nothing writes there") from changed
        sampled += share.bytes
    manifest = found.manifest
    each = _ENTRY_BYTES + (_ZIP_ENTRY_BYTES if mode == "zip" else 0)
    sent = round(manifest.size_bytes * packing.ratio) + each * len(manifest)
    return Estimate(sent, sampled, packing.codec)


def _packing(mode: str) -> Compression:
    """Compression as that mode of an upload begins with it."""
    if mode == "files":
        return Compression([])
    if mode == "zip":
        packing = Compression(["zlib"])
        packing.level = _ZIP_LEVEL
        return packing
    return Compression(codecs.available())


def _spread(found: Scan) -> list[Share]:
    """Shares of a block each, evenly spread over the bytes; all of them where there are few."""
    manifest = found.manifest
    ends = array("Q", accumulate(map(manifest.size, range(len(manifest)))))
    total = manifest.size_bytes
    count = min(_BLOCKS, -(-total // BLOCK_BYTES))
    step = max(BLOCK_BYTES, total / count) if count else 0
    starts = [int(number * step) for number in range(count)]
    return [Share(tuple(_parts(ends, at, min(at + BLOCK_BYTES, total)))) for at in starts]


def _parts(ends: array[int], at: int, upto: int) -> Iterator[Part]:
    """What lies between two offsets when all files stand one after the other."""
    number = bisect.bisect_right(ends, at)
    while at < upto:
        begin, end = ends[number - 1] if number else 0, min(ends[number], upto)
        if end > at:
            yield Part(number, at - begin, end - begin)
        at = end
        number += 1
