"""Files into frames and back: small files packed together, compressed where that pays.

Pure but for reading the files it is told to; knows no connection.
"""

from __future__ import annotations

import hashlib
import sys
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any

from towline.core.manifest import Entry, EntryKind
from towline.onboard.receive import FRAME, RECORD, STORED, ZLIB, ZSTD
from towline.transfer.scan import Scan

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

#: raw bytes of a frame, about
FRAME_BYTES = 1 << 20
_SAMPLE_BYTES = 16 * 1024
_WORTH_IT = 0.9  # a sample that shrinks less is sent as it is
_ZLIB_LEVEL, _ZSTD_LEVEL = 4, 3


class Changed(Exception):
    """A file's content is not what the manifest says any more."""

    def __init__(self, entry: Entry) -> None:
        super().__init__(entry.path)
        self.entry = entry


def frames(
    scan: Scan, have: Sequence[tuple[int, int]], codecs: Sequence[str]
) -> Generator[tuple[bytes, int], None, None]:
    """Yield (payload, raw bytes of file content) for all that is missing.

    Args:
        scan: The tree.
        have: [entry number, bytes that are there] of files that were begun.
        codecs: Names of what the far side can unpack.

    Raises:
        Changed: A file differs from the manifest; found at its end, by its hash.
    """
    parts: list[bytes] = []
    size = 0
    for number, offset, block in _blocks(scan, dict(have)):
        parts += [RECORD.pack(number, offset, len(block)), block]
        size += len(block)
        if size >= FRAME_BYTES:
            yield _packed(b"".join(parts), codecs), size
            parts, size = [], 0
    if parts:
        yield _packed(b"".join(parts), codecs), size


def records(payload: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Take a frame apart: (file number, offset, bytes).

    Raises:
        ValueError: It is malformed.
    """
    codec, raw_length = FRAME.unpack_from(payload)
    raw = _DECODE[codec](payload[FRAME.size :], raw_length)
    if len(raw) != raw_length:
        raise ValueError("a frame unpacks to another length than it says")
    at = 0
    while at < len(raw):
        number, offset, length = RECORD.unpack_from(raw, at)
        at += RECORD.size
        block = raw[at : at + length]
        if len(block) != length:
            raise ValueError("a record is longer than its frame")
        yield number, offset, block
        at += length


def _blocks(scan: Scan, have: dict[int, int]) -> Iterator[tuple[int, int, bytes]]:
    """Read every missing byte, each file hashed as it is read."""
    for number, entry in enumerate(scan.manifest.entries):
        there = have.get(number, 0)
        if entry.kind is EntryKind.FILE and there < entry.size_bytes:
            yield from _file_blocks(scan, number, entry, there)


def _file_blocks(
    scan: Scan, number: int, entry: Entry, there: int
) -> Iterator[tuple[int, int, bytes]]:
    digest = hashlib.sha256()
    offset = 0
    try:
        with scan.path(entry).open("rb") as file:
            while offset < entry.size_bytes:
                end = there if offset < there else entry.size_bytes
                block = file.read(min(FRAME_BYTES, end - offset))
                if not block:
                    break
                digest.update(block)
                if offset >= there:
                    yield number, offset, block
                offset += len(block)
    except OSError as error:
        raise Changed(entry) from error
    if digest.hexdigest() != entry.sha256:
        raise Changed(entry)


def _packed(raw: bytes, codecs: Sequence[str]) -> bytes:
    codec, payload = STORED, raw
    sample = raw[:_SAMPLE_BYTES]
    if codecs and len(zlib.compress(sample, 1)) < _WORTH_IT * len(sample):
        if "zstd" in codecs:
            codec, payload = ZSTD, zstd.compress(raw, _ZSTD_LEVEL)
        else:
            codec, payload = ZLIB, zlib.compress(raw, _ZLIB_LEVEL)
    return FRAME.pack(codec, len(raw)) + payload


_DECODE: dict[int, Callable[[bytes, int], Any]] = {
    STORED: lambda payload, _length: payload,
    ZLIB: lambda payload, length: zlib.decompressobj().decompress(payload, length + 1),
}
