"""How files of the run's folder go home: hash, send, read once. Changes nothing of them."""

import fcntl
import hashlib
import json
import os

from . import blocks, codecs, safe_files, wire
from .fence import control_folder
from .safe_files import Pulse

_CLONE = 0x40049409  # ioctl FICLONE: a copy that shares its bytes, where the file system can


def digest(request, pipe):
    """Hash the files ``paths`` (absolute).

    Returns:
        {"sha256": {path: hex, null for one that is gone}, "size": {path: bytes hashed},
        "unread": [paths]}.
    """
    pulse = Pulse(pipe)
    sha256, size, unread = {}, {}, []
    for path in request["paths"]:
        real = os.path.realpath(safe_files.inside(request, path))
        try:
            sha256[path], size[path] = safe_files.hash_file(real, pulse)
        except OSError:
            sha256[path], size[path] = None, 0
            unread.append(path)
    return {"sha256": sha256, "size": size, "unread": unread}


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


def read(request, pipe):
    """Send a file that never stops changing, as it is read: once, up to its size of now.

    Of a file that only grows that is its beginning. Out: DATA frames, each a block.

    Args:
        request: "path" (absolute); "copy": read from a copy that is made at once, where there is
            room for one; "codecs" that the other side can unpack.
        pipe: Gets the blocks.

    Returns:
        {"sha256", "size"} of what was sent; null and 0 when the file is gone.
    """
    fd = safe_files.open_regular(os.path.realpath(safe_files.inside(request, request["path"])))
    if fd is None:
        return {"sha256": None, "size": 0}
    both = [codec for codec in codecs.available() if codec in request["codecs"]]
    digest, size = hashlib.sha256(), 0
    with os.fdopen(fd, "rb", 0) as file:
        left = os.fstat(fd).st_size
        source = (_copied(request, file, left, Pulse(pipe)) if request["copy"] else None) or file
        with source:
            while left > 0:
                data = source.read(min(left, blocks.BLOCK_BYTES))
                if not data:
                    break  # it has become shorter
                digest.update(data)
                size += len(data)
                left -= len(data)
                pipe.send(wire.DATA, blocks.wrap(data, both[0] if both else "stored"))
    return {"sha256": digest.hexdigest(), "size": size}


def _copied(request, file, size, pulse):
    """A copy of a file's first bytes that has no name and goes with us; None without room."""
    import tempfile

    copy = tempfile.TemporaryFile(dir=control_folder(request))  # noqa: SIM115 - the caller's
    try:
        try:
            fcntl.ioctl(copy.fileno(), _CLONE, file.fileno())
        except OSError:
            for data in iter(lambda: file.read(min(size - file.tell(), blocks.BLOCK_BYTES)), b""):
                copy.write(data)
                pulse(copied=file.tell())
        copy.seek(0)
        return copy
    except OSError:
        copy.raw.close()  # without a last try to write what there is no room for
        file.seek(0)
        return None


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
