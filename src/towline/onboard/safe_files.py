"""Paths that came over the line, and the folders and files made from them.

Every manifest and path is taken as hostile: what this module lets through stays under the folder
it was given. Paths are bytes; a manifest's text names bytes by UTF-8 with surrogate escapes.
"""

import hashlib
import os
import re
import stat
import threading
import time

from . import wire
from .wire import Refusal

BLOCK = 1024 * 1024
_NAME_LIMIT = 255  # bytes; no common file system holds a longer name
_PATH_LIMIT = 3800  # bytes; PATH_MAX is 4096 and the run's folder comes before it
_DEPTH_LIMIT = 256  # folders in folders
_MODE_BITS = 0o777
_FIGURE_LIMIT = 1 << 63
_PULSE_S = 1.0
_HEX = re.compile(r"[0-9a-f]{64}\Z")
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | getattr(os, "O_NOFOLLOW", 0)

FILE, DIR, LINK = "f", "d", "l"


class Row:
    """One checked entry of a manifest; ``path`` is bytes, ``parts`` are its components."""

    __slots__ = ("kind", "mode", "mtime_ns", "parts", "path", "sha256", "size", "target")

    def __init__(self, values):
        path, self.kind, self.size, self.mode, self.mtime_ns, self.sha256, self.target = values
        self.parts = components(path)
        self.path = b"/".join(self.parts)
        if not (
            type(self.size) is type(self.mode) is type(self.mtime_ns) is int
            and 0 <= self.size < _FIGURE_LIMIT
            and 0 <= self.mode <= _MODE_BITS
            and -_FIGURE_LIMIT < self.mtime_ns < _FIGURE_LIMIT
        ):
            raise Refusal("refused", "an entry of the manifest has impossible figures")
        if self.kind not in (FILE, DIR, LINK) or (self.kind != FILE and self.size):
            raise Refusal("refused", "an entry of the manifest is of no known kind")
        if self.kind == FILE and not _HEX.match(self.sha256):
            raise Refusal("refused", "an entry of the manifest has no SHA-256")

    @property
    def shown(self):
        """The path, fit to print."""
        return ascii(self.path)[1:]


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
    if b"" in parts or b"." in parts or b".." in parts or b"\0" in raw:
        raise Refusal("refused", "the path %s leads out of its folder" % ascii(path[:200]))
    if len(raw) > _NAME_LIMIT and _is_long(raw, parts):
        raise Refusal("refused", "the path %s is too long for the instance" % ascii(path[:200]))
    return parts


def _is_long(raw, parts):
    most = max(map(len, parts))
    return len(raw) > _PATH_LIMIT or len(parts) > _DEPTH_LIMIT or most > _NAME_LIMIT


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
    """SHA-256 of a regular file in hex, and its size; (None, 0) when there is none.

    One that grows meanwhile is hashed up to the size that it had.
    """
    fd = open_regular(path)
    if fd is None:
        return None, 0
    digest = hashlib.sha256()
    count = 0
    with os.fdopen(fd, "rb", 0) as file:
        size = os.fstat(fd).st_size
        for block in iter(lambda: file.read(min(BLOCK, size - file.tell())), b""):
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


def to_disk(fd, pulse):
    """Bring all that a folder's file system has not written yet to the disk, in one go.

    For many small files that is far quicker than one by one.

    Raises:
        OSError: The disk did not take it.
    """
    done, failures = threading.Event(), []

    def write():
        try:
            _sync(fd)
        except OSError as error:
            failures.append(error)
        done.set()

    thread = threading.Thread(target=write)
    thread.daemon = True
    thread.start()
    while not done.wait(_PULSE_S):
        pulse()
    if failures:
        raise failures[0]


def _sync(fd):
    """syncfs, where there is one; it is no part of Python's library."""
    try:
        import ctypes  # a Python may lack it

        library = ctypes.CDLL(None, use_errno=True)
        syncfs = library.syncfs
    except (ImportError, OSError, AttributeError):
        os.sync()
        return
    if syncfs(fd):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def copy(source, target, pulse):
    """Copy a content to a new file; None makes an empty one."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb", 0) as to:
        if source is None:
            return
        with open(source, "rb", 0) as file:
            for block in iter(lambda: file.read(BLOCK), b""):
                to.write(block)
                pulse(building=True)
