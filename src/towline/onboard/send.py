"""Say what files there are, hash them, send them: nothing here changes anything."""

import os
import stat
import time
import zlib

from . import wire
from .receive import FRAME, RECORD, STORED, ZLIB
from .safe_files import sha256_of, under
from .wire import Refusal

_BLOCK = 1 << 20
_SAMPLE = 16 * 1024
_FILE_LIMIT = 200000
_REMARK_EVERY_S = 1.0


def survey(request, _pipe):
    """List regular files under the given folders, and links that lead to one inside the run."""
    found = []
    for root in request["roots"]:
        for folder, _folders, names in os.walk(under(request["root"], root)):
            for name in names:
                row = _row(request["root"], root, os.path.join(folder, name))
                if row is not None:
                    found.append(row)
            if len(found) >= _FILE_LIMIT:
                return {"files": found[:_FILE_LIMIT], "truncated": True}
    return {"files": found, "truncated": False}


def _row(top, root, path):
    try:
        status = os.stat(under(top, path))
    except (OSError, Refusal):
        return None  # a dangling link, one that leads out, or a file that went meanwhile
    if not stat.S_ISREG(status.st_mode):
        return None
    return {
        "root": root,
        "path": os.path.relpath(path, os.path.realpath(root)),
        "size": status.st_size,
        "mtime_ns": status.st_mtime_ns,
        "mode": stat.S_IMODE(status.st_mode) & 0o777,
        "inode": status.st_ino,
    }


def digest(request, pipe):
    """Hash files: {"sha256": {path: hex, or None for one that is missing}}."""
    said = [time.monotonic()]

    def told(_length):
        if time.monotonic() - said[0] >= _REMARK_EVERY_S:
            said[0] = time.monotonic()
            pipe.send_json(wire.JSON, {"hashing": True})

    hashes = {}
    for path in request["paths"]:
        hashes[path] = None
        real = under(request["root"], path)
        if os.path.isfile(real):
            fd = os.open(real, os.O_RDONLY)
            try:
                hashes[path] = sha256_of(fd, told)
            finally:
                os.close(fd)
    return {"sha256": hashes}


def send(request, pipe):
    """Send files as DATA frames of records, each from its offset: ``files`` is [[path, offset]]."""
    frame = _Frame(pipe)
    total = 0
    for number, (path, offset) in enumerate(request["files"]):
        real = under(request["root"], os.path.join(request["base"], path))
        with open(real, "rb") as file:
            at = file.seek(offset)
            while True:
                block = file.read(_BLOCK)
                if not block:
                    break
                frame.add(number, at, block)
                at += len(block)
                total += len(block)
    frame.flush()
    return {"bytes": total}


class _Frame:
    """Records gathered until they are worth a frame."""

    def __init__(self, pipe):
        self._pipe = pipe
        self._parts = []
        self._size = 0

    def add(self, number, offset, block):
        self._parts += [RECORD.pack(number, offset, len(block)), block]
        self._size += len(block)
        if self._size >= _BLOCK:
            self.flush()

    def flush(self):
        if not self._parts:
            return
        raw = b"".join(self._parts)
        self._parts, self._size = [], 0
        codec, payload = STORED, raw
        if len(zlib.compress(raw[:_SAMPLE], 1)) < 0.9 * len(raw[:_SAMPLE]):
            codec, payload = ZLIB, zlib.compress(raw, 1)
        self._pipe.send(wire.DATA, FRAME.pack(codec, len(raw)) + payload)
