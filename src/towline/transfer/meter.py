"""What a transfer says of itself: figures on the way, and the result."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

Direction = Literal["upload", "download"]
_MARKS = 2  # the least that make a rate
_WINDOW_S = 5.0  # that a rate is shown of


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far a transfer is.

    ``bytes`` and ``files`` count what has arrived on the other side, with what was there before;
    ``sent_bytes`` counts what went over the line, compressed. ``note`` is a sentence for the
    user, mostly "".
    """

    direction: Direction
    bytes: int
    total_bytes: int
    files: int
    total_files: int
    sent_bytes: int
    connections: int
    rate_bytes_per_s: float = 0.0
    ratio: float | None = None
    note: str = ""

    def data(self) -> dict[str, Any]:
        """What is shown of it."""
        return {
            "direction": self.direction,
            "bytes": self.bytes,
            "total_bytes": self.total_bytes,
            "rate_bytes_per_s": round(self.rate_bytes_per_s),
            "files": self.files,
            "total_files": self.total_files,
            "eta_s": self.eta_s,
            "connections": self.connections,
            "ratio": self.ratio,
        }

    @property
    def eta_s(self) -> float | None:
        """Seconds to go at this rate; None without one."""
        left = self.total_bytes - self.bytes
        return left / self.rate_bytes_per_s if self.rate_bytes_per_s else None


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """A transfer that ended well.

    ``manifest_sha256`` names what was uploaded ("" for a download), ``mode`` the way it went:
    stream, zip or files. ``connections`` is the most that were in use at once. ``changed`` holds the true SHA-256 of downloaded files that changed on
    the instance after they had been listed; ``gone`` and ``restless`` are those that did not come
    home: they went away there, or changed each time they were fetched.
    """

    direction: Direction
    files: int
    bytes: int
    sent_bytes: int
    seconds: float
    connections: int
    manifest_sha256: str
    mode: str
    changed: dict[str, str] = field(default_factory=dict)
    gone: tuple[str, ...] = ()
    restless: tuple[str, ...] = ()


Report = Callable[[TransferProgress], None]


class Gauge:
    """Bytes a second over the last while."""

    def __init__(self, window_s: float = 2.0) -> None:
        self.total = 0
        self._first = 0.0
        self._window_s = window_s
        self._marks: deque[tuple[float, int]] = deque([(time.monotonic(), 0)])

    def add(self, count: int) -> None:
        """Count bytes that have arrived now."""
        self.total += count
        now = time.monotonic()
        self._first = self._first or now
        self._marks.append((now, self.total))
        while len(self._marks) > _MARKS and now - self._marks[1][0] > self._window_s:
            self._marks.popleft()

    def age(self) -> float:
        """Seconds since the first bytes; 0 before."""
        return time.monotonic() - self._first if self._first else 0.0

    def rate(self) -> float:
        """Bytes a second."""
        began, count = self._marks[0]
        return (self.total - count) / max(time.monotonic() - began, 0.05)


class Meter:
    """Counts one transfer, over all its connections and attempts, and reports."""

    def __init__(self, direction: Direction, report: Report) -> None:
        self.direction = direction
        self.total_bytes = self.total_files = 0
        self.sent_bytes = 0
        self._connections = self._most = 1
        self._report = report
        self._began = time.monotonic()
        self._gauge = Gauge(_WINDOW_S)
        self._there: int | None = None  # bytes that were on the other side before
        self._bytes = 0
        self._files = 0

    def expect(self, total_bytes: int, total_files: int) -> None:
        """Say how much there is to be on the other side at the end."""
        self.total_bytes, self.total_files = total_bytes, total_files

    @property
    def connections(self) -> int:
        """Connections in use now."""
        return self._connections

    @connections.setter
    def connections(self, count: int) -> None:
        self._connections = count
        self._most = max(self._most, count)

    def sent(self, count: int) -> None:
        """Count bytes that went over the line."""
        self.sent_bytes += count

    def arrived(self, count: int, files: int) -> None:
        """Say how many bytes and files are on the other side now."""
        if self._there is None:
            self._there = count
        self._gauge.add(max(0, count - max(self._bytes, self._there)))
        self._bytes, self._files = min(count, self.total_bytes), min(files, self.total_files)
        self.note("")

    def note(self, text: str) -> None:
        """Report, with a sentence for the user."""
        self._report(
            TransferProgress(
                direction=self.direction,
                bytes=self._bytes,
                total_bytes=self.total_bytes,
                files=self._files,
                total_files=self.total_files,
                sent_bytes=self.sent_bytes,
                connections=self.connections,
                rate_bytes_per_s=self._gauge.rate(),
                ratio=self._gauge.total / self.sent_bytes if self.sent_bytes else None,
                note=text,
            )
        )

    def result(self, mode: str, manifest_sha256: str = "") -> TransferResult:
        """Everything is on the other side and proven; report it a last time."""
        self.arrived(self.total_bytes, self.total_files)
        return TransferResult(
            direction=self.direction,
            files=self.total_files,
            bytes=self.total_bytes,
            sent_bytes=self.sent_bytes,
            seconds=time.monotonic() - self._began,
            connections=self._most,
            manifest_sha256=manifest_sha256,
            mode=mode,
        )
