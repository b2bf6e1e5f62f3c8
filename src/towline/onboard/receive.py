"""Take a tree: say what is here, take the rest, prove the whole, put it in place.

A tree grows in a staging folder named by its manifest's digest, so that a later attempt finds what
an earlier one left. Only after every file was read back from disk and hashed is it renamed to its
final name: a partial tree never stands there.
"""

import hashlib
import json
import os
import shutil
import struct
import time
import zlib

from . import wire
from .fence import control_folder
from .safe_files import KIND, PATH, SHA256, SIZE, Tree, sha256_of
from .wire import Refusal

#: in a data frame: codec, raw length; then, uncompressed: records of entry number, offset, length
FRAME = struct.Struct(">BI")
RECORD = struct.Struct(">IQI")
STORED, ZLIB, ZSTD = range(3)

_REMARK_EVERY_S = 1.0
_SLACK_BYTES = 8 * 1024 * 1024
_SLACK_INODES = 64


def receive(request, pipe):
    """Receive one tree over this connection.

    In: the manifest (DATA frames of zlib, END); then DATA frames of records; then an END record
    with files, bytes and digest, without which nothing counts. Out: JSON of what is here already;
    remarks while verifying; the result.
    """
    delivery = Delivery(request, read_manifest(request, pipe))
    if delivery.is_complete():
        pipe.send_json(wire.JSON, {"complete": True, "have": []})
        return delivery.result()
    have = delivery.have()
    delivery.require_room(sum(size for _number, size in have))
    pipe.send_json(wire.JSON, {"complete": False, "have": have})
    _take_records(delivery, pipe)
    return delivery.finish(pipe)


def read_manifest(request, pipe):
    """Read the manifest's frames; returns its rows.

    Raises:
        Refusal: "manifest": its digest is not the announced one.
    """
    inflate = zlib.decompressobj()
    lines = []
    kind, payload = pipe.read()
    while kind == wire.DATA:
        lines.append(inflate.decompress(payload))
        kind, payload = pipe.read()
    text = b"".join(lines) + inflate.flush()
    if hashlib.sha256(text).hexdigest() != request["manifest_sha256"]:
        raise Refusal("manifest", "the manifest arrived damaged")
    return [json.loads(line) for line in text.decode("ascii").splitlines()]


class Delivery:
    """One tree on its way to its final name."""

    def __init__(self, request, rows):
        name = request["name"]
        if name not in ("dataset", "code"):
            raise Refusal("path", "refused to deliver to %r" % name)
        control = control_folder(request)
        self.rows = rows
        self.digest = request["manifest_sha256"]
        self.final = os.path.join(request["root"], name)
        self.marker = os.path.join(control, name + ".sha256")
        self.incoming = os.path.join(control, "incoming")
        self.folder = os.path.join(self.incoming, "%s-%s" % (name, self.digest[:16]))
        self._tree = None

    @property
    def tree(self):
        """The staging tree, made at first use."""
        if self._tree is None:
            os.makedirs(self.incoming, mode=0o700, exist_ok=True)
            self._tree = Tree(self.folder)
        return self._tree

    def is_complete(self):
        """Say whether this very tree stands under its final name."""
        try:
            with open(self.marker) as file:
                return file.read() == self.digest and os.path.isdir(self.final)
        except (IOError, OSError):
            return False  # no marker: not delivered

    def have(self):
        """What an earlier attempt left: [number, bytes] of files that have any."""
        if not os.path.isdir(self.folder):
            return []
        found = []
        for number, row in enumerate(self.rows):
            size = self.tree.size(row[PATH]) if row[KIND] == "f" else 0
            if size > row[SIZE]:
                self.tree.remove(row[PATH])
            elif size:
                found.append([number, size])
        return found

    def require_room(self, staged_bytes):
        """Check free bytes and inodes before anything is sent.

        Raises:
            Refusal: "disk_full", with how much is missing.
        """
        disk = os.statvfs(os.path.dirname(self.final))
        free = disk.f_bavail * disk.f_frsize
        needed = sum(row[SIZE] for row in self.rows) - staged_bytes + _SLACK_BYTES
        if needed > free:
            text = "the instance's disk has %d bytes free, %d more are needed"
            raise Refusal("disk_full", text % (free, needed - free))
        wanted = len(self.rows) + _SLACK_INODES
        if disk.f_files and wanted > disk.f_favail:
            text = "the instance's disk can take %d more files, %d are needed"
            raise Refusal("disk_full", text % (disk.f_favail, wanted))

    def finish(self, pipe):
        """Prove every file, then modes, times and links, then the final name.

        Raises:
            Refusal: "checksum": some files were damaged; they were removed, the rest is kept.
        """
        self._verify(pipe)
        for row in self.rows:
            if row[KIND] == "f":
                self.tree.finish_file(row)
            elif row[KIND] == "l":
                self.tree.link(row)
            else:
                self.tree.folder(os.fsencode(row[PATH]).split(b"/"))
        for row in reversed(self.rows):  # a folder's time is set after all that is in it
            if row[KIND] == "d":
                self.tree.finish_folder(row)
        self.tree.close()
        self._put_in_place()
        return self.result()

    def result(self):
        """What stands there now."""
        files = [row for row in self.rows if row[KIND] == "f"]
        size = sum(row[SIZE] for row in files)
        return {"files": len(files), "bytes": size, "manifest_sha256": self.digest}

    def _verify(self, pipe):
        said = [time.monotonic(), 0]

        def told(length):
            said[1] += length
            if time.monotonic() - said[0] >= _REMARK_EVERY_S:
                said[0] = time.monotonic()
                pipe.send_json(wire.JSON, {"verified_bytes": said[1]})

        damaged = []
        for row in self.rows:
            told(0)
            if row[KIND] == "f" and not self._is_whole(row, told):
                damaged.append(row[PATH])
                self.tree.remove(row[PATH])
        if damaged:
            text = "%d files arrived damaged, %r among them" % (len(damaged), damaged[0])
            raise Refusal("checksum", text)

    def _is_whole(self, row, told):
        fd = self.tree.open(row[PATH])
        try:
            return os.fstat(fd).st_size == row[SIZE] and sha256_of(fd, told) == row[SHA256]
        finally:
            os.close(fd)

    def _put_in_place(self):
        """Rename; an older tree steps aside first and is removed after."""
        aside = self.folder + ".old"
        if os.path.lexists(self.final):
            os.rename(self.final, aside)
        os.rename(self.folder, self.final)
        fd = os.open(os.path.dirname(self.final), os.O_RDONLY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        with open(self.marker + ".new", "w") as file:
            file.write(self.digest)
        os.rename(self.marker + ".new", self.marker)
        if os.path.lexists(aside):
            shutil.rmtree(aside)


def _take_records(delivery, pipe):
    """Write what comes until the END record.

    Raises:
        Refusal: "protocol": the stream contradicts the manifest or its own end record.
    """
    decode = _decoders()
    taken = 0
    while True:
        kind, payload = pipe.read()
        if kind != wire.DATA:
            break
        codec, raw_length = FRAME.unpack_from(payload)
        raw = decode[codec](payload[FRAME.size :], raw_length)
        if len(raw) != raw_length:
            raise Refusal("protocol", "a frame holds %d bytes, not %d" % (len(raw), raw_length))
        taken += _write_records(delivery, raw)
    if kind != wire.END:
        raise Refusal("protocol", "frame %r inside an upload" % kind)
    end = json.loads(payload.decode("ascii"))
    if end != {"bytes": taken, "manifest_sha256": delivery.digest, "entries": len(delivery.rows)}:
        raise Refusal("protocol", "the end record does not fit what came: %d bytes" % taken)


def _write_records(delivery, raw):
    view = memoryview(raw)
    at = written = 0
    while at < len(raw):
        number, offset, length = RECORD.unpack_from(raw, at)
        at += RECORD.size
        row = delivery.rows[number] if number < len(delivery.rows) else None
        if row is None or row[KIND] != "f" or offset + length > row[SIZE]:
            raise Refusal("protocol", "a record for entry %d that the manifest forbids" % number)
        fd = delivery.tree.open(row[PATH])
        try:
            done = 0
            while done < length:
                done += os.pwrite(fd, view[at + done : at + length], offset + done)
        finally:
            os.close(fd)
        at += length
        written += length
    return written


def _decoders():
    """Codec number -> function of payload and expected length; a longer result is refused."""

    def inflate(payload, length):
        return zlib.decompressobj().decompress(payload, length + 1)

    decoders = {STORED: lambda payload, _length: payload, ZLIB: inflate}
    try:
        from compression import zstd  # Python 3.14 and later
    except ImportError:
        return decoders  # zstd was not offered to the sender

    def expand(payload, length):
        return zstd.ZstdDecompressor().decompress(payload, length + 1)

    decoders[ZSTD] = expand
    return decoders
