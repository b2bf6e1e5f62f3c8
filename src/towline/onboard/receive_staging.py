"""The staging area of an upload: contents by their hash first, then the tree, then its final name.

Everything of the upload NAME lies in `.towline/incoming/NAME`:

    objects/   contents, each named by its SHA-256. One that is shorter than it should be is a
               beginning; what is there when the line comes back need not be sent again, also
               when the manifest has changed meanwhile.
    tree/      the folder to be, made from objects once all of them are verified
    old/       what stood under the final name before

`.towline/delivered-NAME.json` says which folder (by inode) holds which manifest. It is written
before the rename, so that a receiver killed at any point leaves either the old or the new state.
Knows nothing of frames.
"""

import errno
import os
import re
import stat

from . import daemon, receive_lock, safe_files
from .fence import control_folder
from .safe_files import DIR, FILE, LINK
from .wire import Refusal

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
_FSYNC_BYTES = 1024 * 1024  # smaller files are left to the system's own flushing
_SLACK_BYTES = 64 * 1024 * 1024  # of disk, left free for the training's first steps
_SLACK_INODES = 1000
_ROUND_BYTES = 64 * 1024  # a beginning is taken up at such a border
_TIME_SLOP_NS = 2 * 10**9  # some file systems keep times in steps of two seconds


class Staging:
    """One upload's staging area, held by this process alone."""

    def __init__(self, request, pulse):
        name = request["name"]
        if not _NAME.match(name):
            raise Refusal("refused", "%s is no name for an upload" % ascii(name[:80]))
        control = control_folder(request)
        self._pulse = pulse
        self._root = os.fsencode(request["root"])
        self._record = os.path.join(control, "delivered-%s.json" % name)
        incoming = os.path.join(control, "incoming")
        os.makedirs(incoming, mode=0o700, exist_ok=True)
        self._lock = receive_lock.take_over(os.path.join(incoming, name + ".lock"))
        self.final = os.path.join(self._root, os.fsencode(name))
        self.folder = os.fsencode(os.path.join(incoming, name))
        self.objects = os.path.join(self.folder, b"objects")
        self.tree = os.path.join(self.folder, b"tree")
        self.digest = request["manifest_sha256"]

    # -- what is there ----------------------------------------------------------------------------

    def is_delivered(self, rows):
        """Say whether the final folder holds this manifest; a cut-short publishing is ended."""
        record = daemon.read_json(self._record)
        if record is None or record["digest"] != self.digest:
            return False
        if _inode(self.tree) == record["inode"]:
            self._publish()
        if _inode(self.final) != record["inode"]:
            return False
        safe_files.remove_tree(self.folder)  # what a publishing that was cut short left behind
        return all(_stands(self.final, row) for row in rows)

    def _prepare(self, rows):
        """Make the folders and take back into objects what an interrupted build had moved."""
        os.makedirs(self.objects, mode=0o700, exist_ok=True)
        safe_files.remove_tree(os.path.join(self.folder, b"old"))
        if os.path.lexists(self.tree):
            self.salvage(self.tree, rows)

    def salvage(self, folder, rows):
        """Move every file that the manifest wants from a folder into objects; remove the rest."""
        wanted = {row.sha256: row.size for row in rows if row.kind == FILE}
        sizes = set(wanted.values())
        for path in safe_files.regular_files(folder):
            if os.lstat(path).st_size not in sizes:
                continue
            sha256, size = safe_files.hash_file(path, self._pulse)
            if wanted.get(sha256) == size:
                os.rename(path, self.object(sha256))
        safe_files.remove_tree(folder)

    def note_helper(self, pid):
        """Write down a process of ours that would outlive us, for who takes over."""
        receive_lock.write_holders(self._lock, [os.getpid(), pid])

    def object(self, sha256):
        """Path of a content."""
        return os.path.join(self.objects, sha256.encode("ascii"))

    def missing(self, rows, *, whole=False):
        """What has yet to come: {number of the entry: bytes of it that are there}.

        Of equal contents only the first entry is wanted. Beginnings are cut to a round size; with
        ``whole`` they are dropped.
        """
        self._prepare(rows)
        with os.scandir(self.objects) as found:
            sizes = {os.fsdecode(entry.name): entry.stat().st_size for entry in found}
        wanted = {}
        seen = set()
        for number, row in enumerate(rows):
            if row.kind != FILE or not row.size or row.sha256 in seen:
                continue
            seen.add(row.sha256)
            have = sizes.pop(row.sha256, 0)
            if have != row.size:
                keep = 0 if whole or have > row.size else have - have % _ROUND_BYTES
                self._cut(row.sha256, keep)
                wanted[number] = keep
        for name in sizes:
            if name not in seen:  # of a manifest that is no longer sent
                os.unlink(os.path.join(self.objects, os.fsencode(name)))
        return wanted

    def _cut(self, sha256, keep):
        path = self.object(sha256)
        if keep:
            os.truncate(path, keep)
        elif os.path.lexists(path):
            os.unlink(path)

    def require_room(self, rows, wanted):
        """Refuse what the disk can't hold.

        Raises:
            Refusal: "disk_full", with how much is missing.
        """
        disk = os.statvfs(self.folder)
        uses = {}
        for row in rows:
            if row.kind == FILE:
                uses.setdefault(row.sha256, []).append(row.size)
        copies = sum(sum(sizes[1:]) for sizes in uses.values())
        needed = copies + sum(rows[number].size - have for number, have in wanted.items())
        short = needed + _SLACK_BYTES - disk.f_bavail * disk.f_frsize
        if needed and short > 0:
            raise _full("%d MB of disk space are missing" % (short // 10**6 + 1))
        count = len(rows) + len(safe_files.parents(rows))
        short = count + _SLACK_INODES - disk.f_favail
        if disk.f_files and short > 0:  # f_files is 0 where inodes have no limit
            raise _full("%d files more than the disk has inodes for" % short)

    # -- from contents to the final folder --------------------------------------------------------

    def finish(self, rows):
        """Verify every content from disk, build the tree, put it in place.

        Raises:
            Refusal: "checksum" when contents are damaged or missing; the damaged are dropped.
        """
        self._prepare(rows)
        self._verify(rows)
        self._forget_equal()
        try:
            self._build(rows)
        except OSError as error:
            say_if_full(error, 0)
            raise
        record = {"digest": self.digest, "inode": _inode(self.tree)}
        daemon.write_json(self._record, record)
        self._publish()

    def _forget_equal(self):
        """Drop the record of an equal upload that is gone: its inode's number may be used again."""
        record = daemon.read_json(self._record)
        if record is not None and record["digest"] == self.digest:
            os.unlink(self._record)

    def _verify(self, rows):
        bad = []
        seen = set()
        for number, row in enumerate(rows):
            if row.kind != FILE or not row.size or row.sha256 in seen:
                continue
            seen.add(row.sha256)
            path = self.object(row.sha256)
            if safe_files.hash_file(path, self._pulse) != (row.sha256, row.size):
                bad.append(number)
                safe_files.remove_tree(path)
        if bad:
            figures = (len(bad), rows[bad[0]].shown)
            raise Refusal("checksum", "%d files did not arrive whole, the first is %s" % figures)

    def _build(self, rows):
        """Make the tree beside the final name: links after files, folders' modes last."""
        folders = safe_files.Folders(self.folder, b"tree")
        try:
            left = {}
            for row in rows:
                left[row.sha256] = left.get(row.sha256, 0) + 1
            for row in rows:
                if row.kind == DIR:
                    folders.open(row.parts)
                elif row.kind == FILE:
                    left[row.sha256] -= 1
                    source = self._source(row, last=left[row.sha256] == 0)
                    os.rename(source, row.parts[-1], dst_dir_fd=folders.open(row.parts[:-1]))
                self._pulse(building=True)
            for row in rows:
                if row.kind == LINK:
                    parent = folders.open(row.parts[:-1])
                    os.symlink(safe_files.link_target(row), row.parts[-1], dir_fd=parent)
            self._settle(rows, folders)
        finally:
            folders.close()

    def _source(self, row, last):
        """A content ready to be renamed into the tree: the object itself at its last use."""
        path = self.object(row.sha256)
        if not last or not row.size:
            copy = os.path.join(self.folder, b"copy")
            safe_files.remove_tree(copy)
            _copy(path if row.size else None, copy, self._pulse)
            path = copy
        os.chmod(path, row.mode | 0o400)
        _set_time(path, row.mtime_ns)
        return path

    def _settle(self, rows, folders):
        """Large files and all folders to the disk, then the folders' modes, the deepest first."""
        for row in rows:
            if row.kind == FILE and row.size > _FSYNC_BYTES:
                fd = os.open(row.parts[-1], os.O_RDONLY, dir_fd=folders.open(row.parts[:-1]))
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
                self._pulse(building=True)
        for row in reversed(rows):
            if row.kind == DIR:
                fd = folders.open(row.parts)
                os.fsync(fd)
                os.fchmod(fd, row.mode | 0o700)
        os.fsync(folders.open(()))

    def _publish(self):
        """Rename the tree to its final name; what stood there is moved aside, then removed."""
        old = os.path.join(self.folder, b"old")
        safe_files.remove_tree(old)
        if os.path.lexists(self.final):
            os.rename(self.final, old)
        os.rename(self.tree, self.final)
        fd = os.open(self._root, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        safe_files.remove_tree(self.folder)


def say_if_full(error, missing):
    """Turn a write that failed for lack of room into a refusal that says how much had yet to come.

    Raises:
        Refusal: "disk_full"; nothing for any other error.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise _full("%d MB had yet to come" % (missing // 10**6 + 1)) from error


def _full(what):
    return Refusal(
        "disk_full",
        "the instance's disk is full: " + what,
        hint="ask for a larger disk (`resources: {disk_gb: ...}`) or leave files out by"
        " .towlineignore",
    )


def _inode(path):
    try:
        return os.lstat(path).st_ino
    except (FileNotFoundError, NotADirectoryError):
        return None


def _stands(folder, row):
    """Say whether an entry looks untouched, without reading it."""
    path = os.path.join(folder, *row.parts)
    try:
        found = os.lstat(path)
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return False
    if row.kind == DIR:
        return stat.S_ISDIR(found.st_mode)
    if row.kind == LINK:
        return stat.S_ISLNK(found.st_mode) and os.readlink(path) == safe_files.link_target(row)
    same_time = abs(found.st_mtime_ns - _storable(row.mtime_ns)) <= _TIME_SLOP_NS
    return stat.S_ISREG(found.st_mode) and found.st_size == row.size and same_time


def _storable(mtime_ns):
    """A time that every file system of today can keep: 1970 to 2038."""
    return min(max(mtime_ns, 0), (2**31 - 1) * 10**9)


def _set_time(path, mtime_ns):
    os.utime(path, ns=(_storable(mtime_ns), _storable(mtime_ns)))


def _copy(source, target, pulse):
    """Copy a content to a new file; None makes an empty one."""
    fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(fd, "wb", 0) as to:
        if source is None:
            return
        with open(source, "rb", 0) as file:
            for block in iter(lambda: file.read(safe_files.BLOCK), b""):
                to.write(block)
                pulse(building=True)
