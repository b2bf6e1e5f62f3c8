"""What lies in the run's folder, and how it goes home: list, hash, send. Changes nothing."""

import os
import stat

from . import safe_files, wire
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
    """Send files as DATA frames, each one block (see wire), one file after the other.

    Args:
        request: "base" (absolute), "files": [[path below base, offset, size], ...]: bytes from
            offset to size are sent, or to the file's end if that comes first; "codec".
        pipe: Gets the frames.

    Returns:
        {"bytes"}: how many file bytes were sent.
    """
    packer = wire.Packer(request["codec"])
    sent = 0
    for number, (path, offset, size) in enumerate(request["files"]):
        real = os.path.realpath(safe_files.inside(request, request["base"] + "/" + path))
        fd = safe_files.open_regular(real)
        if fd is None:
            continue  # it went meanwhile: its reader notices that it is not whole
        with os.fdopen(fd, "rb", 0) as file:
            file.seek(offset)
            sent += _send_one(pipe, packer, file, (number, offset, size))
    _flush(pipe, packer)
    return {"bytes": sent}


def _send_one(pipe, packer, file, part):
    number, offset, size = part
    at = offset
    while at < size:
        block = file.read(min(packer.room, size - at))
        if not block:
            break  # it shrank
        packer.add(number, at, block)
        at += len(block)
        if not packer.room:
            _flush(pipe, packer)
    return at - offset


def _flush(pipe, packer):
    block = packer.take()
    if block:
        pipe.send(wire.DATA, block)


def _text(path):
    return path.decode("utf-8", "surrogateescape")
