"""The training's log on its way home: redacted, read for progress, counted byte for byte.

Pure: raw bytes in; clean bytes, the raw offset they stand for, and progress out. The offset only
moves at points where a fresh stream could take over, so that a driver that dies loses and doubles
nothing (the caller truncates its file to the recorded size and goes on at the recorded offset, with
the recorded state of the parser).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

from towline.core.progress import Progress, ProgressParser
from towline.core.redact import Redactor


@dataclass(frozen=True, slots=True, kw_only=True)
class LogPart:
    """What one feeding yields.

    ``clean`` is to be appended to the local file. ``offset`` and ``size_bytes`` are the raw offset
    and the local file's size at the last point where a fresh stream could take over; they hold
    once ``clean`` has been written. ``progress`` is what was read up to there: to be recorded
    together with them, or it would be lost or doubled. ``parser_state`` is what the parser knew
    there, a small JSON mapping. ``mark`` is [n, check sum] of the n raw bytes before ``offset``, by
    which a log is known again; n is 0 where they are secret.
    """

    clean: bytes
    offset: int
    size_bytes: int
    progress: list[Progress]
    parser_state: dict[str, Any]
    mark: list[int]


class LogStream:
    """One log, from a recorded point on."""

    def __init__(
        self,
        redactor: Redactor,
        offset: int,
        size_bytes: int,
        parser_state: dict[str, Any] | None = None,
    ) -> None:
        """Begin at a recorded point; all four values are of the same `LogPart`."""
        self._redacting = redactor.stream()
        self._parser = ProgressParser(parser_state)
        self._safe_state = self._parser.state()
        self._read: list[Progress] = []  # beyond the safe point: a fresh stream reads it again
        self._raw = self._safe_raw = offset
        self._size = self._safe_size = size_bytes
        self._safe_mark = [0, 0]

    def feed(self, raw: bytes, *, hurried: bool = False) -> LogPart:
        """Take the next raw bytes; ``hurried``: of lines that look alike a part is read for progress."""
        return self._part(*self._redacting.feed(raw), hurried=hurried)

    def end(self) -> LogPart:
        """Take the end of the log: nothing is held back any more."""
        return self._part(*self._redacting.flush(), ended=True)

    def _part(
        self, clean: bytes, raw_count: int, *, hurried: bool = False, ended: bool = False
    ) -> LogPart:
        self._raw += raw_count
        self._size += len(clean)
        self._read += self._parser.feed(clean, hurried=hurried)
        self._read += self._parser.flush() if ended else []
        progress: list[Progress] = []
        if ended or (self._redacting.at_safe_point and self._parser.at_line_start):
            self._safe_raw, self._safe_size = self._raw, self._size
            progress, self._read = self._read, []
            self._safe_state = self._parser.state()
            end = self._redacting.end
            self._safe_mark = [len(end), zlib.crc32(end)]
        return LogPart(
            clean=clean,
            offset=self._safe_raw,
            size_bytes=self._safe_size,
            progress=progress,
            parser_state=self._safe_state,
            mark=self._safe_mark,
        )
