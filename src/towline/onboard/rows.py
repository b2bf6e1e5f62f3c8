"""A manifest on the receiving side: its lines in a file, each checked as it comes.

Every entry is taken as hostile. Nothing is held in memory, so that a million files cost little.
Lines are sorted by path, which makes looking one up a bisection.
"""

import array
import hashlib
import json
import os
import struct

from .safe_files import DIR, FILE, LINK, Row, link_target
from .wire import Refusal

_OFFSET = struct.Struct(">Q")
_LINK_HOPS = 40  # as Linux allows
_READ_BYTES = 1 << 18
_NEXT_LINES = 128  # read at once: whoever asks for one entry asks for its neighbours
_FLAGS = os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)


class Rows:
    """The entries of a manifest in a file ``path``; beside it an index, the end of each line."""

    def __init__(self, path, *, write=False):
        how = os.O_RDWR | os.O_CREAT if write else os.O_RDONLY
        self._lines = os.open(path, how | _FLAGS, 0o600)
        self._index = os.open(path + b".index", how | _FLAGS, 0o600)
        self._count = 0
        self._before = b""
        self._parent = ()
        self._near = []  # lines from entry `_near_first` on
        self._near_first = 0
        self.refresh()

    def refresh(self):
        """Count the entries again: another process may have added some.

        The index is written after the lines: a line it does not name was cut short.
        """
        self._count = os.fstat(self._index).st_size // _OFFSET.size

    def close(self):
        """Close both files."""
        os.close(self._lines)
        os.close(self._index)

    def __len__(self):
        return self._count

    def __getitem__(self, number):
        if not 0 <= number < self._count:
            raise IndexError(number)
        if not 0 <= number - self._near_first < len(self._near):
            self._near = self._read(number, min(number + _NEXT_LINES, self._count))
            self._near_first = number
        return _parsed(self._near[number - self._near_first])

    def _read(self, first, end):
        """Lines of some entries."""
        start = self._end(first - 1)
        return os.pread(self._lines, self._end(end - 1) - start, start).split(b"\n")[:-1]

    def __iter__(self):
        """Every entry in order."""
        rest = b""
        for part in self._parts():
            lines = (rest + part).split(b"\n")
            rest = lines.pop()
            for line in lines:
                yield _parsed(line)

    def digest(self):
        """SHA-256 of the lines that are there."""
        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part)
        return digest.hexdigest()

    def _parts(self):
        at, end = 0, self._end(self._count - 1)
        while at < end:
            part = os.pread(self._lines, min(_READ_BYTES, end - at), at)
            at += len(part)
            yield part

    def _end(self, number):
        """Where the line of an entry ends in the file."""
        if number < 0:
            return 0
        return _OFFSET.unpack(os.pread(self._index, _OFFSET.size, number * _OFFSET.size))[0]

    def find(self, parts):
        """The entry at a path, None without one."""
        number = self._first_from(b"/".join(parts))
        row = self[number] if number < self._count else None
        return row if row is not None and row.parts == parts else None

    def has_below(self, parts):
        """Say whether there is an entry below a folder."""
        start = b"/".join(parts) + b"/"
        number = self._first_from(start)
        return number < self._count and self[number].path.startswith(start)

    def _first_from(self, path):
        """Number of the first entry whose path is not smaller."""
        low, high = 0, self._count
        while low < high:
            middle = (low + high) // 2
            if _parsed(self._read(middle, middle + 1)[0]).path < path:
                low = middle + 1
            else:
                high = middle
        return low

    # -- adding -----------------------------------------------------------------------------------

    def keep(self, count):
        """Forget all entries but the first ones."""
        os.ftruncate(self._lines, self._end(count - 1))
        os.ftruncate(self._index, count * _OFFSET.size)
        self._count = count
        self._near = []
        last = self[count - 1] if count else None
        self._before = last.path if last else b""
        self._parent = last.parts[:-1] if last else ()

    def add(self, data):
        """Append the next lines; returns them as (number, Row).

        Raises:
            Refusal: "refused": an entry is not to be trusted.
        """
        lines = bytes(data).split(b"\n")
        if lines.pop():
            raise Refusal("refused", "the manifest can't be read")
        first = self._count
        added = list(enumerate(map(_parsed, lines), first))
        at = self._end(first - 1)
        ends = []
        for line in lines:
            at += len(line) + 1
            ends.append(_OFFSET.pack(at))
        _write(self._lines, data)
        _write(self._index, b"".join(ends))
        self._count += len(added)
        for _number, row in added:
            self._require_place(row)
        return added

    def _require_place(self, row):
        """Refuse what is no tree: wrong order, names twice, entries below what is no folder."""
        if row.path <= self._before:
            raise Refusal("refused", "the manifest is not in order")
        self._before = row.path
        parent = row.parts[:-1]
        if parent == self._parent:
            return
        self._parent = parent
        for depth in range(1, len(row.parts)):
            found = self.find(row.parts[:depth])
            if found is not None and found.kind != DIR:
                message = "the manifest has entries below something that is no folder"
                raise Refusal("refused", message)

    def require_inside(self, link):
        """Walk a link's target as the kernel would.

        Raises:
            Refusal: "refused": it does not end at something in the tree.
        """
        at, hops = link.parts[:-1], 1
        todo = _target_parts(link)
        while todo:
            part = todo.pop(0)
            if part in (b"", b"."):
                continue
            if part == b"..":
                if not at:
                    raise _leads_out(link)
                at = at[:-1]
                continue
            row = self.find(at + (part,))
            if row is not None and row.kind == LINK and hops < _LINK_HOPS:
                hops += 1
                todo = _target_parts(row) + todo
            elif row is None and self.has_below(at + (part,)):
                at += (part,)
            elif row is None or row.kind == LINK or (row.kind == FILE and todo):
                raise _leads_out(link)
            else:
                at += (part,)


def _leads_out(link):
    return Refusal("refused", "the link %s leads out" % link.shown)


def _target_parts(link):
    """Components of a link's target; one that is absolute or empty leads out at once."""
    target = link_target(link)
    return [b".."] * (len(link.parts) + 1) if target[:1] in (b"/", b"") else target.split(b"/")


def _parsed(line):
    try:
        return Row(json.loads(line.decode("ascii")))
    except (ValueError, TypeError, RecursionError) as error:
        raise Refusal("refused", "the manifest can't be read") from error


def _write(fd, data):
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


class Seen:
    """Which contents have been named before; eight bytes of a hash are enough to tell.

    A set of numbers would take five times the memory of this table.
    """

    def __init__(self):
        self._slots = array.array("Q", bytes(8 << 10))
        self._count = 0

    def add(self, sha256):
        """Note a content; True when it is new."""
        key = int(sha256[:16], 16) or 1
        at = self._slot(key)
        if self._slots[at] == key:
            return False
        self._slots[at] = key
        self._count += 1
        if 2 * self._count > len(self._slots):
            old = self._slots
            self._slots = array.array("Q", bytes(32 * len(old)))
            for one in old:
                if one:
                    self._slots[self._slot(one)] = one
        return True

    def _slot(self, key):
        mask = len(self._slots) - 1
        at = key & mask
        while self._slots[at] not in (0, key):
            at = at + 1 & mask
        return at
