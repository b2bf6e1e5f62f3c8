"""From records to contents: what one connection brings is written and noted.

Several processes write to one staging area; each range of a content belongs to one of them.
"""

import hashlib
import os

from . import blocks
from .receive_before import size_of, storable
from .receive_ranges import Ranges, note
from .receive_staging import say_if_full
from .wire import Refusal

_NO_LINK = getattr(os, "O_NOFOLLOW", 0)


class Writer:
    """Writes records to the contents they belong to; one large content is open at a time.

    ``blocks`` counts the blocks that are written.
    """

    def __init__(self, rows, folder):
        self.blocks = 0
        self._rows = rows
        self._folder = folder
        self._number = None
        self._fds = ()
        self._size = 0

    def take(self, payload):
        """Write a block's records.

        Raises:
            Refusal: "checksum": it arrived damaged; "garbled": it does not fit the manifest;
                "disk_full".
        """
        self._rows.refresh()
        try:
            for number, offset, data in blocks.records(payload):
                if number >= len(self._rows):
                    raise Refusal("garbled", "a record is for a file that is not in the manifest")
                self._write(number, offset, data)
            self.blocks += 1
        except ValueError as error:
            raise Refusal("checksum", "data arrived damaged: %s" % error) from error
        except OSError as error:
            say_if_full(error)
            raise

    def _write(self, number, offset, data):
        if number == self._number:
            return self._write_range(offset, data)
        row = self._rows[number]
        if offset == 0 and len(data) == row.size:
            return self._write_whole(row, data)
        self._open(number, row)
        return self._write_range(offset, data)

    def _write_whole(self, row, data):
        """A small file: hashed before it is written, so that it need not be read again."""
        if not row.size or hashlib.sha256(data).hexdigest() != row.sha256:
            raise Refusal("checksum", "%s did not arrive whole" % row.shown, number=row.shown)
        path = self._object(row)
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NO_LINK, 0o600)
        except FileExistsError:
            if size_of(path) == row.size:
                return  # sent again because the word that it is here was lost
            fd = os.open(path, os.O_WRONLY | os.O_TRUNC | _NO_LINK)
        try:
            _write_all(fd, data, 0)
            os.fchmod(fd, row.mode | 0o400)
            time_ns = storable(row.mtime_ns)
            os.utime(fd, ns=(time_ns, time_ns))
        finally:
            os.close(fd)

    def _open(self, number, row):
        self.close()
        ranges = Ranges(self._folder, row.sha256).open()  # first: without it a content is whole
        fd = os.open(self._object(row), os.O_WRONLY | os.O_CREAT | _NO_LINK, 0o600)
        self._number, self._fds, self._size = number, (fd, ranges), row.size

    def _write_range(self, offset, data):
        end = offset + len(data)
        if end > self._size:
            raise Refusal("garbled", "a record does not fit its file")
        _write_all(self._fds[0], data, offset)
        note(self._fds[1], offset, end)

    def _object(self, row):
        return os.path.join(self._folder, b"objects", row.sha256.encode("ascii"))

    def close(self):
        """Close the content that is open."""
        for fd in self._fds:
            os.close(fd)
        self._number, self._fds = None, ()


def _write_all(fd, data, offset):
    while len(data):
        count = os.pwrite(fd, data, offset)
        data, offset = data[count:], offset + count
