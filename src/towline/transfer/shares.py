"""Who sends what: the bytes that are missing, handed out in order to whichever connection is free."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from towline.onboard.blocks import BLOCK_BYTES

#: a file up to this size travels in one piece
WHOLE_BYTES = 512 * 1024
#: names and headers weigh too: small files count for more than their bytes
_FILE_WEIGHT = 64
_LEAST_BYTES = 64 * 1024
_LAST_SHARES = 16


@dataclass(frozen=True, slots=True)
class Part:
    """Bytes ``start`` to ``end`` of entry ``number`` of the manifest."""

    number: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Share:
    """What one block will carry."""

    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """Bytes of files in it."""
        return sum(part.end - part.start for part in self.parts)


class Shares:
    """The parts that wait, and how many shares are on their way. Used in the event loop only.

    Runs of files are kept as runs, so that a million files cost no memory.
    """

    def __init__(self, size_of: Callable[[int], int]) -> None:
        self.waiting_bytes = 0
        self._size_of = size_of
        self._runs: deque[tuple[int, int]] = deque()  # first entry, how many whole ones
        self._parts: deque[Part] = deque()  # these before the runs
        self._out = 0
        self._closed = False
        self._news = asyncio.Event()

    def add(self, runs: Iterable[tuple[int, int]], parts: Iterable[Part]) -> int:
        """Add whole files and parts of files; how many bytes that is."""
        before = self.waiting_bytes
        for first, count in runs:
            self._runs.append((first, count))
            self.waiting_bytes += sum(map(self._size_of, range(first, first + count)))
        for part in parts:
            self._parts.append(part)
            self.waiting_bytes += part.end - part.start
        self._news.set()
        return self.waiting_bytes - before

    @property
    def finished(self) -> bool:
        """Whether all has arrived and no more will be added."""
        return self._closed and not self._out and not self._parts and not self._runs

    def close(self) -> None:
        """Say that no more will be added."""
        self._closed = True
        self._news.set()

    async def take(self, target_bytes: int) -> Share | None:
        """The next share, of about so many bytes; None when all has arrived.

        Waits while nothing is there but something may come, also back from a broken connection.
        """
        while not self._parts and not self._runs:
            if self.finished:
                return None
            self._news.clear()
            await self._news.wait()
        self._out += 1
        # the last ones are small, so that no slow connection is waited for
        last = max(_LEAST_BYTES, self.waiting_bytes // _LAST_SHARES)
        return self._cut(min(target_bytes, last, BLOCK_BYTES - 4096))

    def arrived(self) -> None:
        """Say that a share is on the other side."""
        self._out -= 1
        self._news.set()

    def give_back(self, shares: Iterable[Share]) -> None:
        """Return shares that did not arrive; they are the next to be taken."""
        for share in shares:
            self._parts.extendleft(reversed(share.parts))
            self.waiting_bytes += share.bytes
            self._out -= 1
        self._news.set()

    async def room(self, limit_bytes: int) -> None:
        """Wait until fewer bytes wait."""
        while self.waiting_bytes > limit_bytes:
            self._news.clear()
            await self._news.wait()

    def _cut(self, target: int) -> Share:
        parts: list[Part] = []
        room = target
        while room > 0 and (self._parts or self._runs):
            part = self._next(room, alone=not parts)
            if part is None:
                break
            parts.append(part)
            room -= part.end - part.start + _FILE_WEIGHT
        share = Share(tuple(parts))
        self.waiting_bytes -= share.bytes
        self._news.set()  # there is room
        return share

    def _next(self, room: int, *, alone: bool) -> Part | None:
        """The next part: a small file whole, of a large one as much as there is room for.

        None when a small file would make the block too large.
        """
        if self._parts:
            part = self._parts.popleft()
        else:
            first, count = self._runs.popleft()
            if count > 1:
                self._runs.appendleft((first + 1, count - 1))
            part = Part(first, 0, self._size_of(first))
        size = part.end - part.start
        if size <= room or (alone and size <= WHOLE_BYTES):
            return part
        if size <= WHOLE_BYTES:
            self._parts.appendleft(part)
            return None
        self._parts.appendleft(Part(part.number, part.start + room, part.end))
        return Part(part.number, part.start, part.start + room)


class Prefix:
    """How much of a large file has arrived, from its beginning; ``gaps`` says what has not."""

    def __init__(self, size: int, missing: Iterable[tuple[int, int]]) -> None:
        self.size = size
        self.gaps = sorted((start, end) for start, end in missing)

    def add(self, start: int, end: int) -> None:
        """Say that these bytes have arrived."""
        gaps = []
        for low, high in self.gaps:
            gaps += [(low, min(high, start)), (max(low, end), high)]
        self.gaps = [(low, high) for low, high in gaps if low < high]

    @property
    def upto(self) -> int:
        """Where the first gap begins."""
        return self.gaps[0][0] if self.gaps else self.size
