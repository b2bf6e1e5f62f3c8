"""The staging area of an upload: contents by their hash first, then the tree, then its final name.

Everything of the upload NAME lies in `.towline/incoming/NAME`:

    rows       the manifest, as far as it has come
    objects/   contents, each named by its SHA-256, in whatever manifest it is wanted
    ranges/    of a content that came in several records: which bytes are there
    tree/      the folder to be, made from objects once all of them are verified
    old/       what stood under the final name before

`.towline/delivered-NAME.json` says which folder (by inode) holds which manifest; the manifest's lines
stand beside it. Both are written before the rename, so that a receiver killed at any point leaves either
the old or the new state. Knows nothing of frames.
"""

import array
import errno
import os
import re

from . import daemon, receive_lock, safe_files
from .fence import control_folder
from .receive_before import Before, inode, size_of, stands
from .receive_ranges import Ranges
from .rows import Rows, Seen
from .safe_files import DIR, FILE
from .wire import Refusal

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}\Z")
_SLACK_BYTES = 64 * 1024 * 1024  # of disk, left free for the training's first steps
_SLACK_INODES = 1000


def incoming(request):
    """The folder of all staging areas, and the path that this upload's begin with."""
    name = request["name"]
    if not _NAME.match(name):
        raise Refusal("refused", "%s is no name for an upload" % ascii(name[:80]))
    folder = os.path.join(control_folder(request), "incoming")
    os.makedirs(folder, mode=0o700, exist_ok=True)
    return os.path.join(folder, name)


class Staging:
    """One upload's staging area, held by this process alone."""

    def __init__(self, request, pulse):
        base = incoming(request)
        self.token = os.urandom(8).hex()
        self.pulse = pulse
        self.root = os.fsencode(request["root"])
        self.control = os.fsencode(control_folder(request))
        self._name = os.fsencode(request["name"])
        self.final = os.path.join(self.root, self._name)
        self.folder = os.fsencode(base)
        self.objects = os.path.join(self.folder, b"objects")
        self.tree = os.path.join(self.folder, b"tree")
        self.record = os.path.join(self.control, b"delivered-%s.json" % self._name)
        self.rows = None
        #: numbers of the entries that are made in a way of their own
        self.copies, self.folders, self.links = (array.array("Q") for _ in range(3))
        #: of the whole upload, once every entry was asked for
        self.files = self.bytes = 0
        self._seen = Seen()
        self._needed = 0
        self._lock = receive_lock.take_over(base, self.token)

    def object(self, sha256):
        """Path of a content."""
        return os.path.join(self.objects, sha256.encode("ascii"))

    def delivered_rows(self, digest):
        """Path of a delivered manifest's lines, beside its record."""
        return os.path.join(self.control, b"delivered-%s.%s" % (self._name, digest[:16].encode()))

    def note_helper(self, pid):
        """Write down a process of ours that would outlive us, for who takes over."""
        receive_lock.write_holders(self._lock, [os.getpid(), pid])

    # -- what is there ----------------------------------------------------------------------------

    def delivered(self):
        """Digest of the manifest that the final folder was made from, None without one.

        A publishing that was cut short is ended.
        """
        record = daemon.read_json(self.record)
        if record is None or not os.path.lexists(self.delivered_rows(record["digest"])):
            return None
        if inode(self.tree) == record["inode"]:
            self.publish()
        return record["digest"] if inode(self.final) == record["inode"] else None

    def stands(self, digest):
        """Say whether the final folder still holds the manifest it was made from."""
        self.files = self.bytes = 0
        rows = Rows(self.delivered_rows(digest))
        try:
            return all(self._count(row) and stands(self.final, row, self.pulse) for row in rows)
        finally:
            rows.close()

    def _count(self, row):
        self.files += row.kind == FILE
        self.bytes += row.size
        return True

    def _has_rows(self, digest):
        return os.path.lexists(self.delivered_rows(digest) + b".index")

    def open(self, total_bytes, entries):
        """Make the folders; take back what an interrupted build had moved; open `rows`.

        Raises:
            Refusal: "disk_full": the disk is too small for the whole, and nothing is there yet.
        """
        self.files = self.bytes = 0
        os.makedirs(self.objects, mode=0o700, exist_ok=True)
        os.makedirs(os.path.join(self.folder, b"ranges"), mode=0o700, exist_ok=True)
        safe_files.remove_tree(os.path.join(self.folder, b"old"))
        self.rows = Rows(os.path.join(self.folder, b"rows"), write=True)
        if os.path.lexists(self.tree):
            self._take_back()
        self._before = Before(self)
        self._fresh = not os.listdir(self.objects) and not self._before
        disk = os.statvfs(self.folder)
        self._free = disk.f_bavail * disk.f_frsize - _SLACK_BYTES
        if self._fresh:
            self._require(total_bytes)
            short = entries + _SLACK_INODES - disk.f_favail
            if disk.f_files and short > 0:  # f_files is 0 where inodes have no limit
                raise full("%d files more than the disk has inodes for" % short)

    def _take_back(self):
        """Move the files of a build that was cut short back into objects."""
        for row in self.rows:
            path = os.path.join(self.tree, row.path)
            if row.kind == FILE and row.size and size_of(path) == row.size:
                os.rename(path, self.object(row.sha256))
            self.pulse(building=True)
        safe_files.remove_tree(self.tree)

    def salvage(self, folder):
        """Move every file that the manifest wants from a folder into objects; remove the rest."""
        wanted = {row.sha256: row.size for row in self.rows if row.kind == FILE}
        for path in safe_files.regular_files(folder):
            sha256, size = safe_files.hash_file(path, self.pulse)
            if wanted.get(sha256) == size:
                os.rename(path, self.object(sha256))
        safe_files.remove_tree(folder)

    def _require(self, count):
        if count > self._free:
            raise full("%d MB of disk space are missing" % ((count - self._free) // 10**6 + 1))

    def missing(self, number, row, verify, *, whole=False):
        """What has yet to come of an entry: [[start, end], ...], [] for nothing.

        To be asked once for every entry, in order, before the tree is built. Of equal contents only the first entry is wanted. What is there from before is handed to
        ``verify`` (path, row), unless it stands in the final folder.

        Raises:
            Refusal: "disk_full": all that is missing so far does not fit.
        """
        self._count(row)
        if row.kind != FILE:
            (self.folders if row.kind == DIR else self.links).append(number)
            return []
        if not row.size or not self._seen.add(row.sha256):
            self.copies.append(number)
            self._needed += row.size
            return []
        gaps = [[0, row.size]] if self._fresh else self._gaps(row, verify, whole)
        self._needed += sum(end - start for start, end in gaps)
        self._require(self._needed)
        return gaps

    def _gaps(self, row, verify, whole):
        path = self.object(row.sha256)
        there = size_of(path)
        if there is None:
            return [] if self._before.lend(row, path) else [[0, row.size]]
        ranges = Ranges(self.folder, row.sha256)
        gaps = ranges.gaps(row.size, [[0, there]] if there == row.size else [])
        if not gaps:
            verify(path, row)
        elif whole or ranges.read() is None:
            self.forget(row.sha256)
            gaps = [[0, row.size]]
        return gaps

    def forget(self, sha256):
        """Drop a content that is not what its name says."""
        safe_files.remove_tree(self.object(sha256))
        Ranges(self.folder, sha256).drop()

    # -- the final name ---------------------------------------------------------------------------

    def settle(self, digest):
        """Record the finished tree as the delivered one, then put it in place."""
        old = daemon.read_json(self.record)
        if old is not None and old["digest"] == digest:
            os.unlink(self.record)  # it is gone, and its inode's number may be used again
        lines = os.path.join(self.folder, b"rows")
        for suffix in (b".index", b""):  # the lines last: they stand for both
            os.rename(lines + suffix, self.delivered_rows(digest) + suffix)
        daemon.write_json(os.fsdecode(self.record), {"digest": digest, "inode": inode(self.tree)})
        self.publish()

    def publish(self):
        """Rename the tree to its final name; what stood there is moved aside, then removed."""
        old = os.path.join(self.folder, b"old")
        safe_files.remove_tree(old)
        if os.path.lexists(self.final):
            os.rename(self.final, old)
        os.rename(self.tree, self.final)
        fd = os.open(self.root, os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        self.clear()

    def clear(self):
        """Remove the staging area, and the lines of manifests that are no longer delivered."""
        safe_files.remove_tree(self.folder)
        record = daemon.read_json(self.record)
        kept = self.delivered_rows(record["digest"]) if record else None
        prefix = b"delivered-%s." % self._name
        for name in os.listdir(self.control):
            path = os.path.join(self.control, name)
            if name.startswith(prefix) and path not in (
                self.record,
                kept,
                (kept or b"") + b".index",
            ):
                os.unlink(path)


def say_if_full(error):
    """Turn a write that failed for lack of room into a refusal.

    Raises:
        Refusal: "disk_filled"; nothing for any other error.
    """
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        raise Refusal("disk_filled", "the instance's disk is full, although it had room before")


def full(what):
    """The refusal for a disk without room."""
    return Refusal(
        "disk_full",
        "the instance's disk is full: " + what,
        hint="ask for a larger disk (`resources: {disk_gb: ...}`) or leave files out by"
        " .towlineignore",
    )
