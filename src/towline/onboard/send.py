"""What lies in the run's folder, and how it goes home: list, hash, send. Changes nothing."""

import json
import os
import stat

from . import blocks, codecs, safe_files, wire
from .safe_files import Pulse

_MOST_FILES = 200000
_MOST_BYTES = 24 * 1024 * 1024  # of the answer, which is one frame


def survey(request, pipe):
    """List the files below ``roots`` (absolute), and links to files in the run's folder.

    Args:
        request: "roots"; "since_ns" (optional): older files are left out.
        pipe: Gets a remark a second.

    Returns:
        {"files": [{"root", "path", "size", "mtime_ns", "mode", "inode"}], "truncated",
        "unreadable"}: folders that can't be looked into are listed in the last. A link is listed
        under its own path, with its target's figures. Folders behind links are not entered.
    """
    pulse = Pulse(pipe)
    since_ns = request.get("since_ns")
    files, unreadable, size = [], [], 0
    for root in request["roots"]:
        for row in _walk(request, root, unreadable):
            if since_ns is not None and row["mtime_ns"] < since_ns:
                continue
            size += len(ascii(row["path"])) + len(root) + 120
            if len(files) >= _MOST_FILES or size > _MOST_BYTES:
                return {"files": files, "truncated": True, "unreadable": unreadable}
            files.append(row)
            pulse(listed=len(files))
    return {"files": files, "truncated": False, "unreadable": unreadable}


def _walk(request, root, unreadable):
    top = safe_files.inside(request, root)
    run = os.fsencode(request["root"])

    def note(error):
        unreadable.append(_text(error.filename))

    for folder, folders, names in os.walk(top, onerror=note):
        folders.sort()
        for name in sorted(names):
            path = os.path.join(folder, name)
            found = _file_at(run, path)
            if found is not None:
                yield {
                    "root": root,
                    "path": _text(path[len(top) + 1 :]),
                    "size": found.st_size,
                    "mtime_ns": found.st_mtime_ns,
                    "mode": stat.S_IMODE(found.st_mode) & 0o777,
                    "inode": found.st_ino,
                }


def _file_at(run, path):
    """The figures of a regular file, or of one in the run's folder that a link leads to."""
    try:
        found = os.lstat(path)
        if stat.S_ISLNK(found.st_mode) and safe_files.is_inside(run, path):
            found = os.stat(path)
    except OSError:
        return None  # gone meanwhile, or a link to nothing
    return found if stat.S_ISREG(found.st_mode) else None


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


def _text(path):
    return path.decode("utf-8", "surrogateescape")
