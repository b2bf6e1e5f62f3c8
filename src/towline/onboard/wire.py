"""The frames both ends speak: one kind byte, a 32-bit length, the payload.

A verb's reply begins with MAGIC, so that whatever a login shell prints before it is skipped.
File data travels as blocks: the payload of a DATA frame, holding records of one or many files,
compressed where that pays. A block stands alone, so that any connection may carry it.
Imported by both ends; knows nothing of verbs.
"""

import importlib
import json
import struct

MAGIC = b"\ntowline/1\n"
#: no frame is larger; a longer one is garbage or an attack
MAX_PAYLOAD = 32 * 1024 * 1024

JSON = b"J"  # request, or a structured remark
DATA = b"D"  # payload of the verb's own form
END = b"E"  # no more frames in this direction
RESULT = b"R"  # the verb's result, JSON; the last frame
ERROR = b"X"  # {"kind", "message", ...}; the last frame

HEADER = struct.Struct(">cI")


def pack(kind, payload=b""):
    """Make one frame's bytes."""
    return HEADER.pack(kind, len(payload)) + payload


def pack_json(kind, value):
    """Make one frame with a JSON payload (ASCII; lone surrogates survive)."""
    return pack(kind, json.dumps(value, separators=(",", ":")).encode("ascii"))


def unpack_header(header):
    """Read kind and payload length.

    Raises:
        ValueError: The length is out of bounds.
    """
    kind, length = HEADER.unpack(header)
    if length > MAX_PAYLOAD:
        raise ValueError("frame of %d bytes" % length)
    return kind, length


class Refusal(Exception):
    """A verb refuses or fails in a way the caller knows by its kind."""

    def __init__(self, kind, message, **data):
        Exception.__init__(self, message)
        self.body = dict(data, kind=kind, message=message)


class Pipe:
    """Blocking frames over two binary file objects."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    def read(self):
        """Read one frame: (kind, payload).

        Raises:
            EOFError: The other end hung up, also in the middle of a frame.
        """
        kind, length = unpack_header(self._exactly(HEADER.size))
        return kind, self._exactly(length)

    def read_json(self):
        """Read a JSON frame's value, whatever its kind."""
        return json.loads(self.read()[1].decode("ascii"))

    def send(self, kind, payload=b""):
        """Send one frame at once."""
        self.writer.write(pack(kind, payload))
        self.writer.flush()

    def send_json(self, kind, value):
        """Send one JSON frame at once."""
        self.writer.write(pack_json(kind, value))
        self.writer.flush()

    def _exactly(self, n):
        parts = []
        while n:
            part = self.reader.read(min(n, 1 << 20))
            if not part:
                raise EOFError
            parts.append(part)
            n -= len(part)
        return b"".join(parts)


# -- blocks ---------------------------------------------------------------------------------------

#: raw bytes after which a block is sent; one record never makes it larger
BLOCK_BYTES = 1024 * 1024
_BLOCK = struct.Struct(">cI")  # codec, length of the raw bytes
_RECORD = struct.Struct(">IQI")  # number of the file, offset in it, length of what follows
_RAW_LIMIT = 2 * BLOCK_BYTES  # what a block may unpack to, records' headers included
_CODEC_BYTES = {"stored": b"0", "zlib": b"1", "zstd": b"2"}
_LEVEL = 3
_SAMPLE_BYTES = 8192
_LEAST_RECORD = 4096  # less room than this at a block's end is left empty
_WORTH_IT = 0.95  # compressed to raw; above it a block is sent as it is


def codec_module(codec):
    """The module of a codec, None where this Python lacks it.

    zstd is in the standard library from 3.14 on; the laptop's side has it as a backport before.
    """
    names = {"zlib": ["zlib"], "zstd": ["compression.zstd", "backports.zstd"]}
    for name in names.get(codec, []):
        try:
            return importlib.import_module(name)
        except ImportError:
            continue  # that one is not here; another may be
    return None


class Packer:
    """Collects records into blocks of about BLOCK_BYTES."""

    def __init__(self, codec):
        self._codec = codec
        self._module = codec_module(codec)
        self._parts = []
        self._room = BLOCK_BYTES

    @property
    def room(self):
        """Bytes of data that the next record may have; 0: the block must be taken."""
        return self._room if self._room >= _LEAST_RECORD else 0

    def add(self, number, offset, data):
        """Add bytes of one file; no more than `room`."""
        self._parts += [_RECORD.pack(number, offset, len(data)), data]
        self._room -= len(data) + _RECORD.size

    def take(self):
        """The block's payload; b"" when nothing was added."""
        if not self._parts:
            return b""
        raw = b"".join(self._parts)
        self._parts, self._room = [], BLOCK_BYTES
        if self._module is not None and _shrinks(raw, self._module):
            packed = self._module.compress(raw, _LEVEL)
            if len(packed) < len(raw):
                return _BLOCK.pack(_CODEC_BYTES[self._codec], len(raw)) + packed
        return _BLOCK.pack(_CODEC_BYTES["stored"], len(raw)) + raw


def _shrinks(raw, module):
    """Try three samples: images and archives are not worth the time."""
    if len(raw) <= 3 * _SAMPLE_BYTES:
        return True
    starts = (0, len(raw) // 2, len(raw) - _SAMPLE_BYTES)
    sample = b"".join(raw[at : at + _SAMPLE_BYTES] for at in starts)
    return len(module.compress(sample, 1)) < _WORTH_IT * len(sample)


def unpack_block(payload):
    """List the records of a block: [(number, offset, bytes-like)].

    Raises:
        ValueError: It is none; nothing larger than a block is ever unpacked.
    """
    if len(payload) < _BLOCK.size:
        raise ValueError("block without a header")
    codec, length = _BLOCK.unpack_from(payload)
    if length > _RAW_LIMIT:
        raise ValueError("block of %d bytes" % length)
    raw = memoryview(_unpacked(codec, memoryview(payload)[_BLOCK.size :], length))
    if len(raw) != length:
        raise ValueError("block of %d bytes unpacks to %d" % (length, len(raw)))
    return list(_records(raw))


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


def _unpacked(codec, data, length):
    names = [name for name, byte in _CODEC_BYTES.items() if byte == codec]
    if names == ["stored"]:
        return data
    module = codec_module(names[0]) if names else None
    if module is None:
        raise ValueError("unknown codec %r" % codec)
    # one byte more than promised is asked for, so that a longer one shows
    if names == ["zlib"]:
        one = module.decompressobj()
        return _decompressed(one, data, length, module.error)
    return _decompressed(module.ZstdDecompressor(), data, length, module.ZstdError)


def _decompressed(one, data, length, kind):
    try:
        raw = one.decompress(data, length + 1)
    except kind as error:
        raise ValueError("broken block: %s" % error) from error
    if not one.eof:
        raise ValueError("cut or oversized block")
    return raw
