"""The frames both ends speak: one kind byte, a 32-bit length, the payload.

A verb's reply begins with MAGIC, so that whatever a login shell prints before it is skipped.
Imported by both ends; knows nothing of verbs.
"""

import json
import struct

MAGIC = b"\ntowline/1\n"
#: no frame is larger; a longer one is garbage or an attack
MAX_PAYLOAD = 32 * 1024 * 1024

JSON = b"J"  # request, or a structured remark
DATA = b"D"  # payload of the verb's own form, mostly a block
ROWS = b"M"  # a block of the manifest's lines
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
