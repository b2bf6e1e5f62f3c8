"""Write a tree of files whose names and links come from elsewhere, and never outside its root.

Every step into a folder is taken by descriptor and refuses symbolic links, so that neither a name
nor a link that appears meanwhile leads out.
"""

import errno
import hashlib
import os
import stat

from .wire import Refusal

_FOLDER = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
_FILE = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_BLOCK = 1 << 20
PATH, KIND, SIZE, MODE, MTIME, SHA256, TARGET = range(7)  # a manifest row's columns


def parts_of(path):
    """Split a manifest path into checked components, as bytes.

    Raises:
        Refusal: "path": empty, absolute, or with a component that leads elsewhere.
    """
    parts = os.fsencode(path).split(b"/")
    if any(part in (b"", b".", b"..") or b"\0" in part for part in parts):
        raise Refusal("path", "refused a path that leaves its folder: %r" % path)
    return parts


def check_target(path, target):
    """Refuse a link that leads out of the tree.

    Raises:
        Refusal: "path".
    """
    depth = len(parts_of(path)) - 1
    for part in os.fsencode(target).split(b"/"):
        depth += -1 if part == b".." else int(part not in (b"", b"."))
        if depth < 0 or target.startswith("/") or not target or "\0" in target:
            raise Refusal("path", "refused a link that leaves its folder: %r" % path)


def under(root, path):
    """Resolve a path and insist that it lies under a root.

    Raises:
        Refusal: "path".
    """
    real, top = os.path.realpath(path), os.path.realpath(root)
    if real != top and not real.startswith(top + os.sep):
        raise Refusal("path", "refused a path outside the run's folder: %r" % path)
    return real


class Tree:
    """A folder to write into; keeps the descriptor of the folder used last."""

    def __init__(self, root):
        os.makedirs(root, mode=0o700, exist_ok=True)
        self.root = root
        self._root_fd = os.open(root, _FOLDER)
        self._last = ([], self._root_fd)

    def close(self):
        """Give the descriptors back."""
        self._forget()
        os.close(self._root_fd)

    def folder(self, parts):
        """Descriptor of a folder inside, made on the way; valid until the next call."""
        if self._last[0] == parts:
            return self._last[1]
        self._forget()
        fd = self._root_fd
        for part in parts:
            try:
                os.mkdir(part, 0o700, dir_fd=fd)
            except OSError as error:
                if error.errno != errno.EEXIST:
                    raise
            inner = os.open(part, _FOLDER, dir_fd=fd)
            if fd != self._root_fd:
                os.close(fd)
            fd = inner
        self._last = (parts, fd)
        return fd

    def open(self, path):
        """Open a regular file for reading and writing, made when missing."""
        parts = parts_of(path)
        return os.open(parts[-1], _FILE, 0o600, dir_fd=self.folder(parts[:-1]))

    def size(self, path):
        """Size of a regular file there, 0 without one; anything else in its place is removed."""
        parts = parts_of(path)
        folder = self.folder(parts[:-1])
        try:
            found = os.stat(parts[-1], dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            return 0
        if not stat.S_ISREG(found.st_mode):
            os.unlink(parts[-1], dir_fd=folder)
            return 0
        return found.st_size

    def remove(self, path):
        """Remove a file."""
        parts = parts_of(path)
        os.unlink(parts[-1], dir_fd=self.folder(parts[:-1]))

    def take(self, source, path):
        """Move a file from outside to its place in the tree."""
        parts = parts_of(path)
        os.rename(source, parts[-1], dst_dir_fd=self.folder(parts[:-1]))

    def finish_file(self, row):
        """Give a file its mode and time."""
        fd = self.open(row[PATH])
        try:
            os.fchmod(fd, row[MODE] & 0o777)
            os.utime(fd, ns=(row[MTIME], row[MTIME]))
            if row[SIZE] >= _BLOCK:
                os.fsync(fd)
        finally:
            os.close(fd)

    def link(self, row):
        """Make a symbolic link, replacing what an earlier attempt left."""
        parts = parts_of(row[PATH])
        check_target(row[PATH], row[TARGET])
        folder = self.folder(parts[:-1])
        try:
            os.unlink(parts[-1], dir_fd=folder)
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
        os.symlink(os.fsencode(row[TARGET]), parts[-1], dir_fd=folder)

    def finish_folder(self, row):
        """Give a folder its mode and time; after everything in it."""
        fd = self.folder(parts_of(row[PATH]))
        os.fchmod(fd, row[MODE] & 0o777)
        os.utime(fd, ns=(row[MTIME], row[MTIME]))

    def _forget(self):
        if self._last[1] != self._root_fd:
            os.close(self._last[1])
        self._last = ([], self._root_fd)


def sha256_of(fd, told=None):
    """Hash a file from its beginning; ``told`` is called with each block's length."""
    digest = hashlib.sha256()
    os.lseek(fd, 0, os.SEEK_SET)
    while True:
        block = os.read(fd, _BLOCK)
        if not block:
            return digest.hexdigest()
        digest.update(block)
        if told is not None:
            told(len(block))
