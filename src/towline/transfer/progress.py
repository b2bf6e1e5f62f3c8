"""What a transfer says while it works, and when it is done."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferProgress:
    """How far a transfer is; sizes in bytes, ``sent_bytes`` as they went over the wire."""

    direction: str
    bytes: int
    total_bytes: int
    files: int
    total_files: int
    sent_bytes: int
    connections: int = 1
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferResult:
    """What a finished transfer did; ``seconds`` on this machine's clock."""

    direction: str
    files: int
    bytes: int
    sent_bytes: int
    seconds: float
    connections: int
    manifest_sha256: str
    mode: str


Report = Callable[[TransferProgress], None]
