"""Paths that came over the line, and the folders and files made from them.

Every manifest and path is taken as hostile: what this module lets through stays under the folder
it was given. Paths are bytes; a manifest's text names bytes by UTF-8 with surrogate escapes.
"""

import hashlib
import json
import os
import re
import stat
import time

from . import wire
from .wire import Refusal

BLOCK = 1024 * 1024
_NAME_LIMIT = 255  # bytes; no common file system holds a longer name
_PATH_LIMIT = 3800  # bytes; PATH_MAX is 4096 and the run's folder comes before it
_MANIFEST_LIMIT = 1024 * 1024 * 1024
_DEPTH_LIMIT = 256  # folders in folders
_LINK_HOPS = 40  # as Linux allows
_MODE_BITS = 0o777
_PULSE_S = 1.0
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_NOFOLLOW", 0)

FILE, DIR, LINK = "f", "d", "l"


class Row:
    """One checked entry of a manifest; ``parts`` are the path's components as bytes."""

    __slots__ = ("kind", "mode", "mtime_ns", "parts", "sha256", "size", "target")

    def __init__(self, values):
        path, self.kind, self.size, self.mode, self.mtime_ns, self.sha256, self.target = values
        self.parts = components(path)
        figures = (self.size, self.mode, self.mtime_ns)
        whole = all(type(value) is int and abs(value) < 1 << 63 for value in figures)
        if not whole or min(figures[:2]) < 0 or self.mode > _MODE_BITS:
            raise Refusal("refused", "an entry of the manifest has impossible figures")
        if self.kind not in (FILE, DIR, LINK) or (self.kind != FILE and self.size):
            raise Refusal("refused", "an entry of the manifest is of no known kind")
        if self.kind == FILE and not _HEX.match(self.sha256):
            raise Refusal("refused", "an entry of the manifest has no SHA-256")

    @property
    def shown(self):
        """The path, fit to print."""
        return ascii(b"/".join(self.parts))[1:]


def components(path):
    """Split a relative path into components that can't lead out of a folder.

    Raises:
        Refusal: "refused": empty, absolute, `.` or `..` in it, NUL, or too long.
    """
    try:
        raw = path.encode("utf-8", "surrogateescape")
    except (AttributeError, UnicodeEncodeError) as error:
        raise Refusal("refused", "a path of the manifest is not text") from error
    parts = tuple(raw.split(b"/"))
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        raise Refusal("refused", "the path %s leads out of its folder" % ascii(path[:200]))
    if len(raw) > _PATH_LIMIT or len(parts) > _DEPTH_LIMIT or max(map(len, parts)) > _NAME_LIMIT:
        raise Refusal("refused", "the path %s is too long for the instance" % ascii(path[:200]))
    return parts


def read_manifest(request, pipe):
    """Read the manifest's frames and check every entry.

    Frames of kind DATA hold the canonical lines, compressed as request["manifest_codec"] says;
    END follows.

    Raises:
        Refusal: "checksum" when it is not what the request announced, "refused" when an entry is
            not to be trusted.
    """
    lines = _manifest_lines(request["manifest_codec"], pipe)
    if hashlib.sha256(lines).hexdigest() != request["manifest_sha256"]:
        raise Refusal("checksum", "the manifest arrived damaged")
    try:
        rows = [Row(json.loads(line)) for line in lines.decode("ascii").splitlines()]
    except (ValueError, TypeError, RecursionError) as error:
        raise Refusal("refused", "the manifest can't be read") from error
    _check_tree(rows)
    return rows


def _manifest_lines(codec, pipe):
    parts = list(data_frames(pipe))
    if codec != "zlib":
        return b"".join(parts)
    zlib = wire.codec_module("zlib")
    one = zlib.decompressobj()
    try:
        lines = one.decompress(b"".join(parts), _MANIFEST_LIMIT)
    except zlib.error as error:
        raise Refusal("checksum", "the manifest arrived damaged") from error
    if not one.eof:
        raise Refusal("refused", "the manifest is cut or too large")
    return lines


def data_frames(pipe):
    """Yield the payloads of DATA frames up to END.

    Raises:
        Refusal: "garbled": another frame came.
    """
    while True:
        kind, payload = pipe.read()
        if kind == wire.END:
            return
        if kind != wire.DATA:
            raise Refusal("garbled", "a frame of kind %r is not expected here" % kind)
        yield payload


def parents(rows):
    """Every folder that the entries' paths name, as tuples of components."""
    return {row.parts[:depth] for row in rows for depth in range(1, len(row.parts))}


def _check_tree(rows):
    """Refuse what is no tree: wrong order, names twice, children of files, links that lead out."""
    by_parts = {}
    before = b""
    for row in rows:
        path = b"/".join(row.parts)
        if path <= before:
            raise Refusal("refused", "the manifest is not in order")
        before = path
        by_parts[row.parts] = row
    folders = parents(rows)
    if any(parts in by_parts and by_parts[parts].kind != DIR for parts in folders):
        raise Refusal("refused", "the manifest has entries below something that is no folder")
    for row in rows:
        if row.kind == LINK and not _leads_inside(row, by_parts, folders):
            raise Refusal("refused", "the link %s leads out" % row.shown)


def _leads_inside(link, by_parts, folders):
    """Walk a link's target as the kernel would; True when it ends at something in the tree."""
    at = link.parts[:-1]
    todo = _target_parts(link)
    hops = 1
    while todo and hops <= _LINK_HOPS:
        part = todo.pop(0)
        if part in (b"", b"."):
            continue
        if part == b"..":
            if not at:
                return False
            at = at[:-1]
            continue
        row = by_parts.get(at + (part,))
        if row is not None and row.kind == LINK:
            hops += 1
            todo = _target_parts(row) + todo
        elif (row is None and at + (part,) not in folders) or (row and row.kind == FILE and todo):
            return False
        else:
            at += (part,)
    return hops <= _LINK_HOPS


def _target_parts(link):
    """Components of a link's target; one that is absolute or empty leads out at once."""
    target = link_target(link)
    return [b".."] * (len(link.parts) + 1) if target[:1] in (b"/", b"") else target.split(b"/")


def link_target(link):
    """The bytes of a link's target.

    Raises:
        Refusal: "refused": no text, too long, or with a NUL.
    """
    try:
        target = link.target.encode("utf-8", "surrogateescape")
    except (AttributeError, UnicodeEncodeError) as error:
        raise Refusal("refused", "a link of the manifest is not text") from error
    if b"\0" in target or len(target) > _PATH_LIMIT:
        raise Refusal("refused", "a link of the manifest is impossible")
    return target


def inside(request, path):
    """Bytes of an absolute path that lies, links followed, in the run's folder.

    Raises:
        Refusal: "refused": it lies elsewhere.
    """
    root = os.fsencode(request["root"])
    if not (path + "/").startswith(request["root"] + "/") or "\0" in path:
        raise Refusal("refused", "%s is outside of the run's folder" % ascii(path[:200]))
    raw = root + path[len(request["root"]) :].encode("utf-8", "surrogateescape")
    if not is_inside(root, raw):
        raise Refusal("refused", "%s leads out of the run's folder" % ascii(path[:200]))
    return raw


def is_inside(root, path):
    """Say whether a path, links followed, is the folder or below it. Both as bytes."""
    top = os.path.realpath(root).rstrip(b"/") + b"/"
    return (os.path.realpath(path) + b"/").startswith(top)


class Folders:
    """Opens the folders of a tree (``name`` in a trusted folder), never through a link.

    Keeps the folders from the root to the last one open, so that a sorted tree costs little.
    """

    def __init__(self, parent, name):
        fd = os.open(parent, _FOLDER)
        try:
            self._fds = [_enter(fd, name)]
        finally:
            os.close(fd)
        self._parts = ()

    def open(self, parts):
        """Descriptor of a folder, made when missing; valid until the next call."""
        same = 0
        while parts[: same + 1] == self._parts[: same + 1] and same < len(parts):
            same += 1
        self._leave(same)
        for part in parts[same:]:
            self._fds.append(_enter(self._fds[-1], part))
        self._parts = parts
        return self._fds[-1]

    def _leave(self, depth):
        while len(self._fds) > depth + 1:
            os.close(self._fds.pop())

    def close(self):
        """Close all."""
        self._leave(-1)


def _enter(parent, name):
    try:
        os.mkdir(name, 0o755, dir_fd=parent)
    except FileExistsError:
        return os.open(name, _FOLDER, dir_fd=parent)
    fd = os.open(name, _FOLDER, dir_fd=parent)
    os.fchmod(fd, 0o755)  # whatever the umask
    return fd


class Pulse:
    """Remarks during silent work, so that a busy instance and a dead line can be told apart."""

    def __init__(self, pipe, every_s=_PULSE_S):
        self._pipe = pipe
        self._every_s = every_s
        self._said = time.monotonic()

    def __call__(self, **figures):
        """Send the figures unless something was sent just now."""
        now = time.monotonic()
        if now - self._said >= self._every_s:
            self._said = now
            self._pipe.send_json(wire.JSON, figures)


def hash_file(path, pulse):
    """SHA-256 of a regular file in hex, and its size; (None, 0) when there is none."""
    fd = open_regular(path)
    if fd is None:
        return None, 0
    digest = hashlib.sha256()
    count = 0
    with os.fdopen(fd, "rb", 0) as file:
        for block in iter(lambda: file.read(BLOCK), b""):
            digest.update(block)
            count += len(block)
            pulse(hashed=count)
    return digest.hexdigest(), count


def open_regular(path):
    """Open a regular file for reading, not through a link at its end; None when there is none."""
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | os.O_NONBLOCK  # a FIFO must not hold us
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):
            return None
        fd = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        return None
    return fd


def regular_files(folder):
    """Yield the paths of a folder's regular files, sub folders included, links never followed."""
    for path, _folders, names in os.walk(folder):
        for name in names:
            full = os.path.join(path, name)
            if stat.S_ISREG(os.lstat(full).st_mode):
                yield full


def remove_tree(path):
    """Remove a file or a whole folder, also one with read-only folders in it."""
    if os.path.isdir(path) and not os.path.islink(path):
        os.chmod(path, 0o700)
        for name in os.listdir(path):
            remove_tree(os.path.join(path, name))
        os.rmdir(path)
    elif os.path.lexists(path):
        os.unlink(path)
