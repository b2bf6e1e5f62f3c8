"""Contents hashed from the disk, beside the transfer: what came in several records, or was there.

A large content is followed while it grows, so that little is left to read when its last byte is in.
"""

import hashlib
import os
import queue
import threading

_BLOCK = 1024 * 1024
_WAITING = 10000  # contents in line; whoever adds more waits
_FLUSH_BYTES = 64 * 1024 * 1024  # so much is left to the system's own flushing at a time


class Verifier(threading.Thread):
    """Hashes contents in a thread of its own. `finish` says which are not what they should be."""

    def __init__(self):
        threading.Thread.__init__(self, name="verify", daemon=True)
        self.hashed = 0
        self._queue = queue.Queue(_WAITING)
        self._open = {}
        self._bad = []
        self._error = None
        self.start()

    def follow(self, path, row, upto):
        """Say that the content has arrived from its beginning up to there."""
        self._queue.put((path, row, upto))

    def whole(self, path, row):
        """Say that the content is there."""
        self.follow(path, row, row.size)

    def finish(self, pulse):
        """Wait for the end; the hashes of those contents that are not whole.

        Raises:
            OSError: One can't be read.
        """
        self._queue.put(None)
        while self.is_alive():
            self.join(0.5)
            pulse(hashed=self.hashed)
        if self._error is not None:
            raise self._error
        return self._bad

    def run(self):
        """Work until told to end."""
        for path, row, upto in iter(self._queue.get, None):
            if self._error is None:
                try:
                    self._advance(path, row, upto)
                except OSError as error:
                    self._error = error
        self._bad += list(self._open)
        for one in self._open.values():
            one.close()

    def _advance(self, path, row, upto):
        if row.sha256 not in self._open:
            self._open[row.sha256] = _Content(path)
        one = self._open[row.sha256]
        self.hashed += one.read(upto)
        if upto >= row.size:
            if one.close() != (row.sha256, row.size):
                self._bad.append(row.sha256)
            del self._open[row.sha256]


class _Content:
    """A content that is being hashed."""

    def __init__(self, path):
        self._fd = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        self._digest = hashlib.sha256()
        self._at = self._flushed = 0

    def read(self, upto):
        """Go on to there; how many bytes were read."""
        began = self._at
        while self._at < upto:
            data = os.pread(self._fd, min(_BLOCK, upto - self._at), self._at)
            if not data:
                break  # shorter than it should be: its size will tell
            self._digest.update(data)
            self._at += len(data)
            if self._at - self._flushed > _FLUSH_BYTES:
                self._flush()
        return self._at - began

    def _flush(self):
        os.fsync(self._fd)
        self._flushed = self._at

    def close(self):
        """Bring a large one to the disk; (hash, size) of what was read, a longer one's true size."""
        if self._at > _BLOCK:
            self._flush()
        size = os.fstat(self._fd).st_size
        os.close(self._fd)
        return self._digest.hexdigest(), size
