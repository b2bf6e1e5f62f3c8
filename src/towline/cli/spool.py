"""What waits for a terminal or a pipe to take it, so that whoever drives a run never does.

A terminal that takes nothing (Ctrl-S, a stalled ssh) and a pipe that nobody reads let a write wait
for ever. A thread of its own waits here; a view asks `is_behind` and draws, or reads on in the
journal, when all has been taken, so that nothing is lost by the wait and little is held in memory.
"""

from __future__ import annotations

import io
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any, TextIO

from towline.core.units import count_text

#: a reader that takes nothing for so long is not waited for at the end
PATIENCE_S = 5.0
_ROOM_BYTES = 4 << 20  # views stay far below; a flood of debug lines may not
_PIECE_BYTES = 4096


class Spool:
    """Text on its way to one place, by whichever of its streams it was written."""

    def __init__(self, on_broken: Callable[[TextIO], None]) -> None:
        """Begin; the callback is told, in a thread, of a stream that takes nothing any more."""
        self._on_broken = on_broken
        self._changed = threading.Condition()
        self._waiting: deque[tuple[TextIO, bytes]] = deque()
        self._waiting_bytes = 0
        self._skipped_lines = 0
        self._moved_at = time.monotonic()
        self._is_ended = False
        threading.Thread(target=self._write_all, daemon=True, name="spool").start()

    @property
    def is_behind(self) -> bool:
        """Whether something waits."""
        return bool(self._waiting)

    @property
    def is_stuck(self) -> bool:
        """Whether something waits and nothing was taken for long."""
        return self.is_behind and time.monotonic() - self._moved_at >= PATIENCE_S

    def put(self, stream: TextIO, text: str) -> None:
        """Leave a text to the thread; beyond a limit lines are skipped, which is said later."""
        with self._changed:
            if self._waiting_bytes >= _ROOM_BYTES:
                self._skipped_lines += text.count("\n")
                return
            if self._skipped_lines:
                text = f"... {count_text(self._skipped_lines, 'line')} skipped\n{text}"
                self._skipped_lines = 0
            if not self._waiting:
                self._moved_at = time.monotonic()
            data = text.replace("\n", os.linesep).encode(stream.encoding or "utf-8", "replace")
            self._waiting.append((stream, data))
            self._waiting_bytes += len(data)
            self._changed.notify_all()

    def settle(self, patience_s: float = PATIENCE_S) -> bool:
        """Wait until all is taken, but not while nothing is; whether it was."""
        with self._changed:
            while self._waiting and time.monotonic() - self._moved_at < patience_s:
                self._changed.wait(0.1)
            return not self._waiting

    def end(self) -> None:
        """Let the thread end once it has written all."""
        with self._changed:
            self._is_ended = True
            self._changed.notify_all()

    def _write_all(self) -> None:
        while (piece := self._next()) is not None:
            stream, data = piece
            try:
                written = raw_of(stream).write(data)
            except (OSError, ValueError):
                self._on_broken(stream)
                written = len(data)
            if written is None:  # somebody has made the terminal non-blocking
                select.select([], [raw_of(stream)], [], 1.0)
            self._taken(written or 0)

    def _next(self) -> tuple[TextIO, bytes] | None:
        """The next piece to write, once there is one; None at the end."""
        with self._changed:
            while not self._waiting and not self._is_ended:
                self._changed.wait()
            if not self._waiting:
                return None
            stream, data = self._waiting[0]
            return stream, data[:_PIECE_BYTES]

    def _taken(self, count: int) -> None:
        with self._changed:
            stream, data = self._waiting.popleft()
            if count < len(data):
                self._waiting.appendleft((stream, data[count:]))
            self._waiting_bytes -= count
            if count:
                self._moved_at = time.monotonic()
            self._changed.notify_all()


def raw_of(stream: TextIO) -> Any:
    """A text stream's unbuffered file, None where there is none (a notebook, a test).

    A thread that is held up in it holds no lock that the end of the process would wait for.
    """
    buffer = getattr(stream, "buffer", None)  # with PYTHONUNBUFFERED that is the raw file itself
    return buffer if isinstance(buffer, io.RawIOBase) else getattr(buffer, "raw", None)


def spools(streams: tuple[TextIO, ...], on_broken: Callable[[TextIO], None]) -> dict[TextIO, Spool]:
    """A spool for each stream; one and the same where they lead to the same place."""
    found: dict[TextIO, Spool] = {}
    places: dict[object, Spool] = {}
    for stream in streams:
        if raw_of(stream) is None:
            continue
        status = os.fstat(stream.fileno())
        place = (status.st_dev, status.st_ino, status.st_rdev)
        if place not in places:
            places[place] = Spool(on_broken)
        found[stream] = places[place]
    return found
