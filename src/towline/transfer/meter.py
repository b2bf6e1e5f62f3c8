"""What a transfer says of itself: figures on the way, and the result."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

Direction = Literal["upload", "download"]


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
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """A transfer that ended well.

    ``manifest_sha256`` names what was uploaded ("" for a download), ``mode`` the way it went:
    stream, zip or files. ``changed`` holds the true SHA-256 of downloaded files that changed on
    the instance after they had been listed.
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


Report = Callable[[TransferProgress], None]


class Meter:
    """Counts one transfer, over all its connections and attempts, and reports."""

    def __init__(self, direction: Direction, report: Report) -> None:
        self.direction = direction
        self.total_bytes = self.total_files = 0
        self.sent_bytes = 0
        self.connections = 1
        self._report = report
        self._began = time.monotonic()
        self._bytes = 0
        self._files = 0

    def expect(self, total_bytes: int, total_files: int) -> None:
        """Say how much there is to be on the other side at the end."""
        self.total_bytes, self.total_files = total_bytes, total_files

    def sent(self, count: int) -> None:
        """Count bytes that went over the line."""
        self.sent_bytes += count

    def arrived(self, count: int, files: int) -> None:
        """Say how many bytes and files are on the other side now."""
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
            connections=self.connections,
            manifest_sha256=manifest_sha256,
            mode=mode,
        )
