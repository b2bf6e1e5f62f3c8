"""How files of the run's folder go home: hash, send. Changes nothing."""

import json
import os

from . import blocks, codecs, safe_files, wire
from .safe_files import Pulse


def digest(request, pipe):
    """Hash the files ``paths`` (absolute).

    Returns:
        {"sha256": {path: hex, null for one that is gone}, "size": {path: bytes hashed},
        "unreadable": [paths]}.
    """
    pulse = Pulse(pipe)
    sha256, size, unreadable = {}, {}, []
    for path in request["paths"]:
        real = os.path.realpath(safe_files.inside(request, path))
        try:
            sha256[path], size[path] = safe_files.hash_file(real, pulse)
        except PermissionError:
            sha256[path], size[path] = None, 0
            unreadable.append(path)
    return {"sha256": sha256, "size": size, "unreadable": unreadable}


def send(request, pipe):
    """Send parts of files, as they are asked for.

    In: JSON {"ask": [[path below base, start, end], ...]}, at most a block's bytes together; END
    ends it. Out, for each: one DATA frame, a block with a record for each part, numbered as in the
    ask; what is gone or shorter is missing in it.

    Args:
        request: "base" (absolute); "codecs" that the other side can unpack.
        pipe: Takes the asks and gets the blocks.

    Returns:
        {"bytes"}: how many file bytes were sent.
    """
    both = [codec for codec in codecs.available() if codec in request["codecs"]]
    sent = 0
    while True:
        kind, payload = pipe.read()
        if kind == wire.END:
            return {"bytes": sent}
        parts = []
        for number, part in enumerate(json.loads(payload.decode("ascii"))["ask"]):
            data = _read(request, part)
            parts += [blocks.record(number, part[1], len(data)), data]
            sent += len(data)
        pipe.send(wire.DATA, blocks.wrap(b"".join(parts), both[0] if both else "stored"))


def _read(request, part):
    """The bytes of a part; fewer when the file has become shorter, none when it is gone."""
    path, start, end = part
    if not 0 <= start <= end <= start + blocks.BLOCK_BYTES:
        raise wire.Refusal("garbled", "a part of %d bytes is asked for" % (end - start))
    real = os.path.realpath(safe_files.inside(request, request["base"] + "/" + path))
    fd = safe_files.open_regular(real)
    if fd is None:
        return b""
    with os.fdopen(fd, "rb", 0) as file:
        file.seek(start)
        return b"".join(iter(lambda: file.read(end - file.tell()), b""))
