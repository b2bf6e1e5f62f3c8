"""What stands under the final name already: looked at, not read, and used again where it fits."""

import errno
import os
import stat

from . import safe_files
from .rows import Rows
from .safe_files import DIR, LINK

_TIME_SLOP_NS = 2 * 10**9  # some file systems keep times in steps of two seconds


class Before:
    """What was delivered before: its untouched files need not be sent again."""

    def __init__(self, staging):
        self._final = staging.final
        self._pulse = staging.pulse
        self._rows = iter(())
        self._row = None
        digest = staging.delivered()
        if digest is not None:
            self._rows = iter(Rows(staging.delivered_rows(digest)))
            self._row = next(self._rows, None)

    def __bool__(self):
        return self._row is not None

    def lend(self, row, path):
        """Make a content from the file that stands at the same path, if it is the same.

        Both manifests are sorted: they are read side by side.
        """
        while self._row is not None and self._row.path < row.path:
            self._row = next(self._rows, None)
        old = self._row
        if old is None or (old.path, old.sha256) != (row.path, row.sha256):
            return False
        if not stands(self._final, old, self._pulse):
            return False
        source = os.path.join(self._final, row.path)
        same = (old.mode, old.mtime_ns) == (row.mode, row.mtime_ns)
        try:
            if same:
                os.link(source, path)
                return True
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.EXDEV, errno.EMLINK, errno.ENOTSUP):
                raise
        safe_files.copy(source, path, self._pulse)
        return True


def size_of(path):
    """Size of a regular file, None for anything else."""
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def inode(path):
    """Number of what is at a path, None without anything."""
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def stands(folder, row, pulse):
    """Say whether an entry looks untouched, without reading it."""
    pulse(looking=True)
    path = os.path.join(folder, row.path)
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    if row.kind == DIR:
        return stat.S_ISDIR(found.st_mode)
    if row.kind == LINK:
        return stat.S_ISLNK(found.st_mode) and os.readlink(path) == safe_files.link_target(row)
    same_time = abs(found.st_mtime_ns - storable(row.mtime_ns)) <= _TIME_SLOP_NS
    return stat.S_ISREG(found.st_mode) and found.st_size == row.size and same_time


def storable(mtime_ns):
    """A time that every file system of today can keep: 1970 to 2038."""
    return min(max(mtime_ns, 0), (2**31 - 1) * 10**9)
