"""Blocks: how file data and manifests travel, compressed where that pays.

A block is the payload of one frame and stands alone, so that any connection may carry it. A data
block holds records: bytes of one or many files, each by the file's number in the manifest.
Imported by both ends; knows nothing of verbs.
"""

import struct

from . import codecs

#: raw bytes that a block holds; the most of one file that travels as one record
BLOCK_BYTES = 1024 * 1024
_BLOCK = struct.Struct(">cI")  # codec, length of the raw bytes
_RECORD = struct.Struct(">IQI")  # number of the file, offset in it, length of what follows
#: what a block may unpack to, records' headers included
RAW_LIMIT = 2 * BLOCK_BYTES
_CODEC_BYTES = {"stored": b"0", "zlib": b"1", "zstd": b"2"}
_LEVEL = 3
_SAMPLE_BYTES = 8192
_WORTH_IT = 0.95  # compressed to raw; above it a block is sent as it is


def wrap(raw, codec, level=_LEVEL):
    """Make a block of bytes; stored when a sample does not shrink, or ``level`` is 0."""
    module = codecs.find(codec)
    if level and module is not None and _shrinks(raw, module):
        packed = module.compress(raw, level)
        if len(packed) < len(raw):
            return _BLOCK.pack(_CODEC_BYTES[codec], len(raw)) + packed
    return _BLOCK.pack(_CODEC_BYTES["stored"], len(raw)) + raw


def unwrap(payload):
    """The bytes of a block, as a memoryview.

    Raises:
        ValueError: It is none; nothing larger than RAW_LIMIT is ever unpacked.
    """
    if len(payload) < _BLOCK.size:
        raise ValueError("block without a header")
    codec, length = _BLOCK.unpack_from(payload)
    if length > RAW_LIMIT:
        raise ValueError("block of %d bytes" % length)
    raw = _unpacked(codec, memoryview(payload)[_BLOCK.size :], length)
    if len(raw) != length:
        raise ValueError("block of %d bytes unpacks to %d" % (length, len(raw)))
    return memoryview(raw)


def _unpacked(codec, data, length):
    names = [name for name, byte in _CODEC_BYTES.items() if byte == codec]
    if names == ["stored"]:
        return data
    module = codecs.find(names[0]) if names else None
    if module is None:
        raise ValueError("unknown codec %r" % codec)
    return module.decompress(data, length)


def _shrinks(raw, module):
    """Try three samples: images and archives are not worth the time."""
    if len(raw) <= 3 * _SAMPLE_BYTES:
        return True
    starts = (0, len(raw) // 2, len(raw) - _SAMPLE_BYTES)
    sample = b"".join(raw[at : at + _SAMPLE_BYTES] for at in starts)
    return len(module.compress(sample, 1)) < _WORTH_IT * len(sample)


def record(number, offset, length):
    """The header of a record: so many bytes of a file follow, from an offset on."""
    return _RECORD.pack(number, offset, length)


def records(payload):
    """List the records of a data block: [(number, offset, memoryview)].

    Raises:
        ValueError: It is none.
    """
    return list(_records(unwrap(payload)))


def _records(raw):
    at = 0
    while at < len(raw):
        if at + _RECORD.size > len(raw):
            raise ValueError("record without a header")
        number, offset, size = _RECORD.unpack_from(raw, at)
        at += _RECORD.size
        if at + size > len(raw):
            raise ValueError("record longer than its block")
        yield number, offset, raw[at : at + size]
        at += size
