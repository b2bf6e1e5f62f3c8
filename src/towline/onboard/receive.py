"""Receive an upload: manifest in, what is missing out, blocks in, everything verified.

Owns the talk of the verb. Where the bytes go is the staging area's business.
"""

import json
import os

from . import safe_files, wire
from .receive_staging import Staging, say_if_full
from .safe_files import FILE, Pulse
from .wire import Refusal

_REMARK_S = 0.25  # how often the caller hears how much has arrived


def receive(request, pipe):
    """Take the upload ``name`` whose manifest has the digest ``manifest_sha256``.

    In: the manifest's frames and END; out: one JSON frame, see `answer`. Unless it says complete,
    in: DATA frames, each one block (see wire), then END with {"files", "bytes",
    "manifest_sha256"}, the count of what was sent in this talk. Remarks between: {"arrived",
    "files"}, counted in this talk.

    Returns:
        {"files", "bytes", "manifest_sha256"} of the whole upload, now under its final name.

    Raises:
        Refusal: "disk_full"; "checksum" when something arrived damaged: the damaged files were
            dropped, ask again; "refused" for a manifest not to be trusted; "garbled".
    """
    rows = safe_files.read_manifest(request, pipe)
    staging = Staging(request, Pulse(pipe))
    complete = staging.is_delivered(rows)
    wanted = {} if complete else staging.missing(rows)
    if not complete:
        staging.require_room(rows, wanted)
    pipe.send_json(wire.JSON, answer(complete, wanted))
    if not complete:
        _take(request, pipe, rows, staging, wanted)
        staging.finish(rows)
    return summary(rows, request)


def answer(complete, wanted):
    """Say what is missing: {"complete", "want": [[first, count], ...], "partial": [[n, offset]]}.

    ``want`` holds runs of entry numbers that are wanted whole; ``partial`` those with a beginning.
    """
    runs = []
    for number in sorted(wanted):
        if wanted[number]:
            continue
        if runs and sum(runs[-1]) == number:
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    partial = [[number, wanted[number]] for number in sorted(wanted) if wanted[number]]
    return {"complete": complete, "want": runs, "partial": partial}


def summary(rows, request):
    """What stands under the final name."""
    files = [row.size for row in rows if row.kind == FILE]
    digest = request["manifest_sha256"]
    return {"files": len(files), "bytes": sum(files), "manifest_sha256": digest}


def _take(request, pipe, rows, staging, wanted):
    """Write the blocks' records until END, then compare the counts."""
    pulse = Pulse(pipe, _REMARK_S)
    writer = _Writer(rows, staging, wanted)
    try:
        while True:
            kind, payload = pipe.read()
            if kind != wire.DATA:
                break
            for number, offset, data in wire.unpack_block(payload):
                writer.write(number, offset, data)
            pulse(arrived=writer.bytes, files=writer.files)
    except ValueError as error:
        raise Refusal("checksum", "data arrived damaged: %s" % error) from error
    finally:
        writer.close()
    if kind != wire.END:
        raise Refusal("garbled", "a frame of kind %r is not expected here" % kind)
    end = json.loads(payload.decode("ascii"))
    came = {"files": writer.files, "bytes": writer.bytes}
    if end != dict(came, manifest_sha256=request["manifest_sha256"]):
        raise Refusal("checksum", "the upload's end does not fit what came")


class _Writer:
    """Writes records to the objects they belong to; one object is open at a time."""

    def __init__(self, rows, staging, wanted):
        self._rows = rows
        self._staging = staging
        self._wanted = wanted
        self._missing = sum(rows[number].size - have for number, have in wanted.items())
        self._number = None
        self._fd = None
        self._at = 0
        self.bytes = 0
        self.files = 0

    def write(self, number, offset, data):
        """Write one record; records of a file come in order and without a gap."""
        if number != self._number:
            self._open(number, offset)
        if offset != self._at or offset + len(data) > self._rows[number].size:
            raise Refusal("garbled", "a record does not fit its file")
        try:
            while data:
                written = os.write(self._fd, data)
                data = data[written:]
                self._at += written
                self.bytes += written
        except OSError as error:
            say_if_full(error, self._missing - self.bytes)
            raise
        if self._at == self._rows[number].size:
            del self._wanted[number]
            self.files += 1
            self.close()

    def _open(self, number, offset):
        self.close()
        if self._wanted.get(number) != offset:
            raise Refusal("garbled", "a record is for a file that is not wanted from there")
        flags = os.O_WRONLY | (0 if offset else os.O_CREAT | os.O_EXCL)
        path = self._staging.object(self._rows[number].sha256)
        self._fd = os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o600)
        self._at = os.lseek(self._fd, 0, os.SEEK_END)
        self._number = number

    def close(self):
        """Close the object that is open."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = self._number = None
