"""Which bytes of a content are there: the journal of one that comes in several records.

A file of (start, end) pairs, appended to after the bytes were written, by any process that takes
blocks. What a kill leaves is a journal that says too little, never too much.
"""

import contextlib
import os
import struct

_PAIR = struct.Struct(">QQ")


class Ranges:
    """The journal of one content."""

    def __init__(self, folder, sha256):
        self._path = os.path.join(folder, b"ranges", sha256.encode("ascii"))

    def open(self):
        """Descriptor to append to."""
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def read(self):
        """The pairs, in the order they were written; None when there is no journal."""
        try:
            with open(self._path, "rb") as file:
                data = file.read()
        except FileNotFoundError:
            return None
        whole = len(data) - len(data) % _PAIR.size
        return [list(_PAIR.unpack_from(data, at)) for at in range(0, whole, _PAIR.size)]

    def gaps(self, size, otherwise):
        """What is missing of a content; ``otherwise``: what is there if there is no journal."""
        there = self.read()
        gaps, at = [], 0
        for start, end in sorted(otherwise if there is None else there):
            if start > at:
                gaps.append([at, start])
            at = max(at, end)
        if at < size:
            gaps.append([at, size])
        return gaps

    def drop(self):
        """Remove the journal."""
        with contextlib.suppress(FileNotFoundError):  # the content came in one record
            os.unlink(self._path)


def note(fd, start, end):
    """Say that these bytes are there."""
    os.write(fd, _PAIR.pack(start, end))
